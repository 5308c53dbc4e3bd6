"""Sounds: samples (1, T) in [-1, 1], kept as int16; shown as spectrograms and played, written as wav files."""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gan_lightning.data.base import Data, say
from gan_lightning.data.image_folder import held_out_count
from gan_lightning.data.listing import hashed, said_of_links
from gan_lightning.data.sets import Indexed, InMemory
from gan_lightning.data.spectrograms import FLOOR, log_mel
from gan_lightning.data.wav import Labels, check_rate, read_wav, sound_labels, sound_names, to_int16, write_wav
from gan_lightning.draws import generator as stream_of
from gan_lightning.errors import UserError
from gan_lightning.exhibits import Exhibit, Writer
from gan_lightning.metrics.extractors import SPOKEN, Extractor, spoken_digits
from gan_lightning.paths import expand
from gan_lightning.types import Fraction, PositiveFloat, PositiveInt

PLAYED = 8  # sounds of an exhibit that can be heard
SHOWN = 64  # and seen
Crop = Literal["random", "middle", "first"]


def to_sound(stored: Tensor) -> Tensor:
    """int16 (...) -> float32 in [-1, 1]."""
    return stored.float() / 32767


def from_sound(samples: Tensor) -> Tensor:
    """Samples in [-1, 1] (...) -> int16."""
    return (samples.detach().float().clamp(-1, 1) * 32767).round().to(torch.int16)


class Sounds(Data):
    """Sounds of one length. A subclass says where they come from, in `check` and `load`.

    Args:
        samples: numbers of a sound, T.
        rate: of them a second.

    Raises ValueError for impossible rates.
    """

    noun = "sounds"
    pictures = False

    def __init__(self, samples: PositiveInt, rate: PositiveInt, **base: Any) -> None:
        super().__init__(**base)
        check_rate(rate)
        self.samples, self.rate = samples, rate

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.samples)

    def scaled(self, stored: Tensor) -> Tensor:
        """What networks see: int16 (..., 1, T) -> float32 in [-1, 1]."""
        return to_sound(stored)

    def stored(self, samples: Tensor) -> Tensor:
        """The way back: samples (N, 1, T) as they are kept, int16."""
        return from_sound(samples)

    def check_model(self, module: Any) -> None:
        if module.augment.ada:
            raise UserError(
                f"model.ada.pipeline={module.augment.ada.pipeline}: is for images, and {type(self).__name__} has sounds"
            )
        if module.augment.policy:
            policy = ",".join(module.augment.policy)
            raise UserError(f"model.augment=[{policy}]: is for images, and {type(self).__name__} has sounds")

    def exhibit(self, samples: Tensor, module: Any = None, ema: bool = True) -> Exhibit:
        """Spectrograms of sounds (N, 1, T) in a grid, and the first of them to be heard."""
        return SoundExhibit(self.stored(samples[:SHOWN]).flatten(1).cpu(), self.rate)

    def write(self, samples: Tensor, folder: Path, prefix: str = "") -> None:
        """Sounds (N, 1, T) as files: <prefix>00000.wav, <prefix>00001.wav …"""
        for index, sound in enumerate(self.stored(samples).flatten(1).cpu().numpy()):
            write_wav(folder / f"{prefix}{index:05d}.wav", sound, self.rate)

    def description(self) -> str:
        chosen = f" of {len(self.reference):,}" if self.train is not self.reference else ""
        return f"{len(self.train):,}{chosen} sounds of {self.samples:,} samples at {self.rate:,} Hz"


