"""Decoded pixels are made once, kept whole, and are the same as without a cache."""

import errno
import logging
import os
import pickle
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_lightning.data import cache as caching
from gan_lightning.data.cache import Cache, Mapped
from gan_lightning.data.decoding import Decoder, Unreadable
from gan_lightning.data.image_folder import ImageFolder, OnDisk
from gan_lightning.data.sets import InMemory
from gan_lightning.errors import UserError
from tests.data.test_image_folder import SIZE, build, contents, many, noise, save
from tests.processes import Process

LOAD = """
import sys
from pathlib import Path
from gan_lightning.data.image_folder import ImageFolder
data = ImageFolder(Path(sys.argv[1]), held_out=0, batch_size=2, image_size=8, channels=3, seed=0)
data.setup()
print(len(data.train), int(data.train.__getitems__(range(len(data.train)))["image"].sum()))
"""


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder of a test alone; returns where images are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gan_lightning" / "images"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    many(tmp_path / "photos", 20)
    return tmp_path / "photos"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that a user sees."""
    lines: list[str] = []
    monkeypatch.setattr(logging.getLogger("gan_lightning.data.base"), "warning", lines.append)
    return lines


def loaded(root: Path, **settings: Any) -> ImageFolder:
    data = build(root, **{"cache": "auto", "held_out": 0.2, **settings})
    data.check()
    data.setup()
    return data


def parts(data: ImageFolder) -> list[list[tuple[bytes, int]]]:
    return [contents(data.train), contents(data.held_out)]


def kinds(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


def kept(folder: Path) -> Path:
    (path,) = folder.glob("*.uint8")
    return path


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Decoder, "decode", fail)


# --- the same images


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_without_a_cache(workers: int, photos: Path) -> None:
    settings = {"flip": True, "workers": workers, "batch_size": 3}
    off, made, again = (loaded(photos, cache=cache, **settings) for cache in ("off", "auto", "auto"))
    assert [type(data.train) for data in (off, made, again)] == [InMemory, Mapped, Mapped]
    for data in (made, again):
        assert parts(data) == parts(off)
        assert data.class_names == off.class_names
        for rank in (0, 1):
            place: dict[str, Any] = {"epoch": 1, "start": 1, "per_batch": 2, "rank": rank, "world": 2}
            for one, other in zip(off.minibatches(**place), data.minibatches(**place), strict=True):
                assert one.keys() == other.keys()
                for key, value in one.items():
                    assert torch.equal(value, other[key])


def test_later_runs_decode_and_say_nothing(
    photos: Path, images: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    first = parts(loaded(photos))
    (message,) = said
    assert message == f"data.cache: 20 images (0.0 MB) kept in {kept(images)}"
    said.clear()
    no_decoding(monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in images.iterdir()}
    assert parts(loaded(photos)) == first
    assert said == []
    assert {path: path.stat().st_mtime_ns for path in images.iterdir()} == before
    assert kinds(images) == [".json", ".lock", ".uint8"]


@pytest.mark.parametrize("settings", [{"held_out": 0.5}, {"labels": False}, {"seed": 9}, {"flip": True}])
def test_one_file_serves_every_split(
    settings: dict[str, Any], photos: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = parts(loaded(photos, cache="off", **settings))
    loaded(photos)
    no_decoding(monkeypatch)
    assert parts(loaded(photos, **settings)) == wanted
    assert kept(images)


def test_sets_larger_than_memory_are_mapped(photos: Path) -> None:
    data = loaded(photos, memory_gb=1e-9)
    assert isinstance(data.train, Mapped)
    assert isinstance(loaded(photos, memory_gb=1e-9, cache="off").train, OnDisk)


def test_the_images_are_a_view_of_the_file(photos: Path, images: Path) -> None:
    data = loaded(photos)
    with open(kept(images), "r+b") as file:
        file.write(b"\7" * 3 * SIZE**2)
    assert (data.train.__getitems__([0])["image"] == 7).all()
    batch = data.train.__getitems__([0])["image"]
    batch.zero_()  # a copy
    assert (data.train.__getitems__([0])["image"] == 7).all()


def test_mapping_warns_of_nothing(photos: Path) -> None:
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded(photos)
    finally:
        torch.set_warn_always(False)


def test_other_processes_are_sent_the_path(tmp_path: Path) -> None:
    """Loaders start their workers by pickling where they do not fork."""
    for number in range(4):
        save(tmp_path / "photos" / f"{number}.png", number, (64, 64))
    data = loaded(tmp_path / "photos", image_size=64)
    sent = pickle.dumps(data.train)
    assert len(sent) < 3 * 64 * 64
    assert contents(pickle.loads(sent)) == contents(data.train)


# --- when it is made anew


def add(photos: Path) -> None:
    save(photos / "a" / "new.png", 77)


def remove(photos: Path) -> None:
    (photos / "a" / "0.png").unlink()


def change(photos: Path) -> None:
    save(photos / "a" / "0.png", 78)


def rename(photos: Path) -> None:
    (photos / "a" / "0.png").rename(photos / "b" / "new name.png")


def touch(photos: Path) -> None:
    os.utime(photos / "a" / "0.png", ns=(0, 1))


@pytest.mark.parametrize("what", [add, remove, change, rename, touch])
def test_other_files_are_another_set(what: Any, photos: Path, images: Path) -> None:
    loaded(photos)
    what(photos)
    assert parts(loaded(photos)) == parts(loaded(photos, cache="off"))
    assert len(list(images.glob("*.uint8"))) == 2


@pytest.mark.parametrize("settings", [{"image_size": 7}, {"channels": 1}, {"fit": "pad"}, {"resample": "box"}])
def test_other_pixels_are_another_set(settings: dict[str, Any], photos: Path, images: Path) -> None:
    loaded(photos)
    assert parts(loaded(photos, **settings)) == parts(loaded(photos, cache="off", **settings))
    assert len(list(images.glob("*.uint8"))) == 2


@pytest.mark.parametrize("what", ["caching.VERSION", "caching.PIL.__version__"])
def test_other_programs_are_another_set(what: str, photos: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(photos)
    monkeypatch.setattr(f"gan_lightning.data.{what}".replace("caching", "cache"), "other")
    loaded(photos)
    assert len(list(images.glob("*.uint8"))) == 2


def test_a_folder_may_move(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = parts(loaded(photos))
    no_decoding(monkeypatch)
    assert parts(loaded(photos.rename(photos.with_name("moved")))) == wanted


def test_folders_that_look_the_same_are_not(tmp_path: Path) -> None:
    """The same names, sizes and times, as archives may give them."""
    for number, name in enumerate(("one", "two")):
        path = tmp_path / name / "a.bmp"
        path.parent.mkdir()
        noise(number).save(path)
        os.utime(path, ns=(0, 0))
    one, two = (parts(loaded(tmp_path / name)) for name in ("one", "two"))
    assert one != two


def shorten(folder: Path) -> None:
    os.truncate(kept(folder), kept(folder).stat().st_size - 1)


def lengthen(folder: Path) -> None:
    os.truncate(kept(folder), kept(folder).stat().st_size + 1)


def lose(folder: Path) -> None:
    kept(folder).unlink()


def unnoted(folder: Path) -> None:
    kept(folder).with_suffix(".json").unlink()


def cut_note(folder: Path) -> None:
    os.truncate(kept(folder).with_suffix(".json"), 5)


def other_note(folder: Path) -> None:
    kept(folder).with_suffix(".json").write_text("[1]")


@pytest.mark.parametrize("damage", [shorten, lengthen, lose, unnoted, cut_note, other_note])
def test_what_is_damaged_is_made_anew(damage: Any, photos: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = parts(loaded(photos))
    damage(images)
    assert parts(loaded(photos)) == wanted
    no_decoding(monkeypatch)
    assert parts(loaded(photos)) == wanted


# --- interrupted, at the same time, in pieces


def test_an_interrupted_build_leaves_nothing(photos: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Decoder.decode

    def interrupted(self: Decoder, path: Path) -> Any:
        if path.name == "7.png":
            raise KeyboardInterrupt
        return decode(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(caching, "MOST", 1)
        patch.setattr(Decoder, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loaded(photos)
    assert kinds(images) == [".lock"]
    assert parts(loaded(photos)) == parts(loaded(photos, cache="off"))


def test_what_killed_runs_leave_is_removed(photos: Path, images: Path) -> None:
    loaded(photos)
    own, others, alive = (
        kept(images).with_suffix(".1.part"),
        images / f"{'0' * 24}.2.part",
        images / f"{'0' * 24}.3.part",
    )
    for part in (own, others, alive):
        part.write_bytes(b"half")
    os.utime(others, (0, time.time() - 2 * caching.DAY))
    unnoted(images)  # killed before the note
    assert parts(loaded(photos)) == parts(loaded(photos, cache="off"))
    assert sorted(images.glob("*.part")) == [alive]


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_processes_that_start_together_decode_once(photos: Path, images: Path) -> None:
    wanted = loaded(photos, cache="off", held_out=0).train
    images.mkdir(parents=True)
    (key,) = (path.stem for path in kept_names(photos, images))
    processes = []
    with caching.lock(images / f"{key}.lock") as held:
        assert held
        for _ in range(2):
            processes.append(Process(["-c", LOAD, str(photos)]))
        deadline = time.monotonic() + 60
        while not all(process.errors.endswith("\n") for process in processes) and time.monotonic() < deadline:
            time.sleep(0.05)
        waiting = [process.errors for process in processes]
    codes = [process.wait(60) for process in processes]
    assert all("another process makes" in line for line in waiting), (waiting, codes)
    total = int(wanted.__getitems__(range(20))["image"].sum())
    assert [process.output for process in processes] == [f"20 {total}\n"] * 2
    assert sorted("20 images" in process.errors for process in processes) == [False, True]
    assert kinds(images) == [".json", ".lock", ".uint8"]


def kept_names(photos: Path, images: Path) -> list[Path]:
    """The names that the pixels of these photos will have."""
    data = loaded(photos, cache=images.with_name("elsewhere"))
    assert isinstance(data.train, Mapped)
    return [data.train.source[0]]


def test_without_locks(photos: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", refuse)
    data = loaded(photos)
    part = kept(images).with_suffix(".1.part")
    part.write_bytes(b"half")  # perhaps of a process that is alive
    unnoted(images)
    assert parts(loaded(photos)) == parts(data)
    assert part.exists()


def test_pieces_and_progress(photos: Path, images: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(caching, "MOST", 8)
    monkeypatch.setattr(caching, "PATIENCE", -1.0)
    pieces: list[int] = []
    decode_all = Decoder.decode_all

    def counted(self: Decoder, paths: list[Path], *rest: Any, **more: Any) -> Any:
        pieces.append(len(paths))
        return decode_all(self, paths, *rest, **more)

    monkeypatch.setattr(Decoder, "decode_all", counted)
    data = loaded(photos)
    assert pieces == [8, 8, 4]
    assert said[:3] == [f"data.cache: {count} of 20 images read" for count in (8, 16, 20)]
    assert parts(data) == parts(loaded(photos, cache="off"))


# --- files that cannot be read


def test_unreadable_files_are_left_out_from_the_cache(
    photos: Path, images: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "a" / "none.png").touch()
    (photos / "b" / "text.jpg").write_text("no image")
    (photos / "c" / "gone.png").symlink_to("nowhere")
    monkeypatch.setattr(caching, "MOST", 4)
    wanted = parts(loaded(photos, cache="off", skip_unreadable=True))
    assert parts(loaded(photos, skip_unreadable=True)) == wanted
    assert parts(loaded(photos, skip_unreadable=True)) == wanted
    messages = [message for message in said if message.startswith("data.skip_unreadable=true: 3 file(s) left out, 20")]
    assert len(messages) == 3
    assert len(set(messages)) == 1
    assert kept(images).stat().st_size == 20 * 3 * SIZE**2


def test_unreadable_files_stop_every_run(photos: Path) -> None:
    (photos / "a" / "none.png").touch()
    (photos / "b" / "text.jpg").write_text("no image")
    messages = []
    for cache in ("off", "auto", "auto"):
        with pytest.raises(UserError, match=r"2 file\(s\) cannot be read") as caught:
            loaded(photos, cache=cache)
        messages.append(str(caught.value))
    assert len(set(messages)) == 1
    (photos / "a" / "none.png").unlink()
    (photos / "b" / "text.jpg").unlink()
    assert len(loaded(photos, held_out=0).train) == 20


def test_nothing_readable(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "a.png").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(UserError, match=r"none of its 1 images can be read:\n  .*a\.png: empty file"):
            loaded(tmp_path / "photos", skip_unreadable=True)


def test_files_that_can_be_read_again_are_used(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A right that was missing, a disk that failed: what changes without the file."""
    decode = Decoder.decode

    def forbidden(self: Decoder, path: Path) -> Any:
        if path.name == "4.png":
            raise Unreadable("Permission denied")
        return decode(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "decode", forbidden)
        assert len(loaded(photos, skip_unreadable=True, held_out=0).train) == 19
        with pytest.raises(UserError, match=r"4\.png: Permission denied"):
            loaded(photos)
    assert parts(loaded(photos)) == parts(loaded(photos, cache="off"))


