"""What ``Park`` costs where no key is parked: a batch beside the same one under ``Divert``, and what it asks of DynamoDB."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from streamkit import Divert, Park, Record, RecordProcessor, lambda_handler
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.ledgers.memory import MemoryLedger
from streamkit.policy import Policy
from streamkit.testing import MemoryQueue, kinesis_event

from .harness import Row, Side, compare, progress, take_turns
from .orders import NOTHING_FAILED, Context, event_of, key_of, orders, payload_of

__all__ = ["requests", "run"]

_RECORDS = 4_900


class Reads(RecordProcessor):
    """Parses each order."""

    name = "orders"

    def __init__(self, policy: Policy) -> None:
        self.on_failure = policy

    def process(self, record: Record) -> None:
        record.json()


def run(seconds: float) -> list[Row]:
    """A batch in which all goes well, under both policies: no key is parked, and one of somebody else's is."""
    placed = orders(_RECORDS)
    event = event_of([payload_of(order) for order in placed], [key_of(order) for order in placed])
    ledger = MemoryLedger()
    others = MemoryLedger()
    others.add("orders", "a key that is not in the batch", ["id"], 0.0, deadline=0.0)
    policies: dict[str, Policy] = {
        "divert": Divert(MemoryQueue()),
        "park": Park(MemoryQueue(fifo=True), ledger),
        "one parked": Park(MemoryQueue(fifo=True), others),
    }
    progress(f"{_RECORDS:,} records under Divert and under Park, for {seconds:.0f} s")
    took = take_turns(
        {
            name: Side(partial(lambda_handler(Reads(policy)), event, Context()), NOTHING_FAILED)
            for name, policy in policies.items()
        },
        seconds,
    )
    per_record = partial(compare, per=_RECORDS)
    return [
        per_record("Park with no key parked / Divert", took["park"], took["divert"], at_most=1.05),
        per_record("Park with another key parked / Divert", took["one parked"], took["divert"]),
    ]


def requests() -> list[list[str]]:
    """What batches ask of DynamoDB, on moto: the requests, one after another."""
    rows = []
    with _ledger() as (ledger, asked):
        queue = MemoryQueue(fifo=True)
        processor = _Failing(Park(queue, ledger))
        handler = lambda_handler(processor)
        for label, bad, call in (
            ("a batch, no key parked", set(), partial(handler, _event(0))),
            ("a batch of 10, a key's record fails, 4 follow it", {b"a0"}, partial(handler, _event(1))),
            ("a batch of 10, 5 of a key that is parked", set(), partial(handler, _event(2))),
            ("its 10 messages, all well", set(), partial(queue.deliver, handler)),
        ):
            processor.bad = bad
            asked.clear()
            call()
            rows.append([label, ", ".join(asked)])
    return rows


class _Failing(Reads):
    bad: set[bytes]

    def process(self, record: Record) -> None:
        if record.data in self.bad:
            raise ValueError("bad")


def _event(n: int) -> dict[str, Any]:
    """Ten records of two keys."""
    texts = [f"{key}{m}" for m in range(5) for key in "ab"]
    return kinesis_event(texts, partition_keys=[text[0] for text in texts], start=1 + 100 * n)


@contextmanager
def _ledger() -> Iterator[tuple[DynamoDbLedger, list[str]]]:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "localstack"))
    import boto3
    from local_moto import moto_in_process

    with moto_in_process() as endpoint:
        client = boto3.client(
            "dynamodb",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
        )
        ledger = DynamoDbLedger("parked", client=client)
        ledger.create_table()
        asked: list[str] = []
        for operation in ("Query", "GetItem", "UpdateItem", "DeleteItem"):
            client.meta.events.register(f"after-call.dynamodb.{operation}", lambda model, **_: asked.append(model.name))
        yield ledger, asked
        client.close()
