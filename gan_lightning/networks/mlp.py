"""Fully connected networks for small images (Goodfellow et al. 2014, section 5, used such networks on MNIST).

Differs from the paper: LeakyReLU, ReLU or GELU in place of rectifiers, sigmoids and maxout; tanh output on [-1, 1]
images in place of a sigmoid; optional BatchNorm.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gan_lightning.networks.conditional import one_hot
from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.types import Fraction, NonNegativeInt, PositiveInt

Activation = Literal["relu", "leaky_relu", "gelu", "tanh", "maxout"]
PIECES = 5  # of a maxout unit of `dense`, as in Lin et al. 2018


class Maxout(nn.Module):
    """The largest of every `pieces` numbers (Goodfellow et al. 2013, eq. 1): (N, width · pieces) -> (N, width)."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.pieces)).amax(2)


def dense(width: int, next_width: int, activation: Activation, batch_norm: bool = False) -> list[nn.Module]:
    """A linear layer, BatchNorm where asked, and the activation: (N, width) -> (N, next_width)."""
    functions = {"relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.2), "gelu": nn.GELU(), "tanh": nn.Tanh()}
    units = next_width * PIECES if activation == "maxout" else next_width
    norm = [nn.BatchNorm1d(units)] if batch_norm else []
    return [nn.Linear(width, units), *norm, functions.get(activation, Maxout(PIECES))]


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
        classes: NonNegativeInt = 0,
        output: Literal["tanh", "none"] = "tanh",
    ) -> None:
        """hidden: widths from the latents to the image; batch_norm: which hidden layers are normalised.

        classes: labels come beside the latents (Mirza & Osindero 2014). output: "none" for data of any range.
        """
        super().__init__()
        self.latent_size = latent_size
        self.classes = classes
        self.image_shape = (channels, image_size, image_size)
        layers: list[nn.Module] = []
        width = latent_size + classes
        for index, next_width in enumerate(hidden):
            normalised = batch_norm == "all" or (batch_norm == "but_first" and index > 0)
            layers += dense(width, next_width, activation, normalised)
            width = next_width
        layers.append(nn.Linear(width, math.prod(self.image_shape)))
        if output == "tanh":
            layers.append(nn.Tanh())
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size), y (N,) -> (N, channels, image_size, image_size); without classes labels are ignored."""
        if self.classes:
            assert y is not None
            z = torch.cat([z, one_hot(y, self.classes).to(z.dtype)], 1)
        return self.layers(z).unflatten(1, self.image_shape)  # (N, C·H·W) -> (N, C, H, W)


class MLPDiscriminator(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,)."""

    def __init__(
        self,
        hidden: Sequence[PositiveInt],
        image_size: PositiveInt,
        channels: PositiveInt,
        activation: Activation = "leaky_relu",
        dropout: Fraction = 0.0,
        **head: Any,
    ) -> None:
        """hidden: widths from the image to the logit; dropout: after every hidden layer; head: see Discriminator."""
        super().__init__(**head)
        layers: list[nn.Module] = []
        width = self.inputs(channels * image_size**2)
        for next_width in hidden:
            layers += dense(width, next_width, activation)
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = next_width
        self.finish(nn.Sequential(*layers), width)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, C, H, W) -> (N, the last hidden width)."""
        return super().features(x.flatten(1), y)  # (N, C·H·W)
