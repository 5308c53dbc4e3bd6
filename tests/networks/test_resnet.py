"""Counts, shapes, labels, norms and initialisation of the ResNets."""

import itertools
import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gan_lightning.budget import Budget
from gan_lightning.data.pixels import resize
from gan_lightning.data.sets import InMemory
from gan_lightning.models.gan import GAN
from gan_lightning.models.wgan_gp import WGANGP
from gan_lightning.networks.conditional import LabelEmbedding
from gan_lightning.networks.dcgan import Norm
from gan_lightning.networks.resnet import SHAPES, Block, Kind, ResNetDiscriminator, ResNetGenerator
from gan_lightning.steps import Step
from tests.support import Blobs, count, fit

KINDS: list[Kind] = list(get_args(Kind))
PROJECTION: dict[str, Any] = {"classes": 10, "conditioning": "projection", "spectral_norm": True}


@pytest.mark.parametrize(  # counted on mimicry's networks of SNGAN, WGAN-GP (the same), cGAN-PD and SAGAN, 10 classes
    ("network", "arguments", "parameters"),
    [
        (ResNetGenerator, {"base_channels": 256, "image_size": 32}, 4_276_739),
        (ResNetGenerator, {"base_channels": 64, "image_size": 48}, 4_878_083),
        (ResNetGenerator, {"base_channels": 64, "image_size": 64}, 12_220_675),
        (ResNetGenerator, {"base_channels": 64, "image_size": 128}, 32_150_787),
        (ResNetGenerator, {"base_channels": 256, "image_size": 32, "classes": 10}, 4_304_387),
        (ResNetGenerator, {"base_channels": 64, "image_size": 128, "classes": 10}, 32_239_491),
        (
            ResNetGenerator,
            {"base_channels": 256, "image_size": 32, "classes": 10, "attention": 16, "spectral_norm": True},
            4_386_308,
        ),
        (
            ResNetGenerator,
            {"base_channels": 64, "image_size": 128, "classes": 10, "attention": 32, "spectral_norm": True},
            32_321_412,
        ),
        (ResNetDiscriminator, {"base_channels": 128, "image_size": 32}, 1_053_825),
        (ResNetDiscriminator, {"base_channels": 128, "image_size": 32, "spectral_norm": True}, 1_053_825),
        (ResNetDiscriminator, {"base_channels": 64, "image_size": 48}, 10_141_441),
        (ResNetDiscriminator, {"base_channels": 64, "image_size": 64}, 10_141_441),
        (ResNetDiscriminator, {"base_channels": 64, "image_size": 128}, 29_017_857),
        (ResNetDiscriminator, {"base_channels": 128, "image_size": 32, **PROJECTION}, 1_055_105),
        (ResNetDiscriminator, {"base_channels": 128, "image_size": 32, "attention": 8, **PROJECTION}, 1_075_586),
        (ResNetDiscriminator, {"base_channels": 8, "image_size": 128, **PROJECTION}, 455_777),
        (ResNetDiscriminator, {"base_channels": 8, "image_size": 128, "attention": 32, **PROJECTION}, 456_098),
    ],
)
def test_parameter_counts(network: type[nn.Module], arguments: dict[str, Any], parameters: int) -> None:
    latents = {"latent_size": 128} if network is ResNetGenerator else {}
    with torch.device("meta"):
        assert count(network(channels=3, **latents, **arguments)) == parameters


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("block", KINDS)
@pytest.mark.parametrize("image_size", SHAPES)
def test_shapes_and_range(image_size: int, block: Kind, channels: int) -> None:
    generator = ResNetGenerator(5, 2, image_size, channels, block)
    assert generator.latent_size == 5
    images = generator(10 * torch.randn(2, 5))
    assert images.shape == (2, channels, image_size, image_size)
    assert images.abs().max() <= 1
    discriminator = ResNetDiscriminator(2, image_size, channels, block)
    assert discriminator(images).shape == (2,)
    assert discriminator(images, torch.zeros(2, dtype=torch.long)).shape == (2,)  # labels are ignored


def test_sides_of_the_feature_maps() -> None:
    for image_size, up, down in (
        (28, [14, 28], [14, 7, 7]),
        (32, [8, 16, 32], [16, 8, 8, 8]),
        (48, [12, 24, 48], [24, 12, 6, 3, 3]),
        (128, [8, 16, 32, 64, 128], [64, 32, 16, 8, 4, 4]),
    ):
        sides: list[int] = []
        networks = ResNetGenerator(3, 1, image_size, 1), ResNetDiscriminator(1, image_size, 1)

        def see(module: nn.Module, given: Any, output: Tensor, sides: list[int] = sides) -> None:
            sides.append(output.shape[-1])

        for module in itertools.chain(*(network.modules() for network in networks)):
            if isinstance(module, Block):
                module.register_forward_hook(see)
        networks[1](networks[0](torch.randn(2, 3)))
        assert sides == up + down


