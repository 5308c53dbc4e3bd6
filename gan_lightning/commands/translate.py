"""Translates images of any size, or recordings of any length, with a trained image-to-image model."""

import glob
import os
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from rich import progress
from rich.console import Console
from torch import Tensor

from gan_lightning.commands.loading import choose_device, load_module, split_arguments, stored_config
from gan_lightning.commands.spoken import converted, read_sound, save_sound, spoken_data
from gan_lightning.config import check, compose
from gan_lightning.data.base import say
from gan_lightning.data.decoding import Unreadable, open_image, open_upright, quiet, why_unreadable
from gan_lightning.data.inpainting_folder import HOLE
from gan_lightning.data.listing import is_image, said_of_links, walk
from gan_lightning.data.pixels import save_image, to_float
from gan_lightning.data.translation import listed
from gan_lightning.data.wav import is_sound
from gan_lightning.draws import stream_seed
from gan_lightning.errors import UserError
from gan_lightning.paths import expand
from gan_lightning.tiles import tiled
from gan_lightning.translation import Direction, Translator
from gan_lightning.types import NonNegativeInt, PositiveInt


class Settings(TypedDict):
    """The keys of conf/translate.yaml; `data.…` keys replace values of the run's own data."""

    checkpoint: Path
    input: Path
    output: Path | None
    direction: Direction
    mask: Path | None
    overwrite: bool
    tile: PositiveInt
    overlap: NonNegativeInt
    seed: NonNegativeInt
    ema: bool
    accelerator: Literal["auto", "cpu", "gpu"]


def run(arguments: list[str]) -> int:
    """The command: a file for every file. Those that cannot be read are reported together at the end."""
    own, moved = split_arguments(arguments)
    settings = check(compose("translate", own, Settings), Settings)
    if settings["overlap"] >= settings["tile"]:
        raise UserError(f"overlap={settings['overlap']}: must be less than tile={settings['tile']}")
    path = Path(settings["checkpoint"])
    config = stored_config(path, moved)
    module = load_module(path, config).to(choose_device(settings["accelerator"]))
    if not isinstance(module, Translator):
        raise UserError(f"checkpoint={path}: {type(module).__name__} makes samples of latents: use the sample command")
    spoken = spoken_data(config)  # None: images are images
    noun = "images" if spoken is None else "sounds"
    pairs = destinations(settings["input"], settings["output"], spoken is not None)
    taken = [target for _, target in pairs if target.exists()]
    if taken and not settings["overwrite"]:
        raise UserError(f"{taken[0]}: is there already ({len(taken)} of {len(pairs)} are); overwrite=true writes anew")
    if settings["mask"] and not module.takes_masks:
        raise UserError(f"mask={settings['mask']}: {type(module).__name__} fills no holes: leave it out")
    network = module.translating(settings["ema"], settings["direction"])
    channels = module.channels_given(settings["direction"])
    masks = masks_of([file for file, _ in pairs], settings["input"], settings["mask"]) if module.takes_masks else {}
    sides = {"multiple": getattr(network, "multiple", 1), "smallest": getattr(network, "smallest", 1)}
    if spoken is None:
        whole = partial(tiled, network, tile=settings["tile"], overlap=settings["overlap"], **sides)
    else:
        whole = partial(converted, network, spoken, device=module.device, **sides)
    unreadable: dict[Path, str] = {}
    with torch.no_grad(), progress.Progress(disable=not Console().is_terminal, transient=True) as bar:
        for file, target in bar.track(pairs, description="translating"):
            try:
                if spoken is not None:
                    given = read_sound(file, spoken)
                else:
                    with quiet(), why_unreadable():
                        masked = module.takes_masks
                        given = with_hole(file, channels - 1, masks[file]) if masked else read(file, channels)
                    given = given.to(module.device)
            except (Unreadable, OSError) as error:
                unreadable[file] = str(error).partition("\n")[0]
                continue
            torch.manual_seed(stream_seed(settings["seed"], "translate", file.name))
            try:
                made = whole(given)
                target.parent.mkdir(parents=True, exist_ok=True)
                # what breaks off is not taken for a result
                part = target.with_name(f".{target.stem}.part{target.suffix}")
                part.unlink(missing_ok=True)  # a link that lies there is not written through
                if spoken is not None:
                    save_sound(made, part, spoken.rate)
                else:
                    save_image(made[0].cpu(), part)
                part.replace(target)
            except torch.OutOfMemoryError:
                raise UserError(f"tile={settings['tile']}: the device has no room for it; use less") from None
            except OSError as error:
                raise UserError(f"{target}: cannot be written: {error.strerror or error}") from None
    print(f"{len(pairs) - len(unreadable)} {noun}: {pairs[0][1].parent}")
    if unreadable:
        reasons = listed([f"{file}: {reason}" for file, reason in unreadable.items()])
        raise UserError(f"input={settings['input']}: {len(unreadable)} file(s) cannot be read:{reasons}")
    return 0


