"""Smoothing, upsampling and downsampling of feature maps by a small filter, in plain PyTorch.

Every channel is filtered alone. The filter is separable and given by its taps, [1, 3, 3, 1] in StyleGAN2 (Karras et al.
2020, "Analyzing and Improving the Image Quality of StyleGAN", appendix B; Zhang 2019, "Making Convolutional Networks
Shift-Invariant Again"). What lies outside an image is 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

TAPS = (1.0, 3.0, 3.0, 1.0)


def kernel(taps: Sequence[float], gain: float = 1.0) -> Tensor:
    """The outer product of the taps with themselves, (k, k), whose sum is `gain`."""
    line = torch.tensor(taps, dtype=torch.float64)
    plane = torch.outer(line, line)
    return (plane * (gain / plane.sum())).float()


def over_channels(plane: Tensor, x: Tensor) -> Tensor:
    """The kernel (k, k) for each channel of x (N, C, H, W): (C, 1, k, k)."""
    return plane.to(x.dtype).expand(x.shape[1], 1, -1, -1)


def smooth(x: Tensor, plane: Tensor, padding: int) -> Tensor:
    """(N, C, H, W), kernel (k, k) -> (N, C, H + 2 · padding - k + 1, …). Symmetric kernels: nothing is flipped."""
    return functional.conv2d(x, over_channels(plane, x), padding=padding, groups=x.shape[1])


def upsample(x: Tensor, plane: Tensor) -> Tensor:
    """Twice the side: (N, C, H, W), kernel (4, 4) of sum 4 -> (N, C, 2H, 2W)."""
    return functional.conv_transpose2d(
        x, over_channels(plane, x), stride=2, padding=(len(plane) - 2) // 2, groups=x.shape[1]
    )


def downsample(x: Tensor, plane: Tensor) -> Tensor:
    """Half the side: (N, C, H, W), kernel (4, 4) of sum 1 -> (N, C, H / 2, W / 2)."""
    return functional.conv2d(x, over_channels(plane, x), stride=2, padding=(len(plane) - 2) // 2, groups=x.shape[1])
