"""How many modes of the data a generator finds: by a classifier, or in a mixture of known Gaussians."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

COMMON, RARE = 0.02, 0.1


def mode_coverage(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Modes found, reverse KL divergence and modes missing, from images of each class (K,) among real ones and fakes.

    The first two after the protocol of Stacked-MNIST (Metz et al. 2017; Srivastava et al. 2017): a mode is found when
    any fake is classified as it; KL(fakes ‖ real) in nats, a class without real images counting as half of one.
    Missing, for the alarm: classes of at least 2 % of the real images and less than a tenth of that among the fakes.
    """
    if fake.sum() == 0 or real.sum() == 0:
        raise ValueError("mode coverage needs at least one real image and one fake")
    p_fake, p_real = fake.double() / fake.sum(), real.double() / real.sum()
    known = real.double().clamp_min(0.5)
    divergence = torch.special.xlogy(p_fake, p_fake / (known / known.sum())).sum()
    missing = (p_real >= COMMON) & (p_fake < RARE * p_real)
    return (fake > 0).sum(), divergence, missing.sum()


class ModeCoverage(Metric):
    """`mode_coverage` of logits (N, K) or classes (N,); computes (modes, reverse_kl, missing)."""

    higher_is_better = None
    is_differentiable = False
    full_state_update = False
    real: Tensor
    fake: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.add_state("real", torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("fake", torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, real: bool) -> None:
        """Logits (N, num_classes), or classes (N,) as integers."""
        classes = predictions.argmax(1) if predictions.ndim == 2 else predictions
        counts = torch.bincount(classes, minlength=self.num_classes)
        if real:
            self.real += counts
        else:
            self.fake += counts

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        return mode_coverage(self.real, self.fake)


def high_quality(samples: Tensor, centres: Tensor, std: float, reach: float = 3.0) -> Tensor:
    """High-quality samples of every mode (K,), for samples (N, D) and centres (K, D) of Gaussians of one deviation.

    Those within `reach` standard deviations of their nearest centre (Srivastava et al. 2017; Lin et al. 2018).
    """
    distance, centre = torch.cdist(samples.double(), centres.double()).min(1)
    return torch.bincount(centre[distance <= reach * std], minlength=len(centres))


def mixture_modes(samples: Tensor, centres: Tensor, std: float, reach: float = 3.0) -> tuple[Tensor, Tensor]:
    """Modes with any high-quality sample, and the share of such samples: see `high_quality`."""
    counts = high_quality(samples, centres, std, reach)
    return (counts > 0).sum(), counts.sum().double() / len(samples)


class MixtureModes(Metric):
    """`mixture_modes` as a metric; computes (modes, high_quality)."""

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    counts: Tensor
    total: Tensor

    def __init__(self, centres: Tensor, std: float, reach: float = 3.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.centres, self.std, self.reach = centres.double(), std, reach
        self.add_state("counts", torch.zeros(len(centres), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, samples: Tensor) -> None:
        """samples (N, D)."""
        self.counts += high_quality(samples, self.centres.to(samples.device), self.std, self.reach)
        self.total += len(samples)

    def compute(self) -> tuple[Tensor, Tensor]:
        return (self.counts > 0).sum(), self.counts.sum().double() / self.total
