"""How a run ended, from its `status.json`: the one place that knows what stands in that file."""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_lightning.reporting.files import clean
from gan_lightning.reporting.finding import STATUS

STATES = ("finished", "interrupted", "stopped", "pruned", "diverged", "failed", "running")
UNKNOWN = "unknown"
MOST_COMMANDS, LONGEST_COMMAND, MOST_ALARMS = 20, 8000, 20


@dataclass(frozen=True)
class State:
    """How a run ended, in a word and in a line; and the commands that trained it.

    word: one of STATES, or "collapsed" for one that an alarm went off in, "killed", or "unknown".
    """

    word: str = UNKNOWN
    reason: str = ""
    commands: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    @property
    def comparable(self) -> bool:
        """Whether its settings were tried to the end, as far as is known."""
        return self.word in ("finished", "collapsed", UNKNOWN)

    @property
    def said(self) -> str:
        """The word, with a mark where it does not tell that an alarm went off."""
        return f"{self.word}, alarm" if self.alarms and self.word != "collapsed" else self.word


def read_state(status: dict[str, Any], folder: Path) -> State:
    """What `status` says of the run in `folder`; empty: an older run, or one whose file cannot be read."""
    if not status:
        return State(reason=f"no {STATUS}: the run is older, or the file cannot be read")
    alarms = [clean(alarm) for alarm in as_list(status.get("alarms"))[:MOST_ALARMS]]
    word = status.get("state") if status.get("state") in STATES else UNKNOWN
    reason = clean(status["reason"]) if status.get("reason") else ""
    if word == UNKNOWN:
        reason = f"{STATUS} says {clean(status.get('state'), 40)}, which is not known here"
    elif word == "running" and (gone := why_gone(status, folder)):
        word, reason = "killed", gone
    elif word == "running" and clean(status.get("host")) != socket.gethostname():
        reason = f"on {clean(status.get('host'), 60)}, as its file says; whether it lives cannot be seen from here"
    elif word == "stopped" or (word == "finished" and alarms):
        word = "collapsed"
    reason = "; ".join([*([reason] if reason else []), *(alarm for alarm in alarms if alarm not in reason)])
    commands = [clean(command, LONGEST_COMMAND) for command in as_list(status.get("commands"))[:MOST_COMMANDS]]
    return State(str(word), reason, commands, alarms)


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def why_gone(status: dict[str, Any], folder: Path) -> str:
    """Why the process that says that it runs does not, or nothing: it may be alive, or on another machine."""
    process = status.get("pid")
    if clean(status.get("host")) != socket.gethostname() or not isinstance(process, int) or process <= 0:
        return ""
    gone = f"its process {process} is gone and left no word: killed, or the machine was switched off"
    try:
        os.kill(process, 0)  # asks, and sends nothing
    except PermissionError:
        return ""  # there, and another user's
    except (OSError, OverflowError):
        return gone
    began = start_of(process)
    try:
        written = (folder / STATUS).stat().st_mtime
    except OSError:
        return ""
    return gone if began is not None and began > written + 5 else ""  # its number went to a newer process


def start_of(process: int) -> float | None:
    """When a process began, in seconds since 1970, where Linux says it."""
    try:
        ticks = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
        lines = Path("/proc/stat").read_text().splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
        return boot + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return None
