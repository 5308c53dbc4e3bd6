"""Sizes, ranges, skips, noise and published parameter counts of the U-Net."""

from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.networks.unet import UNetGenerator
from tests.support import count


def unet(**settings: Any) -> UNetGenerator:
    torch.manual_seed(0)
    return UNetGenerator(**{"base_channels": 4, "image_size": 16, "channels": 1, "input_channels": 1, **settings})


@pytest.mark.parametrize(("image_size", "parameters"), [(256, 54_413_955), (128, 41_828_995), (64, 29_244_035)])
def test_parameter_counts(image_size: int, parameters: int) -> None:
    """pix2pix's published code: of 256 pixels three, of 128 two, of 64 one layer of 512 beside those of 4 sides."""
    with torch.device("meta"):
        generator = UNetGenerator(64, image_size, 3, 3)
    wide = {256: 3, 128: 2, 64: 1}[image_size]
    encoder = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + (wide + 1) * 512 * 512)
    decoder = 16 * (512 * 512 + wide * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3) + 3
    norms = 2 * (128 + 256 + 512 + wide * 512) + 2 * (512 + wide * 512 + 256 + 128 + 64)
    assert count(generator) == encoder + decoder + norms == parameters


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(
    ("image_size", "multiple", "height", "width"),
    [(64, 64, 64, 128), (96, 32, 96, 64), (28, 4, 28, 28), (16, 16, 16, 32), (8, 8, 8, 8), (1024, 256, 256, 256)],
)
def test_shapes_and_range(image_size: int, multiple: int, height: int, width: int, norm: Any) -> None:
    generator = unet(base_channels=2, image_size=image_size, channels=3, norm=norm)
    assert generator.multiple == multiple
    images = generator(10 * torch.randn(1, 1, height, width))
    assert images.shape == (1, 3, height, width)
    assert images.abs().max() <= 1
    images.sum().backward()


def test_what_sides_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"image_size=30\b.*multiple of 4"):
        unet(image_size=30)
    with pytest.raises(ValueError, match=r"16×24.*multiples of 16"):
        unet()(torch.zeros(1, 1, 16, 24))


@pytest.mark.parametrize(("level", "side"), [(0, 6), (1, 14), (2, 30)])
def test_skips_carry_every_level(level: int, side: int) -> None:
    """Without what comes from further in, a pixel sees the patch around it that the features of that level see."""
    generator = unet(image_size=8, dropout=0, statistics="running").eval()
    for name, weight in generator.named_parameters():
        if weight.dim() == 4:  # positive, so that no gradient vanishes
            further_in = name in [f"decoder.{index}.1.weight" for index in range(2 - level)]
            nn.init.constant_(weight, 0.0 if further_in else 1e-2)
    images = torch.rand(1, 1, 64, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(generator(images)[0, 0, 32, 32], images)
    assert gradient[0, 0].any(0).sum() == gradient[0, 0].any(1).sum() == side


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_dropout_stays_on_as_noise(mode: str) -> None:
    generator, images = unet().train(mode == "train"), torch.randn(4, 1, 16, 16)
    assert generator.noise == "always"
    assert not torch.equal(generator(images), generator(images))


def test_noise_of_training_ends_with_it() -> None:
    generator, images = unet(noise="training"), torch.randn(4, 1, 16, 16)
    assert not torch.equal(generator(images), generator(images))
    generator.eval()
    assert torch.equal(generator(images), generator(images))


@pytest.mark.parametrize("image_size", [64, 128])
def test_dropout_is_in_the_three_innermost_levels(image_size: int) -> None:
    generator = unet(base_channels=1, image_size=image_size)
    levels = [any(isinstance(layer, nn.Dropout) for layer in layers.children()) for layers in generator.decoder]
    assert levels == [True] * 3 + [False] * (len(levels) - 3)
    assert not any(isinstance(layer, nn.Dropout) for layer in unet(dropout=0).modules())


def test_batch_norm_takes_each_images_statistics_in_eval_mode() -> None:
    """So that eval mode is training mode with that image alone."""
    generator, images = unet(noise="training", statistics="image", dropout=0), torch.randn(4, 1, 16, 16)
    alone = torch.cat([generator(image[None]) for image in images])
    assert not torch.allclose(generator(images), alone, atol=1e-4)
    torch.testing.assert_close(generator.eval()(images), alone)
    assert not list(generator.buffers())


def test_batch_norm_takes_running_statistics_in_eval_mode() -> None:
    generator, images = unet(noise="training", statistics="running"), torch.randn(4, 1, 16, 16)
    generator(images)
    generator.eval()
    torch.testing.assert_close(generator(images)[:2], generator(images[:2]))
