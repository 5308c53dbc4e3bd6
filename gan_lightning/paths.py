"""Paths as a user types them."""

from pathlib import Path


def expand(path: str | Path) -> Path:
    """`~` and `~/…` begin in the home folder; everything else stays as typed, `~x` too."""
    text = str(path)
    return Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(text)
