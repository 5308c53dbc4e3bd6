"""Decodes images of a folder or zip file once, into shards that training maps into memory. Without torch: for workers.

In the folder that is made:

- `shard_00000.npy` …: pixels uint8 (n, C, H, W), in the order of training (`listing.hashed`);
- `labels.npy` (N,): -1 where a file was left out, whose pixels are 0; `numbers.npy` (N,): what images are held out by;
- `images.jsonl`: a line for each image, [name, label];
- `unreadable.txt`: the files that were left out, and why;
- `prepared.json`: settings, versions, classes, and the SHA-256 of every file. It is written last: without it nothing
  counts, and `.unfinished/` says what is done.
"""

import errno
import hashlib
import io
import itertools
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL

import gan_lightning
from gan_lightning.data.decoding import VERSION, Decoder, Fit, Resample
from gan_lightning.data.listing import (
    INDEX,
    LABELS_FILE,
    NAMES_FILE,
    NUMBERS_FILE,
    UNFINISHED,
    UNREADABLE_FILE,
    classes_and_labels,
    first_difference,
    hashed,
    read_index,
)
from gan_lightning.data.sources import Archive, Folder, cannot_be_read, open_source
from gan_lightning.data.workers import Work, header, results, shard_path
from gan_lightning.errors import UserError
from gan_lightning.locks import lock
from gan_lightning.paths import expand
from gan_lightning.types import PositiveInt

MB = 10**6
TASK, BLOCK = 128, 2**25  # most images that a worker is given at a time, and bytes of their pixels
FLUSH = 1.0  # seconds of work that a power cut can cost
LISTED = 20  # names shown in an error
SETTINGS, NAMES, JOURNAL = "settings.json", "names.json", "journal.jsonl"  # in .unfinished
Told = Callable[[str, int, int], None]  # what is done, how much of it, of how much


class Preparation:
    """Which images, and what is made of them: as in conf/data/image_folder.yaml.

    Args:
        root: a folder, or a zip file that is read where it is.
        workers: processes that decode; None: as many as there are cores.
    """

    def __init__(
        self,
        root: Path,
        image_size: PositiveInt,
        channels: Literal[1, 3],
        fit: Fit = "crop",
        resample: Resample = "lanczos",
        labels: bool = True,
        skip_unreadable: bool = False,
        workers: PositiveInt | None = None,
    ) -> None:
        self.root = expand(root)
        self.decoder = Decoder(image_size, channels, fit, resample)
        self.labels = labels
        self.skip_unreadable = skip_unreadable
        self.workers = workers or (len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)

    @cached_property
    def source(self) -> Folder | Archive:
        return open_source(self.root)

    def settings(self, shard_mb: int) -> dict[str, Any]:
        """What the result depends on, by its key; the order and the number of workers are none of it."""
        return {
            "data.root": str(self.root.absolute()),
            "data.image_size": self.decoder.size,
            "data.channels": self.decoder.channels,
            "data.fit": self.decoder.fit,
            "data.resample": self.decoder.resample,
            "data.labels": self.labels,
            "shard_mb": shard_mb,
        }


def versions() -> dict[str, Any]:
    return {"gan_lightning": gan_lightning.__version__, "pillow": PIL.__version__, "decoding": VERSION}


def prepare(preparation: Preparation, output: Path, shard_mb: int, told: Told, said: Callable[[str], object]) -> bool:
    """Makes the folder, or goes on with it; False where there was nothing to do.

    Raises UserError where it was made, or begun, with other arguments, and for files that cannot be read: after all
    others are done.
    """
    settings = preparation.settings(shard_mb)
    refuse_others(output, settings)
    if not os.path.isfile(output / INDEX):
        preparation.source.check()
        if preparation.labels:  # a wrong dataset.json is said before anything is written
            classes_and_labels(preparation.source.names(), preparation.source.dataset())
    try:
        output.mkdir(parents=True, exist_ok=True)
        with lock(
            output / ".lock", lambda: said(f"output={output}: another process is at work here; waiting for it")
        ) as held:
            if not held:
                said(f"output={output}: there are no locks here, so let no other process work in it")
            refuse_others(output, settings)  # which may have come first
            if os.path.isfile(output / INDEX):
                shutil.rmtree(output / UNFINISHED, ignore_errors=True)  # of a process that was killed at the very end
                return False
            Job(preparation, output, settings, told, said).run()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = f"{where}{error.strerror or error}; the same command goes on from here"
        raise UserError(f"output={output}: {reason}") from error
    return True


