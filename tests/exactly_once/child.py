"""The process that is killed: it reads a shard from a position on, and prints the position after each batch that it answered.

    python -m tests.exactly_once.child TABLE PLANS COUNT SEED

BIGQUERY_EMULATOR_HOST and BIGQUERY_STORAGE_EMULATOR_HOST name the server, AWS_ENDPOINT_URL that of the plans. It begins when
it reads a position from its standard input, and each new one there begins it anew.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

from streamkit import Record, RecordProcessor, Write, lambda_handler
from streamkit.plans.dynamodb import DynamoDbPlans
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink
from streamkit.testing import kinesis_event

from .world import FIRST


def main(table: str, plans: str, count: int, seed: int) -> None:
    drawn = random.Random(seed)

    class Orders(RecordProcessor):
        name = "orders"
        ordering = "shard"
        warehouse = BigQueryExactlyOnceSink(table, DynamoDbPlans(plans))

        def process(self, record: Record) -> Iterator[Write]:
            if drawn.random() < 0.03:
                raise RuntimeError("not this time")
            # How many rows it makes is the record's own affair, what is in them is not.
            for n in range(int(record.data) % 3):
                yield self.warehouse.row({"id": f"{record.data.decode()}/{n}", "run": drawn.randint(0, 1_000_000)})

    handler = lambda_handler(Orders)
    print("ready", flush=True)
    at = int(sys.stdin.readline())
    stands_since = 0
    while at < count:
        end = min(at + drawn.choice([3, 7, 12]), count)
        answer = handler(kinesis_event([str(index) for index in range(at, end)], start=FIRST + at))
        failures = answer["batchItemFailures"]
        reached = int(failures[0]["itemIdentifier"]) - FIRST if failures else end
        stands_since = stands_since + 1 if reached == at else 0
        assert stands_since < 100, "it does not get on"
        at = reached
        print(at, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
