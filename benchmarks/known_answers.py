"""Scores whose answers are known: python -m benchmarks.known_answers [folder that holds MNIST/raw].

Prints a Markdown table for scikit-learn's digits and, with the folder, for MNIST: `digits` extractor, seed 0.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from gan_lightning.data.base import ImageData
from gan_lightning.data.digits import Digits
from gan_lightning.data.mnist import MNIST
from gan_lightning.metrics.extractors import Extractor, load_extractor
from gan_lightning.metrics.scores import Name, compute
from gan_lightning.metrics.scoring import extract

NAMES: list[Name] = ["fid", "kid", "precision_recall", "density_coverage", "modes", "diversity", "memorisation"]
SHOWN = ["fid", "kid", "precision", "recall", "density", "coverage", "modes", "reverse_kl", "diversity", "memorised"]
MOST = 10_000


def sets(data: ImageData) -> Iterator[tuple[str, Tensor, Tensor]]:
    """What is compared: a name, the images taken as real, those taken as generated."""
    data.setup()
    batch = data.train.__getitems__(range(min(2 * MOST, len(data.train))))
    images, labels = batch["image"], batch["label"]
    test = data.held_out.__getitems__(range(min(MOST, len(data.held_out))))["image"]
    train = images[:MOST]
    yield "train and train", train, train
    yield "train and test", train, test
    half = len(images) // 2  # not every other one: MNIST alternates between two groups of writers
    yield "two halves of train", images[:half], images[half:]
    yield "train and noise", train, torch.randint(0, 256, train.shape, dtype=torch.uint8)
    yield "train and its ones", train, train[labels[: len(train)] == 1]
    yield "train and test, blurred", train, torch.nn.functional.avg_pool2d(test.float(), 3, 1, 1).to(torch.uint8)


def main(arguments: list[str]) -> None:
    torch.manual_seed(0)
    data: dict[str, ImageData] = {"digits": Digits(batch_size=1, image_size=16, channels=1, seed=0)}
    if arguments:
        data["MNIST"] = MNIST(Path(arguments[0]), download=False, batch_size=1, image_size=28, channels=1, seed=0)
    extractor = load_extractor("digits")
    print(f"| data | sets | images | {' | '.join(SHOWN)} |")
    print(f"|---|---|---|{'---|' * len(SHOWN)}")
    for name, kind in data.items():
        for what, real, fake in sets(kind):
            print(f"| {name} | {what} | {len(real):,} / {len(fake):,} | {row(extractor, real, fake)} |", flush=True)


def row(extractor: Extractor, real: Tensor, fake: Tensor) -> str:
    """The scores shown of one comparison; a dash for those that need more images."""
    names: list[Name] = [name for name in NAMES if name != "fid" or min(len(real), len(fake)) > 64]
    reals, fakes = (extract(extractor, images.split(500), torch.device("cpu")) for images in (real, fake))
    found = compute(names, reals, fakes)
    return " | ".join(f"{found[name].value:.4g}" if name in found else "–" for name in SHOWN)


if __name__ == "__main__":
    main(sys.argv[1:])
