"""A contender trains in a process of its own and is timed in turns with the others: its memory, its global switches and
its crashes stay its own. Processes are forked from a server that has done the imports.
"""

import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

Network = Literal["mlp", "dcgan", "wgan_gp"]
Precision = Literal["32", "bf16"]

MODELS = {"mlp": ("gan", 28), "dcgan": ("dcgan", 32), "wgan_gp": ("wgan_gp", 32)}  # model=, data.image_size=
NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
PATIENCE = 900  # seconds that a contender may take to answer
PRELOADED = ["benchmarks.bare", "benchmarks.contenders", "benchmarks.ours", "benchmarks.machine"]


@dataclass(frozen=True)
class Case:
    """What is trained, and on what."""

    network: Network
    batch: int
    precision: Precision = "32"
    device: str = "cpu"
    threads: int = 2
    images: int = 60_000  # random ones, in the set
    image_size: int | None = None  # None: the network's usual one
    base_channels: int | None = None  # of convolutional networks; None: the configuration's

    @property
    def critic_steps(self) -> int:
        """Minibatches a generator step: windows hold whole cycles."""
        return 5 if self.network == "wgan_gp" else 1

    def arguments(self) -> list[str]:
        """What follows `python -m gan_lightning` for this case: what is not named here is what every user gets."""
        model, usual_size = MODELS[self.network]
        players = ("generator", "discriminator") if self.base_channels else ()
        return [
            f"model={model}",
            "data=mnist",
            f"data.image_size={self.image_size or usual_size}",
            f"data.batch_size={self.batch}",
            f"trainer.accelerator={self.device}",
            f"trainer.precision={'32-true' if self.precision == '32' else 'bf16-mixed'}",
            "trainer.max_epochs=1000000",
            *[f"model.{player}.base_channels={self.base_channels}" for player in players],
        ]


class Clock:
    """In the contender's process: told of every minibatch, it times windows of whole cycles when it is asked to."""

    def __init__(self, connection: Connection, case: Case, seconds: float) -> None:
        """The first window is the warm-up: graphs are captured, caches filled, allocators sized."""
        self.connection, self.case = connection, case
        self.flops: float | None = None  # of a minibatch, from the contender that counts them
        self.least = 50 if case.device == "cuda" else 2 * case.critic_steps
        self.seconds, self.minibatches, self.begun = seconds, 0, time.perf_counter()
        self.before = memory_status()["RssAnon"]
        self.profiler: Any = None
        self.trace: Path | None = None

    def tick(self) -> None:
        """A minibatch is done. At the end of a window: reports, and waits for the next order."""
        self.minibatches += 1
        if self.minibatches % self.case.critic_steps or self.minibatches < self.least:
            return
        if time.perf_counter() - self.begun < self.seconds:
            return
        self.synchronize()
        seconds = time.perf_counter() - self.begun
        found = {"seconds": seconds, "minibatches": self.minibatches, "bytes": self.memory(), "flops": self.flops}
        if self.profiler:
            found["operators"] = self.keep_profile()
        self.connection.send(found)
        self.seconds, self.trace = self.connection.recv()  # raises EOFError when the benchmark is gone
        if self.trace:
            self.start_profile()
        self.least, self.minibatches, self.begun = 1, 0, time.perf_counter()

    def synchronize(self) -> None:
        import torch

        if self.case.device == "cuda":
            torch.cuda.synchronize()

    def memory(self) -> int:
        """Most bytes so far: allocated on the GPU, or taken by this process since its imports."""
        import torch

        if self.case.device == "cuda":
            return torch.cuda.max_memory_allocated()
        status = memory_status()
        return status["VmHWM"] - status["RssFile"] - self.before

    def start_profile(self) -> None:
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self.case.device == "cuda")
        self.profiler = profile(activities=activities)
        self.profiler.start()

    def keep_profile(self) -> str:
        """Writes the Chrome trace; the table of the most expensive operators."""
        assert self.trace is not None
        self.profiler.stop()
        self.profiler.export_chrome_trace(str(self.trace))
        averages, self.profiler = self.profiler.key_averages(), None
        key = "self_cuda_time_total" if self.case.device == "cuda" else "self_cpu_time_total"
        return averages.table(sort_by=key, row_limit=15, max_name_column_width=60)


