from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.recursion.hop import MARK, Hop, cursor_bytes, decode, encode, is_hop

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
HOP = Hop(task="export", chain="c", number=7, started=1.5, after="t", cursor=msgspec.Raw(b'{"page":2}'))


@given(cursor=JSON, number=st.integers(0, 2**53), chain=st.text(min_size=1, max_size=200))
def test_a_hop_comes_back_as_it_was_sent(cursor: Any, number: int, chain: str) -> None:
    chain = chain.encode("utf-8", "ignore").decode() or "c"
    encoded = cursor_bytes(cursor, "export")
    hop = Hop(task="export", chain=chain, number=number, started=1.0, cursor=msgspec.Raw(encoded))

    event = msgspec.json.decode(encode(hop))
    found = decode(event, "export")

    assert is_hop(event)
    assert msgspec.json.decode(found.cursor) == msgspec.json.decode(encoded)
    assert (found.chain, found.number, found.claim) == (chain, number, None)


def test_a_hop_whose_cursor_is_elsewhere_has_no_cursor() -> None:
    event = msgspec.json.decode(encode(msgspec.structs.replace(HOP, claim="a claim")))

    assert "cursor" not in event
    assert decode(event, "export").claim == "a claim"


EVENT: dict[str, Any] = msgspec.json.decode(encode(HOP))


@pytest.mark.parametrize(
    "event",
    [
        *({MARK: 1}, {MARK: True}, {MARK: 2}, {MARK: "1"}, {MARK: None}, {**EVENT, MARK: 9}),
        *({**EVENT, "hop": n} for n in (-1, "7", 1.5, None, 2**60)),
        *({**EVENT, "chain": chain} for chain in ("", "x" * 201, 7, None)),
        *(
            {**EVENT, "after": "x" * 301},
            {**EVENT, "copy": 7},
            {**EVENT, "claim": 7},
            {**EVENT, "started": "now"},
            {**EVENT, "task": "other"},
        ),
        {**EVENT, "cursor": {"secret": 1}, "hop": "secret"},
    ],
)
def test_what_only_looks_like_a_hop_is_refused_without_its_content(event: dict[str, Any]) -> None:
    with pytest.raises(StreamkitError) as raised:
        decode(event, "export")

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("event", [None, 7, "text", [], {}, {"Records": []}, {"hop": 1}])
def test_what_has_no_mark_starts_a_chain(event: Any) -> None:
    assert not is_hop(event)


@pytest.mark.parametrize("cursor", [object(), {1, object()}, float("nan"), "\ud800"])
def test_a_cursor_that_is_no_json_is_refused_by_its_type(cursor: Any) -> None:
    with pytest.raises(ConfigurationError, match="export: a cursor is JSON"):
        cursor_bytes(cursor, "export")
