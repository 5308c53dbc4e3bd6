"""The vocabulary of training: what a step is, what a phase is, and the counters that everything else reads."""

from dataclasses import dataclass
from typing import Literal

from gan_lightning.types import NonNegativeInt, PositiveFloat, PositiveInt, Switch

PlayerName = Literal["discriminator", "generator"]


@dataclass(frozen=True)
class Step:
    """When each player moves, and how fast.

    A *minibatch* is one discriminator micro-step. `accumulate` of them make one discriminator step; after every
    `critic_steps`-th of those the generator moves. `generator_clip` and `discriminator_clip` are the largest norm of a
    player's true (unscaled) gradient. A penalty is part of every `penalty_every`-th discriminator step, so many times
    as heavy (lazy regularisation: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", 3.1).
    `generator_penalty_every` says so of the generator's.
    `critic_burst` discriminator steps, where given, are made before the first `burst_first` generator steps and before
    every `burst_every`-th one (WGAN's published code). The generator moves on `generator_batch` times as many fakes as
    the discriminator is shown (Miyato et al. 2018: 2).

    The rest changes speed only ("auto" is chosen by device and networks, see speed.py): a Lightning batch carries
    `minibatches` minibatches; `graphs` replays whole minibatches as CUDA graphs; `compile` has torch.compile fuse the
    losses; `channels_last` lays out the weights of convolutions as NHWC; `recompute` trades time for memory:
    activations of the networks' blocks are computed again in the backward pass.
    """

    minibatches: PositiveInt | Literal["auto"] = "auto"
    accumulate: PositiveInt = 1
    critic_steps: PositiveInt = 1
    critic_burst: PositiveInt | None = None
    burst_first: NonNegativeInt = 25
    burst_every: PositiveInt = 500
    generator_batch: PositiveInt = 1
    penalty_every: PositiveInt = 1
    generator_penalty_every: PositiveInt = 1
    generator_clip: PositiveFloat | None = None
    discriminator_clip: PositiveFloat | None = None
    graphs: Switch = "auto"
    compile: bool = False
    channels_last: Switch = "auto"
    recompute: bool = False

    def critic_steps_before(self, generator_step: int) -> int:
        """Discriminator steps before the generator's step of this number, from 0."""
        burst = generator_step < self.burst_first or generator_step % self.burst_every == 0
        return self.critic_burst if self.critic_burst and burst else self.critic_steps


@dataclass(frozen=True)
class Phase:
    """A stretch of training: who moves, by which losses (names of the rule's methods), and for how many images.

    split: so many minibatches are made of each that the data give; rate: times all learning rates; fakes: False where
    the losses look at none, and are given None.
    """

    name: str = "adversarial"
    images: int | None = None  # None: to the end of the run
    players: tuple[PlayerName, ...] = ("discriminator", "generator")
    discriminator_loss: str = "discriminator_loss"
    generator_loss: str = "generator_loss"
    reset_optimizers: bool = False  # forget the optimizers' state when the phase begins
    split: int = 1
    rate: float = 1.0
    fakes: bool = True


@dataclass(frozen=True)
class Turn:
    """What happens at one minibatch."""

    phase: Phase
    discriminator: bool  # its micro-step
    generator: bool  # its step, when `last`
    last: bool  # of an accumulated step: the players move
    penalty: bool  # the discriminator's loss has its penalty
    generator_penalty: bool  # and the generator's
    log: bool  # it ends with a log line: worth computing statistics for

    @property
    def movers(self) -> list[PlayerName]:
        """Whose weights change."""
        found: list[PlayerName] = ["discriminator"] if self.discriminator else []
        return [*found, *(["generator"] if self.generator else [])] if self.last else []


@dataclass
class Counters:
    """How far a run is, over all devices. Kept in checkpoints; unlike `trainer.global_step` none counts optimizers."""

    epoch: int = 0  # finished passes over the data
    epoch_minibatches: int = 0  # minibatches of the current pass, as the data give them
    epoch_images: int = 0  # and images: the place in the data, whatever size a continued run gives its batches
    minibatches: int = 0
    discriminator_steps: int = 0
    generator_steps: int = 0
    critic_steps: int = 0  # discriminator steps since the generator's last
    images: int = 0  # training images shown
    phase: int = 0
    phase_images: int = 0
    logged: int = 0  # the minibatch of the last line of metrics
    seconds: float = 0.0  # time spent training

    def count(self, turn: Turn, images: int, epoch_length: int, whole: bool = True) -> None:
        """Counts a minibatch of `images` over all devices; an epoch has `epoch_length` of them, `whole` ones or ended
        by their last part."""
        self.minibatches += 1
        self.epoch_minibatches += whole
        self.images += images
        self.epoch_images += images
        self.phase_images += images
        if "discriminator" in turn.movers:
            self.discriminator_steps += 1
            self.critic_steps += 1
        if "generator" in turn.movers:
            self.generator_steps += 1
            self.critic_steps = 0
        if turn.log:
            self.logged = self.minibatches
        if self.epoch_minibatches == epoch_length:
            self.epoch += 1
            self.epoch_minibatches = self.epoch_images = 0


def next_turn(step: Step, phase: Phase, counters: Counters, log_every: int) -> Turn:
    """What happens at the minibatch after those counted; a log line is due after `log_every` of them."""
    discriminator = "discriminator" in phase.players
    last = (counters.minibatches + 1) % step.accumulate == 0
    generator = "generator" in phase.players and (
        not discriminator or counters.critic_steps + 1 >= step.critic_steps_before(counters.generator_steps)
    )
    due = counters.minibatches + 1 - counters.logged >= log_every
    return Turn(
        phase,
        discriminator,
        generator,
        last,
        penalty=counters.discriminator_steps % step.penalty_every == 0,
        generator_penalty=counters.generator_steps % step.generator_penalty_every == 0,
        log=last and due and (generator or len(phase.players) == 1),
    )
