"""How a run ended: what its folder and its checkpoint say of that, and what they are to say."""

from pathlib import Path
from typing import Any

from gan_lightning import status
from gan_lightning.budget import Budget
from gan_lightning.callbacks.alarms import Alarms
from gan_lightning.callbacks.checkpoints import saves_of
from gan_lightning.config.containers import pick
from gan_lightning.divergence import Diverged
from gan_lightning.errors import UserError
from gan_lightning.faults import Fault


def unfinished(folder: Path) -> bool:
    """Whether the run in `folder` never came to its end, as far as it said: killed, interrupted or failed in it."""
    before = status.read(folder)
    return before is not None and before.state not in ("finished", "stopped", "pruned")


def stopped_by(stored: dict[str, Any], settings: dict[str, Any]) -> str | None:
    """The setting that ended a run which was killed in its end, if it is as it was then: no budget would end it.

    A checkpoint that is named by itself, such as best.ckpt, is to be gone on from.
    """
    saves = saves_of(stored)
    key = None if saves.get("ended") else saves.get("stopped")
    return key if isinstance(key, str) and pick(stored["config"], key) == pick(settings, key) else None


def state_of(error: BaseException) -> tuple[status.State, str]:
    """How a run ended that an error ended, and in a line why."""
    reason = f"{type(error).__name__}: {error}".partition("\n")[0].removesuffix(": ")
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "SIGINT"
    if isinstance(error, Diverged):
        return "diverged", str(error)
    return "failed", str(error) if isinstance(error, Fault | UserError) else reason


def ending(budget: Budget, alarms: Alarms) -> tuple[status.State, str | None]:
    """How a run ended that no error ended."""
    if budget.signal:
        return "interrupted", budget.signal.name
    if alarms.stopped:
        return "stopped", alarms.raised[-1]
    return ("pruned", "given up by the sweep") if budget.given_up else ("finished", None)
