"""Everything that the page and the Markdown say, put together once."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import gan_lightning
from gan_lightning.reporting.curves import curves
from gan_lightning.reporting.files import LeftOut
from gan_lightning.reporting.finding import Found, names_of
from gan_lightning.reporting.importance import Importance, importance_of
from gan_lightning.reporting.pictures import Samples, samples_of
from gan_lightning.reporting.ranking import Ranking, rank
from gan_lightning.reporting.runs import Run, read_run
from gan_lightning.reporting.settings import differing
from gan_lightning.reporting.table import Table, group_table, run_table

MOST_COLUMNS = 40  # settings with a column of their own


@dataclass
class Report:
    """Runs, in the order of their ranks, and what is told of them."""

    ranking: Ranking
    keys: list[str]  # the settings that differ and have a column
    more_keys: list[str]  # those that have none
    runs_table: Table
    groups_table: Table | None
    curves: dict[str, Any]
    samples: Samples
    importance: Importance
    left_out: list[LeftOut]
    said: list[str] = field(default_factory=list)  # what is left out for want of room
    made: datetime = field(default_factory=lambda: datetime.now().astimezone())
    version: str = gan_lightning.__version__

    @property
    def runs(self) -> list[Run]:
        return [row.run for row in self.ranking.rows]


def compare(found: Found, score: str | None, by: Literal["last", "best"]) -> Report:
    """Reads the runs and compares them. Raises UserError for a score that no run has."""
    folders: list[Path] = found.folders
    runs = [read_run(folder, name) for folder, name in zip(folders, names_of(folders), strict=True)]
    keys = differing(runs)
    ranking = rank(runs, keys, score, by)
    ordered = [row.run for row in ranking.rows]
    drawn, without = curves(ordered, ranking.metric)
    samples = samples_of(ordered)
    left_out = [*found.left_out, *(one for run in ordered for one in run.left_out), *samples.left_out]
    said = [*samples.said]
    if without:
        said.append(f"curves of {len(without)} metrics: {', '.join(without[:30])}{' …' if without[30:] else ''}")
    if keys[MOST_COLUMNS:]:
        said.append(f"columns for {len(keys) - MOST_COLUMNS} more settings that differ; their names stand above")
    shown = keys[:MOST_COLUMNS]
    tables = run_table(ranking, shown), group_table(ranking, shown)
    importance = importance_of(ranking, keys)
    return Report(ranking, shown, keys[MOST_COLUMNS:], *tables, drawn, samples, importance, left_out, said)
