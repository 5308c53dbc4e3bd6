"""Shared by all tests: a cache of their own; one torch thread (toy fits are 10 to 100 times slower with more)."""

import os
import tempfile

os.environ["XDG_CACHE_HOME"] = os.path.join(tempfile.gettempdir(), f"gan_lightning-tests-{os.getuid()}")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

import torch

torch.set_num_threads(1)
