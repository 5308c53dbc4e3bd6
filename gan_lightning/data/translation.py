"""What data for image-to-image models shares: an "input" or a "mask" beside each "image", and what is drawn for both.

A minibatch of it has "image", what shall come out (the truth where there is one, else any image of that domain), with
"input", what the generator is given; or, where holes are filled, "mask", and the model makes the input of both.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor

from gan_lightning.data.base import ImageData
from gan_lightning.data.sets import ImageSet, Indexed, View
from gan_lightning.draws import generator
from gan_lightning.errors import UserError

LISTED = 10  # names shown in an error


class Translation(ImageData):
    """Images that are made of images.

    Args:
        domains: what an input and an image show, for people.
    """

    truth = True  # a held-out image is what its input should become; else both were drawn by themselves
    kind = "pairs"  # or "unpaired", "small" (what is given has fewer pixels), "holes"
    border = 0  # pixels at each side that scores of pairs leave out

    def __init__(self, domains: Sequence[str] = ("input", "image"), **base: Any) -> None:
        super().__init__(**base)
        if len(domains) != 2:
            raise ValueError(f"domains={list(domains)}: must be two names, of what goes in and of what comes out")
        self.domains = domains[0], domains[1]
        self.input_channels: int = self.channels
        self.input_size = self.image_size

    @property
    def score_samples(self) -> int:
        """One of each image that samples are of: again and again they would be alike."""
        return len(self.examples) or len(self.train)

    @property
    def values(self) -> int:
        return super().values + self.input_channels * self.input_size**2

    def description(self) -> str:
        given, made = self.domains
        of = f" of {len(self.reference):,}" if self.train is not self.reference else ""
        return (
            f"{len(self.train):,}{of} × {given} {self.input_channels}×{self.input_size}×{self.input_size} "
            f"→ {made} {self.channels}×{self.image_size}×{self.image_size}"
        )


class Pairs(View):
    """Images and their inputs, stored as one image: its first channels are the image, the others its input.

    Whatever is drawn for that one, a crop or a flip, is the same for both.
    """

    def __init__(self, source: ImageSet, channels: int) -> None:
        super().__init__(source)
        self.channels = channels

    def take(self, index: Tensor) -> dict[str, Tensor]:
        batch = self.source.take(index)
        stacked = batch["image"]  # (n, C + C', H, W)
        return batch | {"image": stacked[:, : self.channels], "input": stacked[:, self.channels :]}


class Cropped(View):
    """Squares of larger images: a random one of each in every epoch, otherwise the centred one.

    Args:
        source: images (N, C, S, S).
        size: the square's side.
        purpose: names the stream that places are drawn from: two domains have two.
    """

    def __init__(self, source: ImageSet, size: int, purpose: str = "jitter") -> None:
        super().__init__(source)
        self.size, self.purpose = size, purpose
        self.places: Tensor | None = None  # (N, 2) in [0, 1)

    def of_epoch(self, seed: int, epoch: int) -> "Cropped":
        view = self.over(self.source.of_epoch(seed, epoch))
        places = torch.rand(len(self), 2, generator=generator(seed, self.purpose, epoch))
        view.places = places.to(self.labels.device)
        return view

    def take(self, index: Tensor) -> dict[str, Tensor]:
        batch = self.source.take(index)
        images = batch["image"]
        spare = images.shape[-1] - self.size
        if self.places is None:
            return batch | {"image": images[..., spare // 2 :, spare // 2 :][..., : self.size, : self.size]}
        corners = (self.places.index_select(0, index) * (spare + 1)).long().clamp_(max=spare)  # (n, 2)
        lines = corners[:, :, None] + torch.arange(self.size, device=corners.device)  # (n, 2, size)
        numbers = torch.arange(len(images), device=corners.device)[:, None, None, None]
        planes = torch.arange(images.shape[1], device=corners.device)[None, :, None, None]
        return batch | {"image": images[numbers, planes, lines[:, 0, None, :, None], lines[:, 1, None, None, :]]}


class Unpaired(Indexed):
    """Images of two domains that have nothing to do with each other: one of each, as many times as the larger has.

    The larger domain is gone through; the other one is drawn in an order of its own, through all of it before an image
    comes again. Labels are all 0.

    Args:
        images, inputs: the domain that is made and the one that is given.
        flip: half of the inputs are mirrored, by themselves.
    """

    def __init__(self, images: ImageSet, inputs: ImageSet, flip: bool = False) -> None:
        self.images, self.inputs, self.flip = images, inputs, flip
        count = max(len(images), len(inputs))
        self.labels = images.labels.new_zeros(count)
        self.rows = [torch.arange(count, device=self.labels.device) % len(part) for part in (images, inputs)]
        self.flips: Tensor | None = None

    @property
    def in_memory(self) -> bool:
        return self.images.in_memory and self.inputs.in_memory

    @property
    def nbytes(self) -> int:
        assert isinstance(self.images, Indexed)
        assert isinstance(self.inputs, Indexed)
        return self.images.nbytes + self.inputs.nbytes

    def to(self, device: torch.device) -> "Unpaired":
        assert isinstance(self.images, Indexed)
        assert isinstance(self.inputs, Indexed)
        return Unpaired(self.images.to(device), self.inputs.to(device), self.flip)

    def subset(self, rows: Tensor) -> "Unpaired":
        """Of the smaller domain, those of the rows that it has. Raises UserError where it has none of them."""
        parts = []
        for part in (self.images, self.inputs):
            own = rows[rows < len(part)]
            if not len(own):
                raise UserError(f"data.subset: leaves no image of a domain of {len(part)}")
            parts.append(part.subset(own))
        return Unpaired(parts[0], parts[1], self.flip)

    def of_epoch(self, seed: int, epoch: int) -> "Unpaired":
        view = Unpaired(self.images.of_epoch(seed, epoch), self.inputs.of_epoch(seed, epoch), self.flip)
        smaller = int(len(self.inputs) <= len(self.images))
        few, count = min(len(self.images), len(self.inputs)), len(self)
        stream = generator(seed, "partners", epoch)
        order = torch.cat([torch.randperm(few, generator=stream) for _ in range(-(-count // few))])[:count]
        view.rows[smaller] = order.to(self.labels.device)
        if self.flip:
            flips = torch.randint(2, (count,), generator=generator(seed, "input flip", epoch)).bool()
            view.flips = flips.to(self.labels.device)
        return view

    def take(self, index: Tensor) -> dict[str, Tensor]:
        image, given = (
            part.take(rows.index_select(0, index))["image"]
            for part, rows in zip((self.images, self.inputs), self.rows, strict=True)
        )
        if self.flips is not None:
            given = torch.where(self.flips.index_select(0, index)[:, None, None, None], given.flip(-1), given)
        return {"image": image, "input": given, "label": self.labels.index_select(0, index)}


def listed(names: Sequence[str]) -> str:
    """The first of them, each in a line."""
    rest = f"\n  and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return "".join(f"\n  {name}" for name in names[:LISTED]) + rest


def partners(names: Sequence[str], others: Sequence[str], key: str, other_key: str) -> Mapping[str, str]:
    """For each name the other one that is the same but for its suffix. Raises UserError that lists all without one."""
    matched = []
    for some, of in ((names, key), (others, other_key)):
        by_stem = {str(PurePosixPath(name).with_suffix("")): name for name in some}
        if len(by_stem) < len(some):
            twice = sorted(set(some) - set(by_stem.values()))
            raise UserError(f"{of}: two files differ in nothing but their suffix:{listed(twice)}")
        matched.append(by_stem)
    own, other = matched
    lonely = [f"{own[stem]} is not in {other_key}" for stem in sorted(own.keys() - other.keys())]
    lonely += [f"{other[stem]} is not in {key}" for stem in sorted(other.keys() - own.keys())]
    if lonely:
        raise UserError(f"{key}: {len(lonely)} file(s) without a partner (suffixes may differ):{listed(lonely)}")
    return {own[stem]: other[stem] for stem in own}
