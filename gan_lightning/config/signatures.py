"""Constructor signatures: the only schema of the configurations."""

import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from gan_lightning.config.messages import did_you_mean
from gan_lightning.errors import UserError

# Configurations travel inside checkpoints, which may come from strangers: nothing else is ever instantiated.
ALLOWED = ("gan_lightning.", "torch.optim.", "torch.nn.")
SPECIAL = ("_target_", "_partial_", "_convert_", "_recursive_")  # keys that Hydra's instantiate reads
UNKNOWN = inspect.Parameter.empty  # nothing is known about a key


def locate(target: Any) -> Callable[..., Any]:
    """The class, or function of this package, that a `_target_` names; UserError without the key otherwise."""
    if not isinstance(target, str) or not target.startswith(ALLOWED):
        raise UserError(f"may not be instantiated; targets begin with {', '.join(ALLOWED)}")
    module, names = import_module(target)
    found: Any = module
    for name in names:
        if not hasattr(found, name):
            public = [other for other, thing in vars(found).items() if other[0] != "_" and permitted(thing)]
            raise UserError(f"does not exist; {did_you_mean(name, public)}")
        found = getattr(found, name)
    if not permitted(found):
        raise UserError("may not be instantiated; only classes, and functions of this package")
    return found


def permitted(found: Any) -> bool:
    """Classes alone (a function may do anything: ours begin with the command line itself), by where they are defined:
    a module holds what it imports (`….mnist.socket`), so a name may lead anywhere."""
    return inspect.isclass(found) and f"{found.__module__}.".startswith(ALLOWED)


def import_module(target: str) -> tuple[types.ModuleType, list[str]]:
    """The deepest module in a dotted name, and the names inside it."""
    parts = target.split(".")
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            return importlib.import_module(name), parts[end:]
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise UserError(f"needs the package {error.name}: pip install {error.name}") from error
    raise UserError("does not exist")


@functools.cache
def parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments by name; behind a `**kwargs` those of the next constructor in the method resolution order."""
    functions = [target]
    if inspect.isclass(target):
        functions = [kind.__init__ for kind in target.__mro__ if "__init__" in vars(kind) and kind is not object]
    found: dict[str, inspect.Parameter] = {}
    for function in functions:
        own = list(signature(function).parameters.values())[inspect.isclass(target) :]  # without self
        for parameter in own:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            break
    return found


def arguments_of(known: Mapping[str, inspect.Parameter], partial: bool) -> list[str]:
    """The arguments that a configuration may give: of a `_partial_` node the required ones come from the code."""
    return [name for name, parameter in known.items() if not (partial and parameter.default is parameter.empty)]


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """With annotations that were written as strings evaluated, where that is possible."""
    try:
        return inspect.signature(function, eval_str=True)
    except (NameError, TypeError, AttributeError, SyntaxError):  # names that only type checkers import
        return inspect.signature(function)


def root_hints(schema: type) -> dict[str, Any]:
    """The root keys of a configuration and their annotations, from a TypedDict."""
    return typing.get_type_hints(schema, include_extras=True)


def alternatives(annotation: Any) -> list[Any]:
    """The members of a union without their `Annotated`; the annotation itself if it is none."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return alternatives(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [part for member in typing.get_args(annotation) for part in alternatives(member)]
    return [annotation]


def is_path(annotation: Any) -> bool:
    return Path in alternatives(annotation)


def is_text(annotation: Any) -> bool:
    """Whether a string is all that may stand there, beside null."""
    return {str} == {kind for kind in alternatives(annotation) if kind is not types.NoneType}


def is_list(annotation: Any) -> bool:
    kinds = [typing.get_origin(kind) or kind for kind in alternatives(annotation)]
    return any(inspect.isclass(kind) and issubclass(kind, Sequence) and kind is not str for kind in kinds)


def allows_none(annotation: Any) -> bool:
    return any(kind in (None, types.NoneType, Any) for kind in alternatives(annotation))


def kinds(annotation: Any) -> list[type]:
    """The classes that something made by a `_target_` must be of; none where the annotation does not say."""
    if not is_known(annotation):
        return []
    if wanted := node_kinds(annotation):
        return wanted
    found = [kind for kind in alternatives(annotation) if kind is not types.NoneType]
    plain = all(inspect.isclass(kind) and kind is not object and not is_protocol(kind) for kind in found)
    return found if plain else []


def is_protocol(kind: type) -> bool:
    return bool(getattr(kind, "_is_protocol", False))


def node_kinds(annotation: Any) -> list[type]:
    """Of `Annotated[Node, Kind]`: the kind of what a root node makes."""
    return [more for more in getattr(annotation, "__metadata__", ()) if inspect.isclass(more)]


def choices(annotation: Any) -> list[Any]:
    """All values of the `Literal`s in an annotation."""
    return [
        value
        for kind in alternatives(annotation)
        if typing.get_origin(kind) is Literal
        for value in typing.get_args(kind)
    ]


def is_known(annotation: Any) -> bool:
    """Whether there is something to check: not for `Any`, a missing annotation or one left as a string."""
    return annotation is not UNKNOWN and annotation is not Any and not isinstance(annotation, str)
