"""Networks that have lost a part of their numbers: whole channels, or single weights.

Which dimensions of a layer's tensors belong to the channels that it is given, and which to those that it makes, is said
by one table, `KINDS`; with it `cut` makes a network narrower, whatever made the choice.
"""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from gan_lightning.networks.attention import SelfAttention
from gan_lightning.networks.conditional import ConditionalBatchNorm2d, LabelEmbedding, LinearBatchNorm2d
from gan_lightning.networks.equalized import EqualizedConv2d, EqualizedLinear
from gan_lightning.networks.stylegan2 import StyledConv2d, ToImage
from gan_lightning.networks.translator import NormOfEach
from gan_lightning.networks.transposed import Project, ProjectLinear
from gan_lightning.networks.wavegan import Activated, Narrow, Widen
from gan_lightning.types import PositiveInt

Dimensions = Mapping[str, int]  # of tensors in a layer, by their names: those that have a place for every channel


class Kind(NamedTuple):
    """How a layer is made narrower."""

    inputs: Dimensions  # the channels that it is given
    outputs: Dimensions  # and those that it makes
    given: tuple[str, ...] = ()  # attributes that say how many these are
    made: tuple[str, ...] = ()
    through: bool = False  # what comes out of a channel is that channel: `inputs` is not looked at


class Kept(NamedTuple):
    """The channels that a layer keeps, in rising order, (n,) int64 each; None: all of them."""

    inputs: Tensor | None
    outputs: Tensor | None


def norm(*tensors: str, sizes: Sequence[str]) -> Kind:
    """A layer that has a number of each of these tensors for every channel."""
    return Kind({}, dict.fromkeys(tensors, 0), (), tuple(sizes), through=True)


CONVOLUTION = Kind({"weight": 1}, {"weight": 0, "bias": 0}, ("in_channels",), ("out_channels",))
TRANSPOSED = Kind({"weight": 0}, {"weight": 1, "bias": 0}, ("in_channels",), ("out_channels",))
LINEAR = Kind({"weight": 1}, {"weight": 0, "bias": 0}, ("in_features",), ("out_features",))
EQUALIZED = Kind({"weight": 1}, {"weight": 0, "bias": 0})  # their scale stays: it is that of training
MODULATED = Kind({"weight": 1, "style.weight": 0, "style.bias": 0}, {"weight": 0, "bias": 0})
BATCH_NORM = norm("weight", "bias", "running_mean", "running_var", sizes=["num_features"])
RUNNING = "norm.running_mean", "norm.running_var"
KINDS: dict[type[nn.Module], Kind] = {
    nn.Conv1d: CONVOLUTION,
    nn.Conv2d: CONVOLUTION,
    Narrow: CONVOLUTION,
    nn.ConvTranspose1d: TRANSPOSED,
    nn.ConvTranspose2d: TRANSPOSED,
    Project: TRANSPOSED,
    Widen: TRANSPOSED,
    nn.Linear: LINEAR,
    ProjectLinear: LINEAR,
    Activated: LINEAR,
    EqualizedLinear: EQUALIZED,
    EqualizedConv2d: EQUALIZED,
    StyledConv2d: MODULATED,
    ToImage: MODULATED,
    LabelEmbedding: Kind({}, {"weight": 1}, ("classes",)),
    nn.BatchNorm1d: BATCH_NORM,
    nn.BatchNorm2d: BATCH_NORM,
    NormOfEach: BATCH_NORM,
    nn.InstanceNorm2d: BATCH_NORM,
    ConditionalBatchNorm2d: Kind(
        {},
        {**dict.fromkeys(RUNNING, 0), "scale.weight": 1, "shift.weight": 1},
        made=("norm.num_features",),
        through=True,
    ),
    LinearBatchNorm2d: norm(
        *RUNNING, "gain.weight", "shift.weight", sizes=["norm.num_features", "gain.out_features", "shift.out_features"]
    ),
    SelfAttention: Kind(  # what it computes within keeps its widths
        {},
        {"key.weight": 1, "query.weight": 1, "value.weight": 1, "output.weight": 0},
        made=("key.in_channels", "query.in_channels", "value.in_channels", "output.out_channels"),
        through=True,
    ),
}


def kind_of(layer: nn.Module) -> Kind | None:
    """How this layer is made narrower; None for one that is not in the table, nor of a kind that is with changes."""
    return KINDS.get(type_before_parametrizations(layer))


def width_of(layer: nn.Module) -> tuple[int, int]:
    """The channels that a layer of the table is given, and those that it makes."""
    kind = KINDS[type_before_parametrizations(layer)]
    outputs = size_of(layer, kind.made, kind.outputs)
    return outputs if kind.through else size_of(layer, kind.given, kind.inputs), outputs


