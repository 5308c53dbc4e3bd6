"""Checks a whole configuration against the constructors it names, before a folder, data or network is made."""

import inspect
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from gan_lightning.config.containers import as_config, plain_container, resolve
from gan_lightning.config.messages import ADVICE, did_you_mean, mistake, shorten, show, unknown_key
from gan_lightning.config.overrides import dotted_keys
from gan_lightning.config.signatures import (
    SPECIAL,
    UNKNOWN,
    allows_none,
    alternatives,
    arguments_of,
    choices,
    is_known,
    is_path,
    kinds,
    locate,
    node_kinds,
    parameters,
    root_hints,
)
from gan_lightning.errors import UserError
from gan_lightning.paths import no_path
from gan_lightning.types import Node

WORDS = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "none_required": "null",
}
Kinds = Sequence[type]
OBJECTS = ("needs_python_object", "is_instance_of", "callable_type", "dataclass_type")  # what only a _target_ makes


def check(config: Mapping[str, Any], schema: type, *, supplied: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration as plain, resolved containers without Hydra's node; UserError at the first problem.

    A null for what a constructor does not take is left out: how another `_target_` drops the arguments of the first.
    Plain containers are taken literally: what travels in a checkpoint never reads the environment.
    supplied: dotted patterns of constructor arguments that the code gives, not the configuration: "logger.*.folder".
    """
    unresolved = as_config(config)
    hints = root_hints(schema)
    for key in hints:
        if key not in unresolved and key in getattr(schema, "__required_keys__", hints):
            raise UserError(f"{key}: must be given: {key}=…")
    checker = Checker(unresolved, supplied)
    checker.missing(plain_container(unresolved))
    resolved = resolve(unresolved)
    for key, value in resolved.items():
        if key not in hints:
            raise unknown_key(key, value, dotted_keys(resolved, hints), list(hints))
        checker.value(key, value, hints[key])
        if Node in alternatives(hints[key]):
            checker.buildable(key, value, node_kinds(hints[key]))
    return resolved


def check_node(key: str, node: DictConfig) -> dict[str, Any]:
    """A node outside the schema, such as Hydra's sweeper, as plain, resolved containers; UserError at a problem."""
    resolved = cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))
    Checker(OmegaConf.create(), ()).value(key, resolved)
    return resolved


def targets(value: Any, key: str = "") -> list[tuple[str, Any]]:
    """Every `_target_` in a value, with its dotted key."""
    own = [(join(key, "_target_"), value["_target_"])] if isinstance(value, Mapping) and "_target_" in value else []
    children = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, Mapping) else ()
    return own + [found for name, child in children for found in targets(child, join(key, name))]


def join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


