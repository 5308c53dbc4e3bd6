"""CycleGAN: its losses, image pools, both directions, what it shows and scores, and that it learns without pairs."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from gan_lightning import losses
from gan_lightning.budget import Budget
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import translate
from gan_lightning.commands.evaluate import held_out_losses
from gan_lightning.commands.train import Settings
from gan_lightning.config import check, compose, instantiate
from gan_lightning.data.pixels import to_float, to_pixels
from gan_lightning.data.translated_digits import PairedDigits, UnpairedDigits
from gan_lightning.ema import EMA
from gan_lightning.metrics.own import Measuring
from gan_lightning.models.cyclegan import CycleGAN
from gan_lightning.networks.cycle import Discriminators, Translators
from gan_lightning.networks.patch import PatchDiscriminator
from gan_lightning.networks.translator import ResNetTranslator
from gan_lightning.networks.unet import UNetGenerator
from gan_lightning.steps import Step
from gan_lightning.translation import Translator
from tests.support import Watch, count, fit, game, scores_after


def cyclegan(channels: int = 1, input_channels: int = 1, **settings: Any) -> Any:
    torch.manual_seed(0)
    network = partial(ResNetTranslator, base_channels=2, blocks=1)
    critic = partial(PatchDiscriminator, base_channels=2, levels=1, norm="instance")
    networks = {
        "generator": Translators(network, channels, input_channels),
        "discriminator": Discriminators(critic, channels, input_channels),
    }
    return game(CycleGAN, **{**networks, "input_channels": input_channels, "input_size": 16, **settings})


def batch_of(images: int = 4, channels: int = 1, input_channels: int = 1) -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(0)
    sizes = {"image": channels, "input": input_channels}
    return {key: torch.rand(images, size, 16, 16, generator=stream) * 2 - 1 for key, size in sizes.items()}


def digits(kind: Any = UnpairedDigits, **settings: Any) -> Any:
    data = kind(**{"batch_size": 8, "image_size": 16, "channels": 1, "subset": 0.1, "seed": 0, **settings})
    data.setup()
    return data


def numbered(first: int, images: int) -> Tensor:
    """Pictures (images, 1, 1, 1) that say their number."""
    return torch.arange(first, first + images, dtype=torch.float32)[:, None, None, None]


# ---- networks -------------------------------------------------------------------------------------------------------


def test_both_ways_have_the_channels_of_their_domains() -> None:
    module, batch = cyclegan(3, 1, identity_weight=0), batch_of(4, 3, 1)
    fakes = module.generate(batch, batch["input"])
    assert (fakes["image"].shape[1], fakes["input"].shape[1]) == (3, 1)
    assert (module.channels_given("a2b"), module.channels_given("b2a")) == (1, 3)
    module.eval()
    for direction, given, made in (("a2b", "input", "image"), ("b2a", "image", "input")):
        assert torch.equal(module.translating(direction=direction)(batch[given]), fakes[made])
    assert not torch.equal(module.generator.a_to_b(fakes["input"]), batch["image"])


def test_the_papers_networks() -> None:
    """Parameters of the published code: 9 blocks, and PatchGANs of three channels; two of each."""
    arguments = ["experiment=cyclegan_horse2zebra", "data.root=."]
    with torch.device("meta"):
        module = instantiate(check(compose("train", arguments, Settings), Settings)["model"])
    assert (count(module.generator), count(module.discriminator)) == (2 * 11_378_179, 2 * 2_764_737)


# ---- losses ---------------------------------------------------------------------------------------------------------


def test_the_discriminators_lose_half_of_the_least_squares() -> None:
    """Zhu et al. 2017, section 4: (D - 1)² of real images and D² of fakes, halved; of both domains."""
    module, batch = cyclegan().eval(), batch_of()
    fakes = {key: value.flip(0, 2) for key, value in batch.items()}
    expected = 0.0
    for network, key in ((module.discriminator.a, "input"), (module.discriminator.b, "image")):
        real, fake = network(batch[key]), network(fakes[key])
        expected += (mse_loss(real, torch.ones_like(real)) + mse_loss(fake, torch.zeros_like(fake))) / 2
    torch.testing.assert_close(module.discriminator_loss(batch, fakes)["loss"], expected)


@pytest.mark.parametrize(("cycle_weight", "identity_weight"), [(10.0, 0.5), (3.0, 0.0), (0.0, 1.0)])
def test_the_generators_loss_is_its_formula(cycle_weight: float, identity_weight: float) -> None:
    """Eq. 3 and section 5.2: fooling, there and back, and what is of the output's domain already."""
    module, batch = cyclegan(cycle_weight=cycle_weight, identity_weight=identity_weight).eval(), batch_of()
    there, back = module.generator.a_to_b, module.generator.b_to_a
    a, b = batch["input"], batch["image"]
    on_a, on_b = module.discriminator.a(back(b)), module.discriminator.b(there(a))
    fooling = mse_loss(on_a, torch.ones_like(on_a)) + mse_loss(on_b, torch.ones_like(on_b))
    cycle = l1_loss(back(there(a)), a) + l1_loss(there(back(b)), b)
    identity = l1_loss(there(b), b) + l1_loss(back(a), a)
    found = module.generator_loss(batch, module.generate(batch, a))
    torch.testing.assert_close(found["loss"], fooling + cycle_weight * (cycle + identity_weight * identity))
    identities = {"identity_a", "identity_b"} if identity_weight else set()
    assert set(found) == {"loss", "fooling_a", "fooling_b", "cycle_a", "cycle_b"} | identities


