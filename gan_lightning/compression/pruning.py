"""Pruning: a trained generator without the channels, or the single weights, that it misses least.

Channels (Li et al. 2017, "Pruning Filters for Efficient ConvNets") leave a network that is smaller: fewer numbers are
stored, and fewer are multiplied. Single weights (Han et al. 2015, "Learning both Weights and Connections for Efficient
Neural Networks") become 0, which are stored and multiplied as before: the baseline for what so many weights are worth.

What goes is chosen by the moving average, which samples come from, and goes from it and from the weights of the last
step alike.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.utils._pytree import tree_map

from gan_lightning.adversarial import AdversarialModule, Batch, images_of
from gan_lightning.commands.loading import load_module
from gan_lightning.compression import results
from gan_lightning.compression.channels import (
    Inputs,
    Scope,
    Target,
    check_cut,
    find_groups,
    library,
    order_of,
    within,
)
from gan_lightning.compression.results import Source
from gan_lightning.config import instantiate
from gan_lightning.data.base import Data
from gan_lightning.draws import generator as stream_of
from gan_lightning.ema import with_fresh_statistics
from gan_lightning.networks.cycle import Discriminators, Translators
from gan_lightning.networks.pruned import Kept, cut, weights_of, width_of
from gan_lightning.sampling import statistics_inputs
from gan_lightning.translation import Translator
from gan_lightning.types import NonNegativeInt, PositiveInt

Share = Annotated[float, Field(gt=0, lt=1)]
Importance = Literal["magnitude", "taylor", "random"]
Player = Literal["generator", "discriminator"]
PRUNED, SPARSE = "gan_lightning.networks.pruned.Pruned", "gan_lightning.networks.pruned.Sparse"
MINIBATCHES, SIZE = 8, 16  # of training images, for gradients and for a translator's statistics


class Prune:
    """Takes out a part of a generator, and of its discriminator.

    Args:
        macs: the share of the generator's multiply-adds that stays; with kind=weights, of its weights.
        kind: "channels" or "weights".
        importance: of a number: its square, |number · gradient| of its player's loss ("taylor", Molchanov et al. 2017,
            "Pruning Convolutional Neural Networks for Resource Efficient Inference"), or one that is drawn.
        scope: "local" takes the same share of all layers, "global" what matters least in all of them.
        multiple: layers keep a multiple of so many channels; convolutions are faster with one of 8 or 16.
        discriminator: the share of its multiply-adds that stays, so that training shrinks too; None: all.
        steps: so many times a part goes.
        images: training images shown in all, the same number after each step; 0: no training.

    Raises ValueError for several steps without training, and for a discriminator's single weights.
    """

    def __init__(
        self,
        macs: Share = 0.5,
        kind: Literal["channels", "weights"] = "channels",
        importance: Importance = "magnitude",
        scope: Scope = "local",
        multiple: PositiveInt = 1,
        discriminator: Share | None = None,
        steps: PositiveInt = 1,
        images: NonNegativeInt = 0,
    ) -> None:
        if steps > 1 and images < steps:
            raise ValueError(f"steps={steps}: there is training after each of them: give images, and as many or more")
        if kind == "weights" and discriminator is not None:
            raise ValueError(f"discriminator={discriminator}: zeros save it no work; use kind=channels")
        self.macs, self.kind = macs, kind
        self.importance: Importance = importance
        self.scope: Scope = scope
        self.multiple = multiple
        self.discriminator, self.steps, self.images = discriminator, steps, images

    def run(self, source: Source) -> dict[str, Any]:
        """Writes a run whose generator is pruned; facts of what is left of it."""
        results.refuse_texts(source, "prune")
        results.refuse_quantised(source)
        if self.kind == "channels":
            library()
        module, config = source.module, source.config
        left: dict[str, float] = {}  # of every network's multiply-adds
        for step in range(1, self.steps + 1):
            done = step / self.steps
            part = Pruning(module, source.data, config, self.importance, self.scope, self.multiple)
            if self.kind == "weights":
                left["generator"] = self.macs**done
                part.zero(self.macs ** (1 / self.steps))
            else:
                part.narrow("generator", Target("method.macs", self.macs, self.macs**done), left)
                if self.discriminator is not None:
                    share = self.discriminator
                    part.narrow("discriminator", Target("method.discriminator", share, share**done), left)
            config, module = part.config, part.module()
            folder = source.folder if step == self.steps else source.folder / "steps" / str(step)
            if not self.images:
                results.store_run(folder, config, module, source.module)
            else:
                results.train(replace(source, folder=folder), config, module, self.images // self.steps)
                module = load_module(folder)
                module.show(source.data)
        return self.facts(source.module, module, left)

    def facts(self, before: AdversarialModule, after: AdversarialModule, left: Mapping[str, float]) -> dict[str, Any]:
        """What is left, as shares of what there was."""
        trained = {"trained_images": self.images // self.steps * self.steps}
        if self.kind == "weights":
            weights = list(after.generator.parameters())
            return trained | {
                "weights_kept": left["generator"],
                "parameters": sum(weight.numel() for weight in weights),
                "parameters_not_zero": sum(int(weight.count_nonzero()) for weight in weights),
                "note": "zeros are stored and multiplied as other numbers are: neither file nor time is smaller",
            }
        found: dict[str, Any] = {}
        for path, share in left.items():
            old, new = (sum(weight.numel() for weight in m.get_submodule(path).parameters()) for m in (before, after))
            found[f"{path}_multiply_adds_kept"], found[f"{path}_parameters_kept"] = round(share, 4), round(new / old, 4)
        return found | trained


class Pruning:
    """A module on its way to having less: networks by their names in it, and the configuration that builds them."""

    def __init__(
        self,
        module: AdversarialModule,
        data: Data,
        config: dict[str, Any],
        importance: Importance,
        scope: Scope,
        multiple: int,
    ) -> None:
        self.source, self.data, self.config = module, data, config
        self.importance: Importance = importance
        self.scope: Scope = scope
        self.multiple = multiple
        names = ["generator", "discriminator", *(["ema.generator"] if module.ema is not None else [])]
        self.networks = {name: copy.deepcopy(module.get_submodule(name)) for name in names}
        self.averaged = "ema.generator" if module.ema is not None else "generator"  # what samples come from

    def copies(self, player: Player) -> list[str]:
        """The networks that a player has, the one first that says what goes."""
        return [self.averaged, "generator"][: len(self.networks) - 1] if player == "generator" else ["discriminator"]

    def narrow(self, player: Player, target: Target, left: dict[str, float]) -> None:
        """Takes channels out of a player until the share is left that is wanted now of what its networks had at first.

        left: the shares that there are, by the networks' names, which are replaced.
        """
        scores = self.scores(player)
        kept: dict[str, Kept] = {}
        for path, (network, inputs) in examples(self.source, player, self.networks[self.copies(player)[0]]).items():
            groups = find_groups(network, inputs)
            order = order_of(network, groups, scores, self.scope, self.multiple)
            found, share = within(network, inputs, target, left.get(path, 1.0), groups, order)
            check_cut(network, inputs, found)
            prefix = path.removeprefix(player).removeprefix(".")
            kept |= {f"{prefix}.{name}" if prefix else name: channels for name, channels in found.items()}
            left[path] = share
        for name in self.copies(player):
            self.networks[name] = self.refreshed(player, settled(cut(self.networks[name], kept)))
        node, changed = self.config["model"][player], self.networks[player]
        widths = {name: list(width_of(changed.get_submodule(name))) for name in kept}
        if node["_target_"] == PRUNED:
            node, widths = node["network"], {**node["widths"], **widths}
        self.config = results.changed(self.config, **{player: {"_target_": PRUNED, "network": node, "widths": widths}})

    @torch.no_grad()
    def zero(self, share: float) -> None:
        """Leaves this share of the weights that are not 0, and 0 in place of the others."""
        scores = self.scores("generator")
        weights = weights_of(self.networks[self.averaged])
        worth = {name: scores[weight].double() for name, weight in weights.items()}
        if self.scope == "local":
            lowest = {name: threshold(of[weights[name] != 0], share) for name, of in worth.items()}
        else:
            alive = torch.cat([of[weights[name] != 0] for name, of in worth.items()])
            lowest = dict.fromkeys(worth, threshold(alive, share))
        for name in self.copies("generator"):
            for key, weight in weights_of(self.networks[name]).items():
                weight.mul_(worth[key] >= lowest[key])
            self.networks[name] = self.refreshed("generator", self.networks[name])
        node = self.config["model"]["generator"]
        if node["_target_"] != SPARSE:
            self.config = results.changed(self.config, generator={"_target_": SPARSE, "network": node})

    def module(self) -> AdversarialModule:
        """A module of the configuration with these networks."""
        module: AdversarialModule = instantiate(self.config["model"])
        state = {
            key: value
            for key, value in self.source.state_dict().items()
            if not any(key.startswith(f"{name}.") for name in self.networks)
        }
        for name, network in self.networks.items():
            state |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
        module.load_state_dict(state)
        module.config = self.config
        return module.eval()

    def refreshed(self, player: Player, network: nn.Module) -> nn.Module:
        """With BatchNorm statistics of what it makes now; those of a discriminator are followed in training alone."""
        if player == "discriminator":
            return network
        if isinstance(self.source, Translator):
            inputs = [(self.source.given(minibatch(self.data, index)), None) for index in range(MINIBATCHES)]
        else:
            inputs = statistics_inputs(self.source)
        return with_fresh_statistics(network, inputs)

    def scores(self, player: Player) -> dict[Tensor, Tensor]:
        """How much every number of a player's parameters is worth, by parameter of the network that says what goes."""
        network = self.networks[self.copies(player)[0]]
        parameters = dict(network.named_parameters())
        if self.importance == "taylor":
            lost = self.losses(player)
            return {parameter: lost[name] for name, parameter in parameters.items()}
        if self.importance == "random":
            stream = stream_of(self.source.seed, f"pruning {player}")
            return {one: torch.rand(one.shape, generator=stream) for one in parameters.values()}
        return {parameter: parameter.detach().square() for parameter in parameters.values()}

    def losses(self, player: Player) -> dict[str, Tensor]:
        """|number · gradient| of the player's loss, summed over minibatches, by parameter."""
        module = copy.deepcopy(self.source).requires_grad_(False)
        network = copy.deepcopy(self.networks[self.copies(player)[0]]).requires_grad_(True)
        setattr(module, player, network)
        found = {name: torch.zeros_like(parameter) for name, parameter in network.named_parameters()}
        for index in range(MINIBATCHES):
            batch = minibatch(self.data, index)
            batch, latents = module.prepare(batch, len(batch["image"]), f"pruning {index} ")
            fakes = module.generate(batch, latents)
            if player == "discriminator":
                loss = module.discriminator_loss(batch, tree_map(Tensor.detach, fakes))["loss"]
            else:
                loss = module.generator_loss(batch, fakes)["loss"]
            loss.backward()
            for name, parameter in network.named_parameters():
                if parameter.grad is not None:
                    found[name] += (parameter * parameter.grad).detach().abs()
                    parameter.grad = None
        return found


