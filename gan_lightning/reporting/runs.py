"""A run as the page needs it: its settings, curves, scores and samples, whatever of them is there."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gan_lightning.metrics.records import FILE as SCORES
from gan_lightning.reporting.files import MISSING, LeftOut, Numbers, Reader, clean, number
from gan_lightning.reporting.finding import CONFIG, METRICS, STATUS
from gan_lightning.reporting.state import State, read_state

MOST_SETTINGS = 2000
SAMPLES = "samples"
NOT_MADE_OF = ("metric", "value", "std", "source", "step", "epoch", "images", "seconds")  # all else is how it was made
# Of `data`: what the real samples are, where a record has no fingerprint of them (held-out pairs, texts).
DATA = (
    *("_target_", "root", "root_a", "root_b", "test", "source", "target", "names", "direction", "scale", "image_size"),
    *("channels", "domains", "turned", "masks", "mask_root", "mask_seed", "share", "fit", "resample", "held_out"),
    *("tokens", "lower", "min_count", "vocabulary", "length", "too_long", "oracle_seed", "parameters", "rate"),
)


@dataclass(frozen=True)
class Score:
    """A record of scores.jsonl: `made` is how, as JSON; `settings` the same as a mapping."""

    metric: str
    value: float
    std: float | None
    images: float
    seconds: float | None
    step: float | None
    made: str
    settings: dict[str, Any]


@dataclass(eq=False)
class Run:
    """A run's folder, read."""

    folder: Path
    name: str
    state: State = field(default_factory=State)
    settings: dict[str, Any] = field(default_factory=dict)  # of config.yaml, by dotted key
    metrics: dict[str, Numbers] = field(default_factory=dict)  # columns of metrics.csv, (rows,)
    scores: dict[str, list[Score]] = field(default_factory=dict)  # of training, by metric, by images; all made alike
    evaluations: dict[str, list[Score]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def seed(self) -> Any:
        return self.settings.get("seed")

    def last_of(self, column: str) -> float | None:
        """The largest number of a column that only grows: images, seconds."""
        values = self.metrics.get(column, np.empty(0))
        values = values[np.isfinite(values)]
        others = [getattr(score, column) for scores in self.scores.values() for score in scores]
        found = [*([float(values.max())] if len(values) else []), *(some for some in others if some is not None)]
        return max(found, default=None)

    @property
    def images(self) -> float | None:
        return self.last_of("images")

    @property
    def seconds(self) -> float | None:
        return self.last_of("seconds")

    def images_at_steps(self, steps: list[float]) -> list[float | None]:
        """Training images seen when the generator had moved so often: between the lines of metrics.csv and the scores.

        None where neither says it: of an older run, or one that has only begun.
        """
        x, y = self.metrics.get("generator_steps", np.empty(0)), self.metrics.get("images", np.empty(0))
        there = np.isfinite(x) & np.isfinite(y) if len(x) == len(y) else np.zeros(0, bool)
        known = {} if not there.any() else dict(zip(x[there].tolist(), y[there].tolist(), strict=True))
        records = [score for scores in self.scores.values() for score in scores]
        known |= {score.step: score.images for score in records if score.step is not None}
        known = {0.0: 0.0} | dict(sorted(known.items()))  # of equal steps, the last line
        x, y = np.array(list(known)), np.array(list(known.values()))
        found: list[float | None] = []
        for step in steps:
            if step <= x[-1]:
                found.append(float(np.interp(step, x, y)))
            elif len(x) > 1:  # made after the last line: on as before
                found.append(number(float(y[-1] + (step - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2]))))
            else:
                found.append(None)
        return found


def read_run(folder: Path, name: str) -> Run:
    """A run; nothing in it is executed, unpickled or trusted to be right."""
    reader = Reader(folder)
    present = [file for file in (CONFIG, METRICS, SCORES, STATUS) if os.path.exists(folder / file)]
    run = Run(
        folder,
        name,
        read_state(reader.mapping(STATUS), folder),
        dict(sorted(flattened(reader.mapping(CONFIG)).items())),
        reader.table(METRICS),
    )
    for line in reader.records(SCORES):
        keep(run, line)
    for metric, scores in run.scores.items():
        scores.sort(key=lambda score: score.images)  # stable: of equal ones the newest is the last
        run.scores[metric] = [score for score in scores if score.made == scores[-1].made]
        if others := len(scores) - len(run.scores[metric]):
            reader.leave(SCORES, f"{others:,} of {metric}, made in other ways than the newest")
    if "images" not in run.metrics and run.metrics:
        reader.leave(METRICS, "has no column images: of another version")
    for file in (CONFIG, METRICS, SCORES):
        if file not in present:
            reader.leave(file, MISSING)
    run.left_out = reader.left_out
    return run


def keep(run: Run, line: dict[str, Any]) -> None:
    """Adds a record to a run's scores, or to its evaluations; those without a number are passed over."""
    value, metric = number(line.get("value")), line.get("metric")
    if value is None or not isinstance(metric, str):
        return
    how = {clean(key, 80): some for key, some in line.items() if key not in NOT_MADE_OF}
    if not how.get("real"):
        how |= data_of(run.settings)
    score = Score(
        clean(metric, 80),
        value,
        number(line.get("std")),
        number(line.get("images")) or 0.0,
        number(line.get("seconds")),
        number(line.get("step")),
        json.dumps(how, sort_keys=True),
        how,
    )
    where = run.evaluations if line.get("source") == "evaluate" else run.scores
    where.setdefault(score.metric, []).append(score)


def data_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that say what the data are."""
    keys = [f"data.{key}" for key in DATA]
    return {key: settings[key] for key in keys if settings.get(key) is not None}


def flattened(node: dict[Any, Any], prefix: str = "", room: int = MOST_SETTINGS) -> dict[str, Any]:
    """{"data": {"seed": 0}} -> {"data.seed": 0}; lists are values. At most `room` of them."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        if len(found) >= room:
            break
        name = f"{prefix}{clean(key, 120)}"
        if isinstance(value, dict) and value:
            found |= flattened(value, f"{name}.", room - len(found))
        elif key != "_partial_":
            value = plain(value)
            found[name] = value if value is None or isinstance(value, bool | int | float) else said(value)
    return found


def said(value: Any) -> str:
    """Text as it is, other things as JSON, in one line."""
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 2000)


def plain(value: Any) -> Any:
    """What YAML can hold and JSON cannot as text: dates, sets, keys that are no text, integers beyond 64 bits."""
    if isinstance(value, dict):
        return {clean(key, 120): plain(some) for key, some in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(some) for some in (sorted(value, key=str) if isinstance(value, set) else value)]
    if isinstance(value, int) and abs(value) >= 2**63:
        return clean(hex(value), 40)  # Python writes no decimals of more than 4,300 digits
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def grids(run: Run) -> dict[float, Path]:
    """The sample files by generator step: of the moving average where there are any, else of the last weights."""
    found: dict[str, dict[float, Path]] = {"ema": {}, "raw": {}}
    try:
        files = sorted((run.folder / SAMPLES).iterdir()) if os.path.isdir(run.folder / SAMPLES) else []
    except OSError as error:
        run.left_out.append(LeftOut(str(run.folder / SAMPLES), error.strerror or str(error)))
        return {}
    for file in files:
        if match := re.fullmatch(r"e\d{1,9}-s(\d{1,15})_(ema|raw)\.(png|txt)", file.name):
            found[match[2]][float(match[1])] = file
    return dict(sorted((found["ema"] or found["raw"]).items()))
