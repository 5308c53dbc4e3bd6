"""Trains a model: a fresh run, a continued one, or a sweep of runs."""

import logging
import os
import warnings
from contextlib import nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from omegaconf import OmegaConf
from torch import nn

from gan_lightning import clusters, faults, mapped, status
from gan_lightning.adversarial import AdversarialModule
from gan_lightning.agreement import check_networks
from gan_lightning.budget import Budget
from gan_lightning.callbacks.alarms import Alarms
from gan_lightning.callbacks.checkpoints import Checkpoints, saves_of
from gan_lightning.callbacks.giving_up import GivingUp, Place
from gan_lightning.callbacks.metrics import Metrics
from gan_lightning.callbacks.progress import Progress, banner, summary
from gan_lightning.callbacks.samples import FOLDER as SAMPLES
from gan_lightning.callbacks.samples import PART, SampleGrids
from gan_lightning.callbacks.scores import Scores, TrainingScores, scored_until
from gan_lightning.checkpoint import (
    CONFIG,
    FOLDER,
    LAST,
    PREVIOUS,
    find_checkpoint,
    mend,
    newest,
    read_checkpoint,
    run_folder,
)
from gan_lightning.config import (
    check,
    check_models,
    compose,
    instantiate,
    override,
)
from gan_lightning.config.containers import pick
from gan_lightning.contents import check_callbacks, check_progress, refuse_unlike
from gan_lightning.data.base import Data
from gan_lightning.draws import stream_seed
from gan_lightning.endings import ending, state_of, stopped_by, unfinished
from gan_lightning.errors import UserError
from gan_lightning.exporting.weights import fill
from gan_lightning.holding import hold
from gan_lightning.loggers import METRICS, check_loggers, cut_events
from gan_lightning.metrics.records import FILE as SCORES
from gan_lightning.metrics.records import forget_after
from gan_lightning.metrics.scoring import Scorer
from gan_lightning.paths import expand
from gan_lightning.speed import keep_memory, why_no_graphs
from gan_lightning.status import command_line
from gan_lightning.steps import Counters, Step
from gan_lightning.strategy import PlayersStrategy
from gan_lightning.trainer import TrainerSettings
from gan_lightning.types import Node, NonNegativeInt
from gan_lightning.unheard import unheard

FIXED = (  # what a continued run keeps, because its weights or its place in the data depend on it
    "seed",
    "model._target_",
    "model.generator",
    "model.discriminator",
    "model.classes",
    "model.categorical",
    "model.continuous",
    "model.ema",
    *(f"model.imitation.{key}" for key in ("_target_", "layers", "features")),
    "data._target_",
    "data.source",
    *(f"data.{key}" for key in ("modes", "side", "radius", "spacing", "turns", "mean", "std", "samples")),  # of points
    "data.image_size",
    "data.scale",
    "data.input_channels",
    "data.direction",
    "data.channels",
    "data.classes",
    *(f"data.{key}" for key in ("vocabulary", "length", "tokens", "lower", "min_count", "oracle_seed")),  # of texts
    "data.too_long",
    *(f"data.{key}" for key in ("rate", "window", "hop", "target")),  # of sounds
    "data.subset",
    "data.per_class",
)


class Settings(TypedDict):
    """The keys of conf/train.yaml."""

    seed: NonNegativeInt
    checkpoint: Path | None
    weights: Path | None
    step: Annotated[Node, Step]
    budget: Annotated[Node, Budget]
    logger: Annotated[Node, Logger]
    data: Annotated[Node, Data]
    model: Annotated[Node, AdversarialModule]
    trainer: Annotated[Node, TrainerSettings]
    samples: Annotated[Node, SampleGrids]
    checkpoints: Annotated[Node, Checkpoints]
    scores: Annotated[Node, TrainingScores]
    on_collapse: Literal["warn", "stop"]


