"""Channels of a network that can only be taken out together, and which of them cost least.

Fang et al. 2023, "DepGraph: Towards Any Structural Pruning": what adds up, is joined or passes through a norm shares
channels. Their library, torch-pruning, follows the graph of one pass; it is shown our layers as single steps, each with
the channels that `networks/pruned.py` says, so that nothing in them is guessed at. What is found is tried out: a
network without the channels must give the images of one where they are 0.
"""

import copy
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.utils.flop_counter import FlopCounterMode

from gan_lightning.errors import UserError
from gan_lightning.networks.mlp import Maxout
from gan_lightning.networks.pruned import Kept, Kind, cut, kind_of, stored, width_of
from gan_lightning.networks.stylegan2 import StyleGAN2Generator, Synthesis
from gan_lightning.networks.transposed import ProjectLinear
from gan_lightning.networks.wavegan import SMALLEST, Activated, WaveGANDiscriminator

Scope = Literal["local", "global"]
Inputs = tuple[Any, ...]  # what a network is called with
Place = tuple[int, int]  # a group by its number, and a channel in it
Found = tuple[dict[str, Kept], float]
Factors = tuple[tuple[int, int], tuple[int, int]]
ALONE = (1, 1)  # one place for each channel
LEAST = 1 / 16  # of the channels of a group stay, and one at least
WHOLE = (nn.PReLU, Synthesis, StyleGAN2Generator)  # have tensors of their own that stay as they are
NEARNESS = 1e-6  # of images in float64, over the largest number


@dataclass
class Layer:
    """A layer whose channels can be taken out, and how many it is given and makes.

    factors: (outer, inner) for both: there are so many places for each channel, in the order outer, channel, inner.
    """

    name: str
    kind: Kind
    width: tuple[int, int]
    factors: Factors
    calls: int = 0


@dataclass
class Member:
    """A layer that has channels of a group, by its name: `positions` among those that it makes, or that it is given.

    roots: which of the group's channels each of them is, (n,).
    """

    layer: str
    outputs: bool
    positions: Tensor
    roots: Tensor


@dataclass
class Group:
    """Channels 0 … width - 1 that some layers share."""

    width: int
    members: list[Member]


@dataclass
class Target:
    """The share of multiply-adds that a key asks for, now and in the end."""

    key: str
    end: float
    now: float


# ---- which channels belong together ---------------------------------------------------------------------------------


def find_groups(network: nn.Module, inputs: Inputs) -> list[Group]:
    """All groups of channels that neither come in nor go out of the network.

    Raises UserError, with the network's name, for layers that are not known and for a graph that cannot be followed.
    """
    known = known_layers(network)
    traced = still(network)
    layers = {traced.get_submodule(layer.name): layer for layer in known}
    try:
        graph = follow(traced, inputs, layers)
        for layer in known:
            if layer.calls != 1:
                raise ValueError(f"{layer.name} is used {layer.calls} times")
        found: list[Group] = []
        seen: set[str] = set()
        for module, layer in layers.items():
            if layer.kind.through or layer.name in seen or module not in graph.module2node:
                continue
            group = group_of(graph, module, layers)
            seen |= {member.layer for member in group.members if member.outputs}
            if group.width:
                found.append(group)
    except Exception as error:  # whatever a network does that the library does not expect
        raise refusal(network, error) from error
    return found


def refusal(network: nn.Module, reason: object) -> UserError:
    return UserError(f"method=prune: the channels of {type(network).__name__} cannot be pruned: {str(reason)[:200]}")


