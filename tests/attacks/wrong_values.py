"""Wrong arguments for every command, made from the configurations and from the signatures that they name."""

import importlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gan_lightning.__main__ import COMMANDS
from gan_lightning.config import compose
from gan_lightning.config.checking import type_adapter
from gan_lightning.config.containers import plain_container
from gan_lightning.config.signatures import (
    alternatives,
    arguments_of,
    choices,
    is_known,
    is_path,
    locate,
    parameters,
    root_hints,
)
from gan_lightning.paths import no_path
from gan_lightning.types import Node

NEEDED = {  # what a command cannot do without; nothing of it is there
    "train": [],
    "sample": ["checkpoint=nowhere"],
    "evaluate": ["checkpoint=nowhere"],
    "project": ["checkpoint=nowhere", "input=nowhere"],
    "prepare": ["output=made", "data.root=nowhere"],
    "translate": ["checkpoint=nowhere", "input=nowhere"],
    "compress": ["method=prune", "checkpoint=nowhere"],
    "export": ["checkpoint=nowhere"],
    "report": ["runs=nowhere"],
}
MODELS = {  # data that files are read for, and a model of it
    "image_folder": "dcgan",
    "paired_folder": "pix2pix",
    "inpainting_folder": "deepfill",
    "superres_folder": "srgan",
    "text_file": "seqgan",
    "speech_folder": "wavegan",
}
PLACES = ["nowhere/照片 und Töne", "a b/c'd", 'x"y', "x" * 300, "/".join(["deep"] * 900), "a\0b", "\u202egnp.txt", ""]
PLACES += ["~nobody/x", "/proc/self/mem", "/dev/full/x", "nowhere,else", "$HOME/x", "-x", "*?[", " "]
ANYTHING = ["照片", "{a: 1}", "{_target_: os.system, command: touch made}", "[[1], {}]", "'", "[1", "${nope}", "???"]
Case = tuple[list[str], str]  # arguments, and the key that the message is about


def leaves(config: Any, hints: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Every key that a configuration or a constructor in it has, its annotation, and whether it is a node."""
    for name, annotation in hints.items():
        value = config.get(name) if isinstance(config, Mapping) else None
        if isinstance(value, str) and value.startswith("${"):  # follows another key
            continue
        yield f"{prefix}{name}", annotation, isinstance(value, Mapping)
        if isinstance(value, Mapping):
            known: dict[str, Any] = dict.fromkeys(value, Any)
            if "_target_" in value:
                found = parameters(locate(value["_target_"]))
                known = {key: found[key].annotation for key in arguments_of(found, value.get("_partial_") is True)}
            yield from leaves(value, known, f"{prefix}{name}.")


def fits(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def wrong(annotation: Any, node: bool) -> list[str]:
    """Values that a key of this annotation cannot have; of paths, those that lead to nothing."""
    if node:
        return ["3", "照片", "[1]", "{_target_: os.system}", "{_target_: gan_lightning.commands.train.fit}", "{a: 1}"]
    if is_path(annotation):
        return ["\0", "x" * 300, "/".join(["deep"] * 900), ""]
    if not is_known(annotation) or Node in alternatives(annotation):
        return []
    if str in alternatives(annotation):  # which may be anything
        return []
    found = list(ANYTHING)
    numbers = {
        "-1": -1,
        "0": 0,
        "1.5": 1.5,
        "2": 2,
        "true": True,
        "null": None,
        "-1e308": -1e308,
        "nonesuch": "nonesuch",
    }
    numbers |= {"[]": [], "[nonesuch]": ["nonesuch"]}
    adapter = type_adapter(annotation)
    found += [text for text, value in numbers.items() if not fits(adapter, value)]
    if any(kind in (int, float) for kind in alternatives(annotation)):
        found += ["inf", "nan"]
    return found + [f"{choice}{choice}" for choice in choices(annotation) if isinstance(choice, str)][:2]


def given(command: str, key: str, value: str, *more: str) -> Case:
    """One argument among those that the command needs."""
    first = [] if command == "train" else [command]
    rest = [argument for argument in (*NEEDED[command], *more) if not argument.startswith(f"{key}=")]
    return [*first, *rest, f"{key}={value}"], key


def of_command(command: str, *more: str) -> Iterator[Case]:
    """A wrong value for every key; keys that are not there; contradictions of prefixes."""
    schema = importlib.import_module(f"gan_lightning.commands.{command}").Settings
    config = plain_container(compose(command, [*NEEDED[command], *more], schema))
    for key, annotation, node in leaves(config, root_hints(schema)):
        yield from (given(command, key, value, *more) for value in wrong(annotation, node))
        yield given(command, f"{key}x", "1", *more)
        yield given(command, f"{key}.照片", "1", *more)
        if key != "checkpoints":
            yield given(command, key[:-1], "null", *more)


def of_data() -> Iterator[Case]:
    """The same for the keys of data that lies in files."""
    for data, model in MODELS.items():
        for arguments, key in of_command("train", f"data={data}", f"model={model}", "data.root=nowhere"):
            if key.startswith("data."):
                yield arguments, key


def of_places() -> Iterator[Case]:
    """Paths of data, checkpoints and inputs that lead to nothing, as users and their scripts type them."""
    for place in PLACES:
        for data, model in MODELS.items():
            yield given("train", "data.root", place, f"data={data}", f"model={model}")
        for key in ("checkpoint", "weights", *(["hydra.run.dir"] if no_path(place) else [])):
            yield given("train", key, place)
        for command in COMMANDS:
            if "checkpoint=nowhere" in NEEDED[command] and command != "project":  # which looks for its input first
                yield given(command, "checkpoint", place)
        if place != "/proc/self/mem":  # which is there
            yield given("project", "input", place)
        yield given("prepare", "data.root", place)
        yield given("report", "runs", place)
        yield ["evaluate", f"real={place}", "fake=nowhere"], "real"


def of_sweeps() -> Iterator[Case]:
    """The same with -m: one wrong value among right ones."""
    for case in of_command("train"):
        arguments, key = case
        if arguments[-1].partition("=")[2] in ("-1", "nonesuch", "null", "照片") and "seed" not in key:
            yield ["-m", "seed=1,2", *arguments], key


def all_cases() -> list[Case]:
    """Every case; the same order for every process."""
    found = [case for command in COMMANDS for case in of_command(command)]
    found += [*of_data(), *of_places(), *of_sweeps()]
    return sorted({" ".join(arguments): (arguments, key) for arguments, key in found}.values())


def quick_cases(each: int, seed: int = 0) -> list[Case]:
    """So many of every command, and paths."""
    stream, found = random.Random(seed), list(of_places())
    stream.shuffle(found)
    del found[3 * each :]
    for command in (*COMMANDS[1:], "train"):
        cases = list(of_command(command))
        stream.shuffle(cases)
        found += cases[:each]
    return found
