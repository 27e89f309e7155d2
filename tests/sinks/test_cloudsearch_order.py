"""CloudSearchSink keeps the order of what is written for one document, and drops what is older than it where versions tell."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cloudsearch import CloudSearchServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit import Refusal, Reject, Write
from streamkit.errors import ConfigurationError
from streamkit.sinks import cloudsearch_versions
from streamkit.sinks.cloudsearch import CloudSearchSink
from streamkit.sinks.cloudsearch_versions import queries

from .conftest import Clock

pytestmark = pytest.mark.usefixtures("aws_credentials")


@pytest.fixture(scope="module")
def domain() -> Iterator[CloudSearchServer]:
    with CloudSearchServer({"name": "text", "n": "int", "v": "int"}) as server:
        yield server


@pytest.fixture
def server(domain: CloudSearchServer) -> CloudSearchServer:
    domain.reset()
    return domain


@pytest.fixture
def sink(server: CloudSearchServer) -> Iterator[CloudSearchSink]:
    sink = CloudSearchSink(server.endpoint)
    yield sink
    sink.close()


@pytest.fixture
def container(server: CloudSearchServer) -> Iterator[CloudSearchSink]:
    """A sink with versions."""
    sink = versioned(server)
    yield sink
    sink.close()


@pytest.fixture
def other_container(server: CloudSearchServer) -> Iterator[CloudSearchSink]:
    sink = versioned(server)
    yield sink
    sink.close()


def versioned(server: CloudSearchServer) -> CloudSearchSink:
    return CloudSearchSink(server.endpoint, version_field="v", search_endpoint=server.endpoint)


def write(sink: CloudSearchSink, *writes: Write, within: float = 30.0) -> list[Refusal]:
    return sink.write(writes, deadline=time.monotonic() + within)


def sent(server: CloudSearchServer) -> list[tuple[str, str]]:
    return [operation for upload in server.uploads for operation in upload.operations]


# Order across batches


def test_a_removal_and_an_addition_a_moment_apart_keep_their_order(
    sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.same_second = True

    assert write(sink, sink.document("a", {"n": 1}), sink.document("b", {"n": 1})) == []
    assert write(sink, sink.removal("a")) == []
    assert server.documents() == {"b": {"n": 1}}
    assert write(sink, sink.document("a", {"n": 2})) == []

    assert server.documents() == {"a": {"n": 2}, "b": {"n": 1}}
    first, removal, second = [upload.at for upload in server.uploads]
    assert removal - first >= 1
    assert second - removal >= 1


def test_only_another_operation_on_the_same_id_waits(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    assert write(sink, sink.document("a", {"n": 1})) == []
    assert write(sink, sink.document("b", {"n": 1})) == []
    assert write(sink, sink.document("a", {"n": 1})) == [], "a repeat can't be out of order"
    assert clock.sleeps == []

    clock.now += 0.25
    assert write(sink, sink.document("a", {"n": 2})) == []
    assert clock.sleeps == [0.75]

    clock.now += 1
    assert write(sink, sink.document("a", {"n": 3})) == []
    assert clock.sleeps == [0.75]


def test_a_batch_whose_answer_was_lost_counts_as_sent(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.fail(drop=True, after=True)
    assert [refusal.kind for refusal in write(sink, sink.document("a", {"n": 1}), within=1)] == ["unavailable"]
    server.same_second = True

    assert write(sink, sink.removal("a")) == []

    assert server.documents() == {}
    assert server.uploads[-1].at - server.uploads[0].at >= 1


def test_without_time_for_the_second_it_is_unavailable_at_once(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    assert write(sink, sink.document("a", {"n": 1})) == []

    assert [refusal.kind for refusal in write(sink, sink.removal("a"), within=1.5)] == ["unavailable"]

    assert clock.sleeps == []
    assert len(server.uploads) == 1


def test_what_was_refused_does_not_count_as_sent(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    writes = [sink.document("a", {"n": 1}), sink.document("a", {"n": "bad"})]

    assert [refusal.write for refusal in write(sink, *writes)] == [writes[1]]

    assert clock.sleeps == []
    assert server.documents() == {"a": {"n": 1}}


def test_the_neighbours_of_a_bad_document_are_taken_in_order(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    bad = {0, 13, 14, 63}
    writes = [sink.document(n, {"nickname" if n in bad else "n": n}) for n in range(64)]

    refusals = write(sink, *writes)

    assert [refusal.write for refusal in refusals] == [writes[n] for n in sorted(bad)]
    taken = [doc_id for upload in server.uploads if upload.status == 200 for _, doc_id in upload.operations]
    assert taken == [str(n) for n in range(64) if n not in bad]


# Versions


def test_an_older_write_is_dropped_by_what_the_domain_shows(
    container: CloudSearchSink, other_container: CloudSearchSink, server: CloudSearchServer
) -> None:
    assert write(container, container.document("a", {"n": 5}, version=5)) == []

    assert write(other_container, other_container.document("a", {"n": 4}, version=4)) == []

    assert server.documents() == {"a": {"n": 5, "v": 5}}
    assert sent(server) == [("add", "a")], "what is dropped is not sent"
    assert write(other_container, other_container.document("a", {"n": 6}, version=6)) == []
    assert server.documents() == {"a": {"n": 6, "v": 6}}


def test_the_same_version_is_written_again_as_a_redelivery_must_be(
    container: CloudSearchSink, server: CloudSearchServer
) -> None:
    for _ in range(2):
        assert write(container, container.document("a", {"n": 5}, version=5)) == []
    assert sent(server) == [("add", "a")] * 2


def test_an_older_write_is_dropped_before_searches_show_the_newer_one_in_the_same_container(
    container: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.latency = 3600
    assert write(container, container.document("a", {"n": 5}, version=5)) == []
    assert write(container, container.document("a", {"n": 4}, version=4)) == []
    assert server.documents() == {"a": {"n": 5, "v": 5}}


def test_what_can_not_be_kept_out_is_an_older_write_of_another_container_before_searches_show_the_newer(
    container: CloudSearchSink, other_container: CloudSearchSink, server: CloudSearchServer
) -> None:
    """The limit that the documentation states."""
    server.latency = 3600
    assert write(container, container.document("a", {"n": 5}, version=5)) == []
    assert write(other_container, other_container.document("a", {"n": 4}, version=4)) == []
    assert server.documents() == {"a": {"n": 4, "v": 4}}


def test_of_one_request_the_highest_version_is_sent(container: CloudSearchSink, server: CloudSearchServer) -> None:
    versions = [container.document("a", {"n": n}, version=n) for n in (2, 7, 3)]
    older = container.document("b", {"n": 1}, version=8)
    assert write(container, *versions, container.removal("b", version=9), older) == []
    assert server.documents() == {"a": {"n": 7, "v": 7}, "b": {"v": 9}}
    assert len(sent(server)) == 2


def test_the_next_lower_version_takes_the_place_of_a_refused_one_if_it_is_new_enough(
    container: CloudSearchSink, server: CloudSearchServer
) -> None:
    assert write(container, container.document("a", {"n": 3}, version=3)) == []
    bad = container.document("a", {"n": "bad"}, version=9)

    refusals = write(
        container, container.document("a", {"n": 5}, version=5), bad, container.document("a", {"n": 2}, version=2)
    )

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(bad, "invalid")]
    assert server.documents() == {"a": {"n": 5, "v": 5}}


def test_a_removal_with_a_version_keeps_an_older_document_out(
    container: CloudSearchSink, other_container: CloudSearchSink, server: CloudSearchServer
) -> None:
    assert write(container, container.document("a", {"n": 1, "name": "chair"}, version=1)) == []
    assert write(container, container.removal("a", version=3)) == []
    assert write(other_container, other_container.document("a", {"n": 2}, version=2)) == []

    assert server.documents() == {"a": {"v": 3}}, "nothing of the document is left to be found"
    assert write(other_container, other_container.document("a", {"n": 4}, version=4)) == []
    assert server.documents() == {"a": {"n": 4, "v": 4}}


def test_a_removal_without_a_version_forgets_it(container: CloudSearchSink, server: CloudSearchServer) -> None:
    assert write(container, container.document("a", {"n": 5}, version=5)) == []
    assert write(container, container.removal("a")) == []
    assert server.documents() == {}

    assert write(container, container.document("a", {"n": 1}, version=1)) == []
    assert server.documents() == {"a": {"n": 1, "v": 1}}


@pytest.mark.parametrize(
    ("order", "stands"),
    [("5-", None), ("-5", 5), ("5-3", None), ("5-7", 7), ("3-5-", None), ("-", None)],
)
def test_a_removal_without_a_version_stands_after_what_came_before_it(
    container: CloudSearchSink, server: CloudSearchServer, order: str, stands: int | None
) -> None:
    writes = [
        container.removal("a") if one == "-" else container.document("a", {"n": int(one)}, version=int(one))
        for one in order
    ]
    assert write(container, *writes) == []
    assert server.documents() == ({} if stands is None else {"a": {"n": stands, "v": stands}})


def test_documents_from_before_there_were_versions_are_the_oldest_and_one_warning(
    sink: CloudSearchSink, container: CloudSearchSink, server: CloudSearchServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert write(sink, *(sink.document(n, {"n": 1}) for n in range(3))) == []
    for n in range(3):
        assert write(container, container.document(n, {"n": 2}, version=0)) == []

    assert {document["n"] for document in server.documents().values()} == {2}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "enabled for return" in warnings[0]


def test_a_version_that_searches_do_not_return_is_told(
    container: CloudSearchSink,
    other_container: CloudSearchSink,
    server: CloudSearchServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(server, "unreturned", {"v"})
    assert write(container, container.document("a", {"n": 5}, version=5)) == []
    assert write(other_container, other_container.document("a", {"n": 6}, version=6)) == []
    assert "enabled for return" in caplog.text


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 509}, {"drop": True}])
def test_a_search_that_fails_is_asked_again_within_the_deadline(
    clock: Clock, container: CloudSearchSink, server: CloudSearchServer, fault: dict[str, Any]
) -> None:
    server.fail(**fault, times=3, of="search")
    assert write(container, container.document("a", {"n": 5}, version=5)) == []
    assert len(server.searches) == 4
    assert len(clock.sleeps) == 3


@pytest.mark.parametrize("fault", [{"status": 403}, {"status": 503, "times": 1000}])
def test_without_an_answer_about_versions_nothing_is_sent(
    clock: Clock, container: CloudSearchSink, server: CloudSearchServer, fault: dict[str, Any]
) -> None:
    server.fail(**fault, of="search")
    writes = [container.document("a", {"n": 5}, version=5), container.removal("b")]

    refusals = write(container, *writes)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(one, "unavailable") for one in writes]
    assert server.uploads == []
    if fault["status"] == 403:
        assert "cloudsearch:search" in str(refusals[0].error)
    server.recover()
    assert write(container, *writes) == []


def test_searches_that_fail_do_not_slow_uploads_down_and_the_other_way_round(
    clock: Clock, container: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.fail(503, times=6, of="search")
    assert write(container, container.document("a", {"n": 5}, version=5)) == []
    assert container._pace.gap == 0 < container._search_pace.gap


def test_a_full_request_is_asked_for_in_searches_that_are_not_too_long(
    container: CloudSearchSink, server: CloudSearchServer
) -> None:
    ids = [f"{n:0>40}" for n in range(1000)]
    assert write(container, *(container.document(one, {"n": 1}, version=1) for one in ids)) == []
    assert write(container, *(container.document(one, {"n": 0}, version=0) for one in ids)) == []

    assert {document["n"] for document in server.documents().values()} == {1}
    assert 12 <= len(server.searches) <= 16
    assert max(map(len, server.searches)) < 7100


def test_a_query_of_any_ids_finds_exactly_them(server: CloudSearchServer, container: CloudSearchSink) -> None:
    odd = ["aZ9_-=#;:/?@&", "a", "A", "a-b", "&&"]
    assert write(container, *(container.document(one, {"n": 1}, version=n) for n, one in enumerate(odd))) == []
    ((asked, query),) = queries(odd)
    assert asked == odd
    assert container._held([container.document(one, {"n": 1}, version=9) for one in odd], time.monotonic() + 9) == {
        one: n for n, one in enumerate(odd)
    }
    assert query.count("_id:") == 5
    assert queries([]) == []


def test_what_is_remembered_is_bounded(
    clock: Clock, container: CloudSearchSink, server: CloudSearchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloudsearch_versions, "_REMEMBERED", 3)
    for n in range(10):
        assert write(container, container.document(n, {"n": n}, version=n)) == []
        clock.now += 2

    assert container._versions._sent == {"7": 7, "8": 8, "9": 9}
    assert container._order._sent.keys() == {"9"}


@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(requests=st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=5), max_size=5))
def test_whatever_the_order_of_events_the_highest_version_stands(
    clock: Clock, client: Any, server: CloudSearchServer, requests: list[list[tuple[str, int]]]
) -> None:
    server.reset()
    # One container, whatever the latency of searches.
    server.latency = 3600
    sink = CloudSearchSink("unused", client=client, version_field="v", search_endpoint=server.endpoint)
    sink._searches._given = client
    for request in requests:
        assert write(sink, *(sink.document(one, {"n": version}, version=version) for one, version in request)) == []

    highest: dict[str, int] = {}
    for one, version in (pair for request in requests for pair in request):
        highest[one] = max(highest.get(one, -1), version)
    assert server.documents() == {one: {"n": version, "v": version} for one, version in highest.items()}


@pytest.mark.parametrize("version", [-1, 2**63, 1.5, "7", True])
def test_a_version_that_is_none_is_rejected(version: Any) -> None:
    sink = CloudSearchSink("localhost", version_field="v")
    with pytest.raises(Reject, match="version"):
        sink.document("a", {"n": 1}, version=version)
    with pytest.raises(Reject, match="version"):
        sink.removal("a", version=version)


def test_versions_and_their_field_go_together() -> None:
    plain, versioned = CloudSearchSink("localhost"), CloudSearchSink("localhost", version_field="v")
    for call in (
        lambda: plain.document("a", {"n": 1}, version=1),
        lambda: plain.removal("a", version=1),
        lambda: versioned.document("a", {"n": 1}),
        lambda: versioned.document("a", {"v": 1}, version=1),
        lambda: CloudSearchSink("localhost", version_field="V"),
    ):
        with pytest.raises(ConfigurationError, match="version"):
            call()


def test_the_search_endpoint_is_that_of_the_document_endpoints_name() -> None:
    sink = CloudSearchSink("doc-shop-abc123.eu-west-1.cloudsearch.amazonaws.com", version_field="v")
    url = "https://search-shop-abc123.eu-west-1.cloudsearch.amazonaws.com"
    assert sink._searches._connected(10).meta.endpoint_url == url
    sink.close()
    with pytest.raises(ConfigurationError, match="search_endpoint="):
        CloudSearchSink("localhost", version_field="v")._searches._connected(10)
