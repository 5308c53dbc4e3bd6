"""Weights in whole numbers, graphs of onnxruntime, and runs that are made of them."""

import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

import gan_lightning
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import compress, evaluate, sample, train
from gan_lightning.compression import costs
from gan_lightning.compression.quantization import Quantize, Reader, calibrating, products
from gan_lightning.compression.results import Source
from gan_lightning.errors import UserError
from gan_lightning.models.stylegan2 import StyleGAN2
from gan_lightning.networks.dcgan import DCGANGenerator
from gan_lightning.networks.mlp import MLPGenerator
from gan_lightning.networks.onnx import ONNXNetwork
from gan_lightning.networks.quantized import (
    Bits,
    FakeQuantized,
    Quantized,
    packed,
    rounded,
    rows_of,
    unpacked,
    weight_of,
)
from gan_lightning.networks.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from tests.stored import store
from tests.support import game

LAYERS = [
    nn.Conv2d(6, 8, 3, groups=2),
    nn.ConvTranspose2d(6, 8, 4),
    nn.ConvTranspose2d(6, 8, 4, groups=2),
    nn.ConvTranspose1d(4, 6, 5, groups=2),
    nn.Linear(12, 7),
    nn.Embedding(9, 11),
]
RUN = ["model=dcgan", "data=digits", "trainer=debug", "trainer.accelerator=cpu", "model.generator.base_channels=4"]
RUN += ["model.discriminator.base_channels=4", "model.generator.latent_size=16"]


