"""AC-GAN's networks for CIFAR-10 (Odena et al. 2017, appendix A, table 2).

Differs from the paper: no biases beside BatchNorm; sizes other than 32, of which the generator doubles DCGAN's smallest
sides and the discriminator halves any side three times.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.networks.conditional import one_hot
from gan_lightning.networks.dcgan import widths
from gan_lightning.networks.discriminator import Discriminator
from gan_lightning.networks.transposed import doubling
from gan_lightning.types import Fraction, NonNegativeInt, PositiveInt

SMALLEST = 8  # side of images that three halvings leave a pixel of


class ACGANGenerator(nn.Module):
    """Latents (N, latent_size) -> images (N, channels, image_size, image_size) in [-1, 1]."""

    def __init__(
        self,
        latent_size: PositiveInt,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        classes: NonNegativeInt = 0,
    ) -> None:
        """base_channels: the width at half the image size, 96 in the paper. Labels come beside the latents."""
        super().__init__()
        self.latent_size = latent_size
        self.classes = classes
        smallest, (width, *narrower) = widths(base_channels, image_size)
        layers: list[nn.Module] = [
            nn.Linear(latent_size + classes, width * smallest**2),
            nn.ReLU(inplace=True),  # without BatchNorm
            nn.Unflatten(1, (width, smallest, smallest)),
        ]
        for next_width in narrower:
            layers += [doubling(width, next_width, 5), nn.BatchNorm2d(next_width), nn.ReLU(inplace=True)]
            width = next_width
        self.layers = nn.Sequential(*layers, doubling(width, channels, 5, bias=True), nn.Tanh())

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_size), y (N,) -> (N, channels, image_size, image_size); without classes labels are ignored."""
        if self.classes:
            assert y is not None
            z = torch.cat([z, one_hot(y, self.classes).to(z.dtype)], 1)
        return self.layers(z)


class ACGANDiscriminator(Discriminator):
    """Images (N, channels, image_size, image_size) -> logits (N,), or (N, 1 + auxiliary) of source and classes."""

    def __init__(
        self,
        base_channels: PositiveInt,
        image_size: PositiveInt,
        channels: PositiveInt,
        dropout: Fraction = 0.5,
        **head: Any,
    ) -> None:
        """base_channels: the first width, 16 in the paper, doubled by each of the six convolutions; dropout: after
        every one. head: see Discriminator."""
        super().__init__(**head)
        if image_size < SMALLEST:
            raise ValueError(f"image_size={image_size}: AC-GAN's discriminator halves sides of {SMALLEST} and more")
        width, side = self.inputs(channels), image_size
        layers: list[nn.Module] = []
        for level in range(6):
            next_width, stride = base_channels * 2**level, 2 - level % 2
            layers.append(nn.Conv2d(width, next_width, 3, stride, padding=1, bias=not level))
            if level:  # no norm on the images
                layers.append(nn.BatchNorm2d(next_width))
            layers += [nn.LeakyReLU(0.2, inplace=True), nn.Dropout(dropout)]
            width, side = next_width, -(-side // stride)
        self.finish(nn.Sequential(*layers), width * side**2)
