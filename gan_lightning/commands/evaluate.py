"""Scores of a trained model and its losses on the images it was not trained on; or scores of two folders."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_args

import numpy as np
import torch
from rich import progress
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from gan_lightning.adversarial import AdversarialModule, images_of
from gan_lightning.checkpoint import find_checkpoint, run_folder
from gan_lightning.commands.loading import choose_device, load_data, load_module, split_arguments, stored_config
from gan_lightning.commands.sample import PICTURES
from gan_lightning.config import check, compose, instantiate
from gan_lightning.data.base import Data, say
from gan_lightning.data.decoding import Unreadable, open_image, quiet, why_unreadable
from gan_lightning.data.listing import hashed, is_image, said_of_links, walk
from gan_lightning.data.prepared import is_prepared
from gan_lightning.draws import seed_everything, stream_seed
from gan_lightning.errors import UserError
from gan_lightning.metrics import records
from gan_lightning.metrics.paired import Pair, PairedName, paired
from gan_lightning.metrics.scores import compute
from gan_lightning.metrics.scoring import MEMORISATION, Scorer, ScoreSettings, extract, make_records
from gan_lightning.paths import expand
from gan_lightning.sampling import BLOCK, evaluation_labels, evaluation_latents, sampler
from gan_lightning.sequences import TextRule
from gan_lightning.types import Node, PositiveFloat


class Settings(TypedDict):
    """The keys of conf/evaluate.yaml; `data.…` keys replace values of the run's own data, where it has moved."""

    checkpoint: Path | None
    real: Path | None
    fake: Path | None
    output: Path | None
    truncation: PositiveFloat | list[PositiveFloat | None] | None
    temperature: PositiveFloat | list[PositiveFloat] | None
    ema: bool
    accelerator: Literal["auto", "cpu", "gpu"]
    scores: Annotated[Node, ScoreSettings]


def run(arguments: list[str]) -> int:
    """The command: prints held-out losses and a table of scores, and adds their records to scores.jsonl."""
    own, moved = split_arguments(arguments)
    settings = check(compose("evaluate", own, Settings), Settings)
    given = [key for key in ("checkpoint", "real", "fake") if settings[key] is not None]
    if given not in (["checkpoint"], ["real", "fake"]):
        said = ", ".join(given) or "nothing"
        raise UserError(f"evaluate: give checkpoint=<run>, or real=<folder> and fake=<folder>; given: {said}")
    how: ScoreSettings = instantiate(settings["scores"])
    if settings["output"] and not expand(settings["output"]).parent.is_dir():
        raise UserError(f"output={settings['output']}: there is no folder {expand(settings['output']).parent}")
    if settings["fake"]:
        of_a_model = [*moved, *([] if settings["ema"] else ["ema=false"])]
        of_a_model += [f"scores.truncation={how.truncation}"] if how.truncation else []
        of_a_model += [f"{key}={settings[key]}" for key in ("truncation", "temperature") if settings[key] is not None]
        if of_a_model:
            raise UserError(f"{of_a_model[0]}: says something of a model; real=… fake=… compares folders")
    asked = settings["truncation"]
    if asked == []:
        raise UserError("truncation=[]: give one number or several; null is none")
    if settings["temperature"] == []:
        raise UserError("temperature=[]: give one number or several")
    if asked is not None and how.truncation:
        raise UserError(f"scores.truncation={how.truncation}: truncation={asked} says it too; give one of them")
    device = choose_device(settings["accelerator"])
    if settings["fake"]:
        of_folders(settings, how, device)
    else:
        of_model(settings, how, moved, device)
    return 0


def of_model(settings: dict[str, Any], how: ScoreSettings, moved: list[str], device: torch.device) -> None:
    """Scores of a checkpoint, kept beside it."""
    path = Path(settings["checkpoint"])
    config = stored_config(path, moved)
    module = load_module(path, config).to(device)
    data = load_data(config, module.data_facts)
    module.show(data)
    scorer = Scorer(how, data).to(device)
    scorer.metrics(module)  # refuses what cannot be made, now
    asked = settings["truncation"]
    truncations = asked if isinstance(asked, list) else [asked or how.truncation]
    for truncation in truncations:  # which not every model can have
        module.evaluation_block(how.seed, 0, truncation)
    temperatures = settings["temperature"]
    temperatures = temperatures if isinstance(temperatures, list) else [temperatures]
    if temperatures != [None] and not isinstance(module, TextRule):
        kind = type(module).__name__
        raise UserError(f"temperature={settings['temperature']}: is for models of text, and this is a {kind}")
    alone = "discriminator" in module.phase.players and not module.counters.discriminator_steps
    if alone and module.counters.images:
        say(f"checkpoint={path}: its discriminator never moved: scores alone, without losses")
    losses = {} if alone and module.counters.images else held_out_losses(module, data, ema=settings["ema"])
    for name, value in losses.items():
        print(f"{name:24} {value:.6g}")
    made: list[records.Record] = []
    with bar(scorer.n_real + len(truncations) * scorer.n_fake) as scorer.said:
        for truncation, temperature in product(truncations, temperatures):
            scorer.settings = replace(how, truncation=truncation)
            if isinstance(module, TextRule):
                module.temperature = temperature or 1.0
            found = scorer.score(module, ema=settings["ema"], source="evaluate")
            again = made and temperature is not None  # the likelihood of sentences is the same at all temperatures
            made += [record for record in found if not again or "temperature" in record.settings]
    if len(temperatures) > 1:
        show_temperatures(made)
    else:
        show(made)
    keep(expand(settings["output"]) if settings["output"] else run_folder(find_checkpoint(path)) / records.FILE, made)


