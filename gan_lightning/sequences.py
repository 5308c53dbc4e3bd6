"""What rules of text share: sentences of tokens, which have a likelihood; how they are drawn and scored."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning import sampling
from gan_lightning.adversarial import Batch, Fakes
from gan_lightning.data.base import Data
from gan_lightning.ema import evaluating
from gan_lightning.errors import UserError
from gan_lightning.losses import Losses
from gan_lightning.metrics.own import AS_USUAL, Measuring
from gan_lightning.metrics.scores import Value
from gan_lightning.models.gan import GAN
from gan_lightning.sampling import sampler
from gan_lightning.steps import Phase
from gan_lightning.types import NonNegativeInt

IGNORED = -100  # in the place of tokens that do not count: summing at once is faster than a loss for each token


class Drawn(nn.Module):
    """A generator of text as it is sampled from: at a temperature, going on from a prefix.

    Args:
        generator: (uniform numbers (N, L), labels, temperature, prefix) -> tokens (N, L).
        temperature: divides the logits.
        prefix: tokens (P,) that every sentence begins with.
    """

    def __init__(self, generator: nn.Module, temperature: float, prefix: Tensor | None) -> None:
        super().__init__()
        self.generator, self.temperature, self.prefix = generator, temperature, prefix

    def forward(self, uniforms: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.generator(uniforms, labels, temperature=self.temperature, prefix=self.prefix)


class TextRule(GAN):
    """A generator of sentences, tokens (L,), that first learns by maximum likelihood.

    The generator has `vocabulary` and `length`; it draws tokens (N, L) from uniform numbers (N, L), and
    `logits(tokens)` (N, L, V) are those of each token given the ones before it. The moving average of a language model
    is as good a model; samples and scores are of it.

    Args:
        pretraining_images: sentences that the generator is shown before there is a game; 0: none; None: it never is.
    """

    own_metrics = ("nll",)
    fresh_statistics = False

    def __init__(self, pretraining_images: NonNegativeInt | None, **base: Any) -> None:
        if classes := base.get("classes"):
            raise ValueError(f"classes={classes}: texts have no labels; use classes=0")
        super().__init__(**base)
        for key, used in (
            ("augment", self.augment.policy),
            ("ada.pipeline", self.augment.ada),
            ("instance_noise", base.get("instance_noise")),
        ):
            if used:
                raise ValueError(f"{key}: changes images, and texts are none; leave it out")
        if base.get("imitation"):
            raise ValueError("imitation: compares images, and texts are none; leave it out")
        self.temperature = 1.0  # of samples
        self.prefix: Tensor | None = None  # which they go on from
        how: dict[str, Any] = {"generator_loss": "likelihood_loss", "fakes": False}
        pretraining = Phase("likelihood", pretraining_images, ("generator",), **how)
        if pretraining_images is None:
            self.phases = [pretraining]
        elif pretraining_images:
            self.phases = [pretraining, Phase(reset_optimizers=True)]
        self.ends = False  # token 0 ends a sentence, and nothing after it counts

    def sampled_from(self, network: nn.Module) -> nn.Module:
        if self.temperature == 1 and self.prefix is None:
            return network
        return Drawn(network, self.temperature, None if self.prefix is None else self.prefix.to(self.device))

    def evaluation_block(self, seed: int, block: int, truncation: float | None = None) -> Any:
        if truncation is not None:
            raise UserError(f"truncation={truncation}: texts have no latents to cut; use temperature=…")
        return super().evaluation_block(seed, block)

    def check_data(self, data: Data) -> None:
        if data.noun != "texts":
            raise UserError(f"data: {type(data).__name__} has {data.noun}, and {type(self).__name__} needs texts")

    def show(self, data: Data) -> None:
        self.ends = getattr(data, "ends", False)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.show(self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]

    def likelihood_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """What the generator minimises before there is a game: minus the log-likelihood, in nats, over all places.

        "loss_likelihood" is that of a token; how many count differs from one process to the other.
        """
        total, counted = negative_log_likelihood(self.generator, batch["image"], self.ends)
        return {"loss": total / batch["image"].numel(), "loss_likelihood": total / counted}

    def measured(self, data: Data) -> tuple[str, ...]:
        return (*super().measured(data), *data.judged)

    @torch.no_grad()
    def measure(self, data: Data, how: Measuring = AS_USUAL) -> dict[str, Any]:
        """`nll`, in nats a token of the held-out sentences, and what the data says of samples.

        Of the likelihood the temperature is always 1.
        """
        found: dict[str, Any] = {}
        if len(data.held_out):
            self.show(data)
            generator = self.ema.generator if how.ema and self.ema is not None else self.generator
            totals = torch.zeros(2, dtype=torch.float64)
            with torch.autocast(self.device.type, enabled=False):
                network = evaluating(generator)
                for batch in data.in_order(data.held_out):
                    parts = negative_log_likelihood(network, batch["image"].to(self.device), self.ends)
                    totals += torch.stack([part.double().cpu() for part in parts])
            found["nll"] = Value(float(totals[0] / totals[1]), None, {"tokens": int(totals[1])})
        network = sampler(self, ema=how.ema)
        parts = list(sampling.rendered(self, network, how.samples, seed=how.seed))
        for name, value in data.judge_samples(torch.cat(parts).cpu()).items():
            found[name] = Value(value.value, value.std, {**value.settings, "temperature": self.temperature})
        return found


def counting(tokens: Tensor, ends: bool) -> Tensor:
    """Which tokens (N, L) are of the sentence: all, or where one `ends` with token 0 those up to the first of these."""
    if not ends:
        return torch.ones_like(tokens, dtype=torch.bool)
    return ((tokens == 0).cumsum(1) - (tokens == 0).long()) == 0


def negative_log_likelihood(generator: Any, tokens: Tensor, ends: bool) -> tuple[Tensor, Tensor]:
    """Minus the log-likelihood of sentences (N, L) in nats, summed, and the number of tokens that counted; scalars."""
    counted = counting(tokens, ends)
    logits = generator.logits(tokens).float()  # (N, L, V)
    wanted = tokens.masked_fill(~counted, IGNORED)
    total = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum")
    return total, counted.sum()


def finished(tokens: Tensor, relaxed: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (N, L) and relaxed one-hot vectors of them (N, L, V): after the first token 0 only (one-hot) zeros."""
    written = counting(tokens, ends=True)
    kept = relaxed * written[..., None]
    kept[..., 0] = torch.where(written, kept[..., 0], 1.0)
    return tokens * written, kept
