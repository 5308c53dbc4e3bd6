"""Trains the classifiers of `classifiers.py` and writes their weights.

    fit=gan_lightning.metrics.fit_classifiers
    python -m $fit digits <folder that holds MNIST/raw> digits-v1.safetensors
    python -m $fit objects <folder of CIFAR-10: train/<class>/*.png, test/<class>/*.png> objects-v1.safetensors
    python -m $fit spoken_digits <folder of the Free Spoken Digit Dataset: 0_george_0.wav> spoken_digits-v1.safetensors

`digits` sees MNIST's training images and four fifths of scikit-learn's digits (those that `data=digits` trains on, 8×8,
resized to 16 and to 28), moved, turned, scaled, paled and made noisy a little. `objects` sees flipped, shifted and
sometimes grey images. `spoken_digits` hears four fifths of the recordings (those that data=speech_folder trains on with
data.held_out=0.2), later, faster or slower and with noise. The Free Spoken Digit Dataset (Jackson et al. 2016,
recordings of six speakers) is under CC BY-SA 4.0.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.data.digits import Digits
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.mnist import MNIST
from gan_lightning.data.pixels import to_float
from gan_lightning.data.sets import ImageSet
from gan_lightning.data.sounds import SpeechFolder, to_sound
from gan_lightning.metrics.classifiers import DigitsClassifier, ObjectsClassifier, SpokenDigitsClassifier
from gan_lightning.metrics.extractors import fitted

Labelled = tuple[Tensor, Tensor]  # uint8 (N, C, H, W) of the network's size, or sounds int16 (N, 1, T); classes (N,)
Augment = Callable[[Tensor, torch.Generator], Tensor]  # images or sounds in [-1, 1] -> the same, changed a little
DIGITS_TIMES = 10  # scikit-learn's digits are few: each is seen so often an epoch, at either size


def everything(images: ImageSet) -> Labelled:
    """All images and labels of an ImageSet."""
    batch = images.__getitems__(range(len(images)))
    return batch["image"], batch["label"]


def digits(root: Path) -> tuple[Labelled, dict[str, Labelled]]:
    """Training images, and the sets that accuracy is told for."""
    mnist = MNIST(root, download=False, batch_size=1, image_size=28, channels=1, seed=0)
    mnist.setup()
    training, tests = [everything(mnist.train)], {"MNIST test": everything(mnist.held_out)}
    for size in (16, 28):
        bundled = Digits(batch_size=1, image_size=size, channels=1, seed=0)
        bundled.setup()
        images, labels = everything(bundled.train)
        training += [(fitted(images, 28, 1), labels)] * DIGITS_TIMES
        images, labels = everything(bundled.held_out)
        tests[f"scikit-learn's digits at {size}×{size}, held out"] = (fitted(images, 28, 1), labels)
    return (torch.cat([i for i, _ in training]), torch.cat([t for _, t in training])), tests


def objects(root: Path) -> tuple[Labelled, dict[str, Labelled]]:
    """The same for CIFAR-10."""
    parts = []
    for part in ("train", "test"):
        folder = ImageFolder(root / part, held_out=0, batch_size=1, image_size=32, channels=3, seed=0)
        folder.setup()
        parts.append(everything(folder.train))
    return parts[0], {"CIFAR-10 test": parts[1]}


def spoken_digits(root: Path) -> tuple[Labelled, dict[str, Labelled]]:
    """The same for spoken digits; accuracy is also told of every speaker, by the middle of the files' names."""
    tests: dict[str, Labelled] = {}
    shared: dict[str, Any] = {"samples": SpokenDigitsClassifier.samples, "rate": SpokenDigitsClassifier.rate}
    shared |= {"held_out": 0.2, "crop": "middle", "batch_size": 1, "seed": 0}
    data = SpeechFolder(root, **shared)
    data.setup()
    sounds, labels = tests["held out"] = everything(data.held_out)
    by_speaker = SpeechFolder(root, part=1, **shared)  # in the same order
    by_speaker.setup()
    speakers = everything(by_speaker.held_out)[1]
    for number, name in enumerate(by_speaker.class_names):
        tests[f"held out, {name}"] = (sounds[speakers == number], labels[speakers == number])
    return everything(data.train), tests


