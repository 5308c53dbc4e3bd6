"""Searches: what they try, what they note, and that nothing is lost or done twice when they are killed."""

import csv
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("optuna", reason="searches need the extra sweep")

from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from gan_lightning import status
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import sweep as commands_sweep
from gan_lightning.commands.sweep import share_machine
from gan_lightning.commands.train import Settings, run
from gan_lightning.config import CONF, as_typed, compose, composition
from gan_lightning.config.containers import plain_container
from gan_lightning.config.overrides import quoted
from gan_lightning.errors import UserError
from gan_lightning.metrics.records import lines
from gan_lightning.sweeps import study as studies
from gan_lightning.sweeps.gpus import claim
from gan_lightning.sweeps.search import BASIC_LAUNCHER, Search, at_once
from gan_lightning.sweeps.space import every, read_space
from tests.processes import Process

TINY = [
    "model=gan",
    "model.generator.hidden=[8]",
    "model.generator.latent_size=4",
    "model.discriminator.hidden=[8]",
    "trainer.accelerator=cpu",
    "data.batch_size=32",
    "budget.images=192",
    "samples.every_images=100000",
    "samples.count=4",
    "scores.names=[diversity]",
    "scores.samples=32",
    "scores.real_samples=32",
    "scores.every=64",
]
RATES = "model.generator_optimizer.lr=1e-4,1e-3,1e-2"


def sweep(folder: Path, *arguments: str) -> int:
    return run(["-m", f"hydra.sweep.dir={folder}", *TINY, *arguments])


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / studies.TABLE).open() as file:
        return list(csv.DictReader(file))


def weights(run_folder: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(run_folder / "checkpoints" / "last.ckpt")
    checkpoint["counters"].pop("seconds")
    return {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "counters")}


def scores(run_folder: Path) -> list[tuple[int, float]]:
    return [(line["images"], line["value"]) for line in lines(run_folder / "scores.jsonl")]


def told(run_folder: Path) -> status.Status:
    found = status.read(run_folder)
    assert found is not None
    return found


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        act()
    return str(caught.value)


# The space


def test_hydras_sweeps_as_distributions() -> None:
    numbers = ["b=tag(log,interval(1e-4,1e-1))", "c=interval(1,8)", "d=range(0,10,2)", "e=range(0.0,1.0,0.25)"]
    texts = ["a=1,2,x", "f=[0.0,0.9],[0.5,0.9]"]
    space = read_space([f"++{numbers[0]}", *numbers[1:], *texts, "g=3", "seed=1,2", "~h"])
    assert space.searched == {
        "a": CategoricalDistribution(["1", "2", "x"]),
        "++b": FloatDistribution(1e-4, 1e-1, log=True),
        "c": FloatDistribution(1, 8),
        "d": IntDistribution(0, 8, step=2),
        "e": FloatDistribution(0.0, 0.75, step=0.25),
        "f": CategoricalDistribution(["[0.0,0.9]", "[0.5,0.9]"]),
    }
    assert (space.seeds, space.fixed) == ([1, 2], ["g=3", "~h"])
    values = {"a": "x", "++b": 0.001, "c": 3.5, "d": 4, "e": 0.5, "f": "[0.5,0.9]"}
    assert space.overrides(values) == ["g=3", "~h", "++b=0.001", "c=3.5", "d=4", "e=0.5", "a=x", "f=[0.5,0.9]"]


def test_a_grid_is_every_combination() -> None:
    space = read_space(["a=1,2", "b=range(0,3)", "c=range(0.0,1.0,0.5)"])
    assert len(space.grid()) == 12
    assert space.grid()[:3] == [{"a": "1", "b": 0, "c": c} for c in (0.0, 0.5)] + [{"a": "1", "b": 1, "c": 0.0}]
    with pytest.raises(UserError, match="lr: a grid goes through single values"):
        every("lr", FloatDistribution(0, 1))


