"""InfoGAN — Chen et al. 2016, "InfoGAN: Interpretable Representation Learning by Information Maximizing GANs".

Part of the latents are codes, and both players also minimise how badly the discriminator's auxiliary outputs recover
them from the fakes: a lower bound of the mutual information of codes and images (eq. 5). What a code means is found,
not told.

Differs from the paper: noise is N(0, 1) by default, U(-1, 1) in the published code; DCGAN's networks, with one linear
layer for the codes, where network@model=infogan_mnist has the paper's; samples come from a moving average of the
generator.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from gan_lightning.adversarial import Batch, Fakes
from gan_lightning.losses import Losses
from gan_lightning.models.gan import GAN
from gan_lightning.types import NonNegativeFloat, NonNegativeInt, PositiveInt


class InfoGAN(GAN):
    """Latents are noise, then categorical codes as one number a value, then continuous ones U[-1, 1].

    Args:
        categorical: values of each categorical code.
        continuous: number of continuous codes, whose recovered density has standard deviation 1.
        information_weight: λ of eq. 6.

    The discriminator has one `auxiliary` output a value and a continuous code.
    """

    reads_auxiliary = True

    def __init__(
        self,
        categorical: Sequence[PositiveInt] = (10,),
        continuous: NonNegativeInt = 2,
        information_weight: NonNegativeFloat = 1.0,
        **base: Any,
    ) -> None:
        if classes := base.get("classes"):
            raise ValueError(f"classes={classes}: InfoGAN finds its codes without labels; use classes=0")
        super().__init__(**base)
        self.categorical, self.continuous = list(categorical), continuous
        self.widths = [*self.categorical, *[1] * continuous]
        self.information_weight = information_weight
        self.latent_size = cast(int, self.generator.latent_size)
        if not self.widths:
            raise ValueError("categorical=[], continuous=0: InfoGAN needs codes")
        outputs = getattr(self.discriminator, "auxiliary", 0)
        if outputs != sum(self.widths):
            raise ValueError(
                f"discriminator.auxiliary={outputs}: the codes need {sum(self.widths)} outputs: network@model=infogan"
            )
        if self.latent_size <= sum(self.widths):
            raise ValueError(f"generator.latent_size={self.latent_size}: holds the {sum(self.widths)} codes and noise")
        if self.pair.needs_real:
            raise ValueError("loss: the generator of InfoGAN is not shown real images; use nonsaturating or hinge")

    def code_slices(self) -> dict[str, tuple[int, int]]:
        """Where each code lies in the latents: wider than one for categorical codes."""
        names = [f"category_{n + 1}" for n in range(len(self.categorical))]
        names += [f"code_{n + 1}" for n in range(self.continuous)]
        starts = [self.latent_size - sum(self.widths[n:]) for n in range(len(self.widths))]
        return {name: (start, start + width) for name, start, width in zip(names, starts, self.widths, strict=True)}

    def draw_latents(self, count: int, stream: torch.Generator, truncation: float | None = None) -> Tensor:
        noise = super().draw_latents(count, stream, truncation)[:, : -sum(self.widths)]
        drawn = [one_hot(torch.randint(values, (count,), generator=stream), values) for values in self.categorical]
        return torch.cat([noise, *drawn, 2 * torch.rand(count, self.continuous, generator=stream) - 1], 1)

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of being real (N,) and what is recovered of the codes (N, auxiliary)."""
        found = self.discriminator(self.view(images))
        return found[:, 0], found[:, 1:].float()

    def judge(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.outputs(images)[0]

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        on_fake, recovered = self.outputs(fakes)
        losses, lost = self.scored(self.judge(batch["image"], None), on_fake), self.lost(batch, recovered)
        return losses | {"loss": losses["loss"] + self.information_weight * lost, "lost": lost}

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        on_fake, recovered = self.outputs(fakes)
        lost = self.lost(batch, recovered)
        fooling = self.pair.generator(None, on_fake)["loss"]
        return {"loss": fooling + self.information_weight * lost, "lost": lost}

    def lost(self, batch: Batch, recovered: Tensor) -> Tensor:
        """-E[log Q(c|x)] over all codes but for constants, which is H(c) - L_I of eq. 5: (N, auxiliary) -> scalar."""
        codes = batch["latents"][:, -sum(self.widths) :].split(self.widths, 1)
        lost = recovered.new_zeros(())
        for index, (code, found) in enumerate(zip(codes, recovered.split(self.widths, 1), strict=True)):
            if index < len(self.categorical):
                lost = lost + cross_entropy(found, code)
            else:
                lost = lost + 0.5 * (code - found).square().mean()
        return lost
