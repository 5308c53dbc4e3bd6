"""Images found again in the latent spaces of tiny networks; the rules of the paper; the command."""

import functools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from gan_lightning import projection
from gan_lightning.commands import project as command
from gan_lightning.commands import train
from gan_lightning.config import check, compose
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.pixels import save_image
from gan_lightning.errors import UserError
from gan_lightning.models.stylegan2 import StyleGAN2
from gan_lightning.networks.conditional import one_hot
from gan_lightning.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_lightning.networks.stylegan2 import StyleGAN2Discriminator
from gan_lightning.projection import (
    FeaturesAndPixels,
    Perceptual,
    Space,
    autocorrelation,
    distance_at_hand,
    mean_of,
    project,
    rate,
)
from gan_lightning.sampling import evaluation_latents
from tests.support import game
from tests.test_latents import SIZES, style_generator

SMALL = ["data.image_size=16", "data.channels=1"]


def style_game() -> Any:
    module = game(
        StyleGAN2, generator=style_generator(), discriminator=StyleGAN2Discriminator(deviation_group=2, **SIZES)
    )
    for layer in module.generator.synthesis.convolutions:
        nn.init.constant_(layer.strength, 0.1)  # of noise
    return module.eval()


@pytest.mark.parametrize(
    ("space", "styles"), [pytest.param("w", True, marks=pytest.mark.slow), ("w_plus", True), ("z", False)]
)
def test_an_image_of_the_network_is_found_again(space: Space, styles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    module = style_game() if styles else game(generator=MLPGenerator(4, [32], 16, 1)).eval()
    network, distance = module.generator, FeaturesAndPixels("digits")
    drawn = evaluation_latents(module, 1000, 0)
    with torch.no_grad():
        images = network(drawn[:17])
    image, others = images[:1], images[1:]
    found = project(network, image, distance, *mean_of(network, drawn, None, space), space=space, steps=80)
    by_chance = distance(others, image).mean().item()
    print(f"{space}: {found.distance:.4f} found, {found.distance_of_mean:.4f} mean, {by_chance:.4f} by chance")
    assert found.distance < 0.1 * by_chance
    assert found.distance < 0.25 * found.distance_of_mean
    assert found.latents.shape == {"w": (6,), "w_plus": (6, 6), "z": (4,)}[space]
    assert found.distance == pytest.approx(distance(found.image, image).item())
    assert len(found.frames) == 50
    assert torch.equal(found.frames[-1], found.image)
    assert len(found.noise) == (5 if styles else 0)
    if styles:  # neighbours in the maps stay as strangers, where nothing keeps them they do not
        with monkeypatch.context() as patch:
            patch.setattr(projection, "MAPS_WEIGHT", 0.0)
            free = project(network, image, distance, *mean_of(network, drawn, None, space), space=space, steps=80)
        assert autocorrelation(found.noise) < 0.5 * autocorrelation(free.noise)
    for noise in found.noise:
        assert (noise.mean().item(), noise.square().mean().item()) == pytest.approx((0, 1), abs=1e-4)
    with torch.no_grad():
        assert torch.equal(network(drawn[:17]), images)  # the network is as it was
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_search_is_a_function_of_its_seed() -> None:
    module = style_game()
    drawn = evaluation_latents(module, 100, 0)
    image = module.generator(drawn[:1]).detach()
    at = mean_of(module.generator, drawn, None, "w")
    distance = FeaturesAndPixels("digits")
    one, again, other = (
        project(module.generator, image, distance, *at, space="w", steps=3, seed=seed).latents for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_mean_of_styles_and_their_deviation() -> None:
    module = style_game()
    drawn = evaluation_latents(module, 50, 0)
    w = module.generator.styles(drawn).detach()
    mean, deviation = mean_of(module.generator, drawn, None, "w_plus")
    torch.testing.assert_close(mean, w.mean(0))
    assert deviation == pytest.approx(math.sqrt(((w - w.mean(0)) ** 2).sum(1).mean()))
    assert torch.equal(mean_of(module.generator, drawn, None, "z")[0], drawn.mean(0))


def test_the_learning_rate_goes_up_in_a_line_and_down_on_a_cosine() -> None:
    found = [rate(share) for share in (0, 0.025, 0.05, 0.4, 0.75, 0.875, 1)]
    assert found == pytest.approx([0, 0.05, 0.1, 0.1, 0.1, 0.05, 0])


def test_autocorrelation_against_a_plain_loop() -> None:
    maps = [torch.randn(side, side, generator=torch.Generator().manual_seed(side)) for side in (4, 16)]
    total = 0.0
    halved = maps[1].view(8, 2, 8, 2).mean((1, 3)) * 2
    for noise in (*maps, halved):
        side = len(noise)
        along, across = 0.0, 0.0
        for y in range(side):
            for x in range(side):
                along += float(noise[y, x] * noise[y, x - 1]) / side**2
                across += float(noise[y, x] * noise[y - 1, x]) / side**2
        total += along**2 + across**2
    assert autocorrelation(maps).item() == pytest.approx(total, rel=1e-4)


class Recorder(nn.Module):
    """A stand-in for LPIPS that keeps the size of what it sees."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        self.seen = a.shape
        return (a - b).square().mean((1, 2, 3), keepdim=True)


@pytest.mark.parametrize(("side", "shown"), [(16, 64), (128, 128), (300, 256)])
def test_lpips_sees_colour_of_a_bearable_size(side: int, shown: int) -> None:
    recorder = Recorder()
    assert Perceptual(recorder)(torch.zeros(2, 1, side, side), torch.ones(1, 1, side, side)).shape == (2,)
    assert recorder.seen == (2, 3, shown, shown)


def test_without_lpips_weights_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert distance_at_hand("objects").name == "objects features + pixels"
    assert not list(tmp_path.iterdir())


class Labelled(nn.Module):
    """Pictures that show the class in the first row and z / 2 in the second."""

    latent_size, classes = 5, 4

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        rows = torch.stack([nn.functional.pad(part, (0, 16 - part.shape[1])) for part in (one_hot(y, 4), z / 2)], 1)
        return nn.functional.pad(rows, (0, 0, 0, 14))[:, None]


@functools.cache
def configuration(*arguments: str) -> dict[str, Any]:
    return check(compose("train", list(arguments), train.Settings), train.Settings)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A small StyleGAN2, which every checkpoint now holds, and an image of it, own.png."""
    module = style_game()
    save_image(module.sample(1)[0], tmp_path / "own.png")
    hold(module, monkeypatch, "data=digits", *SMALL)
    return module


def hold(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(command, "stored_config", lambda *_: configuration(*arguments))
    monkeypatch.setattr(command, "load_module", lambda *_: module.eval())
    monkeypatch.setattr(command, "find_checkpoint", lambda path: path)
    monkeypatch.setattr(command, "MEASURED", 100)


def ask(folder: Path, *arguments: str) -> Path:
    own = ["checkpoint=any", f"output={folder}", "accelerator=cpu", "steps=2"]
    assert command.run([*own, *arguments]) == 0
    return folder


def test_bounded_latents_are_found_within_their_bounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = game(generator=MLPGenerator(4, [32], 16, 1), latents="unit")
    save_image(torch.ones(1, 16, 16), tmp_path / "white.png")  # which no latents give: without bounds it goes beyond
    hold(module, monkeypatch, "data=digits", *SMALL)
    found = load_file(ask(tmp_path / "out", f"input={tmp_path / 'white.png'}", "steps=60") / "00000.safetensors")["z"]
    assert 0 <= found.min() < found.max() <= 1


def test_the_command_keeps_image_film_latents_and_record(
    held: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ask(tmp_path / "out", f"input={tmp_path / 'own.png'}", "steps=5")
    names = ["00000.gif", "00000.png", "00000.safetensors", "projected.json", "projected.png"]
    assert sorted(file.name for file in folder.iterdir()) == names
    (record,) = json.loads((folder / "projected.json").read_text())
    assert (record["space"], record["steps"], record["seed"], record["label"]) == ("w", 5, 0, None)
    assert 0 < record["distance"] < record["distance_of_mean"]
    assert record["measured_by"] in capsys.readouterr().out
    saved = load_file(folder / "00000.safetensors")
    assert saved["w"].shape == (6,)
    assert saved["noise.4"].shape == (16, 16)
    for place, layer in enumerate(held.generator.synthesis.convolutions):
        layer.noise = saved[f"noise.{place}"]
    with torch.no_grad():
        image = held.generator.synthesis(saved["w"].expand(1, 6, -1))
    save_image(image[0], tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (folder / "00000.png").read_bytes()
    with pytest.raises(UserError, match="output="):
        ask(folder, f"input={tmp_path / 'own.png'}")


def test_several_images_are_fitted_as_the_data_are(held: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    Image.new("RGB", (60, 30), "white").save(tmp_path / "in" / "sub" / "wide.png")
    Image.new("L", (20, 20)).save(tmp_path / "in" / "dark.png")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    hold(held, monkeypatch, "data=image_folder", f"data.root={tmp_path}", "data.fit=pad", *SMALL)
    folder = ask(tmp_path / "out", f"input={tmp_path / 'in'}", "space=z")
    records = json.loads((folder / "projected.json").read_text())
    assert [Path(record["input"]).name for record in records] == ["dark.png", "wide.png"]
    assert load_file(folder / "00001.safetensors")["z"].shape == (4,)
    data = ImageFolder(tmp_path, fit="pad", batch_size=2, image_size=16, channels=1, seed=0)
    (wide,) = command.read([tmp_path / "in" / "sub" / "wide.png"], data)
    assert wide.shape == (1, 16, 16)
    assert wide[0, :, 0].tolist() == [-1] * 4 + [1] * 8 + [-1] * 4  # black above and below


def test_the_class_of_the_images_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = game(generator=Labelled(), discriminator=MLPDiscriminator([4], 16, 1, classes=4), classes=4)
    module.class_names = ["bird", "cat", "dog", "eel"]
    hold(module, monkeypatch, "data=digits")
    Image.new("L", (16, 16), 127).save(tmp_path / "in.png")
    folder = ask(tmp_path / "out", f"input={tmp_path / 'in.png'}", "label=dog")
    with Image.open(folder / "00000.png") as image:
        assert [image.convert("L").getpixel((x, 0)) for x in range(4)] == [128, 128, 255, 128]
    assert json.loads((folder / "projected.json").read_text())[0]["label"] == 2
    for label in ("null", "all"):
        with pytest.raises(UserError, match=r"label=.*class-conditional"):
            ask(tmp_path / "none", f"input={tmp_path / 'in.png'}", f"label={label}")
    with pytest.raises(UserError, match="space=w: Labelled has no styles"):
        ask(tmp_path / "none", f"input={tmp_path / 'in.png'}", "label=cat", "space=w")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ([], "input: must be given"),
        (["input=nowhere.png"], "input=nowhere.png: there is no such file"),
        (["input={}/empty"], "input=.*empty: no images"),
        (["input={}/broken.png"], "input=.*broken.png: cannot be read"),
        (["input={}/own.png", "steps=0"], "steps=0"),
        (["input={}/own.png", "label=1"], "label=1: .* not class-conditional"),
    ],
)
def test_bad_input(arguments: list[str], fragment: str, held: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(UserError, match=fragment):
        ask(tmp_path / "out", *(argument.format(tmp_path) for argument in arguments))
    assert not (tmp_path / "out").exists()


def test_points_are_no_images(held: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(held, monkeypatch, "model=gan", "network@model=mlp_points", "data=ring")
    with pytest.raises(UserError, match="points"):
        ask(tmp_path / "out", f"input={tmp_path / 'own.png'}")
