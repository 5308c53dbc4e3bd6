"""Folders of images: every kind of file, every layout, every mistake."""

import logging
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.data import image_folder
from gan_lightning.data.image_folder import ImageFolder, OnDisk
from gan_lightning.data.sets import ImageSet, InMemory
from gan_lightning.errors import UserError

SIZE = 8
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def build(root: Path, **settings: Any) -> ImageFolder:
    defaults = {
        "batch_size": 2,
        "image_size": SIZE,
        "channels": 3,
        "seed": 0,
        "held_out": 0.0,
        "cache": "off",
        "root": root,
    }
    return ImageFolder(**{**defaults, **settings})


def loaded(root: Path, **settings: Any) -> ImageFolder:
    data = build(root, **settings)
    data.check()
    data.setup()
    return data


def only_image(root: Path, **settings: Any) -> np.ndarray[Any, Any]:
    """The one image of a folder, (H, W, C)."""
    (image,) = loaded(root, **settings).train.__getitems__([0])["image"]
    return image.permute(1, 2, 0).numpy()


def noise(number: int, size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    """A random colour image of (width, height)."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8))


def save(path: Path, number: int = 0, size: tuple[int, int] = (SIZE, SIZE)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(number, size).save(path)
    return path


def png(path: Path, pixels: np.ndarray[Any, Any], colour: int, transparent: bytes = b"") -> None:
    """A PNG of 16 bits a channel, which Pillow writes for grey only; pixels (H, W, channels)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    extra = chunk(b"tRNS", transparent) if transparent else b""
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def contents(part: ImageSet) -> list[tuple[bytes, int]]:
    batch = part.__getitems__(range(len(part)))
    return [(image.numpy().tobytes(), int(label)) for image, label in zip(batch["image"], batch["label"], strict=True)]


# --- kinds of files


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG", ".webp"])
def test_lossless_formats_keep_their_pixels(suffix: str, tmp_path: Path) -> None:
    noise(1).save(tmp_path / f"a{suffix}", lossless=True)  # only WebP has the choice
    np.testing.assert_array_equal(only_image(tmp_path), np.asarray(noise(1)))


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_lossy_formats(suffix: str, tmp_path: Path) -> None:
    Image.new("RGB", (SIZE, SIZE), (200, 100, 50)).save(tmp_path / f"a{suffix}", quality=95)
    np.testing.assert_allclose(only_image(tmp_path)[4, 4].astype(int), (200, 100, 50), atol=6)


def test_the_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    noise(1).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(only_image(tmp_path), np.asarray(noise(1)))


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_and_black_and_white(mode: str, tmp_path: Path) -> None:
    image = noise(2).convert(mode)
    image.save(tmp_path / "a.png")
    expected = np.asarray(image.convert("L"))
    for channels in (1, 3):
        pixels = only_image(tmp_path, channels=channels)
        assert pixels.shape == (SIZE, SIZE, channels)
        for channel in range(channels):
            np.testing.assert_array_equal(pixels[..., channel], expected)


def test_one_channel_makes_colours_grey(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 3)
    np.testing.assert_array_equal(only_image(tmp_path, channels=1)[..., 0], np.asarray(noise(3).convert("L")))


def test_palette(tmp_path: Path) -> None:
    image = noise(4).quantize(16)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(only_image(tmp_path), np.asarray(image.convert("RGB")))


def test_transparency_is_over_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (SIZE, SIZE), (*RED, 255))
    image.paste((*RED, 0), (0, 0, 4, 8))
    image.putpixel((7, 7), (*RED, 128))
    image.save(tmp_path / "a.png")
    pixels = only_image(tmp_path)
    assert tuple(pixels[0, 0]) == WHITE
    assert tuple(pixels[0, 6]) == RED
    np.testing.assert_allclose(pixels[7, 7].astype(int), (255, 127, 127), atol=1)


