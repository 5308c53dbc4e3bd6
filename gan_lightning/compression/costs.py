"""What it costs to draw a sample: weights, multiply-adds, room, time and memory; of several models side by side."""

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import table as rich_table
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.compression.memory import peak_memory
from gan_lightning.networks.onnx import ONNXNetwork
from gan_lightning.networks.quantized import weights_in
from gan_lightning.sampling import evaluation_labels, sampler
from gan_lightning.translation import Translator

BATCHES = (1, 64)  # samples drawn at once, of which the time is taken
FEWEST, MOST, SECONDS = 5, 50, 8.0  # repeats of each network; none begins after so many seconds of one batch size
WARM = 2  # before them
MEBI = 2**20
RULES = {
    "macs": "multiply-adds of convolutions and matrix products for one sample, half of torch.utils.flop_counter's "
    "FLOPs; of a graph of onnxruntime the same of Conv, ConvTranspose, Gemm and MatMul",
    "file_bytes": "a safetensors file of what samples are drawn from",
    "latency_ms": "median over repeats in turn of one network and the other",
    "memory_bytes": "CPU: growth of the resident memory of a fresh process, weights included; GPU: of what torch "
    "allocates, weights included",
}


@dataclass(frozen=True)
class Costs:
    """Of what samples are drawn from.

    Args:
        parameters, nonzero: weights, and those that are not 0; a graph has BatchNorm's in its products'.
        macs: multiply-adds for one sample; of a translator for an image of its training size.
        file_bytes: in safetensors, as the weights are stored: 0s take room as other numbers do.
        latency_ms: by samples drawn at once: median milliseconds.
        memory_bytes: at the most, for the larger number of samples; None: not known here.
        device, threads: where and with how many threads of the CPU.
    """

    parameters: int
    nonzero: int
    macs: int
    file_bytes: int
    latency_ms: dict[int, float]
    memory_bytes: int | None
    device: str
    threads: int


@dataclass
class Drawing:
    """A network as samples are drawn from it.

    given: number of samples -> latents or images, and labels.
    """

    network: nn.Module
    given: Callable[[int], tuple[Any, Tensor | None]]


def measure(
    modules: Mapping[str, AdversarialModule], *, threads: int = 1, device: torch.device | None = None
) -> dict[str, Costs]:
    """The costs of each model, with the times of all taken in turn: of the moving average, where there is one."""
    device = device or torch.device("cpu")
    drawings = {name: drawing(module.to(device)) for name, module in modules.items()}
    with torch.no_grad(), using(threads):
        times = {batch: latencies(drawings, batch, device) for batch in BATCHES}
        return {
            name: Costs(
                *weights(one.network),
                multiply_adds(one),
                file_bytes(one.network),
                {batch: times[batch][name] for batch in BATCHES},
                memory(modules[name], one, device, threads),
                name_of(device),
                threads,
            )
            for name, one in drawings.items()
        }


def drawing(module: AdversarialModule) -> Drawing:
    """What the commands draw from; translators are given grey images of their training size."""
    network = module.translating() if isinstance(module, Translator) else sampler(module)

    def given(count: int) -> tuple[Any, Tensor | None]:
        latents = module.draw_latents(count, torch.Generator().manual_seed(0))
        return tree_map(lambda part: part.to(module.device), latents), evaluation_labels(module, count)

    return Drawing(network, given)


def drawn(one: Drawing, given: tuple[Any, Tensor | None]) -> Tensor:
    """Samples; a translator is given no labels."""
    return one.network(given[0]) if given[1] is None else one.network(*given)


