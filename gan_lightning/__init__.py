"""Every main GAN of the literature as a PyTorch Lightning + Hydra experiment."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_lightning.adversarial import AdversarialModule

__version__ = "0.1.0"


def load(run_or_checkpoint: str | Path) -> "AdversarialModule":
    """The trained module of a run, an export, a .ckpt or "latest", in eval mode on the CPU: `load(run).sample(64)`.

    It is built from the plain configuration in the checkpoint; nothing is unpickled and nothing outside the allow-list
    of config/ is instantiated. Raises UserError when the file cannot be used.
    """
    from gan_lightning.commands.loading import load_module  # here: a bare import of the package stays cheap

    return load_module(Path(run_or_checkpoint))
