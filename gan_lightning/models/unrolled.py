"""Unrolled GAN — Metz et al. 2017, "Unrolled Generative Adversarial Networks".

The generator is judged by the discriminator as it will be after some more of its steps, and its gradient goes through
those steps (eq. 10): it cannot gain by running to where the discriminator has not looked yet. The steps are then
forgotten.

Differs from the paper: samples come from a moving average of the generator.
"""

import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from gan_lightning.adversarial import Batch, Fakes
from gan_lightning.losses import Losses
from gan_lightning.models.gan import GAN
from gan_lightning.types import NonNegativeInt

Weights = dict[str, Tensor]
Moments = tuple[Weights, Weights]  # of Adam, by the name of the weight


class Unrolled(GAN):
    """The losses of any pair, the generator's under a discriminator some steps ahead.

    Args:
        unrolled_steps: K of eq. 8, steps of Adam on the present minibatch, as the discriminator's optimizer makes them.

    Raises ValueError for another optimizer than Adam.
    """

    def __init__(self, unrolled_steps: NonNegativeInt = 5, **base: Any) -> None:
        super().__init__(**base)
        factory = self.optimizer_factories["discriminator"]
        made_by = factory.func if isinstance(factory, partial) else factory
        if unrolled_steps and not (inspect.isclass(made_by) and issubclass(made_by, torch.optim.Adam)):
            raise ValueError("discriminator_optimizer: unrolled steps are those of torch.optim.Adam")
        self.unrolled_steps = unrolled_steps
        self._ahead: Weights | None = None  # what judges instead of the discriminator's own weights and buffers

    def judge(self, images: Tensor, labels: Tensor | None) -> Tensor:
        if self._ahead is None:
            return super().judge(images, labels)
        seen = (self.view(images), labels if self.classes else None)
        return functional_call(self.discriminator, self._ahead, seen)

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        if self.training and self.unrolled_steps:
            self._ahead = self.unroll(batch, fakes)
        try:
            return super().generator_loss(batch, fakes)
        finally:
            self._ahead = None

    def unroll(self, batch: Batch, fakes: Fakes) -> Weights:
        """The discriminator after K more steps, as a function of the fakes; it is itself left as it is."""
        buffers = {name: buffer.clone() for name, buffer in self.discriminator.named_buffers()}
        weights = {name: p.detach().requires_grad_() for name, p in self.discriminator.named_parameters()}
        optimizer = self.players["discriminator"].optimizer
        states = {name: optimizer.state.get(p, {}) for name, p in self.discriminator.named_parameters()}
        means = {name: state.get("exp_avg", torch.zeros_like(weights[name])) for name, state in states.items()}
        squares = {name: state.get("exp_avg_sq", torch.zeros_like(weights[name])) for name, state in states.items()}
        taken = next((state["step"] for state in states.values() if "step" in state), 0)
        for step in range(1, self.unrolled_steps + 1):
            self._ahead = weights | buffers
            loss = self.discriminator_loss(batch, fakes)["loss"]
            gradients = dict(
                zip(weights, torch.autograd.grad(loss, list(weights.values()), create_graph=True), strict=True)
            )
            weights, (means, squares) = adam(
                weights, gradients, (means, squares), taken + step, optimizer.param_groups[0]
            )
        return weights | buffers


def adam(
    weights: Weights, gradients: Weights, moments: Moments, step: Tensor | int, settings: dict[str, Any]
) -> tuple[Weights, Moments]:
    """One step of Adam that can be differentiated (Kingma & Ba 2015, algorithm 1): the new weights and moments."""
    rate, (beta1, beta2), tiny = settings["lr"], settings["betas"], settings["eps"]
    means = {n: beta1 * mean + (1 - beta1) * gradients[n] for n, mean in moments[0].items()}
    squares = {n: beta2 * square + (1 - beta2) * gradients[n].square() for n, square in moments[1].items()}
    unbiased = 1 - beta1**step, 1 - beta2**step
    moved = {
        # the root has no slope at 0
        n: weight - rate * (means[n] / unbiased[0]) / ((squares[n] / unbiased[1]).clamp_min(1e-30).sqrt() + tiny)
        for n, weight in weights.items()
    }
    return moved, (means, squares)
