"""Says, once and clearly, when one player has won, when the generator no longer learns, and when samples collapse."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, Trainer

from gan_lightning import status
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.callbacks.metrics import Metrics
from gan_lightning.callbacks.scores import Scores
from gan_lightning.loggers import ours

# Calibrated on ten healthy runs of each model, which raise no alarm, and on runs driven to collapse (docs/scores.md).
LINES, IMAGES = 10, 20_000  # "for long": so many log lines in a row, over so many images
FIRST = 20  # log lines that say what the generator's gradient is like
VANISHED = 0.01  # of that
FALLEN, LITTLE = 0.5, 0.5  # diversity: of its best so far, and of the real images'
STUCK, STUCK_IMAGES = 0.25, 200_000  # diversity that is no more than this after so many images never rose; and
# then more classes must be there than are missing
MISSING = 2  # classes more than at best
KEY = "on_collapse"

REMEDIES = {
    "won": "Lower model.discriminator_optimizer.lr, raise the generator's, or add a penalty (model=wgan_gp)",
    "vanished": "Use model.loss=nonsaturating, a lower model.discriminator_optimizer.lr, or model=wgan_gp",
    "diversity": "Go on from checkpoints/best.ckpt with lower learning rates, use batch norm in the generator, or "
    "model=wgan_gp",
    "missing": "Train longer, or use a larger data.batch_size, or model=wgan_gp",
}


@dataclass
class Watch:
    """What the alarms remember: a pure function of the lines and scores that they were shown."""

    streaks: dict[str, list[int]] = field(default_factory=dict)  # condition -> [lines, images at the first]
    gradients: list[float] = field(default_factory=list)  # of the first lines
    most_diverse: float = 0.0
    fewest_missing: float | None = None
    raised: list[str] = field(default_factory=list)

    def line(self, metrics: dict[str, float], won: float | None, images: int) -> list[tuple[str, str]]:
        """Looks at a line of metrics; the alarms that it raises: (kind, what is wrong)."""
        found = []
        loss, ranking = metrics.get("D/loss"), metrics.get("D/ranking", 1.0)
        if won is not None and loss is not None and self.lasts("won", loss < won and ranking == 1, images):
            found.append(("won", f"the discriminator has won: D/loss {loss:.2g}, every real image above every fake"))
        gradient = metrics.get("G/gradient_norm")
        if gradient is not None:
            if len(self.gradients) < FIRST:
                self.gradients.append(gradient)
            usual = statistics.median(self.gradients)
            if self.lasts("vanished", gradient < VANISHED * usual, images):
                found.append(
                    ("vanished", f"the generator's gradient has vanished: {gradient:.2g}, at first {usual:.2g}")
                )
        return self.new(found)

    def scores(self, scores: dict[str, float], images: int) -> list[tuple[str, str]]:
        """Looks at scores; the alarms that they raise."""
        found = []
        if (diversity := scores.get("diversity")) is not None:
            much = f"samples differ {diversity:.2f} times as much as real images"
            if diversity < min(FALLEN * self.most_diverse, LITTLE) and self.most_diverse > STUCK:
                found.append(("diversity", f"the generator has collapsed: {much}, {self.most_diverse:.2f} before"))
            elif diversity < STUCK and images >= STUCK_IMAGES:
                found.append(("diversity", f"the generator has not spread: {much}"))
            self.most_diverse = max(self.most_diverse, diversity)
        if (missing := scores.get("missing_modes")) is not None:
            fewest = missing if self.fewest_missing is None else self.fewest_missing
            there = scores.get("modes", missing)
            if missing >= fewest + MISSING:
                found.append(("missing", f"{missing:.0f} classes are missing among the samples, {fewest:.0f} before"))
            elif missing > there and images >= STUCK_IMAGES:
                found.append(("missing", f"{missing:.0f} classes are missing among the samples, {there:.0f} are there"))
            self.fewest_missing = min(missing, fewest)
        return self.new(found)

    def lasts(self, name: str, true: bool, images: int) -> bool:
        """Whether something has been true for long."""
        lines, since = self.streaks.get(name, [0, images])
        self.streaks[name] = [lines + 1, since] if true else [0, images]
        return true and lines + 1 >= LINES and images - since >= IMAGES

    def new(self, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those that were not raised before."""
        fresh = [(kind, text) for kind, text in found if kind not in self.raised]
        self.raised += [kind for kind, _ in fresh]
        return fresh


class Alarms(Callback):
    """Each alarm is raised once a run: in the log, and as text in TensorBoard.

    Args:
        on_collapse: "stop" ends the run at an alarm, after writing its checkpoint.
        metrics, scores: where the newest values are.
        checkpoints: told why the run ends.
        say: prints a line.
    """

    def __init__(
        self,
        on_collapse: Literal["warn", "stop"],
        metrics: Metrics,
        scores: Scores | None,
        checkpoints: Checkpoints,
        say: Callable[[str], None],
    ) -> None:
        self.on_collapse, self.metrics, self.scores, self.say = on_collapse, metrics, scores, say
        self.checkpoints = checkpoints
        self.watch = Watch()
        self.folder: Path | None = None  # where the first rank notes them
        self.raised: list[str] = []  # what the summary repeats
        self.stopped = False
        self._looks = 0

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.watch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.watch = Watch(**state_dict)

    def go_on(self, folder: Path, stopped: str | None) -> None:
        """The run in `folder` begins, or goes on with what was raised before; stopped: what it was about to end by."""
        before = status.read(folder)
        self.folder, self.raised = folder, list(before.alarms) if before else []
        self.stopped, self.checkpoints.stopped = stopped == KEY, stopped

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._looks = self.scores.looks if self.scores else 0

    def on_minibatch_end(self, trainer: Trainer, module: Any) -> None:
        if module.log_due and "D/loss" in self.metrics.last:  # a generator alone can neither lose nor give up
            self.tell(trainer, module, self.watch.line(self.metrics.last, module.won, module.counters.images))
        self.look_at_scores(trainer, module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.look_at_scores(trainer, pl_module)

    def look_at_scores(self, trainer: Trainer, module: Any) -> None:
        if self.scores and self.scores.looks > self._looks:
            self._looks = self.scores.looks
            self.tell(trainer, module, self.watch.scores(self.scores.seen, module.counters.images))

    def tell(self, trainer: Trainer, module: Any, alarms: list[tuple[str, str]]) -> None:
        for kind, text in alarms:
            message = f"at {module.counters.images:,} images {text}. {REMEDIES[kind]}."
            if message not in self.raised:  # by a run that was killed before its checkpoint
                self.raised.append(message)
            if self.folder:
                status.warn(self.folder, message)
            self.say(f"WARNING: {message}")
            for logger in ours(trainer.loggers):
                logger.say("alarms", message, module.counters.images)
            if self.on_collapse == "stop":
                trainer.should_stop = self.stopped = True
                self.checkpoints.stopped = KEY
