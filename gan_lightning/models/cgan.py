"""Conditional GAN — Mirza & Osindero 2014, "Conditional Generative Adversarial Nets".

Both players are told the class: the generator of what to make, the discriminator of what to expect. How is the
networks' affair: beside their inputs (`model=cgan`, `conditional_dcgan`), or by conditional BatchNorm and an inner
product of features and class (`model=projection`, Miyato & Koyama 2018).

Differs from the paper: by default labels come beside the first layer's inputs, with LeakyReLU and Adam; the paper maps
them to hidden units of their own, with maxout, dropout and SGD (`experiment=cgan_mnist`); samples come from a moving
average of the generator.
"""

from typing import Any

from gan_lightning.models.gan import GAN


class ConditionalGAN(GAN):
    """The GAN rule on data with labels. Raises ValueError where there are none."""

    def __init__(self, **base: Any) -> None:
        super().__init__(**base)
        if not self.classes:
            raise ValueError("classes=0: needs data with labels")
