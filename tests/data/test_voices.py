"""Two speakers' recordings as spectrograms: who is who, what is cut, what people see and hear, and every mistake."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from torch import Tensor

from gan_lightning.data.pixels import to_float
from gan_lightning.data.voices import SyntheticVoices, Voices, fields_of, pieces
from gan_lightning.data.wav import to_int16, write_wav
from gan_lightning.errors import UserError
from gan_lightning.metrics.scoring import Scorer, ScoreSettings
from tests.fake_data import write_voices

SMALL: dict[str, Any] = {"batch_size": 4, "seed": 0, "image_size": 32, "window": 256, "hop": 64}


def of_two(place: Path, **settings: Any) -> Any:
    write_voices(place, {"ann": 9, "bob": 6, "eve": 2})
    return Voices(**{**SMALL, "root": place, "source": "ann", "target": "bob", "held_out": 0.3, **settings})


def ready(data: Any) -> Any:
    data.check()
    data.setup()
    return data


def band_of(pictures: Tensor) -> Tensor:
    """The brightest line of pictures (n, 1, H, W), from below: (n,)."""
    return pictures.shape[2] - 1 - pictures.float().mean((1, 3)).argmax(1)


def test_each_has_recordings_of_one_speaker(tmp_path: Path) -> None:
    data = ready(of_two(tmp_path))
    parts = [data.train.inputs, data.held_out.inputs, data.train.images, data.held_out.images]
    assert len(parts[0]) + len(parts[1]) == 9
    assert len(parts[2]) + len(parts[3]) == 6
    assert all(map(len, parts))
    given, held_given, made, held_made = (part.images for part in parts)
    assert max(band_of(given).max(), band_of(held_given).max()) < min(band_of(made).min(), band_of(held_made).min())
    batch = next(iter(data.minibatches(epoch=0, start=0, per_batch=1)))
    assert band_of(batch["input"][0]).max() < band_of(batch["image"][0]).min()
    assert data.domains == ("ann", "bob")
    seen = {name for part in (0, 1) for names in data.recordings(part) for name in names}
    assert len(seen) == 15
    assert not any("eve" in name for name in seen)
    assert not data.truth
    with pytest.raises(UserError, match=r"scores.names=\[fid\]: is of images, and these are spectrograms"):
        Scorer(ScoreSettings(names=["fid"]), data)


def test_two_folders_are_the_same_data(tmp_path: Path) -> None:
    one = ready(of_two(tmp_path / "all"))
    for speaker in ("ann", "bob"):
        (tmp_path / speaker).mkdir()
        for file in (tmp_path / "all").glob(f"*_{speaker}_*"):
            file.rename(tmp_path / speaker / file.name)
    two = ready(Voices(**SMALL, root_a=tmp_path / "ann", root_b=tmp_path / "bob", held_out=0.3))
    three = Voices(**SMALL, root=tmp_path, names="{speaker}/{file}", source="ann", target="bob", held_out=0.3)
    assert torch.equal(one.train.images.images, two.train.images.images)
    assert torch.equal(one.held_out.inputs.images, two.held_out.inputs.images)
    assert one.domains == two.domains == three.domains
    assert {Path(name).name for name in three.files(1)} == set(two.files(1))


def test_what_names_say() -> None:
    assert fields_of("0_ann_12.wav", "{label}_{speaker}_{index}") == {"label": "0", "speaker": "ann", "index": "12"}
    assert fields_of("a.b/p_1.x.wav", "{speaker}/p_{rest}") == {"speaker": "a.b", "rest": "1.x"}
    assert fields_of("deep/ann.wav", "{speaker}") == {"speaker": "ann"}


def test_loudness_says_nothing_and_recordings_of_any_rate_are_heard_alike(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(3000) / 8000)
    for place, loudness in ((tmp_path / "a", 0.9), (tmp_path / "b", 0.2)):
        place.mkdir()
        write_wav(place / "x.wav", to_int16(loudness * tone), 8000)
    fast = np.sin(2 * np.pi * 500 * np.arange(6000) / 16000)
    write_wav(tmp_path / "b" / "y.wav", to_int16(fast), 16000)
    data = Voices(**SMALL, root_a=tmp_path / "a", root_b=tmp_path / "b")
    loud, quiet, faster = data.heard(0, ["x.wav"]), data.heard(1, ["x.wav"]), data.heard(1, ["y.wav"])
    assert loud.abs().max() == quiet.abs().max() == faster.abs().max() == 1
    torch.testing.assert_close(loud, quiet, rtol=0, atol=2e-3)
    assert (loud - faster)[:, 200:-200].abs().mean() < 0.02


def test_long_recordings_become_pieces_and_short_ones_are_framed_by_silence() -> None:
    ramp = np.arange(1, 11, dtype=np.float32)
    assert pieces(ramp, 4).tolist() == [[1, 2, 3, 4], [7, 8, 9, 10]]
    assert pieces(ramp, 7).tolist() == [[2, 3, 4, 5, 6, 7, 8]]
    assert [piece[0] for piece in pieces(ramp, 3).tolist()] in ([1, 4, 8], [1, 5, 8])  # rounded either way
    assert pieces(ramp, 10).tolist() == [ramp.tolist()]
    assert pieces(ramp[:3], 6).tolist() == [[0, 1, 2, 3, 0, 0]]


def test_people_see_high_above_low_and_hear_each_row(tmp_path: Path) -> None:
    data = ready(of_two(tmp_path / "voices"))
    samples = data.real_images(6)  # bob's, whose tones are high
    assert (band_of(samples) >= 15).all()
    module = SimpleNamespace(columns=lambda images, ema: [images, images.flip(0), images])
    writer = SimpleNamespace(images=[], sounds=[])
    writer.add_image = lambda tag, picture, step: writer.images.append((tag, picture.shape))
    writer.add_audio = lambda tag, sound, step, rate: writer.sounds.append((tag, tuple(sound.shape), rate))
    for of, columns in ((None, 1), (module, 3)):
        exhibit = data.exhibit(samples, of)
        exhibit.save(tmp_path / "shown")
        rate, heard = wavfile.read(tmp_path / "shown.wav")
        assert rate == 8000
        assert len(heard) == 4 * columns * (data.samples + 1600)
        exhibit.log(writer, "samples", 3)
        assert writer.sounds[-1] == ("samples/3", (1, columns * (data.samples + 1600)), 8000)
    assert (tmp_path / "shown.png").is_file()
    data.write(samples[:2], tmp_path, "x")
    rate, first = wavfile.read(tmp_path / "x00000.wav")
    spectrum = np.abs(np.fft.rfft(first))
    assert 1000 < spectrum.argmax() * rate / len(first) < 1600


def test_held_out_melodies_are_played_by_both() -> None:
    data = ready(SyntheticVoices(**SMALL, count=20))
    pairs = data.held_out.__getitems__(range(len(data.held_out)))
    flute, reed = to_float(pairs["input"]), to_float(pairs["image"])
    assert (len(data.train), len(data.held_out), data.truth) == (20, 4, True)
    lines = [band_of(part[:, :, -10:]) for part in (flute, reed)]  # up to 600 Hz there are no odd overtones
    assert (lines[0] - lines[1]).abs().max() <= 1  # the same tone is the loudest of both
    loud = [(part.amax(2) > 0).float() for part in (flute, reed)]  # (n, 1, W)
    assert (loud[0] - loud[1]).abs().mean() < 0.1
    right = (flute - reed).abs().mean()
    wrong = (flute - reed.roll(1, 0)).abs().mean()
    assert right < 0.85 * wrong
    low = torch.cat([band_of(part.images[:, :, -10:]) for part in (data.train.images, data.train.inputs)])
    assert low.double().mean() < 5.5  # notes of 4 to 8: upside down would be something else
    own = {image.numpy().tobytes() for image in data.train.images.images}
    assert len(own) == 20
    assert not torch.equal(data.train.inputs.images, data.train.images.images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "ann"}, r"data\.target=ann: is the source, too"),
        ({"target": None}, r"data\.root=.*: needs data\.source and data\.target"),
        ({"target": "zoe"}, r"data\.target=zoe: nobody of that name in .*; there are ann, bob, eve"),
        ({"source": "zoe"}, r"data\.source=zoe: nobody of that name"),
        ({"root": None}, r"data\.root: must be given, one folder; or else both"),
        ({"root": "nowhere"}, r"data\.root=nowhere: no such folder"),
        ({"names": "{speaker}-{index}"}, r"data\.names=\{speaker\}-\{index\}: 0_ann_0\.wav is not named so"),
        ({"names": "{label}_{index}"}, r"names=\{label\}_\{index\}: needs \{speaker\}"),
        ({"names": "{speaker}_{x}_{x}"}, "every word once"),
        ({"held_out": 1.0}, r"held_out=1\.0: leaves nothing"),
        ({"rate": 16}, "rate=16: must be 1,000 to 768,000"),
        ({"window": 255}, "window=255: must be even"),
        ({"hop": 200}, "hop=200: at most half of window=256"),
    ],
)
def test_mistakes(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    if settings.get("root"):
        settings = {**settings, "root": Path(settings["root"])}
    with pytest.raises((UserError, ValueError), match=message):
        of_two(tmp_path, **settings).check()


def test_mistakes_of_two_folders(tmp_path: Path) -> None:
    write_voices(tmp_path / "a", {"ann": 2})
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"data\.root_b=.*b: no sounds in it"):
        Voices(**SMALL, root_a=tmp_path / "a", root_b=tmp_path / "b").check()
    with pytest.raises(UserError, match=r"data\.root_b=.*: no such folder"):
        Voices(**SMALL, root_a=tmp_path / "a", root_b=tmp_path / "c").check()
    with pytest.raises(UserError, match=r"data\.root_b=.*: is data\.root_a, too"):
        Voices(**SMALL, root_a=tmp_path / "a", root_b=tmp_path / "b" / ".." / "a")
    with pytest.raises(UserError, match=r"data\.source=ann: is for one folder"):
        Voices(**SMALL, root_a=tmp_path / "a", root_b=tmp_path / "b", source="ann")
    (tmp_path / "b" / "x.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"x\.wav: "):
        ready(Voices(**SMALL, root_a=tmp_path / "a", root_b=tmp_path / "b"))
