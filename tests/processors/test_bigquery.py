"""processors.bigquery: events become rows, and what has no row goes where its settings say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from processors.bigquery import BigQueryProcessor
from processors.bigquery_exactly_once import BigQueryExactlyOnceProcessor
from streamkit import Block, Divert, Park, Record, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.plans.dynamodb import DynamoDbPlans
from streamkit.queues.sns import SnsTopic
from streamkit.queues.sqs import SqsQueue
from streamkit.sinks.bigquery import BigQuerySink
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink
from streamkit.testing.events import kinesis_event
from streamkit.testing.queue import MemoryQueue

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer

SETTINGS = (
    *("BIGQUERY_TABLE", "ROW", "PROCESSOR_NAME", "PLANS_TABLE", "PARKED_TABLE", "RETRY_TOPIC_ARN"),
    *("RETRY_QUEUE_URL", "DEAD_LETTER_QUEUE_URL", "RETRY_BACKOFF_SECONDS", "CLAIMS_BUCKET"),
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def table(bigquery_server: BigQueryServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    """A client, and a table that the environment names."""
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", bigquery_server.endpoint)
    client: Any = bigquery.Client(
        project=bigquery_server.project,
        credentials=cast(Any, AnonymousCredentials)(),
        client_options={"api_endpoint": bigquery_server.endpoint},
    )
    dataset = f"processor_{uuid.uuid4().hex}"
    client.create_dataset(dataset)
    name = f"{client.project}.{dataset}.flights"
    schema = [bigquery.SchemaField("origin", "STRING", mode="REQUIRED"), bigquery.SchemaField("delay", "INTEGER")]
    client.create_table(bigquery.Table(name, schema=schema))
    monkeypatch.setenv("BIGQUERY_TABLE", name)
    yield client, name
    client.close()


def row(processor: BigQueryProcessor, event: Any) -> Any:
    """The row that an event becomes."""
    rows: list[Any] = []

    class Probe(type(processor)):  # type: ignore[misc]  # A class that is only known here.
        def process(self, record: Record) -> None:
            rows.append(self.row(record))

    lambda_handler(Probe)(kinesis_event([event]))
    return rows[0] if rows else None


def test_nothing_is_read_and_nothing_heavy_imported_when_the_module_is() -> None:
    program = (
        "import sys, processors.bigquery, processors.cloudsearch as c\n"
        "assert not {'boto3', 'google.cloud.bigquery', 'tenacity', 'asyncio'} & set(sys.modules)\n"
        "assert callable(processors.bigquery.handler) and callable(c.handler)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS} | {"ROW": "no JSON"}

    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_rows_reach_the_table_that_the_environment_names(
    table: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, name = table
    monkeypatch.setenv("ROW", '{"origin": "from.airport", "delay": "delay"}')
    # The module's own sink keeps the table's name once it has read it.
    flights = type("Flights", (BigQueryProcessor,), {"warehouse": BigQuerySink.from_env("BIGQUERY_TABLE")})
    handler = lambda_handler(flights)
    events = [{"from": {"airport": "DEN"}, "delay": 5, "ignored": 1}, {"from": {"airport": "ORD"}, "delay": None}]

    try:
        assert handler(kinesis_event(events)) == {"batchItemFailures": []}
        assert handler(kinesis_event(events)) == {"batchItemFailures": []}
    finally:
        handler.close()

    landed = [tuple(row.values()) for row in client.query_and_wait(f"SELECT origin, delay FROM {name} ORDER BY origin")]
    assert landed == [("DEN", 5), ("ORD", None)]


def test_a_row_that_bigquery_finds_invalid_goes_to_dead_letters_at_once(
    table: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, name = table
    dead_letters = MemoryQueue()

    class Flights(BigQueryProcessor):
        warehouse = BigQuerySink.from_env("BIGQUERY_TABLE")
        on_failure = Block(dead_letters)

    handler = lambda_handler(Flights)
    events = [{"origin": "DEN", "delay": 1}, {"origin": "DEN", "delay": "late"}, {"origin": "DEN", "delay": 3}]

    try:
        assert handler(kinesis_event(events)) == {"batchItemFailures": []}
    finally:
        handler.close()

    assert [row.delay for row in client.query_and_wait(f"SELECT delay FROM {name} ORDER BY delay")] == [1, 3]
    (envelope,) = dead_letters
    assert json.loads(envelope.data or b"") == events[1]
    assert "invalid delay" in envelope.failures[-1].message


def test_the_default_row_is_the_event() -> None:
    assert row(BigQueryProcessor(), {"a": 1, "b": [2]}) == {"a": 1, "b": [2]}


@pytest.mark.parametrize("event", [[1], "text", 5, 1.5, True, None])
def test_what_is_no_json_object_is_rejected(event: Any) -> None:
    dead_letters = MemoryQueue()

    class Rows(BigQueryProcessor):
        on_failure = Divert(MemoryQueue(), dead_letters)

    assert lambda_handler(Rows)(kinesis_event([json.dumps(event)])) == {"batchItemFailures": []}

    (envelope,) = dead_letters
    assert envelope.failures[-1].type == "Reject"
    assert "an event is a JSON object" in envelope.failures[-1].message


def test_a_missing_field_is_tried_three_times_again_and_then_dead_lettered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    retries, dead_letters = MemoryQueue(), MemoryQueue()
    monkeypatch.setenv("ROW", '{"origin": "origin"}')

    class Rows(BigQueryProcessor):
        on_failure = Divert(retries, dead_letters)

    handler = lambda_handler(Rows)

    assert handler(kinesis_event([{"secret": "payload"}])) == {"batchItemFailures": []}
    tries = 0
    while len(retries):
        retries.advance(900)
        retries.deliver(handler)
        tries += 1

    assert tries == 3
    (envelope,) = dead_letters
    assert envelope.attempts == 3
    assert envelope.failures[-1].message.startswith("MissingField: the event has no field 'origin'")
    assert "secret" not in caplog.text


def test_the_environment_names_the_processor_and_its_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BigQueryProcessor().name == "bigquery"
    assert type(BigQueryProcessor().on_failure) is Block

    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", "http://127.0.0.1/1/dead")
    blocks = BigQueryProcessor().on_failure
    monkeypatch.setenv("RETRY_QUEUE_URL", "http://127.0.0.1/1/retries")
    monkeypatch.setenv("PROCESSOR_NAME", "flights")
    diverts = BigQueryProcessor()

    assert type(blocks) is Block
    assert getattr(blocks.dead_letters, "url", None) == "http://127.0.0.1/1/dead"
    assert type(diverts.on_failure) is Divert
    assert diverts.name == "flights"
    assert getattr(diverts.on_failure.queue, "url", None) == "http://127.0.0.1/1/retries"
    assert getattr(diverts.on_failure.dead_letters, "url", None) == "http://127.0.0.1/1/dead"


def test_the_environment_says_how_long_a_retry_waits_and_where_large_events_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRY_QUEUE_URL", "http://127.0.0.1/1/retries")
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", "http://127.0.0.1/1/dead")
    plain = BigQueryProcessor().on_failure
    monkeypatch.setenv("RETRY_BACKOFF_SECONDS", "2.5")
    monkeypatch.setenv("CLAIMS_BUCKET", "large")
    policy = BigQueryProcessor().on_failure

    assert plain.queue is not None
    assert (plain.backoff, plain.queue.claims) == (15, None)
    assert policy.backoff == 2.5
    for queue in (policy.queue, policy.dead_letters):
        assert queue is not None
        assert queue.claims is not None
        assert queue.claims.bucket == "large"
    for wrong in ("soon", "-1", "inf", "nan"):
        monkeypatch.setenv("RETRY_BACKOFF_SECONDS", wrong)
        with pytest.raises(ConfigurationError, match=f"RETRY_BACKOFF_SECONDS is .*; got '{wrong}'"):
            BigQueryProcessor()


def test_a_setting_that_is_wrong_fails_the_invocation_and_loses_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROW", "no JSON")

    with pytest.raises(ConfigurationError, match="ROW"):
        lambda_handler(BigQueryProcessor)(kinesis_event([{}]))


def test_a_subclass_makes_rows_of_its_own() -> None:
    class Doubled(BigQueryProcessor):
        def row(self, record: Record) -> dict[str, Any]:
            return {"twice": 2 * self.event(record)["n"]}

    assert row(Doubled(), {"n": 21}) == {"twice": 42}
    assert Doubled().name == "bigquery"


def test_a_topic_or_a_fifo_queue_with_a_table_are_other_ways_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGQUERY_TABLE", "shop.orders")
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", "http://127.0.0.1/1/dead")
    monkeypatch.setenv("RETRY_TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:retries")
    topic = lambda_handler(BigQueryProcessor).processor.on_failure
    monkeypatch.setenv("RETRY_QUEUE_URL", "http://127.0.0.1/1/retries.fifo")
    with pytest.raises(ConfigurationError, match="RETRY_QUEUE_URL and RETRY_TOPIC_ARN are both set"):
        BigQueryProcessor()
    monkeypatch.delenv("RETRY_TOPIC_ARN")
    monkeypatch.setenv("PARKED_TABLE", "parked")
    parked = lambda_handler(BigQueryProcessor).processor.on_failure
    monkeypatch.delenv("RETRY_QUEUE_URL")
    with pytest.raises(ConfigurationError, match=r"PARKED_TABLE is set, .* set RETRY_QUEUE_URL"):
        BigQueryProcessor()

    assert isinstance(topic, Divert)
    assert isinstance(topic.queue, SnsTopic)
    assert isinstance(parked, Park)
    assert isinstance(parked.queue, SqsQueue)
    assert isinstance(parked.ledger, DynamoDbLedger)
    assert isinstance(topic.dead_letters, SqsQueue)
    assert isinstance(parked.dead_letters, SqsQueue)


def test_each_row_is_there_once_where_that_is_asked_for(
    table: tuple[Any, str], monkeypatch: pytest.MonkeyPatch, bigquery_server: BigQueryServer, moto_endpoint: str
) -> None:
    client, name = table
    plans = f"plans-{uuid.uuid4().hex}"
    monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", bigquery_server.grpc_endpoint)
    monkeypatch.setenv("PLANS_TABLE", plans)
    for variable, value in (
        ("AWS_ENDPOINT_URL", moto_endpoint),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ):
        monkeypatch.setenv(variable, value)
    store = DynamoDbPlans(plans)
    store.create_table()
    store.close()
    events = [{"origin": "DEN", "delay": 5}, {"origin": "ORD"}]

    for _ in range(2):
        handler = lambda_handler(BigQueryExactlyOnceProcessor)
        assert isinstance(handler.processor, BigQueryExactlyOnceProcessor)
        assert type(handler.processor.warehouse) is BigQueryExactlyOnceSink
        try:
            assert handler(kinesis_event(events)) == {"batchItemFailures": []}
        finally:
            handler.close()
    landed = [tuple(row.values()) for row in client.query_and_wait(f"SELECT origin, delay FROM {name} ORDER BY origin")]
    assert landed == [("DEN", 5), ("ORD", None)]


def test_exactly_once_does_not_go_with_a_retry_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGQUERY_TABLE", "shop.orders")
    monkeypatch.setenv("PLANS_TABLE", "plans")
    monkeypatch.setenv("RETRY_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/0/retries")

    with pytest.raises(ConfigurationError, match=r"BigQueryExactlyOnceProcessor\.on_failure: .* use Block\(\)"):
        lambda_handler(BigQueryExactlyOnceProcessor)(kinesis_event([{"origin": "DEN"}]))
