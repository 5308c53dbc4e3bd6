"""A prepared folder trains as the folder itself, ends the same however often it was interrupted, and hides no file."""

import io
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.__main__ import main
from gan_lightning.commands.train import run as train
from gan_lightning.config.composition import count_class_folders
from gan_lightning.data import preparing
from gan_lightning.data.decoding import Decoder
from gan_lightning.data.listing import INDEX
from gan_lightning.data.prepared import Sharded
from gan_lightning.data.preparing import Preparation, prepare, verify
from gan_lightning.errors import UserError
from tests.data.test_image_folder import SIZE, build, contents, noise, png, save

KILLED = """
import sys, time
from pathlib import Path
from gan_lightning.data import preparing
from gan_lightning.data.decoding import Decoder
decode = Decoder.decode
preparing.FLUSH, preparing.TASK = 0.0, 4
Decoder.decode = lambda self, file: time.sleep(0.02) or decode(self, file)
preparation = preparing.Preparation(Path(sys.argv[1]), 8, 3, workers=1)
preparing.prepare(preparation, Path(sys.argv[2]), 256, lambda *_: None, print)
"""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "TASK", 4)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images in three classes, of every kind that Pillow makes something else of."""
    root = tmp_path / "photos"
    for number in range(6):
        save(root / "abc"[number % 3] / f"{number}.png", number, (11, 9 + number))
    noise(6, (20, 10)).convert("CMYK").save(root / "a" / "cmyk.jpg")
    noise(7).quantize(8).save(root / "b" / "palette.png", transparency=0)
    png(root / "c" / "16.png", np.random.default_rng(8).integers(0, 2**16, (9, 9, 3)), colour=2)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned
    noise(9, (16, 8)).save(root / "a" / "turned.jpg", exif=exif)
    Image.fromarray(np.arange(0, 64000, 1000, dtype=np.uint16).reshape(8, 8)).save(root / "b" / "grey16.png")
    noise(11).convert("LA").save(root / "c" / "alpha.png")
    return root


def prepared(root: Path, output: Path, *, shard_mb: int = 256, said: Any = print, **settings: Any) -> Path:
    preparation = Preparation(root, **{"image_size": SIZE, "channels": 3, "workers": 1, **settings})
    prepare(preparation, output, shard_mb, lambda *_: None, said)
    return output


def arguments(root: Path, output: Path) -> list[str]:
    """The same on the command line."""
    return [f"data.root={root}", f"output={output}", f"data.image_size={SIZE}", "data.workers=1"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def loaded(root: Path, **settings: Any) -> Any:
    data = build(root, **{"held_out": 0.2, **settings})
    data.check()
    data.setup()
    return data


def parts(root: Path, **settings: Any) -> tuple[Any, ...]:
    data = loaded(root, **settings)
    return contents(data.reference), contents(data.train), contents(data.held_out), data.class_names


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


# --- the same images


SETTINGS: list[dict[str, Any]] = [
    {},
    {"held_out": 0.0},
    {"held_out": 0.6, "labels": False},
    {"subset": 0.5},
    {"per_class": 1, "held_out": 0.1},
    {"workers": 2, "flip": True},
]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_file_and_every_split_is_the_folders_own(channels: int, photos: Path, tmp_path: Path) -> None:
    output = prepared(photos, tmp_path / "out", shard_mb=1, channels=channels)
    assert len(np.load(output / "shard_00000.npy", mmap_mode="r")) == 12
    for settings in SETTINGS:
        assert parts(output, channels=channels, **settings) == parts(photos, channels=channels, **settings)
    assert count_class_folders(output, True) == 3


@pytest.mark.parametrize("settings", [{"fit": "pad"}, {"resample": "box"}, {"fit": "pad", "resample": "bilinear"}])
def test_fit_and_filter(settings: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    assert parts(prepared(photos, tmp_path / "out", **settings), **settings) == parts(photos, **settings)


def test_minibatches_of_several_shards_and_loaders(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "MB", 3 * SIZE**2 * 5)  # five images a shard
    output = prepared(photos, tmp_path / "out", shard_mb=1)
    assert sorted(path.name for path in output.glob("*.npy") if "shard" in path.name) == [
        f"shard_{number:05}.npy" for number in range(3)
    ]
    for settings in SETTINGS:
        one, other = loaded(photos, **settings), loaded(output, **settings)
        place: dict[str, Any] = {"epoch": 1, "start": 0, "per_batch": 2}
        for theirs, ours in zip(one.minibatches(**place), other.minibatches(**place), strict=True):
            assert theirs.keys() == ours.keys()
            assert all(torch.equal(theirs[key], ours[key]) for key in theirs)
    sent = pickle.dumps(other.reference.whole)
    assert isinstance(other.reference.whole, Sharded)
    assert len(sent) < 3 * SIZE**2 * 12
    assert contents(pickle.loads(sent)) == contents(other.reference.whole)
    moved = other.reference.to(torch.device("cpu"))
    assert contents(moved) == contents(other.reference)


def test_a_run_is_that_of_the_folder_bit_for_bit(photos: Path, tmp_path: Path) -> None:
    output = prepared(photos, tmp_path / "out", image_size=16)
    weights = []
    for root in (photos, output):
        given = ["model=cgan", "data=image_folder", f"data.root={root}", "data.image_size=16", "data.cache=off"]
        small = ["model.generator.hidden=[8]", "model.discriminator.hidden=[8]", "scores=off", "data.flip=true"]
        less = [
            "trainer=debug",
            "trainer.accelerator=cpu",
            "data.batch_size=3",
            f"hydra.run.dir={tmp_path / root.name}",
        ]
        assert train([*given, *small, *less]) == 0
        weights.append(torch.load(tmp_path / root.name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 7}, r"^data\.image_size=7: .* with data\.image_size=8$"),
        ({"channels": 1}, r"^data\.channels=1: .* with data\.channels=3$"),
        ({"fit": "pad"}, r"^data\.fit=pad: .* with data\.fit=crop$"),
        ({"resample": "box"}, r"^data\.resample=box: .* with data\.resample=lanczos$"),
    ],
)
def test_training_with_other_settings(settings: Any, message: str, photos: Path, tmp_path: Path) -> None:
    output = prepared(photos, tmp_path / "out")
    with pytest.raises(UserError, match=message):
        build(output, **settings).check()


def test_labels_that_were_not_prepared(photos: Path, tmp_path: Path) -> None:
    output = prepared(photos, tmp_path / "out", labels=False)
    with pytest.raises(UserError, match=r"^data\.labels=true: .* with data\.labels=false$"):
        build(output).check()
    assert parts(output, labels=False) == parts(photos, labels=False)


# --- workers, interruptions, other arguments


def test_workers_and_interruptions_change_no_byte(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = files(prepared(photos, tmp_path / "one"))
    assert files(prepared(photos, tmp_path / "two", workers=2)) == wanted
    decode, decoded = Decoder.decode, []

    def interrupted(self: Decoder, file: Any) -> Any:
        if len(decoded) == 9:
            raise KeyboardInterrupt
        decoded.append(file)
        return decode(self, file)

    output = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "decode", interrupted)
        assert main(["prepare", *arguments(photos, output)]) == 130
        assert f"interrupted; the same command goes on in {output}" in capsys.readouterr().err
        with pytest.raises(UserError, match="not prepared to the end; the same `prepare` command goes on"):
            build(output).check()
        decoded.clear()
        prepared(photos, output)
    assert "8 of 12 images are there already" in capsys.readouterr().out
    assert len(decoded) == 4
    assert files(output) == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_process_is_gone_on_with(tmp_path: Path) -> None:
    for number in range(60):
        save(tmp_path / "photos" / f"{number:02}.png", number)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "photos"), str(tmp_path / "out")])
    journal = tmp_path / "out" / ".unfinished" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / INDEX).exists()
    with open(journal, "ab") as file:
        file.write(b'[{"7": "12')  # as a power cut leaves it
    assert files(prepared(tmp_path / "photos", tmp_path / "out")) == files(
        prepared(tmp_path / "photos", tmp_path / "whole")
    )


@pytest.mark.parametrize("what", [os.remove, lambda path: os.truncate(path, 200)])
def test_pixels_that_are_lost_on_the_way_are_made_again(
    what: Callable[[Path], object], photos: Path, tmp_path: Path
) -> None:
    (photos / "a" / "none.png").touch()
    with pytest.raises(UserError):
        prepared(photos, tmp_path / "out")
    what(tmp_path / "out" / "shard_00000.npy")
    prepared(photos, tmp_path / "out", skip_unreadable=True)
    assert files(tmp_path / "out") == files(prepared(photos, tmp_path / "whole", skip_unreadable=True))


def test_a_finished_folder_is_left_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = prepared(photos, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    (output / ".unfinished").mkdir()  # killed after the very last file
    monkeypatch.setattr(Decoder, "decode", None)
    assert main(["prepare", *arguments(photos, output)]) == 0
    assert "finished, 12 images; nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before


OTHER: list[dict[str, Any]] = [{"image_size": 9}, {"fit": "pad"}, {"labels": False}, {"root": Path("/")}]


@pytest.mark.parametrize("begun", [False, True])
def test_other_arguments(begun: bool, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    if begun:
        (photos / "a" / "none.png").touch()
        with pytest.raises(UserError):
            prepared(photos, output)
    else:
        prepared(photos, output)
    for settings in OTHER:
        ((key, value),) = settings.items()
        how = f"was {'begun' if begun else 'made'} with data.{key}="
        with pytest.raises(UserError, match=rf"^data\.{key}={str(value).lower()}: .* {how}.*; choose another folder$"):
            prepared(**{"root": photos, "output": output, **settings})
    with pytest.raises(UserError, match=r"^shard_mb=9: .* with shard_mb=256; choose"):
        prepared(photos, output, shard_mb=9)


def test_folders_that_hold_other_things(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"output=.*file: not a folder"):
        prepared(photos, tmp_path / "file")
    with pytest.raises(UserError, match=r"output=.*photos: holds other files, such as a; choose another folder"):
        prepared(photos, photos)
    assert not (photos / ".lock").exists()


def test_another_pillow(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "a" / "none.png").touch()
    with pytest.raises(UserError):
        prepared(photos, tmp_path / "out")
    monkeypatch.setattr(preparing.PIL, "__version__", "0.1")
    with pytest.raises(UserError, match=r"was begun with pillow [\d.]+, this is 0\.1"):
        prepared(photos, tmp_path / "out")


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_second_process_waits(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, begun, said = threading.Event(), threading.Event(), []
    decode = Decoder.decode

    def slow(self: Decoder, file: Any) -> Any:
        begun.set()
        assert held.wait(20)
        return decode(self, file)

    monkeypatch.setattr(Decoder, "decode", slow)
    preparation = Preparation(photos, SIZE, 3, workers=1)
    made: dict[str, bool] = {}

    def make(name: str, said: Callable[[str], object]) -> None:
        made[name] = prepare(preparation, tmp_path / "out", 256, lambda *_: None, said)

    first = threading.Thread(target=make, args=("first", said.append))
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=make, args=("second", lambda text: (said.append(text), held.set())))
    second.start()
    first.join(30)
    second.join(30)
    assert made == {"first": True, "second": False}
    assert said == [f"output={tmp_path / 'out'}: another process is at work here; waiting for it"]


# --- files that cannot be read


def damage(root: Path) -> dict[str, str]:
    """Files that cannot be read, and why."""
    whole = (save(root / "a" / "1.jpg", 1, (64, 64))).read_bytes()
    (root / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "b" / "text.png").write_text("no image")
    Image.new("1", (10_000, 9_000)).save(root / "c" / "bomb.png")
    (root / "c" / "none.png").touch()
    return {"a/cut.jpg": "truncated", "b/text.png": "not a JPEG", "c/bomb.png": "bomb", "c/none.png": "empty file"}


def test_files_that_cannot_be_read_are_told_together(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons, output = damage(photos), tmp_path / "out"
    given = ["prepare", *arguments(photos, output), "data.workers=2"]
    assert main(given) == 2
    message = capsys.readouterr().err
    assert "4 file(s) cannot be read (data.skip_unreadable=true leaves them out)" in message
    assert "the other 13 images are done" in message
    listed = (output / "unreadable.txt").read_text().splitlines()
    for line, (name, reason) in zip(listed, reasons.items(), strict=True):
        assert line.startswith(f"'{name}': ")
        assert reason in line
        assert name in message
        assert reason in message

    decoded: list[Path] = []
    decode = Decoder.decode
    monkeypatch.setattr(Decoder, "decode", lambda self, file: decoded.append(file) or decode(self, file))
    for number, name in enumerate(reasons):
        if name == "c/none.png":
            (photos / name).unlink()  # deleting is mending, too
        else:
            save(photos / name, 50 + number)
    prepared(photos, output)
    assert sorted(path.relative_to(photos).as_posix() for path in decoded) == sorted(reasons)[:3]
    assert parts(output) == parts(photos)
    assert not (output / "unreadable.txt").exists()
    assert json.loads((output / INDEX).read_bytes())["left_out"] == {"c/none.png": "no longer there"}


def test_files_that_cannot_be_read_are_left_out(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons, output, said = damage(photos), tmp_path / "out", []
    with pytest.raises(UserError):
        prepared(photos, output)
    prepared(photos, output, skip_unreadable=True)  # the same folder goes on
    assert files(output) == files(prepared(photos, tmp_path / "whole", skip_unreadable=True))
    monkeypatch.setattr(logging.getLogger("gan_lightning.data.base"), "warning", said.append)
    assert json.loads((output / INDEX).read_bytes())["left_out"].keys() == reasons.keys()
    made = parts(output)
    assert said == [f"data.root={output}: 4 file(s) were left out when it was made; prepared.json names them"]
    assert made == parts(photos, skip_unreadable=True)


def test_the_first_twenty_names_are_shown(tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{number:02}.png").touch()
    save(tmp_path / "photos" / "good.png")
    with pytest.raises(UserError) as caught:
        prepared(tmp_path / "photos", tmp_path / "out")
    assert str(caught.value).count("empty file") == 20
    assert "\n  and 5 more\n" in str(caught.value)
    (tmp_path / "photos" / "good.png").unlink()
    with pytest.raises(UserError, match="none of its 25 images can be read"):
        prepared(tmp_path / "photos", tmp_path / "other", skip_unreadable=True)


def test_changed_and_added_files(photos: Path, tmp_path: Path) -> None:
    (photos / "a" / "none.png").touch()
    with pytest.raises(UserError):
        prepared(photos, tmp_path / "out")
    save(photos / "a" / "0.png", 77, (30, 20))
    save(photos / "a" / "none.png", 78)
    assert parts(prepared(photos, tmp_path / "out")) == parts(photos)
    (photos / "a" / "none.png").write_bytes(b"")
    with pytest.raises(UserError):
        prepared(photos, tmp_path / "other")
    save(photos / "a" / "new.png", 79)
    with pytest.raises(UserError, match=r"a/new\.png was added \(1 file\(s\) in all\) since .* was begun"):
        prepared(photos, tmp_path / "other")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["shard_00000.npy", "labels.npy", "numbers.npy", "images.jsonl"])
@pytest.mark.parametrize("what", [flip_a_bit, os.remove, lambda path: os.truncate(path, path.stat().st_size - 1)])
def test_damage_is_found(name: str, what: Callable[[Path], object], photos: Path, tmp_path: Path) -> None:
    output = prepared(photos, tmp_path / "out")
    verify(output, lambda *_: None)
    what(output / name)
    with pytest.raises(UserError, match=rf"1 of 4 files are not what they were:\n  {name}: (damaged|missing)$"):
        verify(output, lambda *_: None)
    if name != "images.jsonl" and (what is not flip_a_bit or name != "shard_00000.npy"):  # pixels are not read whole
        with pytest.raises(UserError, match=r"damaged|missing|cannot be read"):
            loaded(output)


# --- zip files, and StyleGAN's labels


def test_a_zip_file_is_read_where_it_is(photos: Path, tmp_path: Path) -> None:
    archive = zipped(photos, tmp_path / "photos.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../evil.png", (photos / "a" / "0.png").read_bytes())
        file.writestr("__MACOSX/._0.png", b"no image")
    with pytest.raises(UserError, match=r"photos\.zip: not a folder; the prepare command reads zip files"):
        build(archive).check()
    output = prepared(archive, tmp_path / "out", workers=2)
    assert parts(output) == parts(photos)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos", "photos.zip"]
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("a/cut.png", (photos / "a" / "0.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"1 file\(s\) cannot be read .*\n  .*photos\.zip/a/cut\.png: "):
        prepared(archive, tmp_path / "other")


def test_a_zip_file_that_lies(tmp_path: Path) -> None:
    """What it says of sizes and checksums is not believed, and nothing is written before its labels are read."""
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(2):
            noise(number).save(buffer := io.BytesIO(), "png")
            file.writestr(f"{number}.png", buffer.getvalue())
        file.writestr("bomb.png", bytes(2**24))
        file.writestr("dataset.json", '{"labels": null}')
    whole = archive.read_bytes()
    archive.write_bytes(whole.replace((2**24).to_bytes(4, "little"), (6000).to_bytes(4, "little")))
    with pytest.raises(UserError, match=r"1 file\(s\) cannot be read .*\n  .*bomb\.png: "):
        prepared(archive, tmp_path / "out")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("0.png", buffer.getvalue())
        file.writestr("dataset.json", '{"labels": null}')
    archive.write_bytes(archive.read_bytes().replace(b'{"labels": null}', b'{"labels": nuls}'))  # another checksum
    with pytest.raises(UserError, match=r"dataset\.json: cannot be read: Bad CRC-32"):
        prepared(archive, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("where", ["prepared.json", ".unfinished/settings.json"])
def test_an_index_with_parts_missing(where: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / where).parent.mkdir(parents=True)
    (tmp_path / "out" / where).write_text('{"format": 1}')
    with pytest.raises(UserError, match=rf"{Path(where).name}: cannot be read: "):
        prepared(photos, tmp_path / "out")
    if where == "prepared.json":
        with pytest.raises(UserError, match=r"prepared\.json: cannot be read: "):
            loaded(tmp_path / "out")


def test_files_that_are_no_zip_file(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("no zip file")
    with pytest.raises(UserError, match=r"x\.zip: neither a folder nor a zip file"):
        prepared(tmp_path / "x.zip", tmp_path / "out")
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    with pytest.raises(UserError, match=r"empty\.zip: no images in it; .* found nothing"):
        prepared(tmp_path / "empty.zip", tmp_path / "out")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        prepared(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def stylegan(root: Path, labels: object) -> Path:
    """Four images as StyleGAN's tools name them."""
    for number in range(4):
        save(root / f"{number // 2:05}" / f"img{number:08}.png", number)
    (root / "dataset.json").write_text(json.dumps(labels))
    return root