def refuse_others(output: Path, settings: dict[str, Any]) -> None:
    """Raises UserError for a folder that holds something else, or the same with other arguments."""
    if os.path.exists(output) and not os.path.isdir(output):
        raise UserError(f"output={output}: not a folder")
    if os.path.islink(output / UNFINISHED):
        raise UserError(f"output={output}: its folder {UNFINISHED} is a link, through which nothing is written")
    if os.path.isfile(output / INDEX):
        there, verb = read_index(output), "made"
    elif os.path.isfile(output / UNFINISHED / SETTINGS):
        verb = "begun"
        try:
            there = json.loads((output / UNFINISHED / SETTINGS).read_bytes())
            was, now = dict(there["versions"]), versions()
            first_difference(settings, there["settings"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{output / UNFINISHED / SETTINGS}: cannot be read: {error}; choose another folder"
            ) from None
        if was != now:
            name = next(name for name in now if was.get(name) != now[name])
            raise UserError(
                f"output={output}: was begun with {name} {was.get(name)}, this is {now[name]}; choose another folder"
            )
    else:
        held = set(os.listdir(output)) - {".lock", UNFINISHED} if os.path.isdir(output) else set()
        if held:
            raise UserError(f"output={output}: holds other files, such as {min(held)}; choose another folder")
        return
    if different := first_difference(settings, there["settings"]):
        raise UserError(f"{different[0]}: {output} was {verb} with {different[1]}; choose another folder")


@dataclass
class Job:
    """One run of the command, in a folder that it alone writes to."""

    preparation: Preparation
    output: Path
    settings: dict[str, Any]
    told: Told
    said: Callable[[str], object]
    names: list[str] = field(default_factory=list)  # of the files, by row: in the order of training
    done: dict[int, str] = field(default_factory=dict)  # stamps of the files whose pixels are written, by row
    unreadable: dict[int, str] = field(default_factory=dict)  # reasons, by row

    def run(self) -> None:
        present = self.begin()
        root, decoder, source = self.preparation.root, self.preparation.decoder, self.preparation.source
        image = decoder.channels * decoder.size**2
        work = Work(root, decoder, self.output, max(1, self.settings["shard_mb"] * MB // image))
        shards = list(range(-(-len(self.names) // work.per_shard)))
        there = [self.has_shard(number, work) for number in shards]
        todo = [
            row
            for row, name in enumerate(self.names)
            if name in present
            and not (row in self.done and there[row // work.per_shard] and self.done[row] == source.stamp(name))
        ]
        free = shutil.disk_usage(self.output).free
        if len(todo) * image > 0.9 * free:
            needed = f"{len(todo) * image / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free"
            raise OSError(errno.ENOSPC, needed)
        if len(todo) < len(present):
            self.said(
                f"output={self.output}: {len(present) - len(todo):,} of {len(present):,} images are there already"
            )
        for row in todo:
            self.done.pop(row, None)
            self.unreadable.pop(row, None)
        write_whole(self.output / UNFINISHED / JOURNAL, journal_line(self.done, self.unreadable))
        for number in shards:
            if not there[number]:
                self.make_shard(number, work)
        self.decode(todo, work)
        unreadable = {self.names[row]: reason for row, reason in sorted(self.unreadable.items())}
        lines = [f"{name!r}: {reason}\n" for name, reason in sorted(unreadable.items())]
        if lines:
            write_whole(self.output / UNREADABLE_FILE, "".join(lines).encode())
        else:
            (self.output / UNREADABLE_FILE).unlink(missing_ok=True)
        if lines and not self.preparation.skip_unreadable:
            more = f"\nAll are in {self.output / UNREADABLE_FILE}; the other {len(self.done):,} images are done. "
            raise cannot_be_read(root, unreadable, LISTED, f"{more}Mended or deleted, they alone are read again.")
        if not self.done:
            raise UserError(f"data.root={root}: none of its {len(present)} images can be read: {lines[0].strip()}")
        self.finish(present, unreadable, work)

    def begin(self) -> set[str]:
        """Reads what is done, or writes down what there is to do; the names of the files that are there now."""
        folder = self.output / UNFINISHED
        names = self.preparation.source.names()
        if line := self.preparation.source.links():
            self.said(line)
        if self.preparation.labels:  # a wrong dataset.json is said before any work
            classes_and_labels(names, self.preparation.source.dataset())
        present = set(names)
        if not (folder / SETTINGS).is_file():
            folder.mkdir(exist_ok=True)
            self.names = sorted(names, key=hashed, reverse=True)  # as ImageFolder.load has them
            write_whole(folder / NAMES, json.dumps(self.names).encode())
            write_whole(
                folder / SETTINGS, json.dumps({"settings": self.settings, "versions": versions()}, indent=1).encode()
            )
            return present
        self.names = names_begun(folder / NAMES)
        new = present - set(self.names)
        if new:
            raise UserError(
                f"data.root={self.preparation.root}: {min(new)} was added ({len(new):,} file(s) in all) since "
                f"{self.output} was begun; choose another folder"
            )
        journal = folder / JOURNAL
        for line in journal.read_bytes().splitlines() if journal.exists() else ():
            try:
                stamps, reasons = ({int(row): str(said) for row, said in part.items()} for part in json.loads(line))
            except (ValueError, TypeError, AttributeError, RecursionError):  # the last line, of a power cut
                break
            if not all(0 <= row < len(self.names) for row in (*stamps, *reasons)):
                break
            for row in (*stamps, *reasons):
                self.done.pop(row, None)
                self.unreadable.pop(row, None)
            self.done |= stamps
            self.unreadable |= reasons
        for row in [row for row in (*self.done, *self.unreadable) if self.names[row] not in present]:
            self.done.pop(row, None)
            self.unreadable.pop(row, None)
        return present

    def shard_start(self, number: int, work: Work) -> tuple[bytes, int]:
        """The header of a shard, and the bytes of the whole file."""
        shape = (min(work.per_shard, len(self.names) - number * work.per_shard), *work.shape[1:])
        start = header(shape)
        return start, len(start) + math.prod(shape)

    def has_shard(self, number: int, work: Work) -> bool:
        path = shard_path(self.output, number)
        return path.is_file() and not path.is_symlink() and path.stat().st_size == self.shard_start(number, work)[1]

    def make_shard(self, number: int, work: Work) -> None:
        """An empty file, which takes no space yet."""
        path, (start, size) = shard_path(self.output, number), self.shard_start(number, work)
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with open(part, "xb") as file:  # never through a link that lies there
            file.write(start)
            file.truncate(size)
        part.replace(path)

    def decode(self, todo: Sequence[int], work: Work) -> None:
        """Has all these rows written, and keeps a journal of them."""
        most = min(TASK, max(1, BLOCK // math.prod(work.shape[1:])))
        tasks = [
            (rows[first : first + most], [self.names[row] for row in rows[first : first + most]])
            for _, group in itertools.groupby(todo, key=lambda row: row // work.per_shard)
            for rows in [list(group)]
            for first in range(0, len(rows), most)
        ]
        done, flushed = 0, time.monotonic()
        stamps: dict[int, str] = {}
        reasons: dict[int, str] = {}
        with open(self.output / UNFINISHED / JOURNAL, "ab") as journal:

            def flush() -> None:
                for number in {row // work.per_shard for row in (*stamps, *reasons)}:
                    with open(shard_path(self.output, number), "r+b") as file:
                        os.fsync(file.fileno())
                journal.write(journal_line(stamps, reasons))
                journal.flush()
                os.fsync(journal.fileno())
                stamps.clear()
                reasons.clear()

            self.told("images", 0, len(todo))
            try:
                with closing(results(tasks, work, min(self.preparation.workers, len(tasks)))) as found:
                    for good, bad in found:
                        stamps |= good
                        reasons |= bad
                        self.done |= good
                        self.unreadable |= bad
                        done += len(good) + len(bad)
                        self.told("images", done, len(todo))
                        if time.monotonic() - flushed >= FLUSH:
                            flush()
                            flushed = time.monotonic()
            finally:  # an interrupt, too
                flush()

    def finish(self, present: set[str], unreadable: dict[str, str], work: Work) -> None:
        """Writes labels, names and, last, the index."""
        left_out = unreadable | {name: "no longer there" for name in self.names if name not in present}
        for row in (row for row, name in enumerate(self.names) if name not in present):
            with open(shard_path(self.output, row // work.per_shard), "r+b") as file:
                size = math.prod(work.shape[1:])
                file.seek(len(header(work.shape)) + row % work.per_shard * size)
                file.write(bytes(size))  # deleted while this was made
        names, classes, numbered = sorted(present), [], [0] * len(present)
        if self.preparation.labels:
            classes, numbered = classes_and_labels(names, self.preparation.source.dataset())
        label = dict(zip(names, numbered, strict=True))
        labels = [label[name] if row in self.done else -1 for row, name in enumerate(self.names)]
        pairs = zip(self.names, labels, strict=True)
        lines = "".join(json.dumps([name, None if label < 0 else label]) + "\n" for name, label in pairs)
        write_whole(self.output / NAMES_FILE, lines.encode())
        write_whole(self.output / LABELS_FILE, array_bytes(np.array(labels, np.int64)))
        write_whole(self.output / NUMBERS_FILE, array_bytes(np.array([hashed(name) for name in self.names])))
        shards = [shard_path(self.output, number).name for number in range(-(-len(self.names) // work.per_shard))]
        files = [*shards, LABELS_FILE, NUMBERS_FILE, NAMES_FILE, *([UNREADABLE_FILE] if unreadable else [])]
        index = {
            "format": 1,
            "settings": self.settings,
            "versions": versions(),
            "images": len(self.done),
            "images_per_shard": work.per_shard,
            "classes": classes,
            "files": checksums(self.output, files, self.told),
            "left_out": left_out,
        }
        write_whole(self.output / INDEX, json.dumps(index, indent=1).encode())
        shutil.rmtree(self.output / UNFINISHED)


def names_begun(path: Path) -> list[str]:
    """The names that a folder was begun with. Raises UserError where they are none."""
    try:
        names = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {error}; choose another folder") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: is no list of names; choose another folder")
    return names


def journal_line(stamps: dict[int, str], reasons: dict[int, str]) -> bytes:
    return json.dumps([stamps, reasons]).encode() + b"\n" if stamps or reasons else b""


def array_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """A .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """A file that takes its place when it is whole, and on the disk."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with open(part, "xb") as file:  # never through a link that lies there
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    if hasattr(os, "O_DIRECTORY"):  # not on Windows
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)


def checksums(folder: Path, names: Sequence[str], told: Told) -> dict[str, str]:
    """SHA-256 of files, in hexadecimal."""
    found: dict[str, str] = {}
    for number, name in enumerate(names):
        told("checksums", number, len(names))
        with open(folder / name, "rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    told("checksums", len(names), len(names))
    return found


def verify(output: Path, told: Told) -> None:
    """Raises UserError where a file of a prepared folder is not what it was."""
    wanted = read_index(output)["files"]
    missing = [name for name in wanted if not os.path.isfile(output / name)]
    found = checksums(output, [name for name in wanted if name not in missing], told)
    wrong = [*(f"{name}: missing" for name in missing), *(f"{n}: damaged" for n in found if found[n] != wanted[n])]
    if wrong:
        listed = "".join(f"\n  {line}" for line in wrong[:LISTED])
        raise UserError(f"output={output}: {len(wrong)} of {len(wanted)} files are not what they were:{listed}")
