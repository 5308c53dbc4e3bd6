"""How much each setting that differed mattered: Optuna's fANOVA over the runs, seeds averaged first."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gan_lightning.reporting.ranking import Ranking, plural
from gan_lightning.reporting.settings import ABSENT, groups, text

FEWEST = 8  # runs, seeds averaged
MOST_SHOWN = 6  # small plots


@dataclass
class Importance:
    """Shares by setting, the largest first, or why there are none; settings that always moved together are one."""

    why_not: str = ""
    shares: dict[str, float] = field(default_factory=dict)
    values: dict[str, list[Any]] = field(default_factory=dict)  # of each setting, one a point
    scores: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of the points
    logarithmic: set[str] = field(default_factory=set)
    said: str = ""  # what it was made of


def importance_of(ranking: Ranking, keys: Sequence[str]) -> Importance:
    """The importance of `keys` for the score that ranks; of the runs that were scored in the way that most were."""
    rows = [row for row in ranking.rows if row.rank is not None and row.protocol in ("", "A")]
    whole = [row for row in rows if row.run.state.comparable and row.run.settings]
    others = Counter(row.run.state.word for row in rows if row not in whole)
    values = {id(row.run): ranking.value(row) or 0.0 for row in whole}
    teams = groups([row.run for row in whole], keys)
    made = Importance(scores=[sum(values[id(run)] for run in team) / len(team) for team in teams])
    made.names = [f"{team[0].name}{f' and {len(team) - 1} more' if team[1:] else ''}" for team in teams]
    columns = {key: [team[0].settings.get(key, ABSENT) for team in teams] for key in keys}
    made.values = together({key: some for key, some in columns.items() if len(set(map(text, some))) > 1})
    left = ", ".join(f"{count} {word}" for word, count in others.items())
    made.said = (
        f"{len(teams)} settings of {plural(len(whole), 'run')}, seeds averaged{f'; left out: {left}' if left else ''}"
    )
    if len(teams) < FEWEST:
        made.why_not = f"it takes {FEWEST} different settings with a score"
    elif not made.values:
        made.why_not = "the runs with a score differ in no setting"
    elif len(made.values) >= len(teams):
        made.why_not = f"{len(made.values)} settings differ between {len(teams)}: too many to tell them apart"
    elif len(set(made.scores)) == 1:
        made.why_not = "all scores are equal"
    else:
        made.shares = fanova(made, "maximize" if ranking.up else "minimize")
    if made.why_not:
        made.why_not += f" ({made.said})"
    return made


def together(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The columns by name; those with the same values everywhere under one: what each brings cannot be told."""
    same: dict[tuple[str, ...], list[str]] = {}
    for key, values in columns.items():
        same.setdefault(tuple(map(text, values)), []).append(key)
    return {" = ".join(keys): columns[keys[0]] for keys in same.values()}


def fanova(made: Importance, direction: Literal["maximize", "minimize"]) -> dict[str, float]:
    """Hutter et al. 2014, as Optuna has it, with a fixed seed: shares of the variance, which add up to 1."""
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
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(said)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


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
