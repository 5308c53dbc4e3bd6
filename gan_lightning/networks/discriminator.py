"""What every discriminator can be told: labels, packs of images, statistics of the minibatch, further outputs.

A network writes its trunk, images -> features; the head here turns features (N, F) into logits.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from gan_lightning.networks.conditional import LabelEmbedding, one_hot
from gan_lightning.networks.spectral import spectrally_normalised
from gan_lightning.types import NonNegativeInt, PositiveInt

Conditioning = Literal["concatenation", "projection"]


class Discriminator(nn.Module):
    """A trunk and a head: images (N, channels, H, W) -> logits (N,), with auxiliary outputs (N, 1 + auxiliary).

    A subclass calls this constructor, builds its trunk for `self.inputs(channels)` channels and ends with
    `finish`.

    Args:
        classes: number of classes that labels are given of; 0: none.
        conditioning: "concatenation" gives the trunk the labels beside the image (Mirza & Osindero 2014); "projection"
            adds the inner product of features and the class's vector to the logit (Miyato & Koyama 2018, eq. 3).
        auxiliary: outputs beside the logit (AC-GAN's classes, InfoGAN's codes).
        pack: so many images are judged together (PacGAN, Lin et al. 2018): N / pack logits.
        minibatch_kernels, minibatch_dims: minibatch discrimination (Salimans et al. 2016, section 3.2); 0: none.
        spectral_norm: every linear layer, convolution and projection has spectral norm 1 (Miyato et al. 2018).
    """

    trunk: nn.Module

    def __init__(
        self,
        classes: NonNegativeInt = 0,
        conditioning: Conditioning = "concatenation",
        auxiliary: NonNegativeInt = 0,
        pack: PositiveInt = 1,
        minibatch_kernels: NonNegativeInt = 0,
        minibatch_dims: PositiveInt = 5,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        if pack > 1 and (classes or auxiliary):
            raise ValueError(f"pack={pack}: images of a pack have labels of their own; use classes=0 and auxiliary=0")
        self.classes = classes
        self.label_channels = classes if conditioning == "concatenation" else 0
        self.auxiliary = auxiliary
        self.pack = pack
        self.minibatch_kernels = minibatch_kernels
        self.minibatch_dims = minibatch_dims
        self.spectral_norm = spectral_norm
        self.minibatch: MinibatchDiscrimination | None = None
        self.projection: LabelEmbedding | None = None

    def inputs(self, channels: int) -> int:
        """Channels that the trunk is given for images of `channels`; or numbers, for flat images."""
        return channels * self.pack + self.label_channels

    def finish(self, trunk: nn.Module, features: int, bias: bool = True) -> None:
        """Takes the trunk, images -> (N, features) or (N, C, H, W) of as many numbers, and builds the head."""
        self.trunk = trunk
        if self.minibatch_kernels:
            self.minibatch = MinibatchDiscrimination(features, self.minibatch_kernels, self.minibatch_dims)
        self.head = nn.Linear(features + self.minibatch_kernels, 1 + self.auxiliary, bias=bias)
        if self.classes and not self.label_channels:
            self.projection = LabelEmbedding(self.classes, features)
        if self.spectral_norm:
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | LabelEmbedding):
                    spectrally_normalised(module)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """What the head is given, beside what minibatch discrimination adds: images (N, channels, H, W), or flat
        (N, numbers), -> (N, features)."""
        if self.pack > 1:
            x = x.unflatten(0, (-1, self.pack)).flatten(1, 2)
        if self.label_channels:
            assert y is not None
            labels = one_hot(y, self.classes).to(x.dtype)
            x = torch.cat([x, labels.view(*labels.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])], 1)
        return self.trunk(x).flatten(1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, channels, H, W), y (N,) -> (N,), or (N, 1 + auxiliary); without classes labels are ignored."""
        features = self.features(x, y)  # (N, F)
        seen = features if self.minibatch is None else torch.cat([features, self.minibatch(features)], 1)
        outputs = self.head(seen)  # (N, 1 + auxiliary)
        if self.projection is not None:
            assert y is not None
            projected = (self.projection(y) * features).sum(1, keepdim=True)  # (N, 1)
            outputs = outputs + nn.functional.pad(projected, (0, self.auxiliary))
        return outputs if self.auxiliary else outputs.squeeze(1)


class MinibatchDiscrimination(nn.Module):
    """How near every sample is to the others of its minibatch: features (N, F) -> (N, kernels).

    Salimans et al. 2016, section 3.2: M = f T, c_b(i, j) = exp(-‖M_ib - M_jb‖₁), o_b(i) = Σ_j c_b(i, j), here without
    j = i, which adds 1 to all. T's columns begin with a length of about 1 for all F, as the published code keeps them.
    """

    def __init__(self, features: int, kernels: int, dims: int) -> None:
        super().__init__()
        self.kernels = kernels
        self.tensor = nn.Parameter(torch.empty(features, kernels * dims).normal_(0, features**-0.5))  # T

    def forward(self, features: Tensor) -> Tensor:
        projected = (features @ self.tensor).float().unflatten(1, (self.kernels, -1)).transpose(0, 1)
        distance = torch.cdist(projected, projected, p=1)  # (kernels, N, dims) -> (kernels, N, N)
        return torch.exp(-distance).sum(2).T - 1