def of_folders(settings: dict[str, Any], how: ScoreSettings, device: torch.device) -> None:
    """Scores of one folder of images against another."""
    if "path_length" in (how.names or []):
        raise UserError("scores.names=[path_length]: needs a generator: give checkpoint=…")
    folders = {key: expand(settings[key]) for key in ("real", "fake")}
    real, fake = (files(key, folder) for key, folder in folders.items())
    if how.samples:
        fake = fake[: how.samples]
    pairs: list[Any] = [name for name in how.names or [] if name in get_args(PairedName)]
    others = replace(how, names=[name for name in how.names if name not in pairs] if how.names else how.names)
    if not pairs and MEMORISATION not in (how.names or []):  # which look at all of them
        real = real[: how.real_samples or Data.score_images]
    common = {
        "split": str(settings["real"]),
        "real": str(settings["real"]),
        "weights": str(settings["fake"]),
        "batch_norm": "none",
        "truncation": None,
        "seed": how.seed,
        "source": "evaluate",
        **dict.fromkeys(("step", "epoch", "images"), 0),
        "seconds": 0.0,
    }
    made: list[records.Record] = []
    if others.names != []:
        extractor = how.load("objects").to(device)
        sizes = extractor.sizes(read(real[0]).to(device))
        names = others.choose(extractor, *sizes, len(real), len(fake))
    if pairs:
        values = paired(pairs, matched(folders["real"], folders["fake"], real, fake), how.border or 0)
        made += make_records({"paired": values}, None, (0, 0), len(fake), len(fake), common)
    if others.names != []:
        with bar(len(real) + len(fake)) as said:
            both = [extract(extractor, pixels(paths), device, said) for paths in (real, fake)]
            values = {name: compute([name], both[0], both[1], how.seed) for name in names}
        made += make_records(values, extractor, sizes, len(real), len(fake), common)
    show(made)
    if settings["output"]:
        keep(expand(settings["output"]), made)


def files(key: str, folder: Path) -> list[Path]:
    """The images below a folder, mixed: the first of them are of all its folders. Raises UserError when there are none.

    The grids that `sample` writes beside its images are none of them.
    """
    if not folder.is_dir():
        raise UserError(f"{key}={folder}: no such folder")
    if is_prepared(folder):
        raise UserError(f"{key}={folder}: prepared for training; folders of image files are compared")
    found = [path for path in walk(folder) if is_image(path)]
    if line := said_of_links(folder, key):
        say(line)
    found = [path for path in found if path.name not in PICTURES or not any(path.parent.glob("*00000.png"))]
    if not found:
        raise UserError(f"{key}={folder}: no images in it")
    return sorted(found, key=lambda path: hashed(path.relative_to(folder).as_posix()))