def test_other_losses_are_halved_alike() -> None:
    """Of cross entropy, which is whole in both codes, D's half; the generator's is that of eq. 1."""
    module, batch = cyclegan(loss="nonsaturating", cycle_weight=0, identity_weight=0).eval(), batch_of()
    fakes = module.generate(batch, batch["input"])
    softplus, expected, fooling = torch.nn.functional.softplus, 0.0, 0.0
    for network, key in ((module.discriminator.a, "input"), (module.discriminator.b, "image")):
        real, fake = network(batch[key]), network(fakes[key])
        expected += (softplus(-real).mean() + softplus(fake).mean()) / 2
        fooling += softplus(-fake).mean()
    torch.testing.assert_close(module.discriminator_loss(batch, fakes)["loss"], expected)
    torch.testing.assert_close(module.generator_loss(batch, fakes)["loss"], fooling)


@pytest.mark.parametrize("identity_weight", [0.0, 0.5])
def test_fakes_are_made_once_a_step(identity_weight: float, tmp_path: Path) -> None:
    """Each generator: fakes, what comes back and, if it is asked for, the identity."""
    module, calls = cyclegan(identity_weight=identity_weight), []
    for network in (module.generator.a_to_b, module.generator.b_to_a):
        network.register_forward_hook(lambda *_, network=network: calls.append(network))
    fit(module, digits(), tmp_path, max_epochs=1)
    steps = module.counters.generator_steps
    assert [calls.count(network) for network in dict.fromkeys(calls)] == [(3 if identity_weight else 2) * steps] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 3}, r"identity_weight=0\.5: needs as many channels in both domains, and there are 1 and 3"),
        ({"classes": 3}, "classes=3: a translator is told no labels"),
        ({"augment": ["color"]}, r"augment=\[color\]"),
        ({"generator": ResNetTranslator(2, 1, 1, 1)}, "generator: ResNetTranslator is not Translators"),
        ({"discriminator": PatchDiscriminator(2, 1, levels=1)}, "discriminator: PatchDiscriminator is not"),
        (
            {"generator": Translators(partial(ResNetTranslator, base_channels=2, blocks=1, norm="batch"), 1, 1)},
            "generator.network.norm=batch",
        ),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cyclegan(**settings)


# ---- pools ----------------------------------------------------------------------------------------------------------


