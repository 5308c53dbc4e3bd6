"""Fillings that need no training: known pixels stay, the hole is not looked at, and what is missing is said."""

import builtins
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.inpainting import BASELINES, compare, filled, main, mean_colour
from gan_lightning.commands.train import run
from gan_lightning.data.translated_digits import InpaintingDigits
from gan_lightning.errors import UserError
from gan_lightning.metrics.paired import Pair, paired
from tests.models.test_deepfill import two
from tests.models.test_pix2pix import translator

PACKAGES = {"opencv-python-headless": "cv2", "scikit-image": "skimage", "": "numpy"}


def pair(channels: int) -> Pair:
    """A ramp with a hole."""
    ramp = torch.arange(0, 240, 10, dtype=torch.uint8).repeat(2, channels, 24, 1)
    mask = torch.zeros(2, 1, 24, 24, dtype=torch.bool)
    mask[0, :, 8:14, 8:14] = True
    mask[1, :, 3:6, 10:20] = True
    return Pair(ramp, ramp, mask)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", BASELINES)
def test_only_the_hole_is_filled_and_it_was_not_seen(name: str, channels: int) -> None:
    make, package = BASELINES[name]
    if not importlib.util.find_spec(PACKAGES[package]):
        pytest.skip(f"needs {package}")
    given, fill = pair(channels), make()
    assert given.mask is not None
    made = filled(given, fill)
    known = ~given.mask.expand_as(given.real)
    assert torch.equal(made.fake[known], given.real[known])
    hidden = torch.where(given.mask, 255, given.real).byte()
    assert torch.equal(filled(Pair(hidden, hidden, given.mask), fill).fake, made.fake)
    error = paired(["l1_hole"], [made])["l1_hole"].value
    assert error < (0.3 if name.startswith("mean") else 0.05)


def test_the_mean_is_of_known_pixels_alone() -> None:
    image = np.array([[[10, 20], [30, 40]], [[99, 99], [50, 60]]], np.uint8)
    hole = np.array([[False, False], [True, False]])
    assert mean_colour(image, hole).tolist() == [[[10, 20], [30, 40]], [[30, 40], [50, 60]]]
    assert mean_colour(image, np.ones((2, 2), bool)).tolist() == image.tolist()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name in ("cv2", "skimage.restoration"):
            raise ImportError(name)
        return real(name, *rest)

    data = InpaintingDigits(batch_size=8, image_size=16, channels=1, seed=0)
    data.setup()
    monkeypatch.setattr(builtins, "__import__", without)
    rows = compare(two(1).eval(), data, images=20)
    assert [row[0] for row in rows] == ["DeepFill", *BASELINES]
    assert [row[1] for row in rows[3:]] == [
        "not installed: pip install opencv-python-headless",
        "not installed: pip install scikit-image",
    ]
    assert {len(row) for row in rows} == {4}
    with pytest.raises(UserError, match="Pix2Pix fills no holes"):
        compare(translator().eval(), data)


def test_the_table_is_of_a_runs_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["model=deepfill", "data.image_size=16", "model.generator.base_channels=4", "scores=off"]
    arguments += ["model.discriminator.base_channels=2", "budget.generator_steps=1", "trainer.accelerator=cpu"]
    assert run([*arguments, "data.batch_size=8", "samples.count=4", f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    main([str(tmp_path / "run"), "data.masks=box", "--images", "30", "--accelerator", "cpu"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "30 held-out images, 16 pixels, inside the hole alone:"
    assert printed[2] == "|  | L1 ↓ | PSNR ↑ | SSIM ↑ |"
    assert [line.split(" | ")[0] for line in printed[4:]] == [f"| {name}" for name in ("DeepFill", *BASELINES)]
