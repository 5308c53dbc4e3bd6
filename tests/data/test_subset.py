"""Parts of the training images: the same of every class, the same in every run, small ones inside larger ones."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning.data.digits import Digits
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.pixels import to_float
from gan_lightning.data.sets import Indexed, InMemory, rows_of
from gan_lightning.data.stacked import StackedMNIST
from gan_lightning.errors import UserError
from gan_lightning.metrics.scoring import Scorer, ScoreSettings
from tests.fake_data import write_photos
from tests.support import Blobs, game


def digits(**settings: Any) -> Digits:
    data = Digits(**{"batch_size": 16, "image_size": 8, "channels": 1, "seed": 0, **settings})
    data.setup()
    return data


def pictures(data: Any) -> set[bytes]:
    return {image.numpy().tobytes() for image in data.train.__getitems__(range(len(data.train)))["image"]}


def test_a_share_of_every_class() -> None:
    whole, tenth = digits(), digits(subset=0.1)
    expected = (whole.train.labels.bincount() * 0.1).round().long()
    assert torch.equal(tenth.train.labels.bincount(), expected)
    assert pictures(tenth) < pictures(whole)
    assert tenth.reference.labels.equal(whole.train.labels)
    assert tenth.held_out.labels.equal(whole.held_out.labels)
    assert digits(subset=1.0).train.labels.equal(whole.train.labels)


def test_so_many_of_every_class() -> None:
    assert digits(per_class=7).train.labels.bincount().tolist() == [7] * 10


def test_smaller_ones_are_inside_larger_ones_whatever_the_seed() -> None:
    ordered = [pictures(digits(seed=seed, **some)) for seed, some in enumerate({"per_class": n} for n in (1, 5, 30))]
    ordered += [pictures(digits(subset=share, seed=9)) for share in (0.3, 0.9)]
    for smaller, larger in itertools.pairwise(ordered):
        assert smaller < larger
    assert pictures(digits(per_class=5, seed=4)) == ordered[1]


def test_labels_stay_with_their_images() -> None:
    whole, few = digits(), digits(per_class=4)
    everything = whole.train.__getitems__(range(len(whole.train)))
    known = {image.numpy().tobytes(): int(label) for image, label in zip(*everything.values(), strict=True)}
    batch = few.train.__getitems__(range(40))
    assert [known[image.numpy().tobytes()] for image in batch["image"]] == batch["label"].tolist()


def test_rows_are_ascending_and_random() -> None:
    labels = torch.arange(3000) % 3
    rows = rows_of(labels, torch.tensor([10, 0, 200]))
    assert torch.equal(rows, rows.sort().values.unique())
    assert labels[rows].bincount().tolist() == [10, 0, 200]
    assert 1200 < rows.double().mean() < 1800


@pytest.mark.parametrize("cache", ["off", "kept"])
@pytest.mark.parametrize("memory_gb", [4.0, 1e-9])
def test_folders(cache: str, memory_gb: float, tmp_path: Path) -> None:
    """In memory, memory-mapped and decoded at every access: the same images."""
    write_photos(tmp_path / "photos", 40)
    kept = "off" if cache == "off" else tmp_path / "cache"
    common: dict[str, Any] = {"batch_size": 2, "image_size": 8, "channels": 3, "seed": 0, "held_out": 0}
    data = ImageFolder(tmp_path / "photos", per_class=6, cache=kept, memory_gb=memory_gb, flip=True, **common)
    data.setup()
    plain = ImageFolder(tmp_path / "photos", per_class=6, cache="off", flip=True, **common)
    plain.setup()
    assert data.train.labels.bincount().tolist() == [6, 6]
    for one, other in zip(*(d.minibatches(epoch=1, start=1, per_batch=2) for d in (data, plain)), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert ("memory-mapped" in data.place(torch.device("cpu"))) == (cache == "kept")


def test_without_classes_a_plain_share(tmp_path: Path) -> None:
    write_photos(tmp_path, 40)
    common: dict[str, Any] = {"batch_size": 2, "image_size": 8, "channels": 3, "seed": 0, "held_out": 0}
    settings = {"root": tmp_path, "labels": False, "cache": "off", **common}
    data = ImageFolder(**settings, subset=0.25)
    data.setup()
    assert len(data.train) == 10
    with pytest.raises(UserError, match=r"data\.per_class=3: these images have no classes; use data\.subset"):
        ImageFolder(**settings, per_class=3).setup()


def test_workers_and_a_device_give_the_same(tmp_path: Path) -> None:
    here, there = digits(per_class=5), digits(per_class=5, workers=1)
    for one, other in zip(*(d.minibatches(epoch=0, start=0, per_batch=2) for d in (here, there)), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert isinstance(here.train, Indexed)
    moved = here.train.to(torch.device("cpu"))
    assert isinstance(moved, InMemory)
    assert moved.images.equal(here.train.take(torch.arange(50))["image"])
    assert here.train.nbytes == moved.nbytes == 50 * 64


def test_stacked_digits() -> None:
    settings: dict[str, Any] = {"root": Path(), "source": "digits", "batch_size": 8, "image_size": 8, "channels": 3}
    few = StackedMNIST(**settings, images=20_000, per_class=2, seed=0)
    few.setup()
    assert few.train.labels.bincount().tolist() == [2] * 1000
    assert isinstance(few.train, Indexed)
    assert few.train.to(torch.device("cpu")).take(torch.arange(9))["image"].shape == (9, 3, 8, 8)
    with pytest.raises(UserError, match=r"data\.per_class=1: class \d{3} has no more than 0 training images"):
        StackedMNIST(**settings, images=1000, per_class=1, seed=0).setup()


def test_what_cannot_be_had() -> None:
    with pytest.raises(ValueError, match=r"per_class=3: and data\.subset=0\.1 .* give one of them"):
        digits(subset=0.1, per_class=3)
    smallest = digits().train.labels.bincount()
    expected = rf"data\.per_class=200: class {int(smallest.argmin())} has no more than {int(smallest.min())} "
    with pytest.raises(UserError, match=expected):
        digits(per_class=200)


def test_scores_compare_with_all_training_images_and_memorisation_with_those_trained_on() -> None:
    data = Blobs(images=64, per_class=4)
    data.setup()
    assert len(data.train) == 16

    def made(**settings: Any) -> dict[str, tuple[int, str]]:
        how = ScoreSettings(**{"names": ["kid", "memorisation"], "extractor": "digits", "samples": 20, **settings})
        found = Scorer(how, data).score(game(), source="evaluate")
        return {record.metric: (record.n_real, record.split) for record in found}

    assert made() == {"kid": (64, "train"), "memorised": (16, "subset"), "authenticity": (16, "subset")}
    subset = made(names=["precision_recall"], split="subset")
    assert subset["precision"] == (16, "subset")
    assert torch.equal(data.real_images(16), to_float(data.train.__getitems__(range(16))["image"]))


def test_a_subset_has_images_of_every_class() -> None:
    with pytest.raises(UserError, match=r"data\.subset=0\.001: leaves no image of a class of \d+"):
        digits(subset=0.001)
