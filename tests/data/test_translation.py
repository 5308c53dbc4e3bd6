"""Data of image-to-image models: what a minibatch holds, that it is exact, and every mistake in the files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_lightning.data.inpainting_folder import InpaintingFolder
from gan_lightning.data.masks import Holes, Shape
from gan_lightning.data.paired_folder import PairedFolder
from gan_lightning.data.pixels import resize, to_float
from gan_lightning.data.superres_folder import Crops, SuperResolutionFolder, SuperResolutionPhotos, Whole
from gan_lightning.data.translated_digits import (
    InpaintingDigits,
    PairedDigits,
    SuperResolutionDigits,
    UnpairedDigits,
    edges,
    inverted,
)
from gan_lightning.data.translation import Translation, Unpaired
from gan_lightning.data.unpaired_folders import UnpairedFolders
from gan_lightning.data.voices import SyntheticVoices, Voices
from gan_lightning.errors import UserError
from gan_lightning.metrics.paired import Pair, paired
from tests.fake_data import write_voices

COMMON: dict[str, Any] = {"batch_size": 4, "image_size": 16, "channels": 1, "seed": 0}
Make = Callable[..., Translation]


def save(path: Path, pixels: Any) -> None:
    """An array (H, W) or (H, W, C) as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def noise(number: int, height: int = 20, width: int = 20, channels: int = 3) -> Any:
    return np.random.default_rng(number).integers(0, 256, (height, width, channels), np.uint8)


def side_by_side(root: Path, count: int = 10, part: str = "") -> None:
    """Pairs whose right half is the left one's negative."""
    for number in range(count):
        left = noise(number)
        save(root / part / f"{number}.png", np.concatenate([left, 255 - left], axis=1))


