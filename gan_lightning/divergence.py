"""Numbers that are no longer numbers: the run ends, and what was saved before stays."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from gan_lightning.checkpoint import FOLDER, LAST, read_checkpoint


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
    path = folder / FOLDER / LAST
    go_on = "nothing was saved before"
    if path.exists():
        counters = read_checkpoint(path)["counters"]
        go_on = f"{path} is from before, minibatch {counters['minibatches']} ({counters['images']:,} images)"
    return (
        f"training has diverged; {go_on}. Lower the learning rates (model.generator_optimizer.lr, "
        f"model.discriminator_optimizer.lr), or clip with step.generator_clip and step.discriminator_clip"
    )
