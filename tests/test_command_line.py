"""What a user's mistake is answered with, and what a user's paths may look like."""

import os
import signal
from pathlib import Path

import pytest

from gan_lightning.__main__ import main
from tests.fake_data import write_photos
from tests.processes import Process
from tests.support import wait_for

SMALL = ["trainer=debug", "trainer.accelerator=cpu", "model=gan", "data.image_size=16", "scores=off", "samples.count=4"]
SMALL += ["model.generator.hidden=[8]", "model.discriminator.hidden=[8]"]


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["model=dcgna"], ["model=dcgna", "dcgan"]),
        (["modle=gan"], ["modle", "model"]),
        (["seed=-1"], ["seed=-1"]),
        (["seed=1.5"], ["seed=1.5"]),
        (["seed=1,2"], ["seed=1,2", "-m"]),
        (["trainer.max_epochs=null"], ["trainer.max_epochs"]),
        (["trainer.gradient_clip_val=1"], ["trainer.gradient_clip_val", "step.generator_clip"]),
        (["model=wgan_gp", "model.label_smoothing=0.1"], ["label_smoothing=0.1", "wasserstein"]),
        (["model.label_smoothing=nan"], ["model.label_smoothing"]),
        (["model.generator_optimizer.lr=-1"], ["model.generator_optimizer.lr=-1"]),
        (["data.image_size=20"], ["data.image_size=20", "16, 28"]),
        (["data.batch_size=0"], ["data.batch_size=0"]),
        (["data=image_folder"], ["data.root"]),
        (["data=image_folder", "data.root=nowhere"], ["nowhere"]),
        (["data=mnist", "data.download=false"], ["train-images-idx3-ubyte", "data=digits"]),
        (["checkpoint=latest"], ["latest"]),
        (["checkpoint=nowhere"], ["nowhere"]),
        (["weights=nowhere"], ["nowhere"]),
        (["trainer.precision=16"], ["trainer.precision=16", "16-mixed"]),
        (["trainer.precision=16-mixed", "trainer.accelerator=cpu"], ["trainer.precision=16-mixed", "bf16-mixed"]),
        (["trainer.sync_batchnorm=true", "trainer.accelerator=cpu"], ["trainer.sync_batchnorm"]),
        (["-m", "model=gan,dcgna"], ["dcgna", "dcgan"]),
        (["-m", "seed=1,-2"], ["seed=-2"]),
        (["-m", "checkpoint=latest"], ["checkpoint"]),
        (["+checkpoint=nowhere"], ["nowhere"]),
        (["-m", "seed=1", "weights=nowhere,elsewhere"], ["weights=nowhere"]),
        (["model.classes=10"], ["10 classes", "takes no labels", "network@model=cgan"]),
        (["model=infogan", "model.classes=10"], ["classes=10", "without labels"]),
        (["model=infogan", "model.categorical=[]", "model.continuous=0"], ["categorical=[]", "needs codes"]),
        (["network@model=dcgan_conditional", "model.classes=5"], ["model.classes=5", "10 classes"]),
        (["+model.generator.classes=10"], ["generator.classes=10", "model.classes=0"]),
        (["network@model=began"], ["BEGANDiscriminator gives", "GAN needs one number for each image"]),
        (["model=began", "network@model=mlp"], ["MLPDiscriminator restores no images", "network@model="]),
        (["model=acgan", "network@model=dcgan_conditional"], ["discriminator.auxiliary=0", "network@model=acgan"]),
        (["model=pacgan", "data.batch_size=9"], ["data.batch_size=9", "model.discriminator.pack=2"]),
        (["-m", "network@model=mlp,began"], ["BEGANDiscriminator", "in the run network@model=began"]),
        (["data=ring"], ["image_size=1", "network@model=mlp_points"]),
        (["data=ring", "model=began"], ["image_size=1", "BEGAN's networks are built for"]),
        (["model=gan", "data.batch_size=1"], ["data.batch_size", "batch norm"]),
        (["hydra.run.dir=/proc/x"], ["/proc/x"]),
        (["trian"], ["trian", "train"]),
        ([""], ["command"]),
        (["sample"], ["checkpoint"]),
        (["sample", "checkpoint=nowhere"], ["nowhere"]),
        (["evaluate", "checkpoint=nowhere", "data.root=x"], ["nowhere"]),
    ],
    ids=" ".join,
)
def test_a_mistake_gets_one_message_and_makes_nothing(
    arguments: list[str],
    fragments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert all(fragment in message for fragment in fragments), message
    assert len(message) < 500
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["photos (1)", "照片", "a'b", 'a"b', "a,b", "2024", "~x", "a=b", "[x]"])
def test_paths_are_taken_as_typed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / name)
    assert main([*SMALL, "data=image_folder", f"data.root={name}"]) == 0
    assert (tmp_path / "outputs" / "latest" / "checkpoints" / "last.ckpt").exists()


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos")
    (tmp_path / "photos" / "cats" / "broken.png").write_bytes(b"\x89PNG nothing")
    arguments = [*SMALL, "data=image_folder", "data.root=photos"]
    assert main(arguments) == 2
    assert "broken.png" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()
    assert main([*arguments, "data.skip_unreadable=true"]) == 0


def test_fewer_images_than_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", count=10)
    assert main([*SMALL, "data=image_folder", "data.root=photos", "data.batch_size=64"]) == 0
    assert sum("data.batch_size=64" in message for message in caplog.messages) == 1
    assert "generator_steps: 3" in (tmp_path / "outputs" / "latest" / "config.yaml").read_text()


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["sample", "--help"], ["evaluate", "-h"]):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert "examples" in text
        assert "dcgan" in text
        assert max(map(len, text.splitlines())) <= 80
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.count(".") == 2


def test_runs_never_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gan_lightning.commands.train import Settings
    from gan_lightning.config import compose

    monkeypatch.chdir(tmp_path)
    assert len({compose("train", [], Settings).hydra.run.dir for _ in range(6)}) == 6


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    """The first one waits for the end of a step, the second does not."""
    command = ["-m", "gan_lightning", *SMALL[1:3], "hydra.run.dir=run", "trainer.log_every_n_steps=1"]
    process = Process(command, tmp_path)
    wait_for(tmp_path / "run" / "metrics.csv")
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) in (130, -signal.SIGINT)
