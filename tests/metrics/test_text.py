"""BLEU and Self-BLEU are NLTK's; distinct n-grams by counting."""

import math
import random
from typing import Any

import nltk
import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from gan_lightning.metrics.scores import UP
from gan_lightning.metrics.text import ORDERS, References, bleu, distinct, self_bleu


def sentences(seed: int, count: int, words: int = 6) -> list[list[str]]:
    """Random sentences over few words, so that n-grams repeat within and between them; some are empty."""
    stream = random.Random(seed)
    return [[f"w{stream.randrange(words)}" for _ in range(stream.randrange(13))] for _ in range(count)]


def by_nltk(references: list[list[str]], hypothesis: list[str], order: int) -> float:
    weights = (1 / order,) * order
    found: Any = sentence_bleu(references, hypothesis, weights, smoothing_function=SmoothingFunction().method1)
    return found


@pytest.mark.parametrize("words", [2, 6, 30])
def test_bleu_is_that_of_nltk(words: int) -> None:
    references, drawn = sentences(0, 40, words), [*sentences(1, 40, words + 1), ["never"], ["w0"] * 20]
    counted = References(references)
    for sentence in drawn:
        expected = [by_nltk(references, sentence, order) for order in ORDERS]
        assert counted.bleu(sentence) == pytest.approx(expected, abs=1e-12)
    found = bleu(drawn, counted)
    for order in ORDERS:
        mean = sum(by_nltk(references, sentence, order) for sentence in drawn) / len(drawn)
        assert found[f"bleu_{order}"].value == pytest.approx(mean, abs=1e-12)
        assert 0 < mean < 1
    settings = {"hypotheses": 42, "references": 40, "smoothing": "method1", "nltk": nltk.__version__}
    assert found["bleu_5"].settings == settings


@pytest.mark.parametrize("words", [2, 6, 30])
def test_self_bleu_leaves_out_the_sentence_itself(words: int) -> None:
    drawn = sentences(2, 40, words)
    drawn += drawn[:3]  # a copy is one of the others
    found = self_bleu(drawn)
    for order in ORDERS:
        each = [by_nltk(drawn[:i] + drawn[i + 1 :], sentence, order) for i, sentence in enumerate(drawn)]
        assert found[f"self_bleu_{order}"].value == pytest.approx(sum(each) / len(each), abs=1e-12)
        assert found[f"self_bleu_{order}"].settings["references"] == len(drawn) - 1


def test_self_bleu_of_few() -> None:
    one, other = ["a", "b", "c", "d", "e"], ["f", "g"]
    assert self_bleu([one, one])["self_bleu_5"].value == pytest.approx(1)
    assert self_bleu([one, other])["self_bleu_2"].value == 0
    assert math.isnan(self_bleu([one])["self_bleu_2"].value)


def test_distinct() -> None:
    found = distinct([["a", "b", "a", "b"], ["a", "b"], []])
    assert found["distinct_1"].value == 2 / 6
    assert found["distinct_2"].value == 2 / 4  # ab, ba, ab; ab
    assert found["distinct_3"].value == 2 / 2
    assert found["distinct_2"].settings == {"hypotheses": 3, "n_grams": 4}
    assert distinct([["a"], []])["distinct_2"].value == 0


def test_which_scores_of_texts_are_better_when_larger() -> None:
    sentences = [["a", "b", "c"], ["a", "c", "b"]]
    larger = {*bleu(sentences, References(sentences)), *distinct(sentences)}
    assert larger < UP
    assert not {*self_bleu(sentences), "nll", "nll_oracle"} & UP
