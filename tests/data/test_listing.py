"""The classes of a folder: found when a configuration is composed, and the same when its images are loaded."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import gan_lightning
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands.train import FIXED, Settings, checked, run
from gan_lightning.config import check, compose, override
from gan_lightning.config.composition import count_class_folders
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.listing import class_folders
from gan_lightning.errors import UserError

LAYOUTS = [
    (["b/1.png", "a/1.JPG", "a/2.png"], ["a", "b"]),
    (["a/deep/er/1.png", "b/1.webp"], ["a", "b"]),
    (["a/1.png", "b/1.png", "notes.txt", "c/notes.txt"], ["a", "b"]),
    (["a/1.png", "b/1.png", ".hidden/1.png", "c/.hidden.png"], ["a", "b"]),
    (["a/1.png", "b/1.png", "z.png"], []),  # an image beside them
    (["a/1.png", "a/2.png"], []),
    (["1.png"], []),
]
SMALL = ["model=gan", "model.generator.hidden=[4]", "model.discriminator.hidden=[4]", "trainer=debug", "scores=off"]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def photos(root: Path, classes: int) -> Path:
    """Two grey images in each of so many folders."""
    for number in range(classes):
        for index in range(2):
            path = root / f"class {number}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 40 * number + index).save(path)
    return root


def composed(root: Path | str, *arguments: str) -> dict[str, Any]:
    return check(compose("train", ["data=image_folder", f"data.root={root}", *arguments], Settings), Settings)


@pytest.mark.parametrize(("names", "classes"), LAYOUTS)
def test_layouts(names: list[str], classes: list[str], tmp_path: Path) -> None:
    assert class_folders(touch(tmp_path, *names)) == classes


def test_a_link_to_the_folder_itself_is_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    os.symlink(tmp_path, tmp_path / "c")
    os.symlink(tmp_path / "a", tmp_path / "d")
    assert class_folders(tmp_path) == ["a", "b", "d"]


@pytest.mark.parametrize(
    "name", ["a b", "a,b", "it's", 'say "x"', "[1]", "{a: 1}", "照片", "${x}", "\\${x}", "a=b", "null", "7", "C:\\"]
)
def test_paths_are_looked_into_as_typed(name: str, tmp_path: Path) -> None:
    touch(tmp_path / name, "a/1.png", "b/1.png", "c/1.png")
    settings = composed(tmp_path / name)
    assert (settings["data"]["root"], settings["data"]["classes"]) == (str(tmp_path / name), 3)
    assert check(settings, Settings) == settings  # as a continued run does


def test_no_classes_without_labels_or_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    assert composed(tmp_path, "data.labels=false")["data"]["classes"] == 0
    assert composed(tmp_path / "nowhere")["data"]["classes"] == 0
    assert count_class_folders("nul\0", True) == 0


def test_a_missing_folder_is_said_before_what_follows_from_it(tmp_path: Path) -> None:
    settings = composed(tmp_path / "nowhere")
    settings["model"]["classes"] = 3  # a model that its constructor refuses
    with pytest.raises(UserError, match=r"^data\.root=.*nowhere: no such folder"):
        checked(settings)


def test_one_folder_is_listed_once_for_all_keys_that_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    listed: list[Path] = []
    found = class_folders(tmp_path)
    monkeypatch.setattr("gan_lightning.config.composition.class_folders", lambda root: listed.append(root) or found)
    config = compose("train", ["data=image_folder", f"data.root={tmp_path}"], Settings)
    OmegaConf.update(config, "samples.count", "${data.classes}")
    assert check(config, Settings)["samples"]["count"] == 2
    assert listed == [tmp_path]


def test_another_number_than_there_are(tmp_path: Path) -> None:
    data = ImageFolder(
        photos(tmp_path, 3), batch_size=2, image_size=8, channels=1, seed=0, classes=5, held_out=0, cache="off"
    )
    with pytest.raises(UserError, match=r"data\.classes=5: there are 3 classes"):
        data.setup()


def test_numbers_and_names_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    data = [f"data.root={photos(tmp_path / 'photos', 3)}", "data.image_size=16", "data.channels=1", "data.cache=off"]
    assert run(["data=image_folder", *SMALL, *data, "trainer.accelerator=cpu", f"hydra.run.dir={folder}"]) == 0
    assert OmegaConf.load(folder / "config.yaml").data.classes == 3
    checkpoint = folder / "checkpoints" / "last.ckpt"
    assert read_checkpoint(checkpoint)["config"]["data"]["classes"] == 3
    names = ["class 0", "class 1", "class 2"]
    assert gan_lightning.load(folder).class_names == names
    with pytest.raises(UserError, match=r"data\.classes=4: cannot change in a continued run"):
        override(read_checkpoint(checkpoint)["config"], ["data.classes=4"], Settings, FIXED)

    older = torch.load(checkpoint, weights_only=True)
    del older["class_names"]
    for key in ("classes", "subset", "per_class"):
        del older["config"]["data"][key]
    torch.save(older, checkpoint)
    assert gan_lightning.load(folder).class_names == []
    again = ["data=image_folder", *SMALL, *data, "trainer.accelerator=cpu", f"hydra.run.dir={folder}"]
    assert run(again) == 0
    with pytest.raises(UserError, match=r"data\.per_class: the run in .* was begun with other values"):
        run([*again, "data.per_class=1"])
    assert run([f"checkpoint={folder}", "budget.generator_steps=5", "trainer.max_epochs=9"]) == 0
    assert gan_lightning.load(folder).class_names == names


def test_listing_needs_no_torch() -> None:
    program = "import sys, gan_lightning.config, gan_lightning.data.listing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
