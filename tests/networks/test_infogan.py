"""InfoGAN's networks for MNIST against the layers of the paper, and their run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.models.infogan import InfoGAN
from gan_lightning.networks.infogan import InfoGANDiscriminator, InfoGANGenerator
from tests.support import Blobs, count, fit, game


def test_parameter_counts_of_the_paper() -> None:
    """Chen et al. 2016, table 1, without biases beside BatchNorm."""
    with torch.device("meta"):
        generator, discriminator = InfoGANGenerator(74, 28, 1), InfoGANDiscriminator(28, 1, auxiliary=12)
    flat = 7 * 7 * 128
    layers = 74 * 1024 + 1024 * flat + 16 * (128 * 64 + 64 * 1) + 1
    assert count(generator) == layers + 2 * (1024 + flat + 64) == 6_645_121
    shared = 16 * (1 * 64 + 64 * 128) + 64 + flat * 1024 + 2 * (128 + 1024)
    logit, codes = 1024 + 1, 1024 * 128 + 2 * 128 + 128 * 12 + 12
    assert count(discriminator) == shared + logit + codes == 6_690_893


@pytest.mark.parametrize(("image_size", "channels"), [(16, 1), (28, 3), (32, 1)])
def test_shapes_and_range(image_size: int, channels: int) -> None:
    generator, discriminator = InfoGANGenerator(5, image_size, channels), InfoGANDiscriminator(image_size, channels)
    images = generator(10 * torch.randn(3, 5))
    assert images.shape == (3, channels, image_size, image_size)
    assert images.min() < -0.5
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (3,)
    assert InfoGANDiscriminator(image_size, channels, auxiliary=4)(images).shape == (3, 5)


def test_the_layer_of_the_codes_is_theirs_alone() -> None:
    torch.manual_seed(0)
    discriminator, images = InfoGANDiscriminator(16, 1, auxiliary=3), torch.randn(4, 1, 16, 16)
    before = discriminator(images)
    for parameter in discriminator.get_submodule("head.codes").parameters():
        nn.init.normal_(parameter)
    after = discriminator(images)
    assert torch.equal(after[:, 0], before[:, 0])
    assert not torch.allclose(after[:, 1:], before[:, 1:], atol=0.1)


def test_layers_see_pixels_from_0_to_1() -> None:
    discriminator, seen = InfoGANDiscriminator(16, 1), []
    discriminator.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten().tolist()))
    discriminator(torch.tensor([-1.0, 0.0, 1.0])[:, None, None, None].expand(3, 1, 16, 16))
    assert sorted(set(seen[0])) == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 18}, "image_size=18: .* multiple of 4"),
        ({"spectral_norm": True, "auxiliary": 3}, "network@model"),
    ],
)
def test_what_they_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InfoGANDiscriminator(**{"image_size": 16, "channels": 1, **settings})


def test_codes_are_learned(tmp_path: Path) -> None:
    networks = {"generator": InfoGANGenerator(8, 8, 1), "discriminator": InfoGANDiscriminator(8, 1, auxiliary=4)}
    module = game(InfoGAN, **networks, categorical=[3], continuous=1, latents="uniform")

    def error() -> float:
        latents = module.draw_latents(256, torch.Generator().manual_seed(5))
        with torch.no_grad():
            return float(module.lost({"latents": latents}, module.outputs(module.generator(latents))[1]))

    before = error()
    fit(module, Blobs(images=64), tmp_path, max_epochs=5)
    assert error() < 0.6 * before
