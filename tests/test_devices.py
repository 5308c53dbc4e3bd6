"""Two processes on the CPU: one folder, the same run as one process with twice the batch."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from gan_lightning import status
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import train
from tests.processes import Process
from tests.support import wait_for

SMALL = [
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=2",
    "budget.images=640",
    "samples.every_images=320",
    "samples.count=4",
    "model.generator.latent_size=8",
    # Adam divides by the gradient's size: without a floor it would blow rounding errors up to whole steps
    "model.generator_optimizer.eps=0.01",
    "model.discriminator_optimizer.eps=0.01",
]


def start(folder: Path, *arguments: str, program: Sequence[str] = ("-m", "gan_lightning")) -> Process:
    """A process that has ended."""
    process = Process([*program, *arguments], folder)
    process.wait(120)
    return process


@pytest.mark.slow  # test_matrix.py has it too, of every rule
@pytest.mark.parametrize(
    "model",
    [
        ["model=gan"],
        ["model=wgan_gp", "network@model=mlp"],
        ["model=gan", "model.ada.pipeline=bg", "model.ada.images=2000", "model.ada.every=2"],
    ],
    ids=["gan", "wgan_gp", "ada"],
)
def test_two_processes_equal_one_with_twice_the_batch(model: list[str], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    narrow = ["model.generator.hidden=[16]", "model.discriminator.hidden=[16]"]
    for folder, extra in ((one, ["data.batch_size=64"]), (two, ["data.batch_size=32", "trainer.devices=2"])):
        done = start(tmp_path, f"hydra.run.dir={folder}", *model, *narrow, *SMALL, *extra)
        assert done.code == 0, done.errors
    alone, together = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (one, two))
    for run in (alone, together):
        run["counters"].pop("seconds")
    assert alone["counters"] == together["counters"]
    assert "augment.ada.p" not in alone["state_dict"] or 0 < alone["state_dict"]["augment.ada.p"] < 1
    torch.testing.assert_close(together["state_dict"], alone["state_dict"], rtol=1e-4, atol=1e-5)


# The command line, with every rank writing what it ended with; the other ranks are started by this file too.
HOOKED = """
import os, sys
from pathlib import Path
import torch
from gan_lightning import rank, strategy
from gan_lightning.__main__ import main
from gan_lightning.adversarial import AdversarialModule

def write(module):
    state = {"state": module.state_dict(), "optimizers": [p.optimizer.state_dict() for p in module.players.values()]}
    torch.save(state, Path(module.trainer.default_root_dir) / f"rank{module.trainer.global_rank}.pt")

begin = strategy.PlayersStrategy.__init__
AdversarialModule.on_train_end = write
strategy.PlayersStrategy.__init__ = lambda self, command: begin(self, [sys.executable, __file__, *command[3:]])
sys.exit(rank.main() if "LOCAL_RANK" in os.environ else main())
"""


@pytest.mark.slow  # as test_matrix.py does
def test_ranks_end_bit_identical(tmp_path: Path) -> None:
    folder, program = tmp_path / "run", tmp_path / "hooked.py"
    program.write_text(HOOKED)
    small = ["model.generator.base_channels=4", "model.discriminator.base_channels=4", "data.batch_size=32"]
    done = start(
        tmp_path, f"hydra.run.dir={folder}", "model=dcgan", "trainer.devices=2", *small, *SMALL, program=[str(program)]
    )
    assert done.code == 0, done.errors
    first, second = (torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    torch.testing.assert_close(first, second, rtol=0, atol=0)  # BatchNorm statistics too: averaged to be saved


@pytest.mark.slow
def test_a_sweep_on_two_processes_gives_every_rank_its_job(tmp_path: Path) -> None:
    done = start(
        tmp_path,
        "-m",
        "model=gan",
        "seed=1,2",
        "trainer=debug",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
        "model.generator.hidden=[8]",
        "model.discriminator.hidden=[8]",
    )
    assert done.code == 0, done.errors
    runs = sorted(f for f in (tmp_path / "sweep").iterdir() if f.is_dir())
    assert [read_checkpoint(f / "checkpoints" / "last.ckpt")["config"]["seed"] for f in runs] == [1, 2]
    assert all(read_checkpoint(f / "checkpoints" / "last.ckpt")["counters"]["images"] == 3 * 16 for f in runs)


DYING = """
import functools, sys
from gan_lightning import strategy
from gan_lightning.__main__ import main

