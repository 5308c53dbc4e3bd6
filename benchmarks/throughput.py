"""Ours beside the loops that people write: python -m benchmarks.throughput [--device cuda] [--batch 64 128] …

Every contender trains the same networks in a process of its own; they are timed in turns, in a shuffled order, round
after round. Speeds are medians over the rounds, ratios medians of the rounds' ratios. `--sizes` adds the cost of ours
against sizes; `--networks` with nothing after it leaves the contenders out. Writes JSON and Markdown.
"""

import argparse
import json
import os
import random
import shlex
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.bare import bare_loop
from benchmarks.contenders import lightning_docs, pytorch_gan, seed_script
from benchmarks.machine import describe, limits
from benchmarks.ours import ours
from benchmarks.runner import MODELS, Case, Contender, Failed, Precision, Runner, in_process

SEED, BARE, OURS = "seed script", "bare loop", "ours"
CONTENDERS: dict[str, Contender] = {
    SEED: seed_script,
    "PyTorch-GAN style": pytorch_gan,
    "Lightning-docs style": lightning_docs,
    BARE: bare_loop,
    OURS: ours,
}
FOLLOW_PRECISION = (BARE, OURS)  # the others stay as they are written: 32 bits

NOTES = """\
images/s: real images shown to the discriminator, median over the rounds (slowest…fastest). × seed: median of the
rounds' ratios. Over bare: time above the same step in a hand-written loop, likewise. Limit: the share of the machine's,
that is the FLOPs of the bare step (fakes made once) against the faster of the product and the convolution above, in the
row's precision. MB: the most memory since the imports, the set of images included; on a GPU, allocated there. Only the
bare loop and ours follow `--precision`; the other contenders are 32 bits, as they are written.
"""


@dataclass
class Result:
    """What was measured of one contender."""

    name: str
    case: Case
    speeds: list[float] = field(default_factory=list)  # images/s of the rounds
    bytes: int = 0  # most memory
    flops: float | None = None  # of a minibatch, from the bare loop
    operators: str = ""  # the profiler's table
    error: str | None = None

    @property
    def images_per_second(self) -> float:
        return statistics.median(self.speeds)

    @property
    def milliseconds(self) -> float:
        """Of a minibatch."""
        return 1000 * self.case.batch / self.images_per_second

    def times(self, other: "Result") -> float | None:
        """How many times as fast as another in the same rounds."""
        ratios = [mine / theirs for mine, theirs in zip(self.speeds, other.speeds, strict=False)]
        return statistics.median(ratios) if ratios else None


def measure(
    entrants: Mapping[str, tuple[Contender, Case]],
    rounds: int,
    seconds: float,
    traces: Mapping[str, Path] | None = None,  # whom to profile at the end, and where the trace goes
) -> list[Result]:
    """Times the entrants in turns; one that fails drops out."""
    results = {name: Result(name, case) for name, (_, case) in entrants.items()}
    runners: dict[str, Runner] = {}
    order = random.Random(0)
    with ExitStack() as stack:

        def attempt(name: str, trace: Path | None = None) -> None:
            result = results[name]
            try:
                if name not in runners:
                    runners[name] = stack.enter_context(Runner(*entrants[name], seconds))
                    runners[name].answer()  # warm
                elif trace:
                    runners[name].window(seconds, trace)
                else:
                    result.speeds.append(runners[name].window(seconds))
            except Failed as error:
                result.error = str(error)
            result.bytes, result.flops = runners[name].bytes, runners[name].flops
            result.operators = runners[name].operators

        for name in entrants:
            attempt(name)
        for _ in range(rounds):
            for name in order.sample(list(entrants), len(entrants)):
                if not results[name].error:
                    attempt(name)
        for name, trace in (traces or {}).items():
            if not results[name].error:
                attempt(name, trace)
    return list(results.values())


