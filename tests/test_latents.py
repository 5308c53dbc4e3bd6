"""Truncation, mixed styles, films and closed-form directions: `sample` on tiny networks, against plain formulas."""

import functools
import importlib.util
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gan_lightning.commands import pictures, sample, train
from gan_lightning.config import check, compose
from gan_lightning.data.pixels import to_float, to_pixels
from gan_lightning.errors import UserError
from gan_lightning.latents import directions, latent_weights, layers_of, slerp, style_weights
from gan_lightning.models.stylegan2 import StyleGAN2
from gan_lightning.networks.began import BEGANGenerator
from gan_lightning.networks.cnn import CNNGenerator
from gan_lightning.networks.dcgan import DCGANGenerator
from gan_lightning.networks.mlp import MLPGenerator
from gan_lightning.networks.r3gan import R3GANGenerator
from gan_lightning.networks.resnet import ResNetGenerator
from gan_lightning.networks.stylegan1 import StyleGAN1Generator
from gan_lightning.networks.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from gan_lightning.sampling import evaluation_latents
from tests.support import game
from tests.test_sample import Stub, ask, tiles, use

SMALL: dict[str, Any] = {"image_size": 16, "base_channels": 8, "channels": 1}
SIZES: dict[str, Any] = {**SMALL, "max_channels": 8}
NOISY = 2.5  # the gain of styles, so that images of a network that learned nothing differ


def style_generator(kind: Any = StyleGAN2Generator) -> Any:
    torch.manual_seed(0)
    generator = kind(4, style_size=6, mapping_layers=2, **SIZES)
    with torch.no_grad():
        for name, weight in generator.named_parameters():
            weight.mul_(NOISY if name.endswith("style.weight") else 1)
        generator.mean.copy_(generator.styles(torch.randn(100, 4)).mean(0))
    return generator.eval()


@functools.cache
def configuration() -> dict[str, Any]:
    return check(compose("train", [], train.Settings), train.Settings)


