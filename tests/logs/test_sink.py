"""LogSink by itself: what it takes. What it does when a service is away is in tests/processors/test_logs.py."""

from __future__ import annotations

import pytest

from streamkit.errors import ConfigurationError
from streamkit.logs.sink import LogSink
from streamkit.sinks.cloudwatch_metrics import CloudWatchMetricsSink
from streamkit.sinks.opensearch import OpenSearchSink


def test_it_has_somewhere_to_write_to() -> None:
    with pytest.raises(ConfigurationError, match="nowhere to write to"):
        LogSink(None, None)


def test_it_takes_nothing_that_it_has_no_place_for() -> None:
    with pytest.raises(ConfigurationError, match="it takes no document"):
        LogSink(None, CloudWatchMetricsSink("shop")).document("1", {}, index="logs-1")
    with pytest.raises(ConfigurationError, match="it takes no metric"):
        LogSink(OpenSearchSink("search.example", "logs"), None).value("t", 1)


def test_what_it_makes_is_delivered_by_it_in_requests_that_both_take() -> None:
    sink = LogSink(OpenSearchSink("search.example", "logs"), CloudWatchMetricsSink("shop"))

    assert sink.document("1", {"message": "hi"}, index="logs-1").sink is sink
    assert sink.value("t", 1).sink is sink
    assert LogSink.request_writes <= min(OpenSearchSink.request_writes, CloudWatchMetricsSink.request_writes)
    assert LogSink.request_bytes == OpenSearchSink.request_bytes


def test_nothing_to_write_asks_nobody() -> None:
    assert LogSink(OpenSearchSink("search.example", "logs"), None).write([], deadline=0.0) == []
