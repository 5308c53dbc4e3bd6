"""The residual translator of Johnson et al. 2016, as CycleGAN has it (Zhu et al. 2017, appendix 7.2).

Differs from CycleGAN's paper: the feature maps are halved and doubled with zero padding, as in its published code.
"""

from typing import Literal

from torch import Tensor, nn

from gan_lightning.networks.transposed import doubling
from gan_lightning.recompute import Recomputable
from gan_lightning.types import PositiveInt

TranslatorNorm = Literal["batch", "instance"]


class NormOfEach(nn.BatchNorm2d):
    """BatchNorm whose eval mode takes the statistics of each image by itself: (N, C, H, W) -> the same.

    Trained with single images both modes are one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, track_running_stats=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            return super().forward(input)
        return nn.functional.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)


def norm_of(norm: TranslatorNorm, channels: int, running: bool = True) -> nn.Module:
    """BatchNorm, or InstanceNorm without scale and shift: (N, channels, H, W) -> the same.

    running: BatchNorm keeps statistics for eval mode; otherwise it takes those of each image there.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels) if running else NormOfEach(channels)
    return nn.InstanceNorm2d(channels)


def check_sides(x: Tensor, multiple: int) -> None:
    """Raises ValueError for images (N, C, H, W) whose sides are not multiples of `multiple`."""
    height, width = x.shape[-2:]
    if height % multiple or width % multiple:
        raise ValueError(f"an image of {height}×{width}: this network needs sides that are multiples of {multiple}")


class Block(Recomputable):
    """Two reflection-padded 3×3 convolutions and a skip: (N, width, H, W) -> the same, no activation after the sum."""

    def __init__(self, width: int, norm: TranslatorNorm) -> None:
        super().__init__()
        biased = norm != "batch"
        self.residual = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect", bias=biased),
            norm_of(norm, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect", bias=biased),
            norm_of(norm, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


class ResNetTranslator(nn.Module):
    """Images (N, input_channels, H, W) in [-1, 1] -> (N, channels, H, W) in [-1, 1].

    multiple: of which both sides must be; smallest: the shortest side whose quarter can be padded by reflection.
    """

    multiple, smallest = 4, 8

    def __init__(
        self,
        base_channels: PositiveInt,
        channels: PositiveInt,
        input_channels: PositiveInt,
        blocks: PositiveInt = 9,
        norm: TranslatorNorm = "instance",
    ) -> None:
        """base_channels: the width at the full image size, 64 in the paper. blocks: 6 for 128 pixels and 9 from 256 on
        in the paper. norm: "batch" is Johnson et al.'s."""
        super().__init__()
        biased = norm != "batch"  # BatchNorm has a shift, InstanceNorm without scale and shift takes biases away
        width = base_channels
        layers: list[nn.Module] = [
            nn.Conv2d(input_channels, width, 7, padding=3, padding_mode="reflect", bias=biased),
            norm_of(norm, width),
            nn.ReLU(inplace=True),
        ]
        for _ in range(2):  # halves the sides
            layers += [
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=biased),
                norm_of(norm, 2 * width),
                nn.ReLU(inplace=True),
            ]
            width *= 2
        layers += [Block(width, norm) for _ in range(blocks)]
        for _ in range(2):
            layers += [doubling(width, width // 2, 3, biased), norm_of(norm, width // 2), nn.ReLU(inplace=True)]
            width //= 2
        layers += [nn.Conv2d(width, channels, 7, padding=3, padding_mode="reflect"), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, input_channels, H, W) -> (N, channels, H, W); labels are ignored."""
        check_sides(x, self.multiple)
        return self.layers(x)
