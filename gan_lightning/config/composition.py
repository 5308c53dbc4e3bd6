"""From arguments to a configuration: groups first, then every key is looked up in what they give."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import gan_lightning
from gan_lightning.config.containers import plain_container
from gan_lightning.config.messages import did_you_mean, mistake, shorten, unknown_key
from gan_lightning.config.overrides import (
    Override,
    ends,
    find,
    parse,
    product,
    read_overrides,
    single,
    sweep_values,
    values,
)
from gan_lightning.data.listing import class_folders
from gan_lightning.data.vocabulary import text_size
from gan_lightning.errors import UserError
from gan_lightning.paths import expand

PACKAGE = Path(next(iter(gan_lightning.__path__))).resolve()
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"  # a wheel's copy, else a checkout's
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def count_class_folders(root: object, labels: object) -> int:
    """The classes of a folder of images, for its configuration: 0 without labels, or where it cannot be listed.

    What is wrong with the folder is said by the data's own check.
    """
    try:
        return len(class_folders(expand(str(root)))) if labels else 0
    except (OSError, ValueError):
        return 0


# With a cache, so that a folder is listed once however many keys follow the number.
OmegaConf.register_new_resolver("class_folders", count_class_folders, use_cache=True, replace=True)


def size_of_text(what: Literal["vocabulary", "length"], *, _parent_: DictConfig) -> int:
    """What a file of sentences has, for the configuration that names it: 1 where it cannot be read."""
    return 1 if OmegaConf.is_missing(_parent_, "root") else text_size(what, cast(Any, _parent_))


OmegaConf.register_new_resolver("text", size_of_text, replace=True)  # which keeps the file it has read


def count_sound_classes(root: object, labels: object, part: object, separator: object) -> int:
    """The same for a folder of sounds."""
    from gan_lightning.data.wav import sound_classes  # with SciPy, which other commands need not wait for

    try:
        return len(sound_classes(expand(str(root)), cast(Any, labels), int(str(part)), str(separator)))
    except (OSError, ValueError):
        return 0


OmegaConf.register_new_resolver("sound_classes", count_sound_classes, use_cache=True, replace=True)


@dataclass(frozen=True)
class Arguments:
    """Checked arguments: for every one its values as typed and in Hydra's grammar, more than one in a sweep.

    `~key` has none.
    """

    groups: list[tuple[Override, list[str]]]
    values: list[tuple[Override, list[tuple[str, str]]]]
    base: DictConfig  # what the groups alone give

    def in_hydra(self) -> list[str]:
        """The same arguments as stock Hydra accepts them."""
        groups = [f"{group.prefix}{group.key}={','.join(names)}" for group, names in self.groups if names]
        texts = [f"{value.prefix}{value.key}={','.join(text for _, text in pairs)}" for value, pairs in self.typed()]
        return groups + texts + self.deleted()

    def first(self) -> list[str]:
        """The same with the first value of every sweep."""
        groups = [f"{group.prefix}{group.key}={names[0]}" for group, names in self.groups if names]
        texts = [f"{value.prefix}{value.key}={single(pairs[0][1])}" for value, pairs in self.typed()]
        return groups + texts + self.deleted()

    def typed(self) -> list[tuple[Override, list[tuple[str, str]]]]:
        return [(value, pairs) for value, pairs in self.values if pairs]

    def deleted(self) -> list[str]:
        """What `~key` takes away."""
        return [
            f"~{override.key}" if override.value == "null" else str(override)  # Hydra has no group=null
            for override, found in [*self.groups, *self.values]
            if not found
        ]


def compose(command: str, arguments: Sequence[str], schema: type, *, sweep: bool = False) -> DictConfig:
    """conf/<command>.yaml with the arguments applied and Hydra's own node in it.

    With `sweep`, comma lists and Hydra's sweep functions are accepted and their first values taken.
    """
    with hydra_loader() as loader:
        checked = read(loader, command, read_overrides(arguments), schema, sweep)
        config = run_hydra(command, checked.first()) if checked.values else checked.base
        HydraConfig.instance().set_config(config)  # what ${hydra:…} reads
    return config


def hydra_arguments(command: str, arguments: Sequence[str], schema: type, *, params: bool = False) -> list[str]:
    """The same arguments, checked and rewritten so that stock Hydra accepts them with -m.

    A comma separates the values of a sweep, also between paths; a path that holds one is put in quotes: 'a,b'.
    params: with what the configuration itself sweeps over, which Hydra's own sweeper reads for itself.
    """
    with hydra_loader() as loader:
        if params:
            return swept(loader, command, arguments, schema)[0].in_hydra()
        return read(loader, command, read_overrides(arguments), schema, sweep=True).in_hydra()


def swept(
    loader: ConfigLoader, command: str, arguments: Sequence[str], schema: type
) -> tuple[Arguments, dict[str, Any]]:
    """The arguments above what the configuration sweeps over (hydra.sweeper.params), and the sweeper's node."""
    given = read_overrides(arguments)
    own = [one for one in given if is_group(loader, one.key) or one.key.startswith("hydra.")]
    config = plain_container(run_hydra(command, read(loader, command, own, schema, sweep=True).first()))
    sweeper = config["hydra"]["sweeper"]
    if not isinstance(sweeper, dict):
        raise mistake("hydra.sweeper", sweeper, "must be a mapping; leave it out for Hydra's own")
    params = sweeper.get("params") or {}
    if not isinstance(params, dict):
        raise mistake("hydra.sweeper.params", params, "must be a mapping of keys to sweeps")
    typed = {override.key for override in given}
    space = [one for one in read_overrides([f"{key}={value}" for key, value in params.items()]) if one.key not in typed]
    return read(loader, command, [*space, *given], schema, sweep=True), sweeper


