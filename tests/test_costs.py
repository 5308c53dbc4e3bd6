"""What drawing a sample costs, against counts by hand."""

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gan_lightning.compression import costs
from gan_lightning.compression.costs import Costs, Drawing, Table, file_bytes, measure, multiply_adds, weights
from gan_lightning.compression.graphs import multiply_adds as of_graph
from gan_lightning.compression.graphs import weights as weights_of_graph
from gan_lightning.compression.memory import FORGET, peak_memory
from gan_lightning.networks.mlp import MLPGenerator
from gan_lightning.networks.quantized import Quantized
from tests.support import game
from tests.test_quantize import graph

BY_HAND: list[tuple[Any, tuple[int, ...], int, int]] = [  # layer, input, weights, multiply-adds
    (nn.Linear(10, 7), (10,), 77, 70),
    (nn.Conv2d(4, 6, 3, padding=1, bias=False), (4, 8, 8), 216, 6 * 64 * 4 * 9),
    (nn.Conv2d(4, 6, 3, stride=2, groups=2), (4, 9, 9), 114, 6 * 16 * 2 * 9),
    (nn.ConvTranspose2d(4, 6, 4, 2, 1), (4, 5, 5), 390, 4 * 25 * 6 * 16),
    (nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2, bias=False), (4, 5, 5), 192, 4 * 25 * 3 * 16),
    (nn.Conv1d(2, 3, 5), (2, 20), 33, 3 * 16 * 2 * 5),
]


def one_of(layer: nn.Module, shape: tuple[int, ...]) -> Drawing:
    return Drawing(layer.eval(), lambda count: (torch.zeros(count, *shape), None))


@pytest.mark.parametrize(("layer", "shape", "count", "macs"), BY_HAND)
def test_layers_cost_what_paper_and_pencil_say(layer: Any, shape: tuple[int, ...], count: int, macs: int) -> None:
    assert multiply_adds(one_of(layer, shape)) == macs
    assert weights(layer) == (count, count)
    with torch.no_grad():
        layer.weight[:1] = 0
    assert weights(layer) == (count, count - layer.weight[:1].numel())


def test_graphs_are_counted_as_networks_are() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(5, 48, bias=False)
            self.second = nn.Sequential(
                nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.ConvTranspose2d(4, 2, 4, 2, 1, bias=False)
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).view(-1, 3, 4, 4))

    network = Network()
    assert (
        of_graph(graph(), torch.zeros(1, 5)) == multiply_adds(one_of(network, (5,))) == 240 + 16 * 4 * 27 + 16 * 4 * 32
    )
    assert weights_of_graph(graph())[0] == weights(network)[0]


def test_a_file_is_as_large_as_it_is_said_to_be(tmp_path: Any) -> None:
    network = MLPGenerator(4, [32], 8, 1, "relu", "none")
    save_file(network.state_dict(), tmp_path / "file")
    assert file_bytes(network) == (tmp_path / "file").stat().st_size
    whole = Quantized(copy.deepcopy(network), smallest=1)
    assert 0.25 < file_bytes(whole) / file_bytes(network) < 0.4
    assert weights(whole)[0] == weights(network)[0]  # those that whole numbers stand for, too


def test_models_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "SECONDS", 0.0)
    small, large = (game(generator=MLPGenerator(4, [size], 8, 1, "relu", "none")) for size in (16, 512))
    before = torch.get_num_threads()
    found = measure({"before": large, "after": small}, threads=1)
    assert torch.get_num_threads() == before
    assert (found["before"].macs, found["after"].macs) == (68 * 512, 68 * 16)
    assert found["after"].parameters == 68 * 16 + 16 + 64
    assert found["before"].memory_bytes is None  # there is no configuration to build it again from
    assert set(found["after"].latency_ms) == {1, 64}
    assert found["before"].latency_ms[64] > 0


def test_the_table_has_ratios_to_the_first() -> None:
    one = Costs(1_000_000, 1_000_000, 2_000_000, 2**20, {1: 2.0}, None, "a device", 1)
    other = Costs(1_000_000, 250_000, 500_000, 2**18, {1: 1.0}, None, "a device", 1)
    table = Table({"before": one, "after": other}, {"before": {"fid": 10.0}, "after": {"fid": 12.0}})
    lines = table.markdown().splitlines()
    assert lines[0] == "|  | before | after | ratio |"
    assert "| of them not 0 | 1,000,000 | 250,000 | 0.25 |" in lines
    assert "| multiply-adds (millions) | 2 | 0.5 | 0.25 |" in lines
    assert "| file (MiB) | 1 | 0.25 | 0.25 |" in lines
    assert "| ms for 1 | 2 | 1 | 0.5 |" in lines
    assert "| fid | 10 | 12 | 1.2 |" in lines
    assert lines[-1].startswith("a device, 1 thread")
    assert table.plain()["after"]["file_bytes"] == 2**18
    assert table.rich().row_count == len(lines) - 4


def test_memory_that_cannot_be_measured_is_left_out(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.executable", "false")  # the program that always fails
    network = MLPGenerator(4, [8], 8, 1, "relu", "none")
    assert peak_memory({}, network, (torch.zeros(1, 4), None), 1) is None
    assert not FORGET.exists() or "memory could not be measured: exit code 1" in capsys.readouterr().err


@pytest.mark.slow
def test_memory_has_the_weights_and_what_a_pass_makes() -> None:
    node = {"_target_": "gan_lightning.networks.mlp.MLPGenerator", "latent_size": 4, "hidden": [2048, 2048]}
    node |= {"image_size": 8, "channels": 1, "activation": "relu", "batch_norm": "none"}
    network = MLPGenerator(4, [2048, 2048], 8, 1, "relu", "none")
    found = peak_memory(node, network, (torch.zeros(64, 4), None), 1)
    if found is None:
        pytest.skip("this system does not say")
    assert file_bytes(network) < found < 3 * file_bytes(network)
