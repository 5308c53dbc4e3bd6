"""Samples as people see them: files in `samples/`, and the same in TensorBoard."""

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from gan_lightning.data.pixels import to_picture


class Exhibit(Protocol):
    """What a kind of data makes of samples."""

    def save(self, stem: Path) -> None:
        """Writes files of this path, each with a suffix of its own; the folder is there."""
        ...

    def log(self, writer: Any, tag: str, step: int) -> None:
        """Adds them to a SummaryWriter."""
        ...


class PictureExhibit:
    """One picture, uint8 (3, h, w)."""

    def __init__(self, picture: Tensor) -> None:
        self.picture = picture

    def save(self, stem: Path) -> None:
        to_picture(self.picture).save(stem.with_name(f"{stem.name}.png"))

    def log(self, writer: Any, tag: str, step: int) -> None:
        writer.add_image(tag, self.picture, step)


class TextExhibit:
    """Lines of text."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def save(self, stem: Path) -> None:
        text = "".join(f"{line}\n" for line in self.lines)
        stem.with_name(f"{stem.name}.txt").write_text(text, encoding="utf-8")

    def log(self, writer: Any, tag: str, step: int) -> None:
        """As a code block: whatever the text holds is shown as it is."""
        writer.add_text(tag, "".join(f"    {line}\n" for line in self.lines), step)
