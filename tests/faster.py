"""What tests need not do again and again, in the processes that run them: conftest.py imports this there.

One torch thread (toy fits are 10 to 100 times slower with more). What Hydra read, merged or composed once is not read,
merged or composed again, nor are the digits, and spectral norms compute nothing on the meta device.
"""

import os
import pickle
from collections.abc import Sequence
from dataclasses import astuple
from functools import cache
from typing import Any

import torch
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.default_element import InputDefault, ResultDefault
from omegaconf import DictConfig, OmegaConf

from gan_lightning.config import CONF, composition
from gan_lightning.data import digits

torch.set_num_threads(1)
digits.load_digits = cache(digits.load_digits)  # a compressed text, which each of hundreds of runs would read

COMPOSED: dict[Any, bytes] = {}
run_hydra = composition.run_hydra


def run_hydra_once(command: str, texts: Sequence[str]) -> DictConfig:
    """A copy of what Hydra made of the same texts, with the working directory of today."""
    if composition.CONF != CONF:  # a test's own, which it may change
        return run_hydra(command, texts)
    key = command, *texts
    if key not in COMPOSED:
        COMPOSED[key] = pickle.dumps(run_hydra(command, texts))
    config = pickle.loads(COMPOSED[key])
    config.hydra.runtime.cwd = os.getcwd()
    return config


composition.run_hydra = run_hydra_once


def load_config_once(self: ConfigRepository, config_path: str) -> Any:
    """A file that was parsed before is not parsed again: it takes a third of composing."""
    sources = tuple(source.path for source in self.get_sources())
    if str(CONF) not in sources:
        return load_config(self, config_path)
    key = *sources, config_path
    if key not in READ:
        READ[key] = pickle.dumps(load_config(self, config_path))
    return pickle.loads(READ[key])


READ: dict[Any, bytes] = {}
load_config = ConfigRepository.load_config
ConfigRepository.load_config = load_config_once


def merge_once(self: ConfigLoaderImpl, defaults: list[ResultDefault], repo: Any) -> DictConfig:
    """The same files in the same order are not merged again: values that were typed are applied to the result."""
    sources = tuple(source.path for source in repo.get_sources())
    if str(CONF) not in sources:
        return merge(self, defaults, repo)
    key = sources, tuple(astuple(default) for default in defaults)
    if key not in MERGED:
        MERGED[key] = pickle.dumps(merge(self, defaults, repo))
    return pickle.loads(MERGED[key])


MERGED: dict[Any, bytes] = {}
merge = ConfigLoaderImpl._compose_config_from_defaults_list
ConfigLoaderImpl._compose_config_from_defaults_list = merge_once

interpolation_map = defaults_list._create_interpolation_map


def map_where_needed(overrides: Any, defaults: list[InputDefault], self_added: bool) -> DictConfig:
    """Hydra makes it of every file, a quarter of composing, and reads it where a file's defaults name other choices."""
    needed = any(default.is_interpolation() for default in defaults)
    return interpolation_map(overrides, defaults, self_added) if needed else OmegaConf.create()


defaults_list._create_interpolation_map = map_where_needed
