"""The ranking as columns and cells, for the page and for Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from gan_lightning.reporting.ranking import Group, Ranking, Row
from gan_lightning.reporting.runs import Run
from gan_lightning.reporting.settings import ABSENT, short, text


@dataclass(frozen=True)
class Cell:
    """What is shown, what it is sorted by (None: last), what is said on hovering, and its colour: of MARKS."""

    text: str
    value: float | str | None = None
    title: str = ""
    mark: str = ""


NOTHING = Cell("")


@dataclass(frozen=True)
class Table:
    """A heading and rows of as many cells."""

    heading: list[Cell]
    rows: list[list[Cell]]


def run_table(ranking: Ranking, keys: Sequence[str]) -> Table:
    """A row for every run, in the order of the ranks."""
    several = len(ranking.protocols) > 1
    metric = ranking.metric or "score"
    arrow = "higher is better" if ranking.up else "lower is better"
    heading = [Cell("rank"), Cell("run"), Cell("state")]
    if ranking.metric:
        heading += [Cell(f"{metric} last", title=f"the newest of training; {arrow}")]
        heading += [Cell(f"{metric} best", title=f"the best of training; {arrow}")]
    heading += [Cell("made", title="how the score was made")] if several else []
    heading += [Cell("images", title="training images seen"), Cell("time", title="of training"), Cell("images/s")]
    seeds = {text(row.run.seed) for row in ranking.rows if row.run.settings}
    heading += [Cell("seed")] if len(seeds) > 1 else []
    heading += [Cell(key) for key in keys]
    rows = []
    for place, row in enumerate(ranking.rows):
        state = row.run.state
        cells = [Cell(row.label, float(place) if row.rank else None), Cell(row.run.name, row.run.name)]
        cells += [Cell(state.said, state.said, state.reason, "collapsed" if state.alarms else state.word)]
        cells += score_cells(row) if ranking.metric else []
        cells += [Cell(row.protocol, row.protocol or None)] if several else []
        cells += effort(row.run)
        cells += [setting(row.run, "seed")] if len(seeds) > 1 else []
        rows.append([*cells, *(setting(row.run, key) for key in keys)])
    return Table(heading, rows)


def score_cells(row: Row) -> list[Cell]:
    """The last and the best score."""
    cells = []
    for score in (row.last, row.best):
        if score is None:
            cells.append(NOTHING)
            continue
        at = f"{score.value!r} at {score.images:,.0f} images"
        spread = f" ± {score.std:.2g} over its subsets" if score.std is not None else ""
        cells.append(Cell(f"{score.value:.4g}", score.value, at + spread))
    return cells


def effort(run: Run) -> list[Cell]:
    """Images, time and speed."""
    images, seconds = run.images, run.seconds
    speed = images / seconds if images and seconds else None
    return [
        NOTHING if images is None else Cell(f"{images:,.0f}", images),
        NOTHING if seconds is None else Cell(clock(seconds), seconds, f"{seconds:,.1f} s"),
        NOTHING if speed is None else Cell(f"{speed:,.0f}", speed),
    ]


def setting(run: Run, key: str) -> Cell:
    """A setting of a run; nothing where it has none."""
    if key not in run.settings:
        return Cell(ABSENT if run.settings else "", None, "this run has no such setting" if run.settings else "")
    value = run.settings[key]
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    shown, whole = short(value, key), text(value)
    return Cell(shown, float(value) if numeric else whole, whole if whole != shown else "")


def group_table(ranking: Ranking, keys: Sequence[str]) -> Table | None:
    """A row for every set of runs that differ in their seed alone; None where no two of one set can be averaged."""
    if not any(len(group.rows) > 1 for group in ranking.groups):
        return None
    several = len(ranking.protocols) > 1
    heading = [
        Cell("rank"),
        Cell("runs"),
        Cell("averaged", title="those that ended by themselves"),
        Cell(f"{ranking.metric} mean"),
    ]
    heading += [Cell("± std", title="over the runs, of a sample"), *([Cell("made")] if several else [])]
    heading += [Cell(key) for key in keys]
    rows, places = [], dict[str, int]()
    for place, group in enumerate(ranking.groups):
        first = group.members[0]
        places[first.protocol] = places.get(first.protocol, 0) + 1
        label = Cell(f"{first.way}{places[first.protocol]}", float(place)) if group.rows else NOTHING
        rows.append([label, *group_cells(group), *([Cell(first.protocol, first.protocol)] if several else [])])
        rows[-1] += [setting(first.run, key) for key in keys]
    return Table(heading, rows)


def group_cells(group: Group) -> list[Cell]:
    """Names, how many of them were averaged, mean and deviation."""
    names = [row.run.name for row in group.members]
    shown = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    seeds = [text(row.run.seed) for row in group.rows]
    count, states = len(group.rows), dict.fromkeys(row.run.state.said for row in group.members)
    averaged = f"{count} of {len(names)}" if group.others else str(count)
    return [
        Cell(shown, shown, ", ".join(names)),
        Cell(averaged, float(count), f"{', '.join(states)}; seeds averaged: {', '.join(seeds) or 'none'}"),
        NOTHING if group.mean is None else Cell(f"{group.mean:.4g}", group.mean),
        NOTHING if group.std is None else Cell(f"{group.std:.2g}", group.std),
    ]


def clock(seconds: float) -> str:
    """12 s, 3:05 min, 2:03:04 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"
