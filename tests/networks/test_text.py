"""SeqGAN's networks: their size, what is drawn and how likely it is, completions, and the convolutions that judge."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.networks.text import BLOCK, LSTMGenerator, TextCNN, pick
from tests.support import count


def writer(vocabulary: int = 5, length: int = 6, deviation: float = 1.0) -> Any:
    torch.manual_seed(0)
    return LSTMGenerator(vocabulary, length, 3, 4, deviation)


def uniforms(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def first_above(probabilities: Tensor, number: float) -> int:
    """The naive inverse of a distribution function, in double precision."""
    total = 0.0
    for token, probability in enumerate(probabilities.double().tolist()):
        total += probability
        if total > number:
            return token
    return len(probabilities) - 1


def continued(network: LSTMGenerator, tokens: list[int], numbers: Tensor) -> list[int]:
    """Tokens, and the rest drawn one by one: `numbers` (L,), of which those of known places are not looked at."""
    tokens = list(tokens)
    while len(tokens) < len(numbers):
        shown = torch.tensor([tokens + [0] * (len(numbers) - len(tokens))])
        distribution = network.logits(shown)[0, len(tokens)].softmax(0)
        tokens.append(first_above(distribution, float(numbers[len(tokens)])))
    return tokens


# ---- the generator --------------------------------------------------------------------------------------------------


def test_networks_have_the_size_of_the_papers() -> None:
    """V 5000: 160,000 embedded, 8,320 of the LSTM with one bias, 165,000 of the output; both classes of the CNN."""
    with torch.device("meta"):
        assert count(LSTMGenerator(5000, 20)) == 5000 * 32 + 4 * (32 * 32 * 2 + 32) + 32 * 5000 + 5000 == 333_320
        assert count(TextCNN(5000, 20)) == 7_045_402


@torch.no_grad()
def test_weights_begin_as_in_the_code() -> None:
    torch.manual_seed(0)
    for weight in LSTMGenerator(500, 4).parameters():
        assert weight.std() == pytest.approx(0.1, rel=0.2)
    judge: Any = TextCNN(500, 20)
    assert judge.embedding.weight.abs().max() <= 1
    assert judge.embedding.weight.std() == pytest.approx(3**-0.5, rel=0.05)
    assert judge.convolutions[3].weight.std() == pytest.approx(0.088, rel=0.05)  # of N(0, 0.1) cut at two deviations
    assert judge.output.bias.tolist() == pytest.approx([0.1, 0.1])


def test_logits_are_those_of_an_lstm() -> None:
    """torch's own, with the same weights, fed token 0 and then each token's past."""
    network = writer()
    reference: Any = nn.LSTM(3, 4, batch_first=True)
    take, keep, new, give = 0, 1, 2, 3  # torch's order of the gates; ours has the new cell last
    for ours, theirs in (
        (network.inputs.weight, reference.weight_ih_l0),
        (network.recurrent.weight, reference.weight_hh_l0),
    ):
        parts = ours.detach().chunk(4)
        for place, part in zip((take, keep, give, new), parts, strict=True):
            theirs.data[4 * place : 4 * place + 4] = part
    reference.bias_hh_l0.data.zero_()
    for place, part in zip((take, keep, give, new), network.inputs.bias.detach().chunk(4), strict=True):
        reference.bias_ih_l0.data[4 * place : 4 * place + 4] = part
    tokens = torch.randint(5, (7, 6), generator=torch.Generator().manual_seed(1))
    fed = torch.cat([torch.zeros(7, 1, dtype=torch.int64), tokens[:, :-1]], 1)
    expected = network.output(reference(network.embedding(fed))[0])
    torch.testing.assert_close(network.logits(tokens), expected)


@pytest.mark.parametrize("vocabulary", [1, 3, BLOCK, 3 * BLOCK, 3 * BLOCK + 7])
def test_picking_inverts_the_distribution_function(vocabulary: int) -> None:
    stream = torch.Generator().manual_seed(0)
    probabilities = (2 * torch.randn(200, vocabulary, generator=stream)).softmax(1)
    numbers = torch.rand(200, generator=stream)
    expected = [first_above(row, float(number)) for row, number in zip(probabilities, numbers, strict=True)]
    assert pick(probabilities, numbers).tolist() == expected


def test_picking_at_the_ends() -> None:
    """0 gives the first token that is possible, the largest number below 1 the last; rounding leads nowhere else."""
    probabilities = torch.zeros(2, 130)
    probabilities[:, [5, 70, 129]] = torch.tensor([0.3, 0.3, 0.4])
    assert pick(probabilities, torch.tensor([0.0, 1 - 2**-24])).tolist() == [5, 129]
    many = torch.full((1000, 5000), 1 / 5000)
    assert pick(many, torch.full((1000,), 1 - 2**-24)).unique().tolist() == [4999]


def test_drawing_is_one_token_after_another() -> None:
    network, numbers = writer(), uniforms(20, 6)
    assert network(numbers).tolist() == [continued(network, [], row) for row in numbers]


@torch.no_grad()
def test_sequences_come_as_often_as_they_are_likely() -> None:
    """All 27 of a vocabulary of three, at two temperatures: chi-square with 26 degrees of freedom."""
    network, samples = writer(3, 3), 20_000
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    for temperature in (1.0, 0.5):
        found = network(uniforms(samples, 3), temperature=temperature)
        seen = (found @ torch.tensor([9, 3, 1])).bincount(minlength=27).double()
        log = (network.logits(every) / temperature).log_softmax(2).gather(2, every[..., None])[..., 0].sum(1)
        expected = samples * log.double().exp()
        assert expected.sum() == pytest.approx(samples)
        assert ((seen - expected) ** 2 / expected).sum() < 54.1  # passed once in a thousand


def test_completions_keep_what_is_given() -> None:
    network, numbers = writer(), uniforms(21, 6)
    tokens = torch.randint(5, (21, 6), generator=torch.Generator().manual_seed(1))
    given = torch.arange(21) % 7
    found = network.complete(tokens, given, numbers)
    for row, known in enumerate(given.tolist()):
        assert found[row].tolist() == continued(network, tokens[row, :known].tolist(), numbers[row])
    assert torch.equal(network.complete(tokens, 0, numbers), network(numbers))
    assert torch.equal(network.complete(tokens, 6, numbers), tokens)
    assert torch.equal(network.complete(tokens, 4, numbers)[given == 4], found[given == 4])
    begun = network(numbers, prefix=torch.tensor([4, 2]))
    assert begun.tolist() == [continued(network, [4, 2], row) for row in numbers]


def test_rollouts_are_those_of_a_loop_over_beginnings_and_sequences() -> None:
    network = writer()
    tokens = torch.randint(5, (4, 6), generator=torch.Generator().manual_seed(1))
    numbers = uniforms(4, 15)
    found = network.rollouts(tokens, numbers)
    assert found.shape == (5, 4, 6)
    for row, known in itertools.product(range(4), range(1, 6)):
        mine = torch.full((6,), float("nan"))
        for place in range(known, 6):  # one number for each beginning of 1 … place tokens
            mine[place] = numbers[row, sum(range(place)) + known - 1]
        assert found[known - 1, row].tolist() == continued(network, tokens[row, :known].tolist(), mine)


def test_many_rows_are_drawn_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    network, numbers = writer(), uniforms(20, 6)
    expected = network(numbers)
    monkeypatch.setattr("gan_lightning.networks.text.ROWS", 3)
    assert torch.equal(network(numbers), expected)


# ---- the discriminator ----------------------------------------------------------------------------------------------


def reader(**settings: Any) -> TextCNN:
    torch.manual_seed(0)
    return TextCNN(
        **{"vocabulary": 7, "length": 5, "embedding": 3, "filter_sizes": [1, 3, 5], "filters": [4, 2, 3], **settings}
    )


@torch.no_grad()
def naive_logit(network: TextCNN, tokens: list[int]) -> float:
    """One sequence, window by window."""
    vectors = [network.embedding.weight[token] for token in tokens]
    features = []
    for layer in network.convolutions:
        size = layer.kernel_size[0]  # pyright: ignore[reportIndexIssue]
        for kernel, bias in zip(layer.weight, layer.bias, strict=True):  # pyright: ignore[reportArgumentType]
            answers = [
                max(0.0, float(bias + sum(kernel[:, j] @ vectors[start + j] for j in range(size))))  # pyright: ignore
                for start in range(len(tokens) - size + 1)
            ]
            features.append(max(answers))
    y = torch.tensor(features)
    gate = torch.sigmoid(network.gate.weight @ y + network.gate.bias)
    new = torch.relu(network.transformed.weight @ y + network.transformed.bias)
    scores = network.output.weight @ (gate * new + (1 - gate) * y) + network.output.bias
    return float(scores.softmax(0)[1].logit())


def test_the_cnn_is_its_formula() -> None:
    """The sigmoid of the logit is the softmax's probability of the second class."""
    network = reader().eval()
    tokens = torch.randint(7, (6, 5), generator=torch.Generator().manual_seed(1))
    expected = [naive_logit(network, row) for row in tokens.tolist()]
    assert network(tokens).tolist() == pytest.approx(expected, rel=1e-4)
    relaxed = nn.functional.one_hot(tokens, 7).float().requires_grad_()
    torch.testing.assert_close(network(relaxed), network(tokens))
    network(relaxed).sum().backward()
    assert relaxed.grad is not None
    assert relaxed.grad.abs().sum() > 0


@torch.no_grad()
def test_a_quarter_of_the_features_is_dropped_in_training_alone() -> None:
    network = reader()
    tokens = torch.zeros(1, 5, dtype=torch.int64)
    assert len({float(network(tokens)) for _ in range(20)}) > 1
    assert len({float(network.eval()(tokens)) for _ in range(20)}) == 1


def test_filters_that_do_not_fit_are_left_out() -> None:
    assert [layer.kernel_size for layer in reader(length=4).convolutions] == [(1,), (3,)]
    with pytest.raises(ValueError, match=r"filter_sizes=\[3, 5\]: sequences have no more than 2 tokens"):
        reader(length=2, filter_sizes=[3, 5], filters=[2, 3])
    with pytest.raises(ValueError, match=r"filters=\[4\]: there are 3 filter_sizes"):
        reader(filters=[4])