def memory_status() -> dict[str, int]:
    """Bytes of /proc/self/status: VmHWM (the most ever), RssAnon, RssFile …; zeros where there is no such file."""
    found: dict[str, int] = dict.fromkeys(("VmHWM", "RssAnon", "RssFile"), 0)
    path = Path("/proc/self/status")
    for line in path.read_text().splitlines() if path.exists() else ():
        key, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[key] = int(value.split()[0]) * 1024
    return found


Contender = Callable[[Case, Clock, Path], None]  # trains for ever, ticks after every minibatch; a folder for its files


class Failed(Exception):
    """A contender that cannot run, and why."""


class Runner:
    """In the benchmark's process: one contender at work. A context manager: the process ends with it."""

    def __init__(self, contender: Contender, case: Case, seconds: float) -> None:
        self.batch = case.batch
        self.folder = tempfile.TemporaryDirectory(prefix="throughput-", ignore_cleanup_errors=True)
        context = server()
        self.connection, theirs = context.Pipe()
        arguments = (contender, case, theirs, seconds, Path(self.folder.name))
        self.process = context.Process(target=train_for_ever, args=arguments)
        self.process.start()
        theirs.close()
        self.bytes, self.flops, self.operators, self.milliseconds = 0, None, "", 0.0

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()  # a contender that waits for an order ends by itself
        self.process.join(10)
        self.process.kill()
        self.process.join()
        self.folder.cleanup()

    def window(self, seconds: float, trace: Path | None = None) -> float:
        """Images a second over about `seconds`; with `trace`, profiled."""
        try:
            self.connection.send((seconds, trace))
        except BrokenPipeError:
            raise Failed(f"ended with exit code {self.process.exitcode}") from None
        return self.answer()

    def answer(self) -> float:
        """Waits for the end of a window, the first of which nobody orders: the warm-up. Images a second."""
        if not self.connection.poll(PATIENCE):
            raise Failed(f"no answer in {PATIENCE} s")
        try:
            found = self.connection.recv()
        except EOFError:
            self.process.join()
            raise Failed(f"ended with exit code {self.process.exitcode}") from None
        if "error" in found:
            raise Failed(found["error"])
        self.bytes, self.flops, self.operators = found["bytes"], found["flops"], found.get("operators", "")
        self.milliseconds = 1000 * found["seconds"] / found["minibatches"]
        return found["minibatches"] * self.batch / found["seconds"]


def train_for_ever(contender: Contender, case: Case, connection: Connection, seconds: float, folder: Path) -> None:
    """The whole life of a contender's process."""
    import torch

    os.environ.pop(NVML_CHECK, None)  # it makes every optimizer step ask the driver, for 100 µs
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        torch.set_num_threads(case.threads)
        torch.manual_seed(0)
        contender(case, Clock(connection, case, seconds), folder)
        raise RuntimeError("training ended by itself")
    except EOFError:
        return
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split())[:300]
        connection.send({"error": f"{type(error).__name__}: {reason} ({Path(where.filename).name}:{where.lineno})"})


def server() -> Any:
    """Forks processes that have done the imports, and nothing else, already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    before = os.environ.get(NVML_CHECK)
    os.environ[NVML_CHECK] = "1"  # imports ask for GPUs: a fork must not inherit a CUDA that has begun
    try:
        forkserver.ensure_running()
    finally:
        del os.environ[NVML_CHECK]
        if before is not None:
            os.environ[NVML_CHECK] = before
    return context


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function, computed in a process of its own."""
    connection, theirs = server().Pipe()
    process = server().Process(target=send_result, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        return connection.recv()
    finally:
        process.join()


def send_result(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    connection.send(function(*arguments))
