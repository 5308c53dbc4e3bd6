"""What makes each rule itself."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gan_lightning.budget import Budget
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.commands.train import run
from gan_lightning.errors import UserError
from gan_lightning.models.acgan import ACGAN
from gan_lightning.models.began import BEGAN
from gan_lightning.models.cgan import ConditionalGAN
from gan_lightning.models.dragan import DRAGAN
from gan_lightning.models.feature_matching import FeatureMatching
from gan_lightning.models.gan import GAN
from gan_lightning.models.infogan import InfoGAN
from gan_lightning.models.unrolled import Unrolled
from gan_lightning.models.wgan import WGAN
from gan_lightning.models.wgan_gp import WGANGP
from gan_lightning.models.zero_centred import ZeroCentred
from gan_lightning.networks.began import BEGANDiscriminator, BEGANGenerator
from gan_lightning.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lightning.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_lightning.steps import Step
from tests.support import Blobs, Watch, fit, game


def batch_of(count: int = 8, **more: Tensor) -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(0)
    return {"image": torch.rand(count, 1, 8, 8, generator=stream) * 2 - 1, **more}


def fakes_of(count: int = 8) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


# ---- WGAN -----------------------------------------------------------------------------------------------------------


def test_clipped_weights_stay_in_range(tmp_path: Path) -> None:
    largest: list[float] = []
    slow = partial(torch.optim.RMSprop, lr=5e-3)
    module = game(WGAN, clip=0.02, generator_optimizer=slow, discriminator_optimizer=slow)
    assert max(float(p.detach().abs().max()) for p in module.discriminator.parameters()) <= 0.02  # from the start
    watch = Watch(lambda m: largest.append(max(float(p.detach().abs().max()) for p in m.discriminator.parameters())))
    fit(module, Blobs(), tmp_path, watch, max_epochs=2)
    assert largest == pytest.approx([0.02] * 16)
    assert max(float(p.detach().abs().max()) for p in module.generator.parameters()) > 0.02


def test_bursts_of_critic_steps(tmp_path: Path) -> None:
    """4 critic steps before the generator's steps 0 and 1 and 3, else 2."""
    seen: list[tuple[int, int]] = []
    step = Step(critic_steps=2, critic_burst=4, burst_first=2, burst_every=3)
    watch = Watch(lambda m: seen.append((m.counters.discriminator_steps, m.counters.generator_steps)))
    fit(game(WGAN, step=step), Blobs(), tmp_path, watch, max_epochs=2)  # 16 minibatches
    moved = [steps for (steps, g), (_, before) in zip(seen[1:], seen, strict=False) if g > before]
    assert moved == [4, 8, 10, 14, 16]


def test_bursts_go_on_where_a_run_was_interrupted(tmp_path: Path) -> None:
    step = Step(critic_steps=2, critic_burst=5)
    whole = game(WGAN, step=step)
    fit(whole, Blobs(), tmp_path / "whole", max_epochs=2)
    part = game(WGAN, step=step)
    part.config = {}
    fit(part, Blobs(), tmp_path, Checkpoints(), budget=Budget(images=8 * 7), max_epochs=2)  # in the second burst
    rest = game(WGAN, step=step)
    fit(rest, Blobs(), tmp_path, checkpoint=tmp_path / "checkpoints" / "last.ckpt", max_epochs=2)
    assert replace(rest.counters, seconds=0) == replace(whole.counters, seconds=0)
    torch.testing.assert_close(rest.state_dict(), whole.state_dict(), rtol=0, atol=0)


# ---- larger generator minibatches -----------------------------------------------------------------------------------


def test_the_generator_moves_on_a_larger_minibatch_of_its_own(tmp_path: Path) -> None:
    module, seen = game(step=Step(critic_steps=2, generator_batch=3)), []
    module.generator.register_forward_pre_hook(lambda _, inputs: seen.append((len(inputs[0]), inputs[0][0, 0].item())))
    fit(module, Blobs(), tmp_path, budget=Budget(images=32))
    assert [count for count, _ in seen] == [8, 8, 24, 8, 8, 24]
    assert len({first for _, first in seen}) == 6  # latents of its own


def test_losses_that_pair_images_refuse_larger_minibatches() -> None:
    with pytest.raises(ValueError, match=r"loss=relativistic.*generator_batch"):
        game(loss="relativistic", step=Step(generator_batch=2))


