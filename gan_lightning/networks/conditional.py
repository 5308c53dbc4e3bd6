"""How labels come into networks: one number a class, or shares of several classes for what lies between them."""

from typing import cast

import torch
from torch import Tensor, nn


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Classes (N,) int64 -> (N, classes) float32; shares of classes (N, classes) stay as they are."""
    if labels.is_floating_point():
        return labels
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()  # one_hot of torch may synchronise


class LabelEmbedding(nn.Module):
    """A vector of each class; between classes, the same mixture of theirs: (N,) or (N, classes) -> (N, size)."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.classes = classes
        self.weight = nn.Parameter(torch.empty(classes, size).normal_())

    def forward(self, labels: Tensor) -> Tensor:
        return one_hot(labels, self.classes).to(self.weight.dtype) @ self.weight


class ConditionalBatchNorm2d(nn.Module):
    """BatchNorm whose scale and shift belong to the class (Dumoulin et al. 2017, eq. 5; de Vries et al. 2017).

    (N, channels, H, W), labels (N,) or (N, classes) -> (N, channels, H, W).
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = LabelEmbedding(classes, channels)
        self.shift = LabelEmbedding(classes, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.norm(x) * self.scale(y)[:, :, None, None] + self.shift(y)[:, :, None, None]


class LinearBatchNorm2d(nn.Module):
    """BatchNorm whose scale and shift are linear in a vector, the scale around 1 (Brock et al. 2019, appendix B).

    (N, channels, H, W), vectors (N, size) -> (N, channels, H, W).
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(size, channels, bias=False)
        self.shift = nn.Linear(size, channels, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.norm(x) * (1 + self.gain(y))[:, :, None, None] + self.shift(y)[:, :, None, None]


def batch_norm(channels: int, classes: int) -> nn.Module:
    """BatchNorm2d, conditional where there are classes."""
    return ConditionalBatchNorm2d(channels, classes) if classes else nn.BatchNorm2d(channels)


def conditioned(layers: nn.Sequential, x: Tensor, y: Tensor | None) -> Tensor:
    """The layers one after another; those that are conditional are given y: labels, or vectors (N, size)."""
    for layer in layers:
        conditional = isinstance(layer, ConditionalBatchNorm2d | LinearBatchNorm2d)
        x = layer(x, y) if conditional else cast(Tensor, layer(x))
    return x
