"""Phases of progressive growing: what is shown, minibatches, rates, optimizers, and where a resume goes on."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning.budget import Budget
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.ema import EMA
from gan_lightning.errors import UserError
from gan_lightning.models.progan import ProGAN
from gan_lightning.networks.progan import ProGANDiscriminator, ProGANGenerator, shrunk
from gan_lightning.steps import Step
from tests.support import Blobs, Large, Watch, fit, game

PLAN: dict[str, Any] = {"fade_images": 32, "stable_images": 16, "splits": [1, 2, 4], "rates": [1, 2]}


def growing(**settings: Any) -> Any:
    torch.manual_seed(0)
    small: dict[str, Any] = {"base_channels": 2, "image_size": 16, "channels": 1, "max_channels": 4}
    networks = {"generator": ProGANGenerator(4, **small), "discriminator": ProGANDiscriminator(**small)}
    return game(ProGAN, **{**networks, **PLAN, **settings})


def test_the_phases(tmp_path: Path) -> None:
    module, seen = growing(ema=partial(EMA, half_life=10.0)), []

    def see(module: Any) -> None:
        steps = {int(state["step"]) for state in module.players["generator"].optimizer.state.values()}
        seen.append(
            (
                module.counters.images,
                module.ema.generator.grown.item(),
                module.discriminator.grown.item(),
                module.counters.minibatches,
                module.metrics["G/learning_rate"],
                max(steps, default=0),
            )
        )

    fit(module, Large(images=128), tmp_path, Watch(see), max_epochs=1)
    assert [line[0] for line in seen] == list(range(8, 136, 8))
    alphas = [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1.25, 1.5, 1.75, 2, 2, 2, 2]
    offsets = [0.125] * 4 + [0] * 2 + [0.1875] * 4 + [0] * 4  # a fade goes on between the parts of a minibatch
    assert [line[1] for line in seen[:2]] == [0, 0]
    assert [line[1] for line in seen[2:]] == [a + o for a, o in zip(alphas[2:], offsets, strict=True)]
    assert [line[2] for line in seen] == [line[1] for line in seen]
    assert [line[3] for line in seen] == [1, 2, 4, 6, 8, 10, 12, 14, *range(18, 50, 4)]
    assert [line[4] for line in seen] == [1e-3] * 2 + [2e-3] * 14
    assert [line[5] for line in seen] == [1, 0, 2, 4, 6, 0, 2, 0, 4, 8, 12, 0, 4, 8, 12, 16]


def test_a_phase_ends_on_whole_minibatches_and_steps(tmp_path: Path) -> None:
    module, seen = growing(stable_images=1, fade_images=2, splits=[4], step=Step(accumulate=8)), []
    fit(module, Large(images=64), tmp_path, Watch(lambda m: seen.append(m.counters.phase)), max_epochs=1)
    assert seen == [1, 2, 3, 4]  # every second minibatch of the data is a step


def test_real_images_are_shrunk_and_faded() -> None:
    module, images = growing(), torch.rand(3, 1, 16, 16)
    for grown, expected in (
        (0.0, shrunk(images, 4)),
        (1.0, shrunk(images, 8)),
        (2.0, images),
        (1.25, 0.75 * shrunk(images, 8).repeat_interleave(2, 2).repeat_interleave(2, 3) + 0.25 * images),
    ):
        module.discriminator.grow(grown)
        torch.testing.assert_close(module.shown(images), expected)


@pytest.mark.parametrize(  # in fades and after them
    ("images", "accumulate"),
    [(88, 1), *(pytest.param(*stop, marks=pytest.mark.slow) for stop in ((32, 1), (120, 1), (56, 2)))],
)
def test_resumed_is_uninterrupted(images: int, accumulate: int, tmp_path: Path) -> None:
    def run(folder: str, images: int, checkpoint: Path | None = None) -> dict[str, Any]:
        module = growing(step=Step(accumulate=accumulate), **({} if accumulate == 1 else {"splits": [2]}))
        module.config = {}
        fit(
            module,
            Large(images=128),
            tmp_path / folder,
            Checkpoints(),
            budget=Budget(images=images),
            checkpoint=checkpoint,
            max_epochs=-1,
        )
        found = read_checkpoint(tmp_path / folder / "checkpoints" / "last.ckpt")
        found["counters"].pop("seconds")
        return {key: found[key] for key in ("state_dict", "optimizer_states", "counters")}

    whole = run("whole", 152)
    assert whole["counters"]["epoch_images"] == 8 * whole["counters"]["epoch_minibatches"]
    run("parts", images)
    torch.testing.assert_close(run("parts", 152, tmp_path / "parts/checkpoints/last.ckpt"), whole, rtol=0, atol=0)


@pytest.mark.parametrize(("grown", "phase", "images"), [(0.0, 0, 0), (1.0, 2, 0), (1.25, 3, 8), (2.0, 4, 0)])
def test_weights_of_another_run_go_on_where_they_were(grown: float, phase: int, images: int, tmp_path: Path) -> None:
    module, at = growing(), []
    module.grow(grown)
    see = Watch(lambda m: at.append((m.counters.phase, m.counters.phase_images, m.generator.grown.item())))
    fit(module, Large(images=8), tmp_path, see, max_epochs=1)
    assert at[0][:2] == (phase, images + 8)
    assert at[0][2] == pytest.approx(grown, abs=0.2)


def test_the_penalty_has_a_drift() -> None:
    module = growing(drift_weight=0.5)
    losses = module.scored(torch.tensor([1.0, -3.0]), torch.tensor([0.0, 2.0]))
    assert losses["distance"] == -2
    assert losses["drift"] == 5
    assert losses["loss"] == 2 + 2.5


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"generator: MLPGenerator does not grow"):
        game(ProGAN, **PLAN)
    for rates, reason in (([], "rates=\\[\\]"), ([1, 1, 1, 1], "there are 3 sides from 4 to 16")):
        with pytest.raises(ValueError, match=reason):
            growing(rates=rates)
    with pytest.raises(UserError, match=r'data.batch_size=8: phase "at 4" cannot split it by 3'):
        fit(growing(splits=[3]), Blobs(), tmp_path)
