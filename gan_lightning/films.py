"""Films of images: GIF by Pillow, MP4 (H.264) by PyAV."""

import importlib.util
import math
from fractions import Fraction
from pathlib import Path
from typing import Literal

from torch import Tensor
from torch.nn import functional

from gan_lightning.data.pixels import grid, to_picture
from gan_lightning.errors import UserError

Video = Literal["gif", "mp4"]
RATES: dict[Video, float] = {"gif": 12.5, "mp4": 24}  # frames a second
LEGIBLE = 256  # pixels of the shorter side of an MP4, at least


def check_video(video: Video | None) -> None:
    """Raises UserError where the library that writes it is missing."""
    if video == "mp4" and importlib.util.find_spec("av") is None:
        raise UserError('video=mp4: needs PyAV: pip install av, or pip install -e ".[video]"; video=gif needs nothing')


def save_film(frames: Tensor, path: Path, columns: int = 1) -> None:
    """Writes images (F, N, C, H, W) in [-1, 1] as a film that shows the N of a frame together; GIFs go round.

    path: its suffix, .gif or .mp4, says how.
    """
    pictures = [grid(images, columns) for images in frames]  # uint8 (3, h, w)
    if path.suffix == ".gif":
        shown = [to_picture(picture) for picture in pictures]
        shown[0].save(path, save_all=True, append_images=shown[1:], duration=round(1000 / RATES["gif"]), loop=0)
    else:
        save_mp4(pictures, path)


def save_mp4(pictures: list[Tensor], path: Path) -> None:
    """Pictures uint8 (3, h, w) as H.264, which every browser plays; sides are made even with white.

    Small ones are shown several times as large: the colours of such films have half of their pixels.
    """
    import av

    times = math.ceil(LEGIBLE / min(pictures[0].shape[1:]))
    pictures = [picture.repeat_interleave(times, 1).repeat_interleave(times, 2) for picture in pictures]
    height, width = pictures[0].shape[1:]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(RATES["mp4"]), options={"crf": "16"})
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        for picture in pictures:
            even = functional.pad(picture, (0, width % 2, 0, height % 2), value=255)
            frame = av.VideoFrame.from_ndarray(even.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
