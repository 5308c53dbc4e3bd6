"""The result tables: what is run for each row, and the number that a paper has for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

SHARES = ("high_quality", "on_samples", "from_samples", "from_real", "error_rate")  # metrics from 0 to 1, shown in %
PLAYERS = ("generator", "discriminator")
UNROLLED = ["model=unrolled", "model.initialization=default", "model.discriminator_optimizer.lr=1e-4"]


@dataclass(frozen=True)
class Row:
    """A rule in a table.

    published: metric -> what a paper has.
    """

    name: str
    arguments: Sequence[str]
    published: dict[str, str] = field(default_factory=dict)
    seeds: int | None = None  # None: as many as the table


@dataclass(frozen=True)
class Table:
    """Rows that share a protocol.

    needs: the folder of data that `--root` must hold, or None. metrics: those shown, best first. of: the table whose
    runs it looks at, or None for runs of its own.
    """

    title: str
    protocol: str
    common: Sequence[str]
    rows: Sequence[Row]
    metrics: dict[str, str]  # name in scores.jsonl -> heading
    seeds: int = 3
    needs: str | None = None
    of: str | None = None


def linear(steps: int) -> list[str]:
    """Both learning rates fall to 0 in a straight line over so many generator steps."""
    kinds = [f"model.{player}_schedule._target_=gan_lightning.schedules.Linear" for player in PLAYERS]
    return [*kinds, *horizon(steps)]


def horizon(steps: int) -> list[str]:
    """Where they are 0."""
    return [f"model.{player}_schedule.horizon={steps}" for player in PLAYERS]


def mixture(data: str, published: dict[str, tuple[str, str]]) -> Table:
    """Ring or grid; published: row -> modes and share of high quality."""

    def row(name: str, *arguments: str) -> Row:
        given = published.get(name)
        return Row(name, arguments, {"modes": given[0], "high_quality": given[1]} if given else {})

    return Table(
        title=f"Modes of the {data}",
        protocol="""
            2,500 samples of the moving average; high quality: within 3 standard deviations of a centre; a mode is
            found when a sample of high quality is nearest to it. 3.2 M points shown, 25,000 minibatches of 128 (for
            wgan_gp 5,000 generator steps). Networks: z 2, G 3×128 ReLU, D 3×128 LeakyReLU, no norm; Adam 1e-3,
            falling to 0 in a straight line, betas of each model's YAML. The papers' networks are larger (PacGAN: G
            4×400, D 3×200 maxout-5, about 400,000 steps), so their numbers are for orientation. A minibatch holds 128
            points, packed or not (in PacGAN's code 100 packs): pacgan4 makes 32 judgements a step, and its samples
            lie between the modes of the grid at this length. unrolled has a discriminator ten times slower, as in its
            published notebook; with 0 steps it is otherwise gan with the minimax loss.
        """,
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
            "model.generator_optimizer.lr=1e-3",
            "model.discriminator_optimizer.lr=1e-3",
            *linear(25_000),
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
            row("wgan_gp", "model=wgan_gp", "model.penalty_weight=0.1", *horizon(5_000)),
            row(
                "rpgan",
                "model=rpgan",
                "model.initialization=default",
                "model.r1_weight=0.01",
                "model.r2_weight=0.01",
            ),
            row("unrolled0", *UNROLLED, "model.unrolled_steps=0"),
            row("unrolled5", *UNROLLED),
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
SMALL = [f"model.{network}.base_channels=16" for network in PLAYERS]
NARROW = [f"model.{network}.base_channels=8" for network in PLAYERS]
EVERY_STEP = ["step.critic_steps=1", "step.generator_batch=1"]
BOUNDARY = [  # fast enough to reach its equilibrium in 200,000 images, at γ = 1
    "model=began",
    "model.initialization=xavier",
    "model.balance=1",
    "model.gain=0.01",
    "model.generator_optimizer.lr=4e-4",
    "model.discriminator_optimizer.lr=4e-4",
    "data.batch_size=16",
]
LUCIC = "Lucic et al. 2018, Inception"


def digits(name: str, *arguments: str, networks: Sequence[str] = SMALL, paper: str | None = None) -> Row:
    """A rule on MNIST."""
    given = arguments or [f"model={name}"]
    return Row(name, [*given, *networks], {"fid": f"{paper} ({LUCIC})"} if paper else {})


LEADERBOARD = Table(
    title="MNIST, all rules",
    protocol="""
        FID with the `digits` extractor (v1) of 10,000 samples of the moving average against the 10,000 test images,
        beside it the classes found among the samples. 200,000 training images shown in minibatches of 64. Networks:
        DCGAN with base_channels=16 and PyTorch's initialisation (N(0, 0.02) is for widths of 64 and more: with 16
        `dcgan` stays grey); ResNets and BEGAN's networks (Glorot weights) with base_channels=8. BEGAN with
        minibatches of 16 as in the paper, γ = 1 and larger rates, makes mostly ones, which are easiest to restore.
        With γ = 0.5 k stays 0 in so short a run and samples are noise: FID 79 with rates of 1e-4 and minibatches of
        64, 79 with 1e-3, 74 with 4e-4 and minibatches of 16, 85 with 1e-3 for the generator and 2e-4 for the
        discriminator, 105 with base_channels=16 and PyTorch's weights (one run each, 40,000 to 200,000 images). Rules
        with five critic steps make a fifth of the generator steps. `projection` is the README's, with ResNets and
        conditional BatchNorm, but for a generator step to each of the discriminator's; `projection_dcgan` has DCGAN's
        networks, whose generator is told labels beside its latents. `cgan` has its own fully connected networks.
        `semi_supervised` knows the labels of 10 images a class, as in the paper, which trains fully connected networks
        for 300 epochs, 90 times as long; errors are of its discriminator on the test images. The classifier of "What
        synthetic images bring" errs in 26 % with 10 images a class and nothing else, in 12 % where it sees them
        shifted. Published FIDs are of Inception and longer runs: for orientation, never to compare. Fashion-MNIST
        (data=fashion_mnist): not run.
    """,
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
        Row(
            "semi_supervised",
            ["model=semi_supervised", "model.labelled_per_class=10", *SMALL],
            {"error_rate": "0.93 ± 0.07 % (Salimans et al. 2016)"},
        ),
        digits("unrolled"),
        digits("began", *BOUNDARY, networks=NARROW),
        digits("infogan"),
        digits("cgan", networks=[]),
        digits("conditional_dcgan"),
        digits("acgan"),
        digits("projection", "model=projection", *EVERY_STEP, networks=NARROW),
        digits("projection_dcgan", "model=projection", "network@model=dcgan_projection", *EVERY_STEP),
        digits("dpgan"),
        digits("sngan", networks=NARROW),
        digits("sagan", networks=NARROW),
        digits("resnet", networks=NARROW),
    ],
    metrics={"fid": "FID", "modes": "classes", "error_rate": "errors"},
    needs="MNIST/raw",
)


def stacked(name: str, modes: str, divergence: str, *arguments: str) -> Row:
    """A rule on Stacked-MNIST, with D half as wide as G."""
    return Row(name, arguments, {"modes": modes, "reverse_kl": divergence})


LARGER = [  # a discriminator twice as wide as the generator, R3GAN's betas, faster at first
    "model=rpgan",
    "model.discriminator.base_channels=64",
    *(f"model.{player}_optimizer.lr=5e-4" for player in PLAYERS),
    *(f"model.{player}_optimizer.betas=[0.0,0.99]" for player in PLAYERS),
    *(f"model.{player}_schedule._target_=gan_lightning.schedules.Cosine" for player in PLAYERS),
    *horizon(10_000),
]


def ramp(name: str, start: float, end: float, images: int) -> str:
    """One of R3GAN's over a whole run of so many images."""
    target = "_target_: gan_lightning.schedules.Ramp"
    return f"model.{name}={{{target}, start: {start}, end: {end}, images: {images}}}"


