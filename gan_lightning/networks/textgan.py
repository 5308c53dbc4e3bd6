"""TextGAN's networks — Zhang et al. 2017, "Adversarial Feature Matching for Text Generation", sections 2.2 and 2.3: an
LSTM that is given a code at every token, and a CNN whose features are judged, and from which the code is guessed.

Sizes and what the paper leaves open are those of the published code (dreasysnail/textGAN_public).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gan_lightning.networks.autoregressive import gumbel_like, relax
from gan_lightning.networks.text import pick
from gan_lightning.types import Fraction, PositiveInt


class Memory(NamedTuple):
    """What the LSTM remembers, and what the code adds to its gates."""

    hidden: Tensor  # (N, hidden)
    cell: Tensor  # (N, hidden)
    of_code: Tensor  # (N, 4 · hidden)


class CodeLSTM(nn.Module):
    """Writes a sentence for a code z: h₁ = tanh(C₀ z), hₜ = LSTM(yₜ₋₁, hₜ₋₁, z), logits W_e (V hₜ); y is an embedding.

    What it is made from lies in one row: uniform numbers of the code's size, and one for each token. A code is twice
    its numbers less 1, and so uniform in [-1, 1).

    Args:
        vocabulary, length: of the texts.
        code: numbers of z.
        embedding: numbers that a token is read as; the same vectors give the logits.
        hidden: size of the LSTM's state.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        length: PositiveInt,
        code: PositiveInt = 64,
        embedding: PositiveInt = 64,
        hidden: PositiveInt = 128,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.length = length
        self.code = code
        self.latent_size = code + length
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.first = nn.Linear(code, hidden)
        self.gates_of_code = nn.Linear(code, 4 * hidden)
        self.gates = nn.Linear(embedding + hidden, 4 * hidden, bias=False)  # input, forget, output, new cell
        self.into_embedding = nn.Linear(hidden, embedding, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def code_of(self, latents: Tensor) -> Tensor:
        """Uniform numbers (N, code + L) in [0, 1) -> codes (N, code) in [-1, 1)."""
        return 2 * latents[:, : self.code] - 1

    def begin(self, code: Tensor) -> Memory:
        """After the code (N, code), before any token."""
        hidden = self.first(code).tanh()
        return Memory(hidden, torch.zeros_like(hidden), self.gates_of_code(code))

    def advance(self, embedded: Tensor, memory: Memory) -> Memory:
        """Reads a token, (N, embedding)."""
        gates = self.gates(torch.cat([embedded, memory.hidden], 1)) + memory.of_code
        take, keep, give, new = gates.chunk(4, 1)
        cell = keep.sigmoid() * memory.cell + take.sigmoid() * new.tanh()
        return Memory(give.sigmoid() * cell.tanh(), cell, memory.of_code)

    def scores(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of the next token after states (..., hidden)."""
        return self.into_embedding(hidden) @ self.embedding.weight.T + self.bias

    @torch.no_grad()
    def forward(
        self,
        uniforms: Tensor,
        labels: Tensor | None = None,
        temperature: float = 1.0,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Uniform numbers (N, code + L) -> tokens (N, L) int64; all samples begin with `prefix` (P,)."""
        memory, written = self.begin(self.code_of(uniforms)), []
        for position in range(self.length):
            if position:
                memory = self.advance(self.embedding(written[-1]), memory)
            if prefix is not None and position < len(prefix):
                token = prefix[position].expand(uniforms.shape[0])
            else:
                logits = self.scores(memory.hidden).float()
                token = pick((logits / temperature).softmax(-1), uniforms[:, self.code + position])
            written.append(token)
        return torch.stack(written, 1)

    def logits(self, tokens: Tensor, code: Tensor | None = None) -> Tensor:
        """Of each token given those before it and the code (N, code), or else the mean code: (N, L) -> (N, L, V)."""
        memory = self.begin(self.bias.new_zeros(len(tokens), self.code) if code is None else code)
        states = [memory.hidden]
        for embedded in self.embedding(tokens[:, :-1]).unbind(1):
            memory = self.advance(embedded, memory)
            states.append(memory.hidden)
        return self.scores(torch.stack(states, 1))

    def relaxed(self, latents: Tensor, inverse_temperature: float) -> tuple[Tensor, Tensor]:
        """Latents (N, code + L) -> tokens (N, L) int64, and (N, L, V) float32 near their one-hot vectors.

        Zhang et al. 2017, eq. 7: what is read next is softmax(L · logits) times the embeddings, so that gradients go
        through what was chosen, too. Here the logits have Gumbel noise from torch's global stream.
        """
        memory, tokens, relaxed = self.begin(self.code_of(latents)), [], []
        for position in range(self.length):
            if position:
                memory = self.advance(relaxed[-1] @ self.embedding.weight, memory)
            logits = self.scores(memory.hidden)
            relaxed.append(relax(logits, gumbel_like(logits), inverse_temperature))
            tokens.append(relaxed[-1].detach().argmax(-1))
        return torch.stack(tokens, 1), torch.stack(relaxed, 1)


class FeatureCNN(nn.Module):
    """Convolutions over windows of some widths and the largest answer of each filter; from these features a logit, and
    a guess of the code.

    Args:
        vocabulary, length: of the texts.
        code: numbers of the code that is guessed.
        embedding: numbers that a token is seen as.
        widths: tokens in a window, those longer than the texts left out; `filters` of each.
        hidden: size of the layer before the logit.
        guess: of the layer before the guess.
        dropout: share of the embedded numbers that is left out in training.

    Raises ValueError where no window fits.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        length: PositiveInt,
        code: PositiveInt = 64,
        embedding: PositiveInt = 64,
        widths: Sequence[PositiveInt] = (3, 4, 5),
        filters: PositiveInt = 100,
        hidden: PositiveInt = 200,
        guess: PositiveInt = 200,
        dropout: Fraction = 0.0,
    ) -> None:
        fitting = [width for width in widths if width <= length]
        if not fitting:
            raise ValueError(f"widths={list(widths)}: texts have no more than {length} tokens")
        super().__init__()
        self.vocabulary = vocabulary
        self.code = code
        self.embedding = nn.Embedding(vocabulary, embedding)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.dropout = nn.Dropout(dropout)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding, filters, width) for width in fitting)
        size = filters * len(fitting)
        self.judging = nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.guessing = nn.Sequential(nn.Linear(size, guess), nn.Tanh(), nn.Linear(guess, code), nn.Tanh())

    def features(self, texts: Tensor) -> Tensor:
        """Tokens (N, L) or relaxed one-hot vectors (N, L, V) -> (N, filters · widths) in [-1, 1]."""
        relaxed = texts.is_floating_point()
        embedded = texts @ self.embedding.weight if relaxed else self.embedding(texts)  # (N, L, embedding)
        rows = self.dropout(embedded).transpose(1, 2).contiguous()
        return torch.cat([layer(rows).amax(2).tanh() for layer in self.convolutions], 1)

    def forward(self, texts: Tensor, labels: Tensor | None = None, outputs: bool = False) -> Any:
        """Tokens (N, L) or relaxed one-hot vectors (N, L, V) -> logits (N,); `outputs`: features, logits and the
        guessed codes (N, code)."""
        features = self.features(texts)
        logits = self.judging(features)[:, 0]
        return (features, logits, self.guessing(features)) if outputs else logits
