"""When each player moves: the base, without the command line."""

import copy
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning import losses
from gan_lightning.budget import Budget
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.callbacks.samples import SampleGrids
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.data.sets import InMemory
from gan_lightning.divergence import Diverged
from gan_lightning.ema import EMA
from gan_lightning.models.gan import GAN
from gan_lightning.models.wgan_gp import WGANGP
from gan_lightning.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lightning.networks.mlp import MLPDiscriminator
from gan_lightning.sampling import evaluation_latents
from gan_lightning.schedules import Linear
from gan_lightning.steps import Phase, PlayerName, Step
from tests.support import Blobs, Watch, fit, game


def state(module: Any) -> dict[str, Any]:
    optimizers = [player.optimizer.state_dict() for player in module.players.values()]
    return copy.deepcopy({"weights": module.state_dict(), "optimizers": optimizers})


def same(a: Any, b: Any, rtol: float = 0, atol: float = 0) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def convolutional(**settings: Any) -> Any:
    """A game with batch norm in both networks and dropout in the discriminator, 16 pixels."""
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator(4, 16, 1)
    discriminator.trunk = nn.Sequential(nn.Dropout(0.3), *discriminator.trunk.children())
    return game(**{"generator": DCGANGenerator(4, 4, 16, 1), "discriminator": discriminator, **settings})


@pytest.mark.parametrize("mover", ["discriminator", "generator"])
def test_a_step_of_one_player_leaves_the_other_bit_identical(mover: PlayerName, tmp_path: Path) -> None:
    module = game()
    module.phases = [Phase(players=(mover,))]
    module.discriminator.trunk[0].bias.requires_grad_(False)  # as when fine-tuning with a frozen layer
    before = copy.deepcopy(module.state_dict())
    fit(module, Blobs(), tmp_path)
    other = "generator" if mover == "discriminator" else "discriminator"
    after = module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith(other))
    assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith(mover))
    kept = [p.requires_grad for p in module.discriminator.parameters()]
    assert kept == [True, False, True, True]


def test_a_frozen_layer_stays_as_it_is(tmp_path: Path) -> None:
    module = game()
    module.discriminator.trunk[0].weight.requires_grad_(False)
    before = module.discriminator.trunk[0].weight.clone()
    fit(module, Blobs(), tmp_path)
    assert torch.equal(module.discriminator.trunk[0].weight, before)
    assert not module.discriminator.trunk[0].weight.requires_grad


