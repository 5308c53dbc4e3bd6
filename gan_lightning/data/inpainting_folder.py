"""Images with holes: drawn ones, or those that mask files or the alpha channel of the images show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_lightning.data.base import say
from gan_lightning.data.cache import fingerprint
from gan_lightning.data.decoding import Decoder, Unreadable, Zipped, open_image, open_upright
from gan_lightning.data.jittered_folder import JitteredFolder
from gan_lightning.data.masks import Holes, Shape
from gan_lightning.data.sets import ImageSet, View
from gan_lightning.data.sources import Folder
from gan_lightning.data.translation import Translation, partners
from gan_lightning.draws import generator
from gan_lightning.paths import expand
from gan_lightning.types import Fraction, NonNegativeInt

HOLE = 128  # levels of a mask from here on are a hole


class Drawn(View):
    """Images with a drawn hole: another one in every epoch, otherwise the one that `seed` gives it."""

    def __init__(self, source: ImageSet, holes: Holes, seed: int) -> None:
        super().__init__(source)
        self.holes, self.stream = holes, (seed, "held out")

    def of_epoch(self, seed: int, epoch: int) -> "Drawn":
        view = self.over(self.source.of_epoch(seed, epoch))
        view.stream = seed, f"epoch {epoch}"
        return view

    def take(self, index: Tensor) -> dict[str, Tensor]:
        batch = self.source.take(index)
        size = batch["image"].shape[-1]
        seed, part = self.stream
        masks = [self.holes.draw(size, generator(seed, "mask", part, number)) for number in index.tolist()]
        mask = torch.stack(masks) if masks else torch.zeros(0, 1, size, size, dtype=torch.bool)
        return batch | {"mask": mask.to(index.device)}


class Given(View):
    """Images whose last channel shows their hole."""

    def take(self, index: Tensor) -> dict[str, Tensor]:
        batch = self.source.take(index)
        return batch | {"image": batch["image"][:, :-1], "mask": batch["image"][:, -1:] >= HOLE}


class Inpainting(Translation):
    """Images with a "mask", 1 in the hole; the model makes of both what its generator is given.

    Args:
        masks: the drawn shape: box, brush (Yu et al. 2019), or both, a coin for each.
        share: the range of their share of the image.
        mask_seed: of the masks of held-out images, which are the same in every run.
    """

    kind = "holes"

    def __init__(
        self,
        masks: Shape = "brush",
        share: Sequence[Fraction] = (0.1, 0.4),
        mask_seed: NonNegativeInt = 0,
        domains: Sequence[str] = ("holes", "image"),
        **base: Any,
    ) -> None:
        super().__init__(domains=domains, **base)
        if len(share) != 2:
            raise ValueError(f"share={list(share)}: must be two shares of the image, the smallest and the largest")
        self.masks: str = masks
        self.holes = Holes(masks, *share)
        self.mask_seed = mask_seed

    @property
    def values(self) -> int:
        return super().values + self.image_size**2

    def with_holes(self, train: ImageSet, held_out: ImageSet) -> tuple[ImageSet, ImageSet]:
        """Both parts with drawn masks."""
        return Drawn(train, self.holes, self.mask_seed), Drawn(held_out, self.holes, self.mask_seed)


@dataclass(frozen=True)
class MaskDecoder(Decoder):
    """Turns a file, and its mask, into one image with a last channel, 255 in the hole; `channels` counts it.

    Without masks transparent pixels are the hole, and the colours under them the truth.
    """

    stamp: str  # what changes when a mask does
    masks: Mapping[Path, Path] = field(repr=False)

    def pixels(self, path: Path | Zipped) -> NDArray[np.uint8]:
        assert isinstance(path, Path)
        if self.masks:
            image, file = open_image(path), self.masks[path]
            mask, name = open_image(file).convert("L"), f"its mask {file}"
            if mask.size != image.size:
                (width, height), (mask_width, mask_height) = image.size, mask.size
                raise Unreadable(f"{width}×{height}, and {name} is {mask_width}×{mask_height}")
        else:
            image = open_upright(path)
            if not image.has_transparency_data:
                raise Unreadable("has no alpha channel, which data.masks=alpha reads holes from")
            image = image.convert("RGBA")
            mask, name = image.getchannel("A").point([255 - level for level in range(256)]), "its alpha channel"
        hole = self.planes(mask, 1)
        if not (hole >= HOLE).any():
            raise Unreadable(f"{name} has no hole")
        if (hole >= HOLE).all():
            raise Unreadable(f"{name} has a hole as large as the image")
        return np.concatenate([self.planes(image.convert("RGB"), self.channels - 1), hole])


class InpaintingFolder(Inpainting, JitteredFolder):
    """Images of a folder with holes; jitter crops images together with their masks.

    Args:
        masks: box, brush or both draw a mask for each image and epoch; files: those in `mask_root`, white where the
            hole is, of the names (suffixes may differ) and sizes of the images; alpha: transparent pixels of the images
            are the hole, and the colours under them the truth.
        share, mask_seed: of drawn masks.
    """

    def __init__(
        self,
        masks: Literal["box", "brush", "both", "files", "alpha"] = "brush",
        mask_root: Path | None = None,
        **folder: Any,
    ) -> None:
        drawn: Shape | None = None if masks in ("files", "alpha") else masks
        super().__init__(masks=drawn or "brush", **folder)
        if (masks == "files") != (mask_root is not None):
            raise ValueError(f"masks={masks}: data.mask_root={mask_root}: must be given for masks=files, and only then")
        self.masks, self.drawn = masks, drawn is not None
        self.mask_root = None if mask_root is None else expand(mask_root)

    def check(self) -> None:
        super().check()
        if self.mask_root is not None:
            Folder(self.mask_root, "data.mask_root").check()
            self.partners(self.mask_root)

    def partners(self, masks: Path) -> Mapping[str, str]:
        """The mask of each image. Raises UserError where there is none."""
        found = Folder(masks, "data.mask_root").names()
        return partners(self.folder.names(), found, f"data.root={self.root}", f"data.mask_root={masks}")

    def decoder_of(self, size: int) -> Decoder:
        plain = super().decoder_of(size)
        if self.drawn:
            return plain
        found, stamp = {}, ""
        if self.mask_root is not None:
            matched = self.partners(self.mask_root)
            found = {self.root / name: self.mask_root / mask for name, mask in matched.items()}
            stamp = fingerprint(self.mask_root, list(matched.values()), "masks")
        return MaskDecoder(plain.size, plain.channels + 1, plain.fit, plain.resample, stamp, found)

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        if self.mask_root is not None and (line := Folder(self.mask_root, "data.mask_root").links()):
            say(line)
        train, held_out, classes = super().load()
        if self.drawn:
            return *self.with_holes(train, held_out), classes
        return Given(train), Given(held_out), classes
