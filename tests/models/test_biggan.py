"""Orthogonal regularisation, truncation and training of BigGAN."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.budget import Budget
from gan_lightning.ema import EMA
from gan_lightning.models.biggan import BigGAN, orthogonal_penalty
from gan_lightning.networks.biggan import BigGANDiscriminator, BigGANGenerator
from gan_lightning.networks.conditional import ConditionalBatchNorm2d, LabelEmbedding
from gan_lightning.sampling import evaluation_labels, evaluation_latents, sampler
from gan_lightning.steps import Step
from tests.support import Large, batch_of, fit, game

HEAD: dict[str, Any] = {"classes": 4, "conditioning": "projection", "spectral_norm": True}


def small(**settings: Any) -> Any:
    torch.manual_seed(0)
    networks = {
        "generator": BigGANGenerator(6, 2, 16, 1, classes=4, shared_size=5, attention="half"),
        "discriminator": BigGANDiscriminator(2, 16, 1, "half", **HEAD),
    }
    return game(BigGAN, **{"classes": 4, **networks, **settings})


def formula(weight: Tensor) -> float:
    """‖WᵀW ⊙ (1 - I)‖² for W with the filters as columns, by its double sum."""
    columns = weight.detach().double().flatten(1).T
    products = columns.T @ columns
    return sum(float(products[i, j]) ** 2 for i in range(len(products)) for j in range(len(products)) if i != j)


class Layers(nn.Module):
    """A wide, a narrow and a square weight, biases, labels and a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 3)
        self.tall = nn.Linear(2, 7)
        self.square = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4, bias=False))
        self.embedding = LabelEmbedding(3, 5)
        self.norm = ConditionalBatchNorm2d(6, 3)
        self.gamma = nn.Parameter(torch.ones(()))


def test_the_penalty_is_the_papers() -> None:
    torch.manual_seed(0)
    network = Layers()
    square = network.square.get_parameter("parametrizations.weight.original")
    weights = [network.convolution.weight, network.tall.weight, square]
    penalty = orthogonal_penalty(network)
    assert penalty.item() == pytest.approx(sum(map(formula, weights)), rel=1e-4)
    penalty.backward()
    for weight in weights:
        rows = weight.detach().flatten(1)
        gradient = 4 * ((rows @ rows.T) * (1 - torch.eye(len(rows)))) @ rows
        torch.testing.assert_close(weight.grad, gradient.view_as(weight), rtol=1e-4, atol=1e-4)
    assert network.embedding.weight.grad is None
    assert network.norm.scale.weight.grad is None


def test_orthogonal_filters_cost_nothing() -> None:
    layer = nn.Linear(6, 4)
    nn.init.orthogonal_(layer.weight, gain=3)  # lengths are free
    assert orthogonal_penalty(layer).item() == pytest.approx(0, abs=1e-6)


def test_the_generators_loss_has_the_penalty_and_the_discriminators_none() -> None:
    batch = {**batch_of(), "fake_label": torch.arange(8) % 4, "label": torch.arange(8) % 4}
    batch["image"], fakes = torch.rand(8, 1, 16, 16), torch.rand(8, 1, 16, 16)
    plain, penalised, rare = (
        small(orthogonal_weight=weight, step=Step(generator_penalty_every=every)).eval()
        for weight, every in ((0.0, 1), (0.5, 1), (0.5, 4))
    )
    with torch.no_grad():
        for module in (plain, penalised, rare):
            module.generator.project.parametrizations.weight.original.add_(0.1)
    penalty = orthogonal_penalty(penalised.generator)
    assert penalty > 0.1
    losses = [module.generator_loss(batch, fakes) for module in (plain, penalised, rare)]
    assert "orthogonal_penalty" not in losses[0]
    torch.testing.assert_close(losses[1]["loss"] - losses[0]["loss"], 0.5 * penalty)
    torch.testing.assert_close(losses[2]["loss"] - losses[0]["loss"], 4 * 0.5 * penalty)
    rare.generator_penalty_due = False
    assert torch.equal(rare.generator_loss(batch, fakes)["loss"], losses[0]["loss"])
    on_discriminator = [module.discriminator_loss(batch, fakes)["loss"] for module in (plain, penalised)]
    assert torch.equal(*on_discriminator)


def test_the_hinge_game_of_the_paper() -> None:
    module = small(orthogonal_weight=0.0).eval()
    labels = torch.arange(8) % 4
    batch = {"image": torch.rand(8, 1, 16, 16), "label": labels, "fake_label": labels.flip(0)}
    fakes = torch.rand(8, 1, 16, 16)
    on_real, on_fake = module.discriminator(batch["image"], labels), module.discriminator(fakes, labels.flip(0))
    expected = (1 - on_real).relu().mean() + (1 + on_fake).relu().mean()
    torch.testing.assert_close(module.discriminator_loss(batch, fakes)["loss"], expected)
    torch.testing.assert_close(module.generator_loss(batch, fakes)["loss"], -on_fake.mean())


def test_data_without_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="classes=0: needs data with labels"):
        game(BigGAN)


def test_statistics_are_those_of_the_latents_that_are_sampled() -> None:
    """Under truncation feature maps are normalised by what truncated latents make of them."""
    module = small(ema=None)
    found = {}
    for truncation in (None, 1.0):
        network, means = sampler(module, truncation=truncation), []
        network.get_submodule("blocks.0.residual.0.norm").register_forward_hook(
            lambda _, given, output, means=means: means.append(output)
        )
        with torch.no_grad():
            network(evaluation_latents(module, 512, 0, truncation), evaluation_labels(module, 512))
        found[truncation] = means[0]
    for normal in found.values():
        assert normal.mean((0, 2, 3)).abs().max() < 0.01
        assert normal.var((0, 2, 3)).sub(1).abs().max() < 0.05
    spreads = [module.sample(64, truncation=truncation, label=0).std(0).mean() for truncation in (None, 1.0)]
    assert spreads[1] < spreads[0]


def test_it_learns_the_classes(tmp_path: Path) -> None:
    """Corners of Blobs are bright by class: samples of each class are nearest to their own."""
    torch.manual_seed(0)
    adam = [lambda p, lr=lr: torch.optim.Adam(p, lr=lr, betas=(0.0, 0.999)) for lr in (1e-3, 4e-3)]
    module = small(
        generator=BigGANGenerator(6, 4, 16, 1, classes=4, shared_size=8),
        discriminator=BigGANDiscriminator(4, 16, 1, **HEAD),
        generator_optimizer=adam[0],
        discriminator_optimizer=adam[1],
        ema=lambda generator: EMA(generator, half_life=500),
    )
    before = module.generator.project.parametrizations.weight.original.detach().clone()
    data = Large(image_size=16, batch_size=32)
    fit(module, data, tmp_path, budget=Budget(generator_steps=120), max_epochs=None)
    assert not torch.equal(before, module.generator.project.parametrizations.weight.original)
    samples = torch.stack([module.sample(16, label=label).mean(0).flatten() for label in range(4)])
    train = data.train.__getitems__(range(len(data.train)))
    real = train["image"].float().flatten(1) / 127.5 - 1
    means = torch.stack([real[train["label"] == label].mean(0) for label in range(4)])
    assert torch.cdist(samples, means).argmin(1).tolist() == [0, 1, 2, 3]
