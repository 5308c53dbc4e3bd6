"""Spectral normalisation (Miyato et al. 2018), torch's own, of which nothing is computed where there are no numbers."""

from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import register_parametrization

Layer = TypeVar("Layer", bound=nn.Module)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class SpectralNorm(_SpectralNorm):
    """The meta device would go through 15 iterations of every layer in Python: seconds for a large network."""

    def _power_method(self, weight_mat: Tensor, n_power_iterations: int) -> None:
        if not weight_mat.is_meta:
            super()._power_method(weight_mat, n_power_iterations)


def spectrally_normalised(layer: Layer) -> Layer:
    """The layer itself, whose weight has spectral norm 1 from here on: one power iteration a pass in training."""
    weight = layer.get_parameter("weight")
    register_parametrization(layer, "weight", SpectralNorm(weight, dim=1 if isinstance(layer, TRANSPOSED) else 0))
    return layer
