"""The result tables: python -m benchmarks.reproduce TABLE [--root DATA] [--jobs N] [--rows A,B] [--seeds N]

Trains every row of a table with every seed by the project's own command, one thread a run, and keeps a line a run in
benchmarks/results/reproduced.jsonl: runs that are there are not made again. `--write` only writes benchmarks/results.md
and the curves in it from those lines; `--gallery` also draws samples of the runs of GALLERIES' tables in docs/pictures.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import torch

import gan_lightning
from benchmarks.figures import curves, gallery, mean_curve
from benchmarks.machine import describe
from benchmarks.synthetic import BATCH, as_they_are, classify, filled
from benchmarks.tables import SHARES, TABLES, Row, Table
from gan_lightning.commands.loading import load_data, stored_config
from gan_lightning.config import CONF
from gan_lightning.data.pixels import to_pixels
from gan_lightning.metrics.extractors import load_extractor
from gan_lightning.metrics.fit_classifiers import Labelled, everything

RESULTS = Path(__file__).parent / "results" / "reproduced.jsonl"
PAGE = Path(__file__).parent / "results.md"
SYNTHETIC = Path(__file__).parent / "results" / "synthetic.md"
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
DONE = ("gan_mnist_gelu", "gan_mnist_relu")  # experiments whose results are in docs/results.md
GALLERIES = {"mnist": "gallery.png", "modern": "modern.png"}  # of seed 0 of these tables, in docs/pictures
FAMILIES = 3  # panels of the leaderboard's curves
LOCK = Lock()
ALWAYS = ("trainer.enable_progress_bar=false",)
SAMPLES, STEPS = 10_000, 300  # with labels, and steps of a classifier on them


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}")
    parser.add_argument("--root", type=Path, help="folder that holds MNIST/raw, or the class folders of CIFAR-10")
    parser.add_argument("--out", type=Path, default=Path("outputs/reproduce"), help="where runs go")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--rows", help="only these, separated by commas")
    parser.add_argument("--seeds", type=int, help="seeds 0 to N - 1, in place of the table's")
    parser.add_argument("--write", action="store_true", help="write the page and nothing else")
    parser.add_argument("--gallery", action="store_true", help="draw the galleries")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.table) - set(TABLES)):
        parser.error(f"no table {', '.join(unknown)}; there are {', '.join(TABLES)}")
    for name in [] if given.write else given.table:
        table = TABLES[name]
        work = look if table.of else run
        if table.needs and not given.root:
            parser.error(f"{name}: --root= must name {table.needs}")
        names = [row.name for row in table.rows]
        wanted = given.rows.split(",") if given.rows else names
        if unknown := sorted(set(wanted) - set(names)):
            parser.error(f"--rows: {name} has no {', '.join(unknown)}; it has {', '.join(names)}")
        rows = [row for row in table.rows if row.name in wanted]
        done = {(line["table"], line["row"], line["seed"]) for line in lines()}
        todo = [  # every row once, then again
            (row, seed)
            for seed in range(max(given.seeds or row.seeds or table.seeds for row in rows))
            for row in rows
            if seed < (given.seeds or row.seeds or table.seeds) and (name, row.name, seed) not in done
        ]
        with ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(lambda job, name=name, work=work: work(name, job[0], job[1], given.out, given.root), todo))
    if given.gallery:
        for name, picture in GALLERIES.items():
            rows = [row.name for row in TABLES[name].rows if "untrained" not in row.name]
            gallery({row: given.out / name / f"{row}-0" for row in rows}, PICTURES / picture)
    draw_curves(lines())
    PAGE.write_text(page(lines()))


def draw_curves(made: list[dict[str, Any]]) -> None:
    """FID of the leaderboard's rules over training, the mean over seeds, a panel for each third of the ranking."""
    runs: dict[str, list[Any]] = {}
    for line in made:
        if line["table"] == "mnist":
            runs.setdefault(line["row"], []).append(line["curve"]["fid"])
    means = sorted(((name, mean_curve(its)) for name, its in runs.items()), key=lambda item: item[1][-1][1])
    if means:
        size = -(-len(means) // FAMILIES)
        groups = [dict(means[start : start + size]) for start in range(0, len(means), size)]
        curves(groups, PICTURES / "mnist_fid.png", ["FID"] * len(groups))


def command(table: Table, row: Row, seed: int) -> list[str]:
    """What a person types after `python -m gan_lightning`, but for folders."""
    root = ["data.root=ROOT"] if table.needs else []
    return [*table.common, *row.arguments, *root, f"seed={seed}"]


def typed(arguments: Sequence[str]) -> str:
    """As a shell reads them."""
    return " ".join(shlex.quote(argument) if set(argument) & set(" {}") else argument for argument in arguments)


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
    last = [record for record in records if record["extractor"] != "none"][-1]
    scores = {metric: points[-1][1] for metric, points in curve.items()}
    add(
        name,
        row,
        seed,
        scores,
        curve=curve,
        images=last["images"],
        generator_steps=last["step"],
        samples=last["n_fake"],
        real=last["n_real"],
        extractor=f"{last['extractor']} v{last['version']}",
        minutes=round(max(time.time() - began, last["seconds"]) / 60, 2),  # of one that went on: all of its training
        training_minutes=round(last["seconds"] / 60, 2),
    )


def look(name: str, row: Row, seed: int, out: Path, root: Path | None) -> None:
    """A line on a run of another table: what its labels are worth."""
    table, began = TABLES[name], time.time()
    assert table.of
    folder = out / table.of / f"{row.name}-{seed}"
    if not folder.exists():
        print(f"{name} {row.name} seed {seed}: needs the run of the table {table.of} in {folder}")
        return
    torch.set_num_threads(1)
    module, data = gan_lightning.load(folder), load_data(stored_config(folder, [f"data.root={root}"] if root else []))
    samples, labels = to_pixels(module.sample(SAMPLES, seed=seed + 1)), torch.arange(SAMPLES) % module.classes
    extractor = load_extractor(data.extractor or "digits")
    found = torch.cat([extractor(block)[1].argmax(1) for block in samples.split(500)])  # type: ignore[union-attr]  # digits has classes
    real, test = everything(data.train), everything(data.held_out)
    stream = torch.Generator().manual_seed(seed)

    def learned_from(training: Labelled) -> float:
        return classify(filled(training, STEPS * BATCH, stream), as_they_are, test, seed)

    scores = {
        "on_samples": float((found == labels).float().mean()),
        "from_samples": learned_from((samples, labels)),
        "from_real": learned_from((real[0][:SAMPLES], real[1][:SAMPLES])),
    }
    minutes = round((time.time() - began) / 60, 2)
    add(name, row, seed, scores, samples=SAMPLES, real=len(test[1]), extractor=extractor.label, minutes=minutes)


def add(name: str, row: Row, seed: int, scores: dict[str, float], **more: Any) -> None:
    """A line in the results, and one on the screen."""
    table = TABLES[name]
    line = {
        "table": name,
        "row": row.name,
        "seed": seed,
        "scores": scores,
        **more,
        "command": "python -m gan_lightning " + typed(command(table, row, seed)),
        "machine": describe("cuda" if torch.cuda.is_available() else "cpu", 1),
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


def spread(values: list[float], share: bool = False) -> str:
    """Mean and standard deviation over seeds; shares in %."""
    values = [100 * value for value in values] if share else values
    mean = statistics.mean(values)
    text = f"{mean:.1f}" if mean >= 100 or share else f"{mean:.3g}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.1f}" if share else f" ± {statistics.stdev(values):.2g}"
    return f"{text} %" if share else text


def page(made: list[dict[str, Any]]) -> str:
    """benchmarks/results.md."""
    parts = [HEAD]
    for name, table in TABLES.items():
        of_table = [line for line in made if line["table"] == name]
        protocol = " ".join(table.protocol.split())
        headings = [f"{heading}{kind}" for heading in table.metrics.values() for kind in ("", ", paper")]
        parts.append(f"## {table.title} (`{name}`)\n\n{protocol}\n")
        columns = ["row", *headings, "seeds", "minutes a run", "command"]
        parts.append("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
        for row in table.rows:
            runs = [line for line in of_table if line["row"] == row.name]
            cells = [f"`{row.name}`"]
            for metric in table.metrics:
                values = [line["scores"][metric] for line in runs if metric in line["scores"]]
                absent = "–" if runs else "not run"
                cells += [spread(values, metric in SHARES) if values else absent, row.published.get(metric, "–")]
            minutes = f"{statistics.median(line['minutes'] for line in runs):.1f}" if runs else "–"
            cells += [str(len(runs)), minutes, f"`{typed(row.arguments)}`"]
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
        if of_table:
            machine = of_table[0]["machine"]
            where = machine["gpu"] or f"{machine['cpu']}, one thread a run of {machine['cores']} shared cores"
            parts.append(
                f"Every row: `python -m gan_lightning {typed(table.common)} <command>"
                f"{' data.root=ROOT' if table.needs else ''} seed=<seed>`. {where}; torch {machine['torch']}, "
                f"Lightning {machine['lightning']}; {of_table[0]['date']}. The machine was busy with other work: "
                "minutes are an upper bound.\n"
            )
        if name == "mnist" and of_table:
            parts.append("![FID over training](../docs/pictures/mnist_fid.png)\n")
        if name in GALLERIES and of_table:
            parts.append(f"![Samples of every row, seed 0](../docs/pictures/{GALLERIES[name]})\n")
    if SYNTHETIC.exists():
        parts += [ABOUT_SYNTHETIC, SYNTHETIC.read_text()]
    parts.append(recipes())
    return "\n".join(parts).rstrip("\n") + "\n"


def recipes() -> str:
    """The papers' whole recipes and what came out, which their files say in their comments."""
    rows = ["## Whole recipes", "", "| `experiment=` | what, and the paper's number | ours |", "|---|---|---|"]
    for file in sorted((CONF / "experiment").glob("*.yaml")):
        if file.stem not in DONE and not file.stem.endswith("_digits"):  # first runs: docs/results.md
            about = [line[2:] for line in file.read_text().splitlines()[1:] if line.startswith("# ")]
            rows.append(f"| `{file.stem}` | {' '.join(about)} | not run |")
    return "\n".join(rows) + "\n"


HEAD = """# Results

Ours beside the papers'. Every number comes from `python -m benchmarks.reproduce TABLE`, which writes this page; each
run, with its whole command, seed, scores over training, machine and minutes, is a line of
[results/reproduced.jsonl](results/reproduced.jsonl). Means ± standard deviations over seeds 0, 1, …
"""
ABOUT_SYNTHETIC = """## What synthetic images bring to a classifier with few real ones

`projection` with DCGAN's networks, and DiffAugment of translations alone, were chosen after GANs of
`conditional_dcgan` with translations and cutout, whose images are often not of their class (a classifier learns 10
to 60 % from them), by the share of samples that are of theirs for 10 and 50 real images a class, seed 0; lengths,
rates and sizes before that by accuracies on the same test images.

What it brings: a set that can be handed on in place of the real images, and teaches about as much as 10 of them a
class, more where the GAN saw more. What it does not: anything beside the real images that the GAN was trained on.
Shifting those helps far more, and costs nothing.
"""


if __name__ == "__main__":
    main()
