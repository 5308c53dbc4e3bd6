"""A generator that is an ONNX graph, run by onnxruntime, whose bytes travel in the checkpoint."""

from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.errors import UserError
from gan_lightning.types import PositiveInt

PLAIN = (bool, int, float, str, tuple)  # what is known of the network that the graph was made of


def onnxruntime() -> Any:
    """The package. Raises UserError where it is missing."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError('onnxruntime is missing: pip install "gan_lightning[export]"') from None
    return onnxruntime


class ONNXNetwork(nn.Module):
    """What a graph makes of latents or images and labels, on the CPU, wherever they lie; it is not trained.

    The graph's inputs are latents or images (N, …) and, where there are classes, labels (N,); its output (N, …).

    Args:
        network: that the graph was made of; it says what is given to it (latent_size, classes, multiple, …), and is
            dropped.
        size: of the graph, in bytes.
        threads: of the CPU; None: as many as torch has at the time.
    """

    untrained = "a graph of onnxruntime is not trained; train the run that it was made of"
    graph: Tensor

    def __init__(self, network: nn.Module, size: PositiveInt, threads: PositiveInt | None = None) -> None:
        super().__init__()
        self.facts = plain_attributes(network)
        self.threads = threads
        self.register_buffer("graph", torch.zeros(size, dtype=torch.uint8))
        self.sessions: dict[int, Any] = {}  # by threads
        self.register_load_state_dict_post_hook(forgotten)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            facts = self.__dict__.get("facts", {})
            if name not in facts:
                raise
            return facts[name]

    def __getstate__(self) -> dict[str, Any]:
        """Without sessions, which cannot be copied."""
        return {**self.__dict__, "sessions": {}}

    def model_bytes(self) -> bytes:
        """The graph as a .onnx file holds it."""
        return self.graph.cpu().numpy().tobytes()

    def load_model(self, graph: bytes) -> None:
        """Takes a graph of `size` bytes."""
        self.graph.copy_(torch.frombuffer(bytearray(graph), dtype=torch.uint8))
        self.sessions.clear()

    @property
    def session(self) -> Any:
        """onnxruntime's, for as many threads as it is to have now."""
        threads = self.threads or torch.get_num_threads()
        if threads not in self.sessions:
            package = onnxruntime()
            options = package.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            options.log_severity_level = 3  # errors
            self.sessions[threads] = package.InferenceSession(
                self.model_bytes(), options, providers=["CPUExecutionProvider"]
            )
        return self.sessions[threads]

    @torch.no_grad()
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, …), y (N,) -> samples (N, …) float32. Raises UserError for sizes that the graph is not made for."""
        session = self.session
        wanted = [given.name for given in session.get_inputs()]
        given = [x] if y is None else [x, y]
        try:
            (made,) = session.run(None, {name: one.cpu().numpy() for name, one in zip(wanted, given, strict=False)})
        except Exception as error:  # of the package, which has many kinds
            reason = str(error).splitlines()[0][:200]
            raise UserError(f"the ONNX graph cannot be run on {tuple(x.shape)}: {reason}") from None
        return torch.from_numpy(made).to(x.device)


def plain_attributes(network: nn.Module) -> dict[str, Any]:
    """Numbers, names and switches that a network and its class have by public names."""
    found = {**vars(type(network)), **vars(network)}
    for kind in type(network).__mro__[1:]:
        if kind is nn.Module:
            break
        found = {**vars(kind), **found}
    if isinstance(getattr(network, "network", None), nn.Module):  # of the network in a wrapper
        found = {**plain_attributes(network.network), **found}  # pyright: ignore[reportArgumentType]
    own = ("training", "untrained", "dump_patches", "call_super_init")
    return {key: value for key, value in found.items() if key[0] != "_" and key not in own and isinstance(value, PLAIN)}


def forgotten(network: Any, keys: Any) -> None:
    """A hook for after another graph was loaded."""
    network.sessions.clear()
