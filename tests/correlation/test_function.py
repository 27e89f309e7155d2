"""What comes with the events of functions that are no processors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import correlation
from streamkit.correlation.value import NOTHING
from streamkit.errors import EndlessChain

from .conftest import TRACE, XRAY

CONTEXT = SimpleNamespace(aws_request_id="invocation-1", client_context=None)


@pytest.mark.parametrize(
    ("event", "identity"),
    [
        ({"headers": {"X-Correlation-ID": "r-1"}, "requestContext": {"requestId": "api-1"}}, "r-1"),
        ({"headers": {"accept": "*/*"}, "requestContext": {"requestId": "api-1"}}, "api-1"),
        ({"headers": None, "requestContext": {"requestId": "api-1"}}, "api-1"),
        ({"multiValueHeaders": {"x-correlation-id": ["r-1", "r-2"]}, "requestContext": {"elb": {}}}, "r-1"),
        ({"detail-type": "t", "id": "event-1", "detail": {"__context__": {"x-correlation-id": "r-1"}}}, "r-1"),
        ({"detail-type": "t", "id": "event-1", "detail": {"n": 1}}, "event-1"),
        ({"__context__": {"x-correlation-id": "r-1"}, "n": 1}, "r-1"),
        ({"n": 1}, "invocation-1"),
        ({"Records": [{"eventSource": "aws:s3"}]}, "invocation-1"),
        ([1], "invocation-1"),
        (None, "invocation-1"),
    ],
)
def test_an_event_is_followed_by_what_it_brings_or_by_its_own_id(event: Any, identity: str) -> None:
    assert correlation.of_event(event, CONTEXT).id == identity


def test_headers_have_all_of_it() -> None:
    headers = {"Traceparent": TRACE, "X-Amzn-Trace-Id": XRAY, "Call-Chain-Length": "2", "Debug-Log-Enabled": "true"}

    found = correlation.of_event({"headers": headers}, CONTEXT)

    assert (found.id, found.traceparent, found.xray) == ("invocation-1", TRACE, XRAY)
    assert (found.call_chain_length, found.is_debug) == (3, True)


def test_a_client_context_is_read_where_the_payload_is_no_object() -> None:
    context = SimpleNamespace(
        aws_request_id="invocation-1", client_context=SimpleNamespace(custom={"x-correlation-id": "r-1"})
    )

    assert correlation.of_event([1], context).id == "r-1"


def test_a_function_has_it_while_it_runs() -> None:
    @correlation.captured
    def handler(event: Any, context: Any) -> str:
        return correlation.current().id

    assert handler({"headers": {"x-correlation-id": "r-1"}}, CONTEXT) == "r-1"
    assert handler.__name__ == "handler"
    assert correlation.current() is NOTHING


def test_a_function_that_would_be_the_eleventh_is_not_run() -> None:
    ran: list[int] = []

    @correlation.captured
    def handler(event: Any, context: Any) -> None:
        ran.append(correlation.current().call_chain_length)

    handler({"headers": {"call-chain-length": "9"}}, CONTEXT)
    with pytest.raises(EndlessChain, match="through 10 functions one after another before this one"):
        handler({"headers": {"call-chain-length": "10"}}, CONTEXT)

    assert ran == [10]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["x-correlation-id"]), inner)
    ),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["headers", "multiValueHeaders", "requestContext", "detail", "detail-type", "__context__", "id"]
        ),
        anything,
    )
)
def test_any_event_is_read_without_an_error(event: Any) -> None:
    assert correlation.of_event(event, CONTEXT).id