def sweep_jobs(command: str, arguments: Sequence[str], schema: type) -> list[list[str]]:
    """The arguments of every job of a sweep, as `compose` takes them.

    Hydra's own sweeper runs through all combinations. Others choose as they go: here one job of first values, and one
    for every other value, or other end of an interval, beside the first of the rest.
    """
    with hydra_loader() as loader:
        checked, sweeper = swept(loader, command, arguments, schema)
    lists: dict[str, list[str]] = {}
    for group, names in checked.groups:
        if names:
            lists[group.prefix + group.key] = names
    basic = sweeper.get("_target_") == BASIC_SWEEPER
    for value, pairs in checked.typed():
        if value.key.startswith("hydra."):
            continue
        if basic and any(ends(text) for _, text in pairs):
            raise mistake(value.key, pairs[0][0], "an interval is for searches: use range(…) or choice(…)")
        lists[value.prefix + value.key] = [one for typed, text in pairs for one in ends(text) or [typed]]
    if basic:
        return [job + checked.deleted() for job in product(lists)]
    first = {key: texts[0] for key, texts in lists.items()}
    jobs = [first, *({**first, key: text} for key, texts in lists.items() for text in texts[1:])]
    return [[f"{key}={text}" for key, text in job.items()] + checked.deleted() for job in jobs]


