"""What an exported file computes: one graph with named inputs, whatever the kind of generator."""

import copy
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.fx.experimental import _config as symbolic_shapes
from torch.nn.utils import parametrize

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.draws import generator as stream_of
from gan_lightning.errors import UserError
from gan_lightning.networks.unet import Noise
from gan_lightning.sampling import evaluation_latents, sampler
from gan_lightning.sequences import TextRule
from gan_lightning.translation import Direction, Translator

BATCHES = (1, 2, 5, 64)  # which a file is tried with
VALUES = 2**24  # most numbers of an output that is tried
OUTPUTS = {"images": "images", "texts": "tokens", "sounds": "sounds", "points": "points"}  # by what samples are
Size = int | str  # of an axis: a number, or the name of what is free
NoiseInput = Literal["input", "none"]


@dataclass(frozen=True)
class Port:
    """An input or the output of a graph, as a model card says it."""

    name: str
    shape: tuple[Size, ...]
    dtype: Literal["float32", "int64"]
    meaning: str


class Graph(nn.Module):
    """A network in eval mode with tensors as its only inputs. `ports` are its inputs, `output` is what it returns."""

    ports: list[Port]
    output: Port

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = plain(network)

    def drawn(self, count: int, seed: int, sides: tuple[int, int] = (0, 0)) -> tuple[Tensor, ...]:
        """Inputs of a batch, a function of the arguments; sides: of images, where they are free."""
        raise NotImplementedError

    def axes(self) -> dict[str, Any]:
        """The free axes of each input, for torch.export."""
        raise NotImplementedError

    def example(self) -> tuple[Tensor, ...]:
        """Inputs that the graph is found with: no two free sizes are equal, none is 1."""
        raise NotImplementedError

    def tried(self) -> list[tuple[Tensor, ...]]:
        """Inputs that a file is compared with torch on; none of them is the example."""
        raise NotImplementedError

    def differences(self, given: tuple[Tensor, ...], expected: Tensor, made: Tensor) -> Tensor:
        """How far apart what a file made of inputs is from what torch did, number by number."""
        return (made.double() - expected.double()).abs()

    def program(self) -> ExportedProgram:
        """The graph as torch.export finds it, with free axes. Raises UserError where it finds none.

        Of some networks it only finds one for all sizes when it is told that sizes it has not seen may be 1, of others
        only when it is not; which, is tried.
        """
        failed: Exception | None = None
        for oblivious in (False, True):
            try:
                with torch.no_grad(), symbolic_shapes.patch(backed_size_oblivious=oblivious):  # pyright: ignore
                    found = export(self, self.example(), dynamic_shapes=self.axes(), strict=False)
                    runs = found.module()
                    for given in self.tried()[:3]:
                        runs(*given)
                return found
            except Exception as error:  # whatever a network does that torch.export does not know
                failed = failed or error
        kind, reason = type(self.network).__name__, str(failed).strip().partition("\n")[0]
        raise UserError(f"checkpoint: torch.export finds no graph of {kind}: {reason[:160]}") from failed


class Drawing(Graph):
    """Latents, and classes where there are any, to samples: as `sample` draws them."""

    def __init__(self, module: AdversarialModule, noun: str, ema: bool) -> None:
        super().__init__(sampler(module, ema=ema))
        self.module = [module]  # a list: its weights are none of the graph's
        self.classes = module.classes
        latents = evaluation_latents(module, 2, 0)
        if not isinstance(latents, Tensor):
            raise UserError(f"checkpoint: latents of {type(module).__name__} are several tensors: not exported")
        self.writes = isinstance(module, TextRule)
        self.ports = [Port("latents", ("N", *latents.shape[1:]), "float32", described(module))]
        if self.classes:
            self.ports.append(Port("labels", ("N",), "int64", f"a class each, 0 to {self.classes - 1}"))
        with torch.no_grad():
            made = self(*self.example())
        dtype = "float32" if made.is_floating_point() else "int64"
        values = "numbers of words" if self.writes else "[-1, 1]; a network may leave it a little: clip"
        self.output = Port(OUTPUTS.get(noun, "samples"), ("N", *made.shape[1:]), dtype, values)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.network(latents, labels)

    def drawn(self, count: int, seed: int, sides: tuple[int, int] = (0, 0)) -> tuple[Tensor, ...]:
        latents = evaluation_latents(self.module[0], count, seed).cpu()
        if not self.classes:
            return (latents,)
        return latents, torch.randint(self.classes, (count,), generator=stream_of(seed, "export"))

    def example(self) -> tuple[Tensor, ...]:
        return self.drawn(3, 0)

    def axes(self) -> dict[str, Any]:
        batch = Dim("batch", min=1)
        return {port.name: {0: batch} for port in self.ports}

    def tried(self) -> list[tuple[Tensor, ...]]:
        values = torch.Size(size for size in self.output.shape[1:] if isinstance(size, int)).numel()
        return [self.drawn(count, 1 + count) for count in BATCHES if count <= 2 or count * values <= VALUES]

    def differences(self, given: tuple[Tensor, ...], expected: Tensor, made: Tensor) -> Tensor:
        if not self.writes:
            return super().differences(given, expected, made)
        return misplaced(self.network, given[0], made)


