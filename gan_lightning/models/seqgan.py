"""SeqGAN — Yu et al. 2017, "SeqGAN: Sequence Generative Adversarial Nets with Policy Gradient".

The generator first learns by maximum likelihood, then the discriminator to tell its sequences from real ones. In the
game the generator is a policy: each token that it draws is rewarded with what the discriminator says, on average, of
sequences that go on from there.

Differs from the paper: every minibatch has fresh fakes and as many of them as real sequences, where the code draws
10,000 at a time and goes through them three times in minibatches of both kinds together; the discriminator moves first
in a round; the policy's loss is summed over the tokens and averaged over the sequences, where the code sums over both
(which its clipping brings to one size); samples may come from a moving average of the generator (`model.ema`).
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.adversarial import Batch, Fakes, Latents
from gan_lightning.losses import Losses
from gan_lightning.sequences import TextRule, counting
from gan_lightning.steps import Phase, PlayerName
from gan_lightning.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt

REWARDS: dict[str, Callable[[Tensor], Tensor]] = {  # of the discriminator's logits (N,)
    "probability": torch.sigmoid,
    "log": functional.logsigmoid,
    "logit": lambda logits: logits,
}


class SeqGAN(TextRule):
    """Maximum likelihood, a discriminator of what comes out of it, and a game by policy gradients.

    Args:
        discriminator_images: real sequences that the discriminator is shown, with as many fakes, before the game.
        rollouts: completions of every beginning of a sequence that are judged.
        rollout_batch: completions that are made and judged at once: a bound of memory.
        rollout_update: what the lagging policy, which completes, keeps of itself at each of the generator's steps.
        reward: what a sequence earns: the discriminator's probability of "real", its logarithm or its logit.
        baseline: what is subtracted from a token's value; "batch": the mean of the other sequences' at its place,
            of the same minibatch of a device.
        output_decay: of the weights of the discriminator's output layer, in its loss.

    Raises ValueError for a generator without `rollouts` or a discriminator without `output`, where they are needed.
    """

    slow_losses = ("generator",)  # every sequence is completed some three hundred times

    def __init__(
        self,
        pretraining_images: NonNegativeInt | None,
        discriminator_images: NonNegativeInt = 0,
        rollouts: PositiveInt = 16,
        rollout_batch: PositiveInt = 2048,
        rollout_update: Fraction = 0.8,
        reward: Literal["probability", "log", "logit"] = "probability",
        baseline: Literal["none", "batch"] = "none",
        output_decay: NonNegativeFloat = 0.0,
        **base: Any,
    ) -> None:
        super().__init__(pretraining_images, **base)
        plays = pretraining_images is not None
        if plays and not hasattr(self.generator, "rollouts"):
            raise ValueError(f"generator: {type(self.generator).__name__} completes no sequences; use LSTMGenerator")
        if plays and output_decay and not hasattr(self.discriminator, "output"):
            name = type(self.discriminator).__name__
            raise ValueError(f"output_decay={output_decay}: {name} has no layer `output`; use 0")
        if plays and discriminator_images:
            alone = Phase("discriminator", discriminator_images, ("discriminator",), reset_optimizers=True)
            before = [phase for phase in self.phases if phase.name == "likelihood"]
            self.phases = [*before, alone, Phase()]  # the discriminator goes on with its optimizer
        self.rollouts = rollouts
        self.rollout_batch = rollout_batch
        self.rollout_update = rollout_update
        self.reward = REWARDS[reward]
        self.baseline = baseline
        self.output_decay = output_decay
        self.lagging = copy.deepcopy(self.generator).requires_grad_(False)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if not self.counters.minibatches:  # the generator may have been given weights
            self.follow(0.0)

    def generate(self, batch: Batch, latents: Latents) -> Fakes:
        return self.finished(super().generate(batch, latents))

    def moved(self, player: PlayerName) -> None:
        if player == "generator":
            self.follow(self.rollout_update if self.phase.name == "adversarial" else 0.0)

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """Yu et al. 2017, eq. 5; its code adds λ/2 ‖θ‖² of the output layer to the mean of both kinds' losses, ours is
        their sum."""
        together = torch.cat([batch["image"], fakes])  # one pass, which is faster than two
        on_real, on_fake = self.judge(together, None).split([len(batch["image"]), len(fakes)])
        losses = self.scored(on_real, on_fake)
        if not self.output_decay:
            return losses
        squares = [weight.square().sum() for weight in self.discriminator.get_submodule("output").parameters()]
        return losses | {"loss": losses["loss"] + self.output_decay * torch.stack(squares).sum()}

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """Yu et al. 2017, eqs. 7 and 8: a token's log-probability times its value, summed over the tokens."""
        values = self.action_values(fakes)  # (N, L)
        if self.baseline == "batch" and len(values) > 1:
            advantages = values - (values.sum(0) - values) / (len(values) - 1)
        else:
            advantages = values
        logits = self.generator.logits(fakes).float()  # pyright: ignore[reportCallIssue]  # (N, L, V)
        surprise = functional.cross_entropy(logits.flatten(0, 1), fakes.flatten(), reduction="none").view_as(fakes)
        counted = counting(fakes, self.ends)
        return {
            "loss": (surprise * advantages * counted).sum(1).mean(),
            "reward": values[:, -1].mean(),  # of whole sequences
            "surprise": (surprise.detach() * counted).sum() / counted.sum(),  # the policy's entropy, in nats a token
        }

    # ---- what a token is worth --------------------------------------------------------------------------------------

    @torch.no_grad()
    def action_values(self, tokens: Tensor) -> Tensor:
        """Yu et al. 2017, eq. 4: sequences (N, L) -> (N, L), at t the mean reward of completions of the first t + 1
        tokens by the lagging policy; at the end that of the sequence itself."""
        count, length = tokens.shape
        pairs = length * (length - 1) // 2  # of a beginning and a place after it
        self._views += 1  # several minibatches of a step have numbers of their own
        purpose = f"rollouts {self._views}"
        shape = self.rollouts, pairs
        uniforms = self.draw(purpose, count, lambda n, stream: torch.rand(n, *shape, generator=stream)).flatten(0, 1)
        repeated = tokens.repeat_interleave(self.rollouts, 0)  # (N · rollouts, L)
        rows = max(self.rollout_batch // max(length - 1, 1), 1)
        with resting(self.discriminator):
            judged = [
                self.rewards(self.lagging.rollouts(part, numbers))  # pyright: ignore[reportCallIssue]
                for part, numbers in zip(repeated.split(rows), uniforms.split(rows), strict=True)
            ]  # (L-1, rows) each
            ended = self.rewards(tokens[None])  # (1, N)
        begun = torch.cat(judged, 1).unflatten(1, (count, self.rollouts)).mean(2)  # (L-1, N)
        return torch.cat([begun, ended]).T

    def rewards(self, tokens: Tensor) -> Tensor:
        """What sequences earn: (P, N, L) -> (P, N)."""
        logits = self.discriminator(self.finished(tokens.flatten(0, 1)), None).float()
        return self.reward(logits).view(tokens.shape[:2])

    def finished(self, tokens: Tensor) -> Tensor:
        """Sequences (N, L) with token 0 after their end, where the data's have one."""
        return tokens * counting(tokens, self.ends) if self.ends else tokens

    @torch.no_grad()
    def follow(self, keep: float) -> None:
        """θ ← keep · θ + (1 - keep) · the generator's, of the lagging policy; embeddings are copied (SeqGAN's code)."""
        news = dict(self.generator.named_parameters())
        for name, weight in self.lagging.named_parameters():
            weight.lerp_(news[name], 1.0 if name.startswith("embedding") else 1.0 - keep)


@contextmanager
def resting(network: nn.Module) -> Iterator[None]:
    """The network in eval mode: nothing is dropped."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
