"""LSGAN's networks for 112 pixels against their published layers."""

import pytest
import torch
from torch import nn

from gan_lightning.networks.dcgan import DCGANDiscriminator
from gan_lightning.networks.lsgan import LSGANGenerator
from tests.support import count


def test_parameter_counts_of_the_paper() -> None:
    with torch.device("meta"):
        generator, discriminator = LSGANGenerator(1024, 64, 112, 3), DCGANDiscriminator(64, 112, 3, kernel=5)
    linear = 1024 * 256 * 7 * 7
    kernels = 9 * (4 * 256 * 256 + 256 * 128 + 128 * 64 + 64 * 3) + 3
    norms = 2 * (5 * 256 + 128 + 64)
    assert count(generator) == linear + kernels + norms == 15_577_667
    kernels = 25 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    assert count(discriminator) == kernels + 2 * (128 + 256 + 512) + 512 * 7 * 7 == 4_332_480


def test_sides_and_widths() -> None:
    generator, seen = LSGANGenerator(5, 2, 112, 3), []
    for layer in generator.layers:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _, __, output: seen.append((output.shape[-1], output.shape[1])))
    images = generator(10 * torch.randn(2, 5))
    assert seen == [(7, 8), (14, 8), (14, 8), (28, 8), (28, 8), (56, 4), (112, 2), (112, 3)]
    assert images.abs().max() <= 1


@pytest.mark.parametrize(("image_size", "second"), [(16, 0), (28, 0), (32, 1), (64, 2), (128, 3)])
def test_other_sizes(image_size: int, second: int) -> None:
    generator = LSGANGenerator(5, 2, image_size, 1)
    assert generator(torch.randn(2, 5)).shape == (2, 1, image_size, image_size)
    assert sum(type(layer) is nn.Conv2d for layer in generator.layers) == second + 1  # and the last
