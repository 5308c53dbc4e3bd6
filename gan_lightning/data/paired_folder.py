"""Pairs of images: side by side in one file, as pix2pix's data sets are, or in two folders, matched by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gan_lightning.data.base import say
from gan_lightning.data.cache import fingerprint
from gan_lightning.data.decoding import Decoder, Unreadable, Zipped, open_image
from gan_lightning.data.jittered_folder import JitteredFolder
from gan_lightning.data.sets import ImageSet
from gan_lightning.data.sources import Folder
from gan_lightning.data.translation import Pairs, Translation, partners
from gan_lightning.errors import UserError
from gan_lightning.paths import expand


@dataclass(frozen=True)
class PairDecoder(Decoder):
    """Turns a file, and its partner, into one image: the channels of what is made, then those of what is given.

    `channels` counts both. Without partners a file holds both halves side by side, A on the left.
    """

    input_channels: int
    b_is_given: bool
    stamp: str  # what changes when a partner does
    partners: Mapping[Path, Path] = field(repr=False)

    def pixels(self, path: Path | Zipped) -> NDArray[np.uint8]:
        assert isinstance(path, Path)
        first = open_image(path)
        if self.partners:
            second = open_image(self.partners[path])
            if first.size != second.size:
                (width, height), (other_width, other_height) = first.size, second.size
                raise Unreadable(
                    f"{width}×{height}, and its partner {self.partners[path]} is {other_width}×{other_height}"
                )
        else:
            width, height = first.size
            if width % 2:
                raise Unreadable(f"{width} pixels wide: an odd number, which has no two halves")
            both = first
            first, second = both.crop((0, 0, width // 2, height)), both.crop((width // 2, 0, width, height))
        given, made = (second, first) if self.b_is_given else (first, second)
        return np.concatenate(
            [self.planes(made, self.channels - self.input_channels), self.planes(given, self.input_channels)]
        )


class PairedFolder(Translation, JitteredFolder):
    """Pairs of a folder of side-by-side images, or of two folders whose files have the same names but for the suffix.

    A is the left half, or what lies in `root_a`; B is the right half, or what lies in `root_b`.

    Args:
        root: of side-by-side images; or else
        root_a, root_b: of the two domains.
        direction: AtoB gives the generator A and wants B. CMP Facades have the photograph on the left and the labels on
            the right: BtoA makes photographs.
        input_channels: of what is given.
        jitter: of both together; so are flips.
    """

    def __init__(
        self,
        root: Path | None = None,
        root_a: Path | None = None,
        root_b: Path | None = None,
        direction: Literal["AtoB", "BtoA"] = "AtoB",
        input_channels: Literal[1, 3] = 3,
        domains: Sequence[str] = ("input", "image"),  # given, made
        **folder: Any,
    ) -> None:
        first, second = one_or_two(root, root_a, root_b)
        self.key = "data.root" if second is None else "data.root_a"
        super().__init__(root=first, domains=domains, **folder)
        self.root_b = None if second is None else expand(second)
        self.direction = direction
        self.input_channels = input_channels

    def check(self) -> None:
        super().check()
        folders = {name.partition("/")[0] for name in self.names()}
        if self.root_b is None and {"trainA", "trainB"} <= folders:
            raise UserError(
                f"data.root={self.root}: has images of two domains in trainA and trainB, not pairs side by side: use "
                "data=unpaired_folders; or data.root_a and data.root_b, where files of one name are pairs"
            )
        if self.root_b is not None:
            Folder(self.root_b, "data.root_b").check()
            self.partners(self.root_b)

    def partners(self, other: Path) -> Mapping[str, str]:
        """The file in the other folder for each in the first. Raises UserError where there is none."""
        others = Folder(other, "data.root_b").names()
        return partners(self.folder.names(), others, f"data.root_a={self.root}", f"data.root_b={other}")

    def decoder_of(self, size: int) -> PairDecoder:
        found, stamp = {}, ""
        if self.root_b is not None:
            matched = self.partners(self.root_b)
            found = {self.root / name: self.root_b / other for name, other in matched.items()}
            stamp = fingerprint(self.root_b, list(matched.values()), "partners")
        both, given, swapped = self.channels + self.input_channels, self.input_channels, self.direction == "BtoA"
        return PairDecoder(size, both, self.decoder.fit, self.decoder.resample, given, swapped, stamp, found)

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        if self.root_b is not None and (line := Folder(self.root_b, "data.root_b").links()):
            say(line)
        train, held_out, classes = super().load()
        return Pairs(train, self.channels), Pairs(held_out, self.channels), classes


def one_or_two(root: Path | None, root_a: Path | None, root_b: Path | None) -> tuple[Path, Path | None]:
    """The folders that a user names. Raises UserError where that is neither one nor two."""
    if root is not None and root_a is None and root_b is None:
        return root, None
    if root is None and root_a is not None and root_b is not None:
        return root_a, root_b
    raise UserError("data.root: must be given, one folder; or else both data.root_a and data.root_b")
