"""SRGAN — Ledig et al. 2017, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network".

The generator first learns to be near the truth in pixels (SRResNet). Then both play: the discriminator tells real from
enlarged images, and the generator fools it and stays near the truth in a classifier's features. With the relativistic
average losses and a third part, the distance of pixels, it is ESRGAN — Wang et al. 2018, "ESRGAN: Enhanced
Super-Resolution Generative Adversarial Networks".

Differs from the papers: the features are of torchvision's VGG19 where its weights are at hand, or else of a small
classifier (networks/perceptual.py), ESRGAN's compared by their L1 as in its code; inputs are made by torch's bicubic
and lie in [-1, 1]; samples come from a moving average of the generator (`model.ema=null`: not), with the BatchNorm
statistics of training; both players' optimizers begin anew after pre-training; ESRGAN's networks are not interpolated.
"""

from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from gan_lightning.adversarial import Batch, Fakes
from gan_lightning.data.base import ImageData, say
from gan_lightning.errors import UserError
from gan_lightning.losses import Losses
from gan_lightning.networks.perceptual import SMALLEST, Choice, Perceptual
from gan_lightning.steps import Phase
from gan_lightning.translation import Translator
from gan_lightning.types import NonNegativeFloat, NonNegativeInt, PositiveInt

DISTANCES = {"mse": nn.functional.mse_loss, "l1": nn.functional.l1_loss}


class SRGAN(Translator):
    """Pre-training by pixels alone, then the GAN rule with distances of features and of pixels.

    Args:
        image_size: of the crops that it is trained on.
        pretraining_images: that the generator is shown before the discriminator moves; 0: none; None: it never does.
        distance: of pixels and of features.
        pixel_weight, perceptual_weight, adversarial_weight: of the distances and the GAN's loss, after pre-training.
        perceptual: whose features; "auto" is VGG19 where its weights are at hand, and else the stand-in.
        perceptual_weights: a file of VGG19's weights.
        before_activation: features are taken before the last rectifier (Wang et al. 2018, section 3.2).
        input_size: None: that of the crops divided by the generator's scale.
    """

    own_metrics = ("l1", "psnr", "ssim", "psnr_y", "ssim_y")
    kinds = ("small",)

    def __init__(
        self,
        image_size: PositiveInt,
        pretraining_images: NonNegativeInt | None,
        distance: Literal["mse", "l1"] = "mse",
        pixel_weight: NonNegativeFloat = 0.0,
        perceptual_weight: NonNegativeFloat = 0.006,
        adversarial_weight: NonNegativeFloat = 0.001,
        perceptual: Choice = "auto",
        perceptual_weights: Path | None = None,
        before_activation: bool = False,
        input_size: PositiveInt | None = None,
        **base: Any,
    ) -> None:
        scale = getattr(base["generator"], "scale", None)
        if scale is None:
            raise ValueError(
                f"generator: {type(base['generator']).__name__} makes nothing larger; use SRResNet or RRDBNet"
            )
        super().__init__(input_size=input_size or max(image_size // scale, 1), **base)
        self.distance = DISTANCES[distance]
        self.pixel_weight = pixel_weight
        self.perceptual_weight = perceptual_weight
        self.adversarial_weight = adversarial_weight
        self.perceptual = Perceptual(perceptual, perceptual_weights, before_activation)
        pretraining = Phase("pretraining", pretraining_images, ("generator",), generator_loss="pixel_loss")
        if pretraining_images is None:
            self.phases = [pretraining]
        elif pretraining_images:
            self.phases = [pretraining, Phase(reset_optimizers=True)]
        self.compares_features = perceptual_weight > 0 and pretraining_images is not None

    def check_run(self, trainer: Any, data: Any) -> None:
        super().check_run(trainer, data)
        if not self.compares_features:
            return
        self.perceptual.load()
        if data.image_size < SMALLEST and self.perceptual.file() is not None:
            raise UserError(f"data.image_size={data.image_size}: VGG19's features need at least {SMALLEST} pixels")

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.compares_features and self.perceptual.file() is None:
            say("model.perceptual: VGG19's weights are not at hand: features of a small classifier instead of them")

    def measured(self, data: ImageData) -> tuple[str, ...]:
        return tuple(name for name in super().measured(data) if data.channels == 3 or not name.endswith("_y"))

    def pixel_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """What the generator minimises before there is a game: Ledig et al. 2017, eq. 4."""
        loss = self.distance(fakes.float(), batch["image"])
        return {"loss": loss, "loss_pixel": loss}

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """Ledig et al. 2017, eqs. 3, 5 and 6; Wang et al. 2018, eq. 3."""
        on_real = self.judge(batch["image"], None) if self.pair.needs_real else None
        fooling = self.pair.generator(on_real, self.judge(fakes, None))["loss"]
        pixel = self.pixel_loss(batch, fakes)["loss"]
        losses = {
            "loss": self.adversarial_weight * fooling + self.pixel_weight * pixel,
            "loss_adversarial": fooling,
            "loss_pixel": pixel,
        }
        if not self.perceptual_weight:
            return losses
        apart = self.apart(fakes, batch["image"])
        return losses | {"loss": losses["loss"] + self.perceptual_weight * apart, "loss_perceptual": apart}

    def apart(self, fakes: Tensor, real: Tensor) -> Tensor:
        """How far the features of two images (N, C, H, W) lie apart: a scalar."""
        return self.distance(self.perceptual(fakes).float(), self.perceptual(real).float())
