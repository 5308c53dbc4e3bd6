"""A student of a teacher: its losses against plain formulas, what is trained and what is not, and what runs keep."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lightning import load, sampling
from gan_lightning.adversarial import images_of
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands.train import Settings, run
from gan_lightning.compression.results import store_run
from gan_lightning.config import check, compose, instantiate
from gan_lightning.errors import UserError
from gan_lightning.imitation import Imitation, evenly, inputs, played, stages
from tests.support import Blobs, fit

DIGITS = (1, 16, 16)
DCGAN = ["model=dcgan", "model.generator.latent_size=8", "model.discriminator.base_channels=4", "data.batch_size=32"]
QUIET = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "samples.count=4", "scores=off"]


def configured(*arguments: str) -> dict[str, Any]:
    return check(compose("train", list(arguments), Settings), Settings)


def untrained(folder: Path, *arguments: str, seed: int = 5) -> Path:
    """A run of a model that has only been built."""
    torch.manual_seed(seed)
    config = configured(*arguments)
    module = instantiate(config["model"])
    store_run(folder, config, module, module)
    return folder


def student_of(teacher: Path, *arguments: str, shape: tuple[int, ...] = DIGITS, **settings: Any) -> Any:
    """A module that has begun to learn from the teacher."""
    torch.manual_seed(0)
    module = instantiate({**configured(*arguments)["model"], "imitation": node(teacher, **settings)})
    module.imitation.begin(module, shape)
    return module


def node(teacher: Path, **settings: Any) -> dict[str, Any]:
    return {"_target_": "gan_lightning.imitation.Imitation", "teacher": str(teacher), **settings}


def given(teacher: Path, *settings: str) -> str:
    """The same for the command line."""
    name = str(teacher).replace("'", "")
    return f"model.imitation={{_target_: gan_lightning.imitation.Imitation, teacher: '{name}'{''.join(settings)}}}"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("teacher") / "run", *DCGAN, "model.generator.base_channels=8")


@pytest.fixture
def student(teacher: Path) -> Any:
    return student_of(teacher, *DCGAN, "model.generator.base_channels=2", reconstruction=3, features=0.5)


def losses_of(module: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
    """What is added to a loss of 7."""
    return module.imitation.added(module, batch, module.imitation.study(module, batch), {"loss": torch.tensor(7.0)})


# ---- the losses -----------------------------------------------------------------------------------------------------


def test_the_losses_are_the_papers(student: Any, teacher: Path) -> None:
    batch = inputs(student, DIGITS, 5)
    found = losses_of(student, batch)
    theirs: Any = sampling.sampler(load(teacher))
    ours = student.generator
    with torch.no_grad():
        z = batch["latents"][:, :, None, None]
        apart = (theirs.layers(z) - ours.layers(z)).abs().mean()
        features = 0.0
        for end, adapter in ((3, student.imitation.adapters[0]), (6, student.imitation.adapters[1])):
            mapped = torch.einsum("oi,nihw->nohw", adapter.weight[:, :, 0, 0], ours.layers[:end](z))
            mapped = mapped + adapter.bias[:, None, None]
            features += (mapped - theirs.layers[:end](z)).square().mean()
    assert student.imitation.layers == ["layers.2", "layers.5"]
    torch.testing.assert_close(found["reconstruction"], apart)
    torch.testing.assert_close(found["features"], features)
    torch.testing.assert_close(found["loss"], 7 + 3 * apart + 0.5 * features)


def test_gradients_reach_the_student_and_its_adapters_alone(student: Any) -> None:
    losses_of(student, inputs(student, DIGITS, 5))["loss"].backward()
    shapes = [tuple(adapter.weight.shape) for adapter in student.imitation.adapters]
    assert shapes == [(16, 4, 1, 1), (8, 2, 1, 1)]
    for weight in (*student.imitation.adapters.parameters(), *student.generator.parameters()):
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0
    assert not any(w.requires_grad or w.grad is not None for w in student.imitation.network.parameters())
    assert not any(module.training for module in student.imitation.network.modules())
    assert not student.imitation.studied  # nothing of the graph is kept
    assert not any(module._forward_hooks for module in student.modules())


def test_weights_of_nothing_leave_a_term_out(teacher: Path) -> None:
    narrow = [*DCGAN, "model.generator.base_channels=2"]
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"features": 0}, "reconstruction"),
        ({"reconstruction": 0}, "features"),
    )
    for settings, left in cases:
        module = student_of(teacher, *narrow, **settings)
        assert set(losses_of(module, inputs(module, DIGITS))) == {"loss", left}
    assert student_of(teacher, *narrow, features=0).imitation.layers == []


MODELS: dict[str, tuple[list[str], tuple[int, ...]]] = {
    "stylegan2": (
        [
            "model=stylegan2",
            "model.generator.base_channels=4",
            "model.generator.max_channels=8",
            "model.generator.style_size=8",
            "model.generator.latent_size=8",
            "model.generator.mapping_layers=2",
            "model.generator.noise=false",
            "model.discriminator.base_channels=2",
        ],
        DIGITS,
    ),
    "cyclegan": (
        [
            "model=cyclegan",
            "model.generator.network.base_channels=2",
            "model.generator.network.blocks=2",
            "model.discriminator.network.base_channels=2",
            "model.discriminator.network.levels=1",
        ],
        (1, 32, 32),
    ),
    "wavegan": (
        [
            "model=wavegan",
            "data.samples=256",
            "model.generator.base_channels=2",
            "model.generator.kernel=9",
            "model.discriminator.base_channels=2",
            "model.discriminator.kernel=9",
        ],
        (1, 256),
    ),
    "gan": (["model=gan", "model.generator.hidden=[8,8]", "model.discriminator.hidden=[8]"], DIGITS),
    "began": (["model=began", "model.generator.base_channels=4", "model.discriminator.base_channels=4"], DIGITS),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_student_that_is_its_teacher_misses_nothing(model: str, tmp_path: Path) -> None:
    """Also of mixed styles and of both directions; another student misses something."""
    arguments, shape = MODELS[model]
    teacher = untrained(tmp_path / "run", *arguments, "model.ema=null")
    module = student_of(teacher, *arguments, "model.ema=null", shape=shape)
    batch = {**inputs(module, shape, 8), "image": torch.rand(8, *shape)}
    if model == "gan":  # whose BatchNorm takes the statistics of the minibatch
        module.eval()
    assert losses_of(module, batch)["reconstruction"] > 1e-3
    module.generator.load_state_dict(module.imitation.network.state_dict())
    found = losses_of(module, batch)
    assert found["reconstruction"] < 1e-5
    assert found["features"] > 0  # adapters begin as random maps
    assert len(module.imitation.layers) == len(module.imitation.adapters) >= 2


def test_layers_are_those_before_convolutions(tmp_path: Path) -> None:
    arguments, shape = MODELS["cyclegan"]
    module = instantiate(configured(*arguments)["model"])
    batch = inputs(module, shape)
    names = stages(module.generator, lambda: played(module, module.generator, batch))
    assert names[:4] == ["b_to_a.layers.2", "b_to_a.layers.5", "b_to_a.layers.8", "b_to_a.layers.9.residual.2"]
    assert "b_to_a.layers.9" in names  # what a block makes, not what its second convolution does
    assert [name.replace("b_to_a", "a_to_b") for name in names[: len(names) // 2]] == names[len(names) // 2 :]
    assert evenly(list("abcdefgh"), 4) == list("bdfh")
    assert evenly(["a"], 4) == ["a"]


# ---- runs -----------------------------------------------------------------------------------------------------------


def last(folder: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    checkpoint["counters"].pop("seconds")
    return {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "counters", "imitation")}


def train(folder: Path, teacher: Path, *arguments: str) -> None:
    narrow = ["model.generator.base_channels=2", given(teacher)]
    assert run([*DCGAN, *QUIET, *narrow, *arguments, f"hydra.run.dir={folder}"]) == 0


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(["step.accumulate=2", "step.generator_clip=1"], id="accumulate"),
        pytest.param(
            ["step.generator_batch=2", "step.critic_steps=2", "trainer.precision=bf16-mixed"],
            id="batch",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_resumed_is_uninterrupted(step: list[str], teacher: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    before = load(teacher).state_dict()
    train(whole, teacher, "budget.images=384", *step)
    train(parts, teacher, "budget.images=128", *step)
    assert run([f"checkpoint={parts}", "budget.images=384"]) == 0
    torch.testing.assert_close(last(parts), last(whole), rtol=0, atol=0)
    torch.testing.assert_close(load(teacher).state_dict(), before, rtol=0, atol=0)
    found = last(whole)
    assert len(found["optimizer_states"][1]["state"]) == len(list(load(whole).generator.parameters())) + 4
    with pytest.raises(UserError, match=r"model.imitation.features=0.5: cannot change"):
        run([f"checkpoint={parts}", "model.imitation.features=0.5"])


def test_a_trained_student_does_without_its_teacher(teacher: Path, tmp_path: Path) -> None:
    lent = shutil.copytree(teacher, tmp_path / "lent, 照片")
    train(tmp_path / "run", lent, "budget.images=64")
    shutil.rmtree(lent)
    module = load(tmp_path / "run")
    assert module.sample(3).shape == (3, *DIGITS)
    same = instantiate(configured(*DCGAN, "model.generator.base_channels=2")["model"])
    assert module.state_dict().keys() == same.state_dict().keys()
    assert {name.partition(".")[0] for name in module.state_dict()} == {"generator", "discriminator", "ema"}
    with pytest.raises(UserError, match=r"model.imitation.teacher=.*lent.*: there is no such"):
        run([f"checkpoint={tmp_path / 'run'}", "budget.images=128"])


def test_a_compiled_loss_gives_the_same_numbers(student: Any) -> None:
    """The rule's loss alone is compiled: what is added to it stands outside."""
    batch = inputs(student, DIGITS, 4)
    student.compiled = {"generator_loss": lambda batch, fakes: {"loss": images_of(fakes).mean()}}
    fakes = student.imitation.study(student, batch)
    found = student.taught(student.phase, batch, fakes)
    torch.testing.assert_close(found["loss"], fakes.mean() + 3 * found["reconstruction"] + 0.5 * found["features"])


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(teacher: Path, tmp_path: Path) -> None:
    """Adapters too: they begin alike and take the mean of the gradients."""
    from tests.test_devices import start

    how = ["model.generator_optimizer.eps=0.01", "model.discriminator_optimizer.eps=0.01", "budget.images=256"]
    how += ["model=gan", "model.discriminator.hidden=[8]", "model.generator.batch_norm=none", *QUIET]
    wide = untrained(tmp_path / "wide", *how[3:5], "model.generator.hidden=[16,16]", "model.generator.batch_norm=none")
    for name, extra in (("one", ["data.batch_size=64"]), ("two", ["data.batch_size=32", "trainer.devices=2"])):
        narrow = ["model.generator.hidden=[4,4]", given(wide), f"hydra.run.dir={tmp_path / name}"]
        done = start(tmp_path, *how, *narrow, *extra)
        assert done.code == 0, done.errors
    one, two = last(tmp_path / "one"), last(tmp_path / "two")
    for key in ("state_dict", "imitation"):
        torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-5)


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ([], ["model.generator.latent_size=9"], "is given other latents or inputs than this generator"),
        ([], ["model.latents=uniform"], "is given other latents or inputs than this generator"),
        ([], ["data.image_size=32"], r"makes \(1, 16, 16\), and this generator \(1, 32, 32\)"),
        ([", layers: [nothing]"], [], r"model.imitation.layers=\['nothing'\]: DCGANGenerator has no such layer"),
        ([", layers: [layers.0], features: 0, reconstruction: 0"], [], "reconstruction=0: with features=0 nothing"),
        ([", layers: []"], [], r"layers=\[\]: features=0.01 compares layers"),
    ],
)
def test_a_teacher_that_does_not_fit(
    arguments: list[str], settings: list[str], message: str, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run([*DCGAN, *QUIET, given(teacher, *arguments), *settings, f"hydra.run.dir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()


def test_a_missing_teacher_and_other_classes(teacher: Path, tmp_path: Path) -> None:
    where = [*QUIET, f"hydra.run.dir={tmp_path / 'run'}"]
    with pytest.raises(UserError, match=r"model.imitation.teacher=.*nowhere: there is no such folder or file"):
        run([*DCGAN, *where, given(tmp_path / "nowhere")])
    with pytest.raises(UserError, match=r"knows 0 classes, and model.classes=10"):
        run(["model=conditional_dcgan", "model.generator.latent_size=8", *where, given(teacher)])
    assert not (tmp_path / "run").exists()


def test_rules_that_learn_from_no_teacher(teacher: Path, tmp_path: Path) -> None:
    for model, message in (("mle", "imitation: compares images, and texts are none"), ("dpgan", "is not part of ε")):
        if model == "dpgan":
            pytest.importorskip("opacus")
        with pytest.raises(UserError, match=message):
            run([f"model={model}", *QUIET, given(teacher), f"hydra.run.dir={tmp_path / 'run'}"])


def test_adapters_of_other_layers_are_refused(student: Any, teacher: Path) -> None:
    other = student_of(teacher, *DCGAN, "model.generator.base_channels=2", layers=["layers.5"])
    with pytest.raises(UserError, match=r"model.imitation.layers=\['layers.5'\]: the run was begun with other layers"):
        other.imitation.recall(student.imitation.state())
    assert isinstance(student.imitation, Imitation)


def test_fit_moves_the_student_alone(teacher: Path, tmp_path: Path) -> None:
    """Through Lightning: the module goes to train mode, the teacher stays in eval mode and as it was."""

    class Digits(Blobs):
        def load(self) -> Any:
            train, held_out, classes = super().load()
            for part in (train, held_out):
                part.images = part.images.repeat_interleave(2, -1).repeat_interleave(2, -2)
            return train, held_out, classes

    module = student_of(teacher, *DCGAN, "model.generator.base_channels=2")
    imitation = module.imitation
    before = {name: value.clone() for name, value in imitation.network.state_dict().items()}
    adapters = [weight.detach().clone() for weight in imitation.adapters.parameters()]
    fit(module, Digits(image_size=16), tmp_path)
    torch.testing.assert_close(imitation.network.state_dict(), before, rtol=0, atol=0)
    assert not any(one.training for one in imitation.network.modules())
    assert all((now != then).any() for now, then in zip(imitation.adapters.parameters(), adapters, strict=True))
    assert {"G/reconstruction", "G/features"} <= module.metrics.keys()
