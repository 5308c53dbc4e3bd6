"""Classes and codes: who is told of them, and that they are learned."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.models.acgan import ACGAN
from gan_lightning.models.cgan import ConditionalGAN
from gan_lightning.models.dragan import DRAGAN
from gan_lightning.models.feature_matching import FeatureMatching
from gan_lightning.models.infogan import InfoGAN
from gan_lightning.models.unrolled import Unrolled
from gan_lightning.models.wgan_gp import WGANGP
from gan_lightning.models.zero_centred import ZeroCentred
from gan_lightning.networks.mlp import MLPDiscriminator, MLPGenerator
from tests.support import Blobs, batch_of, fakes_of, fit, game


def labelled(rule: Any, **discriminator: Any) -> Any:
    torch.manual_seed(0)
    generator = MLPGenerator(4, [32], 8, 1, classes=4)
    return game(rule, generator=generator, discriminator=MLPDiscriminator([32], 8, 1, **discriminator), classes=4)


@pytest.mark.parametrize("rule", [ConditionalGAN, ACGAN])
def test_conditional_rules_need_labels(rule: Any) -> None:
    with pytest.raises(ValueError, match="classes=0"):
        game(rule)


@pytest.mark.parametrize("rule", [ConditionalGAN, FeatureMatching, Unrolled, WGANGP, DRAGAN, ZeroCentred])
def test_the_discriminator_is_told_the_class_of_every_image(rule: Any) -> None:
    """In the losses and in penalties: real images are of class 0, fakes of class 1, told apart by their brightness."""
    module, told = labelled(rule, classes=4), []
    module.configure_optimizers()
    batch = batch_of(label=torch.zeros(8, dtype=torch.int64), fake_label=torch.ones(8, dtype=torch.int64))
    batch["image"] = batch["image"].abs()
    see = module.discriminator.trunk.register_forward_pre_hook(
        lambda _, inputs: told.append((inputs[0][:, :64].mean(1), inputs[0][:, 64:].argmax(1)))
    )
    module.discriminator_loss(batch, -fakes_of().abs())
    module.generator_loss(batch, -fakes_of().abs())
    see.remove()
    assert len(told) >= 3
    between = [len(told) - 2] if rule is WGANGP else []  # the penalty's images are between real ones and fakes
    for index, (brightness, labels) in enumerate(told):
        assert torch.equal(labels, torch.zeros(8) if index in between else (brightness < 0).long()), index


@pytest.mark.parametrize(
    ("rule", "settings"), [(WGANGP, {}), (ConditionalGAN, {"loss": "relativistic"}), (ZeroCentred, {})]
)
def test_images_that_are_compared_are_of_one_class(rule: Any, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    generator = MLPGenerator(4, [8], 8, 1, classes=4)
    networks = {"generator": generator, "discriminator": MLPDiscriminator([8], 8, 1, classes=4)}
    batch = batch_of(label=torch.arange(8) % 4)
    told = game(rule, **networks, classes=4, **settings).prepare(batch, 8, "")[0]["fake_label"]
    assert torch.equal(told, batch["label"])
    drawn = game(ConditionalGAN, **networks, classes=4).prepare(batch, 8, "")[0]["fake_label"]
    assert not torch.equal(drawn, batch["label"])


def test_the_losses_of_acgan_are_their_formulas() -> None:
    """D maximises L_S + L_C, G maximises L_C - L_S (Odena et al. 2017, eq. 2 and 3)."""
    module = labelled(ACGAN, auxiliary=4)
    batch = batch_of(label=torch.arange(8) % 4, fake_label=torch.arange(8) // 2)
    fakes, log_losses = fakes_of(), []
    for images, labels in ((batch["image"], batch["label"]), (fakes, batch["fake_label"])):
        outputs = module.discriminator(images)
        classes = outputs[:, 1:].log_softmax(1)[range(8), labels].mean()
        log_losses.append((outputs[:, 0], classes))
    (on_real, of_real), (on_fake, of_fake) = log_losses
    source = on_real.sigmoid().log().mean() + (1 - on_fake.sigmoid()).log().mean()
    expected = {
        "discriminator_loss": -(source + of_real + of_fake),
        "generator_loss": -of_fake - on_fake.sigmoid().log().mean(),
    }
    for name, loss in expected.items():
        torch.testing.assert_close(getattr(module, name)(batch, fakes)["loss"], loss)


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_the_weights_of_auxiliary_losses(weight: float) -> None:
    """Of AC-GAN's generator; of both of InfoGAN's players, whose loss is -log of softmax and of a Gaussian."""
    torch.manual_seed(0)
    networks = {"generator": MLPGenerator(9, [8], 8, 1), "discriminator": MLPDiscriminator([8], 8, 1, auxiliary=5)}
    infogan = game(InfoGAN, **networks, categorical=[4], continuous=1, information_weight=weight)
    latents, fakes = infogan.draw_latents(8, torch.Generator().manual_seed(0)), fakes_of()
    found = infogan.discriminator(fakes)[:, 1:]
    lost = (
        -(found[:, :4].log_softmax(1) * latents[:, 4:8]).sum(1).mean() + ((found[:, 4] - latents[:, 8]) ** 2).mean() / 2
    )
    classes = labelled(ACGAN, auxiliary=4)
    classes.class_weight = weight
    batch = batch_of(label=torch.arange(8) % 4, fake_label=torch.arange(8) // 2, latents=latents)
    on_classes = nn.functional.cross_entropy(classes.discriminator(fakes)[:, 1:], batch["fake_label"])
    for module, name, added in (
        (infogan, "discriminator_loss", lost),
        (infogan, "generator_loss", lost),
        (classes, "generator_loss", on_classes),
    ):
        plain = {
            "discriminator_loss": module.scored(module.judge(batch["image"], None), module.judge(fakes, None)),
            "generator_loss": module.pair.generator(None, module.judge(fakes, None)),
        }[name]["loss"]
        torch.testing.assert_close(getattr(module, name)(batch, fakes)["loss"], plain + weight * added)


@pytest.mark.parametrize("discriminator", [{}, {"auxiliary": 3}, {"auxiliary": 4, "classes": 4}])
def test_acgan_says_what_its_networks_need(discriminator: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"AC-GAN needs an output|takes no labels"):
        labelled(ACGAN, **discriminator)


def test_auxiliary_outputs_need_a_rule_that_reads_them() -> None:
    with pytest.raises(ValueError, match=r"discriminator\.auxiliary=4: GAN"):
        game(discriminator=MLPDiscriminator([4], 8, 1, auxiliary=4))


def test_the_classes_of_acgan_are_learned(tmp_path: Path) -> None:
    module = labelled(ACGAN, auxiliary=4)
    fit(module, Blobs(), tmp_path, max_epochs=40)
    held_out = Blobs()
    held_out.setup()
    batch = held_out.held_out.__getitems__(range(16))
    images = held_out.on_after_batch_transfer(batch, 0)["image"]
    right = module.outputs(images)[1].argmax(1) == batch["label"]
    assert right.float().mean() > 0.9  # a quarter by chance
    samples = module.sample(64)
    corners = torch.stack([samples[:, 0, r : r + 4, c : c + 4].mean((1, 2)) for r in (0, 4) for c in (0, 4)], 1)
    assert (corners.argmax(1) == torch.arange(64) % 4).float().mean() > 0.6  # and the generator makes them


def test_the_codes_of_infogan_are_learned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = game(
        InfoGAN,
        generator=MLPGenerator(9, [32], 8, 1),
        discriminator=MLPDiscriminator([32], 8, 1, auxiliary=5),
        categorical=[4],
        continuous=1,
    )
    assert module.code_slices() == {"category_1": (4, 8), "code_1": (8, 9)}

    def error() -> float:
        latents = module.draw_latents(256, torch.Generator().manual_seed(5))
        with torch.no_grad():
            return float(module.lost({"latents": latents}, module.outputs(module.generator(latents))[1]))

    before = error()
    fit(module, Blobs(), tmp_path, max_epochs=40)
    assert before > 1.3  # log 4 and the variance of U[-1, 1] by half
    assert error() < 0.4


def test_latents_of_infogan(tmp_path: Path) -> None:
    module = game(
        InfoGAN,
        generator=MLPGenerator(12, [8], 8, 1),
        discriminator=MLPDiscriminator([8], 8, 1, auxiliary=8),
        categorical=[2, 4],
        continuous=2,
    )
    latents = module.draw_latents(4000, torch.Generator().manual_seed(0))
    assert latents.shape == (4000, 12)
    assert latents[:, :4].std() == pytest.approx(1, abs=0.05)
    for part, values in (((4, 6), 2), ((6, 10), 4)):
        codes = latents[:, slice(*part)]
        assert torch.equal(codes.sum(1), torch.ones(4000))
        torch.testing.assert_close(codes.mean(0), torch.full((values,), 1 / values), atol=0.03, rtol=0)
    assert latents[:, 10:].abs().max() <= 1
    assert latents[:, 10:].std() == pytest.approx(3**-0.5, abs=0.02)
    assert list(module.code_slices().values()) == [(4, 6), (6, 10), (10, 11), (11, 12)]


def test_infogan_says_what_its_networks_need() -> None:
    with pytest.raises(ValueError, match=r"discriminator\.auxiliary=3: the codes need 12 outputs"):
        game(InfoGAN, generator=MLPGenerator(20, [8], 8, 1), discriminator=MLPDiscriminator([8], 8, 1, auxiliary=3))
    with pytest.raises(ValueError, match=r"generator\.latent_size=12"):
        game(InfoGAN, generator=MLPGenerator(12, [8], 8, 1), discriminator=MLPDiscriminator([8], 8, 1, auxiliary=12))
