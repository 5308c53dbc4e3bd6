"""`translate` with holes: where masks come from, what is refused, and that known pixels stay what they were."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gan_lightning.errors import UserError
from tests.models.test_deepfill import two
from tests.models.test_pix2pix import translator
from tests.test_translate import ask, hold


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny DeepFill of colour images, which every checkpoint now holds."""
    found = two().eval()
    hold(found, monkeypatch)
    return found


def colours(width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def box(width: int, height: int) -> NDArray[np.uint8]:
    """A mask with a hole in the middle."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = 255
    return mask


def write(path: Path, levels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)
    return path


def check(made: Path, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    """Outside of the hole every level is the image's; inside something else was put."""
    levels = np.array(Image.open(made))
    assert levels.shape == image.shape
    assert (levels[mask == 0] == image[mask == 0]).all()
    assert (levels[mask > 0] != image[mask > 0]).any()


@pytest.mark.parametrize("size", [(17, 30), (32, 32), (1, 40), (150, 67)])
def test_known_pixels_stay_exactly(size: tuple[int, int], module: Any, tmp_path: Path) -> None:
    image, mask = colours(*size), box(*size)
    ask(f"input={write(tmp_path / 'a.png', image)}", f"mask={write(tmp_path / 'm.png', mask)}", "tile=64", "overlap=16")
    check(tmp_path / "a_translated.png", image, mask)


def test_transparent_pixels_are_the_hole(module: Any, tmp_path: Path) -> None:
    """The colours under them are not looked at."""
    image, mask = colours(17, 30), box(17, 30)
    others = np.where(mask[..., None] > 0, 255 - image, image).astype(np.uint8)
    for name, under in (("a.png", image), ("b.png", others)):
        ask(f"input={write(tmp_path / name, np.dstack([under, 255 - mask]))}")
    check(tmp_path / "a_translated.png", image, mask)
    assert (tmp_path / "a_translated.png").read_bytes() == (tmp_path / "b_translated.png").read_bytes()


def test_a_folder_of_masks(module: Any, tmp_path: Path) -> None:
    sizes = {"a": (17, 30), "b": (24, 24)}
    for name, size in sizes.items():
        write(tmp_path / "photos" / f"{name}.png", colours(*size))
        write(tmp_path / "masks" / f"{name}.bmp", box(*size))
    ask(f"input={tmp_path / 'photos'}", f"mask={tmp_path / 'masks'}")
    for name, size in sizes.items():
        check(tmp_path / "photos_translated" / f"{name}.png", colours(*size), box(*size))
    write(tmp_path / "photos" / "c.png", colours(8, 8))
    with pytest.raises(UserError, match=r"1 image\(s\) without a mask of their name:\n.*c\.png"):
        ask(f"input={tmp_path / 'photos'}", f"mask={tmp_path / 'masks'}", f"output={tmp_path / 'more'}")
    assert not (tmp_path / "more").exists()


def test_masks_of_images_of_one_name_in_two_folders(module: Any, tmp_path: Path) -> None:
    image, one = colours(16, 16), box(16, 16)
    for name, mask in (("one", one), ("two", np.flip(one).copy())):
        write(tmp_path / "photos" / name / "a.png", image)
        write(tmp_path / "masks" / name / "a.png", mask)
    ask(f"input={tmp_path / 'photos'}", f"mask={tmp_path / 'masks'}")
    check(tmp_path / "photos_translated" / "one" / "a.png", image, one)
    check(tmp_path / "photos_translated" / "two" / "a.png", image, np.flip(one))
    write(tmp_path / "masks" / "one" / "a.bmp", one)
    with pytest.raises(UserError, match=r"a\.png and a\.bmp have one name"):
        ask(f"input={tmp_path / 'photos'}", f"mask={tmp_path / 'masks'}", "overwrite=true")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "has no transparent pixels, and no mask=… says where the hole is"),
        (box(16, 17), "16×16, and its mask .* is 16×17"),
        (np.zeros((16, 16), np.uint8), "has no hole"),
    ],
)
def test_what_has_no_hole_is_refused(mask: NDArray[np.uint8] | None, message: str, module: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", colours(16, 16))
    given = [] if mask is None else [f"mask={write(tmp_path / 'm.png', mask)}"]
    with pytest.raises(UserError, match=message):
        ask(f"input={path}", *given)
    assert not (tmp_path / "a_translated.png").exists()


def test_an_opaque_alpha_channel_has_no_hole(module: Any, tmp_path: Path) -> None:
    image = np.dstack([colours(16, 16), np.full((16, 16), 255, np.uint8)])
    with pytest.raises(UserError, match=r"has no (hole|transparent pixels)"):
        ask(f"input={write(tmp_path / 'a.png', image)}")


def test_masks_that_are_not_there(module: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", colours(16, 16))
    with pytest.raises(UserError, match=r"none\.png: no such file or folder"):
        ask(f"input={path}", f"mask={tmp_path / 'none.png'}")


def test_a_mask_is_of_no_use_to_other_translators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hold(translator(), monkeypatch)
    path = write(tmp_path / "a.png", colours(16, 16))
    with pytest.raises(UserError, match="Pix2Pix fills no holes: leave it out"):
        ask(f"input={path}", f"mask={write(tmp_path / 'm.png', box(16, 16))}")


def test_with_a_hole_across_tiles_seams_are_filled(module: Any, tmp_path: Path) -> None:
    """A tile may lie in the hole with nothing known in it, or have nothing of it."""
    image, mask = colours(160, 40), np.zeros((40, 160), np.uint8)
    mask[:, 8:100] = 255
    ask(f"input={write(tmp_path / 'a.png', image)}", f"mask={write(tmp_path / 'm.png', mask)}", "tile=32", "overlap=8")
    check(tmp_path / "a_translated.png", image, mask)
