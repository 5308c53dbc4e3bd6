"""The convolutional networks of Miyato et al. 2018, table 3: SNGAN's "standard CNN", which many later tables use.

Differs from the paper: 16, 28 and 64 pixels, in the way of 32; with classes the generator has conditional BatchNorm.
"""

from typing import Any

from torch import Tensor, nn

from gan_lightning.networks.conditional import batch_norm, conditioned
from gan_lightning.networks.dcgan import Norm, normalise
from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.networks.sizes import check_size
from gan_lightning.networks.transposed import ProjectLinear
from gan_lightning.types import NonNegativeInt, PositiveInt

SMALLEST = {16: 4, 28: 7, 32: 4, 48: 6, 64: 8}  # side of the smallest feature maps of images of that side


def widths(base_channels: int, image_size: int) -> tuple[int, list[int]]:
    """The smallest side, and the widths from there to the full image size: 32 -> 4, [8, 4, 2, 1] × base_channels."""
    check_size(image_size, "SNGAN's CNNs", SMALLEST)
    doublings = (image_size // SMALLEST[image_size]).bit_length() - 1
    return SMALLEST[image_size], [base_channels * 2**level for level in reversed(range(doublings + 1))]


class CNNGenerator(nn.Module):
    """Latents (N, latent_size) -> images (N, channels, image_size, image_size) in [-1, 1]."""

    def __init__(
        self,
        latent_size: PositiveInt,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        classes: NonNegativeInt = 0,
    ) -> None:
        """base_channels: the width at the full image size, 64 in the paper."""
        super().__init__()
        self.latent_size = latent_size
        self.classes = classes
        side, (width, *narrower) = widths(base_channels, image_size)
        self.project = ProjectLinear(latent_size, width, side)
        layers: list[nn.Module] = []
        for next_width in narrower:
            layers += [
                nn.ConvTranspose2d(width, next_width, 4, stride=2, padding=1),  # doubles the side
                batch_norm(next_width, classes),
                nn.ReLU(inplace=True),
            ]
            width = next_width
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size), y (N,) -> (N, channels, image_size, image_size); without classes labels are ignored."""
        return conditioned(self.layers, self.project(z), y)


class CNNDiscriminator(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,)."""

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        norm: Norm = "none",
        **head: Any,
    ) -> None:
        """base_channels: the width at the full image size, 64 in the paper. norm: after all convolutions but the first
        and the last. head: see Discriminator."""
        super().__init__(**head)
        side, (last, *wider) = widths(base_channels, image_size)
        width = self.inputs(channels)
        layers: list[nn.Module] = []
        for next_width in reversed(wider):
            for convolution in (
                nn.Conv2d(width, next_width, 3, padding=1),
                nn.Conv2d(next_width, next_width, 4, stride=2, padding=1),  # halves the side
            ):
                normed = [normalise(norm, next_width)] if norm != "none" and layers else []
                layers += [convolution, *normed, nn.LeakyReLU(0.1)]
            width = next_width
        layers += [nn.Conv2d(width, last, 3, padding=1), nn.LeakyReLU(0.1)]
        self.finish(nn.Sequential(*layers), last * side**2)
