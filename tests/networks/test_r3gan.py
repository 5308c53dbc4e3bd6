"""Counts, beginnings and groups of R3GAN's networks."""

from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.networks.r3gan import Block, R3GANDiscriminator, R3GANGenerator
from tests.support import count


@pytest.mark.parametrize(  # of the published code; in the paper 23.06 M and 23.01 M at 256 pixels
    ("base_channels", "image_size", "classes", "generator", "discriminator"),
    [(768, 32, 10, 20_781_952, 21_280_512), (96, 256, 0, 23_057_952, 23_009_568)],
)
def test_parameter_counts(
    base_channels: int, image_size: int, classes: int, generator: int, discriminator: int
) -> None:
    with torch.device("meta"):
        assert count(R3GANGenerator(64, base_channels, image_size, 3, classes=classes)) == generator
        assert count(R3GANDiscriminator(base_channels, image_size, 3, classes=classes)) == discriminator


def test_blocks_begin_as_the_identity() -> None:
    block, x = Block(16, 8, 4), torch.randn(2, 16, 5, 5)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)
    assert [m.groups for m in block.modules() if isinstance(m, nn.Conv2d)] == [1, 2, 1]


@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_and_labels(classes: int) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"base_channels": 8, "image_size": 16, "channels": 1, "max_channels": 16, "blocks": 1}
    generator = R3GANGenerator(4, classes=classes, **sizes)
    discriminator = R3GANDiscriminator(classes=classes, **sizes)
    z, y, other = torch.randn(4, 4), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 2, 0])
    images = generator(z, y)
    assert images.shape == (4, 1, 16, 16)
    judged = discriminator(images, y)
    assert judged.shape == (4,)
    assert (discriminator(images, other) != judged).tolist() == [classes > 0, False, False, False]
    assert torch.equal(generator(z, other)[0], images[0]) == (classes == 0)


@pytest.mark.parametrize(
    ("settings", "message"), [({"image_size": 28}, "image_size=28"), ({"group_width": 5}, "group_width=5")]
)
def test_what_cannot_be_built(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        R3GANGenerator(**{"latent_size": 4, "base_channels": 8, "image_size": 16, "channels": 1, **settings})
