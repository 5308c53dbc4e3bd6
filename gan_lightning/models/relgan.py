"""RelGAN — Nie, Narodytska & Patel 2019, "RelGAN: Relational Generative Adversarial Networks for Text Generation".

The generator, a relational memory, first learns to predict each next token. Then both play on texts that are drawn with
Gumbel noise and given to the discriminator as softmax(β (logits + noise)), near one-hot, so that gradients reach the
generator. It judges each of its representations of a text by itself, in pairs of real and fake. β grows.

Differs from the paper: tokens after a sentence do not count in pre-training, and are exact zeros in the game;
the memory's normalisations are of each row by itself (Santoro et al. 2018), in the published code of all rows together;
the generator moves after the discriminator's steps, on the last one's minibatch, in the code before them, on one of its
own; the generator's optimizer begins the game anew; β follows the discriminator's real texts; the default networks are
smaller (`experiment=relgan_oracle` and `relgan_coco` have the published sizes).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from gan_lightning.adversarial import Batch, Fakes, Latents
from gan_lightning.losses import Losses
from gan_lightning.sequences import TextRule, finished
from gan_lightning.types import NonNegativeInt, PositiveFloat, PositiveInt

Growth = Literal["none", "linear", "exponential", "logarithmic", "sigmoid", "quadratic", "root"]
STEPS = 5000  # over which the published code lets β grow; the logarithm depends on it
SHARES: dict[str, Callable[[float], float]] = {  # of the way from 1 to the largest β
    "none": lambda t: 1.0,
    "linear": lambda t: t,
    "logarithmic": lambda t: math.log(1 + t * (STEPS - 1)) / math.log(STEPS),
    "sigmoid": lambda t: 1 / (1 + math.exp(10 - 20 * t)),
    "quadratic": lambda t: t**2,
    "root": lambda t: t**0.5,
}


def grown(growth: Growth, largest: float, progress: float) -> float:
    """The inverse temperature β after this share (from 0 to 1) of the time in which it grows to `largest`.

    Nie et al. 2019, section 2.4 and appendix: exponential is largest ** progress, the others go from 1 to `largest`
    ("none": it is there at once). The published code has the same, by the number n of steps of N.
    """
    progress = min(max(progress, 0.0), 1.0)
    return largest**progress if growth == "exponential" else 1 + (largest - 1) * SHARES[growth](progress)


class RelGAN(TextRule):
    """Pre-training by likelihood, then a game with a relaxed choice of tokens.

    Args:
        pretraining_images: texts that the generator is shown before the discriminator moves; 0: none; None: it never
            does.
        pretraining_rate: times the learning rate, until then (1e-2 and 1e-4 in the paper).
        inverse_temperature: the largest β (1 or 2 for the oracle's data, 100 or 1000 for sentences).
        growth: how β grows to it.
        growth_images: real texts that the discriminator is shown until then.

    Raises ValueError for a generator that cannot relax its choices, where there is a game.
    """

    inverse: Tensor

    def __init__(
        self,
        pretraining_images: NonNegativeInt | None,
        pretraining_rate: PositiveFloat = 100.0,
        inverse_temperature: PositiveFloat = 100.0,
        growth: Growth = "exponential",
        growth_images: PositiveInt = 1_600_000,
        **base: Any,
    ) -> None:
        super().__init__(pretraining_images, **base)
        if pretraining_images is not None and not hasattr(self.generator, "relaxed"):
            raise ValueError(
                f"generator: {type(self.generator).__name__} cannot relax its choice of tokens; use "
                "network@model=relgan or relgan_transformer"
            )
        self.phases = [
            replace(phase, rate=pretraining_rate) if phase.name == "likelihood" else phase for phase in self.phases
        ]
        self.largest = inverse_temperature
        self.growth: Growth = growth
        self.growth_images = growth_images
        self.register_buffer("inverse", torch.ones(()), persistent=False)  # β; a tensor, for CUDA graphs

    def progressed(self, images: int) -> None:
        super().progressed(images)
        shown = self.counters.phase_images if self.phase.name == "adversarial" else 0
        self.inverse.fill_(grown(self.growth, self.largest, shown / self.growth_images))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.progressed(self.counters.images)  # losses of held-out texts have the β of the checkpoint

    def generate(self, batch: Batch, latents: Latents) -> Fakes:
        """ "image" (N, L), the tokens, and "relaxed" (N, L, V); what is drawn is torch's own noise."""
        if not self.phases[-1].fakes:  # without a game the generator need not relax its choice
            return super().generate(batch, latents)
        generator: Any = self.generator
        tokens, relaxed = generator.relaxed(len(latents), self.inverse)
        if self.ends:
            tokens, relaxed = finished(tokens, relaxed)
        return {"image": tokens, "relaxed": relaxed}

    def judge(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Tokens (N, L) or relaxed (N, L, V) -> logits of all representations, (N · R,)."""
        if not hasattr(self.discriminator, "representations"):
            return self.discriminator(images)
        return self.discriminator(images, separate=True).flatten()

    def verdicts(self, images: Tensor, latents: Latents, labels: Tensor | None) -> Tensor:
        return self.judge(images, labels).view(len(images), -1).mean(1)

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """Nie et al. 2019, section 2.3: -E[log sigmoid(D(x) - D(G))], of each representation."""
        losses = super().discriminator_loss(batch, fakes["relaxed"])
        return losses | {"inverse_temperature": self.inverse.clone()} if self.log_due else losses

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """The same with real and fake swapped."""
        return super().generator_loss(batch, fakes["relaxed"])
