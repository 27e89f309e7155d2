"""OpenSearchSink against osmem-server, with a proxy between that refuses, loses and fails in part."""

from __future__ import annotations

import enum
import hashlib
import hmac
import itertools
import json
import logging
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_opensearch import opensearch_server
from opensearchpy import OpenSearch

from streamkit import Refusal, Reject, Write
from streamkit.errors import ConfigurationError
from streamkit.sinks.opensearch import OpenSearchSink
from streamkit.sinks.opensearch_http import Http

from .aws_proxy import Act, Answer, AwsProxy, Request, drop, lose_the_answer, trickle

MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "n": {"type": "long"},
        "ratio": {"type": "double"},
        "at": {"type": "date"},
        "name": {"type": "text"},
        "tags": {"type": "keyword"},
        "flag": {"type": "boolean"},
        "big": {"type": "keyword"},
        "raw": {"type": "binary"},
        "address": {"properties": {"zip": {"type": "long"}, "ip": {"type": "ip"}}},
    },
}
_names = (f"orders-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with opensearch_server() as running:
        yield running.endpoint


@pytest.fixture(scope="module")
def server(endpoint: str) -> Iterator[OpenSearch]:
    client = OpenSearch(hosts=[endpoint], timeout=60)
    yield client
    client.close()


@pytest.fixture
def proxy(endpoint: str) -> Iterator[AwsProxy]:
    proxy = AwsProxy(endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def index(server: OpenSearch) -> str:
    name = next(_names)
    server.indices.create(index=name, body={"mappings": MAPPINGS})
    return name


@pytest.fixture
def sink(proxy: AwsProxy, index: str) -> Iterator[OpenSearchSink]:
    sink = OpenSearchSink(proxy.endpoint, index)
    yield sink
    sink.close()


def write(sink: OpenSearchSink, *writes: Write, within: float = 30.0) -> list[Refusal]:
    return sink.write(writes, deadline=time.monotonic() + within)


def documents(server: OpenSearch, index: str) -> dict[str, Any]:
    server.indices.refresh(index=index)
    found = server.search(index=index, body={"query": {"match_all": {}}, "size": 10_000})
    return {hit["_id"]: hit["_source"] for hit in found["hits"]["hits"]}


def operations(request: Request) -> list[tuple[str, dict[str, Any]]]:
    """The actions of a bulk request, each with what it is of."""
    found = []
    lines = iter(request.body.decode().splitlines())
    for line in lines:
        ((action, about),) = json.loads(line).items()
        found.append((action, about))
        if action != "delete":
            next(lines)
    return found


def sent_ids(proxy: AwsProxy) -> list[list[str]]:
    return [[about["_id"] for _, about in operations(request)] for request in proxy.requests]


def statuses(proxy: AwsProxy) -> list[int | None]:
    return [status for _, status in proxy.statuses]


def answer(status: int, content: Any = None) -> Act:
    """Answer without asking the server: JSON, or what stands there as text."""
    body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
    return lambda request: (status, {"Content-Type": "application/json"}, body)


def refuse(status: int, kind: str = "some_exception", reason: str = "told to") -> Act:
    return answer(status, {"error": {"type": kind, "reason": reason}, "status": status})


def fail_items(failures: dict[str, tuple[int, str, str]]) -> Act:
    """The items of these ids fail, each with a status, a type and a reason; the server takes the others."""

    def act(request: Request) -> Answer:
        lines = request.body.split(b"\n")[:-1]
        kept: list[bytes] = []
        ids: list[tuple[str, str]] = []
        while lines:
            head = lines.pop(0)
            ((action, about),) = json.loads(head).items()
            tail = [lines.pop(0)] if action != "delete" else []
            ids.append((action, about["_id"]))
            if about["_id"] not in failures:
                kept += [head, *tail]
        taken = iter(())
        if kept:
            status, _, body = request.forward(b"\n".join(kept) + b"\n")
            assert status == 200
            taken = iter(json.loads(body)["items"])
        items = []
        for action, doc_id in ids:
            if doc_id in failures:
                code, kind, reason = failures[doc_id]
                items.append({action: {"status": code, "error": {"type": kind, "reason": reason}}})
            else:
                items.append(next(taken))
        return 200, {"Content-Type": "application/json"}, json.dumps({"items": items}).encode()

    return act


# What is sent


def test_documents_and_removals_go_out_as_one_request(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    assert write(sink, sink.document("a", {"n": 1}), sink.document("b", {"n": 2})) == []
    assert write(sink, sink.removal("a"), sink.document("c", {"n": 3}), sink.removal("nowhere")) == []

    assert documents(server, index) == {"b": {"n": 2}, "c": {"n": 3}}
    assert [action for action, _ in operations(proxy.requests[1])] == ["delete", "index", "delete"]
    assert [urlsplit(request.path).path for request in proxy.requests] == [f"/{index}/_bulk"] * 2


def test_an_answer_has_a_status_for_each_item_and_little_else(sink: OpenSearchSink, proxy: AwsProxy) -> None:
    answers: list[Answer] = []

    def listen(request: Request) -> Answer:
        answers.append(request.forward())
        return answers[0]

    proxy.script = [listen]

    assert write(sink, *(sink.document(n, {"n": n}) for n in range(3)), sink.removal("x")) == []

    assert json.loads(answers[0][2]) == {"items": [{"index": {"status": 201}}] * 3 + [{"delete": {"status": 404}}]}


def test_every_type_of_value_arrives(sink: OpenSearchSink, server: OpenSearch, index: str) -> None:
    class Size(enum.IntEnum):
        LARGE = 3

    some = uuid.uuid4()
    sent: dict[str | int, Any] = {
        "plain": {"name": "Zürich 😀\t\n\r\u2028", "n": -(2**63), "ratio": 0.1, "tags": ["a", "b"], "flag": True},
        "exact": {"ratio": Decimal("0.1"), "n": Size.LARGE, "tags": some},
        "time": {"at": datetime(2020, 1, 1, 1, 30, tzinfo=UTC)},
        "date": {"at": date(1995, 2, 28)},
        "null": {"n": None, "tags": []},
        "raw": {"raw": b"\x00\xff"},
        "inner": {"address": {"zip": 8001, "ip": "127.0.0.1"}},
        17: {"n": 17},
        "empty": {},
        'id with\nany "signs" and 😀': {"n": 1},
        "mapping": MappingProxyType({"n": 5}),
    }

    assert write(sink, *(sink.document(doc_id, fields) for doc_id, fields in sent.items())) == []

    found = documents(server, index)
    assert found.pop("exact") == {"ratio": 0.1, "n": 3, "tags": str(some)}
    assert found.pop("time") == {"at": "2020-01-01T01:30:00Z"}
    assert found.pop("date") == {"at": "1995-02-28"}
    assert found.pop("raw") == {"raw": "AP8="}
    assert found.pop("mapping") == {"n": 5}
    assert found == {str(doc_id): sent[doc_id] for doc_id in ("plain", "null", "inner", 17, "empty", list(sent)[-2])}


def test_a_change_of_the_callers_object_does_not_reach_the_write(
    sink: OpenSearchSink, server: OpenSearch, index: str
) -> None:
    fields: dict[str, Any] = {"n": 1, "tags": ["a"]}
    made = sink.document("a", fields)
    fields["n"] = 2
    fields["tags"].append("b")

    assert write(sink, made) == []
    assert documents(server, index) == {"a": {"n": 1, "tags": ["a"]}}


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=50)
@given(text=st.text(st.characters(exclude_categories=["Cs"])), doc_id=st.text(min_size=1, max_size=120))
def test_any_text_arrives(sink: OpenSearchSink, server: OpenSearch, index: str, text: str, doc_id: str) -> None:
    assert write(sink, sink.document(doc_id, {"name": text, "tags": [text[:100], text[:100]]})) == []

    found = server.get(index=index, id=doc_id)
    assert found["_source"] == {"name": text, "tags": [text[:100], text[:100]]}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("", {"n": 1}), "1 to 512 bytes"),
        (("é" * 257, {"n": 1}), "1 to 512 bytes; this one has 514"),
        (("\ud800", {"n": 1}), "surrogate"),
        ((None, {"n": 1}), "not NoneType"),
        ((True, {"n": 1}), "not bool"),
        ((2**63, {"n": 1}), "not int"),
        ((b"secret", {"n": 1}), "not bytes"),
        (("a", [1]), "not list"),
        (("a", None), "not NoneType"),
        (("a", {"n": object()}), "of type object"),
        (("a", {("secret", 1): 1}), "JSON has not"),
        (("a", {"n": "secret\ud800"}), "JSON has not"),
        (("a", {"n": 10**5000}), "JSON has not"),
        (("a", {"n": Decimal("NaN")}), "JSON has not"),
        (("a", {"ratio": float("nan")}), "'ratio' is not a finite"),
        (("a", {"address": {"zip": [1, float("inf")]}, "name": "secret"}), "'address.zip' is not a finite"),
    ],
)
def test_what_can_never_be_sent_is_rejected_without_a_value_in_the_message(
    arguments: tuple[Any, Any], reason: str
) -> None:
    with pytest.raises(Reject, match=reason) as error:
        OpenSearchSink("localhost", "orders").document(*arguments)
    assert "secret" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"version": -1}, "0 to 2"),
        ({"version": 2**63}, "a Kinesis sequence number is more"),
        ({"version": 49590338271490256608559692538361571095921575989136588898}, "a Kinesis sequence number is more"),
        ({"version": True}, "not bool"),
        ({"version": "7"}, "not str"),
        ({"routing": ""}, "routing"),
        ({"routing": 1.5}, "not float"),
        ({"routing": "\ud800"}, "surrogate"),
        ({"index": "Orders"}, "lower case"),
        ({"index": ""}, "lower case"),
        ({"index": "_all"}, "lower case"),
        ({"index": "a,b"}, "lower case"),
        ({"index": ".."}, "lower case"),
    ],
)
@pytest.mark.parametrize("removes", [False, True])
def test_a_wrong_version_routing_or_index_is_rejected(options: dict[str, Any], reason: str, removes: bool) -> None:
    sink = OpenSearchSink("localhost", "orders")
    with pytest.raises(Reject, match=reason):
        _ = sink.removal("a", **options) if removes else sink.document("a", {}, **options)


