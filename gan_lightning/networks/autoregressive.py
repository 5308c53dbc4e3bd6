"""Generators of text that write one token after another: what they share, whatever remembers the tokens before.

A token is chosen by a uniform number, or by Gumbel noise that is added to the logits: both draw from softmax(logits).
The noise has a gradient. Softmax(β (logits + noise)) is near the one-hot vector of the chosen token for a large inverse
temperature β (Jang et al. 2017, "Categorical Reparameterization with Gumbel-Softmax"; Maddison et al. 2017).
"""

from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.networks.text import pick
from gan_lightning.types import PositiveInt

SMALLEST = torch.finfo(torch.float32).tiny  # of a draw whose logarithm is taken


def gumbel_like(logits: Tensor) -> Tensor:
    """Draws of the standard Gumbel distribution in float32, of the logits' shape, from torch's global stream."""
    draws = torch.empty_like(logits, dtype=torch.float32).exponential_()
    return draws.clamp_(min=SMALLEST).log_().neg_()  # an exponential draw may be rounded to 0


def relax(logits: Tensor, noise: Tensor, inverse_temperature: float | Tensor) -> Tensor:
    """Softmax(β (logits + noise)) in float32: (..., V) -> (..., V); Nie et al. 2019, eq. 4."""
    return (inverse_temperature * (logits.float() + noise)).softmax(-1)


class Autoregressive(nn.Module):
    """What writes. A subclass says what is remembered, by `begin`, `advance` and `logits`.

    Args:
        vocabulary: V, the number of tokens.
        length: L, the number of tokens in a sample.
    """

    def __init__(self, vocabulary: PositiveInt, length: PositiveInt) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.length = length
        self.latent_size = length  # uniform numbers, one for each token

    def begin(self, count: int, like: Tensor) -> Any:
        """What is remembered of `count` samples without tokens, on the device and of the type of `like`."""
        raise NotImplementedError

    def advance(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Reads a token of each sample, (N,): the logits (N, V) of the next one, and what is remembered now."""
        raise NotImplementedError

    def logits(self, tokens: Tensor) -> Tensor:
        """Of each token given those before it: (N, L) -> (N, L, V). The first one follows token 0."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(
        self,
        uniforms: Tensor,
        labels: Tensor | None = None,
        temperature: float = 1.0,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Uniform numbers (N, L) in [0, 1) -> tokens (N, L) int64; all samples begin with `prefix` (P,)."""
        count, device = uniforms.shape[0], uniforms.device  # len() is a fixed number to an exporter
        given = 0 if prefix is None else len(prefix)
        token = torch.zeros(count, dtype=torch.int64, device=device)
        state = self.begin(count, next(self.parameters()))
        written = []
        for position in range(self.length):
            logits, state = self.advance(token, state)
            if prefix is not None and position < given:
                token = prefix[position].expand(count)
            else:
                token = pick((logits.float() / temperature).softmax(-1), uniforms[:, position])
            written.append(token)
        return torch.stack(written, 1)

    def relaxed(self, count: int, inverse_temperature: float | Tensor) -> tuple[Tensor, Tensor]:
        """`count` samples: tokens (N, L) int64, and (N, L, V) float32 near their one-hot vectors, with a gradient.

        What is read next is the token itself, as in Nie et al.'s published code: no gradient goes through the choice,
        it goes through the logits and through what is remembered.
        """
        like = next(self.parameters())
        token, state = torch.zeros(count, dtype=torch.int64, device=like.device), self.begin(count, like)
        tokens, relaxed = [], []
        for _ in range(self.length):
            logits, state = self.advance(token, state)
            noise = gumbel_like(logits)
            relaxed.append(relax(logits, noise, inverse_temperature))
            token = relaxed[-1].detach().argmax(-1)
            tokens.append(token)
        return torch.stack(tokens, 1), torch.stack(relaxed, 1)


def truncated_normal(weight: Tensor, deviation: float) -> None:
    """Draws weights around 0, again where they are further away than two standard deviations."""
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
