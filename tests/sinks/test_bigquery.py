"""BigQuerySink against local-bigquery, and against a scripted server for the answers which that never gives."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import local_bigquery
import msgspec
import pytest
from google.cloud import bigquery
from hypothesis import given
from hypothesis import strategies as st

from streamkit import Write
from streamkit.errors import ConfigurationError
from streamkit.sinks.base import NotAsked
from streamkit.sinks.bigquery import BigQuerySink, _body
from streamkit.sinks.bigquery_table import Unknown
from streamkit.testing.contracts import stamp

from .bigquery_tables import client_of, create_table, ids_in, kinds, rows_in, soon

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer

SCHEMA = [
    bigquery.SchemaField("id", "INTEGER", mode="REQUIRED"),
    bigquery.SchemaField("name", "STRING"),
    bigquery.SchemaField("tags", "STRING", mode="REPEATED"),
]


@pytest.fixture
def table(bigquery_client: Any, dataset: str) -> str:
    return create_table(bigquery_client, dataset, SCHEMA)


@pytest.fixture
def sink(bigquery_client: Any, table: str) -> BigQuerySink:
    return BigQuerySink(table, client=bigquery_client)


# Against local-bigquery


def test_rows_land_as_they_were_given(bigquery_client: Any, table: str, sink: BigQuerySink) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "name": "Ålesund \U0001f6eb", "tags": ["a", "b"]},
        {"id": 2**62 + 1, "name": 'quotes " and \\ and \n and \x00', "tags": []},
        {"id": -(2**53) - 1, "name": None, "tags": []},
    ]

    assert sink.write(stamp(map(sink.row, rows)), deadline=soon()) == []

    assert rows_in(bigquery_client, table) == sorted(rows, key=lambda row: row["id"])


def test_each_type_is_sent_in_the_form_from_which_bigquery_makes_it_exactly(bigquery_client: Any, dataset: str) -> None:
    types = ["INTEGER", "NUMERIC", "FLOAT", "BOOLEAN", "BYTES", "DATE", "TIME", "DATETIME", "TIMESTAMP", "STRING"]
    table = create_table(bigquery_client, dataset, [bigquery.SchemaField(type_.lower(), type_) for type_ in types])
    row = {
        "integer": 9007199254740993,
        "numeric": Decimal("12345678901234567.123456789"),
        "float": 0.1,
        "boolean": True,
        "bytes": b"\x00\xff",
        "date": date(2024, 2, 29),
        "time": time_of_day(23, 59, 59, 999999),
        "datetime": datetime(2024, 2, 29, 12, 0, 0, 1),
        "timestamp": datetime(2024, 2, 29, 12, tzinfo=UTC),
        "string": str(uuid.UUID(int=7)),
    }
    sink = BigQuerySink(table, client=bigquery_client)

    assert sink.write(stamp([sink.row({**row, "string": uuid.UUID(int=7)})]), deadline=soon()) == []

    assert [dict(landed) for landed in bigquery_client.query_and_wait(f"SELECT * FROM {table}")] == [row]


def test_structs_are_rows_too(bigquery_client: Any, table: str, sink: BigQuerySink) -> None:
    class Flight(msgspec.Struct):
        id: int
        name: str

    assert sink.write(stamp([sink.row(cast(Any, Flight(1, "LH400")))]), deadline=soon()) == []

    assert rows_in(bigquery_client, table) == [{"id": 1, "name": "LH400", "tags": []}]


def test_a_repeat_is_dropped_by_its_insert_id_and_an_equal_row_is_not(
    bigquery_client: Any, table: str, sink: BigQuerySink
) -> None:
    for _ in range(2):
        writes = stamp([sink.row({"id": 1}), sink.row({"id": 1})])
        assert sink.write(writes, deadline=soon()) == []

    assert ids_in(bigquery_client, table) == [1, 1]


def test_an_invalid_row_is_refused_alone_while_its_neighbours_land(
    bigquery_client: Any, table: str, sink: BigQuerySink
) -> None:
    writes = stamp(
        [
            sink.row({"id": 1}),
            sink.row({"id": "secret-word"}),
            sink.row({"id": 3}),
            sink.row({"id": 4, "colour": "secret-word"}),
            sink.row({"name": "secret-word"}),
            sink.row({"id": 6}),
        ]
    )

    refusals = sink.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(1, "invalid"), (3, "invalid"), (4, "invalid")]
    assert ids_in(bigquery_client, table) == [1, 3, 6]
    messages = [str(refusal.error) for refusal in refusals]
    assert not any("secret" in message for message in messages)
    assert messages[1] == "BigQuery refused the row: invalid colour (no such field)"
    assert messages[2] == "BigQuery refused the row: invalid id (missing required field)"


def test_more_rows_than_a_request_holds_land(bigquery_client: Any, table: str, sink: BigQuerySink) -> None:
    writes = stamp(sink.row({"id": n}) for n in range(1203))

    assert sink.write(writes, deadline=soon(120)) == []

    assert ids_in(bigquery_client, table) == list(range(1203))


def test_a_table_that_does_not_exist_is_not_the_records_fault(bigquery_client: Any, dataset: str) -> None:
    sink = BigQuerySink(f"{dataset}.absent", client=bigquery_client)
    writes = stamp([sink.row({"id": 1}), sink.row({"id": 2})])

    refusals = sink.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(0, "unavailable"), (1, "unavailable")]
    assert str(refusals[0].error).endswith(f"404 notFound for table {dataset}.absent: create it, or correct its name")


def test_a_server_that_dies_makes_rows_unavailable_and_one_that_comes_back_takes_them(tmp_path: Path) -> None:
    with local_bigquery.bigquery_server(data=tmp_path / "data") as server:
        client = client_of(server.endpoint)
        client.create_dataset("shop")
        sink = BigQuerySink(create_table(client, "shop", SCHEMA), client=client)
        assert sink.write(stamp([sink.row({"id": 1})]), deadline=soon()) == []
        os.killpg(server.pid, signal.SIGKILL)
        second = stamp([sink.row({"id": 2})], event="second")
        refusals = sink.write(second, deadline=soon(1))
    assert kinds(refusals, second) == [(0, "unavailable")]
    assert "no answer from BigQuery: ConnectionError" in str(refusals[0].error)

    ports = [int(endpoint.rpartition(":")[2]) for endpoint in (server.endpoint, server.grpc_endpoint)]
    stop = threading.Event()

    def come_back() -> None:
        with local_bigquery.bigquery_server(data=tmp_path / "data", ports=ports):
            stop.wait()

    comes_back = threading.Thread(target=come_back)
    comes_back.start()
    try:
        assert sink.write(second, deadline=soon(60)) == []  # It was down when this began.
        assert ids_in(client, sink.table) == [1, 2]
    finally:
        stop.set()
        comes_back.join()
        client.close()


def test_the_sink_makes_its_own_client_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, bigquery_client: Any, bigquery_server: BigQueryServer, table: str
) -> None:
    class Orders:
        warehouse = BigQuerySink.from_env("ORDERS_TABLE")

    writes = stamp([Orders.warehouse.row({"id": 1})])
    monkeypatch.setenv("ORDERS_TABLE", f"{bigquery_server.project}.{table}")
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", bigquery_server.endpoint)

    assert Orders.warehouse.write(writes, deadline=soon()) == []
    Orders.warehouse.close()

    assert ids_in(bigquery_client, table) == [1]


# Against a scripted server


class Script:
    """A loopback server that gives the answers it is told, in order, then success; it keeps the requests."""

    def __init__(self, endpoint: str, answers: list[Any], requests: list[Any]) -> None:
        self.endpoint = endpoint
        self.answers = answers
        self.requests = requests

    def ids(self) -> list[list[int]]:
        return [[row["json"]["id"] for row in request["rows"]] for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: ClassVar[Script]

    def do_POST(self) -> None:
        script = self.script
        body = self.rfile.read(int(self.headers["Content-Length"]))
        script.requests.append({**json.loads(body), "bytes": len(body)})
        answer = script.answers.pop(0) if script.answers else {}
        if answer == "late":
            time.sleep(0.02)
            answer = {}
        if answer == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif answer == "silence":
            self.close_connection = True
            self.rfile.read(1)  # Until the client goes away.
        else:
            status = answer.get("error", {}).get("code", 200)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass  # A connection that the script has closed.


@pytest.fixture
def script() -> Iterator[Script]:
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    script = Script(f"http://127.0.0.1:{server.server_address[1]}", [], [])
    cast(Any, server.RequestHandlerClass).script = script
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield script
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def scripted(script: Script) -> Iterator[BigQuerySink]:
    client = client_of(script.endpoint)
    yield BigQuerySink("shop.orders", client=client)
    client.close()


def error(code: int, reason: str, message: str = "no") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "errors": [{"reason": reason, "message": message}]}}


def row_errors(reasons: dict[int, str], location: str = "total", message: str = "") -> dict[str, Any]:
    return {
        "insertErrors": [
            {"index": index, "errors": [{"reason": reason, "location": location, "message": message}]}
            for index, reason in reasons.items()
        ]
    }


def rows(sink: BigQuerySink, count: int) -> list[Write]:
    return stamp(sink.row({"id": n}) for n in range(count))


@pytest.mark.parametrize(
    "answer",
    [
        error(429, "rateLimitExceeded"),
        error(403, "rateLimitExceeded"),
        error(403, "quotaExceeded"),
        error(500, "internalError"),
        error(502, "badGateway"),
        error(503, "backendError"),
        error(504, "timeout"),
        "reset",
    ],
    ids=str,
)
def test_what_passes_is_tried_again(script: Script, scripted: BigQuerySink, answer: Any) -> None:
    script.answers += [answer, answer]

    assert scripted.write(rows(scripted, 2), deadline=soon()) == []

    assert script.ids() == [[0, 1]] * 3
    assert script.requests[0] == script.requests[2], "the same rows with the same insert ids"


def test_a_server_that_does_not_answer_makes_rows_unavailable(script: Script, scripted: BigQuerySink) -> None:
    script.answers += ["silence"] * 100

    writes = rows(scripted, 2)
    refusals = scripted.write(writes, deadline=soon(1))

    assert kinds(refusals, writes) == [(0, "unavailable"), (1, "unavailable")]
    assert "Timeout" in str(refusals[0].error)


def test_a_throttle_that_outlasts_the_deadline_makes_rows_unavailable(script: Script, scripted: BigQuerySink) -> None:
    script.answers += [error(429, "rateLimitExceeded")] * 1000

    writes = rows(scripted, 1100)
    refusals = scripted.write(writes, deadline=soon(0.5))

    assert kinds(refusals, writes) == [(n, "unavailable") for n in range(1100)]
    assert str(refusals[0].error) == "BigQuery answered 429 rateLimitExceeded for table shop.orders"
    assert {len(ids) for ids in script.ids()} == {500}, "the later requests would have met the same"
    assert all(ids[0] == 0 for ids in script.ids())


def test_past_the_deadline_there_is_one_try(script: Script, scripted: BigQuerySink) -> None:
    script.answers += [error(503, "backendError")]

    writes = rows(scripted, 1)
    refusals = scripted.write(writes, deadline=time.monotonic() - 1)

    assert kinds(refusals, writes) == [(0, "unavailable")]
    assert len(script.requests) == 1


def test_past_the_deadline_a_row_can_still_land(script: Script, scripted: BigQuerySink) -> None:
    script.answers += ["late"]

    assert scripted.write(rows(scripted, 1), deadline=time.monotonic() - 1) == []


def test_stopped_rows_are_sent_again_without_the_invalid_ones(script: Script, scripted: BigQuerySink) -> None:
    script.answers += [row_errors({0: "stopped", 1: "invalid", 2: "stopped"})]

    writes = rows(scripted, 4)
    refusals = scripted.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(1, "invalid")]
    assert script.ids() == [[0, 1, 2, 3], [0, 2]]
    assert script.requests[0]["skipInvalidRows"] is True
    assert [row["insertId"] for row in script.requests[1]["rows"]] == [writes[0].write_id, writes[2].write_id]


def test_a_rows_own_throttle_is_tried_again_and_is_unavailable_in_the_end(
    script: Script, scripted: BigQuerySink
) -> None:
    script.answers += [row_errors({1: "rateLimitExceeded"}), *[row_errors({0: "backendError"})] * 1000]

    writes = rows(scripted, 2)
    refusals = scripted.write(writes, deadline=soon(1))

    assert kinds(refusals, writes) == [(1, "unavailable")]
    assert str(refusals[0].error) == "BigQuery did not take some rows: backendError"
    assert script.ids()[:2] == [[0, 1], [1]]


def test_an_unknown_reason_leaves_the_row_to_the_policy(script: Script, scripted: BigQuerySink) -> None:
    script.answers += [row_errors({0: "brandNew"})]

    writes = rows(scripted, 2)

    assert kinds(scripted.write(writes, deadline=soon()), writes) == [(0, "failed")]
    assert script.ids() == [[0, 1]]


@pytest.mark.parametrize(
    "message",
    [
        "Cannot convert value to integer (bad value): secret",
        "secret is not a valid value",
        "Could not parse 'secret' as a timestamp",
        "Invalid date: secret",
    ],
)
def test_an_error_names_the_reason_and_the_field_and_no_value(
    script: Script, scripted: BigQuerySink, message: str
) -> None:
    script.answers += [row_errors({0: "invalid"}, "order.total", message)]

    [refusal] = scripted.write(rows(scripted, 1), deadline=soon())

    assert str(refusal.error).startswith("BigQuery refused the row: invalid order.total")
    assert "secret" not in str(refusal.error)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (error(403, "accessDenied", "secret"), "the permission bigquery.tables.updateData"),
        (error(404, "notFound", "secret"), "create it, or correct its name"),
        (error(400, "invalid", "secret"), "BigQuery answered 400 invalid for table shop.orders"),
    ],
)
def test_a_request_that_is_refused_as_a_whole_is_not_tried_again_and_no_records_fault(
    script: Script, scripted: BigQuerySink, answer: Any, text: str
) -> None:
    script.answers += [answer]

    writes = rows(scripted, 501)
    refusals = scripted.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(n, "unavailable") for n in range(501)]
    assert text in str(refusals[0].error)
    assert "secret" not in str(refusals[0].error)
    assert len(script.requests) == 1


def test_a_request_that_is_too_large_is_halved_down_to_the_row_that_is(script: Script, scripted: BigQuerySink) -> None:
    too_large = error(413, "uploadTooLarge")
    script.answers += [too_large, too_large, too_large]  # 0123, 01, 0

    writes = rows(scripted, 4)
    refusals = scripted.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(0, "invalid")]
    assert script.ids() == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3]]


def test_past_the_deadline_a_request_is_not_halved_any_more(script: Script, scripted: BigQuerySink) -> None:
    script.answers += [error(413, "uploadTooLarge")] * 3

    writes = rows(scripted, 4)
    refusals = scripted.write(writes, deadline=soon(-1))

    assert {kind for _, kind in kinds(refusals, writes)} == {"unavailable"}
    assert script.ids() == [[0, 1, 2, 3]]


def test_rows_are_packed_by_bytes_and_none_is_split(script: Script, scripted: BigQuerySink) -> None:
    text = "ü" * 1_500_000  # Two bytes each, in the request.
    writes = stamp(scripted.row({"id": n, "name": text}) for n in range(7))

    assert scripted.write(writes, deadline=soon(120)) == []

    assert script.ids() == [[0, 1, 2], [3, 4, 5], [6]]
    assert all(request["bytes"] <= 10_000_000 for request in script.requests)


def test_writes_tell_their_size_in_the_request(script: Script, scripted: BigQuerySink) -> None:
    writes = stamp(scripted.row({"id": n, "name": "é\x7f, \U0001f600: \\" * n}) for n in range(500))
    for write in writes:
        write._processor = "p" * 70  # Ids close to their longest.

    assert scripted.write(writes, deadline=soon()) == []

    assert script.requests[0]["bytes"] <= sum(write.size for write in writes) + 100
    assert script.requests[0]["bytes"] > sum(write.size for write in writes) * 0.8


def test_a_row_that_no_request_can_hold_is_invalid_and_its_neighbours_land(
    script: Script, scripted: BigQuerySink
) -> None:
    writes = stamp(scripted.row({"id": n, "name": "x" * (10_000_000 if n == 1 else 1)}) for n in range(3))

    refusals = scripted.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(1, "invalid")]
    assert "BigQuery takes 10,000,000 in a request" in str(refusals[0].error)
    assert script.ids() == [[0, 2]]


def test_an_insert_id_is_the_write_id_whatever_is_in_it_or_a_digest_of_one_that_is_too_long(
    script: Script, scripted: BigQuerySink
) -> None:
    writes = rows(scripted, 4)
    writes[1]._processor = "p" * 200
    writes[2]._processor = "größer"
    writes[3]._processor = 'a"b\\c\nd'

    assert scripted.write(writes, deadline=soon()) == []

    assert [row["insertId"] for row in script.requests[0]["rows"]] == [
        writes[0].write_id,
        hashlib.sha256(writes[1].write_id.encode()).hexdigest(),
        hashlib.sha256(writes[2].write_id.encode()).hexdigest(),
        writes[3].write_id,
    ]


# Making a row


HOSTILE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(['"},{"json":', '\n,"insertId":"', "\\u0022", "\\", "\x7f\x00\u2028", "0" * 200, "null", "]}"]),
)
ROW = st.dictionaries(HOSTILE, st.one_of(HOSTILE, st.none(), st.lists(HOSTILE, max_size=2)), max_size=3)


@pytest.mark.parametrize("unknown", ["strict", "ignore", "add"])
@given(given=st.lists(st.tuples(HOSTILE, ROW), min_size=1, max_size=5))
def test_a_request_is_one_json_object_of_all_its_rows_and_ids_whatever_is_in_them(
    unknown: Unknown, given: list[tuple[str, dict[str, Any]]]
) -> None:
    sink = BigQuerySink("shop.orders", unknown=unknown)
    writes = stamp(sink.row(row) for _, row in given)
    for write, (name, _) in zip(writes, given, strict=True):
        write._processor = name

    content = json.loads(_body(writes, unknown))

    ids = [write.write_id for write in writes]
    assert content.pop("rows") == [
        {
            "json": row,
            "insertId": made if len(made) <= 128 and made.isascii() else hashlib.sha256(made.encode()).hexdigest(),
        }
        for made, (_, row) in zip(ids, given, strict=True)
    ]
    assert content == {"skipInvalidRows": True, **({"ignoreUnknownValues": True} if unknown == "ignore" else {})}


def test_a_row_can_be_changed_after_it_was_made(script: Script, scripted: BigQuerySink) -> None:
    row: dict[str, Any] = {"id": 1, "tags": ["a"]}
    write = scripted.row(row)
    row["id"] = 2
    row["tags"].append("b")

    assert scripted.write(stamp([write]), deadline=soon()) == []

    assert script.requests[0]["rows"][0]["json"] == {"id": 1, "tags": ["a"]}


def test_integers_that_a_double_cannot_hold_go_as_text(script: Script, scripted: BigQuerySink) -> None:
    row = {"id": 2**53 + 1, "n": [{"n": -(2**70)}, 2**53, True], "name": "1234567890123456", "x": 0.1234567890123456}

    assert scripted.write(stamp([scripted.row(row)]), deadline=soon()) == []

    sent = script.requests[0]["rows"][0]["json"]
    assert sent == {**row, "id": "9007199254740993", "n": [{"n": "-1180591620717411303424"}, 2**53, True]}


@pytest.mark.parametrize(
    ("row", "kind", "text"),
    [
        ({"total": math.nan}, ValueError, "not JSON"),
        ({"a": [{"total": -math.inf}]}, ValueError, "not JSON"),
        ({"name": "half \ud83d"}, ValueError, "surrogate"),
        ({"x": object()}, TypeError, "object is unsupported"),
        ({(1, 2): 1}, TypeError, "keys"),
        ([1], TypeError, "takes a mapping.*list"),
        ("text", TypeError, "takes a mapping.*str"),
    ],
)
def test_what_has_no_form_in_json_is_an_error_where_the_row_is_made(row: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        BigQuerySink("shop.orders").row(row)


def test_a_row_that_holds_itself_is_an_error() -> None:
    row: dict[str, Any] = {}
    row["row"] = row
    with pytest.raises(ValueError, match="nested"):
        BigQuerySink("shop.orders").row(row)


def deep(depth: int) -> list[Any]:
    """As many arrays in one another."""
    value: list[Any] = [1234567890123456789]
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize("unknown", ["strict", "add"])
def test_a_row_nested_more_than_a_hundred_deep_is_invalid_unsent_and_its_neighbours_are_in(
    script: Script, unknown: Unknown
) -> None:
    client = client_of(script.endpoint)
    sink = BigQuerySink("shop.orders", unknown=unknown, client=client)
    flat = {"n": [[n] for n in range(300)]}
    # The row itself is the first of the hundred.
    deepest: dict[str, Any] = {"n": deep(99)}
    too_deep: dict[str, Any] = {"n": deep(100)}
    few: list[dict[str, Any]] = [{"n": n} for n in range(10)]
    # Of those with a None in a record each value is looked at.
    rows: list[dict[str, Any]] = [deepest, too_deep, flat, {"n": deep(300), "x": {"y": None}}, *few, too_deep]
    writes = stamp(sink.row({"id": n, **row}) for n, row in enumerate(rows))

    refusals = sink.write(writes, deadline=soon())

    client.close()
    assert [(writes.index(refusal.write), refusal.kind, str(refusal.error)) for refusal in refusals] == [
        (place, "invalid", "the row is nested too deeply") for place in (1, 3, 14)
    ]
    assert script.ids() == [[0, 2, *range(4, 14)]]
    (request,) = script.requests
    assert request["rows"][1]["json"]["n"] == flat["n"]


@pytest.mark.parametrize("raw", [b"[" * 200, b'"\xff' + b"[" * 200])
def test_a_raw_of_many_brackets_that_is_no_json_is_invalid_alone(
    raw: bytes, script: Script, scripted: BigQuerySink
) -> None:
    writes = stamp([scripted.row({"id": 0, "n": msgspec.Raw(raw)}), scripted.row({"id": 1})])

    (refusal,) = scripted.write(writes, deadline=soon())

    assert (refusal.write, refusal.kind) == (writes[0], "invalid")
    assert script.ids() == [[1]]


def test_rows_that_are_all_nested_too_deeply_are_not_asked_about(script: Script, scripted: BigQuerySink) -> None:
    (refusal,) = scripted.write(stamp([scripted.row({"n": deep(100)})]), deadline=soon())

    assert isinstance(refusal.error, NotAsked)
    assert script.requests == []


def test_a_row_that_is_nested_deeper_than_can_be_followed_is_an_error_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        BigQuerySink("shop.orders").row({"n": deep(100_000)})


# Settings


@pytest.mark.parametrize("table", ["orders", "", "a.b.c d`", ".orders", "shop.", "a-b.orders", "shop..orders"])
def test_a_table_without_a_dataset_is_an_error(table: str) -> None:
    with pytest.raises(ConfigurationError, match=r"dataset\.table"):
        BigQuerySink(table)


@pytest.mark.parametrize("table", ["shop.orders", "my-project.shop.orders", "example.com:p.shop.orders-2024", "s.t b"])
def test_a_table_may_have_its_project_in_front(table: str) -> None:
    assert BigQuerySink(table).table == table


@pytest.mark.parametrize("value", [None, "orders", ""])
def test_a_missing_variable_is_named_with_who_wants_it_on_the_first_write(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("ORDERS_TABLE", raising=False)
    if value is not None:
        monkeypatch.setenv("ORDERS_TABLE", value)

    class Orders:
        warehouse = BigQuerySink.from_env("ORDERS_TABLE")

    writes = stamp([Orders.warehouse.row({"id": 1})])
    assert Orders.warehouse.write([], deadline=soon()) == []
    with pytest.raises(ConfigurationError, match=r"Orders\.warehouse.*ORDERS_TABLE"):
        Orders.warehouse.write(writes, deadline=soon())


def test_missing_google_credentials_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BIGQUERY_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    sink = BigQuerySink("p.shop.orders")

    with pytest.raises(ConfigurationError, match="no Google credentials"):
        sink.write(stamp([sink.row({"id": 1})]), deadline=soon())


def test_a_missing_package_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = BigQuerySink("shop.orders")
    monkeypatch.setitem(sys.modules, "google.cloud", None)

    with pytest.raises(ImportError, match=r"kinesis-streamkit\[bigquery\]"):
        sink.write(stamp([sink.row({"id": 1})]), deadline=soon())


def test_making_rows_imports_neither_google_nor_tenacity() -> None:
    program = (
        "import sys\n"
        "from streamkit.sinks.bigquery import BigQuerySink\n"
        "BigQuerySink.from_env('T').row({'id': 1})\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('google', 'tenacity', 'requests', 'asyncio')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_client_that_was_given_stays_open_when_the_sink_is_closed(script: Script) -> None:
    with contextlib.closing(client_of(script.endpoint)) as client:
        BigQuerySink("shop.orders", client=client).close()
        again = BigQuerySink("shop.orders", client=client)
        assert again.write(rows(again, 1), deadline=soon()) == []
