"""Self-attention against the paper's formula, place by place."""

import pytest
import torch
from torch import Tensor

from gan_lightning.networks.attention import SelfAttention


def attention(channels: int, gamma: float) -> SelfAttention:
    torch.manual_seed(0)
    layer = SelfAttention(channels)
    layer.gamma.data.fill_(gamma)
    return layer


def by_hand(layer: SelfAttention, x: Tensor) -> Tensor:
    """x (C, H, W) -> (C, H, W): Zhang et al. 2019, eq. 1 to 3, keys and values as the largest of 2×2 places."""
    f, g, h, v = (part.weight.detach()[:, :, 0, 0] for part in (layer.key, layer.query, layer.value, layer.output))
    keys, values = [], []
    for row in range(0, x.shape[1] - 1, 2):
        for column in range(0, x.shape[2] - 1, 2):
            patch = x[:, row : row + 2, column : column + 2].flatten(1)  # (C, 4)
            keys.append((f @ patch).amax(1))
            values.append((h @ patch).amax(1))
    y = x.clone()
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            query = g @ x[:, row, column]
            total, weights = torch.zeros(len(h)), torch.zeros(())
            for key, value in zip(keys, values, strict=True):
                total += torch.exp(query @ key) * value
                weights += torch.exp(query @ key)
            y[:, row, column] += layer.gamma.item() * (v @ (total / weights))
    return y


@pytest.mark.parametrize(("channels", "side"), [(16, 4), (8, 7), (3, 6)])
def test_equals_the_formula(channels: int, side: int) -> None:
    layer, x = attention(channels, 0.7), torch.randn(2, channels, side, side)
    torch.testing.assert_close(layer(x).detach(), torch.stack([by_hand(layer, image) for image in x]))
    assert not torch.allclose(layer(x), x)


def test_begins_as_identity() -> None:
    layer, x = SelfAttention(16), torch.randn(2, 16, 4, 4)
    assert torch.equal(layer(x), x)
    layer(x).square().sum().backward()
    assert layer.gamma.grad is not None
    assert layer.gamma.grad.abs() > 0  # and learns to leave it


def test_parameter_count() -> None:
    assert sum(p.numel() for p in SelfAttention(128).parameters()) == 20_481  # 2·128·16 + 2·128·64 + 1


def test_double_backward() -> None:
    layer, x = attention(8, 0.5), torch.randn(2, 8, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert layer.query.weight.grad is not None
    assert layer.query.weight.grad.abs().sum() > 0
