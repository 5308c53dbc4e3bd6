"""SeqGAN's oracle against a loop over single numbers, and its files."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gan_lightning.errors import UserError
from gan_lightning.networks import oracle
from gan_lightning.networks.oracle import OracleLSTM, shapes

V, E, H = 11, 3, 4


def numbers(seed: int = 0) -> dict[str, Any]:
    stream = np.random.default_rng(seed)
    return {key: stream.normal(size=shape).astype(np.float32) for key, shape in shapes(V, E, H).items()}


def naive(p: dict[str, Any], sequence: list[int]) -> list[NDArray[np.float64]]:
    """The distribution of every token given those before it, one multiplication at a time."""
    h, c, before, found = np.zeros(H), np.zeros(H), 0, []
    for token in sequence:
        x = p["embedding"][before].astype(float)
        gate = {name: x @ p[f"W_{name}"] + h @ p[f"U_{name}"] + p[f"b_{name}"] for name in oracle.GATES}
        opened, kept, shown = (1 / (1 + np.exp(-gate[name])) for name in ("input", "forget", "output"))
        c = kept * c + opened * np.tanh(gate["cell"])
        h = shown * np.tanh(c)
        weights = np.exp(h @ p["W_vocab"] + p["b_vocab"])
        found.append(weights / weights.sum())
        before = token
    return found


def network() -> OracleLSTM:
    return OracleLSTM({key: torch.from_numpy(value) for key, value in numbers().items()})


def test_likelihoods() -> None:
    sequences = np.random.default_rng(1).integers(0, V, (7, 5))
    expected = [
        -np.mean([np.log(chances[token]) for chances, token in zip(naive(numbers(), row), row, strict=True)])
        for row in sequences.tolist()
    ]
    assert network().nll(torch.from_numpy(sequences)).tolist() == pytest.approx(expected, abs=1e-5)


def test_samples_are_the_inverse_of_the_distribution_function() -> None:
    uniforms = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    drawn = network().sample(uniforms)
    for row, tokens in zip(uniforms.tolist(), drawn.tolist(), strict=True):
        chances = naive(numbers(), tokens)
        assert [int((np.cumsum(chance) <= u).sum()) for chance, u in zip(chances, row, strict=True)] == tokens
    assert network().sample(torch.full((1, 3), 1 - 2**-24)).max() < V


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    uniforms = torch.rand(9, 5, generator=torch.Generator().manual_seed(0))
    whole = network().sample(uniforms)
    likelihoods = network().nll(whole)
    monkeypatch.setattr(oracle, "BLOCK", 4)
    assert torch.equal(network().sample(uniforms), whole)
    assert torch.allclose(network().nll(whole), likelihoods)


def test_own_samples_have_the_entropy_of_the_distribution() -> None:
    drawn = OracleLSTM.drawn(40, seed=3, embedding=8, hidden=8)
    tokens = drawn.sample(torch.rand(4000, 6, generator=torch.Generator().manual_seed(0)))
    before, state, cell = drawn.first(len(tokens))
    entropies = []
    for token in tokens.T:
        state, cell = drawn.step(before, state, cell)
        entropies.append(torch.distributions.Categorical(logits=drawn.logits(state)).entropy().mean())
        before = token
    found = drawn.nll(tokens)
    assert abs(found.mean() - torch.stack(entropies).mean()) < 4 * found.std() / 4000**0.5
    assert drawn.nll(torch.randint(40, (4000, 6))).mean() > found.mean() + 1


def test_a_seed_gives_one_oracle() -> None:
    first, again, other = (OracleLSTM.drawn(50, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) and not torch.equal(first[key], other[key]) for key in first)
    every = torch.cat([tensor.flatten() for tensor in first.values()])
    assert abs(every.mean()) < 0.05
    assert abs(every.std() - 1) < 0.05


def test_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "oracle.npz", **numbers())
    read = OracleLSTM.of_file(tmp_path / "oracle.npz")
    assert read.vocabulary == V
    assert all(torch.equal(a, b) for a, b in zip(read.buffers(), network().buffers(), strict=True))


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"b_cell": None}, r"has no b_cell; .* are embedding, W_input, .*b_vocab"),
        ({"U_forget": np.zeros((H, E))}, r"U_forget has the shape \(4, 3\), and must have \(4, 4\)"),
        ({"b_vocab": np.zeros(V + 1)}, r"b_vocab has the shape \(12,\)"),
        ({"embedding": np.zeros(3)}, "embedding and W_vocab must be matrices"),
        ({"b_input": np.full(H, np.nan)}, "b_input must have finite numbers"),
        ({"b_input": np.full(H, -1e300)}, "b_input must have finite numbers"),  # in float32
        ({"b_input": np.array(["a"] * H)}, "b_input must have finite numbers"),
        ({"b_input": np.array([None] * H)}, "cannot be read as an .npz of numbers: Object arrays"),
    ],
)
def test_a_wrong_file(change: dict[str, Any], fragment: str, tmp_path: Path) -> None:
    wrong = {key: value for key, value in {**numbers(), **change}.items() if value is not None}
    np.savez(tmp_path / "oracle.npz", **wrong)
    with pytest.raises(UserError, match=fragment) as raised:
        OracleLSTM.of_file(tmp_path / "oracle.npz")
    assert "oracle.npz" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 half of one", None])
def test_no_file_of_numbers(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "oracle.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"oracle.npz: (cannot be read|there is no such file)"):
        OracleLSTM.of_file(path)


def test_a_single_array_is_no_oracle(tmp_path: Path) -> None:
    with (tmp_path / "oracle.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"oracle.npz: (cannot be read|has no embedding)"):
        OracleLSTM.of_file(tmp_path / "oracle.npz")


@pytest.mark.skipif("SEQGAN_ORACLE" not in os.environ, reason="needs the published oracle as .npz in SEQGAN_ORACLE")
def test_the_published_oracle() -> None:
    """Yu et al. 2017: no model can be better than the oracle itself; 5.75 by its code's parameters."""
    published = OracleLSTM.of_file(Path(os.environ["SEQGAN_ORACLE"]))
    tokens = published.sample(torch.rand(4000, 20, generator=torch.Generator().manual_seed(0)))
    assert abs(published.nll(tokens).mean() - 5.75) < 0.02
