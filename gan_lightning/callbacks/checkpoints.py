"""Writes checkpoints: the last, and numbered ones every few epochs."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from gan_lightning.checkpoint import FOLDER, LAST, position
from gan_lightning.divergence import check_finite
from gan_lightning.types import PositiveFloat, PositiveInt


class Checkpoints(Callback):
    """`checkpoints/last.ckpt` every few minutes, at the end and on interrupt; numbered ones every few epochs.

    Args:
        every_epochs: keep a numbered checkpoint after every so many epochs; None: none.
        every_minutes: write the last checkpoint this often; None: only at the end and with the numbered ones.
        keep: how many numbered checkpoints to keep, the newest; None: all.
    """

    def __init__(
        self,
        every_epochs: PositiveInt | None = None,
        every_minutes: PositiveFloat | None = 10.0,
        keep: PositiveInt | None = None,
    ) -> None:
        self.every_epochs = every_epochs
        self.every_minutes = every_minutes
        self.keep = keep
        self._written = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._written = time.monotonic()

    def on_minibatch_end(self, trainer: Trainer, module: Any) -> None:
        counters = module.counters
        if self.every_epochs and counters.epoch_minibatches == 0 and counters.epoch % self.every_epochs == 0:
            self.save(trainer, module, f"e{counters.epoch:04d}-s{counters.generator_steps:08d}.ckpt")
            if self.keep and trainer.is_global_zero:
                folder = Path(trainer.default_root_dir) / FOLDER
                for old in sorted(folder.glob("e*-s*.ckpt"), key=position)[: -self.keep]:
                    old.unlink()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        if self.every_minutes is None or pl_module.counters.minibatches % pl_module.step.accumulate:
            return
        due = time.monotonic() - self._written >= 60 * self.every_minutes
        if trainer.world_size > 1:  # clocks differ between ranks: the first decides
            due = bool(trainer.strategy.broadcast(due))
        if due:
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.save(trainer, pl_module)

    def save(self, trainer: Trainer, module: Any, also: str | None = None) -> None:
        """Writes last.ckpt, on every rank together; `also`: the same file under this name too.

        Raises Diverged, and writes nothing, when a weight is not finite.
        """
        module.average_buffers()
        folder = Path(trainer.default_root_dir) / FOLDER
        check_finite(module, folder.parent)
        trainer.save_checkpoint(folder / LAST)
        self._written = time.monotonic()
        if also and trainer.is_global_zero:
            link(folder / LAST, folder / also)


def link(source: Path, target: Path) -> None:
    """A second name of the same file (a save replaces the first name only), or a copy where links are refused."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)
