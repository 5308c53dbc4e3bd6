"""Whether a generator repeats its training images, by nearest neighbours; and how much samples differ at all."""

import torch
from torch import Tensor

from gan_lightning.metrics.manifold import FeatureMetric
from gan_lightning.metrics.neighbours import nearest, radii

MEMORISED = 1 / 3


def memorisation(training: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The share of memorised fakes and their authenticity, from features (N, D) and (M, D): numbers in [0, 1].

    Memorised (Yoon et al. 2023): the nearest training image is less than a third as far as the second
    nearest. Authentic (Alaa et al. 2022): further from its nearest training image than that one is from its
    own nearest neighbour; about half of new real images are. Raises ValueError for fewer than two training images.
    """
    spacing = radii(training, 1)
    distance, index = nearest(fake, training, 2)
    memorised = (distance[:, 0] < MEMORISED * distance[:, 1]) | (distance[:, 0] == 0)
    authentic = distance[:, 0] > spacing[index[:, 0]]
    return memorised.double().mean(), authentic.double().mean()


def diversity(real: Tensor, fake: Tensor) -> Tensor:
    """Mean distance between pairs of fakes (M, D), over that of real images (N, D): about 1 when they vary as much.

    Pairs are (i, i + half). Raises ValueError for fewer than two of either.
    """
    return _spread(fake) / _spread(real)


def _spread(features: Tensor) -> Tensor:
    half = len(features) // 2
    if half == 0:
        raise ValueError(f"{len(features)} samples have no pairs")
    return (features[:half].double() - features[half : 2 * half].double()).norm(dim=1).mean()


class Memorisation(FeatureMetric):
    """`memorisation` as a metric; computes (memorised, authenticity)."""

    higher_is_better = None

    def compute(self) -> tuple[Tensor, Tensor]:
        return memorisation(*self.both())


class Diversity(FeatureMetric):
    """`diversity` as a metric."""

    def compute(self) -> Tensor:
        return diversity(*self.both())


def nearest_images(images: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """For images (N, C, H, W), the indices (N,) of the nearest training images (M, C, H, W) and their distances.

    Between pixels in [-1, 1], as in figure 2 of Goodfellow et al. 2014; root mean square, so 0 … 2.
    """
    distance, index = nearest(images.flatten(1), training.flatten(1))
    return index[:, 0], distance[:, 0] / torch.tensor(images[0].numel()).sqrt()
