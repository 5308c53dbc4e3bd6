"""Losses of a trained model on the images it was not trained on."""

from collections import defaultdict
from pathlib import Path
from typing import Literal, TypedDict

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.checkpoint import find_checkpoint, read_checkpoint
from gan_lightning.commands import train
from gan_lightning.commands.loading import choose_device, load_module
from gan_lightning.config import check, compose, instantiate, override
from gan_lightning.data.base import ImageData
from gan_lightning.sampling import evaluation_labels, evaluation_latents, render, sampler


class Settings(TypedDict):
    """The keys of conf/evaluate.yaml; `data.…` keys replace values of the run's own data, where it has moved."""

    checkpoint: Path
    ema: bool
    accelerator: Literal["auto", "cpu", "gpu"]


def run(arguments: list[str]) -> int:
    """The command: prints the held-out losses and counts, and writes nothing."""
    moved = [argument for argument in arguments if argument.startswith("data.")]
    settings = check(compose("evaluate", [a for a in arguments if a not in moved], Settings), Settings)
    path = Path(settings["checkpoint"])
    stored = read_checkpoint(find_checkpoint(path))["config"]
    config = check(override(stored, moved, train.Settings, train.FIXED), train.Settings)
    data: ImageData = instantiate(config["data"])
    data.check()
    data.setup()
    module = load_module(path, config).to(choose_device(settings["accelerator"]))
    for name, value in held_out_losses(module, data, ema=settings["ema"]).items():
        print(f"{name:24} {value:.6g}")
    return 0


def held_out_losses(module: AdversarialModule, data: ImageData, *, ema: bool = True) -> dict[str, float]:
    """Means over the held-out images of everything that the two losses return, with networks in eval mode."""
    network = sampler(module, ema=ema)
    module.log_due = True  # with the statistics
    sums: dict[str, float] = defaultdict(float)
    images = 0
    for batch in data.val_dataloader():
        batch = data.on_after_batch_transfer({key: value.to(module.device) for key, value in batch.items()}, 0)
        count = len(batch["image"])
        labels = evaluation_labels(module, count, first=images)
        if labels is not None:
            batch["fake_label"] = labels
        fakes = render(network, evaluation_latents(module, count, 0, first=images), labels, module.device)
        for player, losses in (
            ("D", module.discriminator_loss(batch, fakes)),
            ("G", module.generator_loss(batch, fakes)),
        ):
            for key, value in losses.items():
                sums[f"{player}/{key}"] += float(value.detach()) * count
        images += count
        module.counters.minibatches += 1  # a new draw for the next batch
    return {"held_out_images": images, **{key: value / images for key, value in sums.items()}}
