"""Checkpoint files: written whole or not at all, with a checksum, read without unpickling, found by run."""

import errno
import hashlib
import os
import re
import shutil
import struct
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from gan_lightning import __version__
from gan_lightning.clusters import speaks
from gan_lightning.config.messages import mistake
from gan_lightning.contents import check_contents, check_state, refuse_bombs
from gan_lightning.errors import UserError
from gan_lightning.paths import expand, no_path

CONFIG = "config.yaml"  # what makes a folder a run's
FOLDER, LAST = "checkpoints", "last.ckpt"
PREVIOUS, DAMAGED = "previous.ckpt", "damaged.ckpt"  # the one before the last, and a last one that was not whole
WEIGHTS = Path("generator.safetensors")  # of an exported folder, which stands in the place of a run
FORMAT = 1  # of what a checkpoint holds; files from before there were numbers have none, and are read as well
NAME = b"gan_lightning sha256 "
# A zip file ends with the length of a comment and the comment: here the digest of the file as it was without one.
SEAL = struct.pack("<H", len(NAME) + 2 * hashlib.sha256().digest_size) + NAME
SEALED = len(SEAL) + 2 * hashlib.sha256().digest_size  # bytes at the end
NO_COMMENT = b"\0\0"
END, PLAIN = b"PK\5\6", 22  # what a zip file without a comment ends with, and how long that is
BLOCK = 2**20


class Digesting:
    """A file that is written to, and the digest of what was written."""

    def __init__(self, file: Any) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file, flushes to the disk, then renames: a kill or a full disk leaves the file before it.

    The last.ckpt that is replaced stays as previous.ckpt.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(exist_ok=True)  # but no parents: a run's folder that was deleted is not made again
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                digesting: Any = Digesting(file)
                torch.save({"format": FORMAT, **checkpoint}, digesting)
                file.seek(-len(NO_COMMENT), os.SEEK_END)
                file.write(SEAL + digesting.digest.hexdigest().encode())
                file.flush()
                os.fsync(file.fileno())
            if path.name == LAST and path.exists():
                link(path, path.with_name(PREVIOUS))
            part.replace(path)
            flush_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def flush_folder(folder: Path) -> None:
    """What was renamed in it outlasts a power cut."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(handle)
    except OSError:  # some network disks
        pass
    finally:
        os.close(handle)


def link(source: Path, target: Path) -> None:
    """A second name of the same file (a save replaces the first name only), or a copy where links are refused."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)
    part.unlink(missing_ok=True)  # of two names of one file, both stay


def damage(path: Path) -> str | None:
    """Why a checkpoint file is not what was written, in a line; None: it is. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return damage_of(path, file)


LOOKED_THROUGH: dict[tuple[Path, int, int, int], str | None] = {}  # by inode, size and time: once a process


def damage_of(path: Path, file: BinaryIO) -> str | None:
    """`damage` of a file that is open: a run that goes on may replace what is at `path` meanwhile."""
    about = os.fstat(file.fileno())
    known = path, about.st_ino, about.st_size, about.st_mtime_ns
    if known not in LOOKED_THROUGH:
        try:
            LOOKED_THROUGH[known] = look_through(file, about.st_size)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return f"it is damaged: {error.strerror}"
    return LOOKED_THROUGH[known]


def look_through(file: BinaryIO, size: int) -> str | None:
    """`damage` of an open file of so many bytes."""
    file.seek(max(0, size - SEALED))
    seal = file.read()
    if seal.startswith(SEAL):
        file.seek(0)
        digest, left = hashlib.sha256(), size - SEALED
        while left and (block := file.read(min(BLOCK, left))):
            digest.update(block)
            left -= len(block)
        digest.update(NO_COMMENT)
        whole = seal == SEAL + digest.hexdigest().encode()
        return None if whole else "it is damaged: its checksum is of other content"
    if not seal[-PLAIN:].startswith(END) or not seal.endswith(NO_COMMENT):
        return "it is damaged or no checkpoint: its end is missing"
    try:  # of an older version: what torch wrote has checksums of its parts
        with zipfile.ZipFile(file) as parts:
            broken = parts.testzip()
    except Exception as error:  # a damaged file can raise anything
        return f"it is damaged or no checkpoint: {str(error)[:80] or type(error).__name__}"
    return None if broken is None else f"it is damaged: {broken[:80]} in it has another checksum"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this project on the CPU, without unpickling objects. Raises UserError when it is none."""
    if path.suffix == WEIGHTS.suffix:
        from gan_lightning.exporting import weights  # here: most runs have none

        return weights.read(path)
    try:
        with path.open("rb") as file, warnings.catch_warnings():  # opened once: what is loaded is what was looked at
            warnings.simplefilter("ignore")  # that TorchScript's archives are another kind of file: they are refused
            reason = damage_of(path, file)
            if not reason:
                refuse_bombs(path, file)
                file.seek(0)
            checkpoint = None if reason else torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"checkpoint={path}: there is no such file") from None
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"checkpoint={path}: cannot be read: {reason[:150]}") from None
    if reason:
        raise UserError(f"checkpoint={path}: cannot be read: {reason}")
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("config"), dict):
        raise UserError(f"checkpoint={path}: not a checkpoint of gan_lightning (it holds no configuration)")
    check_format(path, checkpoint.get("format", 0))
    check_contents(path, checkpoint)
    check_state(path, checkpoint)
    return checkpoint


