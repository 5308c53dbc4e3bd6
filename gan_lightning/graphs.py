"""Minibatches as CUDA graphs: one launch for a whole minibatch, where its many small kernels would wait for the host.

A graph replays the same kernels on the same memory. What changes between minibatches is therefore copied into it
first: the batch, and what is drawn on the host. Learning rates are tensors (players.py); counters, the moving average
and the log stay outside.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from gan_lightning.errors import UserError
from gan_lightning.steps import Turn

if TYPE_CHECKING:
    from gan_lightning.adversarial import AdversarialModule, Batch

WARM_UP = 3  # minibatches of a kind before it is captured: libraries choose kernels, optimizers make their state
Draw = Callable[[], Any]


class Eager:
    """Plays minibatches as they are written."""

    def play(self, module: "AdversarialModule", batch: "Batch", turn: Turn) -> None:
        module.play(batch, turn)

    def drawn(self, purpose: str, draw: Draw) -> Any:
        """What is drawn for a purpose at this minibatch."""
        return draw()

    def forget(self) -> None:
        """Nothing is remembered."""


class Recorder(Protocol):
    """Makes graphs."""

    def aside(self) -> Any:
        """A context for the minibatches before a capture."""

    def record(self, play: Callable[[], None]) -> Callable[[], None]:
        """What replays `play`, which is looked at and not carried out."""
        ...


class CUDARecorder:
    """CUDA graphs with a common memory pool. They share nothing but tensors that outlive them, so any order is safe."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()
        self.pool: Any = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        main = torch.cuda.current_stream()
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream):
            yield
        main.wait_stream(self.stream)

    def record(self, play: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # thread_local: a loader's thread that pins memory meanwhile does not break the capture
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            play()
        self.pool = graph.pool()
        return graph.replay


@dataclass
class Recording:
    """A kind of minibatch that was captured: where its inputs go, and what it gives."""

    batch: "Batch"
    draws: dict[str, Any]
    metrics: dict[str, Tensor | float] = field(default_factory=dict)
    replay: Callable[[], None] = lambda: None


class Graphs(Eager):
    """Replays minibatches: a graph for every kind of turn, captured after a few have been played as they are written.

    Where a capture fails, all go on like that, and `say` is told why; with `insist`, UserError is raised.
    """

    def __init__(self, recorder: Recorder, say: Callable[[str], None], insist: bool = False) -> None:
        self.recorder, self.say, self.insist = recorder, say, insist
        self.recordings: dict[Turn, Recording] = {}
        self.refused = False
        self._played: Counter[Turn] = Counter()
        self._recipes: dict[Turn, dict[str, Draw]] = {}  # how the draws of a kind of turn are made
        self._turn: Turn | None = None
        self._given: dict[str, Any] | None = None  # what is drawn inside a graph

    def drawn(self, purpose: str, draw: Draw) -> Any:
        if self._given is not None:
            return self._given[purpose]
        if self._turn is not None:
            self._recipes.setdefault(self._turn, {})[purpose] = draw
        return draw()

    def play(self, module: "AdversarialModule", batch: "Batch", turn: Turn) -> None:
        if turn not in self.recordings and self._played[turn] >= WARM_UP and not self.refused:
            self.capture(module, batch, turn)
        recording = self.recordings.get(turn)
        if recording is None:
            self._played[turn] += 1
            self._turn = turn
            with self.recorder.aside():
                module.play(batch, turn)
            self._turn = None
            return
        self.copy(batch, recording.batch)
        for purpose, draw in self._recipes[turn].items():
            self.copy(draw(), recording.draws[purpose])
        self._given = recording.draws
        recording.replay()
        self._given = None
        module.metrics |= recording.metrics

    def capture(self, module: "AdversarialModule", batch: "Batch", turn: Turn) -> None:
        """Makes the recording of a kind of turn. Nothing is computed, and no weight changes."""
        draws = {purpose: tree_map(Tensor.clone, draw()) for purpose, draw in self._recipes[turn].items()}
        recording = Recording({key: value.clone() for key, value in batch.items()}, draws)
        metrics, module.metrics = module.metrics, {}
        self._given = draws
        try:
            recording.replay = self.recorder.record(lambda: module.play(recording.batch, turn))
        except (RuntimeError, AssertionError) as error:  # what CUDA and the optimizers cannot capture
            self.refused = True
            reason = " ".join(str(error).split())[:160]
            if self.insist:
                raise UserError(f"step.graphs=on: minibatches cannot be captured: {reason}") from error
            module.forget_minibatch()  # half of it was played
            self.say(f"step.graphs: minibatches are no CUDA graphs, training goes on without: {reason}")
        else:
            recording.metrics = module.metrics
            self.recordings[turn] = recording
        finally:
            self._given = None
            module.metrics = metrics

    def forget(self) -> None:
        """Optimizer states or phases have changed: every kind of turn is captured anew."""
        self.recordings.clear()
        self._played.clear()
        self._recipes.clear()

    def copy(self, source: Any, target: Any) -> None:
        """Puts tensors where the graph reads them."""
        tree_map(lambda to, of: to.copy_(of, non_blocking=True), target, source)
