"""Pictures and films of latents for `sample`: walks, traversals of codes, truncation, mixed styles, directions."""

import re
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.callbacks.samples import save_grid
from gan_lightning.errors import UserError
from gan_lightning.films import Video, check_video, save_film
from gan_lightning.latents import (
    SIDES,
    Layers,
    directions,
    latent_weights,
    layers_of,
    slerp,
    straight,
    style_generator,
    style_weights,
    styles,
)
from gan_lightning.networks.conditional import one_hot
from gan_lightning.networks.stylegan2 import StyleGenerator
from gan_lightning.sampling import evaluation_labels, evaluation_latents, render, sampler

KEYS_MOST, COLUMNS = 8, 12  # latents of a walk, and pictures of strip.png from each to the next
FRAMES: dict[Video, int] = {"gif": COLUMNS, "mp4": 2 * COLUMNS}  # of the film: a second
LONGEST = 100  # bytes of a class in the name of a file
CLASSES_MOST = 20  # classes that a walk goes through without being told which
ROWS = 8  # latents of traversals, directions and truncation
VALUES, FURTHEST = 11, 2.0  # columns of a traversal for a continuous code, from -2 to 2 (Chen et al. 2016, figure 2)
MIXED = 6  # columns and rows of mixed styles
STEPS = torch.linspace(-3, 3, 7)  # along a direction, in standard deviations of the latents
MEASURED = 1000  # latents that the standard deviation is taken of


