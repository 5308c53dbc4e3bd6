"""What every kind of images shares: minibatches in an order drawn from (seed, epoch) alone, scaled on the device."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from gan_lightning.draws import generator
from gan_lightning.errors import UserError
from gan_lightning.speed import minibatches_per_batch, to_device
from gan_lightning.steps import Step
from gan_lightning.types import NonNegativeInt, PositiveFloat, PositiveInt

log = logging.getLogger(__name__)


@rank_zero_only
def say(message: str) -> None:
    """One line of warning, from one rank."""
    log.warning(message)


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels (..., C, H, W) -> float32 in [-1, 1], the same shape."""
    return images.float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """Images (..., C, H, W) in [-1, 1] -> uint8, the same shape: what a PNG of them holds."""
    return ((images.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def resize(images: Tensor, size: int) -> Tensor:
    """Grey levels 0..255 (N, C, h, w) of any type -> uint8 (N, C, size, size): bicubic, antialiased, clamped."""
    if images.shape[-2:] != (size, size):
        chunks = [
            functional.interpolate(chunk.float(), (size, size), mode="bicubic", antialias=True).clamp_(0, 255).round_()
            for chunk in images.split(4096)  # keeps the float copy small
        ]
        return torch.cat([chunk.to(torch.uint8) for chunk in chunks])
    return images if images.dtype == torch.uint8 else images.clamp(0, 255).round().to(torch.uint8)


class ImageSet(Dataset[dict[str, Tensor]]):
    """Images fetched by lists of indices: never one at a time."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """n indices -> "image" uint8 (n, C, H, W), "label" int64 (n,)."""
        raise NotImplementedError


class InMemory(ImageSet):
    """Images (N, C, H, W) uint8 and labels (N,) int64, all in memory; without labels they are all 0."""

    def __init__(self, images: Tensor, labels: Tensor | None = None) -> None:
        self.images = images
        self.labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        index = torch.tensor(indices, dtype=torch.int64)
        return {"image": self.images.index_select(0, index), "label": self.labels.index_select(0, index)}


class Resident:
    """An epoch of images that lie on the device: the loader of what is in memory, without a worker or a copy.

    Gives the same batches as a DataLoader over `Minibatches`: tensors (K, B, ...).

    Args:
        images: their pixels and labels, on the device.
        batches: indices (K, B) of every batch.
        flips: which images are mirrored, (N,) bool.
    """

    def __init__(self, images: InMemory, batches: Sequence[Tensor], flips: Tensor | None) -> None:
        self.images, self.flips = images, flips
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        tensors = {"image": self.images.images, "label": self.images.labels}
        if self.flips is not None:
            tensors["flip"] = self.flips
        for index in self.batches:
            flat = to_device(index.flatten(), self.images.images.device)
            yield {
                key: tensor.index_select(0, flat).unflatten(0, tuple(index.shape)) for key, tensor in tensors.items()
            }


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


class ImageData(LightningDataModule):
    """Images of one size, batched by index. A subclass says where they come from, in `check` and `load`."""

    train: ImageSet
    held_out: ImageSet
    extractor = "objects"  # what scores see these images with, where nothing else is asked for (metrics/extractors.py)

    def __init__(
        self,
        batch_size: PositiveInt,
        image_size: PositiveInt,
        channels: Literal[1, 3],
        seed: NonNegativeInt,
        workers: NonNegativeInt = 0,
        flip: bool = False,
        device_gb: PositiveFloat = 2.0,
        sampling: Literal["shuffled", "poisson"] = "shuffled",
    ) -> None:
        """sampling: "shuffled" goes through all images in a fresh order every epoch; with "poisson" every image is in a
        minibatch with probability `batch_size` / N by itself, so that sizes differ, and an epoch has as many of them.
        """
        super().__init__()
        self.batch_size = batch_size
        self.image_size = image_size
        self.channels = channels
        self.seed = seed
        self.workers = workers
        self.flip = flip
        self.device_gb = device_gb
        self.sampling = sampling
        self.classes: list[str] = []
        self._loaded = False
        self._resident: InMemory | None = None
        self._said_smaller = False

    def check(self) -> None:
        """Raises UserError when the data is not there. Cheap: nothing is decoded, downloaded or written."""

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        """The training images, the held-out images and the names of the classes (none without labels)."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        if not self._loaded:
            self.train, self.held_out, self.classes = self.load()
            self._loaded = True

    def minibatch_size(self, world: int = 1, accumulate: int = 1) -> int:
        """Images of a minibatch on one device: `batch_size`, or what a smaller training set allows."""
        images, parts = len(self.train), world * accumulate
        if images >= self.batch_size * parts:
            return self.batch_size
        if images < parts:
            raise UserError(
                f"data.batch_size={self.batch_size}: {images} training images are not enough for "
                f"{world} device(s) × step.accumulate={accumulate}"
            )
        size = images // parts
        if not self._said_smaller:
            self._said_smaller = True
            say(f"data.batch_size={self.batch_size}: there are only {images} training images, so batches hold {size}")
        return size

    def epoch_length(self, world: int = 1, accumulate: int = 1) -> int:
        """Minibatches of a full epoch: whole ones, and whole discriminator steps."""
        return len(self.train) // (self.minibatch_size(world, accumulate) * world) // accumulate * accumulate

    def minibatches(
        self,
        *,
        epoch: int,
        start: int,
        per_batch: int,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        device: torch.device | None = None,
    ) -> Resident | DataLoader[dict[str, Tensor]]:
        """The minibatches of an epoch from number `start` on, in batches of tensors (K, B, ...).

        K is `per_batch`, less in the last batch. "flip" (K, B) says which images to mirror, when `flip` is on. With
        `world` devices the minibatch of each is its part of the global one, so that together they see one order.
        Images that fit there come from `device` (the CPU). Poisson sampling: batches (1, n, ...), for one device.
        """
        size, count = self.minibatch_size(world, accumulate), self.epoch_length(world, accumulate)
        poisson = self.sampling == "poisson"
        if poisson:
            groups = [self.poisson(size, epoch, number) for number in range(start, count)]
        else:
            order = torch.randperm(len(self.train), generator=generator(self.seed, "order", epoch))
            mine = order[: count * world * size].view(count, world, size)[start:, rank]  # (minibatches left, B)
            groups = [group for group in mine.split(per_batch) if len(group)]
        flips = None
        if self.flip:
            flips = torch.randint(2, (len(self.train),), generator=generator(self.seed, "flip", epoch)).bool()
        resident = self.resident(device or torch.device("cpu"))
        if resident:
            return Resident(resident, groups, None if flips is None else flips.to(resident.images.device))
        images = Minibatches(self.train, None if poisson else size, flips)
        return self._loader(images, [group.flatten().tolist() for group in groups], epoch)

    def poisson(self, size: int, epoch: int, number: int) -> Tensor:
        """The images of one minibatch, (1, n), each there with probability size / N: n is `size` on average.

        A run that goes on with another size never meets the same draw again: that would not be independent.
        """
        images, stream = len(self.train), generator(self.seed, "poisson", size, epoch, number)
        numbers = torch.rand(images, generator=stream, dtype=torch.float64)  # float32 rounds the probability
        return (numbers < size / images).nonzero().T

    def resident(self, device: torch.device) -> InMemory | None:
        """The training images on the device, if they are in memory, fit there and no workers are asked for."""
        images = self.train
        if self.workers or not isinstance(images, InMemory):
            return None
        if images.images.device != device:
            if images.images.numel() > self.device_gb * 2**30:
                return None
            if self._resident is None or self._resident.images.device != device:
                try:
                    self._resident = InMemory(images.images.to(device), images.labels.to(device))
                except torch.cuda.OutOfMemoryError:
                    say(f"data.device_gb={self.device_gb}: the device has no room for the images; they are loaded")
                    self.device_gb = 0.0
                    return None
            return self._resident
        return images

    def _loader(self, images: ImageSet, indices: list[list[int]], epoch: int) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(
            images,
            batch_sampler=indices,
            collate_fn=as_it_is,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            generator=generator(self.seed, "workers", epoch),  # a loader without one draws from torch's global stream
        )

    def train_dataloader(self) -> Resident | DataLoader[dict[str, Tensor]]:
        trainer = self.trainer
        assert trainer is not None
        module = cast(Any, trainer.lightning_module)
        return self.minibatches(
            epoch=module.counters.epoch,
            start=module.counters.epoch_minibatches,
            per_batch=self.per_batch(module.step, trainer),
            accumulate=module.step.accumulate,
            rank=trainer.global_rank,
            world=trainer.world_size,
            device=trainer.strategy.root_device,
        )

    def place(self, device: torch.device) -> str:
        """Where training images come from, for people."""
        if self.resident(device):
            return "in memory" if device.type == "cpu" else f"on the {device.type} device"
        return f"loaded by {self.workers} workers" if self.workers else "loaded batch by batch"

    def per_batch(self, step: Step, trainer: Trainer) -> int:
        """K, the minibatches of a Lightning batch."""
        if self.sampling == "poisson":
            return 1
        images = self.minibatch_size(trainer.world_size, step.accumulate)
        values = self.channels * self.image_size**2
        return minibatches_per_batch(step, trainer.strategy.root_device, images, values)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The held-out images in order: batches (B, ...), the last one smaller."""
        groups = torch.arange(len(self.held_out)).split(self.batch_size) if len(self.held_out) else ()
        return self._loader(self.held_out, [group.tolist() for group in groups], epoch=0)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Images uint8 (..., C, H, W) -> float32 in [-1, 1], flipped where "flip" (...) says so."""
        batch = dict(batch)
        image, flip = batch["image"], batch.pop("flip", None)
        if flip is not None:
            image = torch.where(flip[..., None, None, None], image.flip(-1), image)
        batch["image"] = to_float(image)
        return batch

    def real_images(self, count: int) -> Tensor:
        """The first training images (n, C, H, W), float32 in [-1, 1]; n = `count` or all there are."""
        return to_float(self.train.__getitems__(range(min(count, len(self.train))))["image"])
