"""A tiny data set, a tiny game and a way to fit them, for tests of the base; what a short run has learned."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.budget import Budget
from gan_lightning.callbacks.metrics import Metrics
from gan_lightning.commands.train import quieten, run
from gan_lightning.data.base import Data, ImageData
from gan_lightning.data.sets import InMemory
from gan_lightning.metrics.records import lines
from gan_lightning.models.gan import GAN
from gan_lightning.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_lightning.steps import Step
from gan_lightning.trainer import TrainerSettings

RARELY = [
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "samples.every_images=100000000",
    "samples.count=4",
]


def scores_after(steps: int, folder: Path, *arguments: str) -> dict[str, float]:
    """The scores at the end of a run of so many steps of the generator, as the command line makes it."""
    place = folder / str(steps)
    few = ["scores.names=[diversity]", f"budget.generator_steps={steps}", f"hydra.run.dir={place}"]
    assert run([*RARELY, *few, *arguments]) == 0
    return {line["metric"]: line["value"] for line in lines(place / "scores.jsonl")}


def wait_for(path: Path, seconds: float = 60) -> None:
    """Until a process has written this file."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not written within {seconds} s"
        time.sleep(0.05)


class Blobs(ImageData):
    """Random 8×8 pictures: bright in one corner of four, which is the label."""

    def __init__(self, images: int = 64, **base: Any) -> None:
        super().__init__(**{"batch_size": 8, "image_size": 8, "channels": 1, "seed": 0, **base})
        self.images = images

    def load(self) -> tuple[InMemory, InMemory, list[str]]:
        stream = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 100, (self.images, 1, 8, 8), dtype=torch.uint8, generator=stream)
        labels = torch.arange(self.images) % 4
        for label in range(4):
            row, column = divmod(label, 2)
            pixels[labels == label, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 150
        return InMemory(pixels, labels), InMemory(pixels[:16], labels[:16]), ["a", "b", "c", "d"]


class Large(Blobs):
    """Blobs of 16 pixels."""

    def load(self) -> Any:
        train, held_out, classes = super().load()
        for part in (train, held_out):
            part.images = part.images.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return train, held_out, classes


def count(network: nn.Module) -> int:
    """Parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def batch_of(count: int = 8, **more: Tensor) -> dict[str, Tensor]:
    """A minibatch (count, 1, 8, 8) in [-1, 1], always the same."""
    stream = torch.Generator().manual_seed(0)
    return {"image": torch.rand(count, 1, 8, 8, generator=stream) * 2 - 1, **more}


def fakes_of(count: int = 8) -> Tensor:
    """Fakes for it (count, 1, 8, 8)."""
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def game(rule: Any = GAN, *, seed: Any = 0, step: Any = None, **settings: Any) -> Any:
    """A small fully connected game without batch norm; the same weights for the same seed."""
    torch.manual_seed(seed)
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.9))
    return rule(
        **{
            "generator": MLPGenerator(4, [16], 8, 1, "relu", "none"),
            "discriminator": MLPDiscriminator([16], 8, 1, "leaky_relu"),
            "generator_optimizer": adam,
            "discriminator_optimizer": adam,
            "step": step or Step(),
            "seed": seed,
            **settings,
        }
    )


class Watch(Callback):
    """Calls a function after every minibatch."""

    def __init__(self, see: Any) -> None:
        self.see = see

    def on_minibatch_end(self, trainer: Any, module: Any) -> None:
        self.see(module)


def fit(
    module: AdversarialModule,
    data: Data,
    folder: Path,
    *callbacks: Callback,
    budget: Budget | None = None,
    checkpoint: Path | None = None,
    **trainer: Any,
) -> Trainer:
    """Trains with the project's own Trainer."""
    quieten()
    data.setup()
    settings = TrainerSettings(**{"accelerator": "cpu", "max_epochs": 1, "log_every_n_steps": 1, **trainer})
    built = settings.build(folder, [budget or Budget(), Metrics(), *callbacks], [], [])
    built.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return built
