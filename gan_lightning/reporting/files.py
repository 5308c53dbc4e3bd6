"""Reads files that nobody vouches for and that may be written at this moment: at most so much, and never an error."""

import csv
import io
import json
import math
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

LARGEST = 2**24  # bytes of a file that are read; of a larger one, its beginning and its end
LARGEST_SETTINGS = 2**20  # of config.yaml and status.json, which are useless without their middle
DEEPEST = 40  # levels of settings
LONGEST = 500  # characters of a text that is shown
MOST = 1e30  # of a number: squares and differences of such are finite, and 32 bits hold them
MISSING = "is not there"

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class LeftOut:
    """A file, or a part of it, that is not on the page."""

    file: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", clean(self.file))
        object.__setattr__(self, "reason", clean(self.reason))


def clean(text: object, longest: int = LONGEST) -> str:
    """One line that every encoding can write: no control characters, no halves of characters, not too long."""
    some = str(text)[: longest + 1]
    if some.isascii() and some.isprintable() and len(some) <= longest:  # nearly always
        return some
    line = "".join(" " if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") else one for one in some)
    # Marks that turn the direction of writing could make a name look like another.
    line = "".join(one for one in line if unicodedata.bidirectional(one) not in DIRECTIONS)
    return line if len(line) <= longest else line[: longest - 1] + "…"


DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def number(value: object) -> float | None:
    """A number of at most MOST, or None; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) <= MOST else None


class Reader:
    """The files of one run; what of them could not be read is in `left_out`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left_out: list[LeftOut] = []

    def leave(self, name: str, reason: str) -> None:
        self.left_out.append(LeftOut(str(self.folder / name), reason))

    def content(self, name: str, largest: int, whole: bool = False) -> bytes | None:
        """A regular file; of one with more than `largest` bytes its beginning and its end, or nothing if `whole`."""
        path = self.folder / name
        try:
            if not path.exists():
                return None
            if not path.is_file():
                self.leave(name, "is not a file")  # a pipe would be waited for
                return None
            with path.open("rb") as file:
                size = path.stat().st_size
                if size <= largest:
                    return file.read(largest)
                if whole:
                    self.leave(name, f"{size / 2**20:,.1f} MiB, too large for what it should be")
                    return None
                head = file.read(largest // 2)
                file.seek(size - largest // 2)
                tail = file.read(largest // 2)
        except OSError as error:
            self.leave(name, error.strerror or str(error))
            return None
        self.leave(name, f"{size / 2**20:,.1f} MiB; what is in its middle, so that {largest / 2**20:,.0f} MiB are left")
        return head[: head.rfind(b"\n") + 1] + tail[tail.find(b"\n") + 1 :]

    def mapping(self, name: str) -> dict[str, Any]:
        """A JSON or YAML file that holds a mapping; empty where it is not there or is none."""
        content = self.content(name, LARGEST_SETTINGS, whole=True)
        if content is None:
            return {}
        text = content.decode(errors="replace")
        try:
            found = json.loads(text) if name.endswith(".json") else plain_yaml(text)
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            empty = "empty" if not text.strip() else f"cannot be read: {str(error).partition(chr(10))[0]}"
            self.leave(name, empty)
            return {}
        if not isinstance(found, dict):
            self.leave(name, "holds no settings" if text.strip() else "empty")
            return {}
        return {str(key): value for key, value in found.items()}

    def whole_lines(self, name: str) -> list[str]:
        """The lines of a file; the last one, where it has no end yet, is left out."""
        content = self.content(name, LARGEST)
        if content is None:
            return []
        if not content:
            self.leave(name, "empty")
        lines = content.decode(errors="replace").split("\n")
        if lines[-1]:
            self.leave(name, "half a line at its end, which is being written or was when the run ended")
        return [line for line in lines[:-1] if line.strip()]

    def records(self, name: str) -> list[dict[str, Any]]:
        """The JSON objects of a file with one in a line."""
        found, bad = [], 0
        for line in self.whole_lines(name):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict):
                found.append(record)
            else:
                bad += 1
        if bad:
            self.leave(name, f"{bad:,} line(s) that hold no record")
        return found

    def table(self, name: str) -> dict[str, Numbers]:
        """The columns of a CSV file with a heading, (rows,) each; NaN where there is no number (see `number`)."""
        lines = self.whole_lines(name)
        try:
            rows = list(csv.reader(io.StringIO("\n".join(lines))))
        except csv.Error as error:
            self.leave(name, f"cannot be read: {error}")
            return {}
        if not rows:
            return {}
        heading = [clean(column, 80) for column in rows[0]]
        whole = [row for row in rows[1:] if len(row) == len(heading)]
        if len(whole) < len(rows) - 1:
            self.leave(name, f"{len(rows) - 1 - len(whole):,} line(s) with another number of columns than its heading")
        try:
            values = np.array([[cell or "nan" for cell in row] for row in whole], dtype=float)
        except ValueError:
            values = np.array([[as_float(cell) for cell in row] for row in whole])
        values = values.reshape(len(whole), len(heading))
        values[~(np.abs(values) <= MOST)] = np.nan
        return dict(zip(heading, values.T, strict=True))


def as_float(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def plain_yaml(text: str) -> Any:
    """YAML without aliases, a few lines of which can stand for more than any memory holds, and not deeper than DEEPEST,
    which would end the process."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of libyaml, where it is there: ten times as fast
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases, which no configuration of ours has")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is more than {DEEPEST} levels deep")
    return yaml.load(text, Loader=loader)
