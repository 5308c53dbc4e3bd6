"""One line of metrics every few minibatches: one transfer from the device, one call a logger; its begin and end."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from gan_lightning.budget import asked_to_end
from gan_lightning.divergence import Diverged, advice
from gan_lightning.loggers import ours


class Metrics(Callback):
    """Writes `module.metrics` to every logger when the module says that a line is due, averaged over the ranks."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.images_per_second = 0.0
        self._since = (0.0, 0)
        self._began = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._since = (time.monotonic(), pl_module.counters.images)
        for logger in ours(trainer.loggers):
            logger.begin(flat(pl_module.config))
        self._began = True

    def on_minibatch_end(self, trainer: Trainer, module: Any) -> None:
        if not module.log_due:
            return
        counters = module.counters
        on_device = {key: value for key, value in module.metrics.items() if isinstance(value, torch.Tensor)}
        values = torch.stack([value.detach().float().to(module.device) for value in on_device.values()])
        finite = torch.stack(module.recent).isfinite().to(values)
        module.recent.clear()
        if trainer.world_size > 1:  # what is not finite on one rank ends all of them alike
            values = trainer.strategy.reduce(values, reduce_op="mean")
            finite = trainer.strategy.reduce(finite, reduce_op="min")  # a mean of ones need not be one: NCCL adds 1/n
        self.last = {**module.metrics, **dict(zip(on_device, values.tolist(), strict=True))}
        now, (then, images) = time.monotonic(), self._since
        self._since = (now, counters.images)
        self.images_per_second = (counters.images - images) / max(now - then, 1e-9)
        position = {
            "epoch": counters.epoch,
            "minibatches": counters.minibatches,
            "generator_steps": counters.generator_steps,
            "seconds": round(counters.seconds, 2),
            "images_per_second": self.images_per_second,
        }
        for logger in trainer.loggers:
            logger.log_metrics({**position, **self.last}, step=counters.images)
        whole = [share > 0 for share in finite.tolist()]
        if not all(whole):
            first = counters.minibatches - len(whole) + whole.index(False) + 1
            raise Diverged(
                f"a loss is not finite at minibatch {first} (noticed at {counters.minibatches}, step "
                f"{counters.generator_steps}, {counters.images:,} images): {advice(Path(trainer.default_root_dir))}"
            )

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if asked_to_end(trainer) is None:  # else it goes on some day
            self._end(trainer, failed=False)

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        if isinstance(exception, Exception):  # no interrupt
            with suppress(OSError):  # perhaps the disk is what failed: that is said by the first error
                self._end(trainer, failed=True)

    def _end(self, trainer: Trainer, *, failed: bool) -> None:
        if self._began:
            for logger in ours(trainer.loggers):
                logger.end(failed=failed)


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"data": {"seed": 0}} -> {"data.seed": 0}: what TensorBoard's HParams tab and others take."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key == "_partial_" or value is None or (prefix and key in ("step", "seed")):  # noise, or said elsewhere
            continue
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
