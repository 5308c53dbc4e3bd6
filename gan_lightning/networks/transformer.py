"""A Transformer that writes — Vaswani et al. 2017, "Attention Is All You Need", the decoder alone, with layer
normalisation before each part (Radford et al. 2019) and learned positions. Not RelGAN's: an alternative to its memory.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.networks.autoregressive import Autoregressive
from gan_lightning.types import PositiveInt

Cache = tuple[Tensor, Tensor] | None  # keys and values (N, heads, T, size / heads) of the tokens before


class Block(nn.Module):
    """Attention to this token and those before it, then two linear layers, each added to what came in."""

    def __init__(self, size: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(size)
        self.attention = nn.Linear(size, 3 * size)
        self.attended = nn.Linear(size, size)
        self.network_norm = nn.LayerNorm(size)
        self.network = nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, size))

    def forward(self, tokens: Tensor, cache: Cache = None) -> tuple[Tensor, Cache]:
        """(N, T, size) -> (N, T, size), and the cache with these tokens. With a cache T is 1."""
        parts = self.attention(self.attention_norm(tokens)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, T, size / heads)
        if cache is not None:
            keys, values = torch.cat([cache[0], keys], 2), torch.cat([cache[1], values], 2)
        found = functional.scaled_dot_product_attention(queries, keys, values, is_causal=cache is None)
        tokens = tokens + self.attended(found.transpose(1, 2).flatten(2))
        return tokens + self.network(self.network_norm(tokens)), (keys, values)


class TransformerGenerator(Autoregressive):
    """Writes with attention to all tokens before, whose keys and values it keeps.

    Args:
        vocabulary, length: of the texts.
        size: numbers that a token is, throughout.
        layers: blocks.
        heads: of the attention.
        hidden: size of a block's inner layer; None: 4 · size.

    Raises ValueError for heads that do not divide the size.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        length: PositiveInt,
        size: PositiveInt = 64,
        layers: PositiveInt = 2,
        heads: PositiveInt = 4,
        hidden: PositiveInt | None = None,
    ) -> None:
        if size % heads:
            raise ValueError(f"heads={heads}: must divide size={size}")
        super().__init__(vocabulary, length)
        self.embedding = nn.Embedding(vocabulary, size)
        self.positions = nn.Parameter(torch.empty(length, size))
        self.blocks = nn.ModuleList(Block(size, heads, hidden or 4 * size) for _ in range(layers))
        self.norm = nn.LayerNorm(size)
        self.output = nn.Linear(size, vocabulary)
        for weight in (self.embedding.weight, self.positions):
            nn.init.normal_(weight, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        for block in self.blocks:
            assert isinstance(block, Block)
            for layer in (block.attended, block.network[-1]):  # what is added 2 · layers times (Radford et al. 2019)
                nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * layers))  # pyright: ignore

    def begin(self, count: int, like: Tensor) -> list[Cache]:
        return [None for _ in self.blocks]

    def advance(self, tokens: Tensor, state: Any) -> tuple[Tensor, list[Cache]]:
        position = 0 if state[0] is None else state[0][0].shape[2]
        found = (self.embedding(tokens) + self.positions[position])[:, None]  # (N, 1, size)
        caches: list[Cache] = []
        for block, cache in zip(self.blocks, state, strict=True):
            found, kept = block(found, cache)
            caches.append(kept)
        return self.output(self.norm(found[:, 0])), caches

    def logits(self, tokens: Tensor) -> Tensor:
        before = functional.pad(tokens, (1, 0))[:, :-1]  # (N, L): token 0, then all but the last
        found = self.embedding(before) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            found, _ = block(found)
        return self.output(self.norm(found))
