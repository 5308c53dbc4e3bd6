"""Files of sentences and the words in them, without torch: configurations ask how many words there are.

In the sentences of a file token 0 is their end, what stands after it, and what a generator is given first; token 1 is
every word that is not in the vocabulary; words are numbered from 2 on, the most frequent first.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from gan_lightning.data.listing import hashed
from gan_lightning.errors import UserError
from gan_lightning.paths import expand

Tokens = Literal["words", "nltk", "characters"]
TooLong = Literal["drop", "cut"]
BUNDLED = Path(__file__).with_name("tiny_text.txt")
END, UNKNOWN = 0, 1
SPECIAL = 2  # tokens that are no words
UNKNOWN_WORD = "<unk>"


def tokenise(line: str, tokens: Tokens) -> list[str]:
    """The tokens of a line: what stands between spaces, or this cut as NLTK's word_tokenize does, or its characters.

    word_tokenize also looks for several sentences in a line; that needs a download, and is left out.
    """
    if tokens == "characters":
        return list(" ".join(line.split()))
    if tokens == "nltk":
        from nltk.tokenize import NLTKWordTokenizer  # a second to import

        return NLTKWordTokenizer().tokenize(line)
    return line.split()


@dataclass(frozen=True)
class Sentences:
    """The lines of a text by tokens, and how many were blank."""

    train: list[list[str]]
    held_out: list[list[str]]
    blank: int


def read_sentences(root: Path, test: Path | None, tokens: Tokens, lower: bool, held_out: float) -> Sentences:
    """The lines of a file, and those of another or a share of the first that are held out.

    Held out are whole sentences: one that stands there twice is on one side. The share is the same for every seed.
    Raises UserError for a file that cannot be used.
    """
    return _read(root, stamp(root), test, stamp(test), tokens, lower, held_out)


def stamp(path: Path | None) -> tuple[int, int] | None:
    """What changes with a file."""
    try:
        status = path.stat() if path else None
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size) if status else None


@lru_cache(maxsize=2)  # a file is read once however often a configuration asks
def _read(root: Path, _: object, test: Path | None, __: object, tokens: Tokens, lower: bool, share: float) -> Sentences:
    def cut(key: str, path: Path) -> tuple[list[list[str]], int]:
        lines, blank = read_lines(key, path)
        return [tokenise(line.lower() if lower else line, tokens) for line in lines], blank

    train, blank = cut("data.root", root)
    if test is not None:
        others, more = cut("data.test", test)
        return Sentences(train, others, blank + more)
    names = [" ".join(sentence) for sentence in train]  # equal whatever stood between the tokens
    different = sorted(dict.fromkeys(names), key=hashed)
    chosen = set(different[: held_out_count(len(different), share)])
    held_out = [sentence for sentence, name in zip(train, names, strict=True) if name in chosen]
    train = [sentence for sentence, name in zip(train, names, strict=True) if name not in chosen]
    if not train:
        raise UserError(f"data.held_out={share}: leaves no sentence of {root} to train on")
    return Sentences(train, held_out, blank)


def held_out_count(sentences: int, share: float) -> int:
    """How many of the different sentences are held out: one at least, if any are to be."""
    return max(1, round(sentences * share)) if share else 0


def read_lines(key: str, path: Path) -> tuple[list[str], int]:
    """The lines that are not blank, and how many are. Raises UserError, with the key, for a file of no use."""
    try:
        if not path.is_file():
            reason = "a folder, not a file" if path.is_dir() else "there is no such file"
            raise UserError(f"{key}={path}: {reason}; it must be a text with a sentence on every line")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{key}={path}: cannot be read: {error.strerror}") from None
    if not content:
        raise UserError(f"{key}={path}: the file is empty")
    lines: list[str] = []
    # by \n alone: other characters that Python takes for the end of a line may stand inside one
    rows = content.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")
    for number, row in enumerate(rows, 1):
        try:
            lines.append(row.decode())
        except UnicodeDecodeError as error:
            byte = row[error.start]
            raise UserError(f"{key}={path}: line {number} is not UTF-8 (byte 0x{byte:02x}); convert the file") from None
    usable = [line for line in lines if line.strip()]
    if not usable:
        raise UserError(f"{key}={path}: all of its {len(lines)} lines are blank")
    return usable, len(lines) - len(usable)


def fitting(sentences: Sequence[list[str]], length: int, too_long: TooLong) -> list[list[str]]:
    """Those of at most `length` tokens; longer ones are dropped, or cut."""
    if too_long == "cut":
        return [sentence[:length] for sentence in sentences]
    return [sentence for sentence in sentences if len(sentence) <= length]


def frequent_words(sentences: Iterable[list[str]], min_count: int) -> list[str]:
    """The words that stand there at least `min_count` times: the most frequent first, equally frequent by alphabet."""
    counts = Counter(word for sentence in sentences for word in sentence)
    del counts[UNKNOWN_WORD]  # has a number
    return sorted(
        (word for word, count in counts.items() if count >= min_count), key=lambda word: (-counts[word], word)
    )


class Vocabulary:
    """Words by number and the way back.

    Args:
        words: token 2 and those after it.
    """

    def __init__(self, words: Sequence[str], tokens: Tokens = "words", lower: bool = False) -> None:
        self.words = list(words)
        self.tokens: Tokens = tokens
        self.lower = lower
        self.numbers = {word: number for number, word in enumerate(self.words, SPECIAL)} | {UNKNOWN_WORD: UNKNOWN}

    def __len__(self) -> int:
        """V: the words, the end and what is unknown."""
        return len(self.words) + SPECIAL

    def cut(self, line: str) -> list[str]:
        """The tokens of a line as text."""
        return tokenise(line.lower() if self.lower else line, self.tokens)

    def encode(self, line: str | list[str], length: int) -> list[int]:
        """A line, or its tokens, as `length` numbers: cut where it is longer, filled up with the end where shorter."""
        words = self.cut(line) if isinstance(line, str) else line
        found = [self.numbers.get(word, UNKNOWN) for word in words[:length]]
        return found + [END] * (length - len(found))

    def words_of(self, tokens: Sequence[int]) -> list[str]:
        """Numbers up to the first end as words."""
        end = tokens.index(END) if END in tokens else len(tokens)
        return [self.words[token - SPECIAL] if token >= SPECIAL else UNKNOWN_WORD for token in tokens[:end]]

    def decode(self, tokens: Sequence[int]) -> str:
        """The same as a line."""
        return ("" if self.tokens == "characters" else " ").join(self.words_of(tokens))


def text_size(what: Literal["vocabulary", "length"], settings: Mapping[str, Any]) -> int:
    """For a configuration of data: the size of the vocabulary, or the length of the longest training sentence.

    1 where the file cannot be used: what is wrong with it is said by the data's own check, which comes after that of
    the sizes of networks.
    """
    try:
        root, test = (None if settings[key] is None else expand(str(settings[key])) for key in ("root", "test"))
        how = settings["tokens"], bool(settings["lower"]), float(settings["held_out"])
        sentences = read_sentences(root or BUNDLED, test, *how).train
        if what == "length":
            return max(map(len, sentences))
        kept = fitting(sentences, int(settings["length"]), settings["too_long"])
        return len(frequent_words(kept, int(settings["min_count"]))) + SPECIAL
    except (OSError, ValueError, TypeError, KeyError):
        return 1
