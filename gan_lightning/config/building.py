"""Builds what a configuration describes, for real or to see whether its constructors agree to it."""

import re
from collections.abc import Mapping
from typing import Any

import hydra
from hydra.errors import InstantiationException

from gan_lightning.config.checking import Checker, as_config, join, resolve, targets
from gan_lightning.config.messages import mistake, shorten
from gan_lightning.config.overrides import escaped
from gan_lightning.config.signatures import locate
from gan_lightning.errors import UserError

NOT_BUILT = ("trainer", "logger", "callbacks")  # their constructors open files or devices


def check_models(config: Mapping[str, Any]) -> None:
    """Build everything whose constructor does no work, on the meta device: contradictions between arguments.

    A composed configuration, not yet resolved, gives better messages: they name the key that others follow.
    """
    import torch  # here: an unknown key must not wait for it

    unresolved = as_config(config)
    checker = Checker(unresolved, ())
    for key, node in resolve(unresolved).items():
        if isinstance(node, Mapping) and "_target_" in node and key not in NOT_BUILT:
            try:
                with torch.device("meta"):
                    instantiate(node)
            except InstantiationException as error:
                raise refused(key, error, checker) from error


def instantiate(node: Mapping[str, Any], **arguments: Any) -> Any:
    """Build a checked, resolved node and the nodes in it; `arguments` are added, and complete a `_partial_` one.

    Lists stay lists, and "${" in a path stays as it is.
    """
    for key, target in targets(node):
        try:
            locate(target)
        except UserError as error:
            raise mistake(key, target, str(error)) from error
    if not arguments:
        return hydra.utils.instantiate(literal(node), _convert_="all")
    # Not as Hydra's own keywords: it would take dataclasses among them for configurations.
    return hydra.utils.instantiate(literal({**node, "_partial_": True}), _convert_="all")(**arguments)


def refused(key: str, error: InstantiationException, checker: Checker) -> Exception:
    """A constructor's complaint with the dotted key in front; anything else than a mistake in values as it is."""
    cause = error.__cause__
    if isinstance(cause, UserError):
        return cause
    if not isinstance(cause, ValueError | TypeError | RuntimeError | ArithmeticError):
        return cause if isinstance(cause, Exception) else error
    if isinstance(cause, NotImplementedError):
        return cause
    below = str(error).rpartition("full_key: ")[2].strip() if "full_key: " in str(error) else ""
    where = ".".join(part for part in (key, below) if part)
    message = str(cause)
    match = re.match(r"([a-z_]\w*)=", message)
    if match is None:
        return UserError(shorten(f"{checker.source(where)}: {message}"))
    name = checker.source(join(where, match[1]))
    return UserError(shorten(f"{name}={message[match.end() :]}"))


def literal(value: Any) -> Any:
    """A resolved value, with text that only looks like an interpolation kept from being one."""
    if isinstance(value, Mapping):
        return {key: literal(child) for key, child in value.items()}
    if isinstance(value, list):
        return [literal(child) for child in value]
    return escaped(value) if isinstance(value, str) else value
