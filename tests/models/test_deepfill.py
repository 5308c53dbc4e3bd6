"""Filling holes: both versions' losses, the local critic's data, what is shown, and that they learn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lightning.commands.loading import load_data, stored_config
from gan_lightning.commands.train import run
from gan_lightning.data.inpainting_folder import InpaintingFolder
from gan_lightning.data.translated_digits import InpaintingDigits
from gan_lightning.errors import UserError
from gan_lightning.metrics.paired import Pair, paired
from gan_lightning.models.deepfill import DeepFill
from gan_lightning.models.deepfill_v1 import DeepFillV1, distance_to_known, mean_in
from gan_lightning.networks.deepfill import (
    DeepFillV1Critics,
    DeepFillV1Generator,
    DeepFillV2Generator,
    SNPatchDiscriminator,
)
from gan_lightning.steps import Step
from tests.support import game, scores_after

SIZE = 16
STEPS = 150  # that learning takes


def two(channels: int = 3, **settings: Any) -> Any:
    torch.manual_seed(0)
    networks = {
        "generator": DeepFillV2Generator(4, channels),
        "discriminator": SNPatchDiscriminator(2, channels),
        "loss": "hinge",
    }
    return game(DeepFill, **{**networks, "input_channels": channels, "input_size": SIZE, **settings})


def one(channels: int = 3, **settings: Any) -> Any:
    torch.manual_seed(0)
    networks = {
        "generator": DeepFillV1Generator(2, channels),
        "discriminator": DeepFillV1Critics(2, SIZE, channels),
    }
    return game(DeepFillV1, **{**networks, "input_channels": channels, "input_size": SIZE, **settings})


RULES = pytest.mark.parametrize("rule", [one, two])


def batch_of(count: int = 3, channels: int = 3) -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(0)
    masks = torch.zeros(count, 1, SIZE, SIZE)
    for index, mask in enumerate(masks):  # boxes of several sizes
        mask[:, 2 + index : 6 + 2 * index, 3 : 8 + index] = 1
    return {"image": torch.rand(count, channels, SIZE, SIZE, generator=stream) * 2 - 1, "mask": masks}


def fakes_of(module: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        return module.generate(batch, module.given(batch))


@RULES
def test_the_generator_is_not_shown_the_hole(rule: Any) -> None:
    module, batch = rule(), batch_of()
    given = module.given(batch)
    assert given.shape == (3, 4, SIZE, SIZE)
    for image, mask, (*seen, hole) in zip(batch["image"], batch["mask"], given, strict=True):
        assert torch.equal(hole, mask[0])
        assert all((plane[mask[0] > 0] == 0).all() for plane in seen)
        assert torch.equal(torch.stack(seen)[:, mask[0] == 0], image[:, mask[0] == 0])
    assert torch.equal(module.seen(given), given[:, :3])


@RULES
def test_fakes_are_the_truth_but_for_the_hole(rule: Any) -> None:
    module, batch = rule(), batch_of()
    fakes = fakes_of(module, batch)
    coarse, fine = module.generator.stages(module.given(batch))
    assert torch.equal(fakes["coarse"], coarse)
    assert torch.equal(fakes["fine"], fine)
    hole = batch["mask"].expand_as(fine) > 0
    assert torch.equal(fakes["image"][~hole], batch["image"][~hole])
    assert torch.equal(fakes["image"][hole], fine[hole])
    assert torch.equal(fakes["image"], module.generator(module.given(batch)))


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_version_twos_losses_are_their_formulas(weight: float) -> None:
    """Yu et al. 2019, section 3.4: hinge over all numbers of the last map, and L1 of both whole results."""
    module, batch = two(l1_weight=3.0, adversarial_weight=weight).eval(), batch_of()
    fakes = fakes_of(module, batch)
    forward = module.discriminator.forward  # whose verdicts begin all alike
    module.discriminator.forward = lambda images, mask: 10 * images.mean() + forward(images, mask)
    on_real, on_fake = (module.discriminator(images, batch["mask"]) for images in (batch["image"], fakes["image"]))
    assert on_real.shape == (3, 8, 1, 1)
    expected = (1 - on_real).clamp(min=0).mean() + (1 + on_fake).clamp(min=0).mean()
    torch.testing.assert_close(module.discriminator_loss(batch, fakes)["loss"], expected)
    l1 = sum((fakes[stage] - batch["image"]).abs().mean() for stage in ("coarse", "fine"))
    torch.testing.assert_close(module.generator_loss(batch, fakes)["loss"], -weight * on_fake.mean() + 3 * l1)
    module.hole_weight, errors = 5.0, [(fakes[stage] - batch["image"]).abs() for stage in ("coarse", "fine")]
    heavier = sum(error.mean() + 4 * (error * batch["mask"]).mean() for error in errors)
    torch.testing.assert_close(module.generator_loss(batch, fakes)["loss"], -weight * on_fake.mean() + 3 * heavier)


@RULES
def test_every_image_is_judged_with_its_mask(rule: Any) -> None:
    module, batch = rule().eval(), batch_of()
    before = module.verdicts(batch["image"], module.given(batch), None)
    masks = batch["mask"].clone()
    masks[1] = masks[1].roll(5, -1)
    after = module.verdicts(batch["image"], module.given({**batch, "mask": masks}), None)
    assert before.shape == (3,)
    assert ((before != after) == torch.tensor([False, True, False])).all()


def brute_force(mask: Tensor) -> Tensor:
    """Of one mask (H, W), pixel by pixel: steps to the nearest known one."""
    height, width = mask.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    known = [(row, column) for row, column in places if not mask[row, column]]
    found = torch.full((height, width), torch.inf)
    for row, column in places:
        for other_row, other_column in known:
            found[row, column] = min(found[row, column], abs(row - other_row) + abs(column - other_column))
    return found


def test_distances_are_those_of_a_loop() -> None:
    masks = torch.zeros(5, 1, 9, 12)
    masks[0, 0, 2:7, 3:9] = 1
    masks[1, 0, :4, :] = 1  # at the border
    masks[2, 0] = torch.rand(9, 12, generator=torch.Generator().manual_seed(0)) < 0.85
    masks[3] = 1  # nothing is known
    expected = torch.stack([brute_force(mask[0]) for mask in masks])[:, None]
    assert torch.equal(distance_to_known(masks), expected)
    assert expected[2].max() > 2
    assert expected[0, 0].tolist()[4] == [0, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0, 0]  # Yu et al. 2018: γ^l in a box


def discounted(fakes: Tensor, real: Tensor, mask: Tensor, discount: float) -> tuple[float, float]:
    """The mean error of one image in the hole and outside of it, pixel by pixel."""
    distance = brute_force(mask[0])
    errors, sums, counts = (fakes - real).abs(), [0.0, 0.0], [0, 0]
    for row in range(SIZE):
        for column in range(SIZE):
            known = int(mask[0, row, column] == 0)
            for channel in range(len(real)):
                error = float(errors[channel, row, column])
                sums[known] += error if known else discount ** float(distance[row, column]) * error
                counts[known] += 1
    return sums[0] / counts[0], sums[1] / counts[1]


def test_version_ones_generator_loss_is_its_formula() -> None:
    """Yu et al. 2018, sections 3.2 and 3.3, with the published code's weights."""
    weights: dict[str, Any] = {"discount": 0.8, "hole_weight": 3.0, "known_weight": 5.0, "coarse_weight": 1.5}
    module, batch = one(adversarial_weight=0.5, **weights).eval(), batch_of()
    fakes, critics = fakes_of(module, batch), module.discriminator
    tops = [(0, 1), (1, 2), (3, 2)]  # of squares of 8 around the boxes
    squares = torch.stack(
        [
            image[:, row : row + 8, column : column + 8]
            for image, (row, column) in zip(fakes["image"], tops, strict=True)
        ]
    )
    expected = -0.5 * (critics.local(squares).mean() + critics.whole(fakes["image"]).mean())
    for stage, share in (("coarse", 1.5), ("fine", 1.0)):
        each = [
            discounted(*parts, discount=0.8) for parts in zip(fakes[stage], batch["image"], batch["mask"], strict=True)
        ]
        hole, known = (sum(values) / len(each) for values in zip(*each, strict=True))
        expected = expected + share * (3 * hole + 5 * known)
    torch.testing.assert_close(module.generator_loss(batch, fakes)["loss"], expected)


