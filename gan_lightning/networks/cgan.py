"""The conditional GAN's fully connected networks (Mirza & Osindero 2014, section 4.1): images, or latents, and labels
have layers of their own before they meet.

Differs from the paper: images in [-1, 1], which are the paper's in [0, 1] to the layers themselves; dropout of hidden
layers alone; weights begin as in the published code of the first GAN; sizes other than 28; no layers of labels without
classes.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.networks.conditional import one_hot
from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.networks.mlp import Maxout
from gan_lightning.types import Fraction, NonNegativeInt, PositiveInt


def begin(network: nn.Module, bound: float) -> None:
    """Weights U(-bound, bound) and no biases, as in the published code of Goodfellow et al. 2014, in place."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)


def rectified(width: int, next_width: int, dropout: float) -> nn.Sequential:
    """(N, width) -> (N, next_width)."""
    return nn.Sequential(nn.Linear(width, next_width), nn.ReLU(), nn.Dropout(dropout))


def maxout(width: int, next_width: int, pieces: int, dropout: float) -> nn.Sequential:
    """(N, width) -> (N, next_width), the largest of so many pieces each."""
    return nn.Sequential(nn.Linear(width, next_width * pieces), Maxout(pieces), nn.Dropout(dropout))


class CGANGenerator(nn.Module):
    """Latents (N, latent_size) -> images (N, channels, image_size, image_size) in [-1, 1]."""

    def __init__(
        self,
        latent_size: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        classes: NonNegativeInt = 0,
        dropout: Fraction = 0.5,
    ) -> None:
        """dropout: after every hidden layer, in training."""
        super().__init__()
        self.latent_size = latent_size
        self.classes = classes
        self.image_shape = (channels, image_size, image_size)
        self.latents = rectified(latent_size, 200, dropout)
        self.labels = rectified(classes, 1000, dropout) if classes else None
        self.joint = rectified(200 + 1000 if classes else 200, 1200, dropout)
        self.pixels = nn.Linear(1200, math.prod(self.image_shape))
        begin(self, 0.05)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size), y (N,) -> (N, channels, image_size, image_size); without classes labels are ignored."""
        hidden = self.latents(z)  # (N, 200)
        if self.labels is not None:
            assert y is not None
            hidden = torch.cat([hidden, self.labels(one_hot(y, self.classes).to(z.dtype))], 1)  # (N, 1200)
        return (2 * self.pixels(self.joint(hidden)).sigmoid() - 1).unflatten(1, self.image_shape)


class CGANDiscriminator(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,)."""

    def __init__(self, image_size: PositiveInt, channels: PositiveInt, dropout: Fraction = 0.5, **head: Any) -> None:
        """dropout: after every hidden layer, in training; head: see Discriminator, whose labels beside the image are
        here those with a layer of their own."""
        super().__init__(**head)
        self.images = maxout(self.pack * channels * image_size**2, 240, 5, dropout)
        self.labels = maxout(self.label_channels, 50, 5, dropout) if self.label_channels else None
        self.finish(maxout(240 + 50 if self.label_channels else 240, 240, 4, dropout), 240)
        begin(self, 0.005)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, C, H, W), y (N,) -> (N / pack, 240)."""
        hidden = self.images((x.reshape(len(x) // self.pack, -1) + 1) / 2)  # (N / pack, 240)
        if self.labels is not None:
            assert y is not None
            hidden = torch.cat([hidden, self.labels(one_hot(y, self.classes).to(x.dtype))], 1)  # (N, 290)
        return self.trunk(hidden)
