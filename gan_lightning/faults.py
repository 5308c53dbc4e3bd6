"""What the machine does to a run, said in one line: a full disk, a lost process, no memory. Bugs keep their traceback.

The whole traceback of what ended a run is in `traceback.txt` of its folder; GAN_LIGHTNING_TRACEBACK=1 prints it.
"""

import errno
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from gan_lightning import mapped
from gan_lightning.checkpoint import FOLDER, LAST
from gan_lightning.clusters import speaks
from gan_lightning.divergence import Diverged
from gan_lightning.errors import UserError

FILE, VARIABLE = "traceback.txt", "GAN_LIGHTNING_TRACEBACK"
OURS = Path(__file__).parent
REFUSALS = ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EFBIG", "ESTALE", "EMFILE", "ENFILE")  # not all of them everywhere
DISK = {getattr(errno, name) for name in REFUSALS if hasattr(errno, name)}
FORBIDDEN = (errno.EACCES, errno.EPERM)
NO_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (is killed by signal: [\w ]+|exited unexpectedly)")
NUMBERED = re.compile(r"(?:\[Errno|\(os error) (\d+)[\])]")  # in the text alone: of a worker, or of safetensors
NAMED = re.compile(r"\[Errno \d+\] [^\n]*?: '([^'\n]+)'")  # the file, in what a worker of the loader sends
OTHER_RANK = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL", "Broken pipe")


class Fault(RuntimeError):
    """The machine failed, not the program: the message is one line. Exit code 1."""


class Lost(Fault):
    """Another process of the run is no more. said: it has told by itself why."""

    def __init__(self, text: str, *, said: bool = False) -> None:
        super().__init__(text)
        self.said = said


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from or after."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def explain(error: BaseException, folder: Path | None = None) -> str | None:
    """A fault of the machine in one line; None: it is no such thing. folder: the run that it ended."""
    if isinstance(error, Fault | Diverged | UserError):
        return str(error)
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(part in text for part in NO_MEMORY)
    ):
        wanted = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", text)
        size = f" ({wanted[1]} more were wanted)" if wanted else ""
        return (
            f"out of memory{size}: lower data.batch_size, with step.accumulate as many times higher for the same "
            "steps, or set step.recompute=true"
        )
    if isinstance(error, RuntimeError) and (found := WORKER.search(text)):
        way = found[2].removeprefix("is ").replace("signal: ", "signal ").strip(" .")
        lost = f"data.workers: a worker of the loader (pid {found[1]}) was lost: {way}."
        if mapped.cut_short():
            return f"{lost} {mapped.why()}"
        return f"{lost} Perhaps memory was short: lower data.workers or data.batch_size"
    if "does not have a deterministic implementation" in text:
        return (
            f"trainer.deterministic=true: {text.split(' ')[0]} is not so on this device; use trainer.deterministic=warn"
        )
    return of_disk(error, folder)


def of_disk(error: BaseException, folder: Path | None) -> str | None:
    """What a disk has refused; torch.save raises an error of its own after that of the disk."""
    written = isinstance(error, OSError) or re.search("inline_container|PytorchStreamWriter|os error", str(error))
    for one in (error,) if isinstance(error, OSError) else chain(error) if written else ():
        found = NUMBERED.search(str(one))
        number = getattr(one, "errno", None) or (int(found[1]) if found else None)
        gone = number == errno.ENOENT and folder is not None and not folder.exists()
        if number in DISK or number in FORBIDDEN or gone:
            assert number is not None
            file = getattr(one, "filename", None)
            if file is None and "DataLoader worker" in str(one):  # of the data, which is not in the run's folder
                file = named[1] if (named := NAMED.search(str(one))) else "the data"
            place = folder if gone or file is None else file if isinstance(file, int) else os.fsdecode(file)
            return f"{place or 'the disk'}: {os.strerror(number)}"
    if isinstance(error, OSError) and "encoder error" in str(error):  # Pillow's, which has no number
        return f"{folder or 'the disk'}: a picture cannot be written; {error}"
    return None


