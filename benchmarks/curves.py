"""Curves of scores over training, of any runs: python -m benchmarks.curves OUT.png METRIC[,METRIC] NAME=RUN NAME=RUN …

A panel a metric; numbers are those that the runs wrote while they trained (scores.jsonl).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import curves
from gan_lightning.metrics.records import FILE, lines


def of_run(run: Path, metric: str) -> list[tuple[int, float]]:
    """Images and values of one run, in order; a continued run may have written a line twice."""
    made = [line for line in lines(run / FILE) if line["source"] == "train" and line["metric"] == metric]
    return sorted({line["images"]: line["value"] for line in made if line["value"] is not None}.items())


def main(words: Sequence[str]) -> None:
    if len(words) < 3:
        raise SystemExit(__doc__)
    out, metrics, *given = words
    runs = {name: Path(folder) for name, _, folder in (word.partition("=") for word in given)}
    for metric in metrics.split(","):
        if missing := [name for name, run in runs.items() if not of_run(run, metric)]:
            raise SystemExit(f"{missing[0]}={runs[missing[0]]}: its {FILE} has no {metric}")
    groups = [{name: of_run(run, metric) for name, run in runs.items()} for metric in metrics.split(",")]
    curves(groups, Path(out), metrics.split(","), from_zero=False)


if __name__ == "__main__":
    main(sys.argv[1:])
