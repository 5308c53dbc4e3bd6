"""Precision, recall, density and coverage: against prdc, loops over the definitions and closed forms."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from prdc import compute_prdc
from torch import Tensor

from gan_lightning.metrics.manifold import DensityCoverage, FeatureMetric, ImprovedPrecisionRecall
from gan_lightning.metrics.manifold import density_coverage as ours_density_coverage
from gan_lightning.metrics.manifold import precision_recall as ours_precision_recall
from gan_lightning.metrics.neighbours import BLOCK

Pair = tuple[float, float]
SIZES = [(200, 200), (150, 260), (BLOCK + 300, 2 * BLOCK + 100), (2 * BLOCK + 100, 90)]
EXACT = 1e-12  # shares of counts: nothing but the last division differs


def features(count: int, seed: int, size: int = 8, shift: float = 0.0) -> Tensor:
    """Gaussian features (count, size) float64 around `shift`."""
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> Pair:
    precision, recall = ours_precision_recall(real, fake, k)
    return float(precision), float(recall)


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> Pair:
    density, coverage = ours_density_coverage(real, fake, k)
    return float(density), float(coverage)


def independent(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    """What prdc computes, whose balls are open; that makes no difference to features that are all different."""
    return {name: float(value) for name, value in compute_prdc(real.numpy(), fake.numpy(), nearest_k=k).items()}


def away(features: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances (N,) of features (N, D) to one of them (D,)."""
    return np.sqrt(((features - one) ** 2).sum(1))


def naive(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    """The four numbers from their definitions, one image at a time."""
    reals, fakes = real.numpy(), fake.numpy()
    real_radii = np.array([np.sort(away(reals, one))[k] for one in reals])  # [0] is the distance to itself
    fake_radii = np.array([np.sort(away(fakes, one))[k] for one in fakes])
    precise = [bool((away(reals, one) <= real_radii).any()) for one in fakes]
    recalled = [bool((away(fakes, one) <= fake_radii).any()) for one in reals]
    held = [int((away(reals, one) < real_radii).sum()) for one in fakes]
    covered = [bool((away(fakes, one) < radius).any()) for one, radius in zip(reals, real_radii, strict=True)]
    return {
        "precision": sum(precise) / len(fakes),
        "recall": sum(recalled) / len(reals),
        "density": sum(held) / (k * len(fakes)),
        "coverage": sum(covered) / len(reals),
    }


@pytest.mark.parametrize(("n_real", "n_fake"), SIZES)
@pytest.mark.parametrize("shift", [pytest.param(0.0, marks=pytest.mark.slow), 0.7])
def test_equals_prdc_and_the_definition(n_real: int, n_fake: int, shift: float) -> None:
    real, fake = features(n_real, 0), features(n_fake, 1, shift=shift)
    for reference in (independent, naive):
        expected = reference(real, fake, 3)
        assert precision_recall(real, fake) == pytest.approx((expected["precision"], expected["recall"]), rel=EXACT)
        expected = reference(real, fake, 5)
        assert density_coverage(real, fake) == pytest.approx((expected["density"], expected["coverage"]), rel=EXACT)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_any_neighbour(k: int) -> None:
    real, fake = features(120, 2, size=40), features(100, 3, size=40, shift=0.2)
    for reference in (independent, naive):
        expected = reference(real, fake, k)
        found = precision_recall(real, fake, k) + density_coverage(real, fake, k)
        wanted = [expected[name] for name in ("precision", "recall", "density", "coverage")]
        assert found == pytest.approx(wanted, rel=EXACT)


def test_float32_features_are_computed_in_float64() -> None:
    real, fake = features(300, 4).float(), features(300, 5, shift=0.5).float()
    assert precision_recall(real, fake) == precision_recall(real.double(), fake.double())
    assert density_coverage(real, fake) == density_coverage(real.double(), fake.double())


def test_edges_of_balls() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0]])  # nearest others at 1, 1, 2, 4
    fake = torch.tensor([[-1.0], [-1.5]])  # one on the edge of the first ball, one outside; 0.5 apart
    assert precision_recall(real, fake, k=1) == (0.5, 0.0)
    assert density_coverage(real, fake, k=1) == (0.0, 0.0)
    assert density_coverage(real, fake + 0.5, k=1) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("kind", "function"), [(ImprovedPrecisionRecall, precision_recall), (DensityCoverage, density_coverage)]
)
@pytest.mark.parametrize("settings", [{}, {"k": 2}])
def test_metrics_equal_the_functions_in_any_batches(
    kind: type[FeatureMetric], function: Callable[..., Pair], settings: dict[str, int]
) -> None:
    real, fake = features(BLOCK + 130, 6), features(340, 7, shift=0.5)
    metric = kind(**settings)
    for real_part, fake_part in zip(real.split(500), fake.split(150), strict=True):
        metric.update(real_part, real=True)
        metric.update(fake_part, real=False)
    assert tuple(map(float, metric.compute())) == function(real, fake, **settings)
    metric.reset()
    metric.update(fake, real=True)  # nothing of before is left
    metric.update(real, real=False)
    assert tuple(map(float, metric.compute())) == function(fake, real, **settings)


def test_halves_of_one_distribution() -> None:
    n, k = 1000, 5
    real, fake = features(2 * n, 8, size=4).split(n)
    precision, recall = precision_recall(real, fake)
    assert min(precision, recall) > 0.9  # 0.94 ... 0.97 over twenty seeds
    density, coverage = density_coverage(real, fake, k)
    assert density == pytest.approx(1, abs=0.08)  # Naeem et al. 2020: expected to be 1; 0.96 ... 1.03 over twenty seeds
    missed = math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))  # all k nearest of all others are real
    assert coverage == pytest.approx(1 - missed, abs=0.03)  # 0.969; within 0.013 over twenty seeds


def test_sets_far_apart() -> None:
    real, fake = features(100, 9), features(100, 10, shift=50.0)
    assert precision_recall(real, fake) == (0.0, 0.0)
    assert density_coverage(real, fake) == (0.0, 0.0)


def test_a_copy() -> None:
    real = features(100, 11)
    assert precision_recall(real, real.clone()) == (1.0, 1.0)
    density, coverage = density_coverage(real, real.clone())
    assert coverage == 1
    assert density == pytest.approx(1, abs=0.01)  # rounding decides whether a ball holds the image on its edge


def test_one_mode_of_two_is_precise_and_recalls_half() -> None:
    real = torch.cat([features(300, 12, size=4), features(300, 13, size=4, shift=50.0)])
    precision, recall = precision_recall(real, features(300, 14, size=4))
    assert precision > 0.9
    assert 0.4 < recall <= 0.5


def test_too_few_samples() -> None:
    few, many = features(3, 15), features(20, 16)
    for real, fake in ((few, many), (many, few)):
        with pytest.raises(ValueError, match="k=3: 3 samples have no 3 neighbours each"):
            precision_recall(real, fake)
    with pytest.raises(ValueError, match="k=5: 5 samples"):
        density_coverage(features(5, 17), many)
    assert precision_recall(features(4, 18), features(4, 19))[0] >= 0
    assert density_coverage(many, few)[0] >= 0  # fakes need no neighbours
