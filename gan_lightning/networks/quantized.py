"""Networks whose weights are stored as whole numbers of 8 or 4 bits, with a scale for each output channel.

Symmetric, for each channel, as Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference",
has it: w ≈ s q, where q are whole numbers from -(2^(b-1) - 1) to 2^(b-1) - 1 and s is the largest |w| of the output
channel over the largest q; with 4 bits it may be less. What is computed is in float, with s q: any network and any
device works, no matter which whole-number kernels it has. What is gained is room: a state dict holds q and s, never w.

BatchNorm need not be folded into the weights before: it multiplies an output channel by a number, as s does, so the
same q would be found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize

from gan_lightning.networks.wrapped import Wrapped
from gan_lightning.types import PositiveInt

Bits = Literal[4, 8]
SMALLEST = 256  # numbers of a weight that is worth it
SHARES = [0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55]  # of the largest weight, that 4 bits may reach
LEVELS, SCALE = "_levels", "_scale"  # what the parts of a weight are called in a state dict


@dataclass(frozen=True)
class Place:
    """A weight of a network: the module that has it, its name there, and how its output channels lie.

    groups: of a transposed convolution, whose weight is (in, out / groups, …); None: output channels come first.
    """

    path: str
    name: str
    groups: int | None


def weights_of(network: nn.Module, smallest: int = SMALLEST) -> Iterator[Place]:
    """The weights that are quantised: parameters of two dimensions or more and at least `smallest` numbers.

    So biases and the scales of norms stay as they are, and so does what has one number for each channel, such as the
    lengths of weight norm. Under spectral norm it is the weight before it.
    """
    for path, owner in network.named_modules():
        if isinstance(owner, nn.RNNBase):  # keeps its weights in a list of its own
            continue
        layer = network.get_submodule(path.partition(".parametrizations.")[0])  # the owner, where there are none
        groups = layer.groups if isinstance(layer, _ConvTransposeNd) else None
        for name, weight in owner.named_parameters(recurse=False):
            worth = weight.dim() > 1 and weight.numel() >= smallest and weight.is_floating_point()
            if worth and rows_of(weight, groups).shape[1] > 1:
                yield Place(path, name, groups)


def rows_of(weight: Tensor, groups: int | None) -> Tensor:
    """A row of numbers for each output channel: (channels, n)."""
    if groups is None:
        return weight.flatten(1)
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flatten(1)


def weight_of(rows: Tensor, shape: torch.Size, groups: int | None) -> Tensor:
    """What `rows_of` was given, of this shape."""
    if groups is None:
        return rows.view(shape)
    return rows.view(groups, shape[1], -1, *shape[2:]).transpose(1, 2).reshape(shape)


def rounded(rows: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Whole numbers q, int8 (channels, n), and their scales (channels,); of a channel of zeros the scale is 1.

    With 4 bits the largest weights are cut where that makes the squared error of the channel smaller.
    """
    largest = 2 ** (bits - 1) - 1
    whole = rows.abs().amax(1) / largest
    whole = torch.where(whole == 0, 1.0, whole)
    levels, scale = nearest(rows, whole, largest), whole
    for share in SHARES if bits == 4 else ():
        others = nearest(rows, share * whole, largest)
        error, its_error = (
            (one * step[:, None] - rows).square().sum(1) for one, step in ((levels, scale), (others, share * whole))
        )
        better = its_error < error
        levels, scale = torch.where(better[:, None], others, levels), torch.where(better, share * whole, scale)
    return levels.to(torch.int8), scale


def nearest(rows: Tensor, scale: Tensor, largest: int) -> Tensor:
    """Whole numbers (channels, n) from -largest to largest, in float."""
    return (rows / scale[:, None]).round().clamp(-largest, largest)


def packed(levels: Tensor) -> Tensor:
    """Numbers of 4 bits, int8 (channels, n), two in a byte: uint8 (channels, ⌈n / 2⌉)."""
    nibbles = nn.functional.pad(levels.to(torch.uint8) & 15, (0, levels.shape[1] % 2))  # two's complement
    return nibbles[:, ::2] | nibbles[:, 1::2] << 4


def unpacked(pairs: Tensor, count: int) -> Tensor:
    """What `packed` was given, of `count` numbers a channel."""
    nibbles = torch.stack([pairs & 15, pairs >> 4], 2).flatten(1)[:, :count].to(torch.int8)
    return nibbles - 16 * (nibbles > 7)


