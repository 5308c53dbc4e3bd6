"""Draws images from a trained generator: samples, a row a class, labelled data sets; and what pictures.py shows."""

import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from rich import progress
from rich.console import Console
from torch import Tensor, nn

from gan_lightning import sampling
from gan_lightning.adversarial import AdversarialModule
from gan_lightning.callbacks.samples import beside_nearest, save, save_grid
from gan_lightning.checkpoint import find_checkpoint, run_folder
from gan_lightning.commands import pictures
from gan_lightning.commands.loading import choose_device, load_data, load_module, split_arguments, stored_config
from gan_lightning.commands.pictures import CLASSES_MOST, safe_name, show
from gan_lightning.config import check, compose, instantiate
from gan_lightning.data.base import Data
from gan_lightning.data.pixels import save_image
from gan_lightning.data.text import TextData
from gan_lightning.errors import UserError
from gan_lightning.films import Video
from gan_lightning.latents import Layers
from gan_lightning.paths import expand
from gan_lightning.sampling import evaluation_labels, sampler
from gan_lightning.sequences import TextRule
from gan_lightning.translation import Translator
from gan_lightning.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

NEAREST_MOST = 128  # pairs in nearest.png
PICTURES = ("grid.png", "nearest.png", "projected.png")  # written beside images


class Settings(TypedDict):
    """The keys of conf/sample.yaml; `data.…` keys say where the run's data has moved, for `nearest`."""

    checkpoint: Path
    output: Path | None
    count: PositiveInt
    seed: NonNegativeInt
    grid: bool
    nearest: bool
    label: NonNegativeInt | str | list[NonNegativeInt | str] | None
    truncation: NonNegativeFloat | list[NonNegativeFloat] | None
    temperature: PositiveFloat | None
    prefix: str | None
    interpolate: bool | Literal["latents", "styles", "labels"]
    video: Video | None
    mixing: bool | Layers
    directions: PositiveInt | None
    layers: Layers | None
    traverse: bool
    dataset: bool
    ema: bool
    accelerator: Literal["auto", "cpu", "gpu"]


def run(arguments: list[str]) -> int:
    """The command: writes samples and a picture of them, or what else was asked for, to a folder that was empty."""
    own, moved = split_arguments(arguments)
    settings = check(compose("sample", own, Settings), Settings)
    if settings["interpolate"] is True:
        settings["interpolate"] = "latents"
    config = stored_config(Path(settings["checkpoint"]), moved)
    module = load_module(Path(settings["checkpoint"]), config).to(choose_device(settings["accelerator"]))
    if isinstance(module, Translator):
        kind = type(module).__name__
        raise UserError(
            f"checkpoint={settings['checkpoint']}: {kind} makes images of images: use the translate command"
        )
    chosen = chosen_classes(module, settings["label"])
    find_contradictions(module, settings, chosen)
    data: Data = instantiate(config["data"])
    data.recall(module.data_facts)
    for key in (*asked_for(settings), *(["nearest"] if settings["nearest"] else [])):
        if not data.pictures:
            made = f"samples of {settings['checkpoint']} are {data.noun}, not images"
            raise UserError(f"{key}={show(settings[key])}: {made}")
    set_text(module, data, settings)
    if settings["nearest"]:
        data = load_data(config)
    folder = output_folder(settings, "sampled")
    grids = isinstance(settings["truncation"], list)
    network = sampler(module, ema=settings["ema"], truncation=None if grids else settings["truncation"])
    found = pictures.find_directions(module, network, settings) if settings["directions"] else None
    folder.mkdir(parents=True, exist_ok=True)
    if settings["interpolate"]:
        pictures.walk(module, network, settings, chosen, folder)
    elif settings["traverse"]:
        pictures.traverse(module, network, settings, chosen, folder)
    elif settings["mixing"]:
        pictures.mix(module, network, settings, chosen, folder)
    elif found is not None:
        pictures.follow(module, network, settings, chosen, folder, found)
    elif grids:
        pictures.truncate(module, settings, chosen, folder)
    elif settings["dataset"]:
        write_dataset(module, network, settings, chosen, folder)
    else:
        images = write_samples(module, network, data, settings, chosen, folder)
        if settings["nearest"]:
            save(beside_nearest(images[:NEAREST_MOST], data.train), folder / "nearest.png")
    shown = [] if settings["dataset"] else [f.name for f in folder.iterdir() if not re.search(r"(^|_)\d{5,}$", f.stem)]
    print(f"{folder}: {', '.join(sorted(shown))}".rstrip(": "))
    return 0


def set_text(module: AdversarialModule, data: Data, settings: dict[str, Any]) -> None:
    """Tells a model of text how to sample. Raises UserError where it cannot, and for another model."""
    for key in ("temperature", "prefix"):
        if settings[key] is not None and not (isinstance(module, TextRule) and isinstance(data, TextData)):
            kind = type(module).__name__
            raise UserError(f"{key}={settings[key]}: is for models of text, and {kind} makes {data.noun}")
    if isinstance(module, TextRule) and isinstance(data, TextData):
        module.evaluation_block(settings["seed"], 0, settings["truncation"])  # refuses truncation
        module.temperature = settings["temperature"] or 1.0
        module.prefix = None if settings["prefix"] is None else data.prefix(settings["prefix"])


def chosen_classes(module: AdversarialModule, label: int | str | list[int | str] | None) -> list[int] | None:
    """The classes that `label` names; None where it says nothing. `all`: every class."""
    if label is None:
        return None
    if label == "all" and module.classes:
        return list(range(module.classes))
    chosen = [class_number(module, one) for one in (label if isinstance(label, list) else [label])]
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(f"label={label}: must name classes, each once")
    return chosen


