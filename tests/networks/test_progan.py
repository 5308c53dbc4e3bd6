"""Counts of the growing networks, and that they fade from the smaller to the larger."""

from typing import Any

import pytest
import torch

from gan_lightning.networks.progan import ProGANDiscriminator, ProGANGenerator, enlarged, shrunk
from tests.support import count

SMALL: dict[str, Any] = {"base_channels": 2, "image_size": 16, "channels": 3, "max_channels": 4}


def test_parameter_counts() -> None:
    with torch.device("meta"):
        generator = ProGANGenerator(512, 16, 1024, 3)
        discriminator = ProGANDiscriminator(16, 1024, 3, deviation_group=0)
    assert count(generator) == 23_086_795  # facebookresearch/pytorch_GAN_zoo
    assert count(discriminator) == 23_082_641  # which counts no map of deviations


@pytest.mark.parametrize(("grown", "side"), [(0, 4), (0.3, 8), (1, 8), (1.001, 16), (2, 16)])
def test_sides(grown: float, side: int) -> None:
    generator, discriminator = ProGANGenerator(5, **SMALL), ProGANDiscriminator(**SMALL)
    for network in (generator, discriminator):
        network.grow(grown)
    images = generator(torch.randn(2, 5))
    assert images.shape == (2, 3, side, side)
    assert discriminator(images).shape == (2,)
    shown = generator.eval()(torch.randn(2, 5))
    assert shown.shape == (2, 3, 16, 16)
    torch.testing.assert_close(discriminator(shown), discriminator(shrunk(shown, side)))


@pytest.mark.parametrize("level", [1, 2])
def test_it_fades_from_the_smaller_to_the_larger(level: int) -> None:
    """Karras et al. 2018, figure 2: alpha 0 is the smaller network, 1 the larger, a half their mean."""
    torch.manual_seed(0)
    generator, discriminator, z = ProGANGenerator(5, **SMALL), ProGANDiscriminator(**SMALL), torch.randn(4, 5)
    image = torch.randn(4, 3, 4 * 2**level, 4 * 2**level)

    def at(grown: float, judged: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        generator.grow(grown)
        discriminator.grow(grown)
        return generator(z), discriminator(judged)

    smaller, judged_smaller = at(level - 1, shrunk(image, image.shape[-1] // 2))
    larger, judged_larger = at(level, image)
    nearly = 1e-6
    made, judged = at(level - 1 + nearly, image)
    torch.testing.assert_close(made, enlarged(smaller, image.shape[-1]), rtol=0, atol=1e-4)
    torch.testing.assert_close(judged, judged_smaller, rtol=0, atol=1e-4)
    made, judged = at(level - nearly, image)
    torch.testing.assert_close(made, larger, rtol=0, atol=1e-4)
    torch.testing.assert_close(judged, judged_larger, rtol=0, atol=1e-4)
    assert not torch.allclose(judged_smaller, judged_larger, atol=1e-2)
    made, _ = at(level - 0.5, image)
    torch.testing.assert_close(made, (enlarged(smaller, image.shape[-1]) + larger) / 2)


def test_how_far_it_has_grown_is_saved() -> None:
    generator, fresh = ProGANGenerator(5, **SMALL), ProGANGenerator(5, **SMALL)
    generator.grow(1.25)
    fresh.load_state_dict(generator.state_dict())
    assert (fresh.level, fresh.alpha) == (2, 0.25)


def test_what_has_not_grown_is_not_trained() -> None:
    generator = ProGANGenerator(5, **SMALL)
    assert generator.side == 16  # whole, where nothing tells it to grow
    generator.grow(1.0)
    generator(torch.randn(2, 5)).sum().backward()
    trained = {name for name, parameter in generator.named_parameters() if parameter.grad is not None}
    assert {"blocks.0.convolutions.1.weight", "images.1.weight"} <= trained
    assert not {"blocks.1.convolutions.0.weight", "images.0.weight", "images.2.weight"} & trained
