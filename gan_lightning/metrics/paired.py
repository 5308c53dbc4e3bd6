"""Scores of pairs, an image beside the one that it should be: L1, PSNR, SSIM and LPIPS, by torchmetrics."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError
from torchmetrics.image import (
    LearnedPerceptualImagePatchSimilarity,
    PeakSignalNoiseRatio,
    StructuralSimilarityIndexMeasure,
)

from gan_lightning.errors import UserError
from gan_lightning.metrics.scores import Value

PairedName = Literal["l1", "psnr", "ssim", "lpips"]


def metric(name: PairedName) -> Any:
    """The metric, of images in [0, 1]. Raises UserError where LPIPS' network cannot be fetched."""
    if name == "l1":
        return MeanAbsoluteError()
    if name == "psnr":
        return PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean")
    if name == "ssim":
        return StructuralSimilarityIndexMeasure(data_range=1.0)
    try:
        return LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
    except OSError as error:
        raise UserError(
            f"scores.names=[lpips]: its network cannot be fetched ({error}); put torchvision's AlexNet weights into "
            f"{torch.hub.get_dir()}/checkpoints, or use psnr and ssim"
        ) from None


def paired(names: list[PairedName], pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[Any, dict[str, Value]]:
    """Means over pairs of pixels uint8 (N, C, H, W): how it should be, how it is."""
    metrics = {name: metric(name) for name in names}
    for real, fake in pairs:
        for each in metrics.values():
            each.update((fake / 255).contiguous(), (real / 255).contiguous())
    return {name: {name: Value(float(each.compute()))} for name, each in metrics.items()}
