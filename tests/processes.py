"""Python processes for tests, forked from one that has imported the libraries: each would take seconds to do so.

What they run is read as `python` would. That a bare `python -m gan_lightning` works is shown by test_wheel.py and
test_command_line.py. This file imports nothing of the package, of which a process may have a copy of its own.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = ["lightning.pytorch", "torchmetrics", "hydra.compose", "torch.utils.tensorboard"]


class Process:
    """`python <arguments>`, of the form -m module …, -c program … or file …; it goes on beside the test.

    Args:
        folder: where it runs; None: where the test does.
        environment: all of its variables; None: the test's.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._said = tempfile.TemporaryDirectory()  # goes with this object
        given = [str(argument) for argument in arguments], str(folder or Path.cwd()), dict(environment or os.environ)
        if "forkserver" in multiprocessing.get_all_start_methods():
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(LIBRARIES)
        else:
            context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=execute, args=(*given, self._said.name))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._read("output")

    @property
    def errors(self) -> str:
        """What it has written to its standard error so far."""
        return self._read("errors")

    def _read(self, name: str) -> str:
        file = Path(self._said.name) / name
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def wait(self, seconds: float) -> int:
        """Its exit code; one that has not ended by then is killed, and AssertionError raised."""
        self._process.join(seconds)
        ended = self._process.exitcode is not None
        self.kill()
        assert ended, f"not at its end after {seconds} s: {self.errors[-3000:]}"
        return self._process.exitcode or 0

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended; that of a signal is negative."""
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def execute(arguments: list[str], folder: str, environment: dict[str, str], said: str) -> None:
    """In the process: becomes what `python <arguments>` would be there."""
    for name, stream in (("output", 1), ("errors", 2)):
        os.dup2(os.open(os.path.join(said, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    kind, *rest = arguments
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        runpy.run_path(kind, run_name="__main__")
