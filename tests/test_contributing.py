"""CONTRIBUTING's worked example, as it stands there, trains and learns; every model is as orderly and soon read."""

import ast
import csv
import importlib
import inspect
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from gan_lightning import load, losses, models, penalties
from gan_lightning.commands.train import Settings
from gan_lightning.config import CONF, compose, instantiate
from gan_lightning.networks.mlp import MLPDiscriminator
from gan_lightning.steps import Step
from tests.processes import Process
from tests.support import game
from tests.test_learning import frechet_distance

ROOT = Path(__file__).parent.parent
RULE, CONFIGURATION = "gan_lightning/models/wgan_div.py", "conf/model/wgan_div.yaml"
MODELS = sorted(Path(models.__path__[0]).glob("[!_]*.py"))
READING = 500  # lines that say all of a model, beside the base
LONGER = {"dpgan", "dragan", "projection", "rpgan", "sagan", "wgan_gp"}  # a little longer, with the rules they extend
LONGER |= {"semi_supervised", "biggan", "progan", "r3gan", "stylegan2"}  # two rules; large networks
LONGER |= {"cyclegan", "deepfill", "deepfill_v1"}  # image pools; two stages and their attention
LONGER |= {"mle", "seqgan", "relgan", "textgan", "wavegan"}  # networks that write and read; blocks along time
LONGER |= {"srresnet", "srgan", "esrgan"}  # a file with the networks of two papers


def example() -> dict[str, str]:
    """Files of the worked example: their path, on a line of its own before each block, and what the block holds."""
    blocks = r"^`(\S+)`:\n\n```\w+\n(.*?)^```$"
    return dict(re.findall(blocks, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of package and configurations with the example's files in their places."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "gan_lightning", folder / "gan_lightning")
    shutil.copytree(CONF, folder / "conf")
    for path, text in example().items():
        assert not (folder / path).exists(), "the example is a rule that the project does not have"
        (folder / path).write_text(text, encoding="utf-8")
    return folder


def test_a_rule_is_one_short_file_and_one_yaml() -> None:
    files = example()
    assert set(files) == {RULE, CONFIGURATION}
    assert len(files[RULE].splitlines()) <= 60


def train_example(clone: Path, steps: int) -> None:
    """Trains the example in its clone by the command line, in the folder `run`."""
    arguments = [
        "model=wgan_div",
        "data=digits",
        "model.generator.base_channels=16",
        "model.discriminator.base_channels=16",
        "data.batch_size=32",
        f"budget.generator_steps={steps}",
        "trainer.accelerator=cpu",
        "trainer.log_every_n_steps=10",
        "samples.every_images=100000000",
        "samples.count=4",
        "scores=off",
        f"hydra.run.dir=run-{steps}",
    ]
    environment = os.environ | {"PYTHONPATH": str(clone), "PYTHONSAFEPATH": "1"}
    process = Process(["-m", "gan_lightning", *arguments], clone, environment)
    assert process.wait(600) == 0, process.errors


def test_the_example_trains(clone: Path) -> None:
    train_example(clone, 6)
    with (clone / "run-6" / "metrics.csv").open() as file:
        penalties = [float(row["D/gradient_penalty"]) for row in csv.DictReader(file)]
    assert penalties
    assert all(penalty > 0 for penalty in penalties)


@pytest.mark.slow
def test_the_example_learns(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_example(clone, 220)
    monkeypatch.setattr(models, "__path__", [str(clone / "gan_lightning" / "models")])
    trained = load(clone / "run-220")
    assert trained.config is not None
    torch.manual_seed(0)
    untrained = instantiate(trained.config["model"])
    before, after = (frechet_distance(module.sample(1000, seed=0)) for module in (untrained, trained))
    print(f"untrained {before:.2f}, trained {after:.2f}")
    assert after < 0.5 * before


def test_the_example_is_the_papers_formula(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a linear critic <w, x>, whose gradient is w everywhere."""
    monkeypatch.setattr(models, "__path__", [str(clone / "gan_lightning" / "models")])
    rule = importlib.import_module("gan_lightning.models.wgan_div").WGANDiv
    critic = MLPDiscriminator([], 8, 1, "leaky_relu")
    module = game(rule, discriminator=critic, step=Step(penalty_every=3), penalty_weight=0.5, power=4.0)
    weight = next(critic.parameters()).detach()  # (1, 64)
    real, fakes = torch.randn(2, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    distance = ((fakes - real).flatten(1) @ weight.T).mean()
    loss = module.discriminator_loss({"image": real}, fakes)["loss"]
    torch.testing.assert_close(loss, distance + 3 * 0.5 * weight.square().sum() ** 2)
    with pytest.raises(ValueError, match="power=1"):
        game(rule, power=1.0)


@pytest.mark.parametrize("name", [*(file.stem for file in MODELS), "the example"])
def test_a_rules_file_has_the_house_order(name: str) -> None:
    """First paper and differences; in a rule __init__ does, and the generator's loss after the discriminator's."""
    text = example()[RULE] if name == "the example" else (MODELS[0].parent / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    docstring = ast.get_docstring(tree) or ""
    assert re.match(r".+ — .+ (19|20)\d\d", docstring), "the paper comes first"
    assert re.search(r"^Differs from the papers?:", docstring, re.MULTILINE)
    for rule in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        methods = [node.name for node in rule.body if isinstance(node, ast.FunctionDef)]
        ordered = [method for method in methods if method in ("__init__", "discriminator_loss", "generator_loss")]
        assert ordered == sorted(ordered, key=["__init__", "discriminator_loss", "generator_loss"].index)
        assert "__init__" not in methods[1:]


def configurations(file: Path) -> set[Path]:
    """A model's YAML, those it extends and its networks', without what all share (_base.yaml)."""
    named = re.findall(r"^  - (?:/(network)@model: )?(?!_)(\w+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {file}.union(*(configurations(CONF / (group or "model") / f"{name}.yaml") for group, name in named))


def to_read(model: str) -> set[Path]:
    """Its YAMLs, its rule and those it extends, the losses and penalties that they use, its networks' own files."""
    settings = compose("train", [f"model={model}"], Settings).model
    rule, *networks = (
        getattr(importlib.import_module(module), name)
        for module, _, name in (
            target.rpartition(".")
            for target in (settings._target_, settings.generator._target_, settings.discriminator._target_)
        )
    )
    rules = {inspect.getfile(base) for base in rule.__mro__ if base.__module__.startswith(models.__name__)}
    source = [Path(file).read_text(encoding="utf-8") for file in rules]
    used = {
        str(functions.__file__)
        for functions in (losses, penalties)
        if re.search(rf"^from gan_lightning.*\b{functions.__name__.split('.')[-1]}\b", "".join(source), re.MULTILINE)
    }
    code = rules | used | {inspect.getfile(network) for network in networks}
    return configurations(CONF / "model" / f"{model}.yaml") | {Path(file) for file in code}


@pytest.mark.parametrize("model", sorted(file.stem for file in (CONF / "model").glob("[!_]*.yaml")))
def test_a_model_is_read_in_few_lines(model: str) -> None:
    lines = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in to_read(model)}
    print(f"{model}: {sum(lines.values())} = {lines}")
    assert model in LONGER or sum(lines.values()) <= READING
