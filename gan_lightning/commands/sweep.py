"""`-m`: several runs of the train command, all combinations of Hydra's own sweeper or a search of ours."""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import torch
from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from gan_lightning import faults, status
from gan_lightning.budget import EXIT_CODES
from gan_lightning.callbacks.giving_up import Place
from gan_lightning.callbacks.scores import TrainingScores, chosen_metric
from gan_lightning.commands.train import Settings, checked, sets, start
from gan_lightning.config import (
    CONF,
    as_typed,
    check,
    check_node,
    compose,
    hydra_arguments,
    hydra_loader,
    instantiate,
    sweep_jobs,
)
from gan_lightning.config.containers import plain_container
from gan_lightning.config.messages import shorten
from gan_lightning.config.overrides import quoted
from gan_lightning.data.base import Data
from gan_lightning.errors import UserError
from gan_lightning.locks import lock
from gan_lightning.metrics.scoring import Scorer
from gan_lightning.paths import expand, refuse_link
from gan_lightning.sweeps.gpus import claim

if TYPE_CHECKING:
    from gan_lightning.sweeps.space import Space

SEARCH = "gan_lightning.sweeps.search.Search"
OUTPUT, LOCK = "output.txt", ".lock"
FAILED: list[int] = []  # exit codes of runs in this process that failed: the others are made all the same
PR_SET_PDEATHSIG = 1  # Linux: a signal when the process that started this one ends


def sweep(arguments: list[str]) -> int:
    """Several runs: every job is checked before the first begins; of a search, every value beside the first ones."""
    if any(sets(argument, "checkpoint") for argument in arguments):
        raise UserError("checkpoint=…: one run is continued at a time; leave out -m, or use weights= to start from it")
    jobs = sweep_jobs("train", arguments, Settings)
    settings = [checked_job(one) for one in jobs]
    config = compose("train", arguments, Settings, sweep=True)
    if config.hydra.sweeper._target_ == SEARCH:
        return search(arguments, config, jobs[0], settings[0])
    FAILED.clear()
    try:
        run_hydra(hydra_arguments("train", arguments, Settings))
    except KeyboardInterrupt:
        return EXIT_CODES[signal.SIGINT]
    return FAILED[0] if FAILED else 0


def checked_job(arguments: list[str]) -> dict[str, Any]:
    """The settings of one job."""
    try:
        return checked(check(compose("train", arguments, Settings), Settings))
    except UserError as error:
        raise UserError(shorten(f"{error} (in the run {' '.join(arguments)})")) from error


def run_hydra(arguments: Sequence[str]) -> None:
    """Hydra's own sweep of `job`, with arguments in its grammar."""
    sys.argv = [sys.argv[0], "--multirun", *arguments]
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(job)()


def job(config: DictConfig) -> None:
    """One run: what Hydra's launchers call, perhaps in a process of its own. That of a search prints to a file."""
    job_config = HydraConfig.get()
    folder, place = Path(job_config.runtime.output_dir), place_of(job_config)
    settings = checked(check(config, Settings))
    if "joblib" in job_config.launcher._target_:
        share_machine(settings, folder.parent)
    plain = plain_container(config)
    command = status.command_line([as_typed(text, plain, Settings) for text in job_config.overrides.task])
    if place:
        refuse_link(folder / OUTPUT)
        with (folder / OUTPUT).open("a", encoding="utf-8") as file, redirect_stdout(file):
            try:
                start(settings, folder, command, place)
            except Exception:
                traceback.print_exc(file=file)
                raise
        return
    try:
        code = start(settings, folder, command)
    except Exception as error:
        if os.environ.get(faults.VARIABLE) or "basic_launcher" not in job_config.launcher._target_:
            raise  # other launchers let the runs beside it end first
        faults.tell(error)  # Hydra would show all of its own lines
        FAILED.append(2 if isinstance(error, UserError) else 1)
        return
    if code:
        raise SystemExit(code)  # interrupted: no other run begins


def share_machine(settings: dict[str, Any], folder: Path) -> None:
    """Of the cores, what joblib gave this process; of several GPUs, one of its own. folder: the sweep's."""
    if sys.platform == "linux":  # one whose sweep was killed must not go on beside its successor
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # joblib divides the cores by variables, and leaves OMP_NUM_THREADS as it was; torch would take MKL_NUM_THREADS.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    gpus = torch.cuda.device_count()
    if gpus > 1 and settings["trainer"]["devices"] == 1:
        gpu = claim(folder, gpus)
        settings["trainer"]["devices"] = 1 if gpu is None else [gpu]


