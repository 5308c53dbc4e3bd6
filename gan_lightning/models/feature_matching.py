"""Feature matching — Salimans et al. 2016, "Improved Techniques for Training GANs", section 3.1.

The generator does not try to fool the discriminator: it makes the mean of the discriminator's features on fakes equal
to that on real images. The discriminator is trained as in the first GAN.

Differs from the paper: the features are those before the last layer; DCGAN's networks by default (the paper's are
`network@model=improved`); samples come from a moving average of the generator.
"""

from typing import Any

from gan_lightning.adversarial import Batch, Fakes
from gan_lightning.losses import Losses
from gan_lightning.models.gan import GAN
from gan_lightning.networks.discriminator import Discriminator


class FeatureMatching(GAN):
    """Any discriminator of networks/discriminator.py: it has `features`."""

    discriminator: Discriminator

    def __init__(self, **base: Any) -> None:
        super().__init__(**base)
        self.won = None  # a generator that fools nobody has features to match
        if not hasattr(self.discriminator, "features"):
            raise ValueError(f"{type(self.discriminator).__name__} has no `features` to match")

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """‖E f(x) - E f(G(z))‖²."""
        of_real = self.discriminator.features(self.view(batch["image"]), batch.get("label"))  # (N, F)
        of_fakes = self.discriminator.features(self.view(fakes), batch.get("fake_label"))  # (N, F)
        return {"loss": (of_real.float().mean(0) - of_fakes.float().mean(0)).square().sum()}
