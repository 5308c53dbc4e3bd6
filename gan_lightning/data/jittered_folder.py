"""A folder of images whose training part is decoded larger, for random crops of it (Isola et al. 2017, section 6.2)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from gan_lightning.data import prepared
from gan_lightning.data.base import say
from gan_lightning.data.decoding import Decoder
from gan_lightning.data.image_folder import ImageFolder, held_out_count
from gan_lightning.data.listing import hashed
from gan_lightning.data.sets import ImageSet, InMemory
from gan_lightning.data.translation import Cropped
from gan_lightning.errors import UserError

Jitter = Annotated[float, Field(ge=1)]
TRAIN, HELD_OUT = "train", ("val", "test")  # folders that part the images, where they are there


def split(names: Sequence[str], root: Path, fraction: float, domain: str = "") -> tuple[list[str], list[str]]:
    """The names to train on and those held out: of the folders train and val, or else test; or a hashed share.

    domain: what ends the folders' names, "A" for trainA and testA; without one no folder needs to be there. Raises
    UserError where it has none.
    """
    folders = {name.partition("/")[0] for name in names if "/" in name}
    ordered = sorted(names, key=hashed, reverse=True)  # by hash: the first ones are of all folders below
    held_out = [folder for part in HELD_OUT if (folder := part + domain) in folders]
    if (train := TRAIN + domain) in folders:
        names = [name for name in ordered if name.startswith(f"{train}/")]
        if held_out:
            unread = held_out[1:] if domain else sorted(folders - {train, held_out[0]})
            if unread:
                say(f"{root}: {train} is trained on, {held_out[0]} held out, {', '.join(unread)} not read")
            return names, [name for name in ordered if name.startswith(f"{held_out[0]}/")]
        ordered = names
    elif domain:
        raise UserError(f"data.root={root}: has no folder {train}; or name two folders, data.root_a and data.root_b")
    train_count = len(ordered) - held_out_count([hashed(name) for name in ordered], fraction)
    return ordered[:train_count], ordered[train_count:]


class JitteredFolder(ImageFolder):
    """Images of a folder: held-out ones of `image_size`, training ones `jitter` times as large, and cropped to it.

    Subfolders train and val, or else test, say what is held out, where they are there; else it is the share `held_out`.

    Args:
        jitter: 1.117 is Isola et al.'s 286 for 256; 1: no crops.
    """

    purpose = "jitter"
    domain = ""

    def __init__(self, jitter: Jitter = 1.0, labels: Literal[False] = False, **folder: Any) -> None:
        super().__init__(labels=labels, **folder)
        self.jitter = jitter

    def check(self) -> None:
        if prepared.is_prepared(self.root):
            raise UserError(f"{self.key}={self.root}: was made by the prepare command, for models of single images")
        super().check()

    def names(self) -> list[str]:
        return self.folder.names()

    def decoder_of(self, size: int) -> Decoder:
        """What makes images (C, size, size) of a file."""
        return Decoder(size, self.channels, self.decoder.fit, self.decoder.resample)

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        self.check()
        parts: list[ImageSet] = []
        if line := self.folder.links():
            say(line)
        sizes = round(self.image_size * self.jitter), self.image_size
        for names, size in zip(split(self.names(), self.root, self.held_out_fraction, self.domain), sizes, strict=True):
            decoder = self.decoder_of(size)
            if names:
                parts.append(self.decoded(names, dict.fromkeys(names, 0), decoder)[1](slice(None)))
            else:
                parts.append(InMemory(torch.zeros(0, decoder.channels, size, size, dtype=torch.uint8)))
        train = parts[0] if sizes[0] == sizes[1] else Cropped(parts[0], self.image_size, self.purpose)
        return train, parts[1], []