def known_layers(network: nn.Module) -> list[Layer]:
    """The layers whose channels can be taken out. Raises UserError where the network has others with tensors."""
    names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    if len(names) > len(list(network.parameters())):
        raise refusal(network, "layers share weights")
    found: list[Layer] = []

    def walk(module: nn.Module, path: str) -> None:
        kind = kind_of(module)
        if kind is not None:
            check_layer(network, module, path)
            given, made = (
                width // math.prod(sizes) for width, sizes in zip(width_of(module), factors[path], strict=True)
            )
            found.append(Layer(path, kind, (given, made), factors[path]))
            return
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if own and not isinstance(module, WHOLE):
            raise refusal(network, f"nothing is known of {path or 'it'}, a {type(module).__name__}")
        for name, child in module.named_children():
            walk(child, f"{path}.{name}" if path else name)

    factors = factors_of(network)
    walk(network, "")
    return found


def check_layer(network: nn.Module, layer: nn.Module, path: str) -> None:
    """Raises UserError for a layer whose channels are bound to each other, or whose weight is computed."""
    if getattr(layer, "groups", 1) != 1:
        raise refusal(network, f"{path} has groups={layer.groups}")
    for module in layer.modules():
        computed = [one for of in getattr(module, "parametrizations", {}).values() for one in of]
        if not all(isinstance(one, _SpectralNorm) for one in computed):
            raise refusal(network, f"the weight of {path} is computed, and not by spectral norm")


def factors_of(network: nn.Module) -> dict[str, Factors]:
    """How many places the channels of every layer have, and in which order, on both sides."""
    found: dict[str, Factors] = defaultdict(lambda: (ALONE, ALONE))
    if isinstance(network, WaveGANDiscriminator):
        found["head"] = (SMALLEST, 1), ALONE  # rows (N, SMALLEST, channels), flat
    for path, module in network.named_modules():
        if isinstance(module, ProjectLinear):
            found[path] = ALONE, (1, module.side**2)
        elif isinstance(module, Activated):
            found[path] = ALONE, (SMALLEST, 1)
        elif isinstance(module, nn.Sequential):
            for (name, _), (_, after) in itertools.pairwise(module.named_children()):
                if isinstance(after, nn.PixelShuffle):
                    found[f"{path}.{name}"] = ALONE, (1, after.upscale_factor**2)
                elif isinstance(after, Maxout):
                    found[f"{path}.{name}"] = ALONE, (1, after.pieces)
    return found


def still(network: nn.Module) -> nn.Module:
    """A copy in float64 that draws nothing and has no gradients."""
    network = copy.deepcopy(network).double().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


class Step(torch.autograd.Function):
    """What a layer does, as one step of the graph, which leads from its first input alone."""

    @staticmethod
    def forward(context: Any, given: Tensor, made: Tensor, anchor: Tensor) -> Tensor:
        return made.clone()


def follow(network: nn.Module, inputs: Inputs, layers: Mapping[nn.Module, Layer]) -> Any:
    """torch-pruning's graph of a pass, in which these layers are single steps. The network is of no other use then."""
    pruning = library()

    class Between(pruning.pruner.function.BasePruningFunc):
        """What torch-pruning asks about a layer. It is never asked to prune."""

        def get_in_channels(self, layer: nn.Module) -> int:
            return layers[layer].width[0]

        def get_out_channels(self, layer: nn.Module) -> int:
            return layers[layer].width[1]

        def prune_in_channels(self, layer: nn.Module, idxs: Sequence[int]) -> None:
            raise NotImplementedError

        def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> None:
            raise NotImplementedError

    class Through(Between):
        """What comes out of a channel is that channel, which the library takes from both being one function."""

        prune_in_channels = Between.prune_out_channels

    pruners: dict[type, Any] = {}
    anchor = torch.zeros((), requires_grad=True)  # without it nothing would be recorded: weights have no gradients
    for module, layer in layers.items():
        as_step(module, layer, anchor)
        pruners[type(module)] = (Through if layer.kind.through else Between)()

    def whole_pass(network: nn.Module, inputs: Inputs) -> Tensor:
        return network(*inputs) * 1  # the end of the graph is no layer

    with torch.enable_grad(), torch.random.fork_rng([]):
        return pruning.DependencyGraph().build_dependency(
            network, tuple(doubled(inputs)), whole_pass, customized_pruners=pruners, verbose=False
        )