PAIRS: list[Any] = [[f"{number // 2:05}/img{number:08}.png", label] for number, label in enumerate((2, 0, 2, 1))]


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("labels", [PAIRS, None])
def test_stylegans_labels(pack: bool, labels: Any, tmp_path: Path) -> None:
    root = stylegan(tmp_path / "images", {"labels": labels})
    output = prepared(zipped(root, tmp_path / "images.zip") if pack else root, tmp_path / "out")
    assert parts(output) == parts(root)
    data = loaded(output, held_out=0.0)
    assert data.class_names == (["0", "1", "2"] if labels else [])
    assert count_class_folders(output, True) == count_class_folders(root, True) == len(data.class_names)
    lines = [json.loads(line) for line in (output / "images.jsonl").read_text().splitlines()]
    assert [label for _, label in lines] == data.train.labels.tolist()
    assert sorted(lines) == (PAIRS if labels else [[name, 0] for name, _ in PAIRS])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], r"is not {\"labels\""),
        ({"label": []}, r"is not {\"labels\""),
        ({"labels": {}}, "labels must be a list or null"),
        ({"labels": PAIRS[:3]}, "has no label for 00001/img00000003.png"),
        ({"labels": [*PAIRS, ["x.png", 1]]}, "has labels for files that are not there: x.png"),
        ({"labels": [*PAIRS[:3], [PAIRS[3][0], -1]]}, "the class of 00001/img00000003.png is -1, not within 0..65535"),
        ({"labels": [*PAIRS[:3], [PAIRS[3][0], 10**9]]}, "is 1000000000, not within 0..65535"),
        ({"labels": [*PAIRS[:3], [PAIRS[3][0], "1"]]}, r'labels\[3\] is \["00001/img00000003.png", "1"\], not'),
        ({"labels": [*PAIRS[:3], [PAIRS[3][0], 1.0]]}, r"labels\[3\] is "),
        ({"labels": [*PAIRS[:3], [PAIRS[3][0], True]]}, r"labels\[3\] is "),
        ({"labels": [*PAIRS[:3], 7]}, r"labels\[3\] is 7, not \[name, class\]"),
        ({"labels": [*PAIRS, PAIRS[0]]}, "has two labels for 00000/img00000000.png"),
    ],
)
def test_labels_that_cannot_be(labels: Any, message: str, tmp_path: Path) -> None:
    root = stylegan(tmp_path / "images", labels)
    for fail in (lambda: prepared(root, tmp_path / "out"), lambda: loaded(root)):
        with pytest.raises(UserError, match=rf"dataset\.json: .*{message}.*data\.labels=false does without it"):
            fail()
    assert parts(prepared(root, tmp_path / "out2", labels=False), labels=False) == parts(root, labels=False)


