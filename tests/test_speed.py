"""What makes a run fast changes nothing but rounding: graphs, compiled losses, layouts, fused optimizers, loaders."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning import adversarial, speed
from gan_lightning.commands.train import run
from gan_lightning.data.base import ImageData
from gan_lightning.data.pixels import to_float
from gan_lightning.data.sets import InMemory, Minibatches, Resident
from gan_lightning.ema import EMA
from gan_lightning.errors import UserError
from gan_lightning.imitation import Imitation
from gan_lightning.models.gan import GAN
from gan_lightning.models.wgan_gp import WGANGP
from gan_lightning.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lightning.networks.transposed import Project
from gan_lightning.players import Player
from gan_lightning.speed import make_optimizer, minibatches_per_batch, why_no_graphs
from gan_lightning.steps import Step
from tests.support import Blobs, Watch, fit, game
from tests.test_imitation import untrained


class Replayer:
    """Stands in for CUDA graphs: what is recorded is carried out at every replay, on the tensors of the recording.

    While it is recorded it is carried out, too, and undone: a capture runs all its Python once.
    """

    module: Any

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield

    def record(self, play: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        adapters = getattr(self.module.imitation, "adapters", nn.Module())
        kept = [self.module, adapters, *(player.optimizer for player in self.module.players.values())]
        states = [copy.deepcopy(one.state_dict()) for one in kept]
        try:
            play()
        finally:
            for one, state in zip(kept, states, strict=True):
                one.load_state_dict(state)
        given = dict(self.module.metrics)  # where a graph would write

        def replay() -> None:
            self.replayed += 1
            play()
            for key, value in given.items():
                value.copy_(self.module.metrics[key])

        return replay


@pytest.fixture
def replayer(monkeypatch: pytest.MonkeyPatch) -> Replayer:
    """Makes a fit on the CPU go the way of graphs."""
    found = Replayer()
    monkeypatch.setattr(adversarial, "why_no_graphs", lambda *arguments: None)
    monkeypatch.setattr(adversarial, "CUDARecorder", lambda: found)
    monkeypatch.setattr(speed, "can_capture", lambda factory: False)  # Adam's own way on CUDA devices alone
    return found


def convolutional(rule: Any = GAN, *, norm: Any = "none", **settings: Any) -> Any:
    torch.manual_seed(3)
    return game(
        rule,
        generator=DCGANGenerator(4, 8, 16, 1),
        discriminator=DCGANDiscriminator(8, 16, 1, norm),
        **settings,
    )


class Pictures(Blobs):
    """The blobs, 16×16."""

    def load(self) -> Any:
        train, held_out, classes = super().load()
        return *(InMemory(part.images.repeat(1, 1, 2, 2), part.labels) for part in (train, held_out)), classes


def losses(module: Any, data: ImageData, folder: Path, epochs: int = 3) -> list[dict[str, float]]:
    """Every number that is logged of every minibatch."""
    found: list[dict[str, float]] = []
    watch = Watch(lambda m: found.append({k: float(v) for k, v in m.metrics.items()}) if m.log_due else None)
    fit(module, data, folder, watch, max_epochs=epochs, log_every_n_steps=1)
    return found


def same(found: list[dict[str, float]], expected: list[dict[str, float]], tolerance: float) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance)


# ---- graphs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "settings", "kinds"),
    [
        (GAN, {}, 1),
        (GAN, {"label_noise": 0.2, "ema": lambda g: EMA(g, 50)}, 1),
        (WGANGP, {"step": Step(critic_steps=3)}, 2),
        (GAN, {"generator_schedule": lambda step: 0.9**step}, 1),
    ],
)
def test_graphs_play_the_same_minibatches(
    rule: Any, settings: dict[str, Any], kinds: int, tmp_path: Path, replayer: Replayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphed = replayer.module = game(rule, **settings)
    found = losses(graphed, Blobs(), tmp_path / "graphs")
    assert replayer.recorded == kinds
    assert replayer.replayed == graphed.counters.minibatches - 3 * kinds
    monkeypatch.undo()
    plain = game(rule, **settings)
    same(found, losses(plain, Blobs(), tmp_path / "plain"), 1e-5)  # learning rates are tensors, float32
    for key, value in graphed.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[key], rtol=1e-5, atol=1e-6)


def test_graphs_play_with_a_teacher(tmp_path: Path, replayer: Replayer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its fakes are of what the recording is given, and not of what it was recorded with."""
    wide = ["model=dcgan", "model.generator.latent_size=4", "model.generator.base_channels=16"]
    teacher = untrained(tmp_path / "teacher", *wide, "model.discriminator.base_channels=2")
    graphed = replayer.module = convolutional(imitation=Imitation(teacher))
    found = losses(graphed, Pictures(images=48), tmp_path / "graphs", 1)
    assert replayer.recorded == 1
    assert replayer.replayed == graphed.counters.minibatches - 3
    monkeypatch.undo()
    same(found, losses(convolutional(imitation=Imitation(teacher)), Pictures(images=48), tmp_path / "plain", 1), 1e-5)
    assert found[0].keys() >= {"G/reconstruction", "G/features"}


