"""RelGAN: losses of every representation, how β grows, two phases with rates of their own, exact resume, learning."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gan_lightning.budget import Budget
from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands.evaluate import held_out_losses
from gan_lightning.commands.loading import load_data, load_module, stored_config
from gan_lightning.commands.train import run
from gan_lightning.data.sets import InMemory
from gan_lightning.data.text import TextData
from gan_lightning.models.relgan import RelGAN, grown
from gan_lightning.networks.relational import RelationalGenerator, RepresentationCNN
from gan_lightning.networks.text import LSTMGenerator
from gan_lightning.networks.transformer import TransformerGenerator
from gan_lightning.steps import Step
from tests.support import Watch, fit, game

WORDS, LENGTH = 8, 6


class Steps(TextData):
    """Texts in which every token is that before it plus 1 or 2, modulo WORDS; of any tokens a quarter is so."""

    def __init__(self, **base: Any) -> None:
        super().__init__(**{"vocabulary": WORDS, "length": LENGTH, "batch_size": 32, "seed": 0, **base})

    def load(self) -> tuple[InMemory, InMemory, list[str]]:
        stream = torch.Generator().manual_seed(0)
        first = torch.randint(WORDS, (640, 1), generator=stream)
        steps = torch.randint(1, 3, (640, LENGTH - 1), generator=stream)
        texts = torch.cat([first, steps], 1).cumsum(1) % WORDS
        return InMemory(texts[:512]), InMemory(texts[512:]), []

    def decode(self, tokens: Any) -> str:
        return " ".join(map(str, tokens))


def allowed(texts: Tensor) -> float:
    """The share of a text's steps (N, L) that are 1 or 2."""
    steps = (texts[:, 1:] - texts[:, :-1]) % WORDS
    return float(((steps == 1) | (steps == 2)).double().mean())


def writer(rule: Any = RelGAN, transformer: bool = False, **settings: Any) -> Any:
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.9))
    networks = {
        "generator": TransformerGenerator(WORDS, LENGTH, 16, 1, 2)
        if transformer
        else RelationalGenerator(WORDS, LENGTH, 8, 1, 2, 8),
        "discriminator": RepresentationCNN(WORDS, LENGTH, 8, 4, (2, 3), 16, 16),
    }
    given = {"latents": "unit", "loss": "relativistic", "pretraining_images": 0, "pretraining_rate": 10.0}
    return game(rule, **{**networks, "generator_optimizer": adam, "discriminator_optimizer": adam, **given, **settings})


# ---- losses ---------------------------------------------------------------------------------------------------------


def test_losses_compare_real_and_fake_in_each_representation() -> None:
    """-log sigmoid of the difference, pair by pair, in a loop."""
    module = writer().eval()
    real = torch.randint(WORDS, (5, LENGTH))
    module.train()
    module.discriminator.eval()  # nothing is dropped
    fakes = module.generate({"image": real}, torch.rand(5, LENGTH))
    on_real = module.discriminator(real, separate=True).detach()
    on_fake = module.discriminator(fakes["relaxed"], separate=True).detach()
    assert on_real.shape == on_fake.shape == (5, 4)
    pairs = [(float(on_real[n, r]), float(on_fake[n, r])) for n in range(5) for r in range(4)]
    expected = sum(math.log(1 + math.exp(fake - real)) for real, fake in pairs) / len(pairs)
    assert float(module.discriminator_loss({"image": real}, fakes)["loss"].detach()) == pytest.approx(
        expected, rel=1e-5
    )
    swapped = sum(math.log(1 + math.exp(real - fake)) for real, fake in pairs) / len(pairs)
    assert float(module.generator_loss({"image": real}, fakes)["loss"].detach()) == pytest.approx(swapped, rel=1e-5)
    torch.testing.assert_close(module.verdicts(real, None, None), on_real.mean(1))


def test_fakes_are_tokens_and_nearly_their_one_hot_vectors() -> None:
    module = writer().train()
    module.inverse.fill_(1e6)
    fakes = module.generate({}, torch.rand(50, LENGTH))
    torch.testing.assert_close(fakes["relaxed"], one_hot(fakes["image"], WORDS).float(), atol=1e-3, rtol=0)
    module.inverse.fill_(1.0)
    assert module.generate({}, torch.rand(50, LENGTH))["relaxed"].amax(-1).mean() < 0.9


