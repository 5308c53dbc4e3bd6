"""Which folders are meant by `runs=`: a run, a folder of runs, a pattern, or `latest`."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gan_lightning.checkpoint import FOLDER as CHECKPOINTS
from gan_lightning.config.overrides import split_paths
from gan_lightning.errors import UserError
from gan_lightning.metrics.records import FILE as SCORES
from gan_lightning.paths import expand
from gan_lightning.reporting.files import LeftOut, clean

CONFIG, METRICS, STATUS = "config.yaml", "metrics.csv", "status.json"
MARKS = (CONFIG, METRICS, SCORES, STATUS, CHECKPOINTS)  # any of them makes a folder a run
MOST_RUNS, MOST_FOLDERS = 1000, 50_000


@dataclass
class Found:
    """The folders of runs, each once, in the order in which they were named."""

    folders: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)  # real paths: a folder has one, however many links lead to it

    def look(self, folder: Path) -> None:
        """A run, or every run below a folder; what lies inside a run belongs to it."""
        waiting = [folder]
        while waiting:
            place = waiting.pop()
            if (real := os.path.realpath(place)) in self.seen:
                continue
            if len(self.seen) == MOST_FOLDERS:
                self.left_out.append(LeftOut(str(place), f"and what follows: {MOST_FOLDERS:,} folders were looked at"))
                return
            self.seen.add(real)
            if not is_run(place):
                waiting += reversed(self.below(place))
            elif len(self.folders) < MOST_RUNS:
                self.folders.append(place)
            else:
                self.left_out.append(LeftOut(str(place), f"more than {MOST_RUNS:,} runs"))

    def below(self, folder: Path) -> list[Path]:
        """The folders in a folder, by name."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            if not entries:
                self.left_out.append(LeftOut(str(folder), "an empty folder"))
            # Those of entries and of Path raise for links to themselves and closed folders; os.path's do not.
            return [Path(entry) for entry in entries if not entry.name.startswith(".") and os.path.isdir(entry)]
        except OSError as error:
            self.left_out.append(LeftOut(str(folder), error.strerror or str(error)))
            return []


def is_run(folder: Path) -> bool:
    """Whether a folder holds anything that training writes."""
    return any(os.path.exists(folder / name) for name in MARKS)


def find_runs(given: str) -> Found:
    """Every run that `given` names. Raises UserError where there is no such folder, or not a single run."""
    parts = split_paths(given[1:-1]) if given.startswith("[") and given.endswith("]") else [given]
    parts = [part.strip() for part in parts if part.strip()]
    if not parts:
        raise UserError(f"runs={given}: names no folder")
    found = Found()
    for part in parts:
        for folder in folders(part):
            found.look(folder)
    if not found.folders:
        reasons = "; ".join(f"{one.file}: {one.reason}" for one in found.left_out[:3])
        marks = f"no run ({', '.join(MARKS[:-1])} or {MARKS[-1]}/) in {', '.join(map(clean, parts))} or below"
        raise UserError(f"runs={clean(given)}: {marks}{f' ({reasons})' if reasons else ''}")
    return found


def folders(part: str) -> Iterator[Path]:
    """The folders that one part of `runs=` names."""
    if part == "latest":
        latest = Path("outputs") / "latest"
        if not os.path.exists(latest):
            raise UserError(f"runs=latest: no run under {latest.parent.resolve()}")
        yield latest.resolve()
        return
    place = expand(part)
    if os.path.isdir(place):
        yield place
        return
    if os.path.exists(place):
        raise UserError(f"runs={part}: is a file; give the folder of a run, or one that holds runs")
    matches = [Path(name) for name in sorted(glob.glob(str(place), recursive=True))]
    if not matches:
        raise UserError(f"runs={part}: there is no such folder")
    yield from (match for match in matches if os.path.isdir(match))


def names_of(runs: list[Path]) -> list[str]:
    """What tells the runs apart: their paths below the deepest folder that holds them all."""
    places = [os.path.realpath(run) for run in runs]
    if len(places) == 1:
        return [clean(os.path.basename(places[0])) or "/"]
    root = os.path.commonpath([os.path.dirname(place) for place in places])
    return [clean(os.path.relpath(place, root)) for place in places]
