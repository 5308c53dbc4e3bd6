"""Two folders of images without pairs, as CycleGAN's data sets are (Zhu et al. 2017): A is given, B is made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from gan_lightning.data.base import say
from gan_lightning.data.decoding import Fit, Resample
from gan_lightning.data.jittered_folder import Jitter, JitteredFolder
from gan_lightning.data.paired_folder import one_or_two
from gan_lightning.data.sets import ImageSet
from gan_lightning.data.translation import Translation, Unpaired
from gan_lightning.types import Fraction, PositiveFloat


class Domain(JitteredFolder):
    """The images of one domain: all of a folder, or those in its folders train<domain> and test<domain>."""

    def __init__(self, key: str, domain: str, **folder: Any) -> None:
        self.key = key
        super().__init__(**folder)
        self.domain = domain if key == "data.root" else ""
        self.purpose = f"jitter {domain}"


class UnpairedFolders(Translation):
    """Images of domain B as "image" and of domain A as "input", drawn, cropped and mirrored by themselves.

    An epoch shows every image of the larger domain once, and those of the other in an order of their own.

    Args:
        root: holds trainA, trainB, testA and testB (or valA and valB); or else
        root_a, root_b: of the two domains; with folders train and test or val in them, or a share `held_out` is hashed.
        direction: BtoA changes the domains' parts.
        fit, resample, held_out, skip_unreadable, cache, memory_gb: as of a folder of images; of each of the two.
        jitter: training images are decoded so many times as large, and cropped.
        input_channels: of what is given.
    """

    truth = False
    kind = "unpaired"
    mirrored = ("image",)  # `Unpaired` mirrors the inputs

    def __init__(
        self,
        root: Path | None = None,
        root_a: Path | None = None,
        root_b: Path | None = None,
        direction: Literal["AtoB", "BtoA"] = "AtoB",
        fit: Fit = "crop",
        resample: Resample = "lanczos",
        held_out: Fraction = 0.1,
        skip_unreadable: bool = False,
        cache: Literal["auto", "off", False] | Path = "auto",
        memory_gb: PositiveFloat = 4.0,
        jitter: Jitter = 1.0,
        input_channels: Literal[1, 3] = 3,
        domains: Sequence[str] = ("A", "B"),  # given, made
        **base: Any,
    ) -> None:
        super().__init__(domains=domains, **base)
        self.input_channels = input_channels
        first, second = one_or_two(root, root_a, root_b)
        channels = (self.channels, input_channels) if direction == "BtoA" else (input_channels, self.channels)
        self.folders = [
            Domain(
                key="data.root" if second is None else key,
                domain=name,
                root=folder,
                fit=fit,
                resample=resample,
                held_out=held_out,
                skip_unreadable=skip_unreadable,
                cache=cache,
                memory_gb=memory_gb / 2,
                jitter=jitter,
                batch_size=self.batch_size,
                image_size=self.image_size,
                channels=count,
                seed=self.seed,
            )
            for name, key, folder, count in zip(
                "AB", ("data.root_a", "data.root_b"), (first, second or first), channels, strict=True
            )
        ]  # A, B
        self.direction = direction

    def check(self) -> None:
        for folder in self.folders:
            folder.check()

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        (train_a, held_out_a, _), (train_b, held_out_b, _) = (folder.load() for folder in self.folders)
        train, held_out = [train_b, train_a], [held_out_b, held_out_a]  # image, input
        if self.direction == "BtoA":
            train, held_out = train[::-1], held_out[::-1]
        if not all(map(len, held_out)):  # nothing to translate, or nothing to compare with
            if any(map(len, held_out)):
                say("data.root: one of the domains has no held-out images, so those of the other are left out")
            held_out = [part.subset(torch.arange(0)) for part in held_out]
        return Unpaired(train[0], train[1], self.flip), Unpaired(held_out[0], held_out[1]), []