def minibatches(module: Any, sizes: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    """What goes in and what is shown, of minibatches of pictures that say their number."""
    given, shown, first = [], [], 0
    for size in sizes:
        given.append(numbered(first, size))
        shown.append(module.pooled(given[-1], "a"))
        module.counters.minibatches += 1
        first += size
    return given, shown


def test_a_pool_fills_up_and_then_swaps_half() -> None:
    """Shrivastava et al. 2017, section 2.3: no fake is lost or comes twice, and half of those shown are new."""
    module = cyclegan(pool=20)
    given, shown = minibatches(module, [8] * 300)
    assert all(torch.equal(*pair) for pair in zip(given[:2], shown[:2], strict=True))  # all of these found room
    assert torch.equal(given[2][:4], shown[2][:4])  # and half of this one
    kept = module.pools["a"]
    assert len(kept) == 20
    new = [torch.isin(its, fresh).float().mean() for fresh, its in zip(given[3:], shown[3:], strict=True)]
    assert float(torch.stack(new).mean()) == pytest.approx(0.5, abs=0.05)
    seen = torch.cat(shown).flatten()
    first_20 = torch.arange(20.0)
    again = torch.isin(seen, first_20).sum()  # those were shown when they came, and once more when they left
    assert again == 20 + (~torch.isin(first_20, kept.flatten())).sum()
    for part in (seen[20:], kept.flatten()):
        assert len(part.unique()) == len(part)
    waits = [float(fresh[0] - its.min()) for fresh, its in zip(given, shown, strict=True)]
    assert max(waits) > 60  # some have waited long


@pytest.mark.parametrize("size", [3, 8, 9])
def test_a_minibatch_may_be_larger_than_a_pool(size: int) -> None:
    module = cyclegan(pool=3)
    given, shown = minibatches(module, [size] * 50)
    assert len(module.pools["a"]) == 3
    swapped = torch.cat(given) != torch.cat(shown)
    assert 0.3 < float(swapped.sum()) / (50 * 3) < 0.7
    assert torch.equal(*(torch.cat(parts)[0] for parts in (given, shown)))
    assert all(len(its) == size for its in shown)


def test_without_a_pool_and_without_training_all_are_new() -> None:
    for module in (cyclegan(pool=0), cyclegan().eval()):
        given, shown = minibatches(module, [8] * 10)
        assert all(torch.equal(*pair) for pair in zip(given, shown, strict=True))
        assert not module.pools


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_discriminators_are_shown_the_pools_images(accumulate: int, tmp_path: Path) -> None:
    """Once a minibatch, also where several make a step; and held-out losses leave the pools alone."""
    module, data, sizes, shown = cyclegan(pool=20, step=Step(accumulate=accumulate)), digits(), [], []
    pooled, patches = module.pooled, module.patches

    def looked_at(images: Tensor, domain: Any) -> Tensor:
        found = pooled(images, domain)
        shown.append(found)
        sizes.append(len(module.pools[domain]))
        return found

    judged: list[Tensor] = []
    module.pooled = looked_at
    module.patches = lambda images, domain: judged.append(images) or patches(images, domain)
    fit(module, data, tmp_path, max_epochs=1)
    assert len(sizes) == 2 * module.counters.minibatches
    assert sizes[:6] == [8, 8, 16, 16, 20, 20]
    assert all(any(images is its for its in judged) for images in shown)
    before = {domain: pool.clone() for domain, pool in module.pools.items()}
    module.pooled = pooled
    module.eval().show(data)
    assert held_out_losses(module, data)["D/loss"] > 0
    torch.testing.assert_close(module.pools, before, rtol=0, atol=0)


def test_pools_are_in_the_checkpoint_and_go_on(tmp_path: Path) -> None:
    """Full ones too; bit for bit (tests/test_resume.py has the same for the command)."""

    def trained(name: str, images: int, checkpoint: Path | None = None) -> Any:
        module = cyclegan(pool=20)
        module.config = {}
        folder = tmp_path / name
        loaded: list[Any] = []
        watch = Watch(lambda its: loaded.append(len(its.pools["a"])))
        fit(module, digits(), folder, Checkpoints(), watch, budget=Budget(images=images), checkpoint=checkpoint)
        return module, folder / "checkpoints" / "last.ckpt", loaded

    whole, whole_file, sizes = trained("whole", 64)
    assert sizes == [8, 16, *[20] * 6]
    _, half_file, _ = trained("half", 32)
    rest, rest_file, sizes = trained("rest", 64, half_file)
    assert sizes == [20] * 4
    torch.testing.assert_close(rest.pools, whole.pools, rtol=0, atol=0)
    found, expected = (read_checkpoint(file) for file in (rest_file, whole_file))
    for key in ("pools", "state_dict", "optimizer_states"):
        torch.testing.assert_close(found[key], expected[key], rtol=0, atol=0)
    assert expected["pools"]["a"].shape == (1, 20, 1, 16, 16)
    assert not any("pool" in key for key in expected["state_dict"])
    alone = cyclegan(pool=20)
    alone.on_load_checkpoint(read_checkpoint(whole_file))  # as `translate` and `evaluate` do, without a trainer
    assert (alone.counters.images, alone.pools) == (64, {})


@pytest.mark.parametrize(("processes", "rank", "expected"), [(2, 1, 1), (1, 0, 0), (4, 3, 1)])
def test_every_rank_takes_its_own_pool(
    processes: int, rank: int, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    module = cyclegan(pool=5)
    module._trainer = SimpleNamespace(world_size=processes, global_rank=rank)
    saved = torch.stack([numbered(0, 5), numbered(100, 5)])
    module.on_load_checkpoint({"counters": asdict(module.counters), "pools": {"a": saved}})
    assert torch.equal(module.pools["a"], saved[expected])
    assert ("of 2 processes" in caplog.text) == (processes == 1)


# ---- what people see ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [True, False])
def test_panels_have_what_comes_back(truth: bool) -> None:
    module, data = cyclegan().eval(), digits()
    data.truth = truth
    module.show(data)
    made = module.sample(6)
    given, shown, back, *rest = module.columns(made)
    assert torch.equal(given, data.scaled(data.held_out.__getitems__(range(6))["input"]))
    assert torch.equal(shown, made)
    torch.testing.assert_close(back, module.generator.b_to_a(made))
    assert len(rest) == int(truth)
    module.train()
    module.columns(made)
    assert module.generator.training


@pytest.mark.parametrize("truth", [True, False])
def test_the_cycles_error_is_a_score(truth: bool) -> None:
    module, data = cyclegan().eval(), digits()
    data.truth = truth
    module.show(data)
    found = module.measure(data)
    given = data.held_out.__getitems__(range(len(data.held_out)))["input"]
    with torch.no_grad():
        back = module.generator.b_to_a(module.generator.a_to_b(data.scaled(given)))
    levels = ((back + 1) * 127.5).round()
    assert found["cycle_l1"].value == pytest.approx(float((levels - given).abs().mean() / 255), rel=1e-4)
    assert set(found) == {"cycle_l1", *(("l1", "psnr", "ssim") if truth else ())}
    assert set(found) == set(module.measured(data))


@torch.no_grad()
def test_the_moving_averages_are_shown_scored_and_translate() -> None:
    module, data = cyclegan(ema=partial(EMA, half_life=1.0)).eval(), digits()
    module.show(data)
    for weight in module.generator.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    given, truth = (data.held_out.__getitems__(range(len(data.held_out)))[key] for key in ("input", "image"))
    for ema, both in ((True, module.ema.generator), (False, module.generator)):
        made = both.a_to_b(data.scaled(given))
        back = both.b_to_a(made)
        torch.testing.assert_close(module.columns(made[:6], ema)[2], back[:6], rtol=0, atol=1e-4)
        found = module.measure(data, Measuring(ema=ema))
        for name, image, other in (("l1", made, truth), ("cycle_l1", back, given)):
            expected = (((image + 1) * 127.5).round() - other).abs().mean() / 255
            assert found[name].value == pytest.approx(float(expected), rel=1e-3)
        assert module.translating(ema) is both.a_to_b
        assert module.translating(ema, "b2a") is both.b_to_a
    assert module.measure(data, Measuring(border=4))["l1"].settings["crop_border"] == 4
    assert module.measure(data, Measuring(border=4))["cycle_l1"].settings["crop_border"] == 4


def test_the_alarm_knows_how_the_discriminators_losses_are_halved() -> None:
    """Least squares are summed as the paper has them, twice those of losses.py; each half of both others."""
    assert losses.least_squares.won is not None
    assert cyclegan().won == 2 * losses.least_squares.won
    assert cyclegan(loss="nonsaturating").won == losses.nonsaturating.won


def test_pairs_may_be_trained_on_as_if_they_were_none(tmp_path: Path) -> None:
    module, data = cyclegan(), digits(PairedDigits)
    module.check_data(data)
    fit(module, data, tmp_path, max_epochs=1)
    assert module.counters.generator_steps > 0


def test_both_directions_are_translated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = cyclegan(3, 1, identity_weight=0).eval()
    assert isinstance(module, Translator)
    monkeypatch.setattr(translate, "stored_config", lambda *_: {})
    monkeypatch.setattr(translate, "load_module", lambda *_: module)
    path = tmp_path / "b.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 24, 3)).astype(np.uint8)).save(path)
    assert translate.run(["checkpoint=any", "accelerator=cpu", "direction=b2a", f"input={path}"]) == 0
    given = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = to_pixels(module.translating(direction="b2a")(to_float(given)))
    with Image.open(tmp_path / "b_translated.png") as made:
        assert torch.equal(torch.from_numpy(np.array(made.convert("L"))), expected[0, 0])


def test_u_nets_fit_too() -> None:
    network = partial(UNetGenerator, base_channels=2, image_size=16, norm="instance", dropout=0.0)
    module = cyclegan(generator=Translators(network, 1, 1))
    assert module.generator.multiple == 16
    assert module.generate(batch_of(), batch_of()["input"])["input"].shape == (4, 1, 16, 16)


# ---- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    """Digits become negatives, as different from each other as before: what comes back is what went in.

    No constant image brings back as much as is asked of the cycle. (The whole experiment ends at an L1 of 0.02.)
    """

    arguments = [
        "experiment=cyclegan_digits",
        "data.image_size=16",
        "model.generator.network.base_channels=8",
        "model.discriminator.network.base_channels=8",
        "model.discriminator.network.levels=2",
    ]
    held_out = digits().held_out
    pairs = held_out.__getitems__(range(len(held_out)))
    given, truth = (pairs[key].double() / 255 for key in ("input", "image"))
    unchanged = float((given - truth).abs().mean())
    constant = float((given - given.median(0).values).abs().mean())
    before, after = (scores_after(steps, tmp_path, *arguments) for steps in (1, 150))
    print(f"unchanged {unchanged:.3f}, best constant cycle {constant:.3f}, untrained {before}, trained {after}")
    assert after["l1"] < 0.5 * unchanged
    assert after["l1"] < 0.75 * before["l1"]
    assert after["cycle_l1"] < 0.75 * constant
    assert after["cycle_l1"] < 0.4 * before["cycle_l1"]