def test_a_document_over_100_mib_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamkit.sinks.opensearch._DOCUMENT_BYTES", 1000)
    sink = OpenSearchSink("localhost", "orders")

    with pytest.raises(Reject, match="this one has 1,011 bytes"):
        sink.document("a", {"name": "x" * 1000})
    assert sink.document("a", {"name": "x" * 900}).size > 900


def test_another_index_and_a_routing_are_sent_where_they_are_given(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    other = f"{index}-other"
    writes = [
        sink.document("a", {"n": 1}, index=other),
        sink.document("a", {"n": 2}, routing="x"),
        sink.document("b", {"n": 3}, index=index, routing=7),
    ]

    assert write(sink, *writes) == []

    assert [about for _, about in operations(proxy.requests[0])] == [
        {"_id": "a", "_index": other},
        {"_id": "a", "routing": "x"},
        {"_id": "b", "routing": "7"},
    ]
    assert documents(server, other) == {"a": {"n": 1}}
    assert server.get(index=index, id="b", routing="7")["_routing"] == "7"


def test_an_index_may_have_any_letters(proxy: AwsProxy, server: OpenSearch) -> None:
    sink = OpenSearchSink(proxy.endpoint, "заказы-2026")

    assert write(sink, sink.document("a", {"n": 1})) == []

    assert statuses(proxy) == [200]
    assert documents(server, "заказы-2026") == {"a": {"n": 1}}
    sink.close()


# Requests


def test_the_size_of_writes_is_that_of_their_request(sink: OpenSearchSink, proxy: AwsProxy) -> None:
    writes = [sink.document("a", {"name": "é" * 100}), sink.removal("b"), sink.document("c", {"n": 1}, version=4)]

    assert write(sink, *writes) == []

    assert sum(made.size for made in writes) == len(proxy.requests[0].body)


def test_more_than_5_mb_goes_out_in_several_requests(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    # Of a type that is not analysed, which would take the server its time.
    assert write(sink, *(sink.document(n, {"raw": "A" * 999_900}) for n in range(11)), within=120) == []

    assert len(documents(server, index)) == 11
    assert [len(ids) for ids in sent_ids(proxy)] == [5, 5, 1]
    assert max(len(request.body) for request in proxy.requests) <= OpenSearchSink.request_bytes  # type: ignore[operator]


def at_most(limit: int) -> Act:
    """As a small domain of Amazon's answers, whose limit is 10 MiB."""

    def act(request: Request) -> Answer:
        if len(request.body) > limit:
            return 413, {}, json.dumps({"Message": f"Request size exceeded {limit} bytes"}).encode()
        return request.forward()

    return act


def test_a_request_that_is_too_large_is_sent_in_halves_and_later_ones_are_smaller(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    proxy.always = at_most(300_000)

    assert write(sink, *(sink.document(n, {"name": "x" * 99_900}) for n in range(8))) == []
    assert [len(ids) for ids in sent_ids(proxy)] == [8, 4, 2, 2, 2, 2]
    assert statuses(proxy) == [413, 413, 200, 200, 200, 200]
    del proxy.requests[:]
    assert write(sink, *(sink.document(n, {"name": "y" * 99_900}) for n in range(8))) == []

    assert [len(ids) for ids in sent_ids(proxy)] == [2, 2, 2, 2]
    assert {fields["name"][0] for fields in documents(server, index).values()} == {"y"}


def test_requests_that_take_too_long_become_smaller_until_they_do_not_and_grow_again(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    def overloaded(request: Request) -> Answer:
        return (504, {}, b"") if len(request.body) > 250_000 else request.forward()

    def documents_of(name: str) -> list[Write]:
        return [sink.document(n, {"name": name * 99_900}) for n in range(8)]

    proxy.always = overloaded
    assert write(sink, *documents_of("x")) == []
    taken = [len(ids) for ids, status in zip(sent_ids(proxy), statuses(proxy), strict=True) if status == 200]
    assert taken == [2, 2, 2, 2], "one that is allowed to be larger again fails, and is halved"
    proxy.always = Request.forward
    del proxy.requests[:]

    assert write(sink, *documents_of("y")) == []
    assert len(proxy.requests) < 4
    assert {fields["name"][0] for fields in documents(server, index).values()} == {"y"}


def test_a_request_that_is_not_answered_in_time_is_smaller_the_next_time(sink: OpenSearchSink, proxy: AwsProxy) -> None:
    def slow(request: Request) -> Answer:
        time.sleep(3)
        return request.forward()

    writes = [sink.document(n, {"name": "x" * 99_900}) for n in range(8)]
    proxy.script = [slow]
    assert {refusal.kind for refusal in write(sink, *writes, within=1.5)} == {"unavailable"}
    del proxy.requests[:]

    assert write(sink, *writes) == []
    assert max(len(ids) for ids in sent_ids(proxy)) < 8


def test_a_document_that_is_too_large_is_invalid_alone(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    proxy.always = at_most(300_000)
    writes = [
        sink.document("a", {"n": 1}),
        sink.document("large", {"name": "x" * 400_000}),
        sink.document("c", {"n": 3}),
    ]

    (refusal,) = write(sink, *writes)

    assert (refusal.write, refusal.kind) == (writes[1], "invalid")
    assert "as large as this document (HTTP 413)" in str(refusal.error)
    assert 413 in statuses(proxy)
    assert documents(server, index).keys() == {"a", "c"}


def test_a_request_that_is_not_understood_is_halved_until_its_fault_is_alone_and_failed(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    def refuse_b(request: Request) -> Answer:
        is_bad = any(about["_id"] == "b" for _, about in operations(request))
        return refuse(400, "illegal_argument_exception", "secret")(request) if is_bad else request.forward()  # type: ignore[return-value]

    proxy.always = refuse_b
    writes = [sink.document(doc_id, {"n": 1}) for doc_id in "abcd"]

    (refusal,) = write(sink, *writes)

    assert (refusal.write, refusal.kind) == (writes[1], "failed")
    assert str(refusal.error) == "OpenSearch did not understand the request (HTTP 400, illegal_argument_exception)"
    assert statuses(proxy) == [400, 400, 200, 400, 200]
    assert documents(server, index).keys() == {"a", "c", "d"}


# What is in a document


def test_a_bad_document_is_refused_alone_by_one_request(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    writes = [sink.document(n, {"n": n}) for n in range(64)]
    writes[41] = sink.document(41, {"n": "many"})

    (refusal,) = write(sink, *writes)

    assert (refusal.write, refusal.kind) == (writes[41], "invalid")
    assert documents(server, index).keys() == {str(n) for n in range(64) if n != 41}
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"n": "secret", "name": "fine"},
            "its field 'n', which the index has as the type long (HTTP 400, mapper_parsing",
        ),
        (
            {"address": {"ip": "secret"}},
            "its field 'address.ip', which the index has as the type ip (HTTP 400, mapper_p",
        ),
        ({"at": "secret"}, "its field 'at', which the index has as the type date (HTTP 400, mapper_parsing_exception)"),
        ({"nickname": "secret"}, "its field 'nickname' (HTTP 400, strict_dynamic_mapping_exception)"),
        ({"address": {"street": "secret"}}, "'street'"),
        ({"n": {"secret": "secret"}}, "its field 'n', which the index has as the type long (HTTP 400, mapper_parsing"),
        ({"_id": "secret"}, "(HTTP 400, mapper_parsing_exception)"),
    ],
)
def test_a_refusal_shows_the_field_and_the_type_and_never_what_is_in_it(
    sink: OpenSearchSink, caplog: pytest.LogCaptureFixture, fields: dict[str, Any], told: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        (refusal,) = write(sink, sink.document("id-secret", fields))

    shown = "".join(traceback.format_exception(refusal.error))
    assert refusal.kind == "invalid"
    assert told in shown
    assert "secret" not in shown.replace(str(fields), "") + "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("streamkit")
    )


def test_a_field_of_another_type_than_before_is_invalid(proxy: AwsProxy, server: OpenSearch) -> None:
    sink = OpenSearchSink(proxy.endpoint, next(_names))  # Made by its first document, with the types that it has.
    assert write(sink, sink.document("a", {"n": 1})) == []

    (refusal,) = write(sink, sink.document("b", {"n": {"inner": 1}}))

    assert refusal.kind == "invalid"
    assert "'n'" in str(refusal.error)
    sink.close()


# Item by item: what the stand-in never answers, the proxy does


@pytest.mark.parametrize(
    ("status", "kind", "reason", "expected", "told"),
    [
        (400, "document_parsing_exception", "[1:5] failed to parse field [n] of type [long] in document", "invalid", "'n'"),
        (400, "illegal_argument_exception", "mapper [n] cannot be changed from type [long] to [text]", "invalid", "'n'"),
        (400, "illegal_argument_exception", 'Document contains at least one immense term in field="n" (whose', "invalid", "'n'"),
        (400, "illegal_argument_exception", "Limit of total fields [1000] has been exceeded", "failed", "illegal_arg"),
        (400, "illegal_argument_exception", "pipeline with id [x] does not exist", "unavailable", "is set up"),
        (400, "illegal_argument_exception", "Document ID is not supported in create/index operation", "unavailable", "set up"),
        (400, "validation_exception", "this action would add [2] total shards", "unavailable", "is set up"),
        (400, "brand_new_exception", "of a later version", "failed", "brand_new_exception"),
        (400, "Not A Type: secret", "secret", "failed", "an error without a type"),
        (403, "security_exception", "no permissions for [indices:data/write/bulk]", "unavailable", "es:ESHttpPost"),
        (403, "cluster_block_exception", "blocked by: [FORBIDDEN/12/index read-only]", "unavailable", "free space"),
        (403, "index_create_block_exception", "cluster create-index blocked", "unavailable", "free space"),
        (429, "cluster_block_exception", "flood-stage watermark", "unavailable", "free space"),
        (404, "index_not_found_exception", "no such index [orders]", "unavailable", "create it"),
        (409, "version_conflict_engine_exception", "current version [7] is higher", "failed", "no version was given"),
        (418, "teapot_exception", "short and stout", "failed", "HTTP 418"),
    ],
)  # fmt: skip
def test_an_item_that_is_refused_for_good_is_asked_about_once(
    sink: OpenSearchSink,
    proxy: AwsProxy,
    server: OpenSearch,
    index: str,
    status: int,
    kind: str,
    reason: str,
    expected: str,
    told: str,
) -> None:
    proxy.script = [fail_items({"b": (status, kind, reason)})]
    writes = [sink.document(doc_id, {"n": 1}) for doc_id in "abc"]

    (refusal,) = write(sink, *writes)

    assert (refusal.write, refusal.kind) == (writes[1], expected)
    assert told in str(refusal.error)
    assert reason not in str(refusal.error)
    assert documents(server, index).keys() == {"a", "c"}
    assert proxy.script == []
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "es_rejected_execution_exception"),
        (429, "rejected_execution_exception"),
        (429, "circuit_breaking_exception"),
        (500, "exception"),
        (503, "unavailable_shards_exception"),
        (503, "cluster_block_exception"),
    ],
)
def test_only_the_items_that_were_turned_away_are_sent_again(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str, status: int, kind: str
) -> None:
    busy = (status, kind, "rejected execution of coordinating operation")
    proxy.script = [fail_items({"b": busy, "d": busy}), fail_items({"d": busy})]

    assert write(sink, *(sink.document(doc_id, {"n": 1}) for doc_id in "abcd")) == []

    assert sent_ids(proxy) == [["a", "b", "c", "d"], ["b", "d"], ["d"]]
    assert documents(server, index).keys() == set("abcd")