def test_version_ones_critics_have_a_penalty_in_the_hole_alone() -> None:
    """Yu et al. 2018, eq. 5, for both critics, each with places of its own between real and fake."""
    module, batch = one(penalty_weight=7.0, step=Step(penalty_every=2)).eval(), batch_of()
    fakes, critics, mask = fakes_of(module, batch), module.discriminator, batch["mask"]
    real, fake = batch["image"], fakes["image"]
    expected = critics(fake, mask).sum(1).mean() - critics(real, mask).sum(1).mean()
    norms = {}
    for name, judge in (("local", lambda x: critics.on_hole(x, mask)), ("whole", critics.whole)):
        mixing = module.draw(f"mixing {name}", 3, lambda n, stream: torch.rand(n, generator=stream)).view(3, 1, 1, 1)
        between = (mixing * real + (1 - mixing) * fake).requires_grad_()
        (gradient,) = torch.autograd.grad(judge(between).sum(), between)
        assert gradient[(mask == 0).expand_as(gradient)].any()  # there is one elsewhere
        norms[name] = ((gradient * mask).flatten(1).norm(dim=1) - 1).square().mean()
        expected = expected + 2 * 7 * norms[name]
    found = module.discriminator_loss(batch, fakes)
    torch.testing.assert_close(found["loss"], expected)
    torch.testing.assert_close(found["gradient_penalty_local"], norms["local"])
    assert norms["local"] != norms["whole"]


