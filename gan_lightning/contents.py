"""What a file that came from elsewhere says of a trained module: looked at before anything is made of it."""

import math
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from gan_lightning.errors import UserError
from gan_lightning.steps import Counters


def check_contents(path: Path, about: Mapping[str, Any]) -> None:
    """Raises UserError for names of classes, facts of the data or counters that are none, of a checkpoint or the
    config.json of an exported folder."""
    names, data, counters = about.get("class_names", []), about.get("data", {}), about.get("counters", {})
    if not isinstance(about["config"].get("model", {}), dict):
        raise UserError(f"checkpoint={path}: its config has no model")
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise UserError(f"checkpoint={path}: class_names must be a list of names")
    words = data.get("words", []) if isinstance(data, dict) else None
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise UserError(f"checkpoint={path}: data must hold words in a list")
    known = {field.name for field in fields(Counters)}
    for name, value in counters.items() if isinstance(counters, dict) else [("counters", counters)]:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if name not in known or not number or value < 0 or (name != "seconds" and not isinstance(value, int)):
            raise UserError(f"checkpoint={path}: counters: {str(name)[:40]}={str(value)[:40]} is none of them")


def check_state(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Raises UserError for a checkpoint without counters, or without weights that are tensors by name."""
    if not isinstance(checkpoint.get("counters"), dict):
        raise UserError(f"checkpoint={path}: holds no counters")
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"checkpoint={path}: holds no weights by name")


def refuse_bombs(path: Path) -> None:
    """Raises UserError for a checkpoint that is larger than its file once it is unpacked: torch packs nothing."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked, size = sum(info.file_size for info in archive.infolist()), path.stat().st_size
    if unpacked > size:
        raise UserError(f"checkpoint={path}: {size:,} bytes that say they unpack to {unpacked:,}: not a checkpoint")
