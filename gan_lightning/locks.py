"""One process at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Waits for the lock; whether this process holds it now, which it does not where there are none.

    waiting: called once where another process holds it.
    """
    with open(path, "ab") as file:
        try:
            import fcntl

            held = True
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):  # Windows, some network disks: work may be done twice, and the last one stays
            held = False
        yield held
