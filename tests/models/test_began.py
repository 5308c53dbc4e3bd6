"""How BEGAN balances and judges."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning.models.began import BEGAN
from gan_lightning.networks.began import BEGANDiscriminator, BEGANGenerator
from gan_lightning.steps import Step
from tests.support import Large, Watch, fit, game


def boundary(**settings: Any) -> Any:
    torch.manual_seed(0)
    networks = {"generator": BEGANGenerator(4, 4, 16, 1), "discriminator": BEGANDiscriminator(4, 4, 16, 1)}
    return game(BEGAN, **networks, **settings)


def test_began_weighs_fakes_by_k(tmp_path: Path) -> None:
    module, expected, seen = boundary(gain=0.5), [0.0], []

    def follow(module: Any) -> None:
        error = 0.5 * module.metrics["D/loss_real"] - module.metrics["G/loss"]
        expected.append(min(1.0, max(0.0, expected[-1] + 0.5 * float(error))))
        seen.append(float(module.k))
        assert float(module.metrics["D/k"]) == pytest.approx(expected[-2], abs=1e-6)  # that of the loss

    fit(module, Large(image_size=16), tmp_path, Watch(follow), max_epochs=2)
    assert seen == pytest.approx(expected[1:], abs=1e-6)
    batch, fakes = {"image": torch.rand(4, 1, 16, 16)}, torch.rand(4, 1, 16, 16)
    module.k.fill_(0.25)
    found = {key: value.detach() for key, value in module.discriminator_loss(batch, fakes).items()}
    assert float(found["loss"]) == pytest.approx(float(found["loss_real"] - 0.25 * found["loss_fake"]), rel=1e-5)
    real = float(found["loss_real"])
    assert float(found["convergence"]) == pytest.approx(real + abs(0.5 * real - float(found["loss_fake"])), rel=1e-5)


def test_began_follows_whole_accumulated_steps(tmp_path: Path) -> None:
    ends = []
    for accumulate in (1, 2):
        module = boundary(gain=0.05, step=Step(accumulate=accumulate))
        fit(module, Large(image_size=16, batch_size=8 // accumulate), tmp_path / str(accumulate), max_epochs=2)
        ends.append(module.k)
    assert 0 < float(ends[0]) < 1
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)


def test_began_judges_by_how_well_it_restores() -> None:
    module, images = boundary(), torch.rand(3, 1, 16, 16)
    expected = (module.discriminator(images) - images).abs().flatten(1).mean(1)
    torch.testing.assert_close(module.judge(images, None), expected)
    latents = module.draw_latents(1000, torch.Generator().manual_seed(0))
    assert latents.abs().max() <= 1
    assert latents.std() == pytest.approx(3**-0.5, abs=0.02)
    assert module.draw_latents(100, torch.Generator(), 0.3).abs().max() <= 0.3
