"""Stacked digits: three grey images as colours, 1,000 modes, and scores whose answer is known."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lightning.data.digits import Digits
from gan_lightning.data.stacked import HELD_OUT, Stacked, StackedMNIST
from gan_lightning.errors import UserError
from gan_lightning.metrics.extractors import Extractor, load_extractor
from gan_lightning.metrics.scores import Features, compute
from gan_lightning.metrics.scoring import Scorer, ScoreSettings, extract, real_blocks
from tests.fake_data import write_idx

CPU = torch.device("cpu")


def build(**settings: Any) -> StackedMNIST:
    defaults = {"root": Path(), "source": "digits", "batch_size": 8, "image_size": 16, "channels": 3, "seed": 0}
    data = StackedMNIST(**{**defaults, "images": 3000, "classes": 1000, **settings})
    data.check()
    data.setup()
    return data


@pytest.fixture(scope="module")
def data() -> StackedMNIST:
    return build()


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return load_extractor("stacked_digits")


def test_colours_are_digits_and_labels_their_number(data: StackedMNIST) -> None:
    grey = Digits(batch_size=8, image_size=16, channels=1, seed=0)
    for part, source in zip((data.train, data.held_out), grey.load()[:2], strict=True):
        assert isinstance(part, Stacked)
        everything = source.__getitems__(range(len(source)))
        known = {image.numpy().tobytes(): int(label) for image, label in zip(*everything.values(), strict=True)}
        batch = part.__getitems__(range(50))
        assert batch["image"].shape == (50, 3, 16, 16)
        assert batch["image"].dtype == torch.uint8
        digits = [[known[colour.numpy().tobytes()] for colour in image] for image in batch["image"]]
        assert [100 * a + 10 * b + c for a, b, c in digits] == batch["label"].tolist()
    assert (len(data.train), len(data.held_out)) == (3000, HELD_OUT)
    assert data.class_names[::111] == ["000", "111", "222", "333", "444", "555", "666", "777", "888", "999"]


def test_images_are_drawn_once_whatever_the_seed(data: StackedMNIST) -> None:
    other = build(seed=5)
    assert torch.equal(data.train.labels, other.train.labels)
    assert not torch.equal(data.train.labels, data.held_out.labels[:3000])
    assert torch.equal(data.train.__getitems__(range(9))["image"], other.train.__getitems__(range(9))["image"])


def test_minibatches_of_the_fast_path_and_of_a_loader_are_equal(data: StackedMNIST) -> None:
    others = build(workers=1)
    for one, other in zip(*(d.minibatches(epoch=0, start=745, per_batch=3) for d in (data, others)), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("image", "label"))
    assert isinstance(data.train, Stacked)
    assert data.train.to(torch.device("meta")).labels.device.type == "meta"


def test_mnist_is_the_source(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    found = build(root=tmp_path, download=False, source="mnist", image_size=28, images=100)
    assert len(found.train) == 100
    with pytest.raises(UserError, match=r"^data=stacked_mnist: .* missing in .*nowhere/MNIST/raw"):
        build(root=tmp_path / "nowhere", download=False, source="mnist")


def test_grey_is_refused(extractor: Extractor) -> None:
    with pytest.raises(ValueError, match="channels=1: digits are stacked as 3 colours"):
        build(channels=1)
    with pytest.raises(UserError, match=r"scores\.extractor=stacked_digits: needs 3 colours; these images have 1"):
        extractor(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))


def test_the_extractor_is_the_classifier_of_digits_three_times(data: StackedMNIST, extractor: Extractor) -> None:
    pixels = data.train.__getitems__(range(30))["image"]
    features, logits = extractor(pixels)
    assert (extractor.label, features.shape) == ("stacked_digits v1", (30, 192))
    assert logits is not None
    digits = load_extractor("digits")
    for colour in range(3):
        its_features, its_logits = digits(pixels[:, colour : colour + 1])
        torch.testing.assert_close(features[:, 64 * colour : 64 * colour + 64], its_features)
        assert its_logits is not None
        others = [axis for axis in (1, 2, 3) if axis != colour + 1]
        marginal = logits.softmax(1).view(30, 10, 10, 10).sum(others)
        torch.testing.assert_close(marginal, its_logits.softmax(1))
        assert torch.equal(logits.argmax(1) // 10 ** (2 - colour) % 10, its_logits.argmax(1))


def features(extractor: Extractor, images: Any, count: int) -> Features:
    return extract(extractor, real_blocks(images, count), CPU)


def test_known_answers(data: StackedMNIST, extractor: Extractor) -> None:
    """Other images of the same digits, and one image again and again."""
    real, held_out = features(extractor, data.train, 3000), features(extractor, data.held_out, 3000)
    assert real.logits is not None
    right = (real.logits.argmax(1) == data.train.labels).double().mean()
    assert right > 0.97

    def scores(fake: Features) -> dict[str, float]:
        return {name: value.value for name, value in compute(["modes", "fid"], real, fake).items()}

    found = scores(held_out)
    bias = 999 / (2 * 3000) + 999 / (2 * 3000)  # of two histograms of 3,000
    assert found["modes"] > 920  # of 1,000 with 3 images each: e^-3 are not drawn
    assert 0.8 * bias < found["reverse_kl"] < 2 * bias
    constant: Tensor = held_out.features[:1].expand(3000, -1)
    assert held_out.logits is not None
    one = Features(constant, held_out.logits[:1].expand(3000, -1))
    alone = scores(one)
    assert alone["modes"] == 1
    assert alone["reverse_kl"] == pytest.approx(math.log(1000), abs=1.0)  # classes have not equal shares
    assert alone["fid"] > 20 * found["fid"]


def test_scores_use_the_numbers_of_the_papers() -> None:
    data = build(images=30_000)
    scorer = Scorer(ScoreSettings(), data)
    assert (scorer.n_real, scorer.n_fake, scorer.sizes) == (26_000, 26_000, (192, 1000))
    assert (Scorer(ScoreSettings(real_samples=500), data).n_fake, scorer.extractor.name) == (500, "stacked_digits")
