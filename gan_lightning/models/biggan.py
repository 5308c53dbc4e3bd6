"""BigGAN — Brock et al. 2019, "Large Scale GAN Training for High Fidelity Natural Image Synthesis".

The hinge game by class on large networks, with a penalty on the generator's weights for filters that resemble one
another, so that its images stay good when latents are truncated (sampled nearer to 0 than in training).

Differs from the paper: BatchNorm sees the minibatch of one device (`trainer.sync_batchnorm=true`: of all, as there).
The authors' PyTorch code adds half of eq. 3's gradient; its published runs were without it, as both experiments are.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.adversarial import Batch
from gan_lightning.losses import Losses, Name
from gan_lightning.models.cgan import ConditionalGAN
from gan_lightning.networks.conditional import LabelEmbedding
from gan_lightning.types import NonNegativeFloat


class BigGAN(ConditionalGAN):
    """Hinge losses and orthogonal regularisation.

    Args:
        orthogonal_weight: β of eq. 3; 0: without.
    """

    regularised = True

    def __init__(self, loss: Name = "hinge", orthogonal_weight: NonNegativeFloat = 1e-4, **base: Any) -> None:
        super().__init__(loss=loss, **base)
        self.orthogonal_weight = orthogonal_weight

    def generator_loss(self, batch: Batch, fakes: Tensor) -> Losses:
        losses = super().generator_loss(batch, fakes)
        if not self.orthogonal_weight or not self.generator_penalty_due:
            return losses
        penalty = orthogonal_penalty(self.generator)
        total = losses["loss"] + self.step.generator_penalty_every * self.orthogonal_weight * penalty
        return losses | {"loss": total, "orthogonal_penalty": penalty}


def orthogonal_penalty(network: nn.Module) -> Tensor:
    """Brock et al. 2019, eq. 3: Σ_W ‖WᵀW ⊙ (1 - I)‖²_F over the weights, whose filters W has as columns -> ().

    W is (inputs · kernel, filters), as it is learned: before spectral normalisation. Embeddings of labels have none.
    """
    embeddings = {id(p) for m in network.modules() if isinstance(m, LabelEmbedding) for p in m.parameters()}
    weights = [p for p in network.parameters() if p.dim() > 1 and id(p) not in embeddings]
    with torch.autocast(weights[0].device.type, enabled=False):
        return torch.stack([alikeness(weight.flatten(1).float()) for weight in weights]).sum()


def alikeness(filters: Tensor) -> Tensor:
    """Σ_{i≠j} <f_i, f_j>² of filters f (filters, inputs) -> ()."""
    count, inputs = filters.shape
    if count <= inputs:
        return 2 * (filters @ filters.T).triu(1).square().sum()
    # ‖F Fᵀ‖ = ‖Fᵀ F‖: the smaller product, for the first layer has 256 · base_channels filters
    return (filters.T @ filters).square().sum() - filters.square().sum(1).square().sum()
