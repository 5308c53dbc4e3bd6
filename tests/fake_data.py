"""Small files in the formats of the real data sets."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image

from gan_lightning.data.wav import to_int16, write_wav


def write_idx(folder: Path, train: int = 40, test: int = 10) -> None:
    """MNIST's four uncompressed idx files with random pictures."""
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    for name, count in (("train", train), ("t10k", test)):
        pixels = numbers.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = numbers.integers(0, 10, count, dtype=np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())


def write_large_photos(folder: Path, count: int = 12) -> None:
    """Random PNGs of 48×40 pixels."""
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(numbers.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / f"{index:03d}.png")


def write_photos(folder: Path, count: int = 40) -> None:
    """Small random PNGs in two class folders."""
    numbers = np.random.default_rng(0)
    for index in range(count):
        place = folder / ("cats", "dogs")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(place / f"{index:03d}.png")


def write_sounds(folder: Path, count: int = 40, rate: int = 8000) -> None:
    """Short files 0_ann_0.wav, 1_bob_1.wav …: sines with noise, of 100 to 400 samples."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(0)
    for index in range(count):
        time = np.arange(numbers.integers(100, 400)) / rate
        tone = np.sin(2 * np.pi * 500 * (1 + index % 2) * time) + 0.1 * numbers.standard_normal(len(time))
        write_wav(folder / f"{index % 2}_{('ann', 'bob')[index % 2]}_{index}.wav", to_int16(0.5 * tone), rate)


def write_voices(folder: Path, speakers: dict[str, int], samples: int = 2000, rate: int = 8000) -> None:
    """So many recordings 0_<speaker>_<number>.wav of each: tones with noise, those of the first speaker the lowest."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers, time = np.random.default_rng(0), np.arange(samples) / rate
    for place, (speaker, count) in enumerate(speakers.items()):
        for index in range(count):
            tone = np.sin(2 * np.pi * (300 * 4**place + 20 * index) * time) + 0.01 * numbers.standard_normal(samples)
            write_wav(folder / f"0_{speaker}_{index}.wav", to_int16(0.1 * (1 + place) * tone), rate)