def test_nothing_follows_the_end_of_a_sentence() -> None:
    module = writer().train()
    torch.nn.init.constant_(module.generator.output.bias[:1], 1.0)  # ends are frequent
    module.ends = True
    fakes = module.generate({}, torch.rand(50, LENGTH))
    tokens, relaxed = fakes["image"], fakes["relaxed"]
    ended = 0
    for text, vectors in zip(tokens.tolist(), relaxed, strict=True):
        end = text.index(0) if 0 in text else LENGTH - 1
        assert text[end + 1 :] == [0] * (LENGTH - 1 - end)
        assert torch.equal(vectors[end + 1 :], one_hot(torch.zeros(LENGTH - 1 - end).long(), WORDS).float())
        assert (vectors[: end + 1].amax(-1) < 1).all()
        ended += end < LENGTH - 1
    assert ended > 10
    torch.testing.assert_close(relaxed.sum(-1), torch.ones(50, LENGTH))
    relaxed[..., 1].sum().backward()
    assert torch.isfinite(module.generator.output.weight.grad).all()


# ---- β --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("growth", "values"),
    [
        ("none", (100.0, 100.0, 100.0, 100.0)),
        ("exponential", (1.0, 100**0.25, 10.0, 100.0)),
        ("linear", (1.0, 25.75, 50.5, 100.0)),
        ("quadratic", (1.0, 1 + 99 / 16, 25.75, 100.0)),
        ("root", (1.0, 50.5, 1 + 99 * math.sqrt(0.5), 100.0)),
        ("sigmoid", (1 + 99 / (1 + math.e**10), 1 + 99 / (1 + math.e**5), 50.5, 1 + 99 / (1 + math.e**-10))),
        ("logarithmic", (1.0, 1 + 99 * math.log(1250.75, 5000), 1 + 99 * math.log(2500.5, 5000), 100.0)),
    ],
)
def test_how_the_inverse_temperature_grows(growth: Any, values: tuple[float, ...]) -> None:
    for progress, value in zip((0.0, 0.25, 0.5, 1.0), values, strict=True):
        assert grown(growth, 100.0, progress) == pytest.approx(value)
    assert grown(growth, 100.0, 7.0) == pytest.approx(values[-1])


def test_it_grows_with_the_games_images_and_phases_have_their_rates(tmp_path: Path) -> None:
    seen: list[tuple[str, float, float]] = []
    module = writer(
        pretraining_images=96, inverse_temperature=16.0, growth_images=128, step=Step(critic_steps=2, minibatches=1)
    )

    def see(module: Any) -> None:
        rate = module.players["generator"].optimizer.param_groups[0]["lr"]
        seen.append((module.phases[0].name, float(module.inverse), rate))

    fit(module, Steps(), tmp_path, Watch(see), budget=Budget(images=32 * 9))
    assert [round(value, 4) for _, value, _ in seen] == [1, 1, 1, 1, 2, 4, 8, 16, 16]  # 32 images are a quarter
    assert [rate for _, _, rate in seen] == pytest.approx([1e-2] * 3 + [1e-3] * 6)
    assert module.counters.generator_steps == 3 + 3
    assert module.counters.discriminator_steps == 6


# ---- resume ---------------------------------------------------------------------------------------------------------

TINY = [
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1",
    "trainer.max_epochs=null",
    "samples.every_images=100000000",
    "samples.count=4",
    "scores.names=[]",
    "data.batch_size=32",
    "data.subset=0.4",
    "step.critic_steps=2",
    "model.pretraining_images=96",
    "model.pretraining_rate=5",
]
RELGAN = [
    "model=relgan",
    "model.growth_images=128",
    "model.generator.head_size=4",
    "model.discriminator.representations=4",
    "model.discriminator.filters=4",
    "model.discriminator.hidden=4",
]


