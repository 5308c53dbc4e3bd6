"""Differential privacy: gradients that no one image can change by much, and what they spend. Abadi et al. 2016, DP-SGD.

The noise is the caller's: a cut sum of gradients g + N(0, σ²C²), over images that are each there with probability q.
"""

import logging
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from gan_lightning.ema import batch_norms
from gan_lightning.errors import UserError

Weights = dict[str, Tensor]
TOGETHER = 64  # samples whose gradients are held at a time: each is as large as the network


def cut_gradients(
    loss: Callable[..., tuple[Tensor, Tensor]], weights: Weights, most: float, *samples: Tensor
) -> tuple[Weights, Tensor, Tensor]:
    """The sum of the samples' gradients, each cut to the norm `most`: tensors (n, ...) -> gradients, (n,), (n,).

    Abadi et al. 2016, algorithm 1: Σ g / max(1, ‖g‖₂ / C). loss: (weights, one sample) -> its loss and its logit,
    all of which come back, too. n may be 0.
    """
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    losses, logits = [samples[0].new_zeros(0)], [samples[0].new_zeros(0)]
    every = vmap(grad_and_value(loss, has_aux=True), (None, *[0] * len(samples)), randomness="different")
    for part in zip(*(tensor.split(TOGETHER) for tensor in samples), strict=True):
        if len(part[0]):
            gradients, (its_losses, its_logits) = every(weights, *part)
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)  # (n,)
            factors = (most / norms).clamp(max=1)  # 1 for a gradient of 0
            for name, gradient in gradients.items():  # no matrix product, which TF32 would round to above `most`
                total[name] += (factors.view(-1, *[1] * (gradient.dim() - 1)) * gradient).sum(0)
            losses.append(its_losses)
            logits.append(its_logits)
    return total, torch.cat(losses), torch.cat(logits)


@contextmanager
def own_logging() -> Iterator[None]:
    """Leaves the program's logging as it was: importing Opacus would change how every line looks."""
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def validate(network: torch.nn.Module) -> None:
    """Raises ValueError for what Opacus knows to break privacy, such as BatchNorm."""
    with own_logging():
        from opacus.validators import ModuleValidator

    if batch_norms(network):
        raise ValueError("discriminator: batch norm mixes samples, privacy needs them alone: norm=none or layer")
    for error in ModuleValidator.validate(network):
        raise ValueError(f"discriminator: {type(network).__name__}: {' '.join(str(error).split())}")


class Accountant:
    """What the steps so far have spent: Rényi differential privacy (Mironov 2017), computed by Opacus.

    `history` holds (noise multiplier σ, sampling rate q, number of steps) of every stretch with the same values.
    """

    def __init__(self) -> None:
        try:
            with own_logging():
                from opacus.accountants import RDPAccountant
                from opacus.accountants.analysis import rdp
        except ImportError as error:
            raise UserError('model=dpgan: Opacus is not installed: pip install -e ".[privacy]"') from error
        self.history: list[tuple[float, float, int]] = []
        self._rdp: Any = rdp
        self._orders = RDPAccountant.DEFAULT_ALPHAS
        self._of_one_step: dict[tuple[float, float], Any] = {}

    def count(self, noise_multiplier: float, rate: float) -> None:
        """One step more."""
        if self.history and self.history[-1][:2] == (noise_multiplier, rate):
            self.history[-1] = (noise_multiplier, rate, self.history[-1][2] + 1)
        else:
            self.history.append((noise_multiplier, rate, 1))

    def epsilon(self, delta: float, *further: tuple[float, float, int]) -> float:
        """ε of the steps so far and of further stretches."""
        stretches = [stretch for stretch in (*self.history, *further) if stretch[2]]
        if not stretches:
            return 0.0
        spent = sum(steps * self.of_one_step(*kind) for *kind, steps in stretches)  # Mironov 2017, proposition 1
        with warnings.catch_warnings():  # that another order might bound it more tightly
            warnings.simplefilter("ignore")
            return float(self._rdp.get_privacy_spent(orders=self._orders, rdp=spent, delta=delta)[0])

    def of_one_step(self, noise_multiplier: float, rate: float) -> Any:
        """The Rényi divergence of one step at every order: computed once, it takes a hundredth of a second."""
        key = noise_multiplier, rate
        if key not in self._of_one_step:
            self._of_one_step[key] = self._rdp.compute_rdp(
                q=rate, noise_multiplier=noise_multiplier, steps=1, orders=self._orders
            )
        return self._of_one_step[key]

    def steps_within(self, most: float, delta: float, noise_multiplier: float, rate: float) -> int:
        """How many further steps spend no more than `most` in all."""
        steps = range(2**40)
        after = bisect_right(steps, most, key=lambda count: self.epsilon(delta, (noise_multiplier, rate, count)))
        return max(0, after - 1)
