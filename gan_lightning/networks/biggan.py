"""BigGAN's networks (Brock et al. 2019, "Large Scale GAN Training for High Fidelity Natural Image Synthesis").

Appendix B, tables 4 to 6, in the shapes of the authors' published PyTorch code (BigGAN-PyTorch): spectral norm in both
players, blocks whose BatchNorm is told the class through one shared embedding and a part of the latents of its own, a
projection (Miyato & Koyama 2018), self-attention, orthogonal weights (Saxe et al. 2014).

Differs from the paper: 16 and 28 pixels, in the way of 32, whose shape is the published code's; biases begin at 0; 1×1
convolutions of the skips come before upsampling and after pooling, which gives the same numbers in a quarter of the
work.
"""

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.initialization import initialize, initialize_weight
from gan_lightning.networks.attention import SelfAttention
from gan_lightning.networks.conditional import LabelEmbedding, LinearBatchNorm2d, batch_norm
from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.networks.resnet import Attention, Block, Pool, Shape, convolution, side_of
from gan_lightning.networks.sizes import check_size
from gan_lightning.networks.spectral import spectrally_normalised
from gan_lightning.networks.transposed import ProjectLinear
from gan_lightning.types import NonNegativeInt, PositiveInt

SHAPES = {
    16: Shape(4, (4, 4, 4), (4, 4, 4), 2),
    28: Shape(7, (4, 4, 4), (4, 4, 4), 2),
    32: Shape(4, (4, 4, 4, 4), (4, 4, 4, 4), 2),
    64: Shape(4, (16, 16, 8, 4, 2), (1, 2, 4, 8, 16), 4),
    128: Shape(4, (16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),  # table 4
    256: Shape(4, (16, 16, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 16, 16), 6),  # table 5
}


def shape_of(image_size: int) -> Shape:
    """The shape for images of this side."""
    check_size(image_size, "BigGAN's networks", SHAPES)
    return SHAPES[image_size]


class BigGANGenerator(nn.Module):
    """Latents (N, latent_size) -> images (N, channels, image_size, image_size) in [-1, 1]."""

    def __init__(
        self,
        latent_size: PositiveInt,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        classes: NonNegativeInt = 0,
        shared_size: NonNegativeInt = 128,
        hierarchical: bool = True,
        attention: Attention = None,
    ) -> None:
        """base_channels: "ch" of the paper. shared_size: of the embedding of the class that all blocks share; 0: the
        BatchNorms have embeddings of their own. hierarchical: equal parts of the latents go to the first layer and to
        every block. attention: the side of the feature maps that have it, "half" of the image's, or null."""
        super().__init__()
        shape = shape_of(image_size)
        widths = [base_channels * multiple for multiple in shape.generator]
        sides = [shape.smallest * 2**level for level in range(len(widths))]
        attended = side_of(attention, image_size, sides)
        parts = len(widths) if hierarchical else 1  # the first layer's and one for each block
        if latent_size % parts:
            raise ValueError(
                f"latent_size={latent_size}: hierarchical latents have {parts} equal parts at {image_size} pixels; "
                f"use a multiple of {parts}, such as {math.ceil(latent_size / parts) * parts}"
            )
        if hierarchical and classes and not shared_size:
            raise ValueError("shared_size=0: hierarchical latents join a shared embedding; use hierarchical=false")
        self.latent_size, self.classes = latent_size, classes
        self.part = latent_size // parts
        self.shared = LabelEmbedding(classes, shared_size) if classes and shared_size else None
        told = (shared_size if self.shared else 0) + (self.part if hierarchical else 0)  # numbers that a block is given

        def norm(width: int) -> nn.Module:
            return LinearBatchNorm2d(width, told) if told else batch_norm(width, classes)

        self.project = ProjectLinear(self.part, widths[0], sides[0])
        self.blocks = nn.ModuleList()
        for width, next_width, side in zip(widths, widths[1:], sides[1:], strict=False):
            self.blocks.append(Block(width, next_width, next_width, "preactivation", norm, "up"))
            if side == attended:
                self.blocks.append(SelfAttention(next_width))
        last = convolution(widths[-1], channels, 3)
        self.output = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True), last, nn.Tanh())
        initialize(self, "orthogonal")
        if self.shared is not None:
            initialize_weight(self.shared, "orthogonal")
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):  # not the embedding: see the published code
                spectrally_normalised(module)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size), y (N,) or shares of classes (N, classes) -> (N, channels, image_size, image_size);
        without classes labels are ignored."""
        first, *others = z.split(self.part, 1)  # (N, part) each
        shared = []
        if self.shared is not None:
            assert y is not None
            shared.append(self.shared(y))  # (N, shared_size)
        told = itertools.repeat(shared[0] if shared else y)
        if others:
            told = (torch.cat([*shared, part], 1) for part in others)  # (N, shared_size + part) each
        x = self.project(first)  # (N, C, 4, 4)
        for block in self.blocks:
            x = block(x, next(told)) if isinstance(block, Block) else block(x)
        return self.output(x)


class BigGANDiscriminator(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,)."""

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        attention: Attention = None,
        **head: Any,
    ) -> None:
        """base_channels, attention: as in the generator, attention after the block whose maps have that side. head:
        see Discriminator."""
        super().__init__(**head)
        shape = shape_of(image_size)
        sides = [image_size // 2 ** (index + 1) for index in range(shape.halvings)]
        attended = side_of(attention, image_size, sides)
        layers: list[nn.Module] = []
        width = self.inputs(channels)
        for index, multiple in enumerate(shape.discriminator):
            next_width, halves = base_channels * multiple, index < shape.halvings
            down = "down" if halves else None
            layers.append(Block(width, next_width, next_width, "preactivation", None, down, first=index == 0))
            if halves and sides[index] == attended:
                layers.append(SelfAttention(next_width))
            width = next_width
        self.finish(nn.Sequential(*layers, nn.ReLU(inplace=True), Pool("sum")), width)
        initialize(self, "orthogonal")
        if self.projection is not None:
            initialize_weight(self.projection, "orthogonal")
