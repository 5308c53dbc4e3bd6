"""WaveGAN's networks: the counts of the paper, convolutions against PyTorch's own, and what phase shuffle does."""

import pytest
import torch
from torch.nn import functional

from gan_lightning.networks.wavegan import (
    Narrow,
    PhaseShuffle,
    WaveGANDiscriminator,
    WaveGANGenerator,
    Widen,
    shifted,
    strides,
)
from gan_lightning.penalties import gradient_penalty
from tests.support import count


def test_the_paper_s_counts() -> None:
    """Tables 3 and 4, by hand: kernels of 25 and biases, widths 1024 … 64, a dense layer at either end."""
    with torch.device("meta"):
        generator, discriminator = WaveGANGenerator(100, 64, 16384), WaveGANDiscriminator(64, 16384)
    kernels = sum(25 * a * b for a, b in ((1024, 512), (512, 256), (256, 128), (128, 64), (64, 1)))
    assert count(generator) == 19_065_345 == 101 * 16 * 1024 + kernels + 512 + 256 + 128 + 64 + 1
    assert count(discriminator) == 17_427_969 == kernels + 64 + 128 + 256 + 512 + 1024 + 16 * 1024 + 1


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(256, [4, 4]), (512, [4, 4, 2]), (8192, [4, 4, 4, 4, 2]), (16384, [4] * 5), (65536, [4] * 6)],
)
def test_strides(samples: int, expected: list[int]) -> None:
    assert strides(samples) == expected


@pytest.mark.parametrize("samples", [16, 32, 100, 8000, 16383])
def test_other_lengths_are_refused(samples: int) -> None:
    with pytest.raises(ValueError, match=rf"^samples={samples}: .*64, 128, 256"):
        strides(samples)


@pytest.mark.parametrize(("kernel", "stride"), [(25, 4), (25, 2), (9, 4), (13, 4), (5, 2), (4, 4)])
def test_convolutions_are_pytorch_s(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    rows = torch.randn(2, 32, 3)
    before = (kernel - stride) // 2  # TensorFlow's "same"
    narrow, widen = Narrow(3, 5, kernel, stride), Widen(3, 5, kernel, stride)
    padded = functional.pad(rows.transpose(1, 2), (before, kernel - stride - before))
    expected = functional.conv1d(padded, narrow.weight, narrow.bias, stride).transpose(1, 2)
    torch.testing.assert_close(narrow(rows), expected, rtol=1e-4, atol=1e-5)
    spread = functional.conv_transpose1d(rows.transpose(1, 2), widen.weight, widen.bias, stride)
    expected = spread[:, :, before : before + 32 * stride].transpose(1, 2)
    torch.testing.assert_close(widen(rows), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("samples", [256, 512])
@pytest.mark.parametrize("classes", [0, 3])
def test_the_pair_fits(samples: int, classes: int) -> None:
    generator = WaveGANGenerator(5, 2, samples, classes)
    discriminator = WaveGANDiscriminator(2, samples, classes=classes, conditioning="projection")
    labels = torch.tensor([0, 1, 2, 0]) if classes else None
    sounds = generator(torch.rand(4, 5), labels)
    assert sounds.shape == (4, 1, samples)
    assert sounds.abs().max() <= 1
    assert discriminator(sounds, labels).shape == (4,)
    if labels is not None:
        latents = torch.rand(1, 5).expand(3, -1)
        assert not torch.equal(*generator(latents, labels[:3])[:2])  # the class alone differs
        assert discriminator.eval()(sounds[:1].expand(3, -1, -1), labels[:3]).unique().numel() == 3


def test_spectral_norm_reaches_the_convolutions() -> None:
    discriminator = WaveGANDiscriminator(2, 256, spectral_norm=True)
    discriminator.eval()
    weights = [m.weight for m in discriminator.modules() if isinstance(m, Narrow)]
    assert len(weights) == 2
    for weight in weights:
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_shifts_move_and_reflect() -> None:
    rows = torch.arange(6.0).view(1, 6, 1).repeat(5, 1, 2)
    found = shifted(rows, torch.tensor([-2, -1, 0, 1, 2]))[:, :, 1].tolist()
    assert found == [
        [2, 3, 4, 5, 4, 3],  # earlier: the end is reflected
        [1, 2, 3, 4, 5, 4],
        [0, 1, 2, 3, 4, 5],
        [1, 0, 1, 2, 3, 4],  # later: so is the beginning
        [2, 1, 0, 1, 2, 3],
    ]


def test_phase_shuffle_only_moves_values() -> None:
    torch.manual_seed(0)
    rows = torch.randn(2000, 12, 3)
    moved = PhaseShuffle(2)(rows)
    inner = rows[:, 2:-2].square().sum((1, 2))
    counts = torch.zeros(5)
    for place, shift in enumerate(range(-2, 3)):
        same = (moved[:, 2 + shift : 10 + shift] == rows[:, 2:10]).flatten(1).all(1)
        torch.testing.assert_close(moved[same, 2 + shift : 10 + shift].square().sum((1, 2)), inner[same])
        counts[place] = same.sum()
    assert counts.sum() == 2000  # every sample by one of them
    assert (counts / 400 - 1).abs().max() < 0.2  # evenly: 400 ± 18 each


def test_no_shuffle_without_shift_or_training() -> None:
    rows = torch.randn(8, 12, 3)
    assert PhaseShuffle(0)(rows) is rows
    assert PhaseShuffle(2).eval()(rows) is rows
    assert not torch.equal(PhaseShuffle(2)(rows), rows)


def test_the_penalty_s_gradient_is_that_of_fixed_shifts() -> None:
    """Phase shuffle is one linear function within the double backward pass: shifts drawn before give the same."""
    torch.manual_seed(0)
    discriminator = WaveGANDiscriminator(2, 256, kernel=9).double()
    real, fake, mixing = torch.rand(4, 1, 256), torch.rand(4, 1, 256), torch.rand(4)
    shuffle = next(m for m in discriminator.modules() if isinstance(m, PhaseShuffle))

    def gradients(judge: object) -> list[torch.Tensor]:
        penalty = gradient_penalty(lambda sounds: discriminator(sounds.double()), real, fake, mixing).sum()
        return list(torch.autograd.grad(penalty, [p for p in discriminator.parameters() if p.dim() > 1]))

    torch.manual_seed(1)
    found = gradients(None)
    torch.manual_seed(1)
    shifts = torch.randint(-2, 3, (4,))

    def one_by_one(rows: torch.Tensor) -> torch.Tensor:
        """The same without indices: reflected at both ends, and cut."""
        padded = functional.pad(rows.transpose(1, 2), (2, 2), mode="reflect").transpose(1, 2)
        return torch.stack([row[2 - s : 2 - s + rows.shape[1]] for row, s in zip(padded, shifts.tolist(), strict=True)])

    shuffle.forward = one_by_one  # type: ignore[method-assign]  # the other way to do the same
    for one, other in zip(found, gradients(None), strict=True):
        assert one.isfinite().all()
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other)
