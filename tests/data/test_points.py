"""Points: where they lie, how they travel, how they are drawn, and that a GAN learns them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

from gan_lightning import load
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import evaluate, sample
from gan_lightning.commands.train import run
from gan_lightning.data.plots import BLUE, GREEN, ticks
from gan_lightning.data.points import Gaussian1D, Grid, Mixture, Points, Ring, Spiral, discriminator_on
from gan_lightning.data.sets import Resident
from gan_lightning.errors import UserError
from gan_lightning.metrics.modes import mixture_modes
from gan_lightning.metrics.scores import Features, compute
from gan_lightning.metrics.scoring import Scorer, ScoreSettings, extract, real_blocks
from gan_lightning.networks.mlp import MLPDiscriminator, MLPGenerator
from tests.support import game

KINDS = (Ring, Grid, Spiral, Gaussian1D)
MODEL = ["model=gan", "network@model=mlp_points", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]
RARELY = ["samples.every_images=100000000"]


def build(kind: Any, **settings: Any) -> Any:
    data = kind(**{"batch_size": 64, "seed": 0, **settings})
    data.setup()
    return data


def points_of(part: Any) -> Tensor:
    """All points (N, D) of a part."""
    return part.images.flatten(1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("points") / "ring"
    assert run(["data=ring", *MODEL, "trainer=debug", "data.samples=2000", f"hydra.run.dir={folder}"]) == 0
    return folder


# ---- the data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "modes"), [(Ring, 8), (Grid, 25), (Spiral, 24)])
def test_every_mode_is_a_gaussian_around_its_centre(kind: type[Mixture], modes: int) -> None:
    data = build(kind)
    centres = data.centres()
    assert (centres.shape, data.class_names) == ((modes, 2), [str(mode) for mode in range(modes)])
    for part, count in ((data.train, 100_000), (data.held_out, 10_000)):
        points, labels = points_of(part), part.labels
        assert part.images.shape == (count, 2, 1, 1)
        assert part.images.dtype == torch.float32
        assert labels.bincount(minlength=modes).min() > 0.7 * count / modes
        away = points - centres[labels]
        assert float(away.std()) == pytest.approx(data.std, rel=0.03)
        for mode in range(modes):
            assert away[labels == mode].mean(0).abs().max() < 5 * data.std / (labels == mode).sum() ** 0.5
    assert float(torch.pdist(centres).min()) > 6 * data.std  # circles of high quality do not touch


def test_centres_are_the_papers() -> None:
    expected = {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert {tuple(map(int, centre)) for centre in build(Grid, samples=10).centres()} == expected
    ring = build(Ring, samples=10).centres()
    torch.testing.assert_close(ring.norm(dim=1), torch.ones(8))
    assert ring[0].tolist() == [1, 0]
    spiral = build(Spiral, samples=10).centres()
    assert (spiral.norm(dim=1).diff() > 0).all()  # outwards
    assert float(spiral[-1].norm()) == pytest.approx(1)


def test_numbers_of_one_gaussian() -> None:
    data = build(Gaussian1D, mean=-1.0, std=2.0)
    assert data.train.images.shape == (100_000, 1, 1, 1)
    assert float(data.train.images.mean()) == pytest.approx(-1, abs=0.03)
    assert float(data.train.images.std()) == pytest.approx(2, rel=0.02)
    assert data.class_names == []


@pytest.mark.parametrize("kind", KINDS)
def test_points_do_not_depend_on_the_seed(kind: type[Points]) -> None:
    one, other = build(kind, samples=500), build(kind, seed=7, samples=500)
    assert torch.equal(one.train.images, other.train.images)
    assert torch.equal(one.held_out.images, other.held_out.images)
    assert not torch.equal(one.train.images, one.held_out.images[:500])


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_hold_points_as_they_are(workers: int) -> None:
    data = build(Grid, samples=500, workers=workers)
    batches = data.minibatches(epoch=0, start=0, per_batch=3)
    assert isinstance(batches, Resident) == (workers == 0)
    seen = [data.on_after_batch_transfer(batch, 0)["image"] for batch in batches]
    assert seen[0].shape == (3, 64, 2, 1, 1)
    rows = {tuple(row) for row in points_of(data.train).tolist()}
    assert all(tuple(row) in rows for batch in seen for row in batch.flatten(0, 1).flatten(1).tolist())
    assert torch.equal(data.real_images(10), data.train.images[:10])


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["data=ring", "model=dcgan"], "data.image_size=1"),
        (["data=ring", "model=gan"], "network@model=mlp_points"),
        (["data=ring", *MODEL, "data.channels=3"], "data.channels=3"),
        (["data=ring", *MODEL, "data.image_size=16"], "data.image_size=16"),
        (["data=ring", *MODEL, "+data.flip=true"], "data.flip=true"),
        (["data=ring", *MODEL, "scores.extractor=digits"], "scores.extractor=digits"),
        (["data=ring", *MODEL, "scores.names=[wasserstein]"], "scores.names=[wasserstein]"),
        (["data=ring", *MODEL, "scores.names=[modes]"], "use mixture"),
        (["data=gaussian_1d", *MODEL, "scores.names=[mixture]"], "scores.names=[mixture]"),
        (["data=digits", "scores.names=[mixture]"], "scores.names=[mixture]"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: list[str], fragment: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        run([*arguments, "trainer=debug", f"hydra.run.dir={tmp_path / 'run'}"])
    assert fragment in str(error.value)
    assert not (tmp_path / "run").exists()


# ---- pictures -------------------------------------------------------------------------------------------------------


def near(picture: Tensor, colour: tuple[int, int, int], within: int = 60) -> Tensor:
    """Which pixels (h, w) of a picture have about a colour."""
    return (picture.int() - torch.tensor(colour)[:, None, None]).abs().amax(0) < within


class Judge(nn.Module):
    """A model of which only the discriminator is there: D(x) = 1 below 4, else 1/4."""

    device, classes, pack = torch.device("cpu"), 0, 1

    def __init__(self) -> None:
        super().__init__()
        self.discriminator = nn.Dropout(0.5)

    class counters:
        generator_steps = 1234

    def judge(self, points: Tensor, labels: Tensor | None) -> Tensor:
        return torch.where(points.flatten() < 4, 100.0, -math.log(3))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_have_one_size_and_the_same_axes(kind: type[Points]) -> None:
    data = build(kind, samples=3000)
    shape = (data.channels, 1, 1)
    samples = (torch.randn(200, *shape), torch.full((3, *shape), torch.nan), torch.full((2, *shape), 1e30))
    pictures = [data.picture(images, Judge()) for images in samples] + [data.picture(data.real_images(64))]
    assert {(picture.dtype, picture.shape) for picture in pictures} == {(torch.uint8, pictures[0].shape)}
    assert pictures[0].shape[0] == 3
    assert all(int((picture.float().mean(0) < 250).sum()) > 1000 for picture in pictures)


def test_a_scatter_has_pixels_where_points_are() -> None:
    """At (-0.5, 0.5): in the left panel blue at a quarter from the left and the top, and hot in the right one."""
    data = build(Ring, samples=3000)
    point = torch.tensor([-0.5, 0.5]).view(1, 2, 1, 1).expand(400, 2, 1, 1)
    picture = data.picture(point, Judge())
    rows, columns = near(picture, BLUE).nonzero(as_tuple=True)
    reach = 1.2 + 0.03  # of the axes, at 340 pixels, from 40 and 26 on
    place = torch.tensor([26 + 340 * (reach - 0.5) / (2 * reach), 40 + 340 * (reach - 0.5) / (2 * reach)])
    assert (torch.stack([rows, columns]).float().mean(1) - place).abs().max() < 1
    assert rows.max() - rows.min() < 6
    hot = near(picture, (70, 0, 50), 25).nonzero().float()
    hot = hot[hot[:, 1] > 400]
    assert (hot.mean(0) - place - torch.tensor([0, 380])).abs().max() < 3


def test_the_discriminators_curve_is_at_its_values() -> None:
    data = build(Gaussian1D, samples=3000)
    judge = Judge()
    picture = data.picture(data.real_images(2500), judge)
    blue = near(picture, BLUE)[30:331, 40:661]  # the axes
    rows = [torch.nonzero(blue[:, part].any(1)).flatten().float() for part in (slice(5, 300), slice(330, 615))]
    for found, value in zip(rows, (1, 0.25), strict=True):
        assert abs(float(found.median()) - 300 * (1 - value / 1.05)) <= 2  # a little room above 1
    assert judge.discriminator.training  # as it was
    assert not near(data.picture(data.real_images(2500)), BLUE)[30:331, 40:661].any()


def test_the_samples_curve_is_their_density() -> None:
    """All samples at 6: green there and nowhere else; a Gaussian of the smoothing, cut off at the top."""
    data = build(Gaussian1D, samples=3000)
    green = near(data.picture(torch.full((2500, 1, 1, 1), 6.0), Judge()), GREEN)[33:320, 40:661]
    columns = green.nonzero()[:, 1].float()
    middle = 620 * (6 - (4 - 4.5)) / 9
    assert abs(float(columns.mean()) - middle) < 2
    assert float((columns - middle).abs().max()) < 620 * 0.4 / 9


@pytest.mark.parametrize(("low", "high"), [(-1.23, 1.23), (-0.5, 8.5), (0, 1e-3), (0, 70000)])
def test_ticks_are_few_and_round(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 3 <= len(found) <= 7
    assert all(low <= tick <= high and len(f"{abs(tick):g}") <= 6 for tick in found)


# ---- scores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Ring, Grid, Spiral])
def test_real_points_have_all_modes_and_the_known_quality(kind: type[Mixture], tmp_path: Path) -> None:
    """P(χ² of 2 degrees ≤ 9) = 1 - exp(-9/2)."""
    data = build(kind, samples=3000)
    found, share = mixture_modes(points_of(data.held_out), data.centres(), data.std)
    assert int(found) == len(data.centres())
    assert float(share) == pytest.approx(1 - math.exp(-4.5), abs=0.004)
    scorer = Scorer(ScoreSettings(cache=tmp_path), data)
    assert (scorer.names, scorer.n_fake) == (["mixture"], 2500)
    device = torch.device("cpu")
    held_out = extract(scorer.extractor, real_blocks(data.held_out, 10_000), device)
    values = {name: value.value for name, value in compute(["mixture"], scorer.real, held_out).items()}
    assert values.pop("reverse_kl") < 0.02
    assert values == {"modes": len(data.centres()), "high_quality": pytest.approx(float(share))}


@pytest.mark.parametrize("sizes", [(400, 400), (301, 50)])
def test_the_wasserstein_distance_is_exact(sizes: tuple[int, int]) -> None:
    real, fake = torch.randn(sizes[0], 1), 2 * torch.randn(sizes[1], 1) + 1
    found = compute(["wasserstein"], Features(real), Features(fake))
    assert found["wasserstein"].value == pytest.approx(wasserstein_distance(real[:, 0], fake[:, 0]), rel=1e-6)
    assert found["sample_mean"].value == pytest.approx(float(fake.mean()), rel=1e-5)
    assert found["sample_std"].value == pytest.approx(float(fake.std()), rel=1e-5)


# ---- training -------------------------------------------------------------------------------------------------------


def values_of(folder: Path) -> dict[str, float]:
    return {line["metric"]: line["value"] for line in map(json.loads, (folder / "scores.jsonl").open())}


@pytest.mark.slow  # that a GAN learns points is shown by the Gaussian
def test_a_gan_finds_the_ring(tmp_path: Path) -> None:
    steps = ["budget.generator_steps=2000", "data.std=0.05", "model.ema.half_life=20000"]
    assert run(["data=ring", *MODEL, *RARELY, *steps, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    found = values_of(tmp_path / "run")
    print(found)
    assert found["modes"] >= 6
    assert found["high_quality"] > 0.3  # untrained: below 0.02


def test_a_gan_finds_the_gaussian(tmp_path: Path) -> None:
    steps = ["budget.generator_steps=1500", "model.ema.half_life=20000"]
    assert run(["data=gaussian_1d", *MODEL, *RARELY, *steps, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    found = values_of(tmp_path / "run")
    print(found)
    assert abs(found["sample_mean"] - 4) < 0.4  # untrained: near 0
    assert found["wasserstein"] < 0.5  # untrained: 4


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    small = ["data=ring", *MODEL, *RARELY, "data.samples=1000", "data.batch_size=64", "scores=off"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run([*small, "budget.generator_steps=20", f"hydra.run.dir={whole}"]) == 0
    assert run([*small, "budget.generator_steps=7", f"hydra.run.dir={parts}"]) == 0
    assert run([f"checkpoint={parts}", "budget.generator_steps=20"]) == 0
    states = [read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (whole, parts)]
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(states[1][key], states[0][key], rtol=0, atol=0)


def test_pictures_and_no_neighbours_are_kept(trained: Path) -> None:
    names = {path.name for path in (trained / "samples").iterdir()}
    assert {"real.png", "film.gif"} <= names
    assert "nearest.png" not in names
    assert {"modes", "high_quality", "reverse_kl"} == set(values_of(trained))
    assert (trained / "checkpoints" / "best.ckpt").exists()


def test_samples_are_a_table_and_a_picture(trained: Path, tmp_path: Path) -> None:
    assert sample.run([f"checkpoint={trained}", f"output={tmp_path / 'out'}", "count=70", "accelerator=cpu"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["grid.png", "points.csv"]
    table = np.loadtxt(tmp_path / "out" / "points.csv", delimiter=",", skiprows=1, dtype=np.float32)
    assert (tmp_path / "out" / "points.csv").read_text().startswith("x,y\n")
    assert np.array_equal(table, load(trained).sample(70, seed=0).flatten(1).numpy())
    assert Image.open(tmp_path / "out" / "grid.png").size == Image.open(trained / "samples" / "real.png").size


@pytest.mark.parametrize("key", ["std", "radius", "modes"])
def test_a_continued_run_keeps_its_points(key: str, trained: Path) -> None:
    with pytest.raises(UserError, match=f"data.{key}=3: cannot change"):
        run([f"checkpoint={trained}", f"data.{key}=3"])


@pytest.mark.parametrize("key", ["nearest", "interpolate"])
def test_what_is_for_images_is_refused(key: str, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{key}=(true|latents)"):
        sample.run([f"checkpoint={trained}", f"output={tmp_path / 'out'}", f"{key}=true", "accelerator=cpu"])
    assert not (tmp_path / "out").exists()


def test_evaluate(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "scores.jsonl"
    names = "scores.names=[mixture,diversity,fid]"
    assert evaluate.run([f"checkpoint={trained}", f"output={output}", "accelerator=cpu", names]) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert {(line["extractor"], line["n_fake"], line["resize"]) for line in lines} == {("points", 2500, "none")}
    assert len(lines) == 5
    assert "held_out_points" in capsys.readouterr().out
    points = load(trained).sample(2500, seed=0).flatten(1)
    ring = Ring(batch_size=1, seed=0)
    assert {line["metric"]: line["value"] for line in lines}["high_quality"] == pytest.approx(
        float(mixture_modes(points, ring.centres(), ring.std)[1])
    )


def test_points_are_not_augmented(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.augment=\[translation\]"):
        run(["data=ring", *MODEL, "trainer=debug", "model.augment=[translation]", f"hydra.run.dir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()


def test_samples_that_come_together_raise_no_alarm(tmp_path: Path) -> None:
    """One Gaussian is narrower than what a generator begins with."""
    data = build(Gaussian1D)
    data.setup()
    scorer = Scorer(ScoreSettings(cache=tmp_path), data)
    module = game(generator=MLPGenerator(4, [8], 1, 1, output="none"), discriminator=MLPDiscriminator([8], 1, 1))
    assert scorer.glance(module) == {}


@pytest.mark.parametrize("model", ["pacgan", "gan"])
def test_the_curve_of_packs_and_noise_is_of_single_numbers(model: str, tmp_path: Path) -> None:
    arguments = [f"model={model}", "network@model=mlp_points", "data=gaussian_1d", "model.instance_noise=0.5"]
    packs = ["model.discriminator.pack=2"] if model == "pacgan" else []
    folder = tmp_path / "run"
    assert run([*arguments, *packs, "trainer=debug", "trainer.accelerator=cpu", f"hydra.run.dir={folder}"]) == 0
    module = load(folder)
    x = np.linspace(-1, 1, 7)
    module.train()
    curves = [discriminator_on(module, x) for _ in range(2)]
    assert curves[0].shape == (7,)
    assert np.array_equal(*curves)
    assert module.training
