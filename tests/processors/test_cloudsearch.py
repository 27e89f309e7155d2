"""processors.cloudsearch: events become documents."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from processors.cloudsearch import CloudSearchProcessor
from streamkit import Block, Divert, Record, Write, lambda_handler
from streamkit.sinks.cloudsearch import CloudSearchSink
from streamkit.testing.events import kinesis_event
from streamkit.testing.queue import MemoryQueue


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEARCH_ENDPOINT", "DOCUMENT_ID", "DOCUMENT", "PROCESSOR_NAME", "RETRY_QUEUE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("DEAD_LETTER_QUEUE_URL", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def domain(cloudsearch_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("SEARCH_ENDPOINT", cloudsearch_endpoint)
    client = boto3.client("cloudsearchdomain", endpoint_url=cloudsearch_endpoint, region_name="us-east-1")
    yield client
    client.close()


def found(domain: Any, country: str) -> dict[str, dict[str, list[str]]]:
    """The documents of a country, which is a test's own."""
    answer = domain.search(query=f"country:'{country}'", queryParser="structured")
    return {hit["id"]: hit["fields"] for hit in answer["hits"]["hit"]}


def test_documents_reach_the_domain_that_the_environment_names(domain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCUMENT_ID", "iata")
    monkeypatch.setenv("DOCUMENT", '{"*": "", "city": "name"}')
    # The module's own sink keeps its connection from one test to the next.
    airports = type("Airports", (CloudSearchProcessor,), {"search": CloudSearchSink.from_env("SEARCH_ENDPOINT")})
    handler = lambda_handler(airports)
    ids = [f"{uuid.uuid4().hex}-{n}" for n in range(2)]
    country = uuid.uuid4().hex
    events = [{"iata": one, "name": "Denver\u0007 Intl", "country": country} for one in ids]

    try:
        assert handler(kinesis_event(events)) == {"batchItemFailures": []}
    finally:
        handler.close()

    fields = {"name": ["Denver Intl"], "city": ["Denver Intl"], "country": [country]}
    assert found(domain, country) == {one: {**fields, "iata": [one]} for one in ids}


def test_what_cloudsearch_can_not_take_goes_to_dead_letters_at_once(
    domain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCUMENT", '{"*": "", "city": "name"}')
    dead_letters = MemoryQueue()

    class Airports(CloudSearchProcessor):
        search = CloudSearchSink.from_env("SEARCH_ENDPOINT")
        on_failure = Block(dead_letters)

        def __init__(self) -> None:
            super().__init__()
            self.id_path = "iata"

    country = uuid.uuid4().hex
    events: list[dict[str, Any]] = [
        {"iata": uuid.uuid4().hex, "name": "good", "country": country},
        {"iata": "no spaces", "name": "bad id", "country": country},
        {"iata": uuid.uuid4().hex, "name": "unknown field", "country": country, "runways": 3},
        {"iata": uuid.uuid4().hex, "name": "x" * 600_000, "country": country},
        {"iata": uuid.uuid4().hex, "name": "good", "country": country},
    ]
    handler = lambda_handler(Airports)

    try:
        assert handler(kinesis_event(events)) == {"batchItemFailures": []}
    finally:
        handler.close()

    assert sorted(found(domain, country)) == sorted([events[0]["iata"], events[4]["iata"]])
    reasons = {
        json.loads(envelope.data or b"")["name"][:20]: envelope.failures[-1].message for envelope in dead_letters
    }
    assert "a document's id" in reasons["bad id"]
    assert "'runways'" in reasons["unknown field"]
    assert "1 MB" in reasons["x" * 20]
    assert len(dead_letters) == 3


def test_an_event_without_its_id_is_an_ordinary_failure() -> None:
    retries, dead_letters = MemoryQueue(), MemoryQueue()

    class Documents(CloudSearchProcessor):
        on_failure = Divert(retries, dead_letters)

    handler = lambda_handler(Documents)

    assert handler(kinesis_event([{"name": "no id"}])) == {"batchItemFailures": []}

    (envelope,) = retries
    assert envelope.failures[-1].message.startswith("MissingField: the event has no field 'id'")
    while len(retries):
        retries.advance(900)
        retries.deliver(handler)
    assert [envelope.attempts for envelope in dead_letters] == [3]


def test_a_subclass_makes_documents_and_removals_of_its_own(domain: Any) -> None:
    country = uuid.uuid4().hex

    class Listings(CloudSearchProcessor):
        search = CloudSearchSink.from_env("SEARCH_ENDPOINT")

        def document(self, record: Record) -> tuple[str, dict[str, Any]]:
            event = self.event(record)
            return f"{country}-{event['id']}", {"name": event["title"].title(), "country": country}

        def process(self, record: Record) -> Iterator[Write]:
            if self.event(record).get("gone"):
                yield self.search.removal(self.document(record)[0])
            else:
                yield from super().process(record)

    handler = lambda_handler(Listings)
    listings = [{"id": n, "title": "a house"} for n in range(2)]

    try:
        handler(kinesis_event([*listings, {**listings[0], "gone": True}]))
    finally:
        handler.close()

    assert found(domain, country) == {f"{country}-1": {"name": ["A House"], "country": [country]}}
