"""The front door: composition, checking, error messages."""

import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from torch import nn

from gan_lightning.commands.train import FIXED, Settings
from gan_lightning.config import (
    CONF,
    check,
    check_models,
    compose,
    composition,
    hydra_arguments,
    instantiate,
    override,
    read_overrides,
    signatures,
    sweep_jobs,
)
from gan_lightning.config.containers import escaped
from gan_lightning.config.messages import ADVICE, LONGEST
from gan_lightning.config.overrides import quoted, split_paths
from gan_lightning.errors import UserError
from gan_lightning.types import Fraction, Node, NonNegativeInt, PositiveInt
from tests.faster import COMPOSED, MERGED, READ

PATHS = [
    "~/photos",
    "照片",
    "photos (1)",
    "a'b",
    'say "cheese"',
    "a,b",
    "a=b",
    "[1]",
    "{x: 1}",
    "${x}",
    "\\${x}",
    "${oc.env:HOME}",
    "2024",
    "007",
    "1e3",
    "true",
    "nan",
    "null ",
    " padded ",
    "C:\\photos\\",
    "trailing\\",
    "a\\'",
    "été/#1/100%?*&;|<>!$(ls)`",
    "range(1,3)",
    "glob(*)",
    "???x",
    "-m",
    "a\nb",
]


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    yield
    HydraConfig.instance().cfg = None
    GlobalHydra.instance().clear()


def front_door(*arguments: str) -> dict[str, Any]:
    """What the train command does before anything is made."""
    settings = check(compose("train", arguments, Settings), Settings)
    check_models(settings)
    return settings


def refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert len(message) <= LONGEST
    assert "\n" not in message
    return message


# composition


def test_defaults() -> None:
    config = compose("train", [], Settings)
    assert config.hydra.runtime.choices.model == "dcgan"
    assert config.hydra.runtime.choices.data == "digits"
    assert str(config.hydra.run.dir).endswith("_dcgan_digits")
    settings = front_door()
    assert set(settings) == set(Settings.__annotations__)
    assert settings["model"]["generator"]["image_size"] == settings["data"]["image_size"]
    assert type(settings) is dict
    assert type(settings["model"]["generator_optimizer"]["betas"]) is list


def test_run_folders_have_microseconds() -> None:
    folders = {str(compose("train", [], Settings).hydra.run.dir) for _ in range(3)}
    assert len(folders) == 3


def test_from_another_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    front_door("model=wgan_gp", "data=mnist")
    assert not list(tmp_path.iterdir())


def test_a_wheel_brings_its_own_conf(tmp_path: Path) -> None:
    """The package copy comes before the sibling folder; nothing is looked up in the working directory."""
    package = tmp_path / "site (1)" / "gan_lightning"
    source = Path(signatures.__file__).parents[1]
    shutil.copytree(source / "config", package / "config")
    (package / "data").mkdir()
    modules = "__init__.py", "errors.py", "types.py", "paths.py", "data/__init__.py"
    for name in (*modules, "data/listing.py", "data/vocabulary.py"):
        shutil.copy(source / name, package / name)
    shutil.copytree(CONF, package / "conf")
    program = (
        "from typing import Any, TypedDict; from gan_lightning.config import CONF, compose;"
        "print(CONF, compose('train', ['model=gan'], TypedDict('S', {'seed': int})).seed)"
    )
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == f"{package / 'conf'} 0"


def test_composing_is_quick() -> None:
    def seconds() -> float:
        COMPOSED.clear()
        READ.clear()
        MERGED.clear()
        begin = time.process_time()
        compose("train", ["model=gan", "seed=3"], Settings)
        return time.process_time() - begin

    assert min(seconds() for _ in range(3)) < 0.3


def test_a_key_of_the_constructor_alone_needs_no_plus() -> None:
    assert front_door("trainer.deterministic=true")["trainer"]["deterministic"] is True
    assert front_door("+trainer.deterministic=true")["trainer"]["deterministic"] is True
    assert front_door("++seed=4")["seed"] == 4
    assert front_door("+seed=4")["seed"] == 4


