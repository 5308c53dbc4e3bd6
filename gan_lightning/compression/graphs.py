"""What is counted in ONNX graphs as torch counts it in networks: weights and multiply-adds."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from gan_lightning.networks.onnx import onnxruntime

ROUNDING = ("QuantizeLinear", "DequantizeLinear")


def loaded(graph: bytes) -> Any:
    """onnx's model."""
    import onnx

    return onnx.load_from_string(graph)


def weights(graph: bytes) -> tuple[int, int]:
    """How many numbers the graph's operators are given, and how many are not 0; no scales, zero points or shapes."""
    from onnx import numpy_helper

    model = loaded(graph)
    used = {
        name
        for node in model.graph.node
        for place, name in enumerate(node.input)
        if not (node.op_type in ROUNDING and place)
    }
    arrays = [numpy_helper.to_array(one) for one in model.graph.initializer if one.name in used]
    arrays = [array for array in arrays if array.dtype != np.int64 and array.size > 1]
    return sum(array.size for array in arrays), sum(int(np.count_nonzero(array)) for array in arrays)


def multiply_adds(graph: bytes, x: Tensor, y: Tensor | None = None) -> int:
    """Of convolutions and matrix products, for these inputs, as torch.utils.flop_counter counts them.

    The shapes are those of a run: what stands in a graph of any batch size may be unknown.
    """
    import onnx

    model = loaded(graph)
    counted = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    wanted = list(dict.fromkeys(name for node in counted for name in (*node.input[:2], node.output[0])))
    shapes = shapes_of(model, wanted, onnx, x, y)
    return sum(products(node, *(shapes[name] for name in (*node.input[:2], node.output[0]))) for node in counted)


def products(node: Any, one: tuple[int, ...], other: tuple[int, ...], made: tuple[int, ...]) -> int:
    """Multiply-adds of a node of a graph; `one`, `other`: its inputs' shapes, `made`: its output's."""
    if node.op_type == "Conv":  # every output is a sum over (in / groups, kernel)
        return math.prod(made) * math.prod(other[1:])
    if node.op_type == "ConvTranspose":  # every input is spread over (out / groups, kernel)
        return math.prod(one) * math.prod(other[1:])
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(made) * one[0 if turned else -1]


def shapes_of(model: Any, wanted: list[str], onnx: Any, x: Tensor, y: Tensor | None) -> dict[str, tuple[int, ...]]:
    """Shapes of these tensors of a graph, which is run for them once as it is written."""
    constant = {one.name: tuple(one.dims) for one in model.graph.initializer}
    asked = [name for name in wanted if name not in constant]
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked if name not in known)
    package = onnxruntime()
    options = package.SessionOptions()
    options.graph_optimization_level = package.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = package.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    named = [one.name for one in session.get_inputs()]
    given = {name: part.cpu().numpy() for name, part in zip(named, [x] if y is None else [x, y], strict=False)}
    found = session.run(asked, given)
    return constant | {name: tuple(array.shape) for name, array in zip(asked, found, strict=True)}
