"""The discriminator of Salimans et al. 2016 against its published layers; what its weight norm bears."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from gan_lightning.ema import EMA
from gan_lightning.initialization import Scheme, initialize
from gan_lightning.networks.dcgan import DCGANGenerator
from gan_lightning.networks.improved import LENGTH, ImprovedDiscriminator
from tests.support import count


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def small(**settings: float) -> ImprovedDiscriminator:
    torch.manual_seed(0)
    return ImprovedDiscriminator(4, 16, 3, **settings)  # pyright: ignore[reportArgumentType]


def test_parameter_counts_of_the_published_code() -> None:
    with torch.device("meta"):
        discriminator, generator = ImprovedDiscriminator(96, 32, 3), DCGANGenerator(100, 128, 32, 3, kernel=5)
    narrow = 3 * 96 * 9 + 2 * 96 * 96 * 9
    wide = 96 * 192 * 9 + 3 * 192 * 192 * 9 + 2 * 192 * 192
    lengths_and_biases = 2 * (3 * 96 + 6 * 192)
    assert count(discriminator) == narrow + wide + lengths_and_biases + 192 + 1 == 1_406_497
    assert [c.kernel_size[0] for c in convolutions(discriminator)] == [3] * 7 + [1] * 2
    linear = 100 * 512 * 4 * 4 + 2 * 512  # the first layer's biases are BatchNorm's
    transposed = 512 * 256 * 25 + 2 * 256 + 256 * 128 * 25 + 2 * 128 + 128 * 3 * 25
    assert count(generator) == linear + transposed == 4_926_592


def test_sides() -> None:
    discriminator, sides = small(), []
    for layer in convolutions(discriminator):
        layer.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
    assert discriminator(torch.randn(2, 3, 32, 32)).shape == (2,)
    assert sides == [32, 32, 16, 16, 16, 8, 6, 6, 6]
    assert ImprovedDiscriminator(4, 9, 1, auxiliary=10)(torch.randn(2, 1, 9, 9)).shape == (2, 11)
    with pytest.raises(ValueError, match=r"image_size=8: .*9"):
        ImprovedDiscriminator(4, 8, 1)


def test_only_directions_of_weights_count() -> None:
    discriminator, images = small().eval(), torch.randn(2, 3, 16, 16)
    before = discriminator(images)
    with torch.no_grad():
        for layer in convolutions(discriminator):
            layer.get_parameter("parametrizations.weight.original1").mul_(3)
    torch.testing.assert_close(discriminator(images), before)
    with torch.no_grad():
        convolutions(discriminator)[-1].get_parameter("parametrizations.weight.original0").mul_(3)
    assert not torch.allclose(discriminator(images), before, rtol=0.1)


@pytest.mark.parametrize("scheme", ["default", "dcgan", "he", "orthogonal"])
def test_schemes_draw_directions_and_the_variance_stays(scheme: Scheme) -> None:
    discriminator = small(dropout=0.0)
    before = convolutions(discriminator)[1].weight.clone()
    initialize(discriminator, scheme)
    assert torch.equal(convolutions(discriminator)[1].weight, before) == (scheme == "default")
    for layer in convolutions(discriminator):
        torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), torch.full((layer.out_channels,), LENGTH))
    torch.manual_seed(0)
    wide = ImprovedDiscriminator(32, 32, 3, dropout=0.0)
    initialize(wide, scheme)
    squares: list[float] = []
    for layer in convolutions(wide)[1:6]:
        layer.register_forward_hook(
            lambda _, __, output: squares.append(output[..., 2:-2, 2:-2].square().mean().item())
        )
    wide(torch.randn(8, 3, 32, 32))
    assert all(0.5 < square < 3 for square in squares), squares


def test_dropout_of_pixels_and_features() -> None:
    images = torch.randn(2, 3, 16, 16)
    for dropped in (small(dropout=0.5), small(dropout=0.0, input_dropout=0.2)):
        assert not torch.equal(dropped(images), dropped(images))
        dropped.eval()
        assert torch.equal(dropped(images), dropped(images))
    kept = small(dropout=0.0)
    assert torch.equal(kept(images), kept(images))


def test_copies_and_files_keep_it(tmp_path: Path) -> None:
    discriminator, images = small().eval(), torch.randn(2, 3, 16, 16)
    expected = discriminator(images)
    copied = copy.deepcopy(discriminator)
    torch.save(discriminator.state_dict(), tmp_path / "weights.pt")
    loaded = ImprovedDiscriminator(4, 16, 3).eval()
    loaded.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    average = EMA(discriminator, half_life=100.0, ramp_up=None)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.add_(1)
    for other in (copied, loaded, average.generator):
        torch.testing.assert_close(other(images), expected)
    average.update(discriminator, 10_000, 10_000)
    torch.testing.assert_close(average.generator(images), discriminator(images))


def test_not_with_spectral_norm_too() -> None:
    with pytest.raises(ValueError, match=r"spectral_norm=true: .*weight norm"):
        ImprovedDiscriminator(4, 16, 3, spectral_norm=True)


def test_minibatch_discrimination_and_gradients() -> None:
    discriminator = ImprovedDiscriminator(4, 16, 3, minibatch_kernels=5)
    images = torch.randn(4, 3, 16, 16)
    assert discriminator.eval()(images[:2]).sub(discriminator(images)[:2]).abs().max() > 0
    discriminator.train()(images).sum().backward()
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
