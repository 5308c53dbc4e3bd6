"""What image-to-image rules share: the generator is given an image, which takes the place of the latents."""

from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from gan_lightning.adversarial import Batch, Latents
from gan_lightning.data.base import ImageData
from gan_lightning.data.sets import ImageSet
from gan_lightning.data.translation import Translation
from gan_lightning.draws import stream_seed
from gan_lightning.errors import UserError
from gan_lightning.metrics.own import AS_USUAL, Measuring
from gan_lightning.metrics.paired import Pair, PairedName, paired
from gan_lightning.models.gan import GAN
from gan_lightning.sampling import BLOCK, render, sampler
from gan_lightning.types import PositiveInt

Direction = Literal["a2b", "b2a"]


class Translator(GAN):
    """A generator of images of images: "input" (N, input_channels, input_size, input_size) of every minibatch.

    Args:
        input_channels, input_size: of the images that are translated, without a mask.

    Samples are made of the held-out images, or of the training images where none are held out, in their order and
    again from the first one on.
    """

    own_metrics = ("l1", "psnr", "ssim")
    used_by = "translate checkpoint={} input=<an image or a folder>"
    kinds: tuple[str, ...] = ("pairs",)  # of data that it can be trained on (data/translation.py)
    fresh_statistics = False  # samples and scores are of what `translate` does
    takes_masks = False  # the last of the input channels is a mask, 1 in the hole

    def __init__(self, input_channels: PositiveInt, input_size: PositiveInt, **base: Any) -> None:
        if classes := base.get("classes"):
            raise ValueError(f"classes={classes}: a translator is told no labels; use classes=0")
        step = base["step"]
        if step.generator_batch > 1:
            raise ValueError(f"step.generator_batch={step.generator_batch}: a translator has one output for an input")
        super().__init__(**base)
        if "color" in self.augment.policy:
            raise ValueError("augment=[color]: input and output together have no colours to change")
        if self.augment.ada:
            raise ValueError(f"ada.pipeline={self.augment.ada.pipeline}: is for images alone, not beside their input")
        self.input_shape = input_channels + self.takes_masks, input_size, input_size
        self.source: tuple[ImageData, ImageSet] | None = None

    # ---- what a rule may change -------------------------------------------------------------------------------------

    def given(self, batch: Batch) -> Latents:
        """What the generator is given of a minibatch."""
        return batch["input"]

    def translating(self, ema: bool = True, direction: Direction = "a2b") -> nn.Module:
        """The network that translates, in eval mode: the moving average, where there is one and `ema` asks for it.

        Raises UserError for a direction that it was not trained for.
        """
        if direction == "b2a":
            raise UserError("direction=b2a: this model translates one way; train another with data.direction=BtoA")
        return (self.ema.generator if ema and self.ema is not None else self.generator).eval()

    def channels_given(self, direction: Direction) -> int:
        """Of what is translated in this direction."""
        return self.input_shape[0]

    def columns(self, images: Tensor, ema: bool = True) -> list[Tensor]:
        """Input, output and, where it is known, the truth."""
        data, source = self.shown_data()
        found = data.on_after_batch_transfer(
            source.__getitems__([index % len(source) for index in range(len(images))]), 0
        )
        truth = [found["image"]] if data.truth else []
        return [self.seen(self.given(found)), images, *truth]

    def seen(self, given: Tensor) -> Tensor:
        """What the generator is given, as people see it."""
        return given

    # ---- the rest ---------------------------------------------------------------------------------------------------

    def show(self, data: ImageData) -> None:
        """Samples are of this data from now on."""
        self.source = data, data.examples if len(data.held_out) else data.train

    def shown_data(self) -> tuple[Translation, ImageSet]:
        """What `show` was given. Raises UserError without it."""
        if self.source is None:
            raise UserError("a translator makes samples of images: use the translate command, or `show` it data")
        return cast(tuple[Translation, ImageSet], self.source)

    def measured(self, data: ImageData) -> tuple[str, ...]:
        return super().measured(data) if getattr(data, "truth", False) else ()

    @torch.no_grad()
    def measure(self, data: ImageData, how: Measuring = AS_USUAL) -> dict[str, Any]:
        """Means over the held-out images and their truth, whole (metrics/paired.py)."""
        network = sampler(self, ema=how.ema)

        def pairs() -> Iterator[Pair]:
            for number, batch in enumerate(data.val_dataloader()):
                seen = data.on_after_batch_transfer({key: value.to(self.device) for key, value in batch.items()}, 0)
                made = render(network, self.given(seen), None, self.device, stream_seed(0, "noise", number))
                yield Pair(batch["image"], data.stored(made).cpu(), batch.get("mask"))

        asked = dict.fromkeys([*self.measured(data), *how.also])
        names: list[Any] = [name for name in asked if name in get_args(PairedName)]  # a rule may have others
        if not names:
            return {}
        return paired(names, pairs(), cast(Translation, data).border if how.border is None else how.border)

    def check_data(self, data: ImageData) -> None:
        kind = getattr(data, "kind", "single images")
        if kind not in self.kinds:
            given = {"small": "small images", "holes": "images with holes", "unpaired": "images without pairs"}
            named = " or ".join(given.get(name, name) for name in self.kinds)
            raise UserError(
                f"data: {type(data).__name__} has {given.get(kind, kind)}, and {type(self).__name__} needs {named}"
            )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.show(self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]

    def draw_latents(self, count: int, stream: torch.Generator, truncation: float | None = None) -> Tensor:
        """Grey inputs (count, C, H, W), to try networks with."""
        return torch.zeros(count, *self.input_shape)

    def evaluation_block(self, seed: int, block: int, truncation: float | None = None) -> Latents:
        if truncation is not None:
            raise UserError(f"truncation={truncation}: a translator has no latents to cut")
        data, images = self.shown_data()
        indices = [index % len(images) for index in range(block * BLOCK, (block + 1) * BLOCK)]
        return self.given(data.on_after_batch_transfer(images.__getitems__(indices), 0))

    def prepare(self, batch: Batch, count: int, purpose: str) -> tuple[Batch, Latents]:
        given = self.given(batch)
        return {**batch, "latents": given}, given
