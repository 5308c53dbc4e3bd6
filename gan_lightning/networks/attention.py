"""Self-attention of feature maps (Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", section 3).

Differs from the paper, as its published code and BigGAN's do: keys and values are max-pooled by 2, so that every place
attends to a quarter of the places; values have half of the channels in place of an eighth.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from gan_lightning.initialization import initialize
from gan_lightning.recompute import Recomputable


class SelfAttention(Recomputable):
    """x + γ v(attended x): (N, channels, H, W) -> (N, channels, H, W); γ begins at 0, so that it begins as identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)  # f of the paper
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)  # g
        self.value = nn.Conv2d(channels, half, 1, bias=False)  # h
        self.output = nn.Conv2d(half, channels, 1, bias=False)  # v
        self.gamma = nn.Parameter(torch.zeros(()))
        initialize(self, "xavier")

    def forward(self, x: Tensor) -> Tensor:
        keys = max_pool2d(self.key(x), 2).flatten(2)  # (N, C/8, L/4), L = H·W
        values = max_pool2d(self.value(x), 2).flatten(2)  # (N, C/2, L/4)
        queries = self.query(x).flatten(2)  # (N, C/8, L)
        # eq. 1; written out, because fused attention has no second derivative, which a gradient penalty needs
        weights = (queries.transpose(1, 2) @ keys).softmax(2)  # β, (N, L, L/4)
        attended = (values @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])  # eq. 2, (N, C/2, H, W)
        return x + self.gamma * self.output(attended)  # eq. 3
