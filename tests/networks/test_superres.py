"""Sizes, ranges and published parameter counts of the networks of SRGAN and ESRGAN."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.networks.superres import RRDB, RRDBNet, SRGANDiscriminator, SRResNet, VGGStyleDiscriminator
from gan_lightning.recompute import recompute_blocks
from tests.support import count


def test_parameter_counts_of_srgan() -> None:
    """Ledig et al. 2017, figure 4, without biases before BatchNorm and with one slope a PReLU."""
    with torch.device("meta"):
        generator, discriminator = SRResNet(64, 3), SRGANDiscriminator(64, 96, 3)
    outer = 81 * 3 * 64 + 64 + 1 + 81 * 64 * 3 + 3
    blocks = 16 * (2 * (9 * 64 * 64 + 2 * 64) + 1) + 9 * 64 * 64 + 2 * 64
    assert count(generator) == outer + blocks + 2 * (9 * 64 * 256 + 256 + 1) == 1_547_350
    pairs = [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    convolutions = 9 * 3 * 64 + 64 + sum(9 * a * b + 2 * b for a, b in pairs)
    assert count(discriminator) == convolutions + 512 * 6 * 6 * 1024 + 1024 + 1024 + 1 == 23_563_649


def test_parameter_counts_of_esrgan() -> None:
    """ESRGAN's published code: dense blocks of 64 and 32 channels, and a VGG-like discriminator of 128 pixels."""
    with torch.device("meta"):
        generator, discriminator = RRDBNet(64, 3), VGGStyleDiscriminator(64, 128, 3)
    dense = sum(9 * (64 + 32 * index) * 32 + 32 for index in range(4)) + 9 * (64 + 128) * 64 + 64
    others = 9 * 3 * 64 + 64 + 4 * (9 * 64 * 64 + 64) + 9 * 64 * 3 + 3
    assert count(generator) == 23 * 3 * dense + others == 16_697_987
    widths = [64, 128, 256, 512, 512]
    threes = sum(9 * a * b + 2 * b for a, b in pairwise(widths))
    convolutions = 9 * 3 * 64 + 64 + threes + sum(16 * b * b + 2 * b for b in widths)
    assert count(discriminator) == convolutions + 512 * 16 * 100 + 100 + 100 + 1 == 14_499_401


@pytest.mark.parametrize("network", [SRResNet, RRDBNet])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 17), (24, 8)])
def test_shapes_and_range(network: Any, scale: int, height: int, width: int) -> None:
    generator = network(4, 3, scale, 2).eval()
    assert (generator.scale, generator.multiple) == (scale, 1)
    images = generator(torch.randn(2, 3, height, width))
    assert images.shape == (2, 3, scale * height, scale * width)
    assert generator(1e4 * torch.randn(2, 3, height, width)).abs().max() == 1


@pytest.mark.parametrize("network", [SRResNet, RRDBNet])
def test_gradients_pass_beyond_the_range_in_training(network: Any) -> None:
    torch.manual_seed(0)
    generator = network(4, 1, blocks=1)
    images = generator(1e4 * torch.ones(1, 1, 4, 4))
    assert images.abs().max() > 1
    images.sum().backward()
    assert torch.count_nonzero(generator.upsample[-1].weight.grad) == generator.upsample[-1].weight.numel()


def test_a_pixel_shuffle_lays_out_four_channels_as_a_square() -> None:
    generator = SRResNet(1, 1, 2, 1)
    shuffle = generator.upsample[1]
    square = shuffle(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1))
    assert square.tolist() == [[[[1, 2], [3, 4]]]]


def test_a_residual_in_residual_block_begins_as_its_skips() -> None:
    """Wang et al. 2018, section 3.1: sums are scaled by 0.2, and weights begin a tenth as large, so that skips rule."""
    torch.manual_seed(0)
    block, x = RRDB(16, 8), torch.randn(2, 16, 8, 8)
    assert (block(x) - 1.2 * x).abs().max() < 0.05
    for weight in block.parameters():
        nn.init.zeros_(weight)
    for index in range(3):
        nn.init.ones_(block.get_parameter(f"residual.{index}.convolutions.4.bias"))  # each dense block adds 0.2 · 1
    torch.testing.assert_close(block(x), x + 0.2 * (x + 3 * 0.2))


@pytest.mark.parametrize("network", [SRResNet, RRDBNet])
def test_blocks_compute_their_activations_again(network: Any) -> None:
    torch.manual_seed(0)
    generator, images = network(4, 1, 2, 3), torch.randn(2, 1, 6, 6)
    kept = torch.autograd.grad(generator(images).sum(), list(generator.parameters()))
    assert recompute_blocks(generator) == 3
    again = torch.autograd.grad(generator(images).sum(), list(generator.parameters()))
    torch.testing.assert_close(again, kept)


@torch.no_grad()
def test_esrgans_generator_enlarges_by_nearest_neighbours() -> None:
    network = RRDBNet(4, 1, 2, blocks=1, growth_channels=2).eval()
    seen: list[torch.Tensor] = []
    network.upsample[1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(torch.randn(1, 1, 5, 6))
    assert torch.equal(seen[0], seen[0][:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize("image_size", [96, 64, 28])
def test_srgans_discriminator_judges_crops(image_size: int) -> None:
    discriminator = SRGANDiscriminator(1, image_size, 3, hidden=8)
    assert discriminator(torch.randn(2, 3, image_size, image_size)).shape == (2,)


@pytest.mark.parametrize("image_size", [128, 64])
def test_esrgans_discriminator_judges_crops(image_size: int) -> None:
    discriminator = VGGStyleDiscriminator(1, image_size, 3, spectral_norm=True)
    assert discriminator(torch.randn(2, 3, image_size, image_size)).shape == (2,)


def test_esrgans_discriminator_halves_five_times() -> None:
    with pytest.raises(ValueError, match=r"image_size=100\b.*multiple of 32"):
        VGGStyleDiscriminator(1, 100, 3)