@pytest.mark.parametrize("image_size", [0, 8, 27, 256])
def test_other_sizes_are_refused(image_size: int) -> None:
    for build in (lambda: ResNetGenerator(5, 2, image_size, 1), lambda: ResNetDiscriminator(2, image_size, 1)):
        with pytest.raises(ValueError, match=rf"image_size={image_size}\b.*16, 28, 32, 48, 64, 128"):
            build()


def test_attention_where_there_is_no_such_side_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attention=12: feature maps have the sides 4, 8, 16, 32"):
        ResNetGenerator(5, 8, 32, 1, attention=12)
    with pytest.raises(ValueError, match=r"attention=32: feature maps have the sides 16, 8"):
        ResNetDiscriminator(8, 32, 1, attention=32)


@pytest.mark.parametrize("attention", [8, "half"])
def test_attention_sees_feature_maps_of_its_side(attention: Any) -> None:
    seen = []
    for network in (ResNetGenerator(4, 8, 16, 1, attention=attention), ResNetDiscriminator(8, 16, 1, attention=8)):
        for name, module in network.named_modules():
            if name.endswith("query"):
                module.register_forward_hook(lambda module, given, _: seen.append(given[0].shape[-1]))
        network(torch.randn(2, 4) if isinstance(network, ResNetGenerator) else torch.randn(2, 1, 16, 16))
    assert seen == [8, 8]


def pre_activation(block: Block, x: Tensor, up: bool, down: bool) -> Tensor:
    """Miyato et al. 2018, appendix B.4, with the skip's convolution where the papers have it."""
    convolutions = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]

    def double(h: Tensor) -> Tensor:
        return h.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def halve(h: Tensor) -> Tensor:
        return (h[:, :, ::2, ::2] + h[:, :, 1::2, ::2] + h[:, :, ::2, 1::2] + h[:, :, 1::2, 1::2]) / 4

    h = norms[0](x) if norms else x
    h = convolutions[0](double(h.relu()) if up else h.relu())
    h = convolutions[1]((norms[1](h) if norms else h).relu())
    skip = convolutions[2](double(x) if up else x) if up or down else x
    return halve(h) + halve(skip) if down else h + skip


def test_blocks_are_the_papers() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 6, 6)
    up, down = Block(4, 5, 5, "preactivation", nn.BatchNorm2d, "up"), Block(4, 5, 4, "preactivation", None, "down")
    same = Block(4, 4, 4, "preactivation", None, None)
    torch.testing.assert_close(up(x), pre_activation(up, x, True, False))
    torch.testing.assert_close(down(x), pre_activation(down, x, False, True))
    torch.testing.assert_close(same(x), pre_activation(same, x, False, False))
    basic = Block(4, 4, 4, "basic", nn.BatchNorm2d, None)
    one, two = (m for m in basic.modules() if isinstance(m, nn.Conv2d))
    norms = [m for m in basic.modules() if isinstance(m, nn.BatchNorm2d)]
    torch.testing.assert_close(basic(x), (norms[1](two(norms[0](one(x)).relu())) + x).relu())


@pytest.mark.parametrize("block", KINDS)
def test_nothing_reads_what_was_changed_in_place(block: Kind) -> None:
    x = torch.randn(2, 4, 6, 6)
    before = x.clone()
    for norm in (None, nn.BatchNorm2d):
        Block(4, 4, 4, block, norm, None)(x)
        assert torch.equal(x, before)


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("block", KINDS)
def test_double_backward(block: Kind, norm: Norm) -> None:
    torch.manual_seed(0)
    for head in ({}, PROJECTION):
        discriminator = ResNetDiscriminator(4, 16, 1, block, norm, attention="half", **head)
        images, labels = torch.randn(4, 1, 16, 16, requires_grad=True), torch.arange(4)
        (gradient,) = torch.autograd.grad(discriminator(images, labels).sum(), images, create_graph=True)
        gradient.square().sum().backward()
        for name, parameter in discriminator.named_parameters():
            if name.startswith("trunk.0.residual") and "weight" in name:
                assert parameter.grad is not None, name
                assert torch.isfinite(parameter.grad).all(), name
                assert parameter.grad.any(), name


@pytest.mark.parametrize("norm", ["layer", "instance", "none"])
def test_a_critic_does_not_mix_samples(norm: Norm) -> None:
    torch.manual_seed(0)
    critic, images = ResNetDiscriminator(4, 16, 1, norm=norm), torch.randn(6, 1, 16, 16)
    torch.testing.assert_close(critic(images)[:2], critic(images[:2]))


def test_pooling() -> None:
    torch.manual_seed(0)
    sums, means = ResNetDiscriminator(4, 28, 1), ResNetDiscriminator(4, 28, 1, pooling="mean")
    means.load_state_dict(sums.state_dict())
    images = torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(sums(images), 49 * means(images), atol=1e-4, rtol=1e-4)  # the head's bias is 0


