"""Logs go on over a resume without gap or double line."""

import csv
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lightning.callbacks.metrics import flat
from gan_lightning.commands.train import run
from gan_lightning.loggers import CSV


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_csv_goes_on_after_the_checkpoint(tmp_path: Path) -> None:
    first = CSV(tmp_path)
    for images in (10, 20, 30):
        first.log_metrics({"D/loss": images / 3}, images)
    again = CSV(tmp_path, images=20)  # 30 came after the checkpoint
    assert len(rows(tmp_path)) == 3  # nothing is touched before there is a line to write
    again.log_metrics({"D/loss": 1.5, "new, column": 2}, 40)
    found = rows(tmp_path)
    assert [row["images"] for row in found] == ["10", "20", "40"]
    assert [float(row["D/loss"]) for row in found] == [10 / 3, 20 / 3, 1.5]
    assert [row["new, column"] for row in found] == ["", "", "2"]
    assert [f.name for f in tmp_path.iterdir()] == ["metrics.csv"]


def test_csv_of_a_new_run_begins_anew(tmp_path: Path) -> None:
    """A folder whose first run was killed before its first checkpoint."""
    CSV(tmp_path).log_metrics({"a": 1}, 10)
    CSV(tmp_path).log_metrics({"a": 2}, 10)
    assert [row["a"] for row in rows(tmp_path)] == ["2"]


def test_events_have_every_step_once(tmp_path: Path) -> None:
    small = ["model=gan", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]", "trainer.accelerator=cpu"]
    few = ["scores.samples=64", "scores.real_samples=64"]
    folder = tmp_path / "run"
    arguments = [*small, *few, "trainer.log_every_n_steps=2", "samples.every_images=256", f"hydra.run.dir={folder}"]
    assert run([*arguments, "budget.images=512"]) == 0
    time.sleep(1.1)  # event files are named after the second, then a number of the process that sorts 10 before 9
    assert run([f"checkpoint={folder}", "budget.images=1024"]) == 0
    events = EventAccumulator(str(folder), {"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    assert [e.step for e in events.Scalars("D/loss")] == list(range(128, 1025, 128))
    shown = set(events.Tags()["scalars"])
    assert {f"{player}/{key}" for player in "DG" for key in ("loss", "gradient_norm", "learning_rate")} <= shown
    assert {"D/loss_real", "D/loss_fake", "D/real", "D/fake", "D/ranking", "images_per_second", "final/D/loss"} <= shown
    assert {"samples/ema", "samples/raw", "samples/real", "samples/nearest"} == set(events.Tags()["images"])
    assert [float(row["D/loss"]) for row in rows(folder)] == pytest.approx([e.value for e in events.Scalars("D/loss")])
    assert "_hparams_/session_start_info" in str(events.summary_metadata.keys())


def test_hyper_parameters_are_flat() -> None:
    config = {"seed": 1, "data": {"seed": 1, "sizes": [1, 2], "root": None}, "model": {"lr": 0.1, "_partial_": True}}
    assert flat(config) == {"seed": 1, "data.sizes": "[1, 2]", "model.lr": 0.1}
