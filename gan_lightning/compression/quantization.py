"""Weights in 8 or 4 bits, or a graph of onnxruntime that computes with 8-bit numbers."""

import contextlib
import copy
import io
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.commands.loading import load_module
from gan_lightning.compression import results
from gan_lightning.compression.results import Source
from gan_lightning.config import check_models, instantiate
from gan_lightning.draws import stream_seed
from gan_lightning.errors import UserError
from gan_lightning.exporting import onnx
from gan_lightning.exporting.graph import graph_of
from gan_lightning.exporting.packages import need
from gan_lightning.networks.onnx import ONNXNetwork
from gan_lightning.networks.quantized import SMALLEST, Bits, FakeQuantized, Quantized
from gan_lightning.networks.unet import Noise
from gan_lightning.sampling import BLOCK, evaluation_labels, evaluation_latents, render, sampler
from gan_lightning.translation import Translator
from gan_lightning.types import NonNegativeInt, PositiveInt

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # operators of a graph that multiply by weights
TOLERANCE = 1e-3  # of the float graph beside torch, before it is quantised
COMPARED = 256  # samples of which it is said how far they are from those of the float network
Given = tuple[Tensor, Tensor | None]  # latents or images (N, …), labels (N,)


class Quantize:
    """Fewer bits for a trained generator.

    Args:
        kind: "weights": stored in `bits` bits, computed with in float (networks/quantized.py): a smaller file, the same
            speed. "static": a graph of onnxruntime that computes with 8-bit weights and activations, whose ranges are
            those of `calibration` samples: on the CPU alone; faster only where onnxruntime has whole-number kernels,
            which it lacks for transposed convolutions.
        bits: of weights: 8, or 4.
        smallest: weights with fewer numbers stay in float.
        images: training images over which the run's own rule trains on, with weights rounded as they will be
            (Jacob et al. 2018, section 3, of weights alone); 0: none.
        calibration: samples whose activations are looked at.
        method: how their ranges are chosen: minmax, or percentile, which leaves out the furthest 1 in 100,000.
        ends: "float" leaves the first and the last product of a static graph as they are.

    Raises ValueError for keys of the other kind.
    """

    def __init__(
        self,
        kind: Literal["weights", "static"] = "weights",
        bits: Bits = 8,
        smallest: PositiveInt = SMALLEST,
        images: NonNegativeInt = 0,
        calibration: PositiveInt = 512,
        method: Literal["minmax", "percentile"] = "minmax",
        ends: Literal["quantised", "float"] = "quantised",
    ) -> None:
        if kind == "static" and bits != 8:
            raise ValueError(f"bits={bits}: a static graph has 8; kind=weights has 4")
        if kind == "static" and images:
            raise ValueError(f"images={images}: a graph is not trained; kind=weights is")
        self.kind, self.smallest, self.images = kind, smallest, images
        self.bits: Bits = bits
        self.calibration, self.method, self.ends = calibration, method, ends

    def run(self, source: Source) -> dict[str, Any]:
        """A run whose generator is `Quantized` or an `ONNXNetwork`; how many of its layers are quantised."""
        results.refuse_quantised(source)
        config = plain_config(source.config)
        source = replace(source, config=config, module=plain(source.module, config))
        source.module.show(source.data)
        facts = self.in_weights(source) if self.kind == "weights" else self.in_a_graph(source)
        return facts if self.images else facts | agreement(source)

    # ---- weights ----------------------------------------------------------------------------------------------------

    def in_weights(self, source: Source) -> dict[str, Any]:
        config = self.wrapped(source, Quantized)
        check_models({"model": config["model"]})  # that there is a weight to quantise, and that the rule takes it
        module = plain(self.trained(source), source.config) if self.images else source.module
        result: AdversarialModule = instantiate(config["model"])
        made = {"generator": Quantized(copy.deepcopy(module.generator), self.bits, self.smallest)}
        if module.ema is not None:
            made["ema.generator"] = Quantized(copy.deepcopy(module.ema.generator), self.bits, self.smallest)
        fill(result, module, made)
        results.store_run(source.folder, config, result, module)
        return made["generator"].quantised

    def wrapped(self, source: Source, kind: type[nn.Module]) -> dict[str, Any]:
        """The configuration with the generator in a network of `kind`."""
        name = f"{kind.__module__}.{kind.__qualname__}"
        own = {"network": source.config["model"]["generator"], "bits": self.bits, "smallest": self.smallest}
        return results.changed(source.config, generator={"_target_": name, **own})

    def trained(self, source: Source) -> AdversarialModule:
        """After training with rounded weights, in a run below the folder of the result."""
        config = self.wrapped(source, FakeQuantized)
        check_models({"model": config["model"]})
        below = replace(source, folder=source.folder / "training")
        module: AdversarialModule = instantiate(config["model"])
        made = {"generator": FakeQuantized(copy.deepcopy(source.module.generator), self.bits, self.smallest)}
        if source.module.ema is not None:
            made["ema.generator"] = FakeQuantized(copy.deepcopy(source.module.ema.generator), self.bits, self.smallest)
        fill(module, source.module, made)
        results.train(below, config, module, self.images)
        return load_module(below.folder)

    # ---- a graph ----------------------------------------------------------------------------------------------------

    def in_a_graph(self, source: Source) -> dict[str, Any]:
        results.refuse_texts(source, "quantize method.kind=static")
        need(onnx.PACKAGES, "method.kind=static", "compress")
        if isinstance(source.module, Translator) and source.module.takes_masks:
            kind = type(source.module.generator).__name__
            raise UserError(f"method.kind=static: {kind} takes images with masks; kind=weights takes any network")
        try:
            check_models({"model": of_a_graph(source, 1)["model"]})  # rules of styles, or of two ways, refuse it
        except UserError as error:
            raise UserError(f"method.kind=static: {error}; kind=weights takes any network") from error
        draws = any(isinstance(part, Noise) for part in source.module.generator.modules())
        whole = graph_of(
            source.module, source.data.noun, ema=True, direction="a2b", noise="none" if draws else None
        )  # a graph draws nothing by itself
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            with onnx.silence():
                onnx.write(whole, whole.program(), folder, TOLERANCE, {})
            names = [port.name for port in whole.ports]
            graph = self.quantised_graph(folder, Reader(calibrating(source, self.calibration), names))
        quantised, left = products(graph)
        if not quantised:
            raise UserError(f"checkpoint={source.path}: onnxruntime quantised nothing of {dict(left) or 'its graph'}")
        config = of_a_graph(source, len(graph))
        result: AdversarialModule = instantiate(config["model"])
        made = ONNXNetwork(copy.deepcopy(source.module.generator), len(graph))
        made.load_model(graph)
        fill(result, source.module, {"generator": made})
        results.store_run(source.folder, config, result, source.module)
        layers: dict[str, Any] = {"quantised_layers": quantised.total(), "quantised": dict(quantised)}
        layers |= {"left_in_float": dict(left) or "none"}
        if draws:
            layers["left_out"] = "dropout that eval mode has"  # a graph always makes the same
        return layers

    def quantised_graph(self, folder: Path, samples: Any) -> bytes:
        """The graph in the folder with QuantizeLinear and DequantizeLinear around its products."""
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        methods = {
            "minmax": quantization.CalibrationMethod.MinMax,
            "percentile": quantization.CalibrationMethod.Percentile,
        }
        simple, target = folder / "simple.onnx", folder / "quantised.onnx"
        with contextlib.redirect_stdout(io.StringIO()):  # the package says what it does
            # BatchNorm goes into the weights before it; symbolic shapes are not known of every graph
            quant_pre_process(str(folder / onnx.FILE), str(simple), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(simple),
                str(target),
                samples,
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(PRODUCTS),
                nodes_to_exclude=ends_of(simple) if self.ends == "float" else [],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=methods[self.method],
            )
        return target.read_bytes()


