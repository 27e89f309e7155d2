"""What BigQuerySink does on a bad day: each fault is made by a proxy before local-bigquery, and seen in the proxy's log."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, cast

import pytest
import urllib3.util.connection
from google.auth.credentials import Credentials
from google.cloud import bigquery

from streamkit import Write
from streamkit.sinks.bigquery import BigQuerySink
from streamkit.testing.contracts import stamp

from .aws_proxy import Act, Answer, AwsProxy, Request, Trickling, drop, lose_the_answer, trickle
from .bigquery_proxy import delay, inserts, refuse, statuses
from .bigquery_tables import client_of, create_table, ids_in, kinds, soon
from .conftest import Clock

SCHEMA = [bigquery.SchemaField("id", "INTEGER", mode="REQUIRED"), bigquery.SchemaField("name", "STRING")]


@pytest.fixture
def sink(bigquery_client: Any, dataset: str, proxy: AwsProxy) -> Iterator[BigQuerySink]:
    client = client_of(proxy.endpoint, bigquery_client.project)
    yield BigQuerySink(create_table(bigquery_client, dataset, SCHEMA), client=client)
    client.close()


@pytest.fixture
def landed(bigquery_client: Any, sink: BigQuerySink) -> Any:
    return lambda: ids_in(bigquery_client, sink.table)


def rows(sink: BigQuerySink, count: int, **more: Any) -> list[Write]:
    return stamp(sink.row({"id": n, **more}) for n in range(count))


PASSING = {
    "quotaExceeded": refuse(403, "quotaExceeded"),
    "rateLimitExceeded": refuse(403, "rateLimitExceeded"),
    "429": refuse(429, "rateLimitExceeded"),
    "429 without a reason": refuse(429, ""),
    "408": refuse(408, "timeout"),
    "500": refuse(500, "internalError"),
    "502": refuse(502, "badGateway"),
    "503": refuse(503, "backendError"),
    "504": refuse(504, "timeout"),
    "reset before it took effect": drop,
    "reset when it had taken effect": lose_the_answer,
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_is_tried_again_and_each_row_is_in_once(
    fault: Act, proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    proxy.script += [fault, fault]

    assert sink.write(rows(sink, 3), deadline=soon()) == []

    assert landed() == [0, 1, 2]
    assert inserts(proxy) == [[0, 1, 2]] * 3
    assert proxy.requests[0].json == proxy.requests[2].json, "the same insert ids"
    assert statuses(proxy)[:2] != [200, 200]


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_lasts_beyond_the_deadline_leaves_rows_in_the_stream_and_they_are_in_once_when_it_is_over(
    fault: Act, proxy: AwsProxy, sink: BigQuerySink, landed: Any, clock: Clock
) -> None:
    proxy.always = fault
    writes = rows(sink, 2)

    deadline = soon(1)
    refusals = sink.write(writes, deadline=deadline)

    assert clock.now < deadline, "it waited no longer"
    assert kinds(refusals, writes) == [(0, "unavailable"), (1, "unavailable")]
    assert len(proxy.requests) >= 2
    assert all(status != 200 for status in statuses(proxy))

    proxy.always = Request.forward
    assert sink.write(rows(sink, 2), deadline=soon()) == []
    assert landed() == [0, 1]


def test_an_answer_that_was_lost_is_asked_for_again_and_the_repeat_is_dropped_by_its_insert_id(
    proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    before: list[list[int]] = []

    def look(request: Request) -> Answer:
        before.append(landed())
        return request.forward()

    proxy.script += [lose_the_answer, look]

    assert sink.write(rows(sink, 2), deadline=soon()) == []

    assert before == [[0, 1]], "the rows were in when the repeat came"
    assert statuses(proxy) == [None, 200]
    assert landed() == [0, 1]


def test_an_answer_that_takes_longer_than_the_deadline_is_not_waited_for(
    proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    taken, over = threading.Event(), threading.Event()

    def hold_the_answer(request: Request) -> Answer:
        answer = request.forward()
        taken.set()
        over.wait(60)
        return answer

    proxy.script += [hold_the_answer]
    writes = rows(sink, 2)

    refusals = sink.write(writes, deadline=soon(1))

    assert statuses(proxy) == [], "there was no answer yet"
    assert taken.wait(60)
    over.set()
    assert kinds(refusals, writes) == [(0, "unavailable"), (1, "unavailable")]
    assert "Timeout" in str(refusals[0].error)
    assert landed() == [0, 1], "they were in all the same, which nobody could know"
    assert sink.write(rows(sink, 2), deadline=soon()) == []
    assert landed() == [0, 1]


def trickle_a_refusal(request: Request) -> Answer:
    answer = refuse(503, "backendError")(request)
    assert answer is not None
    return answer[0], answer[1], Trickling(answer[2])


@pytest.mark.parametrize("answer", [trickle, trickle_a_refusal])
def test_an_answer_that_trickles_is_not_read_beyond_the_deadline(
    answer: Act, proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    proxy.script += [answer]
    writes = rows(sink, 2)

    began = time.monotonic()
    refusals = sink.write(writes, deadline=began + 1.5)

    assert time.monotonic() - began < 3
    assert kinds(refusals, writes) == [(0, "unavailable"), (1, "unavailable")]
    assert "Timeout" in str(refusals[0].error)
    assert statuses(proxy) == [200 if answer is trickle else 503]
    assert sink.write(rows(sink, 2), deadline=soon()) == []
    assert landed() == [0, 1]


def test_the_time_of_a_request_is_that_to_connect_and_to_be_answered_together(
    proxy: AwsProxy, sink: BigQuerySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    connect = urllib3.util.connection.create_connection

    def slowly(*given: Any, **options: Any) -> Any:
        time.sleep(1.2)
        return connect(*given, **options)

    monkeypatch.setattr(urllib3.util.connection, "create_connection", slowly)

    def hold(request: Request) -> None:
        over.wait(60)

    proxy.script += [hold]
    writes = rows(sink, 1)

    began = time.monotonic()
    refusals = sink.write(writes, deadline=began + 1.5)
    took = time.monotonic() - began
    over.set()

    assert took < 2.2
    assert kinds(refusals, writes) == [(0, "unavailable")]
    assert len(proxy.requests) == 1


def test_a_request_that_is_held_up_is_waited_for_until_the_deadline(
    proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    proxy.script += [delay(1)]

    assert sink.write(rows(sink, 2), deadline=soon(5)) == []

    assert (inserts(proxy), landed()) == ([[0, 1]], [0, 1])


TOO_LARGE = {
    "413": refuse(413, "uploadTooLarge"),
    "413 of a proxy, in HTML": lambda request: (
        413,
        {"Content-Type": "text/html"},
        b"<h1>Request Entity Too Large</h1>",
    ),
    "400 of BigQuery's": refuse(400, "badRequest", "Request payload size exceeds the limit: 10485760 bytes."),
}


@pytest.mark.parametrize("too_large", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_request_that_is_too_large_is_cut_until_it_is_taken(
    too_large: Act, proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    def most_three(request: Request) -> Answer | None:
        return too_large(request) if len(request.json["rows"]) > 3 else request.forward()

    proxy.always = most_three

    assert sink.write(rows(sink, 10), deadline=soon()) == []

    assert landed() == list(range(10))
    assert [len(ids) for ids in inserts(proxy)] == [10, 5, 2, 3, 5, 2, 3]
    assert len([status for status in statuses(proxy) if status == 200]) == 4


@pytest.mark.parametrize("too_large", TOO_LARGE.values(), ids=TOO_LARGE)
def test_the_row_that_is_too_large_alone_is_invalid_and_its_neighbours_land(
    too_large: Act, proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    def not_number_two(request: Request) -> Answer | None:
        return too_large(request) if 2 in inserts(proxy)[-1] else request.forward()

    proxy.always = not_number_two
    writes = rows(sink, 5)

    refusals = sink.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(2, "invalid")]
    assert "too large" in str(refusals[0].error)
    assert landed() == [0, 1, 3, 4]


def test_rows_of_more_than_ten_megabytes_go_in_several_requests_each_below_it(
    proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    assert sink.write(rows(sink, 5, name="x" * 3_000_000), deadline=soon(120)) == []

    assert inserts(proxy) == [[0, 1, 2], [3, 4]]
    assert max(len(request.body) for request in proxy.requests) <= 10_000_000
    assert landed() == [0, 1, 2, 3, 4]


def test_rows_that_long_integers_make_longer_stay_below_ten_megabytes_too(
    proxy: AwsProxy, bigquery_client: Any, dataset: str
) -> None:
    schema = [bigquery.SchemaField("id", "INTEGER"), bigquery.SchemaField("n", "INTEGER", mode="REPEATED")]
    name = create_table(bigquery_client, dataset, schema)
    sink = BigQuerySink(name, client=client_of(proxy.endpoint, bigquery_client.project))

    assert sink.write(rows(sink, 2, n=[2**53 + 1] * 280_000), deadline=soon(120)) == []

    assert inserts(proxy) == [[0], [1]]
    assert max(len(request.body) for request in proxy.requests) <= 10_000_000
    counted = bigquery_client.query_and_wait(
        f"SELECT COUNT(*) AS n FROM {name}, UNNEST(n) AS one WHERE one = {2**53 + 1}"
    )
    assert next(iter(counted)).n == 560_000


REFUSED = {
    "403": (refuse(403, "accessDenied", "secret"), "403 accessDenied", "the permission bigquery.tables.updateData"),
    "404": (refuse(404, "notFound", "secret"), "404 notFound", "create it, or correct its name"),
    "400": (refuse(400, "invalid", "secret"), "400 invalid", "for table"),
}


@pytest.mark.parametrize(("fault", "answer", "advice"), REFUSED.values(), ids=REFUSED)
def test_a_request_that_is_refused_as_a_whole_is_no_rows_fault_and_is_not_repeated(
    fault: Act, answer: str, advice: str, proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    proxy.script += [fault]
    writes = rows(sink, 2)

    refusals = sink.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(0, "unavailable"), (1, "unavailable")]
    assert f"BigQuery answered {answer}" in str(refusals[0].error)
    assert advice in str(refusals[0].error)
    assert "secret" not in str(refusals[0].error)
    assert len(proxy.requests) == 1
    assert landed() == []


class Token(Credentials):
    """Credentials whose token is good from the second one on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth has no types.
        self.token: str | None = None
        self.tokens = 0

    def refresh(self, request: Any) -> None:
        self.tokens += 1
        self.token = f"token-{self.tokens}"
        self.expiry = None


