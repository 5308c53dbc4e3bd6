"""Who speaks after a conversion, and what is said: python -m benchmarks.voices CHECKPOINT [data.key=…] …

The held-out recordings of a run's own data (`Voices`), whole, converted as `translate` does it, are listened to by two
networks that know nothing of the GAN: which of the two speakers it is, and, where file names have a {label}, which one.
A small network has learned the speakers of the training recordings. Labels 0 to 9 are heard by `spoken_digits`, the
classifier that scores are made with: of the Free Spoken Digit Dataset it has never heard what data.held_out up to 0.2
holds out, as files are held out by their names. Other labels are learned of the training recordings, too.

Rows: recordings as they are; the same through a spectrogram and Griffin-Lim's iteration, which is what conversions must
be compared with; conversions; and what comes back of those. Of instruments (`SyntheticVoices`), who plays is told in
the same way; `evaluate` has L1 to the truth.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.throughput import table
from gan_lightning.commands.loading import choose_device, load_data, load_module, stored_config
from gan_lightning.commands.spoken import converted
from gan_lightning.data.sounds import from_sound
from gan_lightning.data.voices import SpokenPictures, SyntheticVoices, Voices, fields_of, loudest, pieces
from gan_lightning.data.wav import read_wav, to_int16, write_wav
from gan_lightning.errors import UserError
from gan_lightning.metrics.classifiers import convolution
from gan_lightning.metrics.extractors import spoken_digits
from gan_lightning.translation import Translator

EPOCHS = 25
DIGITS = tuple("0123456789")  # the classes of spoken_digits
Change = Callable[[Tensor], Tensor]  # a recording (n,) -> another one (n,)
Heard = Callable[[Sequence["Recording"]], list[str]]  # the label of each


class Recording(NamedTuple):
    """Its samples (n,), who speaks (0: the source), and what its name says is said; "" where it says nothing."""

    samples: Tensor
    speaker: int
    label: str
    name: str


class Listener(nn.Module):
    """Spectrograms (N, 1, bands, frames) -> logits (N, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(1, 16, 5, 2),
            nn.ReLU(),
            convolution(16, 32, 3, 2),
            nn.ReLU(),
            convolution(32, 64, 3, 2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((4, 4)),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * 16, classes),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures)


def pictures_of(recordings: Sequence[Recording], data: SpokenPictures) -> Tensor:
    """One spectrogram of each, as in training, the loudest sample ±1: (N, 1, bands, frames)."""
    sounds = [recording.samples.numpy().astype(np.float32) for recording in recordings]
    cut = [pieces(sound / np.float32(loudest(sound)), data.samples)[0] for sound in sounds]
    return data.pictures_of(torch.from_numpy(np.stack(cut)))


