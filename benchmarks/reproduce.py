"""The result tables: python -m benchmarks.reproduce TABLE [--root DATA] [--jobs N] [--rows A,B] [--seeds N]

Trains every row of a table with every seed by the project's own command, one thread a run, and keeps a line a run in
benchmarks/results/reproduced.jsonl: runs that are there are not made again. `--write` only writes benchmarks/results.md
from those lines.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from benchmarks.machine import describe
from benchmarks.tables import TABLES, Row, Table

RESULTS = Path(__file__).parent / "results" / "reproduced.jsonl"
PAGE = Path(__file__).parent / "results.md"
LOCK = Lock()
ALWAYS = ("trainer.enable_progress_bar=false",)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="*", choices=[[], *TABLES], help="ring, grid, …")
    parser.add_argument("--root", type=Path, help="folder that holds MNIST/raw, or the class folders of CIFAR-10")
    parser.add_argument("--out", type=Path, default=Path("outputs/reproduce"), help="where runs go")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--rows", help="only these, separated by commas")
    parser.add_argument("--seeds", type=int, help="seeds 0 to N - 1, in place of the table's")
    parser.add_argument("--write", action="store_true", help="write the page and nothing else")
    given = parser.parse_args(arguments)
    for name in [] if given.write else given.table:
        table = TABLES[name]
        if table.needs and not given.root:
            parser.error(f"{name}: --root= must name {table.needs}")
        rows = [row for row in table.rows if not given.rows or row.name in given.rows.split(",")]
        done = {(line["table"], line["row"], line["seed"]) for line in lines()}
        todo = [  # every row once, then again
            (row, seed)
            for seed in range(max(given.seeds or row.seeds or table.seeds for row in rows))
            for row in rows
            if seed < (given.seeds or row.seeds or table.seeds) and (name, row.name, seed) not in done
        ]
        with ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(lambda job, name=name: run(name, job[0], job[1], given.out, given.root), todo))
    PAGE.write_text(page(lines()))


def command(table: Table, row: Row, seed: int) -> list[str]:
    """What a person types after `python -m gan_lightning`, but for folders."""
    root = ["data.root=ROOT"] if table.needs else []
    return [*row.arguments, *table.common, *root, f"seed={seed}"]


def run(name: str, row: Row, seed: int, out: Path, root: Path | None) -> None:
    """One run, and its line; the output of one that fails is shown."""
    table = TABLES[name]
    folder = out / name / f"{row.name}-{seed}"
    arguments = [a.replace("=ROOT", f"={root}") for a in command(table, row, seed)]
    began = time.time()
    made = subprocess.run(
        [sys.executable, "-m", "gan_lightning", *arguments, *ALWAYS, f"hydra.run.dir={folder}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if made.returncode:
        print(f"{name} {row.name} seed {seed}: exit code {made.returncode}\n{made.stdout[-1500:]}{made.stderr[-1500:]}")
        return
    records = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    curve: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        curve.setdefault(record["metric"], []).append((record["images"], record["value"]))
    last = records[-1]
    scores = {metric: points[-1][1] for metric, points in curve.items()}
    if table.extra:
        scores |= table.extra(folder)
    machine = describe("cuda" if torch.cuda.is_available() else "cpu", 1)
    line = {
        "table": name,
        "row": row.name,
        "seed": seed,
        "scores": scores,
        "curve": curve,
        "images": last["images"],
        "generator_steps": last["step"],
        "samples": last["n_fake"],
        "real": last["n_real"],
        "extractor": f"{last['extractor']} v{last['version']}",
        "minutes": round((time.time() - began) / 60, 2),
        "training_minutes": round(last["seconds"] / 60, 2),
        "command": "python -m gan_lightning " + " ".join(command(table, row, seed)),
        "machine": machine,
        "date": time.strftime("%Y-%m-%d"),
    }
    with LOCK, RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{name} {row.name} seed {seed}: {line['minutes']} min, " + shown(scores, table.metrics), flush=True)


def shown(scores: dict[str, float], metrics: dict[str, str]) -> str:
    return ", ".join(f"{metrics[metric]} {scores[metric]:.4g}" for metric in metrics if metric in scores)


def lines() -> list[dict[str, Any]]:
    """The runs that were made."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def spread(values: list[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds."""
    mean = f"{statistics.mean(values):.{digits}g}"
    return f"{mean} ± {statistics.stdev(values):.2g}" if len(values) > 1 else mean


def page(made: list[dict[str, Any]]) -> str:
    """benchmarks/results.md."""
    parts = [HEAD]
    for name, table in TABLES.items():
        of_table = [line for line in made if line["table"] == name]
        headings = [f"{heading}{kind}" for heading in table.metrics.values() for kind in ("", ", paper")]
        parts.append(f"## {table.title} (`{name}`)\n\n{table.protocol}\n")
        columns = ["row", *headings, "seeds", "minutes a run", "command"]
        parts.append("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
        for row in table.rows:
            runs = [line for line in of_table if line["row"] == row.name]
            cells = [f"`{row.name}`"]
            for metric in table.metrics:
                values = [line["scores"][metric] for line in runs if metric in line["scores"]]
                cells += [spread(values) if values else "not run", row.published.get(metric, "–")]
            minutes = f"{statistics.median(line['minutes'] for line in runs):.1f}" if runs else "–"
            cells += [str(len(runs)), minutes, f"`{' '.join(row.arguments)}`"]
            parts.append("| " + " | ".join(cells) + " |")
        if of_table:
            machine = of_table[0]["machine"]
            where = machine["gpu"] or f"{machine['cpu']}, one thread a run of {machine['cores']} shared cores"
            parts.append(
                f"\nEvery row: `python -m gan_lightning <command> {' '.join(table.common)}"
                f"{' data.root=ROOT' if table.needs else ''} seed=0 …`. {where}; torch {machine['torch']}, Lightning "
                f"{machine['lightning']}; {of_table[0]['date']}. The machine was busy with other work: minutes are an "
                "upper bound.\n"
            )
    return "\n".join(parts) + "\n"


HEAD = """# Results

Ours beside the papers'. Every number comes from `python -m benchmarks.reproduce TABLE`, which writes this page; each
run, with its whole command, seed, scores over training, machine and minutes, is a line of
[results/reproduced.jsonl](results/reproduced.jsonl). Means ± standard deviations over seeds 0, 1, …
"""


if __name__ == "__main__":
    main()
