"""Samples as people see them: files in `samples/`, and the same in the loggers."""

from pathlib import Path
from typing import Protocol

from torch import Tensor

from gan_lightning.data.pixels import to_picture


class Writer(Protocol):
    """What exhibits are written with; TensorBoard's SummaryWriter is one."""

    def add_image(self, tag: str, img_tensor: Tensor, global_step: int) -> None:
        """uint8 (3, h, w)."""
        ...

    def add_text(self, tag: str, text_string: str, global_step: int) -> None:
        """Markdown."""
        ...

    def add_audio(self, tag: str, snd_tensor: Tensor, global_step: int, sample_rate: int) -> None:
        """(1, T) in [-1, 1], so many samples a second."""
        ...


class Exhibit(Protocol):
    """What a kind of data makes of samples."""

    def save(self, stem: Path) -> None:
        """Writes files of this path, each with a suffix of its own; the folder is there."""
        ...

    def log(self, writer: Writer, tag: str, step: int) -> None:
        """Adds them under this tag, or tags below it."""
        ...


class PictureExhibit:
    """One picture, uint8 (3, h, w)."""

    def __init__(self, picture: Tensor) -> None:
        self.picture = picture

    def save(self, stem: Path) -> None:
        to_picture(self.picture).save(stem.with_name(f"{stem.name}.png"))

    def log(self, writer: Writer, tag: str, step: int) -> None:
        writer.add_image(tag, self.picture, step)


class TextExhibit:
    """Lines of text."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def save(self, stem: Path) -> None:
        text = "".join(f"{line}\n" for line in self.lines)
        stem.with_name(f"{stem.name}.txt").write_text(text, encoding="utf-8")

    def log(self, writer: Writer, tag: str, step: int) -> None:
        """As a code block: whatever the text holds is shown as it is."""
        writer.add_text(tag, "".join(f"    {line}\n" for line in self.lines), step)
