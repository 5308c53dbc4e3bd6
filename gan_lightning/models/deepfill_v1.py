"""DeepFill v1 — Yu et al. 2018, "Generative Image Inpainting with Contextual Attention".

A box is filled twice, coarse and fine. One Wasserstein critic judges the image and another one the hole, both with a
penalty on their gradient in the hole alone; L1 counts less the further a pixel is from what is known, where much may be
right.

Differs from the paper: weights of the parts are the published code's, where L1 outside the hole is as well; the square
of the local critic is centred on the box; boxes at the border of the image have known pixels on the other sides only,
where the published code measures to all sides; the augmented view, if any, is one for both critics; samples and
translations come from a moving average of the generator (`model.ema=null`: not).
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from gan_lightning.adversarial import Batch, Fakes, Latents
from gan_lightning.data.base import ImageData
from gan_lightning.errors import UserError
from gan_lightning.inpainting import Inpainter
from gan_lightning.losses import Losses
from gan_lightning.networks.deepfill import DeepFillV1Critics
from gan_lightning.penalties import gradient_penalty, refuse_mixing
from gan_lightning.types import NonNegativeFloat, PositiveFraction


class DeepFillV1(Inpainter):
    """Wasserstein losses of two critics, their gradient penalties, and discounted L1.

    Args:
        discount: γ: an error in the hole counts γ^l, l pixels from the nearest known one.
        hole_weight, known_weight: of the L1 distance in the hole and outside of it.
        coarse_weight: of the coarse result's part in both.
        adversarial_weight: of the critics' verdicts in the generator's loss.
        penalty_weight: λ of the critics' penalties.
    """

    penalised = True

    def __init__(
        self,
        discount: PositiveFraction = 0.9,
        hole_weight: NonNegativeFloat = 1.2,
        known_weight: NonNegativeFloat = 1.2,
        coarse_weight: NonNegativeFloat = 1.2,
        adversarial_weight: NonNegativeFloat = 0.001,
        penalty_weight: NonNegativeFloat = 10.0,
        **base: Any,
    ) -> None:
        super().__init__(loss="wasserstein", **base)
        refuse_mixing(self.discriminator)
        self.discount = discount
        self.hole_weight, self.known_weight, self.coarse_weight = hole_weight, known_weight, coarse_weight
        self.adversarial_weight = adversarial_weight
        self.penalty_weight = penalty_weight

    def check_data(self, data: ImageData) -> None:
        super().check_data(data)
        if (masks := getattr(data, "masks", "box")) != "box":
            raise UserError(f"data.masks={masks}: one of {type(self).__name__}'s critics looks at boxes: use box")

    def critics(self, images: Tensor, mask: Tensor) -> Tensor:
        """The sum of both critics' logits of images (N, channels, H, W) with masks (N, 1, H, W): (N,)."""
        return self.discriminator(*self.shown_with_mask(images, mask)).sum(1)

    def verdicts(self, images: Tensor, latents: Latents, labels: Tensor | None) -> Tensor:
        return self.critics(images, latents[:, -1:])

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        real, fake, mask = batch["image"], fakes["image"], batch["mask"]
        losses = self.scored(self.critics(real, mask), self.critics(fake, mask))
        losses["distance"] = -losses["loss"]
        if not self.penalty_due:
            return losses
        critics = cast(DeepFillV1Critics, self.discriminator)
        local = self.penalty("local", critics.on_hole, real, fake, mask)
        whole = self.penalty("whole", lambda images, _: critics.whole(images), real, fake, mask)
        weight = self.step.penalty_every * self.penalty_weight
        return losses | {
            "loss": losses["loss"] + weight * (local + whole),
            "gradient_penalty_local": local,
            "gradient_penalty": whole,
        }

    def penalty(
        self, name: str, critic: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor, mask: Tensor
    ) -> Tensor:
        """Yu et al. 2018, eq. 5: (‖∇D(x̂) ⊙ m‖₂ - 1)², m = 1 in the hole: D as a function of the hole's pixels alone."""
        mixing = self.draw(f"mixing {name}", len(real), lambda n, stream: torch.rand(n, generator=stream))

        def judge(images: Tensor) -> Tensor:
            return critic(*self.shown_with_mask(torch.where(mask > 0, images, real.float()), mask))

        return gradient_penalty(judge, real, fake, mixing).mean()

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        fooling = self.pair.generator(None, self.critics(fakes["image"], batch["mask"]))["loss"]
        mask, shares = batch["mask"], (self.coarse_weight, 1.0)
        weights = self.discount ** distance_to_known(mask)  # γ^l; 1 outside the hole
        hole, known = torch.zeros_like(fooling), torch.zeros_like(fooling)
        for share, stage in zip(shares, ("coarse", "fine"), strict=True):
            error = weights * (fakes[stage] - batch["image"]).abs()
            hole, known = hole + share * mean_in(error, mask), known + share * mean_in(error, 1 - mask)
        total = self.adversarial_weight * fooling + self.hole_weight * hole + self.known_weight * known
        return {"loss": total, "loss_adversarial": fooling, "l1_hole": hole, "l1_known": known}


def mean_in(values: Tensor, region: Tensor) -> Tensor:
    """The mean over images of what each has in its region (N, 1, H, W), 1 inside: (N, C, H, W) -> scalar.

    0 of an image whose region is empty.
    """
    sums, pixels = (values * region).flatten(1).sum(1), region.flatten(1).sum(1) * values.shape[1]
    return (sums / pixels.clamp(min=1)).mean()


def distance_to_known(mask: Tensor) -> Tensor:
    """Steps to the nearest pixel outside the hole along rows and columns: masks (N, 1, H, W), 1 = hole -> the same.

    In a box that is the usual distance too. Without known pixels it is infinite.
    """
    distance = torch.where(mask > 0, torch.inf, 0.0)
    for dim in (-2, -1):
        side = torch.arange(mask.shape[dim], device=mask.device, dtype=distance.dtype)
        side = side[:, None] if dim == -2 else side
        before = (distance - side).cummin(dim).values + side
        after = (distance + side).flip(dim).cummin(dim).values.flip(dim) - side
        distance = torch.minimum(before, after)
    return distance
