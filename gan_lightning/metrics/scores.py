"""The scores by name: what each needs, and how it comes from features of real images and of fakes.

Where torchmetrics has the metric it computes it, on features instead of images. Everything is computed in float64.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from gan_lightning.metrics.manifold import DensityCoverage, ImprovedPrecisionRecall
from gan_lightning.metrics.memorisation import Diversity, Memorisation
from gan_lightning.metrics.modes import ModeCoverage
from gan_lightning.metrics.neighbours import BLOCK

Name = Literal[
    "fid",
    "kid",
    "inception_score",
    "mifid",
    "precision_recall",
    "density_coverage",
    "modes",
    "diversity",
    "memorisation",
    "mixture",
    "wasserstein",
]
SUBSET, SUBSETS = 1000, 100  # KID's (Bińkowski et al. 2018 use 100 subsets of 1000)
ALONE: dict[str, Any] = {"sync_on_compute": False}  # the first process computes, from the features of all
SPLITS = 10  # of the Inception Score (Salimans et al. 2016)
REACH = 3.0  # standard deviations from its centre that a good sample of a mixture has at most
NEAR = 0.1  # MiFID's threshold (Bai et al. 2021)


@dataclass(frozen=True)
class Features:
    """What an extractor says of a set of images: features (N, D), and logits (N, K) where it has classes."""

    features: Tensor
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, part: slice) -> "Features":
        return Features(self.features[part], None if self.logits is None else self.logits[part])


@dataclass(frozen=True)
class Value:
    """One number, its standard deviation where the metric has one, and the settings of the metric."""

    value: float
    std: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class Given(nn.Module):
    """Takes the place of the network in torchmetrics: the features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def both(metric: Any, real: Tensor, fake: Tensor) -> Any:
    """What a metric of both sets computes."""
    metric = metric.to(real.device)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    return metric.compute()


def fid(real: Features, fake: Features) -> dict[str, Value]:
    """Fréchet distance of Gaussians over the features (Heusel et al. 2017)."""
    distance = both(FrechetInceptionDistance(Given(real.features.shape[1]), **ALONE), real.features, fake.features)
    return {"fid": Value(float(distance.clamp(min=0)))}  # NaN stays NaN


def kid(real: Features, fake: Features) -> dict[str, Value]:
    """Unbiased MMD² with a cubic kernel, mean and deviation over subsets (Bińkowski et al. 2018)."""
    fewest = min(len(real), len(fake))
    size = SUBSET if fewest >= SUBSET else fewest // 2
    metric = KernelInceptionDistance(Given(real.features.shape[1]), subsets=SUBSETS, subset_size=size, **ALONE)
    mean, std = both(metric, real.features, fake.features)
    return {"kid": Value(float(mean), float(std), {"subsets": SUBSETS, "subset_size": size})}