def test_log_lines_are_a_kind_of_their_own(tmp_path: Path, replayer: Replayer) -> None:
    replayer.module = game()
    fit(replayer.module, Blobs(), tmp_path, max_epochs=8, log_every_n_steps=4)
    assert replayer.recorded == 2


class Broken(GAN):
    """Its capture breaks where one of the players moves."""

    at = "discriminator"
    capturing = False

    def move(self, name: Any) -> None:
        if self.capturing and name == self.at:
            raise RuntimeError("operation not permitted when stream is capturing")
        super().move(name)


@pytest.mark.parametrize("at", ["discriminator", "generator"])
def test_what_cannot_be_captured_is_played(
    at: str, tmp_path: Path, replayer: Replayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replayer.module = game(Broken)
    replayer.module.at = at
    record = replayer.record

    def refuse(play: Callable[[], None]) -> Callable[[], None]:
        replayer.module.capturing = True
        try:
            return record(play)
        finally:
            replayer.module.capturing = False

    monkeypatch.setattr(replayer, "record", refuse)
    found = losses(replayer.module, Blobs(), tmp_path / "refused")
    assert caplog.text.count("step.graphs: minibatches are no CUDA graphs") == 1
    assert "operation not permitted" in caplog.text
    monkeypatch.undo()
    same(found, losses(game(), Blobs(), tmp_path / "plain"), 1e-5)


def test_graphs_that_are_insisted_on(tmp_path: Path, replayer: Replayer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(play: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted")

    monkeypatch.setattr(replayer, "record", refuse)
    with pytest.raises(UserError, match=r"step\.graphs=on: minibatches cannot be captured: operation not permitted"):
        fit(game(step=Step(graphs="on")), Blobs(), tmp_path)


def test_graphs_are_refused_where_they_cannot_be(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"step\.graphs=on: no CUDA device"):
        run(["trainer=debug", "model=gan", "trainer.accelerator=cpu", "step.graphs=on", f"hydra.run.dir={folder}"])
    assert not folder.exists()
    module = game(step=Step(graphs="off"))
    fit(module, Blobs(), tmp_path, max_epochs=1)
    assert why_no_graphs(module, module.trainer) == "step.graphs=off"


def test_a_learning_rate_in_a_graph_is_a_tensor() -> None:
    network = nn.Linear(2, 2)
    player = Player(network, partial(torch.optim.SGD, lr=0.5), lambda step: 0.5**step, None, capturable=True)
    player.apply_settings()
    rate = player.optimizer.param_groups[0]["lr"]
    assert player.set_learning_rate(2) == 0.125
    assert rate is player.optimizer.param_groups[0]["lr"]
    assert float(rate) == 0.125


# ---- compiled losses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [pytest.param(GAN, marks=pytest.mark.slow), WGANGP])
def test_compiled_losses_are_the_same(rule: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = losses(game(rule), Blobs(), tmp_path / "plain", epochs=1)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    found = losses(game(rule, step=Step(compile=True)), Blobs(), tmp_path / "compiled", epochs=1)
    same(found, expected, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [GAN, WGANGP])
def test_compiled_losses_are_the_same_by_inductor(rule: Any, tmp_path: Path) -> None:
    expected = losses(game(rule), Blobs(), tmp_path / "plain", epochs=1)
    same(losses(game(rule, step=Step(compile=True)), Blobs(), tmp_path / "compiled", epochs=1), expected, 1e-4)


# ---- layouts and fused optimizers -----------------------------------------------------------------------------------


def test_layouts_are_the_same_but_for_rounding(tmp_path: Path) -> None:
    found = {}
    for layout in ("on", "off", "auto"):
        module = convolutional(step=Step(channels_last=layout))
        found[layout] = losses(module, Pictures(), tmp_path / layout, epochs=2)
        last = module.discriminator.trunk[2].weight
        assert last.is_contiguous(memory_format=torch.channels_last) == (layout != "off")
    assert found["auto"] == found["on"]
    same(found["on"], found["off"], 2e-3)


def test_a_run_goes_on_in_another_layout(tmp_path: Path) -> None:
    """Fused optimizers read weights and their state in the order of memory: both must have one layout."""
    small = ["model=dcgan", "model.generator.base_channels=8", "model.discriminator.base_channels=8"]
    small += ["trainer.accelerator=cpu", "data.batch_size=16", "scores=off", "samples.every_images=1000000"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run([*small, "step.channels_last=on", "budget.generator_steps=12", f"hydra.run.dir={whole}"]) == 0
    assert run([*small, "step.channels_last=off", "budget.generator_steps=6", f"hydra.run.dir={parts}"]) == 0
    assert run([f"checkpoint={parts}", "step.channels_last=on", "budget.generator_steps=12"]) == 0
    one, other = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (whole, parts))
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(other["state_dict"][key], value, rtol=1e-3, atol=1e-4)


def test_optimizers_are_fused_unless_told_otherwise() -> None:
    parameters = [nn.Parameter(torch.zeros(2))]
    adam = torch.optim.Adam
    assert make_optimizer(partial(adam, lr=0.1), parameters, False).defaults["fused"]
    assert not make_optimizer(partial(adam, lr=0.1, fused=False), parameters, False).defaults["fused"]
    assert not make_optimizer(partial(adam, lr=0.1, foreach=True), parameters, False).defaults["fused"]
    assert "fused" not in make_optimizer(partial(torch.optim.RMSprop, lr=0.1), parameters, False).defaults


def test_an_optimizer_takes_what_another_kind_saved() -> None:
    """Fused and captured ones keep their step count on the device, others on the CPU."""
    saved = Player(nn.Linear(2, 2), partial(torch.optim.Adam, fused=False), lambda step: 1.0, None)
    for parameter in saved.parameters:
        parameter.grad = torch.ones_like(parameter)
    saved.optimizer.step()
    player = Player(nn.Linear(2, 2, device="meta"), torch.optim.Adam, lambda step: 1.0, None)
    player.optimizer.load_state_dict(saved.optimizer.state_dict())
    player.apply_settings()
    for parameter in player.parameters:
        assert {value.device.type for value in player.optimizer.state[parameter].values()} == {"meta"}


def test_penalties_need_a_rule_that_has_one() -> None:
    with pytest.raises(ValueError, match=r"step\.penalty_every=4: GAN has no penalty"):
        game(step=Step(penalty_every=4))


def test_penalties_may_be_rare(tmp_path: Path) -> None:
    """Every third step has one, three times as heavy."""
    found: list[tuple[bool, float]] = []

    class Seen(WGANGP):
        def discriminator_loss(self, batch: Any, fakes: Any) -> Any:
            losses = super().discriminator_loss(batch, fakes)
            extra = losses["loss"] + losses["distance"]
            if "gradient_penalty" in losses:
                extra = extra / losses["gradient_penalty"]
            found.append(("gradient_penalty" in losses, float(extra.detach())))
            return losses

    fit(game(Seen, step=Step(critic_steps=2, penalty_every=3)), Blobs(), tmp_path)
    assert [there for there, _ in found] == [True, False, False] * 2 + [True, False]
    assert [extra for _, extra in found] == pytest.approx([30, 0, 0] * 2 + [30, 0], rel=1e-4, abs=1e-5)


def test_a_projection_is_the_convolution() -> None:
    torch.manual_seed(0)
    project, z = Project(5, 7, 4), torch.randn(3, 5, 1, 1)
    convolution = nn.ConvTranspose2d(5, 7, 4, bias=False)
    convolution.load_state_dict(project.state_dict())
    for layout in (torch.contiguous_format, torch.channels_last):
        found = project.to(memory_format=layout)(z)
        torch.testing.assert_close(found, convolution(z))
        assert found.is_contiguous(memory_format=layout)


# ---- loaders --------------------------------------------------------------------------------------------------------


def test_resident_images_come_as_from_a_loader() -> None:
    data = Blobs(images=50, flip=True)
    data.setup()
    for start, per_batch in ((0, 4), (3, 2), (0, 100)):
        place: dict[str, Any] = {"epoch": 2, "start": start, "per_batch": per_batch, "rank": 1, "world": 2}
        resident = data.minibatches(**place)
        assert isinstance(resident, Resident)
        data.workers = 1
        loader = data.minibatches(**place)
        data.workers = 0
        assert not isinstance(loader, Resident)
        assert isinstance(loader.dataset, Minibatches)
        assert len(resident) == len(loader)
        for one, other in zip(resident, loader, strict=True):
            assert one.keys() == other.keys() == {"image", "label", "flip"}
            assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_device_gets_what_fits() -> None:
    data = Blobs(images=50)
    data.setup()
    elsewhere = torch.device("meta")
    found = data.resident(elsewhere)
    assert found is not None
    assert found.labels.device == elsewhere
    assert data.resident(elsewhere) is found  # once
    data.device_gb = 1e-6
    assert data.resident(elsewhere) is None
    assert data.resident(torch.device("cpu")) is data.train


def test_minibatches_of_a_batch() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert minibatches_per_batch(Step(), cpu, 64, 784) == 8
    assert minibatches_per_batch(Step(), gpu, 64, 784) == 32
    assert minibatches_per_batch(Step(), gpu, 64, 3 * 256**2) == 5  # 256 MiB
    assert minibatches_per_batch(Step(), gpu, 4096, 3 * 1024**2) == 1
    assert minibatches_per_batch(Step(minibatches=3), cpu, 64, 784) == 3


def test_the_banner_says_what_was_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["model=gan", "trainer=debug", "trainer.accelerator=cpu", "scores=off"]
    assert run([*small, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "step 8 minibatches a batch, images in memory, no CUDA graphs (no CUDA device)" in text
    assert "precision 32-true" in text


def test_pixels_are_scaled_in_place() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_float(pixels), pixels.float() / 127.5 - 1)
    assert pixels[0] == 0