def test_values_at_nodes_may_change_the_class() -> None:
    linear = "gan_lightning.schedules.Linear"
    typed = [f"model.generator_schedule._target_={linear}", "model.generator_schedule.horizon=30"]
    for arguments in (typed, typed[::-1], [f"model.generator_schedule={{_target_: {linear}, horizon: 30}}"]):
        assert front_door(*arguments)["model"]["generator_schedule"] == {"_target_": linear, "horizon": 30}
    for without in ("~model.generator_optimizer.betas", "model.generator_optimizer.betas=null"):
        optimizer = front_door("model.generator_optimizer._target_=torch.optim.SGD", without)
        assert "betas" not in optimizer["model"]["generator_optimizer"]


def test_groups_may_be_left_out() -> None:
    assert front_door("experiment=null") == front_door("~experiment") == front_door()
    assert "csv" not in front_door("~logger.csv")["logger"]


def test_list_items_and_lists() -> None:
    assert front_door("model.generator_optimizer.betas.0=0.4")["model"]["generator_optimizer"]["betas"][0] == 0.4
    assert front_door("model.generator_optimizer.betas=[0.1,0.2]")["model"]["generator_optimizer"]["betas"] == [
        0.1,
        0.2,
    ]


def test_read_overrides() -> None:
    plain, added, deleted = read_overrides(["data.root=a=b", "++seed=3", "~experiment"])
    assert (plain.prefix, plain.key, plain.value) == ("", "data.root", "a=b")
    assert (added.prefix, added.key, added.value) == ("++", "seed", "3")
    assert (deleted.prefix, deleted.key, deleted.value) == ("~", "experiment", None)
    assert [str(each) for each in (plain, added, deleted)] == ["data.root=a=b", "++seed=3", "~experiment"]


# paths


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_taken_as_typed(path: str) -> None:
    arguments = ["data=mnist", f"data.root={path}", f"weights={path}", f"hydra.run.dir={path}"]
    config = compose("train", arguments, Settings)
    settings = check(config, Settings)
    assert config.hydra.run.dir == path
    assert settings["weights"] == path
    assert settings["data"]["root"] == path
    again = check(settings, Settings)  # as a continued run does
    assert again == settings
    assert (
        instantiate({"_target_": "gan_lightning.config.overrides.Override", "prefix": "", "key": path, "value": ""}).key
        == path
    )


@pytest.mark.parametrize("path", ["a,b", "a'b", "${x}, (照片)\\", "null ", "2024"])
def test_paths_in_a_sweep_reach_the_jobs_as_typed(path: str) -> None:
    mark = '"' if "'" in path else "'"
    arguments = [f"weights={mark}{path}{mark},other", f"hydra.sweep.dir={path}"]
    jobs = sweep_jobs("train", arguments, Settings)
    assert [check(compose("train", job, Settings), Settings)["weights"] for job in jobs] == [path, "other"]
    assert compose("train", arguments, Settings, sweep=True).hydra.sweep.dir == path


def test_null_is_null_for_optional_paths_only() -> None:
    settings = check(compose("train", ["checkpoint=null", "data=mnist", "data.root=null"], Settings), Settings)
    assert settings["checkpoint"] is None
    assert settings["data"]["root"] == "null"


def test_quoting_survives_any_text() -> None:
    """Every short text over the characters that mean something to the two grammars."""
    node = OmegaConf.create({"path": ""})
    parser = OverridesParser.create()
    texts = ["".join(letters) for size in range(1, 4) for letters in itertools.product("\\'\"${}a,", repeat=size)]
    picked = [*random.Random(0).sample(texts, 120), "\\" * 3 + "${a}" + "\\" * 2, "'\\${'a}\\'"]
    for text in picked:
        node.path = parser.parse_override(f"path={quoted(text)}").value()
        assert node.path == text, text
        assert OmegaConf.create({"path": escaped(text)}).path == text


@pytest.mark.parametrize(
    ("typed", "paths"),
    [
        ("a", ["a"]),
        ("a b,c", ["a b", "c"]),
        ("'a,b',c", ["a,b", "c"]),
        ("a'b,c'd", ["a'b", "c'd"]),
        ('"a","b,c"', ["a", "b,c"]),
    ],
)
def test_split_paths(typed: str, paths: list[str]) -> None:
    assert split_paths(typed) == paths


# what is refused

