"""Which score ranks the runs, how it was made, and who is better by how much."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gan_lightning.config.messages import listed
from gan_lightning.errors import UserError
from gan_lightning.metrics.scores import UP
from gan_lightning.reporting.runs import Run, Score
from gan_lightning.reporting.settings import groups


@dataclass(frozen=True)
class Row:
    """A run in the ranking; without a score it has no rank."""

    run: Run
    rank: int | None = None  # among those whose scores were made the same way
    protocol: str = ""  # A, B, …: how the score was made; nothing where all were made alike
    last: Score | None = None
    best: Score | None = None

    @property
    def main(self) -> bool:
        """Whether its score was made in the way that most were."""
        return self.rank is not None and self.protocol in ("", "A")

    @property
    def way(self) -> str:
        """What stands before its rank."""
        return "" if self.main else self.protocol

    @property
    def label(self) -> str:
        """Its rank as people read it: 3, or B1 among the scores that were made the second way."""
        return "" if self.rank is None else f"{self.way}{self.rank}"


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone. Those that ended by themselves are averaged; std: of a sample."""

    rows: list[Row]
    others: list[Row]  # that were given up, interrupted, …, or still train
    mean: float | None  # None without rows
    std: float | None  # None of a single one

    @property
    def members(self) -> list[Row]:
        return [*self.rows, *self.others]


@dataclass
class Ranking:
    """The runs in the order of their ranks; `groups` by their means, `protocols` by letter."""

    metric: str | None
    by: Literal["last", "best"]
    rows: list[Row]
    groups: list[Group] = field(default_factory=list)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        return self.metric in UP

    def value(self, row: Row) -> float | None:
        """What a run is ranked by."""
        score = row.last if self.by == "last" else row.best
        return score.value if score else None


def spread(groups: Sequence[Group]) -> float | None:
    """The standard deviation over seeds, pooled over the groups that have several."""
    several = [group for group in groups if group.std is not None]
    weights = [len(group.rows) - 1 for group in several]
    total = sum((group.std or 0) ** 2 * weight for group, weight in zip(several, weights, strict=True))
    return (total / sum(weights)) ** 0.5 if several else None


def choose_metric(runs: Sequence[Run], asked: str | None) -> str | None:
    """What the runs are ranked by: asked for, or what `scores.best` says in more than half of those that have scores,
    or what most of them have.

    Raises UserError for a metric that no run has.
    """
    there = Counter(metric for run in runs for metric in run.scores)
    if asked is not None:
        if asked not in there:
            raise UserError(f"score={asked}: no run has it; there are {listed(there) or 'no scores at all'}")
        return asked
    scored = [run for run in runs if run.scores]
    said = Counter(best for run in scored if isinstance(best := run.settings.get("scores.best"), str) and best in there)
    for metric, count in said.most_common(1):
        if 2 * count > len(scored):
            return metric
    return next((metric for metric, _ in there.most_common(1)), None)  # of as many, what was made first


def rank(runs: Sequence[Run], keys: Sequence[str], asked: str | None, by: Literal["last", "best"]) -> Ranking:
    """Ranks runs whose scores were made the same way; the way that most were made stands first.

    keys: the settings that differ, by which runs are known to differ in their seed alone.
    """
    metric = choose_metric(runs, asked)
    sign = -1 if metric in UP else 1
    rows = []
    for run in runs:
        scores = run.scores.get(metric or "", [])
        best = min(scores, key=lambda score: sign * score.value, default=None)
        rows.append(Row(run, None, "", scores[-1] if scores else None, best))
    ranking = Ranking(metric, by, rows)
    ways = protocols(rows)
    letters = {made: letter(index) for index, made in enumerate(ways)}
    ranked: list[Row] = []
    for made, same in ways.items():
        ordered = sorted(same, key=lambda row: sign * (ranking.value(row) or 0.0))
        for place, row in enumerate(ordered, 1):
            ranked.append(Row(row.run, place, letters[made] if len(ways) > 1 else "", row.last, row.best))
    ranking.rows = [*ranked, *(row for row in rows if row.last is None)]
    ranking.protocols = {letters[made]: json.loads(made) for made in ways}
    ranking.groups = grouped(ranking, keys, sign)
    return ranking


