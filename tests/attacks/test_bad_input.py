"""Whatever is typed: one paragraph that names the key, the exit code 2, and nothing written."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gan_lightning.__main__ import main
from gan_lightning.commands import train
from tests.attacks.wrong_values import Case, all_cases, quick_cases

LONGEST = 420  # characters of a message
PARTS = 24  # of all cases, so that several processes share them


def rarely(values: Iterable[Any], quick: int) -> list[Any]:
    """Parameters of a test, the first few in every run of the tests and the others in slow ones."""
    every = list(values)
    return every[:quick] + [pytest.param(value, marks=pytest.mark.slow) for value in every[quick:]]


class Accepted(BaseException):
    """A run would begin: everything was checked."""


def began(*arguments: object, **more: object) -> None:
    raise Accepted


def complaint(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is wrong with how a case is answered; "" where nothing is."""
    arguments, key = case
    try:
        code = main(arguments)
    except Accepted:
        return f"{arguments}: accepted"
    except BaseException as error:  # what a user would see as a traceback
        return f"{arguments}: {type(error).__name__}: {str(error)[:200]}"
    said = capsys.readouterr().err
    if code != 2 or not said.startswith("gan_lightning: "):
        return f"{arguments}: exit code {code}: {said[:200]}"
    if said.count("\n") != 1 or len(said) > LONGEST or "Traceback" in said:
        return f"{arguments}: no paragraph: {said[:LONGEST]}"
    if not named(key, arguments[-1].partition("=")[2], said):
        return f"{arguments}: names neither key nor value: {said}"
    if left := os.listdir(folder):
        return f"{arguments}: wrote {left}"
    return ""


def named(key: str, value: str, said: str) -> bool:
    """Whether a message says what it is about: the key, the last part of it, or the value as typed."""
    words = re.split(r"[^\w%]+", said)
    return key in said or key.rpartition(".")[2] in words or (len(value) > 3 and value[:40] in said)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "build_callbacks", began)
    monkeypatch.setattr("gan_lightning.commands.sweep.run_hydra", began)
    return tmp_path


def refuse_all(cases: Sequence[Case], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [said for case in cases if (said := complaint(case, folder, capsys))]
    assert not found, f"{len(found)} of {len(cases)}:\n" + "\n".join(found[:40])


def test_some_wrong_values(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuse_all(quick_cases(2), place, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_wrong_value(part: int, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuse_all(all_cases()[part::PARTS], place, capsys)


def test_what_is_named_is_what_was_typed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the key that follows it."""
    arguments = ["data=image_folder", "model=dcgan", "data.root=nowhere", "data.labels=${nope}"]
    assert complaint((arguments, "data.labels"), place, capsys) == ""


def test_a_run_that_would_begin_is_found_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tests above can fail."""
    assert "accepted" in complaint((["seed=3"], "seed"), place, capsys)
