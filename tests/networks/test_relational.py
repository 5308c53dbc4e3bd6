"""RelGAN's networks: the memory against a plain loop, sizes, what they draw, what the discriminator sees."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_lightning.networks.autoregressive import Autoregressive, gumbel_like, relax
from gan_lightning.networks.relational import RelationalGenerator, RelationalMemory, RepresentationCNN
from gan_lightning.networks.transformer import TransformerGenerator
from tests.support import count


def generators(vocabulary: int = 7, length: int = 5) -> list[Autoregressive]:
    """Each kind, with weights so large that texts matter."""
    torch.manual_seed(0)
    found: list[Autoregressive] = [
        RelationalGenerator(vocabulary, length, embedding=4, slots=2, heads=2, head_size=3),
        TransformerGenerator(vocabulary, length, size=8, layers=2, heads=2),
    ]
    for network in found:
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.7)
    return found


KINDS = pytest.mark.parametrize("kind", [0, 1], ids=["relational", "transformer"])


# ---- the memory -----------------------------------------------------------------------------------------------------


def normalised(row: np.ndarray, norm: Any) -> np.ndarray:
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    return (row - row.mean()) / math.sqrt(row.var() + 1e-5) * weight + bias


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def plain_step(core: Any, memory: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Santoro et al. 2018, section 3, row by row and head by head: memory (slots, size), one input."""
    weights = {name: weight.detach().numpy() for name, weight in core.named_parameters()}
    heads, size = core.heads, core.head_size
    entered = weights["into_row.weight"] @ value + weights["into_row.bias"]
    queries, keys, values = [], [], []
    for row in (*memory, entered):
        found = normalised(weights["attention.weight"] @ row, core.attention_norm)
        of_heads = [found[3 * size * head : 3 * size * (head + 1)] for head in range(heads)]
        queries.append([part[:size] / math.sqrt(3 * size) for part in of_heads])
        keys.append([part[size : 2 * size] for part in of_heads])
        values.append([part[2 * size :] for part in of_heads])
    after = []
    for slot, row in enumerate(memory):
        attended = []
        for head in range(heads):
            scores = np.array([queries[slot][head] @ key[head] for key in keys])
            shares = np.exp(scores) / np.exp(scores).sum()
            attended.append(sum(share * value[head] for share, value in zip(shares, values, strict=True)))
        middle = normalised(row + np.concatenate(attended), core.attended_norm)
        hidden = np.maximum(weights["network.0.weight"] @ middle + weights["network.0.bias"], 0)
        made = weights["network.1.weight"] @ hidden + weights["network.1.bias"]
        candidate = np.tanh(normalised(middle + made, core.network_norm))
        gates = weights["gates_of_input.weight"] @ entered + weights["gates_of_memory.weight"] @ np.tanh(row)
        write, keep = gates[: len(row)], gates[len(row) :]
        after.append(sigmoid(write) * candidate + sigmoid(keep + 1) * row)
    return np.stack(after)


def test_the_memory_is_a_plain_loop_over_slots_and_heads() -> None:
    torch.manual_seed(0)
    core = RelationalMemory(3, slots=2, heads=2, head_size=4)
    for norm in (core.attention_norm, core.attended_norm, core.network_norm):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    inputs = torch.randn(2, 3, 3)  # (N, T, inputs)
    memory, read = core.begin(2, inputs), core.read(inputs)
    expected = [np.eye(2, 8), np.eye(2, 8)]
    for position in range(3):
        memory = core(memory, read.at(position))
        expected = [plain_step(core, own, inputs[n, position].numpy()) for n, own in enumerate(expected)]
        np.testing.assert_allclose(memory.detach().numpy(), np.stack(expected), atol=1e-5)


def test_parameters_of_the_published_sizes() -> None:
    """Counted by hand from weilinie/RelGAN: 5000 words, 32 numbers each, one slot of two heads of 256."""
    memory = (32 * 512 + 512) + 512 * 1536 + 2 * 1536 + 2 * 512 + 2 * (512 * 512 + 512) + 2 * 512 + 2 * 512 * 1024
    assert count(RelationalGenerator(5000, 20)) == 5000 * 32 + memory + 512 * 5000 + 5000 == 5_107_336
    convolutions = 300 * (2 + 3 + 4 + 5) + 4 * 300
    assert count(RepresentationCNN(5000, 20)) == 5000 * 64 + convolutions + 2 * 1200**2 + 1200 * 100 + 100 + 101
    assert count(RepresentationCNN(5000, 20)) == 3_325_601


# ---- what is written ------------------------------------------------------------------------------------------------


@KINDS
def test_no_token_is_seen_before_it_is_written(kind: int) -> None:
    network = generators()[kind]
    tokens = torch.randint(7, (3, 5))
    before = network.logits(tokens)
    for position in range(5):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % 7
        apart = (network.logits(changed) - before).abs().amax((0, 2))
        assert (apart[: position + 1] == 0).all()
        assert (apart[position + 1 :] > 1e-3).all()


@KINDS
def test_each_token_is_drawn_by_its_uniform_number_from_the_logits_before_it(kind: int) -> None:
    """The inverse of the distribution function, found again from teacher-forced logits."""
    network, uniforms = generators()[kind], torch.rand(40, 5)
    for temperature in (1.0, 0.5):
        tokens = network(uniforms, temperature=temperature)
        probabilities = (network.logits(tokens).detach().double() / temperature).softmax(-1)
        for row in range(40):
            for position in range(5):
                below = float(probabilities[row, position, : tokens[row, position]].sum())
                above = below + float(probabilities[row, position, tokens[row, position]])
                assert below - 1e-5 <= float(uniforms[row, position]) <= above + 1e-5
    assert tokens.dtype == torch.int64


