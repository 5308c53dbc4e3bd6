"""The average against a plain loop over its formula, and statistics against those of the whole set of inputs."""

import copy

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.ema import EMA, with_fresh_statistics
from gan_lightning.networks.dcgan import DCGANGenerator
from gan_lightning.networks.mlp import MLPGenerator


def network() -> MLPGenerator:
    torch.manual_seed(0)
    return MLPGenerator(4, [8, 8], image_size=4, channels=1, batch_norm="all")


@pytest.mark.parametrize("ramp_up", [None, 0.05, 0.0])
def test_equals_the_formula_in_a_loop(ramp_up: float | None) -> None:
    generator = network()
    ema = EMA(generator, half_life=500.0, ramp_up=ramp_up)
    expected = [parameter.detach().double() for parameter in generator.parameters()]
    for step in range(60):
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter += 0.1 * torch.randn(parameter.shape)
        images_seen = 64 * (step + 1)
        ema.update(generator, 64, images_seen)
        half_life = 500.0 if ramp_up is None else min(500.0, ramp_up * images_seen)
        decay = 0.5 ** (64 / max(half_life, 1e-8))  # StyleGAN2-ADA, training_loop.py
        expected = [
            decay * average + (1 - decay) * parameter.detach().double()
            for average, parameter in zip(expected, generator.parameters(), strict=True)
        ]
        for average, value in zip(ema.generator.parameters(), expected, strict=True):
            torch.testing.assert_close(average.double(), value, rtol=1e-5, atol=1e-6)


def test_one_update_is_float32_exact() -> None:
    generator = network()
    ema = EMA(generator, half_life=1000.0, ramp_up=None)
    before = [average.clone() for average in ema.generator.parameters()]
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.normal_()
    ema.update(generator, 100, 100)
    weight = 1 - 0.5**0.1
    for average, old, new in zip(ema.generator.parameters(), before, generator.parameters(), strict=True):
        assert torch.equal(average, torch.lerp(old, new, weight))


def test_half_after_a_half_life() -> None:
    generator = nn.Linear(1, 1)
    nn.init.zeros_(generator.weight)
    ema = EMA(generator, half_life=640.0, ramp_up=None)
    nn.init.ones_(generator.weight)
    for step in range(10):
        ema.update(generator, 64, 64 * (step + 1))
    assert ema.generator.get_parameter("weight").item() == pytest.approx(0.5)


def test_no_images_seen_copies_the_weights() -> None:
    generator = network()
    ema = EMA(generator, half_life=1000.0)
    with torch.no_grad():
        generator.get_parameter("layers.0.weight").normal_()
    ema.update(generator, 64, 0)
    assert torch.equal(ema.generator.get_parameter("layers.0.weight"), generator.get_parameter("layers.0.weight"))


def test_buffers_are_copied() -> None:
    generator = network()
    ema = EMA(generator, half_life=1000.0)
    for _ in range(3):
        generator(torch.randn(16, 4))
    ema.update(generator, 16, 48)
    for kept, buffer in zip(ema.generator.buffers(), generator.buffers(), strict=True):
        assert kept.dtype == buffer.dtype
        assert torch.equal(kept, buffer)
        assert kept.data_ptr() != buffer.data_ptr()
    assert ema.generator.get_buffer("layers.1.num_batches_tracked").item() == 3


def test_without_buffers() -> None:
    generator = nn.Linear(2, 2)
    EMA(generator, half_life=10.0).update(generator, 1, 1)


def test_the_copy_is_frozen_and_stays_in_eval_mode() -> None:
    generator = network()
    ema = EMA(generator, half_life=1000.0)
    assert all(parameter.requires_grad for parameter in generator.parameters())
    assert not any(parameter.requires_grad for parameter in ema.generator.parameters())
    assert generator.training
    parent = nn.ModuleDict({"ema": ema, "generator": generator})
    parent.train()
    assert generator.training
    assert not any(module.training for module in ema.modules())


def test_state_returns_through_a_state_dict() -> None:
    generator = network()
    ema, other = EMA(generator, half_life=1000.0), EMA(copy.deepcopy(generator), half_life=1000.0)
    with torch.no_grad():
        generator.get_parameter("layers.0.weight").normal_()
    ema.update(generator, 64, 6400)
    other.load_state_dict(ema.state_dict())
    for one, two in zip(ema.generator.parameters(), other.generator.parameters(), strict=True):
        assert torch.equal(one, two)


def test_fresh_statistics_are_the_average_over_batches() -> None:
    generator = network()
    batches = [3 * torch.randn(32, 4) + 1 for _ in range(5)]
    fresh = with_fresh_statistics(generator, [(z, None) for z in batches])
    first = generator.get_submodule("layers.0")
    outputs = [first(z).detach() for z in batches]
    mean = torch.stack([output.mean(0) for output in outputs]).mean(0)
    variance = torch.stack([output.var(0) for output in outputs]).mean(0)
    torch.testing.assert_close(fresh.get_buffer("layers.1.running_mean"), mean)
    torch.testing.assert_close(fresh.get_buffer("layers.1.running_var"), variance)
    momentum = fresh.get_submodule("layers.1").momentum
    assert momentum == generator.get_submodule("layers.1").momentum == 0.1


@pytest.mark.parametrize("training", [True, False])
def test_fresh_statistics_leave_the_original_untouched(training: bool) -> None:
    generator = DCGANGenerator(4, 4, image_size=16, channels=1).train(training)
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    fresh = with_fresh_statistics(generator, [(torch.randn(8, 4), None)])
    assert fresh is not generator
    assert not any(module.training for module in fresh.modules())
    assert all(module.training == training for module in generator.modules())
    for key, value in generator.state_dict().items():
        assert torch.equal(value, before[key])
    for one, two in zip(fresh.parameters(), generator.parameters(), strict=True):
        assert torch.equal(one, two)
        assert one.data_ptr() != two.data_ptr()


class WithDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.norm(self.dropout(z))


def test_dropout_stays_off() -> None:
    z = torch.randn(64, 4) + 1
    fresh = with_fresh_statistics(WithDropout(), [(z, None)])
    torch.testing.assert_close(fresh.get_buffer("norm.running_mean"), z.mean(0))
    torch.testing.assert_close(fresh.get_buffer("norm.running_var"), z.var(0))


def test_without_batch_norm() -> None:
    generator = MLPGenerator(4, [8], image_size=4, channels=1)
    copied = with_fresh_statistics(generator, [])
    assert copied is not generator
    assert generator.training
    assert not any(module.training for module in copied.modules())
    generator.eval()
    assert with_fresh_statistics(generator, []) is generator


def test_batch_norm_needs_inputs() -> None:
    with pytest.raises(ValueError, match="inputs="):
        with_fresh_statistics(network(), [])
