"""Interrupted anywhere and continued = never interrupted, through the command that users type."""

import csv
import errno
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.reliability import kill
from gan_lightning import status
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands.train import run
from gan_lightning.errors import UserError
from gan_lightning.faults import Fault
from gan_lightning.metrics import records
from tests.processes import Process
from tests.support import wait_for

SMALL = {
    **{model: kill.CASES[model] for model in ("gan", "dcgan", "wgan_gp", "deepfill", "srgan")},
    "deepfill_v1": ["model=deepfill_v1", *kill.CASES["deepfill"][1:]],
    "cyclegan": [*kill.CASES["cyclegan"], "data.flip=false"],  # its pools are full from the second minibatch on
}
COMMON = [
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=3",
    "trainer.enable_progress_bar=false",
    "data.batch_size=128",  # 11 minibatches an epoch
    "data.flip=true",
    "samples.every_images=1000",
    "samples.count=4",
    "scores.samples=64",
    "scores.real_samples=64",
    "model.generator_schedule={_target_: gan_lightning.schedules.Linear, horizon: 40}",
    "model.discriminator_schedule={_target_: gan_lightning.schedules.Cosine, horizon: 40}",
]
MINIBATCHES = 27
# relatives of these are tried in any case, and test_matrix.py goes on with every rule
TWICE, SLOW = ("deepfill", "deepfill_v1", "srgan", "cyclegan"), pytest.mark.slow
FEW = ("cyclegan", "deepfill", "deepfill_v1", "srgan")  # large networks: a quarter of the images, in minibatches of 32
WALL_CLOCK = {"seconds", "images_per_second"}


def train(folder: Path, *arguments: str) -> None:
    assert run([f"hydra.run.dir={folder}", *COMMON, *arguments]) == 0


def last(folder: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    checkpoint["counters"].pop("seconds")
    return {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "counters")}


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in WALL_CLOCK} for row in csv.DictReader(file)]


