"""Inpainting in two stages with contextual attention: DeepFill v1 (Yu et al. 2018) and v2 (Yu et al. 2019).

A coarse network fills the hole; a fine one, of a convolutional and an attending branch, fills it again. Version 2 has
gated convolutions and a discriminator of patches, version 1 plain ones and two critics.

Differs from the papers: widths follow the published code, zero padding a PyTorch port of it, where version 1's paper
mirrors; version 1's local critic ends with 4 × base_channels as the port's, the published code's with 8. Attention is
that of version 1's section 4.1 as it is written. The published code leaves the length of foreground patches in the
scores, lets them run on from the end of a row into the next one, gives invalid patches a share of the softmax, divides
borders by as many patches as the rest, and has one mask for all images, reduced by leaving pixels out.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import fold, max_pool2d, normalize, pad, unfold

from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.networks.sizes import halved
from gan_lightning.networks.spectral import spectrally_normalised
from gan_lightning.networks.translator import check_sides
from gan_lightning.types import PositiveInt


class GatedConvolution(nn.Module):
    """A convolution and, of every output, how much of it passes: (N, width, H, W) -> (N, next_width, H', W').

    Yu et al. 2019, section 3.1: φ(features) ⊙ σ(gates), both convolutions of the same input.
    """

    def __init__(
        self, width: int, next_width: int, kernel: int, stride: int, dilation: int, activation: nn.Module
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.convolution = nn.Conv2d(width, 2 * next_width, kernel, stride, padding, dilation)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        features, gates = self.convolution(x).chunk(2, 1)
        return self.activation(features) * gates.sigmoid()


def plain_convolution(
    width: int, next_width: int, kernel: int, stride: int, dilation: int, activation: nn.Module
) -> nn.Module:
    """A convolution and its activation: (N, width, H, W) -> (N, next_width, H', W')."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(nn.Conv2d(width, next_width, kernel, stride, padding, dilation), activation)


Convolution = Callable[[int, int, int, int, int, nn.Module], nn.Module]


class Row(NamedTuple):
    """A convolution: the width that it ends with, in multiples of the first one's."""

    width: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1


DILATED = (Row(4, dilation=2), Row(4, dilation=4), Row(4, dilation=8), Row(4, dilation=16))
COARSE = (Row(1, 5), Row(2, stride=2), Row(2), Row(4, stride=2), Row(4), Row(4), *DILATED, Row(4), Row(4))
HALLUCINATING = (Row(1, 5), Row(1, stride=2), Row(2), Row(2, stride=2), Row(4), Row(4), *DILATED)
BEFORE_ATTENTION = (Row(1, 5), Row(1, stride=2), Row(2), Row(4, stride=2), Row(4))


def encoder(convolution: Convolution, channels: int, width: int, rows: Sequence[Row]) -> list[nn.Module]:
    """(N, channels, H, W) -> (N, 4 width, H / 4, W / 4)."""
    layers: list[nn.Module] = []
    for row in rows:
        layers.append(convolution(channels, row.width * width, row.kernel, row.stride, row.dilation, nn.ELU()))
        channels = row.width * width
    return layers


