"""Builds what a configuration describes, for real or to see whether its constructors agree to it."""

import re
from collections.abc import Mapping
from typing import Any

import hydra
from hydra.errors import InstantiationException

from gan_lightning.config.checking import Checker, join, targets
from gan_lightning.config.containers import as_config, literal, pick, resolve
from gan_lightning.config.messages import mistake, shorten
from gan_lightning.config.signatures import locate
from gan_lightning.errors import UserError


def check_models(config: Mapping[str, Any]) -> dict[str, Any]:
    """Build every root node on the meta device, where nothing is computed: constructors refuse contradictions."""
    import torch  # here: an unknown key must not wait for it

    unresolved = as_config(config)
    checker = Checker(unresolved, ())
    resolved, built = resolve(unresolved), {}
    for key, node in resolved.items():
        if isinstance(node, Mapping) and "_target_" in node:
            try:
                with torch.device("meta"):
                    built[key] = instantiate(node)
            except InstantiationException as error:
                raise refused(key, error, checker, resolved) from error
    return built


def instantiate(node: Mapping[str, Any], **arguments: Any) -> Any:
    """Build a checked, resolved node and the nodes in it; `arguments` are added, and complete a `_partial_` one.

    Lists are plain lists.
    """
    for key, target in targets(node):
        try:
            locate(target)
        except UserError as error:
            raise mistake(key, target, str(error)) from error
    node = literal(literal(node))  # Hydra resolves twice: once the whole node, once every value
    if not arguments:
        return hydra.utils.instantiate(node, _convert_="all")
    # Not as Hydra's own keywords: it would take dataclasses among them for configurations.
    return hydra.utils.instantiate({**node, "_partial_": True}, _convert_="all")(**arguments)


def refused(key: str, error: InstantiationException, checker: Checker, config: Mapping[str, Any]) -> Exception:
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
    twice = re.search(r"multiple values for keyword argument '(\w+)'", message)
    if isinstance(cause, TypeError) and twice:
        name = join(where, twice[1])
        return mistake(
            checker.source(name), pick(config, name), f"{pick(config, where)['_target_']} sets it: leave it out"
        )
    match = re.match(r"([a-z_]\w*)=", message)
    if match is None:
        return UserError(shorten(f"{checker.source(where)}: {message}"))
    name = checker.source(join(where, match[1]))
    # A resolved configuration no longer says what it follows; sizes are typed once, in data, under the same name.
    in_data = f"data.{match[1]}"
    if key != "data" and pick(config, in_data) is not None and pick(config, in_data) == pick(config, name):
        name = in_data
    return UserError(shorten(f"{name}={message[match.end() :]}"))
