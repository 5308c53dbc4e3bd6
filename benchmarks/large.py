"""Throughput and memory of large models at published widths: python -m benchmarks.large [--device cuda] [--threads N]

Trains each for some minibatches by the project's own command on random images, in a process of its own, without and
with `step.recompute`. Minibatches with and without penalties are timed apart and weighed as they come; FLOPs are
PyTorch's own count. Writes benchmarks/results/large.md.
"""

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from math import lcm
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.machine import describe, limits
from benchmarks.ours import random_pixels
from benchmarks.runner import in_process, memory_status
from gan_lightning.callbacks.samples import SampleGrids
from gan_lightning.commands import train
from gan_lightning.config import signatures
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.sets import InMemory
from gan_lightning.steps import Counters, Step, next_turn

RESULT = Path(__file__).parent / "results" / "large.md"
CLASSES = 10
WIDER = ["model.generator.base_channels=64", "model.discriminator.base_channels=64"]
CASES: dict[str, tuple[int, list[str]]] = {  # images of a minibatch on a CPU, arguments
    "DCGAN, 32": (64, ["model=dcgan", "data.image_size=32"]),
    "StyleGAN2 with ADA, CIFAR-10": (8, ["experiment=stylegan2_ada_cifar10"]),
    "StyleGAN2, 256": (2, ["model=stylegan2", "data.image_size=256", *WIDER]),
    "R3GAN, CIFAR-10": (4, ["experiment=r3gan_cifar10"]),
    "R3GAN, 256": (1, ["experiment=r3gan_ffhq256"]),
    "ProGAN, 256, grown": (2, ["model=progan", "data.image_size=256", "model.fade_images=1", "model.stable_images=1"]),
    "BigGAN, CIFAR-10": (16, ["experiment=biggan_cifar10"]),
    "BigGAN, 128": (2, ["experiment=biggan_imagenet128", "step.accumulate=1"]),
}
PROTOCOL = """\
Images/s: real images shown to the discriminator, a cycle of all penalties; of each kind of minibatch the median. GFLOP:
of an image in that cycle, by PyTorch's counter. Of the limit: that work beside the faster of a matrix product and a 3×3
convolution in float32 on the same threads, measured before. MB: the most memory beyond what the imports need (on a GPU:
allocated there). Recompute: the same with step.recompute=true. Random images. The counter takes the backward pass of a
grouped convolution for that of a whole one: R3GAN's GFLOP and share are too large.
"""


class RandomFolder(ImageFolder):
    """A folder's configuration, and random pixels."""

    def check(self) -> None:
        """They are always there."""

    def load(self) -> tuple[InMemory, InMemory, list[str]]:
        pixels = random_pixels(256, self.channels, self.image_size)
        return InMemory(pixels, torch.arange(256) % CLASSES), InMemory(pixels[:2]), [str(n) for n in range(CLASSES)]


