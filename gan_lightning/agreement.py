"""Whether rule, networks and data agree with each other: what does not is refused before a run begins."""

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from gan_lightning.errors import UserError
from gan_lightning.steps import Step


def check_parts(rule: Any, generator: nn.Module, discriminator: nn.Module, step: Step, classes: int) -> None:
    """Raises ValueError for networks or steps that are of no use to the rule (a class of models/)."""
    auxiliary = getattr(discriminator, "auxiliary", 0)
    if auxiliary and not rule.reads_auxiliary:
        raise ValueError(f"discriminator.auxiliary={auxiliary}: {rule.__name__} has no use for such outputs")
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        known = getattr(network, "classes", 0)
        if classes and not known and not (auxiliary and network is discriminator):
            raise ValueError(
                f"{type(network).__name__} takes no labels, and there are {classes} classes: choose networks that "
                "do, such as network@model=cgan or dcgan_conditional"
            )
        if known not in (0, classes):
            raise ValueError(f"{name}.classes={known}: model.classes={classes} says how many there are")
    if step.penalty_every > 1 and not rule.penalised:
        raise ValueError(f"step.penalty_every={step.penalty_every}: {rule.__name__} has no penalty")
    if step.generator_penalty_every > 1 and not rule.regularised:
        raise ValueError(
            f"step.generator_penalty_every={step.generator_penalty_every}: the generator of {rule.__name__} "
            "has no penalty"
        )


def check_run(module: Any, trainer: Any, data: Any) -> None:
    """Raises UserError for data whose minibatches, classes or channels are not what the model (a GAN) needs."""
    rule, size = type(module).__name__, data.minibatch_size(trainer.world_size, module.step.accumulate)
    if size % module.pack:
        raise UserError(f"data.batch_size={size}: is no multiple of model.discriminator.pack={module.pack}")
    for phase in module.phases:
        if size % (phase.split * module.pack):
            what = f'phase "{phase.name}" cannot split it by {phase.split}'
            raise UserError(f"data.batch_size={size}: {what} (model.splits)")
    if module.augment.ada:
        module.augment.ada.check(rule, module.signed, data.channels)
    if module.classes and module.classes != len(data.class_names):
        raise UserError(f"model.classes={module.classes}: there are {len(data.class_names)} classes in the data")
    if data.sampling != module.data_sampling:
        raise UserError(f"data.sampling={data.sampling}: {rule} needs {module.data_sampling}")


@torch.no_grad()
def check_networks(module: Any, shape: tuple[int, ...]) -> None:
    """Makes and judges a few samples, which are to be of `shape`: of images (C, H, W).

    Raises ValueError where networks, rule and data do not fit; RuntimeError where a network cannot be run at all.
    """
    count, device = 2 * module.pack, next(module.generator.parameters()).device
    module.eval()
    latents = tree_map(lambda t: t.to(device), module.draw_latents(count, torch.Generator()))
    labels = torch.zeros(count, dtype=torch.int64, device=device) if module.classes else None
    fakes = module.generate({} if labels is None else {"fake_label": labels}, latents)
    made = fakes["image"] if isinstance(fakes, dict) else fakes
    if made.shape[1:] != shape:
        raise ValueError(f"{type(module.generator).__name__} makes {tuple(made.shape[1:])}, the data are {shape}")
    judged = module.verdicts(made, latents, labels).shape
    if judged != (2,):
        raise ValueError(
            f"{type(module.discriminator).__name__} gives {tuple(judged)} for {count} images, "
            f"{type(module).__name__} needs one number for each {'pack' if module.pack > 1 else 'image'}"
        )
