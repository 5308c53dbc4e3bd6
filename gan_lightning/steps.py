"""The vocabulary of training: what a step is, what a phase is, and the counters that everything else reads."""

from dataclasses import dataclass
from typing import Literal

from gan_lightning.types import PositiveFloat, PositiveInt

PlayerName = Literal["discriminator", "generator"]


@dataclass(frozen=True)
class Step:
    """When each player moves.

    A *minibatch* is one discriminator micro-step. `accumulate` of them make one discriminator step; after every
    `critic_steps`-th of those the generator moves. A Lightning batch carries `minibatches` minibatches, which changes
    speed only. `generator_clip` and `discriminator_clip` are the largest norm of a player's true (unscaled) gradient.
    """

    minibatches: PositiveInt = 8
    accumulate: PositiveInt = 1
    critic_steps: PositiveInt = 1
    generator_clip: PositiveFloat | None = None
    discriminator_clip: PositiveFloat | None = None


@dataclass(frozen=True)
class Phase:
    """A stretch of training: who moves, by which losses (names of the rule's methods), and for how many images."""

    name: str = "adversarial"
    images: int | None = None  # None: to the end of the run
    players: tuple[PlayerName, ...] = ("discriminator", "generator")
    discriminator_loss: str = "discriminator_loss"
    generator_loss: str = "generator_loss"
    reset_optimizers: bool = False  # forget the optimizers' state when the phase begins


@dataclass
class Counters:
    """How far a run is, over all devices. Kept in checkpoints; unlike `trainer.global_step` none counts optimizers."""

    epoch: int = 0  # finished passes over the data
    epoch_minibatches: int = 0  # minibatches of the current pass
    epoch_images: int = 0  # and images: the place in the data, whatever size a continued run gives its batches
    minibatches: int = 0
    discriminator_steps: int = 0
    generator_steps: int = 0
    images: int = 0  # training images shown
    phase: int = 0
    phase_images: int = 0
    logged: int = 0  # the minibatch of the last line of metrics
    seconds: float = 0.0  # time spent training