def moved(images: Tensor, stream: torch.Generator) -> Tensor:
    """Digits (N, 1, H, W) turned by up to 10°, scaled by up to 15 %, shifted by up to 2 pixels; half of them pale."""
    count, size = len(images), images.shape[-1]
    draws = torch.rand(5, count, generator=stream) * 2 - 1
    angle, width, height = draws[0] * math.radians(10), 1 + 0.15 * draws[1], 1 + 0.15 * draws[2]
    shift = draws[3:] * 4 / size  # in halves of the picture
    rows = [
        torch.stack([angle.cos() * width, -angle.sin() * height, shift[0]], 1),
        torch.stack([angle.sin() * width, angle.cos() * height, shift[1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    faded, contrast, lift, noise = torch.rand(4, count, 1, 1, 1, generator=stream)
    pale = (images + 1) * (0.5 + 0.5 * contrast) - 1 + 0.5 * lift
    pale += 0.3 * noise * torch.randn(images.shape, generator=stream)
    return torch.where(faded < 0.5, pale.clamp(-1, 1), images)


def shifted(images: Tensor, stream: torch.Generator) -> Tensor:
    """Objects (N, 3, H, W) flipped, shifted by up to 4 pixels, one in ten grey, a quarter of each covered."""
    count, size = len(images), images.shape[-1]
    coin, grey = torch.rand(2, count, 1, 1, 1, generator=stream)
    images = torch.where(coin < 0.5, images.flip(-1), images)
    images = torch.where(grey < 0.1, images.mean(1, keepdim=True), images)
    padded = functional.pad(images, (4, 4, 4, 4), mode="reflect")
    top, left = torch.randint(9, (2, count, 1, 1, 1), generator=stream)
    axis = torch.arange(size)
    index = (top + axis.view(-1, 1)) * (size + 8) + left + axis  # (N, 1, H, W)
    crops = padded.flatten(2).gather(2, index.flatten(2).expand(-1, 3, -1)).view_as(images)
    row, column = torch.randint(size, (2, count, 1, 1, 1), generator=stream)
    covered = ((axis.view(-1, 1) - row).abs() < size // 4) & ((axis - column).abs() < size // 4)
    return crops.masked_fill(covered, 0)


def played(sounds: Tensor, stream: torch.Generator) -> Tensor:
    """Sounds (N, 1, T) up to an eighth later, up to 10 % faster or slower, half of them with noise."""
    count, length = len(sounds), sounds.shape[-1]
    later, speed, noisy, level = torch.rand(4, count, 1, generator=stream)
    places = (torch.arange(length) - later * length / 8) * (0.9 + 0.2 * speed)  # (N, T): where each comes from
    across = (2 * places + 1) / length - 1
    grid = torch.stack([across, torch.zeros_like(across)], -1).unsqueeze(1)  # (N, 1, T, 2)
    sounds = functional.grid_sample(sounds.unsqueeze(2), grid, align_corners=False).squeeze(2)
    noise = 10 ** (-3 + 1.7 * level) * torch.randn(count, length, generator=stream)  # 0.001 … 0.05
    return torch.where((noisy < 0.5)[:, None], sounds + noise[:, None], sounds)


def scaled(stored: Tensor) -> Tensor:
    """Images uint8 (N, C, H, W) or sounds int16 (N, 1, T) -> float32 in [-1, 1]."""
    if stored.dtype == torch.int16:
        return to_sound(stored)
    return to_float(stored)


@torch.no_grad()
def accuracy(network: nn.Module, labelled: Labelled) -> float:
    """Share of images or sounds classified rightly."""
    network.eval()
    right = [
        (network(scaled(images))[1].argmax(1) == labels).sum()
        for images, labels in zip(labelled[0].split(500), labelled[1].split(500), strict=True)
    ]
    return int(torch.stack(right).sum()) / len(labelled[1])


def fit(network: nn.Module, training: Labelled, augment: Augment, epochs: int, rate: float) -> None:
    """SGD with Nesterov momentum, one cycle of the learning rate, batches of 128."""
    images, labels = training
    stream = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(network.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * (len(images) // 128))
    for epoch in range(epochs):
        began, total = time.monotonic(), 0.0
        network.train()
        for index in torch.randperm(len(images), generator=stream).split(128)[: len(images) // 128]:
            batch = augment(scaled(images[index]), stream)
            if batch.dim() == 4:
                batch = batch.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                logits = network(batch)[1]
            loss = functional.cross_entropy(logits.float(), labels[index])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            total += float(loss.detach())
        seconds = time.monotonic() - began
        print(f"epoch {epoch + 1}/{epochs}: loss {total / (len(images) // 128):.4f}, {seconds:.0f} s", flush=True)


@torch.no_grad()
def standardize(network: nn.Module, images: Tensor) -> None:
    """Features vary by 1 on average over these images uint8 (N, C, H, W), or sounds int16 (N, 1, T)."""
    network.eval()
    features = torch.cat([network(scaled(part))[0] for part in images.split(500)])
    network.get_buffer("scale").mul_(features.var(0).mean().sqrt())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("digits", "objects", "spoken_digits"))
    parser.add_argument("root", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=int)
    given = parser.parse_args(arguments)
    torch.manual_seed(0)
    if given.name == "digits":
        (training, tests), network = digits(given.root), DigitsClassifier()
        augment, epochs, rate = moved, given.epochs or 15, 0.1
    elif given.name == "spoken_digits":
        (training, tests), network = spoken_digits(given.root), SpokenDigitsClassifier()
        augment, epochs, rate = played, given.epochs or 60, 0.1
    else:
        (training, tests), network = objects(given.root), ObjectsClassifier()
        augment, epochs, rate = shifted, given.epochs or 40, 0.2
    network.to(memory_format=torch.channels_last)
    fit(network, training, augment, epochs, rate)
    standardize(network, training[0][:10_000])
    told = {name: f"{accuracy(network, labelled):.4f}" for name, labelled in tests.items()}
    for name, value in told.items():
        print(f"{name}: {value}")
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()},
        given.output,
        metadata={"trained_on": f"{len(training[1])} samples an epoch, {epochs} epochs", **told},
    )


if __name__ == "__main__":
    main()
