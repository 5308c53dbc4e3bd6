"""ResNets of WGAN-GP, SNGAN, projection GANs and SAGAN, and such with the first blocks of He et al. 2016.

Tables 4 to 6 of Miyato et al. 2018, appendix B.4, which follow Gulrajani et al. 2017. With classes the discriminator
has a projection (Miyato & Koyama 2018) and the generator conditional BatchNorm; either may have self-attention (Zhang
et al. 2019).

Differs from the papers: 16 and 28 pixels, in the way of 48; 1×1 convolutions of the skips come before upsampling and
after pooling, which gives the same numbers in a quarter of the work; WGAN-GP's published generator for 32 pixels is 128
wide, SNGAN's 256; He et al.'s blocks change the side by repeated pixels and mean pooling in place of strides.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from gan_lightning.initialization import initialize, initialize_weight
from gan_lightning.networks.attention import SelfAttention
from gan_lightning.networks.conditional import batch_norm, conditioned
from gan_lightning.networks.dcgan import Norm, normalise
from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.networks.sizes import check_size
from gan_lightning.networks.spectral import spectrally_normalised
from gan_lightning.networks.transposed import ProjectLinear
from gan_lightning.recompute import Recomputable
from gan_lightning.types import NonNegativeInt, PositiveInt

Kind = Literal["preactivation", "basic"]
Attention = PositiveInt | Literal["half"] | None


class Shape(NamedTuple):
    """Widths in multiples of base_channels."""

    smallest: int  # side of the generator's first feature map
    generator: tuple[int, ...]  # of its feature maps, whose side doubles from one to the next
    discriminator: tuple[int, ...]  # of its blocks
    halvings: int  # so many of them, from the first, halve the side


SHAPES = {
    16: Shape(4, (4, 2, 1), (1, 2, 4), 2),
    28: Shape(7, (4, 2, 1), (1, 2, 4), 2),
    32: Shape(4, (1, 1, 1, 1), (1, 1, 1, 1), 2),  # table 4, CIFAR-10
    48: Shape(6, (8, 4, 2, 1), (1, 2, 4, 8, 16), 4),  # table 5, STL-10
    64: Shape(4, (16, 8, 4, 2, 1), (1, 2, 4, 8, 16), 5),  # the published code of Miyato & Koyama 2018
    128: Shape(4, (16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),  # table 6, ImageNet
}


def shape_of(image_size: int) -> Shape:
    """The papers' shape for images of this side."""
    check_size(image_size, "ResNets", SHAPES)
    return SHAPES[image_size]


def side_of(attention: Attention, image_size: int, sides: Sequence[int]) -> int | None:
    """The side of the feature map that has attention, one of `sides`; None: none has."""
    side = image_size // 2 if attention == "half" else attention
    if side is not None and side not in sides:
        raise ValueError(f"attention={side}: feature maps have the sides {', '.join(map(str, sides))}")
    return side


