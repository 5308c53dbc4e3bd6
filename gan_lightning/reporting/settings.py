"""What differs between runs, which of it is a setting of its own, and which runs differ in their seed alone."""

import json
import math
from collections.abc import Sequence
from typing import Any

from gan_lightning.reporting.runs import Run

ABSENT = "—"  # a setting that a run does not have
# What sweeps usually change stands first; what changes nothing about the result last.
FIRST = ("lr", "betas", "batch_size", "loss", "penalty", "critic_steps", "ema", "augment", "latent_size")
LATE = ("budget.", "trainer.", "scores.", "samples.", "checkpoints.", "logger.")
NO_SETTINGS = ("checkpoint", "trainer.enable_progress_bar", "trainer.profiler", "scores.cache", "data.cache")


def differing(runs: Sequence[Run]) -> list[str]:
    """The keys whose values are not the same in all runs with settings, what is usually swept first; without seeds.

    A key that only repeats another one (model.step.critic_steps: step.critic_steps) is left out.
    """
    known = [run for run in runs if run.settings]
    keys = dict.fromkeys(key for run in known for key in run.settings)
    columns = {key: tuple(text(run.settings.get(key, ABSENT)) for run in known) for key in keys}
    columns = {key: values for key, values in columns.items() if len(set(values)) > 1}
    seeds = {tuple(text(run.settings.get("seed", ABSENT)) for run in known)}
    found = [
        key
        for key, values in columns.items()
        if key not in (*NO_SETTINGS, "seed")
        and not (key.endswith(".seed") and values in seeds)
        and not any(follows(key, other) and columns[other] == values for other in columns)
    ]
    return sorted(found, key=lambda key: (place(key), columns[key].count(ABSENT), key))


def follows(key: str, other: str) -> bool:
    """Whether a key is one that configurations fill from another: model.step.… from step.…, sizes from data."""
    if key == other:
        return False
    same_name = key.rpartition(".")[2] == other.rpartition(".")[2]
    return key.endswith(f".{other}") or (key.startswith("model.") and other.startswith("data.") and same_name)


def place(key: str) -> int:
    """Where a column stands: what sweeps usually change is small."""
    if key.startswith(LATE):
        return 3
    if key in ("model._target_", "data._target_") or set(FIRST) & set(key.split(".")):
        return 0
    return 1 if key.startswith(("model.", "step.")) else 2


def text(value: Any) -> str:
    """A value as it is typed: 0.0002, true, null."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.6g}" if math.isclose(value, float(f"{value:.6g}"), rel_tol=1e-12) else repr(value)
    return str(value)


def short(value: Any, key: str = "", longest: int = 28) -> str:
    """For a narrow column: four digits, the name alone of a class (a `_target_`), of long texts the beginning."""
    some = f"{value:.4g}" if isinstance(value, float) else text(value)
    some = some.rpartition(".")[2] if key.endswith("_target_") else some
    return some if len(some) <= longest else some[: longest - 1] + "…"


def groups(runs: Sequence[Run], keys: Sequence[str]) -> list[list[Run]]:
    """Runs that are equal in all but the seed, in the order of their first; runs without settings stand alone."""
    found: dict[Any, list[Run]] = {}
    for run in runs:
        same = tuple(text(run.settings.get(key, ABSENT)) for key in keys)
        found.setdefault(same if run.settings else id(run), []).append(run)
    return list(found.values())
