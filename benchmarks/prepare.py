"""`prepare` beside a plain pass of torchvision over the same JPEG files, in one run: python -m benchmarks.prepare.

Makes the files; in every round each contender once, one after the other: files/s from the listing of the folder to the
last resized image, ours with shards, checksums and index on the disk. Then the command is killed in the middle and
started again, and a set of a million images is loaded. Prints Markdown; it and the numbers go to
benchmarks/results/prepare.{md,json}.
"""

import argparse
import hashlib
import json
import logging
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.image_folder import RESULTS, machine, write_files
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.listing import UNFINISHED
from gan_lightning.data.preparing import JOURNAL, Job, Preparation
from gan_lightning.data.workers import Work

COMMAND = [sys.executable, "-m", "gan_lightning", "prepare"]
OURS = """
import sys, time
from pathlib import Path
from gan_lightning.data.preparing import Preparation, prepare
root, output, size, workers = sys.argv[1:]
began = time.perf_counter()
prepare(Preparation(Path(root), int(size), 3, workers=int(workers)), Path(output), 256, lambda *_: None, print)
print(time.perf_counter() - began)
"""  # in a process of its own: its workers import what the program imports, which is next to nothing in the command


def torchvision_pass(root: Path, size: int, workers: int) -> float:
    """Seconds for every image once, resized by the same filter; with one worker: in this process, as ours."""
    began = time.perf_counter()
    steps = [
        transforms.Resize(size, transforms.InterpolationMode.LANCZOS),
        transforms.CenterCrop(size),
        transforms.PILToTensor(),
    ]
    images = torchvision.datasets.ImageFolder(str(root), transforms.Compose(steps))
    for _ in DataLoader(images, 64, num_workers=0 if workers == 1 else workers):
        pass
    return time.perf_counter() - began


def ours(root: Path, output: Path, size: int, workers: int) -> float:
    command = [sys.executable, "-c", OURS, str(root), str(output), str(size), str(workers)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(root: Path, folder: Path, about: dict[str, Any]) -> dict[str, list[float]]:
    """Files/s of every contender in every round."""
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(about["rounds"]):
        for some in about["workers"]:
            mine = ours(root, folder / f"prepared {number} {some}", about["size"], some)
            found[f"prepare, data.workers={some}"].append(about["files"] / mine)
            theirs = torchvision_pass(root, about["size"], some)
            found[f"torchvision, {some} process(es) that decode"].append(about["files"] / theirs)
    return dict(found)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def killed(root: Path, output: Path, size: int, workers: int, files: int) -> dict[str, Any]:
    """Killed when half is done and started again: what is there, and how long each took with the program's start."""
    command = [*COMMAND, f"data.root={root}", f"output={output}", f"data.image_size={size}", f"data.workers={workers}"]
    journal = output / UNFINISHED / JOURNAL
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not journal.exists() or journal.read_bytes().count(b'": "') < files / 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = time.perf_counter() - began
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return {"seconds until it was killed": first, "seconds after it": time.perf_counter() - began}


class Named:
    """A source of names alone."""

    def __init__(self, count: int) -> None:
        self.count = count

    def names(self) -> list[str]:
        return [f"{number % 10}/{number:09}.jpg" for number in range(self.count)]

    def dataset(self) -> None:
        return None


def loading(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Seconds until so many images of 4×4 are ready to train on, from a prepared set of them."""
    preparation = Preparation(folder / "names alone", 4, 3)
    preparation.__dict__["source"] = Named(count)
    folder.mkdir()
    job = Job(preparation, folder, preparation.settings(1), lambda *_: None, print)
    present = job.begin()
    work = Work(preparation.root, preparation.decoder, folder, 10**6 // (3 * 4 * 4))
    for number in range(-(-count // work.per_shard)):
        job.make_shard(number, work)
    job.done = dict.fromkeys(range(count), "")
    job.finish(present, {}, work)
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        data = ImageFolder(folder, held_out=0.1, batch_size=64, image_size=4, channels=3, seed=0)
        data.check()
        data.setup()
        next(iter(data.minibatches(epoch=0, start=0, per_batch=8)))
        seconds.append(time.perf_counter() - began)
    return {"images": count, "shards": len(list(folder.glob("shard_*"))), "seconds": seconds}


def table(found: dict[str, list[float]], about: dict[str, Any], again: dict[str, Any], load: dict[str, Any]) -> str:
    lines = [
        f"{about['files']:,} JPEG files of {about['side']}×{about['side']} ({about['megabytes']:.0f} MB) to "
        f"{about['size']}×{about['size']} by Lanczos; medians of {about['rounds']} interleaved rounds (spread).",
        "",
        "| | files/s |",
        "|---|---|",
    ]
    for name, values in found.items():
        middle = statistics.median(values)
        lines.append(f"| {name} | {middle:,.0f} ({min(values):,.0f} to {max(values):,.0f}) |")
    hardware = ", ".join(f"{key} {value}" for key, value in about["machine"].items())
    same = "the same bytes as" if again["identical"] else "OTHER BYTES than"
    return "\n".join(
        [
            *lines,
            "",
            f"Killed (SIGKILL) after {again['seconds until it was killed']:.1f} s, with half of the files done, the "
            f"command ended {again['seconds after it']:.1f} s after its second start with {same} an uninterrupted one.",
            f"A set of {load['images']:,} images (4×4, {load['shards']} shards) gives its first batch after "
            f"{statistics.median(load['seconds']):.2f} s (median of {len(load['seconds'])}).",
            f"{hardware}.",
            f"`{about['command']}`",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=128, help="of the JPEG files")
    parser.add_argument("--size", type=int, default=64, help="of the images for training")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes that decode")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1_000_000, help="of the set that is loaded")
    given = parser.parse_args()
    cores = max(given.workers)
    torch.set_num_threads(cores)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    logging.getLogger("gan_lightning").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        about = vars(given) | {"megabytes": write_files(folder / "photos", given.files, given.side)}
        found = measure(folder / "photos", folder, about)
        again = killed(folder / "photos", folder / "killed", given.size, cores, given.files)
        again["identical"] = digests(folder / "killed") == digests(folder / f"prepared 0 {given.workers[0]}")
        load = loading(folder / "large", given.images, given.rounds)
    about |= {
        "machine": machine(cores),
        "command": shlex.join(["python", "-m", "benchmarks.prepare", *sys.argv[1:]]),
    }
    text = table(found, about, again, load)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "prepare.md").write_text(text + "\n")
    kept = about | {"found": found, "killed": again, "loading": load}
    (RESULTS / "prepare.json").write_text(json.dumps(kept, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
