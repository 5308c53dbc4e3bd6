"""A long run of a small model, watched from outside: `python -m benchmarks.reliability.soak --steps 500000`.

Every few seconds: memory, file handles, threads and child processes of the run, the same of its children (the loader's
workers), its steps so far and the size of its folder. At the end it compares the second quarter of the time with the
last one, draws everything and ends with 1 where something has grown. Numbers go to benchmarks/results/<name>.json, the
picture to docs/pictures/<name>.png.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import COLOURS
from benchmarks.machine import describe
from gan_lightning.callbacks.samples import save
from gan_lightning.data.plots import Axes, Picture

RESULTS, PICTURES = Path(__file__).parents[1] / "results", Path(__file__).parents[2] / "docs" / "pictures"
COMMAND = [
    *("model=gan", "data=digits", "model.generator.hidden=[16]", "model.discriminator.hidden=[16]"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=null", "scores.every=640000", "samples.every_images=640000"),
    *("checkpoints.every_minutes=0.1", "checkpoints.every_epochs=500"),
]
PANELS = (  # column, label, growth that is allowed from the second quarter to the last
    ("memory_mb", "memory (MB, resident)", 0.02),
    ("handles", "file handles", 0.0),
    ("threads", "threads", 0.0),
    ("children", "child processes", 0.0),
    ("cpu_ms", "processor time per step (ms)", 0.1),
    ("step_ms", "time per step (ms)", 0.5),  # whatever else the machine does is in it
    ("bytes_per_step", "bytes that the folder grows by, per step", 0.1),
)
OF_CHILDREN = (  # of all together, in runs that have some
    ("children_mb", "memory of the children (MB, by shares)", 0.02),
    ("children_handles", "file handles of the children", 0.2),  # a worker that begins or ends has one more or less
    ("children_threads", "threads of the children", 0.2),
)
COUNTED = ("handles", "threads", "children")
WIDTH, HEIGHT, GAP = 360, 150, 70


def watch(process: subprocess.Popen[bytes], folder: Path, seconds: float) -> list[dict[str, float]]:
    """Samples until the process ends."""
    found, began = [], time.monotonic()
    while process.poll() is None:
        time.sleep(seconds)
        try:
            found.append({"seconds": time.monotonic() - began, **of_process(process.pid), **of_folder(folder)})
        except (OSError, IndexError, KeyError, ValueError):  # it has not begun, or has just ended
            continue
    return found


def of_process(number: int) -> dict[str, float]:
    """What Linux knows of a process; its time is that of the children that have ended, too. Raises OSError when it has
    ended itself."""
    place = Path("/proc") / str(number)
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    times = (place / "stat").read_text().rpartition(")")[2].split()
    children = (place / "task" / str(number) / "children").read_text().split()
    return {
        "memory_mb": int(status["VmRSS"].split()[0]) / 1024,
        "cpu_seconds": sum(int(field) for field in times[11:15]) / os.sysconf("SC_CLK_TCK"),
        "threads": int(status["Threads"]),
        "handles": len(os.listdir(place / "fd")),
        "children": len(children),
        **of_children([Path("/proc") / child for child in children]),
    }


def of_children(places: Sequence[Path]) -> dict[str, float]:
    """The sums of what Linux knows of processes; one that has just ended counts no more."""
    found = {column: 0.0 for column, _, _ in OF_CHILDREN}
    for place in places:
        with suppress(OSError, KeyError, StopIteration):
            lines = (place / "smaps_rollup").read_text().splitlines()
            megabytes = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
            handles, threads = len(os.listdir(place / "fd")), len(os.listdir(place / "task"))
            found["children_mb"] += megabytes
            found["children_handles"] += handles
            found["children_threads"] += threads
    return found


def panels(samples: Sequence[dict[str, float]]) -> tuple[tuple[str, str, float], ...]:
    """What is judged and drawn of a run."""
    return (*PANELS, *OF_CHILDREN) if any(sample["children"] for sample in samples) else PANELS


def of_folder(folder: Path) -> dict[str, float]:
    """Size, number of files, and the steps in the newest line of metrics.csv."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".part")]
    sizes = [path.stat().st_size for path in files if path.exists()]
    with open(folder / "metrics.csv", "rb") as file:
        columns = file.readline().decode().strip().split(",")
        file.seek(max(0, os.path.getsize(folder / "metrics.csv") - 2000))
        line = file.read().decode().split("\r\n")[-2].split(",")  # the last whole one
    row = dict(zip(columns, line, strict=True))
    return {"steps": int(row["generator_steps"]), "folder_mb": sum(sizes) / 1e6, "files": len(sizes)}


