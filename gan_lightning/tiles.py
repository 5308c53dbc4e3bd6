"""Images of any size through a network that takes sides of a multiple, whole or in tiles that overlap."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

Network = Callable[[Tensor], Tensor]  # (1, C, H, W) -> (1, C', s·H, s·W)


def padded(network: Network, image: Tensor, multiple: int, smallest: int = 1) -> Tensor:
    """`network` of an image (1, C, H, W) of any size: edges are repeated up to a multiple, what follows is cut off.

    smallest: a multiple as well; sides have so many pixels or more.
    """
    height, width = image.shape[-2:]
    below, right = (max(-side % multiple, smallest - side) for side in (height, width))
    made = network(functional.pad(image, (0, right, 0, below), mode="replicate"))
    scale = made.shape[-1] // (width + right)
    return made[..., : scale * height, : scale * width]


def tiled(network: Network, image: Tensor, multiple: int, tile: int, overlap: int, smallest: int = 1) -> Tensor:
    """The same in tiles of at most `tile` pixels a side, neighbours sharing `overlap`: (1, C, H, W) -> (1, C', sH, sW).

    The outer quarter of the shared pixels, which saw too little of the image, is left out, and one tile fades into the
    other over the rest. Networks that see no further than that quarter give what they give of the whole image.
    Raises ValueError where tiles do not advance.
    """
    if overlap >= tile:
        raise ValueError(f"overlap={overlap}: must be less than tile={tile}")
    rows, columns = (starts(side, tile, overlap, multiple) for side in image.shape[-2:])
    if len(rows) == len(columns) == 1:
        return padded(network, image, multiple, smallest)
    made = weights = torch.empty(0)
    for top, left in product(rows, columns):
        part = image[..., top : top + tile, left : left + tile]
        found = padded(network, part, multiple, smallest)
        scale = found.shape[-1] // part.shape[-1]
        if not made.numel():
            made = found.new_zeros(*found.shape[:2], scale * image.shape[-2], scale * image.shape[-1])
            weights = torch.zeros_like(made[:, :1])
        ends = (top, part.shape[-2], image.shape[-2]), (left, part.shape[-1], image.shape[-1])
        down, across = (fade(start, size, side, overlap, scale) for start, size, side in ends)
        weight = (down[:, None] * across).to(found)
        place = (..., slice(scale * top, None), slice(scale * left, None))
        made[place][..., : found.shape[-2], : found.shape[-1]] += weight * found
        weights[place][..., : found.shape[-2], : found.shape[-1]] += weight
    return made / weights


def starts(side: int, tile: int, overlap: int, multiple: int) -> list[int]:
    """Where tiles begin, the last one so that it reaches the end of the side.

    At multiples, where tiles are large enough: a network that halves an image and doubles it makes something else of
    one that is moved by less.
    """
    last, step = max(side - tile, 0), tile - overlap
    if step >= multiple:
        last, step = last + -last % multiple, step // multiple * multiple
    return [*range(0, last, step), last]


def fade(start: int, size: int, side: int, overlap: int, scale: int) -> Tensor:
    """Weights (scale · size,) of a tile that begins at `start`: 1, falling to 0 where a neighbour takes over."""
    places = (torch.arange(scale * size) + 0.5) / scale
    margin = overlap / 4
    weight = torch.ones_like(places)
    if start > 0:
        weight = weight * ((places - margin) / (overlap / 2)).clamp(0, 1)
    if start + size < side:
        weight = weight * ((size - places - margin) / (overlap / 2)).clamp(0, 1)
    return weight
