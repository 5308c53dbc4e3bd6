"""TextGAN — Zhang et al. 2017, "Adversarial Feature Matching for Text Generation".

The generator makes the distribution of the discriminator's features on fakes that of real sentences, as far as a kernel
can tell (the squared maximum mean discrepancy, MMD). The discriminator tells real from fake, guesses the code that a
fake was made of, and spreads its features so that the MMD is large.

Differs from the paper: a fake is drawn from the generator's distribution given its code, by Gumbel noise in the soft
argmax, where the paper takes the most probable tokens; so pre-training is by likelihood alone, with codes drawn at
random, where the paper's is that of an autoencoder, and the discriminator has none (the paper's tells sentences from
those with two words exchanged); tokens after the end of a sentence do not count; the kernel is a mean of Gaussians of
some widths; the soft argmax is softer (`model.inverse_temperature`: 1000 in the code, where gradients vanish); both
players move at every minibatch; the generator's optimizer begins the game anew; the default networks are smaller.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from gan_lightning.adversarial import Batch, Fakes, Latents
from gan_lightning.discrepancy import gaussian_mmd
from gan_lightning.losses import Losses
from gan_lightning.sequences import TextRule, finished, negative_log_likelihood
from gan_lightning.types import NonNegativeFloat, NonNegativeInt, PositiveFloat


class TextGAN(TextRule):
    """Pre-training by likelihood, then feature matching with a kernel.

    `nll` is that of the sentences given the mean code, 0.

    Args:
        pretraining_images: sentences that the generator is shown before the discriminator moves; 0: none; None: it
            never does.
        pretraining_rate: times the learning rate, until then.
        inverse_temperature: of the soft argmax, L in the paper.
        bandwidths: σ of the kernel's Gaussians.
        reconstruction_weight, matching_weight: λ_r and λ_m, in the discriminator's loss.

    Raises ValueError for networks without a code, or with codes of two sizes.
    """

    def __init__(
        self,
        pretraining_images: NonNegativeInt | None,
        pretraining_rate: PositiveFloat = 100.0,
        inverse_temperature: PositiveFloat = 2.0,
        bandwidths: Sequence[PositiveFloat] = (2.0, 5.0, 10.0, 20.0),
        reconstruction_weight: NonNegativeFloat = 0.001,
        matching_weight: NonNegativeFloat = 0.001,
        **base: Any,
    ) -> None:
        super().__init__(pretraining_images, **base)
        self.phases = [
            replace(phase, rate=pretraining_rate) if phase.name == "likelihood" else phase for phase in self.phases
        ]
        if not bandwidths:
            raise ValueError("bandwidths=[]: the kernel needs one at least")
        codes = [getattr(network, "code", None) for network in (self.generator, self.discriminator)]
        for name, code in zip(("generator", "discriminator"), codes, strict=True):
            if code is None:
                raise ValueError(f"{name}: {type(getattr(self, name)).__name__} has no code; use network@model=textgan")
        if codes[0] != codes[1]:
            raise ValueError(f"discriminator.code={codes[1]}: the generator's is {codes[0]}")
        self.inverse_temperature = inverse_temperature
        self.bandwidths = list(bandwidths)
        self.reconstruction_weight = reconstruction_weight
        self.matching_weight = matching_weight

    def generate(self, batch: Batch, latents: Latents) -> Fakes:
        """ "image" (N, L), the tokens, and "relaxed" (N, L, V); what is drawn is torch's own noise."""
        generator: Any = self.generator
        tokens, relaxed = generator.relaxed(latents, self.inverse_temperature)
        if self.ends:
            tokens, relaxed = finished(tokens, relaxed)
        return {"image": tokens, "relaxed": relaxed}

    def likelihood_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """That of TextRule, given codes that have nothing to do with the sentences."""
        generator: Any = self.generator
        given = SimpleNamespace(logits=partial(generator.logits, code=generator.code_of(batch["latents"])))
        total, counted = negative_log_likelihood(given, batch["image"], self.ends)
        return {"loss": total / batch["image"].numel(), "loss_likelihood": total / counted}

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """Zhang et al. 2017, eqs. 2 to 5, negated: L_GAN + λ_r ‖ẑ - z‖² - λ_m MMD²."""
        generator: Any = self.generator
        of_real, on_real, _ = self.discriminator(batch["image"], outputs=True)
        of_fakes, on_fake, guessed = self.discriminator(fakes["relaxed"], outputs=True)
        losses = self.scored(on_real, on_fake)
        apart = (guessed.float() - generator.code_of(batch["latents"])).square().sum(1).mean()
        matching = self.matching(of_real, of_fakes)
        total = losses["loss"] + self.reconstruction_weight * apart - self.matching_weight * matching
        return losses | {"loss": total, "loss_reconstruction": apart, "mmd": matching}

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """Zhang et al. 2017, eq. 6: MMD²."""
        of_real, of_fakes = (self.discriminator(texts, outputs=True)[0] for texts in (batch["image"], fakes["relaxed"]))
        return {"loss": self.matching(of_real, of_fakes)}

    def matching(self, of_real: Tensor, of_fakes: Tensor) -> Tensor:
        """MMD² of features (N, F), (N, F): a scalar."""
        return gaussian_mmd(of_real, of_fakes, self.bandwidths)