class Quantized(Wrapped):
    """A network that keeps its weights in `bits` bits, and computes with what they stand for.

    Its float weights are no parameters any more and are in no state dict; `levels` and scales are, beside them, as
    buffers of the layers. They are not trained.

    Args:
        network: with the weights to be rounded; or any, into which a state dict of such a network is loaded.
        bits: 8, or 4, of which two share a byte.
        smallest: weights with fewer numbers stay in float.

    Raises ValueError where there is no such weight.
    """

    untrained = "weights in whole numbers are not trained"

    def __init__(self, network: nn.Module, bits: Bits = 8, smallest: PositiveInt = SMALLEST) -> None:
        super().__init__(network)
        self.bits: Bits = bits
        self.places = list(weights_of(network, smallest))
        if not self.places:
            raise ValueError(f"smallest={smallest}: {type(network).__name__} has no weight of that many numbers: "
                             "nothing would be quantised")  # fmt: skip
        for place in self.places:
            owner = network.get_submodule(place.path)
            weight = getattr(owner, place.name).detach()
            levels, scale = rounded(rows_of(weight, place.groups), bits)
            delattr(owner, place.name)
            owner.register_buffer(place.name, weight.clone(), persistent=False)
            owner.register_buffer(place.name + LEVELS, levels if bits == 8 else packed(levels))
            owner.register_buffer(place.name + SCALE, scale)
        self.restore()
        self.register_load_state_dict_post_hook(restored)

    @torch.no_grad()
    def restore(self) -> None:
        """The float weights become what the whole numbers stand for."""
        for place in self.places:
            owner = self.network.get_submodule(place.path)
            weight, levels, scale = (getattr(owner, place.name + part) for part in ("", LEVELS, SCALE))
            if self.bits == 4:
                levels = unpacked(levels, weight.numel() // len(scale))
            weight.copy_(weight_of(levels.to(scale.dtype) * scale[:, None], weight.shape, place.groups))

    @property
    def quantised(self) -> dict[str, int]:
        """How many weights are kept in whole numbers, and how many numbers they are."""
        sizes = [getattr(self.network.get_submodule(place.path), place.name).numel() for place in self.places]
        return {"quantised_layers": len(sizes), "quantised_weights": sum(sizes)}


class Rounded(nn.Module):
    """A weight as it will be read from whole numbers, with the gradient of the weight itself.

    Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic Neurons" (straight-through).
    """

    def __init__(self, bits: Bits, groups: int | None) -> None:
        super().__init__()
        self.bits: Bits = bits
        self.groups = groups

    def forward(self, weight: Tensor) -> Tensor:
        levels, scale = rounded(rows_of(weight.detach(), self.groups), self.bits)
        kept = weight_of(levels.to(weight.dtype) * scale[:, None], weight.shape, self.groups)
        return weight + (kept - weight).detach()


class FakeQuantized(Wrapped):
    """A network in training whose weights are rounded whenever they are looked at; they are kept in float.

    Under spectral norm they are rounded after it. Arguments as Quantized.
    """

    def __init__(self, network: nn.Module, bits: Bits = 8, smallest: PositiveInt = SMALLEST) -> None:
        super().__init__(network)
        self.places = list(dict.fromkeys(layer_of(place) for place in weights_of(network, smallest)))
        for place in self.places:
            layer = network.get_submodule(place.path)
            parametrize.register_parametrization(layer, place.name, Rounded(bits, place.groups))

    def plain_state(self) -> dict[str, Tensor]:
        """The state dict of a network of the same kind whose weights are not rounded: they are in float."""
        state = dict(self.network.state_dict())
        for place in self.places:
            layer: Any = self.network.get_submodule(place.path)
            if len(layer.parametrizations[place.name]) == 1:  # it had none before
                path = f"{place.path}." if place.path else ""
                state[path + place.name] = state.pop(f"{path}parametrizations.{place.name}.original")
        return state


def layer_of(place: Place) -> Place:
    """The place of the weight that is looked at: of what is below "parametrizations", in the layer above it."""
    path, below, name = place.path.partition(".parametrizations.")
    return Place(path, name, place.groups) if below else place


def weights_in(network: nn.Module) -> Iterator[Tensor]:
    """All weights: parameters, and what whole numbers stand for, also of a part of a Quantized."""
    yield from network.parameters()
    for owner in network.modules():
        held = dict(owner.named_buffers(recurse=False))
        yield from (weight for name, weight in held.items() if name + LEVELS in held)


def restored(network: Any, keys: Any) -> None:
    """A hook for after a state dict was loaded."""
    network.restore()