def listener(pictures: Tensor, classes: Tensor, count: int, seed: int = 0) -> Listener:
    """A network that has learned the classes (N,) of pictures (N, 1, H, W), which are moved a little in time."""
    torch.manual_seed(seed)
    network = Listener(count)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    steps = EPOCHS * -(-len(pictures) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(pictures)).split(32):
            shift = int(torch.randint(-8, 9, ()))
            loss = functional.cross_entropy(network(pictures[rows].roll(shift, 3)), classes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def digits_heard(recordings: Sequence[Recording], rate: int) -> list[str]:
    """Which digits `spoken_digits` hears, in what it listens to: a little more than the first second."""
    extractor = spoken_digits(rate)
    size = max(len(recording.samples) for recording in recordings)
    sounds = torch.stack(
        [functional.pad(recording.samples, (0, size - len(recording.samples))) for recording in recordings]
    )
    logits = extractor(from_sound(sounds.float().unsqueeze(1)))[1]
    assert logits is not None
    return [DIGITS[number] for number in logits.argmax(1).tolist()]


def learned_labels(recordings: Sequence[Recording], data: SpokenPictures) -> Heard | None:
    """What tells labels from one another; None where there are fewer than two."""
    labels = sorted({recording.label for recording in recordings} - {""})
    if len(labels) < 2:
        return None
    if set(labels) <= set(DIGITS):
        return partial(digits_heard, rate=data.rate)
    numbers = torch.tensor([labels.index(recording.label) for recording in recordings])
    with torch.enable_grad():
        network = listener(pictures_of(recordings, data), numbers, len(labels))
    return lambda group: [labels[number] for number in network(pictures_of(group, data)).argmax(1).tolist()]


def recordings_of(data: SpokenPictures, part: int) -> list[Recording]:
    """Of both speakers: to learn from (0), or held out (1)."""
    if isinstance(data, SyntheticVoices):
        melodies = data.train if part == 0 else data.held_out
        found = melodies.__getitems__(range(len(melodies)))
        sounds = [data.sounds_of(data.scaled(found[key])) for key in ("input", "image")]
        return [Recording(sound, who, "", str(n)) for who in (0, 1) for n, sound in enumerate(sounds[who])]
    assert isinstance(data, Voices)
    found_recordings = []
    for who in (0, 1):
        for name in data.recordings(who)[part]:
            said = fields_of(name, data.pattern).get("label", "") if data.parts[who][2] else ""
            samples = torch.from_numpy(read_wav(data.parts[who][0] / name, data.rate))
            found_recordings.append(Recording(samples, who, said, name))
    return found_recordings


@torch.no_grad()
def compare(module: Translator, data: SpokenPictures, output: Path | None = None) -> list[list[str]]:
    """Rows of the table; `output`: a folder for the held-out recordings, converted ones and those that came back."""
    learned, held_out = recordings_of(data, 0), recordings_of(data, 1)
    with torch.enable_grad():
        speakers = torch.tensor([recording.speaker for recording in learned])
        who = listener(pictures_of(learned, data), speakers, 2)
    what = learned_labels(learned, data)
    change: dict[str, Change] = {}
    for direction in ("a2b", "b2a"):
        network = module.translating(True, direction)
        multiple = getattr(network, "multiple", 1)
        change[direction] = partial(_converted, network, data, module.device, multiple)
    through = partial(_converted, nn.Identity(), data, torch.device("cpu"), 1)
    rows = []
    for speaker, direction, back in ((0, "a2b", "b2a"), (1, "b2a", "a2b")):
        own, other = data.domains[speaker], data.domains[1 - speaker]
        said = [recording for recording in held_out if recording.speaker == speaker]
        again = [recording._replace(samples=through(recording.samples)) for recording in said]
        made = [recording._replace(samples=change[direction](recording.samples)) for recording in said]
        returned = [recording._replace(samples=change[back](recording.samples)) for recording in made]
        named = {
            f"{own}, recordings": said,
            f"{own}, through a spectrogram": again,
            f"{own} → {other}": made,
            f"{own} → {other} → {own}": returned,
        }
        original = pictures_of(said, data)
        for name, group in named.items():
            heard = pictures_of(group, data)
            target = (who(heard).argmax(1) == 1).double().mean()
            right = "–"
            if what is not None:
                said_rightly = [one == recording.label for one, recording in zip(what(group), group, strict=True)]
                right = f"{sum(said_rightly) / len(group):.1%}"
            distance = (heard - original).abs().mean() * 40  # dB: 2 are 80
            rows.append([name, str(len(group)), f"{target:.1%}", right, f"{distance:.2f}"])
            if output:
                folder = output / name.replace(", ", "_").replace(" → ", "_to_").replace(" ", "_")
                folder.mkdir(parents=True, exist_ok=True)
                for recording in group:
                    file = folder / f"{Path(recording.name).stem}.wav"
                    write_wav(file, to_int16(recording.samples.numpy()), data.rate)
    return rows


def _converted(
    network: nn.Module, data: SpokenPictures, device: torch.device, multiple: int, samples: Tensor
) -> Tensor:
    return converted(network, data, samples, device, multiple)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("benchmarks.voices", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a run's folder or a .ckpt")
    parser.add_argument("moved", nargs="*", help="where its data has moved: data.root=…")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "gpu"], default="auto")
    parser.add_argument("--output", type=Path, help="a folder for the sounds")
    options = parser.parse_args(arguments)
    config = stored_config(options.checkpoint, options.moved)
    module = load_module(options.checkpoint, config).to(choose_device(options.accelerator))
    data = load_data(config)
    if not (isinstance(module, Translator) and isinstance(data, SpokenPictures)):
        raise UserError(f"checkpoint={options.checkpoint}: no translator of voices")
    if not len(data.held_out):
        raise UserError("data.held_out=0: there are no recordings to judge by")
    rows = compare(module, data, options.output)
    print(f"after {module.counters.generator_steps:,} steps, {module.counters.images:,} pieces:\n")
    header = ["", "held out", f"taken for {data.domains[1]}", "label heard", "dB from the recording"]
    print("\n".join(table(header, rows)))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"benchmarks.voices: {error}")
