"""WaveGAN's networks for sound (Donahue, McAuley & Puckette 2019, "Adversarial Audio Synthesis", tables 3 and 4).

DCGAN with one axis: kernels of 25 in place of 5×5 and strides of 4 in place of 2×2, so that a sound of 16,384 samples
has as many numbers as an image of 128×128. The discriminator's activations are shifted at random (phase shuffle), so
that it cannot tell fakes by the phase of the artefacts that transposed convolutions make.

Differs from the paper: phase shuffle shifts every sample by itself, where the published code draws one shift for the
minibatch; labels, which the paper has none of; other lengths than the published code's 16,384, 32,768 and 65,536.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.networks.conditional import one_hot
from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.types import NonNegativeInt, PositiveInt

SMALLEST = 16  # positions of the smallest feature maps
STRIDE = 4


def strides(samples: int) -> list[int]:
    """The strides from SMALLEST positions up to so many samples: 4, and the last one 2 where it must be.

    16,384 -> [4, 4, 4, 4, 4]; 8,192 -> [4, 4, 4, 4, 2]. Raises ValueError for other lengths.
    """
    doublings = (samples // SMALLEST).bit_length() - 1
    if doublings < 2 or samples != SMALLEST << doublings:
        known = ", ".join(f"{SMALLEST << power:,}" for power in range(2, 13))
        raise ValueError(f"samples={samples}: WaveGAN's networks are built for {known} …")
    return [STRIDE] * (doublings // 2) + [2] * (doublings % 2)


def blocks(kernel: int, stride: int) -> tuple[int, int, int]:
    """A kernel in blocks of `stride`: how many lie on either side of the middle one, and the zeros before and after it.

    The padding is that of TensorFlow's "same", which the published code has: of the kernel - stride samples in all the
    smaller half comes first.
    """
    first = (kernel - stride) // 2
    side = max(-(-first // stride), -(-(kernel - first) // stride) - 1)
    before = side * stride - first
    return side, before, (2 * side + 1) * stride - before - kernel


class Narrow(nn.Conv1d):
    """A convolution with a stride: rows (N, L, inputs) -> (N, L / stride, outputs).

    Blocks of `stride` samples are channels here, and the kernel, filled up with zeros, has no stride: twice to four
    times as fast as conv1d on a CPU.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__(inputs, outputs, kernel, stride)
        self.side, *self.zeros = blocks(kernel, stride)

    def forward(self, input: Tensor) -> Tensor:
        stride, taps = self.stride[0], 2 * self.side + 1
        weight = functional.pad(self.weight, self.zeros).unflatten(2, (taps, stride))  # (outputs, inputs, taps, stride)
        weight = weight.permute(0, 3, 1, 2).flatten(1, 2).unsqueeze(2)  # (outputs, stride · inputs, 1, taps)
        weight = weight.contiguous(memory_format=torch.channels_last)
        maps = input.unflatten(1, (1, -1, stride)).flatten(3).permute(0, 3, 1, 2)  # (N, stride · inputs, 1, L / stride)
        return functional.conv2d(maps, weight, self.bias, padding=(0, self.side)).squeeze(2).transpose(1, 2)


class Widen(nn.ConvTranspose1d):
    """A transposed convolution with a stride: rows (N, L, inputs) -> (N, L · stride, outputs). As `Narrow`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__(inputs, outputs, kernel, stride)
        self.side, *self.zeros = blocks(kernel, stride)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        stride, taps = self.stride[0], 2 * self.side + 1
        weight = functional.pad(self.weight, self.zeros).unflatten(2, (taps, stride))  # (inputs, outputs, taps, stride)
        weight = weight.flip(2).permute(3, 1, 0, 2).flatten(0, 1).unsqueeze(2)  # (stride · outputs, inputs, 1, taps)
        weight = weight.contiguous(memory_format=torch.channels_last)
        assert self.bias is not None
        maps = input.transpose(1, 2).unsqueeze(2)  # (N, inputs, 1, L)
        maps = functional.conv2d(maps, weight, self.bias.repeat(stride), padding=(0, self.side))
        return maps.squeeze(2).transpose(1, 2).unflatten(2, (stride, -1)).flatten(1, 2)


class Rows(nn.Module):
    """Sounds (N, channels, L) -> rows (N, L, channels)."""

    def forward(self, sounds: Tensor) -> Tensor:
        return sounds.transpose(1, 2)


class Activated(nn.Linear):
    """Latents (N, size) -> rows (N, SMALLEST, width) behind a rectifier."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__(size, SMALLEST * width)

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu(super().forward(input)).unflatten(1, (SMALLEST, -1))


