"""Weights & Biases without a network: what is kept, that training does not notice, that nothing is asked or sent."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning.commands.train import run
from gan_lightning.data.sounds import SoundExhibit
from gan_lightning.errors import UserError
from gan_lightning.exhibits import TextExhibit
from gan_lightning.loggers import ours
from gan_lightning.weights_and_biases import WeightsAndBiases, chosen_mode, has_key
from tests.test_resume import last, lines

SMALL = [
    "model=gan",
    "model.generator.hidden=[8]",
    "model.discriminator.hidden=[8]",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=2",
    "scores.samples=64",
    "scores.real_samples=64",
    "samples.count=4",
]


@pytest.fixture(autouse=True)
def nobody(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no settings of whoever runs the tests, nowhere to send to; and none of it stays behind."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


class Kept:
    """In the place of a run of theirs: what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, Any]]] = []

    def log(self, metrics: dict[str, Any], step: int) -> None:
        self.told.append((step, metrics))

    def finish(self, exit_code: int) -> None:
        self.code = exit_code


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Kept]:
    """Their runs, in the order in which they were begun."""
    found: list[Kept] = []

    def begin(self: WeightsAndBiases, mode: str, settings: dict[str, Any]) -> Kept:
        found.append(Kept())
        return found[-1]

    monkeypatch.setattr(WeightsAndBiases, "_start", begin)
    return found


def test_a_continued_run_sends_nothing_twice(tmp_path: Path, kept: list[Kept]) -> None:
    pytest.importorskip("wandb")
    first = WeightsAndBiases(tmp_path)
    first.begin({})
    for images in (64, 128, 192):
        first.log_metrics({"D/loss": 1.0}, images)
    first.score({"scores/fid": 3.0}, 192)  # at the step of a line
    again = WeightsAndBiases(tmp_path, images=64)  # as far as the checkpoint was
    again.begin({})
    for images in (128, 192, 256):
        again.log_metrics({"D/loss": 1.0}, images)
    again.finalize("failed")
    assert again.id == first.id
    assert [step for step, _ in kept[0].told] == [64, 128, 192, 192]
    assert [step for step, _ in kept[1].told] == [256]
    assert kept[1].code == 1
    assert WeightsAndBiases(tmp_path).id != first.id  # begun anew, it is another run
    assert ours([first]) == [first]


def test_exhibits(tmp_path: Path, kept: list[Kept]) -> None:
    wandb = pytest.importorskip("wandb")
    logger = WeightsAndBiases(tmp_path)
    logger.begin({})
    logger.show(TextExhibit(["a <b> c"]), "samples/ema", 0)
    logger.show(SoundExhibit(torch.zeros(2, 4000, dtype=torch.int16), 8000), "heard", 0)
    logger.say("alarms", "it has collapsed", 64)
    told = {tag: value for _, values in kept[0].told for tag, value in values.items()}
    assert {tag: type(value) for tag, value in told.items()} == {
        "samples/ema": wandb.Html,
        "heard": wandb.Image,
        "heard/0": wandb.Audio,
        "heard/1": wandb.Audio,
        "alarms": wandb.Html,
    }
    assert "&lt;b&gt;" in told["samples/ema"].html


def test_what_auto_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_key()
    assert chosen_mode("auto") == "offline"
    assert chosen_mode("online") == "online"
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert chosen_mode("auto") == "online"
    assert chosen_mode("offline") == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert chosen_mode("auto") == "disabled"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY")
    (Path.home() / ".netrc").write_text("machine 127.0.0.1 login user password secret\n")
    (Path.home() / ".netrc").chmod(0o600)
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://elsewhere.example")
    assert not has_key()


def test_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"logger\.wandb\.mode=online: there is no key"):
        run([*SMALL, "logger=wandb", "logger.wandb.mode=online", f"hydra.run.dir={folder}"])
    with pytest.raises(UserError, match="mode"):
        run([*SMALL, "logger=wandb", "logger.wandb.mode=sometimes", f"hydra.run.dir={folder}"])
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "wandb" else find(name, *more))
    with pytest.raises(UserError, match=r"gan_lightning\[wandb\]"):
        run([*SMALL, "logger=wandb", f"hydra.run.dir={folder}"])
    assert not folder.exists()


def test_offline_keeps_everything_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb")
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    assert run([*SMALL, "budget.images=1024", f"hydra.run.dir={alone}"]) == 0
    assert run([*SMALL, "budget.images=512", f"hydra.run.dir={beside}", "logger=wandb"]) == 0
    said = capsys.readouterr().out
    assert said.count("wandb: no key is set") == 1
    assert f"wandb sync {beside}/wandb/offline-run-*" in said
    assert run([f"checkpoint={beside}", "budget.images=1024"]) == 0
    torch.testing.assert_close(last(beside), last(alone), rtol=0, atol=0)
    assert lines(beside) == lines(alone)
    parts = sorted((beside / "wandb").glob("offline-run-*"))
    remembered = json.loads((beside / "wandb" / "images.json").read_text())
    assert remembered["images"] == 1024
    assert {part.name.rpartition("-")[2] for part in parts} == {remembered["id"]}
    written = b"".join(part.joinpath(f"run-{remembered['id']}.wandb").read_bytes() for part in parts)
    for word in (b"D/loss", b"scores/diversity", b"model.generator_optimizer.lr", b"gan_lightning.models.gan.GAN"):
        assert word in written
    assert list((beside / "wandb").glob("offline-run-*/files/media/images/samples/ema_*.png"))
    names = [{f.name for f in folder.iterdir() if "tfevents" not in f.name} for folder in (alone, beside)]
    assert names[0] | {"wandb"} == names[1]


@pytest.mark.slow
def test_no_network_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a key, where nothing answers."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert run([*SMALL, "budget.images=512", f"hydra.run.dir={tmp_path / 'run'}", "logger=wandb"]) == 0
    assert "nothing is sent" in capsys.readouterr().out
    (kept,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"D/loss" in kept.read_bytes()
