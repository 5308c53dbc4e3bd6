"""The ramps of R3GAN."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gan_lightning.ada import ADA
from gan_lightning.ema import EMA
from gan_lightning.models.r3gan import R3GAN
from gan_lightning.schedules import Ramp
from gan_lightning.steps import Step
from tests.support import Blobs, Watch, fit, game


def test_a_ramp_is_half_a_cosine() -> None:
    ramp = Ramp(1.0, 3.0, 100)
    assert [ramp(images) for images in (0, 25, 50, 100, 200)] == pytest.approx([1, 2 - 0.5**0.5, 2, 3, 3])


def test_everything_follows_its_ramp(tmp_path: Path) -> None:
    module = game(
        R3GAN,
        gamma=Ramp(2.0, 1.0, 32),
        beta2=Ramp(0.5, 0.9, 32),
        half_life=Ramp(0.0, 100.0, 32),
        augmentation=Ramp(0.0, 0.5, 32),
        ada=ADA("b", target=None),
        ema=partial(EMA, half_life=7.0, ramp_up=None),
    )
    seen: list[tuple[float, ...]] = []

    def see(module: Any) -> None:
        betas = {group["betas"] for player in module.players.values() for group in player.optimizer.param_groups}
        assert len(betas) == 1
        seen.append(
            (module.r1_weight, module.r2_weight, *betas.pop(), module.ema.half_life, float(module.augment.ada.p))
        )

    fit(module, Blobs(images=48), tmp_path, Watch(see), max_epochs=1)
    assert len(seen) == 6
    assert seen[0] == pytest.approx((2.0, 2.0, 0.5, 0.5, 0.0, 0.0))
    assert seen[2] == pytest.approx((1.5, 1.5, 0.5, 0.7, 50.0, 0.25))
    assert seen[4] == seen[5] == pytest.approx((1.0, 1.0, 0.5, 0.9, 100.0, 0.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augmentation": Ramp(0, 0.5, 1)}, r"set ada\.pipeline"),
        ({"augmentation": Ramp(0, 2, 1), "ada": ADA("b", target=None)}, "a probability"),
        ({"step": Step(compile=True)}, r"step\.compile"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        game(R3GAN, gamma=Ramp(1, 1, 1), **settings)
