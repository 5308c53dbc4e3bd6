"""The result tables: what is run for each row, and the number that a paper has for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SHOWN_IMAGES = 200_000  # training images of a row of the leaderboard


@dataclass(frozen=True)
class Row:
    """A rule in a table.

    published: metric -> what the paper (named in the table) has. without: why a row is not run, or None.
    """

    name: str
    arguments: Sequence[str]
    published: dict[str, str] = field(default_factory=dict)
    seeds: int | None = None  # None: as many as the table


@dataclass(frozen=True)
class Table:
    """Rows that share a protocol.

    needs: the folder of data that `--root` must hold, or None. metrics: those shown, best first.
    """

    title: str
    protocol: str
    common: Sequence[str]
    rows: Sequence[Row]
    metrics: dict[str, str]  # name in scores.jsonl -> heading
    seeds: int = 3
    needs: str | None = None
    extra: Callable[[Path], dict[str, float]] | None = None  # of a finished run: further metrics


def linear(horizon: int) -> list[str]:
    """Both learning rates fall to 0 in a straight line over so many generator steps."""
    return [
        f"model.{player}_schedule.{key}"
        for player in ("generator", "discriminator")
        for key in ("_target_=gan_lightning.schedules.Linear", f"horizon={horizon}")
    ]


def mixture(data: str, published: dict[str, tuple[str, str]]) -> Table:
    """Ring or grid; published: row -> modes and share of high quality."""
    rates = ["model.generator_optimizer.lr=1e-3", "model.discriminator_optimizer.lr=1e-3"]

    def row(name: str, *arguments: str, steps: int = 25_000) -> Row:
        given = published.get(name)
        paper = {"modes": given[0], "high_quality": given[1]} if given else {}
        return Row(name, [*rates, *linear(steps), *arguments], paper)

    return Table(
        title=f"Modes of the {data}",
        protocol=(
            "2,500 samples of the moving average; high quality: within 3 standard deviations of a centre; a mode is "
            "found when a sample of high quality is nearest to it. 3.2 M points shown, 25,000 minibatches of 128 (for "
            "wgan_gp 5,000 generator steps). Networks: z 2, G 3×128 ReLU, D 3×128 LeakyReLU, no norm; Adam 1e-3, "
            "falling to 0 in a straight line, betas of each model's YAML. The papers' networks are larger (PacGAN: G "
            "4×400, D 3×200 maxout-5, about 400,000 steps), so their numbers are for orientation. unrolled with 0 "
            "steps is gan, bit for bit."
        ),
        common=[
            f"data={data}",
            "network@model=mlp_points",
            "model.generator.batch_norm=none",
            "model.generator.latent_size=2",
            "model.generator.hidden=[128,128,128]",
            "model.discriminator.hidden=[128,128,128]",
            "data.batch_size=128",
            "budget.images=3200000",
            "trainer.max_epochs=null",
            "scores.every=640000",
            "samples.every_images=640000",
        ],
        rows=[
            row("gan", "model=gan"),
            row("pacgan2", "model=pacgan", "model.initialization=default", "model.discriminator.pack=2"),
            row("pacgan4", "model=pacgan", "model.initialization=default", "model.discriminator.pack=4"),
            row(
                "minibatch_discrimination",
                "model=minibatch_discrimination",
                "model.initialization=default",
                "model.discriminator.minibatch_kernels=10",
            ),
            row("wgan_gp", "model=wgan_gp", "model.penalty_weight=0.1", steps=5_000),
            row(
                "rpgan",
                "model=rpgan",
                "model.initialization=default",
                "model.r1_weight=0.01",
                "model.r2_weight=0.01",
            ),
            row("unrolled5", "model=unrolled", "model.initialization=default", "model.discriminator_optimizer.lr=1e-4"),
        ],
        metrics={"modes": "modes", "high_quality": "high quality", "reverse_kl": "reverse KL"},
        seeds=5,
    )


RING = mixture(
    "ring",
    {
        "gan": ("6.3 (PacGAN T1)", "98.2 %"),
        "unrolled5": ("7.6 (VEEGAN T1)", "35.6 %"),
        "pacgan2": ("7.9 (PacGAN T1)", "95.6 %"),
        "pacgan4": ("7.8 (PacGAN T1)", "–"),
    },
)
GRID = mixture(
    "grid",
    {
        "gan": ("17.3 (PacGAN T1)", "94.8 %"),
        "unrolled5": ("23.6 (VEEGAN T1)", "16 %"),
        "pacgan2": ("23.8 (PacGAN T1)", "91.3 %"),
        "pacgan4": ("24.8 (PacGAN T1)", "–"),
    },
)
SMALL = [f"model.{network}.base_channels=16" for network in ("generator", "discriminator")]
NARROW = [f"model.{network}.base_channels=8" for network in ("generator", "discriminator")]
LUCIC = "Lucic et al. 2018, Inception"


def digits(name: str, *arguments: str, networks: Sequence[str] = SMALL, paper: str | None = None) -> Row:
    """A rule on MNIST."""
    given = arguments or [f"model={name}"]
    return Row(name, [*given, *networks], {"fid": f"{paper} ({LUCIC})"} if paper else {})


LEADERBOARD = Table(
    title="MNIST, all rules",
    protocol=(
        "FID with the `digits` extractor (v1) of 10,000 samples of the moving average against the 10,000 test images, "
        "beside it the classes found among the samples. 200,000 training images shown in minibatches of 64. Networks: "
        "DCGAN with base_channels=16 and PyTorch's initialisation (N(0, 0.02) is for widths of 64 and more: with 16 "
        "`dcgan` stays grey); ResNets with base_channels=8. Rules with five critic steps make a fifth of the generator "
        "steps. Published FIDs are of Inception and longer runs: for orientation, never to compare."
    ),
    common=[
        "data=mnist",
        "model.initialization=default",
        "budget.images=200000",
        "trainer.max_epochs=null",
        "scores.split=held_out",
        "scores.names=[fid,modes]",
        "scores.every=50000",
        "samples.every_images=100000",
    ],
    rows=[
        digits("dcgan", paper="6.8"),
        digits("minimax", "model=dcgan", "model.loss=minimax", paper="9.8"),
        digits("lsgan", paper="7.8"),
        digits("wgan", paper="6.7"),
        digits("wgan_gp", paper="20.3"),
        digits("dragan", paper="7.6"),
        digits("hinge"),
        digits("rsgan"),
        digits("ragan"),
        digits("rpgan"),
        digits("pacgan"),
        digits("minibatch_discrimination"),
        digits("feature_matching"),
        digits("unrolled"),
        digits("began"),
        digits("infogan"),
        digits("conditional_dcgan"),
        digits("acgan"),
        digits("projection", "model=projection", "network@model=dcgan_projection"),
        digits("dpgan"),
        digits("sngan", networks=NARROW),
        digits("sagan", networks=NARROW),
        digits("resnet", networks=NARROW),
    ],
    metrics={"fid": "FID", "modes": "classes"},
    needs="MNIST/raw",
)
TABLES = {"ring": RING, "grid": GRID, "mnist": LEADERBOARD}
