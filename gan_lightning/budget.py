"""When a run ends, and how it is asked to end early."""

import signal
import time
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, Trainer

from gan_lightning.steps import Counters
from gan_lightning.types import PositiveFloat, PositiveInt

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Budget(Callback):
    """Ends the run at the first budget that is used up, or when it is interrupted, at the end of a step.

    Budgets are totals of the run, over all devices and over every time it was continued. The first SIGINT (Ctrl-C) or
    SIGTERM lets the step end, so that a checkpoint can be written; the second ends the process at once.
    """

    def __init__(
        self,
        images: PositiveInt | None = None,
        generator_steps: PositiveInt | None = None,
        minutes: PositiveFloat | None = None,
    ) -> None:
        self.images = images
        self.generator_steps = generator_steps
        self.minutes = minutes
        self.signal: signal.Signals | None = None
        self.given_up = False  # by a sweep
        self._handlers: dict[signal.Signals, Any] = {}
        self._since = 0.0

    def used_up_by(self, counters: Counters) -> bool:
        """True when a budget is spent."""
        return self._counted_out(counters) or self._timed_out(counters)

    @property
    def hurried(self) -> bool:
        """Whether the end is not to wait for scores."""
        return self.signal is not None or self.given_up

    def _counted_out(self, counters: Counters) -> bool:
        return (self.images is not None and counters.images >= self.images) or (
            self.generator_steps is not None and counters.generator_steps >= self.generator_steps
        )

    def _timed_out(self, counters: Counters) -> bool:
        return self.minutes is not None and counters.seconds >= 60 * self.minutes

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._since = time.monotonic() - pl_module.counters.seconds
        for number in EXIT_CODES:  # after Lightning has set its own, whose SIGTERM can hang several processes
            self._handlers[number] = signal.signal(number, self._interrupt)

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self._restore()  # not before: the last checkpoint is written after the last step

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()  # the second one meets what was there before: it ends the process

    def on_minibatch_end(self, trainer: Trainer, module: Any) -> None:
        module.counters.seconds = time.monotonic() - self._since
        alone = trainer.world_size == 1
        if self._counted_out(module.counters) or (alone and self._asked(module)):
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        whole = pl_module.counters.minibatches % pl_module.step.accumulate == 0
        if trainer.world_size > 1 and whole:  # clocks and signals differ between ranks: agree
            stop = trainer.strategy.reduce_boolean_decision(self._asked(pl_module), all=False)
            trainer.should_stop = trainer.should_stop or stop

    def _asked(self, module: Any) -> bool:
        return self.hurried or self._timed_out(module.counters)