def sized(base: int, most: int) -> list[str]:
    """Widths of both players at the full size, and the largest."""
    widths = {"base_channels": base, "max_channels": most}
    return [f"model.{player}.{key}={value}" for player in PLAYERS for key, value in widths.items()]


def shallow(images: int, gamma: float) -> list[str]:
    """R3GAN's networks with one block a stage, and its ramps."""
    return [
        *sized(16, 64),
        *(f"model.{player}.blocks=1" for player in PLAYERS),
        *(f"model.{player}_optimizer.lr=5e-4" for player in PLAYERS),
        "data.batch_size=32",
        ramp("gamma", gamma, gamma / 10, images),
        ramp("beta2", 0.9, 0.99, images),
        ramp("half_life", 0, 20000, images),
    ]


STACKED = Table(
    title="Stacked-MNIST, D half of G",
    protocol="""
        Modes of 1,000 and KL(samples ‖ data) by 26,000 samples of the moving average, each colour classified by the
        `digits` extractor; 26,000 of the data have a KL of about 0.04 for their number alone. In the way of Metz et
        al. 2017 (a discriminator with half of the generator's channels), with DCGAN's networks in place of theirs: G
        base_channels=32, D base_channels=16, PyTorch's initialisation. 640,000 images shown in minibatches of 64,
        10,000 generator steps (wgan_gp: 2,000), where the papers make 100,000; pacgan2 judges 32 packs a minibatch,
        where PacGAN's code has 64. The published numbers of rpgan and wgan_gp are of R3GAN's small ResNet and never
        to be mixed with the others. The goal, 1,000 modes and a KL of 0.08, needs a discriminator that is not
        smaller: `rpgan_larger` has one twice as wide as G, betas (0, 0.99) and rates of 5e-4 that fall to 0 in half a
        cosine. It finds all modes and misses the KL by little; what is left are unequal shares of the digits within
        each colour. Tried with seed 0: D half of G with these settings 0.71 at 320,000 images, with γ = 0.1 besides
        0.38 at 800,000; D as wide as G 0.11 at 1,280,000; `rpgan` three times as long 0.29. `r3gan` has its own
        networks in a narrow form, with one block a stage, at 32 pixels, γ from 1 to 0.1, 20,000 steps of 32 images: its
        paper's 0.029 is missed by far.
    """,
    common=[
        "data=stacked_mnist",
        "model.initialization=default",
        "model.generator.base_channels=32",
        "model.discriminator.base_channels=16",
        "budget.images=640000",
        "trainer.max_epochs=null",
        "scores.names=[modes]",
        "scores.every=160000",
        "samples.every_images=320000",
    ],
    rows=[
        stacked("dcgan", "628 (Metz et al. 2017)", "2.58", "model=dcgan"),
        stacked("pacgan2", "840.7 (PacGAN)", "1.00", "model=pacgan"),
        stacked("rpgan", "1000 (R3GAN)", "0.078", "model=rpgan"),
        stacked("rpgan_larger", "1000 (R3GAN)", "0.078", *LARGER),
        stacked("wgan_gp", "959 (R3GAN's table)", "0.73", "model=wgan_gp"),
        stacked("r3gan", "1000 (R3GAN)", "0.029", "model=r3gan", "data.image_size=32", *shallow(640000, 1.0)),
        stacked("unrolled5", "732 (Metz et al. 2017)", "1.66", "model=unrolled"),
    ],
    metrics={"modes": "modes", "reverse_kl": "reverse KL"},
    seeds=3,
    needs="MNIST/raw",
)
LABELLED = ("cgan", "conditional_dcgan", "acgan", "projection", "projection_dcgan", "sagan")
CONDITIONAL = Table(
    title="Labels on MNIST",
    protocol="""
        Runs of the table above. On samples: share of 10,000 samples, a tenth of each class, whose class the `digits`
        extractor, trained on real images, finds. From samples: accuracy on the 10,000 test images of a small
        classifier trained on these samples alone, beside that of one trained in the same way on 10,000 real images.
        GAN-test and GAN-train of Shmelkov et al. 2018. Conditional BatchNorm learns classes slowly in networks so
        narrow: continued to 1,000,000 images, `projection` with seed 0 has a FID of 0.95 and 97.4 % on 2,000 samples.
        `sagan` makes a fifth of the generator steps.
    """,
    common=LEADERBOARD.common,
    rows=[row for row in LEADERBOARD.rows if row.name in LABELLED],
    metrics={"on_samples": "on samples", "from_samples": "from samples", "from_real": "from real"},
    needs="MNIST/raw",
    of="mnist",
)
RESNETS = [*SMALL, "step.critic_steps=2"]
WIDER = ["model.generator.base_channels=32", "model.discriminator.base_channels=32", "step.critic_steps=2"]
AUGMENTED = ["model.augment=[color,translation,cutout]"]