def test_a_space_holds_the_settings_of_a_configuration_or_not() -> None:
    config = compose("train", ["model=gan"], Settings)
    inside = ["model=gan,dcgan", "model.generator_optimizer.lr=tag(log,interval(1e-5,1e-2))"]
    inside += ["model.generator_optimizer.betas=[0,0.9],[0.5,0.999]", "data.batch_size=range(32,129,32)"]
    assert read_space(inside).at(config) == {
        "model": "gan",
        "model.generator_optimizer.lr": config.model.generator_optimizer.lr,
        "model.generator_optimizer.betas": "[0.5,0.999]",
        "data.batch_size": config.data.batch_size,
    }
    for outside in (
        "model=dcgan,wgan",
        "data.batch_size=range(8,33,8)",
        "model.generator_optimizer.betas=[0,0.9],[0,1]",
    ):
        assert read_space([outside]).at(config) is None


@pytest.mark.parametrize("text", ["a b", "it's", "c\\", "a\\'b", "${x}", "\\${x}", "a,b", "照片", "~/x (1)"])
def test_paths_come_back_as_they_were_typed(text: str) -> None:
    """Other values keep the quotes without which they would be something else."""
    config = plain_container(compose("train", [], Settings))
    assert as_typed(f"weights={quoted(text)}", config, Settings) == f"weights={text}"
    for argument in ("seed=3", "model=gan", "data.subset=null", "scores.best='null'", "++model.x='a, b'"):
        assert as_typed(argument, config, Settings) == argument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("range(0.0,1.0,0.3)", FloatDistribution(0.0, 0.9, step=0.3)),
        ("range(8,0,-2)", IntDistribution(2, 8, step=2)),
        ("int(interval(16,64))", IntDistribution(16, 64)),
        ("tag(log,range(1,9,2))", "has steps"),
        ("range(0,0)", "no value at all"),
        ("shuffle(1,2,3)", "leave out shuffle"),
    ],
)
def test_spaces_are_what_was_typed_or_refused(text: str, expected: Any) -> None:
    if isinstance(expected, str):
        assert expected in refusal(lambda: read_space([f"a={text}"]))
    else:
        assert read_space([f"a={text}"]).searched == {"a": expected}


def test_seeds_are_whole_numbers_each_once() -> None:
    assert read_space(["a=1,2", "seed=2,1,2"]).seeds == [2, 1]
    assert "seed=interval(1,5): seeds are whole numbers" in refusal(lambda: read_space(["a=1,2", "seed=interval(1,5)"]))


# What a search does


