"""The page: one file that needs no network, no server and no other file."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from bokeh.embed import components
from bokeh.resources import Resources

from gan_lightning.reporting import sections
from gan_lightning.reporting.importance import MOST_SHOWN, Importance
from gan_lightning.reporting.plots import curve_plots, importance_plots
from gan_lightning.reporting.ranking import Ranking, plural
from gan_lightning.reporting.report import Report
from gan_lightning.reporting.sections import colour, e
from gan_lightning.reporting.settings import short

HERE = Path(__file__).parent


def page(report: Report) -> str:
    """The whole of report.html."""
    models: dict[str, Any] = dict(zip(("linear", "log"), curve_plots(), strict=True))
    importance = report.importance
    names = list[str]()
    if importance.shares:
        colours = [colour(index, True)[0] for index in importance.places]
        models["bars"], scatters = importance_plots(importance, report.ranking.metric or "", colours)
        names = list(scatters)
        models |= {f"scatter{index}": plot for index, plot in enumerate(scatters.values())}
    script, places = components(models, wrap_script=False)
    scripts = [
        # Its comments hold the addresses of its licences; nothing is fetched from them.
        "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw),
        script,
        (HERE / "page.js").read_text(encoding="utf-8"),
    ]
    rules = (HERE / "page.css").read_text(encoding="utf-8")
    title = f"Comparison of {plural(len(report.runs), 'run')}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{e(title)}</title>
<style>{rules}</style>
</head>
<body>
<header><h1>{e(title)}</h1>{sections.header(report)}{contents()}</header>
<noscript><p class="warning">Sorting, slider and plots need JavaScript, which is off here.</p></noscript>
<main>
<section id="ranking"><h2>Ranking</h2>{sections.ranking_table(report)}
{sections.states(report)}{sections.evaluations(report)}</section>
<section id="curves"><h2>Curves</h2>{curve_tools()}
<figure aria-label="Losses and scores of the runs over training, a line a run; the table above has each run's last and
best score in numbers.">{places["linear"]}{places["log"]}</figure>
<p id="cut" class="hint" hidden></p></section>
<section id="samples"><h2>Samples</h2>{sections.samples(report)}</section>
<section id="importance"><h2>Importance of the settings</h2>{importance_html(report, names, places)}</section>
<section id="commands"><h2>Commands</h2>{sections.commands(report)}</section>
<section id="left-out"><h2>Left out</h2>{sections.left_out(report)}{sections.footnote()}</section>
</main>
<script type="application/json" id="data">{data(report)}</script>
{"".join(f"<script>{one}</script>" for one in scripts)}
</body>
</html>
"""


def policy(scripts: list[str]) -> str:
    """Only these scripts run, whatever a run's files hold, and nothing is loaded from anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def contents() -> str:
    """Links to the sections."""
    links = [
        ("ranking", "Ranking"),
        ("curves", "Curves"),
        ("samples", "Samples"),
        ("importance", "Importance"),
        ("commands", "Commands"),
        ("left-out", "Left out"),
    ]
    return f'<nav aria-label="Sections">{"".join(f"<a href=#{place}>{said}</a>" for place, said in links)}</nav>'


def curve_tools() -> str:
    """Which metric, over what, and how."""
    return (
        '<div class="tools"><label>Metric <select id="metric"></select></label>'
        '<label>Over <select id="axis"><option value="0">images seen</option>'
        '<option value="1">time (seconds of training)</option></select></label>'
        '<label><input type="checkbox" id="log"> logarithmic</label></div>'
        '<p class="hint">The ten best runs have colours, the others are grey; a name in the table brings its curve to '
        "the front, its box hides it.</p>"
    )


def importance_html(report: Report, names: list[str], places: dict[str, str]) -> str:
    """Bars and small plots, or why there are none."""
    made = report.importance
    if made.why_not:
        return f"<p>Not computed: {e(made.why_not)}.</p>"
    figures = [
        f'<figure aria-label="{e(told(made, name, report.ranking))}">'
        f'<figcaption title="{e(name)}">{e(short(name, longest=60))}</figcaption>'
        f"{places[f'scatter{index}']}</figure>"
        for index, name in enumerate(names)
    ]
    shares = "; ".join(report.shares[:MOST_SHOWN])
    return (
        f"<p>Shares of the variance of the score that each setting explains (fANOVA), of {e(made.said)}. With few runs "
        f"they are rough; the thin lines are their standard deviation over {made.forests} seeds of its forests.</p>"
        f'<figure>{places["bars"]}<figcaption class="hint">{e(shares)}</figcaption></figure>'
        f'<div class="scatters">{"".join(figures)}</div>'
    )


def told(made: Importance, name: str, ranking: Ranking) -> str:
    """A small plot in a sentence."""
    best = (max if ranking.up else min)(range(len(made.scores)), key=made.scores.__getitem__)
    value = short(made.values[name][best], name)
    return f"{ranking.metric} against {name}: the best of {len(made.scores)}, {made.scores[best]:.4g}, is at {value}."


def data(report: Report) -> str:
    """What the page's script draws curves from; nothing in it can end the script's element."""
    found = report.curves | {"names": [], "colours": [], "dashes": []}
    for index, row in enumerate(report.ranking.rows):
        tone, dash = colour(index, row.rank is not None or report.ranking.metric is None)
        found["names"].append(row.run.name)
        found["colours"].append(tone)
        found["dashes"].append(dash)
    return json.dumps(found, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
