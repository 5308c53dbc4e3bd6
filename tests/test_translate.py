"""`translate`: any kind and size of image, where results go, and what is refused before anything is written."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.commands import sample, translate
from gan_lightning.data.pixels import to_float, to_pixels
from gan_lightning.ema import EMA
from gan_lightning.errors import UserError
from gan_lightning.networks.translator import ResNetTranslator
from gan_lightning.networks.unet import UNetGenerator
from tests.models.test_pix2pix import translator
from tests.support import game


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A grey translator, which every checkpoint now holds."""
    found = translator().eval()
    hold(found, monkeypatch)
    return found


def hold(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "stored_config", lambda *_: {})
    monkeypatch.setattr(translate, "load_module", lambda *_: module)


def ask(*arguments: str) -> None:
    assert translate.run(["checkpoint=any", "accelerator=cpu", *arguments]) == 0


def write(path: Path, mode: str, size: tuple[int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(0).integers(0, 65535 if mode == "I;16" else 255, (size[1], size[0]))
    image = Image.fromarray(levels.astype(np.uint16 if mode == "I;16" else np.uint8))
    (image if mode == "I;16" else image.convert(mode)).save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (17, 3000), (64, 33)])
def test_any_kind_and_size(mode: str, size: tuple[int, int], module: Any, tmp_path: Path) -> None:
    ask(f"input={write(tmp_path / 'a.png', mode, size)}", "tile=128", "overlap=32")
    with Image.open(tmp_path / "a_translated.png") as made:
        assert made.size == size


