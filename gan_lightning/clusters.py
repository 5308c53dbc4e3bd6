"""Who started the processes of a run, and whether they are those that its settings ask for.

Alone on a machine, a run starts its other ranks by itself (strategy.py), and so it does as the one task of a SLURM job.
torchrun and srun start every rank; without them, a person starts one process a node and says which it is in NODE_RANK.
"""

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from gan_lightning.errors import UserError

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

INTERACTIVE = ("bash", "interactive")  # names of jobs in which a person types
SPEAKING = 10  # seconds that the process which speaks may begin later than another
BY_HAND = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


def starter() -> Literal["torchrun", "hand", "srun"] | None:
    """Who started this process as one of several; None: it is alone until it starts others."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    if "NODE_RANK" in os.environ:  # of the ranks that a run starts, too
        return "hand"
    return "srun" if slurm_tasks() > 1 else None


def slurm_tasks() -> int:
    """The tasks of the SLURM job that this process belongs to: 1 outside of SLURM, and where a person types."""
    return 1 if os.environ.get("SLURM_JOB_NAME") in INTERACTIVE else number("SLURM_NTASKS", 1)


def slurm_job() -> str | None:
    """What `scontrol` calls the SLURM job that this process belongs to: of an array, the job and the task."""
    if "SLURM_ARRAY_JOB_ID" in os.environ and "SLURM_ARRAY_TASK_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def speaks() -> bool:
    """Whether this process says what is wrong: the first of each node, whose files and devices may differ."""
    by = starter()
    return by is None or number("SLURM_LOCALID" if by == "srun" else "LOCAL_RANK", 0) == 0


def let_others_speak() -> None:
    """Waits, where this process does not speak: torchrun ends all of them as soon as one has failed."""
    if not speaks():
        time.sleep(SPEAKING)


def number(name: str, otherwise: int) -> int:
    """An environment variable. Raises UserError for one that is no number."""
    text = os.environ.get(name)
    if text is None:
        return otherwise
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{name}={text}: is no whole number") from None


def check_arguments(arguments: Sequence[str], *, sweep: bool = False) -> None:
    """Raises UserError for what processes that others started cannot agree upon: a sweep, the name of a new folder."""
    by = starter()
    if by is None or (by == "torchrun" and number("WORLD_SIZE", 1) == 1):
        return
    what = {"torchrun": "torchrun", "srun": "srun", "hand": f"NODE_RANK={os.environ.get('NODE_RANK')}"}[by]
    if sweep:
        raise UserError(
            f"-m: with {what} every process would run the whole sweep; start one run at a time, or the sweep alone "
            "with hydra/launcher=submitit_slurm"
        )
    given = [argument.lstrip("+").partition("=") for argument in arguments]
    if not any(key in ("hydra.run.dir", "checkpoint") and value not in ("", "null") for key, _, value in given):
        raise UserError(
            f"hydra.run.dir: with {what} every process would make a folder of its own; add hydra.run.dir=outputs/…"
        )


def check_same_folder(checkpoint: object) -> None:
    """Raises UserError where a continued run is about to choose a new folder, and each process would choose its own."""
    if starter() is not None:
        raise UserError(
            f"checkpoint={checkpoint}: goes on in a new folder, which every process would choose for itself; copy the "
            "run's folder, with this file as checkpoints/last.ckpt, and continue the copy"
        )


def check_processes(devices: int, num_nodes: int) -> None:
    """Raises UserError where the processes that were started are not `devices` on each of `num_nodes` machines."""
    by = starter()
    asked = f"trainer.devices={devices} trainer.num_nodes={num_nodes}"
    if by == "torchrun":
        check_torchrun(asked, devices, num_nodes)
    elif by == "srun":
        check_slurm(asked, devices, num_nodes)
    elif num_nodes > 1 and by == "hand":
        if missing := [name for name in BY_HAND if name not in os.environ]:
            raise UserError(f"trainer.num_nodes={num_nodes}: NODE_RANK is set and {' and '.join(missing)} not")
        if not 0 <= number("NODE_RANK", 0) < num_nodes:
            raise UserError(f"NODE_RANK={os.environ['NODE_RANK']}: with trainer.num_nodes={num_nodes} they begin at 0")
    elif num_nodes > 1 and slurm_job():
        raise UserError(
            f"trainer.num_nodes={num_nodes}: SLURM started one task; use #SBATCH --nodes={num_nodes} "
            f"--ntasks-per-node={devices}, and srun before python"
        )
    elif num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={num_nodes}: nothing says which of them this is; start it by torchrun or srun, or set "
            f"{', '.join(BY_HAND)} on each"
        )


def check_torchrun(asked: str, devices: int, num_nodes: int) -> None:
    there, here = number("WORLD_SIZE", 1), number("LOCAL_WORLD_SIZE", 1)
    if (there, here) != (devices * num_nodes, devices):
        raise UserError(
            f"{asked}: torchrun started {there} processes, {here} on this machine; "
            f"set trainer.devices={here} trainer.num_nodes={max(1, there // here)}"
        )


def check_slurm(asked: str, devices: int, num_nodes: int) -> None:
    tasks, each = slurm_tasks(), number("SLURM_NTASKS_PER_NODE", 0)
    if "SLURM_STEP_ID" not in os.environ:  # the batch script itself, of which there is one however many tasks there are
        raise UserError(
            f"SLURM_NTASKS={tasks}: this process was not started by srun, and the others are missing; put srun before "
            "python, or use #SBATCH --ntasks-per-node=1"
        )
    if not each:
        raise UserError(f"SLURM_NTASKS={tasks}: use #SBATCH --ntasks-per-node={devices} instead of --ntasks")
    nodes = number("SLURM_NNODES", num_nodes)
    if (tasks, each, nodes) != (devices * num_nodes, devices, num_nodes):
        raise UserError(
            f"{asked}: SLURM started {tasks} tasks, {each} on each of {nodes} nodes; set trainer.devices={each} "
            f"trainer.num_nodes={nodes}, or #SBATCH --nodes={num_nodes} --ntasks-per-node={devices}"
        )


def environment() -> "ClusterEnvironment":
    """What tells Lightning the ranks. Without it Lightning takes every SLURM job for one that srun started."""
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment  # here: `speaks` needs none
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    by = starter()
    if by == "torchrun":
        return TorchElasticEnvironment()
    if by == "srun":
        return SLURMEnvironment(auto_requeue=False)  # budget.py does that
    return LightningEnvironment()
