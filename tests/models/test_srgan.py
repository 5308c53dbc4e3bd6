"""Super-resolution: losses of SRGAN and ESRGAN, two phases, VGG19 and its stand-in, scores, and that it learns."""

from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import vgg19

from gan_lightning import load
from gan_lightning.callbacks.alarms import IMAGES, Alarms
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import evaluate, sample, translate
from gan_lightning.commands.train import run
from gan_lightning.data.pixels import resize
from gan_lightning.data.superres_folder import SuperResolutionPhotos
from gan_lightning.data.translated_digits import SuperResolutionDigits
from gan_lightning.errors import UserError
from gan_lightning.metrics.extractors import bundled
from gan_lightning.metrics.paired import Pair, paired
from gan_lightning.metrics.records import lines
from gan_lightning.models.srgan import SRGAN
from gan_lightning.networks.perceptual import STANDIN_SCALE, Perceptual
from gan_lightning.networks.superres import SRGANDiscriminator, SRResNet
from gan_lightning.steps import Step
from tests.support import Watch, fit, game, scores_after

QUIET = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "samples.count=4"]
TINY = [
    *QUIET,
    "data.image_size=16",
    "data.crops=64",
    "data.batch_size=8",
    "model.generator.base_channels=4",
    "model.generator.blocks=1",
    "model.discriminator.base_channels=2",
    "model.discriminator.hidden=4",
    "samples.every_images=100000000",
]


def upscaler(channels: int = 3, size: int = 16, **settings: Any) -> Any:
    torch.manual_seed(0)
    networks = {
        "generator": SRResNet(4, channels, 4, 1),
        "discriminator": SRGANDiscriminator(2, size, channels, hidden=4),
    }
    given = {"input_channels": channels, "image_size": size, "pretraining_images": 0, "perceptual": "standin"}
    return game(SRGAN, **{**networks, **given, **settings})


def photos(**settings: Any) -> SuperResolutionPhotos:
    data = SuperResolutionPhotos(
        **{"batch_size": 8, "image_size": 16, "channels": 3, "seed": 0, "crops": 32, **settings}
    )
    data.setup()
    return data


