"""Values that change when a run is continued: applied to what the run stored, without composing anew."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from gan_lightning.config.composition import compose, hydra_loader, is_group, updated
from gan_lightning.config.containers import as_config, pick, plain_container, resolve
from gan_lightning.config.messages import mistake, shorten
from gan_lightning.config.overrides import find, read_overrides, values
from gan_lightning.config.signatures import root_hints
from gan_lightning.errors import UserError


def completed(stored: Mapping[str, Any], schema: type) -> dict[str, Any]:
    """What an older version stored, with the defaults of root keys that have come since."""
    missing = [key for key in root_hints(schema) if key not in stored]
    if not missing:
        return dict(stored)
    defaults = resolve(compose("train", [], schema))
    return {**stored, **{key: defaults[key] for key in missing}}


def override(
    stored: Mapping[str, Any], arguments: Sequence[str], schema: type, fixed: Sequence[str] = ()
) -> dict[str, Any]:
    """A copy of what `check` returned, with values changed, for continuing a run. To be checked again.

    Groups cannot be chosen again. fixed: dotted keys that stay as they are; typing the stored value again is no change.
    """
    plain = plain_container(as_config(completed(stored, schema)))
    copies = followers(plain)
    with hydra_loader() as loader:
        for argument in read_overrides(arguments):
            key, typed = argument.key, argument.value or ""
            if is_group(loader, key):
                kept = key.partition("@")[0]
                reason = f"a continued run keeps its {kept}; use weights=… to start a fresh run from its networks"
                if kept not in ("model", "data", "network", "experiment"):
                    reason = f"a continued run does not choose its {kept} again: change single keys, {kept}.…="
                raise mistake(key, typed, reason)
            if key.partition(".")[0] == "hydra":
                raise mistake(key, typed, "a continued run stays in its folder")
            place = find(plain, schema, argument)
            if argument.value is None or argument.prefix == "~":
                raise UserError(shorten(f"{argument}: a continued run keeps its keys; give a value"))
            for copy, source in copies.items():
                if f"{key}.".startswith(f"{copy}."):
                    raise mistake(key, typed, f"{copy} follows {source}: change it there")
            (_, text), *_ = values(argument, place, sweep=False)
            changed = updated(plain, replace(argument, prefix="", value=text))
            for copy, source in copies.items():
                if f"{key}.".startswith(f"{source}."):
                    moved = replace(argument, prefix="", key=copy + key[len(source) :], value=text)
                    changed = updated(changed, moved)
            if any(pick(changed, name) != pick(plain, name) for name in fixed):
                reason = "cannot change in a continued run; use weights=… to start a fresh run from its networks"
                raise mistake(key, typed, reason)
            plain = changed
    changed = OmegaConf.create(plain)
    return resolve(changed)


def followers(plain: Mapping[str, Any]) -> dict[str, str]:
    """Nodes that follow a root node, such as model.step: resolved values no longer say so, but name and content do."""
    found: dict[str, str] = {}

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for name, child in node.items():
            if isinstance(child, Mapping):
                if prefix and plain.get(name) == child:
                    found[f"{prefix}{name}"] = name
                else:
                    walk(child, f"{prefix}{name}.")

    walk(plain, "")
    return found
