"""Images as numbers and as pictures."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.utils import make_grid

LEGIBLE = 48  # pixels: smaller images are shown several times as large, whole pixels


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels (..., C, H, W) -> float32 in [-1, 1], the same shape."""
    return images.float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """Images (..., C, H, W) in [-1, 1] -> uint8, the same shape: what a PNG of them holds."""
    return ((images.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def resize(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Grey levels 0..255 (N, C, h, w) of any type -> uint8 (N, C, H, W): bicubic, antialiased, clamped.

    size: H and W, or the side of a square.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] != (height, width):
        chunks = [
            functional.interpolate(chunk.float(), (height, width), mode="bicubic", antialias=True)
            .clamp_(0, 255)
            .round_()
            for chunk in images.split(4096)  # keeps the float copy small
        ]
        return torch.cat([chunk.to(torch.uint8) for chunk in chunks])
    return images if images.dtype == torch.uint8 else images.clamp(0, 255).round().to(torch.uint8)


def grid(images: Tensor, columns: int | None = None) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] -> one uint8 picture (3, h, w), as square as it goes; small ones are enlarged."""
    columns = columns or max(1, round(len(images) ** 0.5))
    return make_grid(enlarged(images), nrow=columns, padding=2, pad_value=255)


def enlarged(images: Tensor) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] -> pixels uint8 (N, C, h, w) that can be seen: whole times as large."""
    levels = to_pixels(images).cpu()
    times = max(1, LEGIBLE // levels.shape[-1])
    return levels.repeat_interleave(times, -1).repeat_interleave(times, -2)


def panels(columns: Sequence[Tensor]) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] of any sides and channels, i-th beside i-th -> one uint8 picture (3, h, w).

    Those of fewer pixels are shown in larger ones, as high as the highest.
    """
    height = max(images.shape[-2] for images in columns)
    height *= max(1, LEGIBLE // height)
    shown = [
        functional.interpolate(
            to_pixels(images).cpu().expand(-1, 3, -1, -1), scale_factor=height / images.shape[-2], mode="nearest"
        )
        for images in columns
    ]
    rows = torch.cat([functional.pad(images, (1, 1, 1, 1), value=255) for images in shown], -1)
    across = max(1, round((len(rows) / len(columns)) ** 0.5))
    return make_grid(rows, nrow=across, padding=3, pad_value=255)


def to_picture(image: Tensor) -> Image.Image:
    """uint8 (3, h, w) -> a PIL image."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def save_image(image: Tensor, path: Path) -> None:
    """One image (C, H, W) in [-1, 1] as it is, without a frame."""
    levels = to_pixels(image).cpu()
    to_picture(levels.expand(3, -1, -1) if len(levels) == 1 else levels).save(path)
