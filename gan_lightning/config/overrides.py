"""What a user types, `key=value`, and its translation into Hydra's grammar."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Quote, QuotedString
from hydra.core.override_parser.types import Override as Parsed
from hydra.errors import HydraException

from gan_lightning.config.containers import escaped
from gan_lightning.config.messages import mistake, shorten, unknown_key
from gan_lightning.config.signatures import (
    SPECIAL,
    UNKNOWN,
    allows_none,
    arguments_of,
    is_known,
    is_list,
    is_path,
    is_text,
    locate,
    parameters,
    root_hints,
)
from gan_lightning.errors import UserError
from gan_lightning.paths import no_path

HYDRA_PATHS = ("hydra.run.dir", "hydra.sweep.dir")  # taken as typed, like every key annotated with Path
ELEMENT = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)")\s*(?=,|$)|([^,]*)""")  # one value of a comma list of paths
SIZE = re.compile(r"\$\{(data\.\w+)\}")  # typed once, in data: networks of other sizes than the images cannot play


@dataclass(frozen=True)
class Override:
    """One argument, as typed. `key` may be a group, with or without its package: network@model."""

    prefix: str  # "", "+", "++" or "~"
    key: str
    value: str | None  # None: `~key` alone

    def __str__(self) -> str:
        return self.prefix + self.key + ("" if self.value is None else f"={self.value}")


@dataclass(frozen=True)
class Place:
    """Where a key leads."""

    annotation: Any  # UNKNOWN where nothing is known about it
    present: bool  # in the configuration; otherwise only in the signature of the constructor


def read_overrides(arguments: Sequence[str]) -> list[Override]:
    """Split every argument at its first "="."""
    return [read_override(argument) for argument in arguments]


def read_override(argument: str) -> Override:
    match = re.match(r"\s*(\+\+|\+|~)?([^=]*)(=.*)?$", argument, re.DOTALL)
    assert match is not None  # everything in it is optional
    prefix, key, rest = match[1] or "", match[2].strip(), match[3]
    if not key or (rest is None and prefix != "~"):
        raise UserError(shorten(f"{argument}: arguments are written key=value"))
    return Override(prefix, key, None if rest is None else rest[1:])


def find(config: Mapping[str, Any], schema: type, override: Override) -> Place:
    """Look up a value key in an unresolved plain configuration; UserError with the closest keys if it leads nowhere."""
    parts, key, value = override.key.split("."), override.key, override.value or ""
    if parts[0] == "hydra":
        return find_in_hydra(config, override)
    hints = root_hints(schema)
    node: Any = config
    annotation: Any = UNKNOWN
    for depth, part in enumerate(parts):
        parent = ".".join(parts[:depth])
        if isinstance(node, str) and node.startswith("${") and not is_path(annotation):
            raise mistake(key, value, f"{parent} follows {node[2:-1]}: change it there")
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise mistake(key, value, f"no such key; {parent} is a list of {len(node)} items, counted from 0")
            node, annotation = node[int(part)], UNKNOWN
            continue
        if not isinstance(node, Mapping):
            raise mistake(key, value, f"no such key; {parent} is a single value")
        known = hints if depth == 0 else annotations(node, parent, part in node)
        if part in node:
            node, annotation = node[part], known.get(part, UNKNOWN)
        elif part in known and depth == len(parts) - 1:
            return Place(known[part], present=False)
        elif depth and "_target_" not in node and override.prefix in ("+", "++") and depth == len(parts) - 1:
            return Place(UNKNOWN, present=False)  # a plain mapping, such as the loggers, may be extended
        else:
            siblings = [name for name in dict.fromkeys([*node, *known]) if name not in (*SPECIAL, "hydra")]
            keys = dotted_keys(config, hints) + [f"{parent}.{name}" for name in siblings if parent]
            raise unknown_key(key, value, keys, siblings, parent)
    if parts[0] != "data" and isinstance(node, str) and (source := SIZE.fullmatch(node)):
        raise mistake(key, value, f"follows {source[1]}: change it there")
    return Place(annotation, present=True)


def find_in_hydra(config: Mapping[str, Any], override: Override) -> Place:
    """Hydra checks its own keys; here only for the closest ones, in the same words."""
    if override.key in HYDRA_PATHS or override.prefix in ("+", "++"):
        return Place(UNKNOWN, present=override.key in HYDRA_PATHS)
    node: Any = config
    parts = override.key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, Mapping) or part not in node:
            siblings = list(node) if isinstance(node, Mapping) else []
            keys = [".".join([*parts[:depth], name]) for name in siblings]
            raise unknown_key(override.key, override.value or "", keys, siblings, ".".join(parts[:depth]))
        node = node[part]
    return Place(UNKNOWN, present=True)


