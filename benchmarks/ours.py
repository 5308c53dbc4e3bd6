"""The project itself as a contender: `python -m gan_lightning`, as it stands, on random images."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.runner import Case, Clock
from gan_lightning.callbacks.samples import SampleGrids
from gan_lightning.commands import train
from gan_lightning.config import signatures
from gan_lightning.data.mnist import MNIST
from gan_lightning.data.sets import InMemory


class RandomImages(MNIST):
    """MNIST's configuration and format with random pixels: nothing to download, any number of images."""

    def __init__(self, images: int, **mnist: Any) -> None:
        super().__init__(**mnist)
        self.images = images

    def check(self) -> None:
        """They are always there."""

    def prepare_data(self) -> None:
        """Nothing to download."""

    def load(self) -> tuple[InMemory, InMemory, list[str]]:
        pixels = random_pixels(self.images, self.channels, self.image_size)
        return InMemory(pixels, torch.arange(self.images) % 10), InMemory(pixels[:64]), list(self.names)


class Ticks(SampleGrids):
    """Sample grids that draw nothing, and tell the clock of every minibatch."""

    clock: Clock  # set in the contender's process

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """No real images."""

    def on_minibatch_end(self, trainer: Any, module: Any) -> None:
        self.clock.tick()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """No film."""


def ours(case: Case, clock: Clock, folder: Path) -> None:
    """gan_lightning with its defaults: loggers and progress on; scores, grids and checkpoints off."""
    Ticks.clock = clock
    signatures.ALLOWED = (*signatures.ALLOWED, "benchmarks.")  # its configurations name no classes from elsewhere
    train.run(
        [
            *case.arguments(),
            "data._target_=benchmarks.ours.RandomImages",
            f"data.images={case.images}",
            "samples._target_=benchmarks.ours.Ticks",
            "scores=off",
            "checkpoints.every_minutes=null",
            f"hydra.run.dir={folder}/run",
        ]
    )


def random_pixels(images: int, channels: int, size: int) -> torch.Tensor:
    """uint8 (N, C, H, W), the same every time."""
    stream = torch.Generator().manual_seed(0)
    return torch.randint(256, (images, channels, size, size), dtype=torch.uint8, generator=stream)