def with_rates(samples: Sequence[dict[str, float]], over: int = 12) -> list[dict[str, float]]:
    """The samples, with what happened since the one `over` before them; not those of the end, when no step is made."""
    last = samples[-1]["steps"] if samples else 0
    samples = [sample for sample in samples if sample["steps"] < last]
    found = []
    for before, after in zip(samples, samples[over:], strict=False):
        steps = after["steps"] - before["steps"]
        if steps:
            found.append(
                {
                    **after,
                    "cpu_ms": 1000 * (after["cpu_seconds"] - before["cpu_seconds"]) / steps,
                    "step_ms": 1000 * (after["seconds"] - before["seconds"]) / steps,
                    "bytes_per_step": 1e6 * (after["folder_mb"] - before["folder_mb"]) / steps,
                }
            )
    return found


def judged(samples: Sequence[dict[str, float]]) -> list[dict[str, Any]]:
    """Medians of the second and of the last quarter, and whether the growth between them is allowed.

    A loader's workers begin anew with every epoch, so that what is there depends on the moment: where there are some,
    the largest of what is counted is taken, not the median.
    """
    quarter, shown = len(samples) // 4, panels(samples)
    rows = []
    for column, label, allowed in shown:
        largest = len(shown) > len(PANELS) and (column in COUNTED or column.startswith("children_"))
        typical = max if largest else statistics.median
        early = typical([sample[column] for sample in samples[quarter : 2 * quarter]])
        late = typical([sample[column] for sample in samples[-quarter:]])
        label = f"{label}, largest" if largest else label
        rows.append({"what": label, "second": early, "last": late, "flat": late <= early * (1 + allowed)})
    return rows


def draw(samples: Sequence[dict[str, float]], path: Path) -> None:
    """A panel a quantity, over thousands of steps."""
    shown = panels(samples)
    picture = Picture(2 * (WIDTH + GAP) + 20, -(-len(shown) // 2) * (HEIGHT + GAP) + 10)
    steps = np.array([sample["steps"] for sample in samples]) / 1000
    for index, (column, label, _) in enumerate(shown):
        row, side = divmod(index, 2)
        values = np.array([sample[column] for sample in samples])
        top = float(1.15 * values.max()) or 1.0
        place = GAP + side * (WIDTH + GAP), 30 + row * (HEIGHT + GAP)
        axes = Axes(*place, WIDTH - 20, HEIGHT, (0, float(steps[-1])), (0, top))
        picture.frame(axes, f"{label}, over thousands of steps")
        picture.curve(axes, steps, values, COLOURS[index % len(COLOURS)])
    save(picture.pixels(), path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="between samples")
    parser.add_argument("--name", default="soak")
    parser.add_argument("--folder", type=Path, help="of the run; a temporary one when left out")
    parser.add_argument("overrides", nargs="*", help="key=value for the train command")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp()) / "run"
    arguments = [*COMMAND, f"budget.generator_steps={given.steps}", *given.overrides]
    command = [sys.executable, "-m", "gan_lightning", *arguments, f"hydra.run.dir={folder}"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    machine = describe("cpu", int(os.environ.get("OMP_NUM_THREADS", "0")))  # its load is of before
    with open(folder.parent / f"{given.name}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        samples = with_rates(watch(process, folder, given.seconds))
    if process.returncode or len(samples) < 8:
        print(f"the run ended with {process.returncode} after {len(samples)} samples: {log.name}", file=sys.stderr)
        return 1
    rows, end = judged(samples), samples[-1]
    facts = {
        "command": shlex.join(["python", "-m", "gan_lightning", *arguments]),
        "machine": machine,
        "date": time.strftime("%Y-%m-%d"),
        **{key: round(end[key], 1) for key in ("steps", "seconds", "folder_mb", "files")},
        "quarters": rows,
        "samples": [{key: round(value, 4) for key, value in sample.items()} for sample in samples],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{given.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    draw(samples, PICTURES / f"{given.name}.png")
    print(
        f"{end['steps']:,.0f} steps in {end['seconds']:,.0f} s; {end['files']:.0f} files, {end['folder_mb']:.1f} MB\n"
    )
    print("| | second quarter | last quarter | flat |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['what']} | {row['second']:.4g} | {row['last']:.4g} | {'yes' if row['flat'] else '**no**'} |")
    return 0 if all(row["flat"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