# ---- penalties ------------------------------------------------------------------------------------------------------


def linear(slope: float = 3.0) -> MLPDiscriminator:
    """A discriminator whose gradient is `slope` at every one of 64 pixels, everywhere: its norm is 8 · slope."""
    network = MLPDiscriminator([], 8, 1)
    nn.init.constant_(network.head.weight, slope)
    nn.init.zeros_(network.head.bias)
    return network


def test_dragan_looks_near_real_images() -> None:
    module, seen = game(DRAGAN, discriminator=linear(), spread=0.5, penalty_weight=2.0), []
    module.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    batch = batch_of()
    found = module.discriminator_loss(batch, fakes_of())
    assert float(found["gradient_penalty"]) == pytest.approx((8 * 3 - 1) ** 2, rel=1e-5)
    plain = game(GAN, discriminator=linear()).discriminator_loss(batch, fakes_of())["loss"]
    assert float(found["loss"] - plain) == pytest.approx(2 * 23**2, rel=1e-5)
    away = seen[2] - batch["image"]  # where the penalty looked
    assert float(away.min()) >= 0
    assert 0.9 * 0.5 * float(batch["image"].std()) < float(away.max()) <= 0.5 * float(batch["image"].std())


@pytest.mark.parametrize(("r1", "r2"), [(2.0, 0.0), (0.0, 2.0), (1.0, 3.0)])
def test_zero_centred_penalties(r1: float, r2: float) -> None:
    module = game(ZeroCentred, discriminator=linear(), r1_weight=r1, r2_weight=r2)
    found = module.discriminator_loss(batch_of(), fakes_of())
    plain = game(GAN, loss="relativistic", discriminator=linear()).discriminator_loss(batch_of(), fakes_of())["loss"]
    assert float(found["loss"] - plain) == pytest.approx((r1 + r2) / 2 * 9 * 64, rel=1e-5)
    assert ("r1" in found, "r2" in found) == (r1 > 0, r2 > 0)


@pytest.mark.parametrize("rule", [WGANGP, DRAGAN, ZeroCentred])
def test_rare_penalties_weigh_more(rule: Any) -> None:
    """Lazy regularisation: every fourth time, four times as much."""
    losses = [
        game(rule, discriminator=linear(), step=Step(penalty_every=every)).discriminator_loss(batch_of(), fakes_of())
        for every in (1, 4)
    ]
    plain = game(rule, discriminator=linear())
    plain.penalty_due = False
    without = plain.discriminator_loss(batch_of(), fakes_of())["loss"]
    once, rare = (found["loss"] - without for found in losses)
    torch.testing.assert_close(rare, 4 * once)


@pytest.mark.parametrize("rule", [WGANGP, DRAGAN, ZeroCentred])
@pytest.mark.parametrize(
    ("discriminator", "message"),
    [(DCGANDiscriminator(2, 16, 1), "batch norm"), (MLPDiscriminator([4], 8, 1, minibatch_kernels=2), "minibatch")],
)
def test_penalties_refuse_what_mixes_samples(rule: Any, discriminator: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=f"discriminator: {message}.* mixes samples"):
        game(rule, discriminator=copy.deepcopy(discriminator))


def test_penalties_of_packs_are_of_whole_packs() -> None:
    packed = MLPDiscriminator([], 8, 1, pack=2)
    nn.init.constant_(packed.head.weight, 3.0)
    found = game(ZeroCentred, discriminator=packed, r1_weight=1.0, r2_weight=0.0)
    assert float(found.discriminator_loss(batch_of(), fakes_of())["r1"]) == pytest.approx(9 * 128, rel=1e-5)


# ---- packs and minibatches ------------------------------------------------------------------------------------------