def decoder(convolution: Convolution, width: int, channels: int) -> list[nn.Module]:
    """(N, 4 width, H / 4, W / 4) -> (N, channels, H, W), the last layer linear."""
    return [
        nn.Upsample(scale_factor=2),
        convolution(4 * width, 2 * width, 3, 1, 1, nn.ELU()),
        convolution(2 * width, 2 * width, 3, 1, 1, nn.ELU()),
        nn.Upsample(scale_factor=2),
        convolution(2 * width, width, 3, 1, 1, nn.ELU()),
        convolution(width, width // 2, 3, 1, 1, nn.ELU()),
        nn.Conv2d(width // 2, channels, 3, padding=1),
    ]


class Refinement(nn.Module):
    """The fine network: (N, inputs, H, W), mask (N, 1, H, W) -> (N, channels, H, W)."""

    def __init__(self, convolution: Convolution, inputs: int, width: int, channels: int, output: nn.Module) -> None:
        super().__init__()
        deepest = 4 * width
        self.hallucinate = nn.Sequential(*encoder(convolution, inputs, width, HALLUCINATING))
        self.before_attention = nn.Sequential(
            *encoder(convolution, inputs, width, BEFORE_ATTENTION),
            convolution(deepest, deepest, 3, 1, 1, nn.ReLU()),
        )
        self.after_attention = nn.Sequential(*[convolution(deepest, deepest, 3, 1, 1, nn.ELU()) for _ in range(2)])
        self.decoder = nn.Sequential(
            convolution(2 * deepest, deepest, 3, 1, 1, nn.ELU()),
            convolution(deepest, deepest, 3, 1, 1, nn.ELU()),
            *decoder(convolution, width, channels),
            output,
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        attended = self.after_attention(contextual_attention(self.before_attention(x), mask))
        return self.decoder(torch.cat([self.hallucinate(x), attended], 1))


def contextual_attention(features: Tensor, mask: Tensor, scale: float = 10.0) -> Tensor:
    """Features (N, C, H, W) rebuilt of their own patches outside the hole: the same shape.

    Yu et al. 2018, section 4.1. Every 3×3 patch at half the resolution is compared with every one that holds no pixel
    of the hole; it becomes the mean of those, as patches of 4×4 at the full resolution, weighted by the softmax of
    `scale` times what the comparison gave. mask: (N, 1, height, width), 1 = hole, whose sides are multiples of the
    features' or as large. Without a valid patch the result is 0.
    """
    height, width = features.shape[2] // 2, features.shape[3] // 2
    places = (height, width)
    patches = normalize(unfold(features[:, :, ::2, ::2], 3, padding=1), dim=1, eps=1e-4)  # (N, 9 C, L)
    scores = patches.transpose(1, 2) @ patches  # (N, L, L), background by foreground: cosines
    scores = scores.unflatten(2, places).unflatten(1, places)
    scores = propagate(propagate(scores, 2, 4), 1, 3).flatten(3).flatten(1, 2)  # left and right, then up and down
    smaller = max_pool2d(mask, (mask.shape[2] // height, mask.shape[3] // width))  # (N, 1, *places)
    hole = max_pool2d(smaller, 3, 1, 1)  # of every patch, whether it holds a pixel of it
    invalid = (hole > 0).flatten(1)[:, :, None]  # (N, L, 1)
    weights = (scale * scores).masked_fill(invalid, torch.finfo(scores.dtype).min).softmax(1)
    weights = weights.masked_fill(invalid, 0)  # where no patch is valid
    pasted = unfold(features, 4, padding=1, stride=2) @ weights.to(features.dtype)  # (N, 16 C, L)
    shared = fold(torch.ones_like(pasted[:1, :16]), (2 * height, 2 * width), 4, padding=1, stride=2)
    return fold(pasted, (2 * height, 2 * width), 4, padding=1, stride=2) / shared  # a transposed convolution


def propagate(scores: Tensor, background: int, foreground: int) -> Tensor:
    """Adds to every score those of the pairs one place before and after along both of these dimensions.

    Neighbours in the picture should be made of neighbours (Yu et al. 2018, section 4.1, with k = 3); same shape.
    """
    shorter = scores.shape[background] - 1
    before = scores.narrow(background, 0, shorter).narrow(foreground, 0, shorter)
    after = scores.narrow(background, 1, shorter).narrow(foreground, 1, shorter)
    summed = scores.clone()
    summed.narrow(background, 1, shorter).narrow(foreground, 1, shorter).add_(before)
    summed.narrow(background, 0, shorter).narrow(foreground, 0, shorter).add_(after)
    return summed


def completed(x: Tensor, filling: Tensor) -> Tensor:
    """x (N, channels + 1, H, W), an image and its mask, with `filling` (N, channels, H, W) in the hole: exactly x
    everywhere else."""
    return torch.where(x[:, -1:] > 0, filling, x[:, :-1])


class DeepFillGenerator(nn.Module):
    """Images in [-1, 1] with their mask, 1 in the hole, as the last channel -> the images without a hole.

    multiple: of which both sides must be.
    """

    multiple = 8

    def __init__(
        self, convolution: Convolution, width: int, channels: int, output: Callable[[], nn.Module], fine_sees_mask: bool
    ) -> None:
        """width: at the full image size; the last layer but one has half of it."""
        super().__init__()
        self.fine_sees_mask = fine_sees_mask
        self.coarse = nn.Sequential(
            *encoder(convolution, channels + 2, width, COARSE), *decoder(convolution, width, channels), output()
        )
        self.fine = Refinement(convolution, channels + 2 * fine_sees_mask, width, channels, output())

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, channels + 1, H, W) -> (N, channels, H, W), the fine result in the hole; labels are ignored."""
        return completed(x, self.stages(x)[1])

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, channels + 1, H, W) -> two fillings of the whole image, coarse and fine (N, channels, H, W).

        What x holds in the hole is not looked at; outside of it the fillings need not agree with x.
        """
        check_sides(x, self.multiple)
        mask = x[:, -1:]
        seen = x[:, :-1] * (1 - mask)
        beside = torch.cat([torch.ones_like(mask), mask], 1)  # ones tell the image from the padding of its border
        coarse = self.coarse(torch.cat([seen, beside], 1))
        filled = seen + coarse * mask
        return coarse, self.fine(torch.cat([filled, beside], 1) if self.fine_sees_mask else filled, mask)


class DeepFillV2Generator(DeepFillGenerator):
    """Gated convolutions; the fine network is given the filled image alone (Yu et al. 2019, section 3.3)."""

    def __init__(self, base_channels: PositiveInt, channels: PositiveInt) -> None:
        """base_channels: features and gates at the full image size, as the published code counts: 48."""
        if base_channels % 4:
            raise ValueError(
                f"base_channels={base_channels}: the last layers are a quarter as wide; use a multiple of 4"
            )
        super().__init__(GatedConvolution, base_channels // 2, channels, nn.Tanh, fine_sees_mask=False)


class DeepFillV1Generator(DeepFillGenerator):
    """Plain convolutions; what they return is clipped to [-1, 1] (Yu et al. 2018, section 3)."""

    def __init__(self, base_channels: PositiveInt, channels: PositiveInt) -> None:
        """base_channels: the width at the full image size, 32 in the published code."""
        if base_channels % 2:
            raise ValueError(f"base_channels={base_channels}: the last layer is half as wide; use a multiple of 2")
        super().__init__(plain_convolution, base_channels, channels, nn.Hardtanh, fine_sees_mask=True)


class Halving(nn.Conv2d):
    """A convolution 5×5 with stride 2: (N, width, H, W) -> (N, next_width, H / 2, W / 2), rounded up.

    A side of one pixel gets another one of zeros, which changes nothing: of an image of 1×1 PyTorch's CPU kernels for
    bfloat16 leave parts of the weight's gradient unwritten (seen in PyTorch 2.15).
    """

    def forward(self, input: Tensor) -> Tensor:
        height, width = input.shape[-2:]
        return super().forward(pad(input, (0, int(width == 1), 0, int(height == 1))))


class SNPatchDiscriminator(nn.Module):
    """Images (N, channels, H, W) and masks (N, 1, H, W) -> logits (N, 4 base_channels, h, w); version 2's.

    Every number of the last feature map is a logit: each judges its own part of the image (Yu et al. 2019, section
    3.2). As in the published code they come out of a leaky ReLU.
    """

    def __init__(self, base_channels: PositiveInt, channels: PositiveInt) -> None:
        """base_channels: the width at half the image size, 64 in the published code."""
        super().__init__()
        layers: list[nn.Module] = []
        width = channels + 1
        for multiple in (1, 2, 4, 4, 4, 4):
            next_width = base_channels * multiple
            layers += [spectrally_normalised(Halving(width, next_width, 5, 2, 2)), nn.LeakyReLU(0.2, inplace=True)]
            width = next_width
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (N, channels, H, W), mask (N, 1, H, W), 1 = hole -> (N, 4 base_channels, H / 64, W / 64), rounded up."""
        return self.layers(torch.cat([x, mask], 1))


class DeepFillV1Critic(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,); version 1's local critic of the hole, and global."""

    def __init__(self, base_channels: PositiveInt, image_size: PositiveInt, channels: PositiveInt, **head: Any) -> None:
        """base_channels: the width at half the image size, 64 in the published code. image_size: of what is judged; the
        paper's 128 for the hole and 256 for the image. head: see Discriminator."""
        super().__init__(**head)
        layers: list[nn.Module] = []
        width = self.inputs(channels)
        for multiple in (1, 2, 4, 4):
            layers += [Halving(width, base_channels * multiple, 5, 2, 2), nn.LeakyReLU(0.2, inplace=True)]
            width = base_channels * multiple
        self.finish(nn.Sequential(*layers), width * halved(image_size, 4) ** 2)


class DeepFillV1Critics(nn.Module):
    """Images (N, channels, image_size, image_size) and masks (N, 1, H, W) -> logits (N, 2): of the hole, of the image.

    `local` judges a square around the hole, `whole` all of the image (Yu et al. 2018, section 3).
    """

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        hole_size: PositiveInt | None = None,
    ) -> None:
        """base_channels: the width at half the size, 64 in the published code. hole_size: the side of the square; null:
        half the image, as the paper's 128 of 256."""
        super().__init__()
        self.hole_size = hole_size or -(-image_size // 2)
        if self.hole_size > image_size:
            raise ValueError(f"hole_size={hole_size}: must be at most image_size={image_size}")
        self.local = DeepFillV1Critic(base_channels, self.hole_size, channels)
        self.whole = DeepFillV1Critic(base_channels, image_size, channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (N, channels, H, W), mask (N, 1, H, W), 1 = hole -> (N, 2)."""
        return torch.stack([self.on_hole(x, mask), self.whole(x)], 1)

    def on_hole(self, x: Tensor, mask: Tensor) -> Tensor:
        """The local critic's logits (N,)."""
        return self.local(around_hole(x, mask, self.hole_size))


def around_hole(x: Tensor, mask: Tensor, size: int) -> Tensor:
    """Squares of images (N, C, H, W) with their hole in the middle, as far as borders allow: (N, C, size, size).

    mask: (N, 1, H, W), 1 = hole. Of a hole that is longer than the square its middle is there. Nothing waits for the
    device.
    """
    hole = mask[:, 0] > 0
    for dim in (2, 3):
        line = hole.any(3 - (dim - 1)).to(torch.uint8)  # (N, side), of rows and then of columns
        side = line.shape[1]
        first, last = line.argmax(1), side - 1 - line.flip(1).argmax(1)
        start = ((first + last + 1 - size) // 2).clamp(0, side - size)
        places = start[:, None] + torch.arange(size, device=x.device)  # (N, size)
        places = places[:, None, :, None] if dim == 2 else places[:, None, None, :]
        shape = list(x.shape)
        shape[dim] = size
        x = x.gather(dim, places.expand(shape))
    return x
