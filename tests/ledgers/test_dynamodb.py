from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.ledgers.base import ParkedKey, Pending
from streamkit.ledgers.dynamodb import DynamoDbLedger


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
def dynamodb(account: None) -> Iterator[Any]:
    client = boto3.client("dynamodb")
    yield client
    client.close()


@pytest.fixture
def table(dynamodb: Any) -> Iterator[str]:
    name = f"ledger-{uuid.uuid4().hex}"
    DynamoDbLedger(name, client=dynamodb).create_table()
    yield name
    dynamodb.delete_table(TableName=name)


def items(dynamodb: Any, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dynamodb.scan(TableName=table)["Items"]
    return found


class TestTheTable:
    def test_is_keyed_by_processor_and_group_and_nothing_expires(self, dynamodb: Any, table: str) -> None:
        described = dynamodb.describe_table(TableName=table)["Table"]
        ttl = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]

        assert [(key["AttributeName"], key["KeyType"]) for key in described["KeySchema"]] == [
            ("processor", "HASH"),
            ("group", "RANGE"),
        ]
        assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert ttl["TimeToLiveStatus"] == "DISABLED"

    def test_holds_items_of_the_documented_form_and_none_where_nothing_is_pending(
        self, dynamodb: Any, table: str
    ) -> None:
        ledger = DynamoDbLedger(table, client=dynamodb)
        ledger.add("orders", "g", ["a", "b"], 1700000000.125, deadline=soon())
        ledger.count("orders", "g", "a", 2, 1700000060.5, deadline=soon())

        (item,) = items(dynamodb, table)
        assert item.pop("version")["S"]
        assert item.pop("adder")["S"]
        assert item == {
            "processor": {"S": "orders"},
            "group": {"S": "g"},
            "since": {"N": "1700000000125"},
            "newest": {"N": "1700000000125"},
            "+a": {"N": "1700000000125"},
            "+b": {"N": "1700000000125"},
            "aa": {"N": "2"},
            "na": {"N": "1700000060500"},
        }
        ledger.remove("orders", "g", {"a": 1700000000.125}, 0.0, deadline=soon())
        assert items(dynamodb, table)[0].keys() == {
            *("processor", "group", "since", "newest", "adder", "version", "+b")
        }
        ledger.remove("orders", "g", {"b": 1700000000.125}, 0.0, deadline=soon())
        assert items(dynamodb, table) == []

    def test_can_be_named_by_the_environment_when_it_is_first_used(
        self, table: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = DynamoDbLedger.from_env("LEDGER")
        monkeypatch.setenv("LEDGER", table)

        ledger.add("orders", "g", ["a"], 1.0, deadline=soon())

        assert ledger.parked("orders", deadline=soon()) == {"g": ParkedKey({"a": Pending(1.0)}, 1.0)}
        ledger.close()

    def test_that_is_not_named_is_an_error_that_says_who_wants_it(self) -> None:
        ledger = DynamoDbLedger.from_env("LEDGER_OF_NOBODY")
        ledger.owner = "Orders.on_failure's ledger"

        with pytest.raises(ConfigurationError, match=r"LEDGER_OF_NOBODY is not set; Orders.on_failure's ledger needs"):
            ledger.parked("orders", deadline=soon())

    def test_that_is_not_there_is_an_error_that_says_how_to_make_it(self, dynamodb: Any) -> None:
        ledger = DynamoDbLedger("nothing", client=dynamodb)

        with pytest.raises(ConfigurationError, match=r"DynamoDbLedger\('nothing'\).create_table\(\)"):
            ledger.parked("orders", deadline=soon())


def test_a_look_up_reads_every_page(dynamodb: Any, table: str) -> None:
    ledger = DynamoDbLedger(table, client=dynamodb)
    for n in range(7):
        ledger.add("orders", f"g{n}", ["a"], 1.0, deadline=soon())
    queries: list[dict[str, Any]] = []

    def small_pages(params: dict[str, Any], **_: Any) -> None:
        params["Limit"] = 3
        queries.append(params)

    dynamodb.meta.events.register("provide-client-params.dynamodb.Query", small_pages)

    found = ledger.parked("orders", deadline=soon())

    assert set(found) == {f"g{n}" for n in range(7)}
    assert len(queries) == 3
    assert all(query["ConsistentRead"] for query in queries)


def test_one_key_is_read_consistently_for_a_message_without_an_id_counts_as_done(dynamodb: Any, table: str) -> None:
    ledger = DynamoDbLedger(table, client=dynamodb)
    reads: list[dict[str, Any]] = []
    dynamodb.meta.events.register("provide-client-params.dynamodb.GetItem", lambda params, **_: reads.append(params))
    ledger.add("orders", "g", ["x"], 1.0, deadline=soon())

    ledger.key("orders", "g", deadline=soon())
    ledger.remove("orders", "g", {"x": 1.0}, 0.0, deadline=soon())

    assert [read["ConsistentRead"] for read in reads] == [True, True]


class TestARemovalDuringWhich:
    """Somebody writes between its read and its write."""

    def interfere(self, dynamodb: Any, times: int, *writes: Any) -> None:
        """Run the writes before the first ``times`` writes of a removal."""
        left = [times]

        def interfere(params: dict[str, Any], **_: Any) -> None:
            if params.get("ConditionExpression") == "#version = :version" and left[0]:
                left[0] -= 1
                for write in writes:
                    write()

        for operation in ("UpdateItem", "DeleteItem"):
            dynamodb.meta.events.register(f"provide-client-params.dynamodb.{operation}", interfere)

    def test_an_id_is_renewed_keeps_it(self, dynamodb: Any, table: str) -> None:
        ledger, other = DynamoDbLedger(table, client=dynamodb), DynamoDbLedger(table)
        ledger.add("orders", "g", ["own", "stale"], 1.0, deadline=soon())
        self.interfere(dynamodb, 1, lambda: other.add("orders", "g", ["stale"], 100.0, deadline=soon()))

        ledger.remove("orders", "g", {"own": 1.0}, 50.0, deadline=soon())

        assert ledger.key("orders", "g", deadline=soon()) == ParkedKey({"stale": Pending(100.0)}, 1.0)
        other.close()

    def test_the_key_is_drained_and_parked_anew_keeps_the_new_one(self, dynamodb: Any, table: str) -> None:
        ledger, other = DynamoDbLedger(table, client=dynamodb), DynamoDbLedger(table)
        ledger.add("orders", "g", ["own"], 1.0, deadline=soon())
        self.interfere(
            dynamodb,
            1,
            lambda: other.remove("orders", "g", {"own": 1.0}, 0.0, deadline=soon()),
            lambda: other.add("orders", "g", ["new"], 2.0, deadline=soon()),
        )

        ledger.remove("orders", "g", {"own": 1.0}, 0.0, deadline=soon())

        assert ledger.key("orders", "g", deadline=soon()) == ParkedKey({"new": Pending(2.0)}, 2.0)
        other.close()

    def test_it_is_always_written_says_so(self, dynamodb: Any, table: str) -> None:
        ledger, other = DynamoDbLedger(table, client=dynamodb), DynamoDbLedger(table)
        ledger.add("orders", "g", ["own"], 1.0, deadline=soon())
        self.interfere(dynamodb, 99, lambda: other.add("orders", "g", ["new"], 2.0, deadline=soon()))

        with pytest.raises(StreamkitError, match="was written 10 times"):
            ledger.remove("orders", "g", {"own": 1.0}, 0.0, deadline=soon())
        other.close()
