"""What both players' images go through before the discriminator sees them: DiffAugment, ADA and instance noise."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gan_lightning.ada import ADA, NUMBERS
from gan_lightning.types import NonNegativeFloat, PositiveInt

Policy = Literal["color", "translation", "cutout"]
Uniform = Callable[[int, int], Tensor]  # (N, numbers of each) -> U[0, 1), (N, numbers)
PARTS = 7  # numbers that an image draws for DiffAugment


def color(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Brightness ± 0.5, saturation × 0 to 2 and contrast × 0.5 to 1.5: (N, C, H, W), each U[0, 1) (N,) -> (N, C, H, W).

    Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", and its published code.
    """
    images = images + over_pixels(brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * over_pixels(2 * saturation)
    middle = images.mean((1, 2, 3), keepdim=True)
    return middle + (images - middle) * over_pixels(contrast + 0.5)


def translation(images: Tensor, down: Tensor, right: Tensor, share: float = 1 / 8) -> Tensor:
    """Moved by up to `share` of the side, 0 where nothing was: (N, C, H, W), each U[0, 1) (N,) -> (N, C, H, W)."""
    for dim, uniform in ((2, down), (3, right)):
        side = images.shape[dim]
        most = int(side * share + 0.5)
        shift = (uniform * (2 * most + 1)).floor().long() - most  # -most … most
        source = torch.arange(side, device=images.device) - shift[:, None]  # (N, side)
        inside = (source >= 0) & (source < side)
        shape = [len(images), 1, 1, 1]
        shape[dim] = side
        index = source.clamp(0, side - 1).view(shape).expand_as(images)
        images = images.gather(dim, index) * inside.view(shape)
    return images


def cutout(images: Tensor, down: Tensor, right: Tensor, share: float = 1 / 2) -> Tensor:
    """A square of `share` of the side becomes 0, centred anywhere: (N, C, H, W), each U[0, 1) (N,) -> (N, C, H, W)."""
    outside = []
    for dim, uniform in ((2, down), (3, right)):
        side = images.shape[dim]
        size = int(side * share + 0.5)
        centre = (uniform * (side + 1 - size % 2)).floor()  # (N,)
        pixel = torch.arange(side, device=images.device) - (centre - size // 2)[:, None]  # (N, side)
        outside.append((pixel < 0) | (pixel >= size))
    hidden = ~outside[0][:, :, None] & ~outside[1][:, None, :]  # (N, H, W)
    return images * ~hidden[:, None]


def over_pixels(values: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1)."""
    return values[:, None, None, None]


class Augment(nn.Module):
    """DiffAugment, ADA and instance noise, alike for real images and fakes.

    Args:
        policy: the parts of DiffAugment, in this order.
        noise: standard deviation of Gaussian noise on the images at the start (Sønderby et al. 2017, "Amortised MAP
            Inference", section 3.3; Arjovsky & Bottou 2017).
        noise_images: training images over which it falls to 0 in a straight line; None: it stays.
        ada: a pipeline of ADA, if any; it comes after DiffAugment.
    """

    level: Tensor

    def __init__(
        self,
        policy: Sequence[Policy],
        noise: NonNegativeFloat,
        noise_images: PositiveInt | None,
        ada: ADA | None = None,
    ) -> None:
        super().__init__()
        if len(set(policy)) < len(policy):
            raise ValueError(f"augment=[{','.join(policy)}]: says the same twice")
        if noise_images and not noise:
            raise ValueError(f"instance_noise_images={noise_images}: there is no noise; set instance_noise too")
        self.policy, self.noise, self.noise_images = policy, noise, noise_images
        self.ada = ada if ada and ada.pipeline != "none" else None
        self.register_buffer("level", torch.tensor(float(noise)), persistent=False)  # a tensor: CUDA graphs read it

    def set_progress(self, images: int) -> None:
        """The noise after so many training images."""
        if self.noise and self.noise_images:
            self.level.fill_(self.noise * max(0.0, 1 - images / self.noise_images))

    def forward(self, images: Tensor, uniform: Uniform) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W); `uniform` draws what is random of DiffAugment and ADA."""
        if self.policy or self.ada:
            numbers = uniform(len(images), PARTS + (NUMBERS if self.ada else 0))
            drawn = numbers[:, :PARTS].unbind(1)
            if "color" in self.policy:
                images = color(images, drawn[0], drawn[1], drawn[2])
            if "translation" in self.policy:
                images = translation(images, drawn[3], drawn[4])
            if "cutout" in self.policy:
                images = cutout(images, drawn[5], drawn[6])
            if self.ada:
                images = self.ada(images, numbers[:, PARTS:])
        return images + self.level * torch.randn_like(images) if self.noise else images
