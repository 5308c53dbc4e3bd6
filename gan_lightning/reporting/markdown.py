"""The ranking as Markdown that GitHub renders: what a name holds is text there, whatever it looks like."""

import re

from gan_lightning.reporting.finding import CONFIG
from gan_lightning.reporting.ranking import differences, how_made, lead, plural
from gan_lightning.reporting.report import Report
from gan_lightning.reporting.runs import Run
from gan_lightning.reporting.table import Cell, Table

MOST_COLUMNS = 12  # settings in the table; wider ones are no longer read
MOST_LINES = 200  # of what was left out


def escaped(text: str) -> str:
    """Text that stays what it is in a cell: no markup, no HTML, no cell of its own, nobody is mentioned."""
    text = re.sub(r"([\\`*\[\]|~#!$])", r"\\\1", text.replace("&", "&amp;"))
    text = text.replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)  # within a word it marks nothing
    return re.sub(r"(?i)\b(https?|ftp|www)(?=[:.])", r"\1&#8203;", text)  # no link of its own


def table(some: Table) -> str:
    """Headings and rows; numbers stand on the right."""
    columns = range(len(some.heading))
    right = [any(isinstance(row[i].value, float) for row in some.rows) for i in columns]
    lines = [row_of(some.heading), "|" + "|".join("---:" if right[i] else "---" for i in columns) + "|"]
    return "\n".join([*lines, *(row_of(row) for row in some.rows)])


def row_of(cells: list[Cell]) -> str:
    return "| " + " | ".join(escaped(cell.text) for cell in cells) + " |"


def narrow(some: Table, settings: int) -> Table:
    """Without the settings beyond MOST_COLUMNS, which stand at the end."""
    end = len(some.heading) - max(0, settings - MOST_COLUMNS)
    return Table(some.heading[:end], [row[:end] for row in some.rows])


def code(text: str) -> str:
    """A block of code that nothing in the text can end."""
    fence = "`" * max(3, *(len(ticks) + 1 for ticks in re.findall(r"`+", text)), 3)
    return f"{fence}sh\n{text}\n{fence}"


def commands(run: Run) -> str:
    """How a run was made, folded up."""
    body = code("\n".join(run.state.commands)) if run.state.commands else escaped(not_recorded(run))
    return f"<details><summary>{escaped(run.name)}</summary>\n\n{body}\n\n</details>"


def not_recorded(run: Run) -> str:
    """For a run whose commands nobody wrote down."""
    if run.settings:
        return f"The command was not recorded; its settings are in {run.folder / CONFIG}."
    return f"The command was not recorded, and {run.folder / CONFIG} cannot be read either."


def markdown(report: Report) -> str:
    """The whole of report.md."""
    ranking = report.ranking
    parts = [
        f"# Comparison of {plural(len(report.runs), 'run')}",
        f"{report.made:%Y-%m-%d %H:%M %Z}, gan_lightning {report.version}. {headline(report)}",
        table(narrow(report.runs_table, len(report.keys))),
    ]
    parts += [ways(report)] if len(ranking.protocols) > 1 else []
    reasons = [(row.run.name, row.run.state) for row in ranking.rows if row.run.state.reason]
    if reasons:
        parts += ["## States", bullets([f"{name}: {state.word}: {state.reason}" for name, state in reasons])]
    if report.groups_table:
        parts += ["## Seeds averaged", table(narrow(report.groups_table, len(report.keys)))]
    differ = [*report.keys, *report.more_keys]
    parts += ["## What differs", escaped(", ".join(differ)) or "Nothing that the settings show."]
    parts += ["## Importance", importance(report)]
    parts += ["## Commands", *(commands(run) for run in report.runs)]
    parts += ["## Left out", left_out(report)]
    return "\n\n".join(parts) + "\n"


def headline(report: Report) -> str:
    """What ranks, how it was made, and who is first."""
    ranking = report.ranking
    if ranking.metric is None:
        return "No run has a score, so there are no ranks."
    direction = "higher" if ranking.up else "lower"
    first = next(iter(ranking.protocols.values()), {})
    made = f"Ranked by the {ranking.by} {ranking.metric} of training ({direction} is better; {how_made(first)})."
    return escaped(f"{made} Best: {lead(ranking)}.")


def ways(report: Report) -> str:
    """Says plainly that ranks of different ways of scoring do not compare."""
    protocols = report.ranking.protocols
    counts = {name: sum(row.protocol == name for row in report.ranking.rows) for name in protocols}
    lines = [
        f"{name} ({plural(counts[name], 'run')}): {', '.join(f'{key} {value[:120]}' for key, value in keys.items())}"
        for name, keys in differences(protocols).items()
    ]
    said = f"**The scores were made in {len(protocols)} ways, and only those of one way compare** (column made):"
    return f"{said}\n\n{bullets(lines)}"


def importance(report: Report) -> str:
    """The shares, or why there are none."""
    made = report.importance
    if made.why_not:
        return f"Not computed: {escaped(made.why_not)}."
    shares = [f"{name}: {share:.0%}" for name, share in made.shares.items()]
    return f"fANOVA of {escaped(made.said)}.\n\n{bullets(shares)}"


def left_out(report: Report) -> str:
    """Files with reasons, and what had no room."""
    lines = [f"{one.file}: {one.reason}" for one in report.left_out]
    more = [f"and {len(lines) - MOST_LINES:,} more, which the page lists"] if len(lines) > MOST_LINES else []
    return bullets([*report.said, *lines[:MOST_LINES], *more]) or "Nothing."


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)
