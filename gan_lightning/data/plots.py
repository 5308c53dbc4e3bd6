"""Pictures of points: axes, scatters, density maps and curves, drawn with NumPy and Pillow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Numbers = NDArray[np.floating[Any]]
Colour = tuple[int, int, int]

FINE = 2  # everything is drawn so many times as large, and made smaller at the end: smooth lines
INK, PALE, REAL = (40, 40, 40), (200, 200, 200), (205, 205, 205)
BLUE, GREEN = (31, 100, 180), (20, 140, 60)
HEAT = np.array([[255, 255, 255], [254, 217, 118], [252, 110, 50], [190, 10, 40], [70, 0, 50]])  # from none to most
BINS, BLUR = 110, 0.9  # of a density map: bins a side, and their smoothing in bins


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from low to high, at most `most` of them."""
    for power in range(math.floor(math.log10((high - low) / most)), 20):
        for digit in (1, 2, 5):
            step = digit * 10.0**power
            numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
            if len(numbers) <= most:
                return [number * step for number in numbers]
    raise ValueError(f"no ticks from {low} to {high}")


@dataclass(frozen=True)
class Axes:
    """A rectangle of a picture, in its pixels, and the ranges of x and y that it shows."""

    left: int
    top: int
    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Data coordinates -> fine pixels from the left and from the top."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0]) * self.width
        down = (self.y[1] - y) / (self.y[1] - self.y[0]) * self.height
        return (self.left + across) * FINE, (self.top + down) * FINE

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in fine pixels."""
        return (
            self.left * FINE,
            self.top * FINE,
            (self.left + self.width) * FINE,
            (self.top + self.height) * FINE,
        )


class Picture:
    """A white picture of width × height pixels that is drawn on, and read by `pixels`."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * FINE, height * FINE), (255, 255, 255))
        self.draw = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(11 * FINE)

    def pixels(self) -> Tensor:
        """uint8 (3, height, width)."""
        return torch.from_numpy(np.array(self.image.reduce(FINE))).permute(2, 0, 1)

    def text(self, x: float, y: float, text: str, anchor: str, colour: Colour = INK) -> None:
        """Text at a place in pixels; `anchor` as Pillow has it: "mt" is centred below."""
        self.draw.text((x * FINE, y * FINE), text, fill=colour, font=self.font, anchor=anchor)

    def frame(self, axes: Axes, title: str = "", y_ticks: Sequence[float] | None = None) -> None:
        """The border, ticks with numbers, and a title above."""
        left, top, right, bottom = axes.box
        self.draw.rectangle((left, top, right, bottom), outline=INK, width=FINE)
        for tick in ticks(*axes.x):
            across, _ = axes.place(tick, axes.y[0])
            self.draw.line((across, bottom, across, bottom + 4 * FINE), INK, FINE)
            self.text(across / FINE, axes.top + axes.height + 6, f"{tick:g}", "mt")
        for tick in ticks(*axes.y) if y_ticks is None else y_ticks:
            _, down = axes.place(axes.x[0], tick)
            self.draw.line((left - 4 * FINE, down, left, down), INK, FINE)
            self.text(axes.left - 6, down / FINE, f"{tick:g}", "rm")
        if title:
            self.text(axes.left + axes.width / 2, axes.top - 7, title, "ms")

    def scatter(self, axes: Axes, points: Numbers, colour: Colour, opacity: float, radius: float = 1.8) -> None:
        """Discs at points (N, 2); where more of them lie, the colour is fuller."""
        left, top, right, bottom = axes.box
        across, down = axes.place(points[:, 0], points[:, 1])
        reach = math.ceil(radius * FINE)
        steps = np.arange(-reach, reach + 1)
        disc = np.argwhere(np.add.outer(steps**2, steps**2) <= (radius * FINE) ** 2) - reach  # (P, 2)
        with np.errstate(invalid="ignore"):  # far points and NaN are outside
            inside = (across >= left) & (across < right) & (down >= top) & (down < bottom)
        columns = across[inside].astype(int)[:, None] + disc[:, 1]
        rows = down[inside].astype(int)[:, None] + disc[:, 0]
        kept = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
        cells = (rows[kept] - top) * (right - left) + columns[kept] - left
        counts = np.bincount(cells)
        painted = counts.nonzero()[0]
        share = 1 - (1 - opacity) ** counts[painted, None]  # (cells, 1)
        panel = np.array(self.image.crop(axes.box))  # (h, w, 3)
        flat = panel.reshape(-1, 3)
        flat[painted] = (flat[painted] + share * (np.array(colour) - flat[painted])).round()
        self.image.paste(Image.fromarray(panel), (left, top))

    def heat(self, axes: Axes, density: Numbers) -> None:
        """Numbers (BINS, BINS) from 0 to 1, by x and y -> colours; roots, so that little is seen too."""
        shown = np.sqrt(density.clip(0, 1)).T[::-1]  # rows from the top
        stops = np.linspace(0, 1, len(HEAT))
        colours = np.stack([np.interp(shown, stops, channel) for channel in HEAT.T], -1).round().astype(np.uint8)
        size = (axes.width * FINE, axes.height * FINE)
        self.image.paste(Image.fromarray(colours).resize(size, Image.Resampling.BILINEAR), axes.box[:2])

    def circles(self, axes: Axes, centres: Numbers, radius: float) -> None:
        """Thin circles of a radius in data coordinates around centres (K, 2)."""
        for x, y in centres:
            (left, bottom), (right, top) = axes.place(x - radius, y - radius), axes.place(x + radius, y + radius)
            self.draw.ellipse((left, top, right, bottom), outline=(130, 130, 130), width=1)

    def curve(
        self, axes: Axes, x: Numbers, y: Numbers, colour: Colour, width: float = 1.6, dash: float | None = None
    ) -> None:
        """A line through (x, y), cut off at the top; `dash`: pixels of a dash and of the gap after it."""
        across, down = axes.place(x, y.clip(*axes.y))
        length = np.concatenate([[0], np.hypot(np.diff(across), np.diff(down)).cumsum()])
        every = np.arange(0, length[-1], 1.0)
        places = np.stack([np.interp(every, length, across), np.interp(every, length, down)], -1)  # (L, 2)
        pieces = (
            [places] if dash is None else np.split(places, range(round(dash * FINE), len(places), round(dash * FINE)))
        )
        for piece in pieces[:: 1 if dash is None else 2]:
            self.draw.line([tuple(place) for place in piece], colour, round(width * FINE), joint="curve")


def density_map(points: Numbers, axes: Axes) -> Numbers:
    """The smoothed share of points (N, 2) in each bin of the axes: (BINS, BINS), by x and y."""
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], BINS, (axes.x, axes.y))
    distance = np.subtract.outer(np.arange(BINS), np.arange(BINS))
    blur = np.exp(-0.5 * (distance / BLUR) ** 2)
    blur /= blur.sum(1, keepdims=True)
    return blur @ counts @ blur.T / len(points)
