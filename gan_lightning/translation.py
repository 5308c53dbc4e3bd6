"""What image-to-image rules share: the generator is given an image, which takes the place of the latents."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.adversarial import Batch, Latents
from gan_lightning.data.base import ImageData
from gan_lightning.data.sets import ImageSet
from gan_lightning.errors import UserError
from gan_lightning.metrics.paired import paired
from gan_lightning.models.gan import GAN
from gan_lightning.sampling import BLOCK, render, sampler
from gan_lightning.types import PositiveInt


class Translator(GAN):
    """A generator of images of images: "input" (N, input_channels, input_size, input_size) of every minibatch.

    Args:
        input_channels, input_size: of the images that are translated.

    Samples are made of the held-out images, or of the training images where none are held out, in their order and
    again from the first one on.
    """

    own_metrics = ("l1", "psnr", "ssim")
    used_by = "translate checkpoint={} input=<an image or a folder>"

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
        self.input_shape = input_channels, input_size, input_size
        self.source: tuple[ImageData, ImageSet] | None = None

    def show(self, data: ImageData) -> None:
        """Samples are of this data from now on."""
        self.source = data, data.held_out if len(data.held_out) else data.train

    def translating(self, ema: bool = True) -> nn.Module:
        """The network that translates, in eval mode: the moving average, where there is one and `ema` asks for it."""
        return (self.ema.generator if ema and self.ema is not None else self.generator).eval()

    @torch.no_grad()
    def measure(self, data: ImageData, ema: bool = True) -> dict[str, Any]:
        """Means over the held-out pairs, pixel by pixel in 0 … 255: L1 in [0, 1], PSNR and SSIM (metrics/paired.py)."""
        network = sampler(self, ema=ema)

        def pairs() -> Iterator[tuple[Tensor, Tensor]]:
            for first in range(0, len(data.held_out), BLOCK):
                indices = range(first, min(first + BLOCK, len(data.held_out)))
                made = render(network, self.inputs(data, data.held_out, indices).to(self.device), None, self.device)
                yield data.held_out.__getitems__(indices)["image"], data.stored(made).cpu()

        found = paired(["l1", "psnr", "ssim"], pairs())
        return {name: value for values in found.values() for name, value in values.items()}

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.show(self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]

    def draw_latents(self, count: int, stream: torch.Generator, truncation: float | None = None) -> Tensor:
        """Grey inputs (count, C, H, W), to try networks with."""
        return torch.zeros(count, *self.input_shape)

    def evaluation_block(self, seed: int, block: int, truncation: float | None = None) -> Latents:
        if truncation is not None:
            raise UserError(f"truncation={truncation}: a translator has no latents to cut")
        if self.source is None:
            raise UserError("a translator makes samples of images: use the translate command, or `show` it data")
        data, images = self.source
        return self.inputs(data, images, [index % len(images) for index in range(block * BLOCK, (block + 1) * BLOCK)])

    def inputs(self, data: ImageData, images: ImageSet, indices: Sequence[int]) -> Latents:
        """What the generator is given of these images."""
        return data.scaled(images.__getitems__(indices)["input"])

    def prepare(self, batch: Batch, count: int, purpose: str) -> tuple[Batch, Latents]:
        return {**batch, "latents": batch["input"]}, batch["input"]
