"""PatchGAN, the discriminator of pix2pix and CycleGAN (Isola et al. 2017, section 3.2 and appendix 6.1.2)."""

from typing import Literal

from torch import Tensor, nn

from gan_lightning.networks.spectral import spectrally_normalised
from gan_lightning.networks.translator import norm_of
from gan_lightning.types import NonNegativeInt, PositiveInt


class PatchDiscriminator(nn.Module):
    """Images (N, input_channels + channels, H, W) -> a logit for every patch (N, 1, h, w).

    A patch has 70×70 pixels with 3 levels, and 16, 34, 142 or 286 with 1, 2, 4 or 5; 256 pixels give 30×30 logits.
    """

    def __init__(
        self,
        base_channels: PositiveInt,
        channels: PositiveInt,
        input_channels: NonNegativeInt = 0,
        levels: PositiveInt = 3,
        norm: Literal["batch", "instance", "none"] = "batch",
        spectral_norm: bool = False,
    ) -> None:
        """base_channels: the width at half the image size, 64 in the papers. input_channels: of the image that the
        judged one was made of, given before it in the same tensor (pix2pix); 0: images are judged alone (CycleGAN).
        levels: how often the side is halved. norm: "batch" in pix2pix, "instance" without scale and shift in CycleGAN,
        never on the first and the last layer. spectral_norm: of every convolution."""
        super().__init__()
        widths = [base_channels * min(2**level, 8) for level in range(levels + 1)]
        layers: list[nn.Module] = []
        width = input_channels + channels
        for level, next_width in enumerate(widths):
            first = level == 0
            stride = 2 if level < levels else 1
            layers.append(nn.Conv2d(width, next_width, 4, stride, 1, bias=first or norm != "batch"))
            if not first and norm != "none":
                layers.append(norm_of(norm, next_width))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            width = next_width
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))
        if spectral_norm:
            for module in self.layers:
                if isinstance(module, nn.Conv2d):
                    spectrally_normalised(module)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, input_channels + channels, H, W) -> (N, 1, h, w)."""
        return self.layers(x)