def check_format(path: Path, number: object, known: int = FORMAT) -> None:
    """Raises UserError for a format that a newer version writes."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise UserError(f"checkpoint={path}: its format is {str(number)[:40]}, which is no number of a format")
    if number > known:
        raise UserError(
            f"checkpoint={path}: is of format {number}, and gan_lightning {__version__} reads formats up to {known}: "
            "it was written by a newer version, which reads it"
        )


WARNED: set[Path] = set()  # the damaged files that this process has spoken of


def newest(folder: Path) -> Path | None:
    """The last checkpoint of a run's folder; where it is damaged or gone, the newest before it that is whole, with a
    message.

    None: it has none. Where none is whole it is the last.
    """
    last, before = folder / FOLDER / LAST, folder / FOLDER / PREVIOUS
    there = last.is_file()  # a pipe would be waited for
    reason = damage(last) if there else "it is missing"
    numbered = sorted(last.parent.glob("e*-s*.ckpt"), key=position, reverse=True)
    for file in [before, *numbered] if reason else []:
        if file.is_file() and not damage(file):
            if last.resolve() not in WARNED and speaks():
                print(f"gan_lightning: {last}: {reason}; {file.name} is used instead", file=sys.stderr)
            WARNED.add(last.resolve())
            return file
    return last if there else None


def mend(folder: Path, good: Path) -> None:
    """Puts a checkpoint of the run in the place of a last one that is gone, or damaged: that stays as damaged.ckpt."""
    last = folder / FOLDER / LAST
    if good.resolve().parent != last.parent.resolve() or damage(good):
        return
    if not last.is_file():
        link(good, last)
    elif damage(last):
        link(last, last.with_name(DAMAGED))
        link(good, last)


def find_checkpoint(given: Path, outputs: Path = Path("outputs"), key: str = "checkpoint") -> Path:
    """The checkpoint file of a run folder, a .ckpt, or `latest` (the newest run under `outputs`); of an exported folder
    its weights.

    Raises UserError when there is none.
    """
    if reason := no_path(str(given)):
        raise mistake(key, str(given), reason)
    if str(given) == "latest":
        given = outputs / "latest"
        if not given.exists():
            raise UserError(f"{key}=latest: no run under {outputs.resolve()}")
        given = given.resolve()
    given = expand(given)
    if given.is_dir():
        try:
            file = newest(given)
        except OSError as error:
            raise UserError(f"{key}={given}: {FOLDER}/{LAST} cannot be read: {error.strerror}") from None
        if file:
            return file
        if (given / WEIGHTS).exists():
            return given / WEIGHTS
        exported = [name for name in ("generator.onnx", "generator.pt2") if (given / name).exists()]
        said = f"holds {exported[0]}, which is not read: export with format=safetensors" if exported else ""
        raise UserError(f"{key}={given}: this folder {said or f'holds no {FOLDER}/{LAST}'}")
    if not given.is_file():  # a pipe would be waited for
        reason = "is no file" if given.exists() else "there is no such folder or file"
        raise UserError(f"{key}={given}: {reason}")
    return given


def position(path: Path) -> list[int]:
    """The numbers in a name such as e0012-s00003400.ckpt, to sort by: names alone go wrong after e9999."""
    return [int(number) for number in re.findall(r"\d+", path.stem)]


def run_folder(checkpoint: Path) -> Path:
    """The run that a checkpoint file lies in, or the file's folder."""
    named, parent = checkpoint.absolute().parent, checkpoint.resolve().parent
    if named.name == FOLDER and (named.parent / CONFIG).exists():
        return named.parent  # its checkpoints may be a link to a larger disk
    return parent.parent if parent.name == FOLDER else parent
