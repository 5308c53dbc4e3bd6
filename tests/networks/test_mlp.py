"""Sizes, ranges and published parameter counts of the fully connected networks."""

import itertools

import pytest
import torch
from torch import nn

from gan_lightning.networks.mlp import PIECES, Activation, Maxout, MLPDiscriminator, MLPGenerator
from tests.support import count


def of_type(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


def test_parameter_counts() -> None:
    with torch.device("meta"):
        generator = MLPGenerator(100, [128, 256, 512, 1024], 28, 1, activation="leaky_relu", batch_norm="but_first")
        discriminator = MLPDiscriminator([512, 256], 28, 1)
    assert count(generator) == 1_510_032  # PyTorch-GAN's GAN and WGAN
    assert count(discriminator) == 533_505


def test_parameter_counts_of_the_toy_networks() -> None:
    """Metz et al. 2017: z of 256 numbers, two layers of 128, points in the plane; counted by hand."""
    assert count(MLPGenerator(256, [128, 128], 1, 2, "tanh", output="none")) == 49_666
    assert count(MLPDiscriminator([128, 128], 1, 2, "tanh")) == 17_025


def test_maxout_takes_the_largest_of_its_pieces() -> None:
    network, z = MLPGenerator(3, [4], 1, 2, "maxout", "all", output="none"), torch.randn(6, 3)
    linear, norm, _, last = network.layers
    pieces = norm(linear(z)).view(6, 4, PIECES)
    torch.testing.assert_close(network(z).flatten(1), last(pieces.max(2).values))
    assert Maxout(3)(torch.tensor([[1.0, 3, 2, 6, 4, 5]])).tolist() == [[3, 6]]


@pytest.mark.parametrize(("image_size", "channels"), [(28, 1), (5, 3), (32, 3)])
def test_shapes_and_range(image_size: int, channels: int) -> None:
    generator = MLPGenerator(7, [16, 32], image_size, channels, batch_norm="all")
    discriminator = MLPDiscriminator([32, 16], image_size, channels)
    assert generator.latent_size == 7
    images = generator(100 * torch.randn(6, 7))
    assert images.shape == (6, channels, image_size, image_size)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (6,)
    assert discriminator(images[:1], torch.zeros(1, dtype=torch.long)).shape == (1,)  # labels are ignored


def test_batch_norm_where_asked() -> None:
    counts = [
        of_type(MLPGenerator(4, [8, 8, 8], 4, 1, batch_norm=where), nn.BatchNorm1d)
        for where in ("none", "all", "but_first")
    ]
    assert counts == [0, 3, 2]


def test_activations_and_dropout() -> None:
    kinds: list[tuple[Activation, type[nn.Module]]] = [
        ("relu", nn.ReLU),
        ("leaky_relu", nn.LeakyReLU),
        ("gelu", nn.GELU),
        ("tanh", nn.Tanh),
        ("maxout", Maxout),
    ]
    for name, kind in kinds:
        assert of_type(MLPGenerator(4, [8, 8], 4, 1, activation=name, output="none"), kind) == 2
        assert of_type(MLPDiscriminator([8, 8], 4, 1, activation=name), kind) == 2
    assert of_type(MLPDiscriminator([8, 8], 4, 1, dropout=0.3), nn.Dropout) == 2
    assert of_type(MLPDiscriminator([8, 8], 4, 1), nn.Dropout) == 0


def test_every_parameter_has_a_gradient() -> None:
    generator, discriminator = MLPGenerator(4, [8], 4, 1, batch_norm="all"), MLPDiscriminator([8], 4, 1)
    discriminator(generator(torch.randn(8, 4))).sum().backward()
    assert all(p.grad is not None for p in itertools.chain(generator.parameters(), discriminator.parameters()))


def test_an_output_without_bounds() -> None:
    bounded, free = (MLPGenerator(4, [8], 1, 2, output=output) for output in ("tanh", "none"))
    free.load_state_dict(bounded.state_dict())
    z = 100 * torch.randn(50, 4)
    assert free(z).abs().max() > 1
    torch.testing.assert_close(free(z).tanh(), bounded(z))