REFUSED = [
    # keys
    (["sede=1"], ["sede=1", "did you mean seed"]),
    (["data.batchsize=32"], ["data.batchsize=32", "data.batch_size"]),
    (["batch_size=32"], ["batch_size=32", "data.batch_size"]),
    (["trainer.max_epoch=3"], ["trainer.max_epoch=3", "trainer.max_epochs"]),
    (["trainr.max_epochs=3"], ["trainr.max_epochs=3", "trainer.max_epochs"]),
    (["model.generator_optimiser.lr=1"], ["model.generator_optimizer"]),
    (["model.generator.foo=1"], ["model.generator.foo=1", "no such key"]),
    (["data.root=photos"], ["data.root=photos", "no such key in data", "image_size"]),
    (["seed.foo=1"], ["seed.foo=1", "no such key"]),
    (["a.b.c=1"], ["a.b.c=1: no such key; choices", "seed"]),
    (
        ["model.discriminator_optimizer.foo=1"],
        ["no such key", "model.discriminator_optimizer.lr"],
    ),
    (["+experiment=gan_mnist_relu"], ["write experiment=gan_mnist_relu"]),
    (["model=wgan_gp", "model.loss=hinge"], ["model.loss=hinge", "WGANGP sets it"]),
    (["model=null"], ["model: must be given"]),
    (["seed=${nope}"], ["'nope' not found"]),
    (["trainer.devices=2.5"], ["trainer.devices=2.5", "an integer"]),
    (["+foo=1"], ["foo=1", "no such key"]),
    (["++foo.bar=1"], ["foo.bar=1", "no such key"]),
    (["model.generator_optimizer.betas.7=1"], ["betas", "list of 2"]),
    (["model.step.critic_steps=3"], ["model.step follows step"]),
    (["hydra.run.dri=x"], ["hydra.run.dir"]),
    (["hydra.job.name=a,b"], ["hydra.job.name=a,b", "one value"]),
    (["hydra.job.num=abc"], ["hydra.job.num=abc", "Integer"]),
    (["seed"], ["seed", "key=value"]),
    (["=3"], ["=3", "key=value"]),
    (["--seed=3"], ["no such key", "seed"]),
    (["~foo"], ["foo", "no such key"]),
    (["~seed"], ["seed", "must be given"]),
    (["~trainer.deterministic"], ["trainer.deterministic", "not there"]),
    # groups
    (["model=dcgna"], ["model=dcgna", "did you mean dcgan", "acgan", "cyclegan"]),
    (["modle=gan"], ["modle=gan", "did you mean model"]),
    (["model=_base"], ["model=_base", "dcgan"]),
    (["model="], ["model=", "choices"]),
    (["model=a b("], ["model=a b(", "choices"]),
    (["data=minst"], ["data=minst", "mnist"]),
    (["network=mlp"], ["network=mlp", "network@model=mlp"]),
    (["network@model=mlp_glu"], ["network@model=mlp_glu", "mlp_gelu"]),
    (["network@modle=mlp"], ["network@modle=mlp", "network@model=mlp"]),
    (["netwrk@model=mlp"], ["netwrk@model", "network"]),
    (["experiment=foo"], ["experiment=foo", "began_faces"]),
    (["hydra/launcher=joblip"], ["hydra/launcher=joblip", "basic"]),
    (["hydra/luncher=basic"], ["hydra/luncher", "hydra/launcher"]),
    # sweeps without -m
    (["seed=1,2"], ["seed=1,2: several values are a sweep: add -m"]),
    (["seed=range(1,4)"], ["seed=range(1,4): several values are a sweep: add -m"]),
    (["model=gan,dcgan"], ["model=gan,dcgan: several values are a sweep: add -m"]),
    (["model=gan", "model.generator.hidden=8,16"], ["add -m", "[8,16] for a list"]),
    # types, ranges, not numbers
    (["seed=abc"], ["seed=abc", "must be an integer"]),
    (["seed=照片"], ["seed=照片", "must be an integer"]),
    (["seed=1.5"], ["seed=1.5", "must be an integer"]),
    (["seed=true"], ["seed=true", "must be an integer"]),
    (["seed='5'"], ["seed=5", "must be an integer"]),
    (["seed=null"], ["seed=null", "must be an integer"]),
    (["seed=[1"], ["seed=[1", "brackets"]),
    (["seed=-1"], ["seed=-1", "greater than or equal to 0"]),
    (["seed=nan"], ["seed=nan", "finite"]),
    (["data.batch_size=0"], ["data.batch_size=0", "greater than 0"]),
    (["data.flip=1"], ["data.flip=1", "true or false"]),
    (["data.channels=2"], ["data.channels=2", "choices: 1, 3"]),
    (["checkpoint="], ["checkpoint=", "empty"]),
    (["data=mnist", "data.root="], ["data.root=", "empty"]),
    (["data=image_folder"], ["data.root: must be given"]),
    (["budget.minutes=inf"], ["budget.minutes=inf", "finite"]),
    (["budget.generator_steps=1e5"], ["budget.generator_steps=100000.0", "an integer or null"]),
    (["trainer.max_epochs=x"], ["trainer.max_epochs=x", "an integer or null"]),
    (["trainer.precision=8"], ["trainer.precision=8", "32-true"]),
    (["model.loss=hinge2"], ["model.loss=hinge2", "did you mean hinge"]),
    (["model.label_smoothing=3"], ["model.label_smoothing=3", "less than or equal to 1"]),
    (["model=gan", "model.generator.hidden=[8,-1]"], ["model.generator.hidden.1=-1", "greater than 0"]),
    (["model=gan", "model.generator.hidden=8"], ["model.generator.hidden=8", "list"]),
    (["model.generator=3"], ["model.generator=3", "_target_"]),
    (["model.ema=3"], ["model.ema=3", "_target_ or null"]),
    (["model=3"], ["model=3", "choices"]),
    (["samples=3"], ["samples=3", "mapping"]),
    # nodes that nothing could be built from
    (["trainer=null"], ["trainer: has no _target_", "trainer=…"]),
    (["logger.csv=3"], ["logger.csv=3: must be a node with _target_ or null"]),
    (["+logger.x=3"], ["logger.x=3: must be a node with _target_ or null"]),
    # sizes are typed once
    (["model.generator.image_size=32"], ["model.generator.image_size=32: follows data.image_size"]),
    (["++model.discriminator.channels=3"], ["model.discriminator.channels=3: follows data.channels"]),
    # the working directory is no folder for a run
    (["hydra.run.dir="], ["hydra.run.dir=: must not be empty"]),
    (["hydra.sweeper.params.seed=1"], ["hydra.sweeper.params.seed=1: no such key in hydra.sweeper.params"]),
    # optimizers check their own numbers
    (["model.generator_optimizer.lr=-1"], ["model.generator_optimizer.lr=-1: Invalid learning rate"]),
    (["model.generator_optimizer.lr=nan"], ["model.generator_optimizer.lr=nan", "finite"]),
    (["model.generator_optimizer.lr=fast"], ["model.generator_optimizer.lr=fast", "number"]),
    (["model.discriminator_optimizer.betas=[0.5,2]"], ["model.discriminator_optimizer.betas=[0.5, 2]: Invalid beta"]),
    (["model.generator_optimizer.betas=[0.5]"], ["model.generator_optimizer.betas=[0.5]", "few"]),
    (["model.generator_optimizer.betas=[0.5,.nan]"], ["model.generator_optimizer.betas"]),
    (
        ["model.generator_optimizer._target_=torch.optim.SGD"],
        ["SGD takes no betas", "model.generator_optimizer.betas=null"],
    ),
    # contradictions that constructors know of
    (["model.loss=wasserstein", "model.label_smoothing=0.1"], ["model.label_smoothing=0.1", "wasserstein"]),
    (["data.image_size=30"], ["data.image_size=30", "28, 32, 64"]),
    # targets
    (["model.generator_schedule._target_=os.system"], ["os.system", "may not be instantiated"]),
    (["model.generator_schedule._target_=torch.hub.load"], ["torch.hub.load", "may not be instantiated"]),
    (["model.generator_schedule._target_=torch.nn.modules.module.torch"], ["may not be instantiated"]),
    (["model.generator_schedule._target_=gan_lightning.data.mnist.socket.socket"], ["may not be instantiated"]),
    (["model.generator_schedule._target_=gan_lightning.schedules.Linera"], ["did you mean Linear"]),
    (["model.generator_schedule._target_=gan_lightning.scedules.Linear"], ["does not exist"]),
    (["model.generator_optimizer._target_=torch.optim.Adm"], ["does not exist; did you mean Adam"]),
    (
        ["model.generator_schedule._target_=gan_lightning.schedules.Linear"],
        ["model.generator_schedule.horizon: must be given"],
    ),
    (["+logger.more={_target_: builtins.open, file: x}"], ["logger.more._target_=builtins.open"]),
]


