"""Sets of images, taken by indices, and how they become minibatches."""

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gan_lightning.draws import generator
from gan_lightning.speed import to_device


class ImageSet(Dataset[dict[str, Tensor]]):
    """Images fetched by lists of indices: never one at a time."""

    labels: Tensor  # (N,) int64

    @property
    def in_memory(self) -> bool:
        """Whether images are taken from memory, and can be moved to a device."""
        return False

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """n indices -> "image" uint8 (n, C, H, W), points float32 (n, D, 1, 1), "label" int64 (n,).

        Where images are made of images: also "input" uint8 (n, C', H', W'), or "mask" bool (n, 1, H, W), true: a hole.
        """
        raise NotImplementedError

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """`__getitems__` of indices (n,)."""
        return self.__getitems__(index.tolist())

    def of_epoch(self, seed: int, epoch: int) -> "ImageSet":
        """The same as an epoch shows them: what is drawn for each (crops, partners, masks) is of (seed, epoch)."""
        return self

    def subset(self, rows: Tensor) -> "ImageSet":
        """The images at these indices (n,)."""
        raise NotImplementedError


class Indexed(ImageSet):
    """Images in memory, or mapped into it: taken by a tensor of indices, where they are."""

    @property
    def in_memory(self) -> bool:
        return True

    @property
    def nbytes(self) -> int:
        """Bytes that `to` moves."""
        raise NotImplementedError

    def to(self, device: torch.device) -> "Indexed":
        """The same on another device."""
        raise NotImplementedError

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """`__getitems__` of indices (n,) on the images' device."""
        raise NotImplementedError

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        return self.take(torch.tensor(indices, dtype=torch.int64))

    def subset(self, rows: Tensor) -> "Indexed":
        return Subset(self, rows)


class InMemory(Indexed):
    """Images (N, C, H, W) uint8, or points float32, and labels (N,) int64, in memory; without labels they are all 0."""

    def __init__(self, images: Tensor, labels: Tensor | None = None) -> None:
        self.images = images
        self.labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels

    @property
    def nbytes(self) -> int:
        return self.images.nbytes

    def to(self, device: torch.device) -> "InMemory":
        return InMemory(self.images.to(device), self.labels.to(device))

    def take(self, index: Tensor) -> dict[str, Tensor]:
        return {"image": self.images.index_select(0, index), "label": self.labels.index_select(0, index)}


class Subset(Indexed):
    """Rows (n,) of others, which are not copied; on another device they are."""

    def __init__(self, whole: Indexed, rows: Tensor) -> None:
        self.whole, self.rows = whole, rows
        self.labels = whole.labels[rows]

    @property
    def nbytes(self) -> int:
        return len(self.rows) * self.take(torch.zeros(1, dtype=torch.int64))["image"].nbytes

    def to(self, device: torch.device) -> InMemory:
        everything = self.whole.take(self.rows)
        return InMemory(everything["image"].to(device), everything["label"].to(device))

    def take(self, index: Tensor) -> dict[str, Tensor]:
        return self.whole.take(self.rows.index_select(0, index))


class View(Indexed):
    """Images that are made of others, one of each, when they are taken: in memory, or moved, where those are."""

    def __init__(self, source: ImageSet) -> None:
        self.source, self.labels = source, source.labels

    def over(self, source: ImageSet) -> Self:
        """The same of other images."""
        view = copy(self)
        view.source, view.labels = source, source.labels
        return view

    @property
    def in_memory(self) -> bool:
        return self.source.in_memory

    @property
    def nbytes(self) -> int:
        if isinstance(self.source, Indexed):
            return self.source.nbytes
        return len(self) * self.source.__getitems__([0])["image"].nbytes

    def to(self, device: torch.device) -> Self:
        assert isinstance(self.source, Indexed)
        return self.over(self.source.to(device))

    def subset(self, rows: Tensor) -> Self:
        return self.over(self.source.subset(rows))

    def of_epoch(self, seed: int, epoch: int) -> ImageSet:
        return self.over(self.source.of_epoch(seed, epoch))


def rows_of(labels: Tensor, wanted: Tensor) -> Tensor:
    """So many (K,) indices of every class, ascending, for labels (N,): the same in every run.

    Those of a smaller number are among those of a larger one.
    """
    order = torch.randperm(len(labels), generator=generator(0, "subset"))
    order = order[labels[order].argsort(stable=True)]  # class after class, in random order within each
    counts = labels.bincount()
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[labels[order]]  # within its class
    return order[place < wanted[labels[order]]].sort().values


class Resident:
    """An epoch of images that lie on the device: the loader of what is in memory, without a worker or a copy.

    Gives the same batches as a DataLoader over `Minibatches`: tensors (K, B, ...).

    Args:
        images: their pixels and labels, on the device, as the epoch shows them.
        batches: indices (K, B) of every batch.
        flips: which images are mirrored, (N,) bool.
    """

    def __init__(self, images: ImageSet, batches: Sequence[Tensor], flips: Tensor | None) -> None:
        self.images, self.flips = images, flips
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for index in self.batches:
            flat = to_device(index.flatten(), self.images.labels.device)
            batch = self.images.take(flat)
            if self.flips is not None:
                batch["flip"] = self.flips.index_select(0, flat)
            yield {key: tensor.unflatten(0, tuple(index.shape)) for key, tensor in batch.items()}


class Minibatches(ImageSet):
    """The same images as groups of minibatches: every tensor (n, ...) becomes (K, B, ...); size None: (1, n, ...)."""

    def __init__(self, images: ImageSet, size: int | None, flips: Tensor | None) -> None:
        self.images, self.flips = images, flips
        self.shape = (1, -1) if size is None else (-1, size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        batch = self.images.__getitems__(indices)
        if self.flips is not None:
            batch["flip"] = self.flips[torch.tensor(indices, dtype=torch.int64)]
        return {key: value.unflatten(0, self.shape) for key, value in batch.items()}  # (K, B, ...)


def as_it_is(batch: Any) -> Any:
    """The collate function of batches that are tensors already."""
    return batch