class Flops(TorchDispatchMode):
    """Adds up PyTorch's own counts; its FlopCounterMode cannot follow gradients of gradients through modules."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


class Stopwatch(SampleGrids):
    """Sample grids that draw nothing: times minibatches by kind, and counts the FLOPs of one of each."""

    seconds: float
    answer: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[tuple[bool, ...], list[float]] = defaultdict(list)
        self.flops: dict[tuple[bool, ...], int] = {}
        self.counter: Flops | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.deadline = time.perf_counter() + self.seconds
        self.begin(pl_module)

    def kind(self, step: Step, phase: Any, counters: Counters) -> tuple[bool, ...]:
        turn = next_turn(step, phase, counters, 10**9)
        return turn.penalty, turn.generator and turn.generator_penalty, turn.generator

    def begin(self, module: Any) -> None:
        self.now = self.kind(module.step, module.phase, module.counters)
        if (
            len(self.times[self.now]) == 1 and self.now not in self.flops
        ):  # the second of its kind is counted, not timed
            self.counter = Flops()
            self.counter.__enter__()
        self.begun = time.perf_counter()

    def on_minibatch_end(self, trainer: Any, module: Any) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - self.begun
        if self.counter is not None:
            self.counter.__exit__(None, None, None)
            self.flops[self.now] = self.counter.total
            self.counter = None
        elif module.phase is module.phases[-1]:
            self.times[self.now].append(taken)
        if time.perf_counter() > self.deadline and self.cycle(module):
            trainer.should_stop = True
        self.begin(module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """No film."""

    def cycle(self, module: Any) -> bool:
        """Whether all kinds of a cycle were seen, and then what one costs."""
        step, counters = module.step, replace(module.counters, minibatches=0, discriminator_steps=0, generator_steps=0)
        counters.critic_steps, kinds = 0, []
        for _ in range(lcm(step.penalty_every, step.generator_penalty_every) * step.critic_steps):
            kinds.append(self.kind(step, module.phase, counters))
            counters.count(next_turn(step, module.phase, counters, 10**9), 0, 10**9)
        if any(len(self.times[kind]) < 2 or kind not in self.flops for kind in kinds):
            return False
        medians = {kind: statistics.median(self.times[kind][1:]) for kind in set(kinds)}
        self.answer["seconds"] = statistics.mean(medians[kind] for kind in kinds)
        self.answer["flops"] = statistics.mean(self.flops[kind] for kind in kinds)
        return True


def measured(arguments: list[str], batch: int, device: str, threads: int, seconds: float) -> dict[str, Any]:
    """Seconds and FLOPs of a minibatch, and bytes; in a process of its own."""
    from benchmarks.large import Stopwatch  # as the configuration names it: this process's main module is another

    torch.set_num_threads(threads)
    Stopwatch.seconds, Stopwatch.answer = seconds, {}
    signatures.ALLOWED = (*signatures.ALLOWED, "benchmarks.")
    before = memory_status()["RssAnon"]
    settings = [
        *(["data=image_folder"] if arguments[0].startswith("model=") else []),
        "data._target_=benchmarks.large.RandomFolder",
        "data.root=.",
        f"data.classes={CLASSES}",
        f"data.batch_size={batch}",
        "samples._target_=benchmarks.large.Stopwatch",
        "~samples.every_images",
        "~samples.count",
        "scores=off",
        "checkpoints.every_minutes=null",
        f"trainer.accelerator={device}",
        "trainer.precision=32-true",
        "trainer.enable_progress_bar=false",
        "trainer.max_epochs=1000000",
        "budget.images=1000000000",
        "budget.generator_steps=null",
        "step.minibatches=1",
    ]
    with tempfile.TemporaryDirectory() as folder:
        train.run([*arguments, *settings, f"hydra.run.dir={folder}/run"])
    status = memory_status()
    peak = status["VmHWM"] - status["RssFile"] - before
    return Stopwatch.answer | {"bytes": torch.cuda.max_memory_allocated() if device == "gpu" else peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20, help="of every case, at least")
    parser.add_argument("--times", type=int, default=1, help="minibatches so many times as large")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES), metavar="CASE")
    given = parser.parse_args()
    machine = describe(given.device, given.threads)
    fastest = limits("cuda" if given.device == "cuda" else "cpu", given.threads, 2.0)
    limit = max(fastest["gemm_fp32"], fastest["conv_fp32"])
    lines = [
        "| | images a minibatch | images/s | GFLOP an image | of the limit | MB | recompute: images/s | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    accelerator = {"cpu": "cpu", "cuda": "gpu"}[given.device]
    for name in given.cases:
        count, arguments = CASES[name]
        batch, cells = count * given.times, []
        for recompute in (False, True):
            if recompute and arguments[0] == "model=dcgan":
                cells += ["–", "–"]
                continue
            more = [f"step.recompute={str(recompute).lower()}"]
            found = in_process(measured, [*arguments, *more], batch, accelerator, given.threads, given.seconds)
            print(name, recompute, json.dumps(found), flush=True)
            cells.append(f"{batch / found['seconds']:.3g}")
            if not recompute:
                share = found["flops"] / found["seconds"] / limit
                cells += [f"{found['flops'] / batch / 1e9:.3g}", f"{share:.0%}"]
            cells.append(f"{found['bytes'] / 1e6:,.0f}")
        lines.append(f"| {name} | {batch} | {' | '.join(cells)} |")
    command = f"python -m benchmarks.large {shlex.join(sys.argv[1:])}"
    where = f"{json.dumps(machine)}, limit {limit / 1e9:,.0f} GFLOP/s, `{command}`"
    RESULT.write_text(PROTOCOL + "\n" + "\n".join(lines) + f"\n\n{where}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
