"""WGAN-GP — Gulrajani et al. 2017, "Improved Training of Wasserstein GANs".

The critic estimates the Wasserstein distance; a penalty pulls the norm of its gradient to 1 between real and generated
images. It takes several steps for each of the generator's (`step.critic_steps`).

Differs from the paper: DCGAN-shaped networks by default (layer normalisation in the critic, as the paper advises
instead of batch normalisation); samples come from a moving average of the generator.
"""

from typing import Any

import torch
from torch import Tensor

from gan_lightning.adversarial import Batch
from gan_lightning.losses import Losses
from gan_lightning.models.gan import GAN
from gan_lightning.penalties import gradient_penalty, refuse_mixing
from gan_lightning.types import NonNegativeFloat, PositiveFloat


class WGANGP(GAN):
    """Wasserstein losses and the gradient penalty.

    Args:
        penalty_weight: λ of algorithm 1.
        one_sided: penalise only norms above 1.
        target: γ of Karras et al. 2018, the norm that gradients are pulled to.
    """

    penalised = True
    same_labels = True  # as in the published code: a mixture of two images has one label

    def __init__(
        self, penalty_weight: NonNegativeFloat = 10.0, one_sided: bool = False, target: PositiveFloat = 1.0, **base: Any
    ) -> None:
        super().__init__(loss="wasserstein", **base)
        refuse_mixing(self.discriminator)
        self.penalty_weight = penalty_weight
        self.one_sided = one_sided
        self.target = target

    def discriminator_loss(self, batch: Batch, fakes: Tensor) -> Losses:
        losses = super().discriminator_loss(batch, fakes)
        if not self.penalty_due:
            return losses
        mixing = self.draw("mixing", len(fakes), lambda n, stream: torch.rand(n, generator=stream))  # ε, (N,)
        penalty = gradient_penalty(
            lambda images: self.judge(images, batch.get("label")),
            batch["image"],
            fakes,
            mixing,
            one_sided=self.one_sided,
            target=self.target,
        ).mean()
        return losses | {
            "loss": losses["loss"] + self.step.penalty_every * self.penalty_weight * penalty,
            "gradient_penalty": penalty,
        }

    def scored(self, on_real: Tensor, on_fake: Tensor) -> Losses:
        losses = super().scored(on_real, on_fake)
        return losses | {"distance": -losses["loss"]}