def outputs(layer: nn.Module, weight: Tensor) -> list[list[Tensor]]:
    """The numbers of the weight that each output channel is made with, found by asking the layer."""
    if isinstance(layer, nn.Embedding):
        return [[row] for row in weight]
    if not isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
        return [[weight[channel]] for channel in range(len(weight))]
    each = layer.out_channels // layer.groups
    inputs = layer.in_channels // layer.groups
    return [
        [weight[row, channel % each] for row in range(channel // each * inputs, (channel // each + 1) * inputs)]
        for channel in range(layer.out_channels)
    ]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{type(layer).__name__}-{getattr(layer, 'groups', 1)}")
@pytest.mark.parametrize("bits", [8, 4])
def test_no_weight_moves_further_than_half_a_step_of_its_channel(layer: Any, bits: Bits) -> None:
    torch.manual_seed(0)
    before = copy.deepcopy(layer)
    with torch.no_grad():
        before.weight.mul_(torch.rand_like(before.weight) + 0.1)
    after: Any = Quantized(nn.Sequential(copy.deepcopy(before)), bits, smallest=1)
    made, largest = after.network[0].weight, 2 ** (bits - 1) - 1
    assert made.shape == before.weight.shape
    channels = zip(outputs(layer, before.weight), outputs(layer, made), after.network[0].weight_scale, strict=True)
    for old, new, step in channels:
        old, new, step = torch.stack(list(old)).detach(), torch.stack(list(new)), float(step)
        whole = float(old.abs().max()) / largest
        assert step == pytest.approx(whole) if bits == 8 else step <= whole * 1.0001
        assert float((old.clamp(-largest * step, largest * step) - new).abs().max()) <= step / 2 * 1.0001
        torch.testing.assert_close(new / step, (new / step).round(), rtol=0, atol=1e-3)
        plain = (old / whole).round() * whole
        assert float((old - new).square().sum()) <= float((old - plain).square().sum()) * 1.0001


def test_rows_are_put_back() -> None:
    for groups, shape in ((None, (8, 3, 2)), (1, (6, 4, 3)), (3, (6, 4, 3, 3))):
        weight = torch.randn(shape)
        assert torch.equal(weight_of(rows_of(weight, groups), weight.shape, groups), weight)


def test_four_bits_share_a_byte() -> None:
    for count in (15, 16):
        levels = torch.arange(-7, 8, dtype=torch.int8).repeat(2)[:count].repeat(3, 1)
        assert packed(levels).shape == (3, 8)
        assert torch.equal(unpacked(packed(levels), count), levels)


def test_a_scale_a_channel_is_nearer_than_one_for_all() -> None:
    torch.manual_seed(0)
    rows = torch.randn(8, 50) * torch.logspace(-2, 1, 8)[:, None]
    levels, scale = rounded(rows, 8)
    (all_levels, one) = rounded(rows.flatten()[None], 8)
    small = rows[0]
    assert (levels[0] * scale[0] - small).abs().max() < 0.1 * (all_levels[0, :50] * one - small).abs().max()


def test_a_folded_batch_norm_would_change_nothing() -> None:
    torch.manual_seed(0)
    rows, factor = torch.randn(8, 50), torch.rand(8, 1) + 0.5
    levels, scale = rounded(rows, 8)
    folded, its_scale = rounded(rows * factor, 8)
    assert (levels - folded).abs().max() <= 1
    assert (levels != folded).float().mean() < 0.01
    torch.testing.assert_close(its_scale, scale * factor[:, 0])


def test_a_channel_of_zeros_stays_one() -> None:
    levels, scale = rounded(torch.zeros(2, 3), 8)
    assert not levels.any()
    assert torch.equal(scale, torch.ones(2))


def size(network: nn.Module) -> int:
    return len(save({key: value.clone() for key, value in network.state_dict().items()}))


def test_the_file_is_a_quarter_and_an_eighth() -> None:
    network = DCGANGenerator(100, 32, 28, 1)
    shares: dict[Bits, float] = {8: 0.25, 4: 0.125}
    for bits, share in shares.items():
        made = Quantized(copy.deepcopy(network), bits)
        assert size(made) == pytest.approx(share * size(network), rel=0.08)
        assert not any(key.endswith(".0.weight") for key in made.state_dict())
        assert {name for name, _ in made.named_parameters()} == {
            f"network.{name}" for name, weight in network.named_parameters() if weight.dim() == 1
        }


@pytest.mark.parametrize("bits", [8, 4])
def test_a_loaded_network_makes_the_same(bits: Bits) -> None:
    torch.manual_seed(0)
    made = Quantized(DCGANGenerator(100, 4, 16, 1), bits).eval()
    other = copy.deepcopy(Quantized(DCGANGenerator(100, 4, 16, 1), bits)).eval()
    z = torch.randn(2, 100)
    assert not torch.equal(made(z), other(z))
    other.load_state_dict(made.state_dict())
    assert torch.equal(made(z), other(z))
    assert other.latent_size == 100
    assert other.quantised == {"quantised_layers": 2, "quantised_weights": 13312}
    with pytest.raises(AttributeError, match="vocabulary"):
        _ = other.vocabulary


def test_nothing_to_quantise_is_refused() -> None:
    with pytest.raises(ValueError, match="smallest=256: MLPGenerator has no weight of that many numbers"):
        Quantized(MLPGenerator(2, [4], 4, 1, "relu", "none"))


def test_weights_of_styles_are_quantised_and_the_rule_takes_them() -> None:
    torch.manual_seed(0)
    generator = Quantized(StyleGAN2Generator(8, 4, 8, 1, 8, 8, 2), smallest=64)
    weights = {place.path for place in generator.places}
    assert {"synthesis.convolutions.0", "synthesis", "mapping.layers.0"} <= weights  # `synthesis`: the constant start
    module = game(StyleGAN2, generator=generator, discriminator=StyleGAN2Discriminator(4, 8, 1, 8))
    assert module.sample(2, truncation=0.5).shape == (2, 1, 8, 8)


def test_what_is_normalised_is_rounded_before() -> None:
    torch.manual_seed(0)
    layer = spectral_norm(nn.Conv2d(4, 8, 3))
    network = Quantized(nn.Sequential(layer), smallest=1).eval()
    weight = cast(Any, network.network)[0].weight  # computed
    step = weight.flatten(1).abs().amax(1)[:, None] / 127
    torch.testing.assert_close(weight.flatten(1) / step, (weight.flatten(1) / step).round(), rtol=0, atol=1e-3)
    assert [place.path for place in network.places] == ["0.parametrizations.weight"]


def test_training_sees_rounded_weights_and_moves_those_behind() -> None:
    torch.manual_seed(0)
    network: Any = nn.Sequential(nn.Conv2d(3, 4, 3), spectral_norm(nn.ConvTranspose2d(4, 3, 3)))
    x = torch.randn(2, 3, 6, 6)
    behind = network[0].weight.detach().clone()
    fake: Any = FakeQuantized(copy.deepcopy(network), 4, smallest=1)
    fake(x).square().sum().backward()
    one: Any = Quantized(nn.Sequential(copy.deepcopy(network[0])), 4, smallest=1)
    kept = one.network[0].weight
    own: Any = fake.network[0]
    assert torch.equal(own.weight, kept)
    weight = kept.clone().requires_grad_(True)
    fake.eval()
    own.parametrizations.weight.original.grad = None
    fake(x).square().sum().backward()
    made = fake.network[1](functional.conv2d(x, weight, own.bias))
    made.square().sum().backward()
    torch.testing.assert_close(own.parametrizations.weight.original.grad, weight.grad)
    plain = fake.plain_state()
    assert torch.equal(plain["0.weight"], behind)
    assert plain.keys() == network.state_dict().keys()


# ---- graphs ---------------------------------------------------------------------------------------------------------


def graph(path: Path | None = None) -> bytes:
    """x (N, 5) -> MatMul, Conv, ConvTranspose, Tanh: image (N, 2, 8, 8)."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    stream = np.random.default_rng(0)
    sizes = {"m": (5, 48), "c": (4, 3, 3, 3), "t": (4, 2, 4, 4)}
    weights = [numpy_helper.from_array(stream.normal(0, 0.3, s).astype(np.float32), n) for n, s in sizes.items()]
    weights.append(numpy_helper.from_array(np.array([-1, 3, 4, 4]), "shape"))
    nodes = [
        helper.make_node("MatMul", ["x", "m"], ["a"], "first"),
        helper.make_node("Reshape", ["a", "shape"], ["b"], "second"),
        helper.make_node("Conv", ["b", "c"], ["d"], "third", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["d"], ["e"], "fourth"),
        helper.make_node("ConvTranspose", ["e", "t"], ["f"], "fifth", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["f"], ["image"], "sixth"),
    ]
    kind = TensorProto.FLOAT
    given = [helper.make_tensor_value_info("x", kind, ["n", 5])]
    made = [helper.make_tensor_value_info("image", kind, ["n", 2, 8, 8])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", given, made, weights), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    if path is not None:
        save_model(model, path)
    return model.SerializeToString()


def test_the_graph_is_run_as_onnxruntime_runs_it() -> None:
    import onnxruntime

    written = graph()
    network = ONNXNetwork(DCGANGenerator(5, 4, 16, 1), len(written))
    network.load_model(written)
    assert network.model_bytes() == written
    assert network.latent_size == 5
    assert network.classes == 0
    other = copy.deepcopy(ONNXNetwork(DCGANGenerator(5, 4, 16, 1), len(written), threads=1))
    other.load_state_dict(network.state_dict())
    x = torch.randn(3, 5)
    wanted: Any = onnxruntime.InferenceSession(written).run(None, {"x": x.numpy()})[0]
    for one in (network, other, copy.deepcopy(other)):
        assert np.array_equal(one(x).numpy(), wanted) or np.allclose(one(x).numpy(), wanted, atol=1e-6)
    with pytest.raises(UserError, match=r"cannot be run on \(3, 6\)"):
        network(torch.randn(3, 6))


@pytest.mark.parametrize(
    ("ends", "quantised", "left"),
    [
        ("quantised", {"MatMul": 1, "Conv": 1, "ConvTranspose": 1}, {}),
        ("float", {"Conv": 1}, {"MatMul": 1, "ConvTranspose": 1}),
    ],
)
def test_quantised_products_are_counted(
    ends: Any, quantised: dict[str, int], left: dict[str, int], tmp_path: Path
) -> None:
    written = graph(tmp_path / "generator.onnx")
    assert products(written) == ({}, {"MatMul": 1, "Conv": 1, "ConvTranspose": 1})
    torch.manual_seed(0)
    samples = iter([(torch.randn(64, 5), None), (torch.randn(64, 5), None)])
    made = Quantize("static", ends=ends).quantised_graph(tmp_path, Reader(samples, ["x"]))
    assert products(made) == (quantised, left)
    x, images = torch.randn(16, 5), []
    for one in (written, made):
        network = ONNXNetwork(DCGANGenerator(5, 4, 16, 1), len(one))
        network.load_model(one)
        images.append(network(x))
    assert 0 < float((images[0] - images[1]).square().mean().sqrt()) < 0.02


def test_calibration_never_sees_what_is_scored() -> None:
    module = game()
    source = Source(Path(), {}, module, Any, Path())  # pyright: ignore[reportArgumentType]
    drawn = torch.cat([z for z, _ in calibrating(source, 100)])
    scored = torch.cat([module.evaluation_block(0, block) for block in range(2)])
    assert drawn.shape == (100, 4)
    assert not (drawn[:, None] == scored).all(2).any()


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"kind": "static", "bits": 4}, "bits=4: a static"), ({"kind": "static", "images": 9}, "images=9: a graph is")],
)
def test_keys_of_the_other_kind_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Quantize(**keys)


# ---- runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def measured_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "SECONDS", 0.0)
    monkeypatch.setattr(costs, "peak_memory", lambda *given: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train.run([*RUN, "scores.names=[]", f"hydra.run.dir={folder}"]) == 0
    return folder


def compressed(run: Path, output: Path, *arguments: str) -> dict[str, Any]:
    """The facts of the command."""
    import json

    quick = ["accelerator=cpu", "scores.names=[]", "method.smallest=16"]
    assert compress.run([f"checkpoint={run}", f"output={output}", "method=quantize", *quick, *arguments]) == 0
    return json.loads((output / "compression.json").read_text())["facts"]


def test_a_quantised_run_is_a_run(trained: Path, tmp_path: Path) -> None:
    facts = compressed(trained, tmp_path / "int8")
    assert facts["quantised_layers"] == 3
    assert facts["psnr_to_float"] > 35
    stored = read_checkpoint(tmp_path / "int8" / "checkpoints" / "last.ckpt")["state_dict"]
    for player in ("generator", "ema.generator"):
        assert stored[f"{player}.network.layers.0.weight_levels"].dtype == torch.int8
    before, after = (gan_lightning.load(run).sample(4) for run in (trained, tmp_path / "int8"))
    assert 0 < (before - after).abs().max() < 0.1
    assert sample.run([f"checkpoint={tmp_path / 'int8'}", "count=2", "accelerator=cpu"]) == 0
    assert evaluate.run([f"checkpoint={tmp_path / 'int8'}", "scores.names=[diversity]", "accelerator=cpu"]) == 0
    quick = [f"checkpoint={tmp_path / 'int8'}", f"output={tmp_path / 'again'}", "accelerator=cpu", "scores.names=[]"]
    for method in ("quantize", "prune"):
        with pytest.raises(UserError, match="quantised already"):
            compress.run([f"method={method}", *quick])
    assert not (tmp_path / "again").exists()


def test_whole_numbers_and_graphs_are_not_trained(trained: Path) -> None:
    data = gan_lightning.load(trained)  # never asked
    network = MLPGenerator(4, [16], 8, 1, "relu", "none")
    for generator in (Quantized(copy.deepcopy(network)), ONNXNetwork(network, 9)):
        with pytest.raises(UserError, match=f"model.generator: {type(generator).__name__}: .*not trained"):
            train.check_model(game(generator=generator), {}, data)  # pyright: ignore[reportArgumentType]


def test_a_static_graph_takes_no_masks(tmp_path: Path) -> None:
    run = store("deepfill", tmp_path / "run")
    with pytest.raises(UserError, match=r"method\.kind=static: .* takes images with masks; kind=weights"):
        compressed(run, tmp_path / "out", "method.kind=static")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_training_with_four_bits(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "outputs" / "int4"
    facts = compressed(trained, folder, "method.bits=4", "method.images=128")
    assert facts["quantised_layers"] == 3
    assert not (tmp_path / "outputs" / "latest").exists()  # that is for what `train` trains
    compressed(folder / "training", tmp_path / "later", "method.bits=4")  # as after an interrupt
    runs = (folder, folder / "training", tmp_path / "later")
    parts = [read_checkpoint(run / "checkpoints" / "last.ckpt") for run in runs]
    for key, value in parts[0]["state_dict"].items():
        assert torch.equal(value, parts[2]["state_dict"][key]), key
    levels = parts[0]["state_dict"]["ema.generator.network.layers.0.weight_levels"]
    behind = parts[1]["state_dict"]["ema.generator.network.layers.0.parametrizations.weight.original"]
    assert torch.equal(levels, packed(rounded(rows_of(behind, 1), 4)[0]))
    assert parts[0]["counters"]["images"] == 128


@pytest.mark.slow
def test_a_static_graph_is_a_run(trained: Path, tmp_path: Path) -> None:
    facts = compressed(trained, tmp_path / "static", "method.kind=static")
    assert facts["quantised"] == {"MatMul": 1, "ConvTranspose": 2}
    assert facts["psnr_to_float"] > 25
    before, after = (gan_lightning.load(run).sample(3) for run in (trained, tmp_path / "static"))
    assert 0 < (before - after).abs().mean() < 0.1
    assert sample.run([f"checkpoint={tmp_path / 'static'}", "count=2", "accelerator=cpu"]) == 0
    with pytest.raises(UserError, match="quantised already"):
        compressed(tmp_path / "static", tmp_path / "again", "method.kind=weights")
