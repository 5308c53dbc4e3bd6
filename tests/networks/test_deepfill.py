"""Gated convolution, contextual attention against a loop over patches, and DeepFill's published parameter counts."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.networks.deepfill import (
    DeepFillV1Critic,
    DeepFillV1Critics,
    DeepFillV1Generator,
    DeepFillV2Generator,
    GatedConvolution,
    Halving,
    SNPatchDiscriminator,
    around_hole,
    completed,
    contextual_attention,
)
from tests.support import count

GENERATORS = [DeepFillV1Generator, DeepFillV2Generator]


def hole(size: int, count: int = 1) -> Tensor:
    """Masks (count, 1, size, size) with a hole of a quarter of the side, each at another place."""
    masks = torch.zeros(count, 1, size, size)
    for index, mask in enumerate(masks):
        first = size // 4 + index * size // 4
        mask[:, first : first + size // 4, first : first + size // 4] = 1
    return masks


def with_mask(images: Tensor, masks: Tensor) -> Tensor:
    return torch.cat([images, masks], 1)


def test_parameter_counts() -> None:
    """PyTorch ports of the published code: nipponjo/deepfillv2-pytorch and daa233/generative-inpainting-pytorch."""
    with torch.device("meta"):
        two, one = DeepFillV2Generator(48, 3), DeepFillV1Generator(32, 3)
        critics = DeepFillV1Critics(64, 256, 3)
        patches = SNPatchDiscriminator(64, 3)
    assert (count(two.coarse), count(two.fine)) == (1_631_151, 2_421_327)
    assert (count(one.coarse), count(one.fine)) == (1_448_227, 2_153_315)
    assert (count(critics.local), count(critics.whole)) == (2_684_289, 2_733_441)
    widths = [4, 64, 128, 256, 256, 256, 256]
    kernels = sum(25 * a * b + b for a, b in pairwise(widths))
    assert count(patches) == kernels == 5_946_816


def test_a_gated_convolution_is_its_formula() -> None:
    """Yu et al. 2019, section 3.1: φ(W_f * x) ⊙ σ(W_g * x)."""
    torch.manual_seed(0)
    layer, x = GatedConvolution(3, 5, 3, 2, 2, nn.ELU()), torch.randn(2, 3, 9, 9)
    weight, bias = layer.convolution.weight, layer.convolution.bias
    assert bias is not None
    features = nn.functional.conv2d(x, weight[:5], bias[:5], 2, 2, 2)
    gates = nn.functional.conv2d(x, weight[5:], bias[5:], 2, 2, 2)
    torch.testing.assert_close(layer(x), nn.functional.elu(features) / (1 + torch.exp(-gates)))
    with torch.no_grad():
        bias[5:] = -1e4  # closed gates
    assert torch.count_nonzero(layer(x)) == 0


def naive_attention(features: Tensor, mask: Tensor, scale: float = 10.0) -> Tensor:
    """Of one image (C, H, W), one patch after another, from the text of Yu et al. 2018, section 4.1."""
    channels, height, width = features.shape
    h, w, ratio = height // 2, width // 2, mask.shape[1] // (height // 2)
    places = [(row, column) for row in range(h) for column in range(w)]
    bordered = nn.functional.pad(features[:, ::2, ::2], [1] * 4)
    small = {(r, c): bordered[:, r : r + 3, c : c + 3].flatten() for r, c in places}
    full = nn.functional.pad(features, [1] * 4)
    missing = {
        (r, c): bool(mask[0, ratio * r : ratio * r + ratio, ratio * c : ratio * c + ratio].any()) for r, c in places
    }
    around = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    valid = [(r, c) for r, c in places if not any(missing.get((r + i, c + j), False) for i, j in around)]
    result, pasted = torch.zeros(channels, height + 2, width + 2), torch.zeros(height + 2, width + 2)
    for y, x in places:
        scores = []
        for r, c in valid:
            score = torch.tensor(0.0)
            for i, j in around:
                background, foreground = small.get((r + i, c + j)), small.get((y + i, x + j))
                if background is not None and foreground is not None:
                    score += torch.cosine_similarity(background, foreground, 0)
            scores.append(scale * score)
        patch = torch.zeros(channels, 4, 4)
        for weight, (r, c) in zip(torch.softmax(torch.tensor(scores), 0), valid, strict=True):
            patch += weight * full[:, 2 * r : 2 * r + 4, 2 * c : 2 * c + 4]
        result[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4] += patch
        pasted[2 * y : 2 * y + 4, 2 * x : 2 * x + 4] += 1
    return (result / pasted)[:, 1:-1, 1:-1]


@pytest.mark.parametrize("ratio", [1, 4])
def test_contextual_attention_is_a_loop_over_patches(ratio: int) -> None:
    """A hole in every image of the minibatch, at its own place; sides that differ."""
    torch.manual_seed(0)
    features, masks = torch.randn(2, 3, 8, 12), torch.zeros(2, 1, 8 * ratio, 12 * ratio)
    masks[0, :, : 2 * ratio, : 3 * ratio] = 1
    masks[1, :, 7 * ratio, 6 * ratio] = 1  # one pixel
    expected = torch.stack([naive_attention(image, mask) for image, mask in zip(features, masks, strict=True)])
    torch.testing.assert_close(contextual_attention(features, masks), expected)


def test_attention_copies_what_continues_a_pattern() -> None:
    """Of features with a period, a hole becomes what lies a period away, if only a hint of it is in the hole."""
    torch.manual_seed(0)
    tile = torch.randn(1, 8, 8, 8)
    pattern = tile.repeat(1, 1, 4, 4)
    mask = torch.zeros(1, 1, 32, 32)
    mask[:, :, 8:16, 8:16] = 1
    hinted = torch.where(mask > 0, 0.3 * pattern, pattern)
    filled = contextual_attention(hinted, mask)
    torch.testing.assert_close(filled[:, :, 10:14, 10:14], pattern[:, :, 10:14, 10:14], atol=1e-2, rtol=0)


def test_nothing_of_the_hole_is_pasted() -> None:
    torch.manual_seed(0)
    features, mask = torch.randn(1, 4, 16, 16), hole(16)
    features = torch.where(mask > 0, 1e3, features)
    assert contextual_attention(features, mask).abs().max() < 10


def test_attention_without_a_valid_patch_is_zero() -> None:
    features = torch.randn(2, 3, 8, 8, requires_grad=True)
    masks = torch.cat([torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)])
    filled = contextual_attention(features, masks)
    assert torch.count_nonzero(filled[0]) == 0
    assert torch.count_nonzero(filled[1]) == filled[1].numel()
    (gradient,) = torch.autograd.grad(filled.sum(), features)
    assert torch.isfinite(gradient).all()


def test_gradients_of_attention() -> None:
    torch.manual_seed(0)
    features, mask = torch.randn(1, 2, 6, 6, dtype=torch.double, requires_grad=True), torch.zeros(1, 1, 6, 6)
    mask[..., 0, 0] = 1
    assert torch.autograd.gradcheck(lambda x: contextual_attention(x, mask.double()), features)


@pytest.mark.parametrize("network", GENERATORS)
@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 48), (64, 64)])
def test_shapes_and_range(network: Any, height: int, width: int) -> None:
    torch.manual_seed(0)
    generator, masks = network(8, 3), torch.zeros(2, 1, height, width)
    masks[:, :, : height // 2] = 1
    for filled in generator.stages(with_mask(10 * torch.randn(2, 3, height, width), masks)):
        assert filled.shape == (2, 3, height, width)
        assert filled.abs().max() <= 1


@pytest.mark.parametrize("network", GENERATORS)
def test_what_lies_in_the_hole_is_not_looked_at(network: Any) -> None:
    torch.manual_seed(0)
    generator, images, masks = network(8, 3), torch.randn(2, 3, 32, 32), hole(32, 2)
    others = torch.where(masks > 0, torch.randn(2, 3, 32, 32), images)
    assert not torch.equal(others, images)
    torch.testing.assert_close(generator(with_mask(others, masks)), generator(with_mask(images, masks)))


@pytest.mark.parametrize("network", GENERATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_known_pixels_stay_exactly_as_they_are(network: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    generator, images, masks = network(8, 3), torch.randn(2, 3, 32, 32), hole(32, 2)
    x = with_mask(images, masks)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        made, (_, fine) = generator(x), generator.stages(x)
    known = (masks == 0).expand_as(images)
    assert torch.equal(made[known], images[known])
    assert torch.equal(made[~known], fine[~known].float())
    assert not torch.equal(fine[known].float(), images[known])


def test_a_filling_that_is_not_a_number_stays_in_the_hole() -> None:
    x, masks = torch.ones(1, 3, 8, 8), hole(8)
    made = completed(with_mask(x, masks), torch.full((1, 3, 8, 8), torch.nan))
    assert made.isnan().sum() == 3 * masks.sum()


@pytest.mark.parametrize("network", GENERATORS)
def test_the_fine_network_is_given_what_is_known_and_the_coarse_filling(network: Any) -> None:
    """Version 1's also where the hole is."""
    torch.manual_seed(0)
    generator, images, masks = network(4, 3), torch.rand(2, 3, 16, 16) * 2 - 1, hole(16, 2)
    given: list[Tensor] = []
    generator.fine.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    coarse, _ = generator.stages(with_mask(images, masks))
    expected = torch.where(masks > 0, coarse, images)
    seen = network is DeepFillV1Generator
    assert torch.equal(given[0], torch.cat([expected, torch.ones_like(masks), masks], 1) if seen else expected)


