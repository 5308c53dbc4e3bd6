"""DCGAN's convolutional networks (Radford et al. 2016, figure 1 and section 3), and WGAN-GP's critic without BatchNorm.

Differs from the paper: by default 4×4 kernels in place of 5×5, and no biases with BatchNorm, as its usual PyTorch
version has them; widths stop at 8 × base_channels; sizes other than 64, which `levels` halves and rounds up.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from gan_lightning.networks.conditional import batch_norm, conditioned, one_hot
from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.networks.sizes import check_size, halved
from gan_lightning.networks.transposed import Project, doubling
from gan_lightning.types import NonNegativeInt, PositiveInt

Norm = Literal["batch", "layer", "instance", "none"]
Kernel = Literal[4, 5]
IMAGE_SIZES = (16, 28, 32, 64, 112, 128, 256)


def widths(base_channels: int, image_size: int, levels: int | None = None, kernel: Kernel = 5) -> tuple[int, list[int]]:
    """The smallest side of the pyramid and the widths from there up to half the image size.

    64 -> 4, [8, 4, 2, 1] × base_channels (sides 4, 8, 16, 32); 28 -> 7, [2, 1] × base_channels; 112 as 64, from 7 on.
    levels: how many times the side doubles, for any size: 28, 4 -> 2, [8, 4, 2, 1] × base_channels.
    """
    if levels is None:
        check_size(image_size, "DCGAN's networks", IMAGE_SIZES)
        levels = (image_size // (7 if image_size in (28, 112) else 4)).bit_length() - 1
    elif kernel != 5:
        raise ValueError(f"levels={levels}: odd sides are halved by kernel=5 alone")
    return halved(image_size, levels), [base_channels * min(2**level, 8) for level in reversed(range(levels))]


class DCGANGenerator(nn.Module):
    """Latents (N, latent_size) -> images (N, channels, image_size, image_size) in [-1, 1]."""

    def __init__(
        self,
        latent_size: PositiveInt,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        classes: NonNegativeInt = 0,
        conditioning: Literal["concatenation", "batch_norm"] = "concatenation",
        kernel: Kernel = 4,
        norm: Literal["batch", "none"] = "batch",
        levels: PositiveInt | None = None,
    ) -> None:
        """base_channels: the width at half the image size, "ngf". Labels come beside the latents or as each class's
        own BatchNorm. kernel: 5 in the paper. norm: "none" as in WGAN-GP's published code. levels: how many times the
        side doubles, for any size; as the size asks when left out."""
        super().__init__()
        if norm == "none" and classes and conditioning == "batch_norm":
            raise ValueError("norm=none: there is no BatchNorm for conditioning=batch_norm")
        self.latent_size = latent_size
        self.classes = classes
        self.label_inputs = classes if conditioning == "concatenation" else 0
        biased = norm == "none"

        def activated(channels: int) -> list[nn.Module]:
            own = classes - self.label_inputs  # classes that BatchNorm has scales of
            return [*([] if biased else [batch_norm(channels, own)]), nn.ReLU(inplace=True)]

        smallest, (width, *narrower) = widths(base_channels, image_size, levels, kernel)
        layers: list[nn.Module] = [Project(latent_size + self.label_inputs, width, smallest, biased), *activated(width)]
        for level, next_width in zip(range(len(narrower), 0, -1), narrower, strict=True):
            odd = halved(image_size, level) % 2 == 1
            layers += [doubling(width, next_width, kernel, biased, odd), *activated(next_width)]
            width = next_width
        layers += [doubling(width, channels, kernel, biased, image_size % 2 == 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size), y (N,) -> (N, channels, image_size, image_size); without classes labels are ignored."""
        if self.label_inputs:
            assert y is not None
            z = torch.cat([z, one_hot(y, self.classes).to(z.dtype)], 1)
        return conditioned(self.layers, z[:, :, None, None], y)  # (N, latent_size, 1, 1) -> (N, C, H, W)


class DCGANDiscriminator(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,)."""

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        norm: Norm = "batch",
        kernel: Kernel = 4,
        levels: PositiveInt | None = None,
        **head: Any,
    ) -> None:
        """base_channels: the width at half the image size, "ndf". norm: "batch" as in the paper; a critic with a
        gradient penalty must not mix samples and takes "layer", "instance" or "none" (Gulrajani et al. 2017, section
        4). kernel: 5 in the paper. levels: as the generator's. head: see Discriminator."""
        super().__init__(**head)
        smallest, narrowing = widths(base_channels, image_size, levels, kernel)
        biased = norm != "batch"  # the counts of the usual DCGAN have no bias even where no norm follows
        layers: list[nn.Module] = []
        width = self.inputs(channels)
        for next_width in reversed(narrowing):
            first = not layers  # no norm on the images
            bias = biased and (first or norm == "none")
            layers.append(nn.Conv2d(width, next_width, kernel, 2, (kernel - 1) // 2, bias=bias))  # halves the side
            if not first and norm != "none":
                layers.append(normalise(norm, next_width))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            width = next_width
        self.finish(nn.Sequential(*layers), width * smallest**2, bias=biased)


def normalise(norm: Literal["batch", "layer", "instance"], channels: int) -> nn.Module:
    """A layer that normalises (N, channels, H, W): over the minibatch, over a sample, or over each of its channels."""
    groups = {"layer": 1, "instance": channels}
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(groups[norm], channels)
