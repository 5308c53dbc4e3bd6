"""A machine that fails: one line that says what, an exit code, the checkpoint of before; a bug keeps its traceback."""

import csv
import errno
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from tensorboard.summary.writer.record_writer import RecordWriter

from benchmarks.reliability import faults as real
from gan_lightning import faults, status, watching
from gan_lightning.__main__ import main
from gan_lightning.adversarial import AdversarialModule
from gan_lightning.budget import Budget
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.data.base import ImageData
from gan_lightning.data.decoding import Decoder
from gan_lightning.data.digits import Digits
from gan_lightning.divergence import Diverged
from gan_lightning.errors import UserError
from gan_lightning.faults import Fault, explain
from gan_lightning.holding import hold
from gan_lightning.loggers import CSV
from gan_lightning.metrics import scoring
from gan_lightning.unheard import unheard
from tests.processes import Process

SMALL = ["model=gan", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]", "data.batch_size=32"]
SMALL += ["trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "trainer.enable_progress_bar=false", "scores=off"]
SMALL += ["samples.count=4", "samples.every_images=64", "trainer.max_epochs=9"]
Break = Callable[[pytest.MonkeyPatch], None]


def full(*arguments: Any, **named: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_in_torch(content: Any, file: Any) -> None:
    """As torch.save says it: the disk's error comes first, and then one about the end of the file."""
    try:
        file.write(b"half")
        full()
    finally:
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 57024 vs 56912")


def play(break_it: Callable[[AdversarialModule, Any], object]) -> Break:
    """Has something happen before the batch that begins at the fifth minibatch or later."""
    step = AdversarialModule.training_step

    def training_step(self: Any, batch: Any, *rest: Any) -> Any:
        if self.counters.minibatches >= 5:
            break_it(self, batch)
        return step(self, batch, *rest)

    return lambda patch: patch.setattr(AdversarialModule, "training_step", training_step)


def spoil_weights(module: Any, batch: Any) -> None:
    next(module.generator.parameters()).data.fill_(torch.nan)


def spoil_loss(module: Any, batch: Any) -> None:
    rule = type(module).generator_loss
    module.generator_loss = lambda *given: {key: value * torch.nan for key, value in rule(module, *given).items()}


def no_memory(module: Any, batch: Any) -> None:
    torch.empty(2**60, dtype=torch.uint8)


def no_device_memory(module: Any, batch: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …\nmore")


FAULTS: dict[str, tuple[Break, list[str], status.State]] = {
    "checkpoint": (
        lambda patch: patch.setattr(torch, "save", full_in_torch),
        ["No space left", "checkpoint="],
        "failed",
    ),
    "samples": (lambda patch: patch.setattr(Image.Image, "save", full), ["No space left", "checkpoint="], "failed"),
    "events": (lambda patch: patch.setattr(RecordWriter, "write", full), ["No space left", "checkpoint="], "failed"),
    "metrics": (
        lambda patch: patch.setattr(csv.DictWriter, "writerow", full),
        ["No space left", "checkpoint="],
        "failed",
    ),
    "weights": (play(spoil_weights), ["diverged", "last.ckpt"], "diverged"),
    "data": (
        lambda patch: patch.setattr(ImageData, "scaled", lambda self, stored: torch.full(stored.shape, torch.nan)),
        ["diverged", "last.ckpt"],
        "diverged",
    ),
    "loss": (play(spoil_loss), ["diverged", "last.ckpt"], "diverged"),
    "memory": (play(no_memory), ["data.batch_size", "step.accumulate", "step.recompute"], "failed"),
    "device": (play(no_device_memory), ["2.00 GiB", "data.batch_size", "step.recompute"], "failed"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main([*SMALL, "budget.images=128", f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_one_line_and_the_checkpoint_of_before(
    fault: str, begun: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    break_it, fragments, state = FAULTS[fault]
    before = (begun / "checkpoints" / "last.ckpt").read_bytes()
    (begun / faults.FILE).unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        break_it(patch)
        assert main([f"checkpoint={begun}", "budget.images=640"]) == 1
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert all(fragment in said[0] for fragment in ["gan_lightning: ", *fragments])
    ended = status.read(begun)
    assert ended
    assert (ended.state, f"gan_lightning: {ended.reason}") == (state, said[0])
    assert (begun / faults.FILE).exists() == (state == "failed")  # the rest of it, for who wants it
    assert (begun / "checkpoints" / "last.ckpt").read_bytes() == before
    assert [path.name for path in (begun / "checkpoints").iterdir()] == ["last.ckpt"]


def test_it_goes_on_after_all_that(begun: Path, tmp_path: Path) -> None:
    assert main([f"checkpoint={begun}", "budget.images=640"]) == 0
    assert main([*SMALL, "budget.images=640", f"hydra.run.dir={tmp_path / 'whole'}"]) == 0
    ends = [read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (begun, tmp_path / "whole")]
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(ends[0][part], ends[1][part], rtol=0, atol=0)


def test_a_bug_keeps_its_traceback_without_that_of_the_libraries(
    begun: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def stumble(self: Any) -> None:
        raise ZeroDivisionError("one of ours")

    monkeypatch.setattr(AdversarialModule, "average_buffers", stumble)
    assert main([f"checkpoint={begun}", "budget.images=1280"]) == 1
    said = capfd.readouterr().err
    assert "commands/train.py" in said
    assert "in stumble\n" in said
    assert "ZeroDivisionError: one of ours" in said
    assert "lightning/pytorch" not in said
    assert "lightning/pytorch" in (begun / faults.FILE).read_text()
    monkeypatch.setenv(faults.VARIABLE, "1")
    with pytest.raises(ZeroDivisionError):
        main([f"checkpoint={begun}", "budget.images=1280"])


FIRST = {  # who notices it
    "metrics": ["samples.every_images=100000"],
    "samples": ["logger.csv=null"],
    "checkpoints": ["logger.csv=null", "samples.every_images=100000", "checkpoints.every_minutes=0.0001"],
}


@pytest.mark.parametrize("first", FIRST)
def test_a_folder_that_is_gone_is_not_made_again(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    play(lambda module, batch: folder.exists() and folder.rename(tmp_path / "elsewhere"))(monkeypatch)
    assert main([*SMALL, *FIRST[first], f"hydra.run.dir={folder}"]) == 1
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert f"{folder}: No such file or directory. What was saved there is gone with it" in said[0]
    assert not folder.exists()


def test_a_divergence_after_an_interrupt_is_no_interrupt(
    begun: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(module: Any, batch: Any) -> None:
        spoil_weights(module, batch)
        next(one for one in module.trainer.callbacks if isinstance(one, Budget))._interrupt(signal.SIGINT, None)

    play(interrupt)(monkeypatch)
    assert main([f"checkpoint={begun}", "budget.images=12800"]) == 1  # and not 130: nothing was saved
    assert "diverged" in capfd.readouterr().err
    ended = status.read(begun)
    assert ended
    assert ended.state == "diverged"


def test_a_full_disk_under_the_cache_of_features_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def half(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(scoring, "save_file", half)
    data = Digits(image_size=16, channels=1, batch_size=32, seed=0)
    data.setup()
    settings = scoring.ScoreSettings(names=["diversity"], samples=64, real_samples=64, cache=tmp_path, force=True)
    assert len(scoring.Scorer(settings, data).real.features) == 64
    (line,) = caplog.messages
    assert line.startswith(f"scores.cache={tmp_path}: features of real images are not kept there: ")
    assert "No space left on device" in line
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_nobody_has_to_hear_a_run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:  # whose end flushes it once more
        monkeypatch.setattr("sys.stdout", out)
        with unheard():
            for _ in range(3):
                print("epoch", flush=True)
        assert sys.stdout is out
    (line,) = capfd.readouterr().err.splitlines()
    assert line == "gan_lightning: standard output cannot be written to (Broken pipe); the run goes on without it"


def test_a_run_may_have_no_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """`>&-` in a shell: Python has none then, and prints nothing."""
    monkeypatch.setattr("sys.stdout", None)
    with unheard():
        print("epoch", flush=True)
    assert sys.stdout is None


def test_a_disk_that_cannot_free_the_lock_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.FileIO):
        def truncate(self, size: int | None = None) -> int:
            return full() if self.tell() else super().truncate(size)  # once something was written

    monkeypatch.setattr(Path, "open", lambda self, *how, **named: Failing(self, "a+"))
    with pytest.raises(Fault, match="first"), hold(tmp_path):
        raise Fault("first")


WORKER_KILLED = "DataLoader worker (pid 123) is killed by signal: Killed. "
WORKER_GONE = "DataLoader worker (pid(s) 7, 8) exited unexpectedly"


@pytest.mark.parametrize(
    ("error", "fragments"),
    [
        (RuntimeError(WORKER_KILLED), ["pid 123", "killed by signal Killed", "data.workers"]),
        (RuntimeError(WORKER_GONE), ["pid 7, 8", "exited unexpectedly", "data.workers"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes."), ["64 bytes"]),
        (MemoryError(), ["out of memory", "data.batch_size"]),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ["out of memory"]),
        (PermissionError(errno.EACCES, "Permission denied", "/there/a.csv"), ["/there/a.csv: Permission denied"]),
        (OSError(errno.EROFS, "Read-only file system", "/there"), ["/there: Read-only file system"]),
        (ValueError("Error while serializing: I/O error: No space left on device (os error 28)"), ["No space left"]),
        (
            RuntimeError("f_cuda does not have a deterministic implementation, but you …"),
            ["trainer.deterministic=warn"],
        ),
    ],
)
def test_faults_are_told_by_what_was_raised(error: Exception, fragments: list[str]) -> None:
    line = explain(error) or ""
    assert all(fragment in line for fragment in fragments), line
    assert "\n" not in line


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ValueError("no"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/nowhere"),
        KeyError("memory"),
    ],
)
def test_bugs_are_no_faults(error: Exception, tmp_path: Path) -> None:
    assert explain(error, tmp_path) is None
    error.__context__ = OSError(errno.ENOSPC, "No space left on device")  # whatever went before it
    assert explain(error, tmp_path) is None


def test_what_the_disk_of_the_data_refuses_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, path: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Decoder, "pixels", broken)
    with pytest.raises(OSError, match="Input/output error") as found:
        Decoder(16, 1, "crop", "lanczos").decode(tmp_path / "a.png")
    assert explain(found.value, tmp_path / "run") == f"{tmp_path / 'a.png'}: Input/output error"
    by_a_worker = f"Caught OSError in DataLoader worker process 0.\nOriginal Traceback …\nOSError: {found.value}\n"
    assert explain(OSError(by_a_worker), tmp_path / "run") == f"{tmp_path / 'a.png'}: Input/output error"


def test_a_worker_s_mistake_comes_without_its_traceback(tmp_path: Path) -> None:
    text = (
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File …\n"
        "gan_lightning.errors.UserError: changed while training: a.png: empty file\n"
    )
    told = faults.as_told(UserError(text), tmp_path)
    assert isinstance(told, UserError)
    assert str(told) == "changed while training: a.png: empty file"


def test_other_ranks_are_named(tmp_path: Path) -> None:
    broken = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1")
    assert "rank 1 (killed by signal 9)" in str(faults.as_told(broken, tmp_path, 0, lambda: {1: -9}))
    assert "rank 1 lost the other processes" in str(faults.as_told(broken, tmp_path, 1))
    assert isinstance(faults.as_told(broken, tmp_path, 1), Fault)


def test_one_rank_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    broken = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1")
    for codes, spoke in (({1: 1}, True), ({1: -9}, False), ({}, False)):  # a rank that ended by itself said why
        told = faults.as_told(broken, tmp_path, 0, lambda codes=codes: codes)
        assert isinstance(told, Fault)
        faults.tell(told)
        assert (capfd.readouterr().err == "") == spoke
    faults.tell(Diverged("all of them"))
    assert "all of them" in capfd.readouterr().err
    monkeypatch.setenv("NODE_RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    faults.tell(Diverged("all of them"))
    assert capfd.readouterr().err == ""


def test_the_loss_of_a_worker_prints_nothing_where_it_cannot_be_raised(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Dying:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    faults.quiet_threads()
    Dying(RuntimeError(WORKER_KILLED))
    assert not seen
    Dying(RuntimeError("another"))
    assert len(seen) == 1


def test_a_process_that_waits_in_vain_is_ended(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    left: list[int] = []
    heard: list[str] = []
    monkeypatch.setattr(watching, "EVERY", 0.01)
    monkeypatch.setattr(watching.os, "_exit", lambda code: (left.append(code), watch.over.set()))
    watch = watching.Watch(lambda: "rank 1 (killed by signal 9)", heard.append, grace=0.1)
    watch.start()
    watch.join(5)
    assert left == [1]
    assert "rank 1 (killed by signal 9)" in heard[0]
    assert capfd.readouterr().err == f"gan_lightning: {heard[0]}\n"
    for over, lost in ((True, "rank 1"), (False, None)):  # it has failed by itself; nothing was lost
        watch = watching.Watch(lambda lost=lost: lost, heard.append, grace=0.1)
        watch.start()
        time.sleep(0.05)
        if over:
            watch.over.set()
        watch.join(0.3)
        assert watch.is_alive() != over
        watch.over.set()
    assert len(left) == 1


def test_half_a_line_of_metrics_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"images,D/loss\r\n64,0.5\r\n128,0.25\r\n12")  # of 192
    logger = CSV(tmp_path, images=128)
    logger.log_metrics({"D/loss": 0.125}, 192)
    assert (tmp_path / "metrics.csv").read_bytes() == b"images,D/loss\r\n64,0.5\r\n128,0.25\r\n192,0.125\r\n"


@pytest.mark.slow
@pytest.mark.parametrize("case", real.CASES, ids=lambda case: case.name)
def test_real_faults(case: real.Case) -> None:
    if (case.mounted or case.room) and os.getuid():
        pytest.skip("mounting a small disk needs root")
    assert real.play(case, print) == []


def test_how_it_ended_is_noted_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the blocks that the file has; what is longer than these is not begun."""
    status.begin(tmp_path, "typed")
    monkeypatch.setattr(Path, "write_bytes", full)
    status.end(tmp_path, "failed", "no space")
    found = status.read(tmp_path)
    assert found
    assert (found.state, found.reason, found.commands) == ("failed", "no space", ["typed"])
    with pytest.raises(OSError, match="No space"):
        status.end(tmp_path, "failed", "long" * 10_000)
    assert status.read(tmp_path) == found


# ---- a file that is mapped into memory ------------------------------------------------------------------------------

CUT_SHORT = """
import mmap, os, threading, time
from gan_lightning import mapped

def last_words(reason):
    print(reason, flush=True)
    time.sleep(0.3)  # in which the other thread reads, too

os.write(file := os.open("pixels", os.O_RDWR | os.O_CREAT), b"x" * 3 * mmap.PAGESIZE)
pixels = mmap.mmap(file, 0)
with mapped.guard(last_words):
    os.truncate(file, mmap.PAGESIZE)
    print(pixels[0], flush=True)
    threading.Timer(0.1, lambda: pixels[2 * mmap.PAGESIZE]).start()
    print(pixels[2 * mmap.PAGESIZE])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the files are named by Linux")
def test_a_mapped_file_that_is_cut_short_is_named_once(tmp_path: Path) -> None:
    process = Process(["-c", CUT_SHORT], tmp_path)
    assert process.wait(30) == 1
    byte, reason = process.output.splitlines()
    assert byte == str(ord("x"))
    assert reason.startswith(f"{tmp_path / 'pixels'}: mapped into memory, and cut short meanwhile")
