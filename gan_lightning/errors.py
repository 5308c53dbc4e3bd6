"""The one exception that the command line shows without a traceback, and how messages are shown."""

import unicodedata

DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # marks that turn writing around


class UserError(ValueError):
    """A user's mistake: the message names the key or the file, and the value. Exit code 2."""


def readable(text: str) -> str:
    """A message without what commands a terminal, which names of files may hold: ESC becomes \\x1b. Lines stay."""
    return "".join(one if one == "\n" or shows(one) else one.encode("unicode_escape").decode() for one in text)


def shows(character: str) -> bool:
    kind, direction = unicodedata.category(character), unicodedata.bidirectional(character)
    return kind not in ("Cc", "Cs") and direction not in DIRECTIONS
