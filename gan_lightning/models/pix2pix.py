"""pix2pix — Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks".

The discriminator is shown an image beside the one that it was made of, patch by patch; the generator fools it and stays
near the truth in L1.

Differs from the paper: samples and translations come from a moving average of the generator (`model.ema=null`: not),
whose BatchNorm takes the averages of training; single images, as the paper trains with, are best translated with their
own statistics (`model.generator.statistics=image`).
"""

from typing import Any

import torch
from torch import Tensor

from gan_lightning.adversarial import Batch, Fakes, Latents
from gan_lightning.data.base import ImageData, say
from gan_lightning.ema import batch_norms
from gan_lightning.losses import Losses
from gan_lightning.networks.translator import NormOfEach
from gan_lightning.translation import Translator
from gan_lightning.types import NonNegativeFloat


class Pix2Pix(Translator):
    """The GAN rule on pairs, with L1.

    Args:
        l1_weight: λ of eq. 4.
        adversarial_weight: of the GAN's loss; 0: L1 alone, and the discriminator only looks on.
    """

    def __init__(
        self, l1_weight: NonNegativeFloat = 100.0, adversarial_weight: NonNegativeFloat = 1.0, **base: Any
    ) -> None:
        super().__init__(**base)
        self.won = self.won / 2 if self.won else None
        self.l1_weight = l1_weight
        self.adversarial_weight = adversarial_weight

    def on_fit_start(self) -> None:
        super().on_fit_start()
        data: ImageData = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        size = data.minibatch_size(self.trainer.world_size, self.step.accumulate)
        alone = any(isinstance(module, NormOfEach) for module in self.generator.modules())
        if alone and size > 1:
            say(f"model.generator.statistics=image: is for minibatches of one image, and they have {size}: use running")
        if size == 1 and batch_norms(self.generator):
            say("model.generator.statistics=running: minibatches have one image: image translates as it is trained")

    def patches(self, images: Tensor, inputs: Tensor) -> Tensor:
        """Logits of all patches of images (N, C, H, W) made of inputs (N, C', H, W): (N · patches,)."""
        return self.discriminator(self.view(torch.cat([inputs, images], 1))).flatten()

    def verdicts(self, images: Tensor, latents: Latents, labels: Tensor | None) -> Tensor:
        return self.patches(images, latents).unflatten(0, (len(images), -1)).mean(1)

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        on_real, on_fake = self.patches(batch["image"], batch["input"]), self.patches(fakes, batch["input"])
        losses = self.scored(on_real, on_fake)
        return losses | {"loss": losses["loss"] / 2}  # it learns half as fast as the generator (section 3.3)

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        on_real = self.patches(batch["image"], batch["input"]) if self.pair.needs_real else None
        fooling = self.pair.generator(on_real, self.patches(fakes, batch["input"]))["loss"]
        l1 = (fakes - batch["image"]).abs().mean()
        return {"loss": self.adversarial_weight * fooling + self.l1_weight * l1, "loss_adversarial": fooling, "l1": l1}
