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
    indices = torch.cat([block.topk(count, largest=False)[1] for block in distances(queries, references)])
    pairs = zip(queries.split(BLOCK), indices.split(BLOCK), strict=True)  # once more: matrix products leave 1e-7 for 0
    exact = [(references[index].double() - block[:, None].double()).norm(dim=2) for block, index in pairs]
    return torch.cat(exact), indices


def radii(features: Tensor, neighbour: int) -> Tensor:
    """Distance of every feature (N, D) to its `neighbour`-th nearest other: (N,). Raises ValueError for too few."""
    if len(features) <= neighbour:
        raise ValueError(f"k={neighbour}: {len(features)} samples have no {neighbour} neighbours each")
    count = neighbour + 1  # the first is itself
    return torch.cat([block.topk(count, largest=False)[0][:, -1] for block in distances(features, features)])