def test_an_empty_region_has_no_error() -> None:
    regions = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    assert mean_in(torch.ones(2, 3, 2, 2), regions) == 0.5


def test_the_local_critic_needs_boxes(tmp_path: Path) -> None:
    base = {"batch_size": 8, "image_size": SIZE, "channels": 3, "seed": 0}
    module = one()
    module.check_data(InpaintingDigits(**{**base, "masks": "box"}))
    with pytest.raises(UserError, match=r"data\.masks=both: one of DeepFillV1's critics looks at boxes"):
        module.check_data(InpaintingDigits(**{**base, "masks": "both"}))
    with pytest.raises(UserError, match=r"data\.masks=files: "):
        module.check_data(InpaintingFolder(**{**base, "masks": "files", "root": tmp_path, "mask_root": tmp_path}))
    with pytest.raises(UserError, match="masks=brush"):
        run(["model=deepfill_v1", "data.masks=brush", f"hydra.run.dir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="needs images with holes"):
        run(["model=deepfill", "data=paired_digits", f"hydra.run.dir={tmp_path / 'run'}"])


@RULES
def test_samples_stand_between_what_was_given_and_the_truth(rule: Any) -> None:
    module = rule(1).eval()
    data = InpaintingDigits(batch_size=8, image_size=SIZE, channels=1, seed=0, masks="box")
    data.setup()
    module.show(data)
    made = module.sample(5)
    given, shown, truth = module.columns(made)
    held_out = data.on_after_batch_transfer(data.held_out.__getitems__(range(5)), 0)
    mask = held_out["mask"] > 0
    assert torch.equal(shown, made)
    assert torch.equal(truth, held_out["image"])
    assert (given[mask] == 0).all()
    for image in (given, made):
        assert torch.equal(image[~mask], truth[~mask])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["deepfill", "deepfill_v1"])
def test_it_learns(model: str, tmp_path: Path) -> None:
    """In the holes of digits it was never shown: better than before, and than the mean level of what is known."""

    arguments = [
        f"model={model}",
        "data.masks=box",
        "data.image_size=16",
        "data.batch_size=16",
        "model.generator.base_channels=8",
        "model.discriminator.base_channels=4",
        f"model.generator_optimizer.lr={5e-3 if model == 'deepfill' else 1e-3}",
        "model.discriminator_optimizer.lr=3e-4",
        "model.ema=null",
        f"model.adversarial_weight={0.1 if model == 'deepfill' else 0.001}",
        "step.critic_steps=1",
    ]
    before, after = (scores_after(steps, tmp_path, *arguments)["l1_hole"] for steps in (1, STEPS))
    data: Any = load_data(stored_config(tmp_path / "1", []))
    mean = paired(["l1_hole"], [of_mean_level(data.held_out.__getitems__(range(len(data.held_out))))])["l1_hole"].value
    print(f"untrained {before:.3f}, mean level {mean:.3f}, trained {after:.3f}")
    assert after < 0.8 * min(before, mean)


def of_mean_level(batch: dict[str, Tensor]) -> Pair:
    """Grey images (N, 1, H, W) whose holes have the mean of what is known."""
    images, masks = batch["image"].double(), batch["mask"]
    means = (images * ~masks).sum((1, 2, 3)) / (~masks).sum((1, 2, 3))
    return Pair(batch["image"], torch.where(masks, means[:, None, None, None], images).round().byte(), masks)
