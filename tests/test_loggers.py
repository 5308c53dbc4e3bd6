"""Logs go on over a resume without gap or double line; the HParams tab has a row for every run."""

import csv
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler
from torch import Tensor

from gan_lightning.callbacks.metrics import Metrics, flat
from gan_lightning.commands.train import run
from gan_lightning.divergence import Diverged
from gan_lightning.loggers import CSV
from gan_lightning.metrics.records import lines
from gan_lightning.steps import Counters


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_losses_of_many_ranks_that_are_finite_are_no_divergence() -> None:
    """NCCL's mean of ten ones is 1.0000001."""

    def reduce(value: Tensor, reduce_op: str) -> Tensor:
        return value if reduce_op == "min" else sum([value * 0.1] * 10, torch.zeros_like(value))

    assert reduce(torch.ones(()), "mean") != 1
    module: Any = SimpleNamespace(
        log_due=True, counters=Counters(), metrics={"D/loss": torch.ones(())}, recent=[torch.ones(())], device="cpu"
    )
    trainer: Any = SimpleNamespace(world_size=10, strategy=SimpleNamespace(reduce=reduce), loggers=[])
    Metrics().on_minibatch_end(trainer, module)


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


def test_csv_forgets_lines_although_none_is_written_in_their_place(tmp_path: Path) -> None:
    """A run goes on from 20 and ends before a line is due; a machine that went down left what is no line."""
    first = CSV(tmp_path)
    for images in (10, 20, 30):
        first.log_metrics({"D/loss": images / 3}, images)
    with first.path.open("ab") as file:
        file.write(b"\0\0\0\n\xff\xfe,1\nabc,1\n15,1,1,1\n40")
    CSV(tmp_path, images=20).begin({})
    assert [row["images"] for row in rows(tmp_path)] == ["10", "20"]
    CSV(tmp_path).begin({})
    assert list(tmp_path.iterdir()) == []


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
    assert {"D/loss_real", "D/loss_fake", "D/real", "D/fake", "D/ranking", "images_per_second"} <= shown
    assert {"samples/ema", "samples/raw", "samples/real", "samples/nearest"} == set(events.Tags()["images"])
    assert [float(row["D/loss"]) for row in rows(folder)] == pytest.approx([e.value for e in events.Scalars("D/loss")])
    assert "_hparams_/session_start_info" in str(events.summary_metadata.keys())


def test_hyper_parameters_are_flat() -> None:
    config = {"seed": 1, "data": {"seed": 1, "sizes": [1, 2], "root": None}, "model": {"lr": 0.1, "_partial_": True}}
    assert flat(config) == {"seed": 1, "data.sizes": "[1, 2]", "model.lr": 0.1}


SMALL = [
    "model=gan",
    "model.generator.hidden=[8]",
    "model.discriminator.hidden=[8]",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=2",
    "scores.samples=64",
    "scores.real_samples=64",
    "samples.count=4",
]


def table(folder: Path) -> dict[str, Any]:
    """What the HParams tab shows of `tensorboard --logdir folder`, by run: TensorBoard's own answer."""
    events = EventMultiplexer()
    events.AddRunsFromDirectory(str(folder))
    events.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(events, str(folder)), logdir=str(folder)))
    statuses = api_pb2.Status.values()  # type: ignore[attr-defined]  # made when it is imported
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=100, allowed_statuses=statuses)  # type: ignore[attr-defined]
    groups = Handler(RequestContext(), context, "", request).run().session_groups
    assert all(len(group.sessions) == 1 for group in groups)
    found = {}
    for group in groups:
        values = {f"{v.name.group}/{v.name.tag}".lstrip("/"): v.value for v in group.metric_values}
        status = api_pb2.Status.Name(group.sessions[0].status)  # type: ignore[attr-defined]
        found[group.sessions[0].name.partition("/")[0]] = (dict(group.hparams), values, status)
    assert len(found) == len(groups)
    return found


def test_the_table_of_a_sweep_has_every_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(name: str, *arguments: str) -> int:
        return run([*SMALL, f"hydra.run.dir={tmp_path / name}", *arguments])

    assert train("0", "budget.images=512", "model.generator_optimizer.lr=1e-3") == 0
    assert train("0", "budget.images=1024", "model.generator_optimizer.lr=1e-3") == 0
    with pytest.raises(Diverged):
        train("1", "budget.images=1024", "model.discriminator_optimizer.lr=1e38")
    log = CSV.log_metrics

    def log_and_interrupt(self: CSV, metrics: dict[str, float], step: int | None = None) -> None:
        log(self, metrics, step)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(CSV, "log_metrics", log_and_interrupt)
        assert train("2", "budget.images=1024", "scores=off") == 143
    shown = table(tmp_path)
    assert set(shown) == {"0", "1", "2"}
    settings, values, status = shown["0"]
    assert settings["model.generator_optimizer.lr"].number_value == 1e-3
    assert settings["data.flip"].bool_value is False
    assert settings["model._target_"].string_value == "gan_lightning.models.gan.GAN"
    written = [row for row in lines(tmp_path / "0" / "scores.jsonl") if row["images"] == 1024]
    assert {f"scores/{row['metric']}" for row in written} <= set(values)
    assert all(values[f"scores/{row['metric']}"] == pytest.approx(row["value"], rel=1e-5) for row in written)
    assert values["D/loss"] == pytest.approx(float(rows(tmp_path / "0")[-1]["D/loss"]))
    assert [status, shown["1"][2], shown["2"][2]] == ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_UNKNOWN"]
    assert "D/loss" in shown["2"][1]
    assert "scores/diversity" not in shown["2"][1]
