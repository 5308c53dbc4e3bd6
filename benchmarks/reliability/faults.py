"""What becomes of a run when something breaks under it: `python -m benchmarks.reliability.faults [name …]`.

Each fault befalls a real process of the command line. Shown: its exit code, what it said on stderr, its status.json,
and whether its last checkpoint can be continued once the fault is gone. Full and read-only disks are small tmpfs
mounts, which need root: without it those cases are left out. Ends with 1 where a case is not as it should be.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gan_lightning import status
from gan_lightning.checkpoint import read_checkpoint

COMMON = [
    *("model=gan", "model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "trainer.accelerator=cpu"),
    *("trainer.enable_progress_bar=false", "trainer.max_epochs=null", "budget.images=1000000000", "scores=off"),
    *("samples.every_images=1000000000", "samples.count=16", "trainer.log_every_n_steps=50"),
]
OFTEN, NEVER = "checkpoints.every_minutes=0.01", "checkpoints.every_minutes=1000"
NO_SPACE, CHANGED = "No space left", "changed while training"
LAST = Path("checkpoints") / "last.ckpt"
PATCHED = "import sys\nfrom gan_lightning.__main__ import main\n{patch}\nsys.exit(main())\n"
LATER = """  # once there is a checkpoint
from pathlib import Path
from gan_lightning.adversarial import AdversarialModule as Module
before = Module.training_step
def training_step(self, batch, *rest):
    if (Path(self.trainer.default_root_dir) / 'checkpoints' / 'last.ckpt').exists():
        {fault}
    return before(self, batch, *rest)
Module.training_step = training_step
"""
NAN = "batch['image'].fill_(float('nan'))"


def on_rank_1(fault: str) -> str:
    """Python that has something happen in the second of two processes alone."""
    code = PATCHED.replace("__main__", "rank").format(patch=LATER.format(fault=fault))
    return f"""
import gan_lightning.trainer as trainer
strategy, code = trainer.PlayersStrategy, {code!r}
trainer.PlayersStrategy = lambda command: strategy([command[0], '-c', code, *command[3:]])
"""


@dataclass
class Case:
    """A fault: arguments of the run, what breaks it, and what it must say."""

    name: str
    arguments: list[str]
    strike: Callable[["Run"], None]
    says: str | None  # in the one line; None: nothing of it
    state: str | None = "failed"  # of status.json; None: it cannot be written
    codes: tuple[int, ...] = (1,)
    mounted: int = 0  # kB of the tmpfs that the run's folder lies in; 0: none
    patch: str = ""  # Python that the process begins with
    lost: bool = False  # the run's folder with its checkpoints was taken away
    lines: int = 1  # of stderr
    cache: str = ""  # the key of a cache
    room: int = 0  # kB of a tmpfs that it lies in; 0: it is on the ordinary disk
    fills: bool = False  # the disk is full before the run goes on
    unheard: bool = False  # its standard output is a full disk


@dataclass
class Run:
    """A process, and where it works."""

    process: subprocess.Popen[str]
    place: Path
    folder: Path


def of(run: Run) -> list[int]:
    """The child processes of a run: other ranks, and the workers of its loader."""
    number = run.process.pid
    return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def until(found: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def fill(place: Path, left: int) -> None:
    """Leaves so many kB of the disk."""
    with open(place / "ballast", "wb", buffering=0) as file, suppress(OSError):
        while left == 0 or shutil.disk_usage(place).free > 1024 * left:
            file.write(bytes(4096))


def filled(left: int) -> Callable[[Run], None]:
    """The same, under a run."""
    return lambda run: fill(run.place, left)


def make_read_only(run: Run) -> None:
    """By another mount above the disk: one in which files are open, as the run's lock is, refuses to become so."""
    subprocess.run(["mount", "--bind", str(run.place), str(run.place)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(run.place)], check=True)


def kill_child(run: Run) -> None:
    until(lambda: of(run))
    time.sleep(0.5)
    os.kill(of(run)[0], signal.SIGKILL)


def kill_first(run: Run) -> None:
    run.process.kill()


def remove_folder(run: Run) -> None:
    """Again, where the run has just written something."""
    until(lambda: shutil.rmtree(run.folder, ignore_errors=True) or not run.folder.exists())


def photos(place: Path) -> None:
    stream = np.random.default_rng(0)
    for index in range(400):
        path = place / "photos" / f"{index:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(stream.integers(0, 255, (16, 16, 3), np.uint8)).save(path)


def truncate_file(run: Run) -> None:
    for path in sorted((run.place / "photos").iterdir())[:200]:
        os.truncate(path, 40)


def remove_file(run: Run) -> None:
    for path in sorted((run.place / "photos").iterdir())[:200]:
        path.unlink()


def truncate_mapped(run: Run) -> None:
    os.truncate(next((run.place / "cache").glob("*.uint8")), 4096)


