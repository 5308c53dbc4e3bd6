"""A narrower generator learns from a trained one — Li et al. 2020, "GAN Compression", section 3.1.

The student is trained as its teacher was, by the same rule on the same data, against the discriminator that the teacher
was trained with; `model.imitation` adds what it misses of the teacher's samples and layers (imitation.py). What comes
of it is a run as any other, which needs the teacher only to be trained on.

Differs from the paper: the student's width is given, not searched for; convolutions stay whole, where it splits them
into depthwise and pointwise ones; the student begins with the teacher's first channels, where it takes those of the
largest weights; samples of latents, which the paper has none of, weigh more.
"""

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.commands.train import Settings
from gan_lightning.compression.results import Source, changed, refuse_texts, train
from gan_lightning.config import check, check_models, instantiate
from gan_lightning.draws import stream_seed
from gan_lightning.errors import UserError
from gan_lightning.imitation import Imitation
from gan_lightning.sampling import sampler
from gan_lightning.translation import Translator
from gan_lightning.types import Node, NonNegativeFloat, PositiveFraction, PositiveInt

WIDTHS = ("base_channels", "max_channels", "growth_channels", "hidden")  # keys of generators that say how wide they are
COMPRESSED = ("pruned", "quantized", "onnx")  # files of networks that came of compressing: not to be built narrower


class Distill:
    """The method of `compress`.

    Args:
        images: training images that the student is shown.
        width: of its layers, as a share of the teacher's.
        student: keys of its generator that are to have other values than `width` makes of them.
        reconstruction: λ_recon, of the distance between its samples and the teacher's; null: 10 for translators, or 0
            where their rule compares with the truth itself, as in the published code, and 50 for samples of latents.
        features: λ_distill, of the distance between layers; with reconstruction=0, too, the student trains alone: what
            it is to be compared with.
        layers: that are compared; null: a few, evenly spaced.
        discriminator: that it is trained against at first: the teacher's, or a new one.
        start: with the weights of the teacher's first channels, or with new ones.
    """

    def __init__(
        self,
        images: PositiveInt,
        width: PositiveFraction = 0.25,
        student: Node | None = None,
        reconstruction: NonNegativeFloat | None = None,
        features: NonNegativeFloat = 0.01,
        layers: list[str] | None = None,
        discriminator: Literal["teacher", "fresh"] = "teacher",
        start: Literal["teacher", "fresh"] = "teacher",
    ) -> None:
        self.images, self.width, self.student = images, width, student or {}
        self.reconstruction, self.features, self.layers = reconstruction, features, layers
        self.discriminator, self.start = discriminator, start

    def run(self, source: Source) -> dict[str, Any]:
        """Trains the student in the source's folder. Raises UserError for generators that have none."""
        refuse_texts(source, "distill")
        weight = self.reconstruction_of(source.module)
        node = self.imitation(source, weight) if weight or self.features else None
        config = check(changed(source.config, generator=self.generator(source), imitation=node), Settings)
        check_models(config)
        torch.manual_seed(stream_seed(config["seed"], "initialization"))
        module: AdversarialModule = instantiate(config["model"])
        if isinstance(module.imitation, Imitation):
            module.imitation.begin(module, source.data.shape)  # which refuses what cannot be learned from
        if self.start == "teacher":
            teacher = sampler(source.module)
            for student in (module.generator, *([module.ema.generator] if module.ema else [])):
                take_first_channels(student, teacher)
        if self.discriminator == "teacher":
            theirs = source.module.state_dict()
            kept = {k: v for k, v in theirs.items() if not k.startswith(("generator.", "ema."))}
            module.load_state_dict(kept, strict=False)
        train(source, config, module, self.images)
        layers = module.imitation.layers if isinstance(module.imitation, Imitation) else "none"
        return {"images": self.images, "reconstruction": weight, "layers": layers}

    def imitation(self, source: Source, reconstruction: float) -> dict[str, Any]:
        """The node of what the student adds to its loss."""
        return {
            "_target_": f"{Imitation.__module__}.{Imitation.__name__}",
            "teacher": str(source.path.resolve()),
            "reconstruction": reconstruction,
            "features": self.features,
            "layers": self.layers,
        }

    def reconstruction_of(self, module: AdversarialModule) -> float:
        """λ_recon for this rule, where none was asked for."""
        if self.reconstruction is not None:
            return self.reconstruction
        if not isinstance(module, Translator):
            return 50.0  # of latents: with 10 the discriminator drowns it out at first
        return 10.0 if "unpaired" in module.kinds or not self.features else 0.0

    def generator(self, source: Source) -> dict[str, Any]:
        """The student's node, from the teacher's."""
        node = source.config["model"]["generator"]
        kind = type(source.module.generator).__name__
        if node["_target_"].split(".")[-2] in COMPRESSED:
            raise UserError(f"checkpoint={source.path}: its {kind} came of compressing already; take the original run")
        found = narrowed(node, self.width)
        if found == node and self.width < 1 and not self.student:
            raise UserError(
                f"method.width={self.width}: {kind} has none of {', '.join(WIDTHS)}: say what the student has by "
                "method.student={…}, keys of its generator"
            )
        return merged(found, self.student)


def narrowed(node: Mapping[str, Any], width: float) -> dict[str, Any]:
    """A network's node with all its widths times `width`, at least 1; the widths of lists one by one."""

    def scaled(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return narrowed(value, width)
        if key not in WIDTHS or value is None:
            return copy.deepcopy(value)
        narrow = [max(1, round(one * width)) for one in (value if isinstance(value, list) else [value])]
        return narrow if isinstance(value, list) else narrow[0]

    return {key: scaled(key, value) for key, value in node.items()}


def merged(node: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A node with other values, also of the nodes in it."""
    found = dict(node)
    for key, value in values.items():
        inside = isinstance(value, Mapping) and isinstance(node.get(key), Mapping)
        found[key] = merged(node[key], value) if inside else value
    return found


@torch.no_grad()
def take_first_channels(student: nn.Module, teacher: nn.Module) -> None:
    """Weights and statistics of as many channels as the student has, where both have such layers."""
    theirs = teacher.state_dict()
    for key, value in student.state_dict().items():
        if key in theirs and theirs[key].ndim == value.ndim:
            part = theirs[key][tuple(map(slice, value.shape))]
            if part.shape == value.shape:
                value.copy_(part)