def assert_resumes(folder: Path, settings: list[str], stops: list[int], minibatches: int = 8) -> None:
    """In parts, up to so many minibatches each, = at once; the phase has 3 minibatches before the game."""
    assert run([f"hydra.run.dir={folder / 'whole'}", *TINY, *settings, f"budget.images={32 * minibatches}"]) == 0
    assert run([f"hydra.run.dir={folder / 'parts'}", *TINY, *settings, f"budget.images={32 * stops[0]}"]) == 0
    for stop in (*stops[1:], minibatches):
        assert run([f"checkpoint={folder / 'parts'}", f"budget.images={32 * stop}"]) == 0
    found = [read_checkpoint(folder / name / "checkpoints" / "last.ckpt") for name in ("parts", "whole")]
    for checkpoint in found:
        checkpoint["counters"].pop("seconds")
    assert found[0]["counters"]["phase"] == 1
    for key in ("state_dict", "optimizer_states", "counters"):
        torch.testing.assert_close(found[0][key], found[1][key], rtol=0, atol=0)


def held_out(folder: Path, settings: list[str]) -> dict[str, float]:
    """Losses of held-out texts after the phase of 3 minibatches and 2 of the game."""
    assert run([f"hydra.run.dir={folder}", *TINY, *settings, f"budget.images={32 * 5}"]) == 0
    config = stored_config(folder, [])
    module = load_module(folder, config)
    data = load_data(config, module.data_facts)
    module.show(data)
    return held_out_losses(module, data)


def test_resumed_in_every_phase_is_uninterrupted(tmp_path: Path) -> None:
    assert_resumes(tmp_path, RELGAN, [2, 6])


def test_the_losses_of_held_out_texts_are_those_of_the_game(tmp_path: Path) -> None:
    losses = held_out(tmp_path, RELGAN)
    assert losses.keys() >= {"held_out_texts", "D/loss", "G/loss"}
    assert losses["D/inverse_temperature"] == pytest.approx(100 ** (2 / 4), rel=1e-5)  # when the last one began


# ---- what is refused, and that it learns ----------------------------------------------------------------------------


def test_a_generator_that_cannot_relax_is_refused() -> None:
    with pytest.raises(ValueError, match="generator: LSTMGenerator cannot relax its choice of tokens"):
        writer(generator=LSTMGenerator(WORDS, LENGTH, 4, 4))
    alone = writer(generator=LSTMGenerator(WORDS, LENGTH, 4, 4), pretraining_images=None)  # there is no game
    assert alone.generate({}, torch.rand(2, LENGTH)).shape == (2, LENGTH)


@pytest.mark.parametrize("transformer", [False, True])
def test_likelihood_learns_the_rule_of_the_texts(transformer: bool, tmp_path: Path) -> None:
    module = writer(transformer=transformer, pretraining_images=None, pretraining_rate=10.0)
    before = allowed(module.generator(torch.rand(400, LENGTH)))
    fit(module, Steps(), tmp_path, budget=Budget(images=32 * 100), max_epochs=None, log_every_n_steps=100)
    after = allowed(module.generator(torch.rand(400, LENGTH)))
    print(f"{before:.2f} -> {after:.2f}")
    assert before < 0.4
    assert after > 0.85


@pytest.mark.slow
def test_the_game_alone_learns_the_rule_of_the_texts(tmp_path: Path) -> None:
    """From nothing: gradients go through the relaxed tokens."""
    torch.manual_seed(0)
    module = writer(
        inverse_temperature=2.0,
        growth="none",
        discriminator=RepresentationCNN(WORDS, LENGTH, 16, 4, (2, 3), 32, 32),
        generator_optimizer=partial(torch.optim.Adam, lr=3e-3, betas=(0.5, 0.9)),
        discriminator_optimizer=partial(torch.optim.Adam, lr=1e-2, betas=(0.5, 0.9)),
    )
    before = allowed(module.generator(torch.rand(400, LENGTH)))
    fit(module, Steps(), tmp_path, budget=Budget(images=32 * 300), max_epochs=None, log_every_n_steps=100)
    texts = module.generator(torch.rand(400, LENGTH))
    print(f"{before:.2f} -> {allowed(texts):.2f}, {len(texts.unique(dim=0))} of 400 differ")
    assert before < 0.4
    assert allowed(texts) > 0.75
    assert len(texts.unique(dim=0)) > 15