def size_of(layer: nn.Module, attributes: Sequence[str], dimensions: Dimensions) -> int:
    if attributes:
        return attrgetter(attributes[0])(layer)
    tensor, dimension = next(iter(dimensions.items()))
    return attrgetter(tensor)(layer).shape[dimension]


def stored(layer: nn.Module, tensor: str) -> tuple[nn.Module, str]:
    """The module that keeps a tensor of a layer, and its name there: under spectral norm not what is computed of it."""
    path, _, name = tensor.rpartition(".")
    owner = layer.get_submodule(path)
    if is_parametrized(owner, name):
        return owner.get_submodule(f"parametrizations.{name}"), "original"
    return owner, name


@torch.no_grad()
def cut(network: nn.Module, kept: Mapping[str, Kept]) -> nn.Module:
    """The network itself, whose layers of these names have no other channels any more.

    Parameters are new ones: optimizers are to be made afterwards.
    """
    for name, channels in kept.items():
        layer = network.get_submodule(name)
        kind = KINDS[type_before_parametrizations(layer)]
        for positions, dimensions, sizes in (
            (None if kind.through else channels.inputs, kind.inputs, kind.given),
            (channels.outputs, kind.outputs, kind.made),
        ):
            if positions is None:
                continue
            for tensor, dimension in dimensions.items():
                shorten(layer, tensor, dimension, positions)
            for attribute in sizes:
                path, _, last = attribute.rpartition(".")
                setattr(layer.get_submodule(path), last, len(positions))
    return network


def shorten(layer: nn.Module, tensor: str, dimension: int, positions: Tensor) -> None:
    """Leaves these positions of one tensor of a layer, where it has it, and of spectral norm's vectors."""
    owner, name = stored(layer, tensor)
    whole: Tensor | None = getattr(owner, name, None)
    if whole is None:
        return
    positions = positions.to(whole.device)
    part = whole.detach().index_select(dimension, positions)
    if isinstance(owner, nn.utils.parametrize.ParametrizationList):
        for computed in owner:
            assert isinstance(computed, _SpectralNorm)
            if dimension == computed.dim:
                computed._u = computed._u.index_select(0, positions)
            else:  # one number for each input and place of the kernel
                computed._v = computed._v.view(whole.shape[dimension], -1).index_select(0, positions).flatten()
    setattr(owner, name, nn.Parameter(part, whole.requires_grad) if isinstance(whole, nn.Parameter) else part)


class Pruned(nn.Module):
    """A network whose layers have been made narrower.

    What is built is the network itself, with its own class, attributes and names of weights: whatever trains, samples
    or reads it sees no difference.

    Args:
        network: as it was before.
        widths: of the layers that are narrower now, by their names: channels that they are given and that they make.

    Raises ValueError for a layer that the network does not have, or that cannot be made as wide.
    """

    def __new__(cls, network: nn.Module, widths: Mapping[str, Sequence[PositiveInt]]) -> nn.Module:
        layers = dict(network.named_modules())
        kept: dict[str, Kept] = {}
        for name, width in widths.items():
            if name not in layers or kind_of(layers[name]) is None:
                raise ValueError(f"widths={name}: {type(network).__name__} has no such layer that can be narrower")
            whole = width_of(layers[name])
            if len(width) != 2 or not all(0 < now <= before for now, before in zip(width, whole, strict=True)):
                raise ValueError(f"widths={name}: {list(width)}: must be two numbers, up to {list(whole)}")
            inputs, outputs = (
                None if now == before else torch.arange(now) for now, before in zip(width, whole, strict=True)
            )
            kept[name] = Kept(inputs, outputs)
        return cut(network, kept)

    def __init__(self, network: nn.Module, widths: Mapping[str, Sequence[PositiveInt]]) -> None:
        """Only says what the configuration may have: `__new__` gives something else than an instance of this class."""


class Sparse(nn.Module):
    """A network whose weights of 0 stay 0 in training: the network itself, like `Pruned`.

    A weight of 0 gets no gradient, so that it needs no mask beside the weights: what a checkpoint has is all there is.
    Tensors of one dimension (biases, scales and shifts of norms) begin at 0, and move.
    """

    def __new__(cls, network: nn.Module) -> nn.Module:
        for weight in weights_of(network).values():
            weight.register_hook(masking(weight))
        return network

    def __init__(self, network: nn.Module) -> None:
        """As `Pruned`'s."""


class masking:
    """The gradient of a weight, without that of its zeros."""

    def __init__(self, weight: nn.Parameter) -> None:
        self.weight = weight

    def __call__(self, gradient: Tensor) -> Tensor:
        return gradient * (self.weight.detach() != 0)


def weights_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of linear layers and convolutions, by their names: the parameters of more than one dimension."""
    return {name: weight for name, weight in network.named_parameters() if weight.dim() > 1}
