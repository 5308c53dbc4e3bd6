"""What latents are drawn from, and what follows: truncation, walks, path lengths, projection."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning.adversarial import Distribution
from gan_lightning.draws import generator as stream_of
from gan_lightning.latents import slerp, straight
from gan_lightning.metrics import path_length as path_lengths
from gan_lightning.metrics.extractors import load_extractor
from gan_lightning.models.began import BEGAN
from gan_lightning.models.infogan import InfoGAN
from gan_lightning.models.stylegan2 import StyleGAN2
from gan_lightning.networks.began import BEGANDiscriminator, BEGANGenerator
from gan_lightning.networks.mlp import MLPDiscriminator
from gan_lightning.networks.stylegan2 import StyleGAN2Discriminator
from gan_lightning.projection import FeaturesAndPixels, mean_of, project
from gan_lightning.sampling import evaluation_latents
from tests.support import game
from tests.test_latents import SIZES, ask, hold, style_generator, tiles
from tests.test_sample import Stub

SHAPES: list[Any] = [("normal", 0, 1, float("inf")), ("uniform", 0, 1 / 3, 1), ("unit", 0.5, 1 / 12, 1)]


def drawn(module: Any, count: int = 4000, truncation: float | None = None) -> torch.Tensor:
    return module.draw_latents(count, stream_of(3, "latents", 0), truncation)


@pytest.mark.parametrize(("latents", "mean", "variance", "furthest"), SHAPES)
def test_range_mean_and_variance(latents: Distribution, mean: float, variance: float, furthest: float) -> None:
    z = drawn(game(latents=latents))
    assert z.shape == (4000, 4)
    assert z.mean().item() == pytest.approx(mean, abs=0.03)
    assert z.var().item() == pytest.approx(variance, rel=0.05)
    assert z.abs().max() <= furthest
    assert (z.min() >= 0) == (latents == "unit")


def test_normal_latents_are_the_default_and_keep_their_numbers() -> None:
    expected = torch.empty(4000, 4).normal_(generator=stream_of(3, "latents", 0))
    assert torch.equal(drawn(game()), expected)
    assert torch.equal(drawn(game(latents="normal")), expected)


@pytest.mark.parametrize("truncation", [0.25, 1.0, 3.0])
def test_truncation_leaves_what_is_near_the_middle(truncation: float) -> None:
    uniform, unit = (drawn(game(latents=latents), 4000, truncation) for latents in ("uniform", "unit"))
    end = min(truncation, 1.0)
    assert -end <= uniform.min() < -0.99 * end
    assert 0.99 * end < uniform.max() <= end
    assert torch.equal(unit, (uniform + 1) / 2)


def test_rules_with_latents_of_their_own_follow() -> None:
    discriminator = MLPDiscriminator([4], 8, 1, auxiliary=2)
    z = drawn(game(InfoGAN, discriminator=discriminator, categorical=(), continuous=2, latents="unit"))
    assert z[:, :2].min() >= 0
    assert z[:, 2:].min() < -0.9  # codes stay U(-1, 1)
    networks = {"generator": BEGANGenerator(4, 2, 16, 1), "discriminator": BEGANDiscriminator(4, 2, 16, 1)}
    assert 0.99 < drawn(game(BEGAN, **networks)).abs().max() <= 1  # without being told
    assert drawn(game(BEGAN, **networks, latents="normal")).abs().max() > 2
    styled = StyleGAN2Discriminator(deviation_group=2, **SIZES)
    module = game(StyleGAN2, generator=style_generator(), discriminator=styled, latents="uniform")
    assert drawn(module, truncation=0.1).abs().max() > 0.9  # of styles, not of latents


def test_straight_lines_stay_in_the_cube() -> None:
    a, b, shares = torch.rand(3, 4), torch.rand(3, 4), torch.tensor([0, 0.25, 1])
    torch.testing.assert_close(straight(a, b, shares), torch.stack([a, 0.75 * a + 0.25 * b, b]))


@pytest.mark.parametrize("latents", ["normal", "unit"])
def test_walks(latents: Distribution, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = hold(game(generator=Stub(5, 0), latents=latents), monkeypatch)
    found = tiles(ask(tmp_path / "walk", "interpolate=true", "count=2") / "strip.png", 12)[:, :, 1, :5] * 2
    z, path = evaluation_latents(module, 2, 0), slerp if latents == "normal" else straight
    expected = torch.stack([path(z[key], z[1 - key], torch.arange(12) / 12) for key in range(2)])
    torch.testing.assert_close(found, expected.clamp(-2, 2), atol=0.02, rtol=0)


@pytest.mark.parametrize(("latents", "path"), [("normal", "slerp"), ("uniform", "lerp")])
def test_path_lengths_are_of_such_paths(latents: Distribution, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def measure(*_: Any, **settings: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        asked.update(settings)
        return torch.ones(()), torch.ones(()), torch.ones(1)

    monkeypatch.setattr(path_lengths, "lengths", measure)
    value = path_lengths.path_length(game(latents=latents), load_extractor("digits"), 64, 0)
    assert asked["interpolation_method"].startswith(path)
    assert value.settings["interpolation"] == path


def test_found_latents_stay_within() -> None:
    module = game(latents="unit")
    z = drawn(module)
    network, ends = module.generator.eval(), (z.amin(0), z.amax(0))
    image, distance = torch.ones(1, 1, 8, 8), FeaturesAndPixels("digits").eval().requires_grad_(False)
    free, kept = (
        project(network, image, distance, *mean_of(network, z, None, "z"), space="z", steps=40, within=within)
        for within in (None, ends)
    )
    assert free.latents.min() < 0 or free.latents.max() > 1
    assert kept.latents.min() >= 0
    assert kept.latents.max() <= 1
