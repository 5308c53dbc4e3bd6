"""Layers of progressive GANs and StyleGANs: equalised learning rates, pixel norm, minibatch standard deviation."""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.networks.conditional import one_hot

GAIN = math.sqrt(2)  # of leaky ReLUs, after which activations keep their size (He et al. 2015)


class EqualizedLinear(nn.Module):
    """A linear layer whose weights are N(0, 1) and scaled as they are used: (N, inputs) -> (N, outputs).

    Karras et al. 2018, "Progressive Growing of GANs", section 4.1. rate: of learning, of weights and bias (Karras et
    al. 2019, "A Style-Based Generator Architecture", appendix C: 0.01). bias: what it begins with; None: there is none.
    """

    def __init__(self, inputs: int, outputs: int, bias: float | None = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = None if bias is None else nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias if self.bias is None or self.rate == 1 else self.bias * self.rate
        return functional.linear(x, self.weight * self.scale, bias)


class EqualizedConv2d(nn.Module):
    """A convolution in the same way, which keeps the side: (N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, size: int, bias: bool = True, padding: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = 1 / math.sqrt(inputs * size**2)
        self.padding = size // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


def activated(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times √2."""
    return functional.leaky_relu(x, 0.2) * GAIN


def pixel_norm(x: Tensor) -> Tensor:
    """Feature vectors of mean square 1: (N, C, …) -> (N, C, …). Karras et al. 2018, section 4.2."""
    scale = (x.float().square().mean(1, keepdim=True) + 1e-8).rsqrt()  # squares overflow in half precision
    return x * scale.to(x.dtype)


def minibatch_deviation(x: Tensor, group: int, features: int = 1) -> Tensor:
    """Adds maps of how much a group of samples differs: (N, C, H, W) -> (N, C + features, H, W).

    Karras et al. 2018, section 3, with the groups of their code: samples i, i + N/group, … are one group. A minibatch
    that `group` does not divide has groups of the largest divisor below.
    """
    n, c, h, w = x.shape
    size = next(size for size in range(min(group, n), 0, -1) if n % size == 0)
    y = x.view(size, -1, features, c // features, h, w)  # (size, groups, features, C / features, H, W)
    deviation = (y.float().var(0, unbiased=False) + 1e-8).sqrt().mean((2, 3, 4))  # (groups, features)
    maps = deviation.to(x.dtype).repeat(size, 1)[:, :, None, None].expand(-1, -1, h, w)
    return torch.cat([x, maps], 1)


class Mapping(nn.Module):
    """Latents to styles: z (N, latent_size), labels -> w (N, size). Karras et al. 2019, section 2.

    With classes, z is followed by a vector of the class; both are normalised (Karras et al. 2020, "Training Generative
    Adversarial Networks with Limited Data"). latent_size 0: the class alone.
    """

    def __init__(self, latent_size: int, size: int, layers: int, classes: int = 0, rate: float = 0.01) -> None:
        super().__init__()
        self.latent_size, self.classes = latent_size, classes
        self.embedding = EqualizedLinear(classes, size) if classes else None
        inputs = latent_size + (size if classes else 0)
        widths = [inputs, *[size] * layers]
        self.layers = nn.ModuleList(
            EqualizedLinear(before, after, rate=rate) for before, after in itertools.pairwise(widths)
        )

    def forward(self, z: Tensor | None, y: Tensor | None = None) -> Tensor:
        parts = [] if z is None else [pixel_norm(z)]
        if self.embedding is not None:
            assert y is not None
            parts.append(pixel_norm(self.embedding(one_hot(y, self.classes).to(self.embedding.weight.dtype))))
        x = torch.cat(parts, 1)
        for layer in self.layers:
            x = activated(layer(x))
        return x