@pytest.mark.parametrize(("arguments", "fragments"), REFUSED, ids=lambda value: " ".join(value)[:60])
def test_refused(arguments: list[str], fragments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(lambda: front_door(*arguments))
    for fragment in fragments:
        assert fragment in message, message
    assert not list(tmp_path.iterdir())


def test_a_command_without_groups_names_its_keys() -> None:
    message = refusal(lambda: compose("evaluate", ["model=gan"], TypedDict("S", {"checkpoint": Path})))
    assert message.startswith("model=gan: no such key; choices: checkpoint, ")


def test_no_list_of_choices_where_there_are_none() -> None:
    assert not refusal(lambda: compose("train", ["hydra.sweeper.params.seed=1"], Settings)).endswith("choices: ")


def test_loggers_may_be_left_out() -> None:
    assert front_door("~logger.csv", "~logger.tensorboard")["logger"] == {}
    stored = front_door("logger.csv=null")
    assert stored["logger"]["csv"] is None
    assert check(override(stored, ["logger.tensorboard=null"], Settings, FIXED), Settings)["logger"] == {
        "csv": None,
        "tensorboard": None,
    }


@pytest.mark.parametrize("key", [key for key in ADVICE if "." in key])
def test_advice_comes_before_the_closest_key(key: str) -> None:
    message = refusal(lambda: compose("train", [f"{key}=1"], Settings))
    assert message == f"{key}=1: {ADVICE[key]}"
    node, _, name = key.partition(".")
    stored = front_door()
    stored[node][name] = 1
    assert refusal(lambda: check(stored, Settings)) == message


def test_advice_names_keys_that_exist() -> None:
    words = {word.strip(".,:;") for advice in ADVICE.values() for word in re.split(r"[\s=]", advice)}
    keys = {word for word in words if word.partition(".")[0] in Settings.__annotations__ and "." in word}
    assert len(keys) > 5
    compose("train", [f"{key}=1" for key in keys], Settings)


def test_long_values_are_shortened() -> None:
    assert "…" in refusal(lambda: front_door("seed=" + "x" * 1000))
    assert len(refusal(lambda: front_door("x" * 1000 + "=3"))) <= LONGEST


# sweeps


def test_sweep_jobs_are_all_combinations() -> None:
    jobs = sweep_jobs("train", ["model=gan,wgan_gp", "seed=range(1,3)", "trainer.max_epochs=3"], Settings)
    settings = [check(compose("train", job, Settings), Settings) for job in jobs]
    assert [(each["model"]["_target_"].rpartition(".")[2], each["seed"]) for each in settings] == [
        ("GAN", 1),
        ("GAN", 2),
        ("WGANGP", 1),
        ("WGANGP", 2),
    ]
    assert {each["trainer"]["max_epochs"] for each in settings} == {3}


def test_sweeps_over_globs_leave_out_the_parts_of_others() -> None:
    jobs = sweep_jobs("train", ["model=glob(*)"], Settings)
    assert sorted(job[0] for job in jobs) == sorted(
        f"model={file.stem}" for file in (CONF / "model").glob("[!_]*.yaml")
    )


def test_a_sweep_in_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hydra.sweeper.params of a file, below what the user types."""
    conf = shutil.copytree(CONF, tmp_path / "conf")
    monkeypatch.setattr(composition, "CONF", conf)
    file = conf / "experiment" / "grid.yaml"
    file.write_text("# @package _global_\nhydra:\n  sweeper:\n    params: {seed: '1,2', model: 'gan,wgan_gp'}\n")
    grid = [["experiment=grid", f"model={model}"] for model in ("gan", "wgan_gp")]
    jobs = sweep_jobs("train", ["experiment=grid"], Settings)
    expected = [sorted([*job, f"++seed={seed}"]) for job in grid for seed in (1, 2)]
    assert sorted(map(sorted, jobs)) == sorted(expected)
    jobs = sweep_jobs("train", ["experiment=grid", "seed=5"], Settings)
    assert sorted(map(sorted, jobs)) == sorted(sorted([*job, "++seed=5"]) for job in grid)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["model=gan,dcgna"], "did you mean dcgan"),
        (["sede=1,2"], "seed"),
        (["seed=glob(*)"], "only for groups"),
        (["model.generator.image_size=16,32"], "follows data.image_size"),
    ],
)
def test_sweeps_are_refused(arguments: list[str], fragment: str) -> None:
    assert fragment in refusal(lambda: sweep_jobs("train", arguments, Settings))
    assert fragment in refusal(lambda: hydra_arguments("train", arguments, Settings))


def test_intervals_are_for_sweepers_that_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra's own sweeper cannot go through one; another gets it whole, and jobs of its ends are checked."""
    arguments = ["model.generator_optimizer.lr=interval(0.1,1)", "weights='interval(1,2)'"]
    assert "lr=interval(0.1,1): an interval is for searches" in refusal(
        lambda: sweep_jobs("train", arguments, Settings)
    )
    assert hydra_arguments("train", arguments, Settings)[0] == arguments[0]
    config = compose("train", arguments, Settings, sweep=True)
    assert config.model.generator_optimizer.lr == 0.1
    assert config.weights == "interval(1,2)"
    monkeypatch.setattr(composition, "BASIC_SWEEPER", "another")
    checked = []
    for job in sweep_jobs("train", [*arguments, "seed=3,4"], Settings):
        settings = check(compose("train", job, Settings), Settings)
        checked.append((settings["model"]["generator_optimizer"]["lr"], settings["seed"]))
    assert checked == [(0.1, 3), (1, 3), (0.1, 4)]


def test_hydra_runs_the_rewritten_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock hydra.main gives every job what `sweep_jobs` promised, in folders named as typed."""
    monkeypatch.chdir(tmp_path)
    folder = "照片 (1), it's $x"
    arguments = [
        "model=gan,dcgan",
        "data=mnist",
        "data.root=~/a b,'c,d'",
        "trainer.deterministic=true",
        f"hydra.sweep.dir={folder}",
    ]
    seen: list[tuple[dict[str, Any], str]] = []

    def job(config: DictConfig) -> None:
        seen.append((check(config, Settings), HydraConfig.get().runtime.output_dir))

    monkeypatch.setattr(sys, "argv", ["program", "--multirun", *hydra_arguments("train", arguments, Settings)])
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(job)()
    promised = [check(compose("train", one, Settings), Settings) for one in sweep_jobs("train", arguments, Settings)]
    assert [settings for settings, _ in seen] == promised
    assert [settings["data"]["root"] for settings, _ in seen] == ["~/a b", "c,d"] * 2
    assert {Path(output).parent.name for _, output in seen} == {folder}


# continued runs


def test_override_changes_values_and_what_follows_them() -> None:
    stored = front_door("data=mnist", "data.root=a ${x}")
    changed = override(
        stored, ["step.critic_steps=7", "data.root=b ${y}", "trainer.deterministic=true"], Settings, FIXED
    )
    assert changed["step"]["critic_steps"] == changed["model"]["step"]["critic_steps"] == 7
    assert changed["data"]["root"] == "b ${y}"
    assert changed["trainer"]["deterministic"] is True
    assert stored["step"]["critic_steps"] == 1
    assert stored["data"]["root"] == "a ${x}"
    assert check(changed, Settings) == changed
    assert override(stored, [], Settings, FIXED) == stored
    assert override(stored, ["seed=0"], Settings, FIXED) == stored


@pytest.mark.parametrize(
    ("argument", "fragment"),
    [
        ("model=gan", "keeps its model"),
        ("network@model=mlp", "keeps its network"),
        ("data=mnist", "keeps its data"),
        ("experiment=gan_mnist_relu", "keeps its experiment"),
        ("seed=3", "seed=3: cannot change"),
        ("model.generator.base_channels=8", "cannot change"),
        ("model.step.critic_steps=3", "step"),
        ("hydra.run.dir=x", "folder"),
        ("~seed", "give a value"),
        ("sede=3", "did you mean seed"),
        ("trainer.gradient_clip_val=1", "step.generator_clip"),
        ("trainer.max_epochs=1,2", "add -m"),
        ("trainer.max_epochs=x", "an integer or null"),
        ("data.batch_size=-1", "greater than 0"),
    ],
)
def test_override_refuses(argument: str, fragment: str) -> None:
    stored = front_door()
    assert fragment in refusal(lambda: check(override(stored, [argument], Settings, FIXED), Settings))


def test_stored_configurations_are_taken_literally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "42")
    stored = front_door("data=mnist")
    stored["data"]["root"] = "${oc.env:SECRET}"
    assert check(stored, Settings)["data"]["root"] == "${oc.env:SECRET}"
    assert override(stored, ["seed=0"], Settings)["data"]["root"] == "${oc.env:SECRET}"


# signatures as the schema


class Part:
    def __init__(self, size: PositiveInt, share: Fraction = 0.5) -> None:
        if size == 13:
            raise ValueError(f"size={size}: brings bad luck")
        self.size = size


class Base:
    def __init__(self, part: Part, kind: Literal["a", "b"] = "a", parts: Sequence[Part] = ()) -> None:
        if kind == "b" and not parts:
            raise ValueError("kind=b: needs parts")


class Whole(Base):
    def __init__(self, name: str = "", folder: Path | None = None, extra: int = 0, **base: Any) -> None:
        super().__init__(**base)


Whole.__init__.__annotations__["extra"] = "Unknown"  # a name that nobody knows: checks must bear such annotations


@dataclass(frozen=True)
class Record:
    count: PositiveInt
    weights: tuple[float, float] = (0.0, 1.0)
    device: torch.device | None = None
    layer: nn.Module | None = None


class Make:
    def __init__(self, size: int, *, verbose: bool = False) -> None:
        self.size = size


class Broken:
    def __init__(self, size: int) -> None:
        raise KeyError("a mistake of ours")


def function(size: int) -> Part:
    return Part(size)


@pytest.mark.usefixtures("ours")
def test_functions_are_no_targets() -> None:
    """Ours begin with the command line: a stranger's checkpoint could have trained and written files."""
    for target in (f"{HERE}function", "gan_lightning.__main__.main", "gan_lightning.commands.train.fit"):
        with pytest.raises(UserError, match=target.rpartition(".")[2]):
            check(tree(part={"_target_": target, "size": 1}), Tree)


class Tree(TypedDict):
    whole: Node
    record: NotRequired[Node]
    seed: NonNegativeInt


HERE = f"{__name__}."


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "ALLOWED", (HERE, *signatures.ALLOWED))


