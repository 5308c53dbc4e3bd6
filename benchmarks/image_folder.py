"""A folder of JPEG files read by us and by torchvision, in one run: python -m benchmarks.image_folder.

Makes the files, then in every round an epoch of each, one after the other: images/s up to float batches in [-1, 1] on
the CPU. Prints Markdown; it and the numbers go to benchmarks/results/image_folder.{md,json}.
"""

import argparse
import json
import logging
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from gan_lightning.data.image_folder import ImageFolder

RESULTS = Path(__file__).parent / "results"
BATCH = 64
MINIBATCHES = 8  # of a Lightning batch: the default of step.minibatches


def write_files(root: Path, count: int, side: int) -> float:
    """`count` JPEG files of smooth noise with some grain, in ten folders; their size in MB."""
    random = np.random.default_rng(0)
    size = 0
    for number in range(count):
        path = root / f"class {number % 10}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        grainy = smooth + random.normal(0, 4, (side, side, 1)).astype(np.float32)
        Image.fromarray(grainy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        size += path.stat().st_size
    return size / 1e6


def theirs(root: Path, size: int, workers: int) -> DataLoader[Any]:
    """What tutorials write."""
    steps = [
        transforms.Resize(size),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ]
    images = torchvision.datasets.ImageFolder(str(root), transforms.Compose(steps))
    return DataLoader(images, BATCH, shuffle=True, drop_last=True, num_workers=workers)


def ours(root: Path, size: int, cache: Path | Literal["off"]) -> ImageFolder:
    """Loaded, its pixels decoded if they are not in the cache."""
    data = ImageFolder(root, held_out=0, cache=cache, batch_size=BATCH, image_size=size, channels=3, seed=0)
    data.setup()
    return data


def epoch(data: ImageFolder, number: int) -> Iterable[torch.Tensor]:
    """Images (K, B, C, H, W), as a training step gets them."""
    for batch in data.minibatches(epoch=number, start=0, per_batch=MINIBATCHES):
        yield data.on_after_batch_transfer(batch, 0)["image"]


def count(batches: Iterable[torch.Tensor]) -> int:
    return sum(images[..., 0, 0, 0].numel() for images in batches)


def measure(root: Path, caches: Path, size: int, workers: list[int], rounds: int) -> dict[str, list[float]]:
    """Images/s of every contender in every round; and the seconds until a later run has its images."""
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        for some in workers:
            loader = theirs(root, size, some)
            began = time.perf_counter()
            images = count(batch for batch, _ in loader)
            found[f"torchvision, {some} workers, every epoch"].append(images / (time.perf_counter() - began))
        for run in ("first", "later"):
            began = time.perf_counter()
            data = ours(root, size, caches / str(number))
            found[f"seconds until the {run} run has its images"].append(time.perf_counter() - began)
            images = count(epoch(data, 0))
            found[f"ours, first epoch of the {run} run"].append(images / (time.perf_counter() - began))
        for name, some in (("cache", data), ("cache=off, in memory", ours(root, size, "off"))):
            began = time.perf_counter()
            images = count(epoch(some, number + 1))
            found[f"ours, later epochs ({name})"].append(images / (time.perf_counter() - began))
    return dict(found)


def machine(cores: int) -> dict[str, Any]:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": cores,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
    }


def table(found: dict[str, list[float]], about: dict[str, Any]) -> str:
    speeds = {name: values for name, values in found.items() if name.startswith(("torchvision", "ours"))}
    best = max(statistics.median(values) for name, values in speeds.items() if name.startswith("torchvision"))
    lines = [
        f"{about['files']:,} JPEG files of {about['side']}×{about['side']} ({about['megabytes']:.0f} MB) to "
        f"{about['size']}×{about['size']}, batch {BATCH}; medians of {about['rounds']} interleaved rounds (spread).",
        "",
        "| | images/s | × the faster torchvision |",
        "|---|---|---|",
    ]
    for name, values in speeds.items():
        middle = statistics.median(values)
        lines.append(f"| {name} | {middle:,.0f} ({min(values):,.0f} to {max(values):,.0f}) | {middle / best:.2f} |")
    made, again = (
        statistics.median(found[f"seconds until the {run} run has its images"]) for run in ("first", "later")
    )
    hardware = ", ".join(f"{key} {value}" for key, value in about["machine"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"The first run has its images after {made:.1f} s, a later one after {again:.2f} s. {hardware}.",
            f"`{about['command']}`",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_folder")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=96, help="of the JPEG files")
    parser.add_argument("--size", type=int, default=64, help="of the images for training")
    parser.add_argument("--threads", type=int, default=2, help="cores that everything runs on")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of torchvision's loader; ours has none")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    logging.getLogger("gan_lightning").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        root, caches = Path(folder) / "photos", Path(folder) / "caches"
        about = vars(given) | {"megabytes": write_files(root, given.files, given.side)}
        found = measure(root, caches, given.size, given.workers, given.rounds)
    about |= {
        "machine": machine(given.threads),
        "command": shlex.join(["python", "-m", "benchmarks.image_folder", *sys.argv[1:]]),
    }
    text = table(found, about)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "image_folder.md").write_text(text + "\n")
    (RESULTS / "image_folder.json").write_text(json.dumps(about | {"found": found}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