@contextmanager
def hydra_loader() -> Iterator[ConfigLoader]:
    """Hydra, looking at CONF."""
    with hydra.initialize_config_dir(config_dir=str(CONF), job_name="gan_lightning", version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def read(loader: ConfigLoader, command: str, overrides: Sequence[Override], schema: type, sweep: bool) -> Arguments:
    """Check every argument against the groups, then against the configuration that they give."""
    groups = [override for override in overrides if is_group(loader, override.key)]
    chosen = [(group, group_names(loader, group, sweep)) for group in groups]
    base = compose_groups(command, [(group, names[0] if names else None) for group, names in chosen])
    plain = plain_container(base)
    rest = [override for override in overrides if override not in groups]
    # A new `_target_`, or a node written as a whole, decides which keys may stand beside it.
    for override in sorted(rest, key=lambda override: not replaces_node(override)):
        if not replaces_node(override):
            break
        find(plain, schema, override)
        plain = updated(plain, override)
    several = any(len(names) > 1 for _, names in chosen)
    read_values = []
    for override in rest:
        place = find(plain, schema, override)
        if override.prefix == "~" or override.value is None:
            if not place.present:
                raise mistake(override.key, override.value or "", "cannot be deleted: it is not there")
            read_values.append((override, []))
            continue
        pairs = values(override, place, sweep and not override.key.startswith("hydra."))
        if not override.key.startswith("hydra."):
            # The key was looked up here: Hydra may add what only the constructor, or another job of the sweep, has.
            add = not place.present or override.prefix != "" or several or replaces_node(override)
            override = replace(override, prefix="++" if add else "")
        read_values.append((override, pairs))
    return Arguments(chosen, read_values, base)


def replaces_node(override: Override) -> bool:
    value = (override.value or "").lstrip()
    return not override.key.startswith("hydra.") and (override.key.endswith("._target_") or value.startswith("{"))


def updated(plain: dict[str, Any], override: Override) -> dict[str, Any]:
    """A plain configuration with one value merged in."""
    try:
        value = parse(override).value()
    except HydraException as error:
        reason = "cannot be read: brackets or quotes do not match"
        raise mistake(override.key, override.value, reason) from error
    config = OmegaConf.create(plain)
    try:
        OmegaConf.update(config, override.key, value, merge=True, force_add=True)
    except OmegaConfBaseException as error:
        raise mistake(override.key, override.value, "a mapping cannot take the place of this value") from error
    return plain_container(config)


def is_group(loader: ConfigLoader, key: str) -> bool:
    """Whether an argument chooses an option of a group: model, network@model, hydra/launcher."""
    group = key.partition("@")[0]
    if group != key or "/" in group:
        if not listing(loader, group, ObjectType.CONFIG):
            available = [name for name in listing(loader, "", ObjectType.GROUP) if name != "hydra"]
            if group.startswith("hydra/"):
                available += [f"hydra/{name}" for name in listing(loader, "hydra", ObjectType.GROUP)]
            raise UserError(shorten(f"{key}: no such group; {did_you_mean(group, available)}"))
        return True
    return "." not in key and key in listing(loader, "", ObjectType.GROUP) and bool(options(loader, key))


def options(loader: ConfigLoader, group: str) -> list[str]:
    """What a group offers; files that begin with _ are parts of others."""
    return [name for name in listing(loader, group, ObjectType.CONFIG) if not name.startswith("_")]


def listing(loader: ConfigLoader, group: str, kind: ObjectType) -> list[str]:
    """What lies in a group's folders. The loader's own methods copy all of its sources for every question."""
    return cast(ConfigLoaderImpl, loader).repository.get_group_options(group, kind)


def group_names(loader: ConfigLoader, override: Override, sweep: bool) -> list[str]:
    """The chosen options of a group, checked; several in a sweep."""
    value, group = override.value, override.key.partition("@")[0]
    if value in (None, "null") or override.prefix == "~":
        return []
    available = options(loader, group)
    names = [value]
    try:
        parsed = parse(override)
    except HydraException:
        parsed = None  # no option has a name that Hydra cannot read
    if parsed is not None and parsed.is_sweep_override():
        if not sweep:
            raise mistake(override.key, value, "several values are a sweep: add -m")
        parsed.config_loader = loader
        names = sweep_values(override, parsed)
        if value.lstrip().startswith("glob("):
            names = [name for name in names if not name.startswith("_")]
    for name in names:
        if name not in available:
            raise mistake(override.key, name, f"no such {group}; {did_you_mean(name, available)}")
    return names


def compose_groups(command: str, groups: Sequence[tuple[Override, str | None]]) -> DictConfig:
    """The configuration of the chosen options alone; None: the group is deleted."""
    texts = [f"{group.prefix}{group.key}={name}" if name is not None else f"~{group.key}" for group, name in groups]
    try:
        return run_hydra(command, texts)
    except UserError as error:
        raise misplaced_group(command, groups) or error from error


def misplaced_group(command: str, groups: Sequence[tuple[Override, str | None]]) -> UserError | None:
    """For a group that exists and that this command does not choose from, or not under this name."""
    config = run_hydra(command, [])
    chosen = [str(name) for name in config.hydra.runtime.choices if not str(name).startswith("hydra/")]
    for group, name in groups:
        if group.key in chosen and group.prefix in ("+", "++"):
            return mistake(group.prefix + group.key, name, f"write {group.key}={name}")
        if group.key not in chosen and not group.prefix:
            bare = group.key.partition("@")[0]
            packaged = [key for key in chosen if key.partition("@")[0] == bare]
            if packaged:
                return mistake(group.key, name, f"write {' or '.join(f'{key}={name}' for key in packaged)}")
            available = chosen or [str(key) for key in config if key != "hydra"]
            return unknown_key(group.key, name, available, available)
    return None


def run_hydra(command: str, texts: Sequence[str]) -> DictConfig:
    """Compose, with Hydra's mistakes in one paragraph."""
    try:
        return hydra.compose(command, list(texts), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, AttributeError, ValueError) as error:
        ours = isinstance(error, HydraException | OmegaConfBaseException)  # the others are slips inside the libraries
        reason = str(error.__cause__ or error).partition("\n    full_key")[0]
        reason = reason if ours else f"Hydra cannot apply {' '.join(texts)}: {reason}"
        prefix = next((text for text in texts if text in str(error)), None)
        raise UserError(shorten(reason if prefix is None or prefix in reason else f"{prefix}: {reason}")) from error