def compare(case: Case, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All contenders on one case: the rows of the table."""
    fitted = {name: case if name in FOLLOW_PRECISION else replace(case, precision="32") for name in CONTENDERS}
    traces = {}
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
        traces = {OURS: options.profile.absolute() / f"{case.network}-{case.batch}-{case.precision}.json"}
    entrants = {name: (CONTENDERS[name], fitted[name]) for name in CONTENDERS}
    results = {result.name: result for result in measure(entrants, options.rounds, options.seconds, traces)}
    flops = results[BARE].flops
    for name, trace in traces.items():
        print(f"{case.network}, batch {case.batch}, {case.precision}: {trace}\n{results[name].operators}")
        trace.with_suffix(".txt").write_text(results[name].operators)
    rows = []
    for name, result in results.items():
        row = {"contender": name, **asdict(result.case), "asked_precision": case.precision, "error": result.error}
        row["load"] = os.getloadavg()[0]  # a busy machine moves everything
        if result.speeds and not result.error:
            over = results[BARE].times(result)
            row |= spread(result) | {
                "times_seed_script": result.times(results[SEED]),
                "over_bare_loop": over - 1 if over else None,
                "flops_per_minibatch": flops,
            }
        rows.append(row)
    return rows


def spread(result: Result) -> dict[str, Any]:
    """The numbers that every row has."""
    return {
        "images_per_second": result.images_per_second,
        "slowest": min(result.speeds),
        "fastest": max(result.speeds),
        "rounds": result.speeds,
        "milliseconds": result.milliseconds,
        "bytes": result.bytes,
    }


def measure_limits(report: dict[str, Any], options: argparse.Namespace) -> None:
    """Once more what the machine can do, of which the best counts, and with it every row's share."""
    most = in_process(limits, options.device, options.threads, min(0.5, options.seconds))
    report["limits"] = {key: max(value, report["limits"].get(key, 0.0)) for key, value in most.items()}
    for row in report["rows"]:
        kinds = ("bf16",) if row["precision"] == "bf16" else ("fp32", "tf32")  # TF32 where there is one
        best = max(value for key, value in report["limits"].items() if key.endswith(kinds))
        if row.get("flops_per_minibatch"):
            row["share_of_limit"] = 1000 * row["flops_per_minibatch"] / row["milliseconds"] / best


def sizes(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The cost of a step of ours against every size, one at a time."""
    base = Case("dcgan", 64, options.precision[0], options.device, options.threads, images=4096)
    small = replace(base, network="mlp", images=1000)
    sweeps = {
        "image size": {n: replace(base, image_size=n) for n in options.image_sizes},
        "base channels": {n: replace(base, base_channels=n) for n in options.channels},
        "batch": {n: replace(base, batch=n) for n in options.batches},
        "images in the set": {n: replace(small, images=n) for n in options.images},
    }
    rows = []
    for what, cases in sweeps.items():
        found = measure({str(n): (ours, case) for n, case in cases.items()}, options.rounds, options.seconds)
        for size, result in zip(cases, found, strict=True):
            case = result.case
            pixels = case.images * (case.image_size or MODELS[case.network][1]) ** 2
            row = {"what": what, "size": size, **asdict(case), "bytes_of_set": pixels, "error": result.error}
            rows.append(row | (spread(result) if result.speeds and not result.error else {}))
    return rows


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report for people."""
    machine, most = report["machine"], report["limits"]
    reached = [f"{key.replace('_', ' ')} {value / 1e9:,.0f} GFLOP/s" for key, value in most.items() if key != "copy"]
    lines = [
        f"`{report['command']}`, {report['date']}",
        "",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None) + ".",
        f"Its limits, measured in the same run: {', '.join(reached)}, copy {most['copy'] / 1e9:,.0f} GB/s.",
        "",
    ]
    if report["rows"]:
        lines += table(
            ["network", "batch", "contender", "precision", "images/s", "ms", "× seed", "over bare", "limit", "MB"],
            (
                [r["network"], r["batch"], r["contender"], r["precision"], *speed(r), *ratios(r), memory(r)]
                for r in report["rows"]
            ),
        )
        lines += ["", NOTES]
    if report["sizes"]:
        lines += table(
            ["ours against", "size", "network", "images/s", "ms a step", "MB", "MB beyond the set"],
            (
                [r["what"], f"{r['size']:,}", r["network"], *speed(r), memory(r), memory(r, r["bytes_of_set"])]
                for r in report["sizes"]
            ),
        )
    return "\n".join(lines).rstrip() + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [" | ".join(map(str, row)) for row in [header, ["---"] * len(header), *rows]]
    return [f"| {line} |" for line in lines]


def speed(row: Mapping[str, Any]) -> list[str]:
    """Images a second with their spread, or why there are none; milliseconds."""
    if row["error"] or "milliseconds" not in row:
        return [f"failed: {row['error']}".replace("|", "/"), "–"]
    numbers = f"{row['images_per_second']:,.0f} ({row['slowest']:,.0f}…{row['fastest']:,.0f})"
    return [numbers, f"{row['milliseconds']:.3g}"]


def ratios(row: Mapping[str, Any]) -> list[str]:
    found = [row.get(key) for key in ("times_seed_script", "over_bare_loop", "share_of_limit")]
    return [
        "–" if x is None else form.format(x) for x, form in zip(found, ("{:.2f}", "{:+.0%}", "{:.1%}"), strict=True)
    ]


def memory(row: Mapping[str, Any], without: int = 0) -> str:
    return f"{(row['bytes'] - without) / 1e6:,.0f}" if "bytes" in row else "–"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks.throughput", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--networks", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--batch", nargs="+", type=int, default=[64, 128])
    precisions: list[Precision] = ["32", "bf16"]
    parser.add_argument("--precision", nargs="+", choices=precisions, default=["32"], help="of ours and the bare loop")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="that a contender trains in a round")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/throughput"), help="without .json, .md")
    parser.add_argument("--profile", type=Path, help="a folder for a trace of ours")
    parser.add_argument("--sizes", action="store_true", help="also the cost of ours against sizes:")
    parser.add_argument("--image-sizes", nargs="*", type=int, default=[32, 64, 128, 256])
    parser.add_argument("--channels", nargs="*", type=int, default=[32, 64, 128])
    parser.add_argument("--batches", nargs="*", type=int, default=[16, 64, 256])
    parser.add_argument("--images", nargs="*", type=int, default=[1_000, 10_000, 100_000, 1_000_000])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.throughput {shlex.join(arguments)}".strip(),
        "date": datetime.now().isoformat(timespec="minutes"),
        "machine": in_process(describe, options.device, options.threads),
        "limits": {},
        "rows": [],
        "sizes": [],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    measure_limits(report, options)
    for network in options.networks:
        for batch in options.batch:
            for precision in options.precision:
                case = Case(network, batch, precision, options.device, options.threads)
                report["rows"] += compare(case, options)
                measure_limits(report, options)  # often: others may use the machine too
                write(report, options.output)  # a long run that is cut off leaves what it has
    if options.sizes:
        report["sizes"] = sizes(options)
    write(report, options.output)
    print(markdown(report), end="")


def write(report: Mapping[str, Any], output: Path) -> None:
    output.with_name(f"{output.name}.json").write_text(json.dumps(report, indent=1) + "\n")
    output.with_name(f"{output.name}.md").write_text(markdown(report))


if __name__ == "__main__":
    main(sys.argv[1:])
