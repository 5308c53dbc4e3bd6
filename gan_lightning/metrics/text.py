"""Scores of sentences: BLEU against real ones, BLEU among themselves, and how many different n-grams they have.

BLEU (Papineni et al. 2002) is NLTK's `sentence_bleu` with smoothing method 1 and equal weights, the mean over the
sentences that are scored, as Texygen has it (Zhu et al. 2018). NLTK counts the references anew for every sentence;
here they are counted once, which gives the same numbers.

How the numbers of COCO captions were made, by the code of each: all on sentences in lower case that NLTK's
word_tokenize cut, 10,000 captions to train on, the 10,000 of the test file as references; all but LeakGAN smooth.

- Texygen (github.com/geek-ai/Texygen, NLTK 3.2.3): every sentence of a file against the first 500 references as the
  scores are called, and Self-BLEU of the first 500 sentences; the functions can also take all. The paper does not say,
  and its tables (BLEU-2 … 5 of a language model .731 .497 .305 .189, Self-BLEU .916 .769 .583 .408) must have had
  10,000 of each: the real training captions have a BLEU of .740 .520 .337 .218 against all references and of .51 .27
  .15 .09 against 500, a Self-BLEU of .892 .747 .574 .416 among 10,000 and of .711 .487 .309 .202 among 500.
- RelGAN (github.com/weilinie/RelGAN, NLTK 3.2.3): 100 of 10,000 sentences against all references. Its Self-BLEU keeps
  every sentence among its own references, where it would be 1, and is switched off.
- TextGAN-PyTorch (github.com/williamSYSU/TextGAN-PyTorch): 200 sentences against all references; Self-BLEU of 200
  sentences against 10,000 others.
- LeakGAN (github.com/CR-Gjx/LeakGAN): 2,000 sentences against all references, without smoothing.

BLEU hardly depends on how many sentences are scored, but on the number of references, and Self-BLEU on how many
sentences there are. Here BLEU has all references, and Self-BLEU is of each sentence against all others: 500, which are
quickly drawn, while a model is trained; 10,000 are to be compared with what Texygen published.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from gan_lightning.metrics.scores import Value

Sentence = Sequence[str]
Gram = tuple[str, ...]
ORDERS = (2, 3, 4, 5)  # of BLEU
DISTINCT = (1, 2, 3)


def grams(sentence: Sentence, order: int) -> Iterator[Gram]:
    """Every run of `order` words."""
    return zip(*(sentence[start:] for start in range(order)), strict=False)


class References:
    """Sentences to compare with, counted once.

    For every n-gram: how often it stands in the sentence that has it most often, how often in the second, and which
    sentence is the first; so that a sentence can be compared with all others but itself.
    """

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        self.counts: dict[Gram, tuple[int, int, int]] = {}
        self.lengths = Counter(map(len, sentences))
        self.size = len(sentences)
        for index, sentence in enumerate(sentences):
            for order in range(1, max(ORDERS) + 1):
                for gram, count in Counter(grams(sentence, order)).items():
                    most, second, owner = self.counts.get(gram, (0, 0, index))
                    if count > most:
                        self.counts[gram] = count, most, index
                    elif count > second:
                        self.counts[gram] = most, count, owner

    def most(self, gram: Gram, without: int | None) -> int:
        """How often the n-gram stands in a sentence, at most; `without`: of all but this one."""
        most, second, owner = self.counts.get(gram, (0, 0, None))
        return second if owner == without and owner is not None else most

    def length(self, wanted: int, own: bool) -> int:
        """The length nearest to the one wanted, the shorter of two; `own`: one sentence of that length is left out."""
        lengths = [length for length, count in self.lengths.items() if count > (own and length == wanted)]
        return min(lengths, key=lambda length: (abs(length - wanted), length))

    def bleu(self, sentence: Sentence, without: int | None = None) -> list[float]:
        """BLEU of every order in ORDERS; `without`: the number of the sentence itself, if it is among the references.

        Papineni et al. 2002, section 2.3: the brevity penalty times the geometric mean of the clipped precisions.
        """
        from nltk.translate.bleu_score import Fraction, SmoothingFunction, brevity_penalty  # a second to import

        precisions = []
        for order in range(1, max(ORDERS) + 1):
            counts = Counter(grams(sentence, order))
            matches = sum(min(count, self.most(gram, without)) for gram, count in counts.items())
            precisions.append(Fraction(matches, max(1, counts.total()), _normalize=False))
        if not precisions[0].numerator:
            return [0.0] * len(ORDERS)
        penalty = brevity_penalty(self.length(len(sentence), without is not None), len(sentence))
        logarithms = [math.log(precision) for precision in SmoothingFunction().method1(precisions)]
        return [penalty * math.exp(math.fsum(logarithms[:order]) / order) for order in ORDERS]


def bleu(sentences: Sequence[Sentence], references: References) -> dict[str, Value]:
    """`bleu_2` … `bleu_5`: how much the sentences are made of pieces of the references."""
    return means("bleu", [references.bleu(sentence) for sentence in sentences], references.size)


def self_bleu(sentences: Sequence[Sentence]) -> dict[str, Value]:
    """`self_bleu_2` … `self_bleu_5`: how much each sentence is made of pieces of the others; less is more diverse.

    NaN for a single sentence.
    """
    if len(sentences) < 2:
        return means("self_bleu", [[math.nan] * len(ORDERS)], 0)
    others = References(sentences)
    found = [others.bleu(sentence, index) for index, sentence in enumerate(sentences)]
    return means("self_bleu", found, len(sentences) - 1)


def means(name: str, found: Sequence[Sequence[float]], references: int) -> dict[str, Value]:
    """The mean of each order over the sentences, with how it was made."""
    import nltk

    settings: dict[str, Any] = {
        "hypotheses": len(found),
        "references": references,
        "smoothing": "method1",
        "nltk": nltk.__version__,
    }
    columns = zip(ORDERS, zip(*found, strict=True), strict=True)
    return {f"{name}_{order}": Value(math.fsum(values) / len(found), None, settings) for order, values in columns}


def distinct(sentences: Sequence[Sentence]) -> dict[str, Value]:
    """`distinct_1` … `distinct_3`: different n-grams over all n-grams of all sentences (after Li et al. 2016).

    It falls with the number of sentences: compare equal numbers of them.
    """
    values = {}
    for order in DISTINCT:
        every = [gram for sentence in sentences for gram in grams(sentence, order)]
        share = len(set(every)) / len(every) if every else 0.0
        values[f"distinct_{order}"] = Value(share, None, {"hypotheses": len(sentences), "n_grams": len(every)})
    return values
