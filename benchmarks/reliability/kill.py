"""Kills runs at random moments and continues them until they end:

    python -m benchmarks.reliability.kill [model …] [key=value …]

    --kills N     SIGKILLs for each model (10)
    --seed S      of the moments
    --folder F    where the runs are (a temporary folder, which is removed)

What is left must be what an undisturbed run leaves: weights, averages, optimizers, counters, metrics.csv and
scores.jsonl (but for wall clocks), TensorBoard's events, samples and the names of all files. Exits with 1 where it is
not. Every start is a fork of this process, which has imported everything. The kernel sends the SIGKILL by a timer
that the run itself sets when it enters the phase that was drawn, so that moments lie closer together than another
process could see. Linux only.
"""

import argparse
import contextlib
import csv
import ctypes
import json
import mmap
import os
import pickle
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.callbacks.samples import SampleGrids
from gan_lightning.checkpoint import AtomicCheckpointIO, read_checkpoint
from gan_lightning.commands import train
from gan_lightning.config import composition
from gan_lightning.loggers import CSV, TensorBoard
from gan_lightning.metrics import records
from gan_lightning.metrics.scoring import Scorer

SMALL = [f"model.{player}.base_channels=4" for player in ("generator", "discriminator")]
QUARTER = ["data.image_size=16", "data.batch_size=32", "data.subset=0.25"]
ORACLE = ["data=oracle", "data.vocabulary=20", "data.length=6", "data.samples=640", "data.held_out_samples=64"]
ORACLE += ["data.batch_size=32"]
CASES = {
    "dcgan": ["model=dcgan", *SMALL],
    "gan": ["model=gan", "model.generator.hidden=[16]", "model.discriminator.hidden=[16]"],
    "points": ["model=gan", "data=ring", "network@model=mlp_points", "data.samples=1408", "scores.names=null"],
    "cgan": ["model=cgan"],
    "wgan_gp": ["model=wgan_gp", *SMALL],
    "stylegan2": [
        "model=stylegan2",
        "model.generator.base_channels=4",
        "model.generator.max_channels=8",
        "model.discriminator.base_channels=4",
        "model.discriminator.max_channels=8",
        "model.generator.style_size=8",
        "model.ada.pipeline=bgc",
    ],
    "biggan": ["model=biggan", *SMALL],
    "progan": [
        "model=progan",
        "data.image_size=16",
        *(f"model.{player}.max_channels=4" for player in ("generator", "discriminator")),
        "model.generator.latent_size=4",
        "model.fade_images=300",
        "model.stable_images=300",
    ],
    "pix2pix": [
        "model=pix2pix",
        "data=paired_digits",
        *QUARTER,
        "model.generator.base_channels=2",
        "model.discriminator.base_channels=2",
        "model.discriminator.levels=1",
    ],
    "cyclegan": [
        "model=cyclegan",
        *QUARTER,
        "model.pool=40",
        "model.generator.network.base_channels=2",
        "model.generator.network.blocks=1",
        "model.discriminator.network.base_channels=2",
        "model.discriminator.network.levels=1",
    ],
    "srgan": [
        "model=srgan",
        "data.image_size=16",
        "data.crops=176",
        "data.batch_size=32",
        "model.generator.base_channels=2",
        "model.generator.blocks=1",
        "model.discriminator.base_channels=2",
        "model.discriminator.hidden=4",
        "model.perceptual=standin",
        "model.pretraining_images=375",
        "scores.names=[psnr_y]",
    ],
    "deepfill": [
        "model=deepfill",
        *QUARTER,
        "model.generator.base_channels=4",
        "model.discriminator.base_channels=2",
        "scores.names=[diversity]",
    ],
    "seqgan": [
        "model=seqgan",
        *ORACLE,
        *("model.pretraining_images=300", "model.discriminator_images=200", "model.rollouts=2"),
        *("step.critic_steps=2", "scores.names=null"),
    ],
    "relgan": [
        "model=relgan",
        *ORACLE,
        *("model.pretraining_images=300", "model.growth_images=500", "model.generator.head_size=4"),
        *(f"model.discriminator.{key}=4" for key in ("representations", "filters", "hidden")),
        "scores.names=null",
    ],
    "wavegan": [
        "model=wavegan",
        *("data.samples=256", "data.count=256", "data.batch_size=16"),
        *(f"model.{p}.{k}" for p in ("generator", "discriminator") for k in ("base_channels=2", "kernel=9")),
        "scores.names=[diversity]",
    ],
    "dpgan": ["model=dpgan", *SMALL],
}
COMMON = [
    "seed=3",
    "data.batch_size=128",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=3",
    "trainer.max_epochs=2",
    "samples.every_images=300",
    "samples.count=4",
    "scores.every=200",
    "scores.samples=64",
    "scores.real_samples=64",
    "scores.share=0.000001",  # glances come by the clock
    "checkpoints.every_minutes=0.001",
    "checkpoints.every_epochs=1",
    "checkpoints.keep=1",
    "model.generator_schedule={_target_: gan_lightning.schedules.Linear, horizon: 40}",
    "model.discriminator_schedule={_target_: gan_lightning.schedules.Cosine, horizon: 40}",
]
WALL_CLOCK = {"seconds", "images_per_second"}
PHASES = ("start", "step", "epoch end", "checkpoint", "scores", "samples", "metrics", "run's end")
NOW = mmap.mmap(-1, 1)  # the phase that a forked run is in


