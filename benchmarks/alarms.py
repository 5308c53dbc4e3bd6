"""What the alarms say of finished runs: python -m benchmarks.alarms <run> …

Shows them every line of metrics.csv and every score of scores.jsonl again, in order, and prints a Markdown table with
how near each run came to every limit.
"""

import csv
import statistics
import sys
from pathlib import Path

import gan_lightning
from gan_lightning.callbacks.alarms import FIRST, Watch
from gan_lightning.metrics import records

SHOWN = (
    "lowest D/loss",
    "limit",
    "lowest G gradient / usual",
    "lowest diversity / best before",
    "at last",
    "missing, first to last",
)


def replay(run: Path) -> tuple[list[str], list[str]]:
    """The alarms of a run as "kind at images", and the numbers SHOWN."""
    won = gan_lightning.load(run).won
    with (run / "metrics.csv").open(newline="") as file:
        lines = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    scores: dict[int, dict[str, float]] = {}
    for record in records.lines(run / records.FILE):
        scores.setdefault(record["images"], {})[record["metric"]] = record["value"]
    watch, raised = Watch(), []
    moments = sorted(
        [(line["images"], 0, line) for line in lines] + [(at, 1, made) for at, made in scores.items()],
        key=lambda m: m[:2],
    )
    for images, kind, values in moments:
        found = watch.scores(values, int(images)) if kind else watch.line(values, won, int(images))
        raised += [f"{name} at {images:,.0f}" for name, _ in found]
    gradients = [line["G/gradient_norm"] for line in lines]
    diversity = [made["diversity"] for _, made in sorted(scores.items())]
    missing = [made["missing_modes"] for _, made in sorted(scores.items())]
    falls = [now / max(diversity[:i]) for i, now in enumerate(diversity) if i]
    return raised, [
        f"{min(line['D/loss'] for line in lines):.3g}",
        "none" if won is None else f"{won:g}",
        f"{min(gradients) / statistics.median(gradients[:FIRST]):.2g}",
        f"{min(falls, default=1):.2f}",
        f"{diversity[-1]:.2f}",
        f"{missing[0]:.0f} to {missing[-1]:.0f}",
    ]


def main(arguments: list[str]) -> None:
    print(f"| run | alarms | {' | '.join(SHOWN)} |")
    print(f"|---|---|{'---|' * len(SHOWN)}")
    for argument in arguments:
        raised, numbers = replay(Path(argument))
        print(f"| {Path(argument).name} | {', '.join(raised) or 'none'} | {' | '.join(numbers)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
