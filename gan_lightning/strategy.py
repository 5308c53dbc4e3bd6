"""Several processes for two players: Lightning's processes and collectives, without the wrapper around the module.

DistributedDataParallel expects every parameter in every backward pass, which no GAN gives. The players average their
own gradients, once a step, in one flat all-reduce (players.py).
"""

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from gan_lightning.faults import Fault, how
from gan_lightning.watching import Watch

LAUNCH_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")


class Launcher(_SubprocessScriptLauncher):
    """Starts the other ranks on the run's own resolved configuration, so that a sweep is never run again by them."""

    def __init__(self, *args: Any, command: list[str], started: Callable[[], object]) -> None:
        super().__init__(*args)
        self.command, self.started = command, started
        # Not in `procs`: of those Lightning has a thread kill this process without a word when one of them ends.
        self.others: list[subprocess.Popen] = []

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        environment = self.cluster_environment
        shared = {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()),
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
        }
        os.environ.update(shared, LOCAL_RANK=str(environment.local_rank()))
        self.others = [
            subprocess.Popen(self.command, env=os.environ | {"LOCAL_RANK": str(rank)})
            for rank in range(1, self.num_processes)
        ]
        self.started()


class PlayersStrategy(DDPStrategy):
    """One process a device; the module is not wrapped.

    Args:
        command: starts another rank of the same run.
    """

    def __init__(self, command: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.command = command
        self.when_lost: Callable[[str], object] = lambda reason: None
        self._watch: Watch | None = None
        self._environment = {name: os.environ.get(name) for name in LAUNCH_VARIABLES}

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(
            self.cluster_environment,
            self.num_processes,
            self.num_nodes,
            command=self.command,
            started=self._begin_watching,
        )

    def configure_ddp(self) -> None:
        """No wrapper; every rank begins with the weights of the first."""
        states = [*self.model.parameters(), *self.model.buffers()] if self.model else []
        for state in states:
            torch.distributed.broadcast(state.detach(), src=0)

    def finish(self) -> None:
        """Ends the process group, waits for the other ranks and restores the environment.

        Raises Fault when one of them failed.
        """
        self._stop_watching()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        codes = [process.wait() for process in self.launched]
        self._restore_environment()
        failed = [f"rank {rank} ({how(code)})" for rank, code in enumerate(codes, start=1) if code]
        if failed:
            raise Fault(f"trainer.devices: {' and '.join(failed)} ended with an error after the last step")

    def ended(self, patience: float = 5.0) -> dict[int, int]:
        """Exit codes of the ranks that are no more; the news of a broken connection may be a little earlier."""
        deadline = time.monotonic() + patience
        while True:
            polled = [process.poll() for process in self.launched]
            codes = {rank: code for rank, code in enumerate(polled, start=1) if code is not None}
            if codes or not polled or time.monotonic() > deadline:
                return codes
            time.sleep(0.05)

    def lost(self) -> str | None:
        """Which rank has failed."""
        codes = {rank: code for rank, code in self.ended(0).items() if code}
        return ", ".join(f"rank {rank} ({how(code)})" for rank, code in codes.items()) or None

    def _give_up(self, reason: str) -> None:
        self.when_lost(reason)
        for process in self.launched:
            process.kill()

    def _begin_watching(self) -> None:
        """From here on: the first thing that ranks do is to wait for each other."""
        self._watch = Watch(self.lost, self._give_up)
        self._watch.start()

    def _stop_watching(self) -> None:
        if self._watch:
            self._watch.over.set()

    def abort(self, error: BaseException) -> None:
        """After an error on this rank: the others wait for it in vain, so they are ended.

        What was left behind would have the next run of a sweep believe that its ranks were there.
        """
        self._stop_watching()
        launched = self.launched
        for process in launched:
            process.kill()  # inside a collective they see nothing milder
        for process in launched:
            process.wait()
        if launched and isinstance(error, Exception) and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()  # not after an interrupt: it may wait for what was under way
        launched.clear()
        self._restore_environment()

    def _restore_environment(self) -> None:
        for name, value in self._environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    @property
    def launched(self) -> list[subprocess.Popen]:
        launcher = self._launcher
        return launcher.others if isinstance(launcher, Launcher) else []
