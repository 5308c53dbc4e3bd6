"""The command compress, whatever the method: what it refuses before any work, and what it leaves."""

import json
from pathlib import Path

import pytest
import torch

import gan_lightning
from gan_lightning.commands import compress, sample, train
from gan_lightning.compression import costs
from gan_lightning.errors import UserError

CPU = ["accelerator=cpu", "scores.names=[]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DCGAN that has seen a few digits."""
    folder = tmp_path_factory.mktemp("compress") / "run"
    sizes = [f"model.{player}.base_channels=4" for player in ("generator", "discriminator")]
    asked = ["model=dcgan", "data=digits", *sizes, "budget.images=64", "trainer.max_epochs=null", "scores.names=[]"]
    train.run([*asked, "trainer.accelerator=cpu", f"hydra.run.dir={folder}"])
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "method: give one: method=prune, method=distill or method=quantize"),
        (["method=squeeze"], "method=squeeze: no such method"),
        (["method=prune", "method.macs=2"], r"method\.macs=2: must be"),
        (["method=prune", "method.mac=0.5"], r"method\.mac=0\.5: no such key"),
        (["method=prune", "method.steps=2"], r"method\.steps=2"),
        (["method=prune", "budget.images=64"], r"budget\.images=64: method\.images= says how long a method trains"),
        (["method=prune", "++budget.images=64"], r"budget\.images=64: method\.images= says how long"),
        (["method=prune", "weights=other"], r"weights=other: a method begins with the weights of checkpoint="),
        (["method=quantize", "method.kind=static", "method.bits=4"], r"method\.bits=4: a static graph has 8"),
        (["method=quantize", "method.smallest=1000000"], "has no weight of that many numbers"),
        (["method=quantize", "data.image_size=32"], r"data\.image_size=32: cannot change"),
        (["method=quantize", "scores.names=[psnr]"], "psnr"),
        (["method=prune", "method.images=64", "step.graphs=on", "scores.names=[]"], r"step\.graphs=on: no CUDA device"),
    ],
)
def test_what_is_refused_leaves_nothing(run: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    before = sorted(run.rglob("*"))
    with pytest.raises(UserError, match=message):
        compress.run([f"checkpoint={run}", f"output={tmp_path / 'out'}", "accelerator=cpu", *arguments])
    assert not (tmp_path / "out").exists()
    assert sorted(run.rglob("*")) == before


def test_nothing_is_overwritten(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        compress.run([f"checkpoint={run}", f"output={tmp_path}", "method=quantize", *CPU])
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_run_comes_of_it_with_its_table(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "peak_memory", lambda *given: 3 * 2**20)  # it takes two processes (test_costs.py)
    compress.run([f"checkpoint={run}", "method=quantize", "method.smallest=16", *CPU])
    folder = run / "compressed" / "001"
    said = capsys.readouterr().out
    kept = json.loads((folder / "compression.json").read_text())
    assert kept["facts"]["quantised_layers"] == 3
    assert kept["method"]["smallest"] == 16
    assert set(kept["costs"]) == {"before", "after", "rules"}
    assert kept["costs"]["after"]["file_bytes"] < kept["costs"]["before"]["file_bytes"]
    for name in ("parameters", "multiply-adds", "ms for 64", "memory for 64", "quantised layers: 3"):
        assert name in said
    assert "| parameters |" in (folder / "compression.md").read_text()
    assert torch.isfinite(gan_lightning.load(folder).sample(2)).all()
    sample.run([f"checkpoint={folder}", "count=2", "accelerator=cpu"])
    with pytest.raises(UserError, match="weights in whole numbers are not trained"):
        train.run([f"checkpoint={folder}", "budget.images=128"])
