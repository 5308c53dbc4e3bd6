"""Training learns: on real digits, a score of trained samples is far from an untrained network's, for every seed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from gan_lightning import load
from gan_lightning.commands.train import run

SEEDS = (1, 2, 3)
COMMON = [
    "model=dcgan",
    "model.generator.base_channels=16",
    "model.discriminator.base_channels=16",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "samples.every_images=100000000",
    "samples.count=4",
    "scores=off",
]


def frechet_distance(images: Tensor) -> float:
    """Between Gaussians over 20 principal components of the real 8×8 digits: images (N, 1, 16, 16) in [-1, 1]."""
    real = np.asarray(load_digits(return_X_y=True)[0]) / 8 - 1  # (1797, 64)
    ours = avg_pool2d(images, 2).flatten(1).numpy()
    axes = PCA(20, random_state=0).fit(real)
    a, b = axes.transform(real), axes.transform(ours)
    covariance_a, covariance_b = np.cov(a.T), np.cov(b.T)
    eigenvalues = np.linalg.eigvals(covariance_a @ covariance_b).real.clip(0)
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    return float(mean + np.trace(covariance_a + covariance_b) - 2 * np.sqrt(eigenvalues).sum())


def score(folder: Path, seed: int, generator_steps: int) -> float:
    folder = folder / f"{seed}-{generator_steps}"
    assert run([*COMMON, f"seed={seed}", f"budget.generator_steps={generator_steps}", f"hydra.run.dir={folder}"]) == 0
    return frechet_distance(load(folder).sample(1000, seed=0))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return [score(tmp_path_factory.mktemp("untrained"), seed, 1) for seed in range(10, 15)]


def test_the_score_tells_real_from_noise() -> None:
    digits = torch.tensor(load_digits(return_X_y=True)[0] / 8 - 1, dtype=torch.float32).view(-1, 1, 8, 8)
    assert frechet_distance(interpolate(digits, (16, 16))) < 0.5 < frechet_distance(torch.rand(500, 1, 16, 16) * 2 - 1)


@pytest.mark.parametrize("seed", [SEEDS[0], *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])])
def test_trained_samples_are_far_from_untrained_ones(seed: int, untrained: list[float], tmp_path: Path) -> None:
    trained = score(tmp_path, seed, 500)
    print(f"seed {seed}: {trained:.2f}, untrained {np.mean(untrained):.2f} ± {np.std(untrained, ddof=1):.2f}")
    assert trained < np.mean(untrained) - 5 * np.std(untrained, ddof=1)
    assert trained < 0.5 * np.mean(untrained)
