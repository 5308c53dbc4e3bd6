"""Super-resolution: crops of high-resolution images as "image", the same made smaller as "input".

They are made smaller on the fly by torch's antialiased bicubic interpolation. On Set5 ×4 its images are 0.06 grey
levels from what the definition of MATLAB's imresize gives, on average, and Pillow's bicubic ones 0.16. Enlarged again
by antialiased bicubic they have 28.43 dB on Y, made by any of the three; 28.42 is published.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import DataLoader

from gan_lightning.data.base import say
from gan_lightning.data.decoding import Decoder, Unreadable, Zipped, open_image, quiet
from gan_lightning.data.image_folder import threads
from gan_lightning.data.jittered_folder import split
from gan_lightning.data.pixels import resize
from gan_lightning.data.sets import ImageSet
from gan_lightning.data.sources import Folder
from gan_lightning.data.translation import Translation, listed
from gan_lightning.draws import generator
from gan_lightning.errors import UserError
from gan_lightning.metrics.paired import SMALLEST
from gan_lightning.paths import expand
from gan_lightning.types import Fraction, PositiveFloat, PositiveInt

Source = Tensor | Path  # pixels (C, H, W) uint8, or the file that they are decoded from at every access


class WholeDecoder(Decoder):
    """Turns a file into pixels of its own size."""

    def pixels(self, path: Path | Zipped) -> NDArray[np.uint8]:
        image = open_image(path).convert("L" if self.channels == 1 else "RGB")
        return np.array(image).reshape(image.height, image.width, self.channels).transpose(2, 0, 1)


class Whole(ImageSet):
    """Images of different sizes, cut at their right and lower ends to multiples of the scale, with their inputs.

    They are taken one at a time, or several of one size: tensors (n, C, H, W).
    """

    def __init__(self, sources: Sequence[Source], scale: int, channels: int) -> None:
        self.sources, self.scale = list(sources), scale
        self.decoder = WholeDecoder(0, channels, "crop", "bicubic")
        self.labels = torch.zeros(len(self.sources), dtype=torch.int64)

    def pixels(self, index: int) -> Tensor:
        """One image (C, H, W), whole."""
        source = self.sources[index]
        if isinstance(source, Tensor):
            return source
        try:
            return torch.from_numpy(self.decoder.decode(source))
        except Unreadable as error:
            raise UserError(f"changed while training: {source}: {error}") from None

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        found = []
        for index in indices:
            pixels = self.pixels(index)
            height, width = (side // self.scale * self.scale for side in pixels.shape[1:])
            found.append(pixels[:, :height, :width])
        if len({image.shape for image in found}) > 1:
            raise ValueError("these images have different sizes: take them one at a time")
        return with_inputs(torch.stack(found), self.scale) | {"label": self.labels[: len(found)]}

    def subset(self, rows: Tensor) -> "Whole":
        return Whole([self.sources[row] for row in rows.tolist()], self.scale, self.decoder.channels)


class Crops(ImageSet):
    """So many crops of each image; another place, and a turn by 90° or none, in every epoch, otherwise the centre.

    The last row and column of an image that is too small are repeated.
    """

    def __init__(self, whole: Whole, size: int, each: int, turn: bool) -> None:
        self.whole, self.size, self.each, self.turn = whole, size, each, turn
        self.labels = torch.zeros(len(whole) * each, dtype=torch.int64)
        self.places: Tensor | None = None  # (N, 2) in [0, 1)
        self.turns = torch.zeros_like(self.labels)

    def of_epoch(self, seed: int, epoch: int) -> "Crops":
        view = copy(self)
        view.places = torch.rand(len(self), 2, generator=generator(seed, "crop", epoch))
        if self.turn:
            view.turns = torch.randint(4, (len(self),), generator=generator(seed, "turn", epoch))
        return view

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        found = []
        for index in indices:
            pixels = self.whole.pixels(index % len(self.whole))
            places = [0.5, 0.5] if self.places is None else self.places[index].tolist()
            rows, columns = (
                (int(place * max(side - self.size + 1, 0)) + torch.arange(self.size)).clamp(max=side - 1)
                for place, side in zip(places, pixels.shape[1:], strict=True)
            )
            found.append(pixels[:, rows][:, :, columns].rot90(int(self.turns[index]), (1, 2)))
        labels = self.labels[torch.tensor(indices, dtype=torch.int64)]
        return with_inputs(torch.stack(found), self.whole.scale) | {"label": labels}


def with_inputs(images: Tensor, scale: int) -> dict[str, Tensor]:
    """Images (n, C, H, W) uint8 and what they are made of (n, C, H/scale, W/scale)."""
    height, width = images.shape[-2:]
    return {"image": images, "input": resize(images, (height // scale, width // scale))}


def smaller(image_size: int, scale: int) -> int:
    """The side of what images are made of. Raises ValueError where it is no whole number."""
    if image_size % scale:
        raise ValueError(f"image_size={image_size}: is not a multiple of data.scale={scale}")
    return image_size // scale


class SuperResolution(Translation):
    """High-resolution images and their small versions. A subclass says where they come from, in `sources`.

    `image_size` is the side of training crops. Held-out images are whole and of different sizes: `val_dataloader` gives
    one at a time (1, C, H, W).

    Args:
        scale: an image's sides are so many times as long as its input's.
        crops: of each image in an epoch.
        turn: crops are turned by a multiple of 90°.
    """

    kind = "small"

    def __init__(
        self,
        scale: Literal[2, 4, 8] = 4,
        crops: PositiveInt = 16,
        turn: bool = True,
        domains: Sequence[str] = ("low resolution", "high resolution"),
        **base: Any,
    ) -> None:
        super().__init__(domains=domains, **base)
        self.scale, self.crops, self.turn = scale, crops, turn
        self.border = scale  # as published scores of super-resolution
        self.input_size = smaller(self.image_size, scale)

    def sources(self) -> tuple[Sequence[Source], Sequence[Source]]:
        """The training images and the held-out ones."""
        raise NotImplementedError

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        train, held_out = (Whole(part, self.scale, self.channels) for part in self.sources())
        return Crops(train, self.image_size, self.crops, self.turn), held_out, []

    def chosen(self, images: ImageSet) -> ImageSet:
        assert isinstance(images, Crops)
        whole = super().chosen(images.whole)
        assert isinstance(whole, Whole)
        return images if whole is images.whole else Crops(whole, self.image_size, self.crops, self.turn)

    @property
    def examples(self) -> ImageSet:
        """The centres of the held-out images."""
        assert isinstance(self.held_out, Whole)
        return Crops(self.held_out, self.image_size, 1, turn=False)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The held-out images in order, whole: batches of one."""
        return self._loader(self.held_out, [[index] for index in range(len(self.held_out))], epoch=0)


