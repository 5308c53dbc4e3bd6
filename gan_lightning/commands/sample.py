"""Draws images from a trained generator: samples, a row a class, walks, traversals of codes, labelled data sets."""

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

import torch
from rich import progress
from rich.console import Console
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from gan_lightning import sampling
from gan_lightning.adversarial import AdversarialModule
from gan_lightning.callbacks.samples import grid, save, save_grid, save_nearest, to_picture
from gan_lightning.checkpoint import find_checkpoint, run_folder
from gan_lightning.commands.loading import choose_device, load_data, load_module, split_arguments, stored_config
from gan_lightning.config import check, compose, instantiate
from gan_lightning.data.base import ImageData, save_image
from gan_lightning.errors import UserError
from gan_lightning.networks.conditional import one_hot
from gan_lightning.paths import expand
from gan_lightning.sampling import evaluation_labels, evaluation_latents, render, sampler
from gan_lightning.types import NonNegativeInt, PositiveFloat, PositiveInt

NEAREST_MOST = 128  # pairs in nearest.png
PICTURES = ("grid.png", "nearest.png")  # written beside the images
KEYS_MOST, FRAMES = 8, 12  # latents of a walk, and pictures from each to the next
CLASSES_MOST = 20  # classes that a walk goes through without being told which
TRAVERSED = 8  # rows of a traversal
VALUES, FURTHEST = 11, 2.0  # its columns for a continuous code, from -2 to 2 (Chen et al. 2016, figure 2)


class Settings(TypedDict):
    """The keys of conf/sample.yaml; `data.…` keys say where the run's data has moved, for `nearest`."""

    checkpoint: Path
    output: Path | None
    count: PositiveInt
    seed: NonNegativeInt
    grid: bool
    nearest: bool
    label: NonNegativeInt | str | list[NonNegativeInt | str] | None
    truncation: PositiveFloat | None
    interpolate: bool | Literal["latents", "labels"]
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
    chosen = chosen_classes(module, settings["label"])
    find_contradictions(module, settings, chosen)
    data: ImageData = instantiate(config["data"])
    for key in ("interpolate", "nearest", "traverse", "dataset"):
        if settings[key] and not data.pictures:
            raise UserError(f"{key}={show(settings[key])}: samples of {settings['checkpoint']} are points, not images")
    if settings["nearest"]:
        data = load_data(config)
    folder = output_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    network = sampler(module, ema=settings["ema"], truncation=settings["truncation"])
    if settings["interpolate"]:
        walk(module, network, settings, chosen, folder)
    elif settings["traverse"]:
        traverse(module, network, settings, chosen, folder)
    elif settings["dataset"]:
        write_dataset(module, network, settings, chosen, folder)
    else:
        images = write_samples(module, network, data, settings, chosen, folder)
        if settings["nearest"]:
            save_nearest(images[:NEAREST_MOST], data.train, folder / "nearest.png")
    shown = [] if settings["dataset"] else [f.name for f in folder.iterdir() if not re.search(r"(^|_)\d{5,}$", f.stem)]
    print(f"{folder}: {', '.join(sorted(shown))}".rstrip(": "))
    return 0


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
    special = [key for key in ("interpolate", "traverse", "dataset") if settings[key]]
    walks = settings["interpolate"]
    if len(special) > 1:
        raise UserError(f"{special[1]}={show(settings[special[1]])}: not together with {special[0]}; ask for one")
    if special and settings["nearest"]:
        raise UserError(f"nearest=true: belongs to samples, not to {special[0]}={show(settings[special[0]])}")
    if walks == "latents" and settings["count"] < 2:
        raise UserError("count=1: interpolate=latents walks between at least 2 latents")
    if walks == "latents" and chosen and len(chosen) > 1:
        raise UserError(f"label={show(settings['label'])}: interpolate=latents stays in one class")
    if walks == "labels" and not module.classes:
        raise UserError("interpolate=labels: the model is not class-conditional")
    if walks == "labels" and len(chosen or range(module.classes)) < 2:
        raise UserError(f"label={show(settings['label'])}: interpolate=labels walks between at least 2 classes")
    if walks == "labels" and chosen is None and module.classes > CLASSES_MOST:
        raise UserError(f"interpolate=labels: name some of the {module.classes} classes, as in label=[0,1]")
    if chosen and len(chosen) > settings["count"] and not walks and not settings["traverse"]:
        raise UserError(f"count={settings['count']}: label={show(settings['label'])} names {len(chosen)} classes")
    if settings["traverse"] and not module.code_slices():
        raise UserError("traverse=true: the latents of this model hold no codes, as those of InfoGAN do")