# ---- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", KINDS)
def test_conditional_batch_norm_uses_the_label(block: Kind) -> None:
    torch.manual_seed(0)
    generator = ResNetGenerator(4, 8, 16, 1, block, classes=3)
    for name, parameter in generator.named_parameters():
        if "scale" in name or "shift" in name:  # all classes begin alike
            nn.init.normal_(parameter)
    generator.eval()
    z = torch.randn(1, 4).expand(3, 4)
    images = generator(z, torch.tensor([0, 1, 1]))
    assert not torch.allclose(images[0], images[1])
    torch.testing.assert_close(images[1], images[2])
    shares = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0.5, 0]])
    mixed = generator(z, shares)
    torch.testing.assert_close(mixed[:2], images[:2])
    assert not torch.allclose(mixed[2], images[0])


def test_the_last_batch_norm_is_unconditional() -> None:
    generator = ResNetGenerator(4, 8, 16, 1, classes=3)
    assert isinstance(generator.get_submodule("output.0"), nn.BatchNorm2d)
    assert generator.get_parameter("output.0.weight").shape == (8,)


def test_the_projection_is_linear_in_shares() -> None:
    torch.manual_seed(0)
    discriminator = ResNetDiscriminator(4, 16, 1, classes=3, conditioning="projection", spectral_norm=True).eval()
    images = torch.randn(1, 1, 16, 16)
    zero, one, between = discriminator(
        images.expand(3, -1, -1, -1), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.25, 0.75, 0]])
    )
    assert not torch.isclose(zero, one)
    torch.testing.assert_close(between, 0.25 * zero + 0.75 * one)


# ---- initialisation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_glorot_with_the_papers_gains(spectral_norm: bool) -> None:
    torch.manual_seed(0)
    networks = (
        ResNetGenerator(64, 64, 16, 3, spectral_norm=spectral_norm),
        ResNetDiscriminator(64, 16, 3, classes=64, conditioning="projection", spectral_norm=spectral_norm),
    )
    checked = 0
    for network in networks:
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any(), name
            elif parameter.dim() > 1:
                gain = math.sqrt(2) if "residual" in name else 1
                fans = (parameter.shape[0] + parameter.shape[1]) * parameter[0, 0].numel()
                bound = gain * math.sqrt(6 / fans)  # Glorot & Bengio 2010, eq. 16
                assert parameter.abs().max().item() == pytest.approx(bound, rel=0.08), name
                checked += 1
    assert checked == 1 + 2 * 3 + 1 + 3 * 3 + 2  # linear, two blocks, image; three blocks, head, projection


# ---- spectral norm and training -------------------------------------------------------------------------------------


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=2e-4, betas=(0.0, 0.9))


def play(image_size: int, folder: Path, rule: Any, generator: nn.Module, discriminator: nn.Module, **more: Any) -> Any:
    torch.manual_seed(0)
    players = {"generator": generator, "discriminator": discriminator}
    optimizers = {f"{name}_optimizer": adam for name in players}
    module = rule(**players, **optimizers, **more)
    fit(module, Large(image_size), folder, budget=Budget(generator_steps=3), max_epochs=20)
    return module


class Large(Blobs):
    """Blobs of 16 pixels and more."""

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size=image_size)

    def load(self) -> tuple[InMemory, InMemory, list[str]]:
        *parts, names = super().load()
        train, held_out = (InMemory(resize(part.images, self.image_size), part.labels) for part in parts)
        return train, held_out, names


@pytest.mark.parametrize("classes", [0, 4])
def test_sngan_and_sagan_train_and_spectral_norms_are_one(classes: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    attention: Any = "half" if classes else None
    generator = ResNetGenerator(8, 8, 16, 1, classes=classes, attention=attention, spectral_norm=True)
    head: dict[str, Any] = {"classes": classes, "conditioning": "projection", "spectral_norm": True}
    discriminator = ResNetDiscriminator(8, 16, 1, attention=attention, **head)
    step = Step(critic_steps=5, generator_batch=2)
    module = play(16, tmp_path, GAN, generator, discriminator, step=step, loss="hinge", classes=classes)
    module.eval()
    layers = 0
    for network in (module.generator, module.discriminator):
        for name, layer in network.named_modules():
            if (
                isinstance(layer, nn.Linear | nn.Conv2d | LabelEmbedding)
                and "scale" not in name
                and "shift" not in name
            ):
                assert parametrize.is_parametrized(layer, "weight"), name
                norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2).item()
                assert norm == pytest.approx(1, abs=0.05), name
                layers += 1
    assert layers == (8 + 10 if not classes else 8 + 10 + 2 * 4 + 1)


def test_wgan_gp_trains(tmp_path: Path) -> None:
    torch.manual_seed(0)
    critic = ResNetDiscriminator(8, 16, 1, norm="layer", attention="half", pooling="mean")
    before = critic.get_parameter("trunk.0.residual.0.weight").detach().clone()
    module = play(16, tmp_path, WGANGP, ResNetGenerator(8, 8, 16, 1), critic, step=Step(critic_steps=2))
    after = module.discriminator.get_parameter("trunk.0.residual.0.weight")
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)
    with pytest.raises(ValueError, match="batch norm mixes samples"):
        play(
            16, tmp_path, WGANGP, ResNetGenerator(8, 8, 16, 1), ResNetDiscriminator(8, 16, 1, norm="batch"), step=Step()
        )
