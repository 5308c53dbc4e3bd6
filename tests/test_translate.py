"""`translate`: any kind and size of image, where results go, and what is refused before anything is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.commands import translate
from gan_lightning.data.pixels import to_float, to_pixels
from gan_lightning.errors import UserError
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


def test_an_upright_picture_stays_upright(module: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    Image.new("L", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    ask(f"input={tmp_path / 'a.jpg'}")
    with Image.open(tmp_path / "a_translated.png") as made:
        assert made.size == (20, 40)


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


def test_a_model_of_latents_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hold(game(), monkeypatch)
    with pytest.raises(UserError, match="GAN makes images of latents: use the sample command"):
        ask(f"input={write(tmp_path / 'a.png', 'L', (16, 16))}")
