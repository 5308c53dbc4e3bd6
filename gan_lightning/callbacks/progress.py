"""What a person sees of a run: the banner, the progress bar, the summary."""

import math
import shlex
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich import progress
from rich.console import Console
from rich.table import Table
from torch import nn

from gan_lightning.budget import Budget
from gan_lightning.callbacks.alarms import Alarms
from gan_lightning.callbacks.metrics import Metrics
from gan_lightning.callbacks.scores import BEST, Scores
from gan_lightning.checkpoint import FOLDER, LAST, position
from gan_lightning.losses import PAIRS
from gan_lightning.metrics import records
from gan_lightning.speed import wants_channels_last, why_no_graphs
from gan_lightning.status import State
from gan_lightning.steps import Counters

LINE_SECONDS = 15.0  # where there is no terminal: a line this often


class Progress(Callback):
    """A bar with losses, images/s and the time left; plain lines where the output is no terminal."""

    def __init__(self, metrics: Metrics, budget: Budget, shown: bool = True) -> None:
        self.metrics = metrics
        self.budget = budget
        self.shown = shown
        self.console = Console()
        self.bar: progress.Progress | None = None
        self._shown_at = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.shown = self.shown and trainer.is_global_zero
        self._shown_at = time.monotonic()
        self.total = total_images(trainer, pl_module, self.budget)
        if self.shown and self.console.is_terminal:
            self.bar = progress.Progress(
                progress.TextColumn("epoch {task.fields[epoch]}"),
                progress.BarColumn(bar_width=10),
                progress.TextColumn("{task.completed:,} images"),
                progress.TimeRemainingColumn(compact=True),
                progress.TextColumn("left, {task.fields[numbers]}"),
                console=self.console,
            )
            counters = pl_module.counters
            self.task = self.bar.add_task(
                "", total=self.total, completed=counters.images, epoch=counters.epoch, numbers=""
            )
            self.bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        now = time.monotonic()
        if not self.shown or now - self._shown_at < (0.2 if self.bar else LINE_SECONDS):
            return
        self._shown_at = now
        counters = pl_module.counters
        if self.bar:
            self.bar.update(self.task, completed=counters.images, epoch=counters.epoch, numbers=self.numbers())
        else:
            share = f" ({counters.images / self.total:.0%})" if self.total else ""
            print(f"epoch {counters.epoch}: {counters.images:,} images{share}, {self.numbers()}", flush=True)

    def line(self, text: str) -> None:
        """Prints a line, above the bar, on the first rank."""
        if not rank_zero_only.rank:
            if self.bar:
                self.bar.console.print(text, highlight=False)
            else:
                print(text, flush=True)

    def numbers(self) -> str:
        """The newest losses and the speed."""
        losses = [f"{key[0]} {self.metrics.last[key]:.3f}" for key in ("D/loss", "G/loss") if key in self.metrics.last]
        return " ".join([*losses, f"{self.metrics.images_per_second:,.0f} images/s"])

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.bar:
            self.bar.update(self.task, completed=pl_module.counters.images, numbers=self.numbers())
            self.bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        if self.bar:
            self.bar.stop()


def total_images(trainer: Trainer, module: Any, budget: Budget) -> int | None:
    """Images until the first budget ends; None where only time ends the run."""
    minibatch = trainer.datamodule.minibatch_size(trainer.world_size, module.step.accumulate) * trainer.world_size  # type: ignore[attr-defined]  # Lightning sets it
    ends = []
    if trainer.max_epochs and trainer.max_epochs > 0:
        ends.append(trainer.max_epochs * module.epoch_length * minibatch)
    if budget.images:
        ends.append(budget.images)
    if budget.generator_steps:
        ends.append(images_of_steps(budget.generator_steps, module, minibatch))
    return min(ends, default=None)


def images_of_steps(generator_steps: int, module: Any, minibatch: int) -> int:
    """Training images until the generator has moved so often: phases have turns of their own."""
    images = 0
    for phase in module.phases:
        critic_steps = module.step.critic_steps if "discriminator" in phase.players else 1
        each = minibatch // phase.split * module.step.accumulate * critic_steps  # images of a step
        possible = phase.images // each if phase.images is not None and phase is not module.phases[-1] else math.inf
        if "generator" in phase.players:
            if generator_steps <= possible:
                return images + generator_steps * each
            generator_steps -= int(possible)
        images += phase.images or 0
    return images