FOLDER = ["data=image_folder", "data.image_size=16", "data.cache=off", "data.memory_gb=0.0000001", OFTEN]
WORKERS = [*FOLDER, "data.workers=2"]
MAPPED = ["data=image_folder", "data.image_size=16", OFTEN]
CUT = ".uint8: mapped into memory, and cut short"
SHORT = ["budget.images=6400", OFTEN]
FEATURES = ["scores.names=[fid]", "scores.samples=64", "scores.real_samples=64", "scores.force=true", *SHORT]
MUCH_ROOM = "import shutil; shutil.disk_usage = lambda path: shutil._ntuple_diskusage(2**40, 0, 2**40)"  # it was, then
LINES = [NEVER, "trainer.log_every_n_steps=1"]
LOADER = ["data=ring", "network@model=mlp_points", "data.samples=2000000", "data.workers=2", OFTEN]
RANKS = ["trainer.devices=2", "data.batch_size=32", OFTEN]
nothing = lambda run: None  # noqa: E731 — the fault is in the process itself
CASES = [
    Case("disk full: checkpoint", [OFTEN], filled(60), NO_SPACE, mounted=3000),
    Case("disk full: samples", ["samples.every_images=6400", NEVER], filled(8), NO_SPACE, mounted=3000),
    Case("disk full: events", ["logger.csv=null", *LINES], filled(0), NO_SPACE, mounted=3000),
    Case("disk full: metrics.csv", ["logger.tensorboard=null", *LINES], filled(0), NO_SPACE, mounted=3000),
    Case("disk full: when it goes on", [NEVER], nothing, NO_SPACE, None, mounted=3000, fills=True),
    Case(
        "disk full: cache of images",
        [*MAPPED, *SHORT],
        nothing,
        NO_SPACE,
        "finished",
        (0,),
        patch=MUCH_ROOM,
        cache="data.cache",
        room=100,
    ),
    Case(
        "no room for a cache of images",
        [*MAPPED, *SHORT],
        nothing,
        "0.1 MB free",
        "finished",
        (0,),
        cache="data.cache",
        room=100,
    ),
    Case("disk full: cache of features", FEATURES, nothing, NO_SPACE, "finished", (0,), cache="scores.cache", room=8),
    Case("disk full: standard output", SHORT, nothing, NO_SPACE, "finished", (0,), unheard=True),
    Case("read-only folder", [OFTEN], make_read_only, "Read-only file system", None, mounted=3000),
    Case("folder deleted", [OFTEN], remove_folder, "No such file", None, lost=True),
    Case(
        "folder deleted, no metrics.csv",
        [OFTEN, "logger.csv=null", "samples.every_images=640"],
        remove_folder,
        "No such file",
        None,
        lost=True,
    ),
    Case("data file removed", FOLDER, remove_file, CHANGED, codes=(2,)),
    Case("data file removed, workers", WORKERS, remove_file, CHANGED, codes=(2,)),
    Case("data file truncated", FOLDER, truncate_file, CHANGED, codes=(2,)),
    Case("data file truncated, workers", WORKERS, truncate_file, CHANGED, codes=(2,)),
    Case("data file removed, 2 ranks", [*FOLDER, "trainer.devices=2"], remove_file, CHANGED, codes=(1, 2)),
    Case("cache cut short", MAPPED, truncate_mapped, CUT, cache="data.cache", lines=2),
    Case(
        "cache cut short, workers",
        [*MAPPED, "data.workers=2"],
        truncate_mapped,
        CUT,
        cache="data.cache",
        lines=4,
    ),
    Case("loader's worker killed", LOADER, kill_child, "data.workers"),
    Case("rank 1 killed", RANKS, kill_child, "rank 1"),
    Case("rank 0 killed", RANKS, kill_first, "rank", "running", codes=(-9,)),
    Case("NaN on rank 1", RANKS, nothing, "diverged", "diverged", patch=on_rank_1(NAN)),
    Case("out of memory on rank 1", RANKS, nothing, "data.batch_size", patch=on_rank_1("raise MemoryError")),
    Case(
        "NaN in weights",
        [OFTEN],
        nothing,
        "diverged",
        "diverged",
        patch=LATER.format(fault="next(self.generator.parameters()).data.fill_(float('nan'))"),
    ),
    Case(
        "NaN in data",
        [OFTEN],
        nothing,
        "diverged",
        "diverged",
        patch=LATER.format(fault=NAN),
    ),
    Case(
        "NaN in loss",
        [OFTEN],
        nothing,
        "diverged",
        "diverged",
        patch=LATER.format(
            fault="rule = self.discriminator_loss; self.discriminator_loss = lambda b, f: "
            "{k: v * float('nan') for k, v in rule(b, f).items()}"
        ),
    ),
    Case(
        "out of memory, CPU",
        [OFTEN],
        nothing,
        "data.batch_size",
        patch=LATER.format(
            fault="import resource; torch_ = __import__('torch'); "
            "resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34)); torch_.empty(2**36)"
        ),
    ),
    Case(
        "out of memory, GPU (raised by hand)",
        [OFTEN],
        nothing,
        "data.batch_size",
        patch=LATER.format(
            fault="raise __import__('torch').OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')"
        ),
    ),
    Case(
        "a bug",
        [OFTEN],
        nothing,
        "ZeroDivisionError",
        lines=20,
        patch=LATER.format(fault="1 / 0"),
    ),
]