class SuperResolutionFolder(SuperResolution):
    """The images of a folder.

    Subfolders train and val, or else test, say what is held out, where they are there; else it is the share `held_out`.

    Args:
        memory_gb: larger sets are decoded at every access.
    """

    def __init__(self, root: Path, held_out: Fraction = 0.1, memory_gb: PositiveFloat = 4.0, **base: Any) -> None:
        super().__init__(**base)
        if held_out >= 1:
            raise ValueError(f"held_out={held_out}: leaves no image to train on")
        self.root = expand(root)
        self.folder = Folder(self.root)
        self.held_out_fraction = held_out
        self.memory_gb = memory_gb

    def check(self) -> None:
        self.folder.check()

    def sources(self) -> tuple[Sequence[Source], Sequence[Source]]:
        self.check()
        if line := self.folder.links():
            say(line)
        train, held_out = split(self.folder.names(), self.root, self.held_out_fraction)
        names = [*train, *held_out]
        decoder = WholeDecoder(0, self.channels, "crop", "bicubic")
        scored = -(-(SMALLEST + 2 * self.border) // self.scale) * self.scale
        smallest = [self.image_size] * len(train) + [scored] * len(held_out)

        def read(name: str, least: int) -> Tensor | str:
            try:
                pixels = decoder.decode(self.root / name)
            except Unreadable as error:
                return str(error)
            height, width = pixels.shape[1:]
            if min(height, width) < least:
                return f"{width}×{height}, smaller than {least}×{least}"
            return torch.from_numpy(pixels)

        found: list[Source] = []
        wrong: list[str] = []
        taken, most = 0, self.memory_gb * 2**30
        with quiet(), ThreadPoolExecutor(threads([self.root / name for name in names])) as pool:
            for name, pixels in zip(names, pool.map(read, names, smallest), strict=True):
                if isinstance(pixels, str):
                    wrong.append(f"{self.root / name}: {pixels}")
                    continue
                taken += pixels.nbytes
                found.append(pixels if taken <= most else self.root / name)
        if wrong:
            raise UserError(f"data.root={self.root}: {len(wrong)} file(s) cannot be used:{listed(sorted(wrong))}")
        return found[: len(train)], found[len(train) :]


class SuperResolutionPhotos(SuperResolution):
    """The two photographs in scikit-learn: their left three quarters to train on, the right quarter held out."""

    def sources(self) -> tuple[Sequence[Source], Sequence[Source]]:
        bunch: Any = load_sample_images()
        photos = [torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous() for image in bunch.images]
        if self.channels == 1:  # ITU-R 601, as Pillow
            weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
            photos = [(photo * weights).sum(0, keepdim=True).round().to(torch.uint8) for photo in photos]
        cut = [photo.shape[2] * 3 // 4 for photo in photos]
        if (largest := min(*cut, *(photo.shape[1] for photo in photos))) < self.image_size:
            raise UserError(f"data.image_size={self.image_size}: crops of these photographs are {largest} at most")
        return (
            [photo[..., :end] for photo, end in zip(photos, cut, strict=True)],
            [photo[..., end:] for photo, end in zip(photos, cut, strict=True)],
        )
