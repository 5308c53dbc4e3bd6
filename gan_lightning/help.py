"""The text of --help, read from the configuration files: their comments are the documentation."""

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan_lightning.config import CONF, compose
from gan_lightning.config.messages import show
from gan_lightning.config.signatures import choices, root_hints

WIDTH = 80
PROGRAM = "python -m gan_lightning"

# Which keys to show; what they mean stands beside them in the files. Other commands show all of theirs.
MOST_USED = {
    "train": (
        "data.root",
        "data.image_size",
        "data.batch_size",
        "model.generator_optimizer.lr",
        "model.discriminator_optimizer.lr",
        "trainer.max_epochs",
        "trainer.devices",
        "trainer.precision",
        "budget.generator_steps",
        "budget.minutes",
        "step.minibatches",
        "step.critic_steps",
        "step.accumulate",
        "samples.every_images",
        "scores.names",
        "scores.extractor",
        "scores.every",
        "on_collapse",
        "checkpoints.every_minutes",
        "seed",
        "checkpoint",
        "weights",
    ),
    "compress": (
        "checkpoint",
        "output",
        "method.images",
        "method.macs",
        "method.kind",
        "method.importance",
        "method.multiple",
        "method.steps",
        "method.discriminator",
        "method.width",
        "method.reconstruction",
        "method.features",
        "method.bits",
        "method.calibration",
        "scores.names",
        "threads",
        "accelerator",
    ),
}
EXAMPLES = {
    "train": (
        f"{PROGRAM} model=wgan_gp data=mnist data.root=downloads",
        f"{PROGRAM} data=image_folder data.root=photos data.image_size=64",
        f"{PROGRAM} -m model=gan,dcgan,wgan_gp seed=1,2,3",
        f"{PROGRAM} -m sweep=tpe hydra.sweeper.trials=30",
    ),
    "sample": (
        f"{PROGRAM} sample checkpoint=latest count=16 output=pictures",
        f"{PROGRAM} sample checkpoint=latest interpolate=true",
        f"{PROGRAM} sample checkpoint=latest nearest=true",
        f"{PROGRAM} sample checkpoint=latest label=all",
        f"{PROGRAM} sample checkpoint=latest dataset=true count=9000",
        f"{PROGRAM} sample checkpoint=latest interpolate=styles video=mp4",
        f"{PROGRAM} sample checkpoint=latest directions=5",
    ),
    "prepare": (
        f"{PROGRAM} prepare data.root=photos output=prepared",
        f"{PROGRAM} prepare data.root=ffhq.zip output=ffhq shard_mb=1024",
        f"{PROGRAM} prepare data.root=photos output=prepared verify=true",
    ),
    "evaluate": (
        f"{PROGRAM} evaluate checkpoint=latest",
        f"{PROGRAM} evaluate checkpoint=latest scores.names=[fid,kid]",
        f"{PROGRAM} evaluate real=photos fake=generated",
    ),
    "translate": (
        f"{PROGRAM} translate checkpoint=latest input=photo.png",
        f"{PROGRAM} translate checkpoint=latest input=photos output=translated",
        f"{PROGRAM} translate checkpoint=latest input='photos/*.jpg' tile=512 overwrite=true",
    ),
    "compress": (
        f"{PROGRAM} compress checkpoint=latest method=prune",
        f"{PROGRAM} compress checkpoint=latest method=distill",
        f"{PROGRAM} compress checkpoint=latest method=quantize",
    ),
    "export": (
        f"{PROGRAM} export checkpoint=latest",
        f"{PROGRAM} export checkpoint=latest format=torch_export",
        f"{PROGRAM} export checkpoint=latest push_to=user/name",
    ),
    "report": (
        f"{PROGRAM} report runs=[outputs/a,outputs/b,outputs/sweep]",
        f"{PROGRAM} report runs='outputs/2026-11-*' score=fid by=best",
        f"{PROGRAM} report runs=outputs output=comparison overwrite=true",
    ),
    "project": (
        f"{PROGRAM} project checkpoint=latest input=photo.png",
        f"{PROGRAM} project checkpoint=latest input=photos space=w_plus",
        f"{PROGRAM} project checkpoint=latest input=photo.png video=mp4",
    ),
}


