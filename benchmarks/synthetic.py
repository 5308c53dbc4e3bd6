"""What synthetic data brings to a classifier that has few real images, and what it does not.

    python -m benchmarks.synthetic --root <folder that holds MNIST/raw> --out benchmarks/results/synthetic

For every number of real images a class: a conditional GAN sees these images and no others, without and with
DiffAugment, and writes a labelled data set. A small classifier learns from real images, from synthetic ones and from
both, without and with shifts, always in the same number of steps, and is tested on images that nobody has seen. A seed
changes everything: which images are there, the GAN, its samples and the classifier. Writes JSON and Markdown.
"""

import argparse
import contextlib
import io
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.machine import describe
from gan_lightning.commands import sample, train
from gan_lightning.commands.loading import load_data, stored_config
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError
from gan_lightning.metrics.classifiers import convolution
from gan_lightning.metrics.fit_classifiers import Augment, Labelled, accuracy, everything, fit

BATCH = 128  # of fit
SMALL = [  # networks that learn in the steps that a CPU makes in half a minute
    "network@model=dcgan_projection",
    "step.critic_steps=1",
    "step.generator_batch=1",
    "model.generator.base_channels=16",
    "model.discriminator.base_channels=16",
    "model.generator_optimizer.lr=1e-3",
    "model.discriminator_optimizer.lr=1e-3",
    "data.batch_size=32",
]
AUGMENT = "model.augment=[translation]"
REAL, SHIFTED = "real", "real, shifted"
GANS = {"GAN": [], "GAN with DiffAugment": [AUGMENT]}


