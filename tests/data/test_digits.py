"""scikit-learn's digits."""

from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from gan_lightning.data.digits import Digits
from gan_lightning.data.sets import InMemory


def digits(**settings: Any) -> tuple[Digits, InMemory, InMemory]:
    data = Digits(**{"batch_size": 64, "image_size": 28, "channels": 1, "seed": 0, **settings})
    data.check()
    data.setup()
    assert isinstance(data.train, InMemory)
    assert isinstance(data.held_out, InMemory)
    return data, data.train, data.held_out


def test_pixels_are_scaled_and_labelled() -> None:
    data, train, held_out = digits(image_size=8)
    assert (len(train), len(held_out)) == (1438, 359)
    assert data.class_names == list("0123456789")
    bunch: Any = load_digits()
    levels = (bunch.images * 255 / 16).round().astype("uint8")  # (1797, 8, 8)
    originals = {image.tobytes(): int(label) for image, label in zip(levels, bunch.target, strict=True)}
    assert len(originals) == 1797
    for part in (train, held_out):
        for image, label in zip(part.images, part.labels, strict=True):
            assert originals[image.numpy().tobytes()] == int(label)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3)])
def test_sizes(size: int, channels: int) -> None:
    _, train, _ = digits(image_size=size, channels=channels)
    assert train.images.shape == (1438, channels, size, size)
    assert train.images.dtype == torch.uint8
    assert int(train.images.max()) == 255
    assert torch.equal(train.images[:, 0], train.images[:, -1])


def test_the_split_does_not_depend_on_the_seed() -> None:
    (_, train, held_out), (_, other_train, other_held_out) = digits(seed=0), digits(seed=1)
    assert torch.equal(train.images, other_train.images)
    assert torch.equal(held_out.images, other_held_out.images)
    assert held_out.labels.bincount().min() >= 20
