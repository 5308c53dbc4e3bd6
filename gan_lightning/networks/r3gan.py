"""The networks of R3GAN — Huang et al. 2024, "The GAN is dead; long live the GAN! A Modern GAN Baseline", section 4.

Residual blocks with bottlenecks turned inside out and grouped convolutions (ResNeXt), no norm, and weights that begin
so that every block is the identity (Zhang et al. 2019, "Fixup Initialization"); smooth up- and downsampling.

Differs from the published code: any number of channels; half-precision stages are the trainer's.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gan_lightning.networks import filters
from gan_lightning.networks.conditional import one_hot
from gan_lightning.networks.stylegan2 import widths_of
from gan_lightning.recompute import Recomputable
from gan_lightning.types import NonNegativeInt, PositiveInt

GAIN = math.sqrt(2 / (1 + 0.2**2))  # of leaky ReLUs (He et al. 2015)


def scaled(layer: nn.Conv2d | nn.Linear, gain: float) -> nn.Conv2d | nn.Linear:
    """The layer with weights N(0, gain² / inputs)."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    return layer


def convolution(inputs: int, outputs: int, size: int = 1, groups: int = 1, gain: float = 1.0) -> nn.Module:
    """Without a bias, keeping the side."""
    return scaled(nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False), gain)


class Activation(nn.Module):
    """A bias and a leaky ReLU: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x + self.bias[:, None, None], 0.2)


class Block(Recomputable):
    """1×1 to twice the width, grouped 3×3, 1×1 back, and the skip: (N, width, H, W) -> (N, width, H, W)."""

    def __init__(self, width: int, group_width: int, blocks: int) -> None:
        """blocks: of the whole network. Raises ValueError for a width that is no multiple of group_width."""
        super().__init__()
        if width % group_width:
            raise ValueError(f"group_width={group_width}: {width} channels are no multiple of it")
        hidden, gain = 2 * width, GAIN * blocks ** (-1 / 4)  # L^(-1 / (2m - 2)) of m = 3 layers
        self.residual = nn.Sequential(
            convolution(width, hidden, gain=gain),
            Activation(hidden),
            convolution(hidden, hidden, 3, width // group_width, gain),
            Activation(hidden),
            convolution(hidden, width, gain=0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


class Resample(nn.Module):
    """Twice or half the side, and a 1×1 convolution on the smaller one where the width changes."""

    plane: Tensor

    def __init__(self, width: int, next_width: int, up: bool) -> None:
        super().__init__()
        self.layer = convolution(width, next_width) if width != next_width else nn.Identity()
        self.up = up
        self.register_buffer("plane", filters.kernel(filters.TAPS, 4.0 if up else 1.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return filters.upsample(self.layer(x), self.plane) if self.up else self.layer(filters.downsample(x, self.plane))


class R3GANGenerator(nn.Module):
    """z (N, latent_size), y (N,) -> images (N, channels, image_size, image_size), which may leave [-1, 1]."""

    def __init__(
        self,
        latent_size: PositiveInt,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        max_channels: PositiveInt = 768,
        group_width: PositiveInt = 8,
        blocks: PositiveInt = 2,
        classes: NonNegativeInt = 0,
    ) -> None:
        """base_channels: the width at the full image size, doubled at every smaller one up to max_channels.

        group_width: a 3×3 convolution has a group for so many channels of its stage. blocks: of every stage.
        """
        super().__init__()
        widths = list(widths_of(image_size, base_channels, max_channels, "R3GAN's networks").values())
        self.latent_size, self.classes = latent_size, classes
        self.embedding = scaled(nn.Linear(classes, latent_size, bias=False), 1.0) if classes else None
        self.basis = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.project = scaled(nn.Linear(latent_size * (2 if classes else 1), widths[0], bias=False), 1.0)
        layers: list[nn.Module] = []
        for stage, width in enumerate(widths):
            if stage:
                layers.append(Resample(widths[stage - 1], width, up=True))
            layers += [Block(width, group_width, blocks * len(widths)) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, convolution(widths[-1], channels))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Without classes labels are ignored."""
        if self.embedding is not None:
            assert y is not None
            z = torch.cat([z, self.embedding(one_hot(y, self.classes))], 1)
        return self.layers(self.basis * self.project(z)[:, :, None, None])


class R3GANDiscriminator(nn.Module):
    """Images (N, channels, image_size, image_size), y (N,) -> logits (N,): the generator turned round."""

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        max_channels: PositiveInt = 768,
        group_width: PositiveInt = 8,
        blocks: PositiveInt = 2,
        classes: NonNegativeInt = 0,
    ) -> None:
        """Arguments as the generator's."""
        super().__init__()
        widths = list(widths_of(image_size, base_channels, max_channels, "R3GAN's networks").values())[::-1]
        self.classes = classes
        layers: list[nn.Module] = [convolution(channels, widths[0])]
        for stage, width in enumerate(widths):
            if stage:
                layers.append(Resample(widths[stage - 1], width, up=False))
            layers += [Block(width, group_width, blocks * len(widths)) for _ in range(blocks)]
        last = widths[-1]
        self.layers = nn.Sequential(*layers, scaled(nn.Conv2d(last, last, 4, groups=last, bias=False), 1.0))
        self.output = scaled(nn.Linear(last, last if classes else 1, bias=False), 1.0)
        self.embedding = scaled(nn.Linear(classes, last, bias=False), last**-0.5) if classes else None

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, channels, image_size, image_size), y (N,) -> (N,); without classes labels are ignored."""
        features = self.output(self.layers(x).flatten(1))  # (N, 1), or (N, C)
        if self.embedding is None:
            return features.squeeze(1)
        assert y is not None
        return (features * self.embedding(one_hot(y, self.classes))).sum(1)
