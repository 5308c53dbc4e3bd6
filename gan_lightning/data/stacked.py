"""Stacked MNIST (Metz et al. 2017): three digits drawn at random as the colours of an image, so 1,000 known modes.

As Srivastava et al. 2017 (VEEGAN) and Lin et al. 2018 (PacGAN) use it: 128,000 training images.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gan_lightning.data.base import ImageData
from gan_lightning.data.digits import Digits
from gan_lightning.data.mnist import MNIST
from gan_lightning.data.sets import ImageSet, Indexed, InMemory
from gan_lightning.draws import generator
from gan_lightning.types import PositiveInt

HELD_OUT = 10_000


class Stacked(Indexed):
    """Triples of grey images as colours; made when they are taken, for memory of the grey ones alone.

    Args:
        grey: images (N, 1, H, W) and their digits.
        triples: which of them an image has as red, green and blue, int64 (M, 3).
    """

    def __init__(self, grey: InMemory, triples: Tensor) -> None:
        self.grey, self.triples = grey, triples
        hundreds, tens, ones = grey.labels[triples].unbind(1)
        self.labels = 100 * hundreds + 10 * tens + ones  # (M,)

    @property
    def nbytes(self) -> int:
        return self.grey.nbytes

    def to(self, device: torch.device) -> "Stacked":
        return Stacked(self.grey.to(device), self.triples.to(device))

    def take(self, index: Tensor) -> dict[str, Tensor]:
        colours = self.grey.images.index_select(0, self.triples.index_select(0, index).flatten())  # (3n, 1, H, W)
        return {"image": colours.view(-1, 3, *colours.shape[2:]), "label": self.labels.index_select(0, index)}


class Source(MNIST):
    """MNIST, whose messages name what the user chose."""

    option = "stacked_mnist"


class StackedMNIST(ImageData):
    """Colour images of three digits each; the label is 100 · red + 10 · green + blue.

    Drawn once, the same for every seed; the held-out ones from the held-out digits.

    Args:
        source: mnist, or the digits bundled with scikit-learn.
        images: training images.
        root, download: of MNIST's files.
    """

    extractor = "stacked_digits"
    score_images = 26_000  # samples of the papers' protocol

    def __init__(
        self,
        root: Path,
        download: bool = True,
        source: Literal["mnist", "digits"] = "mnist",
        images: PositiveInt = 128_000,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if self.channels != 3:
            raise ValueError(f"channels={self.channels}: digits are stacked as 3 colours")
        grey: dict[str, Any] = {
            "batch_size": self.batch_size,
            "image_size": self.image_size,
            "channels": 1,
            "seed": self.seed,
        }
        self.source: ImageData = Source(root, download, **grey) if source == "mnist" else Digits(**grey)
        self.images = images

    def check(self) -> None:
        self.source.check()

    def prepare_data(self) -> None:
        self.source.prepare_data()

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        train, held_out, _ = self.source.load()
        return (
            self.stacked(train, self.images, "train"),
            self.stacked(held_out, HELD_OUT, "held out"),
            [f"{number:03d}" for number in range(1000)],
        )

    def stacked(self, digits: ImageSet, images: int, part: str) -> Stacked:
        assert isinstance(digits, InMemory)  # as both sources give them
        return Stacked(digits, torch.randint(len(digits), (images, 3), generator=generator(0, "stacked digits", part)))