@unheard()
def run(arguments: list[str]) -> int:
    """The command: returns the exit code. Everything is checked before a folder is made."""
    flags = {"-m", "--multirun"}
    clusters.check_arguments(arguments, sweep=bool(flags & set(arguments)))
    if flags & set(arguments):
        from gan_lightning.commands.sweep import sweep  # here: it starts runs of this command

        return sweep([argument for argument in arguments if argument not in flags])
    given = [argument.partition("=")[2] for argument in arguments if sets(argument, "checkpoint")]
    if given and given[-1] not in ("", "null"):
        others = [argument for argument in arguments if not sets(argument, "checkpoint")]
        return resume(Path(given[-1]), others, command_line(arguments))
    config = compose("train", arguments, Settings)
    settings = checked(check(config, Settings))
    return start(settings, expand(config.hydra.run.dir), command_line(arguments))


def sets(argument: str, key: str) -> bool:
    """True for key=…, and with Hydra's + and ++."""
    return argument.lstrip("+").startswith(f"{key}=")


def checked(settings: dict[str, Any], *, fresh: bool = True) -> dict[str, Any]:
    """The same settings, once everything about them that can be known without work is known to be right.

    fresh: a run that begins; one that is continued does without the weights that it began with.
    """
    check_models({"data": settings["data"]})
    data: Data = instantiate(settings["data"])
    data.check()  # before the models: what they are built for, such as classes, is found there
    check_model(check_models(settings)["model"], settings["model"], data)
    check_loggers(instantiate(settings["logger"]))
    budget = settings["budget"]
    if settings["trainer"].get("max_epochs") is None and not any(
        budget.get(key) for key in ("images", "generator_steps", "minutes")
    ):
        raise UserError(
            "trainer.max_epochs=null: the run would never end; set it, or budget.images, .generator_steps or .minutes"
        )
    if fresh and settings["weights"]:
        find_checkpoint(Path(settings["weights"]), key="weights")
    return settings


def check_model(module: AdversarialModule, node: dict[str, Any], data: Data) -> None:
    """Raises UserError where networks, rule and data do not fit; `module`: built of `node` on the meta device."""
    for player in ("generator", "discriminator"):
        network = getattr(module, player)
        if reason := getattr(network, "untrained", None):
            raise UserError(f"model.{player}: {type(network).__name__}: {reason}")
    module.check_data(data)
    try:
        try:
            check_networks(module, data.shape)
        except RuntimeError:  # perhaps of a network that needs numbers
            check_networks(instantiate(node), data.shape)
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"model: these networks do not fit: {reason}; choose others with network@model=…") from error


def keep_places(data: dict[str, Any]) -> None:
    """Makes the paths of a data node absolute: a run can be continued from any working directory."""
    for key in ("root", "root_a", "root_b", "test", "parameters", "mask_root"):
        if data.get(key):
            data[key] = str(expand(data[key]).absolute())
    if data.get("cache", False) not in ("auto", "off", False):
        data["cache"] = str(expand(data["cache"]).absolute())


def start(settings: dict[str, Any], folder: Path, command: str, place: Place | None = None) -> int:
    """A fresh run in `folder`, or the run that was begun there (what requeueing schedulers need).

    command: what was typed. place: in a sweep.
    """
    keep_places(settings["data"])
    if (teacher := settings["model"].get("imitation")) and str(teacher["teacher"]) != "latest":
        teacher["teacher"] = str(expand(teacher["teacher"]).absolute())
    last = newest(folder)
    if last:
        check_progress(last, checkpoint := read_checkpoint(last))
        stored = checkpoint["config"]
        stored["data"].setdefault("classes", settings["data"].get("classes"))  # which older versions did not say
        for key in FIXED:
            if pick(stored, key) != pick(settings, key):
                raise UserError(f"{key}: the run in {folder} was begun with other values; choose another folder")
        return fit(settings, folder, last, command=command, place=place)
    return fit(settings, folder, command=command, place=place)


