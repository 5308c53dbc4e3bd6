"""A trained model beside what fills holes without learning: python -m benchmarks.inpainting CHECKPOINT [data.key=…] …

L1, PSNR and SSIM inside the holes (metrics/paired.py) of the held-out images of the run's own data, with the same masks
for all. OpenCV's two methods need opencv-python-headless, the biharmonic one scikit-image; rows without their package
say so.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.throughput import table
from gan_lightning.commands.loading import choose_device, load_data, load_module, stored_config
from gan_lightning.errors import UserError
from gan_lightning.metrics.own import Measuring
from gan_lightning.metrics.paired import Pair, PairedName, paired
from gan_lightning.translation import Translator

NAMES: list[PairedName] = ["l1_hole", "psnr_hole", "ssim_hole"]
RADIUS = 3  # pixels around each one that OpenCV's methods look at, as in its documentation
Fill = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[Any]]  # (H, W, C), (H, W) -> (H, W, C), levels


def mean_colour(image: NDArray[np.uint8], hole: NDArray[np.bool_]) -> NDArray[Any]:
    """The mean of what is known, in the whole hole."""
    return np.where(hole[..., None], image[~hole].mean(0), image) if not hole.all() else image


def opencv(method: str) -> Fill:
    """OpenCV's "telea" (Telea 2004) or "ns" (Navier–Stokes, Bertalmio et al. 2001)."""
    import cv2  # pyright: ignore[reportMissingImports]  # optional

    flag = {"telea": cv2.INPAINT_TELEA, "ns": cv2.INPAINT_NS}[method]

    def fill(image: NDArray[np.uint8], hole: NDArray[np.bool_]) -> NDArray[Any]:
        made = cv2.inpaint(np.ascontiguousarray(image), hole.astype(np.uint8), RADIUS, flag)
        return made.reshape(image.shape)  # which drops a single channel

    return fill


def biharmonic() -> Fill:
    """scikit-image's (Damelin & Hoang 2018)."""
    from skimage.restoration import inpaint_biharmonic  # pyright: ignore[reportMissingImports]  # optional

    return lambda image, hole: 255 * inpaint_biharmonic(image / 255, hole, channel_axis=-1)


BASELINES: dict[str, tuple[Callable[[], Fill], str]] = {  # how to make it, and the package that it needs
    "mean colour of what is known": (lambda: mean_colour, ""),
    "OpenCV, Telea": (lambda: opencv("telea"), "opencv-python-headless"),
    "OpenCV, Navier–Stokes": (lambda: opencv("ns"), "opencv-python-headless"),
    "scikit-image, biharmonic": (biharmonic, "scikit-image"),
}


def filled(pair: Pair, fill: Fill) -> Pair:
    """The truth (N, C, H, W) with its holes filled by `fill`, which is not shown what was in them."""
    assert pair.mask is not None
    made = []
    for image, mask in zip(pair.real, pair.mask, strict=True):
        hole = mask[0].numpy()
        levels = image.permute(1, 2, 0).numpy()
        levels = np.where(hole[..., None], np.uint8(0), levels)
        result = fill(levels, hole)
        kept = np.where(hole[..., None], np.clip(np.rint(result), 0, 255).astype(np.uint8), levels)
        made.append(torch.from_numpy(kept).permute(2, 0, 1))
    return Pair(pair.real, torch.stack(made), pair.mask)


def held_out(data: Any) -> Iterator[Pair]:
    """The held-out images and their masks, not filled."""
    for batch in data.val_dataloader():
        yield Pair(batch["image"], batch["image"], batch["mask"])


def compare(module: Translator, data: Any, images: int | None = None) -> list[list[str]]:
    """Rows of the table: a name and the scores, or why there are none."""
    if not module.takes_masks:
        raise UserError(f"{type(module).__name__} fills no holes")
    if images:
        data.held_out = data.held_out.subset(torch.arange(min(images, len(data.held_out))))
    module.show(data)
    rows = [[type(module).__name__, *numbers(module.measure(data, Measuring(also=NAMES)))]]
    for name, (make, package) in BASELINES.items():
        try:
            fill = make()
        except ImportError:
            rows.append([name, f"not installed: pip install {package}", *["–"] * (len(NAMES) - 1)])
            continue
        rows.append([name, *numbers(paired(NAMES, (filled(pair, fill) for pair in held_out(data))))])
    return rows


def numbers(found: dict[str, Any]) -> list[str]:
    return [f"{found[name].value:.4g}" for name in NAMES]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("benchmarks.inpainting", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a run's folder or a .ckpt")
    parser.add_argument("moved", nargs="*", help="where its data has moved, or other masks: data.root=… data.masks=…")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "gpu"], default="auto")
    parser.add_argument("--images", type=int, help="held-out images, the first of them; all by default")
    options = parser.parse_args(arguments)
    config = stored_config(options.checkpoint, options.moved)
    module = load_module(options.checkpoint, config).to(choose_device(options.accelerator))
    if not isinstance(module, Translator):
        raise UserError(f"checkpoint={options.checkpoint}: {type(module).__name__} fills no holes")
    data = load_data(config)
    rows = compare(module, data, options.images)
    count = len(cast(Any, data).held_out)
    print(f"{count:,} held-out images, {config['data']['image_size']} pixels, inside the hole alone:\n")
    print("\n".join(table(["", "L1 ↓", "PSNR ↑", "SSIM ↑"], rows)))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"benchmarks.inpainting: {error}")
