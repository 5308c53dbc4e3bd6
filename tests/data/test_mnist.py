"""MNIST and Fashion-MNIST, from idx files written here."""

import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from gan_lightning.data.mnist import FILES, MNIST, FashionMNIST
from gan_lightning.data.sets import InMemory
from gan_lightning.errors import UserError

KINDS = [(MNIST, "mnist"), (FashionMNIST, "fashion_mnist")]


def write(root: Path, kind: type[MNIST] = MNIST, train: int = 20, test: int = 6) -> Path:
    """The four uncompressed files, with random pixels: image i has the label i % 10."""
    folder = root / kind.__name__ / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        pixels = torch.randint(256, (count, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
        header = struct.pack(">IIII", 0x803, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.numpy().tobytes())
        labels = bytes(i % 10 for i in range(count))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels)
    return folder


def build(kind: type[MNIST], root: Path, **settings: Any) -> MNIST:
    return kind(**{"root": root, "batch_size": 4, "image_size": 28, "channels": 1, "seed": 0, **settings})


def fail(*arguments: Any, **settings: Any) -> None:
    print("one line for every mirror")
    raise RuntimeError("Error downloading:\nno route to host")


@pytest.mark.parametrize(("kind", "option"), KINDS)
def test_uncompressed_files_are_enough(
    kind: type[MNIST], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, kind)
    monkeypatch.setattr(torchvision.datasets.MNIST, "download", fail)
    data = build(kind, tmp_path)
    data.check()
    data.prepare_data()
    data.setup()
    assert isinstance(data.train, InMemory)
    assert isinstance(data.held_out, InMemory)
    assert data.train.images.numpy().tobytes() == (folder / FILES[0]).read_bytes()[16:]
    assert data.held_out.images.numpy().tobytes() == (folder / FILES[2]).read_bytes()[16:]
    assert data.train.labels.tolist() == [i % 10 for i in range(20)]
    assert data.train.labels.dtype == torch.int64
    assert len(data.class_names) == 10


def test_other_sizes_and_colour(tmp_path: Path) -> None:
    write(tmp_path)
    data = build(MNIST, tmp_path, image_size=32, channels=3)
    data.setup()
    batch = data.train.__getitems__([3, 1])
    assert batch["image"].shape == (2, 3, 32, 32)
    assert batch["image"].dtype == torch.uint8
    assert batch["label"].tolist() == [3, 1]


@pytest.mark.parametrize(("kind", "option"), KINDS)
def test_missing_files_without_download(kind: type[MNIST], option: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        build(kind, tmp_path, download=False).check()
    message = str(caught.value)
    assert message.startswith(f"data={option}: ")
    for part in (
        *FILES,
        str(tmp_path / kind.__name__ / "raw"),
        "data.download=false",
        "data.root",
        "data=digits works offline",
    ):
        assert part in message
    assert list(tmp_path.iterdir()) == []


def test_missing_files_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path)
    (folder / FILES[1]).unlink()
    monkeypatch.setattr(torchvision.datasets.MNIST, "download", fail)
    data = build(MNIST, tmp_path)
    data.check()  # a download may bring it
    timeout = socket.getdefaulttimeout()
    with pytest.raises(UserError) as caught:
        data.setup()
    assert str(caught.value).startswith(
        f"data=mnist: train-labels-idx1-ubyte missing in {folder} "
        "(the download failed: Error downloading: no route to host). "
    )
    assert "data=digits works offline" in str(caught.value)
    assert capsys.readouterr().out == ""
    assert socket.getdefaulttimeout() == timeout


def test_what_is_missing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "download", lambda self: write(Path(self.root)))
    data = build(MNIST, tmp_path)
    data.setup()
    assert (len(data.train), len(data.held_out)) == (20, 6)


@pytest.mark.parametrize("keep", [0, 3, 500])
@pytest.mark.parametrize("name", FILES)
def test_damaged_files(name: str, keep: int, tmp_path: Path) -> None:
    folder = write(tmp_path, train=50, test=50)
    os.truncate(folder / name, min(keep, (folder / name).stat().st_size - 1))
    with pytest.raises(UserError, match=rf"{name} .*is damaged .*delete it and download it again"):
        build(MNIST, tmp_path).setup()


def test_unequal_counts(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / FILES[1]).write_bytes((folder / FILES[3]).read_bytes())
    with pytest.raises(UserError, match="20 images, 6 labels"):
        build(MNIST, tmp_path).setup()


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build(MNIST, Path("~/sets")).root == tmp_path / "sets"


@pytest.mark.skipif("GAN_LIGHTNING_DATA" not in os.environ, reason="GAN_LIGHTNING_DATA names no folder of real data")
def test_real_mnist() -> None:
    data = build(MNIST, Path(os.environ["GAN_LIGHTNING_DATA"]), download=False)
    data.check()
    data.setup()
    assert (len(data.train), len(data.held_out)) == (60000, 10000)
    assert data.train.__getitems__([0, 1, 2])["label"].tolist() == [5, 0, 4]
