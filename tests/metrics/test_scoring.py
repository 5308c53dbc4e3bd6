"""From a generator and its data to records: refusals, the cache, known answers, one process and two."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.data.digits import Digits
from gan_lightning.data.pixels import to_float
from gan_lightning.data.sets import InMemory
from gan_lightning.data.translated_digits import PairedDigits
from gan_lightning.ema import EMA
from gan_lightning.errors import UserError
from gan_lightning.metrics import records
from gan_lightning.metrics.extractors import Extractor, load_extractor
from gan_lightning.metrics.scores import Features, Name, compute
from gan_lightning.metrics.scoring import Scorer, ScoreSettings, extract
from tests.models.test_pix2pix import translator
from tests.processes import Process
from tests.support import Blobs, game

FEW = ScoreSettings(names=["kid", "precision_recall", "diversity"], extractor="digits")


def digits(**settings: Any) -> Digits:
    data = Digits(**{"batch_size": 8, "image_size": 16, "channels": 1, "seed": 0, **settings})
    data.setup()
    return data


def blobs() -> Blobs:
    data = Blobs()
    data.setup()
    return data


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return load_extractor("digits")


def features(extractor: Extractor, images: Tensor) -> Features:
    return extract(extractor, images.split(100), torch.device("cpu"))


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "fragments"),
    [
        ({"names": ["fid"]}, ["fid", "65 real images", "64 real images and 64 fakes", "kid"]),
        ({"names": ["mifid"], "samples": 30}, ["64 real images and 30 fakes"]),
        ({"names": ["inception_score"]}, ["100 fakes", "Use more images or scores.force=true"]),
        ({"names": ["modes"], "extractor": "pixels"}, ["modes", "pixels has no classes"]),
        ({"names": ["path_length"], "extractor": "pixels"}, ["path_length", "pixels"]),
        ({"names": ["kid"], "samples": 1, "force": True}, ["kid", "2 real images", "1 fakes. Use more images"]),
        ({"names": ["precision_recall"], "samples": 3, "force": True}, ["precision_recall", "4 real images"]),
        ({"inception_weights": Path("x.pth")}, ["scores.inception_weights=x.pth", "scores.extractor=inception"]),
        ({"extractor": "digit"}, ["scores.extractor=digit", "digits"]),
        ({"extractor": "inception", "inception_weights": Path("not there.pth")}, ["not there.pth"]),
    ],
)
def test_what_cannot_be_scored_is_refused_at_once(settings: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises(UserError) as error:
        Scorer(ScoreSettings(**{"extractor": "digits", **settings}), blobs())
    for fragment in fragments:
        assert fragment in str(error.value)


def test_scores_of_pairs_are_refused_where_there_are_none() -> None:
    with pytest.raises(UserError, match=r"psnr\]: compares pairs: of folders \(evaluate real=… fake=…\), or"):
        Scorer(replace(FEW, names=["psnr"]), blobs()).metrics(game())


@pytest.mark.parametrize(
    ("name", "message"), [("psnr_y", "needs colour images"), ("l1_hole", "there are no holes"), ("psnr", None)]
)
def test_scores_that_pairs_do_not_have_are_refused_at_once(name: Any, message: str | None) -> None:
    data = PairedDigits(batch_size=8, image_size=16, channels=1, seed=0)
    data.setup()
    scorer = Scorer(replace(FEW, names=[name]), data)
    if message is None:
        assert sorted(scorer.metrics(translator())) == ["l1", "psnr", "ssim"]
        return
    with pytest.raises(UserError, match=rf"{name}\]: {message}"):
        scorer.metrics(translator())


def test_a_border_that_leaves_nothing_is_refused_at_once() -> None:
    data = PairedDigits(batch_size=8, image_size=16, channels=1, seed=0)
    data.setup()
    with pytest.raises(UserError, match=r"scores\.border=8: an image of 16×16 has nothing inside"):
        Scorer(ScoreSettings(names=["psnr"], border=8), data).metrics(translator())


def test_scores_of_pairs_alone_make_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the first that is asked for is what the best checkpoint is kept by."""
    data, module = PairedDigits(batch_size=8, image_size=16, channels=1, seed=0), translator()
    data.setup()
    module.show(data)
    scorer = Scorer(ScoreSettings(names=["psnr"]), data)
    monkeypatch.setattr(scorer, "fake", None)
    assert set(scorer.metrics(module)) == {record.metric for record in scorer.score(module, source="evaluate")}
    assert scorer.metrics(module)[0] == "psnr"