def library() -> Any:
    """torch-pruning. Raises UserError where it is not installed."""
    try:
        import torch_pruning
    except ImportError:
        raise UserError('method=prune: needs torch-pruning: pip install "gan_lightning[compress]"') from None
    return torch_pruning


def as_step(module: nn.Module, layer: Layer, anchor: Tensor) -> None:
    """Makes a layer one of a class of its own, whose pass is a single step."""
    kind = type(module)

    def forward(self: nn.Module, given: Tensor, *others: Any) -> Tensor:
        layer.calls += 1
        with torch.no_grad():
            made = kind.forward(self, given, *others)
        return Step.apply(given, made, anchor)

    module.__class__ = type(kind.__name__, (kind,), {"forward": forward})


def doubled(inputs: Inputs) -> list[Any]:
    return [one.double() if isinstance(one, Tensor) and one.is_floating_point() else one for one in inputs]


def group_of(graph: Any, module: nn.Module, layers: Mapping[nn.Module, Layer]) -> Group:
    """The group of what a layer makes; of width 0 where that goes out of the network."""
    pruning, width = library(), layers[module].width[1]
    members: list[Member] = []
    make = graph.get_pruner_of_module(module).prune_out_channels
    items = graph.get_pruning_group(module, make, list(range(width))).items
    if any(isinstance(item.dep.target.module, pruning.ops._OutputOp) for item in items):
        return Group(0, members)
    for item in items:
        layer = layers.get(item.dep.target.module)
        if layer is None:
            continue
        outputs = layer.kind.through or graph.is_out_channel_pruning_fn(item.dep.handler)
        (outer, inner), channels = layer.factors[outputs], layer.width[outputs]
        places = torch.arange(outer * channels * inner).view(outer, channels, inner)[:, item.idxs]
        roots = torch.tensor(item.root_idxs)[None, :, None].expand_as(places)
        members.append(Member(layer.name, outputs, places.flatten(), roots.flatten()))
    return Group(width, members)


# ---- which of them go -----------------------------------------------------------------------------------------------


def order_of(
    network: nn.Module, groups: Sequence[Group], scores: Mapping[Any, Tensor], scope: Scope, multiple: int = 1
) -> list[list[Place]]:
    """Channels of all groups, those that are missed least first; those that must stay are not among them.

    They come in parts that go together, after each of which a group has a multiple of so many channels. scores: how
    much each number of a parameter is worth; a channel is worth the sum of its numbers in all layers. scope: "local"
    takes the same share of every group, "global" looks at worth over the mean of the channel's group.
    """
    found: list[tuple[float, list[Place]]] = []
    for index, group in enumerate(groups):
        worth = worth_of(network, group, scores)
        ranks = worth.argsort(stable=True).tolist()
        rising = worth / worth.mean().clamp(min=1e-30)
        stay = math.ceil(max(1, LEAST * group.width) / multiple) * multiple
        for end in range(group.width % multiple or multiple, group.width - stay + 1, multiple):
            part = ranks[max(0, end - multiple) : end]
            found.append(
                (end / group.width if scope == "local" else rising[part[-1]].item(), [(index, c) for c in part])
            )
    return [part for _, part in sorted(found)]


def worth_of(network: nn.Module, group: Group, scores: Mapping[Any, Tensor]) -> Tensor:
    """How much each channel of a group is worth, (width,) float64."""
    worth = torch.zeros(group.width, dtype=torch.float64)
    for member in group.members:
        layer = network.get_submodule(member.layer)
        kind = kind_of(layer)
        assert kind is not None
        for tensor, dimension in (kind.outputs if member.outputs else kind.inputs).items():
            value: Any = getattr(*stored(layer, tensor), None)  # None, or a buffer, is worth nothing
            if (score := scores.get(value)) is not None:
                others = [other for other in range(score.dim()) if other != dimension]
                each = score.double().sum(others) if others else score.double()
                worth.index_add_(0, member.roots, each[member.positions])
    return worth


