"""R3GAN — Huang et al. 2024, "The GAN is dead; long live the GAN! A Modern GAN Baseline".

Relativistic pairs with R1 and R2, without any other trick, on networks of today. The penalties' weight, Adam's second
beta, the half-life of the moving average and the probability of augmentation go from one value to another in half a
cosine over training, as the learning rate does.

Differs from the paper: its augmentation also cuts out squares and changes colours half as often; the schedule
of the learning rate counts generator steps, not images.
"""

from typing import Any

from gan_lightning.models.zero_centred import ZeroCentred
from gan_lightning.schedules import Ramp


class R3GAN(ZeroCentred):
    """Relativistic pairs, R1 and R2, and ramps over training images.

    Args:
        gamma: the weight of both penalties.
        beta2: of both optimizers; None: as they say.
        half_life: of the moving average, where there is one, in images; None: as it says.
        augmentation: the probability of ADA's pipeline, `ada.pipeline`; None: as it says.

    Raises ValueError where something is to be ramped that is not there.
    """

    no_graphs = "R3GAN's ramps change numbers on the host"

    def __init__(
        self,
        gamma: Ramp,
        beta2: Ramp | None = None,
        half_life: Ramp | None = None,
        augmentation: Ramp | None = None,
        **base: Any,
    ) -> None:
        super().__init__(loss="relativistic", r1_weight=gamma.start, r2_weight=gamma.start, **base)
        if self.step.compile:
            raise ValueError("step.compile=true: every weight of the penalties would be compiled anew")
        if augmentation and not self.augment.ada:
            raise ValueError("augmentation: there is nothing to ramp; set ada.pipeline")
        if augmentation and max(augmentation.start, augmentation.end) > 1:
            raise ValueError(f"augmentation.end={augmentation.end}: a probability")
        self.gamma, self.beta2, self.half_life, self.augmentation = gamma, beta2, half_life, augmentation

    def progressed(self, images: int) -> None:
        super().progressed(images)
        self.r1_weight = self.r2_weight = self.gamma(images)
        if self.beta2:
            for player in self.players.values():
                for group in player.optimizer.param_groups:
                    group["betas"] = (group["betas"][0], self.beta2(images))
        if self.half_life and self.ema is not None:
            self.ema.half_life = self.half_life(images)
        if self.augmentation and self.augment.ada:
            self.augment.ada.p.fill_(self.augmentation(images))
