"""Packs, features of whole minibatches and their means."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.budget import Budget
from gan_lightning.commands.train import run
from gan_lightning.errors import UserError
from gan_lightning.models.feature_matching import FeatureMatching
from gan_lightning.networks.mlp import MLPDiscriminator
from tests.support import Blobs, batch_of, fakes_of, fit, game


def test_a_packed_discriminator_sees_images_together(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, images = MLPDiscriminator([16], 8, 1, pack=4), fakes_of(8)
    logits = network(images)
    assert logits.shape == (2,)
    changed = images.clone()
    changed[5] += 1  # of the second pack
    assert torch.equal(network(changed)[0], logits[0])
    assert not torch.equal(network(changed)[1], logits[1])
    seen = []
    module = game(discriminator=network)
    network.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    fit(module, Blobs(), tmp_path, budget=Budget(images=8))
    assert seen == [(2, 4 * 64)] * 3


@pytest.mark.parametrize("outputs", [{"classes": 3}, {"auxiliary": 3}])
def test_packs_have_no_labels(outputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pack=2"):
        MLPDiscriminator([4], 8, 1, pack=2, **outputs)


def test_minibatch_features_change_when_a_neighbour_changes() -> None:
    torch.manual_seed(0)
    network, images = MLPDiscriminator([16], 8, 1, minibatch_kernels=3, minibatch_dims=2), fakes_of(4)
    changed = images.clone()
    changed[3] += 1
    assert not torch.equal(network(images)[0], network(changed)[0])
    alone = MLPDiscriminator([16], 8, 1)
    assert torch.equal(alone(images)[0], alone(changed)[0])


def test_minibatch_features_follow_their_formula() -> None:
    """o(x_i)_b = Σ_{j ≠ i} exp(-‖M_i,b - M_j,b‖₁)."""
    torch.manual_seed(0)
    network = MLPDiscriminator([16], 8, 1, minibatch_kernels=3, minibatch_dims=2)
    layer, features = network.minibatch, torch.randn(4, 16)
    assert layer is not None
    matrices = (features @ layer.tensor).view(4, 3, 2)
    expected = torch.zeros(4, 3)
    for i in range(4):
        for j in range(4):
            for b in range(3):
                if i != j:
                    expected[i, b] += torch.exp(-(matrices[i, b] - matrices[j, b]).abs().sum())
    torch.testing.assert_close(layer(features), expected)


def test_minibatches_hold_whole_packs(tmp_path: Path) -> None:
    arguments = ["model=pacgan", "trainer=debug", "data.batch_size=9", f"hydra.run.dir={tmp_path / 'run'}"]
    with pytest.raises(UserError, match=r"data\.batch_size=9: is no multiple of model\.discriminator\.pack=2"):
        run(arguments)
    assert not (tmp_path / "run").exists()


def test_feature_matching_compares_means_of_features() -> None:
    module, real, fakes = game(FeatureMatching), batch_of(), fakes_of()
    found = module.generator_loss(real, fakes)["loss"]
    trunk = module.discriminator.trunk
    expected = (trunk(real["image"].flatten(1)).mean(0) - trunk(fakes.flatten(1)).mean(0)).square().sum()
    torch.testing.assert_close(found, expected)
    assert float(module.generator_loss(real, real["image"])["loss"].detach()) == 0
    with pytest.raises(ValueError, match="Linear has no `features`"):
        game(FeatureMatching, discriminator=nn.Linear(64, 1))
