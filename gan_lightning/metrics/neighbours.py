"""Nearest neighbours and counts in balls, in blocks and in float64: what several metrics are made of."""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1000  # rows of a distance matrix held at a time


def distances(queries: Tensor, references: Tensor) -> Iterator[Tensor]:
    """Euclidean distances of (N, D) to (M, D), some rows at a time: (up to BLOCK, M) float64."""
    references = references.double()
    for block in queries.double().split(BLOCK):
        yield torch.cdist(block, references)


def nearest(queries: Tensor, references: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """Distances and indices of the `count` nearest references of every query, nearest first: both (N, count)."""
    found = [block.topk(count, largest=False) for block in distances(queries, references)]
    return torch.cat([values for values, _ in found]), torch.cat([indices for _, indices in found])


def radii(features: Tensor, neighbour: int) -> Tensor:
    """Distance of every feature (N, D) to its `neighbour`-th nearest other: (N,). Raises ValueError for too few."""
    if len(features) <= neighbour:
        raise ValueError(f"k={neighbour}: {len(features)} samples have no {neighbour} neighbours each")
    return nearest(features, features, neighbour + 1)[0][:, -1]  # the first is itself
