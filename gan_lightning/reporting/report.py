"""Everything that the page and the Markdown say, put together once."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import gan_lightning
from gan_lightning.errors import UserError
from gan_lightning.reporting.curves import curves
from gan_lightning.reporting.files import MISSING, LeftOut
from gan_lightning.reporting.finding import Found, names_of
from gan_lightning.reporting.importance import Importance, importance_of
from gan_lightning.reporting.pictures import Samples, samples_of
from gan_lightning.reporting.ranking import Ranking, differences, how_made, lead, not_averaged, plural, rank
from gan_lightning.reporting.runs import Run, read_run
from gan_lightning.reporting.settings import differing
from gan_lightning.reporting.table import Table, group_table, run_table

MOST_COLUMNS = 40  # settings with a column of their own


@dataclass
class Report:
    """Runs, in the order of their ranks, and what is told of them; its texts are plain, and escaped where they go."""

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

    @property
    def headline(self) -> list[str]:
        """What ranks and how it was made, and who is first."""
        ranking = self.ranking
        if ranking.metric is None:
            return ["No run has a score, so there are no ranks."]
        direction = "higher" if ranking.up else "lower"
        made = how_made(next(iter(ranking.protocols.values()), {}))
        ranked = f"Ranked by the {ranking.by} {ranking.metric} of training; {direction} is better ({made})."
        return [ranked, f"Best: {lead(ranking)}."]

    @property
    def ways(self) -> list[str]:
        """Where the scores were made in several ways, how many runs have each and what differs."""
        protocols, rows = self.ranking.protocols, self.ranking.rows
        return [
            f"{name} ({plural(sum(row.protocol == name for row in rows), 'run')}): "
            + ", ".join(f"{key} {value[:120]}" for key, value in keys.items())
            for name, keys in (differences(protocols) if len(protocols) > 1 else {}).items()
        ]

    @property
    def averaged(self) -> str:
        """Which runs the means over seeds are of."""
        left = not_averaged(self.ranking)
        return "of runs that ended by themselves" + (f"; left out: {left}" if left else "")

    @property
    def states(self) -> list[str]:
        """Why runs ended, where there is more to say than a word; those that ended alike in one line."""
        names: dict[tuple[str, str], list[str]] = {}
        for run in self.runs:
            if run.state.reason:
                names.setdefault((run.state.said, run.state.reason), []).append(run.name)
        return [f"{several(some, 'runs')}: {word}: {reason}" for (word, reason), some in names.items()]

    @property
    def files(self) -> list[str]:
        """What is left out of files, with the reason; what several runs lack in one line."""
        missing: dict[str, list[str]] = {}
        lines = []
        for one in self.left_out:
            if one.reason == MISSING:
                missing.setdefault(os.path.basename(one.file), []).append(one.file)
            else:
                lines.append(f"{one.file}: {one.reason}")
        return [*lines, *(f"{several(some, name)}: {MISSING}" for name, some in missing.items())]

    @property
    def shares(self) -> list[str]:
        """The importance of each setting, as text."""
        made = self.importance
        return [f"{name}: {share:.0%} ± {made.spreads[name]:.0%}" for name, share in made.shares.items()]


def several(names: Sequence[str], noun: str) -> str:
    """ "a", or "3 runs (a, b, c)"."""
    return (
        names[0] if len(names) == 1 else f"{len(names):,} {noun} ({', '.join(names[:3])}{', …' if names[3:] else ''})"
    )


def read(found: Found) -> list[Run]:
    """The runs of all folders that can be read. Raises UserError where there is none."""
    runs = []
    for folder, name in zip(found.folders, names_of(found.folders), strict=True):
        try:
            runs.append(read_run(folder, name))
        except Exception as error:  # what nobody thought of in one folder is no reason to have no page of the others
            found.left_out.append(LeftOut(str(folder), f"cannot be read: {type(error).__name__}: {error}"))
    if not runs:
        raise UserError(f"runs: {found.left_out[-1].file}: {found.left_out[-1].reason}")
    return runs


def limit(lines: list[str], most: int) -> list[str]:
    """At most so many lines, and how many more there are."""
    return [*lines[:most], *([f"and {len(lines) - most:,} more"] if len(lines) > most else [])]


def compare(found: Found, score: str | None, by: Literal["last", "best"]) -> Report:
    """Reads the runs and compares them. Raises UserError for a score that no run has."""
    runs = read(found)
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
