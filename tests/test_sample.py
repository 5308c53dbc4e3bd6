"""`sample`, `evaluate` and `gan_lightning.load` on a small trained run."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

import gan_lightning
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import evaluate, sample, train
from gan_lightning.config import check, compose
from gan_lightning.data.digits import Digits
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.pixels import to_float
from gan_lightning.errors import UserError
from gan_lightning.models.gan import GAN
from gan_lightning.networks.conditional import one_hot
from gan_lightning.networks.mlp import MLPDiscriminator
from tests.support import game

SMALL = ["trainer=debug", "trainer.accelerator=cpu", "model.ema.ramp_up=null"]
DENSE = ["model=gan", "model.generator.hidden=[16]", "model.discriminator.hidden=[16]"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "a run, 照片"
    assert train.run([*SMALL, *DENSE, f"hydra.run.dir={folder}"]) == 0
    return folder


def pictures(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.glob("0*.png")}


def draw(trained: Path, output: Path, *arguments: str) -> dict[str, bytes]:
    assert sample.run([f"checkpoint={trained}", f"output={output}", "accelerator=cpu", *arguments]) == 0
    return pictures(output)


def test_pictures_depend_on_seed_and_index_alone(trained: Path, tmp_path: Path) -> None:
    many = draw(trained, tmp_path / "many", "count=70")
    few = draw(trained, tmp_path / "few", "count=3")
    assert sorted(many) == [f"{i:05d}.png" for i in range(70)]
    assert few == {name: many[name] for name in few}
    assert Image.open(tmp_path / "many" / "00000.png").size == (16, 16)
    assert (tmp_path / "many" / "grid.png").exists()
    for other in ("seed=1", "ema=false", "truncation=0.3"):
        assert draw(trained, tmp_path / other, "count=3", other) != few
    draw(trained, tmp_path / "bare", "count=1", "grid=false")
    assert [f.name for f in (tmp_path / "bare").iterdir()] == ["00000.png"]


def test_nothing_is_overwritten(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "00000.png").write_text("mine")
    with pytest.raises(UserError, match="output="):
        draw(trained, tmp_path / "full", "count=1")
    assert (tmp_path / "full" / "00000.png").read_text() == "mine"
    for _ in range(2):
        assert sample.run([f"checkpoint={trained}", "count=1", "accelerator=cpu"]) == 0
    assert [f.name for f in sorted((trained / "sampled").iterdir())] == ["001", "002"]


def test_a_walk_between_latents(trained: Path, tmp_path: Path) -> None:
    draw(trained, tmp_path / "walk", "count=3", "interpolate=true")
    with Image.open(tmp_path / "walk" / "walk.gif") as film:
        assert getattr(film, "n_frames", 1) > 12  # equal neighbours may be merged
    assert (tmp_path / "walk" / "strip.png").exists()
    with pytest.raises(UserError, match="count=1"):
        draw(trained, tmp_path / "one", "count=1", "interpolate=true")
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["label=3"], "label=3: .* not class-conditional"),
        (["label=all"], "label=all: .* not class-conditional"),
        (["label=[0,1]"], "not class-conditional"),
        (["interpolate=labels"], "interpolate=labels: .* not class-conditional"),
        (["interpolate=sideways"], "interpolate=sideways"),
        (["traverse=true"], "traverse=true: .* no codes"),
        (["interpolate=true", "dataset=true"], "dataset=true: not together with interpolate"),
        (["dataset=true", "nearest=true"], "nearest=true: .* not to dataset=true"),
        (["count=0"], "count=0"),
        (["truncation=-1"], "truncation=-1"),
        (["coutn=3"], "count"),
        (["accelerator=tpu"], "accelerator"),
    ],
)
def test_bad_input(arguments: list[str], fragment: str, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=fragment):
        draw(trained, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_load(trained: Path) -> None:
    module = gan_lightning.load(trained)
    assert not module.training
    images = module.sample(5, seed=2)
    assert images.shape == (5, 1, 16, 16)
    assert images.abs().max() <= 1
    again = gan_lightning.load(str(trained / "checkpoints" / "last.ckpt")).sample(9, seed=2)
    assert torch.equal(again[:5], images)


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "torch.hub.load", "torch.load", "subprocess.run"])
def test_a_checkpoint_runs_no_foreign_code(target: str, trained: Path, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(trained / "checkpoints" / "last.ckpt")
    config: dict[str, Any] = checkpoint["config"]
    config["model"]["generator"] = {"_target_": target, "_args_": [f"touch {tmp_path / 'ran'}"]}
    torch.save(checkpoint, tmp_path / "hostile.ckpt")
    for use in (
        lambda p: gan_lightning.load(p),
        lambda p: sample.run([f"checkpoint={p}"]),
        lambda p: train.run([f"checkpoint={p}"]),
    ):
        with pytest.raises(UserError, match=target.replace(".", r"\.")):
            use(tmp_path / "hostile.ckpt")
    assert not (tmp_path / "ran").exists()


def test_evaluate_is_the_mean_over_the_held_out_images(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    before = sorted(tmp_path.rglob("*"))
    found = []
    for batch_size in (8, 100):
        assert (
            evaluate.run(
                [
                    f"checkpoint={tmp_path / 'copy'}",
                    f"data.batch_size={batch_size}",
                    "accelerator=cpu",
                    "scores.names=[]",
                ]
            )
            == 0
        )
        lines = capsys.readouterr().out.split()
        found.append(dict(zip(lines[::2], map(float, lines[1::2]), strict=True)))
    for numbers in found:
        numbers.pop("D/ranking")  # of the pairs within a batch
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert sorted(tmp_path.rglob("*")) == before

    module = gan_lightning.load(trained)
    data = Digits(batch_size=8, image_size=16, channels=1, seed=0)
    data.setup()
    real = data.on_after_batch_transfer(data.held_out.__getitems__(range(len(data.held_out))), 0)["image"]
    with torch.no_grad():
        on_real, on_fake = module.discriminator(real), module.discriminator(module.sample(len(real), seed=0))
    assert found[0]["held_out_images"] == len(real)
    assert found[0]["D/loss_real"] == pytest.approx(float(-on_real.sigmoid().log().mean()), rel=1e-4)
    assert found[0]["D/loss_fake"] == pytest.approx(float(-(-on_fake).sigmoid().log().mean()), rel=1e-4)
    assert found[0]["G/loss"] == pytest.approx(float(-on_fake.sigmoid().log().mean()), rel=1e-4)


def test_evaluate_a_gradient_penalty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["model=wgan_gp", "model.generator.base_channels=4", "model.discriminator.base_channels=4"]
    assert train.run([*SMALL, *small, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    assert evaluate.run([f"checkpoint={tmp_path / 'run'}", "accelerator=cpu"]) == 0
    assert "D/gradient_penalty" in capsys.readouterr().out


class Stub(nn.Module):
    """8×8 pictures that say what they were drawn from: row 0 the shares of 4 classes, row 1 the latents, halved."""

    def __init__(self, latent_size: int = 5, classes: int = 4) -> None:
        super().__init__()
        self.latent_size, self.classes = latent_size, classes

    def forward(self, z: Tensor, y: Tensor | None) -> Tensor:
        picture = torch.zeros(len(z), 1, 8, 8)
        if y is not None:
            picture[:, 0, 0, : self.classes] = one_hot(y, self.classes)
        picture[:, 0, 1, : z.shape[1]] = z / 2
        return picture


class Coded(GAN):
    """Latents of 2 numbers of noise, a category of 3 and two continuous codes."""

    def code_slices(self) -> dict[str, tuple[int, int]]:
        return {"category 1": (2, 5), "code 1": (5, 6), "code/2": (6, 7)}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> GAN:
    """A model of 4 classes, which every checkpoint now holds."""
    module = game(generator=Stub(), discriminator=MLPDiscriminator([4], 8, 1, classes=4), classes=4)
    module.class_names = ["bird", "cat", "a/b", "2024"]
    use(module, monkeypatch)
    return module


def use(module: GAN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "stored_config", lambda *_: check(compose("train", [], train.Settings), train.Settings))
    monkeypatch.setattr(sample, "load_module", lambda *_: module.eval())


def ask(folder: Path, *arguments: str) -> Path:
    assert sample.run(["checkpoint=any", f"output={folder}", "accelerator=cpu", *arguments]) == 0
    return folder


def values(path: Path | Image.Image) -> Tensor:
    """A picture as (H, W) in [-1, 1]."""
    with path if isinstance(path, Image.Image) else Image.open(path) as image:
        return to_float(torch.from_numpy(np.array(image.convert("L"))))


def tiles(path: Path, columns: int) -> Tensor:
    """The pictures of a grid, as (rows, columns, 8, 8)."""
    levels = values(path)
    side = (levels.shape[1] - 2) // columns
    rows = levels[2:, 2:].unfold(0, side - 2, side).unfold(1, side - 2, side)  # between white frames of 2 pixels
    return rows[..., 3::6, 3::6]  # each pixel was shown 6 × 6 times


def label_of(image: Tensor) -> int:
    return int(image[0, :4].argmax())


def test_a_row_of_the_grid_per_class_with_the_same_latents(stub: GAN, tmp_path: Path) -> None:
    folder = ask(tmp_path / "all", "label=all", "count=10")
    names = [f"bird_{i:05d}" for i in range(3)] + [f"cat_{i:05d}" for i in range(3)]
    names += [f"{name}_{i:05d}" for name in ("a%2Fb", "2024") for i in range(2)]
    assert sorted(f.stem for f in folder.iterdir()) == sorted([*names, "grid"])
    shown = tiles(folder / "grid.png", 3)
    assert shown.shape[:2] == (4, 3)
    for row in range(4):
        for column in range(2):
            assert label_of(shown[row, column]) == row
            assert torch.equal(shown[row, column, 1], shown[0, column, 1])
    assert not torch.equal(shown[0, 0, 1], shown[0, 1, 1])
    assert (shown[2:, 2] == 1).all()  # there were not enough for these two
    alone = values(ask(tmp_path / "one", "label=cat", "count=2") / "00001.png")
    assert torch.equal(alone, values(folder / "cat_00001.png"))
    few = ask(tmp_path / "few", "label=[2024,cat]", "count=2", "grid=false")
    assert sorted(f.name for f in few.iterdir()) == ["2024_00000.png", "cat_00000.png"]


@pytest.mark.parametrize(("label", "number"), [("cat", 1), ("a/b", 2), ("2024", 3), ("0", 0), ("3", 3)])
def test_a_class_is_asked_for_by_name_or_number(label: str, number: int, stub: GAN, tmp_path: Path) -> None:
    assert label_of(values(ask(tmp_path / "out", f"label={label}", "count=1") / "00000.png")) == number


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["label=dog"], "label=dog: .*classes 0 to 3: bird, cat, a/b, 2024"),
        (["label=4"], "label=4"),
        (["label=[]"], "label="),
        (["label=[cat,1]"], "each once"),
        (["label=cat", "interpolate=labels"], "label=cat: .* at least 2 classes"),
        (["label=all", "interpolate=true"], "label=all: .* one class"),
        (["label=all", "count=3"], "count=3: label=all names 4 classes"),
        (["label=[cat,bird]", "count=1", "dataset=true"], "count=1: .* 2 classes"),
    ],
)
def test_bad_labels(arguments: list[str], fragment: str, stub: GAN, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=fragment):
        ask(tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_classes_that_share_a_name(stub: GAN, tmp_path: Path) -> None:
    stub.class_names = ["crane", "Crane", "crane", ".."]
    with pytest.raises(UserError, match="classes 0, 2"):
        ask(tmp_path / "out", "label=crane")
    folder = ask(tmp_path / "data", "dataset=true", "count=4")
    assert sorted(f.name for f in folder.iterdir()) == ["%2E%2E", "Crane%1", "crane%0", "crane%2"]


@pytest.mark.parametrize(("arguments", "classes"), [([], [0, 1, 2, 3]), (["label=[a/b,0]"], [2, 0])])
def test_a_walk_between_classes(arguments: list[str], classes: list[int], stub: GAN, tmp_path: Path) -> None:
    folder = ask(tmp_path / "walk", "interpolate=labels", *arguments)
    strip = tiles(folder / "strip.png", 12)
    assert strip.shape[:2] == (len(classes), 12)
    for row, label in enumerate(classes):
        following = classes[(row + 1) % len(classes)]
        for column in range(12):
            expected = torch.zeros(4)
            expected[label], expected[following] = 1 - column / 12, column / 12
            torch.testing.assert_close(strip[row, column, 0, :4], expected, atol=0.01, rtol=0)
    assert (strip[..., 1, :] == strip[0, 0, 1]).all()  # the same latents
    assert (folder / "walk.gif").exists()


def test_a_walk_between_latents_stays_in_its_class(stub: GAN, tmp_path: Path) -> None:
    strip = tiles(ask(tmp_path / "walk", "interpolate=latents", "count=2", "label=cat") / "strip.png", 12)
    assert strip.shape[:2] == (2, 12)
    assert {label_of(image) for image in strip.flatten(0, 1)} == {1}
    assert (strip[0, 0, 1] != strip[0, 6, 1]).any()


def test_every_code_is_traversed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(game(Coded, generator=Stub(7, 0)), monkeypatch)
    folder = ask(tmp_path / "out", "traverse=true")
    assert sorted(f.name for f in folder.iterdir()) == [
        "traverse_category 1.png",
        "traverse_code 1.png",
        "traverse_code%2F2.png",
    ]
    category = tiles(folder / "traverse_category 1.png", 3)[:, :, 1] * 2  # (rows, columns, latents)
    code = tiles(folder / "traverse_code 1.png", 11)[:, :, 1] * 2
    for picture in (category, code):
        assert len(picture) == 8
        assert len(picture[:, 0, :2].unique(dim=0)) == 8  # each row has its own noise
        assert (picture[:, :, :2] == picture[:, :1, :2]).all()  # and keeps it
    torch.testing.assert_close(category[:, :, 2:5], torch.eye(3).expand(8, 3, 3), atol=0.02, rtol=0)
    torch.testing.assert_close(code[:, :, 5], torch.linspace(-2, 2, 11).expand(8, 11), atol=0.02, rtol=0)
    assert (code[:, :, 6] == code[:, :1, 6]).all()
    assert (category[:, :, 5:] == category[:, :1, 5:]).all()


def test_a_data_set_of_images_alone(stub: GAN, tmp_path: Path) -> None:
    folder = ask(tmp_path / "set", "dataset=true", "count=130")
    files = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    sizes = {"2024": 32, "a%2Fb": 32, "bird": 33, "cat": 33}
    assert sorted(files) == [f"{name}/{i:05d}.png" for name, size in sizes.items() for i in range(size)]
    few = ask(tmp_path / "few", "dataset=true", "count=9")
    assert all(f.read_bytes() == files[f.relative_to(few).as_posix()] for f in few.rglob("*.png"))

    data = ImageFolder(folder, held_out=0, cache="off", batch_size=8, image_size=8, channels=1, seed=0)
    data.setup()
    read = data.train.__getitems__(range(130))
    assert data.class_names == list(sizes)
    names = [data.class_names[label].replace("%2F", "/") for label in read["label"]]
    assert names == [stub.class_names[label_of(to_float(image)[0])] for image in read["image"]]
    assert torchvision.datasets.ImageFolder(str(folder)).classes == list(sizes)


def test_a_data_set_of_one_class_or_of_none(stub: GAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = ask(tmp_path / "one", "dataset=true", "label=cat", "count=2")
    assert sorted(f.relative_to(one).as_posix() for f in one.rglob("*.png")) == ["cat/00000.png", "cat/00001.png"]
    stub.class_names = []
    unnamed = ask(tmp_path / "unnamed", "dataset=true", "count=4")
    assert sorted(f.name for f in unnamed.iterdir()) == ["0", "1", "2", "3"]
    use(game(), monkeypatch)
    flat = ask(tmp_path / "flat", "dataset=true", "count=2")
    assert sorted(f.name for f in flat.rglob("*")) == ["00000.png", "00001.png"]
