"""Patches, norms and published parameter counts of PatchGAN's discriminator."""

from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.networks.patch import PatchDiscriminator
from tests.support import count


def test_parameter_counts() -> None:
    """The published code of CycleGAN (3 channels, InstanceNorm) and pix2pix (6, BatchNorm)."""
    with torch.device("meta"):
        alone, pairs = PatchDiscriminator(64, 3, norm="instance"), PatchDiscriminator(64, 3, 3)
    kernels = 16 * (64 * 128 + 128 * 256 + 256 * 512 + 512 * 1) + 64 + 1
    assert count(alone) == 16 * 3 * 64 + kernels + (128 + 256 + 512) == 2_764_737
    assert count(pairs) == 16 * 6 * 64 + kernels + 2 * (128 + 256 + 512) == 2_768_705


@pytest.mark.parametrize(("levels", "side"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_a_logit_sees_its_patch(levels: int, side: int) -> None:
    discriminator = PatchDiscriminator(1, 1, levels=levels, norm="none").double()
    for weight in discriminator.parameters():
        nn.init.ones_(weight)  # so that no gradient vanishes
    images = torch.zeros(1, 1, 2 * side + 32, 2 * side + 32, dtype=torch.double, requires_grad=True)
    logits = discriminator(images)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], images)
    rows, columns = gradient[0, 0].any(1).nonzero(), gradient[0, 0].any(0).nonzero()
    assert len(rows) == rows[-1] - rows[0] + 1 == side
    assert len(columns) == columns[-1] - columns[0] + 1 == side


@pytest.mark.parametrize(("side", "logits"), [(256, 30), (70, 6), (64, 6), (32, 2)])
def test_a_map_of_logits(side: int, logits: int) -> None:
    discriminator = PatchDiscriminator(1, 3, 1)
    assert discriminator(torch.randn(2, 4, side, side)).shape == (2, 1, logits, logits)


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_images_are_judged_alone(norm: Any) -> None:
    torch.manual_seed(0)
    discriminator, images = PatchDiscriminator(4, 1, norm=norm), torch.randn(3, 1, 32, 32)
    torch.testing.assert_close(discriminator(images)[:2], discriminator(images[:2]))


def test_norms_are_between_the_first_and_the_last_layer() -> None:
    for discriminator, kind in (
        (PatchDiscriminator(2, 1), nn.BatchNorm2d),
        (PatchDiscriminator(2, 1, norm="instance"), nn.InstanceNorm2d),
    ):
        assert [index for index, layer in enumerate(discriminator.layers) if isinstance(layer, kind)] == [3, 6, 9]
    none = PatchDiscriminator(2, 1, norm="none")
    assert all(isinstance(layer, nn.Conv2d | nn.LeakyReLU) for layer in none.layers)


def test_spectral_norm() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4, 1, norm="none", spectral_norm=True)
    for _ in range(30):
        discriminator(torch.randn(1, 1, 32, 32))
    weights = [layer.weight.flatten(1) for layer in discriminator.layers if isinstance(layer, nn.Conv2d)]
    assert len(weights) == 5
    for weight in weights:
        torch.testing.assert_close(torch.linalg.matrix_norm(weight, 2), torch.tensor(1.0), atol=0.05, rtol=0)
