"""How much of a run is done, said in images."""

from types import SimpleNamespace
from typing import Any

import pytest

from gan_lightning.callbacks.progress import images_of_steps
from gan_lightning.steps import Phase


def module(phases: list[Phase], critic_steps: int = 1, accumulate: int = 1) -> Any:
    return SimpleNamespace(phases=phases, step=SimpleNamespace(critic_steps=critic_steps, accumulate=accumulate))


LIKELIHOOD = Phase("likelihood", 640, ("generator",))
ALONE = Phase("discriminator", 6400, ("discriminator",))


@pytest.mark.parametrize(
    ("steps", "phases", "images"),
    [
        (10, [Phase()], 10 * 5 * 64),
        (4, [LIKELIHOOD, Phase()], 4 * 64),
        (10, [LIKELIHOOD, Phase()], 640),
        (12, [LIKELIHOOD, Phase()], 640 + 2 * 5 * 64),
        (12, [LIKELIHOOD, ALONE, Phase()], 640 + 6400 + 2 * 5 * 64),
        (3, [Phase("small", 1000, split=2), Phase()], 3 * 5 * 32),
    ],
)
def test_images_until_the_generator_has_taken_its_steps(steps: int, phases: list[Phase], images: int) -> None:
    assert images_of_steps(steps, module(phases, 5), 64) == images


def test_accumulated_steps_take_more_images() -> None:
    assert images_of_steps(3, module([Phase()], 2, 4), 16) == 3 * 2 * 4 * 16
