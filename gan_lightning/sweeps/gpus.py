"""A GPU of its own for every process of a sweep on one machine."""

from pathlib import Path
from typing import IO

CLAIMED: dict[Path, tuple[int, IO[bytes]]] = {}  # what this process holds, until it ends


def claim(folder: Path, count: int) -> int | None:
    """The first of `count` GPUs that no other process of the sweep in `folder` has, always the same in a process.

    None where all of them are taken, or where files cannot be locked.
    """
    if folder in CLAIMED:
        return CLAIMED[folder][0]
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    for gpu in range(count):
        file = (folder / f".gpu{gpu}").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        CLAIMED[folder] = gpu, file
        return gpu
    return None
