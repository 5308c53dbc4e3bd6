"""Growing networks — Karras et al. 2018, "Progressive Growing of GANs for Improved Quality, Stability, and Variation".

Both players are built whole and can be told how far they have grown: 0 is 4×4, 1 is 8×8, and 0.25 is 8×8 of which three
quarters still are what 4×4 gave (figure 2). Layers above are not used, and not trained.

Differs from the paper: in eval mode the generator enlarges its images to the full size and the discriminator shrinks
what it is shown to its own; no labels.
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.networks.equalized import (
    EqualizedConv2d,
    EqualizedLinear,
    activated,
    minibatch_deviation,
    pixel_norm,
)
from gan_lightning.networks.stylegan2 import widths_of
from gan_lightning.recompute import Recomputable
from gan_lightning.types import NonNegativeInt, PositiveInt


def enlarged(x: Tensor, side: int) -> Tensor:
    """(N, C, H, W) -> (N, C, side, side), every pixel repeated; `side` is H times a power of two."""
    return x if x.shape[-1] == side else functional.interpolate(x, size=(side, side), mode="nearest")


def shrunk(x: Tensor, side: int) -> Tensor:
    """(N, C, H, W) -> (N, C, side, side), the mean of every square of pixels."""
    return x if x.shape[-1] == side else functional.avg_pool2d(x, x.shape[-1] // side)


def faded(smaller: Tensor, larger: Tensor, alpha: float) -> Tensor:
    """From the one to the other: `alpha` of the larger."""
    return larger if alpha == 1 else torch.lerp(smaller, larger, alpha)


class Block(Recomputable):
    """Two convolutions: (N, width, H, W) -> (N, next_width, H, W); `normalised`: with pixel norm."""

    def __init__(self, width: int, hidden: int, next_width: int, normalised: bool) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([EqualizedConv2d(width, hidden, 3), EqualizedConv2d(hidden, next_width, 3)])
        self.normalised = normalised

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = activated(convolution(x))
            x = pixel_norm(x) if self.normalised else x
        return x


class Growing(nn.Module):
    """A network that knows how far it has grown, also in a checkpoint."""

    grown: Tensor

    def __init__(self, image_size: int, base_channels: int, max_channels: int) -> None:
        super().__init__()
        widths = widths_of(image_size, base_channels, max_channels, "growing networks")
        self.sides, self.widths = list(widths), list(widths.values())
        self.register_buffer("grown", torch.zeros(()))
        self.register_load_state_dict_post_hook(lambda network, _: network.grow(float(network.grown)))
        self.grow(len(self.sides) - 1.0)

    def grow(self, grown: float) -> None:
        """From now on: `grown` levels above 4×4, the last of them faded in by what is behind the point."""
        self.grown.fill_(grown)
        self.level = math.ceil(grown)
        self.alpha = grown - self.level + 1

    @property
    def side(self) -> int:
        """Of the images that are made or judged now."""
        return self.sides[self.level]


class ProGANGenerator(Growing):
    """z (N, latent_size) -> images (N, channels, side, side), in eval mode of the full size; they may leave [-1, 1]."""

    def __init__(
        self,
        latent_size: PositiveInt,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        max_channels: PositiveInt = 512,
    ) -> None:
        """base_channels: the width at the full size, doubled at every smaller one up to max_channels."""
        super().__init__(image_size, base_channels, max_channels)
        self.latent_size = latent_size
        first = self.widths[0]
        self.project = EqualizedLinear(latent_size, first * 16)
        self.first = EqualizedConv2d(first, first, 3)
        self.blocks = nn.ModuleList(
            Block(before, width, width, normalised=True) for before, width in itertools.pairwise(self.widths)
        )
        self.images = nn.ModuleList(EqualizedConv2d(width, channels, 1) for width in self.widths)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size) -> (N, channels, side, side); labels are ignored."""
        x = pixel_norm(activated(self.project(pixel_norm(z)).unflatten(1, (-1, 4, 4))))
        before = x = pixel_norm(activated(self.first(x)))
        for level in range(self.level):
            before, x = x, self.blocks[level](enlarged(x, self.sides[level + 1]))
        image = self.images[self.level](x)
        if self.alpha < 1:
            image = faded(enlarged(self.images[self.level - 1](before), self.side), image, self.alpha)
        return image if self.training else enlarged(image, self.sides[-1])


class ProGANDiscriminator(Growing):
    """Images (N, channels, side, side), or larger ones, -> logits (N,)."""

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        max_channels: PositiveInt = 512,
        deviation_group: NonNegativeInt = 4,
    ) -> None:
        """base_channels, max_channels: as the generator's. deviation_group: so many images have one minibatch standard
        deviation; 0: none."""
        super().__init__(image_size, base_channels, max_channels)
        self.group = deviation_group
        self.inputs = nn.ModuleList(EqualizedConv2d(channels, width, 1) for width in self.widths)
        self.blocks = nn.ModuleList(
            Block(width, width, after, normalised=False) for after, width in itertools.pairwise(self.widths)
        )
        last = self.widths[0]
        self.last = EqualizedConv2d(last + (1 if deviation_group else 0), last, 3)
        self.hidden = EqualizedLinear(last * 16, last)
        self.output = EqualizedLinear(last, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, channels, side, side) -> (N,); labels are ignored."""
        image = shrunk(x, self.side)
        x = activated(self.inputs[self.level](image))
        for level in reversed(range(self.level)):
            x = shrunk(self.blocks[level](x), self.sides[level])
            if level == self.level - 1 and self.alpha < 1:
                smaller = activated(self.inputs[level](shrunk(image, self.sides[level])))
                x = faded(smaller, x, self.alpha)
        if self.group:
            x = minibatch_deviation(x, self.group)
        x = activated(self.last(x))
        return self.output(activated(self.hidden(x.flatten(1)))).squeeze(1)
