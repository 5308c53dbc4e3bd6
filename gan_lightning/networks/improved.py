"""The discriminator of Salimans et al. 2016 for CIFAR-10 (section 6.2, and the published code): nine convolutions with
weight norm, and the mean over pixels.

Differs from the paper: lengths of weights begin as those that keep the variance, where the published code measures them
on data, and are learned, where it keeps them; the head has no weight norm; sizes other than 32.
"""

import math
from typing import Any

from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.types import Fraction, PositiveInt

SMALLEST = 9  # side of images that two halvings leave a 3×3 kernel of
SLOPE = 0.2
LENGTH = math.sqrt(2 / (1 + SLOPE**2))  # He et al. 2015, section 2.2: of independent inputs the variance stays


class ImprovedDiscriminator(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,)."""

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        input_dropout: Fraction = 0.0,
        dropout: Fraction = 0.5,
        **head: Any,
    ) -> None:
        """base_channels: of the first three convolutions, 96 in the paper, the others are twice as wide; input_dropout:
        of the images' numbers, 0.2 in the published code of feature matching; dropout: after each halving. head: see
        Discriminator."""
        super().__init__(**head)
        if image_size < SMALLEST:
            raise ValueError(f"image_size={image_size}: Salimans' discriminator sees sides of {SMALLEST} and more")
        if self.spectral_norm:
            raise ValueError("spectral_norm=true: these convolutions have weight norm; use one of them")
        width, wide = base_channels, 2 * base_channels
        trunk = nn.Sequential(
            nn.Dropout(input_dropout),
            *normalised(self.inputs(channels), width),
            *normalised(width, width),
            *normalised(width, width, stride=2),
            nn.Dropout(dropout),
            *normalised(width, wide),
            *normalised(wide, wide),
            *normalised(wide, wide, stride=2),
            nn.Dropout(dropout),
            *normalised(wide, wide, padding=0),
            *normalised(wide, wide, kernel=1, padding=0),
            *normalised(wide, wide, kernel=1, padding=0),
            nn.AdaptiveAvgPool2d(1),
        )
        self.finish(trunk, wide)


def normalised(width: int, next_width: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> list[nn.Module]:
    """A convolution with weight norm (Salimans & Kingma 2016, eq. 2) and LeakyReLU."""
    convolution = weight_norm(nn.Conv2d(width, next_width, kernel, stride, padding))
    nn.init.constant_(convolution.get_parameter("parametrizations.weight.original0"), LENGTH)
    return [convolution, nn.LeakyReLU(SLOPE, inplace=True)]
