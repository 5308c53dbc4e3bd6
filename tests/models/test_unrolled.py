"""Unrolled steps and their gradient."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gan_lightning.budget import Budget
from gan_lightning.models.gan import GAN
from gan_lightning.models.unrolled import Unrolled
from gan_lightning.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lightning.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_lightning.steps import Step
from tests.support import Blobs, batch_of, fit, game


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
