"""Images of any size, whole and in tiles: the same where a network sees little, without seams where it sees all."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.tiles import padded, tiled


def blur(x: Tensor) -> Tensor:
    """A network that sees 3 pixels in every direction."""
    return functional.avg_pool2d(functional.pad(x, (3, 3, 3, 3), mode="replicate"), 7, 1)


@pytest.mark.parametrize("size", [(1, 1), (17, 300), (64, 64), (65, 31)])
@pytest.mark.parametrize("multiple", [1, 8, 32])
def test_any_size_is_padded_and_cut_back(size: tuple[int, int], multiple: int) -> None:
    image, seen = torch.rand(1, 3, *size), []

    def network(x: Tensor) -> Tensor:
        seen.append(x.shape[-2:])
        return functional.interpolate(x, scale_factor=2)

    assert torch.equal(padded(network, image, multiple), functional.interpolate(image, scale_factor=2))
    assert all(side % multiple == 0 for side in seen[0])


@pytest.mark.parametrize("size", [(40, 40), (100, 33), (17, 200), (33, 33)])
def test_tiles_are_the_whole_image(size: tuple[int, int]) -> None:
    image = torch.rand(1, 2, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(tiled(blur, image, 1, tile=32, overlap=16), blur(image))


def test_tiles_of_a_network_that_enlarges() -> None:
    up = nn.Upsample(scale_factor=4, mode="bilinear")
    image = torch.rand(1, 1, 50, 70, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(tiled(up, image, 1, tile=32, overlap=8), up(image))


def test_no_seams_where_tiles_disagree() -> None:
    """Each tile in a grey of its own: from one to the next it goes in small steps."""
    image = torch.linspace(0, 1, 200).expand(1, 1, 40, 200)
    made = tiled(lambda x: x.mean((-2, -1), keepdim=True).expand_as(x), image, 1, tile=64, overlap=32)
    greys = made[0, 0, 20]
    assert greys.max() - greys.min() > 0.6
    assert greys.diff().abs().max() < 2 * (32 / 200) / 16  # neighbours differ by 32 / 200, over 16 pixels


def test_tiles_must_advance() -> None:
    with pytest.raises(ValueError, match="overlap=32: must be less than tile=32"):
        tiled(blur, torch.rand(1, 1, 64, 64), 1, tile=32, overlap=32)
