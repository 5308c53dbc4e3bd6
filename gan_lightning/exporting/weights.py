"""format=safetensors: the generator's weights and the configuration that builds it; every command reads the folder."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from gan_lightning.checkpoint import WEIGHTS, check_format
from gan_lightning.contents import check_contents
from gan_lightning.errors import UserError

FILE, CONFIG = WEIGHTS.name, "config.json"
FORMAT, VERSION = "gan_lightning generator", 1  # the version of what config.json says; the first files had none
LARGEST = 2**26  # bytes of a config.json; vocabularies are a part of it


def write(folder: Path, network: nn.Module, about: dict[str, Any]) -> None:
    """<folder>/generator.safetensors and config.json.

    network: what samples are drawn from; about: what `described` gave.
    """
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.state_dict().items()}
    content = save(state, metadata={"format": "pt"})
    (folder / FILE).write_bytes(content)  # save_file's errors are no OSError
    about = {"format_version": VERSION, "sha256": hashlib.sha256(content).hexdigest(), **about}
    text = json.dumps({"format": FORMAT, **about}, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def described(module: Any, config: dict[str, Any], version: str, ema: bool) -> dict[str, Any]:
    """What config.json says: how the module is built, without a moving average, and where its training ended.

    The discriminator is not there, so that its steps are none.
    """
    counters = {**asdict(module.counters), "discriminator_steps": 0, "critic_steps": 0}
    own = {**without_paths(config), "checkpoint": None, "weights": None}
    own["model"] = {**own["model"], "ema": None}
    return {
        "version": version,
        "weights": "ema" if ema and module.ema is not None else "raw",
        "counters": counters,
        "class_names": module.class_names,
        "data": module.data_facts,
        "config": own,
    }


def without_paths(value: Any) -> Any:
    """A configuration whose absolute paths are their last names: where files lay is nobody's business."""
    if isinstance(value, Mapping):
        return {key: without_paths(child) for key, child in value.items()}
    if isinstance(value, list):
        return [without_paths(child) for child in value]
    if isinstance(value, str) and (PurePath(value).is_absolute() or value.startswith("~")):
        return PurePath(value).name or "data"
    return value


def read(path: Path) -> dict[str, Any]:
    """The same form as a checkpoint's, of an exported folder's weights file; its average is the generator itself.

    Raises UserError for files that cannot be used.
    """
    about = read_config(path.with_name(CONFIG))
    digest = about.pop("sha256")
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        state = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"checkpoint={path}: cannot be read: {reason[:150]}") from None
    if digest is not None and found != digest:  # older versions wrote none
        raise UserError(f"checkpoint={path}: cannot be read: its checksum is not the one in {CONFIG}")
    own = {f"{place}.{name}": tensor for place in ("generator", "ema.generator") for name, tensor in state.items()}
    return {"state_dict": own, "alone": True, **about}


def read_config(path: Path) -> dict[str, Any]:
    """What config.json holds, of the right types. Raises UserError otherwise; the configuration is not checked here."""
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"checkpoint={path}: is larger than a configuration can be")
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"checkpoint={path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, brackets without end
        raise UserError(f"checkpoint={path}: is no JSON: {str(error)[:100]}") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT or not isinstance(about.get("config"), dict):
        raise UserError(f"checkpoint={path}: not the configuration of an exported generator")
    if "model" not in about["config"]:
        raise UserError(f"checkpoint={path}: its config has no model")
    check_contents(path, about)
    if about.get("weights") not in ("ema", "raw"):
        raise UserError(f"checkpoint={path}: weights must be ema or raw")
    check_format(path, about.get("format_version", 0), VERSION)
    absent = {"sha256": None, "class_names": [], "data": {}, "counters": {}}
    kept = {key: about.get(key, nothing) for key, nothing in absent.items()}
    return {**kept, "config": about["config"], "weights": about["weights"]}


def fill(module: Any, checkpoint: dict[str, Any], given: Path, key: str = "checkpoint") -> dict[str, Tensor]:
    """The module's state with the weights of a file that holds a generator alone; the rest stays as it was built.

    Raises UserError where they are of other networks.
    """
    wanted, stored = module.state_dict(), checkpoint["state_dict"]
    for name in sorted({name for name in (*wanted, *stored) if name.startswith("generator.")}):
        if name not in wanted or name not in stored or stored[name].shape != wanted[name].shape:
            here, there = (tuple(of[name].shape) if name in of else "nothing" for of in (wanted, stored))
            raise UserError(f"{key}={given}: its weights do not fit its networks: {name} is {there}, not {here}")
        if stored[name].is_floating_point() and not bool(torch.isfinite(stored[name]).all()):
            raise UserError(f"{key}={given}: {name} has numbers that are not finite")
    if key == "checkpoint" and checkpoint["counters"].get("phase", 0) >= len(module.phases):
        raise UserError(f"{key}={given}: counters: phase={checkpoint['counters']['phase']}: there is none such")
    return {name: stored.get(name, tensor) for name, tensor in wanted.items()}
