"""Samples of the runs at the same numbers of training images, as small pictures or lines of text within a budget."""

import base64
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from gan_lightning.data.decoding import Unreadable, open_image, why_unreadable
from gan_lightning.reporting.files import LeftOut, clean
from gan_lightning.reporting.runs import SAMPLES, Run, data_of, grids
from gan_lightning.reporting.settings import text

BUDGET = 1_700_000  # bytes of all pictures on the page
LARGEST = 2**25  # of a file that is opened
MOST_RUNS, MOST_STOPS, MOST_PICTURES = 50, 12, 300
SIDES = {24: 384, 60: 288, 120: 224, 300: 176}  # pixels of the longer side, by how many pictures there are
QUALITIES = (82, 65, 50, 35, 20, 5)  # of WebP
LINES, LONGEST_LINE, LARGEST_TEXT = 10, 160, 2**16
MOST_REAL = 4


@dataclass
class Frame:
    """What a run's samples were like at some number of training images; shown at the slider's `stops`."""

    images: float
    stops: list[int]
    picture: str = ""  # a data: address
    size: tuple[int, int] = (0, 0)
    lines: list[str] = field(default_factory=list)


@dataclass
class Samples:
    """The slider's stops in training images; frames by the run's index; real samples by what they are of."""

    stops: list[float]
    frames: dict[int, list[Frame]]
    real: dict[str, Frame]
    left_out: list[LeftOut]
    said: list[str]  # what was left out for want of room


class Purse:
    """Bytes that are left for pictures, and how many are still to come: what one saves, the others have."""

    def __init__(self, budget: int, count: int) -> None:
        self.left, self.count = budget, max(count, 1)
        self.first = 0  # of QUALITIES: pictures of one report are alike
        self.side = next((side for most, side in SIDES.items() if count <= most), min(SIDES.values()))

    def encode(self, image: Image.Image) -> tuple[str, tuple[int, int]]:
        """WebP of an image as a data: address, small enough, and its size."""
        share, side = self.left // self.count, self.side
        image.thumbnail((side, side), Image.Resampling.BOX if side > max(image.size) // 2 else Image.Resampling.LANCZOS)
        file = io.BytesIO()
        for place in range(self.first, len(QUALITIES)):
            file = io.BytesIO()
            image.save(file, "WEBP", quality=QUALITIES[place], method=3)
            if file.tell() * 4 // 3 <= share:
                self.first = max(0, place - (file.tell() * 2 <= share))  # there is room for a better one
                break
        code = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
        self.left -= len(code)
        self.count = max(self.count - 1, 1)
        return code, image.size


def samples_of(runs: Sequence[Run]) -> Samples:
    """The samples of the first MOST_RUNS of `runs` that have any."""
    made = Samples([], {}, {}, [], [])
    files: dict[int, dict[float, Path]] = {}
    for index, run in enumerate(runs):
        found = grids(run)
        where = zip(found.values(), run.images_at_steps(list(found)), strict=True)
        known = {images: file for file, images in where if images is not None}
        if len(known) < len(found):
            made.left_out.append(
                LeftOut(str(run.folder / SAMPLES), "after how many images they were made is not known")
            )
        if known:
            files[index] = known
    if len(files) > MOST_RUNS:
        made.said.append(f"samples of the first {MOST_RUNS} runs only, of {len(files)} that have some")
    files = dict(list(files.items())[:MOST_RUNS])
    most = max(2, min(MOST_STOPS, MOST_PICTURES // max(len(files), 1)))
    made.stops = stops([images for known in files.values() for images in known], most)
    more = max((len(known) for known in files.values()), default=0)
    if more > len(made.stops):
        made.said.append(f"{len(made.stops)} moments of training, where the longest run has samples of {more}")
    chosen = {index: nearest(known, made.stops) for index, known in files.items()}
    real = real_files(runs)
    if len(real) > MOST_REAL:
        made.said.append(f"real samples of {MOST_REAL} data sets, of {len(real)}")
    purse = Purse(BUDGET, sum(map(len, chosen.values())) + min(len(real), MOST_REAL))
    for name, file in list(real.items())[:MOST_REAL]:
        fill(frame := Frame(0, []), file, purse, made)
        if frame.picture or frame.lines:
            made.real[name] = frame
    for index, frames in chosen.items():
        for frame in frames.values():
            fill(frame, files[index][frame.images], purse, made)
        kept = [frame for frame in frames.values() if frame.picture or frame.lines]
        for stop in (stop for frame in frames.values() if frame not in kept for stop in frame.stops if kept):
            min(kept, key=lambda frame: abs(frame.images - made.stops[stop])).stops.append(stop)
        if kept:
            made.frames[index] = kept
    return made


def stops(positions: Sequence[float], most: int) -> list[float]:
    """At most so many numbers of training images at which there are samples, spread over training, the last included.

    Every position that is near one of an even scale counts for it.
    """
    every = sorted(set(positions))
    if len(every) < 2:
        return every
    even, found = np.linspace(every[0], every[-1], most), every
    if len(every) > most:
        found = sorted({min(every, key=lambda images: abs(images - point)) for point in even})
    kept = found[:1]
    for images in found[1:]:  # runs need not have sampled at the very same numbers
        if images - kept[-1] >= (even[1] - even[0]) / 2:
            kept.append(images)
    return kept if kept[-1] == every[-1] else [*kept[: max(1, len(kept) - 1)], every[-1]]


def nearest(known: dict[float, Path], points: Sequence[float]) -> dict[float, Frame]:
    """For every stop the samples made nearest to it, each file once."""
    frames: dict[float, Frame] = {}
    for number, point in enumerate(points):
        images = min(known, key=lambda some: (abs(some - point), some))
        frames.setdefault(images, Frame(images, [])).stops.append(number)
    return frames


def fill(frame: Frame, file: Path, purse: Purse, made: Samples) -> None:
    """Puts what a file shows into a frame; a file that cannot be read is left out."""
    try:
        if file.suffix == ".txt":
            frame.lines = read_lines(file)
        else:
            if file.stat().st_size > LARGEST:
                raise Unreadable(f"larger than {LARGEST / 2**20:.0f} MiB")
            with warnings.catch_warnings(), why_unreadable():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                frame.picture, frame.size = purse.encode(open_image(file))
    except Exception as error:  # a picture that nobody thought of is no reason to have no page
        made.left_out.append(LeftOut(str(file), str(error) or type(error).__name__))


def read_lines(file: Path) -> list[str]:
    """The first lines of a text, not too long. Raises Unreadable."""
    if not file.is_file():
        raise Unreadable("is not a file")
    with file.open("rb") as source:
        lines = source.read(LARGEST_TEXT).decode(errors="replace").splitlines()
    if not lines:
        raise Unreadable("empty")
    return [clean(line, LONGEST_LINE) for line in lines[:LINES]]


def real_files(runs: Sequence[Run]) -> dict[str, Path]:
    """A file of real samples for every data set, by what the runs' settings call it."""
    found: dict[str, Path] = {}
    for run in runs:
        for suffix in ("png", "txt"):
            file = run.folder / SAMPLES / f"real.{suffix}"
            if os.path.isfile(file):
                parts = [(key.removeprefix("data."), text(value)) for key, value in data_of(run.settings).items()]
                words = [some.rpartition(".")[2] if key == "_target_" else f"{key} {some}" for key, some in parts]
                found.setdefault(clean(", ".join(words)) or f"data of {run.name}", file)
    return found
