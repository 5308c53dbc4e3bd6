"""Runs of tiny models that were never trained."""

from pathlib import Path
from typing import Any

import torch

from gan_lightning.compression.results import store_run
from gan_lightning.config import instantiate
from tests.matrix import Case, plain, settings_of


def settings_like(rule: str) -> dict[str, Any]:
    return settings_of(Case(rule, "32-true", 1, True, "none", False, 1), plain(rule), 8)


def store(rule: str, folder: Path, settings: dict[str, Any] | None = None) -> Path:
    """A run of a tiny model of random weights that all matter; its average has others."""
    settings = settings or settings_like(rule)
    torch.manual_seed(0)
    module = instantiate(settings["model"])
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    data = instantiate(settings["data"])
    module.data_facts = data.facts()
    module.class_names = [f"class {number}" for number in range(module.classes)]
    module.counters.images, module.counters.generator_steps = 640, 80
    module.counters.discriminator_steps = 80
    store_run(folder, settings, module, module)
    return folder
