"""The networks of StyleGAN2 — Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN".

The generator maps z to a style w, which scales the weights of every convolution; the discriminator is a ResNet by
default. Classes come in as in Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data".

Differs from the published code: noise is drawn anew for every image in training and constant in eval mode, also for
scores, so that an image is a function of its latents; half-precision layers are the trainer's.
"""

import itertools
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.networks import filters
from gan_lightning.networks.equalized import (
    EqualizedConv2d,
    EqualizedLinear,
    Mapping,
    activated,
    minibatch_deviation,
)
from gan_lightning.networks.sizes import check_size
from gan_lightning.recompute import Recomputable
from gan_lightning.types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt

Architecture = Literal["skip", "residual", "plain"]
SIZES = [2**power for power in range(2, 11)]  # 4 to 1024
HALF = math.sqrt(0.5)  # a sum of two branches keeps its variance


def widths_of(image_size: int, base_channels: int, max_channels: int, networks: str = "StyleGANs") -> dict[int, int]:
    """Channels of the feature maps of each side, the smallest first."""
    check_size(image_size, networks, SIZES[1:])
    return {side: min(base_channels * image_size // side, max_channels) for side in SIZES if side <= image_size}


def modulated_convolution(
    x: Tensor, weight: Tensor, style: Tensor, demodulate: bool = True, up: bool = False, grouped: bool = False
) -> Tensor:
    """x (N, in, H, W), weight (out, in, k, k), style (N, in) -> (N, out, H, W); `up`: (N, out, 2H + 1, 2W + 1).

    Karras et al. 2020, eq. 1 to 3: the weights of each sample are scaled by its style and, demodulated, have norm 1.
    Feature maps may be scaled in place of weights, before and after one convolution of the whole minibatch; `grouped`
    makes the weights of each sample, which gives the same numbers.
    """
    n, size = x.shape[0], weight.shape[-1]  # len() is a fixed number to an exporter
    norm = 1.0  # of each output: (N, out)
    if demodulate:
        norm = (style.float().square() @ weight.float().square().sum((2, 3)).T + 1e-8).rsqrt().to(x.dtype)
    if not grouped:
        x = x * style[:, :, None, None].to(x.dtype)
        y = convolution(x, weight, up)
        return y * norm[:, :, None, None] if isinstance(norm, Tensor) else y
    weights = weight[None] * style[:, None, :, None, None]  # (N, out, in, k, k)
    if isinstance(norm, Tensor):
        weights = weights * norm[:, :, None, None, None]
    x = x.flatten(0, 1)[None]  # (1, N · in, H, W)
    if up:
        y = functional.conv_transpose2d(x, weights.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
    else:
        y = functional.conv2d(x, weights.flatten(0, 1), padding=size // 2, groups=n)
    return y.unflatten(1, (n, -1))[0]


def convolution(x: Tensor, weight: Tensor, up: bool) -> Tensor:
    """A convolution that keeps the side, or its transpose with stride 2: (N, in, H, W) -> (N, out, …)."""
    if up:
        return functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return functional.conv2d(x, weight, padding=weight.shape[-1] // 2)


class StyledConv2d(Recomputable):
    """A modulated convolution, noise, a bias and a leaky ReLU: (N, in, H, W), w (N, style) -> (N, out, H, W) or 2H.

    side: of what comes out.
    """

    noise: Tensor
    plane: Tensor

    def __init__(
        self, inputs: int, outputs: int, style_size: int, side: int, up: bool, noise: bool, grouped: bool
    ) -> None:
        super().__init__()
        self.style = EqualizedLinear(style_size, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.strength = nn.Parameter(torch.zeros(())) if noise else None
        self.up, self.grouped = up, grouped
        if noise:
            self.register_buffer("noise", torch.randn(side, side))
        self.register_buffer("plane", filters.kernel(filters.TAPS, 4.0), persistent=False)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = modulated_convolution(x, self.weight, self.style(w), up=self.up, grouped=self.grouped)
        if self.up:
            x = filters.smooth(x, self.plane, padding=1)
        if self.strength is not None:
            noise = torch.randn_like(x[:, :1]) if self.training else self.noise.to(x.dtype)
            x = x + noise * self.strength
        return activated(x + self.bias[:, None, None])


class ToImage(nn.Module):
    """A modulated 1×1 convolution without demodulation: (N, C, H, W), w (N, style) -> (N, channels, H, W)."""

    def __init__(self, inputs: int, channels: int, style_size: int) -> None:
        super().__init__()
        self.style = EqualizedLinear(style_size, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return (
            modulated_convolution(x, self.weight, self.style(w) * self.scale, demodulate=False)
            + self.bias[:, None, None]
        )


class Synthesis(nn.Module):
    """Styles of every layer to images: (N, layers, style_size) -> (N, channels, image_size, image_size)."""

    plane: Tensor

    def __init__(
        self,
        style_size: int,
        widths: dict[int, int],
        channels: int,
        architecture: Architecture,
        noise: bool,
        grouped: bool,
    ) -> None:
        super().__init__()
        sides = list(widths)
        self.architecture = architecture
        self.layers = 2 * len(sides)  # styles, one for the last image as well
        self.start = nn.Parameter(torch.randn(widths[4], 4, 4))
        self.convolutions, self.images, self.skips = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.convolutions.append(StyledConv2d(widths[4], widths[4], style_size, 4, False, noise, grouped))
        for before, side in itertools.pairwise(sides):
            for inputs, up in ((widths[before], True), (widths[side], False)):
                self.convolutions.append(StyledConv2d(inputs, widths[side], style_size, side, up, noise, grouped))
            if architecture == "residual":
                self.skips.append(EqualizedConv2d(widths[before], widths[side], 1, bias=False))
        for side in sides if architecture == "skip" else sides[-1:]:
            self.images.append(ToImage(widths[side], channels, style_size))
        self.register_buffer("plane", filters.kernel(filters.TAPS, 4.0), persistent=False)

    def forward(self, w: Tensor) -> Tensor:
        x = self.start.expand(w.shape[0], -1, -1, -1)
        x = self.convolutions[0](x, w[:, 0])
        image = self.images[0](x, w[:, 1]) if self.architecture == "skip" else None
        for block, first in enumerate(range(1, len(self.convolutions), 2)):
            skip = x
            x = self.convolutions[first](x, w[:, first])
            x = self.convolutions[first + 1](x, w[:, first + 1])
            if self.architecture == "residual":
                x = (x + filters.upsample(self.skips[block](skip), self.plane)) * HALF
            elif image is not None:
                image = filters.upsample(image, self.plane) + self.images[block + 1](x, w[:, first + 2])
        return self.images[-1](x, w[:, -1]) if image is None else image


class StyleGenerator(nn.Module):
    """Latents to styles to images, and the mean of the styles, towards which `truncated` pulls them.

    Images (N, channels, image_size, image_size); they may leave [-1, 1].
    """

    mean: Tensor

    def __init__(self, mapping: Mapping, synthesis: nn.Module, layers: int, style_size: int, decay: float) -> None:
        """decay: of the mean of styles, which follows them in training as BatchNorm's statistics do."""
        super().__init__()
        self.latent_size, self.classes = mapping.latent_size, mapping.classes
        self.mapping, self.synthesis = mapping, synthesis
        self.layers, self.decay = layers, decay
        self.register_buffer("mean", torch.zeros(style_size))

    def styles(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size), y (N,) -> w (N, style_size)."""
        w = self.mapping(z, y)
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(w.detach().float().mean(0), 1 - self.decay)
        return w

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size), y (N,) -> (N, channels, image_size, image_size); without classes labels are ignored."""
        return self.synthesis(self.styles(z, y)[:, None].expand(-1, self.layers, -1))


class Truncated(nn.Module):
    """A generator whose styles are pulled to their mean: w̄ + ψ (w - w̄) (Karras et al. 2019, appendix B)."""

    def __init__(self, generator: StyleGenerator, truncation: float) -> None:
        super().__init__()
        self.generator, self.truncation = generator, truncation
        self.train(generator.training)

    def styles(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size), y (N,) -> w (N, style_size)."""
        return torch.lerp(self.generator.mean, self.generator.styles(z, y), self.truncation)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.generator.synthesis(self.styles(z, y)[:, None].expand(-1, self.generator.layers, -1))


class StyleGAN2Generator(StyleGenerator):
    """z (N, latent_size), y (N,) -> images (N, channels, image_size, image_size)."""

    def __init__(
        self,
        latent_size: PositiveInt,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        max_channels: PositiveInt = 512,
        style_size: PositiveInt = 512,
        mapping_layers: PositiveInt = 8,
        architecture: Architecture = "skip",
        noise: bool = True,
        classes: NonNegativeInt = 0,
        mapping_rate: PositiveFloat = 0.01,
        mean_decay: Fraction = 0.998,
        grouped: bool = False,
    ) -> None:
        """base_channels: the width at the full image size, doubled at every smaller one up to max_channels.

        architecture: "skip" sums images of every size, "residual" has skips around blocks, "plain" has neither (Karras
        et al. 2020, section 4.1). noise: whether layers have it. mapping_rate: of learning, in the mapping network.
        mean_decay: of the mean style. grouped: how modulated convolutions are computed.
        """
        widths = widths_of(image_size, base_channels, max_channels)
        synthesis = Synthesis(style_size, widths, channels, architecture, noise, grouped)
        mapping = Mapping(latent_size, style_size, mapping_layers, classes, mapping_rate)
        super().__init__(mapping, synthesis, synthesis.layers, style_size, mean_decay)


class Block(Recomputable):
    """Two convolutions, the second of half the side: (N, width, H, W) -> (N, next_width, H / 2, W / 2)."""

    plane: Tensor

    def __init__(self, width: int, next_width: int, residual: bool) -> None:
        super().__init__()
        self.first = EqualizedConv2d(width, width, 3)
        self.second = EqualizedConv2d(width, next_width, 3, padding=0)
        self.skip = EqualizedConv2d(width, next_width, 1, bias=False) if residual else None
        self.register_buffer("plane", filters.kernel(filters.TAPS), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = filters.smooth(activated(self.first(x)), self.plane, padding=2)
        weight = self.second.weight * self.second.scale
        y = activated(functional.conv2d(y, weight, self.second.bias, stride=2))
        if self.skip is None:
            return y
        return (y + self.skip(filters.downsample(x, self.plane))) * HALF


class StyleGAN2Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size), y (N,) -> logits (N,)."""

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        max_channels: PositiveInt = 512,
        architecture: Architecture = "residual",
        classes: NonNegativeInt = 0,
        mapping_layers: PositiveInt = 8,
        deviation_group: NonNegativeInt = 4,
    ) -> None:
        """base_channels, max_channels: as the generator's. architecture: "residual"; "skip" sees the image at all
        sizes; "plain" has neither. mapping_layers: of the class's vector, whose inner product with features is the
        logit. deviation_group: so many images have one minibatch standard deviation; 0: none."""
        super().__init__()
        self.classes, self.architecture, self.group = classes, architecture, deviation_group
        widths = widths_of(image_size, base_channels, max_channels)
        sides = list(widths)[::-1]
        looked_at = sides if architecture == "skip" else sides[:1]
        self.inputs = nn.ModuleList(EqualizedConv2d(channels, widths[side], 1) for side in looked_at)
        self.blocks = nn.ModuleList(
            Block(widths[side], widths[after], architecture == "residual") for side, after in itertools.pairwise(sides)
        )
        width = widths[4]
        self.last = EqualizedConv2d(width + (1 if deviation_group else 0), width, 3)
        self.hidden = EqualizedLinear(width * 16, width)
        self.mapping = Mapping(0, width, mapping_layers, classes) if classes else None
        self.output = EqualizedLinear(width, width if classes else 1)
        self.register_buffer("plane", filters.kernel(filters.TAPS), persistent=False)

    plane: Tensor

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, channels, image_size, image_size), y (N,) -> (N,); without classes labels are ignored."""
        image, x = x, activated(self.inputs[0](x))
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.architecture == "skip":
                image = filters.downsample(image, self.plane)
                x = x + activated(self.inputs[index + 1](image))
        if self.group:
            x = minibatch_deviation(x, self.group)
        x = activated(self.last(x))
        x = self.output(activated(self.hidden(x.flatten(1))))  # (N, 1), or (N, C)
        if self.mapping is None:
            return x.squeeze(1)
        return (x * self.mapping(None, y)).sum(1) / math.sqrt(x.shape[1])
