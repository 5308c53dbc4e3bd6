"""What every kind of data shares: minibatches in an order drawn from (seed, epoch) alone, scaled on the device."""

import logging
import math
import signal
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

from gan_lightning.data.pixels import grid, panels, save_image, to_float, to_pixels
from gan_lightning.data.sets import ImageSet, Indexed, Minibatches, Resident, as_it_is, rows_of
from gan_lightning.draws import generator
from gan_lightning.errors import UserError, readable
from gan_lightning.exhibits import Exhibit, PictureExhibit
from gan_lightning.speed import minibatches_per_batch
from gan_lightning.steps import Step
from gan_lightning.types import NonNegativeInt, PositiveFloat, PositiveFraction, PositiveInt

log = logging.getLogger(__name__)


@rank_zero_only
def say(message: str) -> None:
    """One line of warning, from one rank."""
    log.warning(readable(message))


def make_no_room(worker: int) -> None:
    """A loader's worker leaves a scheduler's signal, which may come to every process of a job, to its parent."""
    for name in ("SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


class Data(LightningDataModule):
    """Samples of one shape, batched by index: images, points, texts, sounds. A subclass says where they come from, in
    `check` and `load`. Whatever a sample is, batches have it as "image".

    Args:
        classes: how many classes the labels have, for networks that are given them; 0: nothing is built on them.
        subset: share of the training images that is trained on, the same of every class; None: all.
        per_class: or so many of every class.
    """

    reference: ImageSet  # all training images
    train: ImageSet  # those that are trained on
    held_out: ImageSet
    noun = "images"  # what samples are, for people
    extractor: str | None = None  # what scores see samples with, where nothing else is asked for; None: no such scores
    score_images = 10000  # most real images that scores are made of, where nothing else is asked for
    scores: tuple[str, ...] | None = None  # made where none are named; None: those that suit images
    score_samples: Any = None  # and of so many samples; None: as many as real images
    pictures = False  # samples are images that can be shown one by one
    most_shown = 1024  # samples in one picture
    flip = False  # images alone are mirrored
    mirrored: tuple[str, ...] = ("image", "input", "mask")  # what a flip of a batch mirrors, all of it together

    def __init__(
        self,
        batch_size: PositiveInt,
        seed: NonNegativeInt,
        workers: NonNegativeInt = 0,
        device_gb: PositiveFloat = 2.0,
        classes: NonNegativeInt = 0,
        subset: PositiveFraction | None = None,
        per_class: PositiveInt | None = None,
        sampling: Literal["shuffled", "poisson"] = "shuffled",
    ) -> None:
        """sampling: "shuffled" goes through all images in a fresh order every epoch; with "poisson" every image is in a
        minibatch with probability `batch_size` / N by itself, so that sizes differ, and an epoch has as many of them.
        """
        super().__init__()
        if subset is not None and per_class is not None:
            raise ValueError(f"per_class={per_class}: and data.subset={subset} say different things; give one of them")
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.device_gb = device_gb
        self.classes = classes
        self.subset = subset
        self.per_class = per_class
        self.class_names: list[str] = []
        self.sampling = sampling
        self._loaded = False
        self._resident: Indexed | None = None
        self._said_smaller = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample: images (C, H, W), texts (L,), sounds (1, T)."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises UserError when the data is not there. Cheap: nothing is decoded, downloaded or written."""

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        """The training images, the held-out images and the names of the classes (none without labels)."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        if not self._loaded:
            self.reference, self.held_out, self.class_names = self.load()
            if self.classes and self.classes != len(self.class_names):
                raise UserError(f"data.classes={self.classes}: there are {len(self.class_names)} classes in the data")
            self.train = self.chosen(self.reference)
            self._loaded = True

    def chosen(self, images: ImageSet) -> ImageSet:
        """Those of all training images that are trained on. Raises UserError where a class has too few of them."""
        if self.subset is None and self.per_class is None:
            return images
        counts = images.labels.bincount(minlength=len(self.class_names))
        if self.subset is not None:
            wanted = (counts * self.subset).round()
            if not wanted.all():
                raise UserError(f"data.subset={self.subset}: leaves no image of a class of {int(counts.min())}")
            return images.subset(rows_of(images.labels, wanted))
        assert self.per_class is not None
        return images.subset(self.rows_of_each_class(self.per_class, "data.per_class", images))

    def rows_of_each_class(self, count: int, key: str, images: ImageSet | None = None) -> Tensor:
        """Indices (classes · count,) of so many images of every class, the same in every run; of those trained on.

        Raises UserError, with the key that asked for them, where a class has too few.
        """
        labels = (self.train if images is None else images).labels
        counts = labels.bincount(minlength=len(self.class_names))
        if len(counts) < 2:
            raise UserError(f"{key}={count}: these {self.noun} have no classes; use data.subset=…")
        fewest = int(counts.argmin())
        if counts[fewest] < count:
            name = self.class_names[fewest] if self.class_names else fewest
            raise UserError(f"{key}={count}: class {name} has no more than {int(counts[fewest])} training images")
        return rows_of(labels, torch.full_like(counts, count))

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
            return Resident(
                resident.of_epoch(self.seed, epoch), groups, None if flips is None else flips.to(resident.labels.device)
            )
        images = Minibatches(self.train.of_epoch(self.seed, epoch), None if poisson else size, flips)
        return self._loader(images, [group.flatten().tolist() for group in groups], epoch)

    def poisson(self, size: int, epoch: int, number: int) -> Tensor:
        """The images of one minibatch, (1, n), each there with probability size / N: n is `size` on average.

        A run that goes on with another size never meets the same draw again: that would not be independent.
        """
        images, stream = len(self.train), generator(self.seed, "poisson", size, epoch, number)
        numbers = torch.rand(images, generator=stream, dtype=torch.float64)  # float32 rounds the probability
        return (numbers < size / images).nonzero().T

    def resident(self, device: torch.device) -> Indexed | None:
        """The training images on the device, if they are in memory, fit there and no workers are asked for."""
        images = self.train
        if self.workers or not (isinstance(images, Indexed) and images.in_memory):
            return None
        if images.labels.device != device:
            if images.nbytes > self.device_gb * 2**30:
                return None
            if self._resident is None or self._resident.labels.device != device:
                try:
                    self._resident = images.to(device)
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
            worker_init_fn=make_no_room,
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
        return minibatches_per_batch(step, trainer.strategy.root_device, images, self.values)

    @property
    def values(self) -> int:
        """Numbers that networks see of an image of a batch, and of what comes with it."""
        return math.prod(self.shape)

    @property
    def examples(self) -> ImageSet:
        """The held-out images, all of one size."""
        return self.held_out

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The held-out images in order: batches (B, ...), the last one smaller."""
        return self.in_order(self.held_out)

    def in_order(self, images: ImageSet) -> DataLoader[dict[str, Tensor]]:
        """Images in batches (B, ...), the last one smaller."""
        groups = torch.arange(len(images)).split(self.batch_size) if len(images) else ()
        return self._loader(images, [group.tolist() for group in groups], epoch=0)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Samples as they are stored -> `scaled`, flipped where "flip" (...) says so.

        So is an "input", of its own size; a "mask" (..., 1, H, W) becomes float32, 1 in the hole.
        """
        batch = dict(batch)
        flip = batch.pop("flip", None)
        if flip is not None:
            for key in self.mirrored:
                if key in batch:
                    batch[key] = torch.where(flip[..., None, None, None], batch[key].flip(-1), batch[key])
        for key in ("image", "input"):
            if key in batch:
                batch[key] = self.scaled(batch[key])
        if "mask" in batch:
            batch["mask"] = batch["mask"].float()
        return batch

    def scaled(self, stored: Tensor) -> Tensor:
        """What networks see of samples as they are stored (..., *shape)."""
        raise NotImplementedError

    def stored(self, images: Tensor) -> Tensor:
        """The way back: samples (N, *shape) as those of `train` are stored, which scores compare."""
        raise NotImplementedError

    def own_extractor(self) -> Any:
        """The only extractor (metrics/extractors.py) for this data; None: any that sees images."""
        return None

    def judge_samples(self, samples: Tensor) -> dict[str, Any]:
        """Scores that need samples (N, *shape) and this data alone (metrics/scores.py: Value)."""
        return {}

    @property
    def judged(self) -> tuple[str, ...]:
        """The names of those."""
        return ()

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps of the data, so that samples can be shown without it."""
        return {}

    def recall(self, facts: dict[str, Any]) -> None:
        """Takes them from a checkpoint."""

    def check_model(self, module: Any) -> None:
        """Raises UserError for a model that cannot be trained on such data."""

    def exhibit(self, samples: Tensor, module: Any = None, ema: bool = True) -> Exhibit:
        """Samples (N, *shape) as people see them; `module`: the model that they are of, or of its moving average."""
        raise NotImplementedError

    def write(self, images: Tensor, folder: Path, prefix: str = "") -> None:
        """Samples (N, *shape) as files."""
        raise NotImplementedError

    def description(self) -> str:
        """What there is to train on, for people."""
        chosen = f" of {len(self.reference):,}" if self.train is not self.reference else ""
        return f"{len(self.train):,}{chosen} {self.noun} {'×'.join(map(str, self.shape))}"

    def real_images(self, count: int) -> Tensor:
        """The first training samples (n, *shape) as networks see them; n = `count` or all there are."""
        return self.scaled(self.train.__getitems__(range(min(count, len(self.train))))["image"])


class ImageData(Data):
    """Square images, uint8 (C, H, W) as they are stored."""

    extractor = "objects"
    pictures = True

    def __init__(
        self,
        image_size: PositiveInt,
        channels: Literal[1, 3],
        flip: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.image_size = image_size
        self.channels = channels
        self.flip = flip

    @property
    def shape(self) -> tuple[int, ...]:
        return self.channels, self.image_size, self.image_size

    def scaled(self, stored: Tensor) -> Tensor:
        """uint8 (..., C, H, W) -> float32 in [-1, 1]."""
        return to_float(stored)

    def stored(self, images: Tensor) -> Tensor:
        return to_pixels(images)

    def exhibit(self, samples: Tensor, module: Any = None, ema: bool = True) -> Exhibit:
        return PictureExhibit(self.picture(samples, module, ema))

    def picture(self, images: Tensor, module: Any = None, ema: bool = True) -> Tensor:
        """Samples (N, C, H, W) as one picture, uint8 (3, h, w); `module`: the model that they are of, or of its moving
        average."""
        columns = [images] if module is None else module.columns(images, ema)
        return grid(images) if len(columns) == 1 else panels(columns)

    def write(self, images: Tensor, folder: Path, prefix: str = "") -> None:
        """Samples (N, C, H, W) as files: <prefix>00000.png, <prefix>00001.png …"""
        for index, image in enumerate(images):
            save_image(image, folder / f"{prefix}{index:05d}.png")
