"""``streamkit parked``: the keys that Park holds aside."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamkit import Park, Record, RecordProcessor, lambda_handler
from streamkit.failure import group_of_key
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.local.queue_runner import QueueRunner
from streamkit.queues.sqs import SqsQueue
from streamkit.testing import kinesis_event

from .process import connect, ended, error_of


@pytest.fixture
def ledger(moto_endpoint: str) -> Iterator[DynamoDbLedger]:
    client = connect("dynamodb", moto_endpoint)
    ledger = DynamoDbLedger(f"parked-{uuid.uuid4().hex}", client=client)
    ledger.create_table()
    yield ledger
    client.delete_table(TableName=ledger.table)
    client.close()


@pytest.fixture
def queue(sqs: Any) -> SqsQueue:
    url = sqs.create_queue(QueueName=f"cli-{uuid.uuid4().hex}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    return SqsQueue(url, client=sqs)


def add(ledger: DynamoDbLedger, key: str, *ids: str, ago: float, name: str = "orders") -> str:
    """Add ids of a key some seconds ago; the key's group."""
    group = group_of_key(name, key)
    ledger.add(name, group, ids, time.time() - ago, deadline=time.monotonic() + 30)
    return group


class TestTheList:
    def test_has_the_oldest_first_with_what_an_operator_needs_and_no_key(
        self, ledger: DynamoDbLedger, tmp_path: Path, moto_endpoint: str
    ) -> None:
        new = add(ledger, "customer-17", "a", ago=5.0)
        old = add(ledger, "customer-4", "b", ago=4000.0)
        add(ledger, "customer-4", "c", ago=100.0)
        ledger.count("orders", old, "b", 2, time.time() + 600, deadline=time.monotonic() + 30)
        add(ledger, "customer-4", "d", ago=100.0, name="others")
        arguments = ["parked", ledger.table, "--name", "orders", "--endpoint-url", moto_endpoint]

        table, lines = ended(tmp_path, *arguments), ended(tmp_path, *arguments, "--json")

        assert table.returncode == 0, table.stderr
        header, first, second = table.stdout.splitlines()
        assert header.split() == ["group", "records", "oldest", "parked", "for", "tries"]
        assert first.split()[:6] == [old, "2", "1", "h", "6", "min"]
        assert first.split()[-1] == "2"
        assert second.split()[:2] == [new, "1"]
        assert "customer" not in table.stdout + lines.stdout
        one, other = (json.loads(line) for line in lines.stdout.splitlines())
        assert (one["group"], one["records"], one["attempts"]) == (old, 2, 2)
        assert 4000 <= one["oldest_age"] <= one["parked_for"] < 4100
        assert 0 < one["not_before"] - time.time() <= 600
        assert (other["group"], other["attempts"], other["not_before"]) == (new, 0, None)

    def test_ends_with_1_when_a_record_is_parked_for_too_long(
        self, ledger: DynamoDbLedger, tmp_path: Path, moto_endpoint: str
    ) -> None:
        add(ledger, "customer-4", "b", ago=4000.0)
        arguments = ["parked", ledger.table, "--name", "orders", "--endpoint-url", moto_endpoint, "--max-age"]

        assert ended(tmp_path, *arguments, "3600").returncode == 1
        assert ended(tmp_path, *arguments, "7200").returncode == 0

    def test_finds_a_key_that_is_known(self, ledger: DynamoDbLedger, tmp_path: Path, moto_endpoint: str) -> None:
        group = add(ledger, "customer-17", "a", ago=5.0)
        add(ledger, "customer-4", "b", ago=5.0)
        arguments = ["parked", ledger.table, "--name", "orders", "--endpoint-url", moto_endpoint, "--key"]

        assert ended(tmp_path, *arguments, "customer-17").stdout.splitlines()[1:][0].split()[0] == group
        assert len(ended(tmp_path, *arguments, "customer-17").stdout.splitlines()) == 2
        assert ended(tmp_path, *arguments, "customer-99").stdout == "no key is parked\n"

    def test_can_be_put_into_cloudwatch_for_an_alarm(
        self, ledger: DynamoDbLedger, tmp_path: Path, moto_endpoint: str
    ) -> None:
        add(ledger, "customer-4", "b", "c", ago=4000.0)
        namespace = f"Streamkit-{uuid.uuid4().hex}"
        arguments = ["parked", ledger.table, "--name", "orders", "--endpoint-url", moto_endpoint, "--metric", namespace]

        assert ended(tmp_path, *arguments).returncode == 0

        client = connect("cloudwatch", moto_endpoint)
        now = time.time()
        figures = {
            name: client.get_metric_statistics(
                Namespace=namespace,
                MetricName=name,
                Dimensions=[{"Name": "Processor", "Value": "orders"}],
                StartTime=now - 600,
                EndTime=now + 600,
                Period=1200,
                Statistics=["Maximum"],
            )["Datapoints"][0]["Maximum"]
            for name in ("ParkedKeys", "ParkedRecords", "OldestParkedAge")
        }
        client.close()
        assert (figures["ParkedKeys"], figures["ParkedRecords"]) == (1, 2)
        assert 4000 <= figures["OldestParkedAge"] < 4100


