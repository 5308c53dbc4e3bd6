"""Values of the schedules at their corners, and what they never depend on."""

import math

import pytest

from gan_lightning.schedules import Constant, Cosine, Exponential, Linear, Stairs


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


def test_exponential() -> None:
    assert [Exponential(2)(steps) for steps in range(4)] == pytest.approx([1.0, 0.5, 0.25, 0.125])
    assert [Exponential(2, end=0.2)(steps) for steps in (2, 3, 10**9)] == [0.25, 0.2, 0.2]
    assert Exponential(1.00004)(10**9) == 0.0
    rate = 0.1
    for _ in range(1000):  # Mirza & Osindero 2014, section 4.1
        rate = max(rate / 1.00004, 1e-6)
    assert 0.1 * Exponential(1.00004, end=1e-5)(1000) == pytest.approx(rate)


def test_stairs() -> None:
    stairs = Stairs([10, 20], [0.5, 0.1])
    assert [stairs(steps) for steps in (0, 9, 10, 19, 20, 10**9)] == [1.0, 1.0, 0.5, 0.5, 0.1, 0.1]
    with pytest.raises(ValueError, match=r"at=\[20, 10\]: every step must come after"):
        Stairs([20, 10], [0.5, 0.1])
    with pytest.raises(ValueError, match=r"factors=\[0.5\]: must be 2 numbers"):
        Stairs([10, 20], [0.5])


@pytest.mark.parametrize("schedule", [Linear(100, start=20, end=0.1), Cosine(100, end=0.1), Exponential(1.1, end=0.1)])
def test_the_end_holds_and_nothing_rises(schedule: Linear | Cosine | Exponential) -> None:
    values = [schedule(steps) for steps in range(300)]
    assert values == sorted(values, reverse=True)
    assert values[100:] == pytest.approx([0.1] * 200)


@pytest.mark.parametrize("schedule", [Constant(), Linear(100, start=20), Cosine(100), Exponential(1.01)])
def test_a_longer_run_keeps_its_past(schedule: Constant | Linear | Cosine | Exponential) -> None:
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
    with pytest.raises(ValueError, match=r"decay=0.5"):
        Exponential(0.5)
    with pytest.raises(ValueError, match=r"end=2"):
        Exponential(1.1, end=2)
