"""Paths as a user types them."""

import os
from pathlib import Path

from gan_lightning.errors import UserError

LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, of Linux and nearly all others


def expand(path: str | Path) -> Path:
    """`~` and `~/…` begin in the home folder; everything else stays as typed, `~x` too."""
    text = str(path)
    return Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(text)


def no_path(text: str) -> str:
    """Why no system takes this for a path; "" where it may be one."""
    if not text:
        return "must not be empty"
    if "\0" in text:
        return "must not hold the character NUL"
    longest = max((len(os.fsencode(part)) for part in Path(text).parts), default=0)
    if longest > LONGEST_NAME:
        return f"a name in it has {longest:,} bytes: at most {LONGEST_NAME} are possible"
    if len(os.fsencode(text)) > LONGEST_PATH:
        return f"has {len(os.fsencode(text)):,} bytes: at most {LONGEST_PATH:,} are possible"
    return ""


def refuse_link(path: Path) -> None:
    """Raises UserError where a file that is to be written in a run's folder is a link: the folder may come from
    elsewhere, and the link lead anywhere."""
    if path.is_symlink():
        raise UserError(f"{path}: is a link to {os.readlink(path)}, through which nothing is written; remove it")


def cache_folder() -> Path:
    """Where things are kept that can be made again. Raises RuntimeError where there is no home folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "gan_lightning"