def describe(network: nn.Module) -> str:
    """DCGANGenerator (3,576,704 parameters): the trainable ones."""
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return f"{type(network).__name__} ({count:,} parameters)"


def choices(module: Any, data: Any, trainer: Trainer) -> list[str]:
    """What was chosen for speed."""
    device = trainer.strategy.root_device
    graphs = why_no_graphs(module, trainer)
    return [
        f"{data.per_batch(module.step, trainer)} minibatches a batch",
        f"images {data.place(device)}",
        *(["channels last"] if wants_channels_last(module.step, module) else []),
        *(["compiled losses"] if module.step.compile else []),
        f"no CUDA graphs ({graphs})" if graphs else "CUDA graphs",
    ]


def banner(module: Any, data: Any, trainer: Trainer, folder: Path, counters: Counters | None) -> None:
    """What is about to be trained, on what, where."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    classes = f", {len(data.class_names)} classes" if data.class_names else ""
    size = data.minibatch_size(trainer.world_size, module.step.accumulate)
    rows = {
        "model": f"{rule(module)}: {describe(module.generator)}, {describe(module.discriminator)}",
        "data": f"{type(data).__name__}: {data.description()}{classes}, "
        f"{len(data.held_out):,} held out; batches of {size} per device",
        "device": f"{trainer.world_size} × {trainer.strategy.root_device.type}, precision {trainer.precision}",
        "step": ", ".join(choices(module, data, trainer)),
        "folder": str(folder),
    }
    if counters:
        rows["continues"] = (
            f"epoch {counters.epoch}, {counters.generator_steps:,} generator steps, {counters.images:,} images"
        )
    for name, text in rows.items():
        table.add_row(name, text)
    Console().print(table)


def rule(module: Any) -> str:
    """The rule, and what its YAML and networks make of it: "GAN (loss=hinge, spectral_norm=True)"."""
    pair = getattr(module, "pair", None)
    facts = [f"loss={name}" for name, its in PAIRS.items() if its is pair]
    for key, without in (("classes", 0), ("pack", 1), ("minibatch_kernels", 0), ("spectral_norm", False)):
        value = getattr(module.discriminator, key, without)
        facts += [f"{key}={value}"] if value != without else []
    return type(module).__name__ + (f" ({', '.join(facts)})" if facts else "")


def summary(module: Any, folder: Path, scores: Scores | None, alarms: Alarms, state: State) -> None:
    """Where the results are, and what to type next."""
    counters = module.counters
    grids = sorted((folder / "samples").glob(f"e*_{'ema' if module.ema is not None else 'raw'}.*"), key=position)
    speed = counters.images / counters.seconds if counters.seconds else 0
    quoted = shlex.quote(str(folder))
    scored = []
    if scores and scores.last:
        spent = scores.seconds + scores.glance_seconds
        share = spent / max(counters.seconds, spent)
        best = folder / FOLDER / BEST
        scored = [f"  scores      {scores.text()}", f"  best        {best} ({scores.chosen} {scores.best:.4g})"]
        scored.append(f"              all in {folder / records.FILE}; scoring took {share:.1%} of the time")
    ended = {"interrupted": "Interrupted", "stopped": "Stopped by an alarm", "pruned": "Given up by the sweep"}
    lines = [
        f"{ended.get(state, 'Done')} after {counters.epoch} epochs, {counters.generator_steps:,} "
        f"generator steps, {counters.images:,} images in {counters.seconds:.0f} s ({speed:,.0f} images/s).",
        *(f"  alarm       {message}" for message in alarms.raised),
        *scored,
        f"  samples     {grids[-1] if grids else folder / 'samples'}",
        f"  checkpoint  {folder / FOLDER / LAST}",
        "Next:",
        *([f"  python -m gan_lightning checkpoint={quoted}"] if state == "interrupted" else []),
        f"  python -m gan_lightning {module.used_by.format(quoted)}",
        f"  python -m gan_lightning evaluate checkpoint={quoted}",
        "  tensorboard --logdir outputs",
    ]
    print("\n".join(lines), flush=True)