def plain_config(config: dict[str, Any]) -> dict[str, Any]:
    """Without what rounds weights in training: the run may be such a training, which was interrupted and continued."""
    node = config["model"]["generator"]
    rounding = node["_target_"] == f"{FakeQuantized.__module__}.{FakeQuantized.__qualname__}"
    return results.changed(config, generator=node["network"]) if rounding else config


def plain(module: AdversarialModule, config: dict[str, Any]) -> AdversarialModule:
    """The module, or where its weights are rounded in training one of `config` with the float ones behind them."""
    copies = {"generator": module.generator} | ({"ema.generator": module.ema.generator} if module.ema else {})
    found: dict[str, nn.Module] = {}
    for name, network in copies.items():
        if not isinstance(network, FakeQuantized):
            return module
        found[name] = instantiate(config["model"]["generator"])
        found[name].load_state_dict(network.plain_state())
    made: AdversarialModule = instantiate(config["model"])
    fill(made, module, found)
    made.config, made.counters, made.class_names = config, module.counters, module.class_names
    made.data_facts = module.data_facts
    return made.eval()


def fill(module: AdversarialModule, like: AdversarialModule, made: Mapping[str, nn.Module]) -> None:
    """Gives a module the weights of these networks, by their names in it, and of another for the rest."""
    state = {key: value for key, value in like.state_dict().items() if not key.startswith(("generator.", "ema."))}
    for name, network in made.items():
        state |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
    module.load_state_dict(state)


