"""format=torch_export: a graph that torch.export.load reads, without this package."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from gan_lightning.exporting.comparing import Difference, compare
from gan_lightning.exporting.graph import Graph
from gan_lightning.exporting.onnx import silence

FILE = "generator.pt2"


def write(
    graph: Graph, program: ExportedProgram, folder: Path, tolerance: float, metadata: dict[str, str]
) -> Difference:
    """<folder>/generator.pt2, read again and compared. Raises UserError above the tolerance.

    metadata: strings that the file keeps as extra files.
    """
    path = folder / FILE
    made = io.BytesIO()  # torch ends the process where a file cannot be written
    with silence():
        torch.export.save(program, made, extra_files=metadata)
        path.write_bytes(made.getbuffer())
        loaded = torch.export.load(path).module()

    def run(given: Sequence[Tensor]) -> Tensor:
        return loaded(*given)

    return compare(graph, run, "format=torch_export", tolerance)
