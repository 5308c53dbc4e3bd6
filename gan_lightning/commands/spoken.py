"""What `translate` does with sounds: their spectrograms go through a network, in windows that overlap."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gan_lightning.config import instantiate
from gan_lightning.config.signatures import locate
from gan_lightning.data.decoding import Unreadable
from gan_lightning.data.voices import SpokenPictures, loudest
from gan_lightning.data.wav import read_wav, to_int16, write_wav
from gan_lightning.errors import UserError
from gan_lightning.tiles import Network, tiled


def spoken_data(config: Mapping[str, Any]) -> SpokenPictures | None:
    """What says how sounds become pictures in a run of this configuration; None: its pictures are of other things.

    No recordings are read: they need not be there.
    """
    node = config.get("data", {})
    target = locate(node["_target_"]) if "_target_" in node else None
    if not (isinstance(target, type) and issubclass(target, SpokenPictures)):
        return None
    return instantiate(node)


def read_sound(file: Path, data: SpokenPictures) -> Tensor:
    """A recording of any rate and length: (n,) in [-1, 1] at the data's rate. Raises Unreadable."""
    try:
        return torch.from_numpy(read_wav(file, data.rate))
    except UserError as error:
        raise Unreadable(str(error).removeprefix(f"{file}: ")) from None


def converted(
    network: Network, data: SpokenPictures, sound: Tensor, device: torch.device, multiple: int, smallest: int = 1
) -> Tensor:
    """A recording (n,) in the other voice, (n,), about as loud.

    The network sees what it saw in training: windows of as many moments, half of which neighbours share; a shorter
    recording has silence before and after it.
    """
    peak = loudest(sound.numpy())
    missing = data.samples - len(sound)
    before, after = (missing // 2, missing - missing // 2) if missing > 0 else (0, -len(sound) % data.scale.hop)
    pictures = data.pictures_of(functional.pad(sound / peak, (before, after))[None]).to(device)
    size = data.image_size
    made = tiled(network, pictures, multiple=multiple, tile=size, overlap=size // 2, smallest=smallest)
    return data.sounds_of(made)[0, before : before + len(sound)] * peak


def save_sound(sound: Tensor, path: Path, rate: int) -> None:
    """Samples (n,) in [-1, 1] as a wav file."""
    write_wav(path, to_int16(sound.numpy()), rate)
