"""Smoothing, upsampling and downsampling are SciPy's upfirdn."""

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn
from torch import Tensor

from gan_lightning.networks import filters

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TAPS = np.array(filters.TAPS) / sum(filters.TAPS)


def by_scipy(images: Tensor, up: int, down: int, gain: float, before: int, after: int) -> Tensor:
    """Zero insertion, filter and decimation along each axis; what the padding adds is cut or filled by the offset."""
    x = images.double().numpy()
    for axis in (2, 3):
        padding = [(0, 0)] * 4
        stretched = np.repeat(np.zeros_like(x), up, axis)
        stretched[(slice(None),) * axis + (slice(None, None, up),)] = x
        padding[axis] = (before, after)
        x = np.pad(stretched, padding)
        x = upfirdn(TAPS * gain, x, 1, 1, axis=axis)
        keep = slice(len(TAPS) - 1, x.shape[axis] - len(TAPS) + 1, down)
        x = x[(slice(None),) * axis + (keep,)]
    return torch.from_numpy(x)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_smoothing(padding: int) -> None:
    found = filters.smooth(IMAGES, filters.kernel(filters.TAPS), padding)
    torch.testing.assert_close(found.double(), by_scipy(IMAGES, 1, 1, 1, padding, padding), rtol=1e-5, atol=1e-6)


def test_upsampling() -> None:
    found = filters.upsample(IMAGES, filters.kernel(filters.TAPS, 4.0))
    assert found.shape == (2, 3, 16, 16)
    torch.testing.assert_close(found.double(), by_scipy(IMAGES, 2, 1, 2, 2, 1), rtol=1e-5, atol=1e-6)


def test_downsampling() -> None:
    found = filters.downsample(IMAGES, filters.kernel(filters.TAPS))
    assert found.shape == (2, 3, 4, 4)
    torch.testing.assert_close(found.double(), by_scipy(IMAGES, 1, 2, 1, 1, 1), rtol=1e-5, atol=1e-6)


def test_what_is_even_stays_even_inside() -> None:
    even = torch.ones(1, 1, 8, 8)
    for found in (
        filters.upsample(even, filters.kernel(filters.TAPS, 4.0)),
        filters.downsample(even, filters.kernel(filters.TAPS)),
    ):
        torch.testing.assert_close(found[..., 1:-1, 1:-1], torch.ones_like(found[..., 1:-1, 1:-1]))