def tree(record: dict[str, Any] | None = None, **whole: Any) -> dict[str, Any]:
    part = {"_target_": f"{HERE}Part", "size": 3}
    found: dict[str, Any] = {"whole": {"_target_": f"{HERE}Whole", "part": part, **whole}, "seed": 0}
    return found if record is None else {**found, "record": {"_target_": f"{HERE}Record", "count": 1, **record}}


GOOD = [
    tree(),
    tree(kind="b", parts=[{"_target_": f"{HERE}Make", "size": 3, "verbose": True}]),
    tree(name="x", folder="a b", extra=object.__name__),
    tree(record={"weights": [1, 2.5]}),
    tree(record={"layer": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}}),
    tree(record={"layer": None}),
]


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("config", GOOD)
def test_trees_that_pass(config: dict[str, Any]) -> None:
    assert check(config, Tree) == config
    check_models(config)


BAD = [
    ({"seed": 0}, "whole: must be given"),
    ({"whole": [tree()["whole"]], "seed": 0}, ": must be a mapping"),
    (
        {"whole": {"part": tree()["whole"]["part"], "loose": 1}, "seed": 0},
        "whole.loose=1: must be a node with _target_",
    ),
    ({"whole": {"loose": 1}, "seed": 0}, "whole: has no _target_"),
    ({**tree(), "sede": 1}, "sede=1: no such key; did you mean seed"),
    (tree(nme="x"), "whole.nme=x: Whole takes no nme; did you mean name"),
    (tree(name=3), "whole.name=3: must be text"),
    (tree(name=None), "whole.name=null: must be text"),
    (tree(folder=3), "whole.folder=3: must be text or null"),
    (tree(folder=""), "whole.folder=: must not be empty"),
    (tree(kind="c"), "whole.kind=c: no such choice; choices: a, b"),
    (tree(part=None), "whole.part=null: must be a node with _target_"),
    (tree(part={"_target_": f"{HERE}Part"}), "whole.part.size: must be given"),
    (tree(part={"_target_": f"{HERE}Part", "size": "???"}), "whole.part.size: must be given"),
    (tree(part={"_target_": f"{HERE}Part", "size": True}), "whole.part.size=true: must be an integer"),
    (tree(part={"_target_": f"{HERE}Part", "size": "5"}), "whole.part.size=5: must be an integer"),
    (
        tree(part={"_target_": f"{HERE}Part", "size": 1, "share": 1.5}),
        "whole.part.share=1.5: must be less than or equal",
    ),
    (
        tree(part={"_target_": f"{HERE}Part", "size": 1, "share": float("nan")}),
        "whole.part.share=nan: must be a finite",
    ),
    (tree(parts=[{"_target_": f"{HERE}Part", "size": -1}]), "whole.parts.0.size=-1: must be greater than 0"),
    (tree(part={"_target_": f"{HERE}Prt", "size": 1}), "did you mean Part"),
    (
        tree(part={"_target_": f"{HERE}Part", "_partial_": 1, "size": 1}),
        "whole.part._partial_=1: must be true or false",
    ),
    (tree(part={"_target_": 3}), "whole.part._target_=3: may not be instantiated"),
    (tree(part={"_target_": f"{HERE}Part", "_args_": [1]}), "whole.part._args_=[1]: Part takes no _args_"),
    (tree(record={"weights": [1]}), "record.weights=[1]: has too few items"),
    (tree(record={"weights": [1, 2, 3]}), "record.weights=[1, 2, 3]: must have at most 2 items"),
    (tree(record={"weights": [1, "x"]}), "record.weights.1=x: must be a number"),
    (tree(record={"weights": [1, float("inf")]}), "record.weights.1=inf: must be a finite number"),
    (tree(record={"device": "cpu"}), "record.device=cpu: must be a node with _target_ or null"),
]


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(("config", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_trees_that_are_refused(config: dict[str, Any], message: str) -> None:
    assert message in refusal(lambda: check(config, Tree))


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (tree(kind="b"), "whole.kind=b: needs parts"),
        (tree(part={"_target_": f"{HERE}Part", "size": 13}), "whole.part.size=13: brings bad luck"),
        (
            tree(record={"layer": {"_target_": "torch.nn.Linear", "in_features": -1, "out_features": 1}}),
            "record.layer: ",
        ),
    ],
)
def test_constructors_refuse(config: dict[str, Any], message: str) -> None:
    check(config, Tree)
    assert refusal(lambda: check_models(config)).startswith(message)


