"""Log-mel spectrograms: what people and classifiers see of sounds."""

from functools import lru_cache

import torch
from torch import Tensor

FLOOR = 1e-5  # of the power in a band, where a full sine has about 1: the darkest colour


@lru_cache(maxsize=16)
def mel_filters(rate: int, window: int, bands: int) -> Tensor:
    """Triangles even on the mel scale from 0 to half the rate, (bands, window / 2 + 1).

    Mel 2595 log₁₀(1 + f / 700) (O'Shaughnessy 1987). A triangle narrower than the distance of two frequencies still
    sees the nearest of them.
    """
    top = 2595 * torch.tensor(1 + rate / 2 / 700, dtype=torch.float64).log10()
    edges = 700 * (10 ** (torch.linspace(0, 1, bands + 2, dtype=torch.float64) * top / 2595) - 1)
    frequencies = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle)).clamp(min=0)
    nearest = (frequencies - middle).abs().argmin(1)
    empty = triangles.sum(1) == 0
    triangles[empty, nearest[empty]] = 1
    return triangles.float()


def log_mel(
    sounds: Tensor, rate: int, bands: int = 64, window: int = 256, hop: int = 64, floor: float = FLOOR
) -> Tensor:
    """Sounds (N, T) in [-1, 1] -> natural logarithms of the power in bands over time, (N, bands, frames).

    Hann windows around every `hop`-th sample, T // hop + 1 frames; no lower than log `floor`.
    """
    shape = torch.hann_window(window, device=sounds.device)
    spectrum = torch.stft(sounds, window, hop, window=shape, center=True, pad_mode="constant", return_complex=True)
    power = (spectrum.abs() * (2 / shape.sum())).square()  # (N, window / 2 + 1, frames); a full sine: 1
    return (mel_filters(rate, window, bands).to(sounds.device) @ power).clamp(min=floor).log()
