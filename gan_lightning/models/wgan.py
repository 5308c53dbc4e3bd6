"""WGAN — Arjovsky et al. 2017, "Wasserstein GAN".

The critic estimates the Wasserstein distance; its weights are clipped to a box, which bounds how steep it can be. It
takes several steps for each of the generator's, in the published code a hundred at first (`step.critic_burst=100`).

Differs from the paper: weights are clipped once at the start, too; samples come from a moving average of the generator.
(The published code clips before each step of the critic, so that the generator meets weights that are not clipped.)
"""

from typing import Any

import torch

from gan_lightning.models.gan import GAN
from gan_lightning.steps import PlayerName
from gan_lightning.types import PositiveFloat


class WGAN(GAN):
    """Wasserstein losses and clipped weights.

    Args:
        clip: c of algorithm 1: every weight of the critic stays in [-c, c].
    """

    def __init__(self, clip: PositiveFloat = 0.01, **base: Any) -> None:
        super().__init__(loss="wasserstein", **base)
        self.clip = clip
        self.clip_weights()

    def moved(self, player: PlayerName) -> None:
        if player == "discriminator":
            self.clip_weights()

    @torch.no_grad()
    def clip_weights(self) -> None:
        for parameter in self.discriminator.parameters():
            parameter.clamp_(-self.clip, self.clip)
