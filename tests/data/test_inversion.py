"""Spectrograms and back: levels and filters by naive formulas, frequencies that stay, phases that agree better."""

import math

import pytest
import torch
from torch import Tensor

from gan_lightning.data.inversion import (
    DECIBELS,
    MelScale,
    frequency_powers,
    griffin_lim,
    mel_levels,
    mel_sounds,
)
from gan_lightning.data.spectrograms import mel_filters

SCALE = MelScale(rate=8000, bands=64, window=512, hop=96)


def sine(frequency: float, samples: int = 4032, amplitude: float = 1.0) -> Tensor:
    return amplitude * torch.sin(2 * math.pi * frequency * torch.arange(samples) / SCALE.rate)


def chirps(count: int = 3) -> Tensor:
    """Overtones that glide, and noise: (count, 4032)."""
    stream, time = torch.Generator().manual_seed(0), torch.arange(4032) / SCALE.rate
    glide = torch.stack([(100 + 30 * n) * time * (1 + time) for n in range(count)])
    waves = sum((torch.sin(2 * math.pi * order * glide) / order for order in range(1, 12)), torch.zeros(1))
    return waves / 3 + 0.003 * torch.randn(count, 4032, generator=stream)


def test_filters_are_triangles_even_on_the_mel_scale() -> None:
    """O'Shaughnessy 1987: 2595 log₁₀(1 + f / 700); written out frequency by frequency."""
    found = mel_filters(8000, 512, 20)
    top = 2595 * math.log10(1 + 4000 / 700)
    edges = [700 * (10 ** (top * number / 21 / 2595) - 1) for number in range(22)]
    for band in range(20):
        low, middle, high = edges[band : band + 3]
        for place in range(257):
            frequency, expected = place * 8000 / 512, 0.0
            if low < frequency <= middle:
                expected = (frequency - low) / (middle - low)
            elif middle < frequency < high:
                expected = (high - frequency) / (high - middle)
            assert float(found[band, place]) == pytest.approx(expected, abs=1e-6)


def test_levels_are_decibels() -> None:
    """About 0 dB, a full sine, is 1; -80 dB is -1; half as loud is 6.02 dB less."""
    frequency = float(mel_filters(8000, 512, 64)[30].argmax()) * 8000 / 512
    loud, quiet = (mel_levels(sine(frequency, amplitude=amplitude)[None], SCALE) for amplitude in (0.5, 0.25))
    middle = loud.shape[-1] // 2
    assert loud.shape == (1, 64, 4032 // 96 + 1)
    assert float(loud[0, :, middle].max()) == pytest.approx(1 - 6.02 * 2 / DECIBELS, abs=0.05)
    difference = (loud - quiet)[0, int(loud[0, :, middle].argmax()), middle]
    assert float(difference) * DECIBELS / 2 == pytest.approx(6.0206, abs=0.01)
    assert torch.equal(mel_levels(torch.zeros(1, 960), SCALE), torch.full((1, 64, 11), -1.0))
    assert torch.equal(mel_sounds(torch.full((1, 64, 11), -1.0), SCALE), torch.zeros(1, 960))


@pytest.mark.parametrize("frequency", [250.0, 440.0, 1000.0, 2500.0])
def test_a_tone_keeps_its_frequency(frequency: float) -> None:
    levels = mel_levels(sine(frequency)[None], SCALE)
    again = mel_sounds(levels, SCALE)
    assert again.shape == (1, 4032)
    found = float(torch.fft.rfft(again[0]).abs().argmax()) * 8000 / 4032
    filters = mel_filters(8000, 512, 64)
    band = int(filters[:, round(frequency * 512 / 8000)].argmax())
    width = int((filters[band] > 0).sum()) * 8000 / 512  # a band says no more than that
    assert abs(found - frequency) <= width / 2


def test_a_sound_comes_back_with_its_spectrogram() -> None:
    levels = mel_levels(chirps(), SCALE)
    distance = (mel_levels(mel_sounds(levels, SCALE), SCALE) - levels).abs()[levels > -0.25] * DECIBELS / 2
    assert distance.mean() < 1.5  # dB; 0.7 of recordings
    assert (levels.flip(2) - levels).abs()[levels > -0.25].mean() * DECIBELS / 2 > 5
    one = mel_sounds(levels[:1], SCALE)
    assert torch.equal(one, mel_sounds(levels[:1], SCALE))
    assert torch.equal(one[:, :1000], mel_sounds(levels[:1], SCALE, 1000))


def test_powers_of_frequencies_fill_the_bands() -> None:
    powers = torch.rand(2, 257, 5, generator=torch.Generator().manual_seed(0)) ** 4
    filters = mel_filters(8000, 512, 64)
    bands = filters @ powers
    found = frequency_powers(bands, SCALE)
    assert found.min() >= 0
    torch.testing.assert_close(filters @ found, bands, rtol=0.05, atol=1e-3)
    assert (filters @ frequency_powers(bands, SCALE, steps=1) - bands).abs().mean() > (
        3 * (filters @ found - bands).abs().mean()
    )
    assert torch.equal(frequency_powers(torch.zeros(1, 64, 3), SCALE), torch.zeros(1, 257, 3))


def test_phases_agree_better_step_by_step_and_with_momentum() -> None:
    window = torch.hann_window(512)

    def magnitudes(sounds: Tensor) -> Tensor:
        return torch.stft(sounds, 512, 96, window=window, pad_mode="constant", return_complex=True).abs()

    wanted = magnitudes(chirps())

    def error(steps: int, momentum: float = 0.99) -> float:
        found = griffin_lim(wanted, 512, 96, steps=steps, momentum=momentum)
        assert found.shape == (3, 4032)
        return float((magnitudes(found) - wanted).norm() / wanted.norm())

    assert error(60) < 0.6 * error(10) < 0.6 * error(1)
    assert error(60) < 0.8 * error(60, momentum=0)
    plain = [error(steps, momentum=0) for steps in (1, 5, 20, 60)]
    assert plain == sorted(plain, reverse=True)  # Griffin & Lim 1984: it never grows
    one, other = (griffin_lim(wanted, 512, 96, steps=3, seed=seed) for seed in (0, 1))
    assert not torch.equal(one, other)
