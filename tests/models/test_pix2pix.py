"""Images of images: pix2pix's losses, what samples are made of, its own scores, and that it learns."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lightning.data.digits import Digits
from gan_lightning.data.pixels import panels, to_pixels
from gan_lightning.data.translated_digits import PairedDigits, UnpairedDigits
from gan_lightning.ema import EMA
from gan_lightning.errors import UserError
from gan_lightning.losses import cross_entropy, nonsaturating
from gan_lightning.metrics.own import Measuring
from gan_lightning.metrics.scoring import Scorer, ScoreSettings
from gan_lightning.models.pix2pix import Pix2Pix
from gan_lightning.networks.patch import PatchDiscriminator
from gan_lightning.networks.unet import UNetGenerator
from tests.support import fit, game, scores_after


def translator(**settings: Any) -> Any:
    torch.manual_seed(0)
    generator = UNetGenerator(4, 16, 1, 1, noise="training", statistics="running")
    discriminator = PatchDiscriminator(4, 1, 1, levels=1)
    networks = {"generator": generator, "discriminator": discriminator}
    return game(Pix2Pix, **{**networks, "input_channels": 1, "input_size": 16, **settings})


def batch_of(count: int = 4) -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(0)
    return {key: torch.rand(count, 1, 16, 16, generator=stream) * 2 - 1 for key in ("image", "input")}


def digits() -> PairedDigits:
    data = PairedDigits(batch_size=8, image_size=16, channels=1, seed=0)
    data.setup()
    return data


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_losses_are_their_formulas(weight: float) -> None:
    """Isola et al. 2017, eq. 4, non-saturating, with D's objective halved (section 3.3)."""
    module = translator(l1_weight=7.0, adversarial_weight=weight).eval()
    batch, fakes = batch_of(), batch_of()["image"].flip(0)
    on_real, on_fake = (
        module.discriminator(torch.cat([batch["input"], images], 1)) for images in (batch["image"], fakes)
    )
    expected = (cross_entropy(on_real, 1).mean() + cross_entropy(on_fake, 0).mean()) / 2
    torch.testing.assert_close(module.discriminator_loss(batch, fakes)["loss"], expected)
    fooling, l1 = cross_entropy(on_fake, 1).mean(), (fakes - batch["image"]).abs().mean()
    torch.testing.assert_close(module.generator_loss(batch, fakes)["loss"], weight * fooling + 7 * l1)


def test_every_image_is_judged_beside_its_input() -> None:
    module, batch = translator().eval(), batch_of()
    before = module.verdicts(batch["image"], batch["input"], None)
    inputs = batch["input"].clone()
    inputs[1] = -inputs[1]
    after = module.verdicts(batch["image"], inputs, None)
    assert ((before != after) == torch.tensor([False, True, False, False])).all()


def test_an_image_is_augmented_with_its_input() -> None:
    module, batch, seen = translator(), batch_of(), []
    module.view = lambda images: seen.append(images) or images
    module.patches(batch["image"], batch["input"])
    assert torch.equal(seen[0], torch.cat([batch["input"], batch["image"]], 1))


def test_the_alarm_knows_that_the_discriminators_loss_is_halved() -> None:
    assert nonsaturating.won is not None
    assert translator().won == nonsaturating.won / 2


def test_the_moving_average_is_scored_unless_it_is_not_asked_for() -> None:
    module, data = translator(ema=partial(EMA, half_life=1.0)).eval(), digits()
    module.show(data)
    average = {ema: module.measure(data, Measuring(ema=ema))["l1"].value for ema in (True, False)}
    assert average[True] == average[False]
    torch.nn.init.zeros_(module.generator.decoder[-1][1].weight)
    changed = {ema: module.measure(data, Measuring(ema=ema))["l1"].value for ema in (True, False)}
    assert changed[True] == average[True]
    assert changed[False] != average[False]


def test_samples_are_of_the_held_out_images() -> None:
    module, data = translator(), digits()
    with pytest.raises(UserError, match="a translator makes samples of images"):
        module.sample(1)
    module.show(data)
    network = module.translating()
    inputs = data.scaled(data.held_out.__getitems__([5, 6])["input"])
    module.eval()
    made = module.sample(len(data.held_out) + 7)
    assert made.shape == (len(data.held_out) + 7, 1, 16, 16)
    assert torch.equal(made[-7:], made[:7])  # again from the first on
    assert network(inputs).shape == made[5:7].shape
    with pytest.raises(UserError, match=r"truncation=0\.5"):
        module.sample(1, truncation=0.5)


