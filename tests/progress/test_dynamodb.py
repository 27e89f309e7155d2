from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from streamkit import Record, RecordProcessor, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.kpl import UserRecord, aggregate
from streamkit.progress.dynamodb import DynamoDbProgress
from streamkit.testing import EventSourceMapping, kinesis_event

SHARD = "stream/shardId-000000000000"


def soon() -> float:
    return time.monotonic() + 30


@pytest.fixture
def account(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": moto_endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def table(account: None) -> Iterator[str]:
    name = f"progress-{uuid.uuid4().hex}"
    store = DynamoDbProgress(name)
    store.create_table()
    store.close()
    yield name
    client = boto3.client("dynamodb")
    client.delete_table(TableName=name)
    client.close()


class TestTheTable:
    def test_is_keyed_by_shard_and_number_and_expires(self, table: str) -> None:
        client = boto3.client("dynamodb")

        described = client.describe_table(TableName=table)["Table"]
        ttl = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]

        assert [(key["AttributeName"], key["KeyType"]) for key in described["KeySchema"]] == [
            ("shard", "HASH"),
            ("number", "RANGE"),
        ]
        assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")
        client.close()

    def test_holds_items_of_the_documented_form(self, table: str) -> None:
        store = DynamoDbProgress(table, generation="2", retention=3600)
        before = time.time()

        store.save("orders", SHARD, 7, b"entry", deadline=soon())

        client = boto3.client("dynamodb")
        (item,) = client.scan(TableName=table)["Items"]
        assert item["shard"] == {"S": f'["2","orders","{SHARD}"]'}
        assert item["number"] == {"S": "7".zfill(128)}
        assert item["entry"] == {"B": b"entry"}
        assert 0 <= int(item["expires_at"]["N"]) - before - 3600 < 60
        client.close()
        store.close()

    def test_is_read_as_it_is_now(self, table: str) -> None:
        asked = []
        client = boto3.client("dynamodb")
        client.meta.events.register(
            "provide-client-params.dynamodb.Query", lambda params, **_: asked.append(params["ConsistentRead"])
        )
        store = DynamoDbProgress(table, client=client)

        store.entries("orders", SHARD, 7, deadline=soon())

        assert asked == [True]
        client.close()

    def test_can_be_named_by_the_environment_when_it_is_first_used(
        self, table: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = DynamoDbProgress.from_env("PROGRESS_TABLE")
        monkeypatch.setenv("PROGRESS_TABLE", table)

        store.save("orders", SHARD, 7, b"entry", deadline=soon())

        assert store.entries("orders", SHARD, 7, deadline=soon()) == [b"entry"]
        store.close()


class TestConfiguration:
    def test_a_table_that_is_not_there_is_named_with_how_to_make_it(self, account: None) -> None:
        store = DynamoDbProgress("nothing-here")

        for call in (
            lambda: store.entries("orders", SHARD, 1, deadline=soon()),
            lambda: store.save("orders", SHARD, 1, b"", deadline=soon()),
        ):
            with pytest.raises(
                ConfigurationError, match=r"no DynamoDB table nothing-here: make it with .*create_table"
            ):
                call()
        store.close()

    def test_a_missing_variable_is_named_with_who_wants_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PROGRESS_TABLE", raising=False)

        class Orders(RecordProcessor):
            progress = DynamoDbProgress.from_env("PROGRESS_TABLE", client=object())

        with pytest.raises(ConfigurationError, match=r"PROGRESS_TABLE is not set; Orders\.progress needs"):
            Orders.progress.entries("orders", SHARD, 1, deadline=soon())

    @pytest.mark.parametrize("retention", [0, -1, float("inf"), float("nan")])
    def test_a_retention_is_a_number_of_seconds(self, retention: float) -> None:
        with pytest.raises(ConfigurationError, match="retention"):
            DynamoDbProgress("table", retention=retention)


class TestTheTimeOut:
    @pytest.mark.parametrize(
        ("seconds", "timeout", "tries"), [(59.0, 2.0, 2), (4.0, 1.0, 1), (0.7, 0.5, 1), (-1.0, 0.5, 1)]
    )
    def test_is_within_what_is_left_and_short(self, account: None, seconds: float, timeout: float, tries: int) -> None:
        store = DynamoDbProgress("table")

        config: Any = store._table.clients.until(time.monotonic() + seconds).meta.config

        assert (config.connect_timeout, config.read_timeout) == (timeout, timeout)
        assert config.retries["total_max_attempts"] == tries
        store.close()

    def test_makes_a_client_once_for_each(self, account: None) -> None:
        store = DynamoDbProgress("table")

        now = time.monotonic()
        assert store._table.clients.until(now + 30) is store._table.clients.until(now + 40)
        store.close()


class TestAProcessorWithATable:
    def test_runs_what_was_not_done_and_nothing_else_in_a_new_container_too(self, table: str) -> None:
        bad = {"b", "d"}
        started: list[str] = []

        class Orders(RecordProcessor):
            name = "orders"

            def __init__(self) -> None:
                self.progress = DynamoDbProgress(table)

            def process(self, record: Record) -> None:
                text = record.data.decode()
                started.append(text)
                if text in bad:
                    raise ValueError("not yet")

        def function(event: Any, context: Any) -> Any:
            handler = lambda_handler(Orders)
            answer = handler(event, context)
            handler.close()
            return answer

        mapping = EventSourceMapping(function, function_response_types=["ReportBatchItemFailures"])
        mapping.put(aggregate([UserRecord(text.encode(), text) for text in "abc"]), "aggregate")
        for text in "de":
            mapping.put(text.encode(), text)
        mapping.advance(0)
        bad.clear()
        mapping.run_until_idle()

        assert started == ["a", "b", "c", "d", "e", "b", "d"]

    def test_goes_on_where_there_is_no_table(self, account: None, caplog: pytest.LogCaptureFixture) -> None:
        class Orders(RecordProcessor):
            name = "orders"
            progress = DynamoDbProgress(f"none-{uuid.uuid4().hex}")

            def process(self, record: Record) -> None:
                return None

        handler = lambda_handler(Orders)

        assert handler(kinesis_event(["a"]), None) == {"batchItemFailures": []}

        lines = [record.getMessage() for record in caplog.records if record.name == "streamkit"]
        assert [line.partition(",")[0] for line in lines] == [
            "orders: what earlier deliveries have done could not be looked up",
            "orders: what is done of the batch could not be saved",
        ]
        handler.close()
