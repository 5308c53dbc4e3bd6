"""Penalties of rules: where they look, how much they weigh, what they refuse."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.models.dragan import DRAGAN
from gan_lightning.models.gan import GAN
from gan_lightning.models.wgan_gp import WGANGP
from gan_lightning.models.zero_centred import ZeroCentred
from gan_lightning.networks.dcgan import DCGANDiscriminator
from gan_lightning.networks.mlp import MLPDiscriminator
from gan_lightning.steps import Step
from tests.support import batch_of, fakes_of, game


def linear(slope: float = 3.0) -> MLPDiscriminator:
    """A discriminator whose gradient is `slope` at every one of 64 pixels, everywhere: its norm is 8 · slope."""
    network = MLPDiscriminator([], 8, 1)
    nn.init.constant_(network.head.weight, slope)
    nn.init.zeros_(network.head.bias)
    return network


def test_dragan_looks_near_real_images() -> None:
    module, seen = game(DRAGAN, discriminator=linear(), spread=0.5, penalty_weight=2.0), []
    module.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    batch = batch_of()
    found = module.discriminator_loss(batch, fakes_of())
    assert found["gradient_penalty"].item() == pytest.approx((8 * 3 - 1) ** 2, rel=1e-5)
    plain = game(GAN, discriminator=linear()).discriminator_loss(batch, fakes_of())["loss"]
    assert (found["loss"] - plain).item() == pytest.approx(2 * 23**2, rel=1e-5)
    away = seen[2] - batch["image"]  # where the penalty looked
    assert float(away.min()) >= 0
    assert 0.9 * 0.5 * float(batch["image"].std()) < float(away.max()) <= 0.5 * float(batch["image"].std())


@pytest.mark.parametrize(("r1", "r2"), [(2.0, 0.0), (0.0, 2.0), (1.0, 3.0)])
def test_zero_centred_penalties(r1: float, r2: float) -> None:
    module = game(ZeroCentred, discriminator=linear(), r1_weight=r1, r2_weight=r2)
    found = module.discriminator_loss(batch_of(), fakes_of())
    plain = game(GAN, loss="relativistic", discriminator=linear()).discriminator_loss(batch_of(), fakes_of())["loss"]
    assert (found["loss"] - plain).item() == pytest.approx((r1 + r2) / 2 * 9 * 64, rel=1e-5)
    assert ("r1" in found, "r2" in found) == (r1 > 0, r2 > 0)


@pytest.mark.parametrize("rule", [WGANGP, DRAGAN, ZeroCentred])
def test_rare_penalties_weigh_more(rule: Any) -> None:
    """Lazy regularisation: every fourth time, four times as much."""
    losses = [
        game(rule, discriminator=linear(), step=Step(penalty_every=every)).discriminator_loss(batch_of(), fakes_of())
        for every in (1, 4)
    ]
    plain = game(rule, discriminator=linear())
    plain.penalty_due = False
    without = plain.discriminator_loss(batch_of(), fakes_of())["loss"]
    once, rare = (found["loss"] - without for found in losses)
    torch.testing.assert_close(rare, 4 * once)


@pytest.mark.parametrize("rule", [WGANGP, DRAGAN, ZeroCentred])
@pytest.mark.parametrize(
    ("discriminator", "message"),
    [(DCGANDiscriminator(2, 16, 1), "batch norm"), (MLPDiscriminator([4], 8, 1, minibatch_kernels=2), "minibatch")],
)
def test_penalties_refuse_what_mixes_samples(rule: Any, discriminator: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=f"discriminator: {message}.* mixes samples"):
        game(rule, discriminator=copy.deepcopy(discriminator))


def test_penalties_of_packs_are_of_whole_packs() -> None:
    packed = MLPDiscriminator([], 8, 1, pack=2)
    nn.init.constant_(packed.head.weight, 3.0)
    found = game(ZeroCentred, discriminator=packed, r1_weight=1.0, r2_weight=0.0)
    assert found.discriminator_loss(batch_of(), fakes_of())["r1"].item() == pytest.approx(9 * 128, rel=1e-5)
