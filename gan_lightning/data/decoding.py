"""From a file to pixels of one size: every kind of image, and why a file is none. Without torch, for workers."""

import errno
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

VERSION = 1  # to be raised when the same file and settings give other pixels
Fit = Literal["crop", "pad"]
Resample = Literal["lanczos", "bicubic", "bilinear", "box"]
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # by content, whatever the suffix
FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}
LARGEST, BLOCK = 2**30, 2**20  # bytes of a file in a zip file, and of it that are unpacked at a time
LOOSE, RATIO = 2**26, 100  # above so many bytes nothing may be packed more tightly: no image is
PASSING = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # of the machine, not of the file
CHUNK = 64  # most images that a task of the thread pool decodes


class Unreadable(Exception):
    """Why a file cannot be read."""


@contextmanager
def quiet() -> Iterator[None]:
    """Says nothing of odd metadata in a file that reads well. Not for threads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


@contextmanager
def why_unreadable() -> Iterator[None]:
    """Raises Unreadable for all that a file makes Pillow raise; what is the machine's fault passes."""
    try:
        yield
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable("not a JPEG, PNG, WebP, BMP or TIFF image, or damaged at its start") from error
    except MemoryError:
        raise
    except Exception as error:  # damaged files make Pillow raise SyntaxError, struct.error, EOFError and more
        if isinstance(error, OSError) and error.errno in PASSING:
            raise
        raise Unreadable(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error


def eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey image scaled, not clipped, to 8 bits; its transparent level becomes white."""
    levels = np.asarray(image).astype(np.int64)  # (H, W)
    if levels.min() < 0 or levels.max() > 65535:
        raise Unreadable("pixels outside 0..65535: save it with 8 or 16 bits")
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels = np.where(levels == transparent, 65535, levels)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


@dataclass(frozen=True)
class Zipped:
    """A file inside a zip file."""

    archive: ZipFile
    info: ZipInfo

    def read(self) -> bytes:
        """Its content, at most as much as the zip file says it has. Raises Unreadable."""
        size = self.info.file_size
        if size > LARGEST:
            raise Unreadable(f"{size / 2**30:.1f} GiB when unpacked")
        if size > LOOSE and size > RATIO * self.info.compress_size:
            raise Unreadable(f"{size / 2**20:,.0f} MiB when unpacked, of {self.info.compress_size:,} bytes")
        content = bytearray()
        try:
            with self.archive.open(self.info) as file:
                while block := file.read(min(BLOCK, size + 1 - len(content))):
                    content += block
                    if len(content) > size:
                        raise Unreadable("larger than the zip file says")
        except (BadZipFile, RuntimeError, NotImplementedError, zlib.error, EOFError, OSError) as error:
            raise Unreadable(str(error) or type(error).__name__) from error
        return bytes(content)


def open_image(file: Path | Zipped) -> Image.Image:
    """An RGB or grey image of 8 bits, upright, transparency over white."""
    image = open_upright(file)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if image.mode in ("L", "1") else "RGB")


def open_upright(file: Path | Zipped) -> Image.Image:
    """An image of 8 bits in any mode, upright, perhaps transparent."""
    if isinstance(file, Path) and not file.is_file():
        raise Unreadable("a dead link" if file.is_symlink() else "not a file")
    if (file.stat().st_size if isinstance(file, Path) else file.info.file_size) == 0:
        raise Unreadable("empty file")
    with Image.open(file if isinstance(file, Path) else BytesIO(file.read()), formats=FORMATS) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise Unreadable("floating-point pixels: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = eight_bits(image)
    return image


@dataclass(frozen=True)
class Decoder:
    """Turns a file into pixels of one size."""

    size: int
    channels: int
    fit: Fit
    resample: Resample

    def decode(self, path: Path | Zipped) -> NDArray[np.uint8]:
        """Pixels (C, H, W); raises Unreadable."""
        try:
            with why_unreadable():
                return self.pixels(path)
        except OSError as error:  # of the machine: an open file fails without its name
            if error.errno is not None and error.filename is None and isinstance(path, Path):
                error.filename = str(path)
            raise

    def pixels(self, path: Path | Zipped) -> NDArray[np.uint8]:
        """The same; raises whatever Pillow does."""
        return self.planes(open_image(path), self.channels)

    def planes(self, image: Image.Image, channels: int) -> NDArray[np.uint8]:
        """An image of any size -> pixels (channels, H, W)."""
        image = self.resized(image.convert("L" if channels == 1 else "RGB"))
        return np.asarray(image).reshape(self.size, self.size, channels).transpose(2, 0, 1)

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
        self, paths: Sequence[Path | Zipped], threads: int, keep: bool = True
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

        with quiet():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            starts = range(0, len(paths), chunk)
            if threads == 1:
                for start in starts:
                    decode_chunk(start)
            else:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(decode_chunk, starts))
        return pixels, dict(sorted(unreadable.items()))
