"""Memorisation, authenticity, diversity and nearest images: against loops, known answers and closed forms."""

import math

import pytest
import torch
from torch import Tensor

from gan_lightning.metrics.memorisation import Diversity, Memorisation, diversity, nearest_images
from gan_lightning.metrics.memorisation import memorisation as ours_memorisation
from gan_lightning.metrics.neighbours import BLOCK

EXACT = 1e-12


def features(count: int, seed: int, size: int = 8) -> Tensor:
    """Gaussian features (count, size) float64."""
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def memorisation(training: Tensor, fake: Tensor) -> tuple[float, float]:
    memorised, authenticity = ours_memorisation(training, fake)
    return float(memorised), float(authenticity)


def naive(training: Tensor, fake: Tensor) -> tuple[float, float]:
    """The share of memorised fakes and their authenticity, one distance at a time."""
    reals = training.tolist()
    memorised = authentic = 0
    for sample in fake.tolist():
        away = [math.dist(sample, one) for one in reals]
        first, second = sorted(away)[:2]
        memorised += first < second / 3 or first == 0
        nearest = away.index(first)
        own = min(math.dist(reals[nearest], one) for index, one in enumerate(reals) if index != nearest)
        authentic += first > own
    return memorised / len(fake), authentic / len(fake)


def naive_diversity(real: Tensor, fake: Tensor) -> float:
    """Mean distances of the first half to the second, fakes' over real images'."""
    spreads = []
    for rows in (fake.tolist(), real.tolist()):
        half = len(rows) // 2
        spreads.append(sum(math.dist(rows[i], rows[half + i]) for i in range(half)) / half)
    return spreads[0] / spreads[1]


