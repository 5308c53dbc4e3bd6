"""The ranking as Markdown that GitHub renders: what a name holds is text there, whatever it looks like."""

import re

from gan_lightning.reporting.files import clean
from gan_lightning.reporting.finding import CONFIG
from gan_lightning.reporting.ranking import plural
from gan_lightning.reporting.report import Report, limit
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
    file = clean(run.folder / CONFIG)
    if run.settings:
        return f"The command was not recorded; its settings are in {file}."
    return f"The command was not recorded, and {file} cannot be read either."


def markdown(report: Report) -> str:
    """The whole of report.md."""
    parts = [
        f"# Comparison of {plural(len(report.runs), 'run')}",
        f"{report.made:%Y-%m-%d %H:%M %Z}, gan_lightning {report.version}. {escaped(' '.join(report.headline))}",
        table(narrow(report.runs_table, len(report.keys))),
    ]
    if report.ways:
        ways = f"**The scores were made in {len(report.ways)} ways, and only those of one way compare** (column made):"
        parts += [ways, bullets(report.ways)]
    if report.states:
        parts += ["## States", bullets(report.states)]
    if report.groups_table:
        parts += [
            "## Seeds averaged",
            f"Means {report.averaged}.",
            table(narrow(report.groups_table, len(report.keys))),
        ]
    differ = [*report.keys, *report.more_keys]
    parts += ["## What differs", escaped(", ".join(differ)) or "Nothing that the settings show."]
    parts += ["## Importance", importance(report)]
    parts += ["## Commands", *(commands(run) for run in report.runs)]
    parts += ["## Left out", bullets([*report.said, *limit(report.files, MOST_LINES)]) or "Nothing."]
    return "\n\n".join(parts) + "\n"


def importance(report: Report) -> str:
    """The shares, or why there are none."""
    made = report.importance
    if made.why_not:
        return f"Not computed: {escaped(made.why_not)}."
    return f"fANOVA of {escaped(made.said)}; ± over {made.forests} seeds of its forests.\n\n{bullets(report.shares)}"


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)
