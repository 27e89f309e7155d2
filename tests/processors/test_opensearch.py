"""processors.opensearch: events become documents."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from local_opensearch import opensearch_server
from opensearchpy import OpenSearch

from processors.opensearch import OpenSearchProcessor, handler
from streamkit import Block, Divert, Record, Write, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.testing.events import kinesis_event
from streamkit.testing.queue import MemoryQueue

NAMES = (
    *("SEARCH_ENDPOINT", "SEARCH_INDEX", "DOCUMENT_ID", "DOCUMENT_VERSION", "DOCUMENT", "INDEX_TEMPLATE"),
    *("PROCESSOR_NAME", "RETRY_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"),
)
STRICT = {"template": {"mappings": {"dynamic": "strict", "properties": {"iata": {"type": "keyword"}}}}}
_indexes = (f"airports-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with opensearch_server() as running:
        yield running.endpoint


@pytest.fixture
def server(endpoint: str) -> Iterator[OpenSearch]:
    with OpenSearch(hosts=[endpoint]) as client:
        yield client


@pytest.fixture(autouse=True)
def index(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    made = next(_indexes)
    monkeypatch.setenv("SEARCH_ENDPOINT", endpoint)
    monkeypatch.setenv("SEARCH_INDEX", made)
    return made


def documents(server: OpenSearch, index: str) -> dict[str, Any]:
    server.indices.refresh(index=index)
    found = server.search(index=index, body={"query": {"match_all": {}}, "size": 100})
    return {hit["_id"]: hit["_source"] for hit in found["hits"]["hits"]}


def test_documents_reach_the_index_that_the_environment_names(
    server: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCUMENT_ID", "iata")
    monkeypatch.setenv("DOCUMENT", '{"*": "", "city": "address.city"}')
    events = [{"iata": code, "address": {"city": "Denver"}} for code in ("DEN", "BJC")]

    try:
        assert handler(kinesis_event(events)) == {"batchItemFailures": []}
    finally:
        handler.close()

    assert documents(server, index) == {event["iata"]: {**event, "city": "Denver"} for event in events}


def test_a_version_makes_late_events_and_repeats_harmless(
    server: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCUMENT_VERSION", "meta.version")
    handler = lambda_handler(OpenSearchProcessor)
    new, old = ({"id": "a", "n": n, "meta": {"version": n}} for n in (2, 1))

    for events in ([new], [old], [new, old]):
        assert handler(kinesis_event(events)) == {"batchItemFailures": []}
    handler.close()

    assert documents(server, index) == {"a": new}


def test_a_template_is_put_and_what_it_does_not_allow_goes_to_dead_letters_at_once(
    server: OpenSearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCUMENT_ID", "iata")
    monkeypatch.setenv("INDEX_TEMPLATE", json.dumps(STRICT))
    dead_letters = MemoryQueue()

    class Airports(OpenSearchProcessor):
        on_failure = Block(dead_letters)

    handler = lambda_handler(Airports)
    events = [{"iata": "DEN"}, {"iata": "BJC", "runways": 3}, {"iata": ""}, {"iata": "APA"}]

    assert handler(kinesis_event(events)) == {"batchItemFailures": []}
    handler.close()

    assert documents(server, index).keys() == {"DEN", "APA"}
    reasons = [envelope.failures[-1].message for envelope in dead_letters]
    assert len(reasons) == 2
    assert any("'runways'" in reason for reason in reasons)
    assert any("1 to 512 bytes" in reason for reason in reasons)


def test_an_event_without_its_id_or_version_is_an_ordinary_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCUMENT_VERSION", "version")
    retries, dead_letters = MemoryQueue(), MemoryQueue()

    class Documents(OpenSearchProcessor):
        on_failure = Divert(retries, dead_letters)

    handler = lambda_handler(Documents)

    assert handler(kinesis_event([{"name": "no id"}, {"id": 7}])) == {"batchItemFailures": []}

    reasons = [envelope.failures[-1].message for envelope in retries]
    assert reasons[0].startswith("MissingField: the event has no field 'id'")
    assert reasons[1].startswith("MissingField: the event has no field 'version'")
    handler.close()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SEARCH_INDEX", "", "SEARCH_INDEX is not set; OpenSearchProcessor needs the index"),
        ("SEARCH_INDEX", "Airports", "^SEARCH_INDEX='Airports': .* takes an index's name"),
        ("INDEX_TEMPLATE", "[]", "INDEX_TEMPLATE holds an index template in JSON"),
        ("DOCUMENT", "{", "DOCUMENT holds a mapping"),
    ],
)
def test_a_setting_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=reason):
        lambda_handler(OpenSearchProcessor)(kinesis_event([{"id": 1}]))


def test_without_an_endpoint_events_stay_in_the_stream_and_the_log_says_whose_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SEARCH_ENDPOINT")

    answer = lambda_handler(OpenSearchProcessor)(kinesis_event([{"id": 1}]))

    assert len(answer["batchItemFailures"]) == 1
    assert "OpenSearchProcessor.search needs OpenSearch's endpoint" in caplog.text


def test_a_subclass_makes_documents_and_removals_of_its_own(server: OpenSearch, index: str) -> None:
    class Listings(OpenSearchProcessor):
        def document(self, record: Record) -> tuple[str, dict[str, Any]]:
            event = self.event(record)
            return f"listing-{event['id']}", {"name": event["title"].title()}

        def version(self, record: Record) -> int:
            return int(record.sequence_number or 0) % 1000

        def process(self, record: Record) -> Iterator[Write]:
            if self.event(record).get("gone"):
                yield self.search.removal(self.document(record)[0], version=self.version(record))
            else:
                yield from super().process(record)

    handler = lambda_handler(Listings)
    listings = [{"id": n, "title": "a house"} for n in range(2)]

    try:
        handler(kinesis_event([*listings, {**listings[0], "gone": True}]))
    finally:
        handler.close()

    assert documents(server, index) == {"listing-1": {"name": "A House"}}