@pytest.mark.parametrize(("n_real", "n_fake"), [(150, 150), (90, 200), (2, 30)])
@pytest.mark.parametrize("size", [1, 4, 40])
def test_equals_a_loop(n_real: int, n_fake: int, size: int) -> None:
    training, fake = features(n_real, 0, size), features(n_fake, 1, size)
    fake[: n_fake // 3] = training[torch.arange(n_fake // 3) % n_real] + 0.3 * fake[: n_fake // 3]  # some are close
    assert memorisation(training, fake) == pytest.approx(naive(training, fake), rel=EXACT)


def test_more_than_a_block() -> None:
    training, fake = features(BLOCK + 100, 2), features(BLOCK + 50, 3)
    fake[::5] = training[: len(fake[::5])]
    parts = [memorisation(training, part) for part in fake.split(350)]
    assert memorisation(training, fake) == pytest.approx(torch.tensor(parts).mean(0).tolist(), rel=1e-6)
    assert naive(training, fake[BLOCK - 5 :]) == pytest.approx(memorisation(training, fake[BLOCK - 5 :]), rel=EXACT)


@pytest.mark.parametrize("size", [2, 8, 64])
def test_a_copied_training_set_is_memorised(size: int) -> None:
    training = features(BLOCK + 200, 4, size)
    assert memorisation(training, training.flip(0)) == (1.0, 0.0)
    assert memorisation(training, training[:1].repeat(20, 1)) == (1.0, 0.0)


@pytest.mark.parametrize("size", [8, 64])
def test_copies_of_training_images_that_are_there_twice_are_memorised(size: int) -> None:
    training = features(200, 5, size)
    assert memorisation(training.repeat(2, 1), training) == (1.0, 0.0)


def test_fresh_samples_of_the_same_distribution() -> None:
    training, fresh = features(2000, 6).chunk(2)
    memorised, authenticity = memorisation(training, fresh)
    assert memorised < 0.01
    assert 0.45 < authenticity < 0.7  # 0.52 ... 0.62 over ten seeds; more in more dimensions


@pytest.mark.parametrize("size", [1, 2, 3])
def test_fresh_samples_of_uniform_noise(size: int) -> None:
    noise = torch.rand(6000, size, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    memorised, authenticity = memorisation(*noise.chunk(2))
    assert memorised == pytest.approx(3**-size, abs=0.02)  # the ball to the second holds the nearest anywhere
    if size == 1:  # two of three points on a line are their nearest one's nearest
        assert authenticity == pytest.approx(1 / 3, abs=0.04)


def test_fakes_far_away_are_authentic() -> None:
    assert memorisation(features(100, 8), features(100, 9) + 50) == (0.0, 1.0)


def test_known_distances() -> None:
    training = torch.tensor([[0.0], [4.0], [10.0]])
    fake = torch.tensor([[0.9], [1.0], [1.1], [-5.0], [10.0], [17.0]])
    # nearest and second: (0.9, 3.1), (1, 3), (1.1, 2.9), (5, 9), (0, 6), (7, 13); own neighbours at 4, 4, 6
    assert memorisation(training, fake) == pytest.approx((2 / 6, 2 / 6), rel=EXACT)


def test_metrics_equal_the_functions_in_any_batches() -> None:
    training, fake = features(700, 10), features(500, 11)
    fake[:100] = training[:100]
    memorised, spread = Memorisation(), Diversity()
    for part in training.split(300):
        memorised.update(part, real=True)
        spread.update(part, real=True)
    for part in fake.split(160):
        memorised.update(part, real=False)
        spread.update(part, real=False)
    assert tuple(map(float, memorised.compute())) == memorisation(training, fake)
    assert float(spread.compute()) == float(diversity(training, fake))


@pytest.mark.parametrize("count", [2, 3, 100, 101])
def test_diversity_equals_a_loop(count: int) -> None:
    real, fake = features(50, 12), 0.5 * features(count, 13)
    assert float(diversity(real, fake)) == pytest.approx(naive_diversity(real, fake), rel=EXACT)
    assert float(diversity(real.float(), fake.float())) == pytest.approx(naive_diversity(real, fake), rel=1e-6)


def test_diversity_of_known_sets() -> None:
    real, fake = features(1000, 14).chunk(2)
    assert float(diversity(real, fake)) == pytest.approx(1, abs=0.06)  # 0.97 ... 1.02 over ten seeds
    assert float(diversity(real, real + 3)) == pytest.approx(1, rel=EXACT)
    assert float(diversity(real, 0.25 * real)) == pytest.approx(0.25, rel=EXACT)
    assert float(diversity(real, real[:1].repeat(300, 1))) == 0


def test_too_few_samples() -> None:
    with pytest.raises(ValueError, match="1 samples have no 1 neighbours"):
        memorisation(features(1, 15), features(9, 16))
    for real, fake in ((features(1, 17), features(9, 18)), (features(9, 19), features(1, 20))):
        with pytest.raises(ValueError, match="1 samples have no pairs"):
            diversity(real, fake)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7)])
def test_nearest_images_equal_a_loop(shape: tuple[int, int, int]) -> None:
    stream = torch.Generator().manual_seed(21)
    images, training = (
        2 * torch.rand(20, *shape, generator=stream) - 1,
        2 * torch.rand(60, *shape, generator=stream) - 1,
    )
    images[3] = training[41]
    index, distance = nearest_images(images, training)
    for image, found, away in zip(images.double(), index.tolist(), distance.tolist(), strict=True):
        squares = [float(((image - one) ** 2).mean()) for one in training.double()]
        assert squares[found] == min(squares)
        assert away == pytest.approx(math.sqrt(min(squares)), rel=1e-7, abs=1e-6)
    assert (index[3], index.shape, distance.shape) == (41, (20,), (20,))


def test_nearest_images_are_a_root_mean_square_away() -> None:
    black, white = -torch.ones(1, 3, 5, 5), torch.ones(1, 3, 5, 5)
    training = torch.cat([white, black + 0.1])
    index, distance = nearest_images(torch.cat([black, white]), training)
    assert index.tolist() == [1, 0]
    assert distance.tolist() == pytest.approx([0.1, 0.0], rel=1e-6)
    assert nearest_images(black, white)[1].item() == pytest.approx(2, rel=1e-7)  # as far as it goes