def find_contradictions(module: AdversarialModule, settings: dict[str, Any], chosen: list[int] | None) -> None:
    """Raises UserError for pictures of latents that the model or the other settings do not allow."""
    walks, label = settings["interpolate"], show(settings["label"])
    if walks in ("latents", "styles") and settings["count"] < 2:
        raise UserError(f"count=1: interpolate={walks} walks between at least 2 latents")
    if walks in ("latents", "styles") and chosen and len(chosen) > 1:
        raise UserError(f"label={label}: interpolate={walks} stays in one class")
    if walks == "labels" and not module.classes:
        raise UserError("interpolate=labels: the model is not class-conditional")
    if walks == "labels" and len(chosen or range(module.classes)) < 2:
        raise UserError(f"label={label}: interpolate=labels walks between at least 2 classes")
    if walks == "labels" and chosen is None and module.classes > CLASSES_MOST:
        raise UserError(f"interpolate=labels: name some of the {module.classes} classes, as in label=[0,1]")
    if settings["video"] and not walks:
        raise UserError(f"video={settings['video']}: is how a walk is written; add interpolate=true")
    if settings["layers"] and not settings["directions"]:
        raise UserError(f"layers={settings['layers']}: says where directions are looked for; add directions=5")
    check_video(settings["video"])
    if settings["traverse"] and not module.code_slices():
        raise UserError("traverse=true: the latents of this model hold no codes, as those of InfoGAN do")
    generator = style_generator(module.generator)
    for key in ("interpolate", "mixing", "layers"):
        value = settings[key]
        if not value or (key == "interpolate" and value != "styles"):
            continue
        if generator is None:
            raise UserError(f"{key}={show(value)}: {type(module.generator).__name__} has no styles, as StyleGANs have")
        if value in SIDES and not layers_of(generator, value):
            side = 2 * 2 ** (generator.layers // 2)
            raise UserError(
                f"{key}={value}: these are the layers of {SIDES[value][0]} pixels and more; images have {side}"
            )
    psis = settings["truncation"]
    if psis == []:
        raise UserError("truncation=[]: name some values, as in truncation=[0.5,1]")
    if (
        0 in (psis if isinstance(psis, list) else [psis])
        and module.truncated(module.generator, 0.0) is module.generator
    ):
        raise UserError(f"truncation={show(psis)}: 0 leaves no latents of this model; only StyleGANs have a mean style")


def show(value: Any) -> str:
    """A setting as it is typed."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value).replace("'", "")


def safe_name(name: str) -> str:
    """A name that any file system takes: a/b -> a%2Fb. Long ones are cut."""
    known = name.encode(errors="replace").decode()  # halves of surrogates are no text
    safe = re.sub(r'[<>:"/\\|?*%\x00-\x1f]|^\.|[. ]$', lambda found: f"%{ord(found[0]):02X}", known)
    return safe.encode()[:LONGEST].decode(errors="ignore")


@torch.no_grad()
def synthesised(generator: StyleGenerator, w: Tensor) -> Tensor:
    """Images (N, C, H, W) of styles (N, size), or of the styles of every layer (N, layers, size)."""
    w = w[:, None].expand(-1, generator.layers, -1) if w.dim() == 2 else w
    with torch.autocast(w.device.type, enabled=False):
        return generator.synthesis(w).float()


def walk(
    module: AdversarialModule, network: nn.Module, settings: dict[str, Any], chosen: list[int] | None, folder: Path
) -> None:
    """walk.gif or .mp4 through latents, styles or classes and back to the first, and strip.png: a row from each to the
    next."""
    seed, truncation, device = settings["seed"], settings["truncation"], module.device
    video: Video = settings["video"] or "gif"
    frames = FRAMES[video]
    shares = torch.arange(frames, device=device) / frames  # (F,)
    rows = []
    if settings["interpolate"] == "labels":
        classes = torch.tensor(chosen or range(module.classes), device=device)
        corners = one_hot(classes, module.classes)  # (keys, classes)
        z = evaluation_latents(module, 1, seed, truncation)
        z = tree_map(lambda t: t.expand(frames, *t.shape[1:]), z)
        for start, end in zip(corners, corners.roll(-1, 0), strict=True):
            rows.append(render(network, z, torch.lerp(start, end, shares[:, None]), device))
    else:
        keys = min(settings["count"], KEYS_MOST)  # at least 2
        latents = evaluation_latents(module, keys, seed, truncation)
        if settings["interpolate"] == "styles":
            generator = style_generator(network)
            assert generator is not None
            corners = codes_of(network, latents, evaluation_labels(module, keys, chosen or [0]))  # (keys, size)
            for start, end in zip(corners, corners.roll(-1, 0), strict=True):
                rows.append(synthesised(generator, torch.lerp(start, end, shares[:, None])))
        else:
            labels = evaluation_labels(module, frames, chosen or [0])
            between = slerp if module.latents == "normal" else straight
            for key in range(keys):
                z = tree_map(lambda t, k=key: between(t[k], t[(k + 1) % keys], shares), latents)
                rows.append(render(network, z, labels, device))
    save_film(torch.cat(rows)[:, None], folder / f"walk.{video}")  # (keys · F, 1, C, H, W)
    save_grid(torch.cat([row[:: frames // COLUMNS] for row in rows]), folder / "strip.png", columns=COLUMNS)


@torch.no_grad()
def codes_of(network: nn.Module, z: Tensor, y: Tensor | None) -> Tensor:
    """What pictures are varied by: the styles (N, size) of a StyleGAN, else z itself."""
    return styles(network, z, y) if style_generator(network) else z


def traverse(
    module: AdversarialModule, network: nn.Module, settings: dict[str, Any], chosen: list[int] | None, folder: Path
) -> None:
    """traverse_<code>.png for every code: a row for each of some latents, a column for each value of the code."""
    latents: Tensor = evaluation_latents(module, ROWS, settings["seed"], settings["truncation"])  # (R, size)
    labels = evaluation_labels(module, ROWS, chosen)
    for name, (start, end) in module.code_slices().items():
        continuous = torch.linspace(-FURTHEST, FURTHEST, VALUES)[:, None]  # (V, 1)
        values = torch.eye(end - start) if end - start > 1 else continuous  # (V, width)
        z = latents.repeat_interleave(len(values), 0)  # (R · V, size)
        z[:, start:end] = values.to(z).repeat(ROWS, 1)
        y = None if labels is None else labels.repeat_interleave(len(values))
        images = render(network, z, y, module.device)
        save_grid(images, folder / f"traverse_{safe_name(name)}.png", columns=len(values))


def truncate(module: AdversarialModule, settings: dict[str, Any], chosen: list[int] | None, folder: Path) -> None:
    """truncation.png: a row a value, from the same stream of latents; of StyleGANs the same latents themselves."""
    columns = min(settings["count"], ROWS)
    labels = evaluation_labels(module, columns, chosen)
    rows = []
    for psi in settings["truncation"]:
        network = sampler(module, ema=settings["ema"], truncation=psi)
        latents = evaluation_latents(module, columns, settings["seed"], psi)
        rows.append(render(network, latents, labels, module.device))
    save_grid(torch.cat(rows), folder / "truncation.png", columns)


def mix(
    module: AdversarialModule, network: nn.Module, settings: dict[str, Any], chosen: list[int] | None, folder: Path
) -> None:
    """mixing_<layers>.png: images whose layers of that name have the style of the column, the others of the row.

    Both sources stand beside them (Karras et al. 2019, figure 3).
    """
    generator = style_generator(network)
    assert generator is not None
    z = evaluation_latents(module, 2 * MIXED, settings["seed"], settings["truncation"])
    w = codes_of(network, z, evaluation_labels(module, 2 * MIXED, chosen))  # (2 M, size)
    sources = synthesised(generator, w)
    columns, rows = w.unflatten(0, (2, MIXED))[:, :, None].expand(-1, -1, generator.layers, -1)  # (M, layers, size)
    names: list[Layers] = list(get_args(Layers)) if settings["mixing"] is True else [settings["mixing"]]
    for name in names:
        layers = layers_of(generator, name)
        if not layers:
            continue
        shown = [torch.ones_like(sources[:1]), sources[:MIXED]]
        for row in range(MIXED):
            mixed = rows[row].repeat(MIXED, 1, 1)  # (M, layers, size)
            mixed[:, layers.start : layers.stop] = columns[:, layers.start : layers.stop]
            shown += [sources[MIXED + row][None], synthesised(generator, mixed)]
        save_grid(torch.cat(shown), folder / f"mixing_{name}.png", columns=MIXED + 1)


def find_directions(module: AdversarialModule, network: nn.Module, settings: dict[str, Any]) -> Tensor:
    """Directions (count, size) of styles, or of latents where there are none. Raises UserError where none are found."""
    count, generator = settings["directions"], style_generator(network)
    if generator is not None:
        weights = style_weights(generator, layers_of(generator, settings["layers"]))
    else:
        z = evaluation_latents(module, 1, settings["seed"])
        if not isinstance(z, Tensor):
            raise UserError(f"directions={count}: the latents of this model are not single vectors")
        weights = latent_weights(network, z, evaluation_labels(module, 1))
        if weights is None:
            raise UserError(
                f"directions={count}: no linear layer of {type(network).__name__} is given the whole latents"
            )
    most = int((weights != 0).any(0).sum())  # numbers that these layers are given
    if count > most:
        raise UserError(f"directions={count}: there are no more than the {most} of the latents")
    return directions(weights, count)


def follow(
    module: AdversarialModule,
    network: nn.Module,
    settings: dict[str, Any],
    chosen: list[int] | None,
    folder: Path,
    found: Tensor,
) -> None:
    """direction_01.png … for directions (count, size): a row for each of some latents, from -3 to 3 of their standard
    deviations along the direction; only the layers asked for follow it."""
    generator, seed, truncation = style_generator(network), settings["seed"], settings["truncation"]
    drawn = evaluation_latents(module, MEASURED, seed)
    measured = codes_of(network, drawn, evaluation_labels(module, MEASURED, chosen))
    spread = (measured @ found.T).std(0)  # (count,)
    labels = evaluation_labels(module, ROWS, chosen)
    codes = codes_of(network, evaluation_latents(module, ROWS, seed, truncation), labels)  # (R, size)
    y = None if labels is None else labels.repeat_interleave(len(STEPS))
    for number, (direction, deviation) in enumerate(zip(found, spread, strict=True), 1):
        steps = (STEPS.to(codes) * deviation)[:, None] * direction  # (V, size)
        moved = (codes[:, None] + steps).flatten(0, 1)  # (R · V, size)
        if generator is None and module.latents != "normal":
            moved = moved.clamp(measured.amin(0), measured.amax(0))  # beyond lies nothing that it was trained on
        if generator is None:
            images = render(network, moved, y, module.device)
        else:
            layers = layers_of(generator, settings["layers"])
            w = codes.repeat_interleave(len(STEPS), 0)[:, None].repeat(1, generator.layers, 1)
            w[:, layers.start : layers.stop] = moved[:, None]
            images = synthesised(generator, w)
        save_grid(images, folder / f"direction_{number:02d}.png", columns=len(STEPS))
