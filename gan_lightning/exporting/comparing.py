"""A file beside the network that it was written of: how far apart they are, and no file where that is too far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_lightning.errors import UserError
from gan_lightning.exporting.graph import Graph

Run = Callable[[Sequence[Tensor]], Tensor]  # what a file makes of inputs


@dataclass(frozen=True)
class Difference:
    """Of all numbers that were compared, in what the network returns (or in uniform numbers, of tokens)."""

    largest: float
    mean: float
    batches: tuple[int, ...]

    def text(self) -> str:
        sizes = ", ".join(map(str, self.batches))
        return f"differs from torch by {self.largest:.1e} at most, {self.mean:.1e} on average (batches of {sizes})"


@torch.no_grad()
def compare(graph: Graph, run: Run, asked: str, tolerance: float) -> Difference:
    """Fresh inputs of several sizes through both. Raises UserError, with what was `asked`, above the tolerance."""
    largest, total, count, batches = 0.0, 0.0, 0, []
    for given in graph.tried():
        expected = graph(*given)
        try:
            made = run(given)
        except Exception as error:  # a runtime has errors of its own
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"{asked}: the file does not run for a batch of {len(given[0])}: {reason}") from error
        if made.shape != expected.shape or made.dtype != expected.dtype:
            shapes = f"{tuple(made.shape)} {made.dtype} and torch {tuple(expected.shape)} {expected.dtype}"
            raise UserError(f"{asked}: for a batch of {len(given[0])} the file makes {shapes}")
        apart = graph.differences(given, expected, made)
        largest = max(largest, float(apart.max())) if bool(apart.isfinite().all()) else float("inf")
        total, count = total + float(apart.sum()), count + apart.numel()
        batches.append(len(given[0]))
    found = Difference(largest, total / count, tuple(batches))
    if not found.largest <= tolerance:  # nan is no agreement
        raise UserError(f"tolerance={tolerance:g}: {asked} {found.text()}; nothing was written")
    return found