def kept_without(network: nn.Module, groups: Sequence[Group], places: Sequence[Place]) -> dict[str, Kept]:
    """What every layer keeps where these channels go."""
    gone = [torch.zeros(group.width, dtype=torch.bool) for group in groups]
    for index, channel in places:
        gone[index][channel] = True
    stays: dict[str, list[Tensor | None]] = {}
    for group, missing in zip(groups, gone, strict=True):
        for member in group.members if missing.any() else ():
            sides = stays.setdefault(member.layer, [None, None])
            stay = sides[member.outputs]
            if stay is None:
                layer = network.get_submodule(member.layer)
                stay = sides[member.outputs] = torch.ones(width_of(layer)[member.outputs], dtype=torch.bool)
            stay[member.positions[missing[member.roots]]] = False
    return {
        name: Kept(*(None if stay is None else stay.nonzero().squeeze(1) for stay in sides))
        for name, sides in stays.items()
    }


def within(
    network: nn.Module,
    inputs: Inputs,
    target: Target,
    left: float,
    groups: Sequence[Group],
    order: Sequence[Sequence[Place]],
) -> Found:
    """What the layers keep so that the multiply-adds are as near to a share as whole channels allow, and their share.

    left: the share of what the network had at first that it has now; all shares are of that.

    Raises UserError where the channels that must stay have more than is wanted in the end.
    """
    sized = copy.deepcopy(network).requires_grad_(False).to("meta")  # nothing is computed there
    whole, least, most = count_macs(sized, inputs) / left, 0, len(order)

    def kept(count: int) -> dict[str, Kept]:
        return kept_without(network, groups, list(itertools.chain(*order[:count])))

    def share(count: int) -> float:
        return count_macs(cut(copy.deepcopy(sized), kept(count)), inputs) / whole

    if (fewest := share(most)) > target.end:
        stays = f"{type(network).__name__} keeps {fewest:.3f} of its multiply-adds where all channels go that can"
        raise UserError(f"{target.key}={target.end}: {stays}")
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if share(middle) <= target.now else (middle, most)
    count = min((least, most), key=lambda count: abs(share(count) - target.now))
    return kept(count), share(count)


@torch.no_grad()
def count_macs(network: nn.Module, inputs: Inputs) -> int:
    """Multiply-adds of a pass of a network on the meta device: half of what torch.utils.flop_counter counts."""
    with FlopCounterMode(display=False) as counter:
        network(*(one.to("meta") if isinstance(one, Tensor) else one for one in inputs))
    return counter.get_total_flops() // 2


@torch.no_grad()
def check_cut(network: nn.Module, inputs: Inputs, kept: Mapping[str, Kept]) -> None:
    """Raises UserError where the narrower network gives other images than one in which what went is 0."""
    masked = still(network)
    for name, sides in kept.items():
        layer = masked.get_submodule(name)
        kind = kind_of(layer)
        assert kind is not None
        for positions, dimensions in zip(sides, (kind.inputs, kind.outputs), strict=True):
            for tensor, dimension in dimensions.items() if positions is not None else ():
                value: Tensor | None = getattr(*stored(layer, tensor), None)
                if isinstance(value, nn.Parameter):
                    gone = torch.ones(value.shape[dimension], dtype=torch.bool)
                    gone[positions] = False
                    value.index_fill_(dimension, gone.nonzero().squeeze(1), 0)
    try:
        wanted, found = masked(*doubled(inputs)), cut(still(network), kept)(*doubled(inputs))
    except RuntimeError as error:  # shapes that do not fit
        raise refusal(network, error) from error
    if not (found - wanted).abs().max() <= NEARNESS * wanted.abs().max():
        raise refusal(network, "without channels it does not compute what it does where they are 0")
