"""Shared by all tests: one torch thread (toy fits are 10 to 100 times slower with the default number)."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

import torch

torch.set_num_threads(1)