def annotations(node: Mapping[str, Any], key: str, optional: bool) -> dict[str, Any]:
    """The arguments of a node's `_target_` and their annotations; `optional`: nothing is said if it does not exist."""
    if "_target_" not in node:
        return {}
    try:
        target = locate(node["_target_"])
    except UserError as error:
        if optional:  # the check of the whole configuration will say it
            return {}
        raise mistake(f"{key}._target_", node["_target_"], str(error)) from error
    known = parameters(target)
    return {name: known[name].annotation for name in arguments_of(known, node.get("_partial_") is True)}


def dotted_keys(node: Any, hints: Mapping[str, Any] | None = None, prefix: str = "") -> list[str]:
    """Every key below a configuration that a user may set."""
    keys = list(hints or {}) if not prefix else []
    if isinstance(node, Mapping):
        for name, child in node.items():
            if name not in SPECIAL and not (name == "hydra" and not prefix):
                keys += [f"{prefix}{name}", *dotted_keys(child, None, f"{prefix}{name}.")]
    return list(dict.fromkeys(keys))


def quoted(text: str) -> str:
    """A string for Hydra's grammar that OmegaConf reads back exactly."""
    return QuotedString(escaped(text), Quote.single).with_quotes()


def as_typed(text: str, config: Mapping[str, Any], schema: type) -> str:
    """An argument in Hydra's grammar as this command line takes it: paths without quotes, the rest as it is.

    config: what the arguments gave, unresolved and plain.
    """
    override = read_override(text)
    try:
        path = override.value is not None and is_path(find(config, schema, override).annotation)
    except UserError:  # a group
        return text
    value = parse(override).value() if path else None
    if not isinstance(value, str):
        return text
    plain = re.sub(r"(\\*)\\\$\{", lambda match: match[1][: len(match[1]) // 2] + "${", value)
    return f"{override.prefix}{override.key}={plain}"


def split_paths(value: str) -> list[str]:
    """A comma list of a sweep over paths; a path in quotes may hold commas."""
    values, position = [], 0
    while position <= len(value):
        match = ELEMENT.match(value, position)
        assert match is not None
        values.append(next(group for group in match.groups() if group is not None))
        position = match.end() + 1
    return values


def parse(override: Override) -> Parsed:
    """Hydra's reading of an argument; HydraException if its grammar has none."""
    return OverridesParser.create().parse_override(str(override))


def values(override: Override, place: Place, sweep: bool) -> list[tuple[str, str]]:
    """The value of an argument as typed and in Hydra's grammar; several of them when it is a sweep."""
    value, annotation = override.value, place.annotation
    assert value is not None
    if override.key in HYDRA_PATHS:
        if reason := no_path(value):  # an empty one would be the working directory
            raise mistake(override.key, value, reason)
        return [(value, quoted(value))]
    if is_path(annotation):
        paths = split_paths(value) if sweep else [value]
        return [(path, "null" if path == "null" and allows_none(annotation) else quoted(path)) for path in paths]
    known = is_known(annotation)
    try:
        parsed = parse(override)
    except HydraException as error:
        if known and not value.lstrip().startswith(("[", "{")):
            return [(value, quoted(value))]  # as typed for a string; for other types the check says what is expected
        raise mistake(override.key, value, "cannot be read: brackets or quotes do not match") from error
    if parsed.is_sweep_override():
        if override.key.startswith("hydra."):
            raise mistake(
                override.key, value, "Hydra's own keys take one value: put it in quotes, or in brackets for a list"
            )
        if not sweep:
            several = "several values are a sweep: add -m"
            as_list = parsed.is_choice_sweep() and is_list(annotation)
            raise mistake(override.key, value, f"{several}, or write [{value}] for a list" if as_list else several)
        return [(text, text) for text in sweep_values(override, parsed)]
    if is_text(annotation) and isinstance(parsed.value(), int | float):
        return [(value, quoted(value))]  # a name such as 2024 or true
    return [(value, value)]


def sweep_values(override: Override, parsed: Parsed) -> list[str]:
    """What a sweep goes through, in Hydra's grammar; an interval as it is."""
    sweep = parsed.value()
    if isinstance(sweep, IntervalSweep):
        return [str(override.value)]
    if isinstance(sweep, Glob) and parsed.config_loader is None:
        raise mistake(override.key, override.value, "glob is only for groups such as model")
    found = list(parsed.sweep_string_iterator())
    if not found:
        raise mistake(override.key, override.value, "no value at all")
    return found


def ends(text: str) -> list[str]:
    """The start and the end of an interval(…) in Hydra's grammar; nothing of what is none."""
    sweep = parse(Override("", "key", text)).value() if "interval(" in text else None
    return [str(sweep.start), str(sweep.end)] if isinstance(sweep, IntervalSweep) else []


def single(text: str) -> str:
    """One value of what `sweep_values` returns: an interval's start, anything else as it is."""
    return next(iter(ends(text)), text)


def product(lists: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Every combination of key=value, the last key fastest: the order of Hydra's sweeper."""
    pairs = [[f"{key}={value}" for value in values] for key, values in lists.items()]
    return [list(job) for job in itertools.product(*pairs)]
