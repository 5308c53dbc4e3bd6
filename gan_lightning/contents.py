"""What a file that came from elsewhere says of a trained module: looked at before anything is made of it."""

import math
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from gan_lightning.config.building import check_models
from gan_lightning.data.decoding import LOOSE, RATIO
from gan_lightning.errors import UserError
from gan_lightning.steps import Counters

MOST = 10**5  # values of a configuration; a list may stand in a file once and in its content a billion times
MOST_FACTS = 2 * 10**6  # of what is beside it, such as words
DEEPEST = 50  # levels of lists and mappings
VERSION = re.compile(r"\d+\.\d+(\.\d+)?(\.?(a|b|rc|post|dev)\d*)*(\+[a-z\d]+(\.[a-z\d]+)*)?")  # of Lightning
MOST_ALONE = 2**32  # bytes of networks whose generator alone came with a file
ROOM = 2**24  # bytes that networks may have beyond what a file of their weights has


def check_contents(path: Path, about: Mapping[str, Any]) -> None:
    """Raises UserError for names of classes, facts of the data or counters that are none, of a checkpoint or the
    config.json of an exported folder; for what is larger than any of them."""
    for part in ("config", "class_names", "data", "counters"):
        refuse_masses(path, part, about.get(part))
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


def refuse_masses(path: Path, part: str, value: Any) -> None:
    """Raises UserError for more values, or deeper ones, than this part of a checkpoint can have."""
    most, count = MOST if part == "config" else MOST_FACTS, 0
    levels: list[Iterator[Any]] = [iter([value])]
    while levels:
        child = next(levels[-1], levels)  # itself: there are no more
        if child is levels:
            levels.pop()
            continue
        count += 1
        if count > most or len(levels) > DEEPEST:
            raise UserError(f"checkpoint={path}: {part}: has more than {most:,} values or {DEEPEST} levels")
        if isinstance(child, Mapping | list | tuple | set):
            levels.append(iter(child.values() if isinstance(child, Mapping) else child))


def check_state(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Raises UserError for a checkpoint without counters, or without weights that are tensors by name."""
    if not isinstance(checkpoint.get("counters"), dict):
        raise UserError(f"checkpoint={path}: holds no counters")
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"checkpoint={path}: holds no weights by name")


def check_progress(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Raises UserError for a checkpoint whose parts that training goes on from are none: optimizers, callbacks, what
    the last line of metrics showed."""
    if "images" not in checkpoint["counters"]:
        raise UserError(f"checkpoint={path}: counters: holds no images")
    for part, right in PROGRESS.items():
        if part in checkpoint and not right(checkpoint[part]):
            raise UserError(f"checkpoint={path}: its {part} are not what training goes on from")
    for part in ("lr_schedulers", "pytorch-lightning_version"):
        if "optimizer_states" in checkpoint and part not in checkpoint:
            raise UserError(f"checkpoint={path}: holds no {part}")


def are_mappings(value: Any) -> bool:
    """Mappings by name."""
    return isinstance(value, Mapping) and all(isinstance(one, Mapping) for one in value.values())


def are_optimizers(value: Any) -> bool:
    """What torch's optimizers keep: tensors by weight, and groups of weights."""
    return isinstance(value, list) and all(
        isinstance(one, Mapping)
        and isinstance(state := one.get("state"), Mapping)
        and all(are_of_weights(kept) for kept in state.values())
        and isinstance(groups := one.get("param_groups"), list)
        and all(isinstance(group, Mapping) and isinstance(group.get("params"), list) for group in groups)
        for one in value
    )


def are_of_weights(value: Any) -> bool:
    """What an optimizer keeps of one weight."""
    return isinstance(value, Mapping) and all(
        isinstance(one, Tensor | int | float) or (name == "momentum_buffer" and one is None)
        for name, one in value.items()
    )


def are_numbers(value: Any) -> bool:
    """Numbers by name, some of them in tensors."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and (isinstance(one, int | float) or (isinstance(one, Tensor) and one.numel() == 1))
        for name, one in value.items()
    )


PROGRESS: dict[str, Callable[[Any], bool]] = {
    "pytorch-lightning_version": lambda value: isinstance(value, str) and bool(VERSION.fullmatch(value)),
    "callbacks": are_mappings,
    "optimizer_states": are_optimizers,
    "lr_schedulers": lambda value: isinstance(value, list),
    "metrics": are_numbers,
}


def check_callbacks(path: Path, checkpoint: Mapping[str, Any], callbacks: Iterable[Any]) -> None:
    """Raises UserError for states that are not of the kind that these callbacks keep."""
    states: Mapping[str, Any] = checkpoint.get("callbacks", {})
    for callback in (one for one in callbacks if one.state_key in states):
        name, state = callback.state_key, states[callback.state_key]
        for key, own in callback.state_dict().items():
            if key in state and not alike(own, state[key]):
                raise UserError(f"checkpoint={path}: callbacks: {name}: {key} is not what it keeps")
        try:
            callback.load_state_dict(dict(state))  # as it will be
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"checkpoint={path}: callbacks: {name}: {str(error)[:80]} is not what it keeps") from None


def alike(own: Any, other: Any) -> bool:
    """Whether a stored value may stand in the place of a callback's own."""
    if own is None or other is None:
        return isinstance(other, int | float | str | list | None)
    if isinstance(own, bool | str | list | dict):
        return isinstance(other, type(own))
    return isinstance(other, int | float)  # inf too: how diverse samples are beside real images that are all alike


def refuse_unlike(path: Path, config: Mapping[str, Any], alone: bool) -> None:
    """Raises UserError for networks that are much larger than a file of their weights: nothing of that size is made.

    config: checked. alone: the file holds a generator alone.
    """
    module: Any = check_models({"model": config["model"]})["model"]
    size = path.stat().st_size
    most = {module.generator: 4 * size + ROOM, module: (MOST_ALONE if alone else 4 * size) + ROOM}
    for network, bound in most.items():
        needed = sum(tensor.nbytes for tensor in network.state_dict().values())
        if needed <= bound:
            continue
        raise UserError(f"checkpoint={path}: its networks would have {needed:,} bytes, and the file {size:,}")


def refuse_bombs(path: Path, file: BinaryIO | None = None, key: str = "checkpoint=", packed: bool = False) -> None:
    """Raises UserError for a zip file that is larger once it is unpacked, as torch packs nothing; for one that is
    `packed`, RATIO times as large and more than LOOSE bytes. file: `path`, where it is open already."""
    if not zipfile.is_zipfile(file or path):
        return
    with zipfile.ZipFile(file or path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    size = os.fstat(file.fileno()).st_size if file else path.stat().st_size
    if unpacked > (max(LOOSE, RATIO * size) if packed else size):
        raise UserError(f"{key}{path}: {size:,} bytes that say they unpack to {unpacked:,}: not what it should be")
