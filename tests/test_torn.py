"""Checkpoints that are not whole are never taken for whole ones, and the one before is there."""

import errno
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning import checkpoint
from gan_lightning.checkpoint import AtomicCheckpointIO, find_checkpoint, read_checkpoint
from gan_lightning.commands.train import run
from gan_lightning.divergence import advice
from gan_lightning.errors import UserError
from tests.test_formats import STORED
from tests.test_resume import COMMON, SMALL, last

SHORT = [*COMMON, *SMALL["gan"], "scores.names=[]", "samples.every_images=100000"]


def save(path: Path, number: int) -> Path:
    content = {
        "config": {"seed": number, "model": {}},
        "counters": {"minibatches": 1, "images": 8},
        "state_dict": {"a": torch.arange(300.0) + number},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    AtomicCheckpointIO().save_checkpoint(content, path)
    return path


def torn(whole: bytes, stream: random.Random) -> bytes:
    """One bit is another, or the end is missing."""
    place = stream.randrange(len(whole))
    if stream.random() < 0.4:
        return whole[:place]
    return whole[:place] + bytes([whole[place] ^ (1 << stream.randrange(8))]) + whole[place + 1 :]


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, torch.Tensor):
        return isinstance(found, torch.Tensor) and found.dtype == wanted.dtype and torch.equal(found, wanted)
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return found == wanted


def passes(path: Path, wanted: Any) -> bool:
    """Whether it is read, and then as what was written; else it is refused by name."""
    try:
        found = read_checkpoint(path)
    except UserError as error:
        if path.name not in str(error):
            raise
        return False
    assert same(found, wanted), f"{path} was read as something else"
    return True


@pytest.mark.parametrize("stored", STORED, ids=lambda file: file.stem)
def test_no_flipped_bit_and_no_truncation_passes(stored: Path, tmp_path: Path) -> None:
    """Either it is refused by name, or what is read is what was written, bit for bit."""
    whole, wanted, stream = stored.read_bytes(), read_checkpoint(stored), random.Random(stored.name)
    refused = 0
    for number in range(200):
        path = tmp_path / f"{number}.ckpt"
        path.write_bytes(torn(whole, stream))
        refused += not passes(path, wanted)
        path.unlink()
    assert refused == 200 or stored is STORED[0]  # the parts' checksums pass over what harms nothing


def test_every_byte_of_the_checksum_counts(tmp_path: Path) -> None:
    whole = save(tmp_path / "last.ckpt", 0).read_bytes()
    wanted = read_checkpoint(tmp_path / "last.ckpt")
    for place in range(len(whole) - 120, len(whole)):
        for changed in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            (tmp_path / "other.ckpt").write_bytes(changed)
            assert not passes(tmp_path / "other.ckpt", wanted), place


def test_the_one_before_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    save(path, 1)
    save(path, 2)
    assert read_checkpoint(path.with_name("previous.ckpt"))["config"]["seed"] == 1
    path.write_bytes(path.read_bytes()[:-1000])
    assert find_checkpoint(tmp_path).name == find_checkpoint(tmp_path).name == "previous.ckpt"
    assert capsys.readouterr().err.count(f"{path}: it is damaged") == 1
    with pytest.raises(UserError, match=r"last\.ckpt: cannot be read: it is damaged"):
        read_checkpoint(path)
    path.with_name("previous.ckpt").write_bytes(b"")
    shutil.copyfile(save(tmp_path / "other.ckpt", 3), path.with_name("e0001-s00000010.ckpt"))
    assert find_checkpoint(tmp_path).name == "e0001-s00000010.ckpt"
    assert str(path.with_name("e0001-s00000010.ckpt")) in advice(tmp_path)
    path.unlink()
    assert find_checkpoint(tmp_path).name == "e0001-s00000010.ckpt"
    path.write_bytes(b"")
    path.with_name("e0001-s00000010.ckpt").unlink()
    assert f"training has diverged; {path} is from before, but cannot be read" in advice(tmp_path)


def test_a_disk_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = tmp_path / "checkpoints" / "last.ckpt"
    save(last, 1)
    save(last, 2)
    look_through = checkpoint.look_through

    def fails(file: Any, size: int) -> str | None:
        if Path(file.name) == last:
            raise OSError(errno.EIO, "Input/output error")
        return look_through(file, size)

    monkeypatch.setattr(checkpoint, "look_through", fails)
    assert find_checkpoint(tmp_path).name == "previous.ckpt"


def test_what_is_read_is_what_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run replaces its checkpoint while another process reads it: at any moment one of them is read, and whole."""
    path, other = tmp_path / "last.ckpt", tmp_path / "other.ckpt"
    for name in ("look_through", "refuse_bombs", "check_contents"):
        save(path, 1)
        function = getattr(checkpoint, name)

        def replaced_before(*given: Any, function: Any = function) -> Any:
            AtomicCheckpointIO().save_checkpoint({"another": "length"}, other)
            other.replace(path)
            return function(*given)

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(checkpoint, name, replaced_before)
            assert read_checkpoint(path)["config"]["seed"] == 1, name


@pytest.mark.parametrize("gone", [False, True], ids=["damaged", "gone"])
def test_a_run_goes_on_from_the_one_before(gone: bool, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        assert run([f"hydra.run.dir={folder}", *SHORT, "budget.images=1280", "checkpoints.every_minutes=0.00001"]) == 0
    path = broken / "checkpoints" / "last.ckpt"
    damaged = path.read_bytes()[:-7]
    path.write_bytes(damaged)
    if gone:
        path.unlink()
    (broken / "notes.part").touch()  # somebody else's
    (broken / ".old.part").mkdir()
    (path.parent / ".last.ckpt.123.part").write_bytes(damaged)
    more = "budget.images=1536"
    assert run([f"checkpoint={whole}", more]) == run([f"checkpoint={broken}", more]) == 0
    torch.testing.assert_close(last(broken), last(whole), rtol=0, atol=0)
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == [*([] if gone else ["damaged.ckpt"]), "last.ckpt", "previous.ckpt"]  # no half of a file
    assert gone or (path.parent / "damaged.ckpt").read_bytes() == damaged
    assert (broken / "notes.part").exists()
