"""Sizes, ranges and published parameter counts of the residual translator."""

from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.networks.translator import ResNetTranslator
from gan_lightning.recompute import recompute_blocks
from tests.support import count


@pytest.mark.parametrize(("blocks", "parameters"), [(9, 11_378_179), (6, 7_837_699)])
def test_parameter_counts(blocks: int, parameters: int) -> None:
    """CycleGAN's published code, InstanceNorm without scale and shift: kernels and biases alone."""
    with torch.device("meta"):
        translator = ResNetTranslator(64, 3, 3, blocks)
    outer = 49 * 3 * 64 + 64 + 49 * 64 * 3 + 3
    halving = 9 * 64 * 128 + 128 + 9 * 128 * 256 + 256
    doubling = 9 * 256 * 128 + 128 + 9 * 128 * 64 + 64
    assert count(translator) == outer + halving + doubling + blocks * 2 * (9 * 256 * 256 + 256) == parameters


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 28), (32, 20)])
def test_shapes_and_range(height: int, width: int, norm: Any) -> None:
    images = ResNetTranslator(2, 3, 1, 2, norm)(10 * torch.randn(2, 1, height, width))
    assert images.shape == (2, 3, height, width)
    assert images.abs().max() <= 1


def test_other_sides_are_refused() -> None:
    with pytest.raises(ValueError, match=r"16×18.*multiples of 4"):
        ResNetTranslator(2, 1, 1, 1)(torch.zeros(1, 1, 16, 18))


def test_an_image_is_translated_alone() -> None:
    torch.manual_seed(0)
    translator, images = ResNetTranslator(2, 1, 1, 1), torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(translator(images)[:1], translator(images[:1]))


def test_brightness_and_contrast_of_feature_maps_are_taken_away() -> None:
    """InstanceNorm: of images a hundred times as strong it returns the same."""
    torch.manual_seed(0)
    translator, images = ResNetTranslator(4, 1, 1, 1), torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(translator(images), translator(100 * images), atol=1e-2, rtol=0)


def test_borders_are_reflected() -> None:
    """A picture of one value gives one value everywhere; strided layers alone see zeros around it."""
    translator = ResNetTranslator(2, 1, 1, 1)
    reflecting = [m for m in translator.modules() if isinstance(m, nn.Conv2d) and m.padding_mode == "reflect"]
    assert [m.kernel_size for m in reflecting] == [(7, 7), (3, 3), (3, 3), (7, 7)]
    flat = reflecting[0](torch.full((1, 1, 8, 8), 0.5))
    torch.testing.assert_close(flat, flat[:, :, :1, :1].expand_as(flat))


def test_blocks_compute_their_activations_again() -> None:
    torch.manual_seed(0)
    translator, images = ResNetTranslator(2, 1, 1, 3), torch.randn(2, 1, 8, 8)
    translator(images).sum().backward()
    weight = translator.get_parameter("layers.9.residual.0.weight")
    kept, weight.grad = weight.grad, None
    assert recompute_blocks(translator) == 3
    translator(images).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, kept)
