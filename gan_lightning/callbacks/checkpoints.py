"""Writes checkpoints: the last, and numbered ones every few epochs."""

import re
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from gan_lightning.budget import asked_to_end
from gan_lightning.checkpoint import FOLDER, LAST, link, position
from gan_lightning.divergence import check_finite
from gan_lightning.loggers import sizes_of_events
from gan_lightning.types import PositiveFloat, PositiveInt

NAME = re.compile(r"e\d+-s\d+\.ckpt|best\.ckpt")  # of a checkpoint beside the last


class Checkpoints(Callback):
    """`checkpoints/last.ckpt` every few minutes, at the end and on interrupt; numbered ones every few epochs.

    It is told after all others: what a checkpoint is of is in every file by then, and nothing that comes later.

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
        self.also: list[str] = []  # other names of the next checkpoint
        self.ended = False  # it is the run's last, with nothing left to do
        self.stopped: str | None = None  # the setting that ends the run, where that is no budget
        self._events: dict[str, int] = {}
        self._written = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """also: its names, if it was killed before it had them; events: how long their files were."""
        return {"also": self.also, "ended": self.ended, "stopped": self.stopped, "events": self._events}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError for names that are none of a run's: they may come from elsewhere."""
        if any(not isinstance(name, str) or not NAME.fullmatch(name) for name in state_dict["also"]):
            raise ValueError(f"also={state_dict['also']}")
        if any(not isinstance(size, int) or size < 0 for size in state_dict.get("events", {}).values()):
            raise ValueError(f"events={state_dict['events']}")
        self.also = state_dict["also"]

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._written = time.monotonic()
        folder = Path(trainer.default_root_dir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / LAST).exists():  # the one that is continued: in a new folder there is none
            self.name(trainer, folder)
        self.also = []

    def on_minibatch_end(self, trainer: Trainer, module: Any) -> None:
        counters = module.counters
        if self.every_epochs and counters.epoch_minibatches == 0 and counters.epoch % self.every_epochs == 0:
            self.also.append(f"e{counters.epoch:04d}-s{counters.generator_steps:08d}.ckpt")
        if self.also:
            self.save(trainer, module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        if self.every_minutes is None or pl_module.counters.minibatches % pl_module.step.accumulate:
            return
        due = time.monotonic() - self._written >= 60 * self.every_minutes
        if trainer.world_size > 1:  # clocks differ between ranks: the first decides
            due = bool(trainer.strategy.broadcast(due))
        if due:
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.ended = asked_to_end(trainer) is None
        self.save(trainer, pl_module)

    def save(self, trainer: Trainer, module: Any) -> None:
        """Writes last.ckpt, on every rank together; the same file under the names of `also` too.

        Raises Diverged, and writes nothing, when a weight is not finite.
        """
        module.average_buffers()
        folder = Path(trainer.default_root_dir) / FOLDER
        check_finite(module, folder.parent)
        for logger in trainer.loggers:
            logger.save()  # a kill that follows must not leave a gap before the checkpoint
        self._events = sizes_of_events(folder.parent)
        trainer.save_checkpoint(folder / LAST)
        self._written = time.monotonic()
        self.name(trainer, folder)
        self.also = []

    def name(self, trainer: Trainer, folder: Path) -> None:
        """Gives the last checkpoint its other names; removes numbered ones that are too many."""
        if not self.also or not trainer.is_global_zero:
            return
        for name in self.also:
            link(folder / LAST, folder / name)
        if self.keep:
            for old in sorted(folder.glob("e*-s*.ckpt"), key=position)[: -self.keep]:
                old.unlink()


def saves_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What this callback left in a checkpoint; empty: an older version wrote it."""
    return checkpoint.get("callbacks", {}).get(Checkpoints.__name__, {})