def only_with(token: str) -> Act:
    def act(request: Request) -> Answer:
        given = {name.lower(): value for name, value in request.headers.items()}.get("authorization")
        answer = refuse(401, "authError")(request) if given != f"Bearer {token}" else request.forward()
        assert answer is not None
        return answer

    return act


def test_credentials_that_bigquery_does_not_take_any_more_are_renewed(
    proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    proxy.always = only_with("token-2")
    credentials = Token()
    renewing = BigQuerySink(sink.table, client=client_of(proxy.endpoint, credentials=cast(Any, credentials)))

    assert renewing.write(rows(renewing, 2), deadline=soon()) == []
    assert renewing.write(stamp([renewing.row({"id": 2})], event="later"), deadline=soon()) == []

    assert landed() == [0, 1, 2]
    assert credentials.tokens == 2
    assert statuses(proxy)[0] == 401
    assert statuses(proxy)[-2:] == [200, 200]


def test_credentials_that_are_never_taken_leave_rows_in_the_stream(
    proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    proxy.always = only_with("none of them")
    refused = BigQuerySink(sink.table, client=client_of(proxy.endpoint, credentials=cast(Any, Token())))
    writes = rows(refused, 2)

    refusals = refused.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(0, "unavailable"), (1, "unavailable")]
    assert "401 authError" in str(refusals[0].error)
    assert "valid credentials" in str(refusals[0].error)
    assert set(statuses(proxy)) == {401}


def _in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("retry_after", ["2", "date"])
def test_bigquery_is_left_alone_for_as_long_as_it_asks_for(
    retry_after: str, proxy: AwsProxy, sink: BigQuerySink, landed: Any
) -> None:
    proxy.script += [refuse(503, "backendError", retry_after=retry_after if retry_after != "date" else _in(3))]

    began = time.monotonic()
    assert sink.write(rows(sink, 1), deadline=soon()) == []

    assert time.monotonic() - began >= 1.9
    assert (inserts(proxy), landed()) == ([[0], [0]], [0])


def test_a_wait_beyond_the_deadline_is_not_begun(
    proxy: AwsProxy, sink: BigQuerySink, landed: Any, clock: Clock
) -> None:
    proxy.script += [refuse(429, "rateLimitExceeded", retry_after="60")]
    writes = rows(sink, 1)

    refusals = sink.write(writes, deadline=soon(10))

    assert clock.sleeps == []
    assert kinds(refusals, writes) == [(0, "unavailable")]
    assert (len(proxy.requests), landed()) == (1, [])


def test_an_answer_that_is_no_json_is_asked_for_again(proxy: AwsProxy, sink: BigQuerySink, landed: Any) -> None:
    proxy.script += [lambda request: (200, {"Content-Type": "text/html"}, b"<h1>Sign in to this network</h1>")]

    assert sink.write(rows(sink, 1), deadline=soon()) == []

    assert (statuses(proxy), landed()) == ([200, 200], [0])
