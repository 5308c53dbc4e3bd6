"""Packages that only exports and graphs need."""

import importlib.util
from collections.abc import Sequence

from gan_lightning.errors import UserError


def need(names: Sequence[str], asked: str, extra: str = "export") -> None:
    """Raises UserError, with the setting that asked for them, where a package is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'{asked}: needs {", ".join(missing)}: pip install "gan_lightning[{extra}]"')
