"""How much an index has to look for, counted before it is asked: one that is asked for too much refuses all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .filters import AnyOf, Box, Filter
from .words import Word

__all__ = ["MOST_CLAUSES", "clauses_of"]

#: OpenSearch (``indices.query.bool.max_clause_count``) and CloudSearch both take 1,024 of a whole query.
MOST_CLAUSES = 1_000
# An index's standard analysis makes a word of each of these signs, as it finds no spaces: Chinese, Japanese. Korean, which lies
# among them, has words as Latin has, by Unicode's rules, and so have signs of half or full width.
_IDEOGRAPHS = re.compile("[\u2e80-\u312f\u3190-\uabff\ud7a4-\ufeff\ufff0-\U0010ffff]")


def clauses_of(words: Iterable[Word], filters: Iterable[Filter], searched: int) -> dict[str, int]:
    """By parameter, the clauses that it becomes where ``searched`` fields are searched. A phrase is one, however long it is."""
    found = {"q": searched * sum(map(_of_word, words))}
    for one in filters:
        if isinstance(one, AnyOf):
            found[f"filter.{one.field}"] = len(one.values)
        elif isinstance(one, Box):
            # Over the date line there are two.
            found[f"box.{one.field}"] = 2 if one.west > one.east else 1
        else:
            found[f"min.{one.field}"] = 1
    return found


def _of_word(word: Word) -> int:
    return 1 if word.kind != "word" else max(len(_IDEOGRAPHS.findall(word.text)), 1)
