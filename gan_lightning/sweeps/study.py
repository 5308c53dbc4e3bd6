"""A sweep's memory: an Optuna study in a SQLite file, and what its runs left in their folders."""

import csv
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from gan_lightning import status
from gan_lightning.errors import UserError
from gan_lightning.metrics.records import FILE as SCORES
from gan_lightning.metrics.records import lines
from gan_lightning.metrics.scores import UP

Take = Literal["last", "best"]  # of a run's scores
FILE, TABLE, NAME = "study.db", "trials.csv", "sweep"
WAITS = 60  # seconds that a process waits for another one's write

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Outcome:
    """What a run, or a trial of several runs, came to.

    Args:
        state: as in `status.json`; None: no run was begun there.
        value: of the objective; None where it has none.
        std: over seeds, where there are several.
        reason: of what has no value.
    """

    state: status.State | None
    value: float | None = None
    std: float | None = None
    reason: str | None = None


def storage(folder: Path) -> RDBStorage:
    """The file of a sweep's folder. Raises UserError where it cannot be used."""
    url = URL.create("sqlite", database=str(folder / FILE)).render_as_string()
    try:
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": WAITS}})
    except (SQLAlchemyError, RuntimeError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise UserError(f"{folder / FILE}: cannot be used: {reason}") from None


def load(folder: Path) -> optuna.Study:
    """The study of a sweep that was begun."""
    return optuna.load_study(study_name=NAME, storage=storage(folder))


def begin(folder: Path, facts: Mapping[str, Any], first: Sequence[Mapping[str, Any]]) -> optuna.Study:
    """A new study, or the one that was begun with the same facts. Raises UserError where they are others.

    facts: what a sweep keeps over its interruptions, "objective" among them. first: values that are tried first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = storage(folder)
    before = begun(folder, place)
    if before is not None and "facts" not in before:  # killed while it was made
        optuna.delete_study(study_name=NAME, storage=place)
    elif before is not None:
        study = optuna.load_study(study_name=NAME, storage=place)
        before = before["facts"] if isinstance(before["facts"], dict) else {}
        for key, value in facts.items():
            if before.get(key) != value:
                raise UserError(
                    f"hydra.sweep.dir={folder}: a sweep with other settings was begun there "
                    f"({key}: {before.get(key)}, now {value}); choose another folder"
                )
        return study
    direction = "maximize" if facts["objective"] in UP else "minimize"
    study = optuna.create_study(study_name=NAME, storage=place, direction=direction)
    for values in first:
        study.enqueue_trial(dict(values))
    study.set_user_attr("facts", dict(facts))  # last: a study without them is made again
    return study


def begun(folder: Path, place: RDBStorage) -> dict[str, Any] | None:
    """What a sweep's file keeps of the study in it; None: there is none. Raises UserError for a file that cannot be
    read; it may come from elsewhere."""
    try:
        for one in optuna.get_all_study_summaries(place):
            if one.study_name == NAME:
                list(optuna.load_study(study_name=NAME, storage=place).trials)
                return one.user_attrs
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{folder / FILE}: cannot be used: {reason[:150]}") from None
    return None


def live(study: optuna.Study, number: int) -> Trial:
    """A trial that has not ended."""
    return Trial(study, study.trials[number]._trial_id)


def complete(study: optuna.Study, number: int, searched: Mapping[str, BaseDistribution]) -> None:
    """Draws what a trial has no value of yet."""
    missing = [key for key in searched if key not in study.trials[number].params]
    for key in missing:
        trial, kind = live(study, number), searched[key]
        if isinstance(kind, CategoricalDistribution):
            trial.suggest_categorical(key, kind.choices)
        elif isinstance(kind, IntDistribution):
            trial.suggest_int(key, kind.low, kind.high, step=kind.step, log=kind.log)
        elif isinstance(kind, FloatDistribution):
            trial.suggest_float(key, kind.low, kind.high, step=kind.step, log=kind.log)


def outcome(run: Path, objective: str, take: Take) -> Outcome:
    """Of a run's folder."""
    found = status.read(run)
    if found is None:
        return Outcome(None, reason="its run has left no word")
    if found.state not in ("finished", "stopped"):
        return Outcome(found.state, reason=found.reason)
    scores = [line for line in lines(run / SCORES) if line["metric"] == objective and line["source"] == "train"]
    values = [line["value"] for line in scores if line["value"] is not None]
    if not values or (take == "last" and scores[-1]["value"] is None):
        return Outcome("failed", reason=f"no score {objective}, or none that is finite")
    if take == "last":
        return Outcome(found.state, values[-1])
    return Outcome(found.state, max(values) if objective in UP else min(values))


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """One trial's of those of its seeds: their mean, or what kept one of them from having a value."""
    worst = next((made for made in outcomes if made.value is None), None)
    if worst:
        return worst
    values = [made.value for made in outcomes if made.value is not None]
    return Outcome("finished", statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def tell(study: optuna.Study, number: int, made: Outcome) -> None:
    """Notes how a trial ended."""
    trial = live(study, number)
    for key, value in (("std", made.std), ("reason", made.reason), ("state", made.state)):
        if value is not None:
            trial.set_user_attr(key, value)
    if made.value is not None:
        study.tell(number, made.value)
    else:
        study.tell(number, state=TrialState.PRUNED if made.state == "pruned" else TrialState.FAIL)


def best(study: optuna.Study) -> FrozenTrial | None:
    """The best finished trial."""
    done = study.get_trials(states=[TrialState.COMPLETE])
    return study.best_trial if done else None


def settings(trial: FrozenTrial) -> str:
    """What a trial tries, as people read it."""
    named = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in trial.params.items()}
    return " ".join(f"{key.lstrip('+')}={value}" for key, value in named.items())


def write_table(study: optuna.Study, folder: Path) -> None:
    """`trials.csv`: a line a trial, for spreadsheets."""
    keys = sorted({key for trial in study.trials for key in trial.params})
    objective = study.user_attrs["facts"]["objective"]
    part = folder / f".{TABLE}.part"
    part.unlink(missing_ok=True)  # of a killed process, or a link
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", objective, "std", *(key.lstrip("+") for key in keys), "reason"])
        for trial in study.trials:
            facts = trial.user_attrs
            state = facts.get("state", trial.state.name.lower())
            params = [trial.params.get(key, "") for key in keys]
            value = "" if trial.state != TrialState.COMPLETE else trial.value
            writer.writerow([trial.number, state, value, facts.get("std", ""), *params, facts.get("reason", "")])
    os.replace(part, folder / TABLE)
