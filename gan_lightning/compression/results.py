"""What a method of compression is given, and how it leaves a run that every command accepts."""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.checkpoint import FOLDER, LAST, AtomicCheckpointIO
from gan_lightning.data.base import Data
from gan_lightning.errors import UserError
from gan_lightning.networks.onnx import ONNXNetwork
from gan_lightning.networks.quantized import Quantized

START = "start.ckpt"  # what a training that a method asks for begins with


@dataclass
class Source:
    """The run that is compressed.

    Args:
        path: its checkpoint file.
        config: its configuration, plain and checked, with what the command changes of it.
        module: in eval mode, on the CPU.
        data: ready to use.
        folder: of the result; not made yet.
    """

    path: Path
    config: dict[str, Any]
    module: AdversarialModule
    data: Data
    folder: Path


class Method(Protocol):
    """What conf/method/ builds."""

    def run(self, source: Source) -> dict[str, Any]:
        """Writes a run to the source's folder; facts that are printed and kept. Raises UserError before any work."""
        ...


def changed(config: dict[str, Any], **of_model: Any) -> dict[str, Any]:
    """A copy of a configuration whose `model` has other values, and no teacher but the one that they name."""
    return {**copy.deepcopy(config), "model": {**copy.deepcopy(config["model"]), "imitation": None, **of_model}}


def store(path: Path, config: dict[str, Any], module: AdversarialModule, like: AdversarialModule) -> Path:
    """A checkpoint of the networks alone, without optimizers: it is sampled from, not continued.

    module: built of `config`; like: the module whose place in training and whose classes it has.
    """
    checkpoint = {"state_dict": module.state_dict(), "counters": asdict(like.counters), "config": config}
    checkpoint |= {"class_names": like.class_names, "data": like.data_facts}
    path.parent.mkdir(parents=True, exist_ok=True)
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    return path


def store_run(folder: Path, config: dict[str, Any], module: AdversarialModule, like: AdversarialModule) -> None:
    """config.yaml and checkpoints/last.ckpt."""
    folder.mkdir(parents=True, exist_ok=True)
    store(folder / FOLDER / LAST, config, module, like)
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")


def train(source: Source, config: dict[str, Any], module: AdversarialModule, images: int) -> None:
    """Trains the networks of `module`, built of `config`, for so many images: a run of its own in the source's folder.

    Raises SystemExit where it is interrupted; it can be continued then, as any run.
    """
    from gan_lightning.commands.train import checked, fit  # here: it brings Lightning's trainer

    budget = {**config["budget"], "images": images, "generator_steps": None, "minutes": None}
    trainer = {**config["trainer"], "max_epochs": None}
    settings = {**config, "checkpoint": None, "weights": None, "budget": budget, "trainer": trainer}
    checked(settings)
    made = [folder for folder in (source.folder, *source.folder.parents) if not folder.exists()]
    start = store(source.folder / START, settings, module, source.module)
    try:
        # `latest` stays what it was: a run that several methods are tried on
        code = fit({**settings, "weights": str(start.absolute())}, source.folder, latest=False)
    except UserError:
        if not (source.folder / "config.yaml").exists():  # nothing was begun
            start.unlink()
            for folder in made:
                folder.rmdir()
        raise
    if code:
        raise SystemExit(code)


def refuse_quantised(source: Source) -> None:
    """Raises UserError for generators with weights in whole numbers, or graphs."""
    if any(isinstance(part, Quantized | ONNXNetwork) for part in source.module.generator.modules()):
        raise UserError(f"checkpoint={source.path}: its generator is quantised already; take the run it was made of")


def refuse_texts(source: Source, method: str) -> None:
    """Raises UserError for generators that draw tokens."""
    if source.data.noun == "texts":
        raise UserError(
            f"method={method}: {type(source.module.generator).__name__} makes texts; sounds and images only"
        )