def hold(module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every checkpoint now holds this model."""
    use(module, monkeypatch)
    monkeypatch.setattr(sample, "stored_config", lambda *_: configuration())
    return module


@pytest.fixture
def styled(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A StyleGAN2 of 16 pixels."""
    discriminator = StyleGAN2Discriminator(deviation_group=2, **SIZES)
    return hold(game(StyleGAN2, generator=style_generator(), discriminator=discriminator), monkeypatch)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model without styles whose pictures show z / 2."""
    return hold(game(generator=Stub(5, 0)), monkeypatch)


def seen(images: Tensor) -> Tensor:
    """Images (..., 1, H, W) as `tiles` reads them: pixels of a grid, every second of 16."""
    step = images.shape[-1] // 8
    return to_float(to_pixels(images))[..., 0, step // 2 :: step, step // 2 :: step]


@torch.no_grad()
def synthesised(module: Any, w: Tensor) -> Tensor:
    """Styles (..., layers, size) -> what is seen of them (..., 8, 8)."""
    return seen(module.generator.synthesis(w.flatten(0, -3))).unflatten(0, w.shape[:-2])


@torch.no_grad()
def codes(module: Any, count: int) -> Tensor:
    """The first styles of seed 0, for all layers: (count, layers, size)."""
    w = module.generator.styles(evaluation_latents(module, count, 0))
    return w[:, None].repeat(1, module.generator.layers, 1)


def test_slerp() -> None:
    a, b, shares = torch.randn(50), torch.randn(50), torch.linspace(0, 1, 5)
    a, b = a / a.norm(), b / b.norm()
    path = slerp(a, b, shares)  # (5, 50)
    torch.testing.assert_close(path[[0, -1]], torch.stack([a, b]))
    torch.testing.assert_close(path.norm(dim=1), torch.ones(5))
    angles = torch.acos((path[1:] * path[:-1]).sum(1).clamp(-1, 1))
    torch.testing.assert_close(angles, angles[:1].expand(4), rtol=1e-3, atol=1e-4)
    assert slerp(a, a, shares).isfinite().all()
    assert slerp(a, -a, shares).isfinite().all()


def test_truncated_styles_have_a_row_each_with_the_same_latents(styled: Any, tmp_path: Path) -> None:
    rows = tiles(ask(tmp_path / "out", "truncation=[0,0.5,1]", "count=3") / "truncation.png", 3)
    w, mean = codes(styled, 3), styled.generator.mean
    for row, psi in zip(rows, (0, 0.5, 1), strict=True):
        torch.testing.assert_close(row, synthesised(styled, mean + psi * (w - mean)), atol=0.02, rtol=0)
    assert (rows[0] == rows[0, :1]).all()
    assert (rows[2, 0] - rows[2, 1]).abs().max() > 0.05


def test_truncated_latents_come_from_one_stream(plain: Any, tmp_path: Path) -> None:
    rows = tiles(ask(tmp_path / "out", "truncation=[0.2,1.5]", "count=4") / "truncation.png", 4)[:, :, 1, :5] * 2
    expected = torch.stack([evaluation_latents(plain, 4, 0, psi) for psi in (0.2, 1.5)])
    torch.testing.assert_close(rows, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("truncation", [None, 0.6])
def test_styles_are_mixed_by_layers(truncation: float | None, styled: Any, tmp_path: Path) -> None:
    folder = ask(tmp_path / "out", "mixing=true", *([f"truncation={truncation}"] if truncation else []))
    assert sorted(file.name for file in folder.iterdir()) == ["mixing_coarse.png", "mixing_middle.png"]  # 16 pixels
    w = torch.lerp(styled.generator.mean, codes(styled, 12), truncation or 1.0)  # (12, layers, size)
    for name, layers in (("coarse", range(4)), ("middle", range(4, 6))):
        found = tiles(folder / f"mixing_{name}.png", 7)
        assert (found[0, 0] == 1).all()
        torch.testing.assert_close(found[0, 1:], synthesised(styled, w[:6]), atol=0.02, rtol=0)
        torch.testing.assert_close(found[1:, 0], synthesised(styled, w[6:]), atol=0.02, rtol=0)
        from_column = torch.zeros(6, 1)
        from_column[layers.start : layers.stop] = 1
        mixed = torch.where(from_column == 1, w[None, :6], w[6:, None])  # (rows, columns, layers, size)
        torch.testing.assert_close(found[1:, 1:], synthesised(styled, mixed), atol=0.02, rtol=0)
    assert [file.name for file in ask(tmp_path / "one", "mixing=middle").iterdir()] == ["mixing_middle.png"]


def test_layers_by_resolution() -> None:
    with torch.device("meta"):
        large = StyleGAN2Generator(4, 4, 256, 1, 8, 6, 2)  # layers of 4, 4, 8, 8, … 256, 256
    assert [layers_of(large, name) for name in ("coarse", "middle", "fine")] == [range(4), range(4, 8), range(8, 14)]
    assert layers_of(large, None) == range(14)
    assert not layers_of(style_generator(), "fine")


def test_a_walk_in_styles_is_linear_and_closed(styled: Any, tmp_path: Path) -> None:
    folder = ask(tmp_path / "walk", "interpolate=styles", "count=3")
    found = tiles(folder / "strip.png", 12)
    w = codes(styled, 3)
    for row in range(3):
        path = torch.stack([torch.lerp(w[row], w[(row + 1) % 3], column / 12) for column in range(12)])
        torch.testing.assert_close(found[row], synthesised(styled, path), atol=0.02, rtol=0)
    assert (folder / "walk.gif").exists()


def test_a_film_as_mp4(styled: Any, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    folder = ask(tmp_path / "walk", "interpolate=true", "count=2", "video=mp4")
    assert sorted(file.name for file in folder.iterdir()) == ["strip.png", "walk.mp4"]
    with av.open(str(folder / "walk.mp4")) as film:
        frames = [frame.to_ndarray(format="gray") for frame in film.decode(video=0)]
    assert len(frames) == 48
    assert frames[0].shape == (288, 288)  # 16 pixels, shown 18 times as large
    strip = tiles(folder / "strip.png", 12)
    for row, column in ((0, 0), (1, 6)):
        shown = to_float(torch.from_numpy(frames[24 * row + 2 * column]))[27::36, 27::36]
        torch.testing.assert_close(shown, strip[row, column], atol=0.12, rtol=0)


def test_mp4_without_its_library(styled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="video=mp4: needs PyAV: pip install av"):
        ask(tmp_path / "out", "interpolate=true", "video=mp4")
    assert not (tmp_path / "out").exists()


def test_directions_are_the_eigenvectors_of_a_plain_formula() -> None:
    stream = torch.Generator().manual_seed(0)
    a = torch.randn(20, 5, generator=stream)
    values, vectors = np.linalg.eigh(a.double().numpy().T @ a.double().numpy())
    expected = vectors.T[np.argsort(values)[::-1]]
    found = directions(a, 5)
    for one, other in zip(found.double().numpy(), expected, strict=True):
        np.testing.assert_allclose(one, other * np.sign(one @ other), atol=1e-5)
        assert one[np.abs(one).argmax()] > 0
    changes = (a @ found.T).norm(dim=0)
    assert (changes[:-1] > changes[1:]).all()
    torch.testing.assert_close(directions(a, 2), found[:2])


def test_weights_that_take_styles() -> None:
    generator = style_generator()
    synthesis = generator.synthesis
    by_layer = [[synthesis.convolutions[index].style] for index in range(5)] + [[]]
    for index in range(3):
        by_layer[2 * index + 1].append(synthesis.images[index].style)
    for layers in (range(6), range(4), range(4, 6)):
        expected = {tuple(row) for layer in layers for each in by_layer[layer] for row in each.weight.tolist()}
        found = style_weights(generator, layers) * 6**0.5  # the equalised learning rate's scale
        assert len(found) == len(expected)
        rows = torch.tensor(sorted(expected))
        torch.testing.assert_close(found[np.lexsort(found.T.flip(0).numpy())], rows)
    one = style_generator(StyleGAN1Generator)
    assert style_weights(one, layers_of(one, "coarse")).shape == (4 * 16, 6)


@pytest.mark.parametrize(
    ("network", "weight"),
    [
        (MLPGenerator(5, [7], 16, 1, classes=3), lambda g: g.layers[0].weight[:, :5]),
        (MLPGenerator(5, [7], 16, 1, batch_norm="all"), lambda g: g.layers[0].weight),
        (DCGANGenerator(5, classes=3, **SMALL), lambda g: g.layers[0].weight[:5].flatten(1).T),
        (CNNGenerator(5, **SMALL), lambda g: g.project.weight),
        (ResNetGenerator(5, spectral_norm=True, classes=3, **SMALL), lambda g: g.project.weight),
        (R3GANGenerator(5, max_channels=16, classes=3, **SMALL), lambda g: g.project.weight[:, :5]),
        (BEGANGenerator(5, 4, 16, 1), lambda g: g.first.weight),
    ],
    ids=lambda value: type(value).__name__,
)
def test_weights_that_take_latents(network: nn.Module, weight: Any) -> None:
    found = latent_weights(network.eval(), torch.randn(1, 5), torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(found, weight(network))


def test_pictures_of_directions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = hold(game(generator=MLPGenerator(4, [], 8, 1, "relu", "none")), monkeypatch)
    folder = ask(tmp_path / "out", "directions=2")
    assert sorted(file.name for file in folder.iterdir()) == ["direction_01.png", "direction_02.png"]
    z = evaluation_latents(module, 1000, 0)
    linear = cast(nn.Linear, module.generator.layers[0])
    found = directions(linear.weight.detach(), 2)
    for number, direction in enumerate(found, 1):
        steps = torch.linspace(-3, 3, 7)[:, None] * (z @ direction).std() * direction  # (7, 4)
        with torch.no_grad():
            expected = seen(module.generator((z[:8, None] + steps).flatten(0, 1))).unflatten(0, (8, 7))
        torch.testing.assert_close(tiles(folder / f"direction_{number:02d}.png", 7), expected, atol=0.02, rtol=0)


def test_directions_of_some_layers(styled: Any, tmp_path: Path) -> None:
    found = tiles(ask(tmp_path / "out", "directions=1", "layers=middle") / "direction_01.png", 7)
    w = codes(styled, 8)
    torch.testing.assert_close(found[:, 3], synthesised(styled, w), atol=0.02, rtol=0)
    (direction,) = directions(style_weights(styled.generator, range(4, 6)), 1)
    moved = w.clone()
    moved[:, 4:] += 3 * (codes(styled, pictures.MEASURED)[:, 0] @ direction).std() * direction
    torch.testing.assert_close(found[:, 6], synthesised(styled, moved), atol=0.02, rtol=0)
    assert (found[:, 6] - found[:, 3]).abs().max() > 0.05


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["mixing=true"], "mixing=true: Stub has no styles"),
        (["mixing=sideways"], "mixing"),
        (["interpolate=styles"], "interpolate=styles: Stub has no styles"),
        (["directions=2", "layers=coarse"], "layers=coarse: Stub has no styles"),
        (["directions=2"], "directions=2: .*no linear layer of Stub"),
        (["directions=0"], "directions=0"),
        (["layers=coarse"], "layers=coarse: .*directions"),
        (["video=gif"], "video=gif: .*interpolate=true"),
        (["video=mp4", "interpolate=true", "count=1"], "count=1"),
        (["truncation=[]"], "truncation="),
        (["truncation=[0,1]"], r"truncation=\[0.*, 1.*\]: .*mean style"),
        (["truncation=[0.5,1]", "dataset=true"], r"truncation=\[0.5, 1\]: not together with dataset"),
        (["truncation=[0.5,1]", "nearest=true"], r"nearest=true: .* not to truncation"),
        (["directions=2", "interpolate=true"], "directions=2: not together with interpolate"),
    ],
)
def test_bad_input(arguments: list[str], fragment: str, plain: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=fragment):
        ask(tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["mixing=fine"], "mixing=fine: .*64 pixels and more; images have 16"),
        (["directions=2", "layers=fine"], "layers=fine: .* images have 16"),
        (["directions=7"], "directions=7: .* 6 "),
    ],
)
def test_layers_and_directions_that_are_not_there(
    arguments: list[str], fragment: str, styled: Any, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=fragment):
        ask(tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", ["mixing=coarse", "directions=2"])
def test_the_same_seed_makes_the_same_pictures(arguments: str, styled: Any, tmp_path: Path) -> None:
    one, again, other = (
        ask(tmp_path / name, arguments, seed)
        for name, seed in (("one", "seed=3"), ("again", "seed=3"), ("other", "seed=4"))
    )
    for file in one.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes()
        assert file.read_bytes() != (other / file.name).read_bytes()
        with Image.open(file) as picture:
            assert picture.width >= 48