def destinations(given: Path, output: Path | None, sounds: bool = False) -> list[tuple[Path, Path]]:
    """Each image, or each sound, and where its translation goes.

    Raises UserError where there is none, where one is of the other kind, where two go to one place or one to where
    they come from, and for places that cannot be written to.
    """
    source = expand(given)
    noun, suffix, wanted = ("sounds", ".wav", is_sound) if sounds else ("images", ".png", is_image)
    if source.is_dir():
        files = [file for file in walk(source) if wanted(file)]
        if line := said_of_links(source, "input"):
            say(line)
        named = source if source.name not in ("", "..") else Path(os.path.abspath(source))
        root = expand(output) if output else named.parent / f"{named.name}_translated"
        if Path(os.path.realpath(root)).is_relative_to(os.path.realpath(source)):
            raise UserError(f"output={root}: lies in input={given}, whose {noun} would be its own; choose another")
        pairs = [(file, (root / file.relative_to(source)).with_suffix(suffix)) for file in files]
    else:
        files = [source] if source.is_file() else [Path(name) for name in sorted(glob.glob(str(source)))]
        files = [file for file in files if file.is_file()]
        end = suffix if output else f"_translated{suffix}"
        pairs = [(file, (expand(output) if output else file.parent) / f"{file.stem}{end}") for file in files]
        if other := [file for file in files if is_sound(file) is not sounds]:
            raise UserError(f"input={other[0]}: this model translates {noun}, and that is none of them")
    if not pairs:
        raise UserError(f"input={given}: no such file, and no {noun} in it")
    places: dict[Path, Path] = {}
    sources = {os.path.realpath(file) for file, _ in pairs}
    for file, target in pairs:
        if os.path.realpath(target) in sources:
            raise UserError(f"{target}: is to be translated, and {file.name} would replace it: choose another output")
        if target in places:
            raise UserError(f"{file}: and {places[target].name} would both become {target}")
        places[target] = file
    for folder in dict.fromkeys(target.parent for target in places):
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise UserError(f"{there}: is {'not writable' if there.is_dir() else 'no folder'}; results go into folders")
    return pairs


def masks_of(files: list[Path], images: Path, given: Path | None) -> dict[Path, Path | None]:
    """The mask of each image; None: its own transparent pixels are the hole. Raises UserError where one is missing.

    images: what the user gave; a folder's names begin in it. given: one mask for all, or a folder of masks of the
    images' names.
    """
    if given is None:
        return dict.fromkeys(files)
    place = expand(given)
    if place.is_file():
        return dict.fromkeys(files, place)
    if not place.is_dir():
        raise UserError(f"mask={given}: no such file or folder")
    source = expand(images)
    names = {file: (file.relative_to(source) if source.is_dir() else Path(file.name)).with_suffix("") for file in files}
    by_name: dict[Path, Path] = {}
    for mask in filter(is_image, walk(place)):
        name = mask.relative_to(place).with_suffix("")
        if name in by_name:
            raise UserError(f"mask={given}: {mask} and {by_name[name].name} have one name")
        by_name[name] = mask
    lonely = [str(file) for file in files if names[file] not in by_name]
    if lonely:
        raise UserError(f"mask={given}: {len(lonely)} image(s) without a mask of their name:{listed(lonely)}")
    return {file: by_name[name] for file, name in names.items()}


def with_hole(file: Path, channels: int, mask: Path | None) -> Tensor:
    """An image and its mask, 1 in the hole: (1, channels + 1, H, W). Raises Unreadable where there is no hole.

    mask: white where the hole is; None: transparent pixels are.
    """
    if mask is None:
        own = open_upright(file)
        if not own.has_transparency_data:
            raise Unreadable("has no transparent pixels, and no mask=… says where the hole is")
        levels = 255 - np.array(own.convert("RGBA").getchannel("A"))
    else:
        levels = np.array(open_image(mask).convert("L"))
    hole = torch.from_numpy(levels >= HOLE).float()[None, None]
    image = read(file, channels)
    if hole.shape[2:] != image.shape[2:]:
        (height, width), (mask_height, mask_width) = image.shape[2:], hole.shape[2:]
        raise Unreadable(f"{width}×{height}, and its mask {mask} is {mask_width}×{mask_height}")
    if not hole.any():
        raise Unreadable(f"{mask or 'its alpha channel'} has no hole")
    return torch.cat([image * (1 - hole), hole], 1)


def read(file: Path, channels: int) -> Tensor:
    """An image of any kind and size, upright: (1, channels, H, W) in [-1, 1]."""
    image: Any = open_image(file).convert("L" if channels == 1 else "RGB")
    pixels = torch.from_numpy(np.array(image)).view(image.height, image.width, -1).permute(2, 0, 1)
    return to_float(pixels[None])
