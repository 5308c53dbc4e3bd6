"""A score with how it was made: two are comparable when everything but the model is equal."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gan_lightning.data.base import say
from gan_lightning.errors import UserError
from gan_lightning.locks import lock
from gan_lightning.paths import refuse_link

FILE = "scores.jsonl"


@dataclass(frozen=True)
class Record:
    """One line of `scores.jsonl`."""

    metric: str
    value: float  # null in the file where it is not finite: PSNR of equal pictures
    std: float | None  # over subsets or splits, where the metric has them
    settings: dict[str, Any]  # of the metric
    extractor: str
    version: str  # of the extractor
    resize: str  # how images came to the extractor's size
    n_real: int
    n_fake: int
    split: str  # which real images: train, subset (of data.subset), held_out, or a folder
    real: str  # a fingerprint of them
    weights: str  # of the generator: ema, raw, or a folder
    batch_norm: str  # statistics at sampling: "estimated over 512 samples", or none
    truncation: float | None
    seed: int
    forced: bool  # fewer images than the metric can bear
    source: str  # train or evaluate
    step: int  # generator steps
    epoch: int
    images: int  # training images seen
    seconds: float  # of training

    def text(self) -> str:
        """The value as people read it: 0.0123 ± 0.001."""
        spread = "" if self.std is None else f" ± {self.std:.2g}"
        return f"{self.value:.4g}{spread}{' (forced)' if self.forced else ''}"


def append(path: Path, records: list[Record]) -> None:
    """Adds lines; a line that a crash left unfinished is ended first."""
    text = ""
    for record in records:
        text += json.dumps({**asdict(record), "value": record.value if math.isfinite(record.value) else None}) + "\n"
    with alone(path), path.open("a+b") as file:
        if file.tell() and path.read_bytes()[-1:] != b"\n":
            text = "\n" + text
        file.write(text.encode())


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """No other process adds to the file or replaces it meanwhile; it is there then."""
    refuse_link(path)
    if os.name == "nt":  # there are no such locks, and what is open cannot be replaced
        yield
        return
    while True:
        with path.open("ab") as file, lock(path):
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:  # else it was replaced while this one waited
                yield
                return


def lines(path: Path) -> list[dict[str, Any]]:
    """Every whole line that is a record; a process that was killed may have left half of one. Raises UserError if
    unreadable."""
    try:
        text = path.read_text() if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    found = []
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if is_record(record):
            found.append(record)
        else:
            say(f"{path}: half a line passed over: {line[:40]!r}")
    return found


def is_record(line: Any) -> bool:
    """Whether a line has what others are told by; the file may come from elsewhere."""
    if not isinstance(line, dict) or not (isinstance(line.get("metric"), str) and isinstance(line.get("source"), str)):
        return False
    return isinstance(line.get("images"), int) and isinstance(line.get("value"), int | float | None)


def forget_after(path: Path, images: int) -> None:
    """Removes what training wrote after `images`: a continued run scores there again. Evaluations stay."""
    if not path.exists():
        return
    with alone(path):
        kept = [line for line in lines(path) if line.get("source") != "train" or line["images"] <= images]
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(part, path)
