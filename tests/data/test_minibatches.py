"""The order, the sharding and the scaling that all data share."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lightning.data.base import ImageData
from gan_lightning.data.pixels import resize, to_float
from gan_lightning.data.sets import ImageSet, InMemory
from gan_lightning.draws import generator
from gan_lightning.errors import UserError


class Numbered(ImageData):
    """Images that hold their index in the first pixel, and have it as their label."""

    def __init__(self, images: int, held_out: int = 5, **base: Any) -> None:
        super().__init__(**{"batch_size": 4, "image_size": 2, "channels": 1, "seed": 0, **base})
        self.counts = images, held_out
        self.loads = 0

    def load(self) -> tuple[ImageSet, ImageSet, list[str]]:
        self.loads += 1
        train, held_out = (self.pixels(count) for count in self.counts)
        return InMemory(train, torch.arange(len(train))), InMemory(held_out), []

    def pixels(self, count: int) -> Tensor:
        images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
        images[:, 0, 0, 0] = torch.arange(count) % 256
        return images


def numbered(images: int = 30, **settings: Any) -> Numbered:
    data = Numbered(images, **settings)
    data.setup()
    return data


def walk(data: ImageData, **settings: Any) -> dict[str, Tensor]:
    """What an epoch yields, with the (K, B) of all batches joined to (minibatches, B)."""
    loader = data.minibatches(**{"epoch": 0, "start": 0, "per_batch": 1, **settings})
    batches = list(loader)
    assert len(loader) == len(batches)
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def test_order_is_the_permutation_of_seed_and_epoch() -> None:
    data = numbered(30, seed=7)
    for epoch in (0, 3):
        order = torch.randperm(30, generator=generator(7, "order", epoch))
        torch.testing.assert_close(walk(data, epoch=epoch)["label"], order[:28].view(7, 4))
    assert not torch.equal(walk(data, epoch=0)["label"], walk(data, epoch=1)["label"])
    assert not torch.equal(walk(data)["label"], walk(numbered(30, seed=8))["label"])


@pytest.mark.parametrize("per_batch", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("start", [0, 1, 5])
def test_any_grouping_and_start_yields_the_same_sequence(per_batch: int, start: int) -> None:
    data = numbered(30, flip=True)
    whole, part = walk(data), walk(data, per_batch=per_batch, start=start)
    for key, value in whole.items():
        torch.testing.assert_close(part[key], value[start:])


def test_shapes_and_lengths() -> None:
    data = numbered(30, channels=1, flip=True)
    loader = data.minibatches(epoch=0, start=0, per_batch=3)
    batches = list(loader)
    assert [batch["image"].shape for batch in batches] == [(3, 4, 1, 2, 2), (3, 4, 1, 2, 2), (1, 4, 1, 2, 2)]
    assert [batch["label"].shape for batch in batches] == [batch["flip"].shape for batch in batches]
    assert batches[0]["image"].dtype == torch.uint8
    assert batches[0]["flip"].dtype == torch.bool
    assert len(data.minibatches(epoch=0, start=7, per_batch=3)) == 0
    assert len(data.minibatches(epoch=0, start=6, per_batch=3)) == 1


@pytest.mark.parametrize("per_batch", [1, 3])
def test_ranks_together_see_the_global_minibatches(per_batch: int) -> None:
    alone = numbered(30, batch_size=8)
    together = numbered(30, batch_size=4)
    ranks = [walk(together, rank=rank, world=2, start=1, per_batch=per_batch)["label"] for rank in (0, 1)]
    torch.testing.assert_close(torch.cat(ranks, dim=1), walk(alone, start=1)["label"])


def test_workers_change_nothing() -> None:
    here, elsewhere = numbered(30, flip=True), numbered(30, flip=True, workers=2)
    for key, value in walk(here, per_batch=2, epoch=4).items():
        torch.testing.assert_close(walk(elsewhere, per_batch=2, epoch=4)[key], value)


def test_the_global_stream_is_neither_read_nor_moved() -> None:
    data = numbered(30, flip=True)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = walk(data)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    torch.testing.assert_close(walk(data), first)


def test_flips_belong_to_the_epoch_and_the_index() -> None:
    data, other = numbered(200, flip=True), numbered(200, flip=True, batch_size=10)

    def by_index(epoch: int, data: ImageData = data) -> Tensor:
        batch = walk(data, epoch=epoch)
        flips = torch.zeros(200, dtype=torch.bool)
        flips[batch["label"].flatten()] = batch["flip"].flatten()
        return flips

    assert torch.equal(by_index(0), by_index(0, other))
    assert not torch.equal(by_index(0), by_index(1))
    assert 70 < int(by_index(0).sum()) < 130
    more = walk(numbered(201, flip=True, batch_size=1))  # another image changes no other's flip
    flips = torch.zeros(201, dtype=torch.bool)
    flips[more["label"].flatten()] = more["flip"].flatten()
    assert torch.equal(flips[:200], by_index(0))
    assert "flip" not in walk(numbered(30))


@pytest.mark.parametrize(
    ("images", "world", "accumulate", "size", "length"),
    [
        (30, 1, 1, 4, 7),
        (30, 2, 1, 4, 3),
        (30, 1, 2, 4, 6),
        (30, 2, 2, 4, 2),
        (4, 1, 1, 4, 1),
        (3, 1, 1, 3, 1),
        (7, 1, 2, 3, 2),
        (7, 2, 2, 1, 2),
    ],
)
def test_sizes_of_minibatches_and_epochs(images: int, world: int, accumulate: int, size: int, length: int) -> None:
    data = numbered(images)
    assert data.minibatch_size(world, accumulate) == size
    assert data.epoch_length(world, accumulate) == length
    for rank in range(world):
        epoch = walk(data, world=world, accumulate=accumulate, rank=rank)
        assert epoch["image"].shape == (length, size, 1, 2, 2)


def test_a_shrunken_batch_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    data = numbered(10, batch_size=64)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            walk(data)
    assert caplog.messages == ["data.batch_size=64: there are only 10 training images, so batches hold 10"]


def test_too_few_images_for_one_step() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size=4: 3 training images are not enough for 2 device\(s\)"):
        numbered(3).epoch_length(world=2, accumulate=2)


def test_scaling_and_flipping_after_the_transfer() -> None:
    data = numbered(30)
    image = torch.tensor([[0, 255], [51, 204]], dtype=torch.uint8).expand(2, 3, 1, 2, 2)  # (K, B, C, H, W)
    flip = torch.tensor([[False, True, False], [True, False, False]])
    batch = {"image": image, "label": torch.arange(6).view(2, 3), "flip": flip}
    after = data.on_after_batch_transfer(batch, 0)
    upright = torch.tensor([[-1.0, 1.0], [-0.6, 0.6]])
    for k in range(2):
        for b in range(3):
            torch.testing.assert_close(after["image"][k, b, 0], upright.flip(-1) if flip[k, b] else upright)
    assert set(after) == {"image", "label"}
    assert set(batch) == {"image", "label", "flip"}
    assert torch.equal(after["label"], batch["label"])
    levels = to_float(torch.tensor([0, 255], dtype=torch.uint8))
    assert levels.tolist() == [-1, 1]


def test_lightning_reads_the_place_from_the_module() -> None:
    data = numbered(30)
    module = SimpleNamespace(
        counters=SimpleNamespace(epoch=2, epoch_minibatches=2), step=SimpleNamespace(minibatches=3, accumulate=1)
    )
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(lightning_module=module, global_rank=1, world_size=2, strategy=strategy)  # type: ignore[assignment]  # a stand-in
    expected = walk(data, epoch=2, start=2, rank=1, world=2)["label"]
    torch.testing.assert_close(torch.cat([batch["label"] for batch in data.train_dataloader()]), expected)


def test_held_out_images_come_in_order() -> None:
    batches = list(numbered(30, held_out=10).val_dataloader())
    assert [batch["image"].shape for batch in batches] == [(4, 1, 2, 2), (4, 1, 2, 2), (2, 1, 2, 2)]
    assert torch.cat([batch["image"][:, 0, 0, 0] for batch in batches]).tolist() == list(range(10))
    assert torch.cat([batch["label"] for batch in batches]).tolist() == [0] * 10
    assert list(numbered(30, held_out=0).val_dataloader()) == []


def test_real_images() -> None:
    data = numbered(30)
    images = data.real_images(3)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([0.0, 1.0, 2.0]) / 127.5 - 1)
    assert data.real_images(100).shape == (30, 1, 2, 2)


def test_setup_loads_once() -> None:
    data = numbered(30)
    data.setup("fit")
    assert data.loads == 1


def test_resize_keeps_levels_in_range() -> None:
    checkers = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 255
    images = checkers.expand(3, 1, 8, 8).to(torch.uint8)
    assert resize(images, 8) is images
    larger = resize(images, 20)
    assert (larger.dtype, larger.shape) == (torch.uint8, (3, 1, 20, 20))
    assert (int(larger.min()), int(larger.max())) == (0, 255)
    assert resize(images, 2).float().sub(127.5).abs().max() < 40  # antialiased: neighbours are mixed