def images_of(count: int = 4, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Real images and fakes."""
    stream = torch.Generator().manual_seed(0)
    real, fake = torch.rand(2, count, channels, 16, 16, generator=stream) * 2 - 1
    return real, fake


def standin(images: Tensor, before_activation: bool) -> Tensor:
    """The maps of the bundled classifier, layer by layer."""
    body: Any = bundled("objects").network.body  # pyright: ignore[reportAttributeAccessIssue]
    for layer in body[:4]:
        images = layer(images)
    last = body[4]
    maps = last.branch(images) + last.shortcut(images)
    return 4.0 * (maps if before_activation else maps.clamp(min=0))


# ---- losses ---------------------------------------------------------------------------------------------------------


def test_srgans_losses_are_their_formulas() -> None:
    """Ledig et al. 2017, eqs. 2 to 6, with an MSE of pixels beside them."""
    module = upscaler(pixel_weight=0.5, perceptual_weight=0.25, adversarial_weight=3.0).eval()
    real, fake = images_of()
    on_real, on_fake = module.discriminator(real), module.discriminator(fake)
    expected = -(on_real.sigmoid().log().mean() + (1 - on_fake.sigmoid()).log().mean())
    torch.testing.assert_close(module.discriminator_loss({"image": real}, fake)["loss"], expected)
    apart = (standin(fake, False) - standin(real, False)).square().mean()
    mse = (fake - real).square().mean()
    found = module.generator_loss({"image": real}, fake)
    torch.testing.assert_close(found["loss"], 0.5 * mse + 0.25 * apart - 3 * on_fake.sigmoid().log().mean())
    assert set(found) == {"loss", "loss_adversarial", "loss_pixel", "loss_perceptual"}
    torch.testing.assert_close(module.pixel_loss({"image": real}, fake)["loss"], mse)


def test_esrgans_losses_are_their_formulas() -> None:
    """Wang et al. 2018, eqs. 1 to 3."""
    weights: dict[str, Any] = {"pixel_weight": 0.01, "perceptual_weight": 1.0, "adversarial_weight": 0.005}
    module = upscaler(loss="relativistic_average", distance="l1", before_activation=True, **weights).eval()
    real, fake = images_of()
    on_real, on_fake = module.discriminator(real), module.discriminator(fake)
    real_better, fake_better = (on_real - on_fake.mean()).sigmoid(), (on_fake - on_real.mean()).sigmoid()
    expected = -real_better.log().mean() - (1 - fake_better).log().mean()
    torch.testing.assert_close(module.discriminator_loss({"image": real}, fake)["loss"], expected)
    fooling = -(1 - real_better).log().mean() - fake_better.log().mean()
    apart = (standin(fake, True) - standin(real, True)).abs().mean()
    l1 = (fake - real).abs().mean()
    found = module.generator_loss({"image": real}, fake)["loss"]
    torch.testing.assert_close(found, apart + 0.005 * fooling + 0.01 * l1)
    torch.testing.assert_close(module.pixel_loss({"image": real}, fake)["loss"], l1)


def test_no_features_are_made_for_a_weight_of_nothing() -> None:
    module = upscaler(perceptual_weight=0.0)
    real, fake = images_of()
    assert "loss_perceptual" not in module.generator_loss({"image": real}, fake)
    assert module.perceptual.network is None


# ---- phases ---------------------------------------------------------------------------------------------------------


def weights_of(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize(("images", "alone"), [(0, 0), (20, 3), (None, 8)])
def test_the_generator_plays_alone_first(images: int | None, alone: int, tmp_path: Path) -> None:
    """Eight minibatches of eight: so many of them without a discriminator, and the optimizers begin anew after them."""
    module, data = upscaler(pretraining_images=images), photos()
    seen: list[Any] = []

    def see(module: Any) -> None:
        taken = [
            {int(state["step"]) for state in player.optimizer.state.values()} for player in module.players.values()
        ]
        seen.append((weights_of(module.discriminator), weights_of(module.generator), taken, dict(module.metrics)))

    before = weights_of(module.discriminator), weights_of(module.generator)
    fit(module, data, tmp_path, Watch(see))
    assert len(seen) == 8
    for number, (discriminator, generator, (of_discriminator, of_generator), metrics) in enumerate(seen, 1):
        played = number > alone
        assert (not torch.equal(discriminator, before[0])) == played
        assert not torch.equal(generator, before[1])
        before = discriminator, generator
        assert ("D/loss" in metrics) == ("G/loss_adversarial" in metrics) == played
        assert "G/loss_pixel" in metrics
        forgotten = number == alone and images is not None
        assert of_generator == (set() if forgotten else {number - alone * played})
        assert of_discriminator == ({number - alone} if played else set())
    counters = module.counters
    assert (counters.images, counters.generator_steps, counters.discriminator_steps) == (64, 8, 8 - alone)
    assert counters.phase == (images == 20)
    assert counters.phase_images == (40 if images == 20 else 64)


def test_the_generator_moves_at_every_step_of_pretraining(tmp_path: Path) -> None:
    """Whatever the discriminator would need; accumulated minibatches are one step."""
    module = upscaler(pretraining_images=32, step=Step(critic_steps=2, accumulate=2))
    moves: list[tuple[int, int]] = []
    fit(
        module,
        photos(),
        tmp_path,
        Watch(lambda m: moves.append((m.counters.generator_steps, m.counters.discriminator_steps))),
    )
    assert moves == [(1, 0), (2, 0), (2, 1), (3, 2)]


def test_no_alarm_is_raised_by_a_generator_alone() -> None:
    """Its gradient may fall as far as it likes: it has reached its goal."""
    metrics: Any = SimpleNamespace(last={})
    alarms = Alarms("warn", metrics, None, Checkpoints(), lambda text: None)
    trainer: Any = SimpleNamespace(loggers=[], is_global_zero=True)
    for game_of_two in (False, True):
        for number in range(60):
            metrics.last = {"G/gradient_norm": 5.0 if number < 25 else 1e-4} | ({"D/loss": 0.5} if game_of_two else {})
            counters = SimpleNamespace(images=number * IMAGES)
            alarms.on_minibatch_end(trainer, SimpleNamespace(log_due=True, won=None, counters=counters))
        assert len(alarms.raised) == game_of_two


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": nn.Linear(1, 1)}, "generator: Linear makes nothing larger"),
        (
            {"perceptual_weights": Path("x.pth")},
            r"perceptual_weights=x\.pth: perceptual=standin has weights of its own",
        ),
        ({"augment": ["color"]}, r"augment=\[color\]"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        upscaler(**settings)


# ---- VGG19 ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as torch hub's, with random weights of VGG19's convolutions and one layer that is not needed."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {f"features.{key}": value.shape for key, value in vgg19(weights=None).features.state_dict().items()}
    state = {
        key: torch.randn(shape) * (2 / shape[1:].numel()) ** 0.5 if len(shape) > 1 else torch.randn(shape) / 10
        for key, shape in shapes.items()
    }
    folder = tmp_path_factory.mktemp("hub")
    (folder / "checkpoints").mkdir()
    torch.save(state | {"classifier.0.bias": torch.zeros(4096)}, folder / "checkpoints" / "vgg19-00000000.pth")
    return folder


@pytest.mark.parametrize(("before_activation", "layers"), [(False, 36), (True, 35)])
def test_vgg19_gives_conv5_4(before_activation: bool, layers: int, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision's network does for images that are prepared as its documentation says."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    found = Perceptual("auto", before_activation=before_activation)
    images = torch.rand(2, 3, 40, 32)  # in [0, 1]
    with torch.device("meta"):
        naive = cast(nn.Sequential, vgg19(weights=None).features)
    state = torch.load(hub / "checkpoints" / "vgg19-00000000.pth", weights_only=True)
    features = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    naive.load_state_dict(features, assign=True)
    prepared = images.clone()
    for channel, (mean, deviation) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        prepared[:, channel] = (images[:, channel] - mean) / deviation
    with torch.no_grad():
        expected = naive[:layers](prepared)
        made = found(images * 2 - 1)
    assert made.shape == (2, 512, 2, 2)
    assert bool((made < 0).any()) == before_activation
    torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-4)


def test_features_are_no_part_of_the_model(hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Frozen, in eval mode, in no checkpoint and no optimizer, while images have gradients; mixed precision, too."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    for choice in ("vgg19", "standin"):
        module = upscaler(perceptual=choice, pretraining_images=0)
        before = set(module.state_dict()), sum(p.numel() for p in module.parameters())
        real, fake = images_of()
        fake.requires_grad_()
        module.train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = module.generator_loss({"image": real}, fake)["loss_perceptual"]
        assert loss.dtype == torch.float32
        loss.backward()
        assert fake.grad is not None
        assert fake.grad.abs().sum() > 0
        network = module.perceptual.network
        assert not any(p.requires_grad or p.grad is not None or p.is_meta for p in network.parameters())
        assert not any(part.training for part in network.modules())
        assert before == (set(module.state_dict()), sum(p.numel() for p in module.parameters()))
        fit(module, photos(crops=8), tmp_path / choice)
        assert before[0] == set(module.state_dict())
        optimized = [p for player in module.players.values() for p in player.parameters]
        assert not {id(p) for p in optimized} & {id(p) for p in network.parameters()}


def test_weights_that_are_missing_are_named(hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        UserError, match=r"model\.perceptual=vgg19: its weights are not at hand: put .* into .*checkpoints"
    ):
        Perceptual("vgg19").load()
    with pytest.raises(UserError, match=r"none\.pth: no such file of weights"):
        Perceptual("auto", tmp_path / "none.pth").load()
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"model\.perceptual_weights=.*other\.pth: are not VGG19's"):
        Perceptual("auto", tmp_path / "other.pth").load()
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"model\.perceptual=vgg19"):
        run(["model=srgan", *TINY, "model.perceptual=vgg19", f"hydra.run.dir={folder}"])
    assert not folder.exists()
    named = hub / "checkpoints" / "vgg19-00000000.pth"
    with pytest.raises(UserError, match=r"data\.image_size=8: VGG19's features need at least 16 pixels"):
        run(["model=srgan", *TINY, "data.image_size=8", f"model.perceptual_weights={named}", f"hydra.run.dir={folder}"])


def test_the_stand_in_brings_0_006_of_its_distance_to_that_of_pixels() -> None:
    """Which is what the factor is for (Ledig et al. 2017, section 2.2.1)."""
    data = photos(image_size=64, crops=16)
    batch = data.train.of_epoch(0, 0).__getitems__(range(32))
    truth = data.scaled(batch["image"])
    enlarged = interpolate(data.scaled(batch["input"]), scale_factor=4, mode="bicubic").clamp(-1, 1)
    network = Perceptual("standin")
    weighed = 0.006 * (network(truth) - network(enlarged)).square().mean()
    assert 0.3 < weighed / (truth - enlarged).square().mean() < 3
    assert STANDIN_SCALE == 4


def test_grey_images_have_features() -> None:
    one, _ = images_of(channels=1)
    torch.testing.assert_close(Perceptual("standin")(one), standin(one.repeat(1, 3, 1, 1), False))


# ---- what comes out -------------------------------------------------------------------------------------------------


def test_its_scores_are_of_whole_held_out_images() -> None:
    """With a border of 4 pixels, and with the BatchNorm statistics that translating has."""
    module, data = upscaler(ema=None), photos()
    module.show(data)
    module.train()
    module.generator(torch.randn(8, 3, 4, 4))  # statistics of something
    found = module.measure(data)
    assert list(found) == ["l1", "psnr", "ssim", "psnr_y", "ssim_y"]
    values = []
    for index in range(2):
        batch = data.held_out.__getitems__([index])
        with torch.no_grad():
            made = module.translating()(data.scaled(batch["input"]))
        assert made.shape == batch["image"].shape
        one, other = (
            16 + (np.tensordot([65.481, 128.553, 24.966], levels[0].double().numpy(), 1)) / 255
            for levels in (batch["image"], data.stored(made))
        )
        values.append(20 * np.log10(255 / np.sqrt(np.square(one - other)[4:-4, 4:-4].mean())))
    assert found["psnr_y"].value == pytest.approx(np.mean(values), rel=1e-5)


def test_grey_images_have_no_luma_of_their_own() -> None:
    data = photos(channels=1)
    assert upscaler(channels=1).measured(data) == ("l1", "psnr", "ssim")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.channels=1", "scores.names=[psnr_y]"], r"psnr_y\]: needs colour images"),
        (["scores.names=[psnr_hole]"], r"psnr_hole\]: there are no holes"),
        (["scores.border=80"], "scores.border=80: an image of 160×424 has nothing inside"),
    ],
)
def test_scores_that_cannot_be_made_are_refused_before_training(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run(["model=srresnet", *TINY, *arguments, "budget.generator_steps=1", f"hydra.run.dir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps of both phases."""
    folder = tmp_path_factory.mktemp("srgan") / "run"
    few = ["model.pretraining_images=16", "budget.generator_steps=4", "scores.names=[kid]", "scores.samples=32"]
    assert run(["model=srgan", *TINY, *few, "scores.real_samples=32", f"hydra.run.dir={folder}"]) == 0
    return folder


def test_a_run_has_scores_of_both_kinds(trained: Path) -> None:
    made = {line["metric"]: line for line in lines(trained / "scores.jsonl")}
    assert {"kid", "psnr_y", "ssim_y"} <= set(made)
    assert made["psnr_y"]["batch_norm"] == "of training"
    assert read_checkpoint(trained / "checkpoints" / "last.ckpt")["counters"]["phase"] == 1


@pytest.mark.parametrize("images", ["0", "null"])
def test_a_phase_that_a_run_is_in_cannot_be_taken_from_it(images: str, trained: Path, tmp_path: Path) -> None:
    copied = copytree(trained, tmp_path / "run")
    with pytest.raises(UserError, match=r"last\.ckpt: is in phase 2 of its training, and .* there are 1"):
        run([f"checkpoint={copied}", f"model.pretraining_images={images}", "budget.generator_steps=6"])


def test_commands_take_it(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`evaluate`, on either part of the data; `sample` says what to use instead."""
    on = [f"checkpoint={trained}", "accelerator=cpu"]
    for split in ("train", "held_out"):
        output = tmp_path / f"{split}.jsonl"
        few = ["scores.names=[kid]", f"scores.split={split}", "scores.samples=32", "scores.force=true"]
        assert evaluate.run([*on, *few, f"output={output}"]) == 0
        assert {"kid", "psnr_y"} <= {line["metric"] for line in lines(output)}
    assert "G/loss_perceptual" in capsys.readouterr().out
    with pytest.raises(UserError, match="use the translate command"):
        sample.run([*on, "count=4", f"output={tmp_path / 'samples'}"])


def test_images_of_any_size_become_four_times_as_large(trained: Path, tmp_path: Path) -> None:
    """Grey ones, tiny ones, and in tiles as in one piece where tiles overlap by more than the network sees."""
    levels = np.random.default_rng(0)
    sizes = {"small.png": (17, 30), "dot.png": (1, 1), "grey.png": (20, 9), "large.png": (150, 70)}
    for name, (width, height) in sizes.items():
        shape = (height, width) if name == "grey.png" else (height, width, 3)
        Image.fromarray(levels.integers(0, 255, shape, dtype=np.uint8)).save(tmp_path / name)
    on = [f"checkpoint={trained}", "accelerator=cpu"]
    for kind, tile in (("whole", 1024), ("tiles", 64)):
        arguments = [*on, f"input={tmp_path}/*.png", f"output={tmp_path / kind}", f"tile={tile}", "overlap=40"]
        assert translate.run(arguments) == 0
    for name, (width, height) in sizes.items():
        with Image.open(tmp_path / "whole" / name) as one, Image.open(tmp_path / "tiles" / name) as other:
            assert one.size == other.size == (4 * width, 4 * height)
            assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
    module, image = load(trained), Image.open(tmp_path / "small.png")
    given = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        made = (module.translating()(given)[0].permute(1, 2, 0) + 1) * 127.5  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    assert np.abs(np.asarray(Image.open(tmp_path / "whole" / "small.png"), float) - made.numpy()).max() <= 0.51


# ---- learning -------------------------------------------------------------------------------------------------------


def china(folder: Path) -> tuple[str, Path]:
    """The sharper of the two photographs, three quarters of it to train on: the other one is a blur, 45 dB at once."""
    photo = np.array(cast(Any, load_sample_images()).images[0])
    for part, pixels in (("train", photo[:, :480]), ("test", photo[:, 480:])):
        (folder / part).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / part / "china.png")
    return f"data.root={folder}", folder / "test" / "china.png"


def enlarged(file: Path, mode: str) -> float:
    """psnr_y of an interpolation of a photograph."""
    truth = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None, :, :424]  # multiples of 4
    made = interpolate(resize(truth, (truth.shape[2] // 4, truth.shape[3] // 4)).float(), scale_factor=4, mode=mode)
    pixels = made.round().clamp(0, 255).to(torch.uint8)
    return paired(["psnr_y"], [Pair(truth, pixels)], 4)["psnr_y"].value


def psnr_of(folder: Path, *arguments: str) -> float:
    quiet = [*QUIET, "samples.every_images=100000000", "scores.names=[psnr_y]", "scores.every=100000000"]
    on = ["model=srresnet", "data=superres_folder", "data.crops=1024"]
    assert run([*on, *quiet, *arguments, f"hydra.run.dir={folder}"]) == 0
    return [line["value"] for line in lines(folder / "scores.jsonl") if line["metric"] == "psnr_y"][-1]


def test_it_learns(tmp_path: Path) -> None:
    """Digits it was never shown are nearer to the truth than an untrained network's, and than with pixels repeated."""

    arguments = [
        "experiment=srgan_digits",
        "model.generator.base_channels=8",
        "model.generator.blocks=2",
        "model.generator_optimizer.lr=4e-3",
        "model.pretraining_images=null",
        "scores.names=[psnr]",
    ]
    data = SuperResolutionDigits(batch_size=16, image_size=32, channels=1, seed=0)
    data.setup()
    real = data.held_out.__getitems__(range(len(data.held_out)))
    repeated = real["input"].repeat_interleave(4, 2).repeat_interleave(4, 3)
    nearest = paired(["psnr"], [Pair(real["image"], repeated)], data.border)["psnr"].value
    before, after = (scores_after(steps, tmp_path, *arguments)["psnr"] for steps in (1, 200))
    print(f"untrained {before:.2f}, trained {after:.2f}, nearest {nearest:.2f}")
    assert after > before + 5
    assert after > nearest + 2


@pytest.mark.slow
def test_it_learns_more_than_bicubic_interpolation(tmp_path: Path) -> None:
    root, held_out = china(tmp_path / "china")
    steps = 2500
    settings = [
        "data.image_size=48",
        "data.batch_size=8",
        "model.generator.base_channels=32",
        "model.generator.blocks=4",
    ]
    schedule = f"{{_target_: gan_lightning.schedules.Cosine, horizon: {steps}, end: 0.01}}"
    rate = ["model.generator_optimizer.lr=1e-3", f"model.generator_schedule={schedule}"]
    after = psnr_of(tmp_path / "run", root, *settings, *rate, f"budget.generator_steps={steps}")
    print(f"trained {after:.2f}, bicubic {enlarged(held_out, 'bicubic'):.2f}")
    assert after > enlarged(held_out, "bicubic")
