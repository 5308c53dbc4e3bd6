"""Unrolled GAN — Metz et al. 2017, "Unrolled Generative Adversarial Networks".

The generator is judged by the discriminator as it will be after some more of its steps, and its gradient goes through
those steps (eq. 10): it cannot gain by running to where the discriminator has not looked yet. The steps are then
forgotten.

Differs from the paper: the generator moves after the discriminator's step on the same minibatch, not with it; under
mixed precision the unrolled steps are in float32; samples come from a moving average of the generator.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from gan_lightning.adversarial import Batch, Fakes
from gan_lightning.losses import Losses
from gan_lightning.models.gan import GAN
from gan_lightning.types import NonNegativeInt


class Unrolled(GAN):
    """The losses of any pair, the generator's under a discriminator some steps ahead.

    Args:
        unrolled_steps: K of eq. 8, steps of Adam on the present minibatch, as the discriminator's optimizer makes them.

    Raises ValueError for another optimizer than Adam.
    """

    def __init__(self, unrolled_steps: NonNegativeInt = 5, **base: Any) -> None:
        super().__init__(**base)
        factory = self.optimizer_factories["discriminator"]
        made_by, given = (factory.func, factory.keywords) if isinstance(factory, partial) else (factory, {})
        if unrolled_steps and made_by is not torch.optim.Adam:
            raise ValueError("discriminator_optimizer: unrolled steps are those of torch.optim.Adam")
        without = {f"discriminator_optimizer.{key}": given.get(key) for key in ("weight_decay", "amsgrad", "maximize")}
        without |= {f"step.{key}": getattr(self.step, key) for key in ("discriminator_clip", "compile", "recompute")}
        for key, value in without.items():
            if unrolled_steps and value:
                raise ValueError(f"{key}={str(value).lower()}: unrolled steps are without it")
        self.unrolled_steps = unrolled_steps
        self._ahead: dict[str, Tensor] | None = None  # weights and buffers that judge in place of its own

    def judge(self, images: Tensor, labels: Tensor | None) -> Tensor:
        if self._ahead is None:
            return super().judge(images, labels)
        return functional_call(self.discriminator, self._ahead, (self.view(images), labels if self.classes else None))

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """Eq. 10: the generator also gains from how its fakes change what is thought of real images."""
        if not (self.training and self.unrolled_steps):
            return super().generator_loss(batch, fakes)
        self._ahead = self.unroll(batch, fakes)
        try:
            loss = super().generator_loss(batch, fakes)["loss"]
            if not self.pair.needs_real:  # such a loss has both terms
                loss = loss - self.discriminator_loss(batch, fakes)["loss_real"]
            return {"loss": loss}
        finally:
            self._ahead = None

    def unroll(self, batch: Batch, fakes: Fakes) -> dict[str, Tensor]:
        """The discriminator after K more steps, as a function of the fakes; it is itself left as it is."""
        named = dict(self.discriminator.named_parameters())
        buffers = {name: buffer.clone() for name, buffer in self.discriminator.named_buffers()}
        optimizer = self.players["discriminator"].optimizer
        states = [optimizer.state.get(parameter, {}) for parameter in named.values()]
        # all weights in one vector: a few operations a step, however many layers there are
        weights = flat(named.values()).requires_grad_()
        mean, square = (
            flat(state.get(key, torch.zeros_like(p)) for state, p in zip(states, named.values(), strict=True))
            for key in ("exp_avg", "exp_avg_sq")
        )
        taken = next((state["step"] for state in states if "step" in state), 0)

        def ahead() -> dict[str, Tensor]:
            parts = weights.split([parameter.numel() for parameter in named.values()])
            shaped = {name: part.view(named[name].shape) for name, part in zip(named, parts, strict=True)}
            return shaped | buffers

        for step in range(1, self.unrolled_steps + 1):
            self._ahead = ahead()
            with torch.autocast(fakes.device.type, enabled=False):  # BatchNorm's second derivatives are NaN in float16
                loss = self.discriminator_loss(batch, fakes.to(weights.dtype))["loss"]
            (gradient,) = torch.autograd.grad(loss, weights, create_graph=True)
            weights, mean, square = adam(weights, gradient, mean, square, taken + step, optimizer.param_groups[0])
        return ahead()


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """All numbers in one vector, without their history."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def adam(
    weights: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: Tensor | int, settings: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """A step of Adam that can be differentiated (Kingma & Ba 2015, algorithm 1): new weights and moments, all (P,)."""
    rate, (beta1, beta2), tiny = settings["lr"], settings["betas"], settings["eps"]
    mean = torch.lerp(gradient, mean, beta1)
    square = torch.lerp(gradient.square(), square, beta2)
    root = (square / (1 - beta2**step)).clamp_min(1e-30).sqrt()  # which has no slope at 0
    return weights - rate / (1 - beta1**step) * mean / (root + tiny), mean, square
