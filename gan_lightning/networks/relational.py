"""RelGAN's networks — Nie, Narodytska & Patel 2019, "RelGAN: Relational Generative Adversarial Networks for Text
Generation", section 2: a relational memory (Santoro et al. 2018, "Relational recurrent neural networks") that writes,
and a convolutional network that looks at a text in many representations of few numbers each.

The sizes, the initial weights and what the paper leaves open are those of the published code (weilinie/RelGAN).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.networks.autoregressive import Autoregressive, truncated_normal
from gan_lightning.types import Fraction, PositiveInt


class Read(NamedTuple):
    """What the memory makes of inputs alone, for all tokens at once."""

    keys: Tensor  # (N, T, heads, head_size)
    values: Tensor  # (N, T, heads, head_size)
    gates: Tensor  # (N, T, 2 · memory_size)

    def at(self, position: int) -> "Read":
        return Read(*(part[:, position : position + 1] for part in self))


class RelationalMemory(nn.Module):
    """Rows of numbers that attend to each other and to the input, then are gated like an LSTM's cell.

    Santoro et al. 2018, section 3, with one round of attention and gates for every number. As in the published code the
    queries are divided by the root of 3 · head_size, and queries, keys and values are normalised together.

    Args:
        inputs: numbers that are read at a time.
        slots: rows of the memory.
        heads, head_size: of the attention; a row has heads · head_size numbers.
        layers: of the network that each row goes through after the attention.
    """

    def __init__(
        self, inputs: int, slots: PositiveInt, heads: PositiveInt, head_size: PositiveInt, layers: PositiveInt = 2
    ) -> None:
        super().__init__()
        size = heads * head_size
        self.slots, self.heads, self.head_size, self.size = slots, heads, head_size, size
        self.into_row = nn.Linear(inputs, size)
        self.attention = nn.Linear(size, 3 * size, bias=False)
        self.attention_norm = nn.LayerNorm(3 * size)
        self.attended_norm = nn.LayerNorm(size)
        self.network = nn.ModuleList(nn.Linear(size, size) for _ in range(layers))
        self.network_norm = nn.LayerNorm(size)
        self.gates_of_input = nn.Linear(size, 2 * size, bias=False)
        self.gates_of_memory = nn.Linear(size, 2 * size, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                truncated_normal(layer.weight, 1 / math.sqrt(layer.in_features))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def begin(self, count: int, like: Tensor) -> Tensor:
        """The first memory (N, slots, size): every row is another unit vector."""
        # repeated, not expanded: an exporter asks of what is expanded that there are several
        return torch.eye(self.slots, self.size, device=like.device, dtype=like.dtype).repeat(count, 1, 1)

    def projected(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of rows (N, R, size): each (N, R, heads, head_size)."""
        found = self.attention_norm(self.attention(rows)).unflatten(-1, (self.heads, 3 * self.head_size))
        queries, keys, values = found.split(self.head_size, -1)
        return queries * (3 * self.head_size) ** -0.5, keys, values

    def read(self, inputs: Tensor) -> Read:
        """Inputs (N, T, inputs), one to be read after the other."""
        rows = self.into_row(inputs)  # (N, T, size)
        _, keys, values = self.projected(rows)
        return Read(keys, values, self.gates_of_input(rows))

    def forward(self, memory: Tensor, read: Read) -> Tensor:
        """The memory (N, slots, size) after one input: the next memory. The input's own row is not kept."""
        queries, keys, values = self.projected(memory)
        keys, values = torch.cat([keys, read.keys], 1), torch.cat([values, read.values], 1)  # (N, slots + 1, ...)
        weights = (queries.transpose(1, 2) @ keys.permute(0, 2, 3, 1)).softmax(-1)  # (N, heads, slots, slots + 1)
        attended = (weights @ values.transpose(1, 2)).transpose(1, 2).flatten(2)  # (N, slots, size)
        rows = self.attended_norm(memory + attended)
        made = rows
        for number, layer in enumerate(self.network):
            made = layer(made if number == 0 else made.relu())
        candidate = self.network_norm(rows + made).tanh()
        gates = read.gates + self.gates_of_memory(memory.tanh())  # (N, slots, 2 · size)
        write, keep = gates.chunk(2, -1)
        return write.sigmoid() * candidate + (keep + 1).sigmoid() * memory