def letter(index: int) -> str:
    """A … Z, then A2 …."""
    return chr(ord("A") + index % 26) + (str(index // 26 + 1) if index >= 26 else "")


def protocols(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows with a score by how it was made, the way that most were made first."""
    ways: dict[str, list[Row]] = {}
    statistics_of = {json.dumps(row.last.settings.get("batch_norm")) for row in rows if row.last} - {'"none"', "null"}
    for row in rows:
        if row.last:
            how = dict(row.last.settings)
            if len(statistics_of) < 2:  # "none" is said of networks without batch norm: the model, not the way
                how.pop("batch_norm", None)
            ways.setdefault(json.dumps(how, sort_keys=True), []).append(row)
    return dict(sorted(ways.items(), key=lambda item: -len(item[1])))


def grouped(ranking: Ranking, keys: Sequence[str], sign: int) -> list[Group]:
    """The ranked rows by everything but the seed, the best mean first; of each way of scoring its own."""
    found = []
    for way in dict.fromkeys(row.protocol for row in ranking.rows if row.rank is not None):
        rows = {row.run: row for row in ranking.rows if row.rank is not None and row.protocol == way}
        made = []
        for same in groups(list(rows), keys):
            whole = [rows[run] for run in same if run.state.comparable]
            others = [rows[run] for run in same if not run.state.comparable]
            values = [ranking.value(row) or 0.0 for row in whole]
            std = statistics.stdev(values) if len(values) > 1 else None
            made.append(Group(whole, others, statistics.fmean(values) if values else None, std))
        found += sorted(made, key=lambda group: (group.mean is None, sign * (group.mean or 0.0)))
    return found


def not_averaged(ranking: Ranking) -> str:
    """How many runs with a score did not end by themselves, by state: "2 pruned, 1 diverged"."""
    words = Counter(row.run.state.word for group in ranking.groups for row in group.others)
    return ", ".join(f"{count} {word}" for word, count in words.most_common())


def differences(ways: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    """What differs in how scores were made: by letter, the keys that are not the same everywhere."""
    keys = dict.fromkeys(key for way in ways.values() for key in way)
    texts = {key: {name: json.dumps(way.get(key), ensure_ascii=False) for name, way in ways.items()} for key in keys}
    other = [key for key, values in texts.items() if len(set(values.values())) > 1]
    return {name: {key: texts[key][name] for key in other} for name in ways}


def plural(count: int, noun: str) -> str:
    """ "1 run", "1,200 runs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def how_made(way: dict[str, Any]) -> str:
    """A way of scoring in words: "digits v1, 1,437 real (train), 1,437 generated, weights ema"."""

    def count(key: str) -> str:
        return f"{way[key]:,}" if isinstance(way.get(key), int) else "?"

    extractor = f"{way.get('extractor', '?')} v{way['version']}" if way.get("version") else ""
    sizes = f"{count('n_real')} real ({way.get('split', '?')}), {count('n_fake')} generated"
    weights = f"weights {way['weights']}" if way.get("weights") else ""
    truncated = f"truncation {way['truncation']}" if way.get("truncation") else ""
    forced = "forced: too few images" if way.get("forced") is True else ""
    return ", ".join(part for part in (extractor, sizes, weights, truncated, forced) if part)


def lead(ranking: Ranking) -> str:
    """The best run, and by how much it beats the best one of other settings; then the same of means over seeds.

    In standard deviations over seeds, pooled over all settings that were repeated, where there are any.
    """
    rows = [row for row in ranking.rows if row.main]
    if not rows:
        return ""
    teams = [group for group in ranking.groups if group.members[0].main]
    own = next(group for group in teams if rows[0] in group.members)
    text = f"{named(rows[0])} ({ranking.metric} {ranking.value(rows[0]):.4g})"
    rival = next((row for row in rows if row not in own.members), None)
    if rival is None:
        return text + ("; the other runs have the same settings" if len(rows) > 1 else "")
    deviation, averaged = spread(teams), [group for group in teams if group.rows][:2]
    text += f", better than the next settings, {named(rival)}, by "
    text += apart(ranking.value(rows[0]), ranking.value(rival), deviation)
    if deviation is None:
        return text + "; no settings were run with several seeds, so how much of it is chance is not known"
    if len(averaged) > 1:
        first, second = (f"{group.rows[0].run.name} {group.mean:.4g}{repeated(group)}" for group in averaged)
        difference = apart(averaged[0].mean, averaged[1].mean, deviation)
        text += f". Averaged over seeds, the settings of {first}, the next of {second}: {difference} apart"
        if own.rows and own not in averaged:
            text += f"; those of the best run {own.mean:.4g}{repeated(own)}"
    return text


def named(row: Row) -> str:
    """A run's name, with its state where that says that it was not trained to its end."""
    return row.run.name if row.run.state.comparable else f"{row.run.name} ({row.run.state.word})"


def repeated(group: Group) -> str:
    return " (not repeated)" if group.std is None else f" ± {group.std:.2g} ({len(group.rows)} runs)"


def apart(one: float | None, other: float | None, deviation: float | None) -> str:
    difference = abs((one or 0.0) - (other or 0.0))
    many = f" ({difference / deviation:.1f} standard deviations over seeds)" if deviation else ""
    return f"{difference:.3g}{many}"
