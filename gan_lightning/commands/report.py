"""Compares runs: one HTML page and one Markdown table, from what the runs wrote."""

import os
from datetime import datetime
from pathlib import Path
from typing import Literal, TypedDict

from gan_lightning.config import check, compose
from gan_lightning.errors import UserError
from gan_lightning.exporting.packages import need
from gan_lightning.paths import expand
from gan_lightning.reporting.finding import Found, find_runs

PAGE, TABLE = "report.html", "report.md"


class Settings(TypedDict):
    """The keys of conf/report.yaml."""

    runs: Path
    output: Path | None
    score: str | None
    by: Literal["last", "best"]
    overwrite: bool


def run(arguments: list[str]) -> int:
    """The command: exit code 0, also where some runs could not be read whole. Nothing is written beside the runs."""
    settings = check(compose("report", arguments, Settings), Settings)
    need(["bokeh", "optuna"], "report", extra="report")
    found = find_runs(str(settings["runs"]))
    folder = expand(settings["output"]) if settings["output"] else default_folder()
    refuse(folder, found, settings["overwrite"])
    from gan_lightning.reporting.markdown import markdown  # with Bokeh, which other commands do without
    from gan_lightning.reporting.page import page
    from gan_lightning.reporting.ranking import plural
    from gan_lightning.reporting.report import compare

    report = compare(found, settings["score"], settings["by"])
    made = {PAGE: page(report), TABLE: markdown(report)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            part = folder / f".{name}.{os.getpid()}.part"
            part.write_text(text, encoding="utf-8")
            part.replace(folder / name)
    except OSError as error:
        raise UserError(f"output={folder}: cannot be written: {error.strerror or error}") from None
    print(f"{plural(len(report.runs), 'run')} compared; files left out whole or in part: {len(report.left_out):,}")
    for name in made:
        print(f"  {folder / name} ({(folder / name).stat().st_size / 2**20:.2f} MiB)")
    return 0


def default_folder() -> Path:
    return Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f_report")


def refuse(folder: Path, found: Found, overwrite: bool) -> None:
    """Raises UserError for a place that is taken, is no folder, or lies in a run."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder}: is a file; the report is a folder")
    taken = [folder / name for name in (PAGE, TABLE) if (folder / name).exists()]
    if taken and not overwrite:
        raise UserError(f"{taken[0]}: is there already; overwrite=true writes it anew")
    real = Path(os.path.realpath(folder))
    inside = [run for run in found.folders if real.is_relative_to(os.path.realpath(run))]
    if inside:
        raise UserError(f"output={folder}: lies in the run {inside[0]}, to which nothing is added; choose another")