def resume(given: Path, arguments: list[str], command: str) -> int:
    """Continues a run in its folder with its own settings and the values in `arguments`; command: what was typed."""
    if any(sets(argument, "weights") for argument in arguments):
        raise UserError("weights=…: a continued run has its own; leave out checkpoint= to start a fresh one")
    file = find_checkpoint(given)
    checkpoint = read_checkpoint(file)
    if "alone" in checkpoint:
        raise UserError(f"checkpoint={given}: an exported generator alone, with nothing to go on from; use weights=…")
    check_progress(file, checkpoint)
    settings = check(override(checkpoint["config"], arguments, Settings, FIXED), Settings)
    refuse_unlike(file, settings, alone=False)
    checked(settings, fresh=False)
    folder = run_folder(file)
    last = newest(folder)
    if not (folder / CONFIG).exists():
        clusters.check_same_folder(given)
        folder = Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f_continued")
    elif last and file.resolve() != last.resolve() and images_of(last) > images_of(file):
        clusters.check_same_folder(given)
        folder = free_name(folder.with_name(f"{folder.name}_from_{file.stem}"))  # the run itself went on from here
    return fit(settings, folder, file, command=command)


def images_of(checkpoint: Path) -> int:
    return read_checkpoint(checkpoint)["counters"]["images"]


def free_name(folder: Path) -> Path:
    """`folder`, or the first of folder_2, folder_3 … that does not exist."""
    number, name = 1, folder
    while name.exists():
        number += 1
        name = folder.with_name(f"{folder.name}_{number}")
    return name


def fit(
    settings: dict[str, Any],
    folder: Path,
    checkpoint: Path | None = None,
    *,
    command: str | None = None,
    place: Place | None = None,
    latest: bool = True,
) -> int:
    """Trains in `folder`, from `checkpoint` on if given; on several devices every rank calls this. The exit code.

    command: what was typed, for `status.json`. place: in a sweep. latest: whether outputs/latest is to be this run.
    """
    quieten()
    faults.quiet_threads()
    before = stamp(folder / FOLDER / LAST)
    instantiate(settings["trainer"]).check_processes()
    data, module = built(settings, fresh=checkpoint is None)
    stored = read_checkpoint(checkpoint) if checkpoint else {}
    counters = counters_of(stored, checkpoint, data, module)
    budget: Budget = instantiate(settings["budget"])
    most = settings["trainer"].get("max_epochs")
    stopped = stopped_by(stored, settings) if checkpoint and checkpoint.name in (LAST, PREVIOUS) else None
    trained = counters and (
        budget.used_up_by(counters) or (most is not None and counters.epoch >= most) or stopped is not None
    )
    if counters and trained and not unfinished(folder):
        done = f"finished after {counters.epoch} epochs and {counters.images:,} images"
        print(f"{folder}: {done}; trainer.max_epochs= or budget.…= extends it")
        return 0
    callbacks, scores, alarms = build_callbacks(settings, data, module, budget, place)
    if checkpoint:
        check_callbacks(checkpoint, stored, callbacks)
    seen = counters.images if counters else None
    trainer = instantiate(settings["trainer"]).build(
        folder,
        callbacks,
        [make(folder, seen) for make in instantiate(settings["logger"]).values() if make],
        ["-m", "gan_lightning.rank", str(folder / CONFIG), *([str(checkpoint)] if checkpoint else [])],
    )
    first = trainer.is_global_zero
    if trained and saves_of(stored).get("ended") and not first:  # killed when all was done but to say so
        return 0
    module.check_run(trainer, data)
    if module.step.graphs == "on" and (reason := why_no_graphs(module, trainer)):
        raise UserError(f"step.graphs=on: {reason}")
    with hold(folder) if first else nullcontext():
        if first:
            if stamp(folder / FOLDER / LAST) != (before if checkpoint else None):
                raise UserError(f"hydra.run.dir={folder}: another process has trained there meanwhile; try again")
            prepare(folder, checkpoint, stored, bool(trained))
            if trained and saves_of(stored).get("ended"):
                status.end(folder, "finished")
                return 0
            describe(settings, folder, latest=latest)
            status.begin(folder, command, {"trial": place.trial} if place else None)
            alarms.go_on(folder, stopped)
            banner(module, data, trainer, folder, counters)
        keep_memory()
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"  # Lightning's 1 has every optimizer step ask the driver
        strategy = trainer.strategy
        if first and isinstance(strategy, PlayersStrategy):
            strategy.when_lost = lambda reason: status.end(folder, "failed", reason, alarms.raised)

        def cut(reason: str) -> None:
            faults.tell(last_words(faults.Fault(reason), trainer, folder, budget, alarms))

        try:
            if trained:  # killed in its last scores: no step is left, but its end is
                trainer.fit_loop.max_epochs, budget.over = -1, True
            with mapped.guard(cut):
                trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
            if isinstance(strategy, PlayersStrategy):
                strategy.finish()
        except BaseException as error:  # an interrupt, too, must not leave the other ranks waiting; it is raised again
            told = last_words(error, trainer, folder, budget, alarms)
            if told is error:
                raise
            raise told from (None if isinstance(told, KeyboardInterrupt) else error)
        if first:
            state, reason = ending(budget, alarms)
            status.end(folder, state, reason, alarms.raised)
            summary(module, folder, scores, alarms, state)
    return budget.leave(first)


