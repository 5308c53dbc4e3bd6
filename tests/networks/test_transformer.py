"""The Transformer that writes: its cache against PyTorch's own layers, and its size. More is in test_relational.py."""

from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.networks.transformer import TransformerGenerator
from tests.support import count


def test_blocks_are_pytorchs_layers() -> None:
    torch.manual_seed(0)
    network: Any = TransformerGenerator(7, 5, size=8, layers=2, heads=2, hidden=12)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    found = network.embedding(torch.tensor([[0, 4, 2, 6, 1]])) + network.positions
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    for block in network.blocks:
        layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True, norm_first=True)
        pairs = [
            (layer.self_attn.in_proj_weight, block.attention.weight),
            (layer.self_attn.in_proj_bias, block.attention.bias),
            (layer.self_attn.out_proj, block.attended),
            (layer.linear1, block.network[0]),
            (layer.linear2, block.network[2]),
            (layer.norm1, block.attention_norm),
            (layer.norm2, block.network_norm),
        ]
        for theirs, ours in pairs:
            if isinstance(theirs, nn.Module):
                theirs.load_state_dict(ours.state_dict())
            else:
                theirs.data.copy_(ours)
        found = layer(found, mask)
    expected = network.output(network.norm(found))
    torch.testing.assert_close(network.logits(torch.tensor([[4, 2, 6, 1, 3]])), expected, atol=1e-5, rtol=1e-4)


def test_parameters() -> None:
    block = 2 * 2 * 64 + (64 * 192 + 192) + (64 * 64 + 64) + (64 * 256 + 256) + (256 * 64 + 64)
    assert count(TransformerGenerator(5000, 20)) == 5000 * 64 + 20 * 64 + 2 * block + 2 * 64 + 64 * 5000 + 5000


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="heads=3: must divide size=8"):
        TransformerGenerator(7, 5, size=8, heads=3)
