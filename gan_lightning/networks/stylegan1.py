"""The generator of StyleGAN — Karras et al. 2019, "A Style-Based Generator Architecture for Generative Adversarial
Networks": styles set the mean and deviation of every feature map (AdaIN).

Differs from the published code: it does not grow, and has one layer to images in place of one a size; noise is
constant in eval mode, as StyleGAN2's here.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.networks import filters
from gan_lightning.networks.equalized import EqualizedConv2d, EqualizedLinear, Mapping, activated
from gan_lightning.networks.stylegan2 import StyleGenerator, widths_of
from gan_lightning.recompute import Recomputable
from gan_lightning.types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt


class Epilogue(nn.Module):
    """Noise, a bias, leaky ReLU, instance norm and a style: (N, C, H, W), w (N, style) -> (N, C, H, W)."""

    noise: Tensor

    def __init__(self, width: int, style_size: int, side: int, noise: bool) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(width)) if noise else None
        self.bias = nn.Parameter(torch.zeros(width))
        self.style = EqualizedLinear(style_size, 2 * width)
        if noise:
            self.register_buffer("noise", torch.randn(side, side))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        if self.strength is not None:
            noise = torch.randn_like(x[:, :1]) if self.training else self.noise.to(x.dtype)
            x = x + noise * self.strength[:, None, None]
        x = activated(x + self.bias[:, None, None])
        x = functional.instance_norm(x.float(), eps=1e-8).to(x.dtype)
        scale, shift = self.style(w)[:, :, None, None].chunk(2, 1)  # (N, C, 1, 1) each
        return x * (scale + 1) + shift


class Block(Recomputable):
    """Twice the side, two convolutions: (N, width, H, W), two styles (N, style) -> (N, next_width, 2H, 2W)."""

    plane: Tensor

    def __init__(self, width: int, next_width: int, style_size: int, side: int, noise: bool) -> None:
        super().__init__()
        self.up = EqualizedConv2d(width, next_width, 3, bias=False)
        self.first = Epilogue(next_width, style_size, side, noise)
        self.convolution = EqualizedConv2d(next_width, next_width, 3, bias=False)
        self.second = Epilogue(next_width, style_size, side, noise)
        self.register_buffer("plane", filters.kernel((1, 2, 1)), persistent=False)

    def forward(self, x: Tensor, one: Tensor, other: Tensor) -> Tensor:
        x = self.up(functional.interpolate(x, scale_factor=2))  # nearest
        x = self.first(filters.smooth(x, self.plane, padding=1), one)
        return self.second(self.convolution(x), other)


class Synthesis(nn.Module):
    """Styles of every layer to images: (N, layers, style_size) -> (N, channels, image_size, image_size)."""

    def __init__(self, style_size: int, widths: dict[int, int], channels: int, noise: bool) -> None:
        super().__init__()
        sides = list(widths)
        self.layers = 2 * len(sides)
        self.start = nn.Parameter(torch.ones(widths[4], 4, 4))
        self.first = Epilogue(widths[4], style_size, 4, noise)
        self.convolution = EqualizedConv2d(widths[4], widths[4], 3, bias=False)
        self.second = Epilogue(widths[4], style_size, 4, noise)
        self.blocks = nn.ModuleList(
            Block(widths[before], widths[side], style_size, side, noise) for before, side in itertools.pairwise(sides)
        )
        self.output = EqualizedConv2d(widths[sides[-1]], channels, 1)

    def forward(self, w: Tensor) -> Tensor:
        x = self.first(self.start.expand(w.shape[0], -1, -1, -1), w[:, 0])
        x = self.second(self.convolution(x), w[:, 1])
        for index, block in enumerate(self.blocks):
            x = block(x, w[:, 2 * index + 2], w[:, 2 * index + 3])
        return self.output(x)


class StyleGAN1Generator(StyleGenerator):
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
        noise: bool = True,
        classes: NonNegativeInt = 0,
        mapping_rate: PositiveFloat = 0.01,
        mean_decay: Fraction = 0.995,
    ) -> None:
        """Arguments as those of StyleGAN2Generator."""
        widths = widths_of(image_size, base_channels, max_channels)
        synthesis = Synthesis(style_size, widths, channels, noise)
        mapping = Mapping(latent_size, style_size, mapping_layers, classes, mapping_rate)
        super().__init__(mapping, synthesis, synthesis.layers, style_size, mean_decay)