@pytest.mark.parametrize("network", GENERATORS)
def test_both_stages_learn_from_the_fine_result(network: Any) -> None:
    torch.manual_seed(0)
    generator = network(8, 3)
    generator(with_mask(torch.randn(2, 3, 32, 32), hole(32, 2))).sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())
    assert (
        generator.coarse[0]
        .get_parameter("convolution.weight" if network is DeepFillV2Generator else "0.weight")
        .grad.any()
    )


@pytest.mark.parametrize("network", GENERATORS)
def test_what_generators_cannot_be(network: Any) -> None:
    with pytest.raises(ValueError, match=r"36×32.*multiples of 8"):
        network(8, 3)(torch.zeros(1, 4, 36, 32))
    with pytest.raises(ValueError, match=r"base_channels=3\b.*multiple of"):
        network(3, 3)


def test_every_number_of_the_last_map_is_a_logit() -> None:
    discriminator = SNPatchDiscriminator(2, 3)
    for side, logits in ((256, 4), (64, 1), (70, 2)):
        assert discriminator(torch.randn(2, 3, side, side), torch.zeros(2, 1, side, side)).shape == (
            2,
            8,
            logits,
            logits,
        )


def test_the_discriminator_of_patches_sees_the_mask() -> None:
    torch.manual_seed(0)
    discriminator, images = SNPatchDiscriminator(2, 3).eval(), torch.randn(1, 3, 64, 64)
    assert not torch.allclose(discriminator(images, hole(64)), discriminator(images, 1 - hole(64)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (2, 1), (5, 4)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_halving_is_a_convolution_with_all_of_its_gradients(height: int, width: int, layout: Any) -> None:
    """In bfloat16 too, where the memory of what is left unwritten may hold anything."""
    torch.manual_seed(0)
    layer, x = Halving(16, 16, 5, 2, 2).to(memory_format=layout), torch.randn(16, 16, height, width)
    expected = nn.functional.conv2d(x, layer.weight, layer.bias, 2, 2)
    torch.testing.assert_close(layer(x), expected)
    (gradient,) = torch.autograd.grad(expected.square().sum(), layer.weight)
    unused = [torch.full((16 * 16 * 25 * times,), torch.nan) for times in (1, 2, 4)]
    del unused
    with torch.autocast("cpu", torch.bfloat16):
        made = layer(x.to(memory_format=layout))
    (found,) = torch.autograd.grad(made.float().square().sum(), layer.weight)
    torch.testing.assert_close(found, gradient, atol=0.02 * float(gradient.abs().max()), rtol=0)


@pytest.mark.parametrize("image_size", [32, 50])
def test_critics_judge_the_hole_and_the_image(image_size: int) -> None:
    torch.manual_seed(0)
    critic, images = DeepFillV1Critic(2, image_size, 3), torch.randn(3, 3, image_size, image_size)
    assert critic(images).shape == (3,)
    torch.testing.assert_close(critic(images)[:2], critic(images[:2]))


@pytest.mark.parametrize(
    ("top", "left", "height", "width", "corner"),
    [
        (5, 8, 4, 6, (3, 7)),  # the box's middle is the square's
        (0, 0, 4, 4, (0, 0)),
        (12, 10, 4, 6, (8, 8)),
        (6, 0, 1, 16, (2, 4)),  # longer than the square
    ],
)
def test_the_local_critic_sees_a_square_around_the_hole(
    top: int, left: int, height: int, width: int, corner: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    images, masks = torch.randn(3, 2, 16, 16), torch.zeros(3, 1, 16, 16)
    masks[0, :, 7:9, 7:9] = 1  # each image has its own
    masks[1, :, top : top + height, left : left + width] = 1
    masks[2, :, 15, 15] = 1
    row, column = corner
    expected = [images[0, :, 4:12, 4:12], images[1, :, row : row + 8, column : column + 8], images[2, :, 8:, 8:]]
    assert torch.equal(around_hole(images, masks, 8), torch.stack(expected))


def test_both_critics_judge_beside_each_other() -> None:
    torch.manual_seed(0)
    critics, images, masks = DeepFillV1Critics(2, 32, 3), torch.randn(2, 3, 32, 32), hole(32, 2)
    assert critics.hole_size == 16
    logits = critics(images, masks)
    torch.testing.assert_close(logits[:, 0], critics.local(around_hole(images, masks, 16)))
    torch.testing.assert_close(logits[:, 1], critics.whole(images))
    with pytest.raises(ValueError, match="hole_size=33: must be at most image_size=32"):
        DeepFillV1Critics(2, 32, 3, hole_size=33)


def test_convolutions_of_both_networks_see_further_and_further() -> None:
    """Yu et al. 2018, figure 2: dilations 2, 4, 8, 16 in the coarse network and the hallucinating branch."""
    generator = DeepFillV2Generator(8, 3)
    for part in (generator.coarse, generator.fine.hallucinate):
        dilations = [m.dilation[0] for m in part.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
        assert dilations == [2, 4, 8, 16]


def test_the_discriminator_of_patches_is_spectrally_normalised() -> None:
    network = SNPatchDiscriminator(2, 3)
    for _ in range(50):
        network(torch.randn(1, 3, 64, 64), torch.zeros(1, 1, 64, 64))  # steps of the power iteration
    norms = [torch.linalg.matrix_norm(m.weight.flatten(1), 2) for m in network.modules() if isinstance(m, nn.Conv2d)]
    torch.testing.assert_close(torch.stack(norms), torch.ones(6), rtol=1e-2, atol=0)
