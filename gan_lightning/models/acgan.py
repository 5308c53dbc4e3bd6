"""AC-GAN — Odena et al. 2017, "Conditional Image Synthesis with Auxiliary Classifier GANs".

The discriminator also says the class, of real images and of fakes, and both players want it right: the generator is
told the class to make, the discriminator is not told what it sees.

Differs from the paper: DCGAN's networks by default (`network@model=acgan_cifar10` has the paper's); samples come from a
moving average of the generator.
"""

from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from gan_lightning.adversarial import Batch, Fakes
from gan_lightning.losses import Losses
from gan_lightning.models.gan import GAN
from gan_lightning.types import NonNegativeFloat


class ACGAN(GAN):
    """Losses on source and class. The discriminator has `auxiliary` outputs, one a class.

    Args:
        class_weight: of the generator's loss on the class (1 in the paper).
    """

    reads_auxiliary = True

    def __init__(self, class_weight: NonNegativeFloat = 1.0, **base: Any) -> None:
        super().__init__(**base)
        if not self.classes:
            raise ValueError("classes=0: AC-GAN needs data with labels")
        outputs = getattr(self.discriminator, "auxiliary", 0)
        if outputs != self.classes or self.discriminator.classes:
            raise ValueError(
                f"discriminator.auxiliary={outputs}: AC-GAN needs an output for each of {self.classes} classes, of a "
                "discriminator that is not told the class; use network@model=acgan"
            )
        if self.pair.needs_real:
            raise ValueError("loss: the generator of AC-GAN is not shown real images; use nonsaturating or hinge")
        self.class_weight = class_weight

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of being real (N,) and of the classes (N, classes)."""
        found = self.discriminator(self.view(images))
        return found[:, 0], found[:, 1:].float()

    def judge(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.outputs(images)[0]

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        (on_real, of_real), (on_fake, of_fake) = self.outputs(batch["image"]), self.outputs(fakes)
        losses = self.scored(on_real, on_fake)
        on_classes = cross_entropy(of_real, batch["label"]) + cross_entropy(of_fake, batch["fake_label"])  # -L_C
        right = (of_real.argmax(1) == batch["label"]).float().mean()
        return losses | {"loss": losses["loss"] + on_classes, "loss_class": on_classes, "accuracy": right}

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        on_fake, of_fake = self.outputs(fakes)
        on_classes = cross_entropy(of_fake, batch["fake_label"])
        fooling = self.pair.generator(None, on_fake)["loss"]
        return {"loss": fooling + self.class_weight * on_classes, "loss_class": on_classes}
