"""Clipped weights and bursts of critic steps."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from gan_lightning.budget import Budget
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.models.wgan import WGAN
from gan_lightning.steps import Step
from tests.support import Blobs, Watch, fit, game


def test_clipped_weights_stay_in_range(tmp_path: Path) -> None:
    largest: list[float] = []
    slow = partial(torch.optim.RMSprop, lr=5e-3)
    module = game(WGAN, clip=0.02, generator_optimizer=slow, discriminator_optimizer=slow)
    assert max(float(p.detach().abs().max()) for p in module.discriminator.parameters()) <= 0.02  # from the start
    watch = Watch(lambda m: largest.append(max(float(p.detach().abs().max()) for p in m.discriminator.parameters())))
    fit(module, Blobs(), tmp_path, watch, max_epochs=2)
    assert largest == pytest.approx([0.02] * 16)
    assert max(float(p.detach().abs().max()) for p in module.generator.parameters()) > 0.02


def test_bursts_of_critic_steps(tmp_path: Path) -> None:
    """4 critic steps before the generator's steps 0 and 1 and 3, else 2."""
    seen: list[tuple[int, int]] = []
    step = Step(critic_steps=2, critic_burst=4, burst_first=2, burst_every=3)
    watch = Watch(lambda m: seen.append((m.counters.discriminator_steps, m.counters.generator_steps)))
    fit(game(WGAN, step=step), Blobs(), tmp_path, watch, max_epochs=2)  # 16 minibatches
    moved = [steps for (steps, g), (_, before) in zip(seen[1:], seen, strict=False) if g > before]
    assert moved == [4, 8, 10, 14, 16]


def test_bursts_go_on_where_a_run_was_interrupted(tmp_path: Path) -> None:
    step = Step(critic_steps=2, critic_burst=5)
    whole = game(WGAN, step=step)
    fit(whole, Blobs(), tmp_path / "whole", max_epochs=2)
    part = game(WGAN, step=step)
    part.config = {}
    fit(part, Blobs(), tmp_path, Checkpoints(), budget=Budget(images=8 * 7), max_epochs=2)  # in the second burst
    rest = game(WGAN, step=step)
    fit(rest, Blobs(), tmp_path, checkpoint=tmp_path / "checkpoints" / "last.ckpt", max_epochs=2)
    assert replace(rest.counters, seconds=0) == replace(whole.counters, seconds=0)
    torch.testing.assert_close(rest.state_dict(), whole.state_dict(), rtol=0, atol=0)
