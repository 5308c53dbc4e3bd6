"""One process at a time trains in a folder; others read and add to its files meanwhile."""

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.reliability.kill import fork
from gan_lightning import holding, status
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import train
from gan_lightning.commands.train import run
from gan_lightning.errors import UserError
from gan_lightning.holding import Held, hold
from gan_lightning.metrics import records
from gan_lightning.sweeps.search import note_failure
from tests.run_folders import MADE
from tests.support import wait_for
from tests.test_resume import COMMON, SMALL
from tests.test_torn import SHORT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")


@contextmanager
def another(work: Callable[[], object], folder: Path) -> Iterator[int]:
    """A process that does this and then waits, until the end of the block: its number."""

    def forever() -> int:
        work()
        signal.pause()
        return 0

    number = fork(forever, folder / "log.txt")
    try:
        yield number
    finally:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)


@contextmanager
def held(folder: Path, place: Path) -> Iterator[int]:
    """Another process trains in `folder`; its number."""
    holder = hold(folder)

    def work() -> None:
        holder.__enter__()
        (place / "held").touch()

    with another(work, place) as number:
        wait_for(place / "held")
        yield number
    (place / "held").unlink()


def test_the_holder_is_named_and_gone_when_it_is_killed(tmp_path: Path) -> None:
    with held(tmp_path / "run", tmp_path) as number, pytest.raises(UserError) as refused, hold(tmp_path / "run"):
        pass
    assert f"process {number} on {socket.gethostname()} trains in this folder" in str(refused.value)
    with hold(tmp_path / "run"):  # it was killed: at once
        assert json.loads((tmp_path / "run" / ".lock").read_text())["pid"] == os.getpid()
    assert (tmp_path / "run" / ".lock").read_text() == ""


def test_a_worker_that_outlives_a_killed_run_does_not_hold_it(tmp_path: Path) -> None:
    holder = hold(tmp_path / "run")
    numbers = tmp_path / "numbers"

    def work() -> None:
        holder.__enter__()
        child = os.fork()  # as a loader's worker is made
        if child:
            (tmp_path / "part").write_text(str(child))
            (tmp_path / "part").rename(numbers)
        signal.pause()

    with another(work, tmp_path):
        wait_for(numbers)
    try:
        with hold(tmp_path / "run"):
            pass
    finally:
        os.kill(int(numbers.read_text()), signal.SIGKILL)


@pytest.mark.parametrize(
    ("holder", "age", "refused"),
    [
        ({"host": "elsewhere", "pid": 1}, 10, True),
        ({"host": "elsewhere", "pid": 1}, 1000, False),  # nothing was heard of it
        ({"host": socket.gethostname(), "pid": 1}, 10, True),
        ({"host": socket.gethostname(), "pid": 1}, 1000, False),  # the number is another program's
        ({"host": socket.gethostname(), "pid": 2**22 + 1}, 10, False),  # there is no such process
        ({"host": "elsewhere", "pid": 1, "job": "7", "restarts": "0"}, 10, False),  # this job before it was requeued
        ({"host": "elsewhere", "pid": 1, "job": "7", "restarts": "1"}, 10, True),  # another step of this job
        ({"host": "elsewhere", "pid": 1, "job": "8", "restarts": "0"}, 10, True),
        ({}, 10, False),
    ],
)
def test_disks_without_locks(
    holder: dict[str, object], age: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "try_lock", lambda file: None)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    path = tmp_path / ".lock"
    path.write_text(json.dumps(holder) if holder else "")
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    if refused:
        with pytest.raises(UserError, match=r"process 1 on .* is forgotten 5 minutes"), hold(tmp_path):
            pass
        assert json.loads(path.read_text()) == holder
    else:
        monkeypatch.setattr(holding, "BEAT", 0.01)
        with hold(tmp_path):
            os.utime(path, (then, then))
            wait = 500
            while path.stat().st_mtime == then and (wait := wait - 1):
                os.sched_yield()
                holding.threading.Event().wait(0.01)
            assert wait, "it is not touched"
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]


