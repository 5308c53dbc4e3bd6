"""Scores of pairs, an image beside the one that it should be: L1, PSNR, SSIM and LPIPS; of all of it, Y, or the hole.

Means over the images of what each has by itself. Levels are 0 … 255 rounded, as they are in files, divided by 255. An
exact image counts MOST dB. Images whose holes lie within a border that is left out have no scores of holes.
SSIM (Wang et al. 2004) has a Gaussian window of 11 pixels with σ = 1.5, as torchmetrics has it: what is published of
super-resolution is often another one's.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad
from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

from gan_lightning.errors import UserError
from gan_lightning.metrics.scores import Value

PairedName = Literal["l1", "psnr", "ssim", "psnr_y", "ssim_y", "l1_hole", "psnr_hole", "ssim_hole", "lpips"]
MOST = 100.0  # dB
WINDOW, SIGMA = 5, 1.5  # of SSIM: so many pixels to either side
SMALLEST = 6  # pixels of a side that SSIM's window, mirrored at the border, can bear


class Pair(NamedTuple):
    """How images should be and how they are, uint8 (N, C, H, W), and their holes (N, 1, H, W), bool, where they have
    any."""

    real: Tensor
    fake: Tensor
    mask: Tensor | None = None


def luma(levels: Tensor) -> Tensor:
    """R, G, B in [0, 1] (N, 3, H, W) -> Y (N, 1, H, W), 16/255 … 235/255 (ITU-R BT.601), as MATLAB's rgb2ycbcr."""
    weights = torch.tensor([65.481, 128.553, 24.966], device=levels.device, dtype=levels.dtype)
    return (16 + (levels * weights[:, None, None]).sum(1, keepdim=True)) / 255


class LPIPS:
    """Distance in AlexNet's features (Zhang et al. 2018). Raises UserError where its network cannot be fetched."""

    def __init__(self) -> None:
        try:
            self.network = LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
        except OSError as error:
            raise UserError(
                f"scores.names=[lpips]: its network cannot be fetched ({error}); put torchvision's AlexNet weights "
                f"into {torch.hub.get_dir()}/checkpoints, or use psnr and ssim"
            ) from None

    @torch.no_grad()
    def __call__(self, real: Tensor, fake: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] -> (N,)."""
        every = []
        for pair in zip(real.split(1), fake.split(1), strict=True):
            self.network.reset()
            self.network.update(*(image.expand(-1, 3, -1, -1) for image in pair))
            every.append(self.network.compute())
        return torch.stack(every)


@cache
def lpips() -> LPIPS:
    """The network, loaded once. Raises UserError where it cannot be fetched."""
    return LPIPS()


def paired(names: Sequence[PairedName], pairs: Iterable[Pair], border: int = 0) -> dict[str, Value]:
    """The scores; `border`: so many pixels at each side are left out. Raises UserError for what has no such score.

    Names ending in _y are of the luma of colour images, those ending in _hole of the pixels in the mask alone; for SSIM
    of the windows around them.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for pair in pairs:
        if min(pair.real.shape[-2:]) <= 2 * border:
            sides = f"{pair.real.shape[-1]}×{pair.real.shape[-2]}"
            raise UserError(f"scores.border={border}: an image of {sides} has nothing inside")
        inside = (..., slice(border, -border or None), slice(border, -border or None))
        real, fake = pair.real[inside].double() / 255, pair.fake[inside].double() / 255
        mask = None if pair.mask is None else pair.mask[inside]
        size = f"{real.shape[-1]}×{real.shape[-2]}"
        for name in names:
            kind, _, where = name.partition("_")
            if kind in ("ssim", "lpips") and min(real.shape[-2:]) < SMALLEST:
                raise UserError(f"scores.names=[{name}]: an image of {size} is too small (border: {border})")
            if where == "y" and real.shape[1] != 3:
                raise UserError(f"scores.names=[{name}]: needs colour images")
            if where == "hole" and mask is None:
                raise UserError(f"scores.names=[{name}]: there are no holes")
            if kind == "lpips":
                found[name].append(lpips()(real.float(), fake.float()))
                continue
            one, other = (luma(real), luma(fake)) if where == "y" else (real, fake)
            if where != "hole" or mask is None:
                found[name].append(each(kind, one, other, None))
            elif (rows := mask.flatten(1).any(1)).any():
                found[name].append(each(kind, one[rows], other[rows], mask[rows]))
    if empty := [name for name, values in found.items() if not values]:
        raise UserError(f"scores.names=[{empty[0]}]: no image has a hole inside a border of {border}")
    return {
        name: Value(float(torch.cat(values).mean()), None, protocol(name, border)) for name, values in found.items()
    }


def protocol(name: str, border: int) -> dict[str, Any]:
    """What a record says of how it was made."""
    where = {"y": "Y (BT.601, 16-235)", "hole": "the hole alone"}.get(name.partition("_")[2], "all channels")
    return {"of": where, "crop_border": border}


def each(kind: str, real: Tensor, fake: Tensor, mask: Tensor | None) -> Tensor:
    """L1, PSNR or SSIM of each image: levels (N, C, H, W) in [0, 1] -> (N,); `mask`: of these pixels alone."""

    def mean(values: Tensor) -> Tensor:
        """(N, C, H, W) -> (N,)."""
        if mask is None:
            return values.flatten(1).mean(1)
        return (values * mask).flatten(1).sum(1) / (mask.flatten(1).sum(1) * values.shape[1])

    if kind == "l1":
        return mean((fake - real).abs())
    if kind == "psnr":
        return (-10 * mean((fake - real).square()).log10()).clamp(max=MOST)
    return mean(similarity(real, fake))


def similarity(real: Tensor, fake: Tensor) -> Tensor:
    """SSIM around each pixel, of levels (N, C, H, W) in [0, 1]: eq. 13 of Wang et al. 2004."""
    first, second = 0.01**2, 0.03**2
    a, b, aa, bb, ab = (smooth(levels) for levels in (real, fake, real * real, fake * fake, real * fake))
    spread = (aa - a * a).clamp(min=0) + (bb - b * b).clamp(min=0)
    alike = (2 * a * b + first) * (2 * (ab - a * b) + second)
    return alike / ((a * a + b * b + first) * (spread + second))


def smooth(levels: Tensor) -> Tensor:
    """Means under SSIM's window, (N, C, H, W); along one side after the other: 22 products a pixel and not 121."""
    away = torch.arange(-WINDOW, WINDOW + 1, dtype=levels.dtype, device=levels.device)
    weights = (-(away**2) / (2 * SIGMA**2)).softmax(0)
    shape, levels = levels.shape, pad(levels, (WINDOW,) * 4, mode="reflect").flatten(0, 1)[:, None]
    return conv2d(conv2d(levels, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1)).view(shape)