def test_samples_are_shown_between_input_and_truth() -> None:
    module, data = translator(), digits()
    module.show(data)
    images = module.sample(3)
    columns = module.columns(images)
    found = data.held_out.__getitems__([0, 1, 2])
    assert torch.equal(columns[0], data.scaled(found["input"]))
    assert torch.equal(columns[1], images)
    assert torch.equal(columns[2], data.scaled(found["image"]))
    picture = data.picture(images, module)
    assert picture.shape == (3, 3 * (48 + 2 + 3) + 3, 3 * (48 + 2) + 2 * 3)  # 16 pixels three times as large, framed
    assert torch.equal(picture[0, 4:52:3, 4:52:3], to_pixels(columns[0])[0, 0])
    data.truth = False
    assert len(module.columns(images)) == 2


def test_columns_of_any_sizes_and_channels_are_shown_side_by_side() -> None:
    small, large = torch.zeros(4, 1, 8, 8), torch.ones(4, 3, 32, 32)
    picture = panels([small, large])
    assert picture.shape[1] == picture[0, :, 4].shape[0]
    assert (picture[:, 4:36, 4:36] == 128).all()
    assert (picture[:, 4:36, 38:70] == 255).all()


@pytest.mark.parametrize(
    ("statistics", "size", "message"),
    [
        ("image", 4, "statistics=image: is for minibatches of one image, and they have 4: use running"),
        ("running", 1, "statistics=running: minibatches have one image: image translates as it is trained"),
        ("image", 1, ""),
        ("running", 4, ""),
    ],
)
def test_statistics_that_do_not_suit_the_minibatches_are_told(
    statistics: Any, size: int, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = translator(generator=UNetGenerator(4, 16, 1, 1, noise="training", statistics=statistics))
    data = PairedDigits(batch_size=size, image_size=16, channels=1, seed=0, subset=0.02)
    fit(module, data, tmp_path, max_epochs=1)
    assert message in caplog.text
    assert ("statistics=" in caplog.text) == bool(message)


def test_data_of_another_kind_is_refused() -> None:
    with pytest.raises(UserError, match="data: UnpairedDigits has images without pairs, and Pix2Pix needs pairs"):
        translator().check_data(UnpairedDigits(batch_size=8, image_size=16, channels=1, seed=0))
    with pytest.raises(UserError, match="data: Digits has single images, and Pix2Pix needs pairs"):
        translator().check_data(Digits(batch_size=8, image_size=16, channels=1, seed=0))


def test_noise_of_samples_and_scores_is_of_the_seed_alone() -> None:
    """Dropout is the generator's noise in eval mode too (Isola et al. 2017, section 3.1)."""
    generator = UNetGenerator(4, 16, 1, 1, noise="always")
    module, data = translator(generator=generator), digits()
    module.show(data)
    first, score = module.sample(3), module.measure(data)["l1"].value
    torch.rand(5)
    state = torch.get_rng_state()
    assert torch.equal(module.sample(3), first)
    assert module.measure(data)["l1"].value == score
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(module.sample(3, seed=1), first)


def test_no_held_out_image_is_scored_twice() -> None:
    """Or pairs of samples, which diversity is of, could be pairs of one image."""
    module, data = translator(), digits()
    module.show(data)
    scorer = Scorer(ScoreSettings(), data)
    assert scorer.n_fake == len(data.held_out) == 359
    assert scorer.glances == 256
    data.held_out = data.held_out.subset(torch.arange(64))
    scorer = Scorer(ScoreSettings(), data)
    assert (scorer.n_fake, scorer.glances) == (64, 64)
    assert scorer.glance(module)["diversity"] > 0
    data.held_out = data.held_out.subset(torch.arange(1))
    assert "diversity" not in Scorer(ScoreSettings(names=["modes"]), data).glance(module)


def test_its_scores_are_of_held_out_pairs() -> None:
    module, data = translator().eval(), digits()
    module.show(data)
    found = module.measure(data)
    made = data.stored(module.sample(len(data.held_out))).double()
    truth = data.held_out.__getitems__(range(len(data.held_out)))["image"].double()
    assert found["l1"].value == pytest.approx(float((made - truth).abs().mean() / 255), rel=1e-5)
    squares = ((made - truth) / 255).square().flatten(1).mean(1)
    assert found["psnr"].value == pytest.approx(float((-10 * squares.log10()).mean()), rel=1e-4)
    assert 0 < found["ssim"].value < 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 3}, "classes=3: a translator is told no labels"),
        ({"augment": ["color"]}, r"augment=\[color\]"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        translator(**settings)


def test_it_learns(tmp_path: Path) -> None:
    """To fill outlines: the L1 of digits it was never shown falls far below that of an untrained network."""

    arguments = [
        "model=pix2pix",
        "model.generator.base_channels=8",
        "model.discriminator.base_channels=8",
        "model.initialization=default",
        "model.generator_optimizer.lr=1e-3",
    ]
    before, after = (scores_after(steps, tmp_path, *arguments)["l1"] for steps in (1, 60))
    print(f"untrained {before:.3f}, trained {after:.3f}")
    assert after < 0.4 * before