class Orders(RecordProcessor):
    name = "orders"

    def __init__(self, queue: SqsQueue, ledger: DynamoDbLedger) -> None:
        self.on_failure = Park(queue, ledger)
        self.is_bad = False
        self.started: list[str] = []

    def process(self, record: Record) -> None:
        self.started.append(record.data.decode())
        if self.is_bad:
            raise ValueError("bad")


class TestRepair:
    def test_clears_away_the_ids_that_have_no_message_and_no_other(
        self, ledger: DynamoDbLedger, queue: SqsQueue, sqs: Any, tmp_path: Path, moto_endpoint: str
    ) -> None:
        stale = add(ledger, "customer-4", "b", ago=4000.0)
        add(ledger, "customer-17", "a", ago=5.0)
        orders = Orders(queue, ledger)
        orders.is_bad = True
        lambda_handler(orders)(kinesis_event(["x"], partition_keys=["customer-5"]), None)
        # Its message is there, however old its id is.
        waiting = group_of_key("orders", "customer-5")
        (record_id,) = ledger.parked("orders", deadline=time.monotonic() + 30)[waiting].pending
        age(ledger, waiting, record_id, 4000.0)
        arguments = ["parked", ledger.table, "--name", "orders", "--endpoint-url", moto_endpoint]
        repair = [*arguments, "--repair", "--queue", queue.url]

        dry = ended(tmp_path, *repair, "--dry-run")
        assert dry.returncode == 0, dry.stderr
        assert dry.stderr.splitlines()[0] == "2 keys would get a sweep"
        assert set(dry.stderr.split()) >= {stale, waiting}
        wet = ended(tmp_path, *repair)
        assert wet.stderr.startswith("sent a sweep to 2 keys")

        # What fails is not tried here: moto does not keep the order of a group when a message of it comes again.
        orders.is_bad = False
        runner = QueueRunner(lambda_handler(orders), queue.url, sqs, wait_time_in_seconds=0)
        while runner.poll():
            pass
        # The one without a message is gone, the other one was run, and the new one is there.
        assert orders.started == ["x", "x"]
        assert set(ledger.parked("orders", deadline=time.monotonic() + 30)) == {group_of_key("orders", "customer-17")}

    def test_has_nothing_to_do_where_nothing_can_be_stale(
        self, ledger: DynamoDbLedger, queue: SqsQueue, tmp_path: Path, moto_endpoint: str
    ) -> None:
        add(ledger, "customer-17", "a", ago=60.0)
        arguments = ["parked", ledger.table, "--name", "orders", "--endpoint-url", moto_endpoint]

        one = ended(tmp_path, *arguments, "--repair", "--queue", queue.url)

        assert (one.returncode, one.stderr) == (0, "no key has ids that may be stale\n")


def age(ledger: DynamoDbLedger, group: str, record_id: str, seconds: float) -> None:
    """Make an id older than it is."""
    ledger._table.clients.given.update_item(
        TableName=ledger.table,
        Key={"processor": {"S": "orders"}, "group": {"S": group}},
        UpdateExpression="SET #id = :added",
        ExpressionAttributeNames={"#id": f"+{record_id}"},
        ExpressionAttributeValues={":added": {"N": str(int((time.time() - seconds) * 1000))}},
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "streamkit parked: error: the following arguments are required: --name"),
        (["--name", "orders", "--repair"], "streamkit: --repair needs --queue with the URL of the policy's FIFO queue"),
        (["--name", "orders", "--repair", "--queue", "http://x/standard"], "streamkit: --repair needs --queue"),
        (["--name", "orders", "--dry-run"], "streamkit: --queue and --dry-run go with --repair"),
        (["--name", "orders", "--max-age", "soon"], "streamkit parked: error: argument --max-age"),
        (["--name", "orders"], "streamkit: table no-table: there is no such table here: check the name, --region"),
    ],
)
def test_what_is_typed_wrong_ends_with_2(arguments: list[str], error: str, tmp_path: Path, moto_endpoint: str) -> None:
    code, line = error_of(tmp_path, "parked", "no-table", *arguments, AWS_ENDPOINT_URL=moto_endpoint)

    assert code == 2
    assert line.startswith(error)


def test_a_table_that_is_no_ledger_ends_with_2(tmp_path: Path, moto_endpoint: str) -> None:
    client = connect("dynamodb", moto_endpoint)
    table = f"others-{uuid.uuid4().hex}"
    client.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
    )

    code, line = error_of(tmp_path, "parked", table, "--name", "orders", "--endpoint-url", moto_endpoint)

    client.delete_table(TableName=table)
    client.close()
    assert code == 2
    assert line == (
        f"streamkit: table {table}: it is no ledger of Park's, whose keys are `processor` and `group`: check the name"
    )


def test_a_table_out_of_reach_ends_with_2(tmp_path: Path) -> None:
    code, line = error_of(tmp_path, "parked", "table", "--name", "orders", "--endpoint-url", "http://127.0.0.1:9")

    assert code == 2
    assert line.startswith("streamkit: table table: ")
