"""Checkpoints of every format that was ever written can be read, sampled from and gone on from."""

import shutil
from pathlib import Path

import pytest
import torch

from gan_lightning import checkpoint
from gan_lightning.checkpoint import FORMAT, AtomicCheckpointIO, read_checkpoint
from gan_lightning.commands.loading import load_module
from gan_lightning.commands.train import run
from gan_lightning.errors import UserError

STORED = sorted((Path(__file__).parent / "formats").glob("*.ckpt"))


def test_every_format_is_kept() -> None:
    assert [int(file.stem) for file in STORED] == list(range(FORMAT + 1))
    assert [read_checkpoint(file).get("format", 0) for file in STORED] == list(range(FORMAT + 1))


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.stem)
def test_it_is_sampled_and_continued(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_module(file).sample(2)
    assert images.shape == (2, 1, 8, 8)
    assert images.std() > 0.1
    stored = read_checkpoint(file)
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copyfile(file, folder / "checkpoints" / "last.ckpt")
    (folder / "config.yaml").touch()  # what makes it a run
    monkeypatch.chdir(tmp_path)
    assert run([f"checkpoint={folder}", "budget.images=1408"]) == 0
    now = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert (stored["counters"]["images"], now["counters"]["images"]) == (1280, 1408)
    assert now["optimizer_states"][0]["state"][0]["step"] == 11
    assert now["format"] == FORMAT


@pytest.mark.parametrize("number", [FORMAT + 1, -1, True, "2"])
def test_other_formats_are_refused(number: object, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"config": {}, "format": number}, path)
    with pytest.raises(UserError, match=rf"last\.ckpt: .*format.* {number}") as error:
        read_checkpoint(path)
    assert ("newer version" in str(error.value)) == (number == FORMAT + 1)


def test_formats_have_the_seeds_that_they_were_made_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """All were made by the same command: the same weights, so that a reader that mixes names up is seen."""
    monkeypatch.setattr(checkpoint, "WARNED", set())
    first, *others = (read_checkpoint(file)["state_dict"] for file in STORED)
    for other in others:
        torch.testing.assert_close(other, first)