def threshold(worth: Tensor, share: float) -> Tensor:
    """The least of this share of the numbers (n,), the highest; one of them at least."""
    count = max(1, round(share * len(worth)))
    return worth.topk(count).values[-1] if len(worth) else torch.zeros(())


def minibatch(data: Data, index: int) -> Batch:
    """So many training images as they are trained on, always the same ones."""
    rows = [row % len(data.train) for row in range(SIZE * index, SIZE * (index + 1))]
    return data.on_after_batch_transfer(data.train.__getitems__(rows), 0)


def settled(network: nn.Module) -> nn.Module:
    """Spectral norm's vectors as they are for the weights now; in train mode each look is a power iteration."""
    for module in network.modules():
        if isinstance(module, nn.utils.parametrize.ParametrizationList) and isinstance(module[0], _SpectralNorm):
            module.train()
            for _ in range(15):
                module()
            module.eval()
    return network


@torch.no_grad()
def examples(module: AdversarialModule, player: Player, network: nn.Module) -> dict[str, tuple[nn.Module, Inputs]]:
    """The networks that a player has, by their names in the module, and what each is called with in a small pass."""
    stream = torch.Generator().manual_seed(0)
    count = 2 * module.pack
    latents = module.draw_latents(count, stream)
    if isinstance(module, Translator):
        latents = torch.rand(latents.shape, generator=stream) * 2 - 1  # and not grey
    labels = torch.arange(count) % module.classes if module.classes else None
    calls: list[Inputs] = []
    seen = module.get_submodule(player).register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    try:
        fakes = module.generate({} if labels is None else {"fake_label": labels}, latents)
        made = images_of(fakes)
        if isinstance(network, Translators):
            return {"generator.a_to_b": (network.a_to_b, (latents,)), "generator.b_to_a": (network.b_to_a, (made,))}
        if isinstance(network, Discriminators):
            return {"discriminator.a": (network.a, (latents,)), "discriminator.b": (network.b, (made,))}
        if player == "discriminator":
            module.verdicts(made, latents, labels)
    finally:
        seen.remove()
    return {player: (network, calls[0] if calls else (latents, labels))}  # a rule may call parts of its generator alone
