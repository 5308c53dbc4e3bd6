"""DeepFill v2 — Yu et al. 2019, "Free-Form Image Inpainting with Gated Convolution".

Holes of any shape are filled twice, coarse and fine, by gated convolutions. The discriminator (SN-PatchGAN) scores
every place of the image with many numbers and knows the mask; the generator fools it and stays near the truth in L1.

Differs from the paper: without the user's sketch; samples and translations come from a moving average of the generator
(`model.ema=null`: not).
"""

from typing import Any

import torch
from torch import Tensor

from gan_lightning.adversarial import Batch, Fakes, Latents
from gan_lightning.inpainting import Inpainter
from gan_lightning.losses import Losses
from gan_lightning.types import NonNegativeFloat


class DeepFill(Inpainter):
    """A pair of losses on the logits of all places, with L1 of both results.

    Args:
        l1_weight: of the L1 distance of the coarse and of the fine result, whole images, to the truth.
        hole_weight: an error in the hole counts so many times; 1 in the paper.
        adversarial_weight: of the GAN's loss; 0: L1 alone, and the discriminator only looks on.
    """

    def __init__(
        self,
        l1_weight: NonNegativeFloat = 1.0,
        hole_weight: NonNegativeFloat = 1.0,
        adversarial_weight: NonNegativeFloat = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.l1_weight = l1_weight
        self.hole_weight = hole_weight
        self.adversarial_weight = adversarial_weight

    def places(self, images: Tensor, mask: Tensor) -> Tensor:
        """Logits of images (N, channels, H, W) with masks (N, 1, H, W): (N · numbers of the last feature map,)."""
        return self.discriminator(*self.shown_with_mask(images, mask)).flatten()

    def verdicts(self, images: Tensor, latents: Latents, labels: Tensor | None) -> Tensor:
        return self.places(images, latents[:, -1:]).unflatten(0, (len(images), -1)).mean(1)

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """Yu et al. 2019, section 3.4: the hinge loss, over all numbers."""
        return self.scored(*(self.places(images, batch["mask"]) for images in (batch["image"], fakes["image"])))

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        on_real = self.places(batch["image"], batch["mask"]) if self.pair.needs_real else None
        fooling = self.pair.generator(on_real, self.places(fakes["image"], batch["mask"]))["loss"]
        weights = torch.where(batch["mask"] > 0, self.hole_weight, 1.0)
        coarse, fine = ((weights * (fakes[stage] - batch["image"]).abs()).mean() for stage in ("coarse", "fine"))
        total = self.adversarial_weight * fooling + self.l1_weight * (coarse + fine)
        return {"loss": total, "loss_adversarial": fooling, "l1_coarse": coarse, "l1": fine}
