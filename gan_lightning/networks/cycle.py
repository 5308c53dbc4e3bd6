"""CycleGAN's two pairs: a translator for each direction and a discriminator for each domain (Zhu et al. 2017)."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from gan_lightning.types import PositiveInt


class Translators(nn.Module):
    """`a_to_b` and `b_to_a`, of one kind; called like `a_to_b`, so that samples and scores are of B.

    multiple: of which both sides of an image must be.
    """

    def __init__(self, network: Callable[..., nn.Module], channels: PositiveInt, input_channels: PositiveInt) -> None:
        """network: makes a translator of `channels` and `input_channels`; channels: of B. input_channels: of A."""
        super().__init__()
        self.channels, self.input_channels = channels, input_channels
        self.a_to_b = network(channels=channels, input_channels=input_channels)
        self.b_to_a = network(channels=input_channels, input_channels=channels)
        self.multiple: int = getattr(self.a_to_b, "multiple", 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """A (N, input_channels, H, W) -> B (N, channels, H, W); labels are ignored."""
        return self.a_to_b(x)


class Discriminators(nn.Module):
    """`a` and `b`, of one kind, each of which sees images of its domain alone."""

    def __init__(self, network: Callable[..., nn.Module], channels: PositiveInt, input_channels: PositiveInt) -> None:
        """network: makes a discriminator of images of `channels`; channels: of B. input_channels: of A."""
        super().__init__()
        self.a, self.b = network(channels=input_channels), network(channels=channels)

    def forward(self, x: Tensor, domain: Literal["a", "b"] = "b") -> Tensor:
        """Images of a domain (N, C, H, W) -> a logit for every patch (N, 1, h, w)."""
        return (self.a if domain == "a" else self.b)(x)
