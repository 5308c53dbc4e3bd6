"""StyleGAN2 — Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN".

The non-saturating game with R1, on a generator whose styles are mixed between two latents and whose images are to
change by as much for any step of the style (path length regularisation). Both penalties are lazy: `step.penalty_every`
and `step.generator_penalty_every` say how rarely they are computed, that many times as heavy.

Differs from the paper: a penalty is part of a step's loss, where the published code makes an optimizer step of its own
(and shortens all steps by as much: c of appendix B); styles are mixed image by image.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from gan_lightning.adversarial import Batch, Latents
from gan_lightning.losses import Losses, Name
from gan_lightning.models.zero_centred import ZeroCentred
from gan_lightning.networks.stylegan2 import StyleGenerator, Truncated
from gan_lightning.networks.wrapped import unwrapped
from gan_lightning.steps import PlayerName
from gan_lightning.types import Fraction, NonNegativeFloat


class StyleGAN2(ZeroCentred):
    """R1, style mixing and path length regularisation.

    Args:
        mixing: the share of images made with styles of two latents (Karras et al. 2019, section 3.1).
        path_length_weight: γ_pl; 0: without.
        path_length_decay: how fast a, the length that is aimed at, follows (1 - decay of their moving average).

    Raises ValueError for a generator without styles.
    """

    regularised = True
    path_mean: Tensor  # a
    path_length: Tensor  # of the step under way

    def __init__(
        self,
        loss: Name = "nonsaturating",
        r1_weight: NonNegativeFloat = 10.0,
        r2_weight: NonNegativeFloat = 0.0,
        mixing: Fraction = 0.9,
        path_length_weight: NonNegativeFloat = 2.0,
        path_length_decay: Fraction = 0.01,
        **base: Any,
    ) -> None:
        super().__init__(loss=loss, r1_weight=r1_weight, r2_weight=r2_weight, **base)
        if not isinstance(unwrapped(self.generator), StyleGenerator):
            raise ValueError(f"generator: {type(self.generator).__name__} has no styles; use network@model=stylegan2")
        self.mixing = mixing
        self.path_length_weight = path_length_weight
        self.path_length_decay = path_length_decay
        self.register_buffer("path_mean", torch.zeros(()))
        self.register_buffer("path_length", torch.zeros(()), persistent=False)

    def draw_latents(self, count: int, stream: torch.Generator, truncation: float | None = None) -> Tensor:
        """z as `latents` says, (count, latent_size); `truncation` is of styles: see `truncated`."""
        return super().draw_latents(count, stream)

    def truncated(self, network: nn.Module, truncation: float) -> nn.Module:
        """ψ = `truncation`: styles that far from their mean."""
        return Truncated(cast(StyleGenerator, network), truncation)

    def generate(self, batch: Batch, latents: Latents) -> Tensor:
        return self.made_from(self.layer_styles(latents, batch.get("fake_label")))

    def layer_styles(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The style of every layer, in training from a place on that of another latent: (N, …) -> (N, layers, size)."""
        generator = cast(StyleGenerator, self.generator)
        styles = generator.styles(z, y)[:, None].expand(-1, generator.layers, -1)  # (N, layers, size)
        if not self.mixing or not self.training:
            return styles

        def choices(count: int, stream: torch.Generator) -> dict[str, Tensor]:
            place = torch.randint(1, generator.layers, (count,), generator=stream)
            mixed = torch.rand(count, generator=stream) < self.mixing
            return {"place": torch.where(mixed, place, generator.layers), "z": self.draw_latents(count, stream)}

        drawn = self.draw(f"mixing {len(z)}", len(z), choices)
        others = generator.styles(drawn["z"], y)[:, None]  # (N, 1, size)
        own = torch.arange(generator.layers, device=z.device) < drawn["place"][:, None]  # (N, layers)
        return torch.where(own[:, :, None], styles, others)

    def made_from(self, styles: Tensor) -> Tensor:
        return cast(StyleGenerator, self.generator).synthesis(styles)

    def generator_loss(self, batch: Batch, fakes: Tensor) -> Losses:
        losses = super().generator_loss(batch, fakes)
        if not self.path_length_weight or not self.generator_penalty_due:
            return losses
        half = max(1, len(fakes) // 2)  # as in their code
        lengths = self.path_lengths(batch["latents"][:half], None if not self.classes else batch["fake_label"][:half])
        aim = self.path_mean.lerp(lengths.detach().mean(), self.path_length_decay)
        penalty = (lengths - aim).square().mean()
        total = losses["loss"] + self.step.generator_penalty_every * self.path_length_weight * penalty
        return losses | {"loss": total, "path_length": lengths.mean(), "path_penalty": penalty}

    def path_lengths(self, z: Tensor, y: Tensor | None) -> Tensor:
        """‖J_wᵀ y‖₂ of section 3.2 for an image y of noise, with the mean over layers of their code: (N, …) -> (N,)."""
        with torch.autocast(z.device.type, enabled=False):
            styles = self.layer_styles(z, y)  # (N, layers, size)
            images = self.made_from(styles)
            noise = torch.randn_like(images) / (images.shape[2] * images.shape[3]) ** 0.5
            (gradients,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
            return gradients.square().sum(2).mean(1).sqrt()

    def descend(self, player: PlayerName, losses: Losses) -> None:
        """Also keeps the mean length of an accumulated step."""
        super().descend(player, losses)
        if "path_length" in losses:
            self.path_length += losses["path_length"].detach() / self.step.accumulate

    def moved(self, player: PlayerName) -> None:
        """a follows the lengths, the same on all devices."""
        if player == "generator" and self.path_length_weight and self.generator_penalty_due:
            length = self.trainer.strategy.reduce(self.path_length, reduce_op="mean")
            self.path_mean.lerp_(length, self.path_length_decay)
            self.path_length.zero_()