class SmallClassifier(nn.Module):
    """Images (N, channels, size, size) -> (features (N, 32 · (size / 4)²), logits (N, classes)).

    A twentieth of the work of metrics/classifiers.py's network: there are a hundred to train.
    """

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, 16, 5, stride=2), nn.ReLU(), convolution(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten()
        )
        side = -(-size // 4)
        self.head = nn.Linear(32 * side**2, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(images)
        return features, self.head(features)


def as_they_are(images: Tensor, stream: torch.Generator) -> Tensor:
    return images


def shifts(images: Tensor, stream: torch.Generator) -> Tensor:
    """Images (N, C, H, W) moved by up to 2 pixels each way, black behind them: the usual augmentation of digits."""
    height, width = images.shape[-2:]
    padded = functional.pad(images, (2, 2, 2, 2), value=-1.0)
    views = [padded[..., top : top + height, left : left + width] for top in range(5) for left in range(5)]
    chosen = torch.randint(len(views), (len(images),), generator=stream)
    return torch.stack(views)[chosen, torch.arange(len(images))]


def filled(labelled: Labelled, count: int, stream: torch.Generator) -> Labelled:
    """`count` images: all in a new order, over and over."""
    images, labels = labelled
    rounds = -(-count // len(labels))
    index = torch.cat([torch.randperm(len(labels), generator=stream) for _ in range(rounds)])[:count]
    return images[index], labels[index]


def mixed(real: Labelled, synthetic: Labelled, count: int, stream: torch.Generator) -> Labelled:
    """`count` images, half of them synthetic."""
    left, right = filled(real, count - count // 2, stream), filled(synthetic, count // 2, stream)
    return torch.cat([left[0], right[0]]), torch.cat([left[1], right[1]])


def classify(training: Labelled, augment: Augment, test: Labelled, seed: int) -> float:
    """Accuracy on the test images of a fresh classifier after one pass over `training`."""
    images, labels = training
    torch.manual_seed(seed)
    classes = int(max(labels.max(), test[1].max())) + 1
    network = SmallClassifier(images.shape[1], images.shape[-1], classes).to(memory_format=torch.channels_last)
    with contextlib.redirect_stdout(io.StringIO()):
        fit(network, training, augment, epochs=1, rate=0.05)
    return accuracy(network, test)


def real_alone(real: Labelled, test: Labelled, count: int, seed: int) -> dict[str, float]:
    """Accuracy by what a classifier learned from: real images."""
    training = filled(real, count, torch.Generator().manual_seed(seed))
    return {REAL: classify(training, as_they_are, test, seed), SHIFTED: classify(training, shifts, test, seed)}


def with_synthetic(
    gan: str, real: Labelled, synthetic: Labelled, test: Labelled, count: int, seed: int
) -> dict[str, float]:
    """The same for synthetic images of a GAN, alone and beside the real ones."""
    stream = torch.Generator().manual_seed(seed)
    both = mixed(real, synthetic, count, stream)
    return {
        f"synthetic of the {gan}": classify(filled(synthetic, count, stream), as_they_are, test, seed),
        f"real + synthetic of the {gan}": classify(both, as_they_are, test, seed),
        f"real + synthetic of the {gan}, shifted": classify(both, shifts, test, seed),
    }


def training_arguments(given: argparse.Namespace, per_class: int, seed: int, gan: str) -> list[str]:
    """What follows `python -m gan_lightning`, without the folder of the run."""
    own = [f"experiment={given.experiment}"] if given.experiment else [f"model={given.model}", f"data={given.data}"]
    where = [f"data.root={given.root}", "data.download=false"] if given.root else []
    narrow = [] if given.experiment or given.set else SMALL
    return [
        *own,
        *where,
        *narrow,
        *given.set,
        *GANS[gan],
        f"data.per_class={per_class}",
        f"seed={seed}",
        f"budget.images={given.images}",
        "trainer.max_epochs=1000000",  # the budget ends it
        "trainer.accelerator=cpu",
        "scores=off",
        f"samples.every_images={given.images}",
    ]


def sampling_arguments(given: argparse.Namespace, seed: int) -> list[str]:
    """What follows `python -m gan_lightning sample`, without folders."""
    return ["dataset=true", f"count={given.synthetic}", f"seed={seed}", "accelerator=cpu"]


def shown(given: argparse.Namespace, arguments: Sequence[str]) -> str:
    """A command as others can type it: the folders of this machine say nothing to them."""
    folders = {str(given.root): "ROOT", str(given.out): "OUT"}
    for folder, name in folders.items():
        arguments = [argument.replace(folder, name) for argument in arguments]
    return shlex.join(["python", "-m", *arguments])


def called(command: Any, arguments: list[str]) -> None:
    """Raises UserError for a command that does not end well."""
    code = command.run(arguments)
    if code:
        raise UserError(f"{shlex.join(arguments)}: exit code {code}")


def read_back(folder: Path, channels: int, size: int) -> Labelled:
    """A data set that `sample` wrote, as data=image_folder reads it."""
    data = ImageFolder(folder, held_out=0, cache="off", batch_size=1, image_size=size, channels=channels, seed=0)
    data.setup()
    return everything(data.train)


def repeat(given: argparse.Namespace, per_class: int, seed: int) -> dict[str, float]:
    """Accuracy by what the classifier learned from, for one set of real images."""
    count = given.steps * BATCH
    found: dict[str, float] = {}
    for gan in GANS:
        with tempfile.TemporaryDirectory(prefix="synthetic-") as folder:
            run, output = Path(folder) / "run", Path(folder) / "synthetic"
            called(train, [*training_arguments(given, per_class, seed, gan), f"hydra.run.dir={run}"])
            called(sample, [f"checkpoint={run}", f"output={output}", *sampling_arguments(given, seed)])
            data = load_data(stored_config(run, []))  # the images that the GAN saw
            real, test = everything(data.train), everything(data.held_out)
            synthetic = read_back(output, data.shape[0], data.shape[-1])
        found = found or real_alone(real, test, count, seed)
        found |= with_synthetic(gan, real, synthetic, test, count, seed)
    return found


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, list[float]]]:
    """Accuracies of all seeds, by what the classifier learned from and real images a class."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for training, value in result["accuracy"].items():
            found[training][result["per_class"]].append(value)
    return found


def cell(values: Sequence[float]) -> str:
    """Mean ± standard deviation in %; of one value, that value."""
    text = f"{100 * statistics.mean(values):.1f}" if values else ""
    return f"{text} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else text


def table(results: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """Markdown."""
    found = summary(results)
    budgets = sorted({result["per_class"] for result in results})
    machine = about["machine"]
    return "\n".join(
        [
            f"Test accuracy in %, mean ± standard deviation over seeds {', '.join(map(str, about['seeds']))}; columns: "
            f"real images a class. Every classifier: {about['steps']} steps of {BATCH} images. Every GAN: "
            f"{about['images']:,} images shown, {about['synthetic']:,} images drawn from it.",
            "",
            f"| the classifier learned from | {' | '.join(f'{budget:,}' for budget in budgets)} |",
            f"|---|{'---|' * len(budgets)}",
            *[
                f"| {training} | {' | '.join(cell(values.get(budget, [])) for budget in budgets)} |"
                for training, values in found.items()
            ],
            "",
            f"{about['minutes']:.0f} minutes on {machine['threads']} thread(s) of {machine['cpu']}, torch "
            f"{machine['torch']}: `{about['command']}`. For every seed and number of images, for example:",
            "",
            "```",
            *about["commands"],
            "```",
            "",
        ]
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthetic", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--root", type=Path, help="data.root; without it the data needs none")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "synthetic")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--model", default="projection")
    chosen.add_argument("--experiment", help="in place of --model and --data")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help=f"in place of {' '.join(SMALL)}")
    parser.add_argument("--per-class", type=int, nargs="+", default=[10, 50, 200, 1000], help="real images a class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=70_000, help="shown to every GAN")
    parser.add_argument("--synthetic", type=int, default=5_000, help="images drawn from every GAN")
    parser.add_argument("--steps", type=int, default=150, help="of every classifier")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def main() -> None:
    given = parse()
    torch.set_num_threads(given.threads)
    begun = time.perf_counter()
    example = given.per_class[0], given.seeds[0], list(GANS)[-1]
    about: dict[str, Any] = {
        **{key: value for key, value in vars(given).items() if key not in ("root", "out")},
        "command": shown(given, ["benchmarks.synthetic", *sys.argv[1:]]),
        "commands": [
            shown(given, ["gan_lightning", *training_arguments(given, *example)]),
            shown(given, ["gan_lightning", "sample", "checkpoint=latest", *sampling_arguments(given, example[1])]),
        ],
        "machine": describe("cpu", given.threads),
    }
    results: list[dict[str, Any]] = []
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for per_class in given.per_class:
            results.append({"per_class": per_class, "seed": seed, "accuracy": repeat(given, per_class, seed)})
            about["minutes"] = (time.perf_counter() - begun) / 60
            given.out.with_suffix(".json").write_text(json.dumps(about | {"results": results}, indent=1) + "\n")
            given.out.with_suffix(".md").write_text(table(results, about))
            print(f"{per_class} images a class, seed {seed}: {results[-1]['accuracy']}", flush=True)
    print(table(results, about))


if __name__ == "__main__":
    main()
