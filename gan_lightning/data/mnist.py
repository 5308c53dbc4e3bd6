"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017), read and downloaded by torchvision.

60000 training and 10000 test images each, grey, 28×28.
"""

import contextlib
import io
import socket
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torchvision
from torch import Tensor

from gan_lightning.data.base import ImageData
from gan_lightning.data.pixels import resize
from gan_lightning.data.sets import ImageSet, InMemory
from gan_lightning.errors import UserError
from gan_lightning.paths import expand

FILES = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
TIMEOUT = 20  # seconds without an answer after which a download counts as failed


class MNIST(ImageData):
    """The training images for training; the test images are the held-out ones."""

    source: type[torchvision.datasets.MNIST] = torchvision.datasets.MNIST
    option = "mnist"
    extractor = "digits"
    names = tuple("0123456789")

    def __init__(self, root: Path, download: bool = True, **base: Any) -> None:
        super().__init__(**base)
        self.root = expand(root)
        self.download = download

    @property
    def folder(self) -> Path:
        return self.root / self.source.__name__ / "raw"

    def missing(self) -> list[str]:
        return [name for name in FILES if not (self.folder / name).is_file()]

    def not_there(self, reason: str) -> UserError:
        return UserError(
            f"data={self.option}: {', '.join(self.missing())} missing in {self.folder} ({reason}). "
            f"Put the four files {', '.join(FILES)} (uncompressed) there, or name the folder that holds "
            f"{self.source.__name__}/raw with data.root. data=digits works offline."
        )

    def check(self) -> None:
        if self.missing() and not self.download:
            raise self.not_there("data.download=false")

    def prepare_data(self) -> None:
        """Downloads what is missing; Lightning calls it on one rank only."""
        self.check()
        if not self.missing():
            return
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(TIMEOUT)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # one line for every mirror that fails: the error says it
                self.source(self.root, download=True)
        except (RuntimeError, OSError, HTTPException) as error:
            reason = " ".join(str(error).split())
            raise self.not_there(f"the download failed: {reason}") from error
        finally:
            socket.setdefaulttimeout(before)

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        self.prepare_data()
        return self.read(train=True), self.read(train=False), list(self.names)

    def read(self, train: bool) -> InMemory:
        try:
            digits = self.source(self.root, train=train)
        except (RuntimeError, ValueError, KeyError, IndexError, AssertionError, OSError) as error:
            part = FILES[:2] if train else FILES[2:]
            raise UserError(
                f"data={self.option}: {' or '.join(part)} in {self.folder} is damaged ({error}): "
                "delete it and download it again"
            ) from error
        images: Tensor = digits.data.unsqueeze(1)  # (N, 1, 28, 28)
        if len(images) != len(digits.targets):
            raise UserError(f"data={self.option}: {self.folder}: {len(images)} images, {len(digits.targets)} labels")
        return InMemory(resize(images, self.image_size).repeat(1, self.channels, 1, 1), digits.targets.long())


class FashionMNIST(MNIST):
    """The same files of clothes."""

    source = torchvision.datasets.FashionMNIST
    option = "fashion_mnist"
    extractor = "objects"
    names = tuple(torchvision.datasets.FashionMNIST.classes)
