"""format=onnx: a file for any program that reads ONNX, tried with onnxruntime."""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.export import ExportedProgram

from gan_lightning.errors import UserError
from gan_lightning.exporting.comparing import Difference, compare
from gan_lightning.exporting.graph import Graph
from gan_lightning.networks.onnx import ONNXNetwork

FILE = "generator.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ERRORS_ONLY = 3  # of onnxruntime's levels


def write(
    graph: Graph, program: ExportedProgram, folder: Path, tolerance: float, metadata: dict[str, str]
) -> Difference:
    """<folder>/generator.onnx, with the weights beside it where they are more than 2 GB.

    metadata: strings that the file keeps. Raises UserError where the graph is none of ONNX, and above the tolerance.
    """
    path = folder / FILE
    try:
        with silence():
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=[port.name for port in graph.ports],
                output_names=[graph.output.name],
            )
            name_axes(made.model, graph)
            made.model.metadata_props.update(metadata)
            made.model.producer_name = "gan_lightning"
            made.save(path)
    except Exception as error:  # of three libraries, which have no class of errors in common
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"format=onnx: {type(graph.network).__name__} cannot be written: {reason}") from error
    return compare(graph, runner(path), "format=onnx", tolerance)


def copy(graph: Graph, folder: Path, tolerance: float) -> Difference:
    """<folder>/generator.onnx, of a generator that is such a graph already."""
    path = folder / FILE
    path.write_bytes(cast(ONNXNetwork, graph.network).model_bytes())
    return compare(graph, runner(path), "format=onnx", tolerance)


def runner(path: Path) -> Any:
    """What makes the output of inputs, in their order, by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(given: Sequence[Tensor]) -> Tensor:
        numbers = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
        return torch.from_numpy(session.run(None, numbers)[0])

    return run


def name_axes(model: Any, graph: Graph) -> None:
    """Free axes have the names that the ports say, N, h and w, in place of torch's symbols: s48.

    Between inputs and output they are forgotten: onnxruntime takes what torch writes there for promises, and shares
    memory between sizes that differ.
    """
    names: dict[str, str] = {}
    for value, port in zip(model.graph.inputs, graph.ports, strict=True):
        for size, name in zip(value.shape, port.shape, strict=True):
            symbol = re.search(r"\bs\d+\b", str(size))
            if symbol and isinstance(name, str):
                names.setdefault(symbol[0], name.rpartition("·")[2])
    ends = [*model.graph.inputs, *model.graph.outputs]
    for value in ends:
        for place, size in enumerate(value.shape):
            if not isinstance(size, int):
                value.shape[place] = re.sub(r"\bs\d+\b", lambda found: names.get(found[0], found[0]), str(size))
    for node in model.graph:
        for value in node.outputs:
            if value not in ends and value.shape is not None and not all(isinstance(size, int) for size in value.shape):
                value.shape = None


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Exporters print what they do and warn of what they may not know: a user is told whether the file is right."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