def two_folders(root: Path, first: int = 10, second: int = 10, names: tuple[str, str] = ("a", "b")) -> None:
    for name, count in zip(names, (first, second), strict=True):
        for number in range(count):
            save(root / name / f"{number}.png", noise(number) // 2 + (128 if name == names[1] else 0))


def paired_folder(root: Path, **settings: Any) -> PairedFolder:
    side_by_side(root / "train", 8)
    side_by_side(root / "val", 3)
    return PairedFolder(**{**COMMON, "root": root, "cache": "off", "jitter": 1.25, "flip": True, **settings})


def unpaired_folders(root: Path, **settings: Any) -> UnpairedFolders:
    two_folders(root, 12, 5, ("trainA", "trainB"))
    two_folders(root, 3, 2, ("testA", "testB"))
    return UnpairedFolders(**{**COMMON, "root": root, "cache": "off", "jitter": 1.25, "flip": True, **settings})


def inpainting_folder(root: Path, **settings: Any) -> InpaintingFolder:
    two_folders(root, 8, 3, ("train", "val"))
    return InpaintingFolder(**{**COMMON, "root": root, "cache": "off", "masks": "both", "flip": True, **settings})


def superres_folder(root: Path, **settings: Any) -> SuperResolutionFolder:
    for number in range(4):
        save(root / "train" / f"{number}.png", noise(number, 20 + number, 30))
        save(root / "test" / f"{number}.png", noise(number, 21, 30 + number))
    return SuperResolutionFolder(**{**COMMON, "root": root, "scale": 4, "crops": 3, "flip": True, **settings})


def voices(root: Path, **settings: Any) -> Voices:
    write_voices(root, {"ann": 16, "bob": 12})
    own = {"window": 128, "hop": 64, "source": "ann", "target": "bob", "held_out": 0.3}
    return Voices(**{**COMMON, **own, "root": root, **settings})


def synthetic_voices(root: Path, **settings: Any) -> SyntheticVoices:
    return SyntheticVoices(**{**COMMON, "window": 128, "hop": 64, "count": 20, **settings})


def bundled(kind: Any) -> Make:
    return lambda root, **settings: kind(**{**COMMON, **settings})


MAKERS: dict[str, Make] = {
    "paired_folder": paired_folder,
    "unpaired_folders": unpaired_folders,
    "inpainting_folder": inpainting_folder,
    "voices": voices,
    "synthetic_voices": synthetic_voices,
    "superres_folder": superres_folder,
    "paired_digits": bundled(PairedDigits),
    "unpaired_digits": bundled(UnpairedDigits),
    "inpainting_digits": bundled(InpaintingDigits),
    "superres_photos": bundled(SuperResolutionPhotos),
    "superres_digits": bundled(SuperResolutionDigits),
}


def ready(data: Any) -> Any:
    data.check()
    data.setup()
    return data


def walk(data: Translation, **settings: Any) -> dict[str, Tensor]:
    """The minibatches of an epoch as networks see them, (minibatches, B, ...)."""
    batches = list(data.minibatches(**{"epoch": 0, "start": 0, "per_batch": 1, **settings}))
    seen = [data.on_after_batch_transfer(batch, 0) for batch in batches]
    return {key: torch.cat([batch[key] for batch in seen]) for key in seen[0]}


def everything(part: Any) -> dict[str, Tensor]:
    return part.__getitems__(range(len(part)))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# --- what all share


@pytest.mark.parametrize("name", MAKERS)
def test_minibatches_are_what_models_are_written_against(name: str, tmp_path: Path) -> None:
    data = ready(MAKERS[name](tmp_path))
    stored = next(iter(data.minibatches(epoch=0, start=0, per_batch=2)))
    seen = data.on_after_batch_transfer(stored, 0)
    held_out = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    other = "mask" if "inpainting" in name else "input"
    assert seen.keys() == held_out.keys() == {"image", "label", other}
    assert seen["image"].shape == (2, 4, data.channels, 16, 16)
    assert (stored["image"].dtype, seen["image"].dtype) == (torch.uint8, torch.float32)
    assert seen["image"].abs().max() <= 1
    if other == "input":
        assert seen["input"].shape == (2, 4, data.input_channels, data.input_size, data.input_size)
        assert (stored["input"].dtype, seen["input"].dtype) == (torch.uint8, torch.float32)
        assert seen["input"].min() < 0
        assert seen["input"].abs().max() <= 1
    else:
        assert seen["mask"].shape == (2, 4, 1, 16, 16)
        assert set(seen["mask"].unique().tolist()) == {0.0, 1.0}
    assert held_out["image"].dim() == 4
    assert data.real_images(2).shape == (2, data.channels, 16, 16)
    assert f"{len(data.train):,} × {data.domains[0]} " in data.description()
    assert len(data.domains) == 2


@pytest.mark.parametrize("name", MAKERS)
def test_minibatches_are_of_seed_epoch_and_place(name: str, tmp_path: Path) -> None:
    few = {"subset": 0.05} if "digits" in name else {}
    make = partial(MAKERS[name], **few)
    data = ready(make(tmp_path))
    whole = walk(data, epoch=1)
    rest = walk(ready(make(tmp_path)), epoch=1, start=1, per_batch=3)  # a run that went on
    assert same(rest, {key: value[1:] for key, value in whole.items()})
    assert same(walk(ready(make(tmp_path, workers=1)), epoch=1), whole)
    assert not same(walk(data, epoch=2), whole)
    assert not same(walk(ready(make(tmp_path, seed=1)), epoch=1), whole)
    half = ready(make(tmp_path, batch_size=2))
    ranks = [walk(half, epoch=1, rank=rank, world=2) for rank in (0, 1)]
    assert same({key: torch.cat([rank[key] for rank in ranks], dim=1) for key in whole}, whole)
    assert same(everything_held_out(data), everything_held_out(ready(make(tmp_path, seed=1))))


@pytest.mark.parametrize("name", sorted(MAKERS.keys() - {"superres_folder", "superres_photos"}))  # cut before
def test_images_that_are_moved_to_a_device_are_the_same(name: str, tmp_path: Path) -> None:
    data = ready(MAKERS[name](tmp_path, subset=0.5))
    moved = data.train.to(torch.device("cpu"))
    assert data.train.in_memory
    assert moved.nbytes == data.train.nbytes > 0
    index = torch.tensor([2, 0])
    assert same(moved.of_epoch(0, 1).take(index), data.train.of_epoch(0, 1).take(index))


def everything_held_out(data: Translation) -> dict[str, Tensor]:
    batches = list(data.val_dataloader())
    return {f"{key} {number}": value for number, batch in enumerate(batches) for key, value in batch.items()}


@pytest.mark.parametrize("name", MAKERS)
def test_part_of_the_images_can_be_trained_on(name: str, tmp_path: Path) -> None:
    data, whole = (ready(MAKERS[name](tmp_path, **some)) for some in ({"subset": 0.5}, {}))
    assert len(data.train) * 2 == pytest.approx(len(whole.train), abs=9)
    assert len(data.reference) == len(whole.train)
    assert " of " in data.description()
    known = {image.numpy().tobytes() for image in everything(whole.train)["image"]}
    assert {image.numpy().tobytes() for image in everything(data.train)["image"]} <= known
    walk(data)


def test_domains_are_two() -> None:
    with pytest.raises(ValueError, match="two names"):
        PairedDigits(**COMMON, domains=["edges"])


# --- pairs


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
@pytest.mark.parametrize("jitter", [1.0, 1.25])
@pytest.mark.parametrize("memory_gb", [4.0, 1e-9])
def test_pairs_stay_together(direction: str, jitter: float, memory_gb: float, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "image_size": 20,
        "channels": 3,
        "jitter": jitter,
        "resample": "box",
        "memory_gb": memory_gb,
    }
    data = ready(paired_folder(tmp_path, direction=direction, **settings))
    batch = walk(data)
    torch.testing.assert_close(batch["image"], -batch["input"])
    lefts = [torch.from_numpy(noise(number)).permute(2, 0, 1) for number in range(3)]
    held_out = everything(data.held_out)["input" if direction == "AtoB" else "image"]
    assert {image.numpy().tobytes() for image in held_out} == {left.numpy().tobytes() for left in lefts}
    if jitter > 1:
        assert not torch.equal(walk(data, epoch=1)["image"].sort(0).values, batch["image"].sort(0).values)


def test_a_crop_is_a_part_of_the_larger_image(tmp_path: Path) -> None:
    data = ready(paired_folder(tmp_path, channels=3, flip=False))  # 20 × 20, as stored
    images = {image.tobytes() for n in range(8) for image in windows(noise(n), 16)}
    crops = (walk(data)["image"] * 127.5 + 127.5).round().to(torch.uint8).flatten(0, 1)
    assert all((255 - crop.permute(1, 2, 0).contiguous()).numpy().tobytes() in images for crop in crops)


def windows(image: Any, size: int) -> list[Any]:
    places = range(len(image) - size + 1)
    return [np.ascontiguousarray(image[top : top + size, left : left + size]) for top in places for left in places]


def test_two_folders_are_matched_by_name(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "a" / f"{number}.png", noise(number))
        save(tmp_path / "b" / f"{number}.bmp", 255 - noise(number))
    settings: dict[str, Any] = {**COMMON, "channels": 3, "cache": tmp_path / "cache", "held_out": 0.3, "image_size": 20}
    data = ready(PairedFolder(root_a=tmp_path / "a", root_b=tmp_path / "b", **settings))
    for part in (data.train, data.held_out):
        assert torch.equal(everything(part)["image"], 255 - everything(part)["input"])
    assert len(data.train) + len(data.held_out) == 6
    for number in range(6):
        save(tmp_path / "b" / f"{number}.bmp", noise(number))  # the partner alone has changed
    again = ready(PairedFolder(root_a=tmp_path / "a", root_b=tmp_path / "b", **settings))
    assert torch.equal(everything(again.train)["image"], everything(again.train)["input"])


def test_folders_that_are_not_pairs(tmp_path: Path) -> None:
    two_folders(tmp_path, 3, 2)
    both: dict[str, Any] = {**COMMON, "root_a": tmp_path / "a", "root_b": tmp_path / "b", "cache": "off"}
    with pytest.raises(UserError, match=r"1 file\(s\) without a partner .*\n  2\.png is not in data\.root_b=.*/b"):
        PairedFolder(**both).check()
    save(tmp_path / "b" / "2.png", noise(2, 20, 24))
    with pytest.raises(UserError, match=r"/a/2\.png: 20×20, and its partner .*/b/2\.png is 24×20"):
        ready(PairedFolder(**both))
    save(tmp_path / "b" / "2.bmp", noise(2))
    with pytest.raises(UserError, match=r"data\.root_b=.*/b: two files differ in nothing but their suffix:\n  2\."):
        PairedFolder(**both).check()
    save(tmp_path / "odd" / "0.png", noise(0, 20, 41))
    with pytest.raises(UserError, match=r"/odd/0\.png: 41 pixels wide: an odd number"):
        ready(PairedFolder(**COMMON, root=tmp_path / "odd", cache="off"))
    two_folders(tmp_path / "domains", 3, 3, ("trainA", "trainB"))
    with pytest.raises(UserError, match=r"domains: has images of two domains in trainA and trainB"):
        PairedFolder(**COMMON, root=tmp_path / "domains", cache="off").check()
    neither: list[dict[str, Any]] = [{}, {"root_a": tmp_path}, {"root": tmp_path, "root_b": tmp_path}]
    for some in neither:
        with pytest.raises(UserError, match="one folder; or else both"):
            PairedFolder(**COMMON, **some)


# --- two domains


def test_the_larger_domain_is_gone_through_and_the_other_one_evenly(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"flip": False, "jitter": 1.0, "batch_size": 1, "image_size": 20}
    data = ready(unpaired_folders(tmp_path, **settings))
    epochs = [walk(data, epoch=epoch) for epoch in (0, 1)]
    for batch in epochs:
        inputs, counts = batch["input"].flatten(1).unique(dim=0, return_counts=True)
        assert (len(inputs), counts.max()) == (12, 1)
        images, counts = batch["image"].flatten(1).unique(dim=0, return_counts=True)
        assert (len(images), counts.min(), counts.max()) == (5, 2, 3)
        assert batch["input"].max() < 0 < batch["image"].min()  # A is dark and B bright
    assert not torch.equal(epochs[0]["image"], epochs[1]["image"])
    other = ready(unpaired_folders(tmp_path, direction="BtoA", **settings))
    assert walk(other)["image"].max() < 0
    assert (len(data.held_out), data.truth) == (3, False)


def test_two_folders_without_test_images(tmp_path: Path) -> None:
    two_folders(tmp_path, 9, 12)
    data = ready(UnpairedFolders(**COMMON, root_a=tmp_path / "a", root_b=tmp_path / "b", cache="off", held_out=0.3))
    assert isinstance(data.train, Unpaired)
    assert isinstance(data.held_out, Unpaired)
    assert len(data.train.images) + len(data.held_out.images) == 12
    assert len(data.train.inputs) + len(data.held_out.inputs) == 9
    with pytest.raises(UserError, match=r"has no folder trainA; or name two folders, data\.root_a and data\.root_b"):
        ready(UnpairedFolders(**COMMON, root=tmp_path, cache="off"))
    with pytest.raises(UserError, match=r"data\.root_b=.*nowhere: no such folder"):
        UnpairedFolders(**COMMON, root_a=tmp_path / "a", root_b=tmp_path / "nowhere").check()


# --- digits


def test_outlines_are_inside_of_the_ink() -> None:
    square = torch.zeros(1, 1, 7, 7, dtype=torch.uint8)
    square[..., 1:6, 1:6] = 200
    outline = edges(square)
    assert int((outline == 255).sum()) == 16
    assert not outline[..., 2:5, 2:5].any()
    data = ready(PairedDigits(**COMMON))
    held_out = everything(data.held_out)
    assert torch.equal(edges(held_out["image"]), held_out["input"])
    assert data.class_names == list("0123456789")


@pytest.mark.parametrize("turned", [False, True])
def test_the_truth_of_unpaired_digits_is_held_back(turned: bool) -> None:
    data = ready(UnpairedDigits(**COMMON, turned=turned))
    held_out = everything(data.held_out)
    negatives = 255 - held_out["input"]
    assert torch.equal(negatives.transpose(2, 3).flip(2) if turned else negatives, held_out["image"])
    assert isinstance(data.train, Unpaired)
    a, b = everything(data.train.inputs)["image"], everything(data.train.images)["image"]
    own = {image.numpy().tobytes() for image in inverted(a, turned)}
    assert len(own) == len(a) == 719
    assert not own & {image.numpy().tobytes() for image in b}
    assert data.truth


# --- holes


@pytest.mark.parametrize("shape", ["box", "brush", "both"])
@pytest.mark.parametrize("share", [(0.1, 0.4), (0.25, 0.25), (0.6, 0.9)])
def test_holes_cover_their_share(shape: Shape, share: tuple[float, float]) -> None:
    masks = [Holes(shape, *share).draw(64, torch.Generator().manual_seed(seed)) for seed in range(20)]
    shares = torch.stack(masks).float().mean((1, 2, 3))
    assert shares.min() >= share[0] - 0.01
    assert shares.max() <= share[1] + 0.01
    assert (shares.max() - shares.min() > 0.1) == (share[0] < share[1])
    again = [Holes(shape, *share).draw(64, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert torch.equal(torch.stack(masks), torch.stack(again))
    assert not torch.equal(masks[0], masks[1])


def test_a_box_is_full_and_a_brush_is_not() -> None:
    stream = torch.Generator().manual_seed(0)
    shapes: list[tuple[Shape, bool]] = [("box", True), ("brush", False)]
    for shape, full in shapes:
        rows, columns = Holes(shape, 0.2, 0.2).draw(64, stream)[0].nonzero().unbind(1)
        around = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert (len(rows) == int(around)) == full


@pytest.mark.parametrize("share", [(0.4, 0.1), (0.0, 0.5), (0.5, 1.0)])
def test_shares_that_no_hole_has(share: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="may not be larger than the image"):
        InpaintingDigits(**COMMON, share=share)


def test_held_out_holes_are_fixed_and_others_new_in_every_epoch() -> None:
    data, other = (ready(InpaintingDigits(**{**COMMON, "seed": seed})) for seed in (0, 1))
    assert same(everything(data.held_out), everything(other.held_out))
    order = data.train.__getitems__([5, 3])["mask"]
    assert torch.equal(order.flip(0), data.train.__getitems__([3, 5])["mask"])
    epochs = [data.train.of_epoch(0, epoch).__getitems__([5])["mask"] for epoch in (0, 1, 1)]
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[1], epochs[2])
    seeded = ready(InpaintingDigits(**COMMON, mask_seed=1))
    assert not same(everything(data.held_out), everything(seeded.held_out))


def with_masks(root: Path) -> Any:
    """Photographs, masks of the left half, and photographs whose left half is transparent."""
    hole = np.zeros((20, 20), np.uint8)
    hole[:, :10] = 255
    for number in range(4):
        save(root / "photos" / f"{number}.png", noise(number))
        save(root / "masks" / f"{number}.bmp", hole)
        save(root / "alpha" / f"{number}.png", np.dstack([noise(number), 255 - hole]))
    return hole


@pytest.mark.parametrize("masks", ["files", "alpha"])
def test_holes_of_files_and_alpha_channels(masks: Any, tmp_path: Path) -> None:
    hole = with_masks(tmp_path)
    given = {"root": tmp_path / "alpha"} if masks == "alpha" else {"root": tmp_path / "photos"}
    given |= {"mask_root": tmp_path / "masks"} if masks == "files" else {}
    settings: dict[str, Any] = {**COMMON, "image_size": 20, "channels": 3, "held_out": 0.0, "cache": "off", **given}
    data = ready(InpaintingFolder(masks=masks, flip=True, **settings))
    batch = everything(data.train)
    assert torch.equal(batch["mask"], torch.from_numpy(hole > 0).expand(4, 1, 20, 20))
    truths = {torch.from_numpy(noise(number)).permute(2, 0, 1).contiguous().numpy().tobytes() for number in range(4)}
    assert {image.numpy().tobytes() for image in batch["image"]} == truths
    flipped = walk(data)  # together
    known = {to_float(image).numpy().tobytes(): mask for image, mask in zip(batch["image"], batch["mask"], strict=True)}
    for image, mask in zip(flipped["image"][0], flipped["mask"][0], strict=True):
        mirrored = image.numpy().tobytes() not in known
        assert mirrored == bool(mask[..., -1].all())


def test_masks_that_do_not_fit(tmp_path: Path) -> None:
    with_masks(tmp_path)
    common: dict[str, Any] = {**COMMON, "cache": "off"}
    files: dict[str, Any] = {**common, "root": tmp_path / "photos", "masks": "files", "mask_root": tmp_path / "masks"}
    with pytest.raises(UserError, match=r"photos/\d\.png: has no alpha channel"):
        ready(InpaintingFolder(**common, root=tmp_path / "photos", masks="alpha"))
    for pixels, message in (
        (np.full((20, 24), 255), r"photos/1\.png: 20×20, and its mask .*masks/1\.bmp is 24×20"),
        (np.full((20, 20), 255), r"its mask .*masks/1\.bmp has a hole as large as the image"),
        (np.zeros((20, 20)), r"its mask .*masks/1\.bmp has no hole"),
    ):
        save(tmp_path / "masks" / "1.bmp", pixels)
        with pytest.raises(UserError, match=message):
            ready(InpaintingFolder(**files))
    (tmp_path / "masks" / "1.bmp").unlink()
    with pytest.raises(UserError, match=r"1 file\(s\) without a partner .*\n  1\.png is not in data\.mask_root="):
        InpaintingFolder(**files).check()
    wrong: list[dict[str, Any]] = [{"masks": "files"}, {"mask_root": tmp_path}]
    for some in wrong:
        with pytest.raises(ValueError, match="must be given for masks=files, and only then"):
            InpaintingFolder(**common, root=tmp_path, **some)


# --- super-resolution


@pytest.mark.parametrize("memory_gb", [4.0, 1e-9])
def test_inputs_are_made_of_the_crops(memory_gb: float, tmp_path: Path) -> None:
    data = ready(superres_folder(tmp_path, memory_gb=memory_gb, flip=False, channels=3))
    batch = data.train.of_epoch(0, 0).__getitems__(range(12))
    assert torch.equal(batch["input"], resize(batch["image"], 4))
    assert isinstance(data.train, Crops)
    parts = {
        noise(number, 20 + number, 30)[top : top + 16, left : left + 16].tobytes()
        for number in range(4)
        for top in range(5 + number)
        for left in range(15)
    }
    for index in range(12):
        turns = [batch["image"][index].rot90(turn, (1, 2)).permute(1, 2, 0).contiguous() for turn in range(4)]
        assert any(turn.numpy().tobytes() in parts for turn in turns)
    turned = [crop.permute(1, 2, 0).contiguous().numpy().tobytes() not in parts for crop in batch["image"]]
    assert 0 < sum(turned) < len(turned)  # three of four


def test_held_out_images_are_whole(tmp_path: Path) -> None:
    data = ready(superres_folder(tmp_path))
    shapes = sorted(tuple(batch["image"].shape) for batch in data.val_dataloader())
    assert shapes == [(1, 1, 20, 28), (1, 1, 20, 28), (1, 1, 20, 32), (1, 1, 20, 32)]
    assert all(batch["input"].shape[-2:] == (5, batch["image"].shape[-1] // 4) for batch in data.val_dataloader())
    with pytest.raises(ValueError, match="take them one at a time"):
        everything(data.held_out)


def test_examples_are_the_centres_of_held_out_images(tmp_path: Path) -> None:
    data = ready(superres_folder(tmp_path))
    taken = data.examples.__getitems__(range(len(data.held_out)))
    assert taken["image"].shape == (4, 1, 16, 16)
    assert torch.equal(taken["input"], resize(taken["image"], 4))
    for index, image in enumerate(taken["image"]):
        assert isinstance(data.held_out, Whole)
        whole = data.held_out.pixels(index)
        top, left = ((side - 15) // 2 for side in whole.shape[1:])
        assert torch.equal(image, whole[:, top : top + 16, left : left + 16])
    small = torch.arange(8 * 12, dtype=torch.uint8).view(1, 8, 12)
    (image,) = Crops(Whole([small], 4, 1), 16, 1, turn=False).__getitems__([0])["image"]
    assert torch.equal(image[:, :8, :12], small)
    assert (image[0, 8:, :12] == small[0, 7]).all()
    assert (image[0, :8, 12:] == small[0, :, 11:]).all()


def test_images_that_are_too_small_or_broken(tmp_path: Path) -> None:
    data = superres_folder(tmp_path)
    save(tmp_path / "train" / "8.png", noise(8, 15, 40))
    (tmp_path / "train" / "9.png").write_bytes(b"broken")
    with pytest.raises(
        UserError, match=r"2 file\(s\) cannot be used:\n.*8\.png: 40×15, smaller than 16×16\n.*9\.png: not"
    ):
        ready(data)
    with pytest.raises(ValueError, match=r"image_size=18: is not a multiple of data\.scale=4"):
        superres_folder(tmp_path, image_size=18)


def test_held_out_images_are_large_enough_for_their_scores(tmp_path: Path) -> None:
    """Inside the border, when sides are cut to a multiple of the scale: not found out after the training."""
    data = superres_folder(tmp_path)
    save(tmp_path / "test" / "8.png", noise(8, 15, 40))
    with pytest.raises(UserError, match=r"1 file\(s\) cannot be used:\n.*8\.png: 40×15, smaller than 16×16"):
        ready(data)
    save(tmp_path / "test" / "8.png", noise(8, 16, 40))
    real = ready(data).held_out.__getitems__([4])["image"]
    paired(["ssim", "psnr"], [Pair(real, real)], data.border)


def test_small_digits_are_made_of_the_digits() -> None:
    data = ready(SuperResolutionDigits(**{**COMMON, "image_size": 32}))
    batch = everything(data.held_out)
    assert batch["input"].shape == (len(data.held_out), 1, 8, 8)
    assert torch.equal(batch["input"], resize(batch["image"], 8))
    with pytest.raises(ValueError, match=r"image_size=18: is not a multiple of data\.scale=4"):
        SuperResolutionDigits(**{**COMMON, "image_size": 18})


@pytest.mark.parametrize("channels", [1, 3])
def test_photographs(channels: int) -> None:
    data = ready(SuperResolutionPhotos(**{**COMMON, "channels": channels, "image_size": 64}))
    assert [tuple(batch["image"].shape) for batch in data.val_dataloader()] == [(1, channels, 424, 160)] * 2
    assert walk(data)["input"].shape == (8, 4, channels, 16, 16)
