"""Super-resolution: SRGAN's networks (Ledig et al. 2017, figure 4) and ESRGAN's (Wang et al. 2018, figures 3 and 4).

Low-resolution images are in [-1, 1] here, as all images are; SRGAN's are in [0, 1] with high-resolution ones in [-1, 1]
(section 3.2), ESRGAN's published networks have [0, 1] on both sides. The last layer of both generators is linear, as in
the papers: in training it may leave [-1, 1], in eval mode what it returns is clamped there.

Differs from the papers: convolutions before BatchNorm have no bias; PReLUs share one slope in a layer; other scales and
crops than ×4 with 96 and 128 pixels. ESRGAN's discriminator, which its paper does not draw, is its published code's.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.networks.sizes import halved
from gan_lightning.recompute import Recomputable
from gan_lightning.types import PositiveInt

Scale = Literal[2, 4, 8]


def doublings(scale: Scale) -> int:
    """How often the side doubles: ×2, ×4, ×8 -> 1, 2, 3."""
    return scale.bit_length() - 1


class SRBlock(Recomputable):
    """Two convolutions with BatchNorm, a PReLU between and a skip: (N, width, H, W) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


class SRResNet(nn.Module):
    """Images (N, channels, H, W) in [-1, 1] -> (N, channels, scale H, scale W), of any sides; SRGAN's generator.

    multiple: of which both sides must be.
    """

    multiple = 1

    def __init__(
        self, base_channels: PositiveInt, channels: PositiveInt, scale: Scale = 4, blocks: PositiveInt = 16
    ) -> None:
        """base_channels: the width throughout, 64 in the paper."""
        super().__init__()
        self.scale = scale
        width = base_channels
        self.start = nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *[SRBlock(width) for _ in range(blocks)],
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        layers: list[nn.Module] = []
        for _ in range(doublings(scale)):
            layers += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
        self.upsample = nn.Sequential(*layers, nn.Conv2d(width, channels, 9, padding=4))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, channels, H, W) -> (N, channels, scale H, scale W), clamped to [-1, 1] in eval mode; labels ignored."""
        x = self.start(x)
        images = self.upsample(x + self.body(x))
        return images if self.training else images.clamp(-1, 1)


class SRGANDiscriminator(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,)."""

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        hidden: PositiveInt = 1024,
        **head: Any,
    ) -> None:
        """base_channels: the width at the full image size, 64 in the paper. image_size: of the crops, 96 in the paper;
        odd sides are halved and rounded up. hidden: of the fully connected layer. head: see Discriminator."""
        super().__init__(**head)
        layers: list[nn.Module] = []
        width = self.inputs(channels)
        for multiple in (1, 2, 4, 8):
            next_width = base_channels * multiple
            for stride in (1, 2):
                first = not layers
                layers.append(nn.Conv2d(width, next_width, 3, stride, 1, bias=first))
                if not first:
                    layers.append(nn.BatchNorm2d(next_width))
                layers.append(nn.LeakyReLU(0.2, inplace=True))
                width = next_width
        features = width * halved(image_size, 4) ** 2
        layers += [nn.Flatten(), nn.Linear(features, hidden), nn.LeakyReLU(0.2, inplace=True)]
        self.finish(nn.Sequential(*layers), hidden)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees all before it, and a weakened skip: (N, width, H, W) -> the same."""

    def __init__(self, width: int, growth_channels: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width + index * growth_channels, width if index == 4 else growth_channels, 3, padding=1)
            for index in range(5)
        )
        for layer in self.convolutions:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight)
            with torch.no_grad():
                layer.weight.mul_(0.1)  # "smaller initialization", section 3.1
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for layer in self.convolutions[:-1]:
            seen = torch.cat([seen, nn.functional.leaky_relu(layer(seen), 0.2)], 1)
        return x + 0.2 * self.convolutions[-1](seen)  # residual scaling, section 3.1


class RRDB(Recomputable):
    """Three dense blocks within a weakened skip (figure 4): (N, width, H, W) -> the same."""

    def __init__(self, width: int, growth_channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*[DenseBlock(width, growth_channels) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.residual(x)


class RRDBNet(nn.Module):
    """Images (N, channels, H, W) in [-1, 1] -> (N, channels, scale H, scale W), of any sides; ESRGAN's generator.

    multiple: of which both sides must be.
    """

    multiple = 1

    def __init__(
        self,
        base_channels: PositiveInt,
        channels: PositiveInt,
        scale: Scale = 4,
        blocks: PositiveInt = 23,
        growth_channels: PositiveInt = 32,
    ) -> None:
        """base_channels: the width between blocks, 64 in the paper. growth_channels: what every convolution within a
        dense block adds."""
        super().__init__()
        self.scale = scale
        width = base_channels
        self.start = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(
            *[RRDB(width, growth_channels) for _ in range(blocks)], nn.Conv2d(width, width, 3, padding=1)
        )
        layers: list[nn.Module] = []
        for _ in range(doublings(scale)):
            layers += [
                nn.Upsample(scale_factor=2),  # nearest
                nn.Conv2d(width, width, 3, padding=1),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        self.upsample = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, channels, H, W) -> (N, channels, scale H, scale W), clamped to [-1, 1] in eval mode; labels ignored."""
        x = self.start(x)
        images = self.upsample(x + self.body(x))
        return images if self.training else images.clamp(-1, 1)


class VGGStyleDiscriminator(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,); ESRGAN's."""

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        hidden: PositiveInt = 100,
        **head: Any,
    ) -> None:
        """base_channels: the width at the full image size, 64. image_size: of the crops, 128 in the published code; a
        multiple of 32. hidden: of the fully connected layer. head: see Discriminator."""
        super().__init__(**head)
        if image_size % 32:
            raise ValueError(f"image_size={image_size}: the side is halved five times; use a multiple of 32")
        layers: list[nn.Module] = []
        width = self.inputs(channels)
        for multiple in (1, 2, 4, 8, 8):
            next_width = base_channels * multiple
            for kernel, stride in ((3, 1), (4, 2)):
                first = not layers
                layers.append(nn.Conv2d(width, next_width, kernel, stride, 1, bias=first))
                if not first:
                    layers.append(nn.BatchNorm2d(next_width))
                layers.append(nn.LeakyReLU(0.2, inplace=True))
                width = next_width
        features = width * (image_size // 32) ** 2
        layers += [nn.Flatten(), nn.Linear(features, hidden), nn.LeakyReLU(0.2, inplace=True)]
        self.finish(nn.Sequential(*layers), hidden)
