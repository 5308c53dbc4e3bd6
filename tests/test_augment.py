"""DiffAugment and instance noise: what they do to images, and that both players see it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lightning.augment import Augment, color, cutout, translation
from gan_lightning.budget import Budget
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.models.feature_matching import FeatureMatching
from gan_lightning.models.gan import GAN
from gan_lightning.models.unrolled import Unrolled
from gan_lightning.models.wgan_gp import WGANGP
from tests.support import Blobs, fit, game


def images_of(count: int = 6, channels: int = 3, side: int = 8) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_color() -> None:
    images, middle = images_of(2), torch.full((2,), 0.5)
    torch.testing.assert_close(color(images, middle, middle, middle), images)  # the middle of each range is no change
    brighter = color(images, torch.tensor([0.0, 1.0]), middle, middle)
    torch.testing.assert_close(brighter, images + torch.tensor([-0.5, 0.5]).view(2, 1, 1, 1))
    grey = color(images, middle, torch.zeros(2), middle)
    torch.testing.assert_close(grey, images.mean(1, keepdim=True).expand_as(images))
    stronger = color(images, middle, middle, torch.tensor([0.0, 1.0]))
    spread = (stronger - stronger.mean((1, 2, 3), keepdim=True)) / (images - images.mean((1, 2, 3), keepdim=True))
    torch.testing.assert_close(spread, torch.tensor([0.5, 1.5]).view(2, 1, 1, 1).expand_as(images), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("down", "right", "shift"), [(0.5, 0.5, (0, 0)), (0.0, 0.5, (-1, 0)), (0.99, 0.0, (1, -1))])
def test_translation(down: float, right: float, shift: tuple[int, int]) -> None:
    images = images_of(1)
    moved = translation(images, torch.tensor([down]), torch.tensor([right]))  # an eighth of 8 pixels: by 1 at most
    expected = torch.zeros_like(images)
    for row in range(8):
        for column in range(8):
            source = row - shift[0], column - shift[1]
            if all(0 <= place < 8 for place in source):
                expected[..., row, column] = images[..., source[0], source[1]]
    assert torch.equal(moved, expected)


def test_every_shift_is_as_likely() -> None:
    images = torch.zeros(3000, 1, 16, 16)
    images[:, :, 8, 8] = 1
    drawn = torch.rand(3000, 2, generator=torch.Generator().manual_seed(0))
    places = translation(images, drawn[:, 0], drawn[:, 1]).flatten(1).argmax(1)
    assert places.unique().tolist() == [16 * row + column for row in range(6, 11) for column in range(6, 11)]
    assert places.bincount().max() < 2 * 3000 / 25


@pytest.mark.parametrize(("down", "rows"), [(0.5, range(2, 6)), (0.0, range(2)), (0.99, range(6, 8))])
def test_cutout(down: float, rows: range) -> None:
    """A square of half the side, whose centre is anywhere: at the border half of it is outside."""
    images = images_of(1).abs() + 1
    cut = cutout(images, torch.tensor([down]), torch.tensor([0.5]))
    hidden = (cut == 0).all(1)[0]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[list(rows), 2:6] = True
    assert torch.equal(hidden, expected)
    assert torch.equal(cut[:, :, ~hidden], images[:, :, ~hidden])


def test_all_of_it_has_a_gradient() -> None:
    images = images_of().requires_grad_()
    Augment(["color", "translation", "cutout"], 0.1, None)(
        images, lambda n, k: torch.rand(n, k)
    ).square().sum().backward()
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()
    assert float(images.grad.abs().sum()) > 0


def test_instance_noise_falls_to_nothing() -> None:
    augment, images = Augment([], 0.5, 100), torch.zeros(400, 1, 8, 8)
    for shown, level in ((0, 0.5), (50, 0.25), (100, 0.0), (1000, 0.0)):
        augment.set_progress(shown)
        assert float(augment(images, torch.rand).std()) == pytest.approx(level, rel=0.02)


@pytest.mark.parametrize("rule", [GAN, WGANGP, FeatureMatching, Unrolled])
def test_both_players_see_augmented_images(rule: Any, tmp_path: Path) -> None:
    """Every image that the discriminator is given has a hole, and no two looks are alike."""
    module, seen = game(rule, augment=["cutout"]), []
    module.discriminator.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    fit(module, Blobs(), tmp_path, budget=Budget(images=8))
    assert len(seen) >= 3
    assert all(bool((flat == 0).any(1).all()) for flat in seen)
    holes = [tuple((flat == 0).flatten().tolist()) for flat in seen]
    assert len(set(holes)) == len(holes)
    assert not (module.sample(4) == 0).any()


def test_interrupted_runs_go_on_with_the_same_views(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"augment": ["color", "translation"], "instance_noise": 0.2, "instance_noise_images": 80}
    whole = game(**settings)
    fit(whole, Blobs(), tmp_path / "whole", max_epochs=2)
    part = game(**settings)
    part.config = {}
    fit(part, Blobs(), tmp_path, Checkpoints(), budget=Budget(images=40), max_epochs=2)
    rest = game(**settings)
    fit(rest, Blobs(), tmp_path, checkpoint=tmp_path / "checkpoints" / "last.ckpt", max_epochs=2)
    torch.testing.assert_close(rest.state_dict(), whole.state_dict(), rtol=0, atol=0)
    plain = game()
    fit(plain, Blobs(), tmp_path / "plain", max_epochs=2)
    assert not torch.equal(plain.discriminator.trunk[0].weight, whole.discriminator.trunk[0].weight)


def test_a_policy_says_each_part_once() -> None:
    with pytest.raises(ValueError, match=r"augment=\[color,color\]: says the same twice"):
        game(augment=["color", "color"])


def test_falling_noise_needs_noise() -> None:
    with pytest.raises(ValueError, match="instance_noise_images=80: there is no noise"):
        game(instance_noise_images=80)
