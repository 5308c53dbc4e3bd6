"""Activation checkpointing: blocks whose activations are computed again in the backward pass, to save memory.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". Of each block its input alone is kept. What it drew
is drawn again, BatchNorm's running statistics are followed once, and spectral norm takes the vectors that it had, so
that gradients are those of a step that keeps everything.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.utils.checkpoint import checkpoint

from gan_lightning.ema import batch_norms


class Recomputable(nn.Module):
    """A part of a network that keeps no activations where `recompute` is true."""

    recompute = False

    def __call__(self, *inputs: Any) -> Any:
        if not self.recompute or not torch.is_grad_enabled():
            return super().__call__(*inputs)
        again = Again(self)
        outputs = checkpoint(super().__call__, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), again))
        again.remember()
        return outputs


def recompute_blocks(network: nn.Module) -> int:
    """Sets `recompute` in all blocks of a network; how many there are."""
    found = [module for module in network.modules() if isinstance(module, Recomputable)]
    for block in found:
        block.recompute = True
    return len(found)


class Again(AbstractContextManager[None]):
    """What surrounds every further pass through a block: its layers as they were in the first, and left as they are."""

    def __init__(self, block: nn.Module) -> None:
        self.norms = [module for module in block.modules() if isinstance(module, _SpectralNorm)]
        self.followed = [layer for layer in batch_norms(block) if layer.training]
        self.settings = [(layer.momentum, layer.num_batches_tracked) for layer in self.followed]
        self.then: list[tuple[Tensor, Tensor, bool]] = []
        self.now: list[tuple[Tensor, Tensor, bool]] = []

    def remember(self) -> None:
        """Spectral norm's vectors after the first pass; in eval mode they stay."""
        self.then = [(norm._u.clone(), norm._v.clone(), False) for norm in self.norms]

    def __enter__(self) -> None:
        self.now = [(norm._u, norm._v, norm.training) for norm in self.norms]
        self.set(self.then)
        for layer in self.followed:
            layer.momentum, layer.num_batches_tracked = 0.0, None

    def __exit__(self, *error: object) -> None:
        self.set(self.now)
        for layer, (momentum, count) in zip(self.followed, self.settings, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count

    def set(self, vectors: list[tuple[Tensor, Tensor, bool]]) -> None:
        for norm, (u, v, training) in zip(self.norms, vectors, strict=True):
            norm._u, norm._v, norm.training = u, v, training
