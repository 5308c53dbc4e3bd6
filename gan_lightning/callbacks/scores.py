"""Scores during training: how often, what they are told to, and the best checkpoint by one of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.budget import Budget
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.checkpoint import FOLDER, read_checkpoint
from gan_lightning.divergence import check_finite
from gan_lightning.errors import UserError
from gan_lightning.loggers import ours
from gan_lightning.metrics import records
from gan_lightning.metrics.scores import UP
from gan_lightning.metrics.scoring import Scorer, ScoreSettings, from_first, world
from gan_lightning.types import Fraction, PositiveInt

BEST = "best.ckpt"
GLANCE_IMAGES, GLANCE_SHARE = 10_000, 0.2  # between glances at least; their part of the share


class Abandoned(Exception):
    """Scoring was cut short by an interrupt."""


@dataclass(frozen=True)
class TrainingScores(ScoreSettings):
    """How scores are made in training, and when; `names=[]`: never.

    Args:
        every: score each time so many more training images were shown; None: as often as `share` allows.
        share: the part of the time that scoring may take, the one at the end included.
        best: the metric that `checkpoints/best.ckpt` is kept by; None: the first.
        patience: end the run after so many scores in a row that are no better; None: never.
    """

    every: PositiveInt | None = None
    share: Fraction = 0.05
    best: str | None = None
    patience: PositiveInt | None = None


def scored_until(checkpoint: dict[str, Any], ended: bool) -> int:
    """The training images up to which the scores of a run that goes on from `checkpoint` have been made.

    ended: no step is left, but the run was killed in its end.
    """
    images = checkpoint["counters"]["images"]
    state = checkpoint.get("callbacks", {}).get(Scores.__name__, {})
    if "scored_at" not in state:  # an older version's: those of the end are made again with the rest of it
        return images - ended
    return images if state["scored_at"] == images else images - 1


def chosen_metric(wanted: str | None, scorer: Scorer, module: AdversarialModule, key: str = "scores.best") -> str:
    """The metric that runs are judged by: the one that `key` names, else the first that is made of the module.

    Raises UserError when it is not made.
    """
    made = scorer.metrics(module)
    if wanted in module.own_metrics and wanted not in made:
        raise UserError(f"{key}={wanted}: there are no held-out images that it could be made of")
    if wanted and wanted not in made:
        raise UserError(f"{key}={wanted}: is not among the metrics made: {', '.join(made)}")
    return wanted or made[0]


class Scores(Callback):
    """Scores the moving average of the generator during training and once at the end.

    Records go to scores.jsonl, to every logger but the CSV file as "scores/…", and to `say`.
    """

    def __init__(
        self,
        settings: TrainingScores,
        scorer: Scorer,
        checkpoints: Checkpoints,
        budget: Budget,
        say: Callable[[str], None],
        module: AdversarialModule,
    ) -> None:
        """Raises UserError when the best checkpoint shall be kept by a metric that is not made of the module."""
        self.chosen = chosen_metric(settings.best, scorer, module)
        self.settings, self.scorer, self.checkpoints, self.budget, self.say = settings, scorer, checkpoints, budget, say
        self.last: dict[str, records.Record] = {}  # of the newest scores, by metric
        self.seen: dict[str, float] = {}  # diversity and missing modes, from the newest scores or the newest glance
        self.looks = 0  # how often `seen` was made
        self.seconds = 0.0  # spent on scores
        self.glance_seconds = 0.0  # and on glances
        self.best: float | None = None
        self.since_best = 0
        self.scored_at = -1  # training images at the newest scores
        self._next_seconds = 0.0  # what the next ones will take
        self._glanced_at = 0
        self._next_glance = 0.0

    @property
    def best_of(self) -> list[Any]:
        """What the best checkpoint is the best of: it stays only while this does."""
        scorer = self.scorer
        return [self.chosen, scorer.extractor.label, scorer.n_real, scorer.n_fake, scorer.settings.split]

    def state_dict(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "glance_seconds": self.glance_seconds,
            "best": self.best,
            "best_of": self.best_of,
            "since_best": self.since_best,
            "scored_at": self.scored_at,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for key in ("seconds", "glance_seconds", "since_best"):
            setattr(self, key, state_dict[key])
        self.scored_at = state_dict.get("scored_at", -1)  # which older versions did not say

    def find_best(self, path: Path) -> None:
        """Goes on from the best checkpoint so far, if it is the best of the same."""
        try:
            states = read_checkpoint(path)["callbacks"] if path.exists() else {}
        except UserError as error:  # damaged: the next scores are the best
            self.say(f"{error}; the next scores are kept as the best")
            states = {}
        state = states.get(self.state_key, {})
        if state.get("best_of") == self.best_of:
            self.best = state["best"]
        else:
            self.since_best = 0

    def find_last(self, path: Path, images: int) -> None:
        """Takes over the scores that were made where the run goes on; if they are not there they are made again."""
        if self.scored_at == images:
            found = [line for line in records.lines(path) if line["source"] == "train" and line["images"] == images]
            self.last = {line["metric"]: records.Record(**line) for line in found if line["value"] is not None}
        if from_first(self.scored_at != images or self.chosen not in self.last):
            self.scored_at, self.last = -1, {}

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        began = time.monotonic()
        self.find_best(Path(trainer.default_root_dir) / FOLDER / BEST)
        self.find_last(Path(trainer.default_root_dir) / records.FILE, pl_module.counters.images)
        self.scorer.to(pl_module.device)
        self.scorer.said = self.give_way
        self._every = pl_module.counters.images // self.settings.every if self.settings.every else 0
        if trainer.is_global_zero:
            try:
                _ = self.scorer.real if self.scorer.names else None
            except Abandoned:
                return
        if not self.settings.every:
            self._next_seconds = from_first(self.scorer.estimate(pl_module))
        self.seconds += time.monotonic() - began

    def on_minibatch_end(self, trainer: Trainer, module: Any) -> None:
        if self.settings.every:
            every = module.counters.images // self.settings.every
            if every > self._every:
                self._every = every
                self.score(trainer, module)
        elif module.log_due:  # often enough, and at the same minibatch on every rank
            allowed = (1 - GLANCE_SHARE) * self.settings.share * module.counters.seconds
            if from_first(self.seconds + 2 * self._next_seconds <= allowed):  # twice: once more at the end
                self.score(trainer, module)
        if module.log_due and self.scorer.glanced and module.counters.images - self._glanced_at >= GLANCE_IMAGES:
            allowed = GLANCE_SHARE * self.settings.share * module.counters.seconds
            if from_first(self.glance_seconds + self._next_glance <= allowed):
                self.glance(trainer, module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.checkpoints.save(trainer, pl_module)  # whatever becomes of the scores
        if self.scored_at != pl_module.counters.images and not self.budget.hurried:
            self.score(trainer, pl_module)

    def give_way(self, images: int) -> None:
        """Raises Abandoned once the run is asked to end: it does not wait for scores."""
        if self.budget.signal is not None and world()[1] == 1:  # several processes score together or not at all
            raise Abandoned

    def score(self, trainer: Trainer, module: Any) -> None:
        """Makes all scores now, on every rank together."""
        began = time.monotonic()
        module.average_buffers()
        check_finite(module, Path(trainer.default_root_dir))  # NaN makes black pixels, which have a score
        try:
            made = self.scorer.score(module, source="train")
        except Abandoned:
            self.say("interrupted: these scores are left out")
            return
        self.scored_at = module.counters.images
        self.last = {record.metric: record for record in made}
        if "diversity" in self.last:  # else the alarms need their glances
            self.looks += 1
            self.seen = {record.metric: record.value for record in made}
            self._glanced_at = module.counters.images
        if trainer.is_global_zero:
            records.append(Path(trainer.default_root_dir) / records.FILE, made)
            for logger in ours(trainer.loggers):
                logger.score({f"scores/{record.metric}": record.value for record in made}, module.counters.images)
            self.say(f"scores at {module.counters.images:,} images: {self.text()}")
        self._next_seconds = from_first(time.monotonic() - began)
        self.seconds += self._next_seconds
        self.keep_best(trainer, module)

    def glance(self, trainer: Trainer, module: Any) -> None:
        """Looks at few samples, for the alarms, on every rank together."""
        began = time.monotonic()
        module.average_buffers()
        try:
            self.seen = self.scorer.glance(module)
        except Abandoned:
            return
        self.looks += 1
        self._glanced_at = module.counters.images
        for logger in ours(trainer.loggers):
            logger.score({f"watch/{name}": value for name, value in self.seen.items()}, module.counters.images)
        self._next_glance = from_first(time.monotonic() - began)
        self.glance_seconds += self._next_glance

    def keep_best(self, trainer: Trainer, module: Any) -> None:
        """Has the next checkpoint be best.ckpt too when the chosen metric is better than ever; ends the run when
        patience is at its end."""
        name = self.chosen
        value = self.last[name].value
        if self.best is None or (value > self.best if name in UP else value < self.best):
            self.best, self.since_best = value, 0
            self.checkpoints.also.append(BEST)
            return
        self.since_best += 1
        if self.settings.patience and self.since_best >= self.settings.patience:
            self.say(f"{name} was no better than {self.best:.4g} in {self.since_best} scores: the run ends")
            trainer.should_stop, self.checkpoints.stopped = True, "scores.patience"

    def text(self) -> str:
        """The newest values in a line: "fid 12.3, kid 0.01 ± 0.002 (digits v1, 1,437 real, 1,437 fake)"."""
        if not self.last:
            return ""
        record = next(iter(self.last.values()))
        values = ", ".join(f"{name} {made.text()}" for name, made in self.last.items())
        if not record.version:  # the rule's own
            return f"{values} ({record.n_real:,} held-out {self.scorer.data.noun})"
        return f"{values} ({self.scorer.extractor.label}; {record.n_real:,} real, {record.n_fake:,} generated)"
