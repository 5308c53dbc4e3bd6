"""InfoGAN's networks for MNIST (Chen et al. 2016, appendix C.1, table 1): the discriminator and what recovers the codes
share all layers but their last ones.

Differs from the paper: images in [-1, 1], which are the paper's in [0, 1] to the layers themselves; no biases beside
BatchNorm; sizes other than 28. The published code's leaky ReLUs have a slope of 0.01, the paper's and these 0.1.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.networks.transposed import doubling
from gan_lightning.types import PositiveInt

SLOPE = 0.1


def quarter(image_size: int) -> int:
    """The side after two halvings; ValueError for a side that 4 does not divide."""
    if image_size % 4:
        raise ValueError(f"image_size={image_size}: InfoGAN's networks halve sides twice; use a multiple of 4")
    return image_size // 4


class InfoGANGenerator(nn.Module):
    """Latents (N, latent_size) -> images (N, channels, image_size, image_size) in [-1, 1]."""

    def __init__(self, latent_size: PositiveInt, image_size: PositiveInt, channels: PositiveInt) -> None:
        super().__init__()
        self.latent_size = latent_size
        side = quarter(image_size)
        self.layers = nn.Sequential(
            nn.Linear(latent_size, 1024, bias=False),
            nn.BatchNorm1d(1024),
            nn.ReLU(inplace=True),
            nn.Linear(1024, 128 * side**2, bias=False),
            nn.BatchNorm1d(128 * side**2),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (128, side, side)),
            doubling(128, 64, 4),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            doubling(64, channels, 4, bias=True),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size) -> (N, channels, image_size, image_size); labels are ignored."""
        return 2 * self.layers(z) - 1


class InfoGANDiscriminator(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,), or (N, 1 + auxiliary) of source and codes."""

    def __init__(self, image_size: PositiveInt, channels: PositiveInt, **head: Any) -> None:
        """head: see Discriminator."""
        super().__init__(**head)
        if self.auxiliary and self.spectral_norm:
            raise ValueError("spectral_norm=true: what recovers InfoGAN's codes is without; use network@model=infogan")
        trunk = nn.Sequential(
            nn.Conv2d(self.inputs(channels), 64, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(64, 128, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Flatten(),
            nn.Linear(128 * quarter(image_size) ** 2, 1024, bias=False),
            nn.BatchNorm1d(1024),
            nn.LeakyReLU(SLOPE, inplace=True),
        )
        self.finish(trunk, 1024)
        if self.auxiliary:
            self.head = Branches(1024 + self.minibatch_kernels, self.auxiliary)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, C, H, W) -> (N, 1024)."""
        return super().features((x + 1) / 2, y)


class Branches(nn.Module):
    """The logit, one linear layer, beside the codes of Q, one layer more: (N, features) -> (N, 1 + codes)."""

    def __init__(self, features: int, codes: int) -> None:
        super().__init__()
        self.logit = nn.Linear(features, 1)
        self.codes = nn.Sequential(
            nn.Linear(features, 128, bias=False),
            nn.BatchNorm1d(128),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Linear(128, codes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.logit(x), self.codes(x)], 1)
