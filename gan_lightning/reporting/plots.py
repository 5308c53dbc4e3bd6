"""The plots of the page, by Bokeh: curves that the page's own script fills, and what settings mattered."""

from collections.abc import Sequence
from typing import Any

from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    FactorRange,
    FixedTicker,
    HoverTool,
    NoOverlap,
    NumeralTickFormatter,
    Range1d,
    TeeHead,
    WheelZoomTool,
    Whisker,
)
from bokeh.plotting import figure

from gan_lightning.reporting.importance import MOST_SHOWN, Importance, numeric
from gan_lightning.reporting.settings import short

# Wong 2011 without black and yellow, then four of Tol's (2021): told apart by the colour-blind, on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#aa3377", "#999933", "#44aa99", "#7a6bd1")
DASHED = 6  # those from here on are dashed, too
GREY = "#8f8f8f"


def curve_plots() -> list[Any]:
    """Two figures over the same lines, with a linear and a logarithmic vertical axis; one of them is shown."""
    source = ColumnDataSource(
        {key: [] for key in ("xs", "ys", "name", "colour", "width", "alpha", "dash")}, name="lines"
    )
    ends = ColumnDataSource({key: [] for key in ("x", "y", "colour", "alpha")}, name="ends")
    plots = []
    for kind in ("linear", "log"):
        plot = plain(figure(y_axis_type=kind, height=430, tools="pan,box_zoom,reset,save", name=f"curves_{kind}"))
        plot.x_range, plot.y_range = Range1d(start=0, end=1), Range1d(start=1e-3, end=1)
        lines = plot.multi_line(
            "xs", "ys", source=source, line_color="colour", line_width="width", line_alpha="alpha", line_dash="dash"
        )
        # Where a curve ends; of a single point there is no line.
        plot.scatter("x", "y", source=ends, size=6, color="colour", alpha="alpha")
        told = [("run", "@name"), ("at", "$x{0,0}"), ("value", "$y{0.0000a}")]
        plot.add_tools(HoverTool(renderers=[lines], tooltips=told), WheelZoomTool())
        plot.xaxis.formatter = NumeralTickFormatter(format="0.[00]a")
        plot.xaxis.ticker = BasicTicker(desired_num_ticks=6)
        plot.visible = kind == "linear"
        plots.append(plot)
    return plots


def plain(plot: Any) -> Any:
    """Without a link to Bokeh's site, as wide as its place; the page's script sets the colours of its theme."""
    plot.toolbar.logo = None
    plot.sizing_mode = "stretch_width"
    plot.background_fill_alpha = plot.border_fill_alpha = 0
    plot.outline_line_color = None
    return plot


def importance_plots(made: Importance, metric: str, colours: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Bars of the shares, and the score against each of the most important settings."""
    names = list(made.shares)[:20][::-1]
    labels = unique([short(name, longest=44) for name in names])
    shares = [made.shares[name] for name in names]
    bars = plain(figure(y_range=FactorRange(factors=labels), height=70 + 30 * len(names), tools=""))
    spreads = [made.spreads[name] for name in names]
    ends = [share + spread for share, spread in zip(shares, spreads, strict=True)]
    begins = [max(0.0, share - spread) for share, spread in zip(shares, spreads, strict=True)]
    source = ColumnDataSource({"y": labels, "share": shares, "spread": spreads, "begin": begins, "end": ends})
    bars.hbar(y="y", right="share", height=0.6, source=source, color=COLOURS[0])
    heads: dict[str, Any] = {end: TeeHead(size=10, line_color=COLOURS[1]) for end in ("lower_head", "upper_head")}
    place: dict[str, Any] = {"base": "y", "lower": "begin", "upper": "end", "dimension": "width"}
    bars.add_layout(Whisker(**place, **heads, source=source, line_color=COLOURS[1], level="overlay"))
    bars.x_range = Range1d(start=0, end=max(1e-9, *ends) * 1.05)
    bars.xaxis.ticker = BasicTicker(desired_num_ticks=4)
    bars.toolbar_location = None
    bars.xaxis.formatter = NumeralTickFormatter(format="0%")
    bars.add_tools(HoverTool(tooltips=[("setting", "@y"), ("share", "@share{0.0%} ± @spread{0.0%}")]))
    plots = {name: scatter(name, made, metric, colours) for name in list(made.shares)[:MOST_SHOWN]}
    return bars, plots


def scatter(name: str, made: Importance, metric: str, colours: Sequence[str]) -> Any:
    """The score against one setting."""
    values = made.values[name]
    data: dict[str, Any] = {"score": made.scores, "run": made.names, "colour": list(colours)}
    if numeric(values):
        data["x"] = [float(value) for value in values]
        kind = "log" if name in made.logarithmic else "linear"
        plot = figure(height=230, tools="", x_axis_type=kind)
        seen = sorted(set(data["x"]))
        marked = [seen[round(i * (len(seen) - 1) / 5)] for i in range(6)] if len(seen) > 6 else seen
        plot.xaxis.ticker = FixedTicker(ticks=marked)
        plot.xaxis.major_label_overrides = {one: f"{one:.3g}" for one in marked}
        plot.xaxis.major_label_policy = NoOverlap()
    else:
        data["x"] = [short(value, name) for value in values]
        plot = figure(height=230, tools="", x_range=FactorRange(factors=sorted(set(data["x"]))))
    plain(plot).scatter("x", "score", source=ColumnDataSource(data), size=9, color="colour", fill_alpha=0.75)
    plot.add_tools(HoverTool(tooltips=[("run", "@run"), ("value", "@x"), (metric, "@score{0.0000a}")]))
    plot.yaxis.axis_label, plot.toolbar_location = metric, None
    return plot


def unique(labels: Sequence[str]) -> list[str]:
    """The same labels, none of them twice: an axis has each once."""
    seen: dict[str, int] = {}
    found = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        found.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return found