def prepare(folder: Path, checkpoint: Path | None, stored: dict[str, Any], ended: bool) -> None:
    """Makes of the run's folder, which this process holds, what it was at the checkpoint that it goes on from.

    stored: what the checkpoint holds. ended: no step is left, but the run was killed in its end.
    """
    ours = (f"{Path(name).stem}.part" for name in (METRICS, SCORES))
    for pattern in (".*.part", *ours, f"{FOLDER}/.*.part", f"{SAMPLES}/{PART}/*"):  # halves of files
        for part in filter(Path.is_file, folder.glob(pattern)):
            part.unlink()
    if checkpoint:
        mend(folder, checkpoint)
    forget_after(folder / SCORES, scored_until(stored, ended) if stored else -1)
    if "events" in saves_of(stored) or (not stored and unfinished(folder)):  # older versions did not say
        cut_events(folder, saves_of(stored).get("events", {}))


def stamp(file: Path) -> tuple[int, int] | None:
    """What changes whenever a file is replaced; None: there is none."""
    try:
        about = file.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns


def built(settings: dict[str, Any], *, fresh: bool) -> tuple[Data, AdversarialModule]:
    """The data and the module of a run. fresh: it begins, perhaps with the weights of another."""
    torch.manual_seed(stream_seed(settings["seed"], "initialization"))
    data: Data = instantiate(settings["data"])
    module: AdversarialModule = instantiate(settings["model"])
    module.config = settings
    data.check_model(module)
    data.setup()  # before the folder: a file that cannot be read leaves nothing behind
    if data.minibatch_size(1, module.step.accumulate) == 1 and any(
        isinstance(m, nn.BatchNorm1d) for m in module.modules()
    ):
        raise UserError("data.batch_size: batches hold 1 image and batch norm needs 2: model.generator.batch_norm=none")
    if settings["weights"] and fresh:
        fine_tune(module, Path(settings["weights"]), data)
    return data, module


def counters_of(
    stored: dict[str, Any], checkpoint: Path | None, data: Data, module: AdversarialModule
) -> Counters | None:
    """Where a continued run stands; None for a fresh one. Raises UserError for what cannot go on as it is set."""
    if not stored:
        return None
    if "optimizer_states" not in stored:
        raise UserError(
            f"checkpoint={checkpoint}: has networks without optimizers and cannot be continued; "
            "compress the run that it came from with method.images=… to train on"
        )
    counters = Counters(**stored["counters"])
    for key, value in stored.get("data", {}).items():
        if data.facts().get(key) != value:
            raise UserError(f"checkpoint={checkpoint}: the {key} of its data are not those of the data now")
    if counters.phase >= len(module.phases):
        raise UserError(
            f"checkpoint={checkpoint}: is in phase {counters.phase + 1} of its training, and as the model is set now "
            f"there are {len(module.phases)}; leave it as it was, or use weights=… to start a fresh run"
        )
    return counters


def describe(settings: dict[str, Any], folder: Path, *, latest: bool) -> None:
    """config.yaml, replaced at once; latest: outputs/latest becomes this run."""
    part = folder / f".{CONFIG}.part"
    OmegaConf.save(OmegaConf.create(settings), part)
    part.replace(folder / CONFIG)
    if latest:
        point_latest(folder)


