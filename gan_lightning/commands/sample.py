"""Draws images from a trained generator."""

import math
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from gan_lightning.callbacks.samples import grid, save, save_grid, save_nearest, to_picture
from gan_lightning.checkpoint import find_checkpoint, run_folder
from gan_lightning.commands.loading import choose_device, load_data, load_module, split_arguments, stored_config
from gan_lightning.config import check, compose, instantiate
from gan_lightning.data.base import ImageData
from gan_lightning.errors import UserError
from gan_lightning.paths import expand
from gan_lightning.sampling import evaluation_labels, evaluation_latents, render, sampler
from gan_lightning.types import NonNegativeInt, PositiveFloat, PositiveInt

NEAREST_MOST = 128  # pairs in nearest.png
PICTURES = ("grid.png", "nearest.png")  # written beside the images
KEYS_MOST, FRAMES = 8, 12  # latents of a walk, and pictures from each to the next


class Settings(TypedDict):
    """The keys of conf/sample.yaml; `data.…` keys say where the run's data has moved, for `nearest`."""

    checkpoint: Path
    output: Path | None
    count: PositiveInt
    seed: NonNegativeInt
    grid: bool
    nearest: bool
    label: NonNegativeInt | None
    truncation: PositiveFloat | None
    interpolate: bool
    ema: bool
    accelerator: Literal["auto", "cpu", "gpu"]


def run(arguments: list[str]) -> int:
    """The command: writes samples and a picture of them, or a walk between latents, to an empty folder."""
    own, moved = split_arguments(arguments)
    settings = check(compose("sample", own, Settings), Settings)
    config = stored_config(Path(settings["checkpoint"]), moved)
    module = load_module(Path(settings["checkpoint"]), config).to(choose_device(settings["accelerator"]))
    label = settings["label"]
    if label is not None and label >= module.classes:
        has = f"it knows classes 0 to {module.classes - 1}" if module.classes else "it is not class-conditional"
        raise UserError(f"label={label}: the model of {settings['checkpoint']} cannot be asked for it: {has}")
    if settings["interpolate"] and settings["count"] < 2:
        raise UserError("count=1: interpolate=true walks between at least 2 latents")
    if settings["interpolate"] and settings["nearest"]:
        raise UserError("nearest=true: belongs to samples; interpolate=true walks between latents")
    data: ImageData = instantiate(config["data"])
    for key in ("interpolate", "nearest"):
        if settings[key] and not data.pictures:
            raise UserError(f"{key}=true: samples of {settings['checkpoint']} are points, not images")
    if settings["nearest"]:
        data = load_data(config)
    folder = output_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    if settings["interpolate"]:
        walk(module, settings, folder)
    else:
        images = module.sample(
            settings["count"],
            seed=settings["seed"],
            label=label,
            truncation=settings["truncation"],
            ema=settings["ema"],
        )
        data.write(images, folder)
        if settings["grid"]:
            save(data.picture(images[: data.most_shown], module), folder / "grid.png")
        if settings["nearest"]:
            save_nearest(images[:NEAREST_MOST], data.train, folder / "nearest.png")
    print(f"{folder}: {', '.join(sorted({*(f.name for f in folder.iterdir() if not f.stem.isdigit())}))}".rstrip(": "))
    return 0


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


def walk(module: Any, settings: dict[str, Any], folder: Path) -> None:
    """walk.gif through the latents and back to the first, and strip.png: a row from each latent to the next."""
    keys = min(settings["count"], KEYS_MOST)  # at least 2
    latents = evaluation_latents(module, keys, settings["seed"], settings["truncation"])
    labels = evaluation_labels(module, 1, settings["label"] or 0)
    network = sampler(module, ema=settings["ema"])
    rows = []
    for key in range(keys):
        shares = torch.arange(FRAMES, device=module.device) / FRAMES  # (F,)
        between = tree_map(lambda t, k=key: slerp(t[k], t[(k + 1) % keys], shares), latents)  # noqa: B023  # used at once
        rows.append(render(network, between, None if labels is None else labels.expand(FRAMES), module.device))
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
