"""A folder of images of any size: flat, nested or one folder a class; JPEG, PNG, WebP, BMP, TIFF."""

import hashlib
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import get_worker_info

from gan_lightning.data.base import ImageData, ImageSet, InMemory, say
from gan_lightning.data.cache import Cache, Mapped, fingerprint
from gan_lightning.data.listing import SUFFIXES, class_folders, is_image, walk
from gan_lightning.errors import UserError
from gan_lightning.paths import cache_folder, expand
from gan_lightning.types import Fraction, PositiveFloat

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # by content, whatever the suffix
FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}
SMALL = 3000  # bytes: files below are decoded faster by one thread than by several (20,000 of 32×32: 3 s, not 7)
CHUNK = 64  # most images that a task of the thread pool decodes
LISTED = 10  # names shown in an error


class Unreadable(Exception):
    """Why a file cannot be read."""


def eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey image scaled, not clipped, to 8 bits; its transparent level becomes white."""
    levels = np.asarray(image).astype(np.int64)  # (H, W)
    if levels.min() < 0 or levels.max() > 65535:
        raise Unreadable("pixels outside 0..65535: save it with 8 or 16 bits")
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels = np.where(levels == transparent, 65535, levels)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def open_image(path: Path) -> Image.Image:
    """An RGB or grey image of 8 bits, upright, transparency over white."""
    if not path.is_file():
        raise Unreadable("a dead link" if path.is_symlink() else "not a file")
    if path.stat().st_size == 0:
        raise Unreadable("empty file")
    with Image.open(path, formats=FORMATS) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise Unreadable("floating-point pixels: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if image.mode in ("L", "1") else "RGB")


@dataclass(frozen=True)
class Decoder:
    """Turns a file into pixels of one size."""

    size: int
    channels: int
    fit: Literal["crop", "pad"]
    resample: Literal["lanczos", "bicubic", "bilinear", "box"]

    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Pixels (C, H, W); raises Unreadable."""
        try:
            image = self.resized(open_image(path).convert("L" if self.channels == 1 else "RGB"))
        except Unreadable:
            raise
        except UnidentifiedImageError as error:
            raise Unreadable("not a JPEG, PNG, WebP, BMP or TIFF image, or damaged at its start") from error
        except Exception as error:  # damaged files make Pillow raise SyntaxError, struct.error, EOFError and more
            raise Unreadable(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
        return np.asarray(image).reshape(self.size, self.size, self.channels).transpose(2, 0, 1)

    def resized(self, image: Image.Image) -> Image.Image:
        size, resample = self.size, FILTERS[self.resample]
        if image.size == (size, size):
            return image
        if self.fit == "crop":  # one resize of the largest centred square
            return ImageOps.fit(image, (size, size), resample)
        scale = size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        canvas = Image.new(image.mode, (size, size))  # black
        canvas.paste(image.resize((width, height), resample), ((size - width) // 2, (size - height) // 2))
        return canvas

    def decode_all(
        self, paths: Sequence[Path], threads: int, keep: bool = True
    ) -> tuple[NDArray[np.uint8], dict[int, str]]:
        """Pixels (N, C, H, W), nothing where `keep` is false, and the reason for each index that cannot be read."""
        chunk = max(1, min(CHUNK, len(paths) // threads))
        pixels = np.zeros((len(paths) if keep else 0, self.channels, self.size, self.size), np.uint8)
        unreadable: dict[int, str] = {}

        def decode_chunk(start: int) -> None:
            for index in range(start, min(start + chunk, len(paths))):
                try:
                    image = self.decode(paths[index])
                except Unreadable as error:
                    unreadable[index] = str(error)
                else:
                    if keep:
                        pixels[index] = image

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # odd metadata of a file that reads well
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            starts = range(0, len(paths), chunk)
            if threads == 1:
                for start in starts:
                    decode_chunk(start)
            else:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(decode_chunk, starts))
        return pixels, dict(sorted(unreadable.items()))


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
            raise UserError("changed while training: " + "; ".join(reasons))
        return {"image": torch.from_numpy(pixels), "label": self.labels[torch.tensor(indices, dtype=torch.int64)]}

    def subset(self, rows: Tensor) -> "OnDisk":
        return OnDisk([self.paths[row] for row in rows.tolist()], self.labels[rows], self.decoder)


def hashed(name: str) -> float:
    """A number in [0, 1) that depends on nothing but the name."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def held_out_count(names: Sequence[str], fraction: float) -> int:
    """How many images are held out: those whose number is below `fraction`, so that new files move no others.

    Small folders keep at least one image on each side, where there are two and `fraction` is not 0.
    """
    if fraction == 0 or len(names) < 2:
        return 0
    return min(max(1, sum(hashed(name) < fraction for name in names)), len(names) - 1)


class ImageFolder(ImageData):
    """Images of a folder, resized and cropped or padded to squares.

    Their pixels are decoded once and kept in `cache`, a folder; `auto`: gan_lightning/images in the user's cache
    folder. Without it (`off`, or no space) they live in memory when they fit.
    """

    def __init__(
        self,
        root: Path,
        fit: Literal["crop", "pad"] = "crop",
        resample: Literal["lanczos", "bicubic", "bilinear", "box"] = "lanczos",
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
        self.decoder = Decoder(self.image_size, self.channels, fit, resample)
        self.held_out_fraction = held_out
        self.labels = labels
        self.skip_unreadable = skip_unreadable
        self.memory_gb = memory_gb
        off = str(cache) in ("off", "False", "false")  # YAML reads a bare off as false
        self.cache = "off" if off else "auto" if cache == "auto" else expand(str(cache))

    def check(self) -> None:
        if not os.path.isdir(self.root):  # Path.is_dir raises where a parent cannot be entered
            what = "not a folder" if os.path.exists(self.root) else "no such folder"
            raise UserError(f"data.root={self.root}: {what}")
        if not any(is_image(path) for path in self.files()):
            others = Counter(path.suffix.lower() or "no suffix" for path in self.files())
            found = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5)) or "nothing"
            raise UserError(
                f"data.root={self.root}: no images in it; looked for {' '.join(sorted(SUFFIXES))}, found {found}"
            )
        if isinstance(self.cache, Path):
            there = next(path for path in (self.cache, *self.cache.absolute().parents) if os.path.exists(path))
            if not os.path.isdir(there):
                raise UserError(f"data.cache={self.cache}: {'' if there == self.cache else f'{there} is '}not a folder")
            if not os.access(there, os.W_OK | os.X_OK):
                raise UserError(f"data.cache={self.cache}: nothing can be written to {there}")

    def files(self) -> Iterator[Path]:
        try:
            yield from walk(self.root)
        except OSError as error:
            raise UserError(f"data.root={self.root}: cannot list {error.filename}: {error.strerror}") from error

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        self.check()
        names = sorted(path.relative_to(self.root).as_posix() for path in self.files() if is_image(path))
        classes = class_folders(self.root) if self.labels else []

        # the held-out images have the smallest numbers and come last: both parts are views of the same pixels, and the
        # first training images are of all classes
        names.sort(key=hashed, reverse=True)
        pixels, (cache, unreadable) = None, self.kept(names)
        if cache is None:
            fits = len(names) * self.channels * self.image_size**2 <= self.memory_gb * 2**30
            paths = [self.root / name for name in names]
            decoded, unreadable = self.decoder.decode_all(paths, threads(paths), keep=fits)
            pixels = decoded if fits else None
        if unreadable:
            readable = [index for index in range(len(names)) if index not in unreadable]
            self.report({names[index]: reason for index, reason in unreadable.items()}, left=len(readable))
            pixels = None if pixels is None else pixels[readable]
            names = [names[index] for index in readable]

        number = {name: label for label, name in enumerate(classes)}
        labels = torch.tensor([number.get(name.partition("/")[0], 0) for name in names], dtype=torch.int64)

        def part(rows: slice) -> ImageSet:
            if cache:
                return Mapped(cache.path("uint8"), (len(names), *cache.size), rows, labels[rows])
            if pixels is not None:
                return InMemory(torch.from_numpy(pixels[rows]), labels[rows])
            return OnDisk([self.root / name for name in names[rows]], labels[rows], self.decoder)

        train = len(names) - held_out_count(names, self.held_out_fraction)
        return part(slice(train)), part(slice(train, None)), classes

    def place(self, device: torch.device) -> str:
        where = super().place(device)
        if not isinstance(self.reference, Mapped):
            return where
        return f"{where.replace('in memory', 'memory-mapped')}, from {self.reference.source[0]}"

    def kept(self, names: Sequence[str]) -> tuple[Cache | None, dict[int, str]]:
        """The cache with all images that can be read, if there is one, and the reason for each index that cannot."""
        if self.cache == "off":
            return None, {}
        try:
            cache = Cache(
                cache_folder() / "images" if self.cache == "auto" else Path(self.cache),
                fingerprint(self.root, names, self.decoder),
                self.root,
                names,
                (self.channels, self.image_size, self.image_size),
                lambda paths: self.decoder.decode_all(paths, threads(paths)),
            )
            unreadable = cache.find()
            return cache, cache.make() if unreadable is None else unreadable
        except (OSError, RuntimeError) as error:  # no space, no rights, no home
            say(f"data.cache={self.cache}: images are not kept: {getattr(error, 'strerror', None) or error}")
            return None, {}

    def report(self, unreadable: dict[str, str], left: int) -> None:
        """Stops at files that cannot be read, or names those that are left out."""
        lines = [f"\n  {self.root / name}: {reason}" for name, reason in sorted(unreadable.items())]
        if not self.skip_unreadable:
            more = f"\n  and {len(lines) - LISTED} more" if len(lines) > LISTED else ""
            raise UserError(
                f"data.root={self.root}: {len(lines)} file(s) cannot be read "
                f"(data.skip_unreadable=true leaves them out):{''.join(lines[:LISTED])}{more}"
            )
        if not left:
            raise UserError(f"data.root={self.root}: none of its {len(lines)} images can be read:{lines[0]}")
        say(f"data.skip_unreadable=true: {len(lines)} file(s) left out, {left} images used:{''.join(lines)}")
