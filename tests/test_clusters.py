"""Processes that others start, and schedulers that take the machine: refused before any work, or the same run."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning import clusters
from gan_lightning.__main__ import main
from gan_lightning.budget import Budget
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands.train import run
from gan_lightning.errors import UserError
from gan_lightning.loggers import CSV
from gan_lightning.metrics import records
from gan_lightning.trainer import TrainerSettings
from tests.test_resume import last, lines

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
SLURM = {
    "SLURM_JOB_ID": "4242",
    "SLURM_JOB_NAME": "train",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "1",
    "SLURM_NODELIST": "127.0.0.1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
BATCH = {"SLURM_JOB_ID": "4242", "SLURM_NTASKS": "1"}
SMALL = [
    "model=gan",
    "model.generator.hidden=[16]",
    "model.discriminator.hidden=[16]",
    "model.generator.latent_size=8",
    # Adam divides by the gradient's size: without a floor it would blow rounding errors up to whole steps
    "model.generator_optimizer.eps=0.01",
    "model.discriminator_optimizer.eps=0.01",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=2",
    "samples.count=4",
]
FEW = ["scores.samples=64", "scores.real_samples=64"]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever these tests run in themselves; and no handler stays behind."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name in ("NODE_RANK", "LOCAL_RANK", "RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    assert {number: signal.getsignal(number) for number in numbers} == before


def set_all(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "devices", "nodes", "fragments"),
    [
        (TORCHRUN, 1, 1, ["torchrun started 4", "2 on this", "trainer.devices=2 trainer.num_nodes=2"]),
        (TORCHRUN, 4, 1, ["torchrun started 4", "trainer.devices=2 trainer.num_nodes=2"]),
        (TORCHRUN, 1, 4, ["trainer.devices=1 trainer.num_nodes=4"]),
        (SLURM, 1, 1, ["SLURM started 2 tasks", "2 on each of 1 nodes", "set trainer.devices=2 trainer.num_nodes=1"]),
        (SLURM, 1, 2, ["SLURM started 2 tasks", "#SBATCH --nodes=2 --ntasks-per-node=1"]),
        (SLURM | {"SLURM_NTASKS": "4"}, 2, 1, ["SLURM started 4 tasks"]),
        (SLURM | {"SLURM_NTASKS_PER_NODE": ""}, 2, 1, ["SLURM_NTASKS_PER_NODE", "whole number"]),
        (
            {k: v for k, v in SLURM.items() if k != "SLURM_NTASKS_PER_NODE"},
            2,
            1,
            ["SLURM_NTASKS=2", "--ntasks-per-node=2"],
        ),
        ({k: v for k, v in SLURM.items() if k != "SLURM_STEP_ID"}, 2, 1, ["SLURM_NTASKS=2", "put srun before python"]),
        (BATCH, 8, 2, ["trainer.num_nodes=2", "SLURM started one task", "--nodes=2 --ntasks-per-node=8"]),
        ({}, 1, 2, ["trainer.num_nodes=2", "torchrun", "NODE_RANK"]),
        ({"NODE_RANK": "0", "MASTER_PORT": "1"}, 1, 2, ["trainer.num_nodes=2", "MASTER_ADDR"]),
        ({"NODE_RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, 1, 2, ["NODE_RANK=2", "num_nodes=2"]),
    ],
)
def test_other_processes_than_asked_for(
    environment: dict[str, str], devices: int, nodes: int, fragments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, environment)
    with pytest.raises(UserError) as found:
        TrainerSettings(accelerator="cpu", devices=devices, num_nodes=nodes).check_processes()
    assert all(fragment in str(found.value) for fragment in fragments), found.value


@pytest.mark.parametrize(
    ("environment", "devices", "nodes", "kind"),
    [
        ({}, 2, 1, "LightningEnvironment"),
        (BATCH, 8, 1, "LightningEnvironment"),  # what submitit gives with tasks_per_node=1
        (SLURM | {"SLURM_JOB_NAME": "bash"}, 2, 1, "LightningEnvironment"),
        ({"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, 1, 2, "LightningEnvironment"),
        (TORCHRUN, 2, 2, "TorchElasticEnvironment"),
        (SLURM, 2, 1, "SLURMEnvironment"),
        (SLURM | {"SLURM_NTASKS": "4", "SLURM_NNODES": "2"}, 2, 2, "SLURMEnvironment"),
        (SLURM | TORCHRUN, 2, 2, "TorchElasticEnvironment"),  # srun torchrun
    ],
)
def test_the_processes_asked_for(
    environment: dict[str, str], devices: int, nodes: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, environment)
    TrainerSettings(accelerator="cpu", devices=devices, num_nodes=nodes).check_processes()
    made = clusters.environment()
    assert type(made).__name__ == kind
    assert not getattr(made, "auto_requeue", False)
    assert made.creates_processes_externally == (kind != "LightningEnvironment")


@pytest.mark.parametrize(
    ("environment", "arguments", "fragments"),
    [
        (TORCHRUN, ["trainer.devices=2"], ["hydra.run.dir", "torchrun"]),
        (SLURM, ["trainer.devices=2", "checkpoint=null"], ["hydra.run.dir", "srun"]),
        (SLURM, ["hydra.run.dir=run"], ["SLURM started 2 tasks"]),
        (SLURM, ["hydra.run.dir=run", "trainer.devices=auto"], ["SLURM started 2 tasks"]),
        (SLURM, ["-m", "seed=1,2", "hydra.sweep.dir=run"], ["-m", "srun", "hydra/launcher=submitit_slurm"]),
        ({}, ["trainer.num_nodes=2"], ["trainer.num_nodes=2"]),
    ],
)
def test_the_door_says_it_once_and_makes_no_folder(
    environment: dict[str, str],
    arguments: list[str],
    fragments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clusters, "SPEAKING", 0)
    set_all(monkeypatch, environment)
    assert main([*SMALL, *arguments]) == 2
    message = capsys.readouterr().err
    assert all(fragment in message for fragment in fragments), message
    assert message.count("gan_lightning:") == 1
    if environment:
        set_all(monkeypatch, {"LOCAL_RANK": "1", "RANK": "1", "SLURM_LOCALID": "1", "SLURM_PROCID": "1"})
        assert main([*SMALL, *arguments]) == 2
        assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def signalled(monkeypatch: pytest.MonkeyPatch, images: int, *numbers: int) -> None:
    """Sends this process signals when so many images have been seen, as a line of metrics is written."""
    log = CSV.log_metrics

    def log_and_send(self: CSV, metrics: dict[str, float], step: int | None = None) -> None:
        log(self, metrics, step)
        if step == images:
            for number in numbers:
                os.kill(os.getpid(), number)

    monkeypatch.setattr(CSV, "log_metrics", log_and_send)


def scores(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in records.lines(folder / "scores.jsonl")]


def scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> Path:
    """A program of this name that notes what it is asked; the file of its notes."""
    folder.mkdir()
    program, notes = folder / "scontrol", folder / "notes"
    program.write_text(f'#!/bin/sh\necho "$@" >> {notes}\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return notes


def test_a_job_that_makes_room_is_queued_again_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = scontrol(tmp_path / "bin", monkeypatch)
    arguments = [*SMALL, *FEW, "budget.images=1280", "checkpoints.every_minutes=null"]
    assert run([*arguments, f"hydra.run.dir={tmp_path / 'whole'}"]) == 0
    set_all(monkeypatch, BATCH | {"SLURM_ARRAY_JOB_ID": "4242", "SLURM_ARRAY_TASK_ID": "7"})
    parts = tmp_path / "parts"
    with monkeypatch.context() as patch:
        signalled(patch, 640, signal.SIGUSR1)
        assert run([*arguments, f"hydra.run.dir={parts}"]) == 128 + signal.SIGUSR1
    assert notes.read_text() == "requeue 4242_7\n"
    assert 0 < read_checkpoint(parts / "checkpoints" / "last.ckpt")["counters"]["images"] < 1280
    assert not (parts / "scores.jsonl").exists()  # neither scores nor films have it wait
    assert not (parts / "samples" / "film.gif").exists()
    assert run([*arguments, f"hydra.run.dir={parts}"]) == 0
    torch.testing.assert_close(last(parts), last(tmp_path / "whole"), rtol=0, atol=0)
    assert lines(parts) == lines(tmp_path / "whole")
    assert scores(parts) == scores(tmp_path / "whole")
    assert notes.read_text().count("\n") == 1


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGUSR2), (signal.SIGUSR2, signal.SIGTERM)])
def test_who_asked_before_this_run_queues_it_again(
    numbers: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As submitit does, which leaves SIGTERM alone; SLURM sends it beside its own, in either order."""
    notes, checkpoint = scontrol(tmp_path / "bin", monkeypatch), tmp_path / "run" / "checkpoints" / "last.ckpt"
    set_all(monkeypatch, BATCH)
    found: list[tuple[int, bool]] = []

    def submit_again(number: int, frame: Any) -> None:
        found.append((number, checkpoint.exists()))
        raise SystemExit(144)

    before = [signal.signal(signal.SIGUSR2, submit_again), signal.signal(signal.SIGTERM, lambda *_: None)]
    try:
        signalled(monkeypatch, 640, *numbers)
        with pytest.raises(SystemExit, match="144"):
            run([*SMALL, "scores=off", "budget.images=1280", f"hydra.run.dir={tmp_path / 'run'}"])
    finally:
        signal.signal(signal.SIGUSR2, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert found == [(signal.SIGUSR2, True)]
    assert not notes.exists()


def test_a_scheduler_that_refuses_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scontrol(tmp_path / "bin", monkeypatch, code=3)
    set_all(monkeypatch, BATCH)
    budget = Budget()
    budget.signal = signal.SIGUSR1
    assert budget.leave(first=False) == 0
    assert not (tmp_path / "bin" / "notes").exists()
    assert budget.leave(first=True) == 128 + signal.SIGUSR1
    assert "scontrol requeue 4242: exit code 3" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert budget.leave(first=True) == 128 + signal.SIGUSR1
    assert "No such file" in capsys.readouterr().err
    monkeypatch.delenv("SLURM_JOB_ID")  # on a laptop: it is saved and ends
    assert budget.leave(first=True) == 128 + signal.SIGUSR1
    assert capsys.readouterr() == ("", "")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def together(
    folder: Path, commands: list[list[str]], environments: list[dict[str, str]] | None = None
) -> list[tuple[int, str, str]]:
    """Exit code and output of processes that run at the same time."""
    started = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | (environments[index] if environments else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, command in enumerate(commands)
    ]
    said = [process.communicate(timeout=120) for process in started]
    return [(process.returncode, *both) for process, both in zip(started, said, strict=True)]


TORCH = [sys.executable, "-m", "torch.distributed.run"]
OURS = [sys.executable, "-m", "gan_lightning", *SMALL, "scores=off"]


@pytest.mark.slow
def test_all_ways_to_start_two_processes_give_one_run(tmp_path: Path) -> None:
    pair = [*SMALL, "scores=off", "budget.images=640", "data.batch_size=32"]
    by_torch, by_hand = ["-m", "gan_lightning", *pair], [sys.executable, "-m", "gan_lightning", *pair]
    of_nodes = ["--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    by_nodes = [*by_torch, "trainer.num_nodes=2", f"hydra.run.dir={tmp_path / 'nodes'}"]
    nodes = [[*TORCH, *of_nodes, f"--node_rank={rank}", *by_nodes] for rank in range(2)]
    node = [*TORCH, "--standalone", "--nproc_per_node=2", *by_torch]
    tasks = [
        SLURM | {"MASTER_PORT": str(port), "SLURM_PROCID": r, "SLURM_LOCALID": r}
        for port in [free_port()]
        for r in "01"
    ]
    found = {
        "launched": together(tmp_path, [[*by_hand, "trainer.devices=2", f"hydra.run.dir={tmp_path / 'launched'}"]]),
        "nodes": together(tmp_path, nodes),
        "node": together(tmp_path, [[*node, "trainer.devices=2", f"hydra.run.dir={tmp_path / 'node'}"]]),
        "srun": together(tmp_path, [[*by_hand, "trainer.devices=2", f"hydra.run.dir={tmp_path / 'srun'}"]] * 2, tasks),
        "task": together(tmp_path, [[*by_hand, "trainer.devices=2", f"hydra.run.dir={tmp_path / 'task'}"]], [BATCH]),
    }
    assert {code for said in found.values() for code, _, _ in said} == {0}, found
    for name in ("nodes", "srun"):
        assert "Done after" in found[name][0][1]
        assert found[name][1][1] == ""
    assert found["node"][0][1].count("Done after") == 1
    runs = {name: last(tmp_path / name) for name in found}
    for name, run_of in runs.items():
        torch.testing.assert_close(run_of, runs["launched"], rtol=0, atol=0, msg=name)
    assert set(os.listdir(tmp_path)) == set(found)  # nobody made a folder of its own


FAILING = """
import os, sys
from gan_lightning.__main__ import main
from gan_lightning.callbacks.metrics import Metrics

log = Metrics.on_minibatch_end

def fail(self, trainer, module):
    if trainer.global_rank == 1 and module.counters.minibatches == 4:
        raise RuntimeError("this rank is broken")
    log(self, trainer, module)

Metrics.on_minibatch_end = fail
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("by", ["torchrun", "srun"])
def test_a_rank_that_fails_ends_all(by: str, tmp_path: Path) -> None:
    program = tmp_path / "failing.py"
    program.write_text(FAILING)
    arguments = [str(program), *SMALL, "scores=off", "trainer.devices=2", f"hydra.run.dir={tmp_path / 'run'}"]
    began = time.monotonic()
    if by == "torchrun":
        found = together(tmp_path, [[*TORCH, "--standalone", "--nproc_per_node=2", *arguments]])
    else:
        port = str(free_port())
        tasks = [SLURM | {"MASTER_PORT": port, "SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in "01"]
        found = together(tmp_path, [[sys.executable, *arguments]] * 2, tasks)
    assert all(code != 0 for code, _, _ in found), found
    assert any("this rank is broken" in errors for _, _, errors in found)
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_signal_to_one_rank_ends_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As submitit's local executor sends it: to the process that it started, not to those that this one did."""
    notes, folder = scontrol(tmp_path / "bin", monkeypatch), tmp_path / "run"
    command = [sys.executable, "-m", "gan_lightning", *SMALL, "trainer.devices=2", f"hydra.run.dir={folder}"]
    process = subprocess.Popen(
        [*command, "trainer.max_epochs=100000"], env=os.environ | BATCH, stdout=subprocess.PIPE, text=True
    )
    while not (folder / "metrics.csv").exists():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGUSR1)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGUSR1
    assert "Interrupted" in output
    assert notes.read_text() == "requeue 4242\n"
    assert (folder / "checkpoints" / "last.ckpt").exists()


@pytest.mark.slow
def test_a_preempted_job_of_submitit_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """A sweep's, through Hydra: its controller starts it again with the same arguments."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    arguments = [
        "seed=1",
        *SMALL,
        *FEW,
        "budget.images=192000",
        "samples.every_images=64000",
        "trainer.log_every_n_steps=20",
    ]
    whole, parts = tmp_path / "whole", tmp_path / "sweep" / "0_gan_digits"
    sweep = [
        "-m",
        "hydra/launcher=submitit_local",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
        "checkpoints.every_minutes=null",
    ]
    process = subprocess.Popen([sys.executable, "-m", "gan_lightning", *sweep, *arguments], cwd=tmp_path)
    while not (parts / "metrics.csv").exists() or len(lines(parts)) < 40:
        assert process.poll() is None
        time.sleep(0.05)
    (controller,) = (f for f in (tmp_path / "sweep" / ".submitit").iterdir() if f.name.isdigit())
    (log,) = controller.glob("*_log.out")
    (task,) = Path(f"/proc/{controller.name}/task/{controller.name}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)
    assert process.wait(timeout=120) == 0
    assert log.read_text().count("Requeued job") == 1
    assert log.read_text().count("continues") == 1
    assert run([*arguments, f"hydra.run.dir={whole}"]) == 0
    torch.testing.assert_close(last(parts), last(whole), rtol=0, atol=0)
    assert lines(parts) == lines(whole)
    assert [line for line in scores(parts) if line["images"] == 192000] == scores(whole)[-len(scores(parts)) :]


def job(arguments: list[str]) -> int:
    """What submitit is given without Hydra; with `checkpoint`, it may be given it again."""
    return run(arguments)


class Job:
    def __call__(self, arguments: list[str]) -> int:
        return job(arguments)

    def checkpoint(self, arguments: list[str]) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self, arguments)


@pytest.mark.slow
def test_a_preempted_job_of_submitit_without_hydra(tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit")
    arguments = [*SMALL, *FEW, "budget.images=192000", "trainer.log_every_n_steps=20"]
    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="local")
    executor.update_parameters(timeout_min=60)
    started = executor.submit(
        Job(), [*arguments, f"hydra.run.dir={tmp_path / 'parts'}", "checkpoints.every_minutes=null"]
    )
    while not (tmp_path / "parts" / "metrics.csv").exists() or len(lines(tmp_path / "parts")) < 40:
        time.sleep(0.05)
    (task,) = Path(f"/proc/{started.job_id}/task/{started.job_id}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)
    assert started.result() == 0
    assert "Requeued job" in started.stdout()
    assert run([*arguments, f"hydra.run.dir={tmp_path / 'whole'}"]) == 0
    torch.testing.assert_close(last(tmp_path / "parts"), last(tmp_path / "whole"), rtol=0, atol=0)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")


@pytest.mark.slow
def test_a_sweep_on_two_devices_survives_a_trial_that_diverges(tmp_path: Path) -> None:
    """The other rank is gone, the process group is left, and the next trial starts its own."""
    command = [sys.executable, "-m", "gan_lightning", "-m", *SMALL, "scores=off", "budget.images=640", "seed=1"]
    rates = "model.discriminator_optimizer.lr=1e38,1e-3"
    done = subprocess.run(
        [*command, rates, "trainer.devices=2", f"hydra.sweep.dir={tmp_path / 'sweep'}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "not finite" in done.stderr
    assert (tmp_path / "sweep" / "1_gan_digits" / "checkpoints" / "last.ckpt").exists()