class Translating(Graph):
    """Images, with masks or noise where the network takes them, to images: as `translate` does.

    Args:
        noise: of a network that draws by itself: "input" has numbers given, "none" leaves it out.
    """

    def __init__(self, module: Translator, ema: bool, direction: Direction, noise: NoiseInput) -> None:
        network = module.translating(ema, direction)
        super().__init__(network)
        self.multiple = getattr(network, "multiple", 1)
        # an attention to other places has none in an image of one or two
        least = 3 * self.multiple if module.takes_masks else getattr(network, "smallest", 1)
        self.fewest = -(-least // self.multiple)  # parts of `multiple` pixels a side
        self.masked = module.takes_masks
        self.channels = module.channels_given(direction) - self.masked
        self.usual = max(-(-module.input_shape[1] // self.multiple), self.fewest)
        self.numbers = Numbers()
        for name, layer in list(self.network.named_modules()):
            if isinstance(layer, Noise):
                given = Given(layer.p, self.numbers) if noise == "input" else nn.Identity()
                parent, _, own = name.rpartition(".")
                setattr(self.network.get_submodule(parent), own, given)
        side = self.multiple * 4 * self.fewest
        made = self.look((side, side))
        self.noises = [
            (shape[1], side // shape[2]) for shape in self.numbers.asked
        ]  # channels, and pixels of a side in one
        free = [f"{self.multiple}·{axis}" if self.multiple > 1 else axis for axis in "hw"]
        self.ports = [Port("image", ("N", self.channels, *free), "float32", "[-1, 1]")]
        if self.masked:
            self.ports.append(Port("mask", ("N", 1, *free), "float32", "1 in the hole, 0 elsewhere"))
        for number, (channels, pixels) in enumerate(self.noises, 1):
            parts = [f"{self.multiple // pixels}·{axis}" if self.multiple > pixels else axis for axis in "hw"]
            self.ports.append(
                Port(f"noise_{number}", ("N", channels, *parts), "float32", "uniform in [0, 1): dropout's")
            )
        scale = made.shape[-1] // side
        larger = [f"{scale * self.multiple}·{axis}" if scale * self.multiple > 1 else axis for axis in "hw"]
        self.output = Port("images", ("N", made.shape[1], *larger), "float32", "[-1, 1]")

    @torch.no_grad()
    def look(self, sides: tuple[int, int]) -> Tensor:
        """An image of these sides through the network, which says what noise it asks for."""
        given = [torch.zeros(1, self.channels, *sides)]
        return self(*given, *([torch.zeros(1, 1, *sides)] if self.masked else []))

    def forward(self, image: Tensor, *others: Tensor) -> Tensor:
        if self.masked:
            image = torch.cat([image * (1 - others[0]), others[0]], 1)
        self.numbers.given = list(others[self.masked :])
        return self.network(image)

    def drawn(self, count: int, seed: int, sides: tuple[int, int] = (0, 0)) -> tuple[Tensor, ...]:
        """sides: in parts of `multiple` pixels."""
        stream, (height, width) = stream_of(seed, "export"), (self.multiple * side for side in sides)
        given = [torch.rand(count, self.channels, height, width, generator=stream) * 2 - 1]
        if self.masked:
            mask = torch.zeros(count, 1, height, width)
            mask[:, :, height // 4 : height // 2, width // 3 : 2 * width // 3] = 1
            given.append(mask)
        for channels, pixels in self.noises:
            given.append(torch.rand(count, channels, height // pixels, width // pixels, generator=stream))
        return tuple(given)

    def example(self) -> tuple[Tensor, ...]:
        return self.drawn(3, 0, (self.fewest + 3, self.fewest + 1))

    def axes(self) -> dict[str, Any]:
        batch = Dim("batch", min=1)
        height, width = (Dim(name, min=self.fewest) for name in "hw")

        def times(number: int) -> dict[int, Any]:
            return {2: height, 3: width} if number == 1 else {2: number * height, 3: number * width}

        image = {0: batch, **times(self.multiple)}
        found = [image, *([image] if self.masked else [])]
        found += [{0: batch, **times(self.multiple // pixels)} for _, pixels in self.noises]
        return {"image": found[0], **({"others": tuple(found[1:])} if len(found) > 1 else {})}

    def tried(self) -> list[tuple[Tensor, ...]]:
        """Batches of several sizes and shapes; one is of the size that the network was trained on."""
        few = self.fewest
        found = [(1, (self.usual, self.usual)), (2, (few + 2, few)), (5, (few, few + 1)), (64, (few, few))]
        scale = self.output.shape[2] if isinstance(self.output.shape[2], int) else 1
        pixels = (self.multiple * scale) ** 2 * self.channels
        return [
            self.drawn(count, 1 + count, sides)
            for count, sides in found
            if count == 1 or count * sides[0] * sides[1] * pixels <= VALUES // 4
        ]


class Numbers:
    """Those of a pass through a network, for the layers that draw: in no list of a module, where torch.export would
    take them for its state."""

    def __init__(self) -> None:
        self.given: list[Tensor] = []
        self.asked: list[torch.Size] = []  # the shapes of what they are needed for


class Given(nn.Module):
    """Dropout whose numbers, uniform in [0, 1), are given: (N, C, H, W) -> the same."""

    def __init__(self, share: float, numbers: Numbers) -> None:
        super().__init__()
        self.share, self.numbers = share, numbers

    def forward(self, x: Tensor) -> Tensor:
        if not self.numbers.given:  # it is only looked at
            self.numbers.asked.append(x.shape)
            return x
        return x * (self.numbers.given.pop(0) >= self.share) / (1 - self.share)


def plain(network: nn.Module) -> nn.Module:
    """A copy on the CPU whose weights are what reparametrisations, such as spectral norm, make of them."""
    network = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    for layer in list(network.modules()):
        if isinstance(layer, parametrize.ParametrizationList) or not parametrize.is_parametrized(layer):
            continue
        kind = type(layer)  # made for the layer it was copied of, which would lose its weights with it
        own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
        layer.__class__ = cast(Any, type(kind.__name__, kind.__bases__, own))
        for name in list(layer.parametrizations):  # pyright: ignore[reportArgumentType, reportCallIssue]
            parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
    return network


def described(module: AdversarialModule) -> str:
    """What latents are drawn from."""
    if isinstance(module, TextRule):
        return "uniform in [0, 1)"
    if codes := module.code_slices():
        parts = [
            f"{name} in [{start}:{end}] ({'one-hot' if end - start > 1 else '[-1, 1]'})"
            for name, (start, end) in codes.items()
        ]
        return f"{DISTRIBUTIONS[module.latents]}, then codes: {', '.join(parts)}"
    return DISTRIBUTIONS[module.latents]


DISTRIBUTIONS = {"normal": "N(0, 1)", "uniform": "uniform in [-1, 1)", "unit": "uniform in [0, 1)"}


@torch.no_grad()
def misplaced(generator: Any, uniforms: Tensor, tokens: Tensor) -> Tensor:
    """How far each uniform number lies outside the part of [0, 1] that belongs to the token it is said to have chosen.

    Uniform numbers (N, S), tokens (N, L) -> (N, L); a token chosen rightly has 0. Two programs that round differently
    may choose neighbours at a boundary, and go on differently from there: the share of equal tokens would say little.
    """
    code = generator.code_of(uniforms) if hasattr(generator, "code_of") else None
    logits = generator.logits(tokens) if code is None else generator.logits(tokens, code=code)  # (N, L, V)
    probabilities = logits.double().softmax(-1)
    own = tokens[..., None]
    end = probabilities.cumsum(-1).gather(-1, own)[..., 0]  # (N, L)
    start = end - probabilities.gather(-1, own)[..., 0]
    numbers = uniforms[:, -tokens.shape[1] :].double()
    return torch.maximum(start - numbers, numbers - end).clamp_min(0)


def graph_of(
    module: AdversarialModule, noun: str, *, ema: bool, direction: Direction, noise: NoiseInput | None
) -> Graph:
    """The graph of a trained module. Raises UserError for what it does not have.

    noun: what its samples are; noise: None: an input, where the network draws by itself.
    """
    if isinstance(module, Translator):
        draws = any(isinstance(layer, Noise) for layer in module.translating(ema, direction).modules())
        if noise is not None and not draws:
            raise UserError(f"noise={noise}: {type(module.generator).__name__} draws none in use; leave it out")
        return Translating(module, ema, direction, noise or "input").eval()
    if direction != "a2b":
        raise UserError(f"direction={direction}: {type(module).__name__} makes {noun} of latents, and has none")
    if noise is not None:
        raise UserError(f"noise={noise}: {type(module.generator).__name__} draws none in use; leave it out")
    return Drawing(module, noun, ema).eval()
