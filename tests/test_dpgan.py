"""Differential privacy: what one image can change is bounded, the noise is as large as promised, ε is Opacus' own."""

import builtins
import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import softplus

from gan_lightning import load
from gan_lightning.budget import Budget
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands.train import run
from gan_lightning.errors import UserError
from gan_lightning.models.dpgan import DPGAN
from gan_lightning.networks.dcgan import DCGANDiscriminator
from gan_lightning.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_lightning.privacy import TOGETHER, cut_gradients
from tests.support import Blobs, Watch, fit, game
from tests.test_resume import COMMON, last, lines, train

opacus = pytest.importorskip("opacus")
from opacus.accountants import PRVAccountant, RDPAccountant  # noqa: E402  # once it is known to be there
from opacus.optimizers import DPOptimizer  # noqa: E402  # the same

pytestmark = pytest.mark.filterwarnings("ignore:Optimal order is the")
BOUND = 0.7
SMALL = ["model=dpgan", "model.generator.base_channels=4", "model.discriminator.base_channels=4"]


def private(**settings: Any) -> Any:
    return game(DPGAN, **{"noise_multiplier": 1.0, "max_gradient_norm": BOUND, **settings})


def poisson(images: int = 64, **base: Any) -> Blobs:
    return Blobs(images, sampling="poisson", **base)


def one_loss(network: Any, weights: Any, image: Tensor) -> tuple[Tensor, Tensor]:
    logit = functional_call(network, weights, (image[None],))
    return softplus(-logit).mean(), logit[0]


def by_hand(network: Any, images: Tensor, label: float) -> list[list[Tensor]]:
    """Every image's gradient of the loss whose target is `label`, by a backward pass each."""
    found = []
    for image in images:
        logit = network(image[None])
        loss = softplus(-logit) if label else softplus(logit)
        found.append(list(torch.autograd.grad(loss.sum(), list(network.parameters()))))
    return found


