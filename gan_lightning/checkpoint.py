"""Checkpoint files: written whole or not at all, read without unpickling, found by run."""

import os
import re
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from gan_lightning.errors import UserError
from gan_lightning.paths import expand

FOLDER, LAST = "checkpoints", "last.ckpt"
WEIGHTS = Path("generator.safetensors")  # of an exported folder, which stands in the place of a run


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file, flushes to the disk, then renames: a kill or a full disk leaves the file before it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this project on the CPU, without unpickling objects. Raises UserError when it is none."""
    if path.suffix == WEIGHTS.suffix:
        from gan_lightning.exporting import weights  # here: most runs have none

        return weights.read(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"checkpoint={path}: there is no such file") from None
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"checkpoint={path}: cannot be read: {reason[:150]}") from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("config"), dict):
        raise UserError(f"checkpoint={path}: not a checkpoint of gan_lightning (it holds no configuration)")
    return checkpoint


def find_checkpoint(given: Path, outputs: Path = Path("outputs"), key: str = "checkpoint") -> Path:
    """The checkpoint file of a run folder, a .ckpt, or `latest` (the newest run under `outputs`); of an exported folder
    its weights.

    Raises UserError when there is none.
    """
    if str(given) == "latest":
        given = outputs / "latest"
        if not given.exists():
            raise UserError(f"{key}=latest: no run under {outputs.resolve()}")
        given = given.resolve()
    given = expand(given)
    if given.is_dir():
        file = given / FOLDER / LAST
        if file.exists():
            return file
        if (given / WEIGHTS).exists():
            return given / WEIGHTS
        exported = [name for name in ("generator.onnx", "generator.pt2") if (given / name).exists()]
        said = f"holds {exported[0]}, which is not read: export with format=safetensors" if exported else ""
        raise UserError(f"{key}={given}: this folder {said or f'holds no {FOLDER}/{LAST}'}")
    if not given.exists():
        raise UserError(f"{key}={given}: there is no such folder or file")
    return given


def position(path: Path) -> list[int]:
    """The numbers in a name such as e0012-s00003400.ckpt, to sort by: names alone go wrong after e9999."""
    return [int(number) for number in re.findall(r"\d+", path.stem)]


def run_folder(checkpoint: Path) -> Path:
    """The run that a checkpoint file lies in, or the file's folder."""
    parent = checkpoint.resolve().parent
    return parent.parent if parent.name == FOLDER else parent
