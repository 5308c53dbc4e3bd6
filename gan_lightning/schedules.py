"""Factors of the base learning rate as a function of a player's progress, measured in generator steps.

A schedule has a horizon or an end of its own and never sees how long a run is: extending a run does not change its
past. From there on the end value holds.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from gan_lightning.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Constant:
    """The base learning rate throughout."""

    def __call__(self, generator_steps: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Linear:
    """1 until `start`, then a straight line to `end` at `horizon`.

    CycleGAN (Zhu et al. 2017, section 7) decays over the second half of training; WGAN-GP and SNGAN from the start.
    """

    horizon: PositiveInt
    start: NonNegativeInt = 0
    end: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        if self.start >= self.horizon:
            raise ValueError(f"start={self.start}: must be smaller than horizon={self.horizon}")

    def __call__(self, generator_steps: int) -> float:
        progress = (generator_steps - self.start) / (self.horizon - self.start)
        progress = min(max(progress, 0.0), 1.0)
        return (1 - progress) + self.end * progress


@dataclass(frozen=True)
class Exponential:
    """Divided by `decay` at every step, until `end` is reached (Mirza & Osindero 2014, section 4.1)."""

    decay: PositiveFloat
    end: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        if self.decay < 1:
            raise ValueError(f"decay={self.decay}: what rates are divided by must be at least 1")
        if self.end > 1:
            raise ValueError(f"end={self.end}: must be at most 1, where the rates begin")

    def __call__(self, generator_steps: int) -> float:
        return max(math.exp(-generator_steps * math.log(self.decay)), self.end)  # a power would overflow


@dataclass(frozen=True)
class Stairs:
    """1 until the first of `at`, then one of `factors` after the other (Ledig et al. 2017, section 3.2)."""

    at: Sequence[PositiveInt]
    factors: Sequence[NonNegativeFloat]

    def __post_init__(self) -> None:
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at={list(self.at)}: every step must come after the one before")
        if len(self.factors) != len(self.at):
            raise ValueError(
                f"factors={list(self.factors)}: must be {len(self.at)} numbers, as many as at={list(self.at)}"
            )

    def __call__(self, generator_steps: int) -> float:
        return [1.0, *self.factors][bisect_right(self.at, generator_steps)]


@dataclass(frozen=True)
class Ramp:
    """A number that goes from `start` to `end` in half a cosine over so many training images, and stays."""

    start: NonNegativeFloat
    end: NonNegativeFloat
    images: PositiveInt

    def __call__(self, images: int) -> float:
        share = 0.5 * (1 - math.cos(math.pi * min(images / self.images, 1.0)))
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to `end` at `horizon` (Loshchilov & Hutter 2017, eq. 5, without restarts)."""

    horizon: PositiveInt
    end: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        if self.horizon <= 0:
            raise ValueError(f"horizon={self.horizon}: must be positive")

    def __call__(self, generator_steps: int) -> float:
        progress = min(generator_steps / self.horizon, 1.0)
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * progress))
