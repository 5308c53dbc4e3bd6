"""Checkpoint files: whole or not there, read without running what is in them, found by run."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning.checkpoint import AtomicCheckpointIO, find_checkpoint, read_checkpoint, run_folder
from gan_lightning.errors import UserError

GOOD = {"config": {"seed": 0}, "counters": {}, "state_dict": {"a": torch.ones(3)}}


class Bomb:
    """An object whose unpickling makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    AtomicCheckpointIO().save_checkpoint(content, path)
    return path


def test_a_save_that_fails_leaves_the_file_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "last.ckpt", GOOD)
    before = path.read_bytes()

    def half(content: Any, file: Any) -> None:
        file.write(before[:100])
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space"):
        write(path, GOOD)
    assert path.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("kind", ["truncated", "empty", "garbage", "foreign", "object"])
def test_unusable_files_are_named(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "my run.ckpt", GOOD)
    whole = path.read_bytes()
    if kind == "foreign":
        torch.save({"state_dict": {}}, path)
    elif kind == "object":
        torch.save({**GOOD, "bomb": Bomb(tmp_path / "ran")}, path)
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "garbage": b"\x80\x02trash" * 99}[kind])
    with pytest.raises(UserError, match=r"my run\.ckpt") as error:
        read_checkpoint(path)
    assert len(str(error.value)) < 400 + len(str(path))
    assert not (tmp_path / "ran").exists()


def test_it_is_found_by_run_file_and_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "outputs" / "day" / "a run"
    last = write(run / "checkpoints" / "last.ckpt", GOOD)
    (tmp_path / "outputs" / "latest").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in (run, last, Path("latest"), Path("~/outputs/day/a run"), Path("outputs/day/a run")):
        assert find_checkpoint(given).resolve() == last
    assert run_folder(last) == run
    (run / "config.yaml").touch()
    (run / "checkpoints").rename(tmp_path / "large disk")
    (run / "checkpoints").symlink_to(tmp_path / "large disk")
    assert run_folder(find_checkpoint(run)) == run
    (run / "checkpoints" / "last.ckpt").unlink()
    for given in (run, Path("outputs/nothing"), tmp_path / "no.ckpt"):
        with pytest.raises(UserError, match="checkpoint="):
            find_checkpoint(given)
