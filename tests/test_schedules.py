"""Values of the schedules at their corners, and what they never depend on."""

import math

import pytest

from gan_lightning.schedules import Constant, Cosine, Linear


def test_constant() -> None:
    assert {Constant()(steps) for steps in (0, 1, 10**9)} == {1.0}


def test_linear() -> None:
    assert [Linear(10)(steps) for steps in (0, 5, 10, 11, 1000)] == [1.0, 0.5, 0.0, 0.0, 0.0]
    assert [Linear(10, end=0.2)(steps) for steps in (0, 10, 999)] == pytest.approx([1.0, 0.2, 0.2])
    late = Linear(200, start=100)  # CycleGAN: 100 epochs constant, 100 of decay
    assert [late(steps) for steps in (0, 99, 100, 150, 175, 200, 201)] == [1.0, 1.0, 1.0, 0.5, 0.25, 0.0, 0.0]


def test_cosine() -> None:
    assert [Cosine(10)(steps) for steps in (0, 5, 10, 50)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert Cosine(12)(4) == pytest.approx(0.5 * (1 + math.cos(math.pi / 3)))
    assert [Cosine(10, end=0.4)(steps) for steps in (0, 5, 10, 50)] == pytest.approx([1.0, 0.7, 0.4, 0.4])


@pytest.mark.parametrize("schedule", [Linear(100, start=20, end=0.1), Cosine(100, end=0.1)])
def test_the_end_holds_and_nothing_rises(schedule: Linear | Cosine) -> None:
    values = [schedule(steps) for steps in range(300)]
    assert values == sorted(values, reverse=True)
    assert values[100:] == pytest.approx([0.1] * 200)


@pytest.mark.parametrize("schedule", [Constant(), Linear(100, start=20), Cosine(100)])
def test_a_longer_run_keeps_its_past(schedule: Constant | Linear | Cosine) -> None:
    def run(first: int, last: int) -> list[float]:
        return [schedule(steps) for steps in range(first, last)]

    assert run(0, 50) + run(50, 250) == run(0, 250)  # no state: in parts or in one go


def test_a_later_start_keeps_what_came_before() -> None:
    assert [Linear(100, start=40)(steps) for steps in range(41)] == [Linear(500, start=40)(s) for s in range(41)]


def test_contradictions() -> None:
    with pytest.raises(ValueError, match=r"start=10.*horizon=10"):
        Linear(10, start=10)
    with pytest.raises(ValueError, match=r"start=0.*horizon=0"):
        Linear(0)
    with pytest.raises(ValueError, match="horizon=0"):
        Cosine(0)
