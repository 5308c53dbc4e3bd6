"""How a rule makes the scores of its own (`AdversarialModule.measure`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measuring:
    """What is asked of a rule.

    Args:
        ema: of the moving average of the weights, where there is one.
        also: names beside those of `measured`.
        border: pixels that scores of pairs leave out (paired.py); None: what the data says.
        samples: of so many, where a score is of samples.
        seed: of these samples.
    """

    ema: bool = True
    also: Sequence[Any] = ()
    border: int | None = None
    samples: int = 0
    seed: int = 0


AS_USUAL = Measuring()
