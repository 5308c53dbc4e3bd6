"""The statistics of the weights that every scheme draws."""

import copy
import math
from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gan_lightning.initialization import Scheme, initialize
from gan_lightning.networks.dcgan import DCGANDiscriminator, DCGANGenerator

SCHEMES: list[Scheme] = list(get_args(Scheme))


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(200, 300), nn.Conv2d(32, 64, 4), nn.ConvTranspose2d(64, 32, 4, stride=2), nn.BatchNorm2d(5000)
    )


def spread(network: nn.Module, name: str) -> float:
    return network.get_parameter(name).std().item()


def test_default_changes_nothing() -> None:
    network = layers()
    before = copy.deepcopy(network.state_dict())
    state = torch.random.get_rng_state()
    initialize(network, "default")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_dcgan() -> None:
    network = layers()
    initialize(network, "dcgan")
    for index in range(3):
        weight = network.get_parameter(f"{index}.weight")
        assert weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert weight.mean().item() == pytest.approx(0, abs=5e-4)
    scales = network.get_parameter("3.weight")
    assert scales.mean().item() == pytest.approx(1, abs=1e-3)
    assert scales.std().item() == pytest.approx(0.02, rel=0.05)


def test_xavier() -> None:
    network = layers()
    initialize(network, "xavier")
    for index, fans in enumerate((200 + 300, (32 + 64) * 16, (32 + 64) * 16)):
        bound = math.sqrt(6 / fans)  # Glorot & Bengio 2010, eq. 16
        weight = network.get_parameter(f"{index}.weight")
        assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_he() -> None:
    network = layers()
    initialize(network, "he")
    # the transposed convolution sums 64 channels over 4·4 / 2² kernel positions
    for index, fan_in in enumerate((200, 32 * 16, 64 * 4)):
        assert spread(network, f"{index}.weight") == pytest.approx(math.sqrt(2 / fan_in), rel=0.02)


def test_he_keeps_the_variance_through_a_transposed_convolution() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1)
    initialize(layer, "he")
    output = layer(torch.randn(16, 64, 8, 8).relu())[..., 2:-2, 2:-2]
    assert output.var().item() == pytest.approx(1, rel=0.1)  # half of E[x²] = ½ times 2


def test_orthogonal() -> None:
    network = layers()
    initialize(network, "orthogonal")
    for index in range(3):
        weight = network.get_parameter(f"{index}.weight").flatten(1).double()
        gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scheme", SCHEMES[1:])
def test_biases_are_zero(scheme: Scheme) -> None:
    network = layers()
    initialize(network, scheme)
    for index in range(4):
        assert not network.get_parameter(f"{index}.bias").any()


@pytest.mark.parametrize("scheme", SCHEMES[1:])
def test_a_function_of_the_global_stream(scheme: Scheme) -> None:
    networks = [DCGANGenerator(8, 4, 16, 1), DCGANGenerator(8, 4, 16, 1)]
    for network in networks:
        torch.manual_seed(7)
        initialize(network, scheme)
    for one, two in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(one, two)
    torch.manual_seed(8)
    initialize(networks[1], scheme)
    assert not torch.equal(next(networks[0].parameters()), next(networks[1].parameters()))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_meta_device(scheme: Scheme) -> None:
    with torch.device("meta"):
        networks = [DCGANGenerator(8, 4, 16, 1), DCGANDiscriminator(4, 16, 1, norm="layer")]
    for network in networks:
        initialize(network, scheme)
        assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize("scheme", SCHEMES[1:])
def test_spectral_normalisation_sees_the_new_weight(scheme: Scheme) -> None:
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(64, 48))
    initialize(layer, scheme)
    layer.eval()
    assert torch.linalg.matrix_norm(
        layer.get_submodule("parametrizations.weight")().detach(), 2
    ).item() == pytest.approx(1, abs=0.1)


def test_spectral_normalisation_draws_the_original() -> None:
    layer = spectral_norm(nn.Linear(200, 300))
    initialize(layer, "dcgan")
    assert spread(layer, "parametrizations.weight.original") == pytest.approx(0.02, rel=0.02)


def test_batch_norm_without_scales() -> None:
    initialize(nn.BatchNorm2d(4, affine=False), "dcgan")