@torch.no_grad()
def test_the_networks_output_is_written(module: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", "L", (32, 48))
    ask(f"input={path}")
    pixels = torch.from_numpy(np.array(Image.open(path)))[None, None]
    expected = to_pixels(module.generator(to_float(pixels)))
    made = torch.from_numpy(np.array(Image.open(tmp_path / "a_translated.png").convert("L")))
    assert torch.equal(made, expected[0, 0])


@torch.no_grad()
def test_the_moving_average_translates_unless_it_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = translator(ema=partial(EMA, half_life=1.0)).eval()
    for weight in module.generator.parameters():
        weight.add_(torch.randn_like(weight))
    hold(module, monkeypatch)
    path = write(tmp_path / "a.png", "L", (16, 16))
    pixels = to_float(torch.from_numpy(np.array(Image.open(path)))[None, None])
    for asked, network in (("true", module.ema.generator), ("false", module.generator)):
        ask(f"input={path}", f"ema={asked}", "overwrite=true")
        made = torch.from_numpy(np.array(Image.open(tmp_path / "a_translated.png").convert("L")))
        assert torch.equal(made, to_pixels(network(pixels))[0, 0])


def test_noise_is_of_the_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hold(translator(generator=UNetGenerator(4, 16, 1, 1, noise="always")).eval(), monkeypatch)
    path, made = write(tmp_path / "a.png", "L", (16, 16)), []
    for seed in (0, 0, 1):
        ask(f"input={path}", f"seed={seed}", "overwrite=true")
        made.append((tmp_path / "a_translated.png").read_bytes())
    assert made[0] == made[1] != made[2]


def test_an_upright_picture_stays_upright(module: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    Image.new("L", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    ask(f"input={tmp_path / 'a.jpg'}")
    with Image.open(tmp_path / "a_translated.png") as made:
        assert made.size == (20, 40)


@pytest.mark.parametrize("size", [(1, 1), (40, 3), (4, 8), (65, 5)])
def test_an_image_may_be_smaller_than_the_network_bears(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hold(translator(generator=ResNetTranslator(2, 1, 1, 1)).eval(), monkeypatch)
    ask(f"input={write(tmp_path / 'a.png', 'L', size)}", "tile=60", "overlap=8")
    with Image.open(tmp_path / "a_translated.png") as made:
        assert made.size == size


@pytest.mark.parametrize("place", [".", ".."])
def test_folders_without_a_name(place: str, module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "photos" / "deep" / "a.png", "L", (16, 16))
    monkeypatch.chdir(tmp_path / "photos" / ("deep" if place == ".." else ""))
    ask(f"input={place}")
    assert (tmp_path / "photos_translated" / "deep" / "a.png").is_file()


def test_a_folder_becomes_its_mirror(module: Any, tmp_path: Path) -> None:
    for name in ("a.png", "deep/b.jpg", "deep/er/c.png"):
        write(tmp_path / "photos" / name, "L", (16, 16))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    ask(f"input={tmp_path / 'photos'}")
    made = sorted(
        p.relative_to(tmp_path / "photos_translated").as_posix() for p in tmp_path.glob("photos_translated/**/*.png")
    )
    assert made == ["a.png", "deep/b.png", "deep/er/c.png"]
    ask(f"input={tmp_path / 'photos'}/deep/*.jpg", f"output={tmp_path / 'out'}")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b.png"]


def test_nothing_is_overwritten_unless_asked(module: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", "L", (16, 16))
    (tmp_path / "a_translated.png").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"a_translated\.png: is there already \(1 of 1 are\); overwrite=true"):
        ask(f"input={path}")
    assert (tmp_path / "a_translated.png").read_bytes() == b"precious"
    ask(f"input={path}", "overwrite=true")
    assert (tmp_path / "a_translated.png").read_bytes() != b"precious"


def test_broken_files_are_named_at_the_end(module: Any, tmp_path: Path) -> None:
    write(tmp_path / "photos" / "z.png", "L", (16, 16))
    (tmp_path / "photos" / "a.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"1 file\(s\) cannot be read:\n.*a\.png: "):
        ask(f"input={tmp_path / 'photos'}")
    assert [p.name for p in (tmp_path / "photos_translated").iterdir()] == ["z.png"]


def test_an_image_too_large_for_pillow_is_one_that_cannot_be_read(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "photos" / "a.png", "L", (60, 60))
    write(tmp_path / "photos" / "b.png", "L", (16, 16))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"1 file\(s\) cannot be read:\n.*a\.png: .*exceeds limit"):
        ask(f"input={tmp_path / 'photos'}")
    assert [p.name for p in (tmp_path / "photos_translated").iterdir()] == ["b.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input={0}/photos", "output={0}/photos"], "output=.*photos: lies in input="),
        (["input={0}/photos", "output={0}/photos/made"], "output=.*made: lies in input="),
        (["input={0}/photos", "output={0}/link"], "output=.*link: lies in input="),
        (["input={0}/photos/a.png", "output={0}/photos"], r"a\.png: is to be translated, and a\.png would replace it"),
        (["input={0}/photos/a.png", "output={0}/link"], r"a\.png: is to be translated"),
        (["input={0}/photos/*", "output={0}/link"], r"a\.png: is to be translated"),
        (["input={0}/photos/a.png", "output={0}/photos/a.png"], r"a\.png: is no folder; results go into folders"),
        (["input={0}/photos/a.png", "output={0}/photos/a.png/made"], r"a\.png: is no folder"),
    ],
)
def test_images_are_never_replaced_by_what_is_made_of_them(
    arguments: list[str], message: str, module: Any, tmp_path: Path
) -> None:
    """Asked to overwrite what is there, too; and nothing is made before that is clear."""
    path = write(tmp_path / "photos" / "a.png", "L", (16, 16))
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    before = path.read_bytes()
    with pytest.raises(UserError, match=message):
        ask(*(argument.format(tmp_path) for argument in arguments), "overwrite=true")
    assert path.read_bytes() == before
    assert len(list(tmp_path.rglob("*"))) == 3


def test_a_place_that_cannot_be_written_to_is_named(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.png", "L", (16, 16))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(translate, "save_image", full)
    with pytest.raises(UserError, match=r"a_translated\.png: cannot be written: No space left on device"):
        ask(f"input={path}")
    monkeypatch.setattr(translate.os, "access", lambda *_: False)
    with pytest.raises(UserError, match="is not writable"):
        ask(f"input={path}", f"output={tmp_path}/made")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input={folder}/none.png"], "no such file"),
        (["input={folder}"], "would both become"),
        (["input={folder}/a.png", "tile=8", "overlap=8"], "overlap=8: must be less than tile=8"),
        (["input={folder}/a.png", "direction=b2a"], "direction=b2a: this model translates one way"),
        (["input={folder}/a.png", "direction=both"], "direction=both: no such choice; choices: a2b, b2a"),
        (["input={folder}/a.png", "mask={folder}/a.png"], "mask=.*a.png: Pix2Pix fills no holes"),
    ],
)
def test_bad_input(arguments: list[str], message: str, module: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.png", "L", (16, 16))
    write(tmp_path / "a.jpg", "L", (16, 16))
    with pytest.raises(UserError, match=message):
        ask(*(argument.format(folder=tmp_path) for argument in arguments))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_translator_is_not_sampled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sample, "stored_config", lambda *_: {})
    monkeypatch.setattr(sample, "load_module", lambda *_: translator())
    with pytest.raises(UserError, match="checkpoint=any: Pix2Pix makes images of images: use the translate command"):
        sample.run(["checkpoint=any", "accelerator=cpu", f"output={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_a_model_of_latents_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hold(game(), monkeypatch)
    with pytest.raises(UserError, match="GAN makes samples of latents: use the sample command"):
        ask(f"input={write(tmp_path / 'a.png', 'L', (16, 16))}")


def test_what_breaks_off_is_not_taken_for_a_result(
    module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def breaks_off(image: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(translate, "save_image", breaks_off)
    path = write(tmp_path / "a.png", "L", (16, 16))
    with pytest.raises(UserError, match=r"a_translated\.png: cannot be written: No space left on device"):
        ask(f"input={path}")
    assert not (tmp_path / "a_translated.png").exists()


def test_too_little_memory_is_told_with_what_to_change(
    module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def too_large(*_: Any, **settings: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(translate, "tiled", too_large)
    with pytest.raises(UserError, match="tile=1024: the device has no room for it; use less"):
        ask(f"input={write(tmp_path / 'a.png', 'L', (16, 16))}")
