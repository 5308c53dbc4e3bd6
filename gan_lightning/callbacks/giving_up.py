"""Ends a run of a sweep that is worse than the others were at the same number of scores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from gan_lightning.budget import Budget
from gan_lightning.callbacks.scores import Scores


@dataclass(frozen=True)
class Place:
    """A run's place in a sweep.

    Args:
        folder: of the sweep.
        trial: its number.
        objective: the metric that is told; None: none, the run is never given up.
        finished, scores: as `prune_trials` and `prune_scores` of `Search`.
    """

    folder: Path
    trial: int
    objective: str | None = None
    finished: int = 5
    scores: int = 0


class GivingUp(Callback):
    """Tells the sweep every score, on the first process, and ends the run when the sweep says so.

    Trials are compared after as many scores: `scores.every` sees to it that these are at as many images.
    """

    def __init__(self, place: Place, scores: Scores, budget: Budget) -> None:
        self.place, self.scores, self.budget = place, scores, budget
        self.told = 0

    def state_dict(self) -> dict[str, Any]:
        return {"told": self.told}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.told = state_dict["told"]

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._scored = self.scores.scored_at

    def on_minibatch_end(self, trainer: Trainer, module: Any) -> None:
        if self.scores.scored_at == self._scored:
            return
        self._scored = self.scores.scored_at
        self.told += 1
        if not trainer.is_global_zero or self.place.objective not in self.scores.last:
            return
        from optuna.pruners import MedianPruner  # here: few runs are part of a search

        from gan_lightning.sweeps import study as studies

        study = studies.load(self.place.folder)
        study.pruner = MedianPruner(self.place.finished, self.place.scores)
        trial = studies.live(study, self.place.trial)
        if self.told not in study.trials[self.place.trial].intermediate_values:  # told before the run was killed
            trial.report(self.scores.last[self.place.objective].value, self.told)
        if not self.budget.used_up_by(module.counters):  # trained to its end, it has a value
            self.budget.given_up = trial.should_prune()
