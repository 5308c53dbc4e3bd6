"""A run goes on when nobody hears what it prints: a pipe that was closed, a full disk under its log."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Out:
    """Standard output that is given up, with one line on stderr, as soon as it refuses something."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError as error:
            self.give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self.give_up(error)

    def give_up(self, error: OSError) -> None:
        """From here on everything goes to nowhere, what Python flushes at its end included."""
        with suppress(OSError):  # stderr may be the same file
            reason = f"cannot be written to ({error.strerror})"
            print(f"gan_lightning: standard output {reason}; the run goes on without it", file=sys.stderr, flush=True)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def unheard() -> Iterator[None]:
    """Nothing that is printed meanwhile can end a run."""
    before = sys.stdout
    if before is not None:  # there is none where it was closed before the start (`>&-`): print does nothing then
        sys.stdout = Out(before)
    try:
        yield
    finally:
        sys.stdout = before
