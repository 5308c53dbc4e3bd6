"""What makes a run fast, chosen by device and networks. None of it changes what is computed, but for rounding."""

import ctypes
import platform
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lightning.steps import Step

if TYPE_CHECKING:
    from gan_lightning.adversarial import AdversarialModule

GRAPHED = 32  # minibatches a Lightning batch on an accelerator, whose steps are short beside Lightning's own work
UNGRAPHED = 8
BATCH_BYTES = 2**28  # but no more than this in float32
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt


def keep_memory() -> None:
    """Has glibc keep what a minibatch frees, for the next one: 5 % of a DCGAN's step on a CPU went to page faults."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        if libc.mallopt(M_MMAP_THRESHOLD, 2**25):  # the most that older versions take
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def minibatches_per_batch(step: Step, device: torch.device, images: int, values: int) -> int:
    """How many minibatches, each of `images` with so many `values`, a Lightning batch carries."""
    if step.minibatches != "auto":
        return step.minibatches
    return max(1, min(UNGRAPHED if device.type == "cpu" else GRAPHED, BATCH_BYTES // (4 * images * values)))


def wants_channels_last(step: Step, module: nn.Module) -> bool:
    """Whether the weights of convolutions are to be laid out as NHWC, which is faster on CPUs and on GPUs."""
    convolutional = any(weight.dim() == 4 for weight in module.parameters())
    return step.channels_last == "on" or (step.channels_last == "auto" and convolutional)


def make_optimizer(factory: Callable[..., Optimizer], parameters: list[nn.Parameter], capturable: bool) -> Optimizer:
    """The optimizer, fused where it can be and the configuration does not say otherwise.

    capturable: its steps go into CUDA graphs.
    """
    given = factory.keywords if isinstance(factory, partial) else {}
    known = signature(factory).parameters
    extra: dict[str, Any] = {}
    if "fused" in known and not any(given.get(key) is not None for key in ("fused", "foreach", "differentiable")):
        extra["fused"] = True
    if capturable and can_capture(factory):
        extra["capturable"] = True
    return factory(parameters, **extra)


def can_capture(factory: Callable[..., Optimizer]) -> bool:
    """Whether a CUDA graph can hold the steps of such an optimizer."""
    return "capturable" in signature(factory).parameters


def why_no_graphs(module: "AdversarialModule", trainer: Trainer) -> str | None:
    """What keeps whole minibatches from being CUDA graphs; None where nothing does."""
    step = module.step
    if step.graphs == "off":
        return "step.graphs=off"
    if trainer.strategy.root_device.type != "cuda":
        return "no CUDA device"
    if trainer.world_size > 1:
        return "several devices"
    if step.accumulate > 1:
        return f"step.accumulate={step.accumulate}"
    if step.recompute:
        return "step.recompute=true"
    if module.augment.ada:
        return "the margins of model.ada's images follow what is drawn"
    if module.no_graphs:
        return module.no_graphs
    precision = trainer.precision_plugin
    if isinstance(precision, MixedPrecision) and precision.scaler is not None:
        return f"precision {trainer.precision} looks at its loss scale on the host"
    if trainer._detect_anomaly:
        return "trainer.detect_anomaly=true"
    for name, factory in module.optimizer_factories.items():
        if not can_capture(factory):
            return f"model.{name}_optimizer cannot be captured"
    return None


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a CUDA device is not waited for."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