def of_a_graph(source: Source, size: int) -> dict[str, Any]:
    """The configuration with a graph of so many bytes as the generator, and no average beside it."""
    name = f"{ONNXNetwork.__module__}.{ONNXNetwork.__qualname__}"
    node = {"_target_": name, "network": source.config["model"]["generator"], "size": size}
    config = results.changed(source.config, generator=node, ema=None)
    config["model"]["step"] = {**config["model"]["step"], "recompute": False}  # there are no blocks to recompute
    return config


def calibrating(source: Source, count: int) -> Iterator[Given]:
    """What samples are made of, in blocks; never those of scores: latents of another seed, or training images."""
    module = source.module
    if isinstance(module, Translator):
        for start in range(0, min(count, len(source.data.train)), BLOCK):
            indices = range(start, min(start + BLOCK, count, len(source.data.train)))
            batch = source.data.on_after_batch_transfer(source.data.train.__getitems__(list(indices)), 0)
            yield module.given(batch), None
        return
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        latents = evaluation_latents(module, size, stream_seed(0, "calibration"), None, start)
        yield latents, evaluation_labels(module, size, first=start)


class Reader:
    """Blocks as onnxruntime wants them: by the names of a graph's inputs."""

    def __init__(self, samples: Iterator[Given], names: Sequence[str]) -> None:
        self.samples, self.names = samples, names

    def get_next(self) -> dict[str, Any] | None:
        block = next(self.samples, None)
        if block is None:
            return None
        return {name: part.numpy() for name, part in zip(self.names, block, strict=False) if part is not None}


def ends_of(path: Path) -> list[str]:
    """The names of a graph's first and last product."""
    from onnx import load

    names = [node.name for node in load(os.fspath(path)).graph.node if node.op_type in PRODUCTS]
    return [names[0], names[-1]] if names else []


def products(graph: bytes) -> tuple[Counter[str], Counter[str]]:
    """How many products of each kind a graph has whose factors are both whole numbers, and how many others."""
    from onnx import load_from_string

    model = load_from_string(graph)
    whole = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    quantised, left = Counter[str](), Counter[str]()
    for node in model.graph.node:
        if node.op_type in PRODUCTS:
            (quantised if set(node.input[:2]) <= whole else left)[node.op_type] += 1
    return quantised, left


def agreement(source: Source) -> dict[str, Any]:
    """How far samples of the result are from those of the run, in dB of the range from -1 to 1."""
    if source.data.noun == "texts":
        return {}
    result = load_module(source.folder)
    result.show(source.data)
    networks, total, count = [sampler(module) for module in (source.module, result)], 0.0, 0
    for start in range(0, COMPARED, BLOCK):
        latents = evaluation_latents(source.module, BLOCK, stream_seed(0, "agreement"), None, start)
        labels = evaluation_labels(source.module, BLOCK, first=start)
        one, other = (render(network, latents, labels, torch.device("cpu")) for network in networks)
        total, count = total + float((one - other).square().sum()), count + one.numel()
    return {"psnr_to_float": round(10 * math.log10(4 * count / max(total, 1e-12)), 2)}