@contextmanager
def place_for(case: Case) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (cache := place / "cache").mkdir()
        disks = {str(place): case.mounted, str(cache): case.room}
        disks = {disk: size for disk, size in disks.items() if size}
        for disk, size in disks.items():
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", disk], check=True)
        try:
            yield place
        finally:
            for disk in disks:
                subprocess.run(["umount", "-l", disk], check=True)


def play(case: Case, say: Callable[[str], object] = lambda text: None) -> list[str]:
    """Runs a case; what is not as it should be."""
    with place_for(case) as place:
        folder = place / "run"
        if "data=image_folder" in case.arguments:
            photos(place)
        roots = [f"data.root={place / 'photos'}"] if "data=image_folder" in case.arguments else []
        roots += [f"{case.cache}={place / 'cache'}"] if case.cache else []
        program = ["-c", PATCHED.format(patch=case.patch)] if case.patch else ["-m", "gan_lightning"]
        command = [sys.executable, *program, *COMMON, *case.arguments, *roots, f"hydra.run.dir={folder}"]
        if NEVER in case.arguments:  # it is to go on from a checkpoint
            subprocess.run([*command, "budget.images=3200"], check=True, capture_output=True)
        if case.fills:
            fill(place, 0)
        with open(os.devnull if not case.unheard else "/dev/full", "w") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err, text=True, start_new_session=True)
            run = Run(process, place, folder)
            try:
                if case.strike is not nothing:
                    until(lambda: begun(folder, process.pid) or process.poll() is not None)
                    others = of(run) if process.poll() is None else []
                    case.strike(run)
                began = time.monotonic()
                code = process.wait(60)
                for other in others if case.strike is kill_first else []:
                    until(lambda one=other: not alive(one))
                seconds = time.monotonic() - began
            finally:
                with_group(process.pid)
            err.seek(0)
            said = [line for line in err.read().splitlines() if line.strip()]
        wrong = []
        if code not in case.codes:
            wrong.append(f"exit code {code}")
        if len(said) > case.lines or not any((case.says or "") in line for line in said):
            wrong.append(f"{len(said)} lines on stderr")
        if case.mounted:
            if case.strike is make_read_only:
                subprocess.run(["umount", str(place)], check=True)
            (place / "ballast").unlink(missing_ok=True)
        state = status.read(folder)
        if not case.lost:
            if case.state and (state is None or state.state != case.state):
                wrong.append(f"status.json: {state and state.state}")
            wrong += goes_on(folder, place)
        if case.room and (left := [path.name for path in (place / "cache").iterdir() if path.stat().st_size]):
            wrong.append(f"left in the cache: {left}")
        say(f"\n## {case.name}: {'; '.join(wrong) or 'as it should be'}\nexit code {code} after {seconds:.1f} s")
        say("\n".join(said[:25] if not wrong else said))
        there = (folder / "traceback.txt").exists()
        say(f"status.json: {state and (state.state, state.reason)}; traceback.txt: {there}")
        return wrong


def begun(folder: Path, number: int) -> bool:
    """Whether this process trains, with a checkpoint on the disk."""
    found = status.read(folder)
    return (folder / LAST).exists() and found is not None and found.pid == number and bool(time.sleep(0.5) or True)


def goes_on(folder: Path, place: Path) -> list[str]:
    """Continues the run for some minibatches; what is wrong with that."""
    before = read_checkpoint(folder / LAST)["counters"]["images"]
    if (place / "photos").exists():
        photos(place)
    command = [sys.executable, "-m", "gan_lightning", f"checkpoint={folder}", f"budget.images={before + 6400}", NEVER]
    done = subprocess.run([*command], capture_output=True, text=True, timeout=120)
    after = read_checkpoint(folder / LAST)["counters"]["images"] if not done.returncode else before
    return [] if after >= before + 6400 else [f"cannot be continued: {done.stderr[-300:]}"]


def alive(number: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return "Z" not in Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def with_group(number: int) -> None:
    """Ends what is left of a run's processes."""
    with suppress(ProcessLookupError):
        os.killpg(number, signal.SIGKILL)


def main() -> int:
    chosen = [case for case in CASES if not sys.argv[1:] or any(name in case.name for name in sys.argv[1:])]
    failed = []
    for case in chosen:
        if (case.mounted or case.room) and os.getuid():
            print(f"\n## {case.name}: not run, needs root")
            continue
        if play(case, print):
            failed.append(case.name)
    print(f"\n{len(chosen) - len(failed)} of {len(chosen)} faults end as they should; the others: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
