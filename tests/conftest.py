"""Shared by all tests: a cache of their own; one thread; nothing done again that was done before (faster.py)."""

import gc
import importlib
import os
import tempfile

import pytest

os.environ["XDG_CACHE_HOME"] = os.path.join(tempfile.gettempdir(), f"gan_lightning-tests-{os.getuid()}")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


def pytest_sessionstart(session: pytest.Session) -> None:
    """The process that only hands out tests to others need not wait for torch, nor they for it."""
    hands_out = session.config.getoption("numprocesses", None) and not hasattr(session.config, "workerinput")
    if not hands_out:
        importlib.import_module("tests.faster")
        # in pyproject.toml it would have every process import lightning, before the workers begin
        ignored = "ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"
        session.config.addinivalue_line("filterwarnings", ignored)


def pytest_collection_finish() -> None:
    """All that was imported stays: the garbage collector need not go through it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Or libraries complain at the end that what they gave is still held."""
    gc.unfreeze()
