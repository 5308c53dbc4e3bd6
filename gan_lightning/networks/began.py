"""BEGAN's networks (Berthelot et al. 2017, section 3.5.1 and figure 1): a decoder, and an autoencoder around it.

Differs from the paper: 16 and 28 pixels, which start at 4×4 and 7×7 where the paper starts at 8×8.
"""

from torch import Tensor, nn

from gan_lightning.networks.sizes import check_size
from gan_lightning.networks.transposed import ProjectLinear
from gan_lightning.types import PositiveInt

IMAGE_SIZES = (16, 28, 32, 64, 128, 256)


def sides(image_size: int) -> tuple[int, int]:
    """The side of the smallest feature maps, and how often it doubles."""
    check_size(image_size, "BEGAN's networks", IMAGE_SIZES, for_points="")
    smallest = {16: 4, 28: 7}.get(image_size, 8)
    return smallest, (image_size // smallest).bit_length() - 1


def twice(width: int, next_width: int, stride: int = 1) -> list[nn.Module]:
    """Two 3×3 convolutions with ELU, the second to `next_width`."""
    return [
        nn.Conv2d(width, width, 3, padding=1),
        nn.ELU(inplace=True),
        nn.Conv2d(width, next_width, 3, stride=stride, padding=1),
        nn.ELU(inplace=True),
    ]


class BEGANGenerator(nn.Module):
    """Latents (N, latent_size) -> images (N, channels, image_size, image_size), about [-1, 1]; also the decoder."""

    def __init__(
        self, latent_size: PositiveInt, base_channels: PositiveInt, image_size: PositiveInt, channels: PositiveInt
    ) -> None:
        """base_channels: the width at all sizes, n."""
        super().__init__()
        self.latent_size = latent_size
        smallest, doublings = sides(image_size)
        self.first = ProjectLinear(latent_size, base_channels, smallest)
        layers = twice(base_channels, base_channels)
        for _ in range(doublings):
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), *twice(base_channels, base_channels)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(base_channels, channels, 3, padding=1))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size) -> (N, channels, image_size, image_size); labels are ignored."""
        return self.layers(self.first(z))


class BEGANDiscriminator(nn.Module):
    """An autoencoder: images (N, channels, image_size, image_size) -> the same, restored."""

    def __init__(
        self, latent_size: PositiveInt, base_channels: PositiveInt, image_size: PositiveInt, channels: PositiveInt
    ) -> None:
        """latent_size: numbers that an image is pressed into; base_channels: the width of the largest maps, n."""
        super().__init__()
        smallest, doublings = sides(image_size)
        layers: list[nn.Module] = [nn.Conv2d(channels, base_channels, 3, padding=1), nn.ELU(inplace=True)]
        width = base_channels
        for _ in range(doublings):
            layers += twice(width, width + base_channels, stride=2)
            width += base_channels
        layers += twice(width, width)
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * smallest**2, latent_size))
        self.decoder = BEGANGenerator(latent_size, base_channels, image_size, channels)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, channels, image_size, image_size) -> the same shape; labels are ignored."""
        return self.decoder(self.encoder(x))