def place_of(job_config: Any) -> Place | None:
    """A run's place in a search; None in other sweeps."""
    node = job_config.sweeper
    if node._target_ != SEARCH:
        return None
    folder = Path(job_config.runtime.output_dir).parent
    return Place(folder, node.trial, node.objective if node.prune else None, node.prune_trials, node.prune_scores)


def search(arguments: list[str], config: DictConfig, first: list[str], settings: dict[str, Any]) -> int:
    """A sweep by Optuna: a new one, or what is left of the one that was begun in its folder.

    first, settings: the arguments of one of its jobs, and what they give.
    """
    try:
        from gan_lightning.sweeps.search import Search, Searching, summary
        from gan_lightning.sweeps.space import read_space
    except ModuleNotFoundError as error:
        raise UserError(
            f'hydra/sweeper=search: needs the package {error.name}: pip install "gan_lightning[sweep]"'
        ) from None
    searcher: Search = instantiate(check_node("hydra.sweeper", config.hydra.sweeper))
    if searcher.trial is not None:
        raise UserError(f"hydra.sweeper.trial={searcher.trial}: is set by the sweep itself")
    objective = objective_of(settings, searcher.objective)
    if searcher.prune and not settings["scores"].get("every"):
        raise UserError("hydra.sweeper.prune=true: compares scores at as many images: set scores.every=<images>")
    in_grammar = hydra_arguments("train", arguments, Settings, params=True)
    folder = expand(config.hydra.sweep.dir).absolute()
    with hydra_loader() as loader:
        space = read_space([text for text in in_grammar if not is_hydras(text)], loader)
        whole, launcher = launcher_of(in_grammar, folder, loader)
    with one_at_a_time(folder):
        refuse_link(folder / "multirun.yaml")
        searcher.begin(folder, space, default_of(space, first), objective)
        OmegaConf.save(whole, folder / "multirun.yaml")
        try:
            Searching(searcher, space, folder, launcher, whole.hydra.launcher).run()
        except KeyboardInterrupt:
            print(f"{folder}: interrupted. The same command goes on.", flush=True)
            return EXIT_CODES[signal.SIGINT]
        return summary(folder, space)


def is_hydras(argument: str) -> bool:
    """Whether an argument is of Hydra itself, and not of a run."""
    return argument.lstrip("+~").startswith(("hydra.", "hydra/"))


def default_of(space: "Space", job: list[str]) -> dict[str, Any] | None:
    """What the configuration itself has where the search looks; None where it lies outside, or would not be valid.

    job: the arguments of one job.
    """
    searched = {key.lstrip("+") for key in space.searched}
    try:
        others = [argument for argument in job if argument.lstrip("+").partition("=")[0] not in searched]
        return space.at(compose("train", others, Settings))
    except UserError:  # an argument that fits the searched models alone
        return None


def launcher_of(arguments: list[str], folder: Path, loader: ConfigLoader) -> tuple[DictConfig, Launcher]:
    """The configuration of a whole sweep in `folder`, and its launcher for `job`; within `hydra_loader`."""
    arguments = [*arguments, f"hydra.sweep.dir={quoted(str(folder))}"]
    its_hydra = GlobalHydra.instance().hydra
    assert its_hydra is not None
    whole = its_hydra.compose_config("train", arguments, RunMode.MULTIRUN)
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    return whole, Plugins.instance().instantiate_launcher(hydra_context=context, task_function=job, config=whole)


def objective_of(settings: dict[str, Any], wanted: str | None) -> str:
    """The metric that a search goes by. Raises UserError where the runs do not make it."""
    how: TrainingScores = instantiate(settings["scores"])
    if how.names == []:
        raise UserError("scores.names=[]: a search goes by a score")
    data: Data = instantiate(settings["data"])
    with torch.device("meta"):
        module = instantiate(settings["model"])
    data.check_model(module)
    data.setup()
    chosen = chosen_metric(how.best, Scorer(how, data), module)
    return chosen_metric(wanted, Scorer(how, data), module, "hydra.sweeper.objective") if wanted else chosen


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Raises UserError where another process is at work on the same sweep."""

    def refuse() -> None:
        raise UserError(f"hydra.sweep.dir={folder}: a sweep is at work there")

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"hydra.sweep.dir={folder}: {error.strerror}") from None
    with lock(folder / LOCK, refuse):
        yield
