"""Alarms: each is raised when it should be, once, and by nothing else; and a run that is driven to collapse."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from gan_lightning.callbacks.alarms import IMAGES, LINES, Watch
from gan_lightning.commands.train import run
from gan_lightning.divergence import Diverged
from gan_lightning.losses import PAIRS
from gan_lightning.models.gan import GAN
from tests.support import Blobs, fit, game

HEALTHY = {"D/loss": 0.5, "D/ranking": 0.99, "G/gradient_norm": 5.0}
WON = {"D/loss": 1e-4, "D/ranking": 1.0, "G/gradient_norm": 5.0}
STEP = IMAGES // LINES + 1


def kinds(watch: Watch, lines: list[dict[str, float]], won: float | None = 0.02, step: int = STEP) -> list[str]:
    """The alarms that lines raise, `step` images apart."""
    return [kind for index, line in enumerate(lines) for kind, _ in watch.line(line, won, index * step)]


def test_a_healthy_run_raises_none() -> None:
    watch = Watch()
    noisy = [{**HEALTHY, "D/loss": 0.5 + 0.4 * (-1) ** i, "G/gradient_norm": 1.0 + i % 7} for i in range(200)]
    assert kinds(watch, noisy) == []
    rising = [min(0.9, 0.1 + 0.02 * i) + 0.05 * (-1) ** i for i in range(100)]
    assert [watch.scores({"diversity": d, "missing_modes": 5 - i // 20}, i * 1000) for i, d in enumerate(rising)] == [
        []
    ] * 100


def test_a_discriminator_that_wins_for_long() -> None:
    assert kinds(Watch(), [WON] * (LINES + 5)) == ["won"]
    assert kinds(Watch(), [WON] * (LINES - 1)) == []
    assert kinds(Watch(), [WON] * 50, step=10) == []  # many lines, few images
    assert kinds(Watch(), ([WON] * (LINES - 1) + [HEALTHY]) * 5) == []  # never for long
    assert kinds(Watch(), [WON] * 50, won=None) == []  # a critic may be as good as it likes
    assert kinds(Watch(), [{**WON, "D/ranking": 0.999}] * 50) == []


def test_a_gradient_that_vanishes() -> None:
    gone = {**HEALTHY, "G/gradient_norm": 0.001}
    assert kinds(Watch(), [HEALTHY] * 20 + [gone] * (LINES + 5)) == ["vanished"]
    assert kinds(Watch(), [HEALTHY] * 20 + [{**HEALTHY, "G/gradient_norm": 0.1}] * 50) == []


def test_samples_that_collapse() -> None:
    def raised(values: list[dict[str, float]], images: int = 1000) -> list[str]:
        watch = Watch()
        return [kind for i, value in enumerate(values) for kind, _ in watch.scores(value, i * images)]

    def spread(*values: float) -> list[dict[str, float]]:
        return [{"diversity": value} for value in values]

    assert raised(spread(0.1, 0.5, 0.9, 0.4, 0.3)) == ["diversity"]
    assert raised(spread(0.1, 0.5, 0.9, 0.55)) == []
    assert raised(spread(0.1, 0.02, 0.1)) == []  # an untrained generator
    assert raised(spread(*[0.1] * 5), images=100_000) == ["diversity"]  # one that stays so
    assert raised([{"missing_modes": n} for n in (5, 1, 2, 3, 9)]) == ["missing"]
    assert raised([{"missing_modes": n} for n in (5, 1, 2, 2, 1, 0)]) == []
    one_class = [{"diversity": 0.44, "missing_modes": 9.0, "modes": 1.0}] * 5  # from the start
    assert raised(one_class, images=100_000) == ["missing"]
    assert raised([{"missing_modes": 4.0, "modes": 6.0}] * 5, images=100_000) == []


def test_what_was_seen_survives_a_checkpoint() -> None:
    whole, first = Watch(), Watch()
    lines = [WON] * (LINES + 5)
    assert kinds(first, lines[:5]) == []
    second = Watch(**asdict(first))
    assert [k for i, line in enumerate(lines[5:], 5) for k, _ in second.line(line, 0.02, i * STEP)] == ["won"]
    assert kinds(whole, lines) == ["won"]
    assert asdict(whole) == asdict(second)
    assert [k for k, _ in Watch(**asdict(second)).line(WON, 0.02, 10**6)] == []  # raised before


@pytest.mark.parametrize("loss", sorted(PAIRS))
def test_every_loss_says_when_it_is_won(loss: str) -> None:
    """Certain and right: its loss is below the mark. At a draw it is far above."""
    pair = PAIRS[loss]
    if pair.won is None:
        assert loss == "wasserstein"
        return
    sure, undecided = torch.full((8,), 6.0), torch.zeros(8)
    certain = torch.ones(8) if loss == "least_squares" else sure
    nothing = torch.zeros(8) if loss == "least_squares" else -sure
    assert float(pair.discriminator(certain, nothing)["loss"]) < pair.won
    assert float(pair.discriminator(undecided, undecided)["loss"]) > 10 * pair.won


def test_soft_labels_keep_the_loss_from_saying() -> None:
    assert game().won == 0.02
    assert game(GAN, label_smoothing=0.1).won is None


@pytest.mark.parametrize("on_collapse", [pytest.param("warn", marks=pytest.mark.slow), "stop"])
def test_a_run_driven_to_collapse(on_collapse: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The minimax loss with a discriminator 50 times as fast."""
    folder = tmp_path / "run"
    driven = ["model=gan", "model.loss=minimax", "model.discriminator_optimizer.lr=1e-2", "trainer.accelerator=cpu"]
    small = ["model.generator.hidden=[64]", "model.generator.batch_norm=none", "model.discriminator.hidden=[128]"]
    often = [
        "trainer.log_every_n_steps=10",
        "budget.images=60000",
        "samples.every_images=1000000",
        "scores.every=20000",
    ]
    assert run([*driven, *small, *often, f"on_collapse={on_collapse}", f"hydra.run.dir={folder}"]) == 0
    output = capsys.readouterr().out
    assert output.count("the discriminator has won") == 2  # when it happens, and in the summary
    assert "Lower model.discriminator_optimizer.lr" in output
    assert ("60,032 images in" in output) == (on_collapse == "warn")
    assert ("Stopped by an alarm after" in output) == (on_collapse == "stop")
    assert (folder / "checkpoints" / "last.ckpt").exists()


class Poison(Callback):
    """Puts a NaN into the generator, between two log lines."""

    def on_minibatch_end(self, trainer: object, module: GAN) -> None:
        if module.counters.minibatches == 5:
            next(module.generator.parameters()).data[0, 0] = torch.nan


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    from gan_lightning.callbacks.checkpoints import Checkpoints
    from gan_lightning.checkpoint import read_checkpoint

    module = game()
    module.config = {"seed": 0}
    fit(module, Blobs(), tmp_path, Checkpoints(), max_epochs=1)
    last = tmp_path / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    with pytest.raises(Diverged, match=r"generator\..*last\.ckpt is from before, minibatch 8 \(64 images\)"):
        fit(game(), Blobs(), tmp_path, Poison(), Checkpoints(), max_epochs=1, log_every_n_steps=100)
    assert last.read_bytes() == before
    assert read_checkpoint(last)["counters"]["minibatches"] == 8