def norm(gradients: Any) -> float:
    return float(torch.cat([g.flatten() for g in gradients]).norm())


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5, TOGETHER + 3])
def test_gradients_are_cut_sample_by_sample(count: int) -> None:
    torch.manual_seed(0)
    network = DCGANDiscriminator(4, 16, 1, "layer")
    images = torch.randn(count, 1, 16, 16) * torch.linspace(0.1, 3, count).view(-1, 1, 1, 1)
    alone = by_hand(network, images, 1)
    most = float(torch.tensor([norm(gradient) for gradient in alone]).median())  # half of them are longer, but for one
    weights = {name: p.detach() for name, p in network.named_parameters()}
    expected = [torch.zeros_like(p) for p in network.parameters()]
    for gradient in alone:
        for total, g in zip(expected, gradient, strict=True):
            total += g * min(1.0, most / norm(gradient))
    total, losses, logits = cut_gradients(partial(one_loss, network), weights, most, images)
    for ours, theirs in zip(total.values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert norm(total.values()) <= most * count * (1 + 1e-5)
    torch.testing.assert_close(logits, network(images).detach())
    torch.testing.assert_close(losses, softplus(-logits))


def test_the_discriminator_is_told_the_class_of_every_image() -> None:
    torch.manual_seed(0)
    networks = {
        "generator": MLPGenerator(4, [8], 8, 1, classes=3),
        "discriminator": MLPDiscriminator([8], 8, 1, classes=3),
    }
    module = private(classes=3, **networks)
    module.expected = 4
    real, fakes, label, fake_label = torch.rand(4, 1, 8, 8), -torch.rand(4, 1, 8, 8), torch.arange(4) % 3, torch.ones(4)
    batch = {"image": real, "label": label, "fake_label": fake_label.long()}
    found = module.discriminator_loss(batch, fakes)
    torch.testing.assert_close(found["loss_real"], softplus(-module.discriminator(real, label)).mean())
    torch.testing.assert_close(found["loss_fake"], softplus(module.discriminator(fakes, fake_label.long())).mean())


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_no_image_changes_the_sum_by_more_than_the_bound(scale: float) -> None:
    torch.manual_seed(0)
    network = MLPDiscriminator([16], 8, 1, "leaky_relu")
    weights = {name: p.detach() for name, p in network.named_parameters()}
    images = torch.randn(6, 1, 8, 8) * scale

    def loss(weights: Any, image: Tensor) -> tuple[Tensor, Tensor]:  # as Wasserstein's: it never saturates
        return -one_loss(network, weights, image)[1], image.sum()

    whole = cut_gradients(loss, weights, BOUND, images)[0]
    for index in range(6):
        rest = torch.cat([images[:index], images[index + 1 :]])
        without = cut_gradients(loss, weights, BOUND, rest)[0]
        change = norm([whole[name] - without[name] for name in whole])
        assert change <= BOUND * (1 + 1e-5)
        assert scale < 1e4 or change == pytest.approx(BOUND, rel=1e-4)  # and long ones are not lost


def begun(module: Any, images: int, batch_size: int) -> Any:
    """The module as a run would begin it."""
    data = poisson(images, batch_size=batch_size)
    data.setup()
    module.check_run(type("Run", (), {"world_size": 1, "precision": "32-true"}), data)
    return module


def gradients_of(module: Any, batch: Any, fakes: Tensor) -> list[Tensor]:
    module.zero_grad()
    module.discriminator_loss(batch, fakes)["loss"].backward()
    return [p.grad for p in module.discriminator.parameters()]


def test_the_step_is_that_of_opacus() -> None:
    """The same per-sample gradients and the same noise through its DPOptimizer."""
    module = begun(private(), images=64, batch_size=8)
    batch, fakes = {"image": torch.randn(5, 1, 8, 8)}, torch.randn(8, 1, 8, 8).tanh()
    ours = gradients_of(module, batch, fakes)
    network = copy.deepcopy(module.discriminator)
    per_sample = [*by_hand(network, batch["image"], 1), *by_hand(network, fakes, 0)]
    parameters = list(network.parameters())
    for parameter, samples in zip(parameters, zip(*per_sample, strict=True), strict=True):
        parameter.grad_sample = torch.stack(samples)
    optimizer = DPOptimizer(
        torch.optim.SGD(parameters, lr=1.0), noise_multiplier=0.0, max_grad_norm=BOUND, expected_batch_size=8
    )
    optimizer.pre_step()
    sizes = [p.numel() for p in parameters]
    noise = module.draw("privacy", sum(sizes), lambda n, stream: torch.randn(n, generator=stream)).split(sizes)
    for gradient, parameter, drawn in zip(ours, parameters, noise, strict=True):
        assert parameter.grad is not None
        expected = parameter.grad + BOUND * drawn.view_as(parameter) / 8
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("noise_multiplier", "batch_size"), [(0.5, 8), (2.0, 16)])
def test_the_noise_has_the_standard_deviation_promised(noise_multiplier: float, batch_size: int) -> None:
    settings = {"discriminator": MLPDiscriminator([64], 8, 1, "leaky_relu")}  # 4,225 numbers
    module = begun(private(noise_multiplier=noise_multiplier, **settings), images=64, batch_size=batch_size)
    batch, fakes = {"image": torch.randn(3, 1, 8, 8)}, torch.randn(batch_size, 1, 8, 8)
    noisy = torch.cat([g.flatten() for g in gradients_of(module, batch, fakes)])
    module.counters.minibatches = 1
    again = torch.cat([g.flatten() for g in gradients_of(module, batch, fakes)])
    deviation = float((noisy - again).std() / 2**0.5)
    assert deviation == pytest.approx(noise_multiplier * BOUND / batch_size, rel=0.05)
    assert len(noisy) == 4225


def test_an_empty_minibatch_moves_by_fakes_and_noise() -> None:
    module = begun(private(), images=64, batch_size=8)
    losses = module.discriminator_loss({"image": torch.zeros(0, 1, 8, 8)}, torch.randn(8, 1, 8, 8))
    assert losses["loss_real"] == 0
    assert losses["loss"].isfinite()
    assert losses["loss"] == losses["loss_fake"]


def test_the_discriminator_keeps_its_names_and_the_generator_leaves_it_alone() -> None:
    module, plain = private(), game()
    assert set(module.state_dict()) == set(plain.state_dict())


# ---- Poisson sampling -----------------------------------------------------------------------------------------------


def drawn(data: Any, epoch: int = 0, start: int = 0, per_batch: int = 1) -> list[list[int]]:
    return [index[0].tolist() for index in data.minibatches(epoch=epoch, start=start, per_batch=per_batch).batches]


def test_every_image_is_drawn_with_the_same_probability_by_itself() -> None:
    data = poisson(200, batch_size=20)
    data.setup()
    epochs = [drawn(data, epoch) for epoch in range(300)]
    assert {len(epoch) for epoch in epochs} == {10}
    there = torch.zeros(3000, 200)
    for row, indices in zip(there, (indices for epoch in epochs for indices in epoch), strict=True):
        assert len(set(indices)) == len(indices)
        row[indices] = 1
    sizes = there.sum(1)
    assert float(there.mean(0).sub(0.1).abs().max()) < 5 * (0.1 * 0.9 / 3000) ** 0.5
    assert float(sizes.var()) == pytest.approx(200 * 0.1 * 0.9, rel=0.15)  # Binomial: fixed sizes have 0
    pairs = (there.T @ there / 3000)[~torch.eye(200, dtype=torch.bool)]
    assert float(pairs.mean()) == pytest.approx(0.01, rel=0.02)


