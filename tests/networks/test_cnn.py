"""Counts, shapes, labels and norms of SNGAN's CNNs."""

from typing import get_args

import pytest
import torch
from torch import nn

from gan_lightning.networks.cnn import SMALLEST, CNNDiscriminator, CNNGenerator
from gan_lightning.networks.dcgan import Norm
from tests.support import count


def test_parameter_counts() -> None:
    """Summed by hand over table 3: the generator's from 512 at 4×4, the discriminator's seven convolutions to 512."""
    with torch.device("meta"):
        generator, discriminator = CNNGenerator(128, 64, 32, 3), CNNDiscriminator(64, 32, 3)
    dense = 128 * 8192 + 8192
    ups = sum(wide * wide // 2 * 16 + 3 * (wide // 2) for wide in (512, 256, 128))  # biases, scales, shifts
    assert count(generator) == dense + ups + 64 * 3 * 9 + 3
    widths = [(3, 64, 9), (64, 64, 16), (64, 128, 9), (128, 128, 16), (128, 256, 9), (256, 256, 16), (256, 512, 9)]
    assert count(discriminator) == sum(i * o * k + o for i, o, k in widths) + 8192 + 1


@pytest.mark.parametrize("image_size", SMALLEST)
def test_shapes_and_range(image_size: int) -> None:
    generator = CNNGenerator(5, 2, image_size, 3, classes=4)
    labels = torch.tensor([0, 1, 3])
    images = generator(10 * torch.randn(3, 5), labels)
    assert images.shape == (3, 3, image_size, image_size)
    assert images.abs().max() <= 1
    for norm in get_args(Norm):
        discriminator = CNNDiscriminator(2, image_size, 3, norm, classes=4, conditioning="projection")
        assert discriminator(images, labels).shape == (3,)
        normalised = [m for m in discriminator.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)]
        convolutions = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
        assert len(normalised) == (0 if norm == "none" else len(convolutions) - 2)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image_size=30\b.*16, 28, 32, 48, 64"):
        CNNGenerator(5, 2, 30, 1)