def test_an_item_that_is_turned_away_to_the_end_is_unavailable_alone(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    proxy.always = fail_items({"b": (429, "es_rejected_execution_exception", "queue capacity")})
    writes = [sink.document(doc_id, {"n": 1}) for doc_id in "abc"]

    (refusal,) = write(sink, *writes, within=3.0)

    assert (refusal.write, refusal.kind) == (writes[1], "unavailable")
    assert "HTTP 429, es_rejected_execution_exception" in str(refusal.error)
    assert sent_ids(proxy)[1:] == [["b"]] * (len(proxy.requests) - 1) != []
    assert documents(server, index).keys() == {"a", "c"}


def test_a_block_of_a_full_disk_says_what_to_do(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    made = sink.document("a", {"n": 1})
    server.indices.put_settings(index=index, body={"index.blocks.read_only_allow_delete": True})

    (refusal,) = write(sink, made)
    server.indices.put_settings(index=index, body={"index.blocks.read_only_allow_delete": None})

    assert refusal.kind == "unavailable"
    assert "HTTP 429, cluster_block_exception" in str(refusal.error)
    assert "free space" in str(refusal.error)
    assert len(proxy.requests) == 1
    assert write(sink, made) == []


def test_a_closed_index_and_an_alias_without_a_write_index_are_not_the_documents_fault(
    proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    other = next(_names)
    server.indices.create(index=other)
    actions = [{"add": {"index": name, "alias": f"{index}-alias"}} for name in (index, other)]
    server.indices.update_aliases(body={"actions": actions})
    sink = OpenSearchSink(proxy.endpoint, f"{index}-alias")
    (of_alias,) = write(sink, sink.document("a", {"n": 1}))
    server.indices.close(index=index)
    (of_closed,) = write(sink, sink.document("a", {"n": 1}, index=index))
    sink.close()

    assert (of_alias.kind, of_closed.kind) == ("unavailable", "unavailable")
    assert f"{index}-alias' is set up (HTTP 400, illegal_argument_exception)" in str(of_alias.error)
    assert "index_closed_exception" in str(of_closed.error)


def test_a_removal_from_an_index_that_is_not_there_is_done(proxy: AwsProxy, server: OpenSearch) -> None:
    name = next(_names)
    sink = OpenSearchSink(proxy.endpoint, name)

    assert write(sink, sink.removal("a")) == []

    assert statuses(proxy) == [200]
    assert not server.indices.exists(index=name)
    sink.close()


def test_a_removal_whose_version_nothing_would_remember_is_not_done(sink: OpenSearchSink, proxy: AwsProxy) -> None:
    # As with automatic creation off, which osmem does not know.
    proxy.script = [fail_items({"a": (404, "index_not_found_exception", "no such index")})]

    (refusal,) = write(sink, sink.removal("a", version=3))

    assert refusal.kind == "unavailable"
    assert "create it" in str(refusal.error)


# Versions


def test_a_repeat_and_a_late_arrival_are_harmless_and_no_failures(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    second = sink.document("a", {"n": 2}, version=20)
    assert write(sink, second) == []
    assert write(sink, second) == []
    assert write(sink, sink.document("a", {"n": 1}, version=10), sink.document("b", {"n": 1}, version=1)) == []
    assert write(sink, sink.removal("a", version=15)) == []

    assert documents(server, index) == {"a": {"n": 2}, "b": {"n": 1}}
    assert server.get(index=index, id="a")["_version"] == 20
    assert len(proxy.requests) == 4


def test_of_two_changes_with_the_same_version_the_last_wins(
    sink: OpenSearchSink, server: OpenSearch, index: str
) -> None:
    assert write(sink, sink.document("a", {"n": 1}, version=5)) == []
    assert write(sink, sink.document("a", {"n": 2}, version=5)) == []

    assert documents(server, index) == {"a": {"n": 2}}


def test_a_removal_is_remembered_against_what_arrives_late(
    sink: OpenSearchSink, server: OpenSearch, index: str
) -> None:
    assert write(sink, sink.document("a", {"n": 1}, version=1)) == []
    assert write(sink, sink.removal("a", version=3), sink.removal("b", version=3)) == []
    assert write(sink, sink.document("a", {"n": 2}, version=2), sink.document("b", {"n": 2}, version=2)) == []

    assert documents(server, index) == {}
    assert write(sink, sink.document("a", {"n": 4}, version=4)) == []
    assert documents(server, index) == {"a": {"n": 4}}


def test_the_lowest_and_the_highest_version_are_taken(sink: OpenSearchSink, server: OpenSearch, index: str) -> None:
    assert write(sink, sink.document("a", {"n": 1}, version=0), sink.document("b", {"n": 1}, version=2**63 - 1)) == []

    assert server.get(index=index, id="b")["_version"] == 2**63 - 1
    assert documents(server, index).keys() == {"a", "b"}


@pytest.mark.parametrize("version", [None, 7])
def test_a_lost_answer_is_asked_for_again_and_changes_nothing(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str, version: int | None
) -> None:
    proxy.script = [lose_the_answer, drop]

    assert write(sink, sink.document("a", {"n": 1}, version=version), sink.removal("b", version=version)) == []

    assert statuses(proxy) == [None, None, 200]
    assert documents(server, index) == {"a": {"n": 1}}


# Several writes for one document


def test_only_the_last_write_for_a_document_is_sent(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    writes = [
        sink.document("a", {"n": 1}),
        sink.document("b", {"n": 1}),
        sink.removal("a"),
        sink.removal("b"),
        sink.document("a", {"n": 2}),
    ]

    assert write(sink, *writes) == []

    assert sent_ids(proxy) == [["a", "b"]]
    assert documents(server, index) == {"a": {"n": 2}}


def test_of_writes_with_versions_the_highest_is_sent_wherever_it_stands(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    writes = [sink.document("a", {"n": n}, version=version) for n, version in enumerate([3, 9, 9, 4])]

    assert write(sink, *writes) == []

    assert sent_ids(proxy) == [["a"]]
    assert documents(server, index) == {"a": {"n": 2}}


def test_an_earlier_write_takes_the_place_of_a_refused_last_one(
    sink: OpenSearchSink, server: OpenSearch, index: str
) -> None:
    writes = [sink.document("a", {"n": 1}), sink.document("a", {"n": 2}), sink.document("a", {"n": "bad"})]

    (refusal,) = write(sink, *writes, sink.document("b", {"n": 3}))

    assert (refusal.write, refusal.kind) == (writes[2], "invalid")
    assert documents(server, index) == {"a": {"n": 2}, "b": {"n": 3}}


def test_a_later_write_waits_for_one_that_is_tried_again(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    # With a version and without can't be weighed against each other, so both are sent.
    proxy.script = [fail_items({"a": (429, "es_rejected_execution_exception", "busy")})]
    writes = [sink.document("a", {"n": 1}), sink.document("a", {"n": 2}, version=50), sink.document("b", {"n": 1})]

    assert write(sink, *writes) == []

    assert sent_ids(proxy) == [["a", "b"], ["a"], ["a"]]
    assert ["version" in operations(request)[0][1] for request in proxy.requests] == [False, False, True]
    assert documents(server, index)["a"] == {"n": 2}


def test_what_is_superseded_by_a_write_without_an_answer_has_none_either(sink: OpenSearchSink, proxy: AwsProxy) -> None:
    proxy.script = [refuse(403)]
    writes = [
        *(sink.document("a", {"n": n}) for n in range(2)),
        sink.document("a", {"n": 3}, version=3),
        sink.document("b", {"n": 3}),
    ]

    refusals = write(sink, *writes)

    assert {(refusal.write, refusal.kind) for refusal in refusals} == {(made, "unavailable") for made in writes}
    assert len(refusals) == 4


def test_nothing_of_a_document_follows_a_failed_write(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    proxy.script = [fail_items({"a": (400, "brand_new_exception", "")})]
    writes = [
        sink.document("a", {"n": 1}),
        sink.document("a", {"n": 2}),
        sink.document("a", {"n": 3}, version=3),
    ]

    refusals = write(sink, *writes)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [
        (writes[1], "failed"),
        (writes[2], "unavailable"),
    ]
    assert documents(server, index) == {"a": {"n": 1}}


OPERATIONS = st.tuples(
    st.sampled_from("abc"), st.sampled_from(["add", "remove", "bad"]), st.none() | st.integers(min_value=0, max_value=5)
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=80)
@given(plan=st.lists(OPERATIONS, max_size=12), busy=st.sets(st.sampled_from("abc")))
def test_a_batch_leaves_what_its_writes_would_leave_one_after_another(
    proxy: AwsProxy,
    server: OpenSearch,
    endpoint: str,
    plan: list[tuple[str, str, int | None]],
    busy: set[str],
) -> None:
    def make(sink: OpenSearchSink, n: int) -> Write:
        doc_id, kind, version = plan[n]
        # Each write without a version counts one up where it is sent, and of several only the last is. So small versions
        # are of documents that never have a write without one.
        if doc_id == "a":
            version = version or 0
        elif doc_id == "b":
            version = None
        elif version is not None:
            version = 1000 * (n + 1)
        if kind == "remove":
            return sink.removal(doc_id, version=version)
        return sink.document(doc_id, {"n": n} if kind == "add" else {"nickname": n}, version=version)

    one, other = next(_names), next(_names)
    for name in (one, other):
        server.indices.create(index=name, body={"mappings": MAPPINGS})
    proxy.script = [fail_items(dict.fromkeys(busy, (429, "es_rejected_execution_exception", "busy")))]
    together, alone = OpenSearchSink(proxy.endpoint, one), OpenSearchSink(endpoint, other)
    writes = [make(together, n) for n in range(len(plan))]

    refusals = write(together, *writes)
    for n in range(len(plan)):
        write(alone, make(alone, n))

    assert documents(server, one) == documents(server, other)
    assert {refusal.kind for refusal in refusals} <= {"invalid"}
    refused = {id(refusal.write) for refusal in refusals}
    # A bad write that others stand for is never asked about; one that was asked about is bad.
    assert refused <= {id(writes[n]) for n, (_, kind, _) in enumerate(plan) if kind == "bad"}
    assert all(len(ids) == len(set(ids)) for ids in sent_ids(proxy) if ids)
    together.close()
    alone.close()


# When the service does not answer


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_service_that_is_overloaded_is_asked_again(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str, status: int
) -> None:
    proxy.script = [refuse(status), answer(status, b"<html>Service Unavailable</html>")]

    assert write(sink, sink.document("a", {"n": 1})) == []

    assert statuses(proxy) == [status, status, 200]
    assert documents(server, index) == {"a": {"n": 1}}


@pytest.mark.parametrize(
    "content",
    [
        b"<html>a proxy's own page</html>",
        b"",
        b"[]",
        b'{"items": []}',
        b'{"items": [{"index": {}}]}',
        b'{"items": [{"index": {"status": 201}}, {"index": {"status": 201}}]}',
        b'{"items": [[]]}',
    ],
)
def test_an_answer_that_does_not_tell_of_each_write_is_none(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str, content: bytes
) -> None:
    proxy.script = [answer(200, content)]
    assert write(sink, sink.document("a", {"n": 1})) == []
    assert statuses(proxy) == [200, 200]
    proxy.always = answer(200, content)

    (refusal,) = write(sink, sink.document("b", {"n": 1}), within=0.3)

    assert refusal.kind == "unavailable"
    assert documents(server, index).keys() == {"a"}


def test_an_answer_that_trickles_is_not_read_beyond_the_deadline_and_makes_requests_smaller(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    writes = [sink.document(n, {"name": "x" * 99_900}) for n in range(8)]
    proxy.script = [trickle]

    started = time.monotonic()
    assert {refusal.kind for refusal in write(sink, *writes, within=2)} == {"unavailable"}
    assert time.monotonic() - started < 3.5
    assert statuses(proxy) == [200]
    del proxy.requests[:]

    assert write(sink, *writes) == []
    assert len(documents(server, index)) == 8
    assert max(len(ids) for ids in sent_ids(proxy)) < 8


def test_an_outage_ends_at_the_deadline_as_unavailable(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.always = refuse(503)
    writes = [sink.document(n, {"n": n}) for n in range(3)]
    waits: list[float] = []
    with monkeypatch.context() as patched:
        # A clock that only waiting moves: however long a request takes on this machine, it takes no time.
        patched.setattr(time, "sleep", waits.append)
        patched.setattr(time, "monotonic", lambda: 1000.0 + sum(waits))
        refusals = sink.write(writes, deadline=1030.0)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(made, "unavailable") for made in writes]
    assert len(proxy.requests) == len(waits) + 1 > 10
    assert 27 <= sum(waits) < 30
    proxy.always = Request.forward
    assert write(sink, *writes) == []
    assert len(documents(server, index)) == 3


def test_it_is_asked_for_a_minute_at_most(
    sink: OpenSearchSink, proxy: AwsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.always = refuse(503)
    waits: list[float] = []
    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", waits.append)
        patched.setattr(time, "monotonic", lambda: 1000.0 + sum(waits))
        (refusal,) = sink.write([sink.document("a", {"n": 1})], deadline=10_000.0)

    assert refusal.kind == "unavailable"
    assert 57 <= sum(waits) < 60


def slowly(request: Request) -> Answer:
    time.sleep(9)
    return refuse(200)(request)  # type: ignore[return-value]


@pytest.mark.parametrize("fault", [refuse(503), drop, slowly, fail_items({"a": (429, "busy_exception", "")})])
def test_a_deadline_that_is_past_allows_one_try(sink: OpenSearchSink, proxy: AwsProxy, fault: Act) -> None:
    made = sink.document("a", {"n": 1})
    assert write(sink, made, within=-1) == []
    proxy.script = [fault]

    started = time.monotonic()
    assert [refusal.kind for refusal in write(sink, made, within=-1)] == ["unavailable"]

    assert time.monotonic() - started < 7
    assert len(proxy.requests) == 2


def test_a_second_request_is_not_begun_after_the_deadline(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    writes = [sink.document("a", {"n": 1}), sink.document("a", {"n": 2}, version=9), sink.document("b", {"n": 1})]

    (refusal,) = write(sink, *writes, within=-1)

    assert (refusal.write, refusal.kind) == (writes[1], "unavailable")
    assert "no time left" in str(refusal.error)
    assert documents(server, index) == {"a": {"n": 1}, "b": {"n": 1}}
    assert len(proxy.requests) == 1


def test_halves_are_not_begun_after_the_deadline(sink: OpenSearchSink, proxy: AwsProxy) -> None:
    proxy.always = at_most(300_000)
    writes = [sink.document(n, {"name": "x" * 99_900}) for n in range(4)]

    refusals = write(sink, *writes, within=-1)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(made, "unavailable") for made in writes]
    assert statuses(proxy) == [413]


@pytest.mark.parametrize(
    ("act", "advice"),
    [
        (answer(401, b"Unauthorized"), "es:ESHttpPost"),
        (answer(403, {"Message": "User: secret is not authorized to perform: es:ESHttpPost"}), "es:ESHttpPost"),
        (refuse(403, "cluster_block_exception", "secret"), "free space"),
        (answer(404, b"secret"), "is the endpoint OpenSearch's?"),
        (refuse(400, "illegal_argument_exception", "explicit index in bulk is not allowed"), "how is it set up?"),
        (answer(406, {"error": "Content-Type header [secret] is not supported", "status": 406}), "(HTTP 406)"),
        (answer(302, b""), "(HTTP 302)"),
    ],
)
def test_what_is_not_the_records_fault_says_what_to_do(
    sink: OpenSearchSink, proxy: AwsProxy, act: Act, advice: str
) -> None:
    proxy.always = act

    refusals = write(sink, sink.document("a", {"n": 1}), sink.document("b", {"n": 1}))

    assert [refusal.kind for refusal in refusals] == ["unavailable"] * 2
    assert advice in str(refusals[0].error)
    assert "secret" not in "".join(traceback.format_exception(refusals[0].error))
    assert len(proxy.requests) == 1


# Index templates


def template(index: str) -> dict[str, Any]:
    return {"index_patterns": [f"{index}*"], "template": {"settings": {"index.gc_deletes": "1h"}, "mappings": MAPPINGS}}


def puts(proxy: AwsProxy) -> list[str]:
    return [f"{request.method} {urlsplit(request.path).path}" for request in proxy.requests]


def test_a_template_is_put_once_before_the_first_write(proxy: AwsProxy, server: OpenSearch) -> None:
    index = next(_names)
    sink = OpenSearchSink(proxy.endpoint, index, template=template(index))
    assert proxy.requests == []

    (refusal,) = write(sink, sink.document("a", {"n": 1}), sink.document("b", {"nickname": "x"}))
    assert write(sink, sink.document("c", {"n": 1})) == []

    assert puts(proxy) == [f"PUT /_index_template/{index}", f"POST /{index}/_bulk", f"POST /{index}/_bulk"]
    assert refusal.kind == "invalid"
    assert server.indices.get_settings(index=index)[index]["settings"]["index"]["gc_deletes"] == "1h"
    sink.close()


def test_a_template_may_be_a_file_under_a_name_of_its_own_and_without_patterns(
    proxy: AwsProxy, server: OpenSearch, tmp_path: Path
) -> None:
    index = next(_names)
    file = tmp_path / "orders.json"
    file.write_text(json.dumps({"template": {"mappings": MAPPINGS}}))
    sink = OpenSearchSink(proxy.endpoint, index, template=file, template_name=f"{index}-template")

    assert write(sink, sink.document("a", {"n": 1})) == []

    found = server.indices.get_index_template(name=f"{index}-template")["index_templates"][0]["index_template"]
    assert found["index_patterns"] == [index]
    sink.close()


def test_a_template_that_can_not_be_put_now_is_put_later_and_nothing_is_written_before(
    proxy: AwsProxy, server: OpenSearch
) -> None:
    index = next(_names)
    sink = OpenSearchSink(proxy.endpoint, index, template=template(index))
    made = sink.document("a", {"n": 1})
    proxy.script = [refuse(403)]

    (refusal,) = write(sink, made)
    assert refusal.kind == "unavailable"
    assert f"the index template '{index}' was not put" in str(refusal.error)
    assert "es:ESHttpPut" in str(refusal.error)
    assert puts(proxy) == [f"PUT /_index_template/{index}"]
    proxy.script = [refuse(503), drop, lose_the_answer]
    assert write(sink, made) == []

    assert statuses(proxy) == [403, 503, None, None, 200, 200]
    assert documents(server, index) == {"a": {"n": 1}}
    sink.close()


def test_a_template_that_is_none_is_refused_by_the_server_and_says_so(proxy: AwsProxy, server: OpenSearch) -> None:
    index = next(_names)
    bad = {"template": {"mappings": {"properties": {"n": {"type": "nonsense"}}}}}
    sink = OpenSearchSink(proxy.endpoint, index, template=bad)

    (refusal,) = write(sink, sink.document("a", {"n": 1}))

    assert refusal.kind == "unavailable"
    assert "was not put, so nothing is written" in str(refusal.error)
    assert "HTTP 400, illegal_argument_exception" in str(refusal.error)
    assert not server.indices.exists(index=index)
    sink.close()


def test_two_functions_may_put_the_same_template_at_once(proxy: AwsProxy, server: OpenSearch) -> None:
    index = next(_names)
    refusals: list[list[Refusal]] = []

    def run(n: int) -> None:
        sink = OpenSearchSink(proxy.endpoint, index, template=template(index))
        refusals.append(write(sink, sink.document(n, {"n": n})))
        sink.close()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refusals == [[]] * 4
    assert len(documents(server, index)) == 4
    assert puts(proxy).count(f"PUT /_index_template/{index}") == 4


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_template_file_that_is_none_is_an_error_of_configuration(
    endpoint: str, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "orders.json"
    if content is not None:
        file.write_text(content)
    sink = OpenSearchSink(endpoint, "orders", template=str(file))

    with pytest.raises(ConfigurationError, match=r"OpenSearchSink .*index template"):
        write(sink, sink.document("a", {}))
    sink.close()


# Set-up


class Orders:
    search = OpenSearchSink.from_env("SEARCH_ENDPOINT", index="orders")


def test_the_environment_is_read_on_first_use(
    endpoint: str, server: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = OpenSearchSink.from_env("SEARCH_ENDPOINT_OF_TEST", index=index)
    made = sink.document("a", {"n": 1})
    monkeypatch.setenv("SEARCH_ENDPOINT_OF_TEST", endpoint)

    assert write(sink, made) == []

    assert documents(server, index) == {"a": {"n": 1}}
    sink.close()


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named_with_who_wants_it(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("SEARCH_ENDPOINT", raising=False)
    if value is not None:
        monkeypatch.setenv("SEARCH_ENDPOINT", value)

    with pytest.raises(
        ConfigurationError, match=r"SEARCH_ENDPOINT is not set; Orders\.search needs OpenSearch's endpoint"
    ):
        write(Orders.search, Orders.search.document("a", {"n": 1}))


@pytest.mark.parametrize("endpoint", ["", "ftp://host", "https://host/path", "https://user:password@host", "two words"])
def test_an_endpoint_that_is_none_is_refused_without_showing_it(endpoint: str) -> None:
    sink = OpenSearchSink(endpoint, "orders")
    with pytest.raises(ConfigurationError, match=r"OpenSearchSink needs OpenSearch's endpoint") as error:
        write(sink, sink.document("a", {"n": 1}))
    assert "password@" not in str(error.value)


@pytest.mark.parametrize(
    "options", [{"index": "Orders"}, {"index": ""}, {"index": "a/b"}, {"service": "s3"}, {"template_name": "A b"}]
)
def test_options_that_are_wrong_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="OpenSearchSink"):
        OpenSearchSink("https://host", **{"index": "orders", **options})


@pytest.mark.parametrize(
    ("url", "service", "region"),
    [
        ("https://search-shop-abc.eu-west-1.es.amazonaws.com", "es", "eu-west-1"),
        ("https://vpc-shop-abc.cn-north-1.es.amazonaws.com.cn:443/", "es", "cn-north-1"),
        ("https://search-shop-abc.aos.us-east-2.on.aws", "es", "us-east-2"),
        ("https://abc123.us-east-1.aoss.amazonaws.com", "aoss", "us-east-1"),
        ("https://abc123.aoss.us-east-1.on.aws", "aoss", "us-east-1"),
        ("https://search.example.com", None, None),
        ("https://es.amazonaws.com.example.com", None, None),
    ],
)
def test_amazons_hosts_are_known_by_their_names(url: str, service: str | None, region: str | None) -> None:
    http = Http(url, authorization=None, service=None, region=None)
    assert (http._service, http._region) == (service, region)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "example-token")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def signature_of(request: Request, secret: str) -> tuple[str, str]:
    """The signature that a request has, and the one that AWS's documentation (Signature Version 4) says it should have."""
    headers = {name.lower(): " ".join(value.split()) for name, value in request.headers.items()}
    _, _, rest = headers["authorization"].partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    _, day, region, service, ending = parts["Credential"].split("/")
    url = urlsplit(request.path)
    query = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in parse_qsl(url.query, strict_parsing=True))
    names = parts["SignedHeaders"].split(";")
    canonical = "\n".join(
        [
            request.method,
            quote(quote(unquote(url.path), safe="/-_.~"), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{headers[name]}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    scope = "/".join([day, region, service, ending])
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, digest])
    key = f"AWS4{secret}".encode()
    for step in (day, region, service, ending):
        key = hmac.digest(key, step.encode(), "sha256")
    return parts["Signature"], hmac.digest(key, text.encode(), "sha256").hex()


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("service", ["es", "aoss"])
@pytest.mark.parametrize("letters", ["", "-é"])
def test_requests_to_amazon_carry_its_signature(proxy: AwsProxy, service: Any, letters: str) -> None:
    index = next(_names) + letters
    sink = OpenSearchSink(proxy.endpoint, index, service=service, region="eu-west-1", template=template(index))

    assert write(sink, sink.document("a", {"n": 1})) == []

    assert len(proxy.requests) == 2
    for request in proxy.requests:
        has, should_have = signature_of(request, "example-secret")
        assert has == should_have
        signed = request.headers["Authorization"]
        assert f"/eu-west-1/{service}/aws4_request" in signed
        assert all(name in signed for name in ("host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"))
        assert request.headers["X-Amz-Content-SHA256"] == hashlib.sha256(request.body).hexdigest()
    sink.close()


def test_without_credentials_nothing_is_sent_and_the_error_says_so(
    proxy: AwsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    sink = OpenSearchSink(proxy.endpoint, "orders", service="es", region="eu-west-1")

    (refusal,) = write(sink, sink.document("a", {"n": 1}))

    assert refusal.kind == "unavailable"
    assert "no AWS credentials" in str(refusal.error)
    assert proxy.requests == []


@pytest.mark.usefixtures("credentials")
def test_a_region_that_nothing_tells_is_asked_for(proxy: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    sink = OpenSearchSink(proxy.endpoint, "orders", service="es")
    with pytest.raises(ConfigurationError, match="needs region="):
        write(sink, sink.document("a", {"n": 1}))


@pytest.mark.usefixtures("credentials")
def test_an_authorization_stands_in_the_place_of_a_signature_and_is_asked_for_again_after_a_401(
    proxy: AwsProxy, index: str
) -> None:
    keys = iter(["ApiKey old", "ApiKey new"])
    sink = OpenSearchSink(proxy.endpoint, index, authorization=lambda: next(keys), service="es", region="eu-west-1")
    made = sink.document("a", {"n": 1})
    assert write(sink, made) == []
    proxy.script = [answer(401)]

    assert [refusal.kind for refusal in write(sink, made)] == ["unavailable"]
    assert write(sink, made) == []

    sent = [request.headers["Authorization"] for request in proxy.requests]
    assert sent == ["ApiKey old", "ApiKey old", "ApiKey new"]
    sink.close()


def test_an_authorization_may_be_text_and_nothing_is_signed_for_a_server_of_ones_own(
    proxy: AwsProxy, index: str, sink: OpenSearchSink
) -> None:
    other = OpenSearchSink(proxy.endpoint, index, authorization="Basic abc")
    assert write(other, other.document("a", {"n": 1})) == []
    assert write(sink, sink.document("a", {"n": 1})) == []

    assert proxy.requests[0].headers["Authorization"] == "Basic abc"
    assert "Authorization" not in proxy.requests[1].headers
    other.close()


def test_a_connection_is_kept_between_requests(sink: OpenSearchSink, proxy: AwsProxy) -> None:
    for n in range(3):
        assert write(sink, sink.document(n, {"n": n})) == []

    assert isinstance(sink._asking, Http)
    pool = sink._asking._pool.connection_from_url(proxy.endpoint)
    assert (pool.num_connections, pool.num_requests) == (1, 3)


def test_a_client_that_is_given_is_used_and_left_open(proxy: AwsProxy, server: OpenSearch, index: str) -> None:
    client = OpenSearch(hosts=[proxy.endpoint], max_retries=0)
    sink = OpenSearchSink("unused", index, client=client, template=template(index))
    busy = (429, "es_rejected_execution_exception", "busy")
    proxy.script = [Request.forward, fail_items({"b": busy}), drop, refuse(503)]

    assert write(sink, sink.document("a", {"n": 1}), sink.document("b", {"n": 2}, version=4)) == []
    (refusal,) = write(sink, sink.document("c", {"n": "secret"}))
    proxy.script = [refuse(403, "security_exception", "secret")]
    (other,) = write(sink, sink.document("d", {"n": 4}))

    assert statuses(proxy) == [200, 200, None, 503, 200, 200, 403]
    proxy.script = [answer(200, b"secret")]
    assert write(sink, sink.removal("d")) == []
    assert (refusal.kind, other.kind) == ("invalid", "unavailable")
    assert "'n'" in str(refusal.error)
    shown = "".join(traceback.format_exception(refusal.error) + traceback.format_exception(other.error))
    assert "secret" not in shown
    assert documents(server, index) == {"a": {"n": 1}, "b": {"n": 2}}
    sink.close()
    assert client.info()["tagline"]
    client.close()


def test_a_client_with_retries_of_its_own_is_refused(endpoint: str) -> None:
    with OpenSearch(hosts=[endpoint]) as client:
        sink = OpenSearchSink("unused", "orders", client=client)
        with pytest.raises(ConfigurationError, match="max_retries=0"):
            write(sink, sink.document("a", {"n": 1}))


def test_a_closed_sink_connects_anew(sink: OpenSearchSink) -> None:
    sink.close()
    assert write(sink, sink.document("a", {"n": 1})) == []
    sink.close()
    sink.close()


def test_nothing_heavy_is_imported_before_the_first_delivery_and_no_botocore_without_a_signature(endpoint: str) -> None:
    program = f"""
import sys, time
before = set(sys.modules)
from streamkit.sinks.opensearch import OpenSearchSink
sink = OpenSearchSink({endpoint!r}, "orders-import")
made = sink.document("a", {{"n": 1}})
heavy = {{"boto3", "botocore", "tenacity", "urllib3", "asyncio", "hashlib", "json", "http", "urllib", "opensearchpy"}}
print(sorted(heavy & (set(sys.modules) - before)))
assert sink.write([made], deadline=time.monotonic() + 20) == []
print(sorted({{"boto3", "botocore", "opensearchpy", "requests"}} & set(sys.modules)))
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True).split("\n")[:2] == ["[]", "[]"]


@pytest.mark.parametrize("missing", ["urllib3", "tenacity"])
def test_a_missing_library_is_named_with_the_extra_to_install(
    sink: OpenSearchSink, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"kinesis-streamkit\[opensearch\]"):
        write(sink, sink.document("a", {"n": 1}))


def test_json_that_was_given_as_it_is_can_not_add_an_action(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    assert write(sink, sink.document("victim", {"n": 1})) == []
    crafted = msgspec.Raw(b'{"x":1}}\n{"delete":{"_id":"victim"}}\n{"index":{"_id":"other"}}\n{"y":{}')

    write(sink, sink.document("a", {"p": crafted}), within=2.0)

    assert "victim" in documents(server, index)
    assert proxy.requests[-1].body.count(b"\n") == 2


def test_a_refusal_of_a_number_that_can_not_be_read_back_is_of_its_document_alone(
    sink: OpenSearchSink, proxy: AwsProxy, server: OpenSearch, index: str
) -> None:
    proxy.script = [fail_items({"b": (400, "mapper_parsing_exception", "failed to parse field [n] of type [long]")})]
    bad = sink.document("b", {"n": Decimal("1e400")})

    refusals = write(sink, sink.document("a", {"n": 1}), bad)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(bad, "invalid")]
    assert documents(server, index) == {"a": {"n": 1}}


def test_what_something_in_front_of_it_does_not_understand_is_no_documents_fault(
    sink: OpenSearchSink, proxy: AwsProxy
) -> None:
    proxy.always = answer(400, b"<html>The plain HTTP request was sent to HTTPS port</html>")

    refusals = write(sink, *(sink.document(str(n), {"n": n}) for n in range(4)))

    assert {refusal.kind for refusal in refusals} == {"unavailable"}
    assert len(refusals) == 4
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("secret", ["ApiKey c2VjcmV0\n", "Basic \u00fc", ""])
def test_an_authorization_that_no_header_can_have_is_told_without_it(proxy: AwsProxy, index: str, secret: str) -> None:
    sink = OpenSearchSink(proxy.endpoint, index, authorization=secret)

    with pytest.raises(ConfigurationError, match="has a line break, or another sign") as caught:
        write(sink, sink.document("a", {"n": 1}))

    assert not secret or secret.strip() not in str(caught.value)
