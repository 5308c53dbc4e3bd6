"""Semi-supervised GAN — Salimans et al. 2016, "Improved Techniques for Training GANs", section 5.

The discriminator is a classifier with one class more, "generated": it learns the classes from a few images with labels,
and from all others that they are of some class. The generator matches the means of its features, or fools it.

Differs from the paper: all K + 1 outputs are learned, where its code holds the last at 0; the unsupervised loss counts
half, as in that code; labelled images are drawn with replacement, mirrored where `data.flip` mirrors the others; both
players see one minibatch of real images, where the code draws two; the classifier is not averaged over time; DCGAN's
networks unless `network@model=improved`; samples come from a moving average of the generator.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gan_lightning.adversarial import Batch, Fakes
from gan_lightning.data.base import ImageData, say
from gan_lightning.errors import UserError
from gan_lightning.losses import Losses
from gan_lightning.metrics.own import AS_USUAL, Measuring
from gan_lightning.metrics.scores import Value
from gan_lightning.models.feature_matching import FeatureMatching
from gan_lightning.models.gan import GAN
from gan_lightning.sampling import BLOCK
from gan_lightning.types import NonNegativeInt, PositiveInt


class SemiSupervised(FeatureMatching):
    """A classifier in the place of the discriminator; the generator is told no labels.

    Args:
        label_classes: K, the classes of the data's labels. The discriminator has as many `auxiliary` outputs; its logit
            of being real is log Σ exp of these, plus the first output, which is that of "generated", negated.
        labelled_per_class: of so many images of each class the label is used, the same in every run; None: of all.
        feature_matching: how the generator learns; otherwise by `loss`, as with minibatch discrimination.
    """

    reads_auxiliary = True
    own_metrics = ("error_rate",)

    def __init__(
        self,
        label_classes: NonNegativeInt,
        labelled_per_class: PositiveInt | None = None,
        feature_matching: bool = True,
        **base: Any,
    ) -> None:
        if classes := base.get("classes"):
            raise ValueError(f"classes={classes}: the generator is told no labels: leave model.classes out")
        if not label_classes:
            raise ValueError("label_classes=0: needs data with labels")
        super().__init__(**base)
        outputs = getattr(self.discriminator, "auxiliary", 0)
        if outputs != label_classes:
            raise ValueError(f"discriminator.auxiliary={outputs}: needs one output for each of {label_classes} classes")
        if not self.pair.probabilities:
            raise ValueError(f"loss={base['loss']}: knows no classes; use nonsaturating or minimax")
        self.label_classes = label_classes
        self.labelled_per_class = labelled_per_class
        self.feature_matching = feature_matching
        self.labelled: Batch = {}  # "image" (N, C, H, W) in [-1, 1], "label" (N,); empty: those of the minibatch
        self.flip = False  # mirrors half of them

    def check_run(self, trainer: Any, data: ImageData) -> None:
        super().check_run(trainer, data)
        if self.label_classes != len(data.class_names):
            raise UserError(f"model.label_classes={self.label_classes}: the data have {len(data.class_names)} classes")
        if self.labelled_per_class is not None:
            data.rows_of_each_class(self.labelled_per_class, "model.labelled_per_class")

    def on_fit_start(self) -> None:
        super().on_fit_start()
        data: ImageData = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if self.labelled_per_class is not None:
            rows = data.rows_of_each_class(self.labelled_per_class, "model.labelled_per_class")
            images = data.train.__getitems__(rows.tolist())
            self.labelled = {
                "image": data.scaled(images["image"]).to(self.device),
                "label": images["label"].to(self.device),
            }
            self.flip = data.flip
        if not len(data.held_out):
            say("data.held_out: there are no such images, and so no error_rate among the scores")

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of being real (N,) and of the classes (N, K): D(x) = Z / (Z + exp(l_K+1)), Z = Σ exp l_k."""
        found = self.discriminator(self.view(images)).float()
        return found[:, 0] + found[:, 1:].logsumexp(1), found[:, 1:]

    @torch.no_grad()
    def measure(self, data: ImageData, how: Measuring = AS_USUAL) -> dict[str, Any]:
        """The share of held-out images that the discriminator puts in a wrong class; it is in eval mode for that."""
        training, wrong = self.discriminator.training, 0
        self.eval()
        for first in range(0, len(data.held_out), BLOCK):
            block = data.held_out.__getitems__(range(first, min(first + BLOCK, len(data.held_out))))
            found = self.outputs(data.scaled(block["image"].to(self.device)))[1].argmax(1)
            wrong += int((found.cpu() != block["label"]).sum())
        self.train(training)
        return {"error_rate": Value(wrong / len(data.held_out))}

    def judge(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.outputs(images)[0]

    def with_labels(self, batch: Batch, of_real: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) of images whose labels are used, and these (N,); `of_real`: the logits of the minibatch."""
        if not self.labelled:
            return of_real, batch["label"]
        count, choices = len(self.labelled["label"]), 2 if self.flip else 1
        drawn = self.draw(
            "labelled", len(of_real), lambda n, stream: torch.randint(choices * count, (n,), generator=stream)
        )
        index, mirrored = drawn % count, drawn >= count
        images = self.labelled["image"][index]
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images) if self.flip else images
        return self.outputs(images)[1], self.labelled["label"][index]

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """L_supervised + L_unsupervised, the second as half of the GAN's loss, as in the published code."""
        (on_real, of_real), (on_fake, _) = self.outputs(batch["image"]), self.outputs(fakes)
        losses = self.scored(on_real, on_fake)
        of_labelled, labels = self.with_labels(batch, of_real)
        supervised = cross_entropy(of_labelled, labels)
        right = (of_labelled.argmax(1) == labels).float().mean()
        return losses | {
            "loss": losses["loss"] / 2 + supervised,
            "loss_unsupervised": losses["loss"],
            "loss_supervised": supervised,
            "accuracy": right,
        }

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        rule = FeatureMatching if self.feature_matching else GAN
        return rule.generator_loss(self, batch, fakes)
