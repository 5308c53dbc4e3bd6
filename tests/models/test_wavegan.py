"""WaveGAN through the command line: it learns notes, goes on exactly, and its sounds can be heard."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lightning import load
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands.evaluate import run as evaluate
from gan_lightning.commands.sample import run as sample
from gan_lightning.commands.train import run
from gan_lightning.data.sounds import Tones, to_sound
from gan_lightning.data.wav import read_wav
from gan_lightning.errors import UserError
from tests.fake_data import write_sounds

SMALL = [
    "model=wavegan",
    "model.classes=${data.classes}",
    *(f"model.{player}.{key}" for player in ("generator", "discriminator") for key in ("base_channels=2", "kernel=9")),
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "data.batch_size=16",
    "samples.count=4",
]


def train(folder: Path, *arguments: str) -> None:
    assert run([f"hydra.run.dir={folder}", *SMALL, *arguments]) == 0


def last(folder: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    checkpoint["counters"].pop("seconds")
    return {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "counters")}


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    """Phase shuffle, the crops of the epoch and the order are those of the place, not of the process."""
    write_sounds(tmp_path / "sounds")
    data = [
        "data=speech_folder",
        f"data.root={tmp_path / 'sounds'}",
        "data.samples=256",
        "data.rate=8000",
        "scores=off",
    ]
    train(tmp_path / "whole", *data, "budget.images=208")
    train(tmp_path / "parts", *data, "budget.images=112")
    assert run([f"checkpoint={tmp_path / 'parts'}", "budget.images=208"]) == 0
    torch.testing.assert_close(last(tmp_path / "parts"), last(tmp_path / "whole"), rtol=0, atol=0)
    shuffled = ["model.discriminator.phase_shuffle=0", "budget.images=208"]
    train(tmp_path / "other", *data, *shuffled)
    key = "discriminator.trunk.1.weight"
    assert not torch.equal(last(tmp_path / "other")["state_dict"][key], last(tmp_path / "whole")["state_dict"][key])


def test_sounds_are_written_shown_and_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    train(folder, "data.samples=256", "data.count=200", "budget.generator_steps=1", "scores.samples=64")
    names = {path.suffix for path in folder.glob("samples/*")}
    assert {".png", ".wav"} <= names
    (events,) = folder.glob("events.out.tfevents.*")
    logged = EventAccumulator(str(events)).Reload().Tags()
    assert {"samples/ema/0", "samples/real/3"} <= {*logged["audio"]}
    assert "samples/ema" in logged["images"]
    assert sample([f"checkpoint={folder}", "count=3", f"output={tmp_path / 'out'}", "accelerator=cpu"]) == 0
    sounds = [read_wav(tmp_path / "out" / f"{index:05d}.wav", 8000) for index in range(3)]
    expected = load(folder).sample(3)[:, 0].numpy()
    assert [len(sound) for sound in sounds] == [256] * 3
    assert abs(sounds[1] * 32768 / 32767 - expected[1]).max() < 1e-4
    arguments = [f"checkpoint={folder}", "accelerator=cpu", "scores.samples=64", "scores.real_samples=100"]
    assert evaluate([*arguments, f"output={tmp_path / 'scores.jsonl'}"]) == 0
    records = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert {"fid", "modes"} <= {record["metric"] for record in records}
    assert {record["extractor"] for record in records} == {"tones"}


@pytest.mark.parametrize("argument", ["model.augment=[color]", "model.ada.pipeline=bgc"])
def test_augmentations_of_images_are_refused(argument: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is for images, and Tones has sounds"):
        train(tmp_path / "run", argument, "data.samples=256", "model.ada.target=null")
    assert not (tmp_path / "run").exists()


def test_other_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="samples=1000"):
        train(tmp_path / "run", "data.samples=1000")


def spectrum(sounds: torch.Tensor) -> torch.Tensor:
    """Shares of the power at each frequency, the mean over sounds (N, 1, T): (T / 2 + 1,)."""
    power = torch.fft.rfft(sounds[:, 0]).abs().square()
    return (power / power.sum(1, keepdim=True)).mean(0)


def test_it_learns_notes(tmp_path: Path) -> None:
    """How much of the power lies at other frequencies than that of the data, after one step and after 200."""
    data = Tones(samples=256, count=500, batch_size=1, seed=0)
    data.setup()
    real = spectrum(to_sound(data.train.__getitems__(range(500))["image"]))
    more = ["data.samples=256", "data.count=500", "data.batch_size=32", "step.critic_steps=2", "model.ema=null"]
    for player in ("generator", "discriminator"):
        more += [f"model.{player}.{key}" for key in ("base_channels=4", "kernel=25")]
        more += [f"model.{player}_optimizer.lr=2e-3"]
    found = []
    for steps in (1, 200):
        folder = tmp_path / str(steps)
        train(folder, *more, "model.classes=0", f"budget.generator_steps={steps}", "scores=off")
        found.append(float((spectrum(load(folder).sample(500)) - real).abs().sum() / 2))
    # 0.84, 0.88 and 0.87 for seeds 0 to 2 when this was written, and 0.39, 0.21 and 0.35; held-out notes: 0.05
    assert found[0] > 0.75
    assert found[1] < 0.6
