"""BEGAN — Berthelot et al. 2017, "BEGAN: Boundary Equilibrium Generative Adversarial Networks".

The discriminator is an autoencoder that is to restore real images well and fakes badly; a number k weighs the two so
that the error on fakes is γ times that on real images, which trades variety for quality.

Differs from the paper: sizes other than 32 to 128; learning rates do not fall when the measure of convergence stalls;
samples come from a moving average of the generator.
"""

from typing import Any

import torch
from torch import Tensor

from gan_lightning.adversarial import AdversarialModule, Batch, Distribution, Fakes
from gan_lightning.losses import Losses
from gan_lightning.steps import PlayerName
from gan_lightning.types import Fraction, NonNegativeFloat


class BEGAN(AdversarialModule):
    """Losses of section 3.4.

    Args:
        balance: γ, the error on fakes over that on real images; with smaller ones fakes look better and differ less.
        gain: λ_k, how fast k follows.
        latents: U(-1, 1) in the paper.
    """

    k: Tensor
    errors: Tensor  # of the steps under way, the discriminator's on real images and the generator's on fakes
    on_real: Tensor  # of the discriminator's last step

    def __init__(
        self,
        balance: Fraction = 0.5,
        gain: NonNegativeFloat = 0.001,
        latents: Distribution = "uniform",
        **base: Any,
    ) -> None:
        super().__init__(latents=latents, **base)
        if self.step.generator_batch > 1:
            raise ValueError(f"step.generator_batch={self.step.generator_batch}: BEGAN's k compares equal minibatches")
        self.balance = balance
        self.gain = gain
        self.register_buffer("k", torch.zeros(()))  # k_0 = 0
        self.register_buffer("errors", torch.zeros(2), persistent=False)
        self.register_buffer("on_real", torch.zeros(()))

    def judge(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """L of eq. 1 with η = 1, the mean absolute error of the restored image: (N, C, H, W) -> (N,)."""
        seen = self.view(images)
        restored = self.discriminator(seen, labels if self.classes else None)
        if restored.shape != seen.shape:
            raise ValueError(f"{type(self.discriminator).__name__} restores no images, as BEGAN needs")
        return (restored.float() - seen.float()).abs().mean((1, 2, 3))

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        on_real = self.judge(batch["image"], batch.get("label")).mean()
        on_fake = self.judge(fakes, batch.get("fake_label")).mean()
        measure = on_real + (self.balance * on_real - on_fake).abs()  # M_global of section 3.4.1
        return {
            "loss": on_real - self.k * on_fake,
            "loss_real": on_real,
            "loss_fake": on_fake,
            "convergence": measure,
            "k": self.k.clone(),
        }

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        return {"loss": self.judge(fakes, batch.get("fake_label")).mean()}

    def descend(self, player: PlayerName, losses: Losses) -> None:
        """Also sums what k goes by over an accumulated step."""
        super().descend(player, losses)
        place, error = (0, losses["loss_real"]) if player == "discriminator" else (1, losses["loss"])
        self.errors[place] += error.detach() / self.step.accumulate

    def moved(self, player: PlayerName) -> None:
        """k_{t+1} = k_t + λ_k (γ L(x) - L(G(z))), in [0, 1]; the same on all devices."""
        if player == "discriminator":
            self.on_real.copy_(self.errors[0])
            self.errors[0] = 0
        else:
            error = self.balance * self.on_real - self.errors[1]
            error = self.trainer.strategy.reduce(error, reduce_op="mean")
            self.k.add_(self.gain * error).clamp_(0, 1)
            self.errors[1] = 0
