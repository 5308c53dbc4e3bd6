"""Penalties against closed forms of linear and quadratic critics, and under mixed precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.networks.dcgan import DCGANDiscriminator
from gan_lightning.networks.mlp import MLPDiscriminator
from gan_lightning.penalties import gradient_penalty, r1, r2

SHAPE = (6, 2, 4, 4)


def images() -> tuple[Tensor, Tensor, Tensor]:
    """real, fake (N, C, H, W) and mixing (N,)."""
    stream = torch.Generator().manual_seed(0)
    real, fake = torch.randn(SHAPE, generator=stream), torch.randn(SHAPE, generator=stream)
    return real, fake, torch.rand(SHAPE[0], generator=stream)


def linear(norm: float) -> Callable[[Tensor], Tensor]:
    """A critic <w, x> whose gradient is w everywhere, with ‖w‖ = norm."""
    weight = torch.randn(32, generator=torch.Generator().manual_seed(1))
    weight = norm * weight / weight.norm()
    return lambda x: x.flatten(1) @ weight


def quadratic(x: Tensor) -> Tensor:
    """½‖x‖², whose gradient is x."""
    return 0.5 * x.flatten(1).square().sum(1)


@pytest.mark.parametrize("norm", [0.25, 1.0, 3.0])
def test_linear_critic(norm: float) -> None:
    real, fake, mixing = images()
    expected = torch.full((6,), norm)
    torch.testing.assert_close(gradient_penalty(linear(norm), real, fake, mixing), (expected - 1) ** 2)
    one_sided = gradient_penalty(linear(norm), real, fake, mixing, one_sided=True)
    torch.testing.assert_close(one_sided, (expected - 1).clamp(min=0) ** 2)
    torch.testing.assert_close(r1(linear(norm), real), expected**2)
    torch.testing.assert_close(r2(linear(norm), fake), expected**2)


def test_quadratic_critic_shows_where_the_gradient_is_taken() -> None:
    real, fake, mixing = images()
    between = torch.stack([m * x + (1 - m) * y for m, x, y in zip(mixing, real, fake, strict=True)])
    expected = (between.flatten(1).norm(dim=1) - 1) ** 2
    torch.testing.assert_close(gradient_penalty(quadratic, real, fake, mixing), expected)
    on_real = gradient_penalty(quadratic, real, fake, torch.ones(6))
    torch.testing.assert_close(on_real, (real.flatten(1).norm(dim=1) - 1) ** 2)
    torch.testing.assert_close(r1(quadratic, real), real.flatten(1).square().sum(1))
    torch.testing.assert_close(r2(quadratic, fake), fake.flatten(1).square().sum(1))


def test_a_batch_equals_a_loop_over_samples() -> None:
    torch.manual_seed(0)
    critic = MLPDiscriminator([16, 8], image_size=4, channels=2, activation="gelu")
    real, fake, mixing = images()
    batch = gradient_penalty(critic, real, fake, mixing)
    for n in range(6):
        point = (mixing[n] * real[n] + (1 - mixing[n]) * fake[n]).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(point[None]).squeeze(), point)
        torch.testing.assert_close(batch[n], (gradient.norm() - 1) ** 2)
        torch.testing.assert_close(r1(critic, real)[n], r1(critic, real[n : n + 1])[0])


def test_weight_gradients_equal_finite_differences() -> None:
    torch.manual_seed(0)
    critic = MLPDiscriminator([8], image_size=4, channels=2, activation="gelu")
    real, fake, mixing = images()
    weight = critic.get_parameter("trunk.0.weight")

    def total() -> Tensor:
        return gradient_penalty(critic, real, fake, mixing).mean() + r1(critic, real).mean()

    (gradient,) = torch.autograd.grad(total(), weight)
    direction = torch.randn(weight.shape)
    with torch.no_grad():
        values = []
        for step in (1e-2, -1e-2):
            weight += step * direction
            with torch.enable_grad():
                values.append(total().item())
            weight -= step * direction
    assert (values[0] - values[1]) / 2e-2 == pytest.approx((gradient * direction).sum().item(), rel=1e-2)


def test_inputs_are_detached() -> None:
    real, fake, mixing = images()
    real.requires_grad_()
    source = nn.Parameter(torch.ones(()))
    critic = MLPDiscriminator([8], image_size=4, channels=2, activation="gelu")
    penalty = gradient_penalty(critic, real, source * fake, mixing) + r1(critic, real) + r2(critic, source * fake)
    penalty.sum().backward()
    assert source.grad is None
    assert real.grad is None
    assert critic.get_parameter("trunk.0.weight").grad is not None


def test_zero_gradient_gives_no_nan() -> None:
    real, fake, mixing = images()
    critic = MLPDiscriminator([8], image_size=4, channels=2)
    for parameter in critic.parameters():
        nn.init.zeros_(parameter)
    for penalty, value in (
        (gradient_penalty(critic, real, fake, mixing), 1.0),
        (gradient_penalty(critic, real, fake, mixing, one_sided=True), 0.0),
        (r1(critic, real), 0.0),
    ):
        assert torch.equal(penalty, torch.full((6,), value))
        critic.zero_grad()
        penalty.mean().backward()
        for parameter in critic.parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_autocast_around_changes_nothing(dtype: torch.dtype, norm: str) -> None:
    torch.manual_seed(0)
    critic = DCGANDiscriminator(4, image_size=16, channels=1, norm="layer" if norm == "layer" else "none")
    real, fake, mixing = torch.randn(4, 1, 16, 16), torch.randn(4, 1, 16, 16), torch.rand(4)

    def penalties() -> Tensor:
        return gradient_penalty(critic, real, fake, mixing) + r1(critic, real) + r2(critic, fake)

    expected = penalties()
    wanted = torch.autograd.grad(expected.mean(), list(critic.parameters()), allow_unused=True, materialize_grads=True)
    with torch.autocast("cpu", dtype=dtype):
        assert critic(real).dtype == dtype  # autocast does act on this critic
        value = penalties()
        loss = value.mean()
    gradients = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True, materialize_grads=True)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    for gradient, want in zip(gradients, wanted, strict=True):
        assert torch.isfinite(gradient).all()
        torch.testing.assert_close(gradient, want)


def test_half_precision_images() -> None:
    real, fake, mixing = images()
    critic = linear(2.0)
    half = gradient_penalty(critic, real.bfloat16(), fake.half(), mixing.half())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, torch.ones(6))
    assert r1(critic, real.half()).dtype == torch.float32
