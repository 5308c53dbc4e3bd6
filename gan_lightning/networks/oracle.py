"""The oracle of SeqGAN's synthetic benchmark: an LSTM with random weights, which is the true distribution.

Yu et al. 2017, "SeqGAN: Sequence Generative Adversarial Nets with Policy Gradient", section 4.1. Its sequences are the
real data, and how likely it finds a model's sequences is the model's score.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from gan_lightning.contents import refuse_bombs
from gan_lightning.draws import generator
from gan_lightning.errors import UserError

GATES = ("input", "forget", "output", "cell")
KEYS = ("embedding", *(f"{kind}_{gate}" for gate in GATES for kind in "WUb"), "W_vocab", "b_vocab")
BLOCK = 256  # sequences at a time: their logits are 256 · V numbers a position


def shapes(vocabulary: int, embedding: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter."""
    of_gates = {"W": (embedding, hidden), "U": (hidden, hidden), "b": (hidden,)}
    return {
        "embedding": (vocabulary, embedding),
        **{f"{kind}_{gate}": of_gates[kind] for gate in GATES for kind in "WUb"},
        "W_vocab": (hidden, vocabulary),
        "b_vocab": (vocabulary,),
    }


class OracleLSTM(nn.Module):
    """An LSTM that is not trained. The first input is token 0, the first state zero.

    x W + h U + b of every gate; sigmoid for input, forget and output, tanh for the cell; logits h W_vocab + b_vocab.

    Args:
        parameters: float32 by the names in KEYS, in the shapes of `shapes`.
    """

    embedding: Tensor
    of_input: Tensor
    of_state: Tensor
    bias: Tensor
    to_words: Tensor
    words_bias: Tensor

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        gates = {kind: torch.cat([parameters[f"{kind}_{gate}"] for gate in GATES], -1) for kind in "WUb"}
        self.register_buffer("embedding", parameters["embedding"])  # (V, E)
        self.register_buffer("of_input", gates["W"])  # (E, 4 H)
        self.register_buffer("of_state", gates["U"])  # (H, 4 H)
        self.register_buffer("bias", gates["b"])  # (4 H,)
        self.register_buffer("to_words", parameters["W_vocab"])  # (H, V)
        self.register_buffer("words_bias", parameters["b_vocab"])  # (V,)

    @property
    def vocabulary(self) -> int:
        return len(self.embedding)

    @classmethod
    def drawn(cls, vocabulary: int, seed: int, embedding: int = 32, hidden: int = 32) -> "OracleLSTM":
        """With every weight and bias from N(0, 1)."""
        return cls(
            {
                name: torch.randn(shape, generator=generator(seed, "oracle", name))
                for name, shape in shapes(vocabulary, embedding, hidden).items()
            }
        )

    @classmethod
    def of_file(cls, path: Path) -> "OracleLSTM":
        """From an .npz. Raises UserError where it cannot be read or is of another shape."""
        try:
            if not path.is_file():
                raise UserError(f"{path}: there is no such file")
            refuse_bombs(path, key="", packed=True)
            with np.load(path, allow_pickle=False) as file:
                if missing := [key for key in KEYS if key not in file]:
                    raise UserError(f"{path}: has no {missing[0]}; an oracle's parameters are {', '.join(KEYS)}")
                found = {key: np.asarray(file[key]) for key in KEYS}
        except UserError:
            raise
        except (OSError, ValueError, EOFError, BadZipFile, AttributeError, TypeError, MemoryError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path}: cannot be read as an .npz of numbers: {reason[:150]}") from None
        if found["embedding"].ndim != 2 or found["W_vocab"].ndim != 2:
            raise UserError(f"{path}: embedding and W_vocab must be matrices")
        vocabulary, embedding = found["embedding"].shape
        for key, shape in shapes(vocabulary, embedding, len(found["W_vocab"])).items():
            if found[key].shape != shape:
                raise UserError(f"{path}: {key} has the shape {found[key].shape}, and must have {shape}")
            if found[key].dtype.kind not in "fiu" or not (np.abs(found[key]) <= np.finfo(np.float32).max).all():
                raise UserError(f"{path}: {key} must have finite numbers")  # NaN is not below either
        return cls({key: torch.from_numpy(value.astype(np.float32)) for key, value in found.items()})

    def step(self, tokens: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N,), state and cell (N, H) -> the next state and cell (N, H)."""
        gates = self.embedding[tokens] @ self.of_input + state @ self.of_state + self.bias  # (N, 4 H)
        opens, forgets, shows, new = gates.chunk(4, 1)
        cell = forgets.sigmoid() * cell + opens.sigmoid() * new.tanh()
        return shows.sigmoid() * cell.tanh(), cell

    def logits(self, state: Tensor) -> Tensor:
        """(N, H) -> (N, V)."""
        return torch.addmm(self.words_bias, state, self.to_words)

    def first(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The first input (N,), state and cell (N, H)."""
        zero = self.embedding.new_zeros(count, len(self.to_words))
        return torch.zeros(count, dtype=torch.int64, device=zero.device), zero, zero

    @torch.no_grad()
    def sample(self, uniforms: Tensor) -> Tensor:
        """Sequences int64 (N, L), each a function of its numbers in [0, 1) alone, (N, L)."""
        return torch.cat(list(map(self._sampled, uniforms.split(BLOCK))))

    def _sampled(self, uniforms: Tensor) -> Tensor:
        tokens, state, cell = self.first(len(uniforms))
        sequence = []
        for numbers in uniforms.T:
            state, cell = self.step(tokens, state, cell)
            reached = self.logits(state).softmax(1).cumsum(1)  # the distribution function, (N, V)
            tokens = torch.searchsorted(reached, numbers[:, None] * reached[:, -1:], right=True)[:, 0]
            tokens = tokens.clamp(max=self.vocabulary - 1)
            sequence.append(tokens)
        return torch.stack(sequence, 1)

    @torch.no_grad()
    def nll(self, tokens: Tensor) -> Tensor:
        """The mean negative log-likelihood of each sequence's tokens, int64 (N, L) -> (N,)."""
        return torch.cat(list(self._likelihoods(tokens)))

    def _likelihoods(self, tokens: Tensor) -> Iterator[Tensor]:
        for block in tokens.split(BLOCK):
            before, state, cell = self.first(len(block))
            total = state.new_zeros(len(block))
            for token in block.T:
                state, cell = self.step(before, state, cell)
                total += nn.functional.cross_entropy(self.logits(state), token, reduction="none")
                before = token
            yield total / block.shape[1]
