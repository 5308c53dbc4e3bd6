"""`compress method=distill`: which student it makes, where that begins, and that what comes of it is a run as any."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning import load
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import sample
from gan_lightning.commands.loading import load_data, load_module
from gan_lightning.commands.train import run
from gan_lightning.compression.distillation import Distill, merged, narrowed
from gan_lightning.compression.results import START, Source
from gan_lightning.errors import UserError
from gan_lightning.imitation import Imitation
from tests.test_imitation import DCGAN, MODELS, untrained
from tests.test_learning import frechet_distance

FEW = ["samples.count=4", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "scores=off"]


def source_of(teacher: Path, folder: Path) -> Source:
    """What the command makes of a run."""
    module = load_module(teacher)
    assert module.config is not None
    data = load_data(module.config)
    module.show(data)
    return Source(teacher / "checkpoints" / "last.ckpt", module.config, module, data, folder)


def distilled(teacher: Path, folder: Path, **settings: Any) -> dict[str, Any]:
    return Distill(**{"images": 32, **settings}).run(source_of(teacher, folder))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("teacher") / "run", *DCGAN, *FEW, "model.generator.base_channels=8")


def test_widths_are_scaled_wherever_they_stand() -> None:
    node = {"_target_": "x", "base_channels": 64, "blocks": 6, "network": {"max_channels": 6, "hidden": [3, 100]}}
    inside = {"max_channels": 2, "hidden": [1, 25]}
    assert narrowed(node, 0.25) == {"_target_": "x", "base_channels": 16, "blocks": 6, "network": inside}
    assert merged(node, {"network": {"hidden": [5]}, "blocks": 4}) == {
        **node,
        "blocks": 4,
        "network": {"max_channels": 6, "hidden": [5]},
    }


@pytest.mark.parametrize("start", ["teacher", pytest.param("fresh", marks=pytest.mark.slow)])
def test_what_comes_of_it_is_a_run(start: Any, teacher: Path, tmp_path: Path) -> None:
    kept = shutil.copytree(teacher, tmp_path / "teacher")
    folder = tmp_path / "student"
    facts = distilled(kept, folder, start=start, discriminator=start)
    assert facts == {"images": 32, "reconstruction": 50.0, "layers": ["layers.2", "layers.5"]}
    wide, begun = load(kept).state_dict(), read_checkpoint(folder / START)["state_dict"]
    for name in ("generator", "ema.generator"):
        weight = begun[f"{name}.layers.3.weight"]  # (4, 2, 4, 4) of (16, 8, 4, 4)
        assert torch.equal(weight, wide["ema.generator.layers.3.weight"][:4, :2]) == (start == "teacher")
        assert weight.shape == (4, 2, 4, 4)
    theirs = {key: value for key, value in wide.items() if key.startswith("discriminator.")}
    assert all(torch.equal(begun[key], value) for key, value in theirs.items() if value.is_floating_point()) == (
        start == "teacher"
    )
    shutil.rmtree(kept)
    module = load(folder)
    assert isinstance(module.imitation, Imitation)
    assert module.counters.images == 32
    assert sample.run([f"checkpoint={folder}", "count=2", f"output={tmp_path / 'pictures'}", "accelerator=cpu"]) == 0


def test_a_student_can_be_trained_alone(teacher: Path, tmp_path: Path) -> None:
    alone = {"reconstruction": 0, "features": 0, "start": "fresh", "discriminator": "fresh"}
    assert distilled(teacher, tmp_path / "alone", **alone) == {"images": 32, "reconstruction": 0, "layers": "none"}
    module = load(tmp_path / "alone")
    assert not isinstance(module.imitation, Imitation)
    assert module.generator.state_dict()["layers.3.weight"].shape == (4, 2, 4, 4)


@pytest.mark.parametrize(
    ("model", "settings", "reconstruction"),
    [
        pytest.param("stylegan2", ["data.batch_size=8"], 50.0, marks=pytest.mark.slow),
        pytest.param("cyclegan", ["data.image_size=16", "data.batch_size=8", "data.subset=0.02"], 10.0),
        pytest.param("conditional_dcgan", [], 50.0, marks=pytest.mark.slow),
        pytest.param("resnet", [], 50.0, marks=pytest.mark.slow),
        pytest.param("wavegan", ["data.count=64"], 50.0, marks=pytest.mark.slow),
        pytest.param(
            "srgan",
            ["data.image_size=16", "data.crops=32", "model.perceptual=standin"],
            0.0,
            marks=pytest.mark.slow,
        ),
        pytest.param("pix2pix", [], 0.0, marks=pytest.mark.slow),
        pytest.param("deepfill", ["data.image_size=16"], 0.0, marks=pytest.mark.slow),
    ],
)
def test_models_of_many_kinds(model: str, settings: list[str], reconstruction: float, tmp_path: Path) -> None:
    arguments = MODELS[model][0] if model in MODELS else [f"model={model}"]
    if model not in MODELS:
        arguments += ["model.generator.base_channels=16", "model.discriminator.base_channels=4"]
    wide = untrained(tmp_path / "run", *arguments, *FEW, *settings)
    facts = distilled(wide, tmp_path / "student", images=16, width=0.5)
    assert facts["reconstruction"] == reconstruction
    count = {name: sum(p.numel() for p in load(tmp_path / name).generator.parameters()) for name in ("run", "student")}
    assert count["student"] < 0.7 * count["run"]


def test_what_is_refused_leaves_nothing_behind(teacher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    for settings, message in (
        ({"student": {"depth": 3}}, r"model.generator.depth=3: DCGANGenerator takes no depth"),
        ({"student": {"latent_size": 9}}, r"is given other latents or inputs than this generator"),
        ({"layers": ["layers.99"]}, r"model.imitation.layers=\['layers.99'\]"),
    ):
        with pytest.raises(UserError, match=message):
            distilled(teacher, folder, **settings)
    fixed = untrained(tmp_path / "fixed", "model=cgan", "network@model=cgan_maxout", *FEW)
    with pytest.raises(
        UserError, match=r"method.width=0.25: CGANGenerator has none of base_channels, .*method.student"
    ):
        distilled(fixed, folder)
    texts = untrained(tmp_path / "texts", "model=mle", *FEW)
    with pytest.raises(UserError, match=r"method=distill: LSTMGenerator makes texts"):
        distilled(texts, folder)
    small = source_of(teacher, folder)
    small.config["model"]["generator"]["_target_"] = "gan_lightning.networks.pruned.Pruned"
    with pytest.raises(UserError, match=r"came of compressing already"):
        Distill(images=32).run(small)
    assert not folder.exists()


# ---- learning -------------------------------------------------------------------------------------------------------


def trained(folder: Path, *arguments: str) -> Path:
    assert run(["model=dcgan", *FEW, "samples.every_images=100000000", *arguments, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_student_learns_faster_than_the_same_network_alone(seed: int, tmp_path: Path) -> None:
    """A quarter of the width, 10,000 images at the same rates: much nearer to real digits than without a teacher."""
    wide = ["model.generator.base_channels=32", "model.discriminator.base_channels=16", "budget.images=64000"]
    teacher = trained(tmp_path / "teacher", *wide, f"seed={seed}")
    narrow = ["model.generator.base_channels=8", "model.discriminator.base_channels=16", "budget.images=10000"]
    fast = ["model.generator_optimizer.lr=0.002", "model.initialization=default", f"seed={seed}"]
    alone = trained(tmp_path / "alone", *narrow, *fast)
    source = source_of(teacher, tmp_path / "student")
    source.config["model"]["generator_optimizer"]["lr"] = 0.002
    Distill(images=10000).run(source)
    found = {
        name: frechet_distance(load(folder).sample(1000, seed=0))
        for name, folder in (("teacher", teacher), ("alone", alone), ("student", tmp_path / "student"))
    }
    print(f"seed {seed}: {found}")
    assert found["student"] < 0.8 * found["alone"]