def inception_score(real: Features, fake: Features) -> dict[str, Value]:
    """exp of the mean KL(p(y|x) ‖ p(y)), mean and deviation over splits of equal size (Salimans et al. 2016)."""
    assert fake.logits is not None
    metric = InceptionScore(nn.Identity(), splits=SPLITS, **ALONE).to(fake.logits.device)
    metric.update(fake.logits[: len(fake) // SPLITS * SPLITS].double())
    mean, std = metric.compute()
    std *= (1 - 1 / SPLITS) ** 0.5  # torchmetrics divides by one less than the splits, the paper's code by the splits
    return {"inception_score": Value(float(mean), float(std), {"splits": SPLITS})}


def mifid(real: Features, fake: Features) -> dict[str, Value]:
    """FID over the mean cosine distance of fakes to their nearest real images, if that is small (Bai et al. 2021).

    torchmetrics averages over the real images instead, and holds all distances at once.
    """
    directions = [nn.functional.normalize(x.features.double(), dim=1) for x in (real, fake)]
    nearest = [(block @ directions[0].T).abs().amax(1) for block in directions[1].split(BLOCK)]
    distance = 1 - float(torch.cat(nearest).mean())
    value = fid(real, fake)["fid"].value
    if value < 1e-8:
        return {"mifid": Value(0.0)}  # a set and itself: not a quotient of two roundings
    return {"mifid": Value(value / (max(distance, 1e-14) if distance < NEAR else 1.0))}


def precision_recall(real: Features, fake: Features) -> dict[str, Value]:
    precision, recall = both(ImprovedPrecisionRecall(k=3, **ALONE), real.features, fake.features)
    return {"precision": Value(float(precision), None, {"k": 3}), "recall": Value(float(recall), None, {"k": 3})}


def density_coverage(real: Features, fake: Features) -> dict[str, Value]:
    density, coverage = both(DensityCoverage(k=5, **ALONE), real.features, fake.features)
    return {"density": Value(float(density), None, {"k": 5}), "coverage": Value(float(coverage), None, {"k": 5})}


def modes(real: Features, fake: Features) -> dict[str, Value]:
    assert real.logits is not None
    assert fake.logits is not None
    classes = real.logits.shape[1]
    metric = ModeCoverage(classes, **ALONE).to(real.logits.device)
    metric.update(real.logits, real=True)
    metric.update(fake.logits, real=False)
    found, divergence, missing = metric.compute()
    return {
        "modes": Value(float(found), None, {"of": classes}),
        "missing_modes": Value(float(missing)),
        "reverse_kl": Value(float(divergence)),
    }


def mixture(real: Features, fake: Features) -> dict[str, Value]:
    """Of a mixture of Gaussians, whose "logits" are minus the distances to the centres in standard deviations.

    A mode is found when any high-quality sample, within REACH deviations of its nearest centre, is nearest to it
    (Srivastava et al. 2017; Lin et al. 2018). The reverse KL is that of `modes`, of all samples.
    """
    assert fake.logits is not None
    near, mode = fake.logits.max(1)
    good = mode[near >= -REACH]
    return {
        "high_quality": Value(len(good) / len(fake), None, {"reach": REACH}),
        "modes": Value(float(len(good.unique())), None, {"of": fake.logits.shape[1], "reach": REACH}),
        "reverse_kl": modes(real, fake)["reverse_kl"],
    }


def wasserstein(real: Features, fake: Features) -> dict[str, Value]:
    """Of numbers (N, 1): the Wasserstein-1 distance to real ones, and mean and deviation of the samples.

    Exact for sets of any sizes: the integral of |F(x) - G(x)| over both sets' distribution functions.
    """
    a, b = (x.features.double().flatten().sort().values for x in (real, fake))
    every = torch.cat([a, b]).sort().values
    below = [torch.searchsorted(x, every[:-1], right=True) / len(x) for x in (a, b)]
    distance = ((below[0] - below[1]).abs() * every.diff()).sum()
    return {
        "wasserstein": Value(float(distance)),
        "sample_mean": Value(float(b.mean())),
        "sample_std": Value(float(b.std())),
    }


def diversity(real: Features, fake: Features) -> dict[str, Value]:
    return {"diversity": Value(float(both(Diversity(**ALONE), real.features, fake.features)))}


def memorisation(real: Features, fake: Features) -> dict[str, Value]:
    memorised, authenticity = both(Memorisation(**ALONE), real.features, fake.features)
    return {"memorised": Value(float(memorised)), "authenticity": Value(float(authenticity))}


@dataclass(frozen=True)
class Score:
    """A score: its function and the metrics it makes.

    possible: images of either set without which there is no number. fewest: those, given the sizes of features and
    classes, without which the number says little. classifier: needs logits. fakes_alone: no real images. only: the
    one extractor that it is for.
    """

    compute: Callable[[Features, Features], dict[str, Value]]
    metrics: tuple[str, ...]
    possible: int = 2
    fewest: Callable[[int, int], int] = lambda features, classes: 2
    classifier: bool = False
    fakes_alone: bool = False
    only: str | None = None

    def images(self, n_real: int, n_fake: int) -> int:
        """The images that there are enough of, or not."""
        return n_fake if self.fakes_alone else min(n_real, n_fake)


SCORES: dict[Name, Score] = {
    "fid": Score(fid, ("fid",), fewest=lambda features, classes: features + 1),  # a covariance of full rank
    "kid": Score(kid, ("kid",), fewest=lambda features, classes: 20),
    "inception_score": Score(
        inception_score,
        ("inception_score",),
        possible=2 * SPLITS,
        fewest=lambda features, classes: 10 * classes,
        classifier=True,
        fakes_alone=True,
    ),
    "mifid": Score(mifid, ("mifid",), fewest=lambda features, classes: features + 1),
    "precision_recall": Score(precision_recall, ("precision", "recall"), 4, lambda features, classes: 4),
    "density_coverage": Score(density_coverage, ("density", "coverage"), 6, lambda features, classes: 6),
    "modes": Score(modes, ("modes", "missing_modes", "reverse_kl"), 1, lambda features, classes: 1, classifier=True),
    "diversity": Score(diversity, ("diversity",)),
    "memorisation": Score(memorisation, ("memorised", "authenticity")),
    "mixture": Score(mixture, ("high_quality", "modes", "reverse_kl"), 1, classifier=True, only="points"),
    "wasserstein": Score(wasserstein, ("wasserstein", "sample_mean", "sample_std"), only="numbers"),
}
UP = {
    "inception_score",
    "precision",
    "recall",
    "density",
    "coverage",
    "modes",
    "high_quality",
    "diversity",
    "authenticity",
    *(f"{kind}{where}" for kind in ("psnr", "ssim") for where in ("", "_y", "_hole")),
    *(f"bleu_{order}" for order in (2, 3, 4, 5)),
    *(f"distinct_{order}" for order in (1, 2, 3)),
}


def compute(names: Sequence[Name], real: Features, fake: Features, seed: int = 0) -> dict[str, Value]:
    """The values of the scores named; subsets and splits are drawn from `seed`, and from nothing else."""
    found: dict[str, Value] = {}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric `.*` will save all")
        for name in names:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed accelerators
            found |= SCORES[name].compute(real, fake)
    return found