def test_draws_follow_from_seed_and_position_alone() -> None:
    data, again, other = poisson(), poisson(), poisson(seed=1)
    for one in (data, again, other):
        one.setup()
    assert drawn(data, 3) == drawn(again, 3, per_batch=4) != drawn(other, 3)
    assert drawn(data, 3)[5:] == drawn(data, 3, start=5)
    assert drawn(data, 3) != drawn(data, 4)


@pytest.mark.parametrize("workers", [0, 1])
def test_loaded_and_resident_minibatches_are_the_same(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = poisson(batch_size=2, flip=True)  # one minibatch in seven is empty
    data.setup()
    resident = list(data.minibatches(epoch=0, start=0, per_batch=1))
    monkeypatch.setattr(data, "resident", lambda device: None)
    data.workers = workers
    loaded = list(data.minibatches(epoch=0, start=0, per_batch=1))
    torch.testing.assert_close(loaded, resident)
    assert min(batch["image"].shape[1] for batch in loaded) == 0
    assert all(data.on_after_batch_transfer(batch, 0)["image"].dim() == 5 for batch in loaded)


# ---- runs -----------------------------------------------------------------------------------------------------------


def test_a_run_spends_what_the_accountant_says(tmp_path: Path) -> None:
    """Two epochs, small enough for empty minibatches; images are counted as expected, fakes are always as many."""
    module, data = private(noise_multiplier=1.3, delta=1e-3), poisson(batch_size=2)
    seen: list[int] = []
    module.generator.register_forward_pre_hook(lambda network, inputs: seen.append(len(inputs[0])))
    logged: list[float] = []
    fit(module, data, tmp_path, Watch(lambda m: logged.append(m.metrics["D/epsilon"])), max_epochs=2)
    accountant = RDPAccountant()
    for step in range(64):
        accountant.step(noise_multiplier=1.3, sample_rate=2 / 64)
        assert logged[step] == pytest.approx(accountant.get_epsilon(1e-3), rel=1e-9)
    assert module.accountant.history == [(1.3, 2 / 64, 64)]
    assert module.counters.images == 128
    assert set(seen) == {2}
    prv = PRVAccountant()  # another method, numerically exact: Rényi's bound is above it, and not by much
    prv.history = accountant.history
    assert 0.7 * logged[-1] < prv.get_epsilon(1e-3) < logged[-1] + 0.01


@pytest.mark.parametrize("most", [2.0, 2.5])
def test_a_run_ends_before_the_step_that_would_spend_too_much(most: float, tmp_path: Path) -> None:
    module = private(max_epsilon=most)
    fit(module, poisson(), tmp_path, max_epochs=1000)
    steps = module.counters.discriminator_steps
    assert module.accountant.history == [(1.0, 8 / 64, steps)]
    assert module.accountant.epsilon(0.1 / 64) <= most < module.accountant.epsilon(0.1 / 64, (1.0, 8 / 64, 1))


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, *SMALL, f"budget.images={17 * 128}")
    train(parts, *SMALL, f"budget.images={5 * 128}")
    assert run([f"checkpoint={parts}", f"budget.images={17 * 128}"]) == 0
    torch.testing.assert_close(last(parts), last(whole), rtol=0, atol=0)
    assert lines(parts) == lines(whole)
    spent = [read_checkpoint(folder / "checkpoints" / "last.ckpt")["privacy"] for folder in (whole, parts)]
    assert spent[0] == spent[1]
    assert spent[0]["history"] == [[1.0, 128 / 1438, 17]]
    assert load(parts).sample(2).shape == (2, 1, 16, 16)


