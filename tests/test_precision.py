"""Mixed precision: true gradients are clipped, and every step sees the weights of the step before it."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn

from gan_lightning.budget import Budget
from gan_lightning.callbacks.metrics import Metrics
from gan_lightning.models.gan import GAN
from gan_lightning.models.wgan_gp import WGANGP
from gan_lightning.steps import Step
from tests.support import Blobs, fit, game


def fit_in_half(module: Any, folder: Path) -> None:
    """`precision=16-mixed` on the CPU silently is bf16; this plugin has a real gradient scaler."""
    data = Blobs()
    data.setup()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        log_every_n_steps=1,
        plugins=[MixedPrecision("16-mixed", "cpu")],
        callbacks=[Budget(images=8), Metrics()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=0,
        default_root_dir=folder,
    )
    assert trainer.precision_plugin.scaler.get_scale() > 1000  # type: ignore[union-attr]  # MixedPrecision has one
    trainer.fit(module, datamodule=data)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_clipping_sees_true_gradients_under_a_scaler(clip: float | None, fused: bool, tmp_path: Path) -> None:
    def make() -> Any:
        descent = partial(torch.optim.SGD, lr=1.0, fused=fused)  # the step is the gradient
        step = Step(discriminator_clip=clip, generator_clip=clip)
        return game(step=step, generator_optimizer=descent, discriminator_optimizer=descent)

    exact, half = make(), make()
    before = [p.detach().clone() for p in half.discriminator.parameters()]
    fit(exact, Blobs(), tmp_path, budget=Budget(images=8))
    fit_in_half(half, tmp_path)
    for key in ("D/gradient_norm", "G/gradient_norm"):
        assert float(half.metrics[key]) == pytest.approx(float(exact.metrics[key]), rel=0.02)
    moved = torch.cat(
        [(p.detach() - q).flatten() for p, q in zip(half.discriminator.parameters(), before, strict=True)]
    ).norm()
    expected = float(exact.metrics["D/gradient_norm"]) if clip is None else clip
    assert float(moved) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("rule", [GAN, WGANGP])
def test_every_step_of_a_batch_sees_new_weights_under_autocast(rule: type, tmp_path: Path) -> None:
    """A cache of cast weights over a whole Lightning batch would make K = 8 differ from K = 1."""
    ends = []
    for minibatches in (1, 8):
        module = game(rule, step=Step(minibatches=minibatches))
        fit(module, Blobs(), tmp_path, max_epochs=2, precision="bf16-mixed")
        ends.append(module.state_dict())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


def test_the_second_step_has_another_gradient(tmp_path: Path) -> None:
    """The same images and latents again: only new weights can change the discriminator's gradient."""
    gradients = []

    class Repeated(GAN):
        def draw(self, purpose: str, count: int, draw: Any) -> Any:
            return torch.ones(count, 4)

        def move(self, name: Any) -> None:
            if name == "discriminator":
                gradients.append(
                    nn.utils.parameters_to_vector(
                        [p.grad for p in self.discriminator.parameters() if p.grad is not None]
                    )
                )
            super().move(name)

    class Same(Blobs):
        def load(self) -> Any:
            train, held_out, classes = super().load()
            train.images[:] = train.images[:1]
            return train, held_out, classes

    fast = partial(torch.optim.SGD, lr=0.5)
    fit(
        game(Repeated, discriminator_optimizer=fast), Same(), tmp_path, precision="bf16-mixed", budget=Budget(images=16)
    )
    assert len(gradients) == 2
    assert (gradients[0] - gradients[1]).norm() > 0.01 * gradients[0].norm()
