"""What somebody types into a search box, read: words, "phrases", beginnings* and -exclusions, and nothing else has a meaning."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from .values import is_sendable

__all__ = ["Word", "words_of"]

# An exclusion; a phrase, which may lack its end; or anything without spaces.
_TOKEN = re.compile(r'(-*)(?:"([^"]*)(?:"|$)|(\S+))')


class Word(msgspec.Struct, frozen=True):
    """``kind``: a word, a phrase of several, or how a word begins (in lower case, as an index has it)."""

    text: str
    kind: Literal["word", "phrase", "prefix"]
    excluded: bool


def words_of(text: str) -> tuple[Word, ...]:
    """The words of a question, each once; those without a letter or a digit are none."""
    found: dict[Word, None] = {}
    clean = "".join(one if is_sendable(one) else " " for one in text)
    for minus, phrase, token in _TOKEN.findall(clean):
        word = _word(phrase or token, is_phrase=bool(phrase), excluded=bool(minus))
        if word is not None:
            found[word] = None
    return tuple(found)


def _word(text: str, *, is_phrase: bool, excluded: bool) -> Word | None:
    if not any(map(str.isalnum, text)):
        return None
    if is_phrase:
        return Word(" ".join(text.split()), "phrase", excluded)
    if text.endswith("*"):
        return Word(text.rstrip("*").lower(), "prefix", excluded)
    # An index makes several words of one with signs within: they have to stand together.
    return Word(text, "word" if text.isalnum() else "phrase", excluded)