def test_transparent_palette_and_grey(tmp_path: Path) -> None:
    palette = Image.new("P", (SIZE, SIZE), 0)
    palette.putpalette([*RED, *GREEN])
    palette.paste(1, (4, 0, 8, 8))
    palette.save(tmp_path / "a.png", transparency=0)
    pixels = only_image(tmp_path)
    assert tuple(pixels[0, 0]) == WHITE
    assert tuple(pixels[0, 6]) == GREEN
    grey = Image.new("LA", (SIZE, SIZE), (10, 0))
    grey.paste((20, 255), (4, 0, 8, 8))
    grey.save(tmp_path / "a.png")
    assert only_image(tmp_path, channels=1)[0, ::6, 0].tolist() == [255, 20]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_grey_is_scaled(suffix: str, tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, SIZE * SIZE).reshape(SIZE, SIZE).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(only_image(tmp_path, channels=1)[..., 0], np.round(levels / 257).astype(np.uint8))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_colour_and_alpha_are_scaled(colour: int, channels: int, tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 65536, (SIZE, SIZE, channels))
    if colour > 2:
        levels[..., -1] = 65535  # opaque
    png(tmp_path / "a.png", levels, colour)
    wanted = levels[..., :3] if channels > 2 else levels[..., :1]
    assert np.abs(only_image(tmp_path).astype(float) - wanted / 257).max() <= 1


