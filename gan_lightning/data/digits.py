"""scikit-learn's handwritten digits: 1797 grey images of 8×8, inside the package, no download.

Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI repository (its test part)."""

from typing import Any

import torch
from sklearn.datasets import load_digits

from gan_lightning.data.base import ImageData
from gan_lightning.data.pixels import resize
from gan_lightning.data.sets import ImageSet, InMemory
from gan_lightning.draws import generator


class Digits(ImageData):
    """The digits, resized. A fixed fifth of them is held out: the same for every seed."""

    extractor = "digits"

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        bunch: Any = load_digits()
        levels = torch.from_numpy(bunch.images).unsqueeze(1) * (255 / 16)  # (1797, 1, 8, 8), stored as 0..16
        images = resize(levels, self.image_size).repeat(1, self.channels, 1, 1)  # (1797, C, H, W)
        labels = torch.from_numpy(bunch.target).long()
        order = torch.randperm(len(images), generator=generator(0, "digits", "held out"))
        held_out, train = order.tensor_split([len(order) // 5])
        return (
            InMemory(images[train], labels[train]),
            InMemory(images[held_out], labels[held_out]),
            [str(digit) for digit in range(10)],
        )