@contextlib.contextmanager
def using(threads: int) -> Iterator[None]:
    """torch with so many threads; as before at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def weights(network: nn.Module) -> tuple[int, int]:
    """How many there are, and how many are not 0."""
    if isinstance(network, ONNXNetwork):
        from gan_lightning.compression.graphs import weights as of_graph

        return of_graph(network.model_bytes())
    found = list(weights_in(network))
    return sum(weight.numel() for weight in found), sum(int(weight.count_nonzero()) for weight in found)


def multiply_adds(one: Drawing) -> int:
    """Of convolutions and matrix products, for one sample."""
    given = one.given(1)
    if isinstance(one.network, ONNXNetwork):
        from gan_lightning.compression.graphs import multiply_adds as of_graph

        return of_graph(one.network.model_bytes(), *given)
    with FlopCounterMode(display=False) as counter:
        drawn(one, given)
    return counter.get_total_flops() // 2


def file_bytes(network: nn.Module) -> int:
    """Of a safetensors file with its state dict."""
    return len(save({key: value.detach().cpu().clone().contiguous() for key, value in network.state_dict().items()}))


def latencies(drawings: Mapping[str, Drawing], batch: int, device: torch.device) -> dict[str, float]:
    """Median milliseconds for `batch` samples: the networks take turns, so that what else runs slows all of them."""
    given = {name: one.given(batch) for name, one in drawings.items()}
    took: dict[str, list[float]] = {name: [] for name in drawings}
    began = time.monotonic()
    for turn in range(-WARM, MOST):
        if turn >= FEWEST and time.monotonic() - began > SECONDS:
            break
        for name, one in drawings.items():
            wait(device)
            start = time.perf_counter()
            drawn(one, given[name])
            wait(device)
            if turn >= 0:
                took[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in took.items()}


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(module: AdversarialModule, one: Drawing, device: torch.device, threads: int) -> int | None:
    """Bytes for the largest batch, with the weights; None where they cannot be known."""
    given = one.given(max(BATCHES))
    if device.type == "cuda" and isinstance(one.network, ONNXNetwork):
        return None  # it is run on the CPU, of which torch's accounts know nothing
    if device.type == "cuda":
        own = [*one.network.parameters(), *one.network.buffers()]
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        drawn(one, given)
        wait(device)
        grown = torch.cuda.max_memory_allocated(device) - before
        return grown + sum(tensor.numel() * tensor.element_size() for tensor in own)
    if module.config is None:
        return None
    return peak_memory(module.config["model"]["generator"], one.network, given, threads)


def name_of(device: torch.device) -> str:
    """Of the GPU, or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} logical cores"


# ---- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A number of each model.

    shown: how it is written.
    """

    name: str
    values: list[float | None]
    shown: Callable[[float], str]

    def cells(self) -> list[str]:
        """The name, the values, and the last of them in the first."""
        first, last = self.values[0], self.values[-1]
        ratio = "" if first is None or last is None or not first else f"{last / first:.3g}"
        return [self.name, *("" if value is None else self.shown(value) for value in self.values), ratio]


class Table:
    """Models side by side: the first is what the others are compared with.

    Args:
        costs: by the name of the model.
        scores: by the name of the model, then of the score.
    """

    def __init__(self, costs: Mapping[str, Costs], scores: Mapping[str, Mapping[str, float]]) -> None:
        self.costs, self.scores = costs, scores

    def plain(self) -> dict[str, Any]:
        """What was measured of each, and how."""
        return {name: asdict(one) for name, one in self.costs.items()} | {"rules": RULES}

    def rows(self) -> list[Row]:
        """Costs, then scores."""
        found = list(self.costs.values())

        def row(name: str, value: Callable[[Costs], float | None], shown: Callable[[float], str]) -> Row:
            return Row(name, [value(one) for one in found], shown)

        def whole(value: float) -> str:
            return f"{value:,.0f}"

        def millions(value: float) -> str:
            return f"{value / 1e6:,.4g}"

        def mebibytes(value: float) -> str:
            return f"{value / MEBI:,.4g}"

        made = [row("parameters", lambda one: one.parameters, whole)]
        if any(one.nonzero != one.parameters for one in found):
            made.append(row("of them not 0", lambda one: one.nonzero, whole))
        made.append(row("multiply-adds (millions)", lambda one: one.macs, millions))
        made.append(row("file (MiB)", lambda one: one.file_bytes, mebibytes))
        for batch in found[0].latency_ms:
            made.append(row(f"ms for {batch}", lambda one, batch=batch: one.latency_ms[batch], lambda ms: f"{ms:.4g}"))
        made.append(row(f"memory for {max(BATCHES)} (MiB)", lambda one: one.memory_bytes, mebibytes))
        names = dict.fromkeys(name for of in self.scores.values() for name in of)
        for name in names:
            values: list[float | None] = [self.scores.get(model, {}).get(name) for model in self.costs]
            made.append(Row(name, values, lambda value: f"{value:.4g}"))
        return made

    def where(self) -> str:
        """The device, and how many threads."""
        one = next(iter(self.costs.values()))
        return f"{one.device}, {one.threads} thread{'s' if one.threads > 1 else ''}; median times, networks in turn"

    def markdown(self) -> str:
        """A table, and where it was measured."""
        head = ["", *self.costs, "ratio"]
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *(row.cells() for row in self.rows())]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{self.where()}"

    def rich(self) -> rich_table.Table:
        """For the terminal."""
        made = rich_table.Table(box=None, pad_edge=False, caption=self.where(), caption_justify="left")
        made.add_column("")
        for name in (*self.costs, "ratio"):
            made.add_column(name, justify="right")
        for row in self.rows():
            made.add_row(*row.cells())
        return made
