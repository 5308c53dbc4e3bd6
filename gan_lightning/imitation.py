"""A student learns from a teacher — Li et al. 2020, "GAN Compression: Efficient Architectures for Interactive
Conditional GANs", section 3.1.

Beside what its rule asks for, a generator is to make of every latent (or input) what a trained generator makes of it,
and chosen layers are to hold what the teacher's hold, as far as a learned 1×1 convolution can tell (eq. 3). Any rule
can be given a teacher: the base asks for both losses where the generator moves. The teacher is needed in training alone
and is no part of the student: samples, scores and exports do without it.

Differs from the paper: the teacher is the network that samples are drawn from, of the moving average; both directions
of a pair of translators learn, where the published code has one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gan_lightning import sampling
from gan_lightning.checkpoint import find_checkpoint
from gan_lightning.draws import stream_seed
from gan_lightning.errors import UserError
from gan_lightning.losses import Losses
from gan_lightning.speed import wants_channels_last
from gan_lightning.types import NonNegativeFloat

if TYPE_CHECKING:
    from gan_lightning.adversarial import AdversarialModule, Batch, Fakes

LAYERS = 4  # that are compared by default, as in the published code
ADAPTERS = {2: nn.Linear, 3: nn.Conv1d, 4: nn.Conv2d}  # by the dimensions of (N, C, …)


class Alone:
    """A generator without a teacher."""

    def begin(self, module: "AdversarialModule", shape: tuple[int, ...]) -> None:
        """Before training, as often as it is called: samples have this shape."""

    def on(self, module: "AdversarialModule") -> nn.ModuleList:
        """What the generator's optimizer trains beside it, on the module's device."""
        return nn.ModuleList()

    def study(self, module: "AdversarialModule", batch: "Batch") -> "Fakes":
        """Fakes of a minibatch."""
        return module.generate(batch, batch["latents"])

    def added(self, module: "AdversarialModule", batch: "Batch", fakes: "Fakes", losses: Losses) -> Losses:
        """The generator's losses with what is added to them; `fakes` are those that `study` made last."""
        return losses

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {}

    def recall(self, checkpoint: dict[str, Any]) -> None:
        """Takes what `state` gave."""


