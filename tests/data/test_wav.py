"""Sound files are read as they were written, resampled without a change of pitch, and what is wrong is one line."""

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from gan_lightning.data.wav import read_wav, sound_classes, sound_labels, sound_names, to_int16, write_wav
from gan_lightning.errors import UserError

SINE = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)


def pcm24(path: Path, samples: np.ndarray) -> None:
    """A mono file of 24 bits, written by hand."""
    numbers = np.rint(samples * (2**23 - 1)).astype("<i4")
    data = numbers.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    kind = struct.pack("<HHIIHH", 1, 1, 8000, 24000, 3, 24)  # PCM, mono, rate, bytes a second, bytes, bits
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE") + struct.pack("<4sI", b"fmt ", len(kind)) + kind
    head += struct.pack("<4sI", b"data", len(data))
    path.write_bytes(head + data)


def written(path: Path, kind: str) -> None:
    if kind == "24":
        return pcm24(path, SINE)
    data = {
        "8": np.rint(SINE * 127 + 128).astype(np.uint8),
        "16": np.rint(SINE * 32767).astype(np.int16),
        "32": np.rint(SINE * (2**31 - 1)).astype(np.int32),
        "float": SINE.astype(np.float32),
        "double": SINE,
    }[kind]
    wavfile.write(path, 8000, data)


@pytest.mark.parametrize(
    ("kind", "error"), [("8", 1.2e-2), ("16", 5e-5), ("24", 1e-6), ("32", 1e-6), ("float", 1e-6), ("double", 1e-6)]
)
def test_every_kind_of_sample(kind: str, error: float, tmp_path: Path) -> None:
    written(tmp_path / "a.wav", kind)
    found = read_wav(tmp_path / "a.wav", 8000)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, SINE, atol=error)


def test_channels_become_their_mean(tmp_path: Path) -> None:
    wavfile.write(tmp_path / "a.wav", 8000, np.stack([SINE, -0.5 * SINE], 1).astype(np.float32))
    np.testing.assert_allclose(read_wav(tmp_path / "a.wav", 8000), 0.25 * SINE, atol=1e-6)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    samples = to_int16(np.array([-2, -1, -0.5, 0, 0.25, 1]))
    assert samples.tolist() == [-32767, -32767, -16384, 0, 8192, 32767]
    write_wav(tmp_path / "a.wav", samples, 8000)
    assert to_int16(read_wav(tmp_path / "a.wav", 8000) * 32768 / 32767).tolist() == samples.tolist()


@pytest.mark.parametrize("rate", [4000, 11025, 16000, 44100])
def test_resampling_keeps_the_pitch(rate: int, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", to_int16(SINE), 8000)
    found = read_wav(tmp_path / "a.wav", rate)
    assert len(found) == rate  # a second
    spectrum = np.abs(np.fft.rfft(found))
    assert spectrum.argmax() == 440  # Hz
    assert np.abs(found[rate // 4 : -rate // 4]).max() == pytest.approx(1, abs=0.02)


def test_frequencies_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    high = np.sin(2 * np.pi * 3000 * np.arange(8000) / 8000)
    write_wav(tmp_path / "a.wav", to_int16(high), 8000)
    assert np.abs(read_wav(tmp_path / "a.wav", 4000)[500:-500]).max() < 0.01


def broken(path: Path, how: str) -> None:
    write_wav(path, to_int16(SINE), 8000)
    whole = path.read_bytes()
    if how == "rate 0":
        path.write_bytes(whole[:24] + struct.pack("<II", 0, 0) + whole[32:])
    elif how == "rate 2 GHz":
        path.write_bytes(whole[:24] + struct.pack("<II", 2**31 - 1, 2**32 - 2) + whole[32:])
    elif how == "infinite":
        wavfile.write(path, 8000, np.array([0, np.inf], dtype=np.float32))
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "text": b"no sound at all " * 9, "cut": whole[:9000], "head": whole[:30]}[how])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("empty", "not a wav file"),
        ("text", "not a wav file"),
        ("cut", "breaks off"),
        ("head", "a.wav: "),
        ("rate 0", "0 samples a second"),
        ("rate 2 GHz", "2,147,483,647 samples a second"),
        ("infinite", "not finite"),
        ("a folder", "cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(how: str, message: str, tmp_path: Path) -> None:
    broken(tmp_path / "a.wav", how)
    with pytest.raises(UserError, match=message) as raised:
        read_wav(tmp_path / "a.wav", 8000)
    assert str(tmp_path / "a.wav") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_without_samples(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", to_int16(SINE[:0]), 8000)
    with pytest.raises(UserError, match=r"a.wav: "):
        read_wav(tmp_path / "a.wav", 8000)


def test_a_file_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wav(tmp_path / "a.wav", to_int16(SINE), 8000)
    monkeypatch.setattr("gan_lightning.data.wav.MOST_BYTES", 10_000)
    with pytest.raises(UserError, match=r"a.wav: .*GiB"):
        read_wav(tmp_path / "a.wav", 8000)
    monkeypatch.setattr("gan_lightning.data.wav.MOST_BYTES", 20_000)
    with pytest.raises(UserError, match=r"a.wav: 1 seconds are too long"):
        read_wav(tmp_path / "a.wav", 100_000)


def test_names(tmp_path: Path) -> None:
    for name in ("b/1.WAV", "a/0.wav", "a/.hidden.wav", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert sound_names(tmp_path) == ["a/0.wav", "b/1.WAV"]
    assert sound_classes(tmp_path, "folders", 0, "_") == ["a", "b"]
    with pytest.raises(UserError, match=r"data.root=.*nothing: no such folder"):
        sound_names(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"not a folder"):
        sound_names(tmp_path / "a" / "notes.txt")
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match=r"no sounds in it; looked for .wav, found nothing"):
        sound_names(tmp_path / "c")


def test_labels() -> None:
    names = ["x/0_ann_3.wav", "y/1_bob_12.wav"]
    assert sound_labels(names, "names", 0, "_") == ["0", "1"]
    assert sound_labels(names, "names", 1, "_") == ["ann", "bob"]
    assert sound_labels(names, "names", -1, "_") == ["3", "12"]
    assert sound_labels(names, "folders", 0, "_") == ["x", "y"]
    assert sound_labels(names, "none", 0, "_") == []
    with pytest.raises(UserError, match=r"data.part=3: x/0_ann_3.wav has 3 part"):
        sound_labels(names, "names", 3, "_")
    with pytest.raises(UserError, match=r'data.labels=names: sound3.wav has no "_" .*; use folders or none'):
        sound_labels(["0_ann_3.wav", "sound3.wav"], "names", 0, "_")
    with pytest.raises(UserError, match=r"data.labels=folders: 1.wav lies in no folder"):
        sound_labels(["x/0.wav", "1.wav"], "folders", 0, "_")
