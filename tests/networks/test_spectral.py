"""Spectral normalisation is torch's, to the last bit, and takes no time on the meta device."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm, spectral_norm

from gan_lightning.networks.spectral import SpectralNorm, spectrally_normalised


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv2d(3, 8, 3),
        lambda: nn.ConvTranspose2d(3, 8, 3),
        lambda: nn.ConvTranspose1d(3, 8, 3),
        lambda: nn.Linear(4, 6),
        lambda: nn.Embedding(5, 7),
    ],
)
def test_equals_torchs(make: Callable[[], nn.Module]) -> None:
    found = []
    for normalise in (spectral_norm, spectrally_normalised):
        torch.manual_seed(0)
        layer = normalise(make())
        found.append({"weight": layer.weight, **layer.state_dict()})
        found[-1]["next draw"] = torch.rand(3)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


def test_nothing_is_computed_on_the_meta_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_SpectralNorm, "_power_method", lambda *_: pytest.fail("a power iteration"))
    with torch.device("meta"):
        layer = spectrally_normalised(nn.Linear(4, 6))
    assert isinstance(layer.parametrizations.weight[0], SpectralNorm)  # type: ignore[union-attr, index]  # a list
