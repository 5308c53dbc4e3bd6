"""ProGAN — Karras et al. 2018, "Progressive Growing of GANs for Improved Quality, Stability, and Variation".

WGAN-GP and a small drift on networks that begin with 4×4 pixels. Twice the side is faded in over so many images, then
trained for so many more, both with new optimizers; every side may have smaller minibatches and other rates.

Differs from the paper: real images are loaded at full size and shrunk to what has grown; minibatches are of equal
parts of `data.batch_size`.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor

from gan_lightning.data.base import say
from gan_lightning.losses import Losses
from gan_lightning.models.wgan_gp import WGANGP
from gan_lightning.networks.progan import Growing, enlarged, faded, shrunk
from gan_lightning.networks.wrapped import unwrapped
from gan_lightning.steps import Phase
from gan_lightning.types import NonNegativeFloat, PositiveFloat, PositiveInt


class ProGAN(WGANGP):
    """WGAN-GP on networks that grow.

    Args:
        fade_images, stable_images: that every side is faded in over, and trained on after that; the last side goes on
            to the end.
        splits, rates: what minibatches are divided by and learning rates multiplied with, a number a side from 4 on;
            the last holds for all that follow.
        drift_weight: ε of appendix A.1, on the square of logits of real images.
    """

    no_graphs = "its networks grow on the host"

    def __init__(
        self,
        fade_images: PositiveInt,
        stable_images: PositiveInt,
        splits: Sequence[PositiveInt] = (1,),
        rates: Sequence[PositiveFloat] = (1.0,),
        drift_weight: NonNegativeFloat = 0.001,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            if not isinstance(unwrapped(network), Growing):
                raise ValueError(f"{name}: {type(network).__name__} does not grow; use network@model=progan")
        for name, values in (("splits", splits), ("rates", rates)):
            if not values:
                raise ValueError(f"{name}=[]: a number a side, at least one")
        if self.step.compile:
            raise ValueError("step.compile=true: every minibatch of a growing network would be compiled anew")
        self.drift_weight = drift_weight
        sides = cast(Growing, self.generator).sides
        for name, values in (("splits", splits), ("rates", rates)):
            if len(values) > len(sides):
                raise ValueError(f"{name}={list(values)}: there are {len(sides)} sides from 4 to {sides[-1]} pixels")
        self.fade_images = fade_images
        self.phases = []
        for level, side in enumerate(sides):
            own = {"split": splits[min(level, len(splits) - 1)], "rate": rates[min(level, len(rates) - 1)]}
            if level:
                self.phases.append(Phase(f"to {side}", fade_images, reset_optimizers=True, **own))
            self.phases.append(Phase(f"at {side}", stable_images, reset_optimizers=level > 0, **own))
        self.grow(0.0)

    def grow(self, grown: float) -> None:
        """Both players and the average, so far."""
        average = [] if self.ema is None else [self.ema.generator]
        for network in (self.generator, self.discriminator, *average):
            cast(Growing, network).grow(grown)

    def on_fit_start(self) -> None:
        """Weights of another run (`weights=…`) go on where they had grown to."""
        counters, grown = self.counters, float(cast(Growing, self.generator).grown)
        if not counters.images:
            level = math.ceil(grown)
            counters.phase, fading = 2 * level - (grown < level), grown < level
            counters.phase_images = round((grown - level + 1) * self.fade_images) if fading else 0
        super().on_fit_start()

    def progressed(self, images: int) -> None:
        super().progressed(images)
        level, steady = divmod(self.counters.phase + 1, 2)  # at 4, to 8, at 8, to 16, …
        self.grow(level if steady else level - 1 + min(self.counters.phase_images / self.fade_images, 1.0))

    def on_train_end(self) -> None:
        """Says so where the run ended before the networks were whole."""
        network = cast(Growing, self.generator)
        if network.side < network.sides[-1]:
            say(f"model.stable_images: the run ended {self.phase.name} of {network.sides[-1]} pixels")

    def shown(self, images: Tensor) -> Tensor:
        """Of the side that has grown, and faded like the networks: (N, C, H, W) -> (N, C, side, side)."""
        network = cast(Growing, self.discriminator)
        images = shrunk(images, network.side)
        if network.alpha == 1 or network.level == 0:
            return images
        return faded(enlarged(shrunk(images, network.side // 2), network.side), images, network.alpha)

    def scored(self, on_real: Tensor, on_fake: Tensor) -> Losses:
        losses = super().scored(on_real, on_fake)
        drift = on_real.square().mean()
        return losses | {"loss": losses["loss"] + self.drift_weight * drift, "drift": drift}
