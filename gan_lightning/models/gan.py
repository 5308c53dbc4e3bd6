"""GAN — Goodfellow et al. 2014, "Generative Adversarial Nets".

The discriminator tells real from generated, the generator makes it err; `loss` says how both are scored, and the
networks come from the configuration (fully connected for `model=gan`, convolutional for `model=dcgan`).

Differs from the paper: the paper's maxout and sigmoid networks are not used; one discriminator step a generator step
(k = 1, as in its experiments); Adam instead of momentum; samples come from a moving average of the generator.
"""

from typing import Any

import torch
from torch import Tensor

from gan_lightning import losses
from gan_lightning.adversarial import AdversarialModule, Batch
from gan_lightning.types import Fraction


class GAN(AdversarialModule):
    """The two-player game under any pair of losses.

    Args:
        loss: the pair of losses (losses.py).
        label_smoothing: real images count as 1 - label_smoothing (one-sided, Salimans et al. 2016, section 3.4).
        fake_label_smoothing: fakes count as this (with the above: two-sided).
        label_noise: the share of labels that the discriminator is told wrongly.

    Raises ValueError for smoothing or noise with losses whose logits are no probabilities.
    """

    def __init__(
        self,
        loss: losses.Name = "nonsaturating",
        label_smoothing: Fraction = 0.0,
        fake_label_smoothing: Fraction = 0.0,
        label_noise: Fraction = 0.0,
        **base: Any,
    ) -> None:
        pair = losses.PAIRS[loss]
        soft = {
            "label_smoothing": label_smoothing,
            "fake_label_smoothing": fake_label_smoothing,
            "label_noise": label_noise,
        }
        for key, value in soft.items():
            if value and not pair.probabilities:
                raise ValueError(f"{key}={value}: loss={loss} has no labels to soften; use minimax or nonsaturating")
        super().__init__(**base)
        if pair.needs_real and self.step.generator_batch > 1:
            raise ValueError(f"loss={loss}: pairs fakes with real images; use step.generator_batch=1")
        self.pair, self.signed = pair, pair.probabilities or pair is losses.hinge
        self.same_labels = self.same_labels or pair.needs_real
        self.won = None if any(soft.values()) else pair.won  # soft labels keep the loss from falling
        self.label_smoothing = label_smoothing
        self.fake_label_smoothing = fake_label_smoothing
        self.label_noise = label_noise

    def discriminator_loss(self, batch: Batch, fakes: Tensor) -> losses.Losses:
        on_real = self.judge(batch["image"], batch.get("label"))  # (N,)
        on_fake = self.judge(fakes, batch.get("fake_label"))  # (N,)
        return self.scored(on_real, on_fake)

    def generator_loss(self, batch: Batch, fakes: Tensor) -> losses.Losses:
        on_real = self.judge(batch["image"], batch.get("label")) if self.pair.needs_real else None
        return self.pair.generator(on_real, self.judge(fakes, batch.get("fake_label")))

    def scored(self, on_real: Tensor, on_fake: Tensor) -> losses.Losses:
        """The discriminator's loss and what the log shows, from its logits (N,) on real images and on fakes."""
        found = self.pair.discriminator(on_real, on_fake, **self.labels(len(on_real), len(on_fake)))
        if self.augment.ada and self.signed:
            found["sign"] = on_real.detach().sign().mean()  # r_t (ada.py)
        return found | self.statistics(on_real, on_fake)

    def labels(self, real: int, fake: int) -> dict[str, float | Tensor]:
        """The discriminator's targets for so many logits: none for losses without labels, numbers, or tensors (N,)."""
        if not self.pair.probabilities:
            return {}
        targets = {"real_label": 1 - self.label_smoothing, "fake_label": self.fake_label_smoothing}
        if not self.label_noise:
            return {**targets}
        noisy = {}
        for (name, target), count in zip(targets.items(), (real, fake), strict=True):
            wrong = self.draw(name, count, lambda n, stream: torch.rand(n, generator=stream)) < self.label_noise
            noisy[name] = torch.where(wrong, 1 - target, target)  # (N,)
        return noisy

    @torch.no_grad()
    def statistics(self, on_real: Tensor, on_fake: Tensor) -> losses.Losses:
        """For the log: the share of pairs with D(real) > D(fake) and, for probabilities, D(x) and D(G(z))."""
        if not self.log_due:
            return {}
        below = torch.searchsorted(on_fake.float().sort().values, on_real.float().contiguous())  # fakes below each
        shown = {"ranking": below.float().mean() / len(on_fake)}
        if self.pair.probabilities:
            shown |= {"real": on_real.sigmoid().mean(), "fake": on_fake.sigmoid().mean()}
        return shown