@KINDS
def test_a_text_goes_on_from_its_prefix_and_is_a_function_of_its_own_numbers(kind: int) -> None:
    network, uniforms = generators()[kind], torch.rand(40, 5)
    tokens = network(uniforms, prefix=torch.tensor([3, 6]))
    assert tokens[:, :2].tolist() == [[3, 6]] * 40
    assert tokens.unique(dim=0).shape[0] > 20
    assert torch.equal(network(uniforms[7:9]), network(uniforms)[7:9])


@KINDS
def test_relaxed_tokens_are_a_softmax_of_the_logits_with_noise(kind: int) -> None:
    """And what is read next is the token itself: teacher-forced logits of the tokens are those of the samples."""
    network = generators()[kind]
    torch.manual_seed(1)
    tokens, relaxed = network.relaxed(6, 3.0)
    torch.manual_seed(1)
    noise = torch.stack([gumbel_like(torch.empty(6, 7)) for _ in range(5)], 1)
    logits = network.logits(tokens)
    torch.testing.assert_close(relaxed, (3 * (logits + noise)).softmax(-1), atol=1e-5, rtol=1e-4)
    assert torch.equal(tokens, (logits + noise).argmax(-1))
    (relaxed * torch.randn(6, 5, 7)).sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())


def test_the_limits_of_the_inverse_temperature() -> None:
    logits, noise = torch.randn(100, 7), gumbel_like(torch.empty(100, 7))
    one_hot = torch.nn.functional.one_hot((logits + noise).argmax(-1), 7).float()
    torch.testing.assert_close(relax(logits, noise, 1e6), one_hot)
    torch.testing.assert_close(relax(logits, noise, 0.0), torch.full((100, 7), 1 / 7))


def test_noise_draws_from_the_softmax_of_the_logits() -> None:
    """Of 200,000 draws every frequency is within five standard errors of its probability."""
    torch.manual_seed(0)
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0, -4.0])
    drawn = (logits + gumbel_like(torch.empty(200_000, 5))).argmax(-1).bincount(minlength=5) / 200_000
    probabilities = logits.softmax(-1)
    errors = (probabilities * (1 - probabilities) / 200_000).sqrt()
    assert ((drawn - probabilities).abs() < 5 * errors).all()


@KINDS
def test_texts_have_the_generators_probabilities(kind: int) -> None:
    """All 9 texts of two of three tokens: those of uniform numbers and those with noise."""
    network = generators(vocabulary=3, length=2)[kind]
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))  # (9, 2)
    log_probabilities = network.logits(pairs).log_softmax(-1).gather(2, pairs[..., None])[..., 0].sum(1)
    expected = log_probabilities.detach().exp()
    errors = (expected * (1 - expected) / 20_000).sqrt()
    with torch.no_grad():
        for tokens in (network(torch.rand(20_000, 2)), network.relaxed(20_000, 5.0)[0]):
            drawn = (3 * tokens[:, 0] + tokens[:, 1]).bincount(minlength=9) / 20_000
            assert ((drawn - expected).abs() < 5 * errors + 1e-6).all()


# ---- the discriminator ----------------------------------------------------------------------------------------------


def plainly_judged(network: Any, texts: Tensor) -> Tensor:
    """Tokens (N, L) -> (N, R), one text, representation, filter and window after the other."""
    size = network.embedding.embedding_dim // network.representations
    found = torch.zeros(len(texts), network.representations)
    for n, text in enumerate(texts):
        for r in range(network.representations):
            seen = network.embedding.weight[text, r * size : (r + 1) * size]  # (L, size)
            features = []
            for layer in network.convolutions:
                width = layer.kernel_size[0]
                windows = [seen[start : start + width] for start in range(len(text) - width + 1)]
                for filter_, bias in zip(layer.weight, layer.bias, strict=True):  # (size, width)
                    features.append(max(torch.relu((window.T * filter_).sum() + bias) for window in windows))
            features = torch.stack(features)
            gate, made = (weight @ features for weight in network.highway.weight.chunk(2))
            mixed = gate.sigmoid() * made.relu() + (1 - gate.sigmoid()) * features
            hidden = network.hidden.weight @ mixed + network.hidden.bias
            found[n, r] = (network.output.weight @ hidden + network.output.bias)[0]
    return found


def test_every_representation_is_judged_by_itself() -> None:
    torch.manual_seed(0)
    network = RepresentationCNN(9, 6, embedding=6, representations=3, widths=(2, 4, 7), filters=3, hidden=5).eval()
    torch.nn.init.normal_(network.embedding.weight)
    assert len(network.convolutions) == 2  # 7 tokens are more than a text has
    texts = torch.randint(9, (4, 6))
    expected = plainly_judged(network, texts)
    torch.testing.assert_close(network(texts, separate=True), expected)
    torch.testing.assert_close(network(texts), expected.mean(1))
    one_hot = torch.nn.functional.one_hot(texts, 9).float()
    torch.testing.assert_close(network(one_hot, separate=True), expected)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="representations=4: must divide embedding=6"):
        RepresentationCNN(9, 6, embedding=6, representations=4)
    with pytest.raises(ValueError, match=r"widths=\[7\]: texts have no more than 6 tokens"):
        RepresentationCNN(9, 6, widths=(7,))
