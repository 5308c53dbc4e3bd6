"""Runs that are killed at random moments, and a second Ctrl-C while a checkpoint is written."""

import json
import os
import random
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.reliability import kill
from gan_lightning.callbacks.alarms import Watch
from gan_lightning.callbacks.samples import SampleGrids
from gan_lightning.checkpoint import AtomicCheckpointIO, read_checkpoint
from gan_lightning.commands.train import run
from tests.support import wait_for
from tests.test_torn import SHORT

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or torch.cuda.is_available(), reason="forks processes that have used torch"
)
SHORTER = ["trainer.max_epochs=1", "scores.names=[diversity]"]


def test_killed_is_uninterrupted(tmp_path: Path) -> None:
    hit, found = kill.series("gan", 3, random.Random(0), tmp_path, SHORTER)
    assert (hit.total(), found) == (3, [])


@pytest.mark.slow
@pytest.mark.parametrize("model", kill.CASES)
def test_killed_in_every_family(model: str, tmp_path: Path) -> None:
    hit, found = kill.series(model, 10, random.Random(model), tmp_path, [])
    assert (hit.total(), found) == (10, [])


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param(["scores.patience=1", "scores.every=256"], marks=pytest.mark.slow, id="patience"),
        pytest.param(["on_collapse=stop", "trainer.log_every_n_steps=1"], id="alarm"),
    ],
)
def test_what_ends_a_run_ends_it_although_it_was_killed_in_its_end(
    ends: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No budget says so: the checkpoint does, and status.json has the alarm."""
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log.txt"
    typed = [*SHORT, "scores.names=[diversity]", "trainer.max_epochs=3", *ends]
    monkeypatch.setattr(Watch, "line", lambda watch, line, won, images: watch.new([("won", "!")] * (images >= 512)))
    assert run([f"hydra.run.dir={whole}", *typed]) == 0

    def end(arguments: list[str], killed: bool) -> int:
        if killed:
            monkeypatch.setattr(SampleGrids, "on_train_end", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        return run(arguments)

    again = [f"checkpoint={killed}"]
    for arguments, code in (([f"hydra.run.dir={killed}", *typed], -9), (again, -9), (again, 0)):
        child = kill.fork(partial(end, arguments, code != 0), log)  # event files of a second sort by process
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code, log.read_text()
        assert told(killed)["alarms"] == told(whole)["alarms"]
    images = read_checkpoint(killed / "checkpoints" / "last.ckpt")["counters"]["images"]
    assert kill.differences(kill.left(killed), kill.left(whole)) == []
    assert [told(killed)[key] for key in ("state", "reason")] == [told(whole)[key] for key in ("state", "reason")]
    assert run([f"checkpoint={killed}"]) == 0  # it has ended: whoever goes on wants more
    assert read_checkpoint(killed / "checkpoints" / "last.ckpt")["counters"]["images"] > images


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text())


def test_differences_are_seen(tmp_path: Path) -> None:
    """The comparison itself: a weight, a line of metrics, a double event."""
    common = [*SHORT, "trainer.log_every_n_steps=1"]
    for name in ("one", "other"):
        assert run([f"hydra.run.dir={tmp_path / name}", *common, "budget.images=256"]) == 0
    one = kill.left(tmp_path / "one")
    assert kill.differences(kill.left(tmp_path / "one"), kill.left(tmp_path / "other")) == []
    one["weights"]["generator.layers.0.bias"][0] += 1e-6
    one["metrics.csv"].pop()
    one["events"]["D/loss"].append(one["events"]["D/loss"][-1])
    found = kill.differences(one, kill.left(tmp_path / "other"))
    assert [text.partition(":")[0] for text in found] == ["weights", "metrics.csv", "events"]


def test_a_second_interrupt_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    folder, writing = tmp_path / "run", tmp_path / "writing"
    last = folder / "checkpoints" / "last.ckpt"

    def work() -> int:
        save = torch.save

        def slow(content: Any, file: Any) -> None:
            if not last.exists():
                return save(content, file)
            file.write(b"half of a checkpoint")
            writing.touch()
            time.sleep(60)

        torch.save = slow
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have background jobs ignore it
        try:
            return run([f"hydra.run.dir={folder}", *SHORT, "trainer.max_epochs=100000", "checkpoints.every_epochs=1"])
        except KeyboardInterrupt:
            return 130  # as __main__ ends

    number = kill.fork(work, tmp_path / "log.txt")
    deadline = threading.Timer(60, os.kill, (number, signal.SIGKILL))
    deadline.start()
    wait_for(writing)
    began = time.monotonic()
    os.kill(number, signal.SIGINT)
    time.sleep(1)  # two that arrive together are one
    os.kill(number, signal.SIGINT)
    _, how = os.waitpid(number, 0)
    deadline.cancel()
    assert os.waitstatus_to_exitcode(how) == 130, (tmp_path / "log.txt").read_text()
    assert time.monotonic() - began < 10
    assert read_checkpoint(last)["counters"]["epoch"] == 1
    assert [file.name for file in last.parent.iterdir() if file.name.startswith(".")] == []
    assert AtomicCheckpointIO().load_checkpoint(last)["format"] >= 1
    assert run([f"checkpoint={folder}", "trainer.max_epochs=2"]) == 0