def test_critic_steps_count_over_epoch_ends(tmp_path: Path) -> None:
    seen = []
    module = game(WGANGP, step=Step(minibatches=3, critic_steps=5))
    watch = Watch(lambda m: seen.append((m.counters.discriminator_steps, m.counters.generator_steps)))
    fit(module, Blobs(), tmp_path, watch, max_epochs=3)  # 8 minibatches an epoch
    assert seen == [(step, step // 5) for step in range(1, 25)]
    counters = module.counters
    assert (counters.epoch, counters.epoch_minibatches, counters.minibatches, counters.images) == (3, 0, 24, 192)


@pytest.mark.parametrize("rule", [GAN, WGANGP])
def test_minibatches_of_a_lightning_batch_change_speed_only(rule: type, tmp_path: Path) -> None:
    ends, logs, grids = [], [], []
    for minibatches in (1, 8):
        folder = tmp_path / str(minibatches)
        module = game(rule, step=Step(minibatches=minibatches, critic_steps=2), ema=lambda g: EMA(g, 50))
        lines: list[Any] = []
        watch = Watch(lambda m, lines=lines: lines.append(dict(m.metrics)) if m.log_due else None)
        fit(module, Blobs(flip=True), folder, watch, SampleGrids(40, 4), max_epochs=2)
        ends.append(state(module))
        logs.append(lines)
        grids.append({f.name: f.read_bytes() for f in folder.glob("samples/e*.png")})
    same(*ends)
    assert len(logs[0]) == 8
    assert logs[0] == logs[1]
    assert len(grids[0]) > 4
    assert grids[0] == grids[1]


@pytest.mark.parametrize("rule", [GAN, WGANGP])
@pytest.mark.parametrize("critic_steps", [1, 2])
def test_accumulating_four_equals_one_large_batch(rule: type, critic_steps: int, tmp_path: Path) -> None:
    ends = []
    for accumulate in (1, 4):
        module = game(rule, step=Step(accumulate=accumulate, critic_steps=critic_steps))
        fit(module, Blobs(batch_size=16 // accumulate), tmp_path / str(accumulate), max_epochs=3)
        assert (module.counters.discriminator_steps, module.counters.images) == (12, 192)
        ends.append(module.state_dict())
    same(*ends, rtol=1e-4, atol=1e-6)


def test_epochs_end_on_whole_steps(tmp_path: Path) -> None:
    module = game(step=Step(accumulate=3))
    fit(module, Blobs(), tmp_path, max_epochs=2)  # 8 minibatches: 6 are used
    assert (module.counters.minibatches, module.counters.discriminator_steps, module.counters.epoch) == (12, 4, 2)


@pytest.mark.parametrize(
    ("step", "calls"),
    [(Step(), [True] * 8), (Step(critic_steps=4), [False] * 3 + [True] + [False] * 3 + [True])],
)
def test_fakes_are_made_once(step: Step, calls: list[bool], tmp_path: Path) -> None:
    module, seen = game(step=step), []
    module.generator.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    fit(module, Blobs(), tmp_path)
    assert seen == calls


def test_accumulated_fakes_are_made_again_from_the_same_latents(tmp_path: Path) -> None:
    module, seen = game(step=Step(accumulate=2)), []
    module.generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    fit(module, Blobs(), tmp_path, budget=Budget(generator_steps=1))
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])


def test_ema_follows_its_formula(tmp_path: Path) -> None:
    module = game(ema=lambda g: EMA(g, half_life=30, ramp_up=0.5))
    expected = [p.detach().clone() for p in module.generator.parameters()]

    def average(module: Any) -> None:
        decay = 0.5 ** (8 / min(30, 0.5 * module.counters.images))
        for mean, weight in zip(expected, module.generator.parameters(), strict=True):
            mean.mul_(decay).add_(weight.detach(), alpha=1 - decay)

    fit(module, Blobs(), tmp_path, Watch(average), max_epochs=2)
    same(list(module.ema.generator.parameters()), expected, rtol=1e-5, atol=1e-7)


def test_schedules_follow_generator_steps_and_not_the_length_of_the_run(tmp_path: Path) -> None:
    seen: dict[int, list[float]] = {}
    for epochs in (1, 2):
        module = game(step=Step(critic_steps=2), discriminator_schedule=Linear(horizon=8))
        rates = seen.setdefault(epochs, [])
        watch = Watch(lambda m, rates=rates: rates.append(m.players["discriminator"].optimizer.param_groups[0]["lr"]))
        fit(module, Blobs(), tmp_path, watch, max_epochs=epochs)
    assert seen[2] == pytest.approx([1e-3 * (1 - step // 2 / 8) for step in range(16)])
    assert seen[1] == seen[2][:8]


def test_phases(tmp_path: Path) -> None:
    class Pretrained(GAN):
        def __init__(self, **base: Any) -> None:
            super().__init__(**base)
            self.phases = [
                Phase("pre-training", images=40, players=("generator",), generator_loss="reconstruction_loss"),
                Phase("adversarial", reset_optimizers=True),
            ]

        def reconstruction_loss(self, batch: Any, fakes: Tensor) -> losses.Losses:
            return {"loss": (fakes - batch["image"]).abs().mean()}

    whole, seen = game(Pretrained), []
    critic = copy.deepcopy(whole.discriminator.state_dict())

    def see(module: Any) -> None:
        steps = [int(s["step"]) for s in module.players["generator"].optimizer.state_dict()["state"].values()]
        seen.append((module.counters.phase, module.counters.discriminator_steps, max(steps, default=0)))
        if module.counters.phase == 0:
            same(module.discriminator.state_dict(), critic)

    fit(whole, Blobs(), tmp_path / "whole", Watch(see), Checkpoints())
    assert seen == [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4), (1, 0, 0), (1, 1, 1), (1, 2, 2), (1, 3, 3)]
    assert whole.counters.phase_images == 24

    for stop in (2, 5, 6):  # in the first phase, at the change, in the second
        folder = tmp_path / str(stop)
        part = game(Pretrained)
        part.config = {}
        fit(part, Blobs(), folder, Checkpoints(), budget=Budget(images=8 * stop))
        rest = game(Pretrained)
        rest.config = {}
        fit(rest, Blobs(), folder, Checkpoints(), checkpoint=folder / "checkpoints" / "last.ckpt")
        same(state(rest), state(whole))
        assert rest.counters.phase_images == 24


@pytest.mark.parametrize("make", [game, convolutional], ids=["dense", "batch norm and dropout"])
def test_interrupted_at_every_minibatch(make: Any, tmp_path: Path) -> None:
    settings = {"step": Step(minibatches=3, critic_steps=2), "ema": lambda g: EMA(g, 50)}
    data = {"image_size": 16, "batch_size": 12} if make is convolutional else {"batch_size": 12}
    whole = make(**settings)
    fit(whole, Large(**data), tmp_path / "whole", max_epochs=2)  # 5 minibatches an epoch
    for stop in range(1, 10):
        folder, part = tmp_path / str(stop), make(**settings)
        part.config = {}
        fit(part, Large(**data), folder, Checkpoints(), budget=Budget(images=12 * stop), max_epochs=2)
        assert part.counters.minibatches == stop
        rest = make(**settings)
        fit(rest, Large(**data), folder, checkpoint=folder / "checkpoints" / "last.ckpt", max_epochs=2)
        same(state(rest), state(whole))
        assert rest.counters.minibatches == 10


class Large(Blobs):
    """Blobs, doubled in size where asked for."""

    def load(self) -> tuple[InMemory, InMemory, list[str]]:
        train, held_out, classes = super().load()
        for part in (train, held_out):
            scale = self.image_size // part.images.shape[-1]
            part.images = part.images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
        return train, held_out, classes


def test_new_numbers_win_over_those_in_the_checkpoint(tmp_path: Path) -> None:
    module = game()
    module.config = {}
    fit(module, Blobs(), tmp_path, Checkpoints())
    slower = game(generator_optimizer=lambda p: torch.optim.Adam(p, lr=1e-5, betas=(0.1, 0.9)))
    fit(slower, Blobs(), tmp_path, checkpoint=tmp_path / "checkpoints" / "last.ckpt", max_epochs=2)
    group = slower.players["generator"].optimizer.param_groups[0]
    assert (group["lr"], group["betas"]) == (1e-5, (0.1, 0.9))
    assert slower.players["discriminator"].optimizer.param_groups[0]["lr"] == 1e-3


def test_sampling_never_touches_training(tmp_path: Path) -> None:
    ends = []
    for every in (8, 10**9):
        module = convolutional(ema=lambda g: EMA(g, 50))
        fit(module, Large(image_size=16), tmp_path / str(every), SampleGrids(every, 4), max_epochs=2)
        ends.append(state(module))
    assert len(list((tmp_path / "8" / "samples").glob("*_ema.png"))) == 17
    same(*ends)


@pytest.mark.parametrize("minibatches", [1, 8])
@pytest.mark.parametrize(
    ("budget", "expected"),
    [(Budget(images=80), 10), (Budget(images=81), 11), (Budget(generator_steps=3), 6), (Budget(minutes=1e-9), 1)],
)
def test_budgets_end_at_the_minibatch(budget: Budget, expected: int, minibatches: int, tmp_path: Path) -> None:
    module = game(step=Step(minibatches=minibatches, critic_steps=2))
    fit(module, Blobs(), tmp_path, budget=Budget(budget.images, budget.generator_steps, budget.minutes), max_epochs=5)
    assert module.counters.minibatches == expected


def test_an_interrupt_ends_the_step(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    module, budget = game(), Budget()
    send = Watch(lambda m: os.kill(os.getpid(), signal.SIGINT) if m.counters.minibatches == 5 else None)
    fit(module, Blobs(), tmp_path, send, budget=budget, max_epochs=5)
    assert module.counters.minibatches in (5, 6)
    assert budget.signal == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    module = game()
    poison = Watch(lambda m: m.generator.layers[0].weight.data.fill_(math.nan) if m.counters.minibatches == 3 else None)
    with pytest.raises(Diverged, match=r"not finite at minibatch 4 \(noticed at 5,"):
        fit(module, Blobs(), tmp_path, poison, log_every_n_steps=5)


def test_log_lines_hold_values_of_their_own_cycle(tmp_path: Path) -> None:
    """With 5 critic steps and a line every 7 minibatches, lines fall on the generator's moves: 10, 20, …"""
    lines = []
    module = game(step=Step(critic_steps=5))
    watch = Watch(lambda m: lines.append(m.counters.minibatches) if m.log_due else None)
    fit(module, Blobs(), tmp_path, watch, max_epochs=5, log_every_n_steps=7)
    assert lines == [10, 20, 30, 40]
    assert {"D/loss", "D/ranking", "D/gradient_norm", "G/loss", "G/gradient_norm", "G/learning_rate"} <= set(
        module.metrics
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_draws_are_cut_from_the_global_one(rank: int) -> None:
    alone, two = game(step=Step(accumulate=2)), game(step=Step(accumulate=2))
    two._trainer = type("TwoRanks", (), {"world_size": 2, "global_rank": rank})()
    for minibatch in range(4):
        alone.counters.minibatches = two.counters.minibatches = minibatch
        everything = alone.draw("latents", 8, alone.draw_latents)
        assert torch.equal(two.draw("latents", 4, two.draw_latents), everything[4 * rank : 4 * rank + 4])
    two._trainer = None


def test_evaluation_latents_depend_on_the_index_alone() -> None:
    module = game()
    many = evaluation_latents(module, 200, seed=3)
    for first, count in ((0, 1), (63, 2), (130, 70)):
        assert torch.equal(evaluation_latents(module, count, seed=3, first=first), many[first : first + count])
    assert not torch.equal(evaluation_latents(module, 1, seed=4), many[:1])
    cut = evaluation_latents(module, 500, seed=3, truncation=0.5)
    assert 0.45 < cut.abs().max() <= 0.5


class ByLabel(nn.Module):
    """Pictures whose brightness is their label."""

    latent_size = 4
    classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is not None
        return (self.scale * y.float() / 10).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def test_class_conditional_networks_get_labels(tmp_path: Path) -> None:
    seen = []
    module = game(generator=ByLabel(), discriminator=MLPDiscriminator([4], 8, 1, "relu", classes=4), classes=4)
    module.generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    fit(module, Blobs(), tmp_path)
    assert len(set(torch.cat(seen).tolist())) == 4  # all classes are drawn
    module.generator.scale.data.fill_(1)
    assert module.sample(6, label=2).unique().tolist() == pytest.approx([0.2])
    assert module.sample(6)[:, 0, 0, 0].tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0, 0.1])


@pytest.mark.parametrize("loss", losses.PAIRS)
def test_every_loss_trains(loss: losses.Name, tmp_path: Path) -> None:
    module = game(loss=loss)
    before = copy.deepcopy(module.state_dict())
    fit(module, Blobs(), tmp_path, budget=Budget(images=16))
    assert all(not torch.equal(before[k], v) for k, v in module.state_dict().items() if k.endswith("weight"))


@pytest.mark.parametrize("key", ["label_smoothing", "fake_label_smoothing", "label_noise"])
@pytest.mark.parametrize("loss", [n for n, pair in losses.PAIRS.items() if not pair.probabilities])
def test_smoothing_needs_probabilities(key: str, loss: losses.Name) -> None:
    with pytest.raises(ValueError, match=rf"{key}=0.1: loss={loss}"):
        game(GAN, loss=loss, **{key: 0.1})


def test_label_smoothing_and_noise() -> None:
    module = game(label_smoothing=0.1, fake_label_smoothing=0.2)
    assert module.labels(4, 4) == {"real_label": 0.9, "fake_label": 0.2}
    noisy = game(label_smoothing=0.1, label_noise=0.25).labels(4000, 6000)
    assert (len(noisy["real_label"]), len(noisy["fake_label"])) == (4000, 6000)
    assert sorted(noisy["real_label"].unique().tolist()) == pytest.approx([0.1, 0.9])
    assert (noisy["real_label"] < 0.5).float().mean() == pytest.approx(0.25, abs=0.03)
    assert noisy["fake_label"].mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("one_sided", [False, True])
def test_wgan_gp_is_its_formula(one_sided: bool) -> None:
    module = game(WGANGP, penalty_weight=7.0, one_sided=one_sided)
    real, fake = torch.randn(5, 1, 8, 8), torch.randn(5, 1, 8, 8)
    found = module.discriminator_loss({"image": real}, fake)
    mixing = module.draw("mixing", 5, lambda n, stream: torch.rand(n, generator=stream))
    penalties = []
    for x, g, e in zip(real, fake, mixing, strict=True):
        between = (e * x + (1 - e) * g)[None].requires_grad_()
        (gradient,) = torch.autograd.grad(module.discriminator(between).sum(), between)
        excess = gradient.norm() - 1
        penalties.append((excess.clamp_min(0) if one_sided else excess) ** 2)
    expected = module.discriminator(fake).mean() - module.discriminator(real).mean() + 7 * sum(penalties) / 5
    same(found["loss"], expected, rtol=1e-5, atol=1e-6)


def test_checkpoints_are_numbered_and_kept(tmp_path: Path) -> None:
    module = game()
    module.config = {}
    fit(module, Blobs(), tmp_path, Checkpoints(every_epochs=2, keep=2), max_epochs=8)
    names = sorted(f.name for f in (tmp_path / "checkpoints").iterdir())
    assert names == ["e0006-s00000048.ckpt", "e0008-s00000064.ckpt", "last.ckpt", "previous.ckpt"]
    assert read_checkpoint(tmp_path / "checkpoints" / names[0])["counters"]["epoch"] == 6


def test_the_penalty_refuses_batch_norm_in_the_critic() -> None:
    with pytest.raises(ValueError, match="batch norm"):
        convolutional(rule=WGANGP)
