"""DPGAN — Xie et al. 2018, "Differentially Private Generative Adversarial Network", by DP-SGD (Abadi et al. 2016).

The discriminator moves on gradients that are cut to a norm image by image, summed, and covered by Gaussian noise: what
it, and so the generator, can tell of any one training image is bounded by ε. Privacy is that of adding or removing one
image: each is in a minibatch with probability q = B / N by itself (`data.sampling=poisson`); sums are divided by B; and
B fakes, whatever was drawn, follow from earlier weights alone, so that an image changes the sum by no more than the
norm. The gradients of fakes are cut likewise, which privacy does not need but the balance of the two players does.

ε is about weights, and towards those who do not know the seed that noise and minibatches are computed from. Losses in
the log, scores, best.ckpt, real.png and nearest.png look at training images beside it (docs/privacy.md).

Differs from the paper: gradients are cut (Abadi et al. 2016, algorithm 1), where the paper clips the critic's weights;
the non-saturating loss and not Wasserstein's; ε by Opacus' accountant of Rényi differential privacy (Mironov 2017).
"""

from functools import partial
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from gan_lightning.adversarial import Batch
from gan_lightning.data.base import say
from gan_lightning.errors import UserError
from gan_lightning.losses import Losses
from gan_lightning.models.gan import GAN
from gan_lightning.privacy import Accountant, Weights, cut_gradients, validate
from gan_lightning.steps import PlayerName
from gan_lightning.types import PositiveFloat


