"""Sounds of a folder and synthetic ones: lengths, labels, crops, loudness; how they are written and shown."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_lightning.data.sounds import Clips, SpeechFolder, Tones, coloured, from_sound, to_sound
from gan_lightning.data.spectrograms import FLOOR, log_mel
from gan_lightning.data.wav import read_wav, to_int16, write_wav
from gan_lightning.errors import UserError
from tests.fake_data import write_sounds


def folder(root: Path, **settings: Any) -> Any:
    data = SpeechFolder(root, **{"samples": 256, "rate": 8000, "batch_size": 4, "seed": 0, **settings})
    data.check()
    data.setup()
    return data


def sine(frequency: float, samples: int = 4096) -> torch.Tensor:
    return torch.sin(2 * torch.pi * frequency * torch.arange(samples) / 8000)


def test_a_folder(tmp_path: Path) -> None:
    write_sounds(tmp_path)
    data = folder(tmp_path, classes=2)
    assert data.class_names == ["0", "1"]
    assert len(data.train) + len(data.held_out) == 40
    assert len(data.held_out) > 0
    batch = data.train.__getitems__(range(len(data.train)))
    assert (batch["image"].shape[1:], batch["image"].dtype) == ((1, 256), torch.int16)
    loud = log_mel(to_sound(batch["image"][:, 0]), 8000).mean(2).argmax(1)  # 500 Hz and 1,000 Hz
    assert loud[batch["label"] == 0].max() < loud[batch["label"] == 1].min()
    assert (batch["image"].amax((1, 2)) == 32767).sum() + (batch["image"].amin((1, 2)) == -32767).sum() > 0
    assert folder(tmp_path, part=1).class_names == ["ann", "bob"]
    assert folder(tmp_path, labels="none").class_names == []
    assert folder(tmp_path, rate=4000).train.lengths.max() <= 200  # half as many numbers


def test_the_held_out_do_not_depend_on_the_seed(tmp_path: Path) -> None:
    write_sounds(tmp_path)
    one, other = (folder(tmp_path, seed=seed, held_out=0.3).held_out.__getitems__(range(5))["image"] for seed in (0, 1))
    assert torch.equal(one, other)


def test_shorter_ones_are_padded_and_longer_ones_cut() -> None:
    samples, lengths = torch.arange(1, 21, dtype=torch.int16), torch.tensor([3, 17])
    starts, labels = torch.tensor([0, 3]), torch.tensor([0, 1])

    def of(crop: Any) -> Clips:
        return Clips(samples, starts, lengths, labels, 8, crop)

    first = of("first").__getitems__([0, 1])["image"][:, 0].tolist()
    assert first == [[1, 2, 3, 0, 0, 0, 0, 0], [4, 5, 6, 7, 8, 9, 10, 11]]
    assert of("middle").__getitems__([1])["image"][0, 0].tolist() == list(range(8, 16))
    assert of("random").__getitems__([1])["image"].equal(of("middle").__getitems__([1])["image"])
    begins = [int(of("random").of_epoch(0, epoch).__getitems__([1])["image"][0, 0, 0]) for epoch in range(200)]
    assert set(begins) == set(range(4, 14))  # all ten places
    assert begins[:50] == [int(of("random").of_epoch(0, e).__getitems__([1])["image"][0, 0, 0]) for e in range(50)]
    assert of("random").of_epoch(0, 3).__getitems__([0])["image"][0, 0].tolist() == [1, 2, 3, 0, 0, 0, 0, 0]
    assert of("random").subset(torch.tensor([1])).of_epoch(0, 0).__getitems__([0])["image"].shape == (1, 1, 8)


def test_loudness_and_silence(tmp_path: Path) -> None:
    quiet, tone = np.full(500, 0.0001), 0.25 * sine(440, 1000).numpy()
    write_wav(tmp_path / "0_a.wav", to_int16(np.concatenate([quiet, tone, quiet])), 8000)
    write_wav(tmp_path / "1_a.wav", to_int16(np.zeros(300)), 8000)  # nothing to normalise, nothing to cut
    loud = folder(tmp_path, held_out=0.0, samples=4096, trim=40)
    lengths, peaks = loud.train.lengths, loud.train.__getitems__([0, 1])["image"].abs().amax((1, 2))
    assert sorted(peaks.tolist()) == [0, 32767]
    assert 990 <= int(lengths[peaks > 0]) <= 1000
    assert int(lengths[peaks == 0]) == 300
    as_it_is = folder(tmp_path, held_out=0.0, samples=4096, normalise=False)
    assert int(as_it_is.train.lengths.max()) == 2000
    assert int(as_it_is.train.__getitems__([0, 1])["image"].max()) == pytest.approx(8192, abs=2)


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        folder(tmp_path / "none")
    write_sounds(tmp_path, 4)
    with pytest.raises(UserError, match=r"data\.part=7: "):
        folder(tmp_path, part=7)
    (tmp_path / "0_x.wav").write_bytes(b"nothing")
    data = SpeechFolder(tmp_path, samples=256, batch_size=1, seed=0)
    data.check()  # cheap: nothing is read
    with pytest.raises(UserError, match=r"0_x\.wav: not a wav file"):
        data.setup()
    with pytest.raises(ValueError, match="held_out=1"):
        SpeechFolder(tmp_path, held_out=1.0, batch_size=1, seed=0)
    with pytest.raises(ValueError, match=r"rate=16: must be 1,000 to 768,000"):  # kHz
        SpeechFolder(tmp_path, rate=16, batch_size=1, seed=0)


def test_tones_are_what_their_names_say() -> None:
    data = Tones(count=100, batch_size=8, seed=0, classes=10)
    data.setup()
    batch = data.train.__getitems__(range(100))
    spectrum = torch.fft.rfft(to_sound(batch["image"][:, 0])).abs()
    pitch = spectrum.argmax(1) * 8000 / 4096
    expected = torch.tensor([220.0, 277.18, 329.63, 440.0, 554.37])[batch["label"] // 2]
    assert (pitch / expected - 1).abs().max() < 0.02
    third = (3 * spectrum.argmax(1))[:, None] + torch.arange(-8, 9)
    overtone = spectrum.gather(1, third).amax(1) / spectrum.amax(1)
    assert overtone[batch["label"] % 2 == 1].min() > 0.15 > overtone[batch["label"] % 2 == 0].max()
    assert data.held_out.labels.bincount(minlength=10).min() >= 0
    features, logits = data.own_extractor()(batch["image"])
    assert features.shape == (100, 32)
    assert logits is not None
    assert (logits.argmax(1) == batch["label"]).float().mean() > 0.95


def test_spectrograms_have_frequencies_in_their_places() -> None:
    levels = log_mel(torch.stack([sine(300), sine(3000), torch.zeros(4096)]), 8000)
    assert levels.shape == (3, 64, 65)
    low, high, silent = levels[:, :, 32]
    edges = 2595 * np.log10(1 + np.array([300, 3000]) / 700) / (2595 * np.log10(1 + 4000 / 700)) * 65 - 1
    assert abs(int(low.argmax()) - edges[0]) <= 1
    assert abs(int(high.argmax()) - edges[1]) <= 1
    assert low.max() == pytest.approx(0, abs=0.5)  # a full sine
    assert silent.unique().tolist() == pytest.approx([np.log(FLOOR)])


def test_colours_get_lighter() -> None:
    colours = coloured(torch.linspace(0, 1, 50)).float()
    light = colours @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (light.diff() > 0).all()


def test_exhibits_and_files(tmp_path: Path) -> None:
    data = Tones(samples=1024, count=20, batch_size=4, seed=0)
    data.setup()
    sounds = data.real_images(3)
    exhibit = data.exhibit(sounds)
    exhibit.save(tmp_path / "e0001-s1.5")
    assert (tmp_path / "e0001-s1.5.png").exists()
    assert len(read_wav(tmp_path / "e0001-s1.5.wav", 8000)) == 3 * (1024 + 2000)
    data.write(sounds, tmp_path, "a-")
    found = read_wav(tmp_path / "a-00002.wav", 8000) * 32768 / 32767
    np.testing.assert_allclose(found, sounds[2, 0].numpy(), atol=1e-6)
    assert torch.equal(from_sound(sounds), data.train.__getitems__(range(3))["image"])
    assert data.description() == "20 sounds of 1,024 samples at 8,000 Hz"
