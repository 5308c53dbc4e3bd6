"""The parts of the experiment on synthetic data that need no GAN."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks import synthetic
from benchmarks.synthetic import (
    as_they_are,
    cell,
    classify,
    filled,
    mixed,
    parse,
    shifts,
    shown,
    table,
    training_arguments,
)
from gan_lightning.commands.train import Settings
from gan_lightning.config import check, compose
from gan_lightning.metrics.fit_classifiers import everything
from tests.support import Blobs


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_every_image_is_shown_equally_often() -> None:
    few = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1), torch.arange(6)
    images, labels = filled(few, 20, stream())
    assert torch.equal(images.flatten().long(), labels)
    assert sorted(Counter(labels.tolist()).values()) == [3, 3, 3, 3, 4, 4]
    others = few[0] + 100, few[1] + 100
    images, labels = mixed(few, others, 21, stream())
    assert torch.equal(images.flatten().long(), labels)
    assert [int((labels < 100).sum()), int((labels >= 100).sum())] == [11, 10]


def test_shifts() -> None:
    dot = torch.full((400, 1, 9, 9), -1.0)
    dot[:, :, 4, 4] = 1
    moved = shifts(dot, stream())
    places = (moved > 0).nonzero()  # (400, 4)
    assert places[:, 0].tolist() == list(range(400))
    assert {(int(row), int(column)) for row, column in places[:, 2:]} == {
        (row, column) for row in range(2, 7) for column in range(2, 7)
    }
    assert (moved.sum((1, 2, 3)) == dot.sum((1, 2, 3))).all()


def test_a_classifier_learns_what_its_labels_say() -> None:
    data = Blobs()
    data.setup()
    real, test = everything(data.train), everything(data.held_out)
    assert classify(filled(real, 20 * synthetic.BATCH, stream()), as_they_are, test, seed=0) == 1
    wrong = real[0], (real[1] + 1) % 4
    assert classify(filled(wrong, 20 * synthetic.BATCH, stream()), as_they_are, test, seed=0) == 0


@pytest.mark.parametrize("gan", synthetic.GANS)
def test_the_commands_are_those_of_the_project(gan: str, tmp_path: Path) -> None:
    given = parse(["--model", "dcgan", "--root", str(tmp_path), "--images", "500"])
    arguments = training_arguments(given, 10, 3, gan)
    assert "data.per_class=10" in arguments
    arguments.remove("data.per_class=10")
    settings = check(compose("train", arguments, Settings), Settings)
    assert settings["model"]["augment"] == (["translation"] if "DiffAugment" in gan else [])
    assert settings["seed"] == 3
    assert settings["budget"]["images"] == 500
    assert settings["model"]["generator"]["base_channels"] == 16
    assert settings["data"]["root"] == str(tmp_path)


def test_commands_are_shown_without_the_folders_of_this_machine() -> None:
    given = parse(["--root", "/home/me/sets", "--out", "/tmp/found"])
    text = shown(given, ["gan_lightning", *training_arguments(given, 10, 0, "GAN"), "--out", "/tmp/found"])
    assert text.startswith("python -m gan_lightning model=projection data=mnist data.root=ROOT ")
    assert text.endswith(" --out OUT")


def test_the_table() -> None:
    assert cell([0.9, 0.8]) == "85.0 ± 7.1"
    assert cell([0.875]) == "87.5"
    results = [
        {"per_class": n, "seed": seed, "accuracy": {"real": 0.5 + seed / 10, "synthetic of the GAN": 0.25}}
        for n in (10, 1000)
        for seed in (0, 1)
    ]
    machine = {"cpu": "a CPU", "threads": 1, "torch": "2"}
    about = {"seeds": [0, 1], "steps": 5, "images": 10, "synthetic": 7, "minutes": 3.2, "machine": machine}
    text = table(results, about | {"command": "python …", "commands": ["train", "sample"]})
    assert "| the classifier learned from | 10 | 1,000 |" in text
    assert "| real | 55.0 ± 7.1 | 55.0 ± 7.1 |" in text
    assert "| synthetic of the GAN | 25.0 ± 0.0 | 25.0 ± 0.0 |" in text
