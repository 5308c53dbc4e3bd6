"""What the benchmark ran on, and the fastest that this machine does the work that training is made of."""

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import conv2d


def describe(device: str, threads: int) -> dict[str, Any]:
    """Hardware and versions."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_at_start": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "lightning", "gan_lightning")},
    }


def limits(device: str, threads: int, seconds: float) -> dict[str, float]:
    """FLOP/s of a matrix product and a 3×3 convolution by type, and bytes/s of a copy: the best of many."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    cuda = device == "cuda"
    side, batch = (8192, 512) if cuda else (1024, 16)
    found = {}
    kinds = [("fp32", torch.float32), ("bf16", torch.bfloat16)] + [("tf32", torch.float32)] * cuda
    for name, dtype in kinds:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        found[f"gemm_{name}"] = 2 * side**3 / best(lambda a=left, b=right: a @ b, seconds, cuda)
        images = torch.randn(batch, 128, 32, 32, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        kernels = torch.randn(128, 128, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        work = 2 * batch * 32 * 32 * 128 * 128 * 9
        found[f"conv_{name}"] = work / best(lambda x=images, w=kernels: conv2d(x, w, padding=1), seconds, cuda)
    source = torch.zeros((1 << 30 if cuda else 1 << 28) // 4, device=device)  # 1 GiB, 256 MiB
    target = torch.ones_like(source)
    found["copy"] = 2 * source.nbytes / best(lambda: target.copy_(source), seconds, cuda)  # read and written
    return found


def best(work: Callable[[], Any], seconds: float, cuda: bool) -> float:
    """Seconds of the fastest of many calls, after three that do not count."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 4 or time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return min(times[3:])