def test_a_continued_run_with_other_values_adds_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "run"
    train(folder, *SMALL, f"budget.images={3 * 128}")
    changes = ["model.noise_multiplier=2.0", "data.batch_size=64", "model.delta=1e-4", f"budget.images={7 * 64}"]
    assert run([f"checkpoint={folder}", *changes]) == 0
    privacy = read_checkpoint(folder / "checkpoints" / "last.ckpt")["privacy"]
    accountant = RDPAccountant()
    accountant.history = [(1.0, 128 / 1438, 3), (2.0, 64 / 1438, 1)]
    assert privacy["history"] == [list(stretch) for stretch in accountant.history]
    assert privacy["epsilon"] == pytest.approx(accountant.get_epsilon(1e-4))
    less = ["model.max_epsilon=0.9", "budget.images=null", "model.noise_multiplier=20"]
    assert run([f"checkpoint={folder}", *less]) == 0  # nothing is left of it
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["privacy"]["history"] == privacy["history"]
    assert "seed=0" in caplog.text
    assert "model.max_epsilon=0.9: another step would spend more" in caplog.text


@pytest.mark.parametrize(
    "arguments",
    [
        ["model.classes=10", "+model.generator.classes=10", "+model.discriminator.classes=10"],
        ["model.augment=[color,translation,cutout]", "model.instance_noise=0.1"],
        ["trainer.precision=bf16-mixed"],
        ["step.critic_steps=3", "step.generator_batch=2", "model.ema=null"],
        ["model.loss=wasserstein", "model.discriminator.norm=layer", "+model.discriminator.spectral_norm=true"],
        ["data.batch_size=1500"],  # every image in every minibatch
    ],
)
def test_what_it_works_together_with(arguments: list[str], tmp_path: Path) -> None:
    train(tmp_path / "run", *SMALL, *arguments, "budget.generator_steps=2", "scores=off")
    assert all(p.isfinite().all() for p in load(tmp_path / "run").parameters())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["model.discriminator.norm=batch"], "batch norm"),
        (["+model.discriminator.pack=2"], r"discriminator.pack=2"),
        (["+model.discriminator.minibatch_kernels=3"], r"discriminator.minibatch_kernels=3"),
        (["model.loss=relativistic"], "model.loss=relativistic"),
        (["+model.label_noise=0.1"], "model.label_noise=0.1"),
        (["model.delta=0"], "model.delta=0"),
        (["model.noise_multiplier=0"], "model.noise_multiplier=0"),
        (["model.max_epsilon=0.001"], "model.max_epsilon=0.001"),
        (["step.accumulate=2"], "step.accumulate=2"),
        (["step.discriminator_clip=1"], "step.discriminator_clip=1"),
        (["step.compile=true"], "step.compile=true"),
        (["step.minibatches=4"], "step.minibatches=4"),
        (["step.graphs=on"], "step.graphs=on"),
        (["step.penalty_every=2"], "step.penalty_every=2"),
        (["model.ada.pipeline=b"], r"model\.ada\.target=0\.6"),
        (["trainer.devices=2"], "trainer.devices=2"),
        (["data.sampling=shuffled"], "data.sampling=shuffled"),
        (["model=dcgan", "data.sampling=poisson"], "data.sampling=poisson"),
    ],
)
def test_what_it_refuses(arguments: list[str], named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=named):
        run([*COMMON, *SMALL, f"hydra.run.dir={tmp_path / 'run'}", *arguments])
    assert not (tmp_path / "run").exists()


def test_16_bit_with_a_loss_scale_is_refused() -> None:
    data = poisson()
    data.setup()
    with pytest.raises(UserError, match="precision=16-mixed"):
        private().check_run(type("Run", (), {"world_size": 1, "precision": "16-mixed"}), data)


def test_weights_of_another_run_are_pointed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path / "first", *SMALL, "budget.generator_steps=1", "scores=off")
    train(tmp_path / "second", *SMALL, "budget.generator_steps=1", "scores=off", f"weights={tmp_path / 'first'}")
    assert "epsilon leaves out" in caplog.text


def test_without_opacus_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.partition(".")[0] == "opacus":
            raise ImportError(name)
        return found(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r'pip install -e "\.\[privacy\]"') as raised:
        run([*COMMON, *SMALL, f"hydra.run.dir={tmp_path / 'run'}"])
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_it_learns_under_noise(tmp_path: Path) -> None:
    """The bright corners of the pictures are found again; an untrained generator has none."""

    def contrast(module: Any) -> float:
        corners = module.sample(256, ema=False).unflatten(2, (2, 4)).unflatten(4, (2, 4)).mean((1, 3, 5)).flatten(1)
        return float((corners.max(1).values - corners.median(1).values).mean())

    module = private(noise_multiplier=0.5)
    before = contrast(module)
    fit(
        module,
        poisson(512, batch_size=32),
        tmp_path,
        budget=Budget(generator_steps=600),
        max_epochs=None,
        log_every_n_steps=1000,
    )
    assert contrast(module) > 0.5 > 5 * before
