"""Holes in images, drawn by a stream of random numbers: boxes, and the free-form brush of Yu et al. 2019.

A mask is bool (1, H, W), true in the hole. Its difficulty is the share of the image that it covers.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Shape = Literal["box", "brush", "both"]
LONGEST = 2.0  # sides of a box: at most so many times as long as the other
VERTICES = 4, 12  # of a stroke (as in the published code of Yu et al. 2019, for 256×256)
ANGLE, SPREAD = 2 * math.pi / 5, 2 * math.pi / 15
WIDTH = 12 / 256, 40 / 256  # of the brush, in sides of the image


@dataclass(frozen=True)
class Holes:
    """Which holes: their shape (`both`: a coin for each) and the range of their share of the image."""

    shape: Shape
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < 1:
            raise ValueError(
                f"share=[{self.low}, {self.high}]: must be two shares of the image in order, above 0 and below 1: "
                "a hole may not be larger than the image"
            )

    def draw(self, size: int, stream: torch.Generator) -> Tensor:
        """A mask (1, size, size)."""
        share, coin = torch.rand(2, generator=stream).tolist()
        pixels = round((self.low + (self.high - self.low) * share) * size**2)
        pixels = min(max(1, pixels), size**2 - 1)
        box = self.shape == "box" or (self.shape == "both" and coin < 0.5)
        return box_mask(size, pixels, stream) if box else brush_mask(size, pixels, stream)


def box_mask(size: int, pixels: int, stream: torch.Generator) -> Tensor:
    """A rectangle of about so many pixels anywhere in a square, (1, size, size); both its sides are rounded."""
    shape, across, down = torch.rand(3, generator=stream).tolist()
    ratio = LONGEST ** (2 * shape - 1)
    height = min(max(round(math.sqrt(pixels * ratio)), -(-pixels // size)), size)
    width = min(max(round(pixels / height), 1), size)
    top, left = int(down * (size - height + 1)), int(across * (size - width + 1))
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[:, top : top + height, left : left + width] = True
    return mask


def brush_mask(size: int, pixels: int, stream: torch.Generator) -> Tensor:
    """Strokes of a brush that cover exactly so many pixels of a square, (1, size, size).

    Yu et al. 2019, algorithm 1: a stroke is a chain of thick lines with round joints, whose angles turn back at every
    other vertex; one that leaves the image ends. Strokes are added until there are enough pixels; the last line ends
    where they are.
    """
    mask = np.zeros((size, size), np.bool_)
    left = pixels
    while left:
        vertices, x, y, wide, turned = torch.rand(5, generator=stream).tolist()
        x, y = x * size, y * size
        width = max(1.0, (WIDTH[0] + wide * (WIDTH[1] - WIDTH[0])) * size)
        count = VERTICES[0] + int(vertices * (VERTICES[1] - VERTICES[0] + 1))
        for vertex, (bend, far) in enumerate(torch.rand(count, 2, generator=stream).tolist()):
            angle = ANGLE + (2 * bend - 1) * SPREAD
            angle = 2 * math.pi * turned + (2 * math.pi - angle if vertex % 2 == 0 else angle)
            length = far * size / 2
            end = x + length * math.cos(angle), y + length * math.sin(angle)
            left -= add_line(mask, (x, y), end, width / 2, left)
            x, y = end
            if not (left and 0 <= x < size and 0 <= y < size):
                break
    return torch.from_numpy(mask)[None]


def add_line(
    mask: NDArray[np.bool_], start: tuple[float, float], end: tuple[float, float], radius: float, most: int
) -> int:
    """Covers a thick line with round ends in a mask (H, W), from its start on, `most` new pixels; returns how many."""
    size = len(mask)
    lows = [max(0, math.floor(min(pair) - radius)) for pair in zip(start, end, strict=True)]
    highs = [min(size, math.ceil(max(pair) + radius) + 1) for pair in zip(start, end, strict=True)]
    region = mask[lows[1] : highs[1], lows[0] : highs[0]]
    x = np.arange(lows[0], highs[0])[None] + 0.5 - start[0]  # (1, w), the pixels' middles
    y = np.arange(lows[1], highs[1])[:, None] + 0.5 - start[1]  # (h, 1)
    across, down = end[0] - start[0], end[1] - start[1]
    place = x * across + y * down  # (h, w)
    part = np.minimum(np.maximum(place / max(across**2 + down**2, 1e-9), 0), 1)  # np.clip is slower
    near = (x - part * across) ** 2 + (y - part * down) ** 2 <= radius**2
    new = near & ~region
    count = int(np.count_nonzero(new))
    if count > most:
        rows, columns = np.nonzero(new)
        chosen = np.argsort(place[rows, columns], kind="stable")[:most]
        region[rows[chosen], columns[chosen]] = True
        return most
    region |= new
    return count
