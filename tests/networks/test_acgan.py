"""AC-GAN's networks against table 2 of its paper."""

import itertools

import pytest
import torch
from torch import nn

from gan_lightning.networks.acgan import ACGANDiscriminator, ACGANGenerator
from tests.support import count


def test_parameter_counts_of_the_table() -> None:
    with torch.device("meta"):
        generator, discriminator = ACGANGenerator(100, 96, 32, 3, 10), ACGANDiscriminator(16, 32, 3, auxiliary=10)
    linear = (100 + 10) * 384 * 4 * 4 + 384 * 4 * 4
    transposed = 384 * 192 * 25 + 2 * 192 + 192 * 96 * 25 + 2 * 96 + 96 * 3 * 25 + 3  # BatchNorm has two numbers each
    assert count(generator) == linear + transposed == 2_993_763
    widths = [16, 32, 64, 128, 256, 512]
    convolutions = 3 * 16 * 9 + 16 + sum(a * b * 9 + 2 * b for a, b in itertools.pairwise(widths))
    assert count(discriminator) == convolutions + 512 * 4 * 4 * 11 + 11 == 1_663_883


@pytest.mark.parametrize("image_size", [16, 28, 64])
def test_shapes_and_range(image_size: int) -> None:
    generator = ACGANGenerator(5, 2, image_size, 1, 3)
    images = generator(10 * torch.randn(4, 5), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 1, image_size, image_size)
    assert images.abs().max() <= 1
    assert ACGANDiscriminator(2, image_size, 1, auxiliary=3)(images).shape == (4, 4)


def test_sides_are_halved_by_every_second_convolution() -> None:
    discriminator, sides = ACGANDiscriminator(2, 32, 3), []
    for layer in discriminator.trunk.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
    discriminator(torch.randn(2, 3, 32, 32))
    assert sides == [16, 16, 8, 8, 4, 4]
    with pytest.raises(ValueError, match=r"image_size=7: .*8"):
        ACGANDiscriminator(2, 7, 3)


def test_dropout_after_every_convolution() -> None:
    torch.manual_seed(0)
    discriminator, images = ACGANDiscriminator(4, 16, 1), torch.randn(4, 1, 16, 16)
    for layer in discriminator.trunk.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    assert sum(isinstance(layer, nn.Dropout) for layer in discriminator.modules()) == 6
    assert not torch.equal(discriminator(images), discriminator(images))
    discriminator.eval()
    assert torch.equal(discriminator(images), discriminator(images))


def test_labels_change_the_image() -> None:
    generator, z = ACGANGenerator(5, 4, 16, 1, 3).eval(), torch.randn(1, 5).expand(2, -1)
    one, other = generator(z, torch.tensor([0, 1]))
    assert not torch.allclose(one, other, atol=1e-4)