@pytest.mark.parametrize("model", [pytest.param(name, marks=SLOW if name in TWICE else ()) for name in SMALL])
def test_resumed_is_uninterrupted(model: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    size = 32 if model in FEW else 128
    train(whole, *SMALL[model], f"budget.images={MINIBATCHES * size}")
    stops = sorted(random.Random(model).sample(range(1, MINIBATCHES), 2))
    train(parts, *SMALL[model], f"budget.images={stops[0] * size}")
    for stop in (stops[1], MINIBATCHES):
        assert run([f"checkpoint={parts}", f"budget.images={stop * size}"]) == 0
    torch.testing.assert_close(last(parts), last(whole), rtol=0, atol=0)
    assert lines(parts) == lines(whole)
    assert {f.name for f in whole.glob("samples/*")} <= {f.name for f in parts.glob("samples/*")}


@pytest.mark.parametrize("stops", [pytest.param((5, 20), marks=pytest.mark.slow), (12, 13)])
def test_resumed_in_either_phase_and_between_them(stops: tuple[int, int], tmp_path: Path) -> None:
    """The generator's 12 minibatches alone, and the game that follows."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, *SMALL["srgan"], f"budget.images={MINIBATCHES * 32}")
    train(parts, *SMALL["srgan"], f"budget.images={stops[0] * 32}")
    for stop in (stops[1], MINIBATCHES):
        assert run([f"checkpoint={parts}", f"budget.images={stop * 32}"]) == 0
    assert last(whole)["counters"]["phase"] == 1
    torch.testing.assert_close(last(parts), last(whole), rtol=0, atol=0)
    assert lines(parts) == lines(whole)


def test_a_run_started_again_in_its_folder_goes_on(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, *SMALL["gan"], "trainer.max_epochs=2")
    train(parts, *SMALL["gan"], "trainer.max_epochs=1")
    train(parts, *SMALL["gan"], "trainer.max_epochs=2")
    torch.testing.assert_close(last(parts), last(whole), rtol=0, atol=0)
    before = (parts / "checkpoints" / "last.ckpt").read_bytes()
    train(parts, *SMALL["gan"], "trainer.max_epochs=2")  # finished: nothing is done, nothing is lost
    assert (parts / "checkpoints" / "last.ckpt").read_bytes() == before
    with pytest.raises(UserError, match="seed"):
        train(parts, *SMALL["gan"], "trainer.max_epochs=3", "seed=5")


def test_an_older_checkpoint_starts_a_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, *SMALL["gan"], "trainer.max_epochs=2", "checkpoints.every_epochs=1")
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()
    (first,) = folder.glob("checkpoints/e0001-*.ckpt")
    assert run([f"checkpoint={first}"]) == 0
    (branch,) = (f for f in tmp_path.iterdir() if f != folder)
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before
    torch.testing.assert_close(last(branch), last(folder), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("argument", "fragment"),
    [
        ("model=gan", "model"),
        ("data=mnist", "data"),
        ("seed=3", "seed"),
        ("model.generator.hidden=[8]", "model.generator.hidden"),
    ],
)
def test_what_a_continued_run_keeps(argument: str, fragment: str, tmp_path: Path) -> None:
    train(tmp_path / "run", *SMALL["gan"], "budget.images=128")
    with pytest.raises(UserError, match=fragment):
        run([f"checkpoint={tmp_path / 'run'}", argument])


@pytest.mark.parametrize(
    "change", ["data.batch_size=32", "data.batch_size=512", "step.accumulate=4", "step.minibatches=1"]
)
def test_a_continued_run_may_have_other_sizes(change: str, tmp_path: Path) -> None:
    """It goes on at its place in the data; epochs still end where the data ends."""
    folder = tmp_path / "run"
    train(folder, *SMALL["gan"], f"budget.images={9 * 128}")  # 9 of 11 minibatches
    assert run([f"checkpoint={folder}", change, "budget.images=null", "trainer.max_epochs=3"]) == 0
    counters = last(folder)["counters"]
    assert (counters["epoch"], counters["epoch_images"]) == (3, 0)
    assert 1152 + 2 * 1024 <= counters["images"] <= 3 * 1438  # two epochs of two batches of 512 at least
    assert counters["minibatches"] % (4 if "accumulate" in change else 1) == 0


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("gan_lightning.callbacks.samples.save_film", marks=SLOW),
        "gan_lightning.callbacks.scores.records.append",
    ],
)
def test_an_end_that_failed_is_made_again(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full for the last scores or pictures: all budgets are used up, and yet the run has not finished."""
    folder, arguments = tmp_path / "run", [*SMALL["gan"], "scores.names=[diversity]", "budget.images=256"]

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(place, full)
        with pytest.raises(Fault, match="No space left"):
            train(folder, *arguments)
    assert run([f"checkpoint={folder}"]) == 0
    found = status.read(folder)
    assert found is not None
    assert found.state == "finished"
    assert [line["images"] for line in records.lines(folder / records.FILE) if line["metric"] == "diversity"] == [256]
    assert (folder / "samples" / "film.gif").exists()


def test_weights_start_a_fresh_run_from_trained_networks(tmp_path: Path) -> None:
    train(tmp_path / "first", *SMALL["gan"], "budget.images=1280")
    trained = last(tmp_path / "first")
    train(tmp_path / "second", *SMALL["gan"], "budget.images=128", f"weights={tmp_path / 'first'}", "model.ema=null")
    again = last(tmp_path / "second")
    assert again["counters"]["minibatches"] == 1
    key = "generator.layers.0.weight"
    step = (again["state_dict"][key] - trained["state_dict"][key]).abs().max()
    assert 0 < step < 1e-3  # one step of Adam away
    with pytest.raises(UserError, match="weights"):
        train(tmp_path / "third", *SMALL["dcgan"], f"weights={tmp_path / 'first'}")
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_and_saves(number: signal.Signals, code: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = [f"hydra.run.dir={folder}", *COMMON, *SMALL["gan"], "trainer.max_epochs=100000"]
    process = Process(["-m", "gan_lightning", *arguments], tmp_path)
    wait_for(folder / "metrics.csv")
    os.kill(process.pid, number)
    assert process.wait(60) == code
    assert "Interrupted" in process.output
    images = last(folder)["counters"]["images"]
    assert images > 0
    assert run([f"checkpoint={folder}", f"budget.images={images + 128}"]) == 0
    assert last(folder)["counters"]["images"] == images + 128