def class_number(module: AdversarialModule, label: int | str) -> int:
    """A class by its name, else by its number: folders may be called 2024."""
    if not module.classes:
        raise UserError(f"label={label}: the model cannot be asked for it: it is not class-conditional")
    named = [number for number, name in enumerate(module.class_names[: module.classes]) if name == str(label)]
    if len(named) > 1:
        raise UserError(f"label={label}: the name of classes {', '.join(map(str, named))}: give one of these numbers")
    if named:
        return named[0]
    if isinstance(label, int) and label < module.classes:
        return label
    names = ", ".join(module.class_names[:CLASSES_MOST]) + (", …" if len(module.class_names) > CLASSES_MOST else "")
    known = f"classes 0 to {module.classes - 1}" + (f": {names}" if names else "")
    raise UserError(f"label={label}: the model cannot be asked for it: it knows {known}")


def find_contradictions(module: AdversarialModule, settings: dict[str, Any], chosen: list[int] | None) -> None:
    """Raises UserError for settings that do not go together, or that the model cannot follow."""
    special = asked_for(settings)
    if len(special) > 1:
        raise UserError(f"{special[1]}={show(settings[special[1]])}: not together with {special[0]}; ask for one")
    if special and settings["nearest"]:
        raise UserError(f"nearest=true: belongs to samples, not to {special[0]}={show(settings[special[0]])}")
    pictures.find_contradictions(module, settings, chosen)
    if chosen and len(chosen) > settings["count"] and special in ([], ["dataset"]):
        raise UserError(f"count={settings['count']}: label={show(settings['label'])} names {len(chosen)} classes")


def asked_for(settings: dict[str, Any]) -> list[str]:
    """The keys that ask for something in place of samples."""
    special = [key for key in ("interpolate", "traverse", "dataset", "mixing", "directions") if settings[key]]
    return special + (["truncation"] if isinstance(settings["truncation"], list) else [])


def class_folders(module: AdversarialModule) -> list[str]:
    """A file name of each class, no two of which are equal: its name, or its number in as many digits as sort well.

    Characters that file names cannot have everywhere are written as in URLs; so is a leading dot, which hides files.
    """
    width = len(str(max(0, module.classes - 1)))
    names = [f"{number:0{width}d}" for number in range(module.classes)]
    for number, name in enumerate(module.class_names[: module.classes]):
        names[number] = safe_name(name) or names[number]
    often = Counter(name.casefold() for name in names)
    return [name if often[name.casefold()] == 1 else f"{name}%{number}" for number, name in enumerate(names)]


def write_samples(
    module: AdversarialModule,
    network: nn.Module,
    data: Data,
    settings: dict[str, Any],
    chosen: list[int] | None,
    folder: Path,
) -> Tensor:
    """Samples as files and grid.png; the images (count, C, H, W).

    Several classes: the latents of an image are those of its neighbours above and below in the grid, which has a row a
    class, for as many as fit; the first classes have one more where `count` is no multiple.
    """
    several, count = chosen is not None and len(chosen) > 1, settings["count"]
    rows: list[Any] = [[label] for label in chosen] if several and chosen else [chosen]
    names = class_folders(module)
    images: list[Tensor] = []  # of each row: (n, C, H, W)
    how = {"seed": settings["seed"], "truncation": settings["truncation"]}
    for place, labels in enumerate(rows):
        size = len(range(place, count, len(rows)))
        images.append(torch.cat(list(sampling.rendered(module, network, size, label=labels, **how))))
        name = f"{names[labels[0]]}_" if several else ""
        data.write(images[-1], folder, name)
    if settings["grid"] and several and data.pictures:
        columns = max(1, min(len(images[0]), data.most_shown // len(rows)))
        shown = [row[:columns] for row in images[: data.most_shown]]
        blank = [torch.ones(columns - len(row), *row.shape[1:], device=row.device) for row in shown]
        shown = [torch.cat(pair) for pair in zip(shown, blank, strict=True)]
        save_grid(torch.cat(shown), folder / "grid.png", columns)
    elif settings["grid"] and not isinstance(data, TextData):  # whose one file has all samples
        data.exhibit(torch.cat(images)[: data.most_shown], module, settings["ema"]).save(folder / "grid")
    return torch.cat(images)


def write_dataset(
    module: AdversarialModule, network: nn.Module, settings: dict[str, Any], chosen: list[int] | None, folder: Path
) -> None:
    """<class>/00000.png …: images alone, the classes in turn; without classes 00000.png …"""
    count, names = settings["count"], class_folders(module)
    labels = evaluation_labels(module, count, chosen)
    places = [folder / names[label] for label in labels.tolist()] if labels is not None else [folder] * count
    for place in set(places):
        place.mkdir(exist_ok=True)
    written = Counter[Path]()
    blocks = sampling.rendered(
        module, network, count, seed=settings["seed"], label=chosen, truncation=settings["truncation"]
    )
    images = (image for block in blocks for image in block)
    shown = progress.track(images, "writing", total=count, transient=True, disable=not Console().is_terminal)
    for place, image in zip(places, shown, strict=True):
        save_image(image, place / f"{written[place]:05d}.png")
        written[place] += 1


def output_folder(settings: dict[str, Any], name: str) -> Path:
    """The folder asked for, which must be empty, or the first free <run>/<name>/<number>."""
    if settings["output"]:
        folder = expand(settings["output"])
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"output={folder}: exists and is not an empty folder; nothing is overwritten")
        return folder
    root = run_folder(find_checkpoint(Path(settings["checkpoint"]))) / name
    taken = [int(f.name) for f in root.iterdir() if f.name.isdigit()] if root.exists() else []
    return root / f"{max(taken, default=0) + 1:03d}"