def test_a_forced_score_is_marked() -> None:
    made = Scorer(replace(FEW, names=["fid", "kid"], force=True), blobs()).score(game(), source="evaluate")
    assert {record.metric: record.forced for record in made} == {"fid": True, "kid": False}


def test_few_images_get_kid_instead_of_fid() -> None:
    assert Scorer(ScoreSettings(extractor="digits"), blobs()).names == ["kid", "precision_recall", "modes", "diversity"]
    assert Scorer(ScoreSettings(), digits()).names == ["fid", "precision_recall", "modes", "diversity"]


# ---- records --------------------------------------------------------------------------------------------------------


def test_a_record_says_how_it_was_made(tmp_path: Path) -> None:
    module = game(ema=lambda generator: EMA(generator, half_life=1000))
    module.counters.images, module.counters.generator_steps = 640, 80
    scorer = Scorer(replace(FEW, samples=32, seed=3, truncation=1.5), blobs())
    made = {record.metric: record for record in scorer.score(module, source="evaluate")}
    kid = asdict(made["kid"])
    assert {key: kid[key] for key in ("extractor", "version", "n_real", "n_fake", "split", "weights")} == {
        "extractor": "digits",
        "version": "1",
        "n_real": 64,
        "n_fake": 32,
        "split": "train",
        "weights": "ema",
    }
    assert (kid["seed"], kid["truncation"], kid["images"], kid["step"]) == (3, 1.5, 640, 80)
    assert kid["settings"] == {"subsets": 100, "subset_size": 16}
    assert kid["std"] > 0
    assert "28×28" in kid["resize"]
    again = {record.metric: record for record in scorer.score(module, source="evaluate")}
    assert again == made
    raw = {record.metric: record for record in scorer.score(module, ema=False, source="evaluate")}
    assert raw["kid"].weights == "raw"

    records.append(tmp_path / "scores.jsonl", list(made.values()))
    records.append(tmp_path / "scores.jsonl", [replace(made["kid"], source="train", images=700)])
    records.forget_after(tmp_path / "scores.jsonl", 640)
    kept = records.lines(tmp_path / "scores.jsonl")
    assert [line["metric"] for line in kept] == ["kid", "precision", "recall", "diversity"]
    assert kept[0] == json.loads(json.dumps(kid))


def test_half_a_line_is_ended_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    made = Scorer(FEW, blobs()).score(game(), source="train")
    path.write_text('{"metric": "fi')
    records.append(path, made)
    assert [line["metric"] for line in records.lines(path)] == [record.metric for record in made]


# ---- the cache ------------------------------------------------------------------------------------------------------


def test_real_features_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(FEW, cache=tmp_path / "cache")
    first = Scorer(settings, blobs())
    before = first.real
    (file,) = (tmp_path / "cache").iterdir()
    assert file.name == f"{first.fingerprint}.safetensors"

    second = Scorer(settings, blobs())
    monkeypatch.setattr("gan_lightning.metrics.scoring.extract", lambda *_: pytest.fail("computed again"))
    assert torch.equal(second.real.features, before.features)
    monkeypatch.undo()

    changed = blobs()
    assert isinstance(changed.train, InMemory)
    changed.train.images[3, 0, 0, 0] += 1
    third = Scorer(settings, changed)
    assert not torch.equal(third.real.features, before.features)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert len(Scorer(replace(FEW, cache=tmp_path / "file" / "cache"), blobs()).real) == 64
    assert "scores.cache" in caplog.text


def test_inception_score_asks_for_fakes_alone() -> None:
    assert Scorer(ScoreSettings(names=["inception_score"], samples=100), blobs()).names == ["inception_score"]


def test_a_damaged_cache_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = replace(FEW, cache=tmp_path)
    before = Scorer(settings, blobs()).real
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(Scorer(settings, blobs()).real.features, before.features)
    assert file.stat().st_size > 100


