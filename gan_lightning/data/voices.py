"""Recordings of two speakers without pairs, as spectrograms: what CycleGAN makes of images, made of voices.

A sample is a square picture of one channel: mel bands, the highest in the first line, over as many moments. Kaneko &
Kameoka 2018 ("CycleGAN-VC") translate spectral envelopes and a vocoder does the rest; here it is whole spectrograms,
and Griffin-Lim's iteration that makes sounds of them.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gan_lightning.data.base import say
from gan_lightning.data.image_folder import held_out_count
from gan_lightning.data.inversion import MelScale, mel_levels, mel_sounds
from gan_lightning.data.listing import hashed, said_of_links
from gan_lightning.data.pixels import grid, panels, to_picture
from gan_lightning.data.sets import ImageSet, InMemory
from gan_lightning.data.translation import Pairs, Translation, Unpaired
from gan_lightning.data.wav import check_rate, read_wav, sound_names, to_int16, write_wav
from gan_lightning.draws import generator as stream_of
from gan_lightning.errors import UserError
from gan_lightning.exhibits import Exhibit, Writer
from gan_lightning.paths import expand
from gan_lightning.types import Fraction, PositiveInt

PLAYED = 4  # samples of an exhibit that can be heard
PAUSE = 0.2  # seconds between what is heard one after another
BLOCK = 64  # spectrograms made at once


class SpokenPictures(Translation):
    """Spectrograms of `image_size` bands and moments. A subclass says whose.

    Args:
        rate: samples a second.
        window, hop: length and distance of the windows, in samples; a picture is of (image_size - 1) · hop samples.

    Raises ValueError for windows that leave gaps and impossible rates.
    """

    kind = "unpaired"
    noun = "spectrograms"
    extractor = None  # classifiers of objects have nothing to say about them

    def __init__(
        self,
        image_size: PositiveInt = 64,
        rate: PositiveInt = 8000,
        window: PositiveInt = 512,
        hop: PositiveInt = 96,
        channels: Literal[1] = 1,
        flip: Literal[False] = False,  # nobody speaks backwards
        **base: Any,
    ) -> None:
        super().__init__(image_size=image_size, channels=channels, flip=flip, **base)
        check_rate(rate)
        if window % 2:
            raise ValueError(f"window={window}: must be even")
        if 2 * hop > window:
            raise ValueError(f"hop={hop}: at most half of window={window}, or there are samples that no window hears")
        self.scale = MelScale(rate, image_size, window, hop)
        self.rate = rate
        self.samples = (image_size - 1) * hop

    def pictures_of(self, sounds: Tensor) -> Tensor:
        """Sounds (N, T) in [-1, 1] -> (N, 1, bands, T // hop + 1) in [-1, 1], the highest band first."""
        return torch.cat([mel_levels(part, self.scale) for part in sounds.split(BLOCK)]).flip(1).unsqueeze(1)

    def sounds_of(self, pictures: Tensor, samples: int | None = None) -> Tensor:
        """The way back: (N, 1, bands, frames) in [-1, 1] -> sounds (N, samples)."""
        levels = pictures.detach().float().cpu().squeeze(1).flip(1)
        return torch.cat([mel_sounds(part, self.scale, samples) for part in levels.split(BLOCK)])

    def exhibit(self, samples: Tensor, module: Any = None, ema: bool = True) -> Exhibit:
        """Panels, as of images, and the first rows of them to be heard: each of its columns one after another."""
        columns = [samples] if module is None else module.columns(samples, ema)
        heard = [self.sounds_of(column[:PLAYED]) for column in columns]
        picture = grid(samples) if len(columns) == 1 else panels(columns)
        return SpokenExhibit(picture, heard, self.rate)

    def write(self, images: Tensor, folder: Path, prefix: str = "") -> None:
        """Sounds of samples (N, 1, H, W) as files: <prefix>00000.wav, <prefix>00001.wav …"""
        for index, sound in enumerate(self.sounds_of(images)):
            write_wav(folder / f"{prefix}{index:05d}.wav", to_int16(sound.numpy()), self.rate)


class SpokenExhibit:
    """A picture, uint8 (3, h, w), and columns of sounds (n, T), the i-th ones of which belong together."""

    def __init__(self, picture: Tensor, columns: Sequence[Tensor], rate: int) -> None:
        self.picture, self.rate = picture, rate
        padded = torch.stack([functional.pad(sounds, (0, round(PAUSE * rate))) for sounds in columns], 1)
        self.rows = padded.flatten(1)  # (n, columns · (T + pause))

    def save(self, stem: Path) -> None:
        to_picture(self.picture).save(stem.with_name(f"{stem.name}.png"))
        write_wav(stem.with_name(f"{stem.name}.wav"), to_int16(self.rows.flatten().numpy()), self.rate)

    def log(self, writer: Writer, tag: str, step: int) -> None:
        writer.add_image(tag, self.picture, step)
        for index, row in enumerate(self.rows):
            writer.add_audio(f"{tag}/{index}", row[None], step, self.rate)


def loudest(samples: NDArray[np.float32]) -> float:
    """What a recording is divided by, so that how loud it is says nothing: 1 of silence."""
    return float(np.abs(samples).max()) or 1.0


def pieces(samples: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """A recording (n,) in pieces (k, size) that cover it as nearly as whole ones can: evenly from its beginning to its
    end, or one from its middle; a shorter one has silence before and after it."""
    spare = len(samples) - size
    if spare < 0:
        return np.pad(samples, (-spare // 2, -spare - -spare // 2))[None]
    count = max(1, round(len(samples) / size))
    starts = np.linspace(0, spare, count).round().astype(int) if count > 1 else [spare // 2]
    return np.stack([samples[start : start + size] for start in starts])


def form_of(pattern: str) -> re.Pattern[str]:
    """What names must be like: words in braces stand for anything but a "/". Raises ValueError for one without
    {speaker}."""
    parts = re.split(r"\{([a-z]+)\}", pattern)  # text, word, text, word, … text
    if "speaker" not in parts[1::2] or len(set(parts[1::2])) < len(parts[1::2]):
        raise ValueError(f"names={pattern}: needs {{speaker}}, and every word once: {{label}}_{{speaker}}_{{index}}")
    texts = [f"(?P<{part}>[^/]+?)" if number % 2 else re.escape(part) for number, part in enumerate(parts)]
    return re.compile("".join(texts))


def fields_of(name: str, pattern: str) -> dict[str, str]:
    """What a file's name says: for each word in braces of the pattern, such as {speaker}, what stands there.

    The pattern is of the whole path below the folder where it has a "/", otherwise of the file's name; without the
    suffix. Raises UserError for names that are different.
    """
    path = PurePosixPath(name).with_suffix("")
    matched = form_of(pattern).fullmatch(str(path) if "/" in pattern else path.name)
    if matched is None:
        raise UserError(f"data.names={pattern}: {name} is not named so")
    return matched.groupdict()


class Voices(SpokenPictures):
    """Spectrograms of the target's recordings as "image" and of the source's as "input", drawn by themselves.

    An epoch has every piece of the one who has more of them once, and those of the other in an order of their own.

    Args:
        root: a folder of recordings (wav files of any rate) whose names say who speaks, by the pattern `names`; of
        source, target: who is given and who is made; or else
        root_a, root_b: folders of the two.
        held_out: share of the recordings of each that is never trained on, chosen by their names.
    """

    truth = False

    def __init__(
        self,
        root: Path | None = None,
        source: str | None = None,
        target: str | None = None,
        root_a: Path | None = None,
        root_b: Path | None = None,
        names: str = "{label}_{speaker}_{index}",
        held_out: Fraction = 0.1,
        domains: Sequence[str] | None = None,
        **base: Any,
    ) -> None:
        if root is not None and root_a is None and root_b is None:
            if source is None or target is None:
                raise UserError(f"data.root={root}: needs data.source and data.target, two of its speakers")
            self.parts = [(expand(root), "data.root", source), (expand(root), "data.root", target)]
        elif root is None and root_a is not None and root_b is not None:
            for key, speaker in (("source", source), ("target", target)):
                if speaker is not None:
                    raise UserError(f"data.{key}={speaker}: is for one folder, data.root; of two each is a speaker's")
            self.parts = [(expand(root_a), "data.root_a", None), (expand(root_b), "data.root_b", None)]
        else:
            raise UserError("data.root: must be given, one folder; or else both data.root_a and data.root_b")
        if self.parts[0] == self.parts[1]:
            raise UserError(f"data.target={target}: is the source, too; choose two speakers")
        if root_a is not None and self.parts[0][0].resolve() == self.parts[1][0].resolve():
            raise UserError(f"data.root_b={root_b}: is data.root_a, too; choose two speakers' folders")
        form_of(names)
        if held_out >= 1:
            raise ValueError(f"held_out={held_out}: leaves nothing to train on")
        who = [speaker or folder.name for folder, _, speaker in self.parts]
        super().__init__(domains=domains or who, **base)
        self.pattern = names
        self.held_out_fraction = held_out

    def files(self, part: int) -> list[str]:
        """The recordings of the source (0) or the target (1), below their folder. Raises UserError for none."""
        folder, key, speaker = self.parts[part]
        names = sound_names(folder, key)
        if speaker is None:
            return names
        speakers: dict[str, list[str]] = {}
        for name in names:
            speakers.setdefault(fields_of(name, self.pattern)["speaker"], []).append(name)
        if speaker not in speakers:
            said = ("data.source", "data.target")[part]
            there = ", ".join(sorted(speakers))
            raise UserError(f"{said}={speaker}: nobody of that name in {folder}; there are {there}")
        return speakers[speaker]

    def check(self) -> None:
        for part in (0, 1):
            self.files(part)

    def recordings(self, part: int) -> tuple[list[str], list[str]]:
        """The source's (0) or the target's (1) files to train on and those held out."""
        names = sorted(self.files(part), key=hashed, reverse=True)
        train = len(names) - held_out_count([hashed(name) for name in names], self.held_out_fraction)
        return names[:train], names[train:]

    def heard(self, part: int, names: Sequence[str]) -> Tensor:
        """Pieces of these recordings of the source (0) or the target (1), (n, samples) in [-1, 1], the loudest ±1."""
        folder = self.parts[part][0]
        every = [np.zeros((0, self.samples), np.float32)]
        for name in names:
            recording = read_wav(folder / name, self.rate)
            every.append(pieces(recording / loudest(recording), self.samples))
        return torch.from_numpy(np.concatenate(every).astype(np.float32))

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        self.check()
        for folder, key in dict.fromkeys((folder, key) for folder, key, _ in self.parts):
            if line := said_of_links(folder, key):
                say(line)
        (train_a, held_out_a), (train_b, held_out_b) = (
            [InMemory(self.stored(self.pictures_of(self.heard(part, names)))) for names in self.recordings(part)]
            for part in (0, 1)
        )
        if not (len(held_out_a) and len(held_out_b)):  # nothing to translate, or nothing to compare with
            held_out_a, held_out_b = (InMemory(held.images[:0]) for held in (held_out_a, held_out_b))
        return Unpaired(train_b, train_a), Unpaired(held_out_b, held_out_a), []


NOTES = 12  # from A3 on, half tones
FEWEST_TONES, MOST_TONES = 2, 5
HISS = 0.003  # as loud as that of a recording: between overtones there is never nothing


class SyntheticVoices(SpokenPictures):
    """Two instruments instead of speakers, which play melodies; no files, and the same for every seed.

    A has all overtones, quickly weaker ones; B has the odd ones alone, hardly weaker. No training melody of A is one of
    B. Low notes are more frequent: without pairs, only this says that high ones are not to become low ones. The
    held-out melodies are played by both, so that a translation can be compared with the truth.

    Args:
        count: training melodies of each; a fifth as many are held out.
    """

    truth = True

    def __init__(
        self,
        count: PositiveInt = 400,
        domains: Sequence[str] = ("flute", "reed"),
        **base: Any,
    ) -> None:
        super().__init__(domains=domains, **base)
        if self.rate < 8000:
            raise ValueError(f"rate={self.rate}: the overtones reach up to 4,000 Hz, so it must be 8000 or more")
        self.count = count

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        melodies = {
            name: self.melodies(count, stream_of(0, "voices", name))
            for name, count in (("a", self.count), ("b", self.count), ("held out", max(1, self.count // 5)))
        }
        a, b, held_a, held_b = (
            self.stored(self.pictures_of(self.played(*melodies[name], reed)))
            for name, reed in (("a", False), ("b", True), ("held out", False), ("held out", True))
        )
        pairs = Pairs(InMemory(torch.cat([held_b, held_a], 1)), self.channels)
        return Unpaired(InMemory(b), InMemory(a)), pairs, []

    def melodies(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Frequencies and loudness of melodies at every sample, (count, samples): tones of different lengths."""
        tones = torch.randint(FEWEST_TONES, MOST_TONES + 1, (count, 1), generator=stream)
        lengths = torch.rand(count, MOST_TONES, generator=stream) + 0.5
        lengths = lengths * (torch.arange(MOST_TONES) < tones)
        ends = 0.1 + 0.8 * lengths.cumsum(1) / lengths.sum(1, keepdim=True)  # of all the time: silence before and after
        time = (torch.arange(self.samples) / self.samples).expand(count, -1).contiguous()
        number = torch.searchsorted(ends, time).clamp(max=MOST_TONES - 1)
        number = torch.minimum(number, tones - 1)  # (count, samples)
        notes = (NOTES * torch.rand(count, MOST_TONES, generator=stream).square()).long()  # (count, tones), mostly low
        begins = functional.pad(ends, (1, 0), value=0.1)[:, :-1]
        since, left = time - begins.gather(1, number), ends.gather(1, number) - time
        fade = 0.02
        loudness = (torch.minimum(since, left) / fade).clamp(0, 1)
        return 220 * 2 ** (notes.gather(1, number) / 12), loudness

    def played(self, frequencies: Tensor, loudness: Tensor, reed: bool) -> Tensor:
        """Sounds (N, samples) of a melody, the loudest sample ±1; `reed`: B's instrument."""
        angle = 2 * math.pi * (frequencies.double() / self.rate).cumsum(1)
        orders = range(1, 10, 2) if reed else range(1, 10)
        waves = sum((torch.sin(order * angle) * order ** (-0.5 if reed else -2.0) for order in orders), torch.zeros(1))
        waves = (waves * loudness).float()
        hiss = HISS * torch.randn(waves.shape, generator=stream_of(0, "voices", "hiss"))
        return waves / waves.abs().amax(1, keepdim=True) + hiss
