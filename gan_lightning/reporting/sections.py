"""The parts of the page as HTML. Every text goes through `e`: names, reasons and settings are not ours."""

import html
import re
from collections.abc import Sequence

from gan_lightning.metrics.records import FILE as SCORES
from gan_lightning.reporting.files import clean
from gan_lightning.reporting.markdown import not_recorded
from gan_lightning.reporting.pictures import Frame
from gan_lightning.reporting.plots import COLOURS, DASHED, GREY
from gan_lightning.reporting.ranking import how_made, plural
from gan_lightning.reporting.report import Report, limit
from gan_lightning.reporting.runs import Run
from gan_lightning.reporting.table import Cell, Table

MOST_LINES = 1000  # of what was left out


def e(text: object) -> str:
    """Text as HTML, also inside an attribute's quotes."""
    return html.escape(str(text), quote=True)


def header(report: Report) -> str:
    """When, of what, ranked how, and who is first."""
    scored = sum(row.rank is not None for row in report.ranking.rows)
    facts = [
        f"Made {report.made:%Y-%m-%d %H:%M %Z} by gan_lightning {report.version}: "
        f"{plural(len(report.runs), 'run')}, {scored:,} with the score.",
        *report.headline,
    ]
    return "".join(f"<p>{e(one)}</p>" for one in facts) + ways(report)


def ways(report: Report) -> str:
    """Says plainly that ranks of different ways of scoring do not compare."""
    if not report.ways:
        return ""
    return (
        f'<div class="warning" role="note"><p><b>The scores were made in {len(report.ways)} ways, and only those of '
        "one way compare.</b> The column “made” says which; each way has ranks of its own.</p>"
        f"{bullets(report.ways)}</div>"
    )


