"""What of Lightning's Trainer a user sets, and how the Trainer of a run is built."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from gan_lightning import clusters
from gan_lightning.checkpoint import AtomicCheckpointIO
from gan_lightning.strategy import PlayersStrategy
from gan_lightning.types import PositiveInt


@dataclass(frozen=True)
class TrainerSettings:
    """The settings of Lightning's Trainer that make sense for two players; the rest is set by the run.

    `max_epochs=None`: no limit. `log_every_n_steps` counts minibatches. `devices` above 1 starts one process each.
    `precision="auto"`: bf16-mixed on CUDA devices that have it, else 32-true; matrix products in float32 take TF32,
    and convolutions there, unless 32-true was asked for. `benchmark=None`: cuDNN tries its kernels on CUDA devices,
    unless `deterministic`.
    """

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: PositiveInt | list[int] | Literal["auto"] = 1
    num_nodes: PositiveInt = 1
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    max_epochs: PositiveInt | None = None
    log_every_n_steps: PositiveInt = 50
    enable_progress_bar: bool = True
    sync_batchnorm: bool = False
    deterministic: bool | Literal["warn"] = False
    benchmark: bool | None = None
    detect_anomaly: bool = False
    profiler: Literal["simple", "advanced", "pytorch"] | None = None

    def __post_init__(self) -> None:
        if self.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
            raise ValueError(f"accelerator={self.accelerator}: no CUDA device is available here; use accelerator=cpu")
        wanted = len(self.devices) if isinstance(self.devices, list) else self.devices
        on_gpu = self.on_cuda
        if self.precision == "16-mixed" and not on_gpu and self.accelerator != "mps":
            raise ValueError(f"precision={self.precision}: needs a GPU; on a CPU, use bf16-mixed")
        if self.sync_batchnorm and not on_gpu:
            raise ValueError("sync_batchnorm=True: needs GPUs; on CPUs they are averaged before use")
        if isinstance(self.devices, list) and not on_gpu:
            raise ValueError(f"devices={self.devices}: a list names GPUs; here, give the number of processes")
        if on_gpu and isinstance(wanted, int) and wanted > torch.cuda.device_count():
            raise ValueError(f"devices={self.devices}: there are {torch.cuda.device_count()} GPUs here")

    @property
    def on_cuda(self) -> bool:
        return self.accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available()

    @property
    def processes(self) -> int:
        """Of this machine."""
        if self.devices == "auto":
            return torch.cuda.device_count() if self.on_cuda else 1
        return len(self.devices) if isinstance(self.devices, list) else self.devices

    def check_processes(self) -> None:
        """Raises UserError where torchrun, SLURM or a person started other processes than these settings ask for."""
        clusters.check_processes(self.processes, self.num_nodes)

    def chosen_precision(self) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
        """The precision that "auto" stands for here."""
        if self.precision != "auto":
            return self.precision
        return "bf16-mixed" if self.on_cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"

    def build(
        self, folder: Path, callbacks: Sequence[Callback], loggers: Sequence[Logger], other_ranks: Sequence[str]
    ) -> Trainer:
        """The Trainer of the run in `folder`; `other_ranks`: the arguments of Python that start another rank.

        Raises RuntimeError where Lightning would run on another number of processes.
        """
        if self.on_cuda:  # both ways: a sweep's runs share a process
            torch.set_float32_matmul_precision("highest" if self.precision == "32-true" else "high")
            torch.backends.cudnn.allow_tf32 = self.precision != "32-true"
        several = self.num_nodes > 1 or self.devices == "auto" or self.devices not in (1, [0])
        trainer = Trainer(
            accelerator=self.accelerator,
            devices=self.devices,
            num_nodes=self.num_nodes,
            strategy=PlayersStrategy([sys.executable, *other_ranks]) if several else "auto",
            precision=self.chosen_precision(),
            max_epochs=-1 if self.max_epochs is None else self.max_epochs,
            log_every_n_steps=self.log_every_n_steps,
            sync_batchnorm=self.sync_batchnorm,
            deterministic=self.deterministic,
            benchmark=self.on_cuda and not self.deterministic if self.benchmark is None else self.benchmark,
            detect_anomaly=self.detect_anomaly,
            profiler=self.profiler,
            default_root_dir=folder,
            callbacks=list(callbacks),
            logger=list(loggers),
            plugins=[AtomicCheckpointIO(), clusters.environment()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1,
            limit_val_batches=0,
            num_sanity_val_steps=0,
        )
        if trainer.world_size != (asked := self.processes * self.num_nodes):
            raise RuntimeError(f"{asked} processes were asked for, and Lightning has {trainer.world_size}")
        return trainer
