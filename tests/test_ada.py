"""ADA: each kind of change against a plain one, gradients, and what moves its probability."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.transforms.v2.functional as tf
from torch import Tensor
from torch.nn import functional

from gan_lightning.ada import ADA, NUMBERS, Sample, colours, geometry, moved, recoloured, resampled, scaled, turned
from gan_lightning.errors import UserError
from gan_lightning.losses import Name
from gan_lightning.models.gan import GAN
from gan_lightning.models.wgan_gp import WGANGP
from gan_lightning.steps import Step
from tests.support import Blobs, Watch, fit, game

STREAM = torch.Generator().manual_seed(0)
IMAGES = torch.rand(3, 3, 16, 16, generator=STREAM) * 2 - 1
SMOOTH = functional.interpolate(torch.rand(3, 3, 4, 4, generator=STREAM), 16, mode="bicubic", align_corners=False)
EVERY = torch.ones(3)
BILINEAR = tf.InterpolationMode.BILINEAR


def uniforms(count: int, **given: float) -> Tensor:
    """U of which every gate is closed (1) but those given, by index."""
    u = torch.full((3, count), 0.999)
    for key, value in given.items():
        u[:, int(key[1:])] = value
    return u


@pytest.mark.parametrize("pipeline", ["b", "bg", "bgc"])
@pytest.mark.parametrize("channels", [1, 3])
def test_without_probability_nothing_changes(pipeline: Any, channels: int) -> None:
    images = IMAGES[:, :channels]
    found = ADA(pipeline)(images, torch.rand(3, NUMBERS))
    torch.testing.assert_close(found, images, rtol=0, atol=1e-5)


def test_whole_pixels() -> None:
    found = resampled(IMAGES, moved(-2 * EVERY, -1 * EVERY))  # two to the right, one down
    torch.testing.assert_close(found[:, :, 1:, 2:], IMAGES[:, :, :-1, :-2], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, :, 1:, :2], IMAGES[:, :, :-1, 1:3].flip(3), rtol=0, atol=1e-5)  # reflected


def inside(images: Tensor) -> Tensor:
    return images[:, :, 4:-4, 4:-4]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (scaled(-EVERY, EVERY), SMOOTH.flip(3)),
        (turned(EVERY * math.pi / 2), SMOOTH.rot90(1, (2, 3))),
        (turned(EVERY * math.pi), SMOOTH.rot90(2, (2, 3))),
        (
            turned(EVERY * 0.3),
            tf.affine(SMOOTH, -math.degrees(0.3), [0, 0], 1.0, [0, 0], BILINEAR),
        ),
        (scaled(EVERY / 1.5, EVERY / 1.5), tf.affine(SMOOTH, 0, [0, 0], 1.5, [0, 0], BILINEAR)),
    ],
    ids=["flip", "quarter", "half", "rotation", "scaling"],
)
def test_geometry_is_that_of_torchvision_inside(source: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(inside(resampled(SMOOTH, source)), inside(expected), rtol=0, atol=0.03)


def test_which_number_does_what() -> None:
    p, side = torch.tensor(0.5), 16
    plain = torch.eye(3).expand(3, 3, 3)

    def found(**given: float) -> Tensor:
        return geometry(uniforms(18, **given), p, side, general=True)

    def same(one: Tensor, other: Tensor) -> None:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)

    same(found(), plain)
    same(found(u0=0.4, u1=0.9), scaled(-EVERY, EVERY))
    same(found(u0=0.6, u1=0.9), plain)  # its turn has not come
    same(found(u2=0, u3=0.3), turned(EVERY * math.pi / 2))
    same(found(u4=0, u5=0.99, u6=0.5), moved(-2 * EVERY, 0 * EVERY))
    same(found(u7=0, u8=0.5), plain)
    upper = 0.8413447460685429  # one standard deviation
    same(found(u7=0, u8=upper), scaled(EVERY / 2**0.2, EVERY / 2**0.2))
    same(found(u9=0.2, u10=0.75), turned(EVERY * math.pi / 2))
    same(found(u9=0.4, u10=0.75), plain)  # two rotations: 1 - √(1 - p) each
    same(found(u11=0, u12=upper), scaled(EVERY / 2**0.2, EVERY * 2**0.2))
    same(found(u15=0, u16=upper, u17=0.5), moved(-2 * EVERY, 0 * EVERY))
    same(geometry(uniforms(18, u7=0, u8=upper), p, side, general=False), plain)


def test_colours() -> None:
    p, upper = torch.tensor(0.5), 0.8413447460685429
    images = (IMAGES + 1) / 2

    def found(**given: float) -> Tensor:
        return recoloured(images, colours(uniforms(10, **given), p))

    def same(one: Tensor, other: Tensor) -> None:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)

    mean = images.mean(1, keepdim=True)
    same(found(), images)
    same(found(u0=0, u1=upper), images + 0.2)
    same(found(u2=0, u3=upper), images * 2**0.5)
    same(found(u4=0, u5=0.9), images - 2 * mean)  # the part along grey, turned round
    same(found(u8=0, u9=upper), mean + 2 * (images - mean))
    third = found(u6=0, u7=0.5 + 1 / 3)  # by 120°: red becomes green
    assert any(torch.allclose(third, images.roll(shift, 1), atol=1e-4) for shift in (1, 2))


def test_images_are_changed_one_by_one_and_gradients_reach_them() -> None:
    ada = ADA("bgc", p=1.0)
    images, u = IMAGES.clone().requires_grad_(), torch.rand(3, NUMBERS, generator=STREAM)
    together = ada(images, u)
    assert not torch.allclose(together, IMAGES, atol=0.1)
    alone = torch.cat([ada(images[i : i + 1], u[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)  # margins are those of the minibatch
    (gradient,) = torch.autograd.grad(together.square().sum(), images, create_graph=True)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()
    (second,) = torch.autograd.grad(gradient.square().sum(), images)
    assert second.abs().sum() > 0


def test_samples_can_be_differentiated_again() -> None:
    images = torch.rand(2, 1, 4, 5, generator=STREAM, dtype=torch.double, requires_grad=True)
    grid = torch.rand(2, 3, 3, 2, generator=STREAM, dtype=torch.double) * 2.4 - 1.2
    expected = functional.grid_sample(images, grid, align_corners=False)
    torch.testing.assert_close(Sample.apply(images, grid), expected)
    assert torch.autograd.gradcheck(lambda x: Sample.apply(x, grid), (images,))
    assert torch.autograd.gradgradcheck(lambda x: Sample.apply(x, grid).square(), (images,))


@pytest.mark.parametrize(("bias", "rises"), [(50.0, True), (-50.0, False)])
def test_the_probability_follows_the_discriminator(bias: float, rises: bool, tmp_path: Path) -> None:
    module = game(ada=ADA("b", every=2, images=160, p=0.5), step=Step(accumulate=2))
    torch.nn.init.constant_(module.discriminator.head.bias, bias)  # all real: r = 1, or none: r = -1
    values: list[float] = []
    fit(module, Blobs(), tmp_path, Watch(lambda m: values.append(m.augment.ada.p.item())), max_epochs=1)
    step = (1 if rises else -1) * 2 * 2 * 8 / 160  # steps · accumulated · images
    assert values == pytest.approx([0.5, 0.5 + step, 0.5 + step, 0.5 + 2 * step])
    assert module.augment.ada.signs.tolist() == [0, 0]
    assert module.metrics["D/sign"].item() == (1 if rises else -1)
    assert module.metrics["D/ada_p"].item() == pytest.approx(values[-1])


def test_its_state_is_in_checkpoints() -> None:
    keys = {"augment.ada.p", "augment.ada.signs"}
    assert keys <= game(ada=ADA("b")).state_dict().keys()
    assert not keys & game(ada=ADA("none")).state_dict().keys()


@pytest.mark.parametrize(("rule", "loss"), [(WGANGP, None), (GAN, "least_squares"), (GAN, "relativistic")])
def test_logits_without_a_sign_need_a_fixed_probability(rule: Any, loss: Name | None, tmp_path: Path) -> None:
    settings = {"loss": loss} if loss else {}
    with pytest.raises(UserError, match=r"model\.ada\.target=0\.6.*target=null"):
        fit(game(rule, ada=ADA("b"), **settings), Blobs(), tmp_path / "one")
    module = game(rule, ada=ADA("b", target=None, p=0.3), **settings)
    fit(module, Blobs(), tmp_path / "two")
    assert module.augment.ada.p == pytest.approx(0.3)


def test_colours_need_colours(tmp_path: Path) -> None:
    data = Blobs(channels=2)
    with pytest.raises(UserError, match=r"model\.ada\.pipeline=bgc"):
        fit(game(ada=ADA("bgc")), data, tmp_path)
    with pytest.raises(ValueError, match=r"p=1\.5"):
        ADA("b", p=1.5)


def test_the_probability_stays_one() -> None:
    ada = ADA("b", every=1, images=10, p=0.9)
    for expected in (1.0, 1.0):
        ada.observe(torch.tensor(1.0), 8)
        ada.follow(1, lambda signs, reduce_op: signs)
        assert ada.p == expected
    for _ in range(3):
        ada.observe(torch.tensor(-1.0), 8)
        ada.follow(1, lambda signs, reduce_op: signs)
    assert ada.p == 0
