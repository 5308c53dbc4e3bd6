"""Text files and the oracle's sequences: reading, words, the split, every mistake."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_lightning.commands.train import Settings
from gan_lightning.config import compose, instantiate
from gan_lightning.data.text import Oracle, TextFile
from gan_lightning.data.vocabulary import BUNDLED, Vocabulary, frequent_words, text_size, tokenise
from gan_lightning.errors import UserError
from gan_lightning.networks.oracle import shapes

LINES = ["The cat sleeps.", "a dog sees the cat", "the dog sleeps", "a bird", "", "the dog sleeps"]
DEFAULTS: dict[str, Any] = {
    "root": None,
    "test": None,
    "tokens": "words",
    "lower": True,
    "min_count": 1,
    "too_long": "drop",
    "held_out": 0.0,
}


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def build(root: Path | None, **settings: Any) -> TextFile:
    """As the configuration builds it: sizes are looked up where they are not given."""
    given = {**DEFAULTS, "root": root, **settings}
    given.setdefault("length", text_size("length", given))
    given.setdefault("vocabulary", text_size("vocabulary", given))
    return TextFile(**given, batch_size=2, seed=0)


def loaded(root: Path | None, **settings: Any) -> TextFile:
    data = build(root, **settings)
    data.check()
    data.setup()
    return data


def rows(data: TextFile | Oracle, split: str = "train") -> torch.Tensor:
    some = getattr(data, split)
    return some.__getitems__(range(len(some)))["image"]


def test_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = loaded(write(tmp_path / "text.txt", LINES))
    words = ["the", "dog", "a", "cat", "sleeps", "bird", "sees", "sleeps."]  # by count, then by alphabet
    assert data.words.words == words
    assert (data.vocabulary, data.length, data.shape) == (10, 5, (5,))
    assert rows(data).dtype == torch.int64
    assert rows(data).tolist() == [[2, 5, 9, 0, 0], [4, 3, 8, 2, 5], [2, 3, 6, 0, 0], [4, 7, 0, 0, 0], [2, 3, 6, 0, 0]]
    assert data.lines(rows(data)) == [line.lower() for line in LINES if line]
    assert "blank lines passed over: 1" in caplog.text
    assert (data.ends, data.noun, len(data.held_out)) == (True, "texts", 0)
    assert data.description() == "5 texts 5 tokens at most, 8 words"


def test_unknown_words_and_cut_lines() -> None:
    words = Vocabulary(["a", "b"])
    assert words.encode("b x a", 5) == [3, 1, 2, 0, 0]
    assert words.encode("b x a", 2) == [3, 1]
    assert words.decode([3, 1, 2, 0, 3]) == "b <unk> a"
    assert words.encode(words.decode([3, 1, 2, 0]), 4) == [3, 1, 2, 0]
    assert words.decode([0, 0]) == ""
    assert len(words) == 4


@pytest.mark.parametrize("tokens", ["words", "nltk", "characters"])
def test_encode_and_decode_bring_every_line_back(tokens: Any) -> None:
    lines = [*BUNDLED.read_text().splitlines(), "one, two  three: ça va ?", "a"]
    words = Vocabulary(frequent_words([tokenise(line, tokens) for line in lines], 1), tokens)
    for line in lines:
        kept = tokenise(line, tokens)
        assert words.decode(words.encode(line, 80)) == ("" if tokens == "characters" else " ").join(kept)
        assert words.words_of(words.encode(line, 80)) == kept


def test_tokens() -> None:
    assert tokenise("it's a  dog.", "words") == ["it's", "a", "dog."]
    assert tokenise("it's a  dog.", "nltk") == ["it", "'s", "a", "dog", "."]
    assert tokenise(" a\tb ", "characters") == ["a", " ", "b"]


def test_words_that_are_rare_or_only_in_dropped_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write(tmp_path / "text.txt", LINES)
    assert set(loaded(root, min_count=2).words.words) == {"the", "dog", "sleeps", "a", "cat"}
    with caplog.at_level(logging.WARNING):
        dropped = loaded(root, length=3)
    assert "1 of 5 sentences are longer and are left out" in caplog.text
    assert (len(dropped.train), "sees" in dropped.words.numbers) == (4, False)
    cut = loaded(root, length=3, too_long="cut")
    assert (len(cut.train), "sees" in cut.words.numbers) == (5, True)
    assert "are longer and are cut" in caplog.text
    assert loaded(root, lower=False).words.numbers.keys() >= {"The", "the"}


def test_the_split(tmp_path: Path) -> None:
    lines = [f"word{number} again" for number in range(40)] * 2
    root = write(tmp_path / "text.txt", lines)
    data, other = loaded(root, held_out=0.25), build(root, held_out=0.25)
    other.seed = 7
    other.setup()
    train, held_out = (Counter(data.lines(rows(data, split))) for split in ("train", "held_out"))
    assert torch.equal(rows(data), rows(other))
    assert torch.equal(rows(data, "held_out"), rows(other, "held_out"))
    assert (train.total(), held_out.total()) == (60, 20)
    # the words of held-out sentences are not in the vocabulary, nor these sentences in training
    assert set(held_out) == {"<unk> again"}
    kept = [" ".join(words) for words in data.sentences().held_out]
    assert not set(kept) & set(train)
    assert Counter(kept) + train == Counter(lines)


def test_a_sentence_is_on_one_side_however_it_is_written(tmp_path: Path) -> None:
    lines = [f"{a} {b} again" for a in "abcd" for b in "abcd"]
    root = write(tmp_path / "text.txt", [way for line in lines for way in (line, line.upper(), f" {line}\r")])
    sentences = loaded(root, held_out=0.25).sentences()
    assert (len(sentences.train), len(sentences.held_out)) == (36, 12)
    assert not {*map(tuple, sentences.train)} & {*map(tuple, sentences.held_out)}


def test_a_file_of_held_out_lines(tmp_path: Path) -> None:
    root, test = write(tmp_path / "a.txt", LINES), write(tmp_path / "b.txt", ["a cat", "a very long tale of a dog"])
    data = loaded(root, test=test, held_out=0.5)
    assert len(data.train) == 5
    assert data.lines(rows(data, "held_out")) == ["a cat"]  # the other does not fit
    assert data.judge_samples(rows(data))["bleu_2"].settings["references"] == 2  # but can be compared with


def test_other_ends_of_lines(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes("\ufeffa b\r\nc\u2028d\r\ne".encode())
    assert loaded(tmp_path / "text.txt").lines(rows(loaded(tmp_path / "text.txt"))) == ["a b", "c d", "e"]


@pytest.mark.parametrize(
    ("content", "settings", "fragment"),
    [
        (None, {}, r"data.root=.*text.txt: there is no such file"),
        (b"", {}, r"data.root=.*text.txt: the file is empty"),
        (b"\n  \n\t\n", {}, r"text.txt: all of its 3 lines are blank"),
        (b"one\ntw\xff\n", {}, r"text.txt: line 2 is not UTF-8 \(byte 0xff\); convert the file"),
        (
            b"a b c\nd e\n",
            {"length": 1, "vocabulary": 3},
            r"data.length=1: the shortest .* has 2 tokens; .*too_long=cut",
        ),
        (b"a b c\nd e\n", {"length": 0, "vocabulary": 3}, r"data.length=0: the longest sentence .* has 3 tokens"),
        (b"a b c\nd e\n", {"min_count": 2}, r"data.min_count=2: no word of .*text.txt"),
        (b"a b c\nd e\n", {"vocabulary": 5}, r"data.vocabulary=5: the text has 5 words, with the end and <unk> 7"),
        (b"a b\na b\n", {"held_out": 0.5}, r"data.held_out=0.5: leaves no sentence of .*text.txt to train on"),
        (b"a b\n", {"test": Path("nowhere.txt")}, r"data.test=nowhere.txt: there is no such file"),
    ],
)
def test_mistakes(content: bytes | None, settings: dict[str, Any], fragment: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=fragment) as raised:
        build(path, **settings).check()
    assert "\n" not in str(raised.value)


def test_more_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root=.*: a folder, not a file"):
        build(tmp_path).check()
    with pytest.raises(UserError, match=r"data.root=aaa.*: cannot be read: File name too long"):
        build(Path("a" * 300)).check()
    with pytest.raises(ValueError, match="held_out=1"):
        build(None, held_out=1.0)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "text.txt", ["a b", "c"])
    assert text_size("vocabulary", {**DEFAULTS, "root": path, "length": 2}) == 5
    write(path, ["a b c d", "c"])
    assert text_size("length", {**DEFAULTS, "root": path}) == 4


def test_words_of_a_checkpoint(tmp_path: Path) -> None:
    """They need no file; another file is read with them."""
    data = build(tmp_path / "gone.txt", vocabulary=4, length=3)
    data.recall({"words": ["b", "a"]})
    assert data.lines(torch.tensor([[3, 2, 0]])) == ["a b"]
    assert data.prefix("a b").tolist() == [3, 2]
    write(tmp_path / "gone.txt", ["a c b"])
    data.check()
    data.setup()
    assert rows(data).tolist() == [[3, 1, 2]]
    assert data.facts() == {"words": ["b", "a"]}
    assert loaded(tmp_path / "gone.txt").facts() == {"words": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("the purple cat", "'purple' is not in the vocabulary"),
        ("  ", "has no words"),
        ("the dog sleeps the dog", "has 5 tokens, and a sample of this model has 5"),
    ],
)
def test_prefixes(text: str, fragment: str, tmp_path: Path) -> None:
    data = loaded(write(tmp_path / "text.txt", LINES))
    assert data.lines(data.prefix("The DOG")[None]) == ["the dog"]
    with pytest.raises(UserError, match=f"prefix={text!r}: {fragment}"):
        data.prefix(text)


def test_scores(tmp_path: Path) -> None:
    data = loaded(None, held_out=0.1)
    real = rows(data)[:100]
    found = data.judge_samples(real)
    assert set(found) == set(data.judged)
    assert len(found) == 4 + 4 + 3
    shuffled = data.judge_samples(real[:, torch.randperm(data.length, generator=torch.Generator().manual_seed(0))])
    assert found["bleu_3"].value > 2 * shuffled["bleu_3"].value
    same = data.judge_samples(real[:1].expand(100, -1))
    assert same["self_bleu_5"].value == pytest.approx(1)
    assert same["distinct_1"].value < 0.1 * found["distinct_1"].value
    alone = loaded(None)  # nothing is held out
    assert set(alone.judge_samples(real)) == set(alone.judged) == {name for name in found if name[:4] != "bleu"}


def test_files_and_exhibits(tmp_path: Path) -> None:
    data = loaded(write(tmp_path / "text.txt", LINES))
    data.write(rows(data)[2:4], tmp_path, "some_")
    assert (tmp_path / "some_samples.txt").read_text() == "the dog sleeps\na bird\n"
    data.exhibit(rows(data)[:1]).save(tmp_path / "real")
    assert (tmp_path / "real.txt").read_text() == "the cat sleeps.\n"


def test_the_bundled_sentences() -> None:
    lines = BUNDLED.read_text(encoding="utf-8").splitlines()
    assert 400 <= len(lines) == len(set(lines)) <= 600
    assert all(5 <= len(line.split()) <= 12 and line == " ".join(line.lower().split()) for line in lines)
    data = loaded(None, held_out=0.1)
    unknown = (rows(data, "held_out") == 1).float().mean()
    assert (len(data.held_out), data.length) == (59, 12)
    assert unknown < 0.01


def test_configurations_know_the_sizes(tmp_path: Path) -> None:
    root = write(tmp_path / "my text, 照片.txt", LINES)
    how = ["data=text_file", f"data.root={root}", "data.held_out=0"]
    sizes = [
        (compose("train", [*how, *more], Settings).data, expected)
        for more, expected in (
            ([], (10, 5)),
            (["data.length=3"], (9, 3)),
            (["data.min_count=2"], (7, 5)),
            (["data.tokens=characters"], (18, 18)),
            ([f"data.root={tmp_path / 'nowhere'}"], (1, 1)),
        )
    ]
    assert [(node.vocabulary, node.length) for node, _ in sizes] == [expected for _, expected in sizes]
    with pytest.raises(UserError, match=r"data.root=.*nowhere: there is no such file"):
        instantiate(sizes[-1][0]).check()


# ---- the oracle ----------------------------------------------------------------------------------------------------


def oracle(**settings: Any) -> Oracle:
    small = {"vocabulary": 30, "length": 6, "samples": 50, "held_out_samples": 20}
    return Oracle(**{**small, "batch_size": 4, "seed": 0, **settings})


def test_sequences_are_the_same_for_every_seed() -> None:
    data, other = oracle(), oracle(seed=5)
    for one in (data, other):
        one.check()
        one.setup()
    assert torch.equal(rows(data), rows(other))
    assert torch.equal(rows(data, "held_out"), rows(other, "held_out"))
    assert rows(data).shape == (50, 6)
    assert len(data.held_out) == 20
    assert not torch.equal(rows(data)[:20], rows(data, "held_out"))
    assert not data.ends
    more = oracle(samples=60)
    more.setup()
    assert torch.equal(rows(more)[:50], rows(data))
    assert oracle(oracle_seed=1).facts() != data.facts() == other.facts()


def test_what_the_oracle_says_of_samples() -> None:
    data = oracle(samples=2000)
    data.setup()
    own = data.judge_samples(rows(data))["nll_oracle"]
    random = data.judge_samples(torch.randint(30, (2000, 6), generator=torch.Generator().manual_seed(0)))["nll_oracle"]
    assert own.value == pytest.approx(float(data.oracle.nll(rows(data)).mean()))
    assert random.value > own.value + 1
    one = data.judge_samples(rows(data)[:1].repeat(50, 1))  # as likely as sequences are, and always the same
    assert data.judged == tuple(one)
    assert one["self_bleu_5"].value == pytest.approx(1)
    assert data.judge_samples(rows(data)[:50])["self_bleu_5"].value < 0.5
    assert data.lines(torch.tensor([[0, 7, 29]])) == ["0 7 29"]


def test_mistakes_about_the_oracle(tmp_path: Path) -> None:
    stream = np.random.default_rng(0)
    parameters: dict[str, Any] = {key: stream.normal(size=size) for key, size in shapes(8, 2, 3).items()}
    np.savez(tmp_path / "o.npz", **parameters)
    data = oracle(parameters=tmp_path / "o.npz", vocabulary=8)
    data.check()
    assert data.facts() != oracle(vocabulary=8).facts()
    data.recall(data.facts())
    data.check()
    data.recall(oracle(vocabulary=8).facts())
    with pytest.raises(UserError, match=r"data.parameters=.*o.npz: is not the oracle that the run was trained with"):
        data.check()
    with pytest.raises(UserError, match=r"data.vocabulary=30: .*o.npz has 8 different tokens"):
        oracle(parameters=tmp_path / "o.npz").check()
    with pytest.raises(UserError, match=r"data.parameters=.*p.npz: there is no such file"):
        oracle(parameters=tmp_path / "p.npz").check()
    for wrong in ("8", "-1", "x", "²"):
        with pytest.raises(UserError, match=f"'{wrong}' is no token of the oracle: 0 to 7"):
            data.prefix(f"3 {wrong}")
    assert data.prefix("3 7").tolist() == [3, 7]
