"""Every loss against its formula as the papers write it, in float64 and without softplus."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gan_lightning import losses

Formula = Callable[[Tensor, Tensor], Tensor]


def log_d(logits: Tensor) -> Tensor:
    return torch.log(torch.sigmoid(logits))


def log_not_d(logits: Tensor) -> Tensor:
    return torch.log(1 - torch.sigmoid(logits))


def zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


DISCRIMINATORS: dict[str, Formula] = {
    "minimax": lambda real, fake: -(log_d(real).mean() + log_not_d(fake).mean()),
    "nonsaturating": lambda real, fake: -(log_d(real).mean() + log_not_d(fake).mean()),
    "least_squares": lambda real, fake: ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2,
    "hinge": lambda real, fake: -torch.minimum(zero(), real - 1).mean() - torch.minimum(zero(), -fake - 1).mean(),
    "wasserstein": lambda real, fake: fake.mean() - real.mean(),
    "relativistic": lambda real, fake: -log_d(real - fake).mean(),
    "relativistic_average": lambda real, fake: -log_d(real - fake.mean()).mean() - log_not_d(fake - real.mean()).mean(),
}
GENERATORS: dict[str, Formula] = {
    "minimax": lambda real, fake: log_not_d(fake).mean(),
    "nonsaturating": lambda real, fake: -log_d(fake).mean(),
    "least_squares": lambda real, fake: ((fake - 1) ** 2).mean() / 2,
    "hinge": lambda real, fake: -fake.mean(),
    "wasserstein": lambda real, fake: -fake.mean(),
    "relativistic": lambda real, fake: -log_d(fake - real).mean(),
    "relativistic_average": lambda real, fake: -log_d(fake - real.mean()).mean() - log_not_d(real - fake.mean()).mean(),
}
NAMES = list(losses.PAIRS)
PROBABILITIES = [name for name in NAMES if losses.PAIRS[name].probabilities]


def logits(count: int = 32) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(0)
    return 3 * torch.randn(count, generator=stream), 3 * torch.randn(count, generator=stream) - 0.5


def generator_loss(name: str, on_real: Tensor, on_fake: Tensor) -> Tensor:
    pair = losses.PAIRS[name]
    return pair.generator(on_real if pair.needs_real else None, on_fake)["loss"]


def test_names_cover_all_pairs() -> None:
    assert set(get_args(losses.Name)) == set(NAMES) == set(DISCRIMINATORS) == set(GENERATORS)
    assert PROBABILITIES == ["minimax", "nonsaturating"]
    assert [name for name in NAMES if losses.PAIRS[name].needs_real] == ["relativistic", "relativistic_average"]


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_equal_the_formula(name: str) -> None:
    for loss, formula in (
        (lambda real, fake: losses.PAIRS[name].discriminator(real, fake)["loss"], DISCRIMINATORS[name]),
        (lambda real, fake: generator_loss(name, real, fake), GENERATORS[name]),
    ):
        ours = [values.requires_grad_() for values in logits()]
        naive = [values.detach().double().requires_grad_() for values in ours]
        value, expected = loss(*ours), formula(*naive)
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
        gradients = torch.autograd.grad(value, ours, allow_unused=True, materialize_grads=True)
        wanted = torch.autograd.grad(expected, naive, allow_unused=True, materialize_grads=True)
        for gradient, want in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(gradient.double(), want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_parts_add_up(name: str) -> None:
    parts = losses.PAIRS[name].discriminator(*logits())
    assert all(value.shape == () for value in parts.values())
    if name == "relativistic":  # does not separate
        assert set(parts) == {"loss"}
    else:
        assert set(parts) == {"loss", "loss_real", "loss_fake"}
        torch.testing.assert_close(parts["loss"], parts["loss_real"] + parts["loss_fake"])


def test_closed_forms() -> None:
    zeros = torch.zeros(5)
    log_2 = torch.log(torch.tensor(2.0))
    expected = {  # an undecided discriminator: D = 1/2, or logits of 0
        "minimax": (2 * log_2, -log_2),
        "nonsaturating": (2 * log_2, log_2),
        "least_squares": (torch.tensor(0.5), torch.tensor(0.5)),
        "hinge": (torch.tensor(2.0), torch.tensor(0.0)),
        "wasserstein": (torch.tensor(0.0), torch.tensor(0.0)),
        "relativistic": (log_2, log_2),
        "relativistic_average": (2 * log_2, 2 * log_2),
    }
    for name, (discriminator, generator) in expected.items():
        torch.testing.assert_close(losses.PAIRS[name].discriminator(zeros, zeros)["loss"], discriminator)
        torch.testing.assert_close(generator_loss(name, zeros, zeros), generator)
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    parts = losses.hinge.discriminator(real, fake)
    assert (parts["loss_real"].item(), parts["loss_fake"].item()) == (0.25, 1.0)
    parts = losses.least_squares.discriminator(real, fake)
    assert (parts["loss_real"].item(), parts["loss_fake"].item()) == (0.3125, 2.5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_logits_stay_finite(name: str, size: float) -> None:
    for sign in (1.0, -1.0):
        real = torch.tensor([size, -size, size * sign], requires_grad=True)
        fake = torch.tensor([-size, size, size * sign], requires_grad=True)
        values = [losses.PAIRS[name].discriminator(real, fake)["loss"], generator_loss(name, real, fake)]
        if name in PROBABILITIES:
            values.append(losses.PAIRS[name].discriminator(real, fake, 0.9, 0.1)["loss"])
        for value in values:
            assert torch.isfinite(value)
            for gradient in torch.autograd.grad(value, [real, fake], allow_unused=True, materialize_grads=True):
                assert torch.isfinite(gradient).all()


def test_saturation() -> None:
    fake = torch.full((4,), -1e4, requires_grad=True)  # a discriminator that is sure
    (saturated,) = torch.autograd.grad(losses.minimax.generator(None, fake)["loss"], fake)
    (alive,) = torch.autograd.grad(losses.nonsaturating.generator(None, fake)["loss"], fake)
    assert saturated.abs().max() == 0
    torch.testing.assert_close(alive, torch.full((4,), -0.25))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    real, fake = (values.to(dtype) for values in logits())
    for half, full in (
        (losses.PAIRS[name].discriminator(real, fake), losses.PAIRS[name].discriminator(real.float(), fake.float())),
        ({"loss": generator_loss(name, real, fake)}, {"loss": generator_loss(name, real.float(), fake.float())}),
    ):
        for key, value in half.items():
            assert value.dtype == torch.float32
            assert torch.equal(value, full[key])


@pytest.mark.parametrize("name", PROBABILITIES)
def test_soft_labels_are_cross_entropy_with_soft_targets(name: str) -> None:
    real, fake = logits()
    for real_label, fake_label in ((1.0, 0.0), (0.9, 0.0), (0.9, 0.1), (0.0, 1.0)):
        parts = losses.PAIRS[name].discriminator(real, fake, real_label=real_label, fake_label=fake_label)
        want_real = binary_cross_entropy_with_logits(real, torch.full_like(real, real_label))
        want_fake = binary_cross_entropy_with_logits(fake, torch.full_like(fake, fake_label))
        torch.testing.assert_close(parts["loss_real"], want_real)
        torch.testing.assert_close(parts["loss_fake"], want_fake)
        torch.testing.assert_close(parts["loss"], want_real + want_fake)


def test_label_noise_is_per_sample() -> None:
    real, fake = logits()
    stream = torch.Generator().manual_seed(1)
    real_label, fake_label = torch.rand(32, generator=stream), (torch.rand(32, generator=stream) < 0.1).float()
    parts = losses.nonsaturating.discriminator(real, fake, real_label, fake_label)
    torch.testing.assert_close(parts["loss_real"], binary_cross_entropy_with_logits(real, real_label))
    torch.testing.assert_close(parts["loss_fake"], binary_cross_entropy_with_logits(fake, fake_label))
