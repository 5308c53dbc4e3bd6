"""One process at a time trains in a run's folder; the file `.lock` there says which.

Its lock is the process's own (fcntl's, not flock's): it goes with the process, however that ends, and the workers that
a killed one leaves behind for seconds do not have it. On a disk without locks the file is touched twice a minute
instead, and one that was left alone for long is nobody's: a job that is queued again is never shut out for good.
"""

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gan_lightning.clusters import slurm_job
from gan_lightning.errors import UserError
from gan_lightning.paths import refuse_link

FILE = ".lock"
BEAT, SILENT = 30.0, 300.0  # seconds between touches; without one for so long a process is taken for dead


class Held(UserError):
    """Another process trains in the folder."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Raises Held, with its number and its machine, while another process trains in `folder`; it is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_link(folder / FILE)
        file = (folder / FILE).open("a+b", buffering=0)  # what cannot be written is not tried again when it is closed
    except OSError as error:
        raise UserError(f"hydra.run.dir={folder}: {error.strerror}") from None
    with file:
        locked = try_lock(file)
        file.seek(0)
        holder = parsed(file.read().decode(errors="replace"))
        if locked is False or (locked is None and at_work(holder, folder)):
            raise Held(refusal(folder, holder, locked))
        file.truncate(0)  # it is written at its end
        try:
            file.write(json.dumps(me()).encode())
        except OSError as error:
            error.filename = str(folder / FILE)
            raise
        over = threading.Event()
        if locked is None:
            threading.Thread(target=beat, args=(folder / FILE, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            with suppress(OSError):  # a disk that fails has ended the run, and that is told already
                file.truncate(0)


def try_lock(file: Any) -> bool | None:
    """Whether this process has the lock now; None: there are no locks here."""
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        return None
    except OSError as error:
        return False if error.errno in (errno.EACCES, errno.EAGAIN) else None
    return True


def me() -> dict[str, Any]:
    """What stands in the file. `restarts`: how often SLURM queued this job again."""
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    return {"host": socket.gethostname(), "pid": os.getpid(), "job": slurm_job(), "restarts": restarts}


def parsed(text: str) -> dict[str, Any]:
    """What stands in the file of another process; empty where it has ended, or was killed while it wrote."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("pid"), int) else {}


def at_work(holder: dict[str, Any], folder: Path) -> bool:
    """Whether the process that the file names can be alive, where no lock says so."""
    mine = me()
    if not holder:
        return False
    if holder.get("job") and holder.get("job") == mine["job"] and holder.get("restarts") != mine["restarts"]:
        return False  # this job itself, before it was queued again
    if holder.get("host") == mine["host"] and os.name == "posix":
        try:
            os.kill(holder["pid"], 0)
        except (ProcessLookupError, OverflowError):
            return False
        except OSError:  # it is somebody else's
            pass
    return silence(folder) < SILENT  # a number may be another program's by now


def silence(folder: Path) -> float:
    """Seconds since the file was touched, by the clock of its disk."""
    probe = folder / f"{FILE}.{os.getpid()}.part"
    probe.touch()
    try:
        return probe.stat().st_mtime - (folder / FILE).stat().st_mtime
    finally:
        probe.unlink()


def beat(path: Path, over: threading.Event) -> None:
    """Touches the file until the run is over."""
    while not over.wait(BEAT):
        try:
            os.utime(path)
        except OSError:  # a disk that is away for a while
            continue


def refusal(folder: Path, holder: dict[str, Any], locked: bool | None) -> str:
    who = f"process {holder['pid']} on {holder.get('host')}" if holder else "another process"
    until = "" if locked is False else f"; if it is dead, this is forgotten {SILENT / 60:.0f} minutes after its end"
    return f"hydra.run.dir={folder}: {who} trains in this folder; end it, or wait{until}"
