"""How much a search makes an index look for: no request makes it more than the index takes."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.search.api import SearchApi
from streamkit.search.dsl import body_of
from streamkit.search.fields import Fields
from streamkit.search.query import Limits, query_of
from streamkit.search.refused import Refused

from .airports import ask
from .test_http import Answering

FIELDS = Fields(
    {
        **{f"t{n}": "text" for n in range(10)},
        **{f"l{n}": "literal" for n in range(5)},
        "elevation": "int",
        "place": "latlon",
    }
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789äöüßéèàçñøåæœłšžабвгдежзиклмнопрстуфхцчшщъыьэюяαβγδεζηθικλμνξοπρστυφχψω"
WORDS = " ".join(LETTERS[:100])


def is_a_word(sign: str) -> bool:
    """Whether it is one by itself, where no others in its text are letters: by the name that Unicode gives it."""
    return sign >= "\u2e80" and not unicodedata.name(sign, "").startswith(("HANGUL", "HALFWIDTH", "FULLWIDTH"))


def leaves(node: Any) -> int:
    """The clauses that OpenSearch counts, of a query in its words."""
    if isinstance(node, list):
        return sum(map(leaves, node))
    (kind, inner), *_ = node.items()
    match kind:
        case "bool":
            return sum(leaves(inner[part]) for part in ("must", "must_not", "filter", "should") if part in inner)
        case "multi_match":
            text = inner["query"]
            words = 1 if inner["type"] == "phrase" else max(sum(map(is_a_word, text)), 1)
            return words * len(inner["fields"])
        case "terms":
            return len(next(iter(inner.values())))
        case "prefix" | "match_phrase" | "range" | "geo_bounding_box" | "match_all":
            return 1
    raise AssertionError(kind)


def phrases(count: int) -> dict[str, Any]:
    return {f"filter.t{n}": [f"v{n}-{one}" for one in range(50)][: count - 50 * n] for n in range((count + 49) // 50)}


def test_a_search_of_more_clauses_than_an_index_takes_is_a_400_that_says_what_there_is_too_much_of() -> None:
    index = Answering()

    answer = ask(SearchApi(FIELDS, index), q=WORDS, **phrases(196))

    assert (answer.status, answer.json["parameter"]) == (400, "q")
    assert "1,196 clauses, and may have 1,000" in answer.json["error"]
    assert index.asked == []
    assert ask(SearchApi(FIELDS, index), q=WORDS).status == 200, "a hundred words in ten fields"
    assert ask(SearchApi(FIELDS, index), **phrases(196)).status == 200


def test_a_text_without_spaces_is_as_many_words_as_it_has_signs() -> None:
    api = SearchApi(FIELDS, Answering())

    assert ask(api, q="\u4e2d" * 101).status == 400
    assert ask(api, q="\u4e2d" * 100).status == 200
    assert ask(api, q="\u0436" * 200).status == 200, "one word"
    assert ask(api, q="\ud55c" * 200).status == 200, "of Hangul, one word too"
    # Jamo that are joined and that are not, the first and the last syllable, half and full width.
    for sign in ("\u1100", "\u3131", "\uac00", "\ud7a3", "\uff21", "\uff76"):
        assert ask(api, q=sign * 101).status == 200, hex(ord(sign))
    for sign in ("\u3042", "\u30ab", "\ua000", "\U00020000"):
        assert ask(api, q=sign * 101).status == 400, hex(ord(sign))


def test_a_question_in_korean_is_asked() -> None:
    # Some thirty words, of a hundred and twenty signs.
    question = " ".join(["\uc11c\uc6b8\uc5d0\uc11c"] + [f"\uac00\uae4c\uc6b4{n}" for n in range(29)])

    assert ask(SearchApi(FIELDS, Answering()), q=question).status == 200


@given(
    q=st.text(st.sampled_from(LETTERS + '\u4e2d\u6587\ud55c\uff76 *-"'), max_size=200) | st.just(WORDS),
    filters=st.dictionaries(
        st.sampled_from([f"filter.{name}" for name in FIELDS if name[0] in "tl"]), st.integers(1, 50), max_size=15
    ),
    more=st.sampled_from([{}, {"min.elevation": ["1"], "box.place": ["1,170,-1,-170"]}]),
)
@settings(max_examples=200, deadline=None)
def test_no_query_has_more_clauses_than_an_index_takes(q: str, filters: dict[str, int], more: dict[str, Any]) -> None:
    given = {name: [f"{n} {name}" for n in range(count)] for name, count in filters.items()}
    try:
        query = query_of({"q": [q], **given, **more}, FIELDS, Limits())
    except Refused:
        return

    assert leaves(body_of(query, FIELDS, "_id")["query"]) <= 1_024


@pytest.mark.parametrize("count", [1, 50, 196])
def test_the_leaves_of_a_query_are_counted_as_the_index_does(count: int) -> None:
    query = query_of({"q": ["a b"], **phrases(count)}, FIELDS, Limits())

    assert leaves(body_of(query, FIELDS, "_id")["query"]) == 20 + count