def show(value: Any) -> str:
    """A setting as it is typed."""
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", "")


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


def safe_name(name: str) -> str:
    """A name that any file system takes: a/b -> a%2Fb."""
    return re.sub(r'[<>:"/\\|?*%\x00-\x1f]|^\.|[. ]$', lambda found: f"%{ord(found[0]):02X}", name)


def write_samples(
    module: AdversarialModule,
    network: nn.Module,
    data: ImageData,
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
    elif settings["grid"]:
        save(data.picture(torch.cat(images)[: data.most_shown], module), folder / "grid.png")
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


def output_folder(settings: dict[str, Any]) -> Path:
    """The folder asked for, which must be empty, or the first free <run>/sampled/<number>."""
    if settings["output"]:
        folder = expand(settings["output"])
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"output={folder}: exists and is not an empty folder; nothing is overwritten")
        return folder
    root = run_folder(find_checkpoint(Path(settings["checkpoint"]))) / "sampled"
    taken = [int(f.name) for f in root.iterdir() if f.name.isdigit()] if root.exists() else []
    return root / f"{max(taken, default=0) + 1:03d}"


def walk(
    module: AdversarialModule, network: nn.Module, settings: dict[str, Any], chosen: list[int] | None, folder: Path
) -> None:
    """walk.gif through latents or classes and back to the first, and strip.png: a row from each to the next."""
    shares = torch.arange(FRAMES, device=module.device) / FRAMES  # (F,)
    rows = []
    if settings["interpolate"] == "labels":
        classes = torch.tensor(chosen or range(module.classes), device=module.device)
        corners = one_hot(classes, module.classes)  # (keys, classes)
        z = evaluation_latents(module, 1, settings["seed"], settings["truncation"])
        z = tree_map(lambda t: t.expand(FRAMES, *t.shape[1:]), z)
        for start, end in zip(corners, corners.roll(-1, 0), strict=True):
            rows.append(render(network, z, torch.lerp(start, end, shares[:, None]), module.device))
    else:
        keys = min(settings["count"], KEYS_MOST)  # at least 2
        latents = evaluation_latents(module, keys, settings["seed"], settings["truncation"])
        labels = evaluation_labels(module, FRAMES, chosen or [0])
        for key in range(keys):
            z = tree_map(lambda t, k=key: slerp(t[k], t[(k + 1) % keys], shares), latents)
            rows.append(render(network, z, labels, module.device))
    images = torch.cat(rows)  # (keys · F, C, H, W)
    frames = [to_picture(grid(image[None])) for image in images]
    frames[0].save(folder / "walk.gif", save_all=True, append_images=frames[1:], duration=80, loop=0)
    save_grid(images, folder / "strip.png", columns=FRAMES)


def slerp(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Spherical interpolation (White 2016, "Sampling Generative Networks"): (...), (...), shares (F,) -> (F, ...)."""
    a, b = start.flatten(), end.flatten()
    angle = torch.acos((a @ b / (a.norm() * b.norm()).clamp_min(1e-8)).clamp(-1, 1))
    if math.sin(cast(float, angle.item())) < 1e-4:  # the same direction: a straight line
        mixed = torch.lerp(a, b, shares[:, None])
    else:
        mixed = (torch.sin((1 - shares) * angle)[:, None] * a + torch.sin(shares * angle)[:, None] * b) / torch.sin(
            angle
        )
    return mixed.view(len(shares), *start.shape)


def traverse(
    module: AdversarialModule, network: nn.Module, settings: dict[str, Any], chosen: list[int] | None, folder: Path
) -> None:
    """traverse_<code>.png for every code: a row for each of some latents, a column for each value of the code."""
    latents: Tensor = evaluation_latents(module, TRAVERSED, settings["seed"], settings["truncation"])  # (R, size)
    labels = evaluation_labels(module, TRAVERSED, chosen)
    for name, (start, end) in module.code_slices().items():
        continuous = torch.linspace(-FURTHEST, FURTHEST, VALUES)[:, None]  # (V, 1)
        values = torch.eye(end - start) if end - start > 1 else continuous  # (V, width)
        z = latents.repeat_interleave(len(values), 0)  # (R · V, size)
        z[:, start:end] = values.to(z).repeat(TRAVERSED, 1)
        y = None if labels is None else labels.repeat_interleave(len(values))
        images = render(network, z, y, module.device)
        save_grid(images, folder / f"traverse_{safe_name(name)}.png", columns=len(values))
