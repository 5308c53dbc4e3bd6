"""Latents and styles of a trained generator: paths between them, layers by resolution, directions in closed form."""

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.networks.equalized import EqualizedLinear
from gan_lightning.networks.stylegan2 import StyleGenerator, Truncated
from gan_lightning.networks.wrapped import unwrapped

Layers = Literal["coarse", "middle", "fine"]
SIDES: dict[Layers, tuple[int, int]] = {"coarse": (4, 8), "middle": (16, 32), "fine": (64, 1024)}  # of feature maps


def style_generator(network: nn.Module) -> StyleGenerator | None:
    """The generator of styles in what a sampler gave; None where there are no styles."""
    inner = network.generator if isinstance(network, Truncated) else network
    return cast(StyleGenerator, inner) if isinstance(unwrapped(inner), StyleGenerator) else None


def styles(network: nn.Module, z: Tensor, y: Tensor | None) -> Tensor:
    """Styles of a StyleGenerator, truncated or not: z (N, latent_size), y (N,) -> w (N, style_size)."""
    return cast(StyleGenerator | Truncated, network).styles(z, y)


def layers_of(generator: StyleGenerator, name: Layers | None) -> range:
    """The layers whose styles scale feature maps of such sides, two a side; empty where images are too small.

    None: all layers.
    """
    if name is None:
        return range(generator.layers)
    first, last = SIDES[name]
    start = 2 * int(math.log2(first / 4))
    return range(start, min(generator.layers, 2 * int(math.log2(last / 4)) + 2))


def slerp(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Spherical interpolation (White 2016, "Sampling Generative Networks"): (...), (...), shares (F,) -> (F, ...)."""
    a, b = start.flatten(), end.flatten()
    angle = torch.acos((a @ b / (a.norm() * b.norm()).clamp_min(1e-8)).clamp(-1, 1))
    if math.sin(cast(float, angle.item())) < 1e-4:  # the same direction: a straight line
        mixed = straight(a, b, shares)
    else:
        mixed = (torch.sin((1 - shares) * angle)[:, None] * a + torch.sin(shares * angle)[:, None] * b) / torch.sin(
            angle
        )
    return mixed.view(len(shares), *start.shape)


def straight(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Straight lines, which never leave a cube: (...), (...), shares (F,) -> (F, ...)."""
    return torch.lerp(start, end, shares.view(-1, *[1] * start.dim()))


def directions(weights: Tensor, count: int) -> Tensor:
    """Unit vectors n that change A n most, the largest change first: A (outputs, inputs) -> (count, inputs).

    SeFa: the eigenvectors of AᵀA with the largest eigenvalues (Shen & Zhou 2021, "Closed-Form Factorization of Latent
    Semantics in GANs", eq. 6 to 8); their component of largest size is positive. Differs from the published code: rows
    of A keep their norm, as in the equations.
    """
    _, vectors = torch.linalg.eigh(weights.double().T @ weights.double())  # columns, the smallest eigenvalue first
    found = vectors.T.flip(0)[:count]
    largest = found.gather(1, found.abs().argmax(1, keepdim=True))  # (count, 1)
    return (found * largest.sign()).to(weights.dtype)


@torch.no_grad()
def style_weights(generator: StyleGenerator, layers: range) -> Tensor:
    """What takes the styles of these layers: the weights of its linear layers, stacked, (outputs, style_size)."""
    w = torch.randn_like(generator.mean.expand(1, generator.layers, -1))  # (1, layers, size): they tell layers apart
    found = [
        weight
        for layer, x, weight in linear_layers(generator.synthesis, w)
        if isinstance(layer, EqualizedLinear) and any(torch.equal(x, w[:, index]) for index in layers)
    ]
    return torch.cat(found)


@torch.no_grad()
def latent_weights(network: nn.Module, z: Tensor, y: Tensor | None) -> Tensor | None:
    """The weights of the first linear layer that is given z, (outputs, latent_size), found by making an image.

    z (N, latent_size), perhaps normalised, or its first part; labels beside z are left out. None where there is none.
    """
    for _, x, weight in linear_layers(network, z, y):
        size = min(x.shape[1], z.shape[1])
        if torch.allclose(functional.normalize(x[:, :size]), functional.normalize(z[:, :size]), atol=1e-5):
            return functional.pad(weight[:, :size], (0, z.shape[1] - size))
    return None


def linear_layers(network: nn.Module, *inputs: Any) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """The layers that are linear in vectors, in the order of a forward pass, each with its input (N, inputs) and its
    weights (outputs, inputs)."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def look(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        x = arguments[0].clone()
        if isinstance(layer, nn.Linear):
            seen.append((layer, x, layer.weight))
        elif isinstance(layer, EqualizedLinear):
            seen.append((layer, x, layer.weight * layer.scale))
        elif isinstance(layer, nn.ConvTranspose2d) and x.shape[2:] == (1, 1):  # of single pixels: a matrix product
            seen.append((layer, x.flatten(1), layer.weight.flatten(1).T))

    kinds = (nn.Linear, EqualizedLinear, nn.ConvTranspose2d)
    hooks = [layer.register_forward_pre_hook(look) for layer in network.modules() if isinstance(layer, kinds)]
    try:
        network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