def test_a_second_process_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = [f"hydra.run.dir={folder}", *SHORT]
    assert run([*arguments, "budget.images=256"]) == 0
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with held(folder, tmp_path) as number:
        before[folder / ".lock"] = (folder / ".lock").read_bytes()
        for again in ([*arguments, "budget.images=512"], [f"checkpoint={folder}", "budget.images=512"]):
            with pytest.raises(UserError, match=f"process {number} on"):
                run(again)
        assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert run([*arguments, "budget.images=512"]) == 0


def test_a_second_resume_is_refused_although_the_first_has_gone_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoint is replaced after the second has read it: that is no older one, to branch off from."""
    folder, later = tmp_path / "run", tmp_path / "later"
    assert run([f"hydra.run.dir={folder}", *SHORT, "budget.images=256"]) == 0
    shutil.copytree(folder, later)
    assert run([f"checkpoint={later}", "budget.images=384"]) == 0
    checked = train.checked

    def meanwhile(*given: Any, **more: Any) -> Any:
        (later / "checkpoints" / "last.ckpt").replace(folder / "checkpoints" / "last.ckpt")
        return checked(*given, **more)

    monkeypatch.setattr(train, "checked", meanwhile)
    with held(folder, tmp_path) as number, pytest.raises(UserError, match=f"process {number} on"):
        run([f"checkpoint={folder}", "budget.images=512"])


def test_a_lock_file_that_is_damaged_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"\xff\xfe")
    with hold(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_sweep_into_a_folder_that_is_held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line, not a traceback by Hydra; and a search does not call the run that goes on a failed one."""
    sweep = ["-m", *SHORT, "seed=0", f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=run"]
    with held(tmp_path / "run", tmp_path) as number:
        assert run(sweep) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("gan_lightning")] == said
    assert f"process {number} on" in said[-1]
    status.write(tmp_path, status.Status())
    with pytest.raises(SystemExit, match="2"):
        note_failure(tmp_path, JobReturn(_return_value=Held("it trains"), status=JobStatus.FAILED))
    assert status.read(tmp_path) == status.Status()


def made(number: int, source: str) -> records.Record:
    where = {"metric": "fid", "value": 1.0, "std": None, "source": source, "step": 1, "epoch": 0, "seconds": 1.0}
    return records.Record(**{**MADE, **where, "images": number})  # type: ignore[arg-type]


def test_an_evaluation_during_a_continued_run_is_not_lost(tmp_path: Path) -> None:
    """The lines that a run forgets as it goes on, while another process adds its own."""
    path, count = tmp_path / "scores.jsonl", 100

    def evaluate() -> None:
        for number in range(count):
            records.append(path, [made(number, "evaluate")])
        (tmp_path / "done").touch()

    with another(evaluate, tmp_path):
        while not (tmp_path / "done").exists():
            records.append(path, [made(900, "train")])
            records.forget_after(path, 500)
    records.forget_after(path, 500)
    assert [line["images"] for line in records.lines(path)] == list(range(count))


@pytest.mark.slow
def test_six_runs_at_once_and_readers_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started together with the folders that they choose themselves; a report and TensorBoard read as they write."""
    from gan_lightning.commands.report import run as report

    monkeypatch.chdir(tmp_path)
    arguments = [*COMMON, *SMALL["gan"], "trainer.max_epochs=40", "checkpoints.every_minutes=0.001"]
    numbers = [fork(lambda: run(arguments), tmp_path / f"log{number}.txt") for number in range(6)]
    living, reports = set(numbers), 0
    while living:
        living -= {number for number in living if os.waitpid(number, os.WNOHANG)[0]}
        for folder in tmp_path.glob("outputs/*/*gan_digits"):
            EventAccumulator(str(folder)).Reload()
        if any(tmp_path.glob("outputs/*/*gan_digits/metrics.csv")):
            assert report(["runs=outputs", f"output={tmp_path / f'report{reports}'}"]) == 0
            reports += 1
    folders = list(tmp_path.glob("outputs/*/*gan_digits"))
    assert (len(folders), reports > 0) == (6, True), (tmp_path / "log0.txt").read_text()
    for folder in folders:
        assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["counters"]["epoch"] == 40
        assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert (tmp_path / "outputs" / "latest").resolve() in [folder.resolve() for folder in folders]