def last_words(error: BaseException, trainer: Trainer, folder: Path, budget: Budget, alarms: Alarms) -> BaseException:
    """Notes how a run failed, ends its other ranks, and returns what is to be raised: an interrupt where it was one."""
    strategy = trainer.strategy
    several = isinstance(strategy, PlayersStrategy)
    told = faults.as_told(error, folder, trainer.global_rank, strategy.ended if several else dict)
    if not isinstance(told, faults.Fault) and any(isinstance(one, KeyboardInterrupt) for one in faults.chain(error)):
        told = KeyboardInterrupt()  # the second one, or one before the first step: Lightning would end with 1
    if trainer.is_global_zero:
        faults.keep(error, told, folder)
        with suppress(OSError):  # the folder may be what was lost
            status.end(folder, *state_of(told), alarms.raised)
    if several:
        strategy.abort(error)
    return told


def build_callbacks(
    settings: dict[str, Any], data: Data, module: AdversarialModule, budget: Budget, place: Place | None
) -> tuple[list[Callback], Scores | None, Alarms]:
    """The callbacks of a run in the order in which they are told; scores and alarms among them, for the summary."""
    metrics = Metrics()
    progress = Progress(metrics, budget, shown=settings["trainer"].get("enable_progress_bar", True))
    checkpoints: Checkpoints = instantiate(settings["checkpoints"])
    how: TrainingScores = instantiate(settings["scores"])
    scorer = None if how.names == [] else Scorer(how, data)
    scores = Scores(how, scorer, checkpoints, budget, progress.line, module) if scorer else None
    alarms = Alarms(settings["on_collapse"], metrics, scores, checkpoints, progress.line)
    judged: list[Callback] = [scores] if scores else []
    if scores and place and place.objective:
        judged.append(GivingUp(place, scores, budget))
    grids: Callback = instantiate(settings["samples"])
    return [budget, metrics, progress, *judged, grids, alarms, checkpoints], scores, alarms


def quieten() -> None:
    """Lightning's advice is for other programs: it knows neither our loaders nor our counters."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        "You passed in a `val_dataloader`",
        "The number of training batches",
        "The '.*_dataloader' does not have many",
        "Found .* in eval mode",
        "Be aware that when using `ckpt_path`",
        "`isinstance\\(treespec",
    ):
        warnings.filterwarnings("ignore", message)
    warnings.filterwarnings("once", message="This DataLoader will create")  # not every epoch


def fine_tune(module: AdversarialModule, given: Path, data: Data) -> None:
    """Puts the trained networks of a run into a module that begins anew; not a discriminator that never moved."""
    stored = read_checkpoint(find_checkpoint(given, key="weights"))
    trained, wanted = stored["state_dict"], module.state_dict()
    if "alone" in stored:  # an exported folder: what is not in it begins as it was built
        trained = fill(module, stored, given, key="weights")
    if not stored["counters"].get("discriminator_steps"):
        trained = {**trained, **{key: value for key, value in wanted.items() if key.startswith("discriminator.")}}
    for key, value in wanted.items():
        if key not in trained or trained[key].shape != value.shape:
            has = tuple(trained[key].shape) if key in trained else "nothing"
            raise UserError(
                f"weights={given}: {key} is {tuple(value.shape)} here and {has} there; use the same networks and sizes"
            )
    if stored.get("data", {}).get("words") != data.facts().get("words"):
        raise UserError(f"weights={given}: its texts have other words; tokens would mean other things")
    module.load_state_dict({key: trained[key] for key in wanted})


def point_latest(folder: Path) -> None:
    """outputs/latest becomes a link to the newest run; replaced at once, so that runs may start together."""
    root = next((parent for parent in folder.absolute().parents if parent.name == "outputs"), None)
    if root is None:
        return
    part = root / f".latest.{os.getpid()}"
    part.unlink(missing_ok=True)
    part.symlink_to(folder.absolute().relative_to(root), target_is_directory=True)
    part.replace(root / "latest")
