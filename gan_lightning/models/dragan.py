"""DRAGAN — Kodali et al. 2017, "On Convergence and Stability of GANs".

The first GAN's losses and a penalty that pulls the norm of the discriminator's gradient to 1 around the real images:
the authors lay mode collapse to sharp gradients there.

Differs from the paper: the penalty is where the published code has it, between a real image and the same one with noise
U[0, spread · standard deviation], the paper's at an image with Gaussian noise; it is on the gradient of the logit, as
WGAN-GP's; no batch normalisation in the discriminator, which would mix samples; samples come from a moving average of
the generator.
"""

from typing import Any

import torch

from gan_lightning.adversarial import Batch, Fakes
from gan_lightning.losses import Losses, Name
from gan_lightning.models.gan import GAN
from gan_lightning.penalties import gradient_penalty, refuse_mixing
from gan_lightning.types import NonNegativeFloat


class DRAGAN(GAN):
    """Any pair of losses and a gradient penalty near the data.

    Args:
        penalty_weight: λ.
        spread: the noise reaches so many standard deviations of the minibatch's pixels (0.5 in the published code).
    """

    penalised = True

    def __init__(
        self,
        loss: Name = "nonsaturating",
        penalty_weight: NonNegativeFloat = 10.0,
        spread: NonNegativeFloat = 0.5,
        **base: Any,
    ) -> None:
        super().__init__(loss=loss, **base)
        refuse_mixing(self.discriminator)
        self.penalty_weight = penalty_weight
        self.spread = spread

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        losses, real = super().discriminator_loss(batch, fakes), batch["image"]
        if not self.penalty_due:
            return losses
        near = real + self.spread * real.std() * torch.rand_like(real)  # (N, C, H, W)
        mixing = self.draw("mixing", len(real), lambda n, stream: torch.rand(n, generator=stream))  # (N,)
        penalty = gradient_penalty(lambda images: self.judge(images, batch.get("label")), real, near, mixing).mean()
        total = losses["loss"] + self.step.penalty_every * self.penalty_weight * penalty
        return losses | {"loss": total, "gradient_penalty": penalty}