class SoundExhibit:
    """Sounds int16 (N, T): a picture of their spectrograms, and the first PLAYED of them one after another."""

    def __init__(self, sounds: Tensor, rate: int) -> None:
        self.sounds, self.rate = sounds, rate

    def picture(self) -> Tensor:
        """Time to the right, mel frequencies up to half the rate upwards: uint8 (3, h, w)."""
        return spectrogram_grid(to_sound(self.sounds), self.rate)

    def save(self, stem: Path) -> None:
        from gan_lightning.data.pixels import to_picture

        to_picture(self.picture()).save(stem.with_name(f"{stem.name}.png"))
        pause = torch.zeros(len(self.sounds), self.rate // 4, dtype=torch.int16)
        played = torch.cat([self.sounds, pause], 1)[:PLAYED].flatten()
        write_wav(stem.with_name(f"{stem.name}.wav"), played.numpy(), self.rate)

    def log(self, writer: Writer, tag: str, step: int) -> None:
        writer.add_image(tag, self.picture(), step)
        for index, sound in enumerate(self.sounds[:PLAYED]):
            writer.add_audio(f"{tag}/{index}", to_sound(sound)[None], step, self.rate)


# Points of the colour map from silence to the loudest: dark blue, purple, orange, pale yellow, each lighter than the
# one before it, so that a grey print reads the same.
COLOURS = torch.tensor([[0, 0, 16], [40, 20, 90], [125, 35, 120], [205, 65, 80], [250, 145, 50], [252, 250, 190]])


def coloured(levels: Tensor) -> Tensor:
    """Numbers (...,) in [0, 1] -> colours uint8 (..., 3), linear between the points of COLOURS."""
    place = levels.clamp(0, 1) * (len(COLOURS) - 1)
    below = place.floor().long().clamp(max=len(COLOURS) - 2)
    share = (place - below)[..., None]
    return ((1 - share) * COLOURS[below] + share * COLOURS[below + 1]).round().to(torch.uint8)


def spectrogram_grid(sounds: Tensor, rate: int, columns: int | None = None) -> Tensor:
    """Log-mel spectrograms of sounds (N, T) in [-1, 1] as one picture, uint8 (3, h, w).

    One is 64 bands high and about 96 pixels wide, whatever T is.
    """
    from torchvision.utils import make_grid

    hop = max(16, 2 ** round(math.log2(sounds.shape[1] / 96)))
    levels = log_mel(sounds, rate, bands=64, window=max(256, 2 * hop), hop=hop).flip(1)  # low frequencies below
    pictures = coloured(1 - levels / math.log(FLOOR)).movedim(-1, 1)  # (N, 3, bands, frames)
    columns = columns or math.ceil(len(pictures) ** 0.5 * (64 / 96) ** 0.5)
    return make_grid(pictures, nrow=columns, padding=3, pad_value=255)


class Clips(Indexed):
    """Sounds of different lengths in memory, cut or padded with zeros at the end to one: int16 (N, 1, T).

    Args:
        samples: all sounds one after another, int16 (total,).
        starts, lengths, labels: of each of them, (N,) int64.
        size: T.
        crop: where a longer one is cut; "random": anew in every epoch, and in the middle where there is no epoch.
        offsets: where in a longer one the cut begins, (N,); None: as `crop` says without an epoch.
    """

    def __init__(
        self,
        samples: Tensor,
        starts: Tensor,
        lengths: Tensor,
        labels: Tensor,
        size: int,
        crop: Crop,
        offsets: Tensor | None = None,
    ) -> None:
        self.samples, self.starts, self.lengths, self.labels = samples, starts, lengths, labels
        self.size = size
        self.crop: Crop = crop
        spare = (lengths - size).clamp(min=0)
        self.offsets = (torch.zeros_like(spare) if crop == "first" else spare // 2) if offsets is None else offsets

    @property
    def nbytes(self) -> int:
        return self.samples.nbytes

    @property
    def each(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What there is one of for every sound, (N,) each."""
        return self.starts, self.lengths, self.labels, self.offsets

    def to(self, device: torch.device) -> "Clips":
        starts, lengths, labels, offsets = (t.to(device) for t in self.each)
        return Clips(self.samples.to(device), starts, lengths, labels, self.size, self.crop, offsets)

    def take(self, index: Tensor) -> dict[str, Tensor]:
        places = self.offsets[index][:, None] + torch.arange(self.size, device=index.device)  # (n, T)
        there = places < self.lengths[index][:, None]
        places = (self.starts[index][:, None] + places).clamp(max=len(self.samples) - 1)
        sounds = torch.where(there, self.samples[places], 0)
        return {"image": sounds.unsqueeze(1), "label": self.labels[index]}

    def subset(self, rows: Tensor) -> "Clips":
        starts, lengths, labels, offsets = (t[rows] for t in self.each)
        return Clips(self.samples, starts, lengths, labels, self.size, self.crop, offsets)

    def of_epoch(self, seed: int, epoch: int) -> "Clips":
        if self.crop != "random":
            return self
        shares = torch.rand(len(self.labels), generator=stream_of(seed, "crops", epoch)).to(self.lengths.device)
        spare = (self.lengths - self.size).clamp(min=0)
        offsets = (shares * (spare + 1)).long().clamp(max=spare)
        return Clips(self.samples, self.starts, self.lengths, self.labels, self.size, self.crop, offsets)


class SpeechFolder(Sounds):
    """Sounds of a folder: wav files of any rate and length, resampled, cut or padded.

    Longer ones are cut to `samples`, shorter ones are followed by zeros, as in WaveGAN's published code.

    Args:
        root: the folder.
        labels: classes are a part of the file names ("0_george_12.wav"), the first-level folders, or none.
        part: which part of a name, from 0; -1: the last one.
        separator: what lies between the parts of a name.
        held_out: share of the sounds that is never trained on, chosen by their names.
        crop: where longer ones are cut: anew in every epoch, in the middle, or the first samples.
        normalise: makes the loudest sample of every sound 1.
        trim: decibels below the loudest sample under which the beginning and the end of a sound count as silence and
            are cut off; None: nothing is.
    """

    key = "data.root"
    extractor = SPOKEN

    def __init__(
        self,
        root: Path,
        samples: PositiveInt = 16384,
        rate: PositiveInt = 16000,
        labels: Labels = "names",
        part: int = 0,
        separator: str = "_",
        held_out: Fraction = 0.1,
        crop: Crop = "random",
        normalise: bool = True,
        trim: PositiveFloat | None = None,
        **base: Any,
    ) -> None:
        super().__init__(samples=samples, rate=rate, **base)
        if held_out >= 1:
            raise ValueError(f"held_out={held_out}: leaves no sound to train on")
        if not separator:
            raise ValueError("separator='': names are cut at it, so it needs a character")
        self.root = expand(root)
        self.labels: Labels = labels
        self.part, self.separator = part, separator
        self.held_out_fraction = held_out
        self.crop: Crop = crop
        self.normalise = normalise
        self.trim = trim

    def check(self) -> None:
        sound_labels(sound_names(self.root, self.key), self.labels, self.part, self.separator)

    def load(self) -> tuple[Indexed, Indexed, list[str]]:
        names = sound_names(self.root, self.key)
        if line := said_of_links(self.root, self.key):
            say(line)
        said = sound_labels(names, self.labels, self.part, self.separator)
        classes = sorted(set(said)) if len(set(said)) > 1 else []
        number = {name: classes.index(label) for name, label in zip(names, said, strict=True)} if classes else {}
        # the held-out sounds have the smallest numbers and come last; the first training sounds are of all classes
        names.sort(key=hashed, reverse=True)
        sounds = [self.read(self.root / name) for name in names]
        lengths = torch.tensor([len(sound) for sound in sounds])
        labels = torch.tensor([number.get(name, 0) for name in names], dtype=torch.int64)
        samples = torch.from_numpy(np.concatenate(sounds))
        whole = Clips(samples, lengths.cumsum(0) - lengths, lengths, labels, self.samples, self.crop)
        train = len(names) - held_out_count([hashed(name) for name in names], self.held_out_fraction)
        rows = torch.arange(len(names))
        return whole.subset(rows[:train]), whole.subset(rows[train:]), classes

    def own_extractor(self) -> Extractor:
        """A classifier of spoken digits, at this rate: what it hears in other sounds tells them apart, too."""
        return spoken_digits(self.rate)

    def read(self, path: Path) -> NDArray[np.int16]:
        """A file at the data's rate, without silence at its ends and as loud as asked for: int16 (n,)."""
        samples = read_wav(path, self.rate)
        peak = float(np.abs(samples).max())
        if self.trim is not None and peak > 0:
            (loud,) = np.nonzero(np.abs(samples) >= peak * 10 ** (-self.trim / 20))
            samples = samples[loud[0] : loud[-1] + 1]
        return to_int16(samples / peak if self.normalise and peak > 0 else samples)


PITCHES = (220.0, 277.18, 329.63, 440.0, 554.37)  # Hz
NOTES = ("A3", "C#4", "E4", "A4", "C#5")
TIMBRES = ("pure", "rich")
ODD = (3, 5, 7)  # harmonics of the rich ones, all below 4 kHz


class Tones(Sounds):
    """Synthetic notes, the same for every seed: PITCHES, each pure (a sine) and rich (odd harmonics, as a clarinet's).

    Pitch, loudness, attack, decay and phase differ from note to note; faint noise lies under all.

    Args:
        count: training notes; a fifth as many are held out.
    """

    extractor = "tones"

    def __init__(
        self,
        samples: PositiveInt = 4096,
        rate: Literal[8000] = 8000,
        count: PositiveInt = 2000,
        **base: Any,
    ) -> None:
        super().__init__(samples=samples, rate=rate, **base)
        self.count = count

    def load(self) -> tuple[InMemory, InMemory, list[str]]:
        parts = []
        for name, count in (("train", self.count), ("held out", max(1, self.count // 5))):
            stream = stream_of(0, "tones", name)
            labels = torch.randint(len(PITCHES) * len(TIMBRES), (count,), generator=stream)
            notes = self.notes(labels, torch.rand(5, count, 1, generator=stream))
            notes += 0.002 * torch.randn(notes.shape, generator=stream)
            parts.append(InMemory(self.stored(notes.unsqueeze(1)), labels))
        return parts[0], parts[1], [f"{note} {timbre}" for note in NOTES for timbre in TIMBRES]

    def notes(self, labels: Tensor, draws: Tensor) -> Tensor:
        """Notes (n, T) of these classes (n,), without noise; draws (5, n, 1) in [0, 1] say how each is played."""
        detuned, loud, attack, decay, phase = draws
        pitch = torch.tensor(PITCHES)[labels // 2][:, None] * (1 + 0.02 * (detuned - 0.5))  # (n, 1)
        rich = (labels % 2)[:, None]
        share = torch.arange(self.samples) / self.samples  # of the sound's length, (T,)
        angle = 2 * math.pi * (pitch * share * self.samples / self.rate + phase)
        overtones = torch.stack([torch.sin(order * angle) / order for order in ODD]).sum(0)
        rising = (share / (0.01 + 0.05 * attack)).clamp(max=1)
        return (
            (0.5 + 0.5 * loud)
            * rising
            * torch.exp(-share / (0.2 + 0.3 * decay))
            * (torch.sin(angle) + rich * overtones)
        )

    def own_extractor(self) -> Extractor:
        """Features and classes by what the notes are made of: nothing is learned."""
        classes = torch.arange(len(PITCHES) * len(TIMBRES))
        network = NearestTone(self.notes(classes, torch.full((5, len(classes), 1), 0.5)), self.rate)
        return Extractor(network, "tones", "1", lambda sounds: to_sound(sounds.flatten(1)))


class NearestTone(nn.Module):
    """Sounds (N, T) -> logarithms of their power in mel bands, as shares of all of it, (N, BANDS), and minus the
    distances of those to the templates' (classes, T)."""

    BANDS = 32
    centres: Tensor

    def __init__(self, templates: Tensor, rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("centres", self.shares(templates))

    def shares(self, sounds: Tensor) -> Tensor:
        power = log_mel(sounds, self.rate, self.BANDS, window=512, hop=256).exp().mean(2)  # (N, BANDS)
        return (power / power.sum(1, keepdim=True)).clamp(min=1e-3).log()

    def forward(self, sounds: Tensor) -> tuple[Tensor, Tensor]:
        features = self.shares(sounds)
        return features, -torch.cdist(features, self.centres)
