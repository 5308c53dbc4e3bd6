"""The average of the generator's weights that samples and scores are made from, and its BatchNorm statistics.

Averaging: Yazıcı et al. 2019. Half-life in images and ramp-up: the code of StyleGAN2-ADA (Karras et al. 2020).
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan_lightning.types import NonNegativeFloat, PositiveFloat


class EMA(nn.Module):
    """A copy of the generator whose weights follow the original's, always in eval mode and without gradients."""

    def __init__(self, generator: nn.Module, half_life: PositiveFloat, ramp_up: NonNegativeFloat | None = 0.05) -> None:
        """half_life: in images; ramp_up: the half-life is at most this fraction of the images seen so far."""
        super().__init__()
        self.generator = copy.deepcopy(generator).requires_grad_(False)
        self.half_life = half_life
        self.ramp_up = ramp_up
        self.eval()

    def train(self, mode: bool = True) -> "EMA":
        """Stay in eval mode: Lightning switches the whole module to train mode at every epoch."""
        super().train(False)
        return self

    def decay(self, images: int, images_seen: int) -> float:
        """What is kept of the average after a step on `images` images: half after every half-life."""
        half_life = self.half_life if self.ramp_up is None else min(self.half_life, self.ramp_up * images_seen)
        return 0.5 ** (images / max(half_life, 1e-8))

    @torch.no_grad()
    def update(self, generator: nn.Module, images: int, images_seen: int) -> None:
        """average ← decay · average + (1 - decay) · weights; buffers (BatchNorm's statistics, counters) are copied."""
        # torch._foreach_*: one launch for all tensors; torch.optim uses them, pyright only does not see them exported
        averages: list[Tensor] = list(self.generator.parameters())
        weights: list[Tensor] = list(generator.parameters())
        torch._foreach_lerp_(averages, weights, 1 - self.decay(images, images_seen))  # pyright: ignore[reportPrivateImportUsage]
        kept, buffers = list(self.generator.buffers()), list(generator.buffers())
        if buffers:
            torch._foreach_copy_(kept, buffers)  # pyright: ignore[reportPrivateImportUsage]


def evaluating(network: nn.Module) -> nn.Module:
    """The network if it is in eval mode, else a copy that is: it may be in training."""
    return copy.deepcopy(network).eval() if any(module.training for module in network.modules()) else network


@torch.no_grad()
def with_fresh_statistics(generator: nn.Module, inputs: Sequence[tuple[Tensor | None, ...]]) -> nn.Module:
    """A copy in eval mode whose BatchNorm statistics are averaged over `inputs`: tuples (z (N, latent_size), y (N,)).

    The running statistics belong to the weights of the last steps, not to their average: Izmailov et al. 2018,
    section 3.2. Without BatchNorm: the generator itself if it is in eval mode, else a copy that is. The mode and the
    statistics of the generator given never change: it may be in training.
    """
    if not batch_norms(generator):
        return evaluating(generator)
    if not inputs:
        raise ValueError("inputs=[]: BatchNorm statistics need at least one batch")
    network = copy.deepcopy(generator).eval()
    layers = batch_norms(network)
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average of all batches
        layer.train()  # these layers alone: dropout stays off
    for arguments in inputs:
        network(*arguments)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return network.eval()


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers that keep running statistics."""
    return [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
