"""Image-to-image data made of scikit-learn's digits by fixed formulas: first runs without a download."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from gan_lightning.data.digits import Digits
from gan_lightning.data.inpainting_folder import Inpainting
from gan_lightning.data.pixels import resize
from gan_lightning.data.sets import ImageSet, InMemory, View
from gan_lightning.data.superres_folder import smaller
from gan_lightning.data.translation import Pairs, Translation, Unpaired
from gan_lightning.draws import generator

INK = 128  # levels from here on belong to a digit


def edges(images: Tensor) -> Tensor:
    """Grey levels (N, C, H, W) uint8 -> the outline, 0 or 255: pixels of ink beside one without (4 neighbours)."""
    ink = (images >= INK).float()
    around = functional.pad(ink, (1, 1, 1, 1))
    inside = torch.stack(
        [around[..., 1:-1, 2:], around[..., 1:-1, :-2], around[..., 2:, 1:-1], around[..., :-2, 1:-1]]
    ).amin(0)
    return (ink * (1 - inside) * 255).to(torch.uint8)


def inverted(images: Tensor, turned: bool) -> Tensor:
    """Images (N, C, H, W) uint8 -> their negatives; `turned`: by 90° to the left. A bijection."""
    return 255 - (images.rot90(1, (-2, -1)) if turned else images)


def paired(part: ImageSet, inputs: Tensor | None = None, made: Tensor | None = None) -> Pairs:
    """A part of the digits with an input (N, C, H, W) for each, or with what is made of each."""
    assert isinstance(part, InMemory)
    image, given = (part.images if some is None else some for some in (made, inputs))
    return Pairs(InMemory(torch.cat([image, given], dim=1), part.labels), image.shape[1])


class PairedDigits(Translation, Digits):
    """Digits, given their outlines."""

    def __init__(self, domains: Sequence[str] = ("edges", "digit"), **base: Any) -> None:
        super().__init__(domains=domains, **base)

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        train, held_out, classes = super().load()
        assert isinstance(train, InMemory)
        assert isinstance(held_out, InMemory)
        return paired(train, edges(train.images)), paired(held_out, edges(held_out.images)), classes


class UnpairedDigits(Translation, Digits):
    """A: digits. B: others, inverted. No training image of A has its partner in B.

    The held-out digits are pairs, so that a translation can be compared with the truth. Without labels.

    Args:
        turned: B is turned by 90° as well. Nothing without pairs says which digit is which, and a network that can turn
            a digit can as well make another one of it.
    """

    kind = "unpaired"
    extractor = "objects"  # to that of digits all negatives look alike

    def __init__(
        self,
        flip: Literal[False] = False,  # a mirrored digit has no mirrored partner
        turned: bool = False,
        domains: Sequence[str] = ("digit", "inverted"),
        **base: Any,
    ) -> None:
        super().__init__(flip=flip, domains=domains, **base)
        self.turned = turned

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        train, held_out, _ = super().load()
        assert isinstance(train, InMemory)
        assert isinstance(held_out, InMemory)
        order = torch.randperm(len(train), generator=generator(0, "digits", "domains"))
        a, b = (train.images[rows.sort().values] for rows in order.tensor_split(2))
        pairs = paired(InMemory(held_out.images), made=inverted(held_out.images, self.turned))
        return Unpaired(InMemory(inverted(b, self.turned)), InMemory(a)), pairs, []


class Smaller(View):
    """Images with an input that is so many times smaller, made by antialiased bicubic when they are taken."""

    def __init__(self, source: ImageSet, scale: int) -> None:
        super().__init__(source)
        self.scale = scale

    def take(self, index: Tensor) -> dict[str, Tensor]:
        batch = self.source.take(index)
        return batch | {"input": resize(batch["image"], batch["image"].shape[-1] // self.scale)}


class SuperResolutionDigits(Translation, Digits):
    """Digits, given smaller ones.

    Args:
        scale: an image's sides are so many times as long as its input's.
    """

    kind = "small"

    def __init__(
        self,
        scale: Literal[2, 4, 8] = 4,
        domains: Sequence[str] = ("small digit", "digit"),
        **base: Any,
    ) -> None:
        super().__init__(domains=domains, **base)
        self.scale, self.border = scale, scale
        self.input_size = smaller(self.image_size, scale)

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        train, held_out, classes = super().load()
        return Smaller(train, self.scale), Smaller(held_out, self.scale), classes


class InpaintingDigits(Inpainting, Digits):
    """Digits with holes."""

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        train, held_out, classes = super().load()
        return *self.with_holes(train, held_out), classes