class Imitation(Alone):
    """What a student adds to its generator's loss.

    Args:
        teacher: a run folder, a .ckpt or "latest".
        reconstruction: λ of the mean absolute difference between its samples and the teacher's (10 where the published
            code has a student of unpaired images).
        features: λ of the mean squared difference between layers, summed over them (0.01 there).
        layers: names of modules that both generators have, such as "layers.2"; null: a few, evenly spaced.

    A plain object: what it holds is not in the module's state dict.
    """

    def __init__(
        self,
        teacher: Path,
        reconstruction: NonNegativeFloat = 10.0,
        features: NonNegativeFloat = 0.01,
        layers: Sequence[str] | None = None,
    ) -> None:
        if not reconstruction and not features:
            raise ValueError(f"reconstruction={reconstruction}: with features={features} nothing is imitated")
        if layers == [] and features:
            raise ValueError(f"layers=[]: features={features} compares layers; name some, or use features=0")
        self.teacher = teacher
        self.reconstruction, self.features = reconstruction, features
        self.layers = list(layers) if layers and features else []
        self.chooses = bool(features) and layers is None
        self.network: nn.Module | None = None  # the teacher, once it is loaded
        self.adapters = nn.ModuleList()  # (N, C of the student, …) -> (N, C of the teacher, …), one a layer
        self.studied: dict[str, Tensor] = {}  # what the student's layers held when the fakes were made

    # ---- before training --------------------------------------------------------------------------------------------

    def begin(self, module: "AdversarialModule", shape: tuple[int, ...]) -> None:
        """Loads the teacher and makes the adapters for samples of `shape`; once.

        Raises UserError for a teacher that is not there, or that this module cannot learn from.
        """
        if self.network is not None:
            return
        from gan_lightning.commands.loading import load_module  # here: commands are made of modules

        key = "model.imitation.teacher"
        teacher = load_module(find_checkpoint(self.teacher, key=key))
        self.check(module, teacher)
        network = sampling.sampler(teacher).requires_grad_(False)
        batch = inputs(module, shape)
        if self.chooses:
            self.layers = evenly(stages(network, lambda: played(module, network, batch)), LAYERS)
            if not self.layers:
                kind = type(network).__name__
                raise UserError(f"model.imitation.layers=null: {kind} has none to choose: name some, or features=0")
        students = sampling.evaluating(module.generator)
        with torch.no_grad():
            (wanted, theirs), (made, ours) = (self.looked_at(module, which, batch) for which in (network, students))
        for one, other in zip(tree_leaves(wanted), tree_leaves(made), strict=True):
            if one.shape != other.shape:
                sizes = f"{tuple(one.shape[1:])}, and this generator {tuple(other.shape[1:])}"
                raise UserError(f"{key}={self.teacher}: makes {sizes}")
        with torch.random.fork_rng([]):
            torch.manual_seed(stream_seed(module.seed, "adapters"))
            self.adapters = nn.ModuleList(adapter(name, ours[name], theirs[name]) for name in self.layers)
        self.network = network

    def check(self, module: "AdversarialModule", teacher: "AdversarialModule") -> None:
        """Raises UserError for a teacher of other classes or latents."""
        where = f"model.imitation.teacher={self.teacher}"
        if teacher.classes != module.classes:
            raise UserError(f"{where}: knows {teacher.classes} classes, and model.classes={module.classes}")
        drawn = [tree_leaves(one.draw_latents(2, torch.Generator().manual_seed(0))) for one in (module, teacher)]
        if [t.shape for t in drawn[0]] != [t.shape for t in drawn[1]] or not all(map(torch.equal, *drawn)):
            raise UserError(f"{where}: is given other latents or inputs than this generator: keep their size and kind")

    def looked_at(
        self, module: "AdversarialModule", network: nn.Module, batch: "Batch"
    ) -> "tuple[Fakes, dict[str, Tensor]]":
        """What this generator makes of a minibatch, and what its layers hold meanwhile."""
        missing = [name for name in self.layers if name not in dict(network.named_modules())]
        if missing:
            raise UserError(f"model.imitation.layers={missing}: {type(network).__name__} has no such layer")
        with watched(network, self.layers) as seen:
            return played(module, network, batch), seen

    def on(self, module: "AdversarialModule") -> nn.ModuleList:
        """Moves the teacher to the module's device; the adapters there, which the generator's optimizer trains."""
        assert self.network is not None
        layout = torch.channels_last if wants_channels_last(module.step, module) else torch.contiguous_format
        self.network.to(module.device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        return self.adapters.to(module.device)

    # ---- in training ------------------------------------------------------------------------------------------------

    def study(self, module: "AdversarialModule", batch: "Batch") -> "Fakes":
        """The student's fakes of a minibatch; what its layers held is kept for `added`, where there are gradients."""
        if not torch.is_grad_enabled():
            return super().study(module, batch)
        with watched(module.generator, self.layers) as self.studied:
            return module.generate(batch, batch["latents"])

    def added(self, module: "AdversarialModule", batch: "Batch", fakes: "Fakes", losses: Losses) -> Losses:
        """With the losses of Li et al. 2020, eqs. 2 and 3."""
        assert self.network is not None
        studied, self.studied = self.studied, {}
        with torch.no_grad(), watched(self.network, self.layers) as shown:
            wanted = played(module, self.network, batch)
        found: Losses = {}
        if self.reconstruction:
            pairs = zip(tree_leaves(fakes), tree_leaves(wanted), strict=True)
            found["reconstruction"] = torch.stack([(a.float() - b.float()).abs().mean() for a, b in pairs]).sum()
        if self.layers:
            layers = zip(self.layers, self.adapters, strict=True)
            apart = [(adapt(studied[name]).float() - shown[name].float()).square().mean() for name, adapt in layers]
            found["features"] = torch.stack(apart).sum()
        weights = {"reconstruction": self.reconstruction, "features": self.features}
        return {**losses, **found, "loss": losses["loss"] + sum(weights[key] * found[key] for key in found)}

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"imitation": self.adapters.state_dict()}

    def recall(self, checkpoint: dict[str, Any]) -> None:
        if self.network is None:  # it is not trained now
            return
        try:
            self.adapters.load_state_dict(checkpoint["imitation"])
        except RuntimeError:
            raise UserError(f"model.imitation.layers={self.layers}: the run was begun with other layers") from None