def help_text(command: str, schema: type = dict, description: str = "") -> str:
    """Usage, models, groups, keys and examples of a command, at most WIDTH columns wide.

    schema: the command's TypedDict, for the choices of keys without a comment. description: else the first comment of
    the command's file.
    """
    config = compose(command, [], schema)
    groups = own_groups(config)
    trains = "model" in groups
    others = [] if trains else own_groups(compose("train", [], schema))
    description = description or first_comment(CONF / f"{command}.yaml")
    name = "[train] [-m]" if command == "train" else command
    of_models = [table("models" if trains else "models that can be trained", models())]
    for title, found in (("groups, chosen with group=option", groups), ("groups of the train command", others)):
        if found:
            of_models.append(table(title, [(group, ", ".join(options(group))) for group in found]))
    sections = [
        f"usage: {PROGRAM} {name} key=value …",
        textwrap.fill(description, WIDTH),
        *(of_models if "checkpoint" in set(config) else []),  # other commands are about data alone
        table("most used keys, with their defaults", list(keys(command, config, schema))),
        "examples\n" + "\n".join(f"  {example}" for example in EXAMPLES.get(command, ())),
    ]
    return "\n\n".join(sections) + "\n"


def own_groups(config: DictConfig) -> list[str]:
    """The groups that a command chooses from: data, network@model."""
    return [str(group) for group in config.hydra.runtime.choices if not str(group).startswith("hydra/")]


def options(group: str) -> list[str]:
    """The files of a group, without those that are parts of others."""
    files = (CONF / group.partition("@")[0]).glob("*.yaml")
    return sorted(file.stem for file in files if not file.stem.startswith("_"))


def models() -> list[tuple[str, str]]:
    """Every model and the first comment of its file."""
    return [(name, first_comment(CONF / "model" / f"{name}.yaml")) for name in options("model")]


def first_comment(file: Path) -> str:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ")
    return ""


def keys(command: str, config: DictConfig, schema: type) -> Iterator[tuple[str, str]]:
    """key=default and the comment beside it, or the choices of the schema."""
    hints = root_hints(schema)
    notes = comments(command, config)
    for key in MOST_USED.get(command) or list(dotted(config)):
        value = OmegaConf.select(config, key, default="…")
        note = notes.get(key) or ", ".join(map(show, choices(hints.get(key))))
        yield f"{key}={'…' if OmegaConf.is_missing(config, key) else show(value)}", note


def dotted(config: DictConfig) -> Iterator[str]:
    """The keys of a command's file, and those of its nodes."""
    for key, value in config.items_ex(resolve=False):
        if isinstance(value, DictConfig) and key != "hydra":
            yield from (f"{key}.{name}" for name in value if not str(name).startswith("_"))
        elif key != "hydra":
            yield str(key)


def comments(command: str, config: DictConfig) -> dict[str, str]:
    """The comments at the ends of lines of a command's file and of its groups, by dotted key.

    Those of the chosen options; of others only for keys that the chosen ones lack, with the option in front.
    """
    found = file_comments(CONF / f"{command}.yaml", "")
    choice: Mapping[str, Any] = config.hydra.runtime.choices
    for group in own_groups(config):
        folder, _, package = group.partition("@")
        for name in options(group):
            for key, comment in file_comments(CONF / folder / f"{name}.yaml", package or folder).items():
                if name == choice[group]:
                    found[key] = comment
                elif OmegaConf.select(config, key, default="…") == "…":
                    found[key] = "; ".join([*filter(None, [found.get(key)]), f"{name}: {comment}"])
    return found


def file_comments(file: Path, package: str) -> dict[str, str]:
    """The comments of one file of block-style mappings."""
    found: dict[str, str] = {}
    text = file.read_text(encoding="utf-8")
    parents = [(-1, "" if "# @package _global_" in text else package)]
    for line in text.splitlines():
        match = re.match(r"(\s*)(\w+):(.*?)(?:\s#\s*(.+))?$", line)
        if match is None:
            continue
        indent, name, _, comment = match.groups()
        while parents[-1][0] >= len(indent):
            parents.pop()
        key = ".".join(part for part in (parents[-1][1], name) if part)
        parents.append((len(indent), key))
        if comment:
            found[key] = comment
    return found


def table(title: str, rows: list[tuple[str, str]]) -> str:
    """Two columns under a title; long texts go on below themselves."""
    width = max((len(name) for name, _ in rows), default=0)
    lines = [title]
    for name, text in rows:
        indent = " " * (width + 4)
        wrapped = textwrap.wrap(text, WIDTH - len(indent)) or [""]
        lines.append(f"  {name:<{width}}  {wrapped[0]}".rstrip())
        lines += [indent + line for line in wrapped[1:]]
    return "\n".join(lines)
