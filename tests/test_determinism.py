"""The same command gives the same bits, whoever loads the data."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning.__main__ import main
from gan_lightning.checkpoint import read_checkpoint

SMALL = ["model=gan", "model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "data.flip=true"]
SMALL += ["trainer.accelerator=cpu", "trainer.deterministic=true", "trainer.enable_progress_bar=false"]
SMALL += ["budget.images=1600", "data.batch_size=128", "samples.every_images=800", "samples.count=4"]  # two epochs
SMALL += ["scores.samples=64", "scores.real_samples=64", "scores.names=[diversity]"]


@pytest.fixture
def not_deterministic_after() -> Any:
    """Lightning sets it for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


def ends(folder: Path) -> dict[str, Any]:
    stored = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    samples = {path.name: path.read_bytes() for path in (folder / "samples").glob("*.*") if path.is_file()}
    return {
        "tensors": [stored["state_dict"], stored["optimizer_states"]],
        "rest": ([(score["metric"], score["value"]) for score in scores], samples),
    }


def check_same(one: Path, other: Path) -> None:
    first, second = ends(one), ends(other)
    torch.testing.assert_close(first["tensors"], second["tensors"], rtol=0, atol=0)
    assert first["rest"] == second["rest"]
    assert first["rest"][0]
    assert len(first["rest"][1]) > 4


def test_workers_change_no_bit(tmp_path: Path, not_deterministic_after: None) -> None:
    for workers in range(3):
        assert main([*SMALL, f"data.workers={workers}", f"hydra.run.dir={tmp_path / str(workers)}"]) == 0
    check_same(tmp_path / "0", tmp_path / "1")
    check_same(tmp_path / "0", tmp_path / "2")


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_a_second_process_changes_no_bit(threads: int, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    for name in ("one", "two"):
        command = [sys.executable, "-m", "gan_lightning", *SMALL, f"hydra.run.dir={tmp_path / name}"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
    check_same(tmp_path / "one", tmp_path / "two")
