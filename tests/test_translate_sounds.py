"""`translate` of recordings: as long as they were, of any rate, either way, never mixed with pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from torch import Tensor, nn

from gan_lightning.commands import translate
from gan_lightning.commands.spoken import converted, spoken_data
from gan_lightning.data.voices import SyntheticVoices
from gan_lightning.data.wav import to_int16, write_wav
from gan_lightning.errors import UserError
from tests.models.test_cyclegan import cyclegan

DATA = {
    "_target_": "gan_lightning.data.voices.SyntheticVoices",
    **{"image_size": 32, "window": 256, "hop": 64, "batch_size": 4, "seed": 0},
}
SAMPLES = 31 * 64  # of a training picture


class Louder(nn.Module):
    """Half of the way to white."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A CycleGAN of voices, which every checkpoint now holds: a2b leaves all as it is, b2a makes it louder."""
    found = cyclegan().eval()
    monkeypatch.setattr(translate, "stored_config", lambda *_: {"data": DATA})
    monkeypatch.setattr(translate, "load_module", lambda *_: found)
    ways = {"a2b": nn.Identity(), "b2a": Louder()}
    monkeypatch.setattr(found, "translating", lambda ema=True, direction="a2b": ways[direction])
    return found


def ask(*arguments: str) -> None:
    assert translate.run(["checkpoint=any", "accelerator=cpu", *arguments]) == 0


def speech(samples: int, rate: int = 8000) -> Any:
    """A gliding tone with overtones, (samples,)."""
    time = np.arange(samples) / rate
    waves = [np.sin(2 * np.pi * order * (200 + 100 * time) * time) / order for order in range(1, 8)]
    return 0.3 * np.sum(waves, 0) / 2


@pytest.mark.parametrize("samples", [1, 200, SAMPLES - 1, SAMPLES, SAMPLES + 1, 3 * SAMPLES + 77])
def test_as_long_as_it_was(samples: int, module: Any, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", to_int16(speech(samples)), 8000)
    ask(f"input={tmp_path / 'a.wav'}")
    rate, made = wavfile.read(tmp_path / "a_translated.wav")
    assert (rate, made.shape, made.dtype) == (8000, (samples,), np.int16)


@pytest.mark.parametrize("samples", [SAMPLES // 2, 4 * SAMPLES])
def test_a_network_that_changes_nothing_leaves_the_spectrogram(samples: int) -> None:
    data = SyntheticVoices(**{key: value for key, value in DATA.items() if key != "_target_"})
    sound = torch.from_numpy(speech(samples)).float()
    made = converted(nn.Identity(), data, sound, torch.device("cpu"), 4)
    before, after = (data.pictures_of(part[None] / sound.abs().max()) for part in (sound, made))
    heard = before > -0.25
    assert (before - after).abs()[heard].mean() * 40 < 2.5  # dB
    assert (before - after.flip(2)).abs()[heard].mean() * 40 > 5
    assert 0.5 < made.abs().max() / sound.abs().max() < 1.5


def test_windows_are_those_of_training() -> None:
    data = SyntheticVoices(**{key: value for key, value in DATA.items() if key != "_target_"})
    widths: list[int] = []

    def network(x: Tensor) -> Tensor:
        widths.append(x.shape[-1])
        return x

    converted(network, data, torch.from_numpy(speech(5 * SAMPLES)).float(), torch.device("cpu"), 4)
    assert len(widths) > 5
    assert set(widths[:-1]) == {32}


def test_the_other_way_is_another_network(module: Any, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", to_int16(0.1 * speech(SAMPLES)), 8000)
    power = []
    for direction in ("a2b", "b2a"):
        ask(f"input={tmp_path / 'a.wav'}", f"output={tmp_path / direction}", f"direction={direction}")
        power.append(np.square(wavfile.read(tmp_path / direction / "a.wav")[1].astype(float)).mean())
    assert power[1] > 1.5 * power[0] > 0


def test_a_folder_of_any_rate_and_a_broken_file(module: Any, tmp_path: Path) -> None:
    place = tmp_path / "in" / "deep"
    place.mkdir(parents=True)
    wavfile.write(place / "fast.wav", 16000, to_int16(speech(4000, 16000)))
    wavfile.write(place / "stereo.wav", 8000, np.stack([to_int16(speech(3000))] * 2, 1))
    write_wav(place / "silent.wav", np.zeros(500, np.int16), 8000)
    (place / "broken.wav").write_bytes(b"RIFF")
    Image.new("L", (8, 8)).save(place / "cover.png")
    with pytest.raises(UserError, match=r"1 file\(s\) cannot be read:\n.*broken\.wav: not a wav file"):
        ask(f"input={tmp_path / 'in'}")
    made = {path.name: wavfile.read(path) for path in (tmp_path / "in_translated" / "deep").iterdir()}
    lengths = {name: (rate, len(sound)) for name, (rate, sound) in made.items()}
    assert lengths == {"fast.wav": (8000, 2000), "stereo.wav": (8000, 3000), "silent.wav": (8000, 500)}
    assert not made["silent.wav"][1].any()


def test_pictures_and_sounds_are_not_mixed(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wav(tmp_path / "a.wav", to_int16(speech(500)), 8000)
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"input=.*a\.png: this model translates sounds"):
        ask(f"input={tmp_path / 'a.png'}")
    (tmp_path / "pictures").mkdir()
    Image.new("L", (16, 16)).save(tmp_path / "pictures" / "a.png")
    with pytest.raises(UserError, match=r"input=.*pictures: no such file, and no sounds in it"):
        ask(f"input={tmp_path / 'pictures'}")
    monkeypatch.setattr(translate, "stored_config", lambda *_: {})
    with pytest.raises(UserError, match=r"input=.*a\.wav: this model translates images"):
        ask(f"input={tmp_path / 'a.wav'}")
    assert not list(tmp_path.glob("*_translated*"))


def test_what_says_how_sounds_become_pictures() -> None:
    voices = {**DATA, "_target_": "gan_lightning.data.voices.Voices", "root": "gone", "source": "a", "target": "b"}
    found = spoken_data({"data": voices})
    assert found is not None
    assert found.scale.hop == 64
    assert spoken_data({"data": {"_target_": "gan_lightning.data.digits.Digits"}}) is None
    assert spoken_data({}) is None