class Checker:
    """Walks through a resolved configuration; knows which keys follow others, so that the one to change is named."""

    def __init__(self, unresolved: DictConfig, supplied: Sequence[str]) -> None:
        self.followed: dict[str, str] = {}
        self.supplied = supplied
        self.follow(plain_container(unresolved))

    def follow(self, value: Any, key: str = "") -> None:
        """Note the keys whose value is nothing but another key's: image_size: ${data.image_size}."""
        if isinstance(value, Mapping):
            for name, child in value.items():
                if join(key, name) != "hydra":
                    self.follow(child, join(key, name))
        elif isinstance(value, str) and (match := re.fullmatch(r"\$\{([\w.]+)\}", value)):
            self.followed[key] = match[1]

    def source(self, key: str) -> str:
        """The key that a user would change."""
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            beginning = ".".join(parts[:end])
            if beginning in self.followed:
                return self.source(".".join([self.followed[beginning], *parts[end:]]))
        return key

    def missing(self, value: Any, key: str = "") -> None:
        if isinstance(value, Mapping):
            for name, child in value.items():
                if join(key, name) != "hydra":
                    self.missing(child, join(key, name))
        elif isinstance(value, str) and value == "???":
            raise UserError(f"{key}: must be given: {key}=…")

    def value(self, key: str, value: Any, annotation: Any = UNKNOWN) -> None:
        """A value of any kind: nodes are walked through, the rest is compared with the annotation."""
        if isinstance(value, dict) and "_target_" in value:
            return self.node(key, value, kinds(annotation))
        if isinstance(value, float) and not math.isfinite(value):
            raise mistake(self.source(key), value, "must be a finite number")
        if isinstance(value, Mapping):
            for name, child in value.items():
                self.value(join(key, name), child)
        elif isinstance(value, list):
            for index, child in enumerate(value):
                self.value(join(key, index), child)
        if is_path(annotation) and isinstance(value, str) and (reason := no_path(value)):
            raise mistake(self.source(key), value, reason)
        if is_known(annotation) and not targets(value):
            self.type(key, value, annotation)
        return None

    def buildable(self, key: str, value: Any, wanted: Kinds) -> None:
        """A root node has a `_target_`, or is a mapping of nodes that have one or are null, such as the loggers.

        wanted: the classes that they must be of.
        """
        if not isinstance(value, Mapping):
            raise mistake(key, value, "must be a mapping")
        children = {join(key, name): child for name, child in value.items()}
        for where, node in {key: value}.items() if "_target_" in value else children.items():
            if isinstance(node, Mapping) and "_target_" in node:
                of_kind(where, node, wanted)
        nodes = [child is None or (isinstance(child, Mapping) and "_target_" in child) for child in value.values()]
        loose = [name for name, fits in zip(value, nodes, strict=True) if not fits]
        if "_target_" in value or not loose:
            return
        if len(loose) == len(value):
            raise UserError(f"{key}: has no _target_: choose one of its options with {key}=…")
        name = join(key, loose[0])
        raise mistake(name, value[loose[0]], "must be a node with _target_ or null")

    def type(self, key: str, value: Any, annotation: Any) -> None:
        try:
            type_adapter(annotation).validate_json(json.dumps(value, default=str), strict=True)
        except PydanticUserError:  # an annotation that pydantic has no rule for
            return
        except ValidationError as error:
            where, wrong, reason = explain(error.errors(include_url=False), value, annotation)
            raise mistake(".".join([self.source(key), *where]), wrong, reason) from error

    def node(self, key: str, node: dict[str, Any], wanted: Kinds = ()) -> None:
        """A `_target_`, which makes one of the classes that are wanted, and its arguments."""
        try:
            target = locate(node["_target_"])
        except UserError as error:
            raise mistake(join(key, "_target_"), node["_target_"], str(error)) from error
        partial = node.get("_partial_", False)
        if not isinstance(partial, bool):
            raise mistake(join(key, "_partial_"), partial, "must be true or false")
        if not partial:
            of_kind(key, node, wanted)
        known = parameters(target)
        for name, value in list(node.items()):
            if name in SPECIAL:
                continue
            if name not in known and value is None:
                del node[name]
                continue
            if name not in known:
                raise self.no_argument(join(key, name), value, target, arguments_of(known, partial))
            self.value(join(key, name), value, known[name].annotation)
        for name, parameter in known.items():
            if parameter.default is parameter.empty and name not in node and not partial:
                dotted = join(key, name)
                if not any(fnmatch(dotted, pattern) for pattern in self.supplied):
                    raise UserError(f"{self.source(dotted)}: must be given: {self.source(dotted)}=…")
        if partial:
            self.optimizer(key, node, target)

    def no_argument(self, key: str, value: Any, target: Callable[..., Any], known: Sequence[str]) -> UserError:
        """For a key that a constructor does not take, perhaps because it was written for another `_target_`."""
        if key in ADVICE:
            return mistake(key, value, ADVICE[key])
        name = key.rpartition(".")[2]
        reason = f"{target.__name__} takes no {name}; {did_you_mean(name, known)}; {key}=null removes it"
        return mistake(key, value, reason)

    def optimizer(self, key: str, node: Mapping[str, Any], target: Callable[..., Any]) -> None:
        """PyTorch's optimizers check their numbers themselves: build one for a single weight."""
        import torch

        if not (inspect.isclass(target) and issubclass(target, torch.optim.Optimizer)):
            return
        build = cast(Callable[..., Any], target)
        arguments = {name: value for name, value in node.items() if name not in SPECIAL}

        def refusal(arguments: Mapping[str, Any]) -> Exception | None:
            try:
                build([torch.nn.Parameter(torch.zeros(1))], **arguments)
            except (ValueError, TypeError, RuntimeError) as error:
                return error
            return None

        error = refusal(arguments)
        if error is None:
            return
        # The argument without which there is no complaint, or another one.
        guilty = [
            name
            for name in arguments
            if str(refusal({other: value for other, value in arguments.items() if other != name})) != str(error)
        ]
        if len(guilty) == 1:
            raise mistake(self.source(join(key, guilty[0])), arguments[guilty[0]], str(error)) from error
        raise UserError(shorten(f"{self.source(key)}: {error}")) from error


def of_kind(key: str, node: Mapping[str, Any], wanted: Kinds) -> None:
    """Raises UserError for a `_target_` that is none of these classes: a file may name any that is allowed at all."""
    if wanted and not issubclass(cast(type, locate(node["_target_"])), tuple(wanted)):
        names = " or ".join(kind.__name__ for kind in wanted)
        raise mistake(join(key, "_target_"), node["_target_"], f"must be the class {names}, or made of it")


def type_adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # dataclasses and the like bring a configuration of their own
        return TypeAdapter(annotation)


def explain(errors: Sequence[ErrorDetails], value: Any, annotation: Any) -> tuple[list[str], Any, str]:
    """Where in the value, what stands there, and in a few words what may stand there."""
    said = [error for error in errors if error["type"] not in OBJECTS]
    if not said:
        return [], value, "must be a node with _target_" + (" or null" if allows_none(annotation) else "")
    where = max((indices(error) for error in said), key=len)  # a wrong item says more than "not a number"
    said = [error for error in said if indices(error) == where]
    kinds = {error["type"] for error in said}
    if "missing" in kinds:
        return [], value, "has too few items"
    wrong = said[0]["input"]
    others = [error for error in said if error["type"] not in (*WORDS, "literal_error")]
    if others:  # a value of the right type that is out of range: only that
        return where, wrong, in_our_words(others[0]["msg"])
    options = [show(option) for option in choices(annotation)] if not where else []
    if kinds == {"literal_error"} and options:
        return where, wrong, f"no such choice; {did_you_mean(show(wrong), options)}"
    words = [WORDS[error["type"]] for error in said if error["type"] in WORDS]
    words += options + (["null"] if allows_none(annotation) and not where else [])
    if not words:  # choices inside a list
        return where, wrong, in_our_words(said[0]["msg"])
    return where, wrong, f"must be {' or '.join(dict.fromkeys(words))}"


def in_our_words(message: str) -> str:
    """pydantic says "Input should be …", "Tuple should have …"."""
    return re.sub(r"^\w+ should", "must", message).replace(" after validation", "")


def indices(error: ErrorDetails) -> list[str]:
    """The place in a list that an error is about; pydantic mixes in the names of the types it tried."""
    return [str(part) for part in error["loc"] if isinstance(part, int)]
