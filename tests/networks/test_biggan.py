"""Counts, shapes, labels, parts of the latents, norms and initialisation of BigGAN's networks."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gan_lightning.networks.biggan import SHAPES, BigGANDiscriminator, BigGANGenerator
from gan_lightning.networks.conditional import LabelEmbedding, LinearBatchNorm2d
from gan_lightning.networks.resnet import Block
from tests.support import count

HEAD: dict[str, Any] = {"conditioning": "projection", "spectral_norm": True}
LATENTS = {16: 6, 28: 6, 32: 8, 64: 10, 128: 12, 256: 14}


@pytest.mark.parametrize(
    ("generator", "discriminator", "classes", "parameters"),
    [
        # BigGAN-PyTorch's, 128 pixels, 96 wide
        ((120, 96, 128, 3, 1000, 128, True, 64), (96, 128, 3, 64), 1000, (70_433_988, 87_982_370)),
        # StudioGAN's for CIFAR-10, as its log says
        ((80, 96, 32, 3, 10, 128, True, 16), (96, 32, 3, 16), 10, (9_416_196, None)),
        # BigGAN-PyTorch's for CIFAR-10, of which its authors say 4.3 million
        ((128, 64, 32, 3, 10, 0, False, None), (64, 32, 3, None), 10, (4_304_387, 4_207_361)),
    ],
)
def test_parameter_counts(generator: Any, discriminator: Any, classes: int, parameters: tuple[int, int | None]) -> None:
    with torch.device("meta"):
        assert count(BigGANGenerator(*generator)) == parameters[0]
        if parameters[1]:
            assert count(BigGANDiscriminator(*discriminator, classes=classes, **HEAD)) == parameters[1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_size", SHAPES)
def test_shapes_and_range(image_size: int, channels: int) -> None:
    latents = LATENTS[image_size]
    generator = BigGANGenerator(latents, 1, image_size, channels)
    assert generator.latent_size == latents
    images = generator(10 * torch.randn(2, latents))
    assert images.shape == (2, channels, image_size, image_size)
    assert images.abs().max() <= 1
    discriminator = BigGANDiscriminator(1, image_size, channels)
    assert discriminator(images).shape == (2,)
    assert discriminator(images, torch.zeros(2, dtype=torch.long)).shape == (2,)  # labels are ignored


@pytest.mark.parametrize(
    ("image_size", "up", "down"),
    [
        (32, [8, 16, 32], [16, 8, 8, 8]),
        (64, [8, 16, 32, 64], [32, 16, 8, 4, 4]),
        (128, [8, 16, 32, 64, 128], [64, 32, 16, 8, 4, 4]),
        (256, [8, 16, 32, 64, 128, 256], [128, 64, 32, 16, 8, 4, 4]),
    ],
)
def test_sides_of_the_feature_maps(image_size: int, up: list[int], down: list[int]) -> None:
    attention = 64 if image_size >= 128 else None
    generator = BigGANGenerator(LATENTS[image_size], 1, image_size, 1, attention=attention)
    discriminator = BigGANDiscriminator(1, image_size, 1, attention=attention)
    sides: list[int] = []
    attended: list[int] = []
    for network in (generator, discriminator):
        for name, module in network.named_modules():
            if isinstance(module, Block):
                module.register_forward_hook(lambda module, given, output: sides.append(output.shape[-1]))
            if name.endswith("query"):
                module.register_forward_hook(lambda module, given, output: attended.append(output.shape[-1]))
    discriminator(generator(torch.randn(2, LATENTS[image_size])))
    assert sides == up + down
    assert attended == ([64, 64] if attention else [])


@pytest.mark.parametrize("image_size", [0, 8, 48, 512])
def test_other_sizes_are_refused(image_size: int) -> None:
    for build in (lambda: BigGANGenerator(8, 2, image_size, 1), lambda: BigGANDiscriminator(2, image_size, 1)):
        with pytest.raises(ValueError, match=rf"image_size={image_size}\b.*16, 28, 32, 64, 128, 256"):
            build()


def test_latents_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(ValueError, match=r"latent_size=120: .* 7 equal parts at 256 pixels; .* such as 126"):
        BigGANGenerator(120, 1, 256, 3)
    with pytest.raises(ValueError, match="shared_size=0: hierarchical latents"):
        BigGANGenerator(120, 1, 32, 3, classes=3, shared_size=0)
    assert BigGANGenerator(121, 1, 32, 3, hierarchical=False).project.in_features == 121


# ---- labels and parts of latents ------------------------------------------------------------------------------------


def lively(**settings: Any) -> BigGANGenerator:
    """A generator of 16 pixels in eval mode with classes that differ."""
    torch.manual_seed(0)
    generator = BigGANGenerator(**{"latent_size": 6, "base_channels": 4, "image_size": 16, "channels": 1, **settings})
    for module in generator.modules():
        if isinstance(module, LabelEmbedding):
            nn.init.normal_(module.weight)
    return generator.eval()


@pytest.mark.parametrize(
    "told", [{"shared_size": 5}, {"shared_size": 5, "hierarchical": False}, {"shared_size": 0, "hierarchical": False}]
)
def test_labels_and_shares_of_classes(told: dict[str, Any]) -> None:
    generator = lively(classes=3, **told)
    z = torch.randn(1, 6).expand(4, 6)
    images = generator(z, torch.tensor([0, 1, 1, 2]))
    assert not torch.allclose(images[0], images[1])
    torch.testing.assert_close(images[1], images[2])
    shares = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 1]])
    mixed = generator(z, shares)
    torch.testing.assert_close(mixed[[0, 1, 3]], images[[0, 1, 3]])
    assert not torch.allclose(mixed[2], images[0])
    assert not torch.allclose(mixed[2], images[1])


def test_between_classes_lies_the_mixture_of_their_embeddings() -> None:
    generator = lively(classes=3, shared_size=5)
    z, told = torch.randn(1, 6), []
    generator.get_submodule("blocks.0.residual.0").register_forward_pre_hook(lambda _, given: told.append(given[1]))
    generator(z, torch.tensor([[0.25, 0.75, 0]]))
    assert generator.shared is not None
    expected = 0.25 * generator.shared.weight[0] + 0.75 * generator.shared.weight[1]
    torch.testing.assert_close(told[0][0], torch.cat([expected, z[0, 2:4]]))


@pytest.mark.parametrize("classes", [0, 3])
def test_every_block_is_told_its_own_part_of_the_latents(classes: int) -> None:
    generator, told = lively(classes=classes, shared_size=5), []
    for module in generator.modules():
        if isinstance(module, LinearBatchNorm2d):
            module.register_forward_pre_hook(lambda _, given: told.append(given[1]))
    labels = torch.tensor([0]) if classes else None
    z = torch.arange(6.0)[None]
    whole = generator(z, labels)
    assert [vector[0, -2:].tolist() for vector in told] == [[2, 3], [2, 3], [4, 5], [4, 5]]
    assert {vector.shape[1] for vector in told} == {2 + 5 * bool(classes)}
    for part in range(3):
        other = z.clone()
        other[:, 2 * part : 2 * part + 2] *= -1 - part
        other[:, 2 * part] += 1
        assert not torch.allclose(generator(other, labels), whole), part


def test_without_parts_all_latents_go_to_the_first_layer() -> None:
    generator = lively(classes=3, hierarchical=False, shared_size=5)
    assert generator.project.in_features == 6
    sizes = {m.gain.in_features for m in generator.modules() if isinstance(m, LinearBatchNorm2d)}
    assert sizes == {5}


def test_scales_of_batch_norm_are_around_one() -> None:
    torch.manual_seed(0)
    norm, x, y = LinearBatchNorm2d(3, 4), torch.randn(5, 3, 2, 2), torch.randn(5, 4)
    normal = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    scale, shift = y @ norm.gain.weight.T, y @ norm.shift.weight.T
    torch.testing.assert_close(norm(x, y), normal * (1 + scale[:, :, None, None]) + shift[:, :, None, None])
    torch.testing.assert_close(norm(x, torch.zeros(5, 4)), normal)


def test_the_projection_is_linear_in_shares() -> None:
    torch.manual_seed(0)
    discriminator = BigGANDiscriminator(2, 16, 1, classes=3, **HEAD).eval()
    images = torch.randn(1, 1, 16, 16).expand(3, -1, -1, -1)
    zero, one, between = discriminator(images, torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.25, 0.75, 0]]))
    assert not torch.isclose(zero, one)
    torch.testing.assert_close(between, 0.25 * zero + 0.75 * one)


def test_features_are_summed_over_places() -> None:
    torch.manual_seed(0)
    discriminator, maps = BigGANDiscriminator(2, 16, 1), []
    discriminator.get_submodule("trunk.2").register_forward_hook(lambda _, given, output: maps.append(output.clone()))
    images = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(discriminator.features(images), maps[0].relu().sum((2, 3)))


# ---- norms and initialisation ---------------------------------------------------------------------------------------


def test_every_layer_has_spectral_norm_one_but_the_generators_embedding() -> None:
    torch.manual_seed(0)
    generator = BigGANGenerator(6, 4, 16, 1, classes=3, shared_size=5, attention="half")
    discriminator = BigGANDiscriminator(4, 16, 1, attention="half", classes=3, **HEAD)
    layers = 0
    for network in (generator, discriminator):
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | LabelEmbedding) and name != "shared":
                original: Tensor = layer.get_parameter("parametrizations.weight.original")
                with torch.no_grad():
                    original.mul_(3).add_(0.1 * torch.randn_like(original))
                    for _ in range(100):
                        _ = layer.weight
                norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2).item()
                assert norm == pytest.approx(1, abs=0.02), name
                layers += 1
    of_generator = 1 + 2 * (3 + 4) + 4 + 1  # the first, blocks with four layers in their norms, attention, the last
    of_discriminator = 3 + 3 + 2 + 4 + 2  # blocks, the last without a layer in its skip, attention, head, projection
    assert layers == of_generator + of_discriminator
    assert not parametrize.is_parametrized(generator.get_submodule("shared"))


def test_weights_begin_orthogonal_and_biases_zero() -> None:
    torch.manual_seed(0)
    generator = BigGANGenerator(6, 4, 16, 1, classes=3, shared_size=5)
    discriminator = BigGANDiscriminator(4, 16, 1, classes=3, **HEAD)
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any(), name
            elif parameter.dim() > 1:
                matrix = parameter.detach().flatten(1)
                products = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
                torch.testing.assert_close(products, torch.eye(len(products)), atol=1e-5, rtol=0, msg=name)