begin = strategy.PlayersStrategy.__init__
strategy.PlayersStrategy.__init__ = lambda self, command: begin(self, [sys.executable, "-c", "raise SystemExit(3)"])
strategy.Watch = functools.partial(strategy.Watch, grace=0.1)
sys.exit(main())
"""


def test_a_failing_rank_fails_the_run(tmp_path: Path) -> None:
    program = tmp_path / "dying.py"
    program.write_text(DYING)
    done = start(
        tmp_path, "trainer=debug", "model=gan", "trainer.accelerator=cpu", "trainer.devices=2", program=[str(program)]
    )
    assert done.code == 1
    assert "trainer.devices: rank 1 (exit code 3) ended before the others" in done.errors


def test_a_failing_job_fails_the_sweep(tmp_path: Path) -> None:
    """The second job meets a file where its folder should be; the first is done all the same."""
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "1_gan_digits").write_text("in the way")
    done = start(tmp_path, "-m", "model=gan", "seed=1,2", "trainer=debug", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.code not in (0, 2)
    assert (tmp_path / "sweep" / "0_gan_digits" / "checkpoints" / "last.ckpt").exists()


def test_a_sweep_goes_on_after_a_run_that_diverges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweep"
    rates = "model.generator_optimizer.lr=1e38,1e-3"
    small = ["trainer=debug", "trainer.log_every_n_steps=1", "scores=off", "model.generator.hidden=[8]"]
    silent = ["hydra/job_logging=none", "hydra/hydra_logging=none"]  # its handlers would stay
    assert train.run(["-m", "model=gan", rates, *small, *silent, f"hydra.sweep.dir={folder}"]) == 1
    states = [found.state for name in ("0", "1") if (found := status.read(folder / f"{name}_gan_digits"))]
    assert states == ["diverged", "finished"]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gan_lightning:")]
    assert "training has diverged" in line


@pytest.mark.slow
def test_an_interrupt_ends_all_ranks_and_saves(tmp_path: Path) -> None:
    """Ctrl-C in a terminal goes to every process of the run."""
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "gan_lightning",
        f"hydra.run.dir={folder}",
        "model=gan",
        "trainer.devices=2",
        *SMALL,
    ]
    process = subprocess.Popen([*command, "budget.images=100000000"], cwd=tmp_path, start_new_session=True)
    wait_for(folder / "metrics.csv")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    before = read_checkpoint(folder / "checkpoints" / "last.ckpt")["counters"]["images"]
    done = start(tmp_path, f"checkpoint={folder}", f"budget.images={before + 128}")
    assert done.code == 0, done.errors
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["counters"]["images"] == before + 128


@pytest.mark.slow
def test_two_nodes_make_one_run(tmp_path: Path) -> None:
    """Of one process each, started by hand: the first alone speaks and writes."""
    model = ["model=gan", "model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "data.batch_size=32"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    command = [sys.executable, "-m", "gan_lightning", *model, *SMALL, f"hydra.run.dir={tmp_path / 'run'}"]
    nodes = [
        subprocess.Popen(
            [*command, "trainer.num_nodes=2", "scores=off"],
            cwd=tmp_path,
            env={**os.environ, **address, "NODE_RANK": str(node)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for node in range(2)
    ]
    said = [node.communicate(timeout=120)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0]
    assert "Done after" in said[0]
    assert "Done after" not in said[1]
    done = start(tmp_path, f"hydra.run.dir={tmp_path / 'one'}", *model, *SMALL, "data.batch_size=64", "scores=off")
    assert done.code == 0, done.errors
    runs = [read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("run", "one")]
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-5)
