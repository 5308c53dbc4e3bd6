"""What compression saves and costs: python -m benchmarks.compression RUN OUT [--images N] [--score fid] [--cases …] …

Compresses one trained run in every way below (`CASES`), each into a folder of OUT, where those that are there already
are not made again. Then all of them are loaded into one process, where their times are taken in turns, and OUT gets
table.md, table.json and pareto.png: the score over the milliseconds of one sample, and of 64. Images are those that a
method trains for. What follows is passed on to `compress`: data.root=… where data has moved, scores.names=[psnr].
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.figures import COLOURS, apart
from benchmarks.throughput import table
from gan_lightning.callbacks.samples import save
from gan_lightning.commands.compress import TABLE
from gan_lightning.commands.loading import load_data, load_module
from gan_lightning.compression.costs import Costs, Table, measure
from gan_lightning.data.plots import FINE, INK, Axes, Picture

TRAINED = "as trained"
WHOLE = "method.multiple=8"  # widths that processors are fast with
RATE = "model.generator_optimizer.lr=0.002"  # of students, also of the one that has no teacher
ALONE = [
    *("method.reconstruction=0", "method.features=0", "method.discriminator=fresh", "method.start=fresh"),
    "model.initialization=default",  # so narrow a DCGAN stays grey with N(0, 0.02)
]
CASES: dict[str, dict[str, list[str]]] = {  # by method; {n}: the images of the command line
    "prune": {
        "pruned to 75 %, not trained": ["method.macs=0.75", WHOLE],
        "pruned to 50 %, not trained": ["method.macs=0.5", WHOLE],
        "pruned to 75 %": ["method.macs=0.75", WHOLE, "method.images={n}"],
        "pruned to 50 %": ["method.macs=0.5", WHOLE, "method.images={n}"],
        "pruned to 50 % in 3 steps": ["method.macs=0.5", WHOLE, "method.steps=3", "method.images={n}"],
        "pruned to 25 %": ["method.macs=0.25", WHOLE, "method.images={n}"],
        "half of the weights 0": ["method.kind=weights", "method.macs=0.5"],
    },
    "distill": {
        "student, width 1/2": ["method.width=0.5", "method.images={n}", RATE],
        "student, width 1/4": ["method.width=0.25", "method.images={n}", RATE],
        "width 1/4, alone": [*ALONE, "method.width=0.25", "method.images={n}", RATE],
    },
    "quantize": {
        "int8 weights": [],
        "int4 weights": ["method.bits=4"],
        "int4 weights, trained": ["method.bits=4", "method.images={n}"],
        "int8 static": ["method.kind=static"],
    },
}


def compress(run: Path, folder: Path, method: str, arguments: Sequence[str]) -> None:
    """One case, in a process of its own."""
    words = [f"checkpoint={run}", f"output={folder}", f"method={method}", *arguments]
    subprocess.run([sys.executable, "-m", "gan_lightning", "compress", *words], check=True)


def name_of(case: str) -> str:
    """A folder of it."""
    return "".join(letter if letter.isalnum() else "_" for letter in case)


def limits(scores: Mapping[str, float]) -> tuple[float, float]:
    """What is shown of the scores: as far from the run's own as four fifths of them are, and a little more."""
    own = scores[TRAINED]
    apart_from_it = sorted(abs(score - own) for score in scores.values())
    reach = 1.3 * max(apart_from_it[int(0.8 * (len(apart_from_it) - 1))], 0.01 * abs(own))
    low, high = max(own - reach, min(scores.values())), min(own + reach, max(scores.values()))
    spare = 0.05 * (high - low)
    return low - spare, high + spare


def pareto(costs: Mapping[str, Costs], scores: Mapping[str, float], metric: str, path: Path) -> None:
    """A panel for each number of samples: milliseconds to the right, the score upwards, a colour for each method.

    Cases have numbers, which stand beside their points; those whose scores lie further off are at the border.
    """
    colours = {case: COLOURS[number] for number, cases in enumerate(CASES.values()) for case in cases}
    batches = list(next(iter(costs.values())).latency_ms)
    side, names = 360, 230
    low, high = limits(scores)
    edge = 0.01 * (high - low)
    heights = {case: min(max(score, low + edge), high - edge) for case, score in scores.items()}
    picture = Picture(len(batches) * (side + names) + 50, side + 60)
    for index, batch in enumerate(batches):
        times = {case: one.latency_ms[batch] for case, one in costs.items()}
        axes = Axes(50 + index * (side + names), 26, side, side, (0, 1.1 * max(times.values())), (low, high))
        picture.frame(axes, f"{metric} over milliseconds for {batch} sample{'s' if batch > 1 else ''}")
        ordered = sorted(times, key=lambda case: -scores[case])
        heights = {
            case: min(max(scores[case], low + 0.01 * (high - low)), high - 0.01 * (high - low)) for case in times
        }
        downs = [axes.place(0, heights[case])[1] / FINE for case in ordered]
        for number, (case, down) in enumerate(zip(ordered, apart(downs, 13, axes.top + side), strict=True), 1):
            colour = colours.get(case, INK)
            picture.scatter(axes, np.array([[times[case], heights[case]]]), colour, 1.0, 4)
            across, at = (place / FINE for place in axes.place(times[case], heights[case]))
            picture.text(across + 6, at, str(number), "lm", colour)
            picture.text(axes.left + side + 8, down, f"{number}  {case}: {scores[case]:.3g}", "lm", colour)
    save(picture.pixels(), path)


def compare(out: Path, teacher: Path, folders: Mapping[str, Path], metric: str, threads: int, extra: list[str]) -> None:
    """Everything that is there, measured in turns, in one table and one picture."""
    modules = {TRAINED: load_module(teacher), **{case: load_module(folder) for case, folder in folders.items()}}
    found = {case: json.loads((folder / f"{TABLE}.json").read_text()) for case, folder in folders.items()}
    config = cast(dict[str, Any], modules[TRAINED].config)
    moved = dict(word.removeprefix("data.").split("=", 1) for word in extra if word.startswith("data."))
    data = load_data({**config, "data": {**config["data"], **moved}}, modules[TRAINED].data_facts)
    for module in modules.values():
        module.show(data)
    costs = measure(modules, threads=threads)
    scores = {case: one["scores"]["after"] for case, one in found.items()}
    scores = {TRAINED: next(iter(found.values()))["scores"]["before"], **scores}
    of_table = Table(costs, scores)
    columns = [[row.name, *("" if v is None else row.shown(v) for v in row.values)] for row in of_table.rows()]
    head, *rows = zip(["", *costs], *columns, strict=True)
    text = "\n".join([*table(head, rows), "", of_table.where()]) + "\n"
    (out / "table.md").write_text(text)
    plain = {"costs": of_table.plain(), "scores": scores, "facts": {case: one["facts"] for case, one in found.items()}}
    (out / "table.json").write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
    pareto(costs, {case: of[metric] for case, of in scores.items()}, metric, out / "pareto.png")
    print(text)


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--score", default="fid")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", nargs="*", help="parts of names; all when left out")
    options, extra = parser.parse_known_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    folders: dict[str, Path] = {}
    for method, cases in CASES.items():
        for case, arguments in cases.items():
            if options.cases and not any(part in case for part in options.cases):
                continue
            folders[case] = options.out / name_of(case)
            if not (folders[case] / f"{TABLE}.json").exists():
                given = [argument.replace("{n}", str(options.images)) for argument in arguments]
                compress(options.run, folders[case], method, [*given, *extra])
    compare(options.out, options.run, folders, options.score, options.threads, extra)


if __name__ == "__main__":
    main(sys.argv[1:])