def test_a_packed_discriminator_sees_images_together(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, images = MLPDiscriminator([16], 8, 1, pack=4), fakes_of(8)
    logits = network(images)
    assert logits.shape == (2,)
    changed = images.clone()
    changed[5] += 1  # of the second pack
    assert torch.equal(network(changed)[0], logits[0])
    assert not torch.equal(network(changed)[1], logits[1])
    seen = []
    module = game(discriminator=network)
    network.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    fit(module, Blobs(), tmp_path, budget=Budget(images=8))
    assert seen == [(2, 4 * 64)] * 3


@pytest.mark.parametrize("outputs", [{"classes": 3}, {"auxiliary": 3}])
def test_packs_have_no_labels(outputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pack=2"):
        MLPDiscriminator([4], 8, 1, pack=2, **outputs)


def test_minibatch_features_change_when_a_neighbour_changes() -> None:
    torch.manual_seed(0)
    network, images = MLPDiscriminator([16], 8, 1, minibatch_kernels=3, minibatch_dims=2), fakes_of(4)
    changed = images.clone()
    changed[3] += 1
    assert not torch.equal(network(images)[0], network(changed)[0])
    alone = MLPDiscriminator([16], 8, 1)
    assert torch.equal(alone(images)[0], alone(changed)[0])


def test_minibatch_features_follow_their_formula() -> None:
    """o(x_i)_b = Σ_{j ≠ i} exp(-‖M_i,b - M_j,b‖₁)."""
    torch.manual_seed(0)
    network = MLPDiscriminator([16], 8, 1, minibatch_kernels=3, minibatch_dims=2)
    layer, features = network.minibatch, torch.randn(4, 16)
    assert layer is not None
    matrices = (features @ layer.tensor).view(4, 3, 2)
    expected = torch.zeros(4, 3)
    for i in range(4):
        for j in range(4):
            for b in range(3):
                if i != j:
                    expected[i, b] += torch.exp(-(matrices[i, b] - matrices[j, b]).abs().sum())
    torch.testing.assert_close(layer(features), expected)


# ---- feature matching -----------------------------------------------------------------------------------------------


def test_feature_matching_compares_means_of_features() -> None:
    module, real, fakes = game(FeatureMatching), batch_of(), fakes_of()
    found = module.generator_loss(real, fakes)["loss"]
    trunk = module.discriminator.trunk
    expected = (trunk(real["image"].flatten(1)).mean(0) - trunk(fakes.flatten(1)).mean(0)).square().sum()
    torch.testing.assert_close(found, expected)
    assert float(module.generator_loss(real, real["image"])["loss"].detach()) == 0
    with pytest.raises(ValueError, match="Linear has no `features`"):
        game(FeatureMatching, discriminator=nn.Linear(64, 1))


# ---- classes and codes ----------------------------------------------------------------------------------------------


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


def test_spectral_norm_is_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator(4, 16, 1, "none", classes=4, conditioning="projection", spectral_norm=True)
    generator = DCGANGenerator(4, 4, 16, 1, classes=4, conditioning="batch_norm")
    module = game(generator=generator, discriminator=discriminator, classes=4)
    fit(module, Large(image_size=16), tmp_path, max_epochs=3)
    module.train()
    layers = [m for m in discriminator.modules() if hasattr(m, "parametrizations")]
    assert len(layers) == 4  # two convolutions, the head and the projection
    for layer in layers:
        weight: Any = layer.weight
        assert float(torch.linalg.matrix_norm(weight.flatten(1), 2)) == pytest.approx(1, abs=0.1)


class Large(Blobs):
    """Blobs of 16 pixels."""

    def load(self) -> Any:
        train, held_out, classes = super().load()
        for part in (train, held_out):
            part.images = part.images.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return train, held_out, classes


# ---- unrolled -------------------------------------------------------------------------------------------------------


def unrolled(steps: int, **settings: Any) -> Any:
    """A smooth game in double precision with moments, so that differences say something; losses are in float32."""
    torch.manual_seed(0)
    networks = {"generator": MLPGenerator(4, [16], 8, 1, "tanh"), "discriminator": MLPDiscriminator([16], 8, 1, "tanh")}
    module = game(Unrolled, unrolled_steps=steps, **networks, **settings).double()
    module.configure_optimizers()
    generator = torch.Generator().manual_seed(3)
    for player in module.players.values():  # moments as after some steps
        for parameter in player.parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.double) / 10
        player.optimizer.step()
        player.forget_gradients()
    return module


def minibatch(module: Any) -> tuple[dict[str, Tensor], Tensor]:
    batch = {key: value.double() for key, value in batch_of().items()}
    latents = torch.randn(8, 4, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    return batch, latents


def test_unrolling_leaves_the_discriminator_as_it_is() -> None:
    module = unrolled(3)
    batch, latents = minibatch(module)
    player = module.players["discriminator"]
    before = copy.deepcopy((module.discriminator.state_dict(), player.optimizer.state_dict()))
    with player.frozen():
        module.generator_loss(batch, module.generate(batch, latents))["loss"].backward()
    torch.testing.assert_close(
        (module.discriminator.state_dict(), player.optimizer.state_dict()), before, rtol=0, atol=0
    )
    assert all(parameter.grad is None for parameter in player.parameters)
    assert module._ahead is None


def test_unrolled_steps_are_those_of_the_optimizer() -> None:
    """The discriminator after K unrolled steps is the one that Adam makes in K steps on the same minibatch."""
    module = unrolled(3)
    batch, latents = minibatch(module)
    fakes = module.generate(batch, latents).detach()
    ahead = module.unroll(batch, fakes)
    module._ahead = None
    optimizer = module.players["discriminator"].optimizer
    for _ in range(3):
        optimizer.zero_grad()
        module.discriminator_loss(batch, fakes)["loss"].backward()
        optimizer.step()
    for name, weight in module.discriminator.named_parameters():
        torch.testing.assert_close(ahead[name], weight, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 5])
def test_the_unrolled_gradient_is_that_of_finite_differences(steps: int) -> None:
    module = unrolled(steps, discriminator_optimizer=partial(torch.optim.Adam, lr=4e-3))
    batch, latents = minibatch(module)
    weights = {name: p.detach().clone().requires_grad_() for name, p in module.generator.named_parameters()}

    def loss(changed: dict[str, Tensor]) -> Tensor:
        return module.generator_loss(batch, functional_call(module.generator, changed, (latents,)))["loss"]

    gradients = torch.autograd.grad(loss(weights), list(weights.values()))
    torch.manual_seed(4)
    direction = {name: torch.randn_like(weight) for name, weight in weights.items()}
    ends = [
        loss({name: weight.detach() + sign * 1e-3 * direction[name] for name, weight in weights.items()})
        for sign in (1, -1)
    ]
    expected = float((ends[0] - ends[1]).detach()) / 2e-3
    found = sum(float((g * d).sum()) for g, d in zip(gradients, direction.values(), strict=True))
    assert found == pytest.approx(expected, rel=2e-3)
    # the check can tell it from the gradient that does not go through the unrolled steps
    module._ahead = {n: w.detach() for n, w in module.unroll(batch, module.generate(batch, latents)).items()}
    fakes = functional_call(module.generator, weights, (latents,))
    short = torch.autograd.grad(GAN.generator_loss(module, batch, fakes)["loss"], list(weights.values()))
    partly = sum(float((g * d).sum()) for g, d in zip(short, direction.values(), strict=True))
    assert abs(partly - expected) > 0.01 * abs(expected)


@pytest.mark.parametrize("loss", ["minimax", "nonsaturating", "relativistic"])
def test_the_unrolled_generator_plays_the_whole_game(loss: Any) -> None:
    """Eq. 10: D's term on real images, too, as the fakes change what the discriminator will think of them."""
    module = unrolled(3, loss=loss)
    batch, latents = minibatch(module)
    found = module.generator_loss(batch, module.generate(batch, latents))["loss"]
    fakes = module.generate(batch, latents)
    module._ahead = module.unroll(batch, fakes)
    value = module.discriminator_loss(batch, fakes)
    expected = {
        "minimax": -value["loss"],
        "nonsaturating": nn.functional.softplus(-module.judge(fakes, None).float()).mean() - value.get("loss_real", 0),
        "relativistic": module.pair.generator(module.judge(batch["image"], None), module.judge(fakes, None))["loss"],
    }[loss]
    weights = list(module.generator.parameters())
    gradients = [torch.autograd.grad(value, weights) for value in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_unrolling_leaves_statistics_as_they_are() -> None:
    module = game(Unrolled, generator=DCGANGenerator(4, 2, 16, 1), discriminator=DCGANDiscriminator(2, 16, 1))
    module.configure_optimizers()
    before = copy.deepcopy(module.discriminator.state_dict())
    images = torch.rand(4, 1, 16, 16)
    module.unroll({"image": images}, -images)
    torch.testing.assert_close(module.discriminator.state_dict(), before, rtol=0, atol=0)


def test_without_unrolled_steps_it_is_the_gan(tmp_path: Path) -> None:
    ends = []
    for rule, settings in ((GAN, {}), (Unrolled, {"unrolled_steps": 0})):
        module = game(rule, **settings)
        fit(module, Blobs(), tmp_path / rule.__name__, max_epochs=2)
        ends.append(module.state_dict())
    torch.testing.assert_close(*ends, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("optimizer", "step", "message"),
    [
        (partial(torch.optim.SGD, lr=0.1), Step(), r"discriminator_optimizer: .*Adam"),
        (partial(torch.optim.AdamW, lr=0.1), Step(), r"discriminator_optimizer: .*Adam"),
        (partial(torch.optim.Adam, lr=0.1, weight_decay=0.5), Step(), r"discriminator_optimizer\.weight_decay=0\.5"),
        (partial(torch.optim.Adam, lr=0.1), Step(discriminator_clip=1.0), r"step\.discriminator_clip=1\.0"),
        (partial(torch.optim.Adam, lr=0.1), Step(compile=True), r"step\.compile=true"),
    ],
)
def test_unrolling_refuses_steps_that_it_does_not_make(optimizer: Any, step: Step, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        game(Unrolled, discriminator_optimizer=optimizer, step=step)


def test_unrolled_steps_know_noisy_labels_of_a_larger_minibatch(tmp_path: Path) -> None:
    module = game(Unrolled, unrolled_steps=2, label_noise=0.3, step=Step(generator_batch=2))
    fit(module, Blobs(), tmp_path, budget=Budget(images=16))
    assert module.counters.generator_steps == 2


# ---- BEGAN ----------------------------------------------------------------------------------------------------------


def boundary(**settings: Any) -> Any:
    torch.manual_seed(0)
    networks = {"generator": BEGANGenerator(4, 4, 16, 1), "discriminator": BEGANDiscriminator(4, 4, 16, 1)}
    return game(BEGAN, **networks, **settings)


def test_began_weighs_fakes_by_k(tmp_path: Path) -> None:
    module, expected, seen = boundary(gain=0.5), [0.0], []

    def follow(module: Any) -> None:
        error = 0.5 * module.metrics["D/loss_real"] - module.metrics["G/loss"]
        expected.append(min(1.0, max(0.0, expected[-1] + 0.5 * float(error))))
        seen.append(float(module.k))
        assert float(module.metrics["D/k"]) == pytest.approx(expected[-2], abs=1e-6)  # that of the loss

    fit(module, Large(image_size=16), tmp_path, Watch(follow), max_epochs=2)
    assert seen == pytest.approx(expected[1:], abs=1e-6)
    batch, fakes = {"image": torch.rand(4, 1, 16, 16)}, torch.rand(4, 1, 16, 16)
    module.k.fill_(0.25)
    found = {key: value.detach() for key, value in module.discriminator_loss(batch, fakes).items()}
    assert float(found["loss"]) == pytest.approx(float(found["loss_real"] - 0.25 * found["loss_fake"]), rel=1e-5)
    real = float(found["loss_real"])
    assert float(found["convergence"]) == pytest.approx(real + abs(0.5 * real - float(found["loss_fake"])), rel=1e-5)


def test_began_follows_whole_accumulated_steps(tmp_path: Path) -> None:
    ends = []
    for accumulate in (1, 2):
        module = boundary(gain=0.05, step=Step(accumulate=accumulate))
        fit(module, Large(image_size=16, batch_size=8 // accumulate), tmp_path / str(accumulate), max_epochs=2)
        ends.append(module.k)
    assert 0 < float(ends[0]) < 1
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)


def test_began_judges_by_how_well_it_restores() -> None:
    module, images = boundary(), torch.rand(3, 1, 16, 16)
    expected = (module.discriminator(images) - images).abs().flatten(1).mean(1)
    torch.testing.assert_close(module.judge(images, None), expected)
    latents = module.draw_latents(1000, torch.Generator().manual_seed(0))
    assert latents.abs().max() <= 1
    assert latents.std() == pytest.approx(3**-0.5, abs=0.02)
    assert module.draw_latents(100, torch.Generator(), 0.3).abs().max() <= 0.3


def test_minibatches_hold_whole_packs(tmp_path: Path) -> None:
    arguments = ["model=pacgan", "trainer=debug", "data.batch_size=9", f"hydra.run.dir={tmp_path / 'run'}"]
    with pytest.raises(UserError, match=r"data\.batch_size=9: is no multiple of model\.discriminator\.pack=2"):
        run(arguments)
    assert not (tmp_path / "run").exists()
