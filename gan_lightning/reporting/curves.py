"""Losses and scores over training, as few numbers as a screen can show."""

import base64
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gan_lightning.reporting.files import Numbers
from gan_lightning.reporting.runs import Run

BUDGET = 900_000  # bytes on the page
MOST, FEWEST = 200, 40  # points of a curve
MOST_METRICS = 40
POSITION = ("images", "epoch", "minibatches", "generator_steps", "seconds")
SCORES = "scores/"  # what TensorBoard calls them, too


def tables_of(run: Run) -> list[tuple[list[str], Numbers]]:
    """Names and numbers (2 + names, rows) of metrics.csv and of the scores; the first two rows: images and seconds."""
    tables = []
    if len(images := run.metrics.get("images", np.empty(0))):
        names = [name for name in run.metrics if name not in POSITION and name]
        seconds = run.metrics.get("seconds", np.full(len(images), np.nan))
        tables.append((names, np.stack([images, seconds, *(run.metrics[name] for name in names)])))
    if run.scores:
        names = list(run.scores)
        every = sorted({score.images for scores in run.scores.values() for score in scores})
        places = {images: index for index, images in enumerate(every)}
        table = np.full((2 + len(names), len(every)), np.nan)
        table[0] = every
        for row, name in enumerate(names, 2):
            for score in run.scores[name]:
                table[row, places[score.images]] = score.value
                table[1, places[score.images]] = np.nan if score.seconds is None else score.seconds
        tables.append(([SCORES + name for name in names], table))
    return tables


def curves(runs: Sequence[Run], metric: str | None) -> tuple[dict[str, Any], list[str]]:
    """What the page draws from, and the names of the metrics that are left out for want of room.

    {"metrics": names, "runs": [[[names' numbers, points, base64 of float32 (2 + names, points)], …], …]}
    """
    tables = [tables_of(run) for run in runs]
    there = Counter(name for some in tables for names, _ in some for name in names)
    first = [f"{SCORES}{metric}", *(name for name in there if name.startswith(SCORES)), "D/loss", "G/loss"]
    ordered = [*dict.fromkeys(name for name in first if name in there)]
    ordered += [name for name, _ in there.most_common() if name not in ordered]
    chosen = {name: index for index, name in enumerate(ordered[:MOST_METRICS])}
    rows = sum(2 + len(chosen.keys() & set(names)) for some in tables for names, _ in some)
    points = int(np.clip(BUDGET * 3 // 4 // (4 * max(rows, 1)), FEWEST, MOST))
    packed = [[pack(names, table, chosen, points) for names, table in some] for some in tables]
    return {"metrics": list(chosen), "runs": packed}, ordered[MOST_METRICS:]


def pack(names: Sequence[str], table: Numbers, chosen: dict[str, int], points: int) -> list[Any]:
    """One table for the page: numbers of its metrics, points, and base64 of float32 (2 + metrics, points)."""
    kept = [row for row, name in enumerate(names, 2) if name in chosen]
    small = decimated(table[[0, 1, *kept]], points)
    with np.errstate(over="ignore"):  # the page leaves out what is infinite
        data = np.ascontiguousarray(small, dtype="<f4").tobytes()
    return [[chosen[names[row - 2]] for row in kept], small.shape[1], base64.b64encode(data).decode()]


def decimated(table: Numbers, points: int) -> Numbers:
    """(rows, columns) -> (rows, at most `points`), the first two rows being positions.

    Of a stretch of columns the smallest and the largest value of each row are kept, in the order in which they came,
    at the stretch's two ends; the first and the last column are kept as they are.
    """
    count = table.shape[1]
    if count <= points:
        return table
    edges = np.linspace(1, count - 1, (points - 2) // 2 + 1).astype(int)
    parts = [table[:, :1]]
    for begin, end in pairwise(edges.tolist()):
        stretch = table[:, begin:end]
        low, high = np.where(np.isnan(stretch), np.inf, stretch), np.where(np.isnan(stretch), -np.inf, stretch)
        pair = np.stack([low.min(1), high.max(1)], 1)
        turned = high.argmax(1) < low.argmin(1)
        pair[turned] = pair[turned, ::-1]
        pair[:2] = stretch[:2, [0, -1]]
        parts.append(np.where(np.isinf(pair), np.nan, pair))
    return np.concatenate([*parts, table[:, -1:]], 1)