def test_a_grid_with_two_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(tmp_path, "sweep=grid", "hydra.sweeper.params=null", RATES, "seed=5,6") == 0
    made = table(tmp_path)
    assert [row["model.generator_optimizer.lr"] for row in made] == ["0.0001", "0.001", "0.01"]
    for number, row in enumerate(made):
        runs = [tmp_path / f"{number:03d}_seed{seed}" for seed in (5, 6)]
        values = [scores(one)[-1][1] for one in runs]
        assert float(row["diversity"]) == pytest.approx(sum(values) / 2)
        assert float(row["std"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    best = max(range(3), key=lambda number: float(made[number]["diversity"]))  # more diversity is better
    said = capsys.readouterr().out
    assert f"Best: trial {best}," in said
    assert "Done after" not in said  # the runs print to files
    assert "Done after" in (tmp_path / "000_seed5" / "output.txt").read_text()
    assert (tmp_path / "multirun.yaml").exists()


def test_a_trial_alone_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    assert sweep(tmp_path / "sweep", "sweep=tpe", "hydra.sweeper.trials=2", "hydra.sweeper.prune=false") == 0
    trial = tmp_path / "sweep" / "001"
    found = told(trial)
    assert (found.state, found.sweep) == ("finished", {"trial": 1})
    command = shlex.split(found.commands[0])
    assert command[:3] == ["python", "-m", "gan_lightning"]
    assert run([f"hydra.run.dir={tmp_path / 'alone'}", *command[3:]]) == 0
    torch.testing.assert_close(weights(tmp_path / "alone"), weights(trial), rtol=0, atol=0)
    assert scores(tmp_path / "alone") == scores(trial)
    first = weights(tmp_path / "sweep" / "000")["state_dict"]
    assert not torch.equal(
        first["generator.layers.0.weight"], weights(trial)["state_dict"]["generator.layers.0.weight"]
    )


def test_what_diverges_or_fails_does_not_stop_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gan_lightning.data.digits import Digits

    def setup(self: Digits, stage: Any = None) -> None:
        if self.batch_size == 48:
            raise OSError("the disk is gone")
        original(self, stage)

    original = Digits.setup
    monkeypatch.setattr(Digits, "setup", setup)
    axes = ["data.batch_size=32,48", "model.generator_optimizer.lr=1e-3,1e38", "trainer.log_every_n_steps=1"]
    assert sweep(tmp_path, "sweep=grid", "hydra.sweeper.params=null", *axes) == 0
    assert [row["state"] for row in table(tmp_path)] == ["finished", "diverged", "failed", "failed"]
    assert "not finite at minibatch 2" in table(tmp_path)[1]["reason"]
    assert table(tmp_path)[2]["reason"] == "OSError: the disk is gone"
    states = [trial.state for trial in studies.load(tmp_path).trials]
    assert states == [TrialState.COMPLETE, *[TrialState.FAIL] * 3]
    other = ["trainer.log_every_n_steps=1", "model.generator_optimizer.lr=1e38", "step.critic_steps=1,2"]
    assert sweep(tmp_path / "none", "sweep=grid", "hydra.sweeper.params=null", *other) == 1  # no trial has a value


def test_models_are_searched_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its name hangs on the model; with what only one of them takes, and in a grid that is asked for more."""
    monkeypatch.chdir(tmp_path)
    models = ["sweep=grid", "hydra.sweeper.params=null", "hydra.sweeper.trials=5", "model=wgan_gp,dragan"]
    small = [argument for argument in TINY if not argument.startswith("model")]
    small += ["network@model=mlp", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]"]
    assert run(["-m", *small, *models, "model.penalty_weight=5"]) == 0
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert [row["state"] for row in table(folder)] == ["finished"] * 2
    assert [row["model"] for row in table(folder)] == ["wgan_gp", "dragan"]


def test_a_space_in_a_file_may_hold_what_only_constructors_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    space = "hydra: {sweeper: {sampler: grid, params: {model.generator_optimizer.weight_decay: '0,1e-4'}}}"
    (conf / "sweep" / "mine.yaml").write_text(f"# @package _global_\ndefaults: [_base, _self_]\n{space}\n")
    for module in (composition, commands_sweep):
        monkeypatch.setattr(module, "CONF", conf)
    assert sweep(tmp_path / "sweep", "sweep=mine") == 0
    assert [row["state"] for row in table(tmp_path / "sweep")] == ["finished"] * 2


def test_batches_where_trials_learn_from_others() -> None:
    space = read_space(["a=1,2,3,4,5,6"])
    basic, joblib = DictConfig({"_target_": BASIC_LAUNCHER}), DictConfig({"_target_": "joblib", "n_jobs": 2})
    assert at_once(Search("random", trials=20), space, basic) == 1
    assert at_once(Search("random", trials=20), space, joblib) == 20
    assert at_once(Search("grid"), space, joblib) == 6
    assert at_once(Search("random", trials=20, prune=True), space, joblib) == 2  # it compares with those that ended
    assert at_once(Search("tpe"), space, joblib) == 2
    assert at_once(Search("tpe", jobs=3), space, joblib) == 3


def test_a_study_killed_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    half = studies.optuna.create_study(study_name=studies.NAME, storage=studies.storage(tmp_path))
    half.enqueue_trial({"a": 1})
    study = studies.begin(tmp_path, {"objective": "fid"}, [{"a": 2}, {"a": 3}])
    assert [trial.system_attrs["fixed_params"] for trial in study.trials] == [{"a": 2}, {"a": 3}]


def test_hopeless_trials_are_given_up(tmp_path: Path) -> None:
    """A rate that saturates every pixel at once has a FID above the median of two sane ones."""
    axes = ["model.generator_optimizer.lr=1e-3,1e-2,10", "seed=1,2"]
    prune = ["hydra.sweeper.prune=true", "hydra.sweeper.prune_trials=2", "scores.names=[fid]", "scores.force=true"]
    prune += ["budget.images=320"]
    assert sweep(tmp_path, "sweep=grid", "hydra.sweeper.params=null", *axes, *prune) == 0
    states = [row["state"] for row in table(tmp_path)]
    assert states[:3] == ["finished", "finished", "pruned"]
    hopeless = tmp_path / "002_seed1"
    assert scores(hopeless)[-1][0] < 320
    assert weights(hopeless)["counters"]["images"] < 320
    found = told(hopeless)
    assert found.state == "pruned"
    assert not (tmp_path / "002_seed2").exists()  # the first seed has decided
    assert len(studies.load(tmp_path).trials[0].intermediate_values) == len(scores(tmp_path / "000_seed1"))


@pytest.mark.slow
def test_more_trials_may_be_asked_for_and_nothing_else_changed(tmp_path: Path) -> None:
    first = ["sweep=random", "hydra.sweeper.trials=1"]
    assert sweep(tmp_path, *first) == 0
    before = (tmp_path / "000" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert sweep(tmp_path, "sweep=random", "hydra.sweeper.trials=2") == 0
    assert len(table(tmp_path)) == 2
    assert (tmp_path / "000" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    said = refusal(lambda: sweep(tmp_path, *first, "seed=3,4"))
    assert str(tmp_path) in said
    assert "seeds: None, now [3, 4]" in said
    assert "choose another folder" in refusal(lambda: sweep(tmp_path, *first, "step.critic_steps=2"))
    assert len(table(tmp_path)) == 2


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["hydra.sweeper.trials=0"], "hydra.sweeper.trials=0"),
        (["hydra.sweeper.sampler=best"], "hydra.sweeper.sampler=best"),
        (["hydra.sweeper.trails=3"], "did you mean hydra.sweeper.trials"),
        (["hydra.sweeper.objective=fdi"], "hydra.sweeper.objective=fdi: is not among the metrics made: diversity"),
        (["scores.names=[]"], "a search goes by a score"),
        (["hydra.sweeper.prune=true", "scores.every=null"], "set scores.every"),
        (["hydra.sweeper.params=null"], "nothing is searched"),
        (["data.batch_size=32,0"], "data.batch_size=0"),  # the second value: before the first trial
        (["model.generator_optimizer.lr=interval(-1,1)"], "lr=-1"),
        (["model.generator_optimizer.lr=tag(log,interval(0,1))"], "model.generator_optimizer.lr=tag"),
        (["checkpoint=latest"], "one run is continued at a time"),
        (["hydra.sweeper.trial=3"], "hydra.sweeper.trial=3: is set by the sweep itself"),
        (["hydra.sweeper.params=5"], "hydra.sweeper.params=5: must be a mapping"),
    ],
)
def test_searches_are_refused_before_anything_is_made(arguments: list[str], fragment: str, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    assert fragment in refusal(lambda: sweep(folder, "sweep=random", "hydra.sweeper.trials=1", *arguments))
    assert not folder.exists()


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / studies.FILE).write_bytes(b"not a database" * 100)
    assert studies.FILE in refusal(lambda: sweep(tmp_path, "sweep=random", "hydra.sweeper.trials=1"))
    assert (tmp_path / studies.FILE).read_bytes() == b"not a database" * 100


def test_what_a_trial_tries_depends_on_its_number_alone() -> None:
    search = Search(sampler="random", seed=3)
    draws = [search.make_sampler(number)._rng.rng.random() for number in (4, 4, 5)]  # type: ignore[attr-defined]
    assert draws[0] == draws[1] != draws[2]


def test_joblibs_processes_take_the_cores_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """joblib sets MKL_NUM_THREADS too, which torch takes first; four times as slow on busy cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(2)
    try:
        share_machine({"trainer": {"devices": 1}}, tmp_path)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


def test_every_process_of_a_machine_has_a_gpu_of_its_own(tmp_path: Path) -> None:
    """Nothing here needs a GPU; not run on several."""
    program = "import sys, pathlib; from gan_lightning.sweeps.gpus import claim; folder = pathlib.Path(sys.argv[1])"
    program += "; print(claim(folder, 2), claim(folder, 2), flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(tmp_path)]
    held = []
    for expected in ("0 0", "1 1", "None None"):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        held.append(process)
        assert process.stdout
        assert process.stdout.readline().strip() == expected
    held[0].communicate()
    assert claim(tmp_path, 2) == 0
    for process in held[1:]:
        process.communicate()


# Killed and several at once


def start(folder: Path, *arguments: str) -> Process:
    command = ["-m", "gan_lightning", "-m", f"hydra.sweep.dir={folder}", *TINY, *arguments]
    return Process(command, folder.parent)


def wait_for_trial(folder: Path, number: int) -> None:
    """Until some of its images were scored."""
    deadline = time.monotonic() + 60
    while not (folder / f"{number:03d}" / "scores.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_and_started_again(tmp_path: Path) -> None:
    """SIGKILL in a trial: those before it are kept, it goes on, and the table is that of a sweep left alone."""
    search = ["sweep=random", "hydra.sweeper.trials=2"]
    assert sweep(tmp_path / "whole", *search) == 0
    killed = start(tmp_path / "parts", *search)
    wait_for_trial(tmp_path / "parts", 1)
    killed.kill()
    kept = (tmp_path / "parts" / "000" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert sweep(tmp_path / "parts", *search) == 0
    assert (tmp_path / "parts" / "000" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == kept
    assert table(tmp_path / "parts") == table(tmp_path / "whole")
    for number in range(2):
        parts, whole = (tmp_path / name / f"{number:03d}" for name in ("parts", "whole"))
        torch.testing.assert_close(weights(parts), weights(whole), rtol=0, atol=0)
        assert scores(parts) == scores(whole)
    assert sorted(f.name for f in (tmp_path / "parts").iterdir() if f.is_dir()) == ["000", "001"]


@pytest.mark.parametrize("state", ["running", pytest.param("interrupted", marks=pytest.mark.slow)])
def test_a_trial_that_was_killed_at_its_very_end_has_its_score(state: status.State, tmp_path: Path) -> None:
    """Trained and saved, but neither scored nor noted: its end is made again, not its training."""
    search = ["sweep=random", "hydra.sweeper.trials=1"]
    assert sweep(tmp_path, *search) == 0
    whole, value = weights(tmp_path / "000"), table(tmp_path)[0]["diversity"]
    before = scores(tmp_path / "000")
    file = tmp_path / "000" / "scores.jsonl"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if '"images": 192' not in line))
    saved = tmp_path / "000" / "checkpoints"
    (saved / "previous.ckpt").replace(saved / "last.ckpt")  # which was written before the scores of the end
    found = told(tmp_path / "000")
    assert len(scores(tmp_path / "000")) < len(before)
    status.write(tmp_path / "000", status.Status(state, commands=found.commands, pid=2**22 + 1))
    for name in (studies.FILE, studies.TABLE):
        (tmp_path / name).unlink()
    assert sweep(tmp_path, *search) == 0
    assert scores(tmp_path / "000") == before
    assert table(tmp_path)[0]["diversity"] == value
    torch.testing.assert_close(weights(tmp_path / "000"), whole, rtol=0, atol=0)


@pytest.mark.slow
def test_ctrl_c_ends_the_step_and_the_sweep(tmp_path: Path) -> None:
    search = ["sweep=random", "hydra.sweeper.trials=3", "budget.images=1000000"]
    process = start(tmp_path / "sweep", *search)
    wait_for_trial(tmp_path / "sweep", 0)
    said = refusal(lambda: sweep(tmp_path / "sweep", *search))  # a second one, meanwhile
    assert "a sweep is at work there" in said
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert "The same command goes on." in process.output
    assert "Traceback" not in process.errors
    found = told(tmp_path / "sweep" / "000")
    assert (found.state, found.reason) == ("interrupted", "SIGINT")
    assert [trial.state for trial in studies.load(tmp_path / "sweep").trials] == [TrialState.RUNNING]


@pytest.mark.slow
def test_two_at_once_with_joblib(tmp_path: Path) -> None:
    """Own folders, divided threads, the same numbers as one after the other."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs hydra-joblib-launcher")
    search = ["sweep=random", "hydra.sweeper.trials=4"]
    assert sweep(tmp_path / "serial", *search) == 0
    command = [sys.executable, "-m", "gan_lightning", "-m", f"hydra.sweep.dir={tmp_path / 'parallel'}", *TINY, *search]
    # not `start`: a forked process waits at its end for children that joblib would have ended
    subprocess.run(
        [*command, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], cwd=tmp_path, check=True, timeout=300
    )
    assert table(tmp_path / "parallel") == table(tmp_path / "serial")
    assert len({told(tmp_path / "parallel" / f"{number:03d}").pid for number in range(4)}) == 2
    for number in range(4):
        parts, whole = (tmp_path / name / f"{number:03d}" for name in ("parallel", "serial"))
        torch.testing.assert_close(weights(parts), weights(whole), rtol=0, atol=0)
