"""Fidelity and variety apart: improved precision and recall, density and coverage, from balls around features.

The balls reach to the k-th nearest neighbour within the same set.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gan_lightning.metrics.neighbours import BLOCK, distances, radii


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
    """Kynkäänniemi et al. 2019, section 2, from features (N, D) and (M, D): two numbers in [0, 1].

    Precision: the share of fakes within the ball of any real image. Recall: the share of real images within the ball of
    any fake. Raises ValueError unless there are more than k samples of either.
    """
    real_radii, fake_radii = radii(real, k), radii(fake, k)
    precise, recalled = [], torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, its_radii in zip(distances(fake, real), fake_radii.split(BLOCK), strict=True):  # (block, N)
        precise.append((rows <= real_radii).any(1))
        recalled |= (rows <= its_radii[:, None]).any(0)
    return torch.cat(precise).double().mean(), recalled.double().mean()


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[Tensor, Tensor]:
    """Naeem et al. 2020, section 3, from features (N, D) and (M, D).

    Density: how many real balls hold a fake, over k, on average (may exceed 1). Coverage: the share of real images
    whose ball holds any fake. Raises ValueError unless there are more than k real samples.
    """
    real_radii = radii(real, k)
    held, covered = 0, torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows in distances(fake, real):
        inside = rows < real_radii
        held += inside.sum()
        covered |= inside.any(0)
    return torch.as_tensor(held).double() / (k * len(fake)), covered.double().mean()


class FeatureMetric(Metric):
    """Keeps the features (N, D) of real images and fakes; a subclass computes from all of them."""

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """features (N, D) of real images or of fakes."""
        (self.real if real else self.fake).append(features)

    def both(self) -> tuple[Tensor, Tensor]:
        """All features of real images and of fakes."""
        return dim_zero_cat(self.real), dim_zero_cat(self.fake)


class ImprovedPrecisionRecall(FeatureMetric):
    """`precision_recall` as a metric; computes (precision, recall)."""

    def __init__(self, k: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k

    def compute(self) -> tuple[Tensor, Tensor]:
        return precision_recall(*self.both(), k=self.k)


class DensityCoverage(FeatureMetric):
    """`density_coverage` as a metric; computes (density, coverage)."""

    def __init__(self, k: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k

    def compute(self) -> tuple[Tensor, Tensor]:
        return density_coverage(*self.both(), k=self.k)
