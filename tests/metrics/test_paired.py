"""Scores of pairs against plain formulas: all pixels, Y, without a border, inside the hole."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from torchvision.models import alexnet

from gan_lightning.errors import UserError
from gan_lightning.metrics.paired import Pair, lpips, luma, paired, similarity

STREAM = torch.Generator().manual_seed(0)


def images(count: int, channels: int = 3, height: int = 20, width: int = 24) -> Tensor:
    return torch.randint(256, (count, channels, height, width), generator=STREAM, dtype=torch.uint8)


def noisy(real: Tensor) -> Tensor:
    return (real.int() + torch.randint(-20, 20, real.shape, generator=STREAM)).clamp(0, 255).to(torch.uint8)


def psnr(real: np.ndarray[Any, Any], fake: np.ndarray[Any, Any]) -> float:
    return 10 * math.log10(255**2 / ((real - fake) ** 2).mean())


def test_means_over_images_of_any_sizes() -> None:
    pairs = [Pair(real, noisy(real)) for real in (images(2), images(1, height=31, width=17))]
    found = paired(["l1", "psnr"], pairs)
    singles = [
        (real.double().numpy(), fake.double().numpy())
        for pair in pairs
        for real, fake in zip(pair.real, pair.fake, strict=True)
    ]
    assert found["psnr"].value == pytest.approx(np.mean([psnr(real, fake) for real, fake in singles]))
    assert found["l1"].value == pytest.approx(np.mean([np.abs(real - fake).mean() / 255 for real, fake in singles]))


def test_y_and_border_are_those_of_published_super_resolution() -> None:
    """Y as MATLAB's rgb2ycbcr (BT.601, 16 to 235), and so many pixels less at each side."""
    real = images(1)
    fake = noisy(real)
    found = paired(["psnr_y"], [Pair(real, fake)], border=4)["psnr_y"]

    def y(picture: Tensor) -> np.ndarray[Any, Any]:
        red, green, blue = picture[0, :, 4:-4, 4:-4].double().numpy() / 255
        return 16 + 65.481 * red + 128.553 * green + 24.966 * blue

    assert found.value == pytest.approx(psnr(y(real), y(fake)))
    assert found.settings == {"of": "Y (BT.601, 16-235)", "crop_border": 4}
    white = torch.ones(1, 3, 1, 1, dtype=torch.double)
    assert float(luma(white)) * 255 == pytest.approx(235)
    assert float(luma(0 * white)) * 255 == pytest.approx(16)


def test_the_hole_alone() -> None:
    real = images(2)
    fake = noisy(real)
    mask = torch.zeros(2, 1, 20, 24, dtype=torch.bool)
    mask[0, 0, 3:9, 4:11] = mask[1, 0, 10:12, 2:20] = True
    found = paired(["l1_hole", "psnr_hole", "ssim_hole"], [Pair(real, fake, mask)])
    holes = [
        (real[0, :, 3:9, 4:11].double().numpy(), fake[0, :, 3:9, 4:11].double().numpy()),
        (real[1, :, 10:12, 2:20].double().numpy(), fake[1, :, 10:12, 2:20].double().numpy()),
    ]
    assert found["psnr_hole"].value == pytest.approx(np.mean([psnr(*hole) for hole in holes]))
    assert found["l1_hole"].value == pytest.approx(np.mean([np.abs(a - b).mean() / 255 for a, b in holes]))
    outside = torch.where(mask, fake, real)  # what is wrong outside counts only where a window reaches it
    assert paired(["psnr_hole"], [Pair(real, outside, mask)])["psnr_hole"].value == found["psnr_hole"].value
    everything = torch.ones_like(mask)
    whole = paired(["ssim_hole", "ssim"], [Pair(real, fake, everything)])
    assert whole["ssim_hole"].value == pytest.approx(whole["ssim"].value)
    black = torch.where(mask, 0, real)
    both = paired(["ssim_hole", "ssim"], [Pair(real, black, mask)])
    assert both["ssim_hole"].value < 0.5 < both["ssim"].value


def test_an_exact_image_and_a_hole_in_the_border_leave_means_finite() -> None:
    real = images(2)
    fake = torch.cat([real[:1], noisy(real[1:])])
    alone = paired(["psnr"], [Pair(real[1:], fake[1:])])["psnr"].value
    assert paired(["psnr"], [Pair(real, fake)])["psnr"].value == pytest.approx((100 + alone) / 2)
    mask = torch.zeros(2, 1, 20, 24, dtype=torch.bool)
    mask[0, 0, :3, :3] = mask[1, 0, 8:12, 8:12] = True
    inside = paired(["l1_hole"], [Pair(real, 255 - real, mask)], border=4)["l1_hole"].value
    assert inside == paired(["l1_hole"], [Pair(real[1:], 255 - real[1:], mask[1:])])["l1_hole"].value
    with pytest.raises(UserError, match=r"l1_hole\]: no image has a hole inside a border of 4"):
        paired(["l1_hole"], [Pair(real[:1], fake[:1], mask[:1])], border=4)


def test_ssim_is_that_of_torchmetrics() -> None:
    for real in (images(3, height=31, width=17), images(2, channels=1, height=6, width=6)):
        fake = noisy(real)
        expected = structural_similarity_index_measure(
            fake.double() / 255, real.double() / 255, data_range=1.0, return_full_image=True
        )[1]
        found = similarity(real.double() / 255, fake.double() / 255)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_ssim_is_its_formula_where_the_window_sees_the_same_everywhere() -> None:
    """Flat images (Wang et al. 2004, eq. 13 without variance), and an image beside itself."""
    real, fake = torch.full((1, 1, 16, 16), 100), torch.full((1, 1, 16, 16), 150)
    a, b, c = 100 / 255, 150 / 255, 0.01**2
    expected = (2 * a * b + c) / (a * a + b * b + c)
    assert paired(["ssim"], [Pair(real, fake)])["ssim"].value == pytest.approx(expected)
    picture = images(1)
    assert paired(["ssim"], [Pair(picture, picture)])["ssim"].value == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "channels", "size", "border", "message"),
    [
        ("psnr_y", 1, 16, 0, r"psnr_y\]: needs colour images"),
        ("l1_hole", 3, 16, 0, r"l1_hole\]: there are no holes"),
        ("ssim", 3, 12, 4, r"ssim\]: an image of 4×4 is too small \(border: 4\)"),
        ("psnr", 3, 8, 4, r"scores\.border=4: an image of 8×8 has nothing inside"),
    ],
)
def test_what_has_no_such_score(name: Any, channels: int, size: int, border: int, message: str) -> None:
    real = images(1, channels, size, size)
    with pytest.raises(UserError, match=message):
        paired([name], [Pair(real, real)], border)


def test_lpips_is_refused_at_once_without_its_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """And with it (here with random weights) it is 0 for equal images, and a mean over images."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def unreachable(*arguments: Any, **settings: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    lpips.cache_clear()
    real = images(2, height=40, width=40)
    with pytest.raises(UserError, match=r"scores\.names=\[lpips\]: its network cannot be fetched \(no network\)"):
        paired(["lpips"], [Pair(real, real)])
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth")
    fake = noisy(real)
    found = [paired(["lpips"], [Pair(*pair)])["lpips"].value for pair in ((real, real), (real, fake))]
    assert found[0] == 0 < found[1]
    halves = [paired(["lpips"], [Pair(real[i : i + 1], fake[i : i + 1])])["lpips"].value for i in range(2)]
    assert found[1] == pytest.approx(sum(halves) / 2)
    lpips.cache_clear()
