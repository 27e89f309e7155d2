"""CloudSearchSink checks fields against the domain's configuration: a refusal costs no batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from cloudsearch import CloudSearchServer

from streamkit import Refusal, Write
from streamkit.errors import ConfigurationError
from streamkit.sinks.cloudsearch import CloudSearchSink

from .conftest import Clock

pytestmark = pytest.mark.usefixtures("aws_credentials")

FIELDS = {
    **{name: name for name in ("text", "literal", "int", "double", "date", "latlon")},
    **{f"{name}s": f"{name}-array" for name in ("text", "literal", "int", "double", "date")},
    "*_i": "int",
    "size_*": "double",
}
NOW = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def domain() -> Iterator[CloudSearchServer]:
    with CloudSearchServer(FIELDS, domain="shop") as server:
        yield server


@pytest.fixture
def server(domain: CloudSearchServer, monkeypatch: pytest.MonkeyPatch) -> CloudSearchServer:
    domain.reset()
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDSEARCH", domain.endpoint)
    monkeypatch.setattr(domain, "fields", dict(FIELDS))
    monkeypatch.setattr(domain, "states", {})
    return domain


@pytest.fixture
def sink(server: CloudSearchServer) -> Iterator[CloudSearchSink]:
    sink = CloudSearchSink(server.endpoint, domain="shop", check_fields=True)
    yield sink
    sink.close()


def write(sink: CloudSearchSink, *writes: Write, within: float = 30.0) -> list[Refusal]:
    return sink.write(writes, deadline=time.monotonic() + within)


def taken(server: CloudSearchServer) -> set[str]:
    return {doc_id for upload in server.uploads if upload.status == 200 for _, doc_id in upload.operations}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"nickname": "x"}, "has no field 'nickname'"),
        ({"int": [1, 2]}, "'int' has 2 values"),
        ({"latlon": ["1,2", "3,4"]}, "'latlon' has 2 values"),
        ({"int": "many"}, "'int' has a value that is no int"),
        ({"int": 1.5}, "'int' has a value that is no int"),
        ({"int": 1e300}, "'int' has a value that is no int"),
        ({"int": str(2**63)}, "'int' has a value that is no int"),
        ({"int": NOW}, "'int' has a value that is no int"),
        ({"ints": [1, "two"]}, "'ints' has a value that is no int"),
        ({"double": "much"}, "'double' has a value that is no double"),
        ({"double": "1e999"}, "'double' has a value that is no double"),
        ({"doubles": [1.5, "x"]}, "'doubles' has a value that is no double"),
        ({"date": "yesterday"}, "'date' has a value that is no date"),
        ({"date": "2020-02-30T00:00:00Z"}, "'date' has a value that is no date"),
        ({"date": 1577836800}, "'date' has a value that is no date"),
        ({"dates": [NOW, "2020-01-01"]}, "'dates' has a value that is no date"),
        ({"latlon": "north"}, "'latlon' has a value that is no latlon"),
        ({"latlon": "91,0"}, "'latlon' has a value that is no latlon"),
        ({"latlon": "0,181"}, "'latlon' has a value that is no latlon"),
        ({"literal": "x" * 4097}, "'literal' has a value that is no literal"),
        ({"literals": ["x", "x" * 4097]}, "'literals' has a value that is no literal"),
        ({"count_i": "many"}, "'count_i' has a value that is no int"),
        ({"size_cm": "large"}, "'size_cm' has a value that is no double"),
    ],
)
def test_what_the_domain_can_not_take_is_invalid_before_it_is_sent(
    sink: CloudSearchSink, server: CloudSearchServer, fields: dict[str, Any], reason: str
) -> None:
    bad = sink.document("bad", {"text": "fine", **fields})

    (refusal,) = write(sink, sink.document("before", {"int": 1}), bad, sink.document("after", {"int": 2}))

    assert (refusal.write, refusal.kind) == (bad, "invalid")
    assert reason in str(refusal.error)
    assert [upload.status for upload in server.uploads] == [200]
    assert taken(server) == {"before", "after"}


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "x" * 5000, "literal": "x" * 4096, "int": -(2**63), "double": "1.5e3", "date": NOW, "latlon": "39.8,-104.6"},
        {"text": 7, "literal": 1.5, "int": "17", "double": Decimal("0.1"), "date": date(2020, 2, 29)},
        {"int": True, "double": 3, "date": "1967-01-31T23:20:50.650Z", "latlon": "-90, 180", "text": ["one"]},
        {"texts": ["a", "b"], "literals": "one", "ints": [1, "2"], "doubles": [1, 1.5], "dates": [NOW, NOW]},
        {"count_i": 5, "size_cm": 1.5, "size_i": 1},
    ],
)  # fmt: skip
def test_what_the_domain_takes_is_not_refused(
    sink: CloudSearchSink, server: CloudSearchServer, fields: dict[str, Any]
) -> None:
    assert write(sink, sink.document("a", fields)) == []
    assert taken(server) == {"a"}


def test_the_longest_dynamic_field_counts(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    server.configure("*", "literal")
    server.configure("*_big_i", "text")
    assert write(sink, sink.document("a", {"any": "thing", "so_big_i": "many"})) == []
    (refusal,) = write(sink, sink.document("b", {"so_i": "many"}))
    assert "'so_i'" in str(refusal.error)


def test_a_refusal_does_not_show_what_is_in_the_field(sink: CloudSearchSink) -> None:
    (refusal,) = write(sink, sink.document("a", {"int": "secret"}))
    assert "secret" not in str(refusal.error)


def test_the_configuration_is_asked_for_once(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    for n in range(3):
        assert write(sink, *(sink.document(f"{n}-{m}", {"int": m}) for m in range(3))) == []
    assert len(server.described) == 1


def test_it_is_not_asked_for_by_removals_or_where_nobody_wants_it(server: CloudSearchServer) -> None:
    checking = CloudSearchSink(server.endpoint, domain="shop", check_fields=True)
    assert write(checking, checking.removal("a")) == []
    plain = CloudSearchSink(server.endpoint)
    (refusal,) = write(plain, plain.document("a", {"nickname": "x"}))

    assert "HTTP 400" in str(refusal.error)
    assert server.described == []
    checking.close()
    plain.close()


def test_an_earlier_write_takes_the_place_of_one_that_does_not_fit(
    sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    writes = [sink.document("a", {"int": 1}), sink.document("a", {"int": 2}), sink.document("a", {"int": "bad"})]

    (refusal,) = write(sink, *writes)

    assert refusal.write is writes[2]
    assert server.documents() == {"a": {"int": 2}}


def test_a_new_field_is_seen_by_the_refusal_that_it_would_have_been(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    assert write(sink, sink.document("a", {"int": 1})) == []
    server.configure("later", "int")
    clock.now += 121

    assert write(sink, sink.document("b", {"later": 1})) == []

    assert len(server.described) == 2
    assert taken(server) == {"a", "b"}


def test_refusals_ask_again_once_in_two_minutes_and_no_more(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    for n in range(50):
        assert [refusal.kind for refusal in write(sink, sink.document(n, {"nickname": n}))] == ["invalid"]
        clock.now += 10

    assert [at - server.described[0] for at in server.described] == [0, 120, 240, 360, 480]
    assert server.uploads == []


def test_a_field_that_the_service_refuses_though_it_fits_leads_to_a_new_look(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    assert write(sink, sink.document("a", {"int": 1})) == []
    del server.fields["double"]
    clock.now += 121

    assert [refusal.kind for refusal in write(sink, sink.document("b", {"double": 1}))] == ["invalid"]
    assert [refusal.kind for refusal in write(sink, sink.document("c", {"double": 1}))] == ["invalid"]

    assert [upload.status for upload in server.uploads] == [200, 400], "the second is refused here"
    assert len(server.described) == 2


def test_a_change_that_is_not_deployed_yet_is_left_to_the_service(
    sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.configure("int", "text", state="RequiresIndexDocuments")
    assert write(sink, sink.document("a", {"text": "any"})) == []
    server.fields["int"] = "int"

    (refusal,) = write(sink, sink.document("b", {"int": "many"}))

    assert "HTTP 400" in str(refusal.error)


@pytest.mark.parametrize("fault", [{"status": 403, "error": "AccessDenied"}, {"status": 500}, {"drop": True}])
def test_a_configuration_that_can_not_be_read_is_one_warning_and_no_check(
    clock: Clock,
    sink: CloudSearchSink,
    server: CloudSearchServer,
    caplog: pytest.LogCaptureFixture,
    fault: dict[str, Any],
) -> None:
    server.fail(**fault, of="configuration", times=2)
    good, bad = sink.document("a", {"int": 1}), sink.document("b", {"nickname": "x"})

    for _ in range(3):
        assert [refusal.write for refusal in write(sink, good, bad)] == [bad]
        clock.now += 60
    assert len(server.described) == 2, "tried again after two minutes"
    assert [upload.status for upload in server.uploads].count(400) > 0, "and the service has refused meanwhile"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "cloudsearch:DescribeIndexFields" in warnings[0]

    clock.now += 120
    seen = len(server.uploads)
    (refusal,) = write(sink, bad)
    assert "has no field 'nickname'" in str(refusal.error)
    assert len(server.uploads) == seen


def test_a_refusal_stands_only_while_the_configuration_can_be_read(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    assert write(sink, sink.document("a", {"int": 1})) == []
    server.configure("later", "int")
    server.fail(500, of="configuration")
    clock.now += 121

    assert write(sink, sink.document("b", {"later": 1})) == []


def test_a_domain_that_is_not_there_is_a_warning(server: CloudSearchServer, caplog: pytest.LogCaptureFixture) -> None:
    sink = CloudSearchSink(server.endpoint, domain="nowhere", check_fields=True)
    assert write(sink, sink.document("a", {"int": 1})) == []
    assert "ResourceNotFound" in caplog.text
    sink.close()


def test_without_time_left_a_batch_goes_out_unchecked(sink: CloudSearchSink, server: CloudSearchServer) -> None:
    assert write(sink, sink.document("a", {"int": 1}), within=0.5) == []
    assert server.described == []
    assert write(sink, sink.document("b", {"int": 1})) == []
    assert len(server.described) == 1


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("doc-shop-abc123.eu-west-1.cloudsearch.amazonaws.com", "shop"),
        ("https://doc-my-own-shop-4x7.us-east-1.cloudsearch.amazonaws.com", "my-own-shop"),
    ],
)
def test_the_endpoints_name_tells_the_domain(
    server: CloudSearchServer, monkeypatch: pytest.MonkeyPatch, endpoint: str, name: str
) -> None:
    sink = CloudSearchSink(endpoint, check_fields=True)
    monkeypatch.setattr(server, "domain", name)

    assert sink._fields is not None
    assert "'x'" in str(sink._fields.problem({"x": 1}, time.monotonic() + 10))
    sink.close()


def test_an_endpoint_that_tells_no_domain_says_what_to_give(server: CloudSearchServer) -> None:
    sink = CloudSearchSink(server.endpoint, check_fields=True)
    with pytest.raises(ConfigurationError, match="domain="):
        write(sink, sink.document("a", {"int": 1}))
    sink.close()
