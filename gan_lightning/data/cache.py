"""Decoded pixels in files named by what they are made of: written once, memory-mapped by every later run."""

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_lightning.data.base import say
from gan_lightning.data.decoding import VERSION
from gan_lightning.data.sets import InMemory
from gan_lightning.locks import lock

BLOCK, MOST = 2**25, 4096  # bytes of pixels and images that are decoded before they are written
PARTS = "[0-9a-f]" * 24 + ".*.part"  # other names are somebody else's
PATIENCE, DAY = 10.0, 86400.0  # seconds: between two lines about the work; after which a part is nobody's
Decode = Callable[[Sequence[Path]], tuple[NDArray[np.uint8], dict[int, str]]]  # pixels, and reasons by index


def fingerprint(root: Path, names: Sequence[str], settings: object) -> str:
    """A key that changes with the files (names, sizes, times) and with `settings`; the folder may move."""
    digest = hashlib.blake2b(repr((VERSION, PIL.__version__, settings)).encode(), digest_size=12)
    for number, name in enumerate(sorted(names)):
        digest.update(os.fsencode(name) + b"\0")
        with suppress(OSError):  # a dead link
            path = os.path.join(root, name)  # ten times quicker than Path's
            status = os.stat(path)
            digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
            looked_into = number % (len(names) // 16 + 1) == 0  # archives may give all files one time
            if looked_into and stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    digest.update(file.read(2**16))
    return digest.hexdigest()


def read_only(pixels: NDArray[np.uint8]) -> Tensor:
    """A mapped file (N, C, H, W) as a tensor. Linux maps no copy-on-write beyond the memory that it has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(pixels)


class Mapped(InMemory):
    """Rows of a file of pixels (N, C, H, W), which nobody can write; what other processes are sent is its path."""

    def __init__(self, path: Path, shape: tuple[int, ...], rows: slice, labels: Tensor) -> None:
        super().__init__(read_only(np.memmap(path, np.uint8, "r", shape=shape))[rows], labels)
        self.source = path, shape, rows

    def __reduce__(self) -> tuple[Any, ...]:
        return Mapped, (*self.source, self.labels)


@dataclass(frozen=True)
class Cache:
    """The pixels of all files that can be read (`.uint8`), and a note of those that cannot (`.json`, written last)."""

    folder: Path
    key: str
    root: Path
    names: Sequence[str]
    size: tuple[int, int, int]  # (C, H, W)
    decode: Decode

    def path(self, kind: str) -> Path:
        return self.folder / f"{self.key}.{kind}"

    def find(self) -> dict[int, str] | None:
        """If the pixels are there, the files that cannot be read, by index, and why; else None."""
        try:
            unreadable = json.loads(self.path("json").read_text())["unreadable"]
            whole = (len(self.names) - len(unreadable)) * math.prod(self.size)
            if self.path("uint8").stat().st_size != whole:
                return None
            again = [index for index, name in enumerate(self.names) if name in unreadable]
            if len(again) != len(unreadable):  # it is of other files
                return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if not again:
            return {}
        _, reasons = self.decode([self.root / self.names[index] for index in again])
        still = {again[index]: reason for index, reason in reasons.items()}
        return still if len(still) == len(unreadable) else None  # a file may have been forbidden, or a disk at fault

    def make(self) -> dict[int, str]:
        """Decodes all files, unless another process just did; returns what `find` will. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock(
            self.path("lock"),
            lambda: say(f"data.cache: another process makes {self.path('uint8')}; waiting for it"),
        ) as held:
            if held and (unreadable := self.find()) is not None:
                return unreadable
            for part in self.folder.glob(PARTS):  # left by killed processes
                with suppress(FileNotFoundError):  # just finished
                    if (held and part.name.startswith(self.key)) or part.stat().st_mtime < time.time() - DAY:
                        part.unlink()
            needed, free = len(self.names) * math.prod(self.size), shutil.disk_usage(self.folder).free
            if needed > 0.9 * free:
                raise OSError(errno.ENOSPC, f"{needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free")
            with self.replacing("uint8") as file:
                unreadable = self.write(file)
            with self.replacing("json") as file:
                reasons = {self.names[index]: reason for index, reason in unreadable.items()}
                file.write(json.dumps({"root": str(self.root.absolute()), "unreadable": reasons}).encode())
        size = self.path("uint8").stat().st_size / 1e6
        say(f"data.cache: {len(self.names) - len(unreadable):,} images ({size:,.1f} MB) kept in {self.path('uint8')}")
        return unreadable

    def write(self, file: IO[bytes]) -> dict[int, str]:
        unreadable: dict[int, str] = {}
        block = min(MOST, max(1, BLOCK // math.prod(self.size)))
        said = time.monotonic()
        for first in range(0, len(self.names), block):
            pixels, reasons = self.decode([self.root / name for name in self.names[first : first + block]])
            file.write((np.delete(pixels, list(reasons), axis=0) if reasons else pixels).data)
            unreadable |= {first + index: reason for index, reason in reasons.items()}
            if time.monotonic() > said + PATIENCE:
                said = time.monotonic()
                say(f"data.cache: {first + len(pixels):,} of {len(self.names):,} images read")
        return unreadable

    @contextmanager
    def replacing(self, kind: str) -> Iterator[IO[bytes]]:
        """A file that takes its place when it is whole."""
        part = self.path(f"{uuid.uuid4().hex}.part")
        try:
            with open(part, "xb") as file:
                yield file
            part.replace(self.path(kind))
        finally:
            part.unlink(missing_ok=True)