class RelationalGenerator(Autoregressive):
    """Writes with a relational memory; the logits are a linear map of all its rows.

    Args:
        vocabulary, length: of the texts.
        embedding: numbers that a token is read as.
        slots, heads, head_size: of the memory.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        length: PositiveInt,
        embedding: PositiveInt = 32,
        slots: PositiveInt = 1,
        heads: PositiveInt = 2,
        head_size: PositiveInt = 256,
    ) -> None:
        super().__init__(vocabulary, length)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.memory = RelationalMemory(embedding, slots, heads, head_size)
        self.output = nn.Linear(slots * heads * head_size, vocabulary)
        truncated_normal(self.embedding.weight, 1 / math.sqrt(vocabulary))
        truncated_normal(self.output.weight, 1 / math.sqrt(self.output.in_features))
        nn.init.zeros_(self.output.bias)

    def begin(self, count: int, like: Tensor) -> Tensor:
        return self.memory.begin(count, like)

    def advance(self, tokens: Tensor, state: Any) -> tuple[Tensor, Tensor]:
        memory = self.memory(state, self.memory.read(self.embedding(tokens)[:, None]))
        return self.output(memory.flatten(1)), memory

    def logits(self, tokens: Tensor) -> Tensor:
        before = functional.pad(tokens, (1, 0))[:, :-1]  # (N, L): token 0, then all but the last
        read, memory = self.memory.read(self.embedding(before)), self.begin(len(tokens), self.embedding.weight)
        memories = []
        for position in range(tokens.shape[1]):
            memory = self.memory(memory, read.at(position))
            memories.append(memory.flatten(1))
        return self.output(torch.stack(memories, 1))


class RepresentationCNN(nn.Module):
    """Looks at a text in R representations, each with the same filters: one logit for each.

    Convolutions over windows of some widths, the largest answer in the text, a highway layer and two linear ones (Nie
    et al. 2019, section 2.3). A representation has embedding / R numbers of every token, one in the published code.

    Args:
        vocabulary, length: of the texts.
        embedding: numbers that a token is seen as, in all representations together.
        representations: R.
        widths: tokens in a window, those longer than the texts left out; `filters` of each.
        hidden: size of the layer before the logits.
        dropout: share of the features that is left out in training.

    Raises ValueError for representations that do not divide the embedding, and where no window fits.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        length: PositiveInt,
        embedding: PositiveInt = 64,
        representations: PositiveInt = 64,
        widths: Sequence[PositiveInt] = (2, 3, 4, 5),
        filters: PositiveInt = 300,
        hidden: PositiveInt = 100,
        dropout: Fraction = 0.25,
    ) -> None:
        if embedding % representations:
            raise ValueError(f"representations={representations}: must divide embedding={embedding}")
        fitting = [width for width in widths if width <= length]
        if not fitting:
            raise ValueError(f"widths={list(widths)}: texts have no more than {length} tokens")
        super().__init__()
        self.vocabulary = vocabulary
        self.representations = representations
        size, features = embedding // representations, filters * len(fitting)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.convolutions = nn.ModuleList(nn.Conv1d(size, filters, width) for width in fitting)
        self.highway = nn.Linear(features, 2 * features, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(features, hidden)
        self.output = nn.Linear(hidden, 1)
        truncated_normal(self.embedding.weight, 1 / math.sqrt(vocabulary))
        for layer in self.convolutions:
            assert isinstance(layer, nn.Conv1d)
            truncated_normal(layer.weight, math.sqrt(2 / (size * layer.kernel_size[0])))
        for layer in (self.highway, self.hidden, self.output):
            truncated_normal(layer.weight, 1 / math.sqrt(layer.in_features))
        for layer in (*self.convolutions, self.hidden, self.output):
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, texts: Tensor, labels: Tensor | None = None, separate: bool = False) -> Tensor:
        """Tokens (N, L) or relaxed one-hot vectors (N, L, V) -> logits (N,), the mean over the representations.

        separate: those of all representations, (N, R).
        """
        relaxed = texts.is_floating_point()
        embedded = texts @ self.embedding.weight if relaxed else self.embedding(texts)  # (N, L, embedding)
        split = embedded.unflatten(2, (self.representations, -1)).permute(0, 2, 3, 1)  # (N, R, size, L)
        rows = split.flatten(0, 1)
        found = torch.cat([layer(rows).amax(2).relu() for layer in self.convolutions], 1)  # (N · R, features)
        gate, made = self.highway(found).chunk(2, 1)
        share = gate.sigmoid()
        found = share * made.relu() + (1 - share) * found
        logits = self.output(self.hidden(self.dropout(found))).view(len(texts), self.representations)
        return logits if separate else logits.mean(1)