def test_other_weights_have_other_features(tmp_path: Path) -> None:
    """Also where somebody left the version as it was."""
    settings = replace(FEW, cache=tmp_path)
    before = Scorer(settings, blobs())
    other = Scorer(settings, blobs())
    with torch.no_grad():
        next(other.extractor.parameters()).add_(1.0)
    assert not torch.equal(before.real.features, other.real.features)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_copies_of_any_training_image_are_memorised() -> None:
    """Also of those that `real_samples` leaves out."""
    data = digits()
    assert isinstance(data.train, InMemory)
    copied = data.train.images[1000:1064]
    module = game(generator=Copies(copied))
    (memorised, authenticity) = Scorer(
        ScoreSettings(names=["memorisation"], extractor="digits", samples=64, real_samples=100), data
    ).score(module, source="evaluate")
    assert (memorised.value, authenticity.value, memorised.n_real) == (1, 0, len(data.train))


class Copies(nn.Module):
    """A generator that gives images of its own, one after the other."""

    latent_size = 4

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("images", images)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        assert isinstance(self.images, Tensor)
        return to_float(self.images[: len(z)])


# ---- known answers --------------------------------------------------------------------------------------------------


def values(extractor: Extractor, names: list[Name], real: Tensor, fake: Tensor) -> dict[str, float]:
    found = compute(names, features(extractor, real), features(extractor, fake))
    return {name: value.value for name, value in found.items()}


def test_known_answers(extractor: Extractor) -> None:
    data = digits()
    assert isinstance(data.train, InMemory)
    assert isinstance(data.held_out, InMemory)
    train, test = data.train.images, data.held_out.images
    names: list[Name] = ["fid", "kid", "precision_recall", "modes", "diversity", "memorisation"]

    same = values(extractor, names, train, train)
    assert same["fid"] < 1e-6
    assert (same["precision"], same["recall"], same["modes"], same["missing_modes"]) == (1, 1, 10, 0)
    assert (same["memorised"], same["authenticity"]) == (1, 0)  # a copied training set

    held_out = values(extractor, names, train, test)
    stream = torch.Generator().manual_seed(0)
    noise = values(
        extractor, names, train, torch.randint(0, 256, (359, 1, 16, 16), dtype=torch.uint8, generator=stream)
    )
    assert held_out["fid"] < 1.5
    assert noise["fid"] > 20 * held_out["fid"]
    assert abs(held_out["kid"]) < 0.1 < noise["kid"]
    assert held_out["precision"] > 0.7
    assert held_out["recall"] > 0.5
    assert noise["precision"] < 0.2
    assert held_out["memorised"] < 0.05
    assert 0.35 < held_out["authenticity"] < 0.7
    assert 0.9 < held_out["diversity"] < 1.1

    halves = values(extractor, names, train[::2], train[1::2])
    assert min(halves["precision"], halves["recall"]) > 0.7

    ones = train[data.train.labels == 1]
    one_class = values(extractor, ["modes", "diversity", "precision_recall"], train, ones)
    assert one_class["modes"] <= 3
    assert one_class["missing_modes"] >= 7
    assert one_class["reverse_kl"] > 2
    assert one_class["precision"] > 0.9 > 0.2 > one_class["recall"]


# ---- one process and two --------------------------------------------------------------------------------------------

SCRIPT = """
import sys, torch
from torch import distributed
from tests.metrics.test_scoring import scored
torch.set_num_threads(1)
rank, file, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
print(scored(count))
distributed.destroy_process_group()
"""


def scored(count: int) -> str:
    """The records of so many samples, as JSON."""
    settings = replace(FEW, names=["fid", "kid", "modes", "diversity"], samples=count, force=True)
    return json.dumps([asdict(record) for record in Scorer(settings, digits()).score(game(), source="evaluate")])


@pytest.mark.parametrize(
    "count", [50, pytest.param(300, marks=pytest.mark.slow)]
)  # fewer blocks than processes, and a last block that is not full
def test_two_processes_score_as_one(count: int, tmp_path: Path) -> None:
    processes = [Process(["-c", SCRIPT, str(rank), str(tmp_path / "meet"), str(count)]) for rank in range(2)]
    one = json.loads(scored(count))
    assert [process.wait(120) for process in processes] == [0, 0]
    first, second = (json.loads(process.output) for process in processes)
    assert one == first == second
