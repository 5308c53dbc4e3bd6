"""Fully connected networks for small images (Goodfellow et al. 2014, section 5, used such networks on MNIST).

Differs from the paper: LeakyReLU, ReLU or GELU in place of rectifiers, sigmoids and maxout; tanh output on [-1, 1]
images in place of a sigmoid; optional BatchNorm.
"""

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from gan_lightning.types import Fraction, PositiveInt

Activation = Literal["relu", "leaky_relu", "gelu", "tanh"]


def activate(name: Activation) -> nn.Module:
    """A fresh activation layer."""
    return {"relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.2), "gelu": nn.GELU(), "tanh": nn.Tanh()}[name]


class MLPGenerator(nn.Module):
    """Latents (N, latent_size) -> images (N, channels, image_size, image_size) in [-1, 1]."""

    def __init__(
        self,
        latent_size: PositiveInt,
        hidden: Sequence[PositiveInt],
        image_size: PositiveInt,
        channels: PositiveInt,
        activation: Activation = "relu",
        batch_norm: Literal["none", "all", "but_first"] = "none",
        output: Literal["tanh", "none"] = "tanh",
    ) -> None:
        """hidden: widths from the latents to the image; batch_norm: which hidden layers are normalised.

        output: "none" leaves it unbounded, for points.
        """
        super().__init__()
        self.latent_size = latent_size
        self.image_shape = (channels, image_size, image_size)
        layers: list[nn.Module] = []
        width = latent_size
        for index, next_width in enumerate(hidden):
            layers.append(nn.Linear(width, next_width))
            if batch_norm == "all" or (batch_norm == "but_first" and index > 0):
                layers.append(nn.BatchNorm1d(next_width))
            layers.append(activate(activation))
            width = next_width
        layers.append(nn.Linear(width, math.prod(self.image_shape)))
        if output == "tanh":
            layers.append(nn.Tanh())
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size) -> (N, channels, image_size, image_size); labels are ignored."""
        return self.layers(z).unflatten(1, self.image_shape)  # (N, C·H·W) -> (N, C, H, W)


class MLPDiscriminator(nn.Module):
    """Images (N, channels, image_size, image_size) -> logits (N,)."""

    def __init__(
        self,
        hidden: Sequence[PositiveInt],
        image_size: PositiveInt,
        channels: PositiveInt,
        activation: Activation = "leaky_relu",
        dropout: Fraction = 0.0,
    ) -> None:
        """hidden: widths from the image to the logit; dropout: after every hidden layer."""
        super().__init__()
        layers: list[nn.Module] = []
        width = channels * image_size**2
        for next_width in hidden:
            layers += [nn.Linear(width, next_width), activate(activation)]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = next_width
        layers.append(nn.Linear(width, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, channels, image_size, image_size) -> (N,); labels are ignored."""
        return self.layers(x.flatten(1)).squeeze(1)  # (N, C·H·W) -> (N, 1) -> (N,)
