"""What rules that fill holes share: the generator is given an image and, as the last channel, where its hole is."""

from typing import cast

import torch
from torch import Tensor

from gan_lightning.adversarial import Batch, Fakes, Latents
from gan_lightning.networks.deepfill import DeepFillGenerator, completed
from gan_lightning.translation import Translator


class Inpainter(Translator):
    """A coarse and a fine result for images (N, channels, H, W) with holes; their mask is the last input channel."""

    own_metrics = ("l1", "psnr", "ssim", "l1_hole", "psnr_hole", "ssim_hole")
    used_by = "translate checkpoint={} input=<an image or a folder> mask=<the same>"
    kinds = ("holes",)
    takes_masks = True

    def given(self, batch: Batch) -> Latents:
        return torch.cat([batch["image"] * (1 - batch["mask"]), batch["mask"]], 1)

    def seen(self, given: Tensor) -> Tensor:
        return given[:, :-1]  # holes are 0, grey

    def generate(self, batch: Batch, latents: Latents) -> Fakes:
        """The image with its hole filled, and both results as they are (N, channels, H, W)."""
        coarse, fine = cast(DeepFillGenerator, self.generator).stages(latents)
        return {"image": completed(latents, fine), "coarse": coarse, "fine": fine}

    def shown_with_mask(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, channels, H, W) and masks (N, 1, H, W) as the discriminator is shown them: augmented alike."""
        both = self.view(torch.cat([images, mask], 1))
        return both[:, :-1], both[:, -1:]
