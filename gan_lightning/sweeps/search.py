"""`-m sweep=…`: asks Optuna for settings and one of Hydra's launchers for runs.

Not a plugin of Hydra, whose own way to a sweeper ends every mistake in a traceback. What a run came to is read from its
folder, never from the process that made it: a sweep that was killed goes on from there, and runs on other machines need
nothing but the folder.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from gan_lightning import status
from gan_lightning.budget import EXIT_CODES
from gan_lightning.config.overrides import quoted
from gan_lightning.draws import stream_seed
from gan_lightning.errors import UserError
from gan_lightning.holding import Held
from gan_lightning.sweeps import study as studies
from gan_lightning.sweeps.space import SEED, Space
from gan_lightning.sweeps.study import Outcome, Take
from gan_lightning.types import NonNegativeInt, PositiveInt

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


class Search:
    """The node hydra.sweeper: tries settings one after the other, or several at once.

    Args:
        sampler: grid: every combination; random; tpe: tree-structured Parzen estimators (Bergstra et al. 2011).
        trials: how many, in all; None: all of a grid, else 30. More may be asked for later.
        objective: a metric of scores.jsonl; None: the one that the runs keep best.ckpt by.
        take: the objective's last value of a run, or its best.
        seed: of the samplers; what a trial tries depends on it, on its number and on the trials before it.
        jobs: trials at once; None: the launcher's n_jobs where it has one, else 1.
        defaults_first: the first trial has the configuration's own settings, where the space holds them.
        prune: give up a run whose best score so far is worse than the median of the trials before it, at as many
            scores (Optuna's MedianPruner); with several seeds, the first decides.
        prune_trials: trials that must have finished before one is given up.
        prune_scores: scores of each run that are not judged.
        params: the space, below what is typed: key -> Hydra's sweep functions.
        trial: set by the sweep itself: the trial that a process runs.
    """

    def __init__(
        self,
        sampler: Literal["grid", "random", "tpe"] = "tpe",
        trials: PositiveInt | None = None,
        objective: str | None = None,
        take: Take = "last",
        seed: NonNegativeInt = 0,
        jobs: PositiveInt | None = None,
        defaults_first: bool = True,
        prune: bool = False,
        prune_trials: PositiveInt = 5,
        prune_scores: NonNegativeInt = 0,
        params: dict[str, Any] | None = None,
        trial: NonNegativeInt | None = None,
    ) -> None:
        self.sampler, self.trials, self.objective = sampler, trials, objective
        self.take: Take = take
        self.seed, self.jobs, self.defaults_first = seed, jobs, defaults_first
        self.prune, self.prune_trials, self.prune_scores = prune, prune_trials, prune_scores
        self.params = dict(params or {})
        self.trial = trial

    def begin(self, folder: Path, space: Space, default: dict[str, Any] | None, objective: str) -> None:
        """Makes the study in the sweep's folder, or finds that it was begun with the same settings; else UserError.

        default: the configuration's own values, None where the space does not hold them.
        """
        facts = {
            "sampler": self.sampler,
            "objective": objective,
            "take": self.take,
            "searched": {key: str(distribution) for key, distribution in space.searched.items()},
            "seeds": space.seeds,
            "fixed": sorted(space.fixed),
            "seed": self.seed,
            "prune": [self.prune_trials, self.prune_scores] if self.prune else None,
        }
        first = space.grid() if self.sampler == "grid" else [default] if default and self.defaults_first else []
        study = studies.begin(folder, facts, first)
        for number in (trial.number for trial in study.trials if trial.state == TrialState.RUNNING):
            for seed in space.seeds or [None]:
                run = folder / name(number, seed)
                if (found := status.read(run)) and found.alive:
                    raise UserError(f"{run}: is still at work as process {found.pid}; end it, or wait")

    def wanted(self, space: Space) -> int:
        """How many trials there are to be."""
        whole = len(space.grid()) if self.sampler == "grid" else self.trials or 30
        return min(self.trials or whole, whole)

    def make_sampler(self, number: int) -> BaseSampler:
        """Made anew for every trial, so that a sweep that goes on draws what it would have drawn."""
        seed = stream_seed(self.seed, "search", number) % 2**32
        if self.sampler == "tpe":
            return TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=8)
        return RandomSampler(seed=seed)


class Searching:
    """A search at work.

    Args:
        search: how.
        space: what is searched.
        folder: the sweep's, where `Search.begin` made a study.
        launcher: one of Hydra's, set up for the task.
        config: the launcher's node.
    """

    def __init__(self, search: Search, space: Space, folder: Path, launcher: Launcher, config: DictConfig) -> None:
        self.search, self.space, self.folder, self.launcher = search, space, folder, launcher
        self.study = studies.load(folder)
        self.objective: str = self.study.user_attrs["facts"]["objective"]
        self.seeds: list[int | None] = list(space.seeds or [None])
        self.serial = config._target_ == BASIC_LAUNCHER
        self.at_once = at_once(search, space, config)

    def run(self) -> None:
        """All trials that are left."""
        while numbers := self.next_trials():
            self.play(numbers)

    def next_trials(self) -> list[int]:
        """Those that a killed sweep left, then new ones: as many as are run at once."""
        begun = [trial for trial in self.study.trials if trial.state != TrialState.WAITING]
        numbers = [trial.number for trial in begun if trial.state == TrialState.RUNNING]
        for number in numbers:  # one that was killed as it was asked for lacks values
            self.study.sampler = self.search.make_sampler(number)
            studies.complete(self.study, number, self.space.searched)
        left = self.search.wanted(self.space) - len(begun)
        for number in range(len(begun), len(begun) + min(left, self.at_once - len(numbers))):
            self.study.sampler = self.search.make_sampler(number)
            numbers.append(self.study.ask(self.space.searched).number)
        return numbers

    def play(self, numbers: Sequence[int]) -> None:
        """Runs trials, notes what they came to and says so."""
        for number in numbers:
            tried = studies.settings(self.study.trials[number])
            print(f"trial {number} of {self.search.wanted(self.space)}: {tried}", flush=True)
        stages = [self.seeds[:1], self.seeds[1:]] if self.search.prune else [self.seeds]
        for seeds in stages:
            self.launch([(n, s) for n in numbers if not self.lost(n) for s in seeds if not self.ended(n, s)])
        for number in numbers:
            made = studies.together([self.outcome(number, seed) for seed in self.seeds])
            studies.tell(self.study, number, made)
            self.report(number, made)
        studies.write_table(self.study, self.folder)

    def launch(self, jobs: Sequence[tuple[int, int | None]]) -> None:
        """Raises SystemExit where a run was interrupted or the launcher failed: the same command goes on then."""
        each = 1 if self.serial else len(jobs)
        for first in range(0, len(jobs), max(each, 1)):
            self.launch_together(jobs[first : first + each])

    def launch_together(self, jobs: Sequence[tuple[int, int | None]]) -> None:
        folders = [self.run_folder(*job) for job in jobs]
        try:
            returned = self.launcher.launch([self.overrides(*job) for job in jobs], initial_job_idx=jobs[0][0])
        except Exception as error:  # a worker that was killed, a cluster that refused: anything
            print(f"the launcher failed: {type(error).__name__}: {error}\nThe same command goes on.", flush=True)
            raise SystemExit(1) from None
        for folder, result in zip(folders, returned, strict=True):
            note_failure(folder, result)
        for folder in folders:
            found = status.read(folder)
            if found and found.state == "interrupted":
                print(f"{folder}: interrupted. The same command goes on.", flush=True)
                codes = {number.name: code for number, code in EXIT_CODES.items()}
                raise SystemExit(codes.get(found.reason or "", 1))

    def overrides(self, number: int, seed: int | None) -> list[str]:
        """The arguments of one run, in Hydra's grammar."""
        its_seed = [] if seed is None else [f"{SEED}={seed}"]
        own = [
            f"hydra.sweep.dir={quoted(str(self.folder))}",  # which may hang on the model, and that on the trial
            f"hydra.sweep.subdir={name(number, seed)}",
            f"hydra.sweeper.trial={number}",
            f"hydra.sweeper.objective={self.objective}",
            f"hydra.sweeper.prune={self.search.prune and seed == self.seeds[0]}",
        ]
        return [*self.space.overrides(self.study.trials[number].params), *its_seed, *own]

    def run_folder(self, number: int, seed: int | None) -> Path:
        return self.folder / name(number, seed)

    def outcome(self, number: int, seed: int | None) -> Outcome:
        return studies.outcome(self.run_folder(number, seed), self.objective, self.search.take)

    def ended(self, number: int, seed: int | None) -> bool:
        return self.outcome(number, seed).state not in (None, "running", "interrupted")

    def lost(self, number: int) -> bool:
        """Whether one of its runs leaves the trial without a value."""
        return any(self.outcome(number, seed).state in ("pruned", "diverged", "failed") for seed in self.seeds)

    def report(self, number: int, made: Outcome) -> None:
        """A line for a trial, and the best so far."""
        spread = "" if made.std is None else f" ± {made.std:.2g}"
        value = made.state if made.value is None else f"{self.objective} {made.value:.4g}{spread}"
        why = f" ({made.reason.partition(': ')[0]})" if made.reason else ""
        best = studies.best(self.study)
        so_far = f"; best {best.value:.4g}, trial {best.number}" if best else ""
        print(f"trial {number}: {value}{why}{so_far}", flush=True)


def name(number: int, seed: int | None) -> str:
    """Of the folder of a run."""
    return f"{number:03d}" if seed is None else f"{number:03d}_seed{seed}"


def note_failure(folder: Path, result: JobReturn) -> None:
    """Of a job that raised: one whose run did not say so itself, as it had not begun.

    Raises SystemExit where another process is at work on it, perhaps on another machine.
    """
    try:
        _ = result.return_value
    except Held as error:
        print(f"{error}. The same command goes on.", flush=True)
        raise SystemExit(2) from None
    except Exception as error:
        found = status.read(folder)
        if found is None or found.state in ("running", "interrupted"):
            status.end(folder, "failed", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def at_once(search: Search, space: Space, launcher: DictConfig) -> int:
    """Trials in one call of a launcher: all where nothing is learned from those before and it has a queue."""
    learns = search.sampler == "tpe" or search.prune
    if not learns and launcher._target_ != BASIC_LAUNCHER:
        return search.wanted(space)
    processes = launcher.get("n_jobs", 1)
    return search.jobs or (processes if processes > 0 else os.cpu_count() or 1)


def summary(folder: Path, space: Space) -> int:
    """Says what a sweep found; the exit code: 1 where no trial has a value."""
    study = studies.load(folder)
    studies.write_table(study, folder)
    counts = {state: len(study.get_trials(states=[state])) for state in TrialState}
    objective = study.user_attrs["facts"]["objective"]
    print(
        f"{len(study.trials)} trials: {counts[TrialState.COMPLETE]} finished, {counts[TrialState.PRUNED]} given up, "
        f"{counts[TrialState.FAIL]} failed; {folder / studies.TABLE}"
    )
    best = studies.best(study)
    if best is None:
        print("No trial has a value.")
        return 1
    alone = status.read(folder / name(best.number, next(iter(space.seeds or [None]))))
    print(f"Best: trial {best.number}, {objective} {best.value:.4g}. Alone:\n  {alone.commands[0] if alone else '?'}")
    print(f"All of them on a page:\n  {status.command_line(['report', f'runs={folder}'])}", flush=True)
    return 0
