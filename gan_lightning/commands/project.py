"""Finds images again in the latent space of a trained generator."""

import json
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from rich import progress
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.callbacks.samples import save_grid
from gan_lightning.checkpoint import find_checkpoint
from gan_lightning.commands.loading import choose_device, load_module, split_arguments, stored_config
from gan_lightning.commands.pictures import show
from gan_lightning.commands.sample import chosen_classes, output_folder
from gan_lightning.config import check, compose, instantiate
from gan_lightning.data.base import ImageData, say
from gan_lightning.data.decoding import Decoder, Unreadable, quiet
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.listing import is_image, said_of_links, walk
from gan_lightning.data.pixels import save_image, to_float
from gan_lightning.errors import UserError
from gan_lightning.films import Video, check_video, save_film
from gan_lightning.latents import style_generator
from gan_lightning.paths import expand
from gan_lightning.projection import MEASURED, Space, distance_at_hand, mean_of, project
from gan_lightning.sampling import evaluation_latents, sampler
from gan_lightning.types import NonNegativeInt, PositiveInt


class Settings(TypedDict):
    """The keys of conf/project.yaml; `data.…` keys replace values of the run's own data, such as data.fit."""

    checkpoint: Path
    input: Path
    output: Path | None
    space: Space | None
    steps: PositiveInt
    seed: NonNegativeInt
    label: NonNegativeInt | str | None
    video: Video
    ema: bool
    accelerator: Literal["auto", "cpu", "gpu"]


def run(arguments: list[str]) -> int:
    """The command: for each image what was found of it, as an image, a film and latents; and projected.json."""
    own, moved = split_arguments(arguments)
    settings = check(compose("project", own, Settings), Settings)
    check_video(settings["video"])
    paths = inputs(expand(settings["input"]))
    config = stored_config(Path(settings["checkpoint"]), moved)
    module = load_module(Path(settings["checkpoint"]), config).to(choose_device(settings["accelerator"]))
    data: ImageData = instantiate(config["data"])
    if not data.pictures:
        raise UserError(
            f"checkpoint={settings['checkpoint']}: its samples are {data.noun}; there are no images to find"
        )
    chosen = chosen_classes(module, settings["label"])
    if module.classes and (not chosen or len(chosen) > 1):
        raise UserError(
            f"label={show(settings['label'])}: the model is class-conditional: say of what class the images are"
        )
    space = space_of(module, settings["space"])
    images = read(paths, data).to(module.device)  # (N, C, H, W)
    drawn = evaluation_latents(module, MEASURED, settings["seed"])
    if not isinstance(drawn, Tensor):
        raise UserError(f"checkpoint={settings['checkpoint']}: the latents of this model are not single vectors")
    folder = output_folder(settings, "projected")
    network = sampler(module, ema=settings["ema"])
    label = torch.tensor(chosen, device=module.device) if chosen else None  # (1,)
    mean, deviation = mean_of(network, drawn, label, space)
    bounded = space == "z" and module.latents != "normal"
    within = (drawn.amin(0), drawn.amax(0)) if bounded else None  # beyond lies nothing that the model was trained on
    distance = distance_at_hand("digits" if data.extractor == "digits" else "objects").to(module.device)
    folder.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    pairs: list[Tensor] = []
    with progress.Progress(disable=not Console().is_terminal, transient=True) as bar:
        task = bar.add_task("projecting", total=len(paths) * settings["steps"])
        for number, (path, image) in enumerate(zip(paths, images.split(1), strict=True)):
            found = project(
                network,
                image,
                distance,
                mean,
                deviation,
                space=space,
                label=label,
                within=within,
                steps=settings["steps"],
                seed=settings["seed"],
                said=lambda: bar.advance(task),
            )
            name = f"{number:05d}"
            save_image(found.image[0], folder / f"{name}.png")
            save_film(
                torch.stack([torch.cat([image, frame]) for frame in found.frames]),
                folder / f"{name}.{settings['video']}",
                columns=2,
            )
            maps = {f"noise.{place}": noise for place, noise in enumerate(found.noise)}
            save_file({space: found.latents, **maps}, folder / f"{name}.safetensors")
            pairs += [image, found.image]
            records.append(
                {
                    "image": f"{name}.png",
                    "input": str(path),
                    "distance": found.distance,
                    "distance_of_mean": found.distance_of_mean,
                    "measured_by": distance.name,
                    "space": space,
                    "steps": settings["steps"],
                    "seed": settings["seed"],
                    "label": chosen[0] if chosen else None,
                    "weights": "ema" if settings["ema"] and module.ema is not None else "raw",
                    "checkpoint": str(find_checkpoint(Path(settings["checkpoint"]))),
                }
            )
            print(f"{path}: {found.distance:.4g} away, {found.distance_of_mean:.4g} from the mean ({distance.name})")
    save_grid(torch.cat(pairs), folder / "projected.png", columns=2 * max(1, round((len(paths) / 2) ** 0.5)))
    (folder / "projected.json").write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    print(f"{folder}: projected.png, projected.json, and for each image .png, .{settings['video']} and .safetensors")
    return 0


def inputs(given: Path) -> list[Path]:
    """The image, or all images below a folder. Raises UserError where there are none."""
    if given.is_dir():
        found = [path for path in walk(given) if is_image(path)]
        if not found:
            raise UserError(f"input={given}: no images in it")
        if line := said_of_links(given, "input"):
            say(line)
        return found
    if not given.exists():
        raise UserError(f"input={given}: there is no such file or folder")
    return [given]


def space_of(module: AdversarialModule, space: Space | None) -> Space:
    """What is searched. Raises UserError for styles of a generator that has none."""
    has_styles = style_generator(module.generator) is not None
    if space in ("w", "w_plus") and not has_styles:
        raise UserError(
            f"space={space}: {type(module.generator).__name__} has no styles, as StyleGANs have; use space=z"
        )
    return space or ("w" if has_styles else "z")


def read(paths: list[Path], data: ImageData) -> Tensor:
    """Images (N, C, H, W) in [-1, 1], fitted as the data's; other data than folders: the largest centred square.

    Raises UserError for a file that cannot be read.
    """
    own = isinstance(data, ImageFolder)
    decoder = data.decoder if own else Decoder(data.image_size, data.channels, "crop", "lanczos")
    pixels = []
    for path in paths:
        try:
            with quiet():
                pixels.append(torch.from_numpy(decoder.decode(path).copy()))
        except Unreadable as error:
            raise UserError(f"input={path}: cannot be read: {error}") from None
    return to_float(torch.stack(pixels))
