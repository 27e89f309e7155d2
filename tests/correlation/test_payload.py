"""What is put into a payload, and what of it is left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import kpl
from streamkit.correlation.payload import attached, context_of
from streamkit.wrapper import MOST_CONTEXT, OVERHEAD, unwrap, wrap

FIELDS = {"x-correlation-id": "r-1", "call-chain-length": "2"}
CONTEXT = {"x-correlation-id": "r-1", "call-chain-length": 2}
MUCH = 10_000


@pytest.mark.parametrize(
    "data", [b'{"a": 1.0, "b":"\\u00e9"}', b' \n{ "a" : [1,\t2] } \n', b"{}", b"{ }", b'{"a":"{"}']
)
def test_an_object_gets_the_field_and_is_the_same_otherwise_to_the_byte(data: bytes) -> None:
    made = attached(data, FIELDS, room=MUCH)

    assert made is not None
    assert json.loads(made) == {"__context__": CONTEXT, **json.loads(data)}
    field = b'"__context__":{"x-correlation-id":"r-1","call-chain-length":2}'
    assert made.replace(field + b",", b"").replace(field, b"") == data


@pytest.mark.parametrize(
    "data", [b"", b"[1]", b"7", b"null", b'"text"', b"text", b"\xff\x00", b"{", b'{"a":1', b'{"a":1}x', b'{"a":NaN}']
)
def test_what_is_no_object_stays_or_is_put_into_the_envelope(data: bytes) -> None:
    assert attached(data, FIELDS, room=MUCH) is None

    made = attached(data, FIELDS, room=MUCH, envelope=True)

    assert made is not None
    found = unwrap(made)
    assert found is not None
    assert (json.loads(found[0]), found[1]) == (CONTEXT, data)


def test_an_aggregate_stays_for_it_would_be_none_in_an_envelope() -> None:
    aggregate = kpl.aggregate([kpl.UserRecord(b"{}", "k")])

    assert attached(aggregate, FIELDS, room=MUCH, envelope=True) is None


def test_of_what_is_sent_on_as_it_came_the_ids_stay_and_the_longer_chain_counts() -> None:
    came = b'{"__context__":{"x-correlation-id":"r-0","x-correlation-u":"u","call-chain-length":1,"own":1},"a":1.50}'

    made = attached(came, FIELDS, room=MUCH)
    longer = attached(came.replace(b":1,", b":9,"), FIELDS, room=MUCH)

    assert made is not None
    context = {"x-correlation-id": "r-0", "x-correlation-u": "u", "call-chain-length": 2, "own": 1}
    assert json.loads(made) == {"__context__": context, "a": 1.5}
    assert b'"a":1.50' in made
    assert longer is not None
    assert json.loads(longer)["__context__"]["call-chain-length"] == 9


def test_names_of_what_came_are_read_in_any_case_and_none_is_there_twice() -> None:
    came = b'{"__context__":{"X-Correlation-ID":"r-0","call-chain-lengtH":1,"Own":1,"CALL-CHAIN-LENGTH":7}}'

    made = attached(came, FIELDS, room=MUCH)
    longer = attached(came.replace(b'H":1', b'H":"9"'), FIELDS, room=MUCH)

    assert made is not None
    assert json.loads(made) == {"__context__": {"x-correlation-id": "r-0", "call-chain-length": 2, "Own": 1}}
    assert longer is not None
    assert json.loads(longer)["__context__"]["call-chain-length"] == 9


@pytest.mark.parametrize("theirs", [b"7", b"null", b'"text"', b"[]", b'{"a":"' + b"x" * MOST_CONTEXT + b'"}'])
def test_a_field_of_that_name_that_is_somebody_elses_stays(theirs: bytes) -> None:
    assert attached(b'{"__context__":' + theirs + b"}", FIELDS, room=MUCH) is None


def test_an_envelope_that_is_sent_on_is_not_put_into_another() -> None:
    came = wrap(b'{"x-correlation-id":"r-0","call-chain-length":1}', b"\x00")

    made = attached(came, FIELDS, room=MUCH, envelope=True)

    assert made is not None
    found = unwrap(made)
    assert found is not None
    assert json.loads(found[0]) == {"x-correlation-id": "r-0", "call-chain-length": 2}
    assert found[1] == b"\x00"


def test_nothing_is_added_for_which_there_is_no_room() -> None:
    made = attached(b'{"a":1}', FIELDS, room=MUCH)
    assert made is not None
    needed = len(made) - len(b'{"a":1}')

    assert attached(b'{"a":1}', FIELDS, room=needed) == made
    assert attached(b'{"a":1}', FIELDS, room=needed - 1) is None
    assert attached(b"x", FIELDS, room=OVERHEAD, envelope=True) is None


def test_the_field_can_be_left_out_and_the_envelope_used_for_all() -> None:
    made = attached(b'{"a":1}', FIELDS, room=MUCH, field=False, envelope=True)

    assert made is not None
    assert made.endswith(b'{"a":1}')
    assert attached(b'{"a":1}', FIELDS, room=MUCH, field=False) is None


def test_in_a_large_payload_only_the_field_is_looked_for() -> None:
    filler = b'"a":"' + b"x" * 300_000 + b'"'

    assert context_of(b'{"x-correlation-id":"r-1",' + filler + b"}") == {}
    assert context_of(b'{"__context__":{"x-correlation-id":"r-1"},' + filler + b"}") == {"x-correlation-id": "r-1"}


@given(
    st.dictionaries(
        st.text(), st.recursive(st.none() | st.booleans() | st.text() | st.integers(-(2**60), 2**60), st.lists)
    )
)
def test_any_object_comes_back_out_of_it(value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()

    made = attached(data, FIELDS, room=MUCH)

    if "__context__" not in value:
        assert made is not None
        assert json.loads(made) == {"__context__": CONTEXT, **value}
        assert context_of(made) == CONTEXT


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_what_is_wrapped_is_unwrapped_again(context: bytes, data: bytes) -> None:
    assert unwrap(wrap(b"{" + context, data)) == (b"{" + context, data)


@given(st.binary(max_size=100))
def test_whatever_follows_the_mark_is_opened_or_is_plain_data(rest: bytes) -> None:
    found = unwrap(b"\xf5skc\x01" + rest)

    assert found is None or wrap(*found) == b"\xf5skc\x01" + rest


def test_a_context_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="16,384 bytes at most"):
        wrap(b"{" * 16_385, b"")
