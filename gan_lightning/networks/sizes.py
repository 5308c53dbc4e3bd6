"""The sizes of images that a family of networks is built for, and what halving makes of them."""

from collections.abc import Iterable


def check_size(
    image_size: int, networks: str, sizes: Iterable[int], *, for_points: str = "network@model=mlp_points"
) -> None:
    """Raises ValueError for a side that is none of `sizes`; for_points: what to use for points, if there is such."""
    if image_size not in (known := list(sizes)):
        points = f"; for points use {for_points}" if image_size == 1 and for_points else ""
        raise ValueError(f"image_size={image_size}: {networks} are built for {', '.join(map(str, known))}{points}")


def halved(side: int, times: int) -> int:
    """The side after so many halvings that are rounded up: 28, 14, 7, 4, 2."""
    return -(-side // 2**times)
