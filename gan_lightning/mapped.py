"""Files that are mapped into memory and cut short by another program: reading them ends a process by SIGBUS, without
a word. Here it has some."""

import ctypes
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 10  # seconds for the last words: the process is in no good state
MAPS = Path("/proc/self/maps")


@contextmanager
def guard(last_words: Callable[[str], object]) -> Iterator[None]:
    """Calls `last_words` with the reason, in a line, where this process would end so; then it ends with exit code 1.

    Workers of a loader have torch's own handler, and what forks from this process ends without words.
    """
    if not hasattr(signal, "SIGBUS"):  # Windows
        yield
        return
    process, begun = os.getpid(), threading.Lock()

    # Not Python's own handlers: they wait for the code that was interrupted to go on, which it never does.
    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def handler(number: int) -> None:
        try:
            if os.getpid() == process and begun.acquire(blocking=False):
                signal.alarm(PATIENCE)
                last_words(why())
            elif os.getpid() == process:  # several threads read the file, and one of them speaks
                time.sleep(2 * PATIENCE)
        finally:
            os._exit(1)

    set_handler = ctypes.CDLL(None).signal
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    before = set_handler(signal.SIGBUS, ctypes.cast(handler, ctypes.c_void_p))
    try:
        yield
    finally:
        set_handler(signal.SIGBUS, before)


def why() -> str:
    """What happened, in a line."""
    found = ", ".join(cut_short()) or "a file"
    return f"{found}: mapped into memory, and cut short meanwhile by another program (or its disk has failed)"


def cut_short() -> list[str]:
    """The files that are mapped farther than they reach, where Linux tells them; not libraries, which may be."""
    found = []
    for line in MAPS.read_text(errors="replace").splitlines() if MAPS.exists() else ():
        addresses, rights, offset, _, _, *name = line.split(maxsplit=5)
        begin, end = (int(address, 16) for address in addresses.split("-"))
        last = int(offset, 16) + end - begin - mmap.PAGESIZE  # where the last page begins
        if rights.endswith("s") and name and os.path.isfile(name[0]) and os.path.getsize(name[0]) <= last:
            found.append(name[0])
    return list(dict.fromkeys(found))
