"""Texts: a file with a sentence on every line, and the sequences of SeqGAN's oracle. A sample is tokens (L,), int64."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lightning.data.base import Data, say
from gan_lightning.data.sets import InMemory
from gan_lightning.data.vocabulary import (
    BUNDLED,
    SPECIAL,
    Sentences,
    Tokens,
    TooLong,
    Vocabulary,
    fitting,
    frequent_words,
    read_sentences,
)
from gan_lightning.draws import generator as stream_of
from gan_lightning.errors import UserError
from gan_lightning.exhibits import Exhibit, TextExhibit
from gan_lightning.metrics.scores import Value
from gan_lightning.networks.oracle import OracleLSTM
from gan_lightning.paths import expand
from gan_lightning.types import Fraction, NonNegativeInt, PositiveInt


class TextData(Data):
    """Sequences of tokens, all of one length.

    Args:
        vocabulary: V, the number of different tokens.
        length: L, tokens of a sample.
    """

    noun = "texts"
    ends = False  # token 0 ends a sentence, and nothing after it counts

    def __init__(self, vocabulary: NonNegativeInt, length: NonNegativeInt, **base: Any) -> None:
        super().__init__(**base)
        self.vocabulary = vocabulary
        self.length = length

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def scaled(self, stored: Tensor) -> Tensor:
        """Tokens are seen as they are."""
        return stored

    def stored(self, images: Tensor) -> Tensor:
        """Tokens are kept as they are."""
        return images.detach()

    def decode(self, tokens: Sequence[int]) -> str:
        """A sample as a line."""
        raise NotImplementedError

    def prefix(self, text: str) -> Tensor:
        """The tokens (P,) that samples are to begin with. Raises UserError for what is not in the vocabulary."""
        raise NotImplementedError

    def lines(self, samples: Tensor) -> list[str]:
        """Samples (N, L) as lines."""
        return [self.decode(tokens) for tokens in samples.tolist()]

    def exhibit(self, samples: Tensor, module: Any = None, ema: bool = True) -> Exhibit:
        return TextExhibit(self.lines(samples))

    def write(self, images: Tensor, folder: Path, prefix: str = "") -> None:
        """<prefix>samples.txt: a sample (N, L) on every line."""
        TextExhibit(self.lines(images)).save(folder / f"{prefix}samples")

    def checked_prefix(self, text: str, tokens: list[int]) -> Tensor:
        """Tokens (P,). Raises UserError where they leave no place for another."""
        if not tokens:
            raise UserError(f"prefix={text!r}: has no words")
        if len(tokens) >= self.length:
            raise UserError(f"prefix={text!r}: has {len(tokens)} tokens, and a sample of this model has {self.length}")
        return torch.tensor(tokens, dtype=torch.int64)


def diversity_scores() -> list[str]:
    """The names of `diversity_of`."""
    from gan_lightning.metrics.text import DISTINCT, ORDERS  # NLTK takes a while to import

    return [*(f"self_bleu_{order}" for order in ORDERS), *(f"distinct_{order}" for order in DISTINCT)]


def diversity_of(sentences: list[list[str]]) -> dict[str, Value]:
    """How much sentences have of each other: Self-BLEU, distinct n-grams."""
    from gan_lightning.metrics.text import distinct, self_bleu

    return {**self_bleu(sentences), **distinct(sentences)}


class TextFile(TextData):
    """A file with a sentence on every line; lines that stand there twice are kept.

    Sentences end with token 0. Words that are not in the vocabulary are token 1.

    Args:
        root: the file; None: the sentences that come with the program.
        vocabulary, length: of the file; the configuration finds them.
        test: another file, whose lines are held out.
        tokens: "words" are what stands between spaces, "nltk" cuts as NLTK's word_tokenize.
        lower: turns capital letters into small ones.
        min_count: words that the training sentences have less often are unknown.
        too_long: what becomes of sentences longer than `length`.
        held_out: without a test file, share of the different sentences that is never trained on.
    """

    ends = True
    score_samples = 500  # what Texygen's Self-BLEU is of (Zhu et al. 2018); see metrics/text.py

    def __init__(
        self,
        vocabulary: NonNegativeInt,
        length: NonNegativeInt,
        root: Path | None = None,
        test: Path | None = None,
        tokens: Tokens = "words",
        lower: bool = True,
        min_count: PositiveInt = 1,
        too_long: TooLong = "drop",
        held_out: Fraction = 0.1,
        **base: Any,
    ) -> None:
        super().__init__(vocabulary=vocabulary, length=length, **base)
        if held_out >= 1:
            raise ValueError(f"held_out={held_out}: leaves no sentence to train on")
        self.root = BUNDLED if root is None else expand(root)
        self.test = None if test is None else expand(test)
        self.tokens: Tokens = tokens
        self.lower = lower
        self.min_count = min_count
        self.too_long: TooLong = too_long
        self.held_out_share = held_out
        self._words: Vocabulary | None = None
        self._references: Any = None  # counted when they are first compared with

    def sentences(self) -> Sentences:
        return read_sentences(self.root, self.test, self.tokens, self.lower, self.held_out_share)

    @property
    def words(self) -> Vocabulary:
        """The vocabulary: that of a checkpoint, or else of the training sentences."""
        if self._words is None:
            kept = fitting(self.sentences().train, self.length, self.too_long)
            self._words = Vocabulary(frequent_words(kept, self.min_count), self.tokens, self.lower)
        return self._words

    def facts(self) -> dict[str, Any]:
        return {"words": self.words.words}

    def recall(self, facts: dict[str, Any]) -> None:
        if "words" in facts:
            self._words = Vocabulary(facts["words"], self.tokens, self.lower)

    def check(self) -> None:
        sentences = self.sentences()
        if not fitting(sentences.train, self.length, self.too_long) or not self.length:
            shortest = min(map(len, sentences.train))
            raise UserError(
                f"data.length={self.length}: the shortest sentence of {self.root} has {shortest} tokens; "
                "give more, or data.too_long=cut"
                if self.length
                else f"data.length=0: the longest sentence of {self.root} has {max(map(len, sentences.train))} tokens"
            )
        if not self.words.words:
            raise UserError(f"data.min_count={self.min_count}: no word of {self.root} stands there so often")
        if len(self.words) != self.vocabulary:
            raise UserError(
                f"data.vocabulary={self.vocabulary}: the text has {len(self.words) - SPECIAL:,} words, with the end "
                f"and <unk> {len(self.words)}; leave it out"
            )

    def load(self) -> tuple[InMemory, InMemory, list[str]]:
        self.check()
        sentences, parts = self.sentences(), []
        for some in (sentences.train, sentences.held_out):
            rows = [self.words.encode(words, self.length) for words in fitting(some, self.length, self.too_long)]
            parts.append(InMemory(torch.tensor(rows, dtype=torch.int64).view(len(rows), self.length)))
        if sentences.blank:
            say(f"data.root={self.root}: blank lines passed over: {sentences.blank}")
        both = [*sentences.train, *sentences.held_out]
        if longer := sum(len(sentence) > self.length for sentence in both):
            become = "cut" if self.too_long == "cut" else "left out"
            say(f"data.length={self.length}: {longer} of {len(both)} sentences are longer and are {become}")
        return parts[0], parts[1], []

    def description(self) -> str:
        return f"{super().description()} tokens at most, {len(self.words) - SPECIAL:,} words"

    def decode(self, tokens: Sequence[int]) -> str:
        return self.words.decode(tokens)

    def prefix(self, text: str) -> Tensor:
        words = self.words.cut(text)
        for word in words:
            if word not in self.words.numbers:
                raise UserError(f"prefix={text!r}: {word!r} is not in the vocabulary of this model")
        return self.checked_prefix(text, self.words.encode(words, len(words)))

    @property
    def judged(self) -> tuple[str, ...]:
        from gan_lightning.metrics.text import ORDERS

        against_real = [f"bleu_{order}" for order in ORDERS] if self.sentences().held_out else []
        return (*against_real, *diversity_scores())

    def judge_samples(self, samples: Tensor) -> dict[str, Value]:
        """BLEU against all held-out sentences, as they stand in the file; Self-BLEU and distinct n-grams."""
        from gan_lightning.metrics.text import References, bleu

        drawn = [self.words.words_of(tokens) for tokens in samples.tolist()]
        held_out = self.sentences().held_out
        if held_out and self._references is None:
            self._references = References(held_out)
        return {**(bleu(drawn, self._references) if held_out else {}), **diversity_of(drawn)}


class Oracle(TextData):
    """SeqGAN's synthetic benchmark: sequences of an LSTM with random weights, the same for every seed of a run.

    All tokens are words, and none ends a sequence (Yu et al. 2017, section 4.1).

    Args:
        samples: training sequences.
        held_out_samples: and others.
        oracle_seed: of the LSTM's weights, each from N(0, 1).
        parameters: an .npz that has them instead (networks/oracle.py: KEYS).
    """

    score_samples = 10_000  # as many as SeqGAN's code

    def __init__(
        self,
        vocabulary: PositiveInt = 5000,
        length: PositiveInt = 20,
        samples: PositiveInt = 10_000,
        held_out_samples: NonNegativeInt = 10_000,
        oracle_seed: NonNegativeInt = 0,
        parameters: Path | None = None,
        **base: Any,
    ) -> None:
        super().__init__(vocabulary=vocabulary, length=length, **base)
        self.counts = {"train": samples, "held out": held_out_samples}
        self.oracle_seed = oracle_seed
        self.parameters = None if parameters is None else expand(parameters)
        self._oracle: OracleLSTM | None = None
        self._of_the_run: str | None = None  # the fingerprint of the oracle that a checkpoint was trained with

    @property
    def oracle(self) -> OracleLSTM:
        """Raises UserError where its file cannot be used."""
        if self._oracle is None and self.parameters is not None:
            try:
                self._oracle = OracleLSTM.of_file(self.parameters)
            except UserError as error:
                raise UserError(f"data.parameters={error}") from None
        self._oracle = self._oracle or OracleLSTM.drawn(self.vocabulary, self.oracle_seed)
        return self._oracle

    def facts(self) -> dict[str, Any]:
        """Which oracle it is: a run goes on with no other."""
        digest = hashlib.sha256()
        for tensor in self.oracle.state_dict().values():
            digest.update(tensor.numpy().tobytes())
        return {"oracle": digest.hexdigest()[:16]}

    def recall(self, facts: dict[str, Any]) -> None:
        self._of_the_run = facts.get("oracle")

    def check(self) -> None:
        if self.oracle.vocabulary != self.vocabulary:
            raise UserError(
                f"data.vocabulary={self.vocabulary}: {self.parameters} has {self.oracle.vocabulary} different tokens"
            )
        if self._of_the_run not in (None, self.facts()["oracle"]):
            raise UserError(f"data.parameters={self.parameters}: is not the oracle that the run was trained with")

    def load(self) -> tuple[InMemory, InMemory, list[str]]:
        self.check()
        parts = []
        for name, count in self.counts.items():
            numbers = torch.rand(count, self.length, generator=stream_of(0, "oracle", name))
            parts.append(InMemory(self.oracle.sample(numbers)))
        return parts[0], parts[1], []

    def description(self) -> str:
        return f"{super().description()} tokens, {self.vocabulary:,} different ones"

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(map(str, tokens))

    @property
    def judged(self) -> tuple[str, ...]:
        return ("nll_oracle", *diversity_scores())

    def prefix(self, text: str) -> Tensor:
        words = text.split()
        for word in words:
            if not (word.isascii() and word.isdigit() and int(word) < self.vocabulary):
                raise UserError(f"prefix={text!r}: {word!r} is no token of the oracle: 0 to {self.vocabulary - 1}")
        return self.checked_prefix(text, list(map(int, words)))

    def judge_samples(self, samples: Tensor) -> dict[str, Value]:
        """`nll_oracle`: how unlikely the oracle finds samples, in nats a token (Yu et al. 2017, eq. 9).

        A generator that repeats one likely sequence is not found out by it: Self-BLEU and distinct n-grams beside it.
        """
        found = self.oracle.nll(samples.cpu()).double()
        likely = Value(float(found.mean()), None, {"sequences": len(samples)})
        return {"nll_oracle": likely, **diversity_of([self.decode(tokens).split() for tokens in samples.tolist()])}
