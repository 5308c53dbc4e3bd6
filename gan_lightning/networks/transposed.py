"""From latents to the first feature maps of generators, and transposed convolutions to twice the side."""

import torch
from torch import Tensor, nn


def doubling(width: int, next_width: int, kernel: int, bias: bool = False, odd: bool = False) -> nn.ConvTranspose2d:
    """A transposed convolution to twice the side: (N, width, H, W) -> (N, next_width, 2 H, 2 W).

    odd: to one pixel less, 2 H - 1, for odd kernels.
    """
    return nn.ConvTranspose2d(
        width, next_width, kernel, 2, (kernel - 1) // 2, output_padding=kernel % 2 - odd, bias=bias
    )


class Project(nn.ConvTranspose2d):
    """A transposed convolution of single pixels, (N, C, 1, 1) -> (N, width, s, s): the matrix product that it is.

    Half of the time that the convolution takes on a CPU.
    """

    def __init__(self, channels: int, width: int, side: int, bias: bool = False) -> None:
        super().__init__(channels, width, side, bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self.weight.is_contiguous(memory_format=torch.channels_last):
            rows = self.weight.permute(0, 2, 3, 1)  # (C, s, s, width): as the next layers have their pixels
            maps = (input.flatten(1) @ rows.flatten(1)).unflatten(1, rows.shape[1:]).permute(0, 3, 1, 2)
        else:
            maps = (input.flatten(1) @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        return maps if self.bias is None else maps + self.bias[:, None, None]


class ProjectLinear(nn.Linear):
    """A linear layer to feature maps: (N, inputs) -> (N, width, side, side)."""

    def __init__(self, inputs: int, width: int, side: int) -> None:
        super().__init__(inputs, width * side**2)
        self.side = side

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).unflatten(1, (-1, self.side, self.side))
