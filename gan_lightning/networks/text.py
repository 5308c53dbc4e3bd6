"""SeqGAN's networks (Yu et al. 2017; sizes as in its code): an LSTM that writes, convolutions that read.

The generator begins every sequence with token 0 as its input. Tokens are drawn by the inverse of the distribution
function, so that a sequence is a function of its uniform numbers and of the weights.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_lightning.types import Fraction, PositiveInt

START = 0  # the token that the generator is fed first
BLOCK = 64  # tokens of the vocabulary that are summed before one is looked for
ROWS = 256  # distributions that are made at once on a CPU: they stay in its cache
State = tuple[Tensor, Tensor]  # of the LSTM: what it gives and its cell, (N, hidden) each


def pick(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """The first token whose cumulated probability exceeds the uniform number: (N, V), (N,) -> (N,) int64.

    Sums of blocks say in which block it is: V numbers are summed, which is fast, and only 2·√V or so cumulated.
    Probabilities need not sum to 1 exactly: what counts is their share of the sum.
    """
    count, vocabulary = probabilities.shape
    whole = vocabulary // BLOCK * BLOCK
    sums = probabilities[:, :whole].unflatten(1, (-1, BLOCK)).sum(2)  # (N, V // BLOCK)
    if whole < vocabulary:
        sums = torch.cat([sums, probabilities[:, whole:].sum(1, keepdim=True)], 1)
    cumulated = sums.cumsum(1)
    target = uniforms[:, None].to(sums.dtype) * cumulated[:, -1:]
    block = up_to(cumulated, target).clamp(max=sums.shape[1] - 1)  # u = 1 - tiny is rounded
    before = cumulated.gather(1, block) - sums.gather(1, block)
    places = block * BLOCK + torch.arange(BLOCK, device=block.device)  # (N, BLOCK)
    inside = probabilities.gather(1, places.clamp(max=vocabulary - 1)).cumsum(1)
    found = up_to(inside, target - before)
    last = torch.where(block == sums.shape[1] - 1, vocabulary - 1 - block * BLOCK, BLOCK - 1)
    return (block * BLOCK + torch.minimum(found, last)).view(count)


def up_to(ascending: Tensor, targets: Tensor) -> Tensor:
    """How many of the ascending numbers are at most the target: (N, K), (N, 1) -> (N, 1) int64."""
    if torch.compiler.is_exporting():  # ONNX has no such search
        return (ascending <= targets).sum(1, keepdim=True)
    return torch.searchsorted(ascending, targets, right=True)


class LSTMGenerator(nn.Module):
    """One LSTM over embedded tokens, and a linear layer over the vocabulary.

    Args:
        vocabulary: how many tokens there are.
        length: of the sequences.
        embedding, hidden: sizes of an embedded token and of the LSTM's state.
        deviation: of the normal distribution that all weights begin with.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        length: PositiveInt,
        embedding: PositiveInt = 32,
        hidden: PositiveInt = 32,
        deviation: float = 0.1,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.length = length
        self.latent_size = length  # a uniform number for each token
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.inputs = nn.Linear(embedding, 4 * hidden)  # of the gates: input, forget, output, new cell
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        self.output = nn.Linear(hidden, vocabulary)
        for weight in self.parameters():
            nn.init.normal_(weight, 0.0, deviation)

    @torch.no_grad()
    def forward(
        self,
        uniforms: Tensor,
        labels: Tensor | None = None,
        temperature: float = 1.0,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Sequences that the uniform numbers choose: (N, L) -> tokens (N, L) int64.

        temperature: logits are divided by it; prefix: tokens (P,) that every sequence begins with.
        """
        tokens = torch.zeros(uniforms.shape, dtype=torch.int64, device=uniforms.device)
        given = 0 if prefix is None else min(len(prefix), self.length)
        if prefix is not None:
            tokens[:, :given] = prefix[:given]
        return self.complete(tokens, given, uniforms, temperature)

    def logits(self, tokens: Tensor) -> Tensor:
        """Of each token given those before it: (N, L) -> (N, L, V)."""
        return self.output(torch.stack([hidden for hidden, _ in self.states(tokens)], 1))

    @torch.no_grad()
    def complete(self, tokens: Tensor, given: Tensor | int, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """Keeps the first `given` tokens of each sequence and draws the rest.

        (N, L), (N,) or a number, uniform numbers (N, L) -> tokens (N, L)
        """
        given = given.to(tokens.device) if isinstance(given, Tensor) else given
        made = []
        state, token = self.begin(tokens.shape[0], tokens.device), torch.full_like(tokens[:, 0], START)
        for place in range(tokens.shape[1]):
            state = self.step(self.read(token), state)
            if isinstance(given, Tensor):
                drawn = self.draw(state[0], uniforms[:, place], temperature)
                token = torch.where(place < given, tokens[:, place], drawn)
            else:
                known = place < given
                token = tokens[:, place] if known else self.draw(state[0], uniforms[:, place], temperature)
            made.append(token)
        return torch.stack(made, 1)

    @torch.no_grad()
    def rollouts(self, tokens: Tensor, uniforms: Tensor) -> Tensor:
        """Every true beginning of each sequence, once completed: (N, L), (N, L(L-1)/2) -> tokens (L-1, N, L).

        The first index t - 1 is of those that keep t tokens. All beginnings are completed in one loop over places:
        after t tokens the sequence's own state joins those that are already being completed. Place i (from 0) takes
        the uniform numbers from i(i-1)/2 on, one for each beginning of 1 … i tokens.
        """
        count, length = tokens.shape
        made = tokens.repeat(length - 1, 1, 1)  # (L-1, N, L)
        states = self.states(tokens)
        hidden, cell = tokens.new_empty(0), tokens.new_empty(0)
        for place in range(1, length):
            own = states[place]  # after all tokens before this place
            if place == 1:
                hidden, cell = own
            else:
                moved = self.step(self.read(made[: place - 1, :, place - 1].flatten()), (hidden, cell))
                hidden, cell = torch.cat([moved[0], own[0]]), torch.cat([moved[1], own[1]])  # (place · N, hidden)
            first = place * (place - 1) // 2
            numbers = uniforms[:, first : first + place].T.flatten()  # (place · N,), as the states lie
            made[:place, :, place] = self.draw(hidden, numbers).view(place, count)
        return made

    # ---- one token --------------------------------------------------------------------------------------------------

    def begin(self, count: int, device: torch.device) -> State:
        """The state before the first token."""
        zeros = torch.zeros(count, self.output.in_features, device=device)
        return zeros, zeros

    def read(self, tokens: Tensor) -> Tensor:
        """What tokens (...) add to the gates: (..., 4 · hidden)."""
        return self.inputs(self.embedding(tokens))

    def step(self, inputs: Tensor, state: State) -> State:
        """The next state, with what a token adds to the gates (N, 4 · hidden): Hochreiter & Schmidhuber 1997, with a
        forget gate."""
        hidden, cell = state
        size = self.output.in_features
        gates = inputs + self.recurrent(hidden)
        take, keep, give = gates[:, : 3 * size].sigmoid().chunk(3, 1)
        cell = keep * cell + take * gates[:, 3 * size :].tanh()
        return give * cell.tanh(), cell

    def states(self, tokens: Tensor) -> list[State]:
        """With the tokens' own past (teacher forcing): at i the state after token 0 and tokens 0 … i - 1, (N, L)."""
        fed = torch.cat([torch.full_like(tokens[:, :1], START), tokens[:, :-1]], 1)
        state, found = self.begin(len(tokens), tokens.device), []
        for inputs in self.read(fed).unbind(1):
            state = self.step(inputs, state)
            found.append(state)
        return found

    def draw(self, hidden: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """Tokens (N,) after states (N, hidden), a few rows at a time where that is faster."""
        if hidden.device.type != "cpu" or torch.compiler.is_exporting():
            return pick((self.output(hidden).float() / temperature).softmax(1), uniforms)
        parts = zip(hidden.split(ROWS), uniforms.split(ROWS), strict=True)
        drawn = [pick((self.output(state).float() / temperature).softmax(1), numbers) for state, numbers in parts]
        return drawn[0] if len(drawn) == 1 else torch.cat(drawn)


class TextCNN(nn.Module):
    """Convolutions of many widths over embedded tokens, the largest answer of each filter, a highway layer.

    The two classes of the paper give two scores; the logit is their difference, so that its sigmoid is the softmax's
    probability of "real".

    Args:
        vocabulary: how many tokens there are.
        length: of the sequences; filters that are longer are left out.
        embedding: size of an embedded token.
        filter_sizes, filters: tokens that a filter sees, and how many there are of that size.
        dropout: share of the features that is left out in training.

    Raises ValueError where the two lists differ in length or no filter fits.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        length: PositiveInt,
        embedding: PositiveInt = 64,
        filter_sizes: Sequence[PositiveInt] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20),
        filters: Sequence[PositiveInt] = (100, 200, 200, 200, 200, 100, 100, 100, 100, 100, 160, 160),
        dropout: Fraction = 0.25,
    ) -> None:
        if len(filter_sizes) != len(filters):
            raise ValueError(f"filters={list(filters)}: there are {len(filter_sizes)} filter_sizes")
        fitting = [(size, count) for size, count in zip(filter_sizes, filters, strict=True) if size <= length]
        if not fitting:
            raise ValueError(f"filter_sizes={list(filter_sizes)}: sequences have no more than {length} tokens")
        super().__init__()
        self.vocabulary = vocabulary
        self.length = length
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding, count, size) for size, count in fitting)
        features = sum(count for _, count in fitting)
        self.transformed = nn.Linear(features, features)
        self.gate = nn.Linear(features, features)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(features, 2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As in SeqGAN's code, whose highway layer leaves TensorFlow to choose: Glorot's uniform, biases included."""
        nn.init.uniform_(self.embedding.weight, -1.0, 1.0)
        for layer in (*self.convolutions, self.output):
            nn.init.trunc_normal_(layer.weight, 0.0, 0.1, -0.2, 0.2)  # pyright: ignore[reportArgumentType]
            nn.init.constant_(layer.bias, 0.1)  # pyright: ignore[reportArgumentType]
        for layer in (self.transformed, self.gate):
            nn.init.xavier_uniform_(layer.weight)
            bound = (3 / layer.out_features) ** 0.5
            nn.init.uniform_(layer.bias, -bound, bound)

    def forward(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N,) of tokens (N, L) int64, or of weights of all tokens at every place (N, L, V)."""
        embedded = tokens @ self.embedding.weight if tokens.is_floating_point() else self.embedding(tokens)
        embedded = embedded.transpose(1, 2).contiguous()  # (N, embedding, L)
        features = torch.cat([layer(embedded).amax(2) for layer in self.convolutions], 1).relu()  # max and ReLU commute
        gate = self.gate(features).sigmoid()  # Srivastava et al. 2015
        mixed = gate * self.transformed(features).relu() + (1 - gate) * features
        scores = self.output(self.dropout(mixed))  # (N, 2): generated, real
        return scores[:, 1] - scores[:, 0]
