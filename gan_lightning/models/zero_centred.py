"""GANs with zero-centred gradient penalties — Mescheder et al. 2018, "Which Training Methods for GANs do actually
Converge?"

R1 pulls the discriminator's gradient to 0 at real images, R2 at fakes. With relativistic losses (`model=rpgan`) both
together make the game of R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!", section 2).

Differs from the papers: samples come from a moving average of the generator with a half-life of its own.
"""

from typing import Any

from gan_lightning.adversarial import Batch, Fakes
from gan_lightning.losses import Losses, Name
from gan_lightning.models.gan import GAN
from gan_lightning.penalties import r1, r2, refuse_mixing
from gan_lightning.types import NonNegativeFloat


class ZeroCentred(GAN):
    """Any pair of losses and the penalties γ/2 E‖∇D‖² on real images and on fakes.

    Args:
        r1_weight, r2_weight: γ of each; 0: without.
    """

    penalised = True

    def __init__(
        self,
        loss: Name = "relativistic",
        r1_weight: NonNegativeFloat = 1.0,
        r2_weight: NonNegativeFloat = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(loss=loss, **base)
        refuse_mixing(self.discriminator)
        self.r1_weight = r1_weight
        self.r2_weight = r2_weight

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        losses = super().discriminator_loss(batch, fakes)
        if not self.penalty_due:
            return losses
        total = losses["loss"]
        for name, penalty, weight, images, labels in (
            ("r1", r1, self.r1_weight, batch["image"], batch.get("label")),
            ("r2", r2, self.r2_weight, fakes, batch.get("fake_label")),
        ):
            if weight:
                losses[name] = penalty(lambda x, y=labels: self.judge(x, y), images).mean()
                total = total + self.step.penalty_every * weight / 2 * losses[name]
        return losses | {"loss": total}
