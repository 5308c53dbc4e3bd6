"""Sizes, ranges and published parameter counts of DCGAN's networks."""

from typing import Any, get_args

import pytest
import torch
from torch import nn

from gan_lightning.networks.conditional import LabelEmbedding
from gan_lightning.networks.dcgan import IMAGE_SIZES, DCGANDiscriminator, DCGANGenerator, Norm
from tests.support import count

NORMS: list[Norm] = list(get_args(Norm))


def test_parameter_counts() -> None:
    with torch.device("meta"):
        generator, discriminator = DCGANGenerator(100, 64, 64, 3), DCGANDiscriminator(64, 64, 3)
    assert count(generator) == 3_576_704  # pytorch/examples
    assert count(discriminator) == 2_765_568


def test_the_papers_kernels() -> None:
    """Radford et al. 2016, figure 1, without biases: 100 -> 1024·4·4, then 5×5 to 512, 256, 128 and 3."""
    with torch.device("meta"):
        generator, discriminator = DCGANGenerator(100, 128, 64, 3, kernel=5), DCGANDiscriminator(64, 64, 3, kernel=5)
    kernels = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    assert count(generator) == 100 * 1024 * 16 + kernels + 2 * (1024 + 512 + 256 + 128) == 18_855_040
    kernels = 25 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    assert count(discriminator) == kernels + 2 * (128 + 256 + 512) + 512 * 16 == 4_315_584


def test_parameter_counts_of_four_levels() -> None:
    """PacGAN's networks of Stacked MNIST (Lin et al. 2018, published code), without biases."""
    with torch.device("meta"):
        generator = DCGANGenerator(100, 64, 28, 3, kernel=5, levels=4)
        discriminator = DCGANDiscriminator(64, 28, 3, kernel=5, levels=4, pack=2)
    kernels = 25 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    assert count(generator) == 100 * 512 * 2 * 2 + kernels + 2 * (512 + 256 + 128 + 64) == 4_512_320
    kernels = 25 * (6 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    assert count(discriminator) == kernels + 2 * (128 + 256 + 512) + 512 * 2 * 2 == 4_314_240


def test_parameter_counts_without_norm() -> None:
    """WGAN-GP's networks of MNIST (Gulrajani et al. 2017, published code), with a bias a channel in the first layer."""
    with torch.device("meta"):
        generator = DCGANGenerator(128, 64, 28, 1, kernel=5, norm="none", levels=3)
        critic = DCGANDiscriminator(64, 28, 1, "none", kernel=5, levels=3)
    first, kernels = 128 * 256 * 4 * 4 + 256, 25 * (256 * 128 + 128 * 64 + 64 * 1) + 128 + 64 + 1
    assert count(generator) == first + kernels == 1_550_337
    kernels = 25 * (1 * 64 + 64 * 128 + 128 * 256) + 64 + 128 + 256
    assert count(critic) == kernels + 256 * 4 * 4 + 1 == 1_030_145


@pytest.mark.parametrize(
    ("image_size", "levels", "sides"),
    [(28, 4, [2, 4, 7, 14, 28]), (28, 3, [4, 7, 14, 28]), (25, 2, [7, 13, 25]), (32, 3, [4, 8, 16, 32])],
)
def test_levels_halve_any_side(image_size: int, levels: int, sides: list[int]) -> None:
    def seen(network: DCGANGenerator | DCGANDiscriminator, x: torch.Tensor) -> list[int]:
        found: list[int] = []
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(lambda _, __, output: found.append(output.shape[-1]))
        network(x)
        return found

    assert seen(DCGANGenerator(5, 2, image_size, 1, kernel=5, levels=levels), torch.randn(2, 5)) == sides
    images = torch.randn(2, 1, image_size, image_size)
    assert seen(DCGANDiscriminator(2, image_size, 1, kernel=5, levels=levels), images) == sides[-2::-1]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_first_layer_is_a_transposed_convolution(memory_format: torch.memory_format) -> None:
    generator, z = DCGANGenerator(5, 2, 16, 1, norm="none").to(memory_format=memory_format), torch.randn(3, 5, 1, 1)
    first = generator.layers[0]
    assert isinstance(first, nn.ConvTranspose2d)
    assert first.bias is not None
    torch.testing.assert_close(first(z), nn.functional.conv_transpose2d(z, first.weight, first.bias))


def test_what_levels_and_norms_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"levels=4.*kernel=5"):
        DCGANGenerator(5, 2, 28, 1, levels=4)
    with pytest.raises(ValueError, match=r"levels=4.*kernel=5"):
        DCGANDiscriminator(2, 28, 1, levels=4)
    with pytest.raises(ValueError, match=r"norm=none.*conditioning=batch_norm"):
        DCGANGenerator(5, 2, 28, 1, classes=3, conditioning="batch_norm", norm="none")