def objects(name: str, *arguments: str, paper: str = "–") -> list[Row]:
    """A rule on all of the images and on a tenth of them, without and with DiffAugment."""
    return [
        Row(f"{name}{share}{views}", [*arguments, *subset, *augment], {"fid": paper} if not (share or views) else {})
        for share, subset in (("", []), (" 10 %", ["data.subset=0.1"]))
        for views, augment in (("", []), (" + DiffAugment", AUGMENTED))
    ]


CIFAR = Table(
    title="CIFAR-10",
    protocol="""
        FID with the `objects` extractor (v1) of 10,000 samples of the moving average against 10,000 training images
        (all, also those that a subset leaves out). The folder, a folder a class, holds the first 20,000 training
        images; 100,000 shown, in minibatches of 64, two critic steps; ResNets with base_channels=16, wgan_gp with
        DCGAN's networks of 32. Published: Inception, 50,000 images, 50,000 and more generator steps, networks of 256
        and 128: for orientation. In so short a run a tenth of the images is as good as all, since nothing is
        memorised yet, and DiffAugment only slows learning: what it is for, few images shown for long, is not reached
        here. projection is told the class, which lowers FID by a fifth.
    """,
    common=[
        "data=image_folder",
        "data.image_size=32",
        "data.held_out=0.0",
        "budget.images=100000",
        "trainer.max_epochs=null",
        "scores.names=[fid]",
        "scores.samples=10000",
        "scores.every=25000",
        "samples.every_images=50000",
    ],
    rows=[
        *objects("sngan", "model=sngan", *RESNETS, paper="16.77 (mimicry)"),
        *objects("wgan_gp", "model=wgan_gp", *WIDER, paper="22.29 (mimicry)"),
        *objects("projection", "model=projection", *RESNETS, paper="10.84 (mimicry)"),
    ],
    metrics={"fid": "FID"},
    seeds=1,
    needs="the class folders of CIFAR-10",
)
LONGER = [*(a for a in CIFAR.common if not a.startswith(("budget", "scores.every"))), "scores.every=50000"]
STYLES = ["model.generator.latent_size=128", "model.generator.style_size=128", "model.generator.mapping_layers=2"]