def convolution(width: int, next_width: int, kernel: int, gain: float = 1.0) -> nn.Conv2d:
    """A convolution that keeps the side, initialised as the published code is: Glorot & Bengio 2010, times `gain`."""
    layer = nn.Conv2d(width, next_width, kernel, padding=kernel // 2)
    nn.init.xavier_uniform_(layer.weight, gain)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Block(Recomputable):
    """Two convolutions and a skip: (N, width, H, W), labels -> (N, next_width, H, W), or twice or half the side.

    kind: "preactivation" is norm, ReLU, convolution twice (He et al. 2016b, figure 1; Miyato et al. 2018, B.4);
    "basic" is convolution, norm twice with a ReLU between and one after the sum (He et al. 2016a, figure 2).
    """

    def __init__(
        self,
        width: int,
        next_width: int,
        hidden: int,
        kind: Kind,
        norm: Callable[[int], nn.Module] | None,
        resample: Literal["up", "down"] | None,
        first: bool = False,
    ) -> None:
        """norm: channels -> layer; first: of a discriminator, which begins with a convolution of the images."""
        super().__init__()

        def norms(channels: int) -> list[nn.Module]:
            return [norm(channels)] if norm else []

        up = [nn.Upsample(scale_factor=2)] if resample == "up" else []  # nearest
        down = [nn.AvgPool2d(2)] if resample == "down" else []
        one, two = convolution(width, hidden, 3, math.sqrt(2)), convolution(hidden, next_width, 3, math.sqrt(2))
        # in place only where nothing else reads what is changed: the skip reads the block's input
        before = [] if kind == "basic" or first else [*norms(width), nn.ReLU(inplace=norm is not None)]
        after = norms(next_width) if kind == "basic" else []
        self.residual = nn.Sequential(*before, *up, one, *norms(hidden), nn.ReLU(inplace=True), two, *after, *down)
        changes = resample or width != next_width
        self.skip = nn.Sequential(*down, *([convolution(width, next_width, 1)] if changes else []), *up)
        self.activation = nn.ReLU(inplace=True) if kind == "basic" else nn.Identity()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.activation(conditioned(self.residual, x, y) + self.skip(x))


class ResNetGenerator(nn.Module):
    """Latents (N, latent_size) -> images (N, channels, image_size, image_size) in [-1, 1]."""

    def __init__(
        self,
        latent_size: PositiveInt,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        block: Kind = "preactivation",
        classes: NonNegativeInt = 0,
        attention: Attention = None,
        spectral_norm: bool = False,
    ) -> None:
        """base_channels: the width at the full image size. classes: the blocks have conditional BatchNorm. attention:
        the side of the feature maps that have it, "half" of the image's, or null. spectral_norm: of every linear layer
        and convolution."""
        super().__init__()
        self.latent_size = latent_size
        self.classes = classes
        shape = shape_of(image_size)
        widths = [base_channels * multiple for multiple in shape.generator]
        sides = [shape.smallest * 2**level for level in range(len(widths))]
        attended = side_of(attention, image_size, sides)
        self.project = ProjectLinear(latent_size, widths[0], sides[0])
        initialize(self.project, "xavier")
        self.blocks = nn.ModuleList()
        for index, (width, side) in enumerate(zip(widths, sides, strict=True)):
            if index:
                self.blocks.append(
                    Block(widths[index - 1], width, width, block, lambda c: batch_norm(c, classes), "up")
                )
            if side == attended:
                self.blocks.append(SelfAttention(width))
        last = [nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True)] if block == "preactivation" else []
        self.output = nn.Sequential(*last, convolution(widths[-1], channels, 3), nn.Tanh())
        if spectral_norm:
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    spectrally_normalised(module)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size), y (N,) -> (N, channels, image_size, image_size); without classes labels are ignored."""
        x = self.project(z)  # (N, C, 4, 4)
        for block in self.blocks:
            x = block(x, y) if isinstance(block, Block) else block(x)
        return self.output(x)


class ResNetDiscriminator(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,)."""

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        block: Kind = "preactivation",
        norm: Norm = "none",
        attention: Attention = None,
        pooling: Literal["sum", "mean"] = "sum",
        **head: Any,
    ) -> None:
        """base_channels: the width of the first block. norm: in all blocks but the first. attention: as in the
        generator, after the first block of that side. pooling: over the places of the last feature map; SNGAN's is the
        sum, WGAN-GP's the mean. head: see Discriminator."""
        super().__init__(**head)
        shape = shape_of(image_size)
        sides = [image_size // 2 ** (index + 1) for index in range(shape.halvings)]
        attended = side_of(attention, image_size, sides)
        layers: list[nn.Module] = []
        width = self.inputs(channels)
        for index, multiple in enumerate(shape.discriminator):
            next_width, first, halves = base_channels * multiple, index == 0, index < shape.halvings
            hidden = next_width if first or block == "basic" else width
            normalised = None if first or norm == "none" else (lambda c: normalise(norm, c))
            layers.append(Block(width, next_width, hidden, block, normalised, "down" if halves else None, first))
            if halves and sides[index] == attended:
                layers.append(SelfAttention(next_width))
            width = next_width
        if block == "preactivation":
            layers.append(nn.ReLU(inplace=True))
        self.finish(nn.Sequential(*layers, Pool(pooling)), width)
        initialize(self.head, "xavier")
        if self.projection is not None:
            initialize_weight(self.projection, "xavier")


class Pool(nn.Module):
    """(N, C, H, W) -> (N, C): the sum or the mean over the places."""

    def __init__(self, pooling: Literal["sum", "mean"]) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3)) if self.pooling == "sum" else x.mean((2, 3))
