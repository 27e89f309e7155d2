"""The functions that these tests run: each writes down what it is given, when it is given it, and does as the record says."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

from streamkit import Divert, Park, Record, RecordProcessor, Reject, lambda_handler
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.queues.sqs import SqsQueue

__all__ = ["diverting", "journal", "parking"]


class Journal(RecordProcessor):
    """Writes a line to the file JOURNAL for each record that it starts. A record is ``{"n": number}``, and may have

    ``wait``: the file, until which exists it goes on; ``fails``: how many of its tries fail; ``reject``: why it never can.
    """

    name = "journal"

    def __init__(self) -> None:
        self._tries: Counter[str] = Counter()

    def process(self, record: Record) -> None:
        event = record.json()
        line = {"key": record.partition_key, "n": event["n"], "event_id": record.event_id, "attempt": record.attempt}
        with open(os.environ["JOURNAL"], "ab", buffering=0) as journal:
            journal.write(json.dumps(line).encode() + b"\n")
        while "wait" in event and not Path(event["wait"]).exists():
            time.sleep(0.02)
        if "reject" in event:
            raise Reject(event["reject"])
        self._tries[record.event_id] += 1
        if self._tries[record.event_id] <= event.get("fails", 0):
            raise RuntimeError("told to fail")


class Diverting(Journal):
    name = "diverting"
    on_failure = Divert(SqsQueue.from_env("RETRIES"), dead_letters=SqsQueue.from_env("DEAD_LETTERS"), backoff=1)


class Parking(Journal):
    name = "parking"
    on_failure = Park(
        SqsQueue.from_env("RETRIES"), DynamoDbLedger.from_env("PARKED"), dead_letters=SqsQueue.from_env("DEAD_LETTERS")
    )


journal = lambda_handler(Journal)
diverting = lambda_handler(Diverting)
parking = lambda_handler(Parking)