# ---- in the process that is killed ----------------------------------------------------------------------------------


class Timer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")]


class Event(ctypes.Structure):
    _fields_ = [
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("padding", ctypes.c_int * 12),
    ]


def kill_in(seconds: float) -> None:
    """The kernel sends SIGKILL to this process."""
    c, timer = ctypes.CDLL(None), ctypes.c_void_p()
    if c.timer_create(1, ctypes.byref(Event(None, signal.SIGKILL, 0)), ctypes.byref(timer)):
        raise OSError("timer_create failed")
    whole, rest = divmod(max(1, round(seconds * 1e9)), 10**9)
    c.timer_settime(timer, 0, ctypes.byref(Timer(0, 0, whole, rest)), None)


class Phases:
    """Notes which phase the process is in, and for how long; sets the timer in the one that was drawn."""

    def __init__(self, wanted: str | None, times: int, seconds: float) -> None:
        self.wanted, self.times, self.seconds = wanted, times, seconds
        self.lasted: dict[str, list[float]] = {phase: [] for phase in PHASES}

    def enter(self, phase: str) -> int:
        before = NOW[0]
        if PHASES[before] != "epoch end":  # the checkpoints that are written there belong to it
            NOW[0] = PHASES.index(phase)
        if phase == self.wanted:
            self.times -= 1
            if self.times == 0:
                kill_in(self.seconds)
        return before

    def watch(self, owner: Any, name: str, phase: str) -> None:
        """Makes a phase of a method."""
        method = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            before, began = self.enter(phase), time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.lasted[phase].append(time.perf_counter() - began)
                NOW[0] = before

        setattr(owner, name, watched)

    def watch_all(self) -> None:
        self.watch(AdversarialModule, "minibatch_step", "step")
        self.watch(AtomicCheckpointIO, "save_checkpoint", "checkpoint")
        self.watch(Scorer, "score", "scores")
        self.watch(SampleGrids, "_show", "samples")
        self.watch(CSV, "log_metrics", "metrics")
        self.watch(TensorBoard, "log_metrics", "metrics")
        self.watch(records, "append", "metrics")
        for callback in (SampleGrids, Checkpoints):
            self.watch(callback, "on_train_end", "run's end")
        told = Checkpoints.on_minibatch_end

        def at_epoch_end(callback: Checkpoints, trainer: Any, module: Any) -> None:
            before = self.enter("epoch end") if module.counters.epoch_minibatches == 0 else NOW[0]
            began = time.perf_counter()
            told(callback, trainer, module)
            if before != NOW[0]:
                self.lasted["epoch end"].append(time.perf_counter() - began)
                NOW[0] = before

        setattr(Checkpoints, told.__name__, at_epoch_end)