@pytest.mark.usefixtures("ours")
def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(KeyError, match="a mistake of ours"):
        check_models(tree(part={"_target_": f"{HERE}Broken", "size": 1}))


@pytest.mark.usefixtures("ours")
def test_arguments_that_the_code_supplies() -> None:
    config = tree(part={"_target_": f"{HERE}Part"})
    assert check(config, Tree, supplied=["whole.*.size"]) == config
    partial = tree(part={"_target_": f"{HERE}Part", "_partial_": True})
    assert check(partial, Tree) == partial
    assert instantiate(partial["whole"]["part"], size=4).size == 4
    assert instantiate(config["whole"]["part"], size=4).size == 4
    assert instantiate({"_target_": f"{HERE}Record", "count": 1, "weights": [1, 2]}).weights == [1, 2]


def test_nothing_outside_the_allow_list_is_instantiated() -> None:
    assert "may not be instantiated" in refusal(lambda: instantiate({"_target_": "os.getcwd"}))
    assert "a.b" in refusal(lambda: instantiate({"_target_": "torch.nn.Sequential", "x": [{"_target_": "a.b"}]}))


@pytest.mark.usefixtures("ours")
def test_the_key_that_others_follow_is_named() -> None:
    config = OmegaConf.create(tree(part={"_target_": f"{HERE}Part", "size": "${seed}"}))
    config.seed = 13
    assert refusal(lambda: check_models(config)) == "seed=13: brings bad luck"
    config.seed = 0
    assert refusal(lambda: check(config, Tree)).startswith("seed=0: must be greater than 0")
