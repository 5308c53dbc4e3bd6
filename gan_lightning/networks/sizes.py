"""The sizes of images that a family of networks is built for."""

from collections.abc import Iterable


def check_size(image_size: int, networks: str, sizes: Iterable[int]) -> None:
    """Raises ValueError for a side that is none of `sizes`."""
    if image_size not in (known := list(sizes)):
        points = "; for points use network@model=mlp_points" if image_size == 1 else ""
        raise ValueError(f"image_size={image_size}: {networks} are built for {', '.join(map(str, known))}{points}")