# --- where


def test_a_folder_of_ones_own(photos: Path, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    data = loaded(photos, cache=Path("~/my cache/deep"))
    assert isinstance(data.train, Mapped)
    assert kinds(tmp_path / "my cache" / "deep") == [".json", ".lock", ".uint8"]
    assert not images.exists()


@pytest.mark.parametrize("off", ["off", False, "false"])  # as constructors, YAML and the command line give it
def test_off_writes_nothing(off: Any, photos: Path, images: Path, said: list[str]) -> None:
    assert type(loaded(photos, cache=off).train) is InMemory
    assert not images.exists()
    assert said == []


def test_a_cache_folder_that_cannot_be(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^data\.cache=.*file: not a folder$"):
        build(photos, cache=tmp_path / "file").check()
    with pytest.raises(UserError, match=r"^data\.cache=.*file/below: .*file is not a folder$"):
        build(photos, cache=tmp_path / "file" / "below").check()
    with monkeypatch.context() as patch:  # root may write anywhere
        patch.setattr(os, "access", lambda path, mode: path != tmp_path)
        with pytest.raises(UserError, match=r"^data\.cache=.*/new: nothing can be written to "):
            build(photos, cache=tmp_path / "new").check()
    build(photos, cache=tmp_path / "new").check()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("memory", "kind"), [(4.0, InMemory), (1e-9, OnDisk)])
@pytest.mark.parametrize("trouble", ["rights", "space", "full", "home"])
def test_runs_go_on_without_a_cache(
    trouble: str,
    memory: float,
    kind: type,
    photos: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def homeless() -> None:
        raise RuntimeError("Could not determine home directory.")

    if trouble == "rights":
        images.parents[1].write_text("a file in its way")
    elif trouble == "space":
        monkeypatch.setattr(caching.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 4000}))
    elif trouble == "full":
        monkeypatch.setattr(Cache, "write", full)
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", homeless)
    data = loaded(photos, memory_gb=memory)
    assert type(data.train) is kind
    (message,) = said
    assert message.startswith("data.cache=auto: images are not kept: ")
    reason = {
        "rights": "Not a directory",
        "space": "0.0 MB needed, 0.0 MB free",
        "full": "No space left on device",
        "home": "Could not determine home directory.",
    }
    assert message.endswith(reason[trouble])
    assert not list(images.parent.rglob("*.part"))
    np.testing.assert_equal(parts(data), parts(loaded(photos, cache="off")))
