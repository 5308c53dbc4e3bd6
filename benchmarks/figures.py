"""Pictures of the leaderboard: a gallery with a grid a rule, and FID over training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_lightning.callbacks.samples import save
from gan_lightning.checkpoint import position
from gan_lightning.data.plots import FINE, Axes, Picture

ROWS, COLUMNS = 4, 6  # samples of a rule in the gallery
SHOWN, TITLE = 8, 18  # samples in a row of the grids that runs draw; pixels of a name
LINE = 13  # pixels between names beside curves
ACROSS = 6  # rules in a row of the gallery
COLOURS = ((31, 100, 180), (220, 100, 20), (20, 140, 60), (190, 30, 40), (120, 80, 170), (120, 80, 60), (200, 80, 160))


def newest(run: Path) -> Path:
    """The last grid of a run: of the moving average, where there is one."""
    folder = run / "samples"
    return max(list(folder.glob("e*_ema.png")) or list(folder.glob("e*_raw.png")), key=position)


def gallery(runs: Mapping[str, Path], path: Path) -> None:
    """The first samples of every run, by its name."""
    tiles = []
    for run in runs.values():
        with Image.open(newest(run)) as grid:
            cell = (grid.width - 2) // SHOWN
            tiles.append(grid.convert("RGB").crop((0, 0, COLUMNS * cell + 2, ROWS * cell + 2)))
    width, height = tiles[0].width + 10, tiles[0].height + TITLE + 6
    picture = Picture(ACROSS * width, -(-len(tiles) // ACROSS) * height)
    for index, (name, tile) in enumerate(zip(runs, tiles, strict=True)):
        row, column = divmod(index, ACROSS)
        picture.text(column * width + 5, row * height + TITLE - 3, name, "ls")
        large = tile.resize((tile.width * FINE, tile.height * FINE), Image.Resampling.NEAREST)
        picture.image.paste(large, ((column * width + 5) * FINE, (row * height + TITLE) * FINE))
    save(picture.pixels(), path)


def curves(
    groups: Sequence[Mapping[str, Sequence[tuple[int, float]]]],
    path: Path,
    labels: Sequence[str],
    *,
    from_zero: bool = True,
) -> None:
    """Panels of lines over training images, each with axes and a label of its own."""
    side, gap = 300, 180
    picture = Picture(len(groups) * (side + gap) + 40, side + 60)
    for index, (group, label) in enumerate(zip(groups, labels, strict=True)):
        last = max(images for points in group.values() for images, _ in points)
        values = [value for points in group.values() for _, value in points]
        spare = 0.05 * (max(values) - (0 if from_zero else min(values)))
        low = 0 if from_zero else min(values) - spare
        ordered = sorted(group.items(), key=lambda item: -item[1][-1][1])
        axes = Axes(46 + index * (side + gap), 26, side, side, (0, last / 1000), (low, max(values) + spare))
        picture.frame(axes, f"{label}, over thousands of images")
        ends = [axes.place(0, points[-1][1])[1] / FINE for _, points in ordered]
        places = apart(ends, LINE, axes.top + side)
        numbers = {name: number for number, name in enumerate(groups[0])}  # a name has one colour in all panels
        for (name, points), place in zip(ordered, places, strict=True):
            number = numbers.setdefault(name, len(numbers))
            x, y = (np.array(values, dtype=float) for values in zip(*points, strict=True))
            colour = COLOURS[number % len(COLOURS)]
            picture.curve(axes, x / 1000, y, colour, dash=None if number < len(COLOURS) else 4)
            picture.text(axes.left + side + 6, place, f"{name} {y[-1]:.3g}", "lm", colour)
    save(picture.pixels(), path)


def apart(places: Sequence[float], least: float, bottom: float) -> list[float]:
    """Places from the top down, moved so that they are `least` apart and none is below `bottom`."""
    moved: list[float] = []
    for place in places:
        moved.append(max([place, *(other + least for other in moved[-1:])]))
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], bottom if index == len(moved) - 1 else moved[index + 1] - least)
    return moved


def mean_curve(runs: Sequence[Sequence[tuple[int, float]]]) -> list[tuple[int, float]]:
    """The mean over runs, at the places of the shortest."""
    length = min(len(run) for run in runs)
    values: Tensor = torch.tensor([[value for _, value in run[:length]] for run in runs])
    return [(images, float(value)) for (images, _), value in zip(runs[0], values.mean(0), strict=False)]
