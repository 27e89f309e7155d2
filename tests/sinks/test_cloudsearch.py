"""CloudSearchSink against the stand-in, through boto3's own client."""

from __future__ import annotations

import enum
import json
import logging
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import boto3
import pytest
from cloudsearch import CloudSearchServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit import Refusal, Reject, Write
from streamkit.errors import ConfigurationError
from streamkit.sinks.cloudsearch import CloudSearchSink

pytestmark = pytest.mark.usefixtures("aws_credentials")

FIELDS = {
    "name": "text",
    "code": "literal",
    "n": "int",
    "ratio": "double",
    "at": "date",
    "place": "latlon",
    "tags": "literal-array",
}


@pytest.fixture(scope="module")
def domain() -> Iterator[CloudSearchServer]:
    with CloudSearchServer(FIELDS) as server:
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


def write(sink: CloudSearchSink, *writes: Write, within: float = 30.0) -> list[Refusal]:
    return sink.write(writes, deadline=time.monotonic() + within)


def sent_ids(server: CloudSearchServer) -> list[list[str]]:
    return [[doc_id for _, doc_id in upload.operations] for upload in server.uploads]


# What is sent


def test_documents_and_removals_go_out_as_one_batch(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    assert write(sink, sink.document("a", {"n": 1}), sink.document("b", {"n": 2})) == []
    assert write(sink, sink.removal("a"), sink.document("c", {"n": 3}), sink.removal("nowhere")) == []

    assert server.documents() == {"b": {"n": 2}, "c": {"n": 3}}
    assert [upload.operations for upload in server.uploads][1] == (("delete", "a"), ("add", "c"), ("delete", "nowhere"))


def test_every_type_of_value_arrives(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    class Size(enum.IntEnum):
        LARGE = 3

    class Code(enum.StrEnum):
        DENVER = "DEN"

    documents: dict[str | int, dict[str, Any]] = {
        "plain": {"name": "Zürich 😀\t\n\r", "n": -(2**63), "ratio": 0.1, "place": "39.86,-104.67", "tags": ["a", "b"]},
        "exact": {"ratio": Decimal("0.1000000000000000055511151231257827"), "n": Size.LARGE, "code": Code.DENVER},
        "bool": {"n": True, "ratio": False, "code": True, "name": False},
        "tuple": {"tags": ("a", 7, 1.5)},
        "date": {"at": date(1995, 2, 28)},
        "time": {"at": datetime(2020, 1, 1, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))},
        "null": {"n": 1, "name": None, "tags": [], "code": [None]},
        "nulls": {"tags": ["a", None]},
        17: {"n": 17},
    }

    assert write(sink, *(sink.document(doc_id, fields) for doc_id, fields in documents.items())) == []

    assert server.documents() == {
        "plain": documents["plain"],
        "exact": {"ratio": 0.1, "n": 3, "code": "DEN"},
        "bool": {"n": 1, "ratio": 0, "code": 1, "name": 0},
        "tuple": {"tags": ["a", 7, 1.5]},
        "date": {"at": "1995-02-28T00:00:00Z"},
        "time": {"at": "2019-12-31T23:30:00.123Z"},
        "null": {"n": 1},
        "nulls": {"tags": ["a"]},
        "17": {"n": 17},
    }


def test_a_change_of_the_callers_object_does_not_reach_the_write(
    sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    fields: dict[str, Any] = {"n": 1, "tags": ["a"]}
    made = sink.document("a", fields)
    fields["n"] = 2
    fields["tags"].append("b")

    assert write(sink, made) == []
    assert server.documents() == {"a": {"n": 1, "tags": ["a"]}}


def is_allowed(character: str) -> bool:
    """XML 1.0's Char."""
    code = ord(character)
    return code in (9, 10, 13) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF


# st.text would merge these into all the others, and hardly ever take one.
UNUSUAL = "\x00\x08\t\n\x0b\x0c\r\x1f\x7f\x85\ud7ff\ud800\udfff\ue000\ufffd\ufffe\uffff😀"


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=50)
@given(text=st.lists(st.characters(exclude_categories=()) | st.sampled_from(UNUSUAL)).map("".join))
def test_text_arrives_without_what_xml_forbids(client: Any, server: CloudSearchServer, text: str) -> None:
    server.reset()
    sink = CloudSearchSink("unused", client=client)

    assert write(sink, sink.document("a", {"name": text, "tags": [text, text]})) == []

    allowed = "".join(filter(is_allowed, text))
    assert server.documents() == {"a": {"name": allowed, "tags": [allowed, allowed]}}


@pytest.mark.parametrize(
    ("doc_id", "fields", "reason"),
    [
        ("", {"n": 1}, "1 to 128"),
        ("a b", {"n": 1}, "1 to 128"),
        ("a\n", {"n": 1}, "1 to 128"),
        ("é", {"n": 1}, "1 to 128"),
        ("x" * 129, {"n": 1}, "1 to 128"),
        (None, {"n": 1}, "NoneType"),
        (True, {"n": 1}, "bool"),
        (b"a", {"n": 1}, "bytes"),
        ("a", [1], "list"),
        ("a", None, "NoneType"),
        ("a", {}, "without a value"),
        ("a", {"n": None, "tags": []}, "without a value"),
        ("a", {"N": 1}, "'N'"),
        ("a", {"": 1}, "''"),
        ("a", {"1st": 1}, "'1st'"),
        ("a", {"n\n": 1}, "'n\\\\n'"),
        ("a", {"x" * 65: 1}, "x"),
        ("a", {"score": 1}, "'score'"),
        ("a", {7: 1}, "not int"),
        ("a", {"n": 2**63}, "'n' has a whole number"),
        ("a", {"n": 10**5000}, "'n' has a whole number"),
        ("a", {"ratio": float("nan")}, "'ratio' is not a finite"),
        ("a", {"ratio": Decimal("sNaN")}, "'ratio' is not a finite"),
        ("a", {"tags": ["a", float("inf")]}, "'tags' is not a finite"),
        ("a", {"at": datetime(2020, 1, 1)}, "'at' is a time without a time zone"),
        ("a", {"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))}, "'at' is a time that UTC"),
        ("a", {"name": b"x"}, "'name' is of the type bytes"),
        ("a", {"name": {"x": 1}}, "'name' is of the type dict"),
        ("a", {"tags": [["x"]]}, "'tags' is of the type list"),
        ("a", {"tags": ["x"] * 1001}, "'tags' has 1,001"),
        ("a", {f"f{n}": 1 for n in range(201)}, "this one has 201"),
        ("a", {"name": "x" * 1024 * 1024}, "1 MB"),
        ("a", {"name": "é" * 600_000}, "1 MB"),
    ],
)
def test_what_the_service_would_always_refuse_is_rejected_when_it_is_made(
    doc_id: Any, fields: Any, reason: str
) -> None:
    with pytest.raises(Reject, match=reason):
        CloudSearchSink("localhost").document(doc_id, fields)


def test_a_removal_with_a_bad_id_is_rejected_when_it_is_made() -> None:
    with pytest.raises(Reject, match="1 to 128"):
        CloudSearchSink("localhost").removal("no good")


def test_a_rejection_never_shows_what_is_in_the_document() -> None:
    sink = CloudSearchSink("localhost")
    for doc_id, fields in (("secret id", {"n": 1}), ("a", {"name": b"secret"}), ("a", {"name": "secret" * 200_000})):
        with pytest.raises(Reject) as error:
            sink.document(doc_id, fields)
        assert "secret" not in "".join(traceback.format_exception_only(error.value))


# Batches


def test_the_size_of_writes_is_that_of_their_batch(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    writes = [sink.document("a", {"name": "é" * 100}), sink.removal("b"), sink.document("c", {"n": 1})]

    assert write(sink, *writes) == []

    assert sum(made.size for made in writes) + 1 == server.uploads[0].size


def test_more_than_5_mb_goes_out_in_several_batches(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    # The stand-in takes its time over 11 MB, on a machine that has other things to do.
    assert write(sink, *(sink.document(n, {"name": "x" * 999_900}) for n in range(11)), within=120) == []

    assert len(server.documents()) == 11
    assert [len(ids) for ids in sent_ids(server)] == [5, 5, 1]
    assert max(upload.size for upload in server.uploads) <= 5_000_000


def test_a_bad_document_is_refused_alone_after_few_requests(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    writes = [sink.document(n, {"n": n}) for n in range(64)]
    writes[41] = sink.document(41, {"nickname": "x"})

    (refusal,) = write(sink, *writes)

    assert (refusal.write, refusal.kind) == (writes[41], "invalid")
    assert "'nickname'" in str(refusal.error)
    assert set(server.documents()) == {str(n) for n in range(64) if n != 41}
    assert len(server.uploads) == 1 + 2 * 6
    taken = Counter(doc_id for upload in server.uploads if upload.status == 200 for _, doc_id in upload.operations)
    assert set(taken.values()) == {1}


def test_a_batch_that_is_too_large_for_the_service_goes_out_in_halves(
    sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.fail(413)

    assert write(sink, *(sink.document(n, {"n": n}) for n in range(4))) == []

    assert [len(ids) for ids in sent_ids(server)] == [4, 2, 2]


def test_every_document_may_be_bad(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    writes = [sink.document(n, {"n": "many"}) for n in range(5)]

    refusals = write(sink, *writes)

    assert {(refusal.write, refusal.kind) for refusal in refusals} == {(made, "invalid") for made in writes}
    assert server.documents() == {}


def test_a_refusal_shows_the_field_and_never_what_is_in_it(
    sink: CloudSearchSink, server: CloudSearchServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        (refusal,) = write(sink, sink.document("a", {"n": "secret", "name": "fine"}))

    assert "'secret'" in server.uploads[0].message
    shown = "".join(traceback.format_exception(refusal.error))
    assert "its field 'n' (HTTP 400, DocumentServiceException)" in shown
    assert "secret" not in shown + caplog.text


# Several writes for one id


def test_only_the_last_write_for_an_id_is_sent(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    writes = [
        sink.document("a", {"n": 1}),
        sink.document("b", {"n": 1}),
        sink.removal("a"),
        sink.removal("b"),
        sink.document("a", {"n": 2}),
    ]

    assert write(sink, *writes) == []

    assert [Counter(upload.operations) for upload in server.uploads] == [Counter([("add", "a"), ("delete", "b")])]
    assert server.documents() == {"a": {"n": 2}}


def test_an_earlier_write_takes_the_place_of_a_refused_last_one(
    sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    writes = [sink.document("a", {"n": 1}), sink.document("a", {"n": 2}), sink.document("a", {"n": "bad"})]

    (refusal,) = write(sink, *writes, sink.document("b", {"n": 3}))

    assert (refusal.write, refusal.kind) == (writes[2], "invalid")
    assert server.documents() == {"a": {"n": 2}, "b": {"n": 3}}


def test_what_is_superseded_by_a_write_without_an_answer_has_none_either(
    sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.fail(403)
    writes = [sink.document("a", {"n": 1}), sink.document("a", {"n": 2}), sink.document("b", {"n": 3})]

    refusals = write(sink, *writes)

    assert {(refusal.write, refusal.kind) for refusal in refusals} == {(made, "unavailable") for made in writes}
    assert len(refusals) == 3


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=60)
@given(plan=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "remove", "bad"])), max_size=12))
def test_the_last_good_write_for_an_id_wins(
    client: Any, server: CloudSearchServer, plan: list[tuple[str, str]]
) -> None:
    server.reset()
    sink = CloudSearchSink("unused", client=client)
    make = {
        "add": lambda doc_id, n: sink.document(doc_id, {"n": n}),
        "remove": lambda doc_id, n: sink.removal(doc_id),
        "bad": lambda doc_id, n: sink.document(doc_id, {"nickname": n}),
    }
    writes = [make[kind](doc_id, n) for n, (doc_id, kind) in enumerate(plan)]

    refusals = write(sink, *writes)

    good = {doc_id: n for n, (doc_id, kind) in enumerate(plan) if kind != "bad"}
    assert server.documents() == {doc_id: {"n": n} for doc_id, n in good.items() if plan[n][1] == "add"}
    # A bad write before the last good one was superseded, and never asked about.
    bad = {n for n, (doc_id, kind) in enumerate(plan) if kind == "bad" and n > good.get(doc_id, -1)}
    assert {(id(refusal.write), refusal.kind) for refusal in refusals} == {(id(writes[n]), "invalid") for n in bad}
    assert all(len(ids) == len(set(ids)) for ids in sent_ids(server))


# When the service does not answer


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 507, 509])
def test_a_service_that_is_overloaded_is_asked_again(
    sink: CloudSearchSink, server: CloudSearchServer, status: int
) -> None:
    server.fail(status, times=2)

    assert write(sink, sink.document("a", {"n": 1})) == []

    assert [upload.status for upload in server.uploads] == [status, status, 200]


def test_throttling_that_calls_itself_a_bad_request_is_no_refusal(
    sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.fail(400, error="ThrottlingException")

    assert write(sink, sink.document("a", {"n": 1})) == []

    assert [upload.status for upload in server.uploads] == [400, 200]


def test_a_connection_that_breaks_is_made_again(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    server.fail(drop=True)
    assert write(sink, sink.document("a", {"n": 1})) == []
    server.fail(drop=True, after=True)
    assert write(sink, sink.document("b", {"n": 2})) == []

    assert server.documents() == {"a": {"n": 1}, "b": {"n": 2}}


def test_an_outage_ends_at_the_deadline_as_unavailable(
    sink: CloudSearchSink, server: CloudSearchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fail(503, times=1000)
    writes = [sink.document(n, {"n": n}) for n in range(3)]
    waits: list[float] = []
    # A clock that only waiting moves: however long a request takes on this machine, it takes no time.
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + sum(waits))

    refusals = sink.write(writes, deadline=1030.0)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(made, "unavailable") for made in writes]
    assert len(server.uploads) == len(waits) + 1 > 2
    # The next wait, of 10 s at most, would have left no time for a request.
    assert 19 <= sum(waits) < 30
    server.recover()
    assert write(sink, *writes) == []
    assert len(server.documents()) == 3


@pytest.mark.parametrize("fault", [{"status": 503}, {"drop": True}, {"status": 503, "delay": 60}])
def test_a_deadline_that_is_past_allows_one_try(
    sink: CloudSearchSink, server: CloudSearchServer, fault: dict[str, Any]
) -> None:
    made = sink.document("a", {"n": 1})
    assert write(sink, made, within=-1) == []
    server.fail(**fault)
    server.fail(507)

    assert [refusal.kind for refusal in write(sink, made, within=-1)] == ["unavailable"]
    assert [refusal.kind for refusal in write(sink, made, within=-1)] == ["unavailable"]


def test_a_batch_refused_after_the_deadline_is_unavailable(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    writes = [sink.document("a", {"n": 1}), sink.document("b", {"nickname": 1})]

    assert {refusal.kind for refusal in write(sink, *writes, within=-1)} == {"unavailable"}
    assert len(server.uploads) == 1


def test_what_was_taken_before_an_outage_is_not_refused(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    writes = [sink.document(n, {"name": "x" * 999_900}) for n in range(10)]
    server.fail(delay=0.01)
    server.fail(403)

    refusals = write(sink, *writes, within=120)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(made, "unavailable") for made in writes[5:]]
    assert set(server.documents()) == {"0", "1", "2", "3", "4"}


@pytest.mark.parametrize(
    ("status", "advice"), [(403, "cloudsearch:document"), (404, "document endpoint"), (418, "HTTP 418")]
)
def test_what_is_not_the_records_fault_says_what_to_do(
    sink: CloudSearchSink, server: CloudSearchServer, status: int, advice: str
) -> None:
    server.fail(status, times=100)

    (refusal,) = write(sink, sink.document("a", {"n": 1}))

    assert refusal.kind == "unavailable"
    assert advice in str(refusal.error)
    assert "told to fail" not in "".join(traceback.format_exception(refusal.error)), (
        "the service's text may quote a document"
    )
    assert len(server.uploads) == 1


def test_without_credentials_nothing_is_sent_and_the_error_says_so(
    sink: CloudSearchSink, server: CloudSearchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    # As in a new container: boto3's session gets credentials once.
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)

    (refusal,) = write(sink, sink.document("a", {"n": 1}))

    assert refusal.kind == "unavailable"
    assert "credentials" in str(refusal.error)
    assert server.uploads == []


# Set-up


class Airports:
    search = CloudSearchSink.from_env("SEARCH_ENDPOINT")


def test_the_environment_is_read_on_first_use(server: CloudSearchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = CloudSearchSink.from_env("SEARCH_ENDPOINT_OF_TEST")
    made = sink.document("a", {"n": 1})
    monkeypatch.setenv("SEARCH_ENDPOINT_OF_TEST", server.endpoint)

    assert write(sink, made) == []

    assert server.documents() == {"a": {"n": 1}}
    sink.close()


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named_with_who_wants_it(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("SEARCH_ENDPOINT", raising=False)
    if value is not None:
        monkeypatch.setenv("SEARCH_ENDPOINT", value)

    with pytest.raises(ConfigurationError, match=r"SEARCH_ENDPOINT.* Airports\.search needs .* document endpoint"):
        write(Airports.search, Airports.search.document("a", {"n": 1}))


@pytest.mark.parametrize(
    "endpoint", ["", "ftp://host", "https://host/2013-01-01", "https://user:password@host", "two words"]
)
def test_an_endpoint_that_is_none_is_refused_without_showing_it(endpoint: str) -> None:
    sink = CloudSearchSink(endpoint)
    with pytest.raises(ConfigurationError, match=r"CloudSearchSink needs .* document endpoint") as error:
        write(sink, sink.document("a", {"n": 1}))
    assert "password" not in str(error.value)


def test_the_region_is_that_of_the_endpoints_name() -> None:
    sink = CloudSearchSink("doc-shop-abc123.eu-west-1.cloudsearch.amazonaws.com")
    client = sink._documents._connected(10)
    assert client.meta.region_name == "eu-west-1"
    assert client.meta.endpoint_url == "https://doc-shop-abc123.eu-west-1.cloudsearch.amazonaws.com"
    sink.close()


def test_a_clients_time_outs_fit_what_is_left_and_it_is_kept_while_they_do(server: CloudSearchServer) -> None:
    sink = CloudSearchSink(server.endpoint)
    for remaining, expected in ((float("inf"), 64), (50, 32), (33, 32), (3.9, 2), (0.5, 1), (-9, 1)):
        config = sink._documents._connected(remaining).meta.config
        assert config.connect_timeout + config.read_timeout == expected
    assert sink._documents._connected(40) is sink._documents._connected(60)
    sink.close()


def test_a_client_that_is_given_is_used_and_left_open(server: CloudSearchServer) -> None:
    client = boto3.client("cloudsearchdomain", endpoint_url=server.endpoint)
    sink = CloudSearchSink("unused", client=client)

    assert write(sink, sink.document("a", {"n": 1})) == []
    sink.close()
    assert client.upload_documents(
        documents=json.dumps([{"type": "delete", "id": "a"}]), contentType="application/json"
    )
    client.close()


def test_a_closed_sink_has_no_client_left(sink: CloudSearchSink) -> None:
    sink.close()
    assert write(sink, sink.document("a", {"n": 1})) == []
    sink.close()
    sink.close()


def test_nothing_heavy_is_imported_before_the_first_delivery() -> None:
    program = """
import sys
from streamkit.sinks.cloudsearch import CloudSearchSink
sink = CloudSearchSink.from_env("SEARCH_ENDPOINT")
sink.document("a", {"n": 1})
print(sorted({"boto3", "botocore", "tenacity", "asyncio"} & set(sys.modules)))
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_a_missing_library_is_named_with_the_extra_to_install(
    sink: CloudSearchSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ImportError, match=r"kinesis-streamkit\[cloudsearch\]"):
        write(sink, sink.document("a", {"n": 1}))


def test_times_are_sent_in_utc_whatever_the_clock_of_this_machine() -> None:
    made = CloudSearchSink("localhost").document("a", {"at": datetime(2020, 6, 1, tzinfo=UTC)})
    assert b'"2020-06-01T00:00:00.000Z"' in made.payload.operation