@pytest.mark.parametrize("image_size", IMAGE_SIZES)
def test_sides_are_those_of_other_kernels(image_size: int) -> None:
    generator, discriminator = DCGANGenerator(5, 2, image_size, 1, kernel=5), DCGANDiscriminator(2, image_size, 1)
    wide = DCGANDiscriminator(2, image_size, 1, kernel=5)
    images = generator(torch.randn(2, 5))
    assert images.shape == (2, 1, image_size, image_size)
    assert wide.trunk(images).shape == discriminator.trunk(images).shape


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_size", IMAGE_SIZES)
def test_shapes_and_range(image_size: int, channels: int) -> None:
    generator = DCGANGenerator(5, 2, image_size, channels)
    assert generator.latent_size == 5
    images = generator(10 * torch.randn(3, 5))
    assert images.shape == (3, channels, image_size, image_size)
    assert images.abs().max() <= 1
    for norm in NORMS:
        discriminator = DCGANDiscriminator(2, image_size, channels, norm)
        assert discriminator(images).shape == (3,)
        assert discriminator(images[:2], torch.zeros(2, dtype=torch.long)).shape == (2,)  # labels are ignored


def test_sides_of_28() -> None:
    sides = []
    generator = DCGANGenerator(5, 2, 28, 1)
    for layer in generator.layers:
        layer.register_forward_hook(
            lambda module, _, output: sides.append(output.shape[-1]) if isinstance(module, nn.ConvTranspose2d) else None
        )
    generator(torch.randn(2, 5))
    assert sides == [7, 14, 28]


@pytest.mark.parametrize("image_size", [0, 8, 27, 48, 512])
def test_other_sizes_are_refused(image_size: int) -> None:
    for build in (lambda: DCGANGenerator(5, 2, image_size, 1), lambda: DCGANDiscriminator(2, image_size, 1)):
        with pytest.raises(ValueError, match=rf"image_size={image_size}\b.*16, 28, 32, 64, 112, 128, 256"):
            build()


def test_norms() -> None:
    def of_type(network: nn.Module, kind: type[nn.Module]) -> int:
        return sum(isinstance(module, kind) for module in network.modules())

    assert of_type(DCGANGenerator(5, 2, 64, 1), nn.BatchNorm2d) == 4  # all but the output
    counts = [
        (of_type(network, nn.BatchNorm2d), of_type(network, nn.GroupNorm))
        for network in (DCGANDiscriminator(2, 64, 1, norm) for norm in NORMS)
    ]
    assert counts == [(3, 0), (0, 3), (0, 3), (0, 0)]  # all but the input and the logit


@pytest.mark.parametrize("norm", ["layer", "instance", "none"])
def test_a_critic_does_not_mix_samples(norm: Norm) -> None:
    torch.manual_seed(0)
    critic, images = DCGANDiscriminator(4, 16, 1, norm), torch.randn(6, 1, 16, 16)
    torch.testing.assert_close(critic(images)[:2], critic(images[:2]))


def test_double_backward() -> None:
    for norm in NORMS:
        discriminator, images = DCGANDiscriminator(2, 16, 1, norm), torch.randn(4, 1, 16, 16, requires_grad=True)
        (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
        gradient.square().sum().backward()
        weight = discriminator.get_parameter("trunk.0.weight")
        assert weight.grad is not None
        assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("conditioning", ["concatenation", "batch_norm"])
def test_a_generator_is_told_its_class(conditioning: Any) -> None:
    torch.manual_seed(0)
    generator = DCGANGenerator(5, 4, 16, 1, classes=3, conditioning=conditioning)
    for module in generator.modules():  # classes begin alike, and differ once trained
        if isinstance(module, LabelEmbedding):
            nn.init.normal_(module.weight)
    z = torch.randn(1, 5).expand(3, -1)
    images = generator(z, torch.tensor([0, 1, 1]))
    assert not torch.allclose(images[0], images[1], atol=1e-3)
    torch.testing.assert_close(images[1], images[2])
