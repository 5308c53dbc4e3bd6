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


@pytest.mark.parametrize("width", [200, 201, 202, 203])
def test_tiles_of_a_network_that_halves_and_doubles(width: int) -> None:
    """It makes something else of an image that is moved by less than its multiple: tiles begin where it would."""
    torch.manual_seed(0)
    halved = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())
    network = nn.Sequential(*halved, nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1))
    image = torch.rand(1, 1, 90, width)
    for tile, overlap in ((64, 32), (66, 33), (40, 35)):
        torch.testing.assert_close(tiled(network, image, 4, tile, overlap), padded(network, image, 4))


def test_no_seams_where_tiles_disagree() -> None:
    """Each tile in a grey of its own: from one to the next it goes in small steps."""
    image = torch.linspace(0, 1, 200).expand(1, 1, 40, 200)
    made = tiled(lambda x: x.mean((-2, -1), keepdim=True).expand_as(x), image, 1, tile=64, overlap=32)
    greys = made[0, 0, 20]
    assert greys.max() - greys.min() > 0.6
    assert greys.diff().abs().max() < 2 * (32 / 200) / 16  # neighbours differ by 32 / 200, over 16 pixels


def test_sides_are_not_shorter_than_the_network_bears() -> None:
    seen: list[tuple[int, ...]] = []

    def network(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape[-2:]))
        return x

    for size in ((1, 3), (4, 40), (9, 12)):
        image = torch.rand(1, 1, *size)
        torch.testing.assert_close(tiled(network, image, 4, tile=32, overlap=8, smallest=8), image)
    assert seen == [(8, 8), (8, 32), (8, 32), (12, 12)]


def test_tiles_must_advance() -> None:
    with pytest.raises(ValueError, match="overlap=32: must be less than tile=32"):
        tiled(blur, torch.rand(1, 1, 64, 64), 1, tile=32, overlap=32)