# --- the command


@pytest.mark.parametrize(
    ("given", "fragments"),
    [
        ([], ["output: must be given"]),
        (["output=out"], ["data.root: must be given"]),
        (["output=out", "data.root=x", "data.flip=true"], ["data.flip=true: no such key"]),
        (["output=out", "data.root=x", "data.image_size=0"], ["data.image_size=0"]),
        (["output=out", "data.root=x", "data.resample=cubic"], ["data.resample=cubic", "bicubic"]),
        (["output=out", "data.root=x", "shard_mb=0"], ["shard_mb=0"]),
        (["output=out", "data.root=x", "seed=1"], ["seed=1"]),
        (["data=mnist", "output=out"], ["data=mnist: only data=image_folder can be prepared"]),
        (["output=out", "data.root=x", "verify=true"], ["output=out: not prepared to the end"]),
        (["data=image_folder", "output=out", "data.root=x"], ["data.root=x: no such folder"]),
    ],
    ids=" ".join,
)
def test_mistakes(
    given: list[str],
    fragments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *given]) == 2
    message = capsys.readouterr().err
    assert all(fragment in message for fragment in fragments), message
    assert not list(tmp_path.iterdir())


def test_no_space(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 900}))
    with pytest.raises(UserError, match=r"output=.*out: 0 MB needed, 0 MB free; the same command goes on from here"):
        prepared(photos, tmp_path / "out")


def test_what_to_type_next_and_the_checksums(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "my photos"
    given = ["prepare", "data=image_folder", *arguments(photos, output), "data.fit=pad", "data.labels=false"]
    assert main(given) == 0
    said = capsys.readouterr().out
    assert f"data.root='{output}' data.image_size=8 data.fit=pad data.labels=false\n" in said
    assert main([*given, "data.fit=crop", "verify=true"]) == 2
    assert "data.fit=crop: " in capsys.readouterr().err
    flip_a_bit(output / "shard_00000.npy")
    assert main([*given, "verify=true"]) == 2
    assert "1 of 4 files are not what they were:\n  shard_00000.npy: damaged" in capsys.readouterr().err


def test_workers_need_no_torch() -> None:
    program = "import sys, gan_lightning.data.preparing; print('torch' in sys.modules, 'hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