def fork(work: Callable[[], int], log: Path) -> int:
    """The number of a process that does `work` and ends with its exit code; it prints to `log`."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
        code = work()
    except BaseException:  # whatever it is, the fork ends here
        traceback.print_exc()
    finally:
        os._exit(code)


def start(arguments: list[str], log: Path, plan: tuple[str | None, int, float], lasted: Path | None = None) -> int:
    """Runs the command in a fork; the phase in which it was killed, or -1 where it came to its end.

    Raises RuntimeError where it ended with an error.
    """

    def work() -> int:
        print("---", *arguments, plan)
        phases = Phases(*plan)
        NOW[0] = 0
        phases.watch_all()
        phases.enter("start")
        code = train.run(arguments)
        if lasted:
            lasted.write_text(json.dumps(phases.lasted))
        return code

    _, how = os.waitpid(fork(work, log), 0)
    if os.WIFSIGNALED(how) and os.WTERMSIG(how) == signal.SIGKILL:
        return NOW[0]
    if how:
        raise RuntimeError(f"a start ended with {os.waitstatus_to_exitcode(how)}: {log.read_text()[-3000:]}")
    return -1


# ---- what a run leaves ----------------------------------------------------------------------------------------------


def left(folder: Path) -> dict[str, Any]:
    """Everything that must not depend on interruptions."""
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    checkpoint["counters"].pop("seconds")
    for state in checkpoint["callbacks"].values():
        for key in ("seconds", "glance_seconds", "events"):
            state.pop(key, None)
    with (folder / "metrics.csv").open() as file:
        metrics = [{k: v for k, v in row.items() if k not in WALL_CLOCK} for row in csv.DictReader(file)]
    scores = [{k: v for k, v in line.items() if k != "seconds"} for line in records.lines(folder / records.FILE)]
    names = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file() and "tfevents" not in f.name)
    samples = {name: (folder / name).read_bytes() for name in names if name.startswith("samples/")}
    best = folder / "checkpoints" / "best.ckpt"
    return {
        "weights": checkpoint["state_dict"],
        "optimizers": checkpoint["optimizer_states"],
        "counters": checkpoint["counters"],
        "callbacks": checkpoint["callbacks"],
        "metrics.csv": metrics,
        "scores.jsonl": scores,
        "events": events(folder),
        "files": names,
        "samples": samples,
        "best": read_checkpoint(best)["counters"]["images"] if best.exists() else None,
        "status": json.loads((folder / "status.json").read_text())["state"],
    }


def events(folder: Path) -> dict[str, list[Any]]:
    """TensorBoard's own view of a run: steps and values by tag."""
    found = EventAccumulator(str(folder), {"scalars": 0, "images": 0, "tensors": 0, "audio": 0})
    found.Reload()
    tags = found.Tags()
    made = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in tags["scalars"] if tag not in WALL_CLOCK}
    made |= {tag: [(e.step, e.encoded_image_string) for e in found.Images(tag)] for tag in tags["images"]}
    made |= {tag: [(e.step, e.encoded_audio_string) for e in found.Audio(tag)] for tag in tags["audio"]}
    return made | {tag: [(e.step, str(e.tensor_proto)) for e in found.Tensors(tag)] for tag in tags["tensors"]}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What of two runs differs, in words."""
    found = []
    for name in ("weights", "optimizers"):
        try:
            torch.testing.assert_close(one.pop(name), other.pop(name), rtol=0, atol=0)
        except AssertionError as error:
            found.append(f"{name}: {str(error)[:300]}")
    for name, value in one.items():
        if value == other[name]:
            continue
        if isinstance(value, dict):
            keys = [key for key in {**value, **other[name]} if value.get(key) != other[name].get(key)]
            value, its = {k: value.get(k) for k in keys[:2]}, {k: other[name].get(k) for k in keys[:2]}
        else:
            its = other[name]
        found.append(f"{name}: {str(value)[:600]} and undisturbed {str(its)[:600]}")
    return found


# ---- many of them ---------------------------------------------------------------------------------------------------


def remember_composed() -> None:
    """What Hydra composed in this process is not composed again in its forks."""
    compose, known = composition.run_hydra, {}

    def once(command: str, texts: Any) -> Any:
        key = command, *texts
        if key not in known:
            known[key] = pickle.dumps(compose(command, texts))
        return pickle.loads(known[key])

    composition.run_hydra = once


def series(model: str, kills: int, stream: random.Random, folder: Path, more: list[str]) -> tuple[Counter, list[str]]:
    """Kills runs of a model until there were so many; by phase how many, and what differed."""
    arguments = [*COMMON, *CASES[model], *more]

    def command(run: Path) -> list[str]:
        typed = [*arguments, f"hydra.run.dir={run}"]
        train.compose("train", typed, train.Settings)  # once for all starts
        return typed

    whole = folder / "undisturbed"
    began = time.perf_counter()
    start(command(whole), folder / "undisturbed.txt", (None, 0, 0.0), folder / "lasted.json")
    seconds = time.perf_counter() - began
    lasted: dict[str, list[float]] = json.loads((folder / "lasted.json").read_text())
    wanted = ["start", *(phase for phase in PHASES if lasted[phase])]
    hit, found, number = Counter(), [], 0
    while hit.total() < kills:
        number += 1
        run = folder / f"run{number}"
        typed = command(run)
        while True:
            plan: tuple[str | None, int, float] = (None, 0, 0.0)
            phase = stream.choice(wanted)
            if hit.total() < kills:
                longest = seconds if phase == "start" else 1.3 * max(lasted[phase])
                plan = phase, 1 if phase == "start" else stream.randint(1, max(2, len(lasted[phase]) // 3)), 0.0
                plan = *plan[:2], stream.uniform(0, longest)
            again = (run / "checkpoints" / "last.ckpt").exists() and stream.random() < 0.5
            killed = start([f"checkpoint={run}"] if again else typed, folder / f"run{number}.txt", plan)
            if killed < 0:
                break
            hit[PHASES[killed]] += 1
        found += [f"{model}, run {number}: {one}" for one in differences(left(run), left(whole))]
    return hit, found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.reliability.kill")
    parser.add_argument("models", nargs="*", metavar="model or key=value")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(arguments)
    more = [text for text in given.models if "=" in text]
    models = [text for text in given.models if "=" not in text] or list(CASES)
    torch.set_num_threads(1)
    remember_composed()
    wrong: list[str] = []
    with contextlib.ExitStack() as stack:
        root = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        print("| model | kills |", *(f"{phase} |" for phase in PHASES), "seconds | differs |")
        print("|---|---|", *("---|" for _ in PHASES), "---|---|")
        for model in models:
            began, place = time.perf_counter(), root / model
            place.mkdir(parents=True)
            hit, found = series(model, given.kills, random.Random(f"{given.seed} {model}"), place, more)
            numbers = (f"{hit[phase]} |" for phase in PHASES)
            took = time.perf_counter() - began
            print(f"| {model} | {hit.total()} |", *numbers, f"{took:.0f} | {len(found)} |", flush=True)
            wrong += found
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
