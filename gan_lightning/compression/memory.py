"""Peak memory of a network on the CPU, measured from outside: `python -m gan_lightning.compression.memory <folder>`.

The resident memory of a fresh process is looked at before a network is built and at its highest while it runs. So what
onnxruntime takes is counted as what torch takes, which torch's own accounts would not show.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

NODE, WEIGHTS, GIVEN = "node.json", "weights.safetensors", "given.pt"
STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # what is freed is given back


def peak_memory(node: Mapping[str, Any], network: nn.Module, given: tuple[Any, Any], threads: int) -> int | None:
    """Bytes that a process grows by with the network and one pass of it.

    None where the system does not say, or where the process fails, which is said: the other costs are known.

    node: what the network is built of; or a larger one, of which it is the part `a_to_b`. given: latents and labels.
    """
    if not FORGET.exists():
        return None
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / NODE).write_text(json.dumps(node, default=str))
        state = {key: value.detach().cpu().clone().contiguous() for key, value in network.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        torch.save(given, folder / GIVEN)
        done = subprocess.run(
            [sys.executable, "-m", "gan_lightning.compression.memory", place, str(threads)],
            env={**os.environ, **AT_ONCE},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        print(f"gan_lightning: memory could not be measured: {said[0]}", file=sys.stderr)
        return None
    return int(done.stdout.split()[-1])


def resident(what: str) -> int:
    """Bytes: VmRSS now, VmHWM at the highest since it was forgotten."""
    found = re.search(rf"{what}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None, f"{STATUS} has no {what}"
    return 1024 * int(found[1])


@torch.no_grad()
def grown(folder: Path, threads: int) -> int:
    """What `peak_memory` says, in a process that has done nothing else."""
    from gan_lightning.config import instantiate
    from gan_lightning.config.checking import targets
    from gan_lightning.config.signatures import locate
    from gan_lightning.networks import onnx

    torch.set_num_threads(threads)
    node = json.loads((folder / NODE).read_text())
    kinds = [locate(target) for _, target in targets(node)]  # code is no part of it
    if onnx.ONNXNetwork in kinds:
        onnx.onnxruntime()
    x = torch.zeros(1, 8, 8, 8)
    torch.mm(nn.ConvTranspose2d(8, 8, 4, 2, 1)(nn.Conv2d(8, 8, 3, 1, 1)(x)).flatten(1), torch.zeros(2048, 8))
    given = torch.load(folder / GIVEN, weights_only=True)
    before = resident("VmRSS")
    network = instantiate(node)
    network = getattr(network, "a_to_b", network).eval()
    network.load_state_dict(load_file(folder / WEIGHTS))
    FORGET.write_text("5")
    _made = network(given[0]) if given[1] is None else network(*given)
    return resident("VmHWM") - before


if __name__ == "__main__":
    print(grown(Path(sys.argv[1]), int(sys.argv[2])))
