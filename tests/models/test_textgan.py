"""TextGAN: the kernel's MMD and both losses against plain loops, the code that a text is made of, resume, learning."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_lightning.budget import Budget
from gan_lightning.discrepancy import gaussian_mmd
from gan_lightning.models.textgan import TextGAN
from gan_lightning.networks.textgan import CodeLSTM, FeatureCNN
from tests.models.test_relgan import LENGTH, WORDS, Steps, allowed, assert_resumes, held_out
from tests.support import count, fit, game

BANDWIDTHS = (0.5, 2.0)
CODE = 4
SMALL = ["model=textgan", "model.generator.hidden=8", "model.discriminator.filters=4"]


def writer(**settings: Any) -> Any:
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.9))
    given: dict[str, Any] = {
        "generator": CodeLSTM(WORDS, LENGTH, CODE, 8, 16),
        "discriminator": FeatureCNN(WORDS, LENGTH, CODE, 8, (2, 3), 8, 8, 8),
        "latents": "unit",
        "loss": "minimax",
        "pretraining_images": 0,
        "bandwidths": BANDWIDTHS,
        "generator_optimizer": adam,
        "discriminator_optimizer": adam,
    }
    return game(TextGAN, **{**given, **settings})


# ---- losses ---------------------------------------------------------------------------------------------------------


def plain_mmd(real: np.ndarray, fake: np.ndarray) -> float:
    """Pair by pair."""

    def kernel(one: np.ndarray, other: np.ndarray) -> float:
        apart = float(((one - other) ** 2).sum())
        return sum(math.exp(-apart / (2 * width * width)) for width in BANDWIDTHS) / len(BANDWIDTHS)

    def mean(some: np.ndarray, others: np.ndarray) -> float:
        return sum(kernel(one, other) for one in some for other in others) / (len(some) * len(others))

    return mean(real, real) + mean(fake, fake) - 2 * mean(real, fake)


def test_mmd_is_a_double_loop_over_pairs() -> None:
    real, fake = torch.randn(5, 3), torch.randn(7, 3) + 1
    assert float(gaussian_mmd(real, fake, BANDWIDTHS)) == pytest.approx(plain_mmd(real.numpy(), fake.numpy()), rel=1e-4)


def test_mmd_of_equal_sets_is_0_and_grows_with_their_distance() -> None:
    real = torch.randn(50, 3)
    assert float(gaussian_mmd(real, real[torch.randperm(50)], BANDWIDTHS)) == pytest.approx(0, abs=1e-6)
    distances = [float(gaussian_mmd(real, real + shift, BANDWIDTHS)) for shift in (0.1, 0.5, 2.0)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_losses_are_the_papers() -> None:
    module = writer(reconstruction_weight=0.5, matching_weight=0.25).train()
    real, latents = torch.randint(WORDS, (5, LENGTH)), torch.rand(5, CODE + LENGTH)
    batch = {"image": real, "latents": latents}
    fakes = module.generate(batch, latents)
    network = module.discriminator
    on_real, on_fake = network(real), network(fakes["relaxed"])
    of_real, of_fakes = network.features(real), network.features(fakes["relaxed"])
    guesses = network.guessing(of_fakes)
    apart = sum(float(((guesses[n] - (2 * latents[n, :CODE] - 1)) ** 2).sum()) for n in range(5)) / 5
    matching = plain_mmd(of_real.detach().numpy(), of_fakes.detach().numpy())
    told = -float(on_real.sigmoid().log().mean() + (1 - on_fake.sigmoid()).log().mean())
    found = module.discriminator_loss(batch, fakes)
    assert float(found["loss"]) == pytest.approx(told + 0.5 * apart - 0.25 * matching, rel=1e-4)
    assert float(module.generator_loss(batch, fakes)["loss"]) == pytest.approx(matching, rel=1e-3)


def test_the_likelihood_is_that_given_the_code_of_the_latents() -> None:
    module = writer().train()
    torch.nn.init.normal_(module.generator.first.weight)
    real, latents = torch.randint(WORDS, (5, LENGTH)), torch.rand(5, CODE + LENGTH)
    found = float(module.likelihood_loss({"image": real, "latents": latents}, None)["loss"])
    total = 0.0
    for text, numbers in zip(real, latents, strict=True):
        memory = module.generator.begin((2 * numbers[:CODE] - 1)[None])
        for token in text:
            total -= float(module.generator.scores(memory.hidden).log_softmax(1)[0, token])
            memory = module.generator.advance(module.generator.embedding(token[None]), memory)
    assert found == pytest.approx(total / (5 * LENGTH), rel=1e-5)


# ---- the networks ---------------------------------------------------------------------------------------------------


def sharp() -> CodeLSTM:
    """A generator with weights so large that codes and tokens matter."""
    torch.manual_seed(0)
    network = CodeLSTM(WORDS, LENGTH, CODE, 8, 16)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return network


def test_tokens_are_drawn_by_their_numbers_given_the_code() -> None:
    network, latents = sharp(), torch.rand(40, CODE + LENGTH)
    tokens = network(latents)
    probabilities = network.logits(tokens, network.code_of(latents)).detach().double().softmax(-1)
    for row in range(40):
        for position in range(LENGTH):
            below = float(probabilities[row, position, : tokens[row, position]].sum())
            above = below + float(probabilities[row, position, tokens[row, position]])
            assert below - 1e-5 <= float(latents[row, CODE + position]) <= above + 1e-5
    other = latents.clone()
    other[:, :CODE] = 1 - other[:, :CODE]
    assert (network(other) != tokens).float().mean() > 0.2  # the code says what is written
    assert network(latents, prefix=torch.tensor([3, 6]))[:, :2].tolist() == [[3, 6]] * 40


def test_no_token_is_seen_before_it_is_written() -> None:
    network, tokens = sharp(), torch.randint(WORDS, (3, LENGTH))
    before = network.logits(tokens)
    for position in range(LENGTH):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % WORDS
        apart = (network.logits(changed) - before).abs().amax((0, 2))
        assert (apart[: position + 1] == 0).all()
        assert (apart[position + 1 :] > 1e-4).all()


def test_a_hard_soft_argmax_reads_what_it_wrote() -> None:
    network, latents = sharp(), torch.rand(20, CODE + LENGTH)
    tokens, relaxed = network.relaxed(latents, 1e5)
    torch.testing.assert_close(relaxed, torch.nn.functional.one_hot(tokens, WORDS).float(), atol=1e-2, rtol=0)
    _, soft = network.relaxed(latents, 1.0)
    soft[:, -1].square().sum().backward()
    assert network.first.weight.grad is not None
    assert network.first.weight.grad.abs().sum() > 0


def test_parameters_of_the_published_sizes() -> None:
    """Counted by hand: 5000 words of 300 numbers, a code of 900, an LSTM of 500, 3 · 300 filters."""
    lstm = 4 * 500 * (300 + 500 + 900 + 1) + (900 * 500 + 500) + 500 * 300
    assert count(CodeLSTM(5000, 20, 900, 300, 500)) == 5000 * 300 + lstm + 5000
    convolutions = 300 * 300 * (3 + 4 + 5) + 3 * 300
    ends = (900 * 200 + 200) + 201 + 2 * (900 * 900 + 900)
    assert count(FeatureCNN(5000, 20, 900, 300, (3, 4, 5), 300, 200, 900)) == 5000 * 300 + convolutions + ends


def test_features_are_plain_convolutions() -> None:
    torch.manual_seed(0)
    network = FeatureCNN(WORDS, LENGTH, CODE, 3, (2, 9), 2)
    assert len(network.convolutions) == 1  # 9 tokens are more than a text has
    text = torch.randint(WORDS, (LENGTH,))
    seen, layer = network.embedding.weight[text], network.convolutions[0]
    expected = []
    for filter_, bias in zip(layer.weight, layer.bias, strict=True):  # pyright: ignore
        answers = [(seen[start : start + 2].T * filter_).sum() + bias for start in range(LENGTH - 1)]
        expected.append(max(float(answer.detach().tanh()) for answer in answers))
    torch.testing.assert_close(network.features(text[None]), torch.tensor([expected]))


# ---- the rest -------------------------------------------------------------------------------------------------------


def test_networks_without_a_code_are_refused() -> None:
    with pytest.raises(ValueError, match=r"discriminator\.code=3: the generator's is 4"):
        writer(discriminator=FeatureCNN(WORDS, LENGTH, 3))
    with pytest.raises(ValueError, match="discriminator: Linear has no code; use network@model=textgan"):
        writer(discriminator=torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"bandwidths=\[\]: the kernel needs one at least"):
        writer(bandwidths=())


@pytest.mark.slow
def test_resumed_in_every_phase_is_uninterrupted(tmp_path: Path) -> None:
    assert_resumes(tmp_path, SMALL, [2, 3, 6])


def test_the_losses_of_held_out_texts_are_those_of_the_game(tmp_path: Path) -> None:
    assert held_out(tmp_path, SMALL).keys() >= {"D/loss", "D/mmd", "G/loss"}


@pytest.mark.slow
def test_the_game_alone_learns_the_rule_of_the_texts(tmp_path: Path) -> None:
    adam = partial(torch.optim.Adam, lr=5e-3, betas=(0.5, 0.9))
    module = writer(generator_optimizer=adam, discriminator_optimizer=adam)
    before = allowed(module.generator(torch.rand(400, CODE + LENGTH)))
    fit(module, Steps(), tmp_path, budget=Budget(images=32 * 600), max_epochs=None, log_every_n_steps=100)
    texts = module.generator(torch.rand(400, CODE + LENGTH))
    print(f"{before:.2f} -> {allowed(texts):.2f}, {len(texts.unique(dim=0))} of 400 differ")
    assert before < 0.4
    assert allowed(texts) > 0.6
    assert len(texts.unique(dim=0)) > 20
