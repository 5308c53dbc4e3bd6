"""Numbers that are no longer numbers: the run ends, and what was saved before stays."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from gan_lightning.checkpoint import FOLDER, LAST, newest, read_checkpoint
from gan_lightning.errors import UserError


class Diverged(RuntimeError):
    """A loss or a weight is no longer finite."""


def check_finite(module: nn.Module, folder: Path) -> None:
    """Raises Diverged, with advice for the run in `folder`, for NaN or Inf among weights and buffers."""
    named: dict[str, Any] = {k: v for k, v in module.state_dict().items() if v.is_floating_point()}
    finite = torch.stack([value.isfinite().all() for value in named.values()]).tolist()
    broken = [name for name, good in zip(named, finite, strict=True) if not good]
    if broken:
        raise Diverged(f"{broken[0]} holds NaN or Inf ({len(broken)} tensors do): {advice(folder)}")


def advice(folder: Path) -> str:
    """What to do after a divergence in the run of `folder`: where its last good checkpoint is, and what to change."""
    go_on = "nothing was saved before"
    try:
        if path := newest(folder):
            counters = read_checkpoint(path)["counters"]
            go_on = f"{path} is from before, minibatch {counters['minibatches']} ({counters['images']:,} images)"
    except (OSError, UserError):
        go_on = f"{folder / FOLDER / LAST} is from before, but cannot be read"
    return (
        f"training has diverged; {go_on}. Lower the learning rates (model.generator_optimizer.lr, "
        f"model.discriminator_optimizer.lr), or clip with step.generator_clip and step.discriminator_clip"
    )