def of_ranks(error: BaseException, rank: int, ended: Callable[[], dict[int, int]]) -> tuple[str, bool] | None:
    """Whether a rank failed because another is no more, and whether that one has said why.

    ended: gives the exit codes that are known, by rank.
    """
    if not isinstance(error, RuntimeError) or not any(part in str(error) for part in OTHER_RANK):
        return None
    if lost := {number: code for number, code in ended().items() if code}:
        names = " and ".join(f"rank {number} ({how(code)})" for number, code in lost.items())
        said = any(code > 0 for code in lost.values())  # of a signal it is negative
        return f"trainer.devices: {names} ended before the others, and they cannot go on", said
    return f"trainer.devices: rank {rank} lost the other processes of the run, and cannot go on", False


def how(code: int) -> str:
    """An exit code of a child process, for people."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def in_main_words(error: BaseException) -> str | None:
    """The mistake that a loader's worker found, without the traceback that it sends along."""
    if not isinstance(error, UserError) or "Original Traceback" not in str(error):
        return None
    *_, last = str(error).strip().splitlines()
    return last.partition("UserError: ")[2] or last


def as_told(
    error: BaseException, folder: Path, rank: int = 0, ended: Callable[[], dict[int, int]] = dict
) -> BaseException:
    """The error that a run in `folder` ends by: a Fault or UserError of one line, or itself.

    ended: as in `of_ranks`.
    """
    if words := in_main_words(error):
        return UserError(words)
    if isinstance(error, UserError | Diverged | KeyboardInterrupt):
        return error
    lost = of_ranks(error, rank, ended)
    reason = lost[0] if lost else explain(error, folder)
    if reason is None:
        return error
    if not folder.exists():
        saved = "What was saved there is gone with it"
    elif (folder / FOLDER / LAST).exists():
        saved = f"What was saved before is whole: checkpoint={folder} goes on from there"
    else:
        saved = "Nothing was saved before"
    return Lost(f"{reason}. {saved}", said=lost[1]) if lost else Fault(f"{reason}. {saved}")


def keep(error: BaseException, told: BaseException, folder: Path) -> None:
    """Writes the whole traceback of an error into the run's folder, where that can be done; not of one that says all
    by itself. told: what `as_told` made of it."""
    if isinstance(told, UserError | Diverged) or not isinstance(told, Exception):
        return
    path = folder / FILE
    try:
        if path.is_symlink():  # of a folder that came from elsewhere
            path.unlink()
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return


def tell(error: BaseException) -> None:
    """Prints what ended a command: one line of a fault; of a bug the lines of this project, without its libraries'."""
    if (isinstance(error, Lost) and error.said) or (isinstance(error, Diverged) and not speaks()):
        return  # that rank's own line says more; all ranks diverge together
    line = explain(error)
    if line is not None:
        print(f"gan_lightning: {line}", file=sys.stderr)
        return
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).is_relative_to(OURS)]
    shown = [*inside, *([frames[-1]] if frames and frames[-1] not in inside else [])]
    print("Traceback (most recent call last, of this project alone):", file=sys.stderr)
    print("".join(traceback.format_list(shown)), end="", file=sys.stderr)
    print("".join(traceback.format_exception_only(error)), end="", file=sys.stderr)
    print(f"gan_lightning: this is a bug, or a new kind of fault; {VARIABLE}=1 shows all of it", file=sys.stderr)


def quiet_threads() -> None:
    """TensorBoard's writing thread prints what it raises; the next line of metrics raises it again, for us to tell.

    So is the loss of a loader's worker, which a signal tells wherever the process is just then, by the next batch.
    """
    if getattr(threading.excepthook, "quiet", False):
        return
    before, unraisable = threading.excepthook, sys.unraisablehook

    def ignored(arguments: Any) -> None:
        if not isinstance(arguments.exc_value, RuntimeError) or not WORKER.search(str(arguments.exc_value)):
            unraisable(arguments)

    sys.unraisablehook = ignored

    def hook(arguments: Any) -> None:
        if type(arguments.thread).__name__ != "_AsyncWriterThread" or not isinstance(arguments.exc_value, OSError):
            before(arguments)

    hook.quiet = True  # type: ignore[attr-defined]  # functions may have attributes
    threading.excepthook = hook
