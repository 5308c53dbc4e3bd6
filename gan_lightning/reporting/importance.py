"""How much each setting that differed mattered: Optuna's fANOVA over the runs, seeds averaged first."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gan_lightning.reporting.files import clean
from gan_lightning.reporting.ranking import Ranking, plural
from gan_lightning.reporting.settings import ABSENT, text

FEWEST = 8  # runs, seeds averaged
MOST_SHOWN = 6  # small plots
FORESTS = 8  # of other seeds, whose shares are averaged; fewer of more than 50 points, where one takes seconds


@dataclass
class Importance:
    """Shares by setting, the largest first, or why there are none; settings that always moved together are one."""

    why_not: str = ""
    shares: dict[str, float] = field(default_factory=dict)
    spreads: dict[str, float] = field(default_factory=dict)  # standard deviations over the forests
    values: dict[str, list[Any]] = field(default_factory=dict)  # of each setting, one a point
    scores: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of the points
    places: list[int] = field(default_factory=list)  # of their best runs in the ranking
    logarithmic: set[str] = field(default_factory=set)
    said: str = ""  # what it was made of
    forests: int = 0


def importance_of(ranking: Ranking, keys: Sequence[str]) -> Importance:
    """The importance of `keys` for the score that ranks; of the runs that were scored in the way that most were."""
    groups = [group for group in ranking.groups if group.rows and group.rows[0].main and group.rows[0].run.settings]
    teams, made = [group.rows for group in groups], Importance(scores=[group.mean or 0.0 for group in groups])
    whole = [row for team in teams for row in team]
    others = Counter(row.run.state.word for row in ranking.rows if row.main and row not in whole)
    made.names = [f"{team[0].run.name}{f' and {len(team) - 1} more' if team[1:] else ''}" for team in teams]
    made.places = [ranking.rows.index(team[0]) for team in teams]
    columns = {key: [team[0].run.settings.get(key, ABSENT) for team in teams] for key in sorted(keys)}
    made.values = together({key: some for key, some in columns.items() if len(set(map(text, some))) > 1})
    left = ", ".join(f"{count} {word}" for word, count in others.items())
    made.said = f"{plural(len(teams), 'setting')} of {plural(len(whole), 'run')}, seeds averaged"
    made.said += f"; left out: {left}" if left else ""
    if len(teams) < FEWEST:
        made.why_not = f"it takes {FEWEST} different settings with a score"
    elif not made.values:
        made.why_not = "the runs with a score differ in no setting"
    elif len(made.values) >= len(teams):
        made.why_not = f"{len(made.values)} settings differ between {len(teams)}: too many to tell them apart"
    elif len(set(made.scores)) == 1:
        made.why_not = "all scores are equal"
    else:
        try:
            fanova(made, "maximize" if ranking.up else "minimize")
        except Exception as error:  # of settings and scores that its forests cannot bear
            made.why_not = f"Optuna could not: {clean(error) or type(error).__name__}"
    if made.why_not:
        made.why_not += f" ({made.said})"
    return made


def together(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The columns by name; those with the same values everywhere under one: what each brings cannot be told."""
    same: dict[tuple[str, ...], list[str]] = {}
    for key, values in columns.items():
        same.setdefault(tuple(map(text, values)), []).append(key)
    return {" = ".join(keys): columns[keys[0]] for keys in same.values()}


def fanova(made: Importance, direction: Literal["maximize", "minimize"]) -> None:
    """Hutter et al. 2014, as Optuna has it: shares of the variance, which add up to 1, the mean over some seeds."""
    import optuna

    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        ranges = {key: distribution(values) for key, values in made.values.items()}
        made.logarithmic = {key for key, some in ranges.items() if getattr(some, "log", False)}
        study = optuna.create_study(direction=direction)
        for number, score in enumerate(made.scores):
            point = {key: as_value(values[number], ranges[key]) for key, values in made.values.items()}
            study.add_trial(optuna.trial.create_trial(params=point, distributions=ranges, value=score))
        made.forests = max(2, min(FORESTS, 50 * FORESTS // len(made.scores)))
        evaluators = [optuna.importance.FanovaImportanceEvaluator(seed=seed) for seed in range(made.forests)]
        found = [optuna.importance.get_param_importances(study, evaluator=evaluator) for evaluator in evaluators]
    finally:
        optuna.logging.set_verbosity(said)
    shares = {key: statistics.fmean(one[key] for one in found) for key in made.values}
    if not all(map(math.isfinite, shares.values())):
        raise ValueError("its shares are no numbers")
    made.shares = dict(sorted(shares.items(), key=lambda item: -item[1]))
    made.spreads = {key: statistics.stdev(one[key] for one in found) for key in made.shares}


def numeric(values: Sequence[Any]) -> bool:
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )


def distribution(values: Sequence[Any]) -> Any:
    """The range of the values seen: of positive numbers over more than a decade on a logarithmic scale."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if not numeric(values):
        return CategoricalDistribution(sorted({text(value) for value in values}))
    low, high = float(min(values)), float(max(values))
    return FloatDistribution(low, high, log=low > 0 and high > 10 * low)


def as_value(value: Any, place: Any) -> Any:
    return text(value) if hasattr(place, "choices") else float(value)
