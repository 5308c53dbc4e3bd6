"""When a run ends, and how it is asked to end early."""

import signal
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from gan_lightning.clusters import slurm_job, starter
from gan_lightning.steps import Counters
from gan_lightning.types import PositiveFloat, PositiveInt

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
# What schedulers send before they take the machine; submitit the second. Windows has neither.
PREEMPTIONS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
EXIT_CODES = {number: 128 + number for number in (*INTERRUPTS, *PREEMPTIONS)}  # Linux: 130, 143, 138, 140


class Budget(Callback):
    """Ends the run at the first budget that is used up, or when it is interrupted, at the end of a step.

    Budgets are totals of the run, over all devices and over every time it was continued. The first SIGINT (Ctrl-C) or
    SIGTERM lets the step end, so that a checkpoint can be written; the second ends the process at once, but where
    torchrun or srun started it: they pass signals on that came to it already, and kill for themselves.
    SIGUSR1 and SIGUSR2 ask to make room: the same, and then the job is queued again (`leave`). A scheduler that sends
    SIGTERM too, before or after, means the same thing by it.
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
        self.over = False  # nothing is left to train but the run's end
        self.given_up = False  # by a sweep: the first rank is told, and the others agree
        self.received: signal.Signals | None = None  # by this process
        self.signal: signal.Signals | None = None  # which the run ends by: several ranks have agreed
        self._before: dict[signal.Signals, Any] = {}  # the handlers that were there
        self._ours: set[signal.Signals] = set()
        self._since = 0.0
        self._alone = True

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

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self._before = {number: signal.getsignal(number) for number in EXIT_CODES}  # before Lightning sets its own

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._since = time.monotonic() - pl_module.counters.seconds
        self._alone = trainer.world_size == 1
        trainer.should_stop = self.over
        if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
            return
        for number in EXIT_CODES:  # after Lightning has set its own, whose SIGTERM can hang several processes
            signal.signal(number, self._interrupt)
            self._ours.add(number)

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self._restore(*self._ours)  # not before: the last checkpoint is written after the last step

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self._restore(*self._ours)

    def _restore(self, *numbers: signal.Signals) -> None:
        for number in self._ours.intersection(numbers):
            self._ours.remove(number)
            signal.signal(number, self._before[number] or signal.SIG_DFL)  # None: one that is not Python's

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.received not in PREEMPTIONS or number in PREEMPTIONS:
            self.received = signal.Signals(number)
        if self._alone:
            self.signal = self.received
        if starter() not in ("torchrun", "srun"):  # the second one meets what was there before: it ends the process
            self._restore(signal.SIGINT, *([] if self.received in PREEMPTIONS else [signal.SIGTERM]))

    def on_minibatch_end(self, trainer: Trainer, module: Any) -> None:
        module.counters.seconds = time.monotonic() - self._since
        asked = self.hurried or self._timed_out(module.counters)
        if self._counted_out(module.counters) or (self._alone and asked):
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        whole = pl_module.counters.minibatches % pl_module.step.accumulate == 0
        if not self._alone and whole:  # clocks and signals differ between ranks: agree
            trainer.should_stop = self._agree(trainer, pl_module) or trainer.should_stop

    def _agree(self, trainer: Trainer, module: Any) -> bool:
        """Whether one of the ranks was asked to end. What it was asked by is then known to all, who end alike."""
        known = list(EXIT_CODES)  # the later ones count for more, and all of them for more than what they interrupt
        mine = 2 if self.given_up else int(self._timed_out(module.counters))
        if self.received is not None:
            mine = 3 + known.index(self.received)
        asked = torch.tensor(mine, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(asked, op=torch.distributed.ReduceOp.MAX)
        most = int(asked)
        self.given_up = most == 2
        if most > 2:
            self.signal = known[most - 3]
        return most > 0

    def leave(self, first: bool) -> int:
        """The exit code of a run that has ended; where it made room, its job is queued again.

        Whoever handled the signal before this run does that, as submitit does, and need not return; else the first rank
        asks SLURM, if the run is a job of it. Ranks but the first end with 0: srun may kill the others over any code.
        """
        if self.signal is not None and self.signal in PREEMPTIONS:
            job, before = slurm_job(), self._before.get(self.signal)
            if callable(before):
                before(self.signal, None)
            elif job and first:
                requeue(job)
        return EXIT_CODES[self.signal] if self.signal and first else 0


def asked_to_end(trainer: Trainer) -> signal.Signals | None:
    """By which signal; None: the run has come to its own end."""
    budgets = [callback for callback in trainer.callbacks if isinstance(callback, Budget)]  # type: ignore[attr-defined]  # Lightning sets it
    return budgets[0].signal if budgets else None


def requeue(job: str) -> None:
    """Asks SLURM to start a job again with its own arguments; says so, or why it could not."""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
        failure = (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        failure = str(error)
    if failure:
        print(f"gan_lightning: scontrol requeue {job}: {failure}; the same command continues the run", file=sys.stderr)
    else:
        print(f"SLURM job {job} is queued again", flush=True)
