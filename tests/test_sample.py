"""`sample`, `evaluate` and `gan_lightning.load` on a small trained run."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import gan_lightning
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import evaluate, sample, train
from gan_lightning.commands.sample import slerp
from gan_lightning.data.digits import Digits
from gan_lightning.errors import UserError

SMALL = ["trainer=debug", "trainer.accelerator=cpu", "model.ema.ramp_up=null"]
DENSE = ["model=gan", "model.generator.hidden=[16]", "model.discriminator.hidden=[16]"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "a run, 照片"
    assert train.run([*SMALL, *DENSE, f"hydra.run.dir={folder}"]) == 0
    return folder


def pictures(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.glob("0*.png")}


def draw(trained: Path, output: Path, *arguments: str) -> dict[str, bytes]:
    assert sample.run([f"checkpoint={trained}", f"output={output}", "accelerator=cpu", *arguments]) == 0
    return pictures(output)


def test_pictures_depend_on_seed_and_index_alone(trained: Path, tmp_path: Path) -> None:
    many = draw(trained, tmp_path / "many", "count=70")
    few = draw(trained, tmp_path / "few", "count=3")
    assert sorted(many) == [f"{i:05d}.png" for i in range(70)]
    assert few == {name: many[name] for name in few}
    assert Image.open(tmp_path / "many" / "00000.png").size == (16, 16)
    assert (tmp_path / "many" / "grid.png").exists()
    for other in ("seed=1", "ema=false", "truncation=0.3"):
        assert draw(trained, tmp_path / other, "count=3", other) != few
    draw(trained, tmp_path / "bare", "count=1", "grid=false")
    assert [f.name for f in (tmp_path / "bare").iterdir()] == ["00000.png"]


def test_nothing_is_overwritten(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "00000.png").write_text("mine")
    with pytest.raises(UserError, match="output="):
        draw(trained, tmp_path / "full", "count=1")
    assert (tmp_path / "full" / "00000.png").read_text() == "mine"
    for _ in range(2):
        assert sample.run([f"checkpoint={trained}", "count=1", "accelerator=cpu"]) == 0
    assert [f.name for f in sorted((trained / "sampled").iterdir())] == ["001", "002"]


def test_a_walk_between_latents(trained: Path, tmp_path: Path) -> None:
    draw(trained, tmp_path / "walk", "count=3", "interpolate=true")
    with Image.open(tmp_path / "walk" / "walk.gif") as film:
        assert getattr(film, "n_frames", 1) > 12  # equal neighbours may be merged
    assert (tmp_path / "walk" / "strip.png").exists()
    with pytest.raises(UserError, match="count=1"):
        draw(trained, tmp_path / "one", "count=1", "interpolate=true")
    assert not (tmp_path / "one").exists()


def test_slerp() -> None:
    a, b, shares = torch.randn(50), torch.randn(50), torch.linspace(0, 1, 5)
    a, b = a / a.norm(), b / b.norm()
    path = slerp(a, b, shares)  # (5, 50)
    torch.testing.assert_close(path[[0, -1]], torch.stack([a, b]))
    torch.testing.assert_close(path.norm(dim=1), torch.ones(5))
    angles = torch.acos((path[1:] * path[:-1]).sum(1).clamp(-1, 1))
    torch.testing.assert_close(angles, angles[:1].expand(4), rtol=1e-3, atol=1e-4)
    assert slerp(a, a, shares).isfinite().all()
    assert slerp(a, -a, shares).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["label=3"], "label=3"),
        (["count=0"], "count=0"),
        (["truncation=-1"], "truncation=-1"),
        (["coutn=3"], "count"),
        (["accelerator=tpu"], "accelerator"),
    ],
)
def test_bad_input(arguments: list[str], fragment: str, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=fragment):
        draw(trained, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_load(trained: Path) -> None:
    module = gan_lightning.load(trained)
    assert not module.training
    images = module.sample(5, seed=2)
    assert images.shape == (5, 1, 16, 16)
    assert images.abs().max() <= 1
    again = gan_lightning.load(str(trained / "checkpoints" / "last.ckpt")).sample(9, seed=2)
    assert torch.equal(again[:5], images)


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "torch.hub.load", "torch.load", "subprocess.run"])
def test_a_checkpoint_runs_no_foreign_code(target: str, trained: Path, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(trained / "checkpoints" / "last.ckpt")
    config: dict[str, Any] = checkpoint["config"]
    config["model"]["generator"] = {"_target_": target, "_args_": [f"touch {tmp_path / 'ran'}"]}
    torch.save(checkpoint, tmp_path / "hostile.ckpt")
    for use in (
        lambda p: gan_lightning.load(p),
        lambda p: sample.run([f"checkpoint={p}"]),
        lambda p: train.run([f"checkpoint={p}"]),
    ):
        with pytest.raises(UserError, match=target.replace(".", r"\.")):
            use(tmp_path / "hostile.ckpt")
    assert not (tmp_path / "ran").exists()


def test_evaluate_is_the_mean_over_the_held_out_images(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    before = sorted(tmp_path.rglob("*"))
    found = []
    for batch_size in (8, 100):
        assert (
            evaluate.run(
                [
                    f"checkpoint={tmp_path / 'copy'}",
                    f"data.batch_size={batch_size}",
                    "accelerator=cpu",
                    "scores.names=[]",
                ]
            )
            == 0
        )
        lines = capsys.readouterr().out.split()
        found.append(dict(zip(lines[::2], map(float, lines[1::2]), strict=True)))
    for numbers in found:
        numbers.pop("D/ranking")  # of the pairs within a batch
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert sorted(tmp_path.rglob("*")) == before

    module = gan_lightning.load(trained)
    data = Digits(batch_size=8, image_size=16, channels=1, seed=0)
    data.setup()
    real = data.on_after_batch_transfer(data.held_out.__getitems__(range(len(data.held_out))), 0)["image"]
    with torch.no_grad():
        on_real, on_fake = module.discriminator(real), module.discriminator(module.sample(len(real), seed=0))
    assert found[0]["held_out_images"] == len(real)
    assert found[0]["D/loss_real"] == pytest.approx(float(-on_real.sigmoid().log().mean()), rel=1e-4)
    assert found[0]["D/loss_fake"] == pytest.approx(float(-(-on_fake).sigmoid().log().mean()), rel=1e-4)
    assert found[0]["G/loss"] == pytest.approx(float(-on_fake.sigmoid().log().mean()), rel=1e-4)


def test_evaluate_a_gradient_penalty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["model=wgan_gp", "model.generator.base_channels=4", "model.discriminator.base_channels=4"]
    assert train.run([*SMALL, *small, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    assert evaluate.run([f"checkpoint={tmp_path / 'run'}", "accelerator=cpu"]) == 0
    assert "D/gradient_penalty" in capsys.readouterr().out