def bullets(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{e(line)}</li>' for line in lines)}</ul>"


def colour(index: int, ranked: bool) -> tuple[str, str]:
    """The colour of a run's curves and whether they are dashed: the first ten have their own."""
    if not ranked or index >= len(COLOURS):
        return GREY, "solid"
    return COLOURS[index], "solid" if index < DASHED else "dashed"


def ranking_table(report: Report) -> str:
    """The table of runs, and that of seeds averaged where there is one."""
    averaged = report.groups_table
    tools = ['<label>Filter <input type="search" id="filter" placeholder="name, state or value"></label>']
    if averaged:
        said = f"average seeds ({e(report.averaged)})"
        tools.append(f'<label><input type="checkbox" id="average"> {said}</label>')
    shown = [("all", "all"), ("best", "best ten"), ("none", "none")]
    buttons = "".join(f'<button type="button" data-show="{key}">{said}</button>' for key, said in shown)
    tools.append(f'<span class="group">Curves of {buttons}</span>')
    boxes = []
    for index, row in enumerate(report.ranking.rows):
        name, (tone, dash) = row.run.name, colour(index, row.rank is not None or report.ranking.metric is None)
        boxes.append(
            f'<td class="pick"><label><input type="checkbox" checked data-run="{index}" '
            f'aria-label="curves of {e(name)}"><span class="swatch {dash}" style="color:{tone}"></span></label></td>'
        )
    heading = '<th scope="col" class="pick"><span class="unseen">curves</span></th>'
    parts = [f'<div class="tools">{"".join(tools)}</div>']
    parts.append(box("runs", "Runs by rank", heading, boxes, report.runs_table))
    if averaged:
        parts.append(box("groups", "Settings by the mean over their seeds", "", [""] * len(averaged.rows), averaged))
    if report.more_keys:
        names = ", ".join(report.more_keys)
        parts.append(
            f"<details><summary>{len(report.more_keys)} more settings differ</summary><p>{e(names)}</p></details>"
        )
    return "".join(parts)


def box(name: str, caption: str, heading: str, boxes: Sequence[str], table: Table) -> str:
    """A table that is sorted by its headings and scrolls inside its box."""
    heads = "".join(head(cell, "ascending" if cell.text == "rank" else "none") for cell in table.heading)
    lines = []
    for index, (pick, cells) in enumerate(zip(boxes, table.rows, strict=True)):
        of_run = f' data-run="{index}"' if name == "runs" else ""
        lines.append(
            f"<tr{of_run}>{pick}{''.join(cell(some, place == 1, name) for place, some in enumerate(cells))}</tr>"
        )
    hidden = " hidden" if name == "groups" else ""
    return (
        f'<div class="box" id="{name}-box" tabindex="0" role="region" aria-label="{e(caption)}"{hidden}>'
        f'<table id="{name}"><caption class="unseen">{e(caption)}</caption><thead><tr>{heading}{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def head(some: Cell, sort: str) -> str:
    title = f' title="{e(some.title)}"' if some.title else ""
    broken = re.sub(r"(?<=[._])", "<wbr>", e(some.text))  # keys are long
    return f'<th scope="col" aria-sort="{sort}"><button type="button"{title}>{broken}</button></th>'


def cell(some: Cell, is_name: bool, table: str) -> str:
    """A cell with what it is sorted by; a run's name is a button, which brings its curve to the front."""
    number = isinstance(some.value, float)
    value = f' data-v="{e(repr(some.value) if number else some.value)}"' if some.value is not None else ""
    title = f' title="{e(some.title)}"' if some.title else ""
    if is_name:
        inside = f'<button type="button" class="name" aria-pressed="false">{e(some.text)}</button>'
        return f'<th scope="row"{value}{title}>{inside if table == "runs" else e(some.text)}</th>'
    kind = ' class="number"' if number else ""
    inside = f'<span class="state {MARKS[some.mark]}">{e(some.text)}</span>' if some.mark else e(some.text)
    return f"<td{kind}{value}{title}>{inside}</td>"


MARKS = {
    "finished": "good",
    "running": "live",
    "interrupted": "half",
    "pruned": "half",
    "killed": "bad",
    "diverged": "bad",
    "failed": "bad",
    "collapsed": "bad",
    "unknown": "half",
}


def states(report: Report) -> str:
    """Why runs ended, where there is more to say than a word."""
    items = report.states
    return f"<details><summary>Why runs ended: {len(items)}</summary>{bullets(items)}</details>" if items else ""


def evaluations(report: Report) -> str:
    """Scores of the command evaluate, which are not ranked among those of training."""
    lines = []
    for run in report.runs:
        for metric, scores in run.evaluations.items():
            one = scores[-1]
            spread = f" ± {one.std:.2g}" if one.std is not None else ""
            lines.append(
                f'<tr><th scope="row">{e(run.name)}</th><td>{e(metric)}</td><td class="number" title="{one.value!r}">'
                f'{one.value:.4g}{spread}</td><td class="number">{one.images:,.0f}</td>'
                f"<td>{e(how_made(one.settings))}</td></tr>"
            )
    if not lines:
        return ""
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("run", "metric", "value", "images", "made of"))
    inside = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    title = f"{plural(len(lines), 'score')} of the command evaluate, not ranked here"
    return f'<details><summary>{title}</summary><div class="box" tabindex="0">{inside}</div></details>'


def samples(report: Report) -> str:
    """Grids side by side, with one slider over training."""
    made = report.samples
    if not made.frames:
        return "<p>No run has samples that can be shown.</p>"
    last = len(made.stops) - 1
    figures = []
    for index, frames in made.frames.items():
        row = report.ranking.rows[index]
        rank = f"{row.label}. " if row.label else ""
        inside = "".join(one_frame(frame, row.run, report.ranking.metric, last) for frame in frames)
        figures.append(f'<figure data-run="{index}"><figcaption>{e(rank + row.run.name)}</figcaption>{inside}</figure>')
    real = "".join(
        f'<figure class="real"><figcaption>Real: {e(name)}</figcaption>{shown(frame, f"real samples: {name}")}</figure>'
        for name, frame in made.real.items()
    )
    points = " ".join(str(int(stop)) for stop in made.stops)
    return (
        f'<div class="tools slider"><label for="stop">Training images</label><input type="range" id="stop" min="0" '
        f'max="{last}" value="{last}" step="1" data-stops="{points}"><output id="stop-said" for="stop">'
        f"{made.stops[-1]:,.0f}</output></div>"
        '<p class="hint">Each run shows what it made nearest to that number; below it stands the true one.</p>'
        f'<div class="grids">{real}{"".join(figures)}</div>'
    )


def one_frame(frame: Frame, run: Run, metric: str | None, last: int) -> str:
    """Samples with the images after which they were made and the newest score then."""
    scores = [score for score in run.scores.get(metric or "", []) if score.images <= frame.images * 1.005 + 1]
    score = f", {metric} {scores[-1].value:.4g}" if scores else ""
    words = f"{frame.images:,.0f} images{score}"
    stops = " ".join(map(str, frame.stops))
    hidden = "" if last in frame.stops else " hidden"
    inside = shown(frame, f"samples of {run.name}, {words}")
    return f'<div class="frame" data-stops="{stops}"{hidden}>{inside}<p>{e(words)}</p></div>'


def shown(frame: Frame, words: str) -> str:
    """A picture, or lines of text."""
    if frame.picture:
        width, height = frame.size
        return f'<img src="{frame.picture}" width="{width}" height="{height}" alt="{e(words)}" decoding="async">'
    return f'<ol class="texts">{"".join(f"<li>{e(line)}</li>" for line in frame.lines)}</ol>'


def commands(report: Report) -> str:
    """How each run was made, folded up."""
    parts = []
    for row in report.ranking.rows:
        run = row.run
        body = f"<p>{e(not_recorded(run))}</p>"
        if run.state.commands:
            text = e("\n".join(run.state.commands))
            button = '<button type="button" class="copy">copy</button>'
            body = f'<div class="copied"><pre><code>{text}</code></pre>{button}</div>'
        parts.append(f"<details><summary>{e(run.name)}</summary>{body}<p>In {e(clean(run.folder))}</p></details>")
    return "".join(parts)


def left_out(report: Report) -> str:
    """What is not on the page: for want of room, and what could not be read."""
    lines = limit(report.files, MOST_LINES)
    if not report.said and not lines:
        return "<p>Nothing.</p>"
    files = f"<details{' open' if len(lines) < 12 else ''}><summary>Of files: {len(report.left_out):,}</summary>"
    return (bullets(report.said) if report.said else "") + (f"{files}{bullets(lines)}</details>" if lines else "")


def footnote() -> str:
    """What the numbers are."""
    said = f"Scores are the records of source “train” in {SCORES}; nothing in the folders of the runs was changed."
    return f'<p class="hint">{said}</p>'