def inputs(module: "AdversarialModule", shape: tuple[int, ...], count: int = 2) -> "Batch":
    """A minibatch to try generators with: samples of `shape`, latents and, where there are classes, labels."""
    labels = {"fake_label": torch.zeros(count, dtype=torch.int64)} if module.classes else {}
    latents: Any = module.draw_latents(count, torch.Generator().manual_seed(0))
    return {"image": torch.zeros(count, *shape), "latents": latents, **labels}


def played(module: "AdversarialModule", network: nn.Module, batch: "Batch") -> "Fakes":
    """What the module would make of a minibatch with this generator: the same draws, such as those of mixed styles."""
    own, module.generator = module.generator, network
    try:
        return module.generate(batch, batch["latents"])
    finally:
        module.generator = own


@contextmanager
def watched(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What these layers give, by name, each time that the network is called.

    Hooks stay no longer than that: copies of the network, such as those that samples come from, have none.
    """
    seen: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(layer: nn.Module, given: Any, output: Any) -> None:
            seen[name] = output

        return keep

    handles = [network.get_submodule(name).register_forward_hook(keeper(name)) for name in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def stages(network: nn.Module, play: Callable[[], Any]) -> list[str]:
    """Names of the layers whose maps (N, C, …) convolutions are given, in the order in which `play` goes.

    Of a network without convolutions, those that its linear layers are given.
    """
    weighted = [module for module in network.modules() if own_dimensions(module) >= 2]
    least = min(3, max(map(own_dimensions, weighted), default=3))
    given: dict[int, tuple[str, Tensor]] = {}  # by identity, the last layer that gave a tensor; which stays alive
    found: list[str] = []

    def ended(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and least <= output.ndim <= max(ADAPTERS):
                given[id(output)] = name, output

        return hook

    def begins(layer: nn.Module, inputs: Any) -> None:
        if id(inputs[0]) in given:
            found.append(given[id(inputs[0])][0])

    handles = [module.register_forward_hook(ended(name)) for name, module in network.named_modules() if name]
    handles += [module.register_forward_pre_hook(begins) for module in weighted if own_dimensions(module) >= least]
    try:
        play()
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(found))


def own_dimensions(module: nn.Module) -> int:
    """Of the weight of a layer: 2 where it is linear, 3 and 4 of convolutions; 0 without."""
    weight = getattr(module, "weight", None)
    return weight.ndim if isinstance(weight, Tensor) else 0


def evenly(names: Sequence[str], count: int) -> list[str]:
    """Up to `count` of these, from the middles of as many equal parts."""
    count = min(count, len(names))
    return [names[(2 * part + 1) * len(names) // (2 * count)] for part in range(count)]


def adapter(name: str, ours: Any, theirs: Any) -> nn.Module:
    """A learned map of what a student's layer gives to the size of the teacher's: (N, C, …) -> (N, C', …).

    Or of rows (N, L, C) -> (N, L, C').
    """
    key = f"model.imitation.layers=[{name}]"
    for output in (ours, theirs):
        if not isinstance(output, Tensor) or output.ndim not in ADAPTERS:
            raise UserError(f"{key}: gives no maps (N, C, …); choose another layer")
    if ours.shape[2:] == theirs.shape[2:] and ours.ndim > 2:
        return ADAPTERS[ours.ndim](ours.shape[1], theirs.shape[1], 1)
    if ours.shape[:-1] == theirs.shape[:-1]:
        return nn.Linear(ours.shape[-1], theirs.shape[-1])
    sizes = f"{tuple(ours.shape[1:])} of the student's and {tuple(theirs.shape[1:])} of the teacher's"
    raise UserError(f"{key}: maps are {sizes}; choose layers of one size")
