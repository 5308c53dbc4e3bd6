"""A folder of images of any size: flat, nested or one folder a class; JPEG, PNG, WebP, BMP, TIFF."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from gan_lightning.data import prepared
from gan_lightning.data.base import ImageData, say
from gan_lightning.data.cache import Cache, Mapped, fingerprint
from gan_lightning.data.decoding import Decoder, Fit, Resample
from gan_lightning.data.listing import classes_and_labels, hashed, read_labels
from gan_lightning.data.sets import ImageSet, InMemory
from gan_lightning.data.sources import Folder, cannot_be_read
from gan_lightning.errors import UserError
from gan_lightning.paths import cache_folder, expand
from gan_lightning.types import Fraction, PositiveFloat

SMALL = 3000  # bytes: files below are decoded faster by one thread than by several (20,000 of 32×32: 3 s, not 7)
LISTED = 10  # names shown in an error


def threads(paths: Sequence[Path]) -> int:
    """Decoding threads. Pillow frees the interpreter lock, but fighting for it costs more than small files take."""
    if get_worker_info():  # a loader's workers are parallel already
        return 1
    sizes = [os.path.getsize(path) for path in paths[:: len(paths) // 64 + 1] if os.path.isfile(path)]
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return 1 if sum(sizes) < SMALL * len(sizes) else min(8, cores)


class OnDisk(ImageSet):
    """Images decoded at every access."""

    def __init__(self, paths: Sequence[Path], labels: Tensor, decoder: Decoder) -> None:
        self.paths, self.labels, self.decoder = paths, labels, decoder

    def __len__(self) -> int:
        return len(self.paths)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        paths = [self.paths[index] for index in indices]
        pixels, unreadable = self.decoder.decode_all(paths, threads(paths))
        if unreadable:
            reasons = [f"{paths[index]}: {reason}" for index, reason in unreadable.items()]
            more = f"; and {len(reasons) - LISTED} more" if len(reasons) > LISTED else ""
            raise UserError("changed while training: " + "; ".join(reasons[:LISTED]) + more)
        return {"image": torch.from_numpy(pixels), "label": self.labels[torch.tensor(indices, dtype=torch.int64)]}

    def subset(self, rows: Tensor) -> "OnDisk":
        return OnDisk([self.paths[row] for row in rows.tolist()], self.labels[rows], self.decoder)


def held_out_count(numbers: Sequence[float] | NDArray[np.float64], fraction: float) -> int:
    """How many images are held out: those whose number is below `fraction`, so that new files move no others.

    Small folders keep at least one image on each side, where there are two and `fraction` is not 0.
    """
    if fraction == 0 or len(numbers) < 2:
        return 0
    return min(max(1, int((np.asarray(numbers) < fraction).sum())), len(numbers) - 1)


class ImageFolder(ImageData):
    """Images of a folder, resized and cropped or padded to squares.

    Their pixels are decoded once and kept in `cache`, a folder; `auto`: gan_lightning/images in the user's cache
    folder. Without it (`off`, or no space) they live in memory when they fit. Those of a folder that `prepare` made
    are there already.
    """

    key = "data.root"  # what a user names the folder with

    def __init__(
        self,
        root: Path,
        fit: Fit = "crop",
        resample: Resample = "lanczos",
        held_out: Fraction = 0.1,
        labels: bool = True,
        skip_unreadable: bool = False,
        cache: Literal["auto", "off", False] | Path = "auto",
        memory_gb: PositiveFloat = 4.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if held_out >= 1:
            raise ValueError(f"held_out={held_out}: leaves no image to train on")
        self.root = expand(root)
        self.folder = Folder(self.root, self.key)
        self.decoder = Decoder(self.image_size, self.channels, fit, resample)
        self.held_out_fraction = held_out
        self.labels = labels
        self.skip_unreadable = skip_unreadable
        self.memory_gb = memory_gb
        off = str(cache) in ("off", "False", "false")  # YAML reads a bare off as false
        self.cache = "off" if off else "auto" if cache == "auto" else expand(str(cache))

    def check(self) -> None:
        if prepared.is_prepared(self.root):
            return prepared.check(self.root, self.decoder, self.labels)
        self.folder.check()
        if self.labels and (given := self.folder.dataset()):
            read_labels(*given)
        if isinstance(self.cache, Path):
            there = next(path for path in (self.cache, *self.cache.absolute().parents) if os.path.exists(path))
            if not os.path.isdir(there):
                raise UserError(f"data.cache={self.cache}: {'' if there == self.cache else f'{there} is '}not a folder")
            if not os.access(there, os.W_OK | os.X_OK):
                raise UserError(f"data.cache={self.cache}: nothing can be written to {there}")

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        self.check()
        if prepared.is_prepared(self.root):
            whole, numbers, classes = prepared.load(self.root, self.labels)
            train = len(numbers) - held_out_count(numbers, self.held_out_fraction)
            rows = torch.arange(len(numbers))
            return whole.subset(rows[:train]), whole.subset(rows[train:]), classes
        names = self.folder.names()
        if line := self.folder.links():
            say(line)
        classes, numbered = classes_and_labels(names, self.folder.dataset()) if self.labels else ([], [0] * len(names))
        label = dict(zip(names, numbered, strict=True))

        # the held-out images have the smallest numbers and come last: both parts are views of the same pixels, and the
        # first training images are of all classes
        names.sort(key=hashed, reverse=True)
        names, part = self.decoded(names, label, self.decoder)
        train = len(names) - held_out_count([hashed(name) for name in names], self.held_out_fraction)
        return part(slice(train)), part(slice(train, None)), classes

    def decoded(
        self, names: Sequence[str], label: Mapping[str, int], decoder: Decoder
    ) -> tuple[list[str], Callable[[slice], ImageSet]]:
        """The names of the files that can be read, in the same order, and what gives the images of some of them."""
        names = list(names)
        pixels, (cache, unreadable) = None, self.kept(names, decoder)
        if cache is None:
            fits = len(names) * decoder.channels * decoder.size**2 <= self.memory_gb * 2**30
            paths = [self.root / name for name in names]
            decoded, unreadable = decoder.decode_all(paths, threads(paths), keep=fits)
            pixels = decoded if fits else None
        if unreadable:
            readable = [index for index in range(len(names)) if index not in unreadable]
            self.report({names[index]: reason for index, reason in unreadable.items()}, left=len(readable))
            pixels = None if pixels is None else pixels[readable]
            names = [names[index] for index in readable]

        labels = torch.tensor([label[name] for name in names], dtype=torch.int64)

        def part(rows: slice) -> ImageSet:
            if cache:
                return Mapped(cache.path("uint8"), (len(names), *cache.size), rows, labels[rows])
            if pixels is not None:
                return InMemory(torch.from_numpy(pixels[rows]), labels[rows])
            return OnDisk([self.root / name for name in names[rows]], labels[rows], decoder)

        return names, part

    def place(self, device: torch.device) -> str:
        where = super().place(device)
        if prepared.is_prepared(self.root):
            source = self.root
        elif isinstance(self.reference, Mapped):
            source = self.reference.source[0]
        else:
            return where
        return f"{where.replace('in memory', 'memory-mapped')}, from {source}"

    def kept(self, names: Sequence[str], decoder: Decoder) -> tuple[Cache | None, dict[int, str]]:
        """The cache with all images that can be read, if there is one, and the reason for each index that cannot."""
        if self.cache == "off":
            return None, {}
        try:
            cache = Cache(
                cache_folder() / "images" if self.cache == "auto" else Path(self.cache),
                fingerprint(self.root, names, decoder),
                self.root,
                names,
                (decoder.channels, decoder.size, decoder.size),
                lambda paths: decoder.decode_all(paths, threads(paths)),
            )
            unreadable = cache.find()
            return cache, cache.make() if unreadable is None else unreadable
        except (OSError, RuntimeError) as error:  # no space, no rights, no home
            say(f"data.cache={self.cache}: images are not kept: {getattr(error, 'strerror', None) or error}")
            return None, {}

    def report(self, unreadable: dict[str, str], left: int) -> None:
        """Stops at files that cannot be read, or names those that are left out."""
        if not self.skip_unreadable:
            raise cannot_be_read(self.root, unreadable, LISTED, key=self.key)
        lines = [f"\n  {self.root / name}: {reason}" for name, reason in sorted(unreadable.items())]
        if not left:
            raise UserError(f"{self.key}={self.root}: none of its {len(lines)} images can be read:{lines[0]}")
        say(f"data.skip_unreadable=true: {len(lines)} file(s) left out, {left} images used:{''.join(lines)}")
