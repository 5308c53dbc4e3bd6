"""Shared by all tests: a cache of their own; one torch thread (toy fits are 10 to 100 times slower with more).

What Hydra read or composed once is not read or composed again, and spectral norms compute nothing on the meta device.
"""

import os
import pickle
import tempfile
from collections.abc import Sequence
from typing import Any

os.environ["XDG_CACHE_HOME"] = os.path.join(tempfile.gettempdir(), f"gan_lightning-tests-{os.getuid()}")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

import torch
from hydra._internal.config_repository import ConfigRepository
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.utils.parametrizations import _SpectralNorm

from gan_lightning.config import CONF, composition

torch.set_num_threads(1)

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

power_method = _SpectralNorm._power_method


def power_method_of_numbers(self: _SpectralNorm, weight_mat: Tensor, n_power_iterations: int) -> None:
    """The meta device has none, and goes through every operation in Python: seconds for a large network."""
    if not weight_mat.is_meta:
        power_method(self, weight_mat, n_power_iterations)


_SpectralNorm._power_method = power_method_of_numbers
