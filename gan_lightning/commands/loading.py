"""From a checkpoint to a module, without unpickling and from allowed classes only."""

from pathlib import Path
from typing import Any

import torch

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.checkpoint import find_checkpoint, read_checkpoint
from gan_lightning.commands.train import FIXED, Settings
from gan_lightning.config import check, completed, instantiate, override
from gan_lightning.contents import refuse_unlike
from gan_lightning.data.base import Data
from gan_lightning.errors import UserError
from gan_lightning.exporting.weights import fill


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """A command's own arguments, and those that say where the data of a run has moved: data.root=…"""
    moved = [argument for argument in arguments if argument.startswith("data.")]
    return [argument for argument in arguments if argument not in moved], moved


def stored_config(given: Path, moved: list[str]) -> dict[str, Any]:
    """The configuration of a run folder or a .ckpt, checked, with `data.…` values replaced."""
    stored = read_checkpoint(find_checkpoint(given))["config"]
    return check(override(stored, moved, Settings, FIXED), Settings)


def load_data(config: dict[str, Any], facts: dict[str, Any] | None = None) -> Data:
    """The data of a run, ready to use. Raises UserError when it is not there.

    facts: what the run's checkpoint keeps of it; None: nothing.
    """
    data: Data = instantiate(config["data"])
    data.recall(facts or {})
    data.check()
    data.setup()
    return data


def load_module(given: Path, config: dict[str, Any] | None = None) -> AdversarialModule:
    """The module of a run folder, a .ckpt or `latest`; `config` replaces the stored one."""
    path = find_checkpoint(given)
    checkpoint = read_checkpoint(path)
    stored = check(config or completed(checkpoint["config"], Settings), Settings)
    refuse_unlike(path, stored, "alone" in checkpoint)
    module = instantiate(stored["model"])
    try:
        module.load_state_dict(fill(module, checkpoint, path) if "alone" in checkpoint else checkpoint["state_dict"])
    except (RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"checkpoint={path}: its weights do not fit its networks: {reason}") from None
    module.config = stored
    if "alone" in checkpoint:  # it has nothing that a rule keeps of its training
        AdversarialModule.on_load_checkpoint(module, checkpoint)
    else:
        module.on_load_checkpoint(checkpoint)
    return module.eval()


def choose_device(accelerator: str) -> torch.device:
    """The device of `auto`, `cpu` or `gpu`. Raises UserError for a GPU that is not there."""
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("accelerator=gpu: no CUDA device is available here; use accelerator=cpu")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
