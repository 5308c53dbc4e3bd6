"""Spectral norm and larger generator minibatches."""

from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

from gan_lightning.budget import Budget
from gan_lightning.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lightning.steps import Step
from tests.support import Blobs, Large, fit, game


def test_the_generator_moves_on_a_larger_minibatch_of_its_own(tmp_path: Path) -> None:
    module, seen = game(step=Step(critic_steps=2, generator_batch=3)), []
    module.generator.register_forward_pre_hook(lambda _, inputs: seen.append((len(inputs[0]), inputs[0][0, 0].item())))
    fit(module, Blobs(), tmp_path, budget=Budget(images=32))
    assert [count for count, _ in seen] == [8, 8, 24, 8, 8, 24]
    assert len({first for _, first in seen}) == 6  # latents of its own


def test_losses_that_pair_images_refuse_larger_minibatches() -> None:
    with pytest.raises(ValueError, match=r"loss=relativistic.*generator_batch"):
        game(loss="relativistic", step=Step(generator_batch=2))


def test_spectral_norm_is_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator(4, 16, 1, "none", classes=4, conditioning="projection", spectral_norm=True)
    generator = DCGANGenerator(4, 4, 16, 1, classes=4, conditioning="batch_norm")
    module = game(generator=generator, discriminator=discriminator, classes=4)
    fit(module, Large(image_size=16), tmp_path, max_epochs=3)
    module.train()
    layers = [m for m in discriminator.modules() if hasattr(m, "parametrizations")]
    assert len(layers) == 4  # two convolutions, the head and the projection
    for layer in layers:
        weight = cast(Tensor, layer.weight).detach()
        assert float(torch.linalg.matrix_norm(weight.flatten(1), 2)) == pytest.approx(1, abs=0.1)
