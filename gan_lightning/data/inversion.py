"""Speech as pictures and back: log-mel spectrograms in [-1, 1], and sounds whose spectrograms they are.

A spectrogram has no phases, and its bands are wider than frequencies: what comes back sounds like the recording, but
is not it. Powers of frequencies are found with non-negative numbers alone; phases with Griffin & Lim 1984's iteration,
made faster by Perraudin, Balazs & Søndergaard 2013.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_lightning.data.spectrograms import log_mel, mel_filters

DECIBELS = 80.0  # from black to white; a full sine has 0, or up to 2 more in a wide band
QUIETEST = 10 ** (-DECIBELS / 10)  # power of -1
UNMIXING_STEPS = 100
PHASE_STEPS = 60
MOMENTUM = 0.99  # Perraudin et al. 2013, section 4


@dataclass(frozen=True)
class MelScale:
    """How spectrograms are made: samples a second, bands, and the length and distance of windows in samples."""

    rate: int
    bands: int
    window: int
    hop: int

    def frames(self, samples: int) -> int:
        """Windows around every `hop`-th sample, the first and the last one among them."""
        return samples // self.hop + 1


def mel_levels(sounds: Tensor, scale: MelScale) -> Tensor:
    """Sounds (N, T) in [-1, 1] -> (N, bands, T // hop + 1) in [-1, 1]: decibels, -80 is -1 and 0 is 1."""
    found = log_mel(sounds, scale.rate, scale.bands, scale.window, scale.hop, QUIETEST)
    return (1 - 2 * found / math.log(QUIETEST)).clamp(-1, 1)


def mel_sounds(levels: Tensor, scale: MelScale, samples: int | None = None) -> Tensor:
    """The way back: (N, bands, frames) in [-1, 1] -> sounds (N, samples) in [-1, 1].

    samples: at most (frames - 1) · hop, which is the default. What is darkest is silent. The same levels make the same
    sounds.
    """
    power = (((1 - levels.float()) / 2 * math.log(QUIETEST)).exp() - QUIETEST).clamp(min=0)  # (N, bands, frames)
    amplitudes = frequency_powers(power, scale).sqrt()  # of sines
    magnitudes = amplitudes * torch.hann_window(scale.window).sum().item() / 2  # as torch.stft has them
    return griffin_lim(magnitudes, scale.window, scale.hop, samples).clamp(-1, 1)


def frequency_powers(bands: Tensor, scale: MelScale, steps: int = UNMIXING_STEPS) -> Tensor:
    """Powers in bands (N, bands, frames) -> powers of frequencies (N, window / 2 + 1, frames), none below 0.

    Lee & Seung 2001's multiplicative steps towards the smallest Kullback–Leibler divergence, theorem 2, from one power
    for all frequencies on: quiet bands count as much as loud ones, for what they are.
    """
    filters = mel_filters(scale.rate, scale.window, scale.bands).to(bands)  # (bands, window / 2 + 1)
    reach = filters.sum(0)[:, None]  # (window / 2 + 1, 1); 0 where no band listens
    found = (reach > 0).to(bands) * bands.mean(1, keepdim=True)  # (N, window / 2 + 1, frames)
    tiny = torch.finfo(bands.dtype).tiny
    for _ in range(steps):
        found = found * (filters.T @ (bands / (filters @ found).clamp(min=tiny))) / reach.clamp(min=tiny)
    return found


def griffin_lim(
    magnitudes: Tensor,
    window: int,
    hop: int,
    samples: int | None = None,
    steps: int = PHASE_STEPS,
    momentum: float = MOMENTUM,
    seed: int = 0,
) -> Tensor:
    """Magnitudes of torch.stft with a Hann window (N, window / 2 + 1, frames) -> sounds (N, samples).

    Phases begin at random (`seed`), and again and again become those of the sound that is nearest; with momentum 0 as
    Griffin & Lim 1984 did it, equation 6. samples: at most (frames - 1) · hop, which is the default.
    """
    length = (magnitudes.shape[-1] - 1) * hop
    shape = torch.hann_window(window, device=magnitudes.device)
    stream = torch.Generator().manual_seed(seed)
    turns = torch.rand(magnitudes.shape[1:], generator=stream).to(magnitudes)  # the same for every sound
    phases = torch.polar(torch.ones_like(turns), 2 * math.pi * turns).expand_as(magnitudes)

    def sound() -> Tensor:
        return torch.istft(magnitudes * phases, window, hop, window=shape, length=length)

    before: Tensor | None = None
    for _ in range(steps):
        found = torch.stft(sound(), window, hop, window=shape, pad_mode="constant", return_complex=True)
        moved = found if before is None else found + momentum * (found - before)
        before = found
        phases = moved / moved.abs().clamp(min=torch.finfo(magnitudes.dtype).tiny)
    return sound()[:, :samples]
