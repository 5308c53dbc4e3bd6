"""LSGAN's generator for scenes of 112 pixels (Mao et al. 2017, figure 2, and the published code): 3×3 kernels, and a
second convolution on the widest levels. Its discriminator is DCGAN's with 5×5 kernels.

Differs from the paper: no biases beside BatchNorm; convolutions in place of transposed ones where the side stays, which
are the same functions; sizes other than 112.
"""

from torch import Tensor, nn

from gan_lightning.networks.dcgan import widths
from gan_lightning.networks.transposed import Project, doubling
from gan_lightning.types import PositiveInt


class LSGANGenerator(nn.Module):
    """Latents (N, latent_size) -> images (N, channels, image_size, image_size) in [-1, 1]."""

    def __init__(
        self, latent_size: PositiveInt, base_channels: PositiveInt, image_size: PositiveInt, channels: PositiveInt
    ) -> None:
        """base_channels: the width at the full image size, 64 in the paper, doubled twice at smaller ones."""
        super().__init__()
        self.latent_size = latent_size
        widest = 4 * base_channels
        smallest, levels = widths(base_channels, image_size)
        width = min(levels[0], widest)
        layers: list[nn.Module] = [Project(latent_size, width, smallest), *normed(width)]  # 7 × 7 of 112
        for level in levels:
            next_width = min(level, widest)
            layers += [doubling(width, next_width, 3), *normed(next_width)]
            if next_width == widest:
                layers += [nn.Conv2d(next_width, next_width, 3, padding=1, bias=False), *normed(next_width)]
            width = next_width
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size) -> (N, channels, image_size, image_size); labels are ignored."""
        return self.layers(z[:, :, None, None])


def normed(width: int) -> list[nn.Module]:
    """What follows a convolution."""
    return [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
