"""A folder of images that `prepare` decoded: its shards are mapped into memory, its list of names stays unread."""

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_lightning.data.base import say
from gan_lightning.data.cache import read_only
from gan_lightning.data.decoding import Decoder
from gan_lightning.data.listing import INDEX, LABELS_FILE, NUMBERS_FILE, UNFINISHED, first_difference, read_index
from gan_lightning.data.sets import Indexed, InMemory
from gan_lightning.errors import UserError


class Sharded(Indexed):
    """Images (N, C, H, W) in .npy files of `size` each but the last one; what other processes are sent is their paths.

    Args:
        rows: the place (N,) of each in all of them, where some are left out.
    """

    def __init__(self, files: Sequence[Path], size: int, rows: Tensor, labels: Tensor) -> None:
        self.files, self.size, self.rows, self.labels = list(files), size, rows, labels
        self.shards = [read_only(np.load(file, mmap_mode="r")) for file in files]

    def __reduce__(self) -> tuple[Any, ...]:
        return Sharded, (self.files, self.size, self.rows, self.labels)

    @property
    def nbytes(self) -> int:
        return len(self) * math.prod(self.shards[0].shape[1:])

    def to(self, device: torch.device) -> InMemory:
        everything = self.take(torch.arange(len(self)))
        return InMemory(everything["image"].to(device), everything["label"].to(device))

    def take(self, index: Tensor) -> dict[str, Tensor]:
        shard, order = self.rows.index_select(0, index).div(self.size, rounding_mode="floor").sort(stable=True)
        rows = self.rows.index_select(0, index.index_select(0, order)) - shard * self.size  # within each shard
        numbers, counts = shard.unique_consecutive(return_counts=True)
        parts = zip(numbers.tolist(), rows.split(counts.tolist()), strict=True)
        found = [self.shards[number].index_select(0, some) for number, some in parts]
        images = torch.cat([self.shards[0][:0], *found]).index_select(0, order.argsort())  # perhaps of no index at all
        return {"image": images, "label": self.labels.index_select(0, index)}


def is_prepared(root: Path) -> bool:
    """Whether `prepare` made a folder, or has begun to."""
    return os.path.isfile(root / INDEX) or os.path.isdir(root / UNFINISHED)


def check(root: Path, decoder: Decoder, labels: bool) -> None:
    """Raises UserError where the images were prepared in another way, or not to the end."""
    if not os.path.isfile(root / INDEX):
        raise UserError(f"data.root={root}: not prepared to the end; the same `prepare` command goes on")
    given = {
        "data.image_size": decoder.size,
        "data.channels": decoder.channels,
        "data.fit": decoder.fit,
        "data.resample": decoder.resample,
        **({"data.labels": True} if labels else {}),  # without them anything can be trained on
    }
    if different := first_difference(given, read_index(root)["settings"]):
        raise UserError(f"{different[0]}: the images in {root} were prepared with {different[1]}")


def load(root: Path, labels: bool) -> tuple[Sharded, NDArray[np.float64], list[str]]:
    """All images in the order of training, their numbers (N,) (`listing.hashed`), and the names of the classes."""
    index = read_index(root)
    label, number = (small_file(root / name, index) for name in (LABELS_FILE, NUMBERS_FILE))
    if label.dtype.kind != "i" or number.dtype.kind != "f" or label.ndim != 1 or label.shape != number.shape:
        raise UserError(f"data.root={root}: {LABELS_FILE} and {NUMBERS_FILE} are not those of images")
    if len(label) and not label.max() < max(len(index["classes"]), 1):
        raise UserError(f"{root / LABELS_FILE}: has class {label.max()}, and {INDEX} names {len(index['classes'])}")
    files = [root / name for name in index["files"] if name.startswith("shard_")]
    rows = torch.from_numpy(label >= 0).nonzero().flatten()
    found = torch.from_numpy(label)[rows]
    size = index["images_per_shard"]
    try:
        whole = Sharded(files, size, rows, found if labels else torch.zeros_like(found))
    except (OSError, ValueError, EOFError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"data.root={root}: a shard is damaged or missing: {reason}") from None
    side = index["settings"].get("data.image_size")
    shape = (index["settings"].get("data.channels"), side, side)
    lengths = [len(shard) for shard in whole.shards if shard.dtype == torch.uint8 and tuple(shard.shape[1:]) == shape]
    if lengths != [min(size, len(label) - first) for first in range(0, len(label), size)]:
        raise UserError(f"data.root={root}: its shards are not those of {INDEX}")
    if index["left_out"]:
        say(f"data.root={root}: {len(index['left_out'])} file(s) were left out when it was made; {INDEX} names them")
    return whole, number[rows.numpy()], index["classes"] if labels else []


def small_file(path: Path, index: dict[str, Any]) -> NDArray[Any]:
    """An array that is read whole, and is what it was when it was written."""
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != index["files"][path.name]:
            raise UserError(f"{path}: damaged: it is not what {INDEX} says")
        return np.load(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, EOFError, MemoryError) as error:  # a digest that fits says nothing of where both come from
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be read: {str(error).partition(chr(10))[0]}") from None
