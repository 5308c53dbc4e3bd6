"""Blocks that forget their activations: less is kept, and a step comes out the same to the last bit."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.models.r3gan import R3GAN
from gan_lightning.models.unrolled import Unrolled
from gan_lightning.networks.biggan import BigGANDiscriminator, BigGANGenerator
from gan_lightning.networks.progan import ProGANDiscriminator, ProGANGenerator
from gan_lightning.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from gan_lightning.networks.resnet import ResNetDiscriminator, ResNetGenerator
from gan_lightning.networks.stylegan1 import StyleGAN1Generator
from gan_lightning.networks.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from gan_lightning.penalties import r1
from gan_lightning.recompute import recompute_blocks
from gan_lightning.schedules import Ramp
from gan_lightning.steps import Step
from tests.support import game

SMALL: dict[str, Any] = {"base_channels": 8, "image_size": 16, "channels": 3}
NORMED: dict[str, Any] = {**SMALL, "spectral_norm": True}
PAIRS = {
    "stylegan2": (partial(StyleGAN2Generator, 8, style_size=8), StyleGAN2Discriminator),
    "stylegan1": (partial(StyleGAN1Generator, 8, style_size=8), StyleGAN2Discriminator),
    "r3gan": (partial(R3GANGenerator, 8), R3GANDiscriminator),
    "progan": (partial(ProGANGenerator, 8), ProGANDiscriminator),
    "resnet": (partial(ResNetGenerator, 8), partial(ResNetDiscriminator, spectral_norm=True)),
    "biggan": (
        partial(BigGANGenerator, 9, attention=8),
        partial(BigGANDiscriminator, attention=8, spectral_norm=True),
    ),
}


def losses(generator: Any, discriminator: Any) -> tuple[dict[str, Tensor], int]:
    """Two steps' gradients and what the networks end with, and the bytes that are kept for the backward pass of G."""
    torch.manual_seed(1)
    real, kept = torch.randn(4, 3, 16, 16), 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    for _ in range(2):
        fakes = generator(torch.randn(4, generator.latent_size))
        on_fakes = discriminator(fakes.detach())
        loss = discriminator(real).mean() - on_fakes.mean() + r1(discriminator, real).mean()
        loss.backward()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = discriminator(generator(torch.randn(4, generator.latent_size))).mean()
        loss.backward()
    found = {}
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        found |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
        found |= {f"{name}.{key}.grad": p.grad for key, p in network.named_parameters() if p.grad is not None}
    return found, kept


@pytest.mark.parametrize("name", PAIRS)
def test_nothing_but_memory_changes(name: str) -> None:
    torch.manual_seed(0)
    networks: list[nn.Module] = [build(**SMALL) for build in PAIRS[name]]
    if name == "progan":
        for network in networks:
            network.grow(1.5)  # pyright: ignore[reportCallIssue]
    others = copy.deepcopy(networks)
    expected, much = losses(*networks)
    assert all(recompute_blocks(network) for network in others)
    found, little = losses(*others)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert little < 0.7 * much


def test_what_cannot_be_recomputed_is_refused() -> None:
    blocks: Any = {"generator": R3GANGenerator(4, **SMALL), "discriminator": R3GANDiscriminator(**SMALL)}
    with pytest.raises(ValueError, match=r"step\.recompute=true: MLPGenerator has no blocks"):
        game(step=Step(recompute=True))
    with pytest.raises(ValueError, match=r"step\.recompute=true: torch\.compile"):
        game(step=Step(recompute=True, compile=True), **blocks)
    with pytest.raises(ValueError, match=r"step\.recompute=true: unrolled steps are without it"):
        game(Unrolled, unrolled_steps=1, step=Step(recompute=True), **blocks)
    module = game(R3GAN, gamma=Ramp(1, 1, 1), step=Step(recompute=True), **blocks)
    assert all(block.recompute for block in module.generator.modules() if hasattr(block, "recompute"))