def test_sixteen_bit_grey_with_a_transparent_level(tmp_path: Path) -> None:
    levels = np.full((SIZE, SIZE, 1), 257 * 7)
    levels[0, 0] = 257 * 9
    png(tmp_path / "a.png", levels, 0, transparent=struct.pack(">H", 257 * 7))
    pixels = only_image(tmp_path, channels=1)
    assert (pixels[0, 0, 0], pixels[4, 4, 0]) == (9, 255)


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(only_image(tmp_path)[4, 4].astype(int), RED, atol=6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    """The file holds the picture as the camera was held; every orientation shows the same upright one."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = noise(5)
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(only_image(tmp_path), np.asarray(upright))


# --- resizing


def test_crop_takes_the_centre(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 16), RED)
    image.paste(GREEN, (8, 0, 24, 16))
    image.save(tmp_path / "a.png")
    assert (only_image(tmp_path, resample="box") == GREEN).all()


def test_pad_keeps_everything(tmp_path: Path) -> None:
    Image.new("RGB", (32, 16), RED).save(tmp_path / "a.png")
    pixels = only_image(tmp_path, fit="pad")
    assert (pixels[2:6] == RED).all()
    assert (pixels[:2] == 0).all()
    assert (pixels[6:] == 0).all()


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (8, 8), (200, 3)])
def test_any_shape_becomes_a_square(fit: str, size: tuple[int, int], tmp_path: Path) -> None:
    save(tmp_path / "a.png", size=size)
    assert only_image(tmp_path, fit=fit).shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("resample", ["lanczos", "bicubic", "bilinear", "box"])
def test_filters_are_antialiased(resample: str, tmp_path: Path) -> None:
    checkers = ((np.arange(64)[:, None] + np.arange(64)) % 2 * 255).astype(np.uint8)
    Image.fromarray(checkers).save(tmp_path / "a.png")
    pixels = only_image(tmp_path, channels=1, resample=resample)[..., 0].astype(int)
    assert abs(pixels[2:-2, 2:-2] - 127.5).max() < 10
    wanted = Image.fromarray(checkers).resize((SIZE, SIZE), getattr(Image.Resampling, resample.upper()))
    np.testing.assert_array_equal(pixels, np.asarray(wanted))


# --- layouts


def test_flat_and_nested_folders_have_no_classes(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    save(tmp_path / "deep" / "er" / "b.png", 2)
    save(tmp_path / "other" / "c.png", 3)
    data = loaded(tmp_path)
    assert data.class_names == []
    assert {content for content, _ in contents(data.train)} == {
        np.asarray(noise(n)).transpose(2, 0, 1).tobytes() for n in (1, 2, 3)
    }
    assert data.train.__getitems__([0, 1, 2])["label"].tolist() == [0, 0, 0]


def test_one_folder_is_not_a_class(tmp_path: Path) -> None:
    save(tmp_path / "all" / "a.png")
    save(tmp_path / "all" / "b.png")
    assert loaded(tmp_path).class_names == []


def test_class_folders(tmp_path: Path) -> None:
    wanted = {}
    for number, name in enumerate(["dog/1.png", "cat/1.png", "cat/deep/2.png", "été & 猫/ü 1.png"]):
        save(tmp_path / name, number)
        wanted[np.asarray(noise(number)).transpose(2, 0, 1).tobytes()] = [1, 0, 0, 2][number]
    data = loaded(tmp_path)
    assert data.class_names == ["cat", "dog", "été & 猫"]
    assert dict(contents(data.train)) == wanted
    assert loaded(tmp_path, labels=False).class_names == []


def test_names_with_spaces_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "my photos 照片 (1)" / "a b.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(loaded(Path("~/my photos 照片 (1)")).train) == 1


def test_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for name in (".hidden.png", "._a.png", "notes.txt", "moving.gif", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"nothing")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "b.png").write_bytes(b"nothing")
    assert len(loaded(tmp_path).train) == 1


def test_links_are_followed_but_not_round_in_circles(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "root"
    save(folder / "b.png", 1)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "circle").symlink_to(folder)
    assert len(loaded(folder).train) == 2


# --- held-out images


def many(root: Path, count: int = 60) -> dict[bytes, str]:
    """`count` images of three classes; their names by their content."""
    names = {}
    for number in range(count):
        name = f"{'abc'[number % 3]}/{number}.png"
        save(root / name, number)
        names[np.asarray(noise(number)).transpose(2, 0, 1).tobytes()] = name
    return names


def split(root: Path, names: dict[bytes, str], **settings: Any) -> tuple[list[str], list[str]]:
    data = loaded(root, **{"held_out": 0.2, **settings})
    train, held_out = ([names[content] for content, _ in contents(part)] for part in (data.train, data.held_out))
    return train, held_out


def test_held_out_images_are_disjoint_and_stable(tmp_path: Path) -> None:
    names = many(tmp_path / "set")
    train, held_out = split(tmp_path / "set", names)
    assert sorted(train + held_out) == sorted(names.values())
    assert 4 <= len(held_out) <= 20
    assert split(tmp_path / "set", names, seed=5) == (train, held_out)
    (tmp_path / "set").rename(tmp_path / "moved")
    assert split(tmp_path / "moved", names) == (train, held_out)
    assert split(tmp_path / "moved", names, held_out=0)[1] == []
    names |= many(tmp_path / "moved", 80)
    more_train, more_held_out = split(tmp_path / "moved", names)
    assert set(train) < set(more_train)
    assert set(held_out) <= set(more_held_out)


def test_the_first_training_images_are_of_all_classes(tmp_path: Path) -> None:
    many(tmp_path)
    assert set(loaded(tmp_path).train.__getitems__(range(12))["label"].tolist()) == {0, 1, 2}


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.1), (2, 0.001), (2, 0.999), (3, 0.5)])
def test_small_folders_keep_images_to_train_on(count: int, fraction: float, tmp_path: Path) -> None:
    many(tmp_path, count)
    data = loaded(tmp_path, held_out=fraction)
    assert len(data.train) >= 1
    assert len(data.held_out) >= min(1, count - 1)


def test_everything_held_out() -> None:
    with pytest.raises(ValueError, match=r"^held_out=1.0: leaves no image to train on"):
        build(Path("nowhere"), held_out=1.0)


# --- in memory or not


@pytest.mark.parametrize("channels", [1, 3])
def test_sets_that_do_not_fit_in_memory_hold_the_same_images(channels: int, tmp_path: Path) -> None:
    many(tmp_path, 20)
    small = loaded(tmp_path, channels=channels, held_out=0.2)
    large = loaded(tmp_path, channels=channels, held_out=0.2, memory_gb=1e-9)
    assert isinstance(small.train, InMemory)
    assert isinstance(large.train, OnDisk)
    for name in ("train", "held_out"):
        assert contents(getattr(small, name)) == contents(getattr(large, name))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_set_on_disk(workers: int, tmp_path: Path) -> None:
    many(tmp_path, 20)
    small, large = loaded(tmp_path, flip=True), loaded(tmp_path, flip=True, memory_gb=1e-9, workers=workers)
    wanted = list(small.minibatches(epoch=1, start=2, per_batch=3))
    found = list(large.minibatches(epoch=1, start=2, per_batch=3))
    for one, other in zip(wanted, found, strict=True):
        for key, value in one.items():
            torch.testing.assert_close(other[key], value)


def test_both_parts_in_memory_share_one_array(tmp_path: Path) -> None:
    many(tmp_path, 20)
    data = loaded(tmp_path, held_out=0.2)
    assert isinstance(data.train, InMemory)
    assert isinstance(data.held_out, InMemory)
    assert data.held_out.images.data_ptr() == data.train.images.data_ptr() + data.train.images.numel()


def test_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(tmp_path, 20)
    (tmp_path / "a" / "broken.png").write_bytes(b"?")
    data = [loaded(tmp_path, skip_unreadable=True)]
    monkeypatch.setattr(image_folder, "threads", lambda paths: 3)
    data.append(loaded(tmp_path, skip_unreadable=True))
    assert contents(data[0].train) == contents(data[1].train)


def test_files_that_break_later_are_named(tmp_path: Path) -> None:
    many(tmp_path, 4)
    data = loaded(tmp_path, memory_gb=1e-9)
    (tmp_path / "a" / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"changed while training: .*0\.png: empty file"):
        data.train.__getitems__(range(4))


# --- mistakes


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("this is no image")


def dead_link(path: Path) -> None:
    path.symlink_to(path.parent / "gone.png")


def cut(path: Path) -> None:
    noise(0, (64, 64)).save(path)
    os.truncate(path, path.stat().st_size // 2)


def bomb(path: Path) -> None:
    Image.new("1", (10000, 10000)).save(path)


def floating(path: Path) -> None:
    Image.fromarray(np.ones((SIZE, SIZE), np.float32)).save(path)


def wide(path: Path) -> None:
    Image.fromarray(np.full((SIZE, SIZE), 70000, np.int32)).save(path)


def gif(path: Path) -> None:
    noise(0).save(path, format="GIF")


BROKEN = [
    ("x.png", empty, "empty file"),
    ("x.jpg", text, "not a JPEG, PNG, WebP, BMP or TIFF image"),
    ("x.jpg", gif, "not a JPEG, PNG, WebP, BMP or TIFF image"),
    ("x.png", dead_link, "a dead link"),
    ("x.jpg", cut, "truncated"),
    ("x.png", cut, ""),
    ("x.bmp", cut, "truncated"),
    ("x.webp", cut, ""),
    ("x.tiff", cut, ""),
    ("x.png", bomb, "decompression bomb"),
    ("x.tiff", floating, "floating-point pixels: save it with 8 or 16 bits"),
    ("x.tiff", wide, "pixels outside 0..65535"),
]


@pytest.mark.parametrize("memory", [4.0, 1e-9])
@pytest.mark.parametrize(("name", "make", "reason"), BROKEN)
def test_unreadable_files_stop_the_run(
    name: str, make: Callable[[Path], None], reason: str, memory: float, tmp_path: Path
) -> None:
    save(tmp_path / "good.png")
    make(tmp_path / name)
    data = build(tmp_path, memory_gb=memory)
    data.check()
    with pytest.raises(UserError) as caught:
        data.setup()
    message = str(caught.value)
    assert message.startswith(f"data.root={tmp_path}: 1 file(s) cannot be read (data.skip_unreadable=true ")
    _, _, given = message.partition(f"\n  {tmp_path / name}: ")
    assert given
    assert reason in given


@pytest.mark.parametrize("memory", [4.0, 1e-9])
def test_unreadable_files_are_left_out_on_request(
    memory: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = many(tmp_path, 12)
    (tmp_path / "a" / "none.png").touch()
    (tmp_path / "c" / "text.jpg").write_text("no image")
    with caplog.at_level(logging.WARNING):
        data = loaded(tmp_path, skip_unreadable=True, memory_gb=memory, held_out=0.2)
    (message,) = caplog.messages
    assert message.startswith("data.skip_unreadable=true: 2 file(s) left out, 12 images used:")
    assert f"{tmp_path / 'a' / 'none.png'}: empty file" in message
    assert f"{tmp_path / 'c' / 'text.jpg'}: not a JPEG" in message
    found = contents(data.train) + contents(data.held_out)
    assert {names[content] for content, _ in found} == set(names.values())
    assert all("abc"[label] == names[content][0] for content, label in found)


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match=r"none of its 1 images can be read:\n  .*a\.png: empty file"):
        build(tmp_path, skip_unreadable=True).setup()


def test_long_lists_are_cut(tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / f"{number:02}.png").touch()
    with pytest.raises(UserError) as caught:
        build(tmp_path).setup()
    lines = str(caught.value).splitlines()
    assert "25 file(s) cannot be read" in lines[0]
    assert lines[1:] == [f"  {tmp_path / f'{number:02}.png'}: empty file" for number in range(10)] + ["  and 15 more"]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.root=.*nowhere: no such folder$"):
        build(tmp_path / "nowhere").check()
    with pytest.raises(UserError, match=r"^data\.root=.*a\.png: not a folder$"):
        build(save(tmp_path / "a.png")).check()


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no images in it; looked for \.bmp .*, found nothing$"):
        build(tmp_path).check()
    for name in ("a.gif", "b.gif", "c.txt", "README"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"found 2 \.gif, 1 no suffix, 1 \.txt$"):
        build(tmp_path).check()


def test_building_and_checking_decode_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "nowhere")
    (tmp_path / "a.png").write_bytes(b"no image")
    monkeypatch.setattr(Image, "open", None)
    build(tmp_path).check()
