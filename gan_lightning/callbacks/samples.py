"""What samples are like during training, always of the same latents, and a GIF of pictures at the end."""

import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from gan_lightning.budget import asked_to_end
from gan_lightning.checkpoint import position
from gan_lightning.data.base import Data
from gan_lightning.data.decoding import Unreadable, why_unreadable
from gan_lightning.data.pixels import enlarged, grid, to_float, to_picture
from gan_lightning.data.sets import ImageSet, Indexed
from gan_lightning.exhibits import Exhibit, PictureExhibit
from gan_lightning.loggers import ours
from gan_lightning.metrics.memorisation import nearest_images
from gan_lightning.types import PositiveInt

FOLDER, PART = "samples", ".part"  # where files are until they are whole
PAIRS = 32  # samples beside their nearest training images
SEARCHED = 2**23  # numbers of training images looked at together
NEARBY = 2**30  # bytes of a training set that is searched after every run; `sample nearest=true` searches any


class SampleGrids(Callback):
    """`samples/*.png` and the same in the loggers: the moving average ("ema") and the last weights ("raw").

    Texts are lines in `samples/*.txt`. A grid of real images is written once. Sampling draws nothing from the streams
    of training.

    Args:
        every_images: a grid each time so many more training images were shown, and one at the end.
        count: images a grid.
    """

    def __init__(self, every_images: PositiveInt = 20000, count: PositiveInt = 64) -> None:
        self.every_images = every_images
        self.count = count
        self._grids = -1
        self._drawn_at = -1  # training images at the newest grid
        self._newest = torch.empty(0)

    def state_dict(self) -> dict[str, Any]:
        return {"drawn_at": self._drawn_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._drawn_at = state_dict["drawn_at"]

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        folder = Path(trainer.default_root_dir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._grids = pl_module.counters.images // self.every_images
        begins = pl_module.counters.images == 0  # perhaps again, killed before there was a checkpoint
        if trainer.is_global_zero and (begins or not any(folder.glob("real.*"))):
            data: Data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
            self._show(trainer, data.exhibit(data.real_images(self.count)), "real", "samples/real", 0)
        if begins:
            self.draw(trainer, pl_module)

    def on_minibatch_end(self, trainer: Trainer, module: Any) -> None:
        grids = module.counters.images // self.every_images
        if grids > self._grids:
            self._grids = grids
            self.draw(trainer, module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if asked_to_end(trainer) not in (None, signal.SIGINT):  # a scheduler does not wait for pictures
            return
        if self._drawn_at != pl_module.counters.images:
            self.draw(trainer, pl_module)
        elif not len(self._newest):  # drawn before the run was killed in its end
            pl_module.average_buffers()
            self._newest = pl_module.sample(self.count)
        if trainer.is_global_zero:
            save_film(Path(trainer.default_root_dir) / FOLDER)
            data: Data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
            train = data.train
            if data.pictures and isinstance(train, Indexed) and train.nbytes <= NEARBY:
                nearest = PictureExhibit(beside_nearest(self._newest[:PAIRS], train))
                self._show(trainer, nearest, "nearest", "samples/nearest", pl_module.counters.images)

    def draw(self, trainer: Trainer, module: Any) -> None:
        """A grid of each kind. Every rank draws it, the first writes it: batch norm may talk to the other ranks."""
        module.average_buffers()
        counters = module.counters
        self._drawn_at = counters.images
        for kind in ("ema", "raw") if module.ema is not None else ("raw",):
            images = module.sample(self.count, ema=kind == "ema")
            self._newest = images if kind == "ema" or module.ema is None else self._newest
            if not trainer.is_global_zero:
                continue
            name = f"e{counters.epoch:04d}-s{counters.generator_steps:08d}_{kind}"
            exhibit = trainer.datamodule.exhibit(images, module, kind == "ema")  # type: ignore[attr-defined]  # Lightning sets it
            self._show(trainer, exhibit, name, f"samples/{kind}", counters.images)

    def _show(self, trainer: Trainer, exhibit: Exhibit, name: str, tag: str, step: int) -> None:
        folder = Path(trainer.default_root_dir) / FOLDER
        part = folder / PART
        part.mkdir(exist_ok=True)  # but no parents: a run's folder that was deleted is not made again
        exhibit.save(part / name)
        for file in part.iterdir():
            file.replace(folder / file.name)
        part.rmdir()
        for logger in ours(trainer.loggers):
            logger.show(exhibit, tag, step)


def save_grid(images: Tensor, path: Path, columns: int | None = None) -> None:
    """Writes images (N, C, H, W) in [-1, 1] as one PNG."""
    save(grid(images, columns), path)


def save(picture: Tensor, path: Path) -> None:
    """Writes uint8 (3, h, w) as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    to_picture(picture).save(path)


def beside_nearest(images: Tensor, training: ImageSet) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] beside their nearest training images, framed: uint8 (3, h, w).

    Nearest in pixels; the frame is yellow, as in figure 2 of Goodfellow et al. 2014.
    """
    best = torch.full((len(images),), torch.inf, dtype=torch.double)
    found = torch.empty_like(images, device="cpu")
    size = max(1, SEARCHED // images[0].numel())
    for first in range(0, len(training), size):
        block = to_float(training.__getitems__(range(first, min(first + size, len(training))))["image"])
        index, distance = nearest_images(images.cpu(), block)
        nearer = distance < best
        best[nearer], found[nearer] = distance[nearer], block[index[nearer]]
    pairs = []
    for image, its_nearest in zip(images, found, strict=True):
        left, right = (enlarged(one[None])[0].expand(3, -1, -1) for one in (image, its_nearest))  # (3, h, w)
        pairs.append(torch.cat([framed(left, (255, 255, 255)), framed(right, (255, 210, 0))], -1))
    columns = max(1, round((len(pairs) / 2) ** 0.5))  # pairs are twice as wide as high
    return make_grid(torch.stack(pairs), nrow=columns, padding=4, pad_value=255)


def framed(picture: Tensor, colour: tuple[int, int, int]) -> Tensor:
    """uint8 (3, h, w) -> (3, h + 6, w + 6) with a frame."""
    border = torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).repeat(1, picture.shape[1] + 6, picture.shape[2] + 6)
    border[:, 3:-3, 3:-3] = picture
    return border


def save_film(folder: Path, most: int = 100) -> None:
    """`film.gif` of the grids in `folder`, of the moving average where there is one, at most `most` of them."""
    frames = sorted(folder.glob("e*_ema.png"), key=position) or sorted(folder.glob("e*_raw.png"), key=position)
    if len(frames) < 2:
        return
    chosen = [
        frames[round(i * (len(frames) - 1) / (min(most, len(frames)) - 1))] for i in range(min(most, len(frames)))
    ]
    pictures = []
    for frame in chosen:
        try:
            with why_unreadable(), Image.open(frame, formats=["PNG"]) as picture:
                pictures.append(picture.convert("P", palette=Image.Palette.ADAPTIVE))
        except Unreadable:  # the folder may come from elsewhere
            continue
    if len(pictures) < 2:
        return
    durations = [150] * (len(pictures) - 1) + [1500]
    part = folder / PART / "film.gif"
    part.parent.mkdir(exist_ok=True)
    pictures[0].save(part, save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    part.replace(folder / part.name)
    part.parent.rmdir()
