"""Modes found by a classifier and in mixtures: against scipy, loops and known answers."""

import math

import pytest
import torch
from scipy.stats import entropy
from torch import Tensor

from gan_lightning.metrics.modes import MixtureModes, ModeCoverage, high_quality, mixture_modes, mode_coverage

EXACT = 1e-12
STD = 0.02


def counts(*values: int) -> Tensor:
    return torch.tensor(values)


def random_counts(classes: int, seed: int) -> Tensor:
    """Counts (classes,) of which none is 0."""
    return torch.randint(1, 500, (classes,), generator=torch.Generator().manual_seed(seed))


def ring(modes: int = 8, radius: float = 2.0) -> Tensor:
    """Centres (modes, 2) on a circle."""
    angles = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
    return radius * torch.stack([angles.cos(), angles.sin()], 1)


def naive_mixture(samples: Tensor, centres: Tensor, std: float, reach: float = 3.0) -> tuple[int, float]:
    """Modes found and the share of high-quality samples, one sample at a time."""
    found, good = set(), 0
    for sample in samples.tolist():
        away = [math.dist(sample, centre) for centre in centres.tolist()]
        if min(away) <= reach * std:
            found.add(away.index(min(away)))
            good += 1
    return len(found), good / len(samples)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_reverse_kl_equals_scipy(classes: int) -> None:
    real, fake = random_counts(classes, 0), random_counts(classes, 1)
    fake[:: max(2, classes // 3)] = 0
    modes, divergence, _ = mode_coverage(real, fake)
    assert float(divergence) == pytest.approx(entropy(fake.numpy(), real.numpy()), rel=EXACT)
    assert int(modes) == sum(count > 0 for count in fake.tolist())


def test_one_class_of_a_uniform_data_set() -> None:
    for classes in (2, 10, 1000):
        fake = torch.zeros(classes, dtype=torch.long)
        fake[classes // 2] = 77
        modes, divergence, missing = mode_coverage(torch.full((classes,), 50), fake)
        assert int(modes) == 1
        assert float(divergence) == pytest.approx(math.log(classes), rel=EXACT)
        assert int(missing) == (classes - 1 if classes <= 50 else 0)  # each of 1000 is rarer than the alarm cares for


def test_equal_shares_have_no_divergence() -> None:
    real = random_counts(10, 2)
    modes, divergence, missing = mode_coverage(real, 3 * real)
    assert (int(modes), int(missing)) == (10, 0)
    assert float(divergence) == pytest.approx(0, abs=1e-15)


def test_a_class_without_real_images_counts_as_half_of_one() -> None:
    real, fake = counts(0, 60, 40), counts(10, 50, 40)
    _, divergence, _ = mode_coverage(real, fake)
    assert float(divergence) == pytest.approx(entropy([10, 50, 40], [0.5, 60, 40]), rel=EXACT)
    _, divergence, _ = mode_coverage(counts(0, 0, 5), counts(3, 0, 0))
    assert float(divergence) == pytest.approx(math.log(6 / 0.5), rel=EXACT)


def test_missing_modes_are_common_ones_that_fakes_have_a_tenth_of() -> None:
    real = counts(500, 300, 180, 19, 1)  # the last two are below 2 %
    for fake, missing in (
        (counts(500, 300, 180, 19, 1), 0),
        (counts(500, 500, 0, 0, 0), 1),
        (counts(1000, 0, 0, 0, 0), 2),
        (counts(0, 0, 0, 0, 7), 3),
        (counts(950, 31, 19, 0, 0), 0),  # just over a tenth of 30 % and 18 %
        (counts(954, 29, 17, 0, 0), 2),  # just under
    ):
        assert int(mode_coverage(real, fake)[2]) == missing


def test_nothing_to_compare() -> None:
    for real, fake in ((counts(0, 0), counts(1, 2)), (counts(1, 2), counts(0, 0))):
        with pytest.raises(ValueError, match="at least one real image and one fake"):
            mode_coverage(real, fake)


def test_mode_metric_counts_logits_and_classes_in_any_batches() -> None:
    stream = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 1000, 7, generator=stream)
    logits[1, :, 2] -= 3  # fakes of class 2 are rare
    real, fake = logits.argmax(2)
    expected = mode_coverage(torch.bincount(real, minlength=7), torch.bincount(fake, minlength=7))
    metric = ModeCoverage(7)
    for part in range(0, 1000, 300):
        metric.update(logits[0, part : part + 300], real=True)
        metric.update(fake[part : part + 300], real=False)  # classes instead of logits
    for found, wanted in zip(metric.compute(), expected, strict=True):
        assert torch.equal(found, wanted)
    metric.reset()
    metric.update(counts(6, 6, 0), real=True)
    metric.update(counts(6), real=False)
    modes, divergence, _ = metric.compute()
    assert int(modes) == 1
    assert float(divergence) == pytest.approx(
        entropy([0, 0, 0, 0, 0, 0, 1], [1, 0.5, 0.5, 0.5, 0.5, 0.5, 2]), rel=EXACT
    )


def test_a_ring_of_known_samples() -> None:
    centres = ring()
    sideways = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    inside, outside = centres[:5] + 2.9 * STD * sideways, centres[4:7] + 3.1 * STD * sideways
    samples = torch.cat([inside, inside[:2], outside])  # 5 modes; 7 of 10 samples are good
    assert high_quality(samples, centres, STD).tolist() == [2, 2, 1, 1, 1, 0, 0, 0]
    modes, share = mixture_modes(samples, centres, STD)
    assert (int(modes), float(share)) == (5, pytest.approx(0.7, rel=EXACT))
    modes, share = mixture_modes(samples, centres, STD, reach=3.2)
    assert (int(modes), float(share)) == (7, 1.0)
    modes, share = mixture_modes(torch.zeros(4, 2), centres, STD)
    assert (int(modes), float(share)) == (0, 0.0)


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_mixtures_equal_a_loop(spread: float) -> None:
    stream = torch.Generator().manual_seed(4)
    centres = ring()
    mode = torch.randint(6, (3000,), generator=stream)  # two modes are never drawn
    samples = centres[mode] + spread * STD * torch.randn(3000, 2, generator=stream, dtype=torch.float64)
    modes, share = mixture_modes(samples, centres, STD)
    assert (int(modes), float(share)) == (6, pytest.approx(naive_mixture(samples, centres, STD)[1], rel=EXACT))
    assert naive_mixture(samples, centres, STD)[0] == 6
    if spread == 1:  # within three deviations of a Gaussian in the plane
        assert float(share) == pytest.approx(1 - math.exp(-4.5), abs=0.008)  # four standard errors
    metric = MixtureModes(centres, STD)
    for part in samples.split(700):
        metric.update(part)
    assert tuple(map(float, metric.compute())) == (float(modes), float(share))
    metric.reset()
    metric.update(samples[:10])
    assert tuple(map(float, metric.compute())) == tuple(map(float, mixture_modes(samples[:10], centres, STD)))
