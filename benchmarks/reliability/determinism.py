"""Which runs are bit for bit the same: `python -m benchmarks.reliability.determinism [model …]`.

The same command in processes of their own, again, with more threads, and with the data loaded by workers. Compared are
weights, optimizer states, scores and the pixels of the samples with the first run of the row. Prints Markdown; ends
with 1 where a second process or a number of workers makes a difference.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from gan_lightning.checkpoint import read_checkpoint

SMALL = ["model.generator.base_channels=4", "model.discriminator.base_channels=4"]
MODELS = {
    "gan": ["model=gan"],
    "dcgan": ["model=dcgan", *SMALL],
    "wgan_gp": ["model=wgan_gp", *SMALL],
    "biggan": ["model=biggan", *SMALL],
    "stylegan2": ["model=stylegan2", *SMALL, "data.image_size=16"],
    "cyclegan": [
        *("model=cyclegan", "data.image_size=16", "data.batch_size=16", "data.subset=0.25"),
        *(f"model.{player}.network.base_channels=2" for player in ("generator", "discriminator")),
        *("model.generator.network.blocks=1", "model.discriminator.network.levels=1"),
    ],
    "relgan": ["model=relgan", "data.batch_size=16"],
    "wavegan": ["model=wavegan", *SMALL, "data.batch_size=16"],
}
COMMON = [
    *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "budget.generator_steps=20", "samples.count=4"),
    *("scores.samples=256", "scores.real_samples=256", "scores.force=true", "trainer.log_every_n_steps=5"),
]
ON = ["trainer.deterministic=true"]
COLUMNS = {  # what is changed in the other run: threads, arguments
    "again": (1, ON),
    "again, 4 threads both": (4, ON),
    "4 threads": (4, ON),
    "1 worker": (1, [*ON, "data.workers=1"]),
    "2 workers": (1, [*ON, "data.workers=2"]),
    "deterministic=false": (1, []),
}
MUST = ("again", "again, 4 threads both", "1 worker", "2 workers")


def run(model: str, threads: int, arguments: list[str]) -> dict[str, Any]:
    """What a run ends with: of its checkpoint, its scores and its samples."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        command = [sys.executable, "-m", "gan_lightning", *MODELS[model], *COMMON, *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [*command, f"hydra.run.dir={folder}"], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{model}: {done.stderr[-500:]}")
        stored = read_checkpoint(folder / "checkpoints" / "last.ckpt")
        lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
        files = sorted(path for path in (folder / "samples").rglob("*") if path.is_file())
        return {
            "weights": stored["state_dict"],
            "optimizers": stored["optimizer_states"],
            "scores": [(line["metric"], line["value"]) for line in lines],
            "samples": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        }


def difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Nothing, or which of both are not the same, and how far weights are apart."""
    found = []
    for part in ("weights", "optimizers"):
        try:
            torch.testing.assert_close(one[part], other[part], rtol=0, atol=0, equal_nan=True)
        except AssertionError:
            found.append(part)
    if "weights" in found:
        pairs = [(value, other["weights"][key]) for key, value in one["weights"].items()]
        most = max(float((left.double() - right.double()).abs().max()) for left, right in pairs if left.numel())
        found[found.index("weights")] = f"weights by {most:.1g}"
    return ", ".join([*found, *(part for part in ("scores", "samples") if one[part] != other[part])])


def main() -> int:
    failed = []
    print(f"| model | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for model in sys.argv[1:] or MODELS:
        first = {threads: run(model, threads, ON) for threads in (1, 4)}
        cells = []
        for column, (threads, arguments) in COLUMNS.items():
            reference = first[4 if column == "again, 4 threads both" else 1]
            other = first[4] if column == "4 threads" else run(model, threads, arguments)
            found = difference(reference, other)
            failed += [f"{model}, {column}"] if found and column in MUST else []
            cells.append(found or "the same")
        print(f"| {model} | {' | '.join(cells)} |", flush=True)
    if failed:
        print(f"not the same: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
