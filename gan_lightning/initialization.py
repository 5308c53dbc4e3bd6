"""Weights of a network before the first step, drawn from torch's global stream in the order of the modules."""

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from gan_lightning.networks.conditional import LabelEmbedding

Scheme = Literal["default", "dcgan", "xavier", "he", "orthogonal"]


def initialize(network: nn.Module, scheme: Scheme) -> None:
    """Draw the weights of convolutions and linear layers anew, in place, biases at 0; "default" keeps PyTorch's.

    dcgan: N(0, 0.02) and BatchNorm scales N(1, 0.02) (Radford et al. 2016, section 4, and their code); xavier: Glorot &
    Bengio 2010, eq. 16; he: He et al. 2015, eq. 10; orthogonal: Saxe et al. 2014. Other layers stay as they are, and of
    weight norm the lengths: what is drawn are directions.
    """
    if scheme == "default":
        return
    for module in network.modules():
        if isinstance(module, _ConvNd | nn.Linear):
            initialize_weight(module, scheme)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif scheme == "dcgan" and isinstance(module, _BatchNorm) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def initialize_weight(module: _ConvNd | nn.Linear | LabelEmbedding, scheme: Scheme) -> None:
    """Draw one layer's weight (out, in, ...), or (in, out, ...) where the convolution is transposed."""
    weight = module.weight
    parametrized = parametrize.is_parametrized(module, "weight")
    if parametrized:  # spectral or weight norm computes `weight`; what is learned, and drawn here, is the original
        originals = list(module.get_submodule("parametrizations.weight").parameters(recurse=False))
        weight = originals[-1]  # weight norm has a length and a direction
    if scheme == "dcgan":
        nn.init.normal_(weight, 0.0, 0.02)
    elif scheme == "xavier":
        nn.init.xavier_uniform_(weight)
    elif scheme == "he":
        nn.init.normal_(weight, 0.0, math.sqrt(2 / fan_in(module, weight)))
    elif scheme == "orthogonal":
        nn.init.orthogonal_(weight)
    if parametrized:
        for _ in range(15):  # in train mode each look is a power iteration: as many as PyTorch makes for a new weight
            _ = module.weight


def fan_in(module: _ConvNd | nn.Linear | LabelEmbedding, weight: Tensor) -> float:
    """How many inputs an output sums: a transposed convolution spreads its kernel over stride² outputs."""
    if isinstance(module, _ConvTransposeNd):
        return weight[:, 0].numel() / module.groups / math.prod(module.stride)
    return weight[0].numel()