def shifted(rows: Tensor, shifts: Tensor) -> Tensor:
    """Rows (N, L, C), each later by its own whole number of positions, shifts (N,); what is missing is reflected."""
    count, length, _ = rows.shape
    places = (torch.arange(length, device=rows.device) - shifts[:, None]).abs()  # (N, L): where each comes from
    places = (length - 1) - ((length - 1) - places).abs()
    places = places + length * torch.arange(count, device=rows.device)[:, None]
    return functional.embedding(places, rows.flatten(0, 1))  # twice as fast as index_select, with its gradients


class PhaseShuffle(nn.Module):
    """In training, rows (N, L, C) shifted by -most … most positions, evenly, drawn for each sample (section 3.3).

    The shifts come from torch's global stream, as a dropout's mask does.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, rows: Tensor) -> Tensor:
        if not self.most or not self.training:
            return rows
        return shifted(rows, torch.randint(-self.most, self.most + 1, rows.shape[:1], device=rows.device))


class WaveGANGenerator(nn.Module):
    """Latents (N, latent_size) -> sounds (N, 1, samples) in [-1, 1]."""

    def __init__(
        self,
        latent_size: PositiveInt,
        base_channels: PositiveInt,
        samples: PositiveInt,
        classes: NonNegativeInt = 0,
        kernel: PositiveInt = 25,
    ) -> None:
        """base_channels: the width of the last feature maps (d; 64 in the paper); each layer halves it. samples: 16 · 4
        · 4 …, or twice that. classes: labels come beside the latents."""
        super().__init__()
        self.latent_size = latent_size
        self.classes = classes
        steps = strides(samples)
        width = base_channels << (len(steps) - 1)
        layers: list[nn.Module] = [Activated(latent_size + classes, width)]
        for stride in steps[:-1]:
            layers += [Widen(width, width // 2, kernel, stride), nn.ReLU(inplace=True)]
            width //= 2
        layers += [Widen(width, 1, kernel, steps[-1]), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size), y (N,) -> (N, 1, samples); without classes labels are ignored."""
        if self.classes:
            assert y is not None
            z = torch.cat([z, one_hot(y, self.classes).to(z.dtype)], 1)
        return self.layers(z).transpose(1, 2)


class WaveGANDiscriminator(Discriminator):
    """Sounds (N, 1, samples) -> logits (N,)."""

    def __init__(
        self,
        base_channels: PositiveInt,
        samples: PositiveInt,
        phase_shuffle: NonNegativeInt = 2,
        kernel: PositiveInt = 25,
        **head: Any,
    ) -> None:
        """base_channels: the width of the first feature maps (d), which each layer doubles. phase_shuffle: the largest
        shift (n; 0: none), behind all layers but the last. head: see Discriminator."""
        super().__init__(**head)
        inputs, steps = self.inputs(1), strides(samples)
        width = base_channels
        layers: list[nn.Module] = [Rows()]
        for level, stride in enumerate(steps):
            layers += [Narrow(inputs, width, kernel, stride), nn.LeakyReLU(0.2, inplace=True)]
            if level < 4 and stride == STRIDE and level < len(steps) - 1:
                layers.append(PhaseShuffle(phase_shuffle))
            inputs, width = width, 2 * width
        self.finish(nn.Sequential(*layers), SMALLEST * inputs)