STYLEGAN = [
    "model=stylegan2",
    *sized(16, 64),
    *STYLES,
    "model.discriminator.mapping_layers=2",
    "model.r1_weight=0.01",
    "model.mixing=0",
    "model.path_length_weight=0",
    "data.batch_size=32",
]
ADAPTIVE = ["model.ada.pipeline=bgc", "model.ada.images=100000"]
FALLING = [f"model.{player}_schedule.horizon=6250" for player in PLAYERS]  # R3GAN's rates, over the whole run
GROWTH = ["model.fade_images=20000", "model.stable_images=20000", "data.batch_size=32"]
MODERNS = [
    Row("dcgan", ["model=dcgan", *WIDER[:2]], {"fid": "48.29 (StudioGAN)"}),
    Row("stylegan2", STYLEGAN, {"fid": "3.78 (StudioGAN)"}),
    Row("stylegan2_ada", [*STYLEGAN, *ADAPTIVE], {"fid": "2.31 (StudioGAN)"}),
    Row("r3gan", ["model=r3gan", *shallow(200000, 0.2), *FALLING], {"fid": "1.96 (Huang et al. 2024)"}),
    Row("progan", ["model=progan", *sized(32, 128), *GROWTH]),
    Row("biggan", ["model=biggan", *SMALL], {"fid": "4.16 (StudioGAN)"}),
]
UNTRAINED = [
    Row(f"{row.name} untrained", [*row.arguments, "budget.images=64", "scores.every=1000000"])
    for row in MODERNS
    if row.name != "stylegan2_ada"
]
MODERN = Table(
    title="Large and modern GANs on CIFAR-10",
    protocol="""
        As above, with 200,000 images shown, on networks that are a hundredth of the published ones and trained for a
        thousandth of their images; untrained: after a minibatch or two, from the average of the first weights. All
        images shown four times do not overfit: ADA's p rises to 0.009 in the first thousands of images, falls to 0 and
        stays there, so that its row is one more run of the row above. ProGAN is at 32 pixels from 120,000 images on,
        fading in from 100,000 (FID 147, 99 at 150,000). R3GAN's γ and rates were chosen here: with γ from 0.05 and
        rates that hardly fall its FID is 49.5 at 100,000 images and rises to 55.3, with falling rates it ends at 51.5.
    """,
    common=[*LONGER, "budget.images=200000"],
    rows=[*MODERNS, *UNTRAINED],
    metrics={"fid": "FID"},
    seeds=1,
    needs="the class folders of CIFAR-10",
)
TABLES = {
    "ring": RING,
    "grid": GRID,
    "stacked_mnist": STACKED,
    "mnist": LEADERBOARD,
    "conditional": CONDITIONAL,
    "cifar10": CIFAR,
    "modern": MODERN,
}
