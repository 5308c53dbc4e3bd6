"""The images below a folder and the classes that they make, without torch: configurations ask for them."""

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def walk(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every visible file below a folder, sorted; links are followed, except to a folder that holds them."""
    above = (*above, os.path.realpath(folder))
    for entry in visible(folder):
        if not entry.is_dir():
            yield Path(entry.path)
        elif os.path.realpath(entry.path) not in above:
            yield from walk(Path(entry.path), above)


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name."""
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return sorted(entries, key=lambda entry: entry.name)


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def class_folders(root: Path) -> list[str]:
    """The first-level folders that hold images, where there are two or more and no image lies beside them; else none.

    Raises OSError where a folder cannot be listed.
    """
    above = os.path.realpath(root)
    names: list[str] = []
    for entry in visible(root):
        if not entry.is_dir():
            if is_image(Path(entry.path)):
                return []
        elif os.path.realpath(entry.path) != above and any(map(is_image, walk(Path(entry.path), (above,)))):
            names.append(entry.name)
    return names if len(names) > 1 else []
