"""What became of a run, and what was typed for it: `status.json` in its folder."""

import errno
import json
import os
import shlex
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from gan_lightning import __version__

FILE = "status.json"
State = Literal["running", "finished", "interrupted", "stopped", "pruned", "diverged", "failed"]


@dataclass(frozen=True)
class Status:
    """The newest state of a run. One that was killed still says "running": `alive` tells on its host.

    Args:
        state: stopped: by an alarm (on_collapse=stop); pruned: given up by a sweep.
        reason: one line: the signal, the error, the alarm.
        commands: everything that trained it, in order.
        version: of gan_lightning, at the newest start.
        host, pid: of its first process.
        began, ended: ISO times in UTC: the first start, and the end of the newest.
        alarms: what they said, of all starts, as soon as they did.
        sweep: {"trial": its number} in a sweep.
    """

    state: State = "running"
    reason: str | None = None
    commands: list[str] = field(default_factory=list)
    version: str = __version__
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    began: str = field(default_factory=lambda: now())
    ended: str | None = None
    alarms: list[str] = field(default_factory=list)
    sweep: dict[str, Any] | None = None

    @property
    def alive(self) -> bool:
        """Whether another process is at work on it, as far as this host can tell."""
        if self.state != "running" or self.host != socket.gethostname() or self.pid == os.getpid():
            return False  # of a process that had the same number before this one
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # it is somebody else's
            return True
        return True


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def command_line(arguments: Sequence[str]) -> str:
    """The arguments of gan_lightning as they are typed."""
    return shlex.join(["python", "-m", "gan_lightning", *arguments])


def begin(folder: Path, command: str | None, sweep: dict[str, Any] | None = None) -> None:
    """Notes that a run begins or goes on. command: what was typed, None where nobody typed it."""
    before = read(folder)
    earlier = before or Status()
    commands = [*earlier.commands, *([command] if command and command not in earlier.commands else [])]
    write(
        folder,
        Status(
            commands=commands,
            began=earlier.began,
            alarms=earlier.alarms,
            sweep=sweep or earlier.sweep,
        ),
    )


def end(folder: Path, state: State, reason: str | None = None, alarms: Sequence[str] = ()) -> None:
    """Notes how it ended; `alarms`: those raised since it began or went on."""
    status = read(folder) or Status()
    raised = [*status.alarms, *(alarm for alarm in alarms if alarm not in status.alarms)]
    write(folder, replace(status, state=state, reason=reason, ended=now(), alarms=raised))


def warn(folder: Path, alarm: str) -> None:
    """Notes an alarm as it is raised: a kill must not take it along."""
    status = read(folder)
    if status and alarm not in status.alarms:
        write(folder, replace(status, alarms=[*status.alarms, alarm]))


def read(folder: Path) -> Status | None:
    """None where there is none, or none that can be read: a run of an older version, a file cut short."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        known = {key: found[key] for key in Status.__dataclass_fields__ if key in found}
        status = Status(**known)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return status if is_right(status) else None


def is_right(status: Status) -> bool:
    """Whether its parts are what they should be; the file may come from elsewhere."""
    lists = (status.commands, status.alarms)
    if not all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in lists):
        return False
    number = isinstance(status.pid, int) and 0 < status.pid < 2**31
    return number and status.state in get_args(State) and isinstance(status.host, str) and isinstance(status.began, str)


def write(folder: Path, status: Status) -> None:
    """Replaces the file at once; on a full disk, where it lies, if what it occupies is enough."""
    path, part = folder / FILE, folder / f".{FILE}.{os.getpid()}.part"
    data = (json.dumps(asdict(status), indent=1, ensure_ascii=False) + "\n").encode()
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full or not path.is_file() or len(data) > 512 * getattr(path.stat(), "st_blocks", 0):
            raise
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()
