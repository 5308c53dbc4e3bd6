"""Short error messages: the key, the value, the reason and the closest valid choices."""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from gan_lightning.errors import UserError

LONGEST = 300  # characters of a message
LISTED = 140  # characters of a list of choices

# What users know from elsewhere, and what to write here.
ADVICE: Mapping[str, str] = {
    "trainer.gradient_clip_val": "with two optimizers each player has its own limit: "
    "use step.generator_clip and step.discriminator_clip",
    "trainer.gradient_clip_algorithm": "gradients are clipped by norm: "
    "use step.generator_clip and step.discriminator_clip",
    "trainer.accumulate_grad_batches": "with two optimizers Lightning cannot accumulate: use step.accumulate",
    "trainer.max_steps": "Lightning counts the steps of both players: use budget.generator_steps",
    "trainer.min_steps": "Lightning counts the steps of both players: use budget.generator_steps",
    "trainer.max_time": "use budget.minutes",
    "trainer.min_epochs": "runs end at trainer.max_epochs or at a budget: use trainer.max_epochs",
    "trainer.limit_train_batches": "use budget.generator_steps or budget.images, or trainer=debug for a short try",
    "trainer.limit_val_batches": "use budget.generator_steps or budget.images, or trainer=debug for a short try",
    "trainer.fast_dev_run": "use trainer=debug: three small steps of everything",
    "trainer.overfit_batches": "use trainer=debug, or budget.generator_steps",
    "trainer.callbacks": "callbacks are made from the nodes samples and checkpoints: change those",
    "trainer.logger": "loggers are a group of their own: use logger=… or the keys below logger",
    "trainer.strategy": "the strategy that works for two players is chosen from trainer.devices",
    "trainer.default_root_dir": "the folder of a run is hydra.run.dir",
    "trainer.enable_checkpointing": "checkpoints have a node of their own: use the keys below checkpoints",
    "trainer.val_check_interval": "use trainer.max_epochs and the keys below samples and checkpoints",
    "trainer.plugins": "precision is trainer.precision; other plugins are not for the command line",
    "trainer.gpus": "use trainer.accelerator=gpu trainer.devices=2",
    "trainer.use_distributed_sampler": "the order of the images is drawn from the seed, for any number of devices",
    "trainer.barebones": "for a fast run use trainer.enable_progress_bar=false and a larger step.minibatches",
    "ckpt_path": "use checkpoint=… to continue a run, or weights=… to start from its networks",
    "resume": "use checkpoint=… to continue a run, or weights=… to start from its networks",
    "lr": "each player has its own: use model.generator_optimizer.lr and model.discriminator_optimizer.lr",
    "learning_rate": "each player has its own: use model.generator_optimizer.lr and model.discriminator_optimizer.lr",
    "epochs": "use trainer.max_epochs",
    "max_epochs": "use trainer.max_epochs",
    "output_dir": "the folder of a run is hydra.run.dir",
}


def show(value: Any) -> str:
    """A value as a user would type it, shortened."""
    if isinstance(value, str):
        text = value
    elif value is None or isinstance(value, bool | list | dict):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return text if len(text) <= 80 else text[:77] + "…"


def shorten(text: str) -> str:
    """One paragraph of at most LONGEST characters."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def mistake(key: str, value: Any, reason: str) -> UserError:
    """ "key=value: reason"."""
    return UserError(shorten(f"{key}={show(value)}: {reason}"))


def listed(options: Iterable[str]) -> str:
    """ "a, b, c", cut where it becomes long."""
    names, text = list(options), ""
    for index, name in enumerate(names):
        more = f", {name}" if text else name
        if text and len(text) + len(more) > LISTED:
            return f"{text}, … ({len(names) - index} more)"
        text += more
    return text


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """The closest options, and all of them when they are few: "did you mean dcgan? choices: dcgan, gan"."""
    options = list(options)
    close = difflib.get_close_matches(word, options, n=2)
    parts = [f"did you mean {' or '.join(close)}?"] if close else []
    if len(close) < len(options):
        parts.append(f"choices: {listed(options)}")
    return " ".join(parts)


def unknown_key(
    key: str, value: Any, keys: Iterable[str], siblings: Iterable[str], parent: str | None = None
) -> UserError:
    """For a key that does not exist, among all `keys`; `siblings` are the names in `parent`, where the way ends."""
    if key in ADVICE:
        return mistake(key, value, ADVICE[key])
    if parent is None:
        parent = key.rpartition(".")[0]
    word, _, rest = key.removeprefix(f"{parent}.").partition(".")
    siblings, keys = list(siblings), list(keys)
    here = [f"{parent}.{name}" if parent else name for name in difflib.get_close_matches(word, siblings, n=2)]
    longer = [f"{name}.{rest}" for name in here if f"{name}.{rest}" in keys]
    same_name = [other for other in keys if other.rpartition(".")[2] == key.rpartition(".")[2]]
    near = difflib.get_close_matches(key, keys, n=2, cutoff=0.7)
    found = dict.fromkeys(longer + (here if not rest else []) + same_name + near + here)
    close = [name for name in found if not key.startswith(f"{name}.")][:3]
    if close:
        return mistake(key, value, f"no such key; did you mean {' or '.join(close)}?")
    choices = f"; choices: {listed(siblings)}" if siblings else ""
    return mistake(key, value, f"no such key{f' in {parent}' if parent else ''}{choices}")
