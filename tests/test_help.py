"""--help: read from the configuration files, 80 columns."""

import importlib
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gan_lightning.config import CONF
from gan_lightning.help import EXAMPLES, MOST_USED, file_comments, help_text, options

COMMANDS = ["train", "sample", "evaluate", "project", "export", "compress"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_lists_models_groups_keys_and_examples(command: str) -> None:
    text = help_text(command)
    assert max(map(len, text.splitlines())) <= 80
    models = {file.stem for file in (CONF / "model").glob("[!_]*.yaml")}
    for name in models:
        assert re.search(rf"^  {name} +\S", text, re.MULTILINE), name
    assert "_base" not in text
    lists = re.sub(r",\n +", ", ", text)  # a list goes on below itself
    assert re.search(r"^  data +.*digits.*mnist", lists, re.MULTILINE)
    assert re.search(r"^  network@model +.*mlp", lists, re.MULTILINE)
    assert text.count(f"\n  {EXAMPLES[command][0].partition(' ')[0]} ") == len(EXAMPLES[command])
    assert re.search(r"^  checkpoint=\S+", text, re.MULTILINE)


@pytest.mark.parametrize("command", ["prepare", "report"])
def test_a_command_that_has_no_model_lists_none(command: str) -> None:
    text = help_text(command)
    assert "models" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_command_about_data_alone() -> None:
    text = help_text("prepare")
    assert re.search(r"^  data\.root=… +a folder, or a zip file", text, re.MULTILINE)


def test_descriptions() -> None:
    assert "Trains a model (the default command)." in help_text("train")
    assert "Something else." in help_text("train", description="Something else.")


def test_keys_show_their_defaults_and_comments() -> None:
    text = help_text("train")
    for key in MOST_USED["train"]:
        assert f"\n  {key}=" in text
    assert re.search(r"step\.minibatches=auto +in one Lightning batch", text)
    assert re.search(r"data\.root=… +fashion_mnist: ", text)  # a key that the default data lacks
    text = help_text("sample")
    assert re.search(r"checkpoint=…", text)
    assert re.search(r"interpolate=false +a walk between latents", text)


@pytest.mark.parametrize("command", [*COMMANDS, "prepare", "report"])
def test_examples_differ_and_would_compose(command: str) -> None:
    from gan_lightning.config import compose, sweep_jobs

    schema = importlib.import_module(f"gan_lightning.commands.{command}").Settings
    assert len(set(EXAMPLES[command])) == len(EXAMPLES[command]) >= 3
    for example in EXAMPLES[command]:
        arguments = [word for word in example.split()[3:] if "=" in word]
        compose(command, arguments, schema, sweep="-m" in example.split()[3:])
    assert not set(EXAMPLES["train"]) & set(EXAMPLES["sample"])
    if command == "train":
        assert len(sweep_jobs("train", ["model=gan,dcgan,wgan_gp", "seed=1,2,3"], schema)) == 9


def test_comments_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("# head\na:\n  b: 1 # one\n  c:\n    d: x#y # two # three\ne: 3\nf: # four\n", encoding="utf-8")
    assert file_comments(file, "p") == {"p.a.b": "one", "p.a.c.d": "two # three", "p.f": "four"}
    file.write_text("# @package _global_\na: 1 # one\n", encoding="utf-8")
    assert file_comments(file, "p") == {"a": "one"}


def test_options_leave_out_parts() -> None:
    assert "_base" not in options("model")
    assert "mlp" in options("network@model")


def test_help_needs_no_torch() -> None:
    program = "import sys; from gan_lightning.help import help_text; help_text('train'); print('torch' in sys.modules)"
    begin = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
    assert time.perf_counter() - begin < 10