class DPGAN(GAN):
    """The game whose discriminator is trained with differential privacy; the generator only ever sees its weights.

    Args:
        noise_multiplier: standard deviation of the noise on a sum of gradients, over `max_gradient_norm`.
        max_gradient_norm: C, the largest norm of one image's gradient.
        delta: the δ that the logged and saved ε belongs to; None: 1 / (10 N) for N training images.
        max_epsilon: the run ends before the discriminator's step that would spend more.
    """

    data_sampling = "poisson"
    no_graphs = "minibatches differ in size"

    def __init__(
        self,
        noise_multiplier: PositiveFloat,
        max_gradient_norm: PositiveFloat = 1.0,
        delta: Annotated[float, Field(gt=0, lt=1)] | None = None,
        max_epsilon: PositiveFloat | None = None,
        **base: Any,
    ) -> None:
        accountant = Accountant()  # first: without Opacus there is nothing to check
        super().__init__(**base)
        for key, alone in (("minibatch_kernels", 0), ("pack", 1)):
            value = getattr(self.discriminator, key, alone)
            if value != alone:
                raise ValueError(f"discriminator.{key}={value}: privacy needs every image judged by itself")
        validate(self.discriminator)
        step = self.step
        for key, value, allowed, reason in (
            ("loss", base.get("loss"), not self.pair.needs_real, "compares images, privacy needs each by itself"),
            ("label_noise", self.label_noise, not self.label_noise, "use label_smoothing, which draws nothing"),
            ("step.accumulate", step.accumulate, step.accumulate == 1, "use a larger data.batch_size"),
            ("step.discriminator_clip", step.discriminator_clip, not step.discriminator_clip, "use max_gradient_norm"),
            ("step.compile", step.compile, not step.compile, "every size of a minibatch would be compiled anew"),
            (
                "step.recompute",
                step.recompute,
                not step.recompute,
                "gradients of each image need what it forgets",
            ),
            ("step.minibatches", step.minibatches, step.minibatches in ("auto", 1), "they differ in size, use 1"),
        ):
            if not allowed:
                raise ValueError(f"{key}={str(value).lower() if isinstance(value, bool) else value}: {reason}")
        if base.get("imitation"):
            raise ValueError("imitation: what a teacher knows of the images is not part of ε; leave it out")
        self.signed = False  # the logits on real images are private: nothing may follow them
        self.noise_multiplier, self.max_gradient_norm = noise_multiplier, max_gradient_norm
        self.delta, self.max_epsilon = delta, max_epsilon
        self.accountant = accountant
        self.expected, self.rate, self.spent_at = 0, 0.0, 0.0  # B; q = B / N; δ: known once the data are
        self.steps_left: int | None = None

    def check_run(self, trainer: Any, data: Any) -> None:
        super().check_run(trainer, data)
        if trainer.world_size > 1:
            raise UserError(f"trainer.devices={trainer.world_size}: differential privacy is trained on one device")
        if trainer.precision == "16-mixed":
            raise UserError("trainer.precision=16-mixed: its loss scale changes gradients that are cut; use bf16-mixed")
        self.expected = data.minibatch_size()
        self.rate = self.expected / len(data.train)
        self.spent_at = self.delta or 0.1 / len(data.train)
        first = self.accountant.epsilon(self.spent_at, (self.noise_multiplier, self.rate, 1))
        if self.max_epsilon and first > self.max_epsilon:
            raise UserError(f"model.max_epsilon={self.max_epsilon}: the first step spends {first:.3g}")

    def count(self, batch: Batch) -> int:
        """The expected size: how many images were drawn is private."""
        return self.expected

    # ---- losses -----------------------------------------------------------------------------------------------------

    def loss_of_one(self, name: str, weights: Weights, image: Tensor, *label: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of this name and the logit of one image (C, H, W), with its label () where there are classes."""
        logit = functional_call(self.discriminator, weights, (image[None], label[0][None] if label else None))  # (1,)
        return self.pair.discriminator(logit, logit, **self.labels(1, 1))[name], logit.squeeze(0)

    def discriminator_loss(self, batch: Batch, fakes: Tensor) -> Losses:
        """In training its gradient is not that of its value: Σ of cut gradients and N(0, σ²C²), over B."""
        if not self.training:
            return super().discriminator_loss(batch, fakes)
        weights = {key: weight for key, weight in self.discriminator.named_parameters() if weight.requires_grad}
        fixed = {key: weight.detach() for key, weight in weights.items()}
        sizes = [weight.numel() for weight in fixed.values()]
        drawn = self.draw("privacy", sum(sizes), lambda n, stream: torch.randn(n, generator=stream)).split(sizes)
        deviation = self.noise_multiplier * self.max_gradient_norm
        noisy = {key: deviation * noise.view_as(fixed[key]) for key, noise in zip(fixed, drawn, strict=True)}
        losses, logits = {}, []
        for name, images, label in (("loss_real", batch["image"], "label"), ("loss_fake", fakes, "fake_label")):
            samples = [self.view(images).float(), *([batch[label]] if self.classes else [])]
            with torch.autocast(fakes.device.type, enabled=False):  # norms are cut in float32
                found = cut_gradients(partial(self.loss_of_one, name), fixed, self.max_gradient_norm, *samples)
            noisy = {key: noise + found[0][key] for key, noise in noisy.items()}
            losses[name] = found[1].sum() / self.expected
            logits.append(found[2])
        # 0, with the gradient that is wanted
        carrier = sum(((weight - fixed[key]) * noisy[key]).sum() for key, weight in weights.items()) / self.expected
        loss = losses["loss_real"] + losses["loss_fake"] + carrier
        return {"loss": loss, **losses} | self.statistics(logits[0], logits[1])

    def moved(self, player: PlayerName) -> None:
        """Counts what a step of the discriminator spends, and ends the run after the last that it has."""
        if player == "discriminator":
            self.accountant.count(self.noise_multiplier, self.rate)
            if self.log_due:
                self.keep(player, {"epsilon": self.accountant.epsilon(self.spent_at)})
            if self.steps_left is not None:
                self.steps_left -= 1
                self.end_when_spent()

    # ---- Lightning --------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.config and self.config.get("weights"):
            say(f"weights={self.config['weights']}: epsilon leaves out what these weights were trained on")
        if self.max_epsilon:
            rest = self.max_epsilon, self.spent_at, self.noise_multiplier, self.rate
            self.steps_left = self.accountant.steps_within(*rest)
            self.end_when_spent()

    def end_when_spent(self) -> None:
        """Ends the run, and says why, when no step is left."""
        if self.steps_left == 0:
            say(f"model.max_epsilon={self.max_epsilon}: another step would spend more; the run ends")
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        spent = f"epsilon {self.accountant.epsilon(self.spent_at):.3g} at delta {self.spent_at:.3g}"
        say(f"{spent} spent, towards those who do not know seed={self.seed}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        history = [list(stretch) for stretch in self.accountant.history]
        spent = {"epsilon": self.accountant.epsilon(self.spent_at), "delta": self.spent_at}
        checkpoint["privacy"] = {"history": history, **spent}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.accountant.history = [tuple(stretch) for stretch in checkpoint["privacy"]["history"]]
