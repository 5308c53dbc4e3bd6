"""Plain containers and OmegaConf's, and the way between them without losing a literal "${"."""

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.config.messages import shorten
from gan_lightning.errors import UserError

MISSING = re.compile(r"Interpolation key '[^']+' not found")


def plain_container(config: DictConfig) -> dict[str, Any]:
    """Plain containers in which interpolations are still text."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def resolve(config: DictConfig) -> dict[str, Any]:
    """Plain containers, interpolations replaced by what they name; Hydra's node left out."""
    resolved: dict[str, Any] = {}
    for key in config:
        if key == "hydra":
            continue
        try:
            node = config[key]
            resolved[str(key)] = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        except OmegaConfBaseException as error:
            reason = str(error.msg or error)
            if lacking := re.search(r"Interpolation key '(data\.\w+)' not found", reason):
                reason = f"needs {lacking[1]}, which this data does not have: the model is for another kind of data"
            typed = said_at(plain_container(config), lacking[0]) if (lacking := MISSING.match(reason)) else None
            raise UserError(shorten(f"{typed or error.full_key or key}: {reason}".partition("\n")[0])) from error
    return resolved


def said_at(value: Any, message: str, key: str = "") -> str | None:
    """The key, with its value, that holds the interpolation which OmegaConf's message is about: it may name another,
    which follows that."""
    if isinstance(value, Mapping):
        found = (said_at(child, message, f"{key}.{name}" if key else str(name)) for name, child in value.items())
        return next((one for one in found if one), None)
    name = message.split("'")[1]
    return f"{key}={value}" if isinstance(value, str) and value == f"${{{name}}}" else None


def as_config(config: Mapping[str, Any]) -> DictConfig:
    """A composed configuration as it is; plain containers, such as a stored one, hold nothing to be resolved."""
    if isinstance(config, DictConfig):
        return config
    try:
        made = OmegaConf.create(literal(config))
    except (OmegaConfBaseException, RecursionError) as error:  # a stored one may hold tensors, or itself
        key = getattr(error, "full_key", None) or "configuration"
        reason = str(error).partition("\n")[0]
        raise UserError(shorten(f"{key}: is no value of a configuration: {reason}")) from error
    assert isinstance(made, DictConfig)
    return made


def literal(value: Any) -> Any:
    """Plain containers for OmegaConf, with text that only looks like an interpolation kept from being one."""
    if isinstance(value, Mapping):
        return {key: literal(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [literal(child) for child in value]
    return escaped(value) if isinstance(value, str) else value


def escaped(text: str) -> str:
    """With every "${" kept from being an interpolation: one backslash more, and those before it doubled."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", text)


def pick(plain: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, None where there is none."""
    node: Any = plain
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node
