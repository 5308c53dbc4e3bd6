"""The U-Net of pix2pix (Isola et al. 2017, section 3.2 and appendix 6.1): an encoder and a decoder with skips.

Differs from the paper: sides other than 256 are halved as often as they can be, eight times at most. Dropout is in the
three innermost layers of the decoder, as in the paper; the authors' later PyTorch code begins one layer further out.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from gan_lightning.networks.translator import TranslatorNorm, check_sides, norm_of
from gan_lightning.networks.transposed import doubling
from gan_lightning.types import Fraction, PositiveInt

DEEPEST = 8  # 256 -> 1


def depth_of(image_size: int) -> int:
    """How often the side is halved, down to an odd one: 256 -> 8, 128 -> 7, 64 -> 6, 96 -> 5, and 8 for all above."""
    depth = min((image_size & -image_size).bit_length() - 1, DEEPEST)
    if depth < 2:
        raise ValueError(f"image_size={image_size}: a U-Net halves the side twice or more; use a multiple of 4")
    return depth


class UNetGenerator(nn.Module):
    """Images (N, input_channels, H, W) in [-1, 1] -> (N, channels, H, W) in [-1, 1].

    multiple: of which both sides must be; image_size, or less where it is no power of two.
    """

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        input_channels: PositiveInt,
        norm: TranslatorNorm = "batch",
        dropout: Fraction = 0.5,
        noise: Literal["always", "training"] = "always",
        statistics: Literal["running", "image"] = "running",
    ) -> None:
        """base_channels: the width at half the image size, 64 in the paper.

        dropout: of the three innermost layers of the decoder; 0: none. noise: "always" keeps dropout on in eval mode,
        where it is the generator's only noise (section 3.1); "training" makes eval mode deterministic. statistics: what
        BatchNorm takes in eval mode: "running" the averages of training; "image" those of each image by itself, as the
        paper, which trains and tests with single images, has it (section 3.3).
        """
        super().__init__()
        self.noise: Literal["always", "training"] = noise
        depth = depth_of(image_size)
        self.multiple = 2**depth
        biased, running = norm != "batch", statistics == "running"
        widths = [base_channels * min(2**level, 8) for level in range(depth)]  # at sides 1/2, 1/4, ... of the image's
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            first, innermost = level == 0, level == depth - 1
            layers: list[nn.Module] = [] if first else [nn.LeakyReLU(0.2, inplace=True)]
            layers.append(nn.Conv2d(input_channels if first else widths[level - 1], width, 4, 2, 1, bias=biased))
            if not first and not innermost:  # one image may have one pixel there, and no variance (the paper's errata)
                layers.append(norm_of(norm, width, running))
            self.encoder.append(nn.Sequential(*layers))
        for level in reversed(range(depth)):
            last, innermost = level == 0, level == depth - 1
            width = widths[level] * (1 if innermost else 2)  # beside it the encoder's
            layers = [nn.ReLU(inplace=True)]
            if last:
                layers += [doubling(width, channels, 4, bias=True), nn.Tanh()]
            else:
                layers += [doubling(width, widths[level - 1], 4, biased), norm_of(norm, widths[level - 1], running)]
                if dropout and level >= depth - 3:
                    layers.append(Noise(dropout) if noise == "always" else nn.Dropout(dropout))
            self.decoder.append(nn.Sequential(*layers))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, input_channels, H, W) -> (N, channels, H, W); labels are ignored."""
        check_sides(x, self.multiple)
        skips: list[Tensor] = []
        for layers in self.encoder:
            # the next layer's LeakyReLU changes it in place; the decoder's ReLU makes the same of both
            x = layers(x)
            skips.append(x)
        x = self.decoder[0](skips.pop())
        for layers in self.decoder[1:]:
            x = layers(torch.cat([x, skips.pop()], 1))
        return x


class Noise(nn.Dropout):
    """Dropout that eval mode does not end: (N, C, H, W) -> the same."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.dropout(input, self.p, training=True)