def read(path: Path) -> Tensor:
    """Pixels uint8 (1, 3, H, W). Raises UserError for a file that cannot be read."""
    try:
        with quiet(), why_unreadable():
            image = np.array(open_image(path).convert("RGB"))
    except (Unreadable, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def pixels(paths: list[Path]) -> Iterator[Tensor]:
    """Blocks of images of one size, uint8 (n, 3, H, W)."""
    waiting: list[Tensor] = []
    for path in paths:
        image = read(path)
        if waiting and (len(waiting) == BLOCK or image.shape != waiting[0].shape):
            yield torch.cat(waiting)
            waiting = []
        waiting.append(image)
    yield torch.cat(waiting)


def matched(real_folder: Path, fake_folder: Path, real: list[Path], fake: list[Path]) -> Iterator[Pair]:
    """Pairs of images by their path in the folders without suffix.

    Raises UserError for one without a partner, with two, or of another size.
    """
    partners: dict[Path, Path] = {}
    for path in real:
        name = path.relative_to(real_folder).with_suffix("")
        if name in partners:
            raise UserError(f"{path}: and {partners[name].name} have one name, so a pair is not clear")
        partners[name] = path
    for path in fake:
        name = path.relative_to(fake_folder).with_suffix("")
        if name not in partners:
            raise UserError(f"{path}: scores of pairs need an image of that name in the other folder")
        pair = Pair(read(partners[name]), read(path))
        if pair.real.shape != pair.fake.shape:
            sizes = " and ".join(f"{image.shape[-1]}×{image.shape[-2]}" for image in (pair.real, pair.fake))
            raise UserError(f"{path}: its pair {partners[name]} has another size: {sizes}")
        yield pair


class bar:
    """A progress bar over images, as a context that gives the function to tell it."""

    def __init__(self, total: int) -> None:
        self.progress = progress.Progress(
            progress.TextColumn("scoring"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(compact=True),
            disable=not Console().is_terminal,
            transient=True,
        )
        self.task = self.progress.add_task("", total=total)

    def __enter__(self) -> Any:
        self.progress.start()
        return lambda images: self.progress.advance(self.task, images)

    def __exit__(self, *error: object) -> None:
        self.progress.stop()


def keep(path: Path, made: list[records.Record]) -> None:
    """Adds records to a file. Raises UserError where that is impossible."""
    if not made:
        return
    try:
        records.append(path, made)
    except OSError as error:
        raise UserError(f"{path}: the records cannot be written: {error.strerror}") from None


def show(made: list[records.Record]) -> None:
    """Prints the table."""
    if not made:
        return
    table = Table(box=None, pad_edge=False)
    truncated = any(record.truncation for record in made)
    for column in (*(["truncation"] if truncated else []), "score", "value", "extractor", "real", "generated"):
        table.add_column(column, justify="left" if column in ("score", "extractor") else "right")
    for record in made:
        table.add_row(
            *([f"{record.truncation:g}" if record.truncation else "none"] if truncated else []),
            record.metric,
            record.text(),
            f"{record.extractor} v{record.version}" if record.version else "",
            f"{record.n_real:,}",
            f"{record.n_fake:,}",
        )
    Console().print(table)


def show_temperatures(made: list[records.Record]) -> None:
    """Prints how quality and diversity change: a row a score, a column a temperature."""
    rows: dict[str, dict[Any, str]] = {}
    for record in made:
        rows.setdefault(record.metric, {})[record.settings.get("temperature")] = record.text()
    columns = dict.fromkeys(record.settings["temperature"] for record in made if "temperature" in record.settings)
    table = Table(box=None, pad_edge=False)
    table.add_column("temperature")
    for temperature in columns:
        table.add_column(f"{temperature:g}", justify="right")
    for metric, values in rows.items():
        everywhere = values.get(None, "")  # what has no temperature
        table.add_row(metric, *(values.get(temperature, everywhere) for temperature in columns))
    Console().print(table)


def held_out_losses(module: AdversarialModule, data: Data, *, ema: bool = True) -> dict[str, float]:
    """Means over the held-out images of all that the losses of the phase return, with networks in eval mode."""
    trained = module.generator
    module.generator = sampler(module, ema=ema).requires_grad_(True)  # penalties are of gradients
    module.log_due = True  # with the statistics
    sums: dict[str, float] = defaultdict(float)
    asked = [player for player in module.phase.players if player not in module.slow_losses or not module.phase.fakes]
    images = 0
    for batch in data.in_order(data.examples):
        count = len(batch["image"]) // module.pack * module.pack
        if not count:
            continue
        batch = data.on_after_batch_transfer({key: value[:count].to(module.device) for key, value in batch.items()}, 0)
        batch["image"] = module.shown(batch["image"])
        labels = evaluation_labels(module, count, first=images)
        if labels is not None:
            batch["fake_label"] = labels
        batch["latents"] = evaluation_latents(module, count, 0, first=images)
        fakes = None
        seed_everything(stream_seed(0, "networks", images))  # of what networks draw by themselves
        if module.phase.fakes:
            with torch.no_grad():
                fakes = module.generate(batch, batch["latents"])
            made = images_of(fakes)
            if made.shape[2:] != batch["image"].shape[2:]:  # of a network that has not fully grown
                fakes = functional.adaptive_avg_pool2d(made, batch["image"].shape[-1])
        for player in asked:
            losses = getattr(module, getattr(module.phase, f"{player}_loss"))(batch, fakes)
            for key, value in losses.items():
                sums[f"{player[0].upper()}/{key}"] += float(value.detach()) * count
        images += count
        module.counters.minibatches += 1  # a new draw for the next batch
    module.generator = trained
    return {f"held_out_{data.noun}": images, **{key: value / images for key, value in sums.items()}}
