"""Paths as a user types them."""

import os
from pathlib import Path


def expand(path: str | Path) -> Path:
    """`~` and `~/…` begin in the home folder; everything else stays as typed, `~x` too."""
    text = str(path)
    return Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(text)


def cache_folder() -> Path:
    """Where things are kept that can be made again. Raises RuntimeError where there is no home folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "gan_lightning"
