"""Images found again in latent space — Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN",
appendix D.

A style (or z, or a style a layer) and the maps of noise are moved by Adam, from the mean on, until the image made of
them looks like the one given; noise on the style, which falls to 0, keeps it from the first valley, and maps of noise
are kept from holding the picture by a penalty on their autocorrelation.

Differs from the paper: images below 64 pixels are enlarged for LPIPS, which sees five sizes; where LPIPS' network is
not at hand, the distance is one of a small classifier's features and pixels; maps of noise begin as the generator's
own; styles of every layer and z are searched in the same way.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.draws import generator as stream_of
from gan_lightning.latents import style_generator
from gan_lightning.metrics.extractors import load_extractor
from gan_lightning.metrics.path_length import FeatureDistance

Space = Literal["w", "w_plus", "z"]
MEASURED = 10_000  # latents that the mean is taken of
RATE, RAMP_UP, RAMP_DOWN = 0.1, 0.05, 0.25  # of learning; shares of the steps
NOISE, NOISE_SHARE = 0.05, 0.75  # on the latents, in their deviations; the share of the steps over which it falls
MAPS_WEIGHT = 1e5  # α, of the penalty on maps of noise
FRAMES = 50  # of the film, at most
LPIPS_SIDES = (64, 256)  # pixels that LPIPS sees, at least and at most


class Perceptual(nn.Module):
    """How different images look: (N, C, H, W) in about [-1, 1], twice -> (N,). LPIPS with VGG (Zhang et al. 2018)."""

    name = "lpips vgg"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def prepared(self, images: Tensor) -> Tensor:
        """In colour and of a size that VGG sees: (N, C, H, W) -> (N, 3, h, w)."""
        size = min(max(images.shape[-1], LPIPS_SIDES[0]), LPIPS_SIDES[1])
        if size != images.shape[-1]:
            images = functional.interpolate(images, (size, size), mode="bicubic", antialias=True)
        return images.expand(-1, 3, -1, -1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.network(self.prepared(a), self.prepared(b)).flatten()


class FeaturesAndPixels(nn.Module):
    """Mean squared distance of a classifier's features plus that of pixels: (N, C, H, W) in [-1, 1], twice -> (N,)."""

    def __init__(self, name: Literal["digits", "objects"]) -> None:
        super().__init__()
        classifier: Any = load_extractor(name).network
        self.features = FeatureDistance(classifier).float()
        self.size: int = classifier.num_features
        self.name = f"{name} features + pixels"

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.features(a, b) / self.size + (a - b).square().mean((1, 2, 3))


def distance_at_hand(features: Literal["digits", "objects"]) -> Perceptual | FeaturesAndPixels:
    """LPIPS where torchvision's VGG lies in torch's cache, else features of this classifier and pixels: no download."""
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity
    from torchvision.models import VGG16_Weights

    file = Path(torch.hub.get_dir()) / "checkpoints" / VGG16_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    if not file.exists():
        return FeaturesAndPixels(features).eval().requires_grad_(False)
    return Perceptual(cast(nn.Module, LearnedPerceptualImagePatchSimilarity("vgg").net))


@dataclass(frozen=True)
class Found:
    """What was found of one image."""

    latents: Tensor  # z (latent_size,), w (style_size,) or a w a layer (layers, style_size)
    noise: list[Tensor]  # the maps, (side, side) each, of the smallest layer first
    image: Tensor  # (1, C, H, W), made of them
    distance: float
    distance_of_mean: float  # where the search began
    frames: list[Tensor]  # images (1, C, H, W) on the way


@torch.no_grad()
def mean_of(network: nn.Module, latents: Tensor, label: Tensor | None, space: Space) -> tuple[Tensor, float]:
    """The mean (size,) of the codes of these latents (N, latent_size), and how far they lie from it, √E‖w - w̄‖²."""
    codes = latents
    if space != "z":
        y = None if label is None else label.expand(len(latents))
        codes = cast(Tensor, cast(Any, network).styles(latents, y))
    mean = codes.mean(0)
    return mean, math.sqrt((codes - mean).square().sum(1).mean().item())


def rate(share: float) -> float:
    """The learning rate after a share of the steps: up in a line, down on a cosine."""
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - share) / RAMP_DOWN))
    return RATE * down * min(1.0, share / RAMP_UP)


def autocorrelation(maps: list[Tensor]) -> Tensor:
    """Σ over maps (r, r) and their halves down to 8 pixels of the squared mean products of neighbours, to a scalar."""
    total = maps[0].new_zeros(())
    for noise in maps:
        while True:
            total = total + (noise * noise.roll(1, 1)).mean().square() + (noise * noise.roll(1, 0)).mean().square()
            if len(noise) <= 8:
                break
            noise = functional.avg_pool2d(noise[None], 2)[0] * 2  # of the same variance
    return total


def project(
    network: nn.Module,
    image: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    mean: Tensor,
    deviation: float,
    *,
    space: Space,
    label: Tensor | None = None,
    within: tuple[Tensor, Tensor] | None = None,
    steps: int = 1000,
    seed: int = 0,
    said: Callable[[], None] = lambda: None,
) -> Found:
    """Latents whose image is as near to `image` (1, C, H, W) in [-1, 1] as can be found in so many steps.

    network: what `sampler` gave, of z (N, latent_size) and labels (N,); mean, deviation: what `mean_of` gave; label:
    (1,); within: the least and the largest of each number of the codes; said: told of every step.
    """
    network = copy.deepcopy(network).requires_grad_(False)
    generator = style_generator(network)
    noisy: list[Any] = [layer for layer in network.modules() if isinstance(getattr(layer, "noise", None), Tensor)]
    for layer in noisy:
        layer.noise = layer.noise.clone().requires_grad_()
    maps: list[Tensor] = [layer.noise for layer in noisy]
    layers = generator.layers if generator is not None else 1
    code = mean.expand(layers, -1).clone() if space == "w_plus" else mean[None].clone()  # (1 or layers, size)
    code.requires_grad_()
    optimizer = torch.optim.Adam([code, *maps])
    stream = stream_of(seed, "projection")

    def made(code: Tensor) -> Tensor:
        """(1, C, H, W)"""
        with torch.autocast(code.device.type, enabled=False):
            if space == "z" or generator is None:
                return network(code, label).float()
            return generator.synthesis(code.expand(layers, -1)[None]).float()

    def measured(found: Tensor) -> float:
        return distance(found, image).item()

    with torch.no_grad():
        frames = [made(code)]
    distance_of_mean = measured(frames[0])
    shown = {round(place * steps / (FRAMES - 1)) for place in range(FRAMES)}
    for step in range(steps):
        share = step / steps
        optimizer.param_groups[0]["lr"] = rate(share)
        strength = deviation * NOISE * max(0.0, 1 - share / NOISE_SHARE) ** 2
        shaken = code + strength * torch.randn(code.shape, generator=stream).to(code.device)
        loss = distance(made(shaken), image).sum()
        if maps:
            loss = loss + MAPS_WEIGHT * autocorrelation(maps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            if within is not None:
                code.clamp_(*within)
            for noise in maps:  # of mean 0 and variance 1 again
                noise.sub_(noise.mean()).mul_(noise.square().mean().clamp_min(1e-12).rsqrt())
            if step + 1 in shown:
                frames.append(made(code))
        said()
    with torch.no_grad():
        found = made(code)
    latents = code.detach() if space == "w_plus" else code.detach()[0]
    return Found(latents, [noise.detach() for noise in maps], found, measured(found), distance_of_mean, frames)
