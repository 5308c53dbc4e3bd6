"""Counts, equal forms, architectures, classes and noise of StyleGAN2's networks."""

from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.networks.equalized import EqualizedConv2d, EqualizedLinear, Mapping, minibatch_deviation, pixel_norm
from gan_lightning.networks.stylegan1 import StyleGAN1Generator
from gan_lightning.networks.stylegan2 import (
    Architecture,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
    modulated_convolution,
)
from tests.support import count

ARCHITECTURES: list[Architecture] = list(get_args(Architecture))


def small(**settings: Any) -> StyleGAN2Generator:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"latent_size": 8, "base_channels": 4, "image_size": 16, "channels": 3, "max_channels": 8}
    return StyleGAN2Generator(**{**sizes, "style_size": 8, "mapping_layers": 2, **settings})


def test_parameter_counts_are_those_of_the_published_networks() -> None:
    cifar: dict[str, Any] = {"base_channels": 1024, "image_size": 32, "channels": 3, "classes": 10}
    with torch.device("meta"):
        assert count(StyleGAN2Generator(512, 32, 1024, 3)) == 30_370_060  # config-f at 1024 pixels
        assert count(StyleGAN2Discriminator(32, 1024, 3)) == 29_012_513
        assert count(StyleGAN2Generator(512, mapping_layers=2, **cifar)) == 20_215_315  # of the paper on ADA
        assert count(StyleGAN2Discriminator(architecture="plain", **cifar)) == 23_089_664
        to_images = sum(
            3 * width + 3 for width in (512, 512, 512, 512, 256, 128, 64, 32)
        )  # of smaller sizes, in growth
        assert count(StyleGAN1Generator(512, 16, 1024, 3)) == 26_219_627 - to_images
        assert count(Mapping(512, 512, 8)) == 2_101_248
        assert count(Mapping(512, 512, 2)) == 525_312


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_modulated_convolutions_are_those_of_every_sample_alone(up: bool, demodulate: bool, grouped: bool) -> None:
    stream = torch.Generator().manual_seed(0)
    x, weight, style = (torch.randn(*shape, generator=stream) for shape in ((3, 4, 6, 6), (5, 4, 3, 3), (3, 4)))
    found = modulated_convolution(x, weight, style, demodulate, up, grouped)
    for sample in range(3):
        scaled = weight * style[sample][None, :, None, None]
        if demodulate:
            scaled = torch.stack([kernel / (kernel.square().sum() + 1e-8).sqrt() for kernel in scaled])
        one = x[sample : sample + 1]
        expected = (
            functional.conv_transpose2d(one, scaled.transpose(0, 1), stride=2)
            if up
            else functional.conv2d(one, scaled, padding=1)
        )
        torch.testing.assert_close(found[sample : sample + 1], expected, rtol=1e-4, atol=1e-5)


def test_grouped_and_whole_generators_make_the_same_images() -> None:
    one, other = small().eval(), small(grouped=True).eval()
    z = torch.randn(3, 8)
    torch.testing.assert_close(one(z), other(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [8, 32])
def test_architectures(architecture: Architecture, size: int) -> None:
    generator = small(architecture=architecture, image_size=size, classes=3)
    discriminator = StyleGAN2Discriminator(4, size, 3, 8, architecture, classes=3, mapping_layers=2)
    z, y = torch.randn(4, 8), torch.tensor([0, 1, 2, 0])
    images = generator(z, y)
    assert images.shape == (4, 3, size, size)
    judged = discriminator(images, y)
    assert judged.shape == (4,)
    judged.sum().backward()
    unused = [name for name, p in [*generator.named_parameters(), *discriminator.named_parameters()] if p.grad is None]
    assert not unused
    other = discriminator(images, torch.tensor([1, 1, 2, 0]))
    assert (other != judged).tolist() == [True, False, False, False]
    assert generator(z, y + 0).shape == images.shape
    assert not torch.equal(generator.eval()(z, y), generator(z, torch.tensor([1, 1, 2, 0])))


def test_activations_begin_with_a_variance_of_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 256)
    assert EqualizedLinear(256, 256)(x).std().item() == pytest.approx(1, abs=0.05)
    assert EqualizedLinear(256, 256, rate=0.01)(x).std().item() == pytest.approx(1, abs=0.05)
    assert EqualizedConv2d(64, 64, 3)(torch.randn(8, 64, 16, 16)).std().item() == pytest.approx(1, abs=0.1)
    assert pixel_norm(5 * x).square().mean(1).detach() == pytest.approx(1, abs=1e-4)
    assert StyleGAN2Generator(64, 64, 32, 3, 64, 64)(torch.randn(16, 64)).std().item() == pytest.approx(1.5, abs=1)


def test_noise_is_constant_outside_training() -> None:
    generator = small()
    for parameter in generator.parameters():
        if parameter.shape == ():  # the strengths of noise, 0 at the start
            nn.init.constant_(parameter, 1.0)
    z = torch.randn(2, 8)
    assert not torch.equal(generator(z), generator(z))
    generator.eval()
    torch.testing.assert_close(generator(z), generator(z), rtol=0, atol=0)
    assert not [name for name, _ in small(noise=False).named_buffers() if name.endswith("noise")]


def test_the_mean_of_styles_follows_them_in_training() -> None:
    generator = small(mean_decay=0.5)
    z = torch.randn(64, 8)
    styles = generator.eval().styles(z)
    assert not generator.mean.any()
    generator.train().styles(z)
    torch.testing.assert_close(generator.mean, styles.mean(0) / 2)


def test_groups_of_the_minibatch_standard_deviation() -> None:
    x = torch.randn(8, 6, 4, 4)
    found = minibatch_deviation(x, 4)
    assert found.shape == (8, 7, 4, 4)
    for group in range(2):
        members = x[group::2]  # N / 4 apart
        expected = (members.var(0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(found[group::2, 6], expected.expand(4, 4, 4))
    assert minibatch_deviation(x[:3], 4).shape == (3, 7, 4, 4)  # one group of three


def test_styles_set_mean_and_deviation_in_stylegan1() -> None:
    generator = StyleGAN1Generator(8, 4, 16, 3, 8, 8, mapping_layers=2).eval()
    layer = cast(Any, generator.synthesis).blocks[0].second
    nn.init.zeros_(layer.style.weight)
    with torch.no_grad():
        layer.style.bias.copy_(torch.tensor([1.0] * 8 + [3.0] * 8))  # scale 1 + 1, shift 3
    seen: list[Tensor] = []
    layer.register_forward_hook(lambda network, inputs, output: seen.append(output))
    assert generator(torch.randn(5, 8)).shape == (5, 3, 16, 16)
    torch.testing.assert_close(seen[0].mean((2, 3)), torch.full((5, 8), 3.0))
    torch.testing.assert_close(seen[0].std((2, 3), correction=0), torch.full((5, 8), 2.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [4, 28, 48, 2048])
def test_sizes(size: int) -> None:
    with pytest.raises(ValueError, match=f"image_size={size}"):
        small(image_size=size)
