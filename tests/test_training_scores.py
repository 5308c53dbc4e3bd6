"""Scores during training: when, where they are written, the best checkpoint, and that training does not notice."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lightning import sampling
from gan_lightning.__main__ import main
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands.train import run
from gan_lightning.errors import UserError
from gan_lightning.faults import Fault
from gan_lightning.metrics.scoring import Scorer
from tests.fake_data import write_photos

SMALL = [
    "model=gan",
    "model.generator.hidden=[16]",
    "model.discriminator.hidden=[16]",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=2",
    "samples.every_images=1000000",
    "samples.count=4",
    "scores.samples=100",
    "scores.real_samples=100",
]


def train(folder: Path, *arguments: str) -> Path:
    assert run([*SMALL, f"hydra.run.dir={folder}", *arguments]) == 0
    return folder


def scored(folder: Path, metric: str = "fid") -> list[tuple[int, float]]:
    """Images and values of a metric, as training wrote them."""
    lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    return [(line["images"], line["value"]) for line in lines if line["metric"] == metric]


def weights(folder: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoints" / name)["state_dict"]


def test_a_failure_of_scores_at_the_end_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Scorer, "score", fail)
    with pytest.raises(Fault, match="out of memory"):
        train(tmp_path / "run", "budget.images=256")
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["counters"]["images"] == 256


def test_path_length_alone(tmp_path: Path) -> None:
    folder = train(tmp_path / "run", "budget.images=256", "scores.names=[path_length]")
    assert [images for images, _ in scored(folder, "path_length")] == [256]


def test_the_best_is_of_one_metric(tmp_path: Path) -> None:
    folder = train(tmp_path / "run", "budget.images=256", "scores.every=256", "scores.best=precision")
    best = folder / "checkpoints" / "best.ckpt"
    assert run([f"checkpoint={folder}", "budget.images=512", "scores.best=fid"]) == 0
    state = read_checkpoint(best)["callbacks"]["Scores"]
    assert (state["best_of"][0], state["best"]) == ("fid", dict(scored(folder))[512])
    assert run([f"checkpoint={folder}", "budget.images=768", "scores.names=[]"]) == 0
    kept = best.read_bytes()
    found = {"best": 0.0, **state}
    assert run([f"checkpoint={folder}", "budget.images=1024", "scores.names=[fid]", "scores.best=fid"]) == 0
    values = dict(scored(folder))
    assert (best.read_bytes() == kept) == (
        values[1024] >= found["best"]
    )  # known although a run without scores came between


def test_training_does_not_notice(tmp_path: Path) -> None:
    with_scores = train(tmp_path / "with", "budget.images=1024", "scores.every=256")
    without = train(tmp_path / "without", "budget.images=1024", "scores=off")
    assert [images for images, _ in scored(with_scores)] == [256, 512, 768, 1024]
    assert not (without / "scores.jsonl").exists()
    found, expected = weights(with_scores), weights(without)
    assert found.keys() == expected.keys()  # no extractor among them
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    columns = (folder / "metrics.csv" for folder in (with_scores, without))
    assert len({file.read_text().splitlines()[0] for file in columns}) == 1


def test_scores_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train(tmp_path / "run", "budget.images=512", "scores.every=256")
    output = capsys.readouterr().out
    assert "scores at 256 images: fid" in output
    assert "scoring took" in output
    assert "digits v1; 100 real, 100 generated" in output
    events = EventAccumulator(str(folder), {"scalars": 0})
    events.Reload()
    assert [(e.step, pytest.approx(e.value, rel=1e-5)) for e in events.Scalars("scores/fid")] == scored(folder)
    shown = {tag for tag in events.Tags()["scalars"] if tag.startswith("scores/")}
    kept = {json.loads(line)["metric"] for line in (folder / "scores.jsonl").read_text().splitlines()}
    assert shown == {f"scores/{metric}" for metric in kept}
    assert kept == {"fid", "precision", "recall", "modes", "missing_modes", "reverse_kl", "diversity"}


@pytest.mark.parametrize(("metric", "best"), [("fid", min), ("diversity", max)])
def test_the_best_checkpoint_is_kept(metric: str, best: Any, tmp_path: Path) -> None:
    folder = train(tmp_path / "run", "budget.images=2048", "scores.every=128", f"scores.best={metric}")
    values = scored(folder, metric)
    chosen = best(values, key=lambda pair: pair[1])
    kept = read_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert kept["counters"]["images"] == chosen[0]
    state = next(value for key, value in kept["callbacks"].items() if key == "Scores")
    assert state["best"] == chosen[1]


def test_a_run_without_progress_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates = ["model.generator_optimizer.lr=0", "model.generator.batch_norm=none"]
    folder = train(tmp_path / "run", *rates, "scores.every=64", "scores.patience=3", "budget.images=4096")
    assert [images for images, _ in scored(folder)] == [64, 128, 192, 256]
    assert "no better" in capsys.readouterr().out


def test_scoring_takes_its_share_alone(tmp_path: Path) -> None:
    """Far too little time for more than the scores at the end; all of the time for many."""
    assert len(scored(train(tmp_path / "little", "budget.images=4096", "scores.share=0.0001"))) == 1
    soon = ["scores.names=[diversity]", "scores.patience=2"]  # the run need not go on once three are there
    much = train(tmp_path / "much", "budget.images=40960", "scores.share=1", *soon)
    assert len(scored(much, "diversity")) > 2


def test_a_continued_run_has_every_score_once(tmp_path: Path) -> None:
    arguments = ["budget.images=1024", "scores.every=128", "checkpoints.every_minutes=null"]
    whole = train(tmp_path / "whole", *arguments)
    broken = train(tmp_path / "broken", "budget.images=448", *arguments[1:])
    shutil.copy(broken / "checkpoints" / "last.ckpt", tmp_path / "at 448")
    assert run([f"checkpoint={broken}", "budget.images=800"]) == 0  # killed at 800, its last checkpoint at 448
    shutil.copy(tmp_path / "at 448", broken / "checkpoints" / "last.ckpt")
    with (broken / "scores.jsonl").open("a") as file:
        file.write(json.dumps({"metric": "kid", "source": "evaluate", "images": 800, "value": 1.0}) + "\n")
    assert run([f"checkpoint={broken}", "budget.images=1024"]) == 0
    assert [images for images, _ in scored(broken)] == [128, 256, 384, 448, *range(512, 1025, 128)]
    assert {pair for pair in scored(broken) if pair[0] != 448} == set(scored(whole))
    assert scored(broken, "kid") == [(800, 1.0)]  # an evaluation is never lost
    state = [read_checkpoint(f / "checkpoints" / "best.ckpt")["counters"]["images"] for f in (whole, broken)]
    assert state[0] == state[1] or min(scored(broken), key=lambda pair: pair[1])[0] == 448


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["scores.names=[fid]", "scores.samples=64"], "scores.names=[fid]: needs 65"),
        (["scores.names=[fdi]"], "scores.names"),
        (["scores.best=kid"], "scores.best=kid"),
        (["scores.extractor=digit"], "scores.extractor=digit"),
        (["on_collapse=panic"], "on_collapse=panic"),
        (["scores.share=2"], "scores.share=2"),
    ],
)
def test_a_mistake_makes_nothing(arguments: list[str], fragment: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        run([*SMALL, f"hydra.run.dir={tmp_path / 'run'}", *arguments])
    assert fragment in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_handful_of_photographs(tmp_path: Path) -> None:
    """Too few for anything: the run trains all the same."""
    write_photos(tmp_path / "photos")
    data = ["data=image_folder", f"data.root={tmp_path / 'photos'}", "data.image_size=16", "data.batch_size=4"]
    folder = train(tmp_path / "run", *data, "budget.images=64")
    kept = {json.loads(line)["metric"] for line in (folder / "scores.jsonl").read_text().splitlines()}
    assert "fid" not in kept
    assert "diversity" in kept


def test_an_interrupt_does_not_wait_for_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes while the third block of a million samples is made, which would take minutes."""
    folder, blocks = tmp_path / "run", sampling.blocks
    made: list[int] = []

    def interrupted(module: Any, count: int, **settings: Any) -> Iterator[torch.Tensor]:
        for block in blocks(module, count, **settings):
            made.append(count)
            if made.count(1_000_000) == 3:
                signal.raise_signal(signal.SIGINT)
            assert made.count(1_000_000) <= 4  # one more where the step that then ends the run is scored
            yield block

    monkeypatch.setattr(sampling, "blocks", interrupted)
    few = ["scores.samples=1000000", "scores.every=64", "budget.images=4096", f"hydra.run.dir={folder}"]
    assert main([*SMALL, *few]) == 130
    assert "these scores are left out" in capsys.readouterr().out
    assert made.count(1_000_000) >= 3
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["counters"]["images"] <= 128
