"""What the daemons' children run. Each line of the journal is one try of a record, written before it is told whether it fails."""

from __future__ import annotations

import os
import time

import msgspec

from streamkit import Record, RecordProcessor, lambda_handler

__all__ = ["handler"]

# One write of a line this short goes to the end of the file in one piece, whoever else writes.
_journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


class Journalled(RecordProcessor):
    """Writes down each record. One whose event says so fails for as long as the file ``FAILING`` is there."""

    name = "journalled"

    def process(self, record: Record) -> None:
        event = record.json()
        line = {
            "worker": os.environ["WORKER"],
            "pid": os.getpid(),
            "at": time.time(),
            "event_id": record.event_id,
            "key": record.partition_key,
            "n": event["n"],
            "fails": bool(event.get("fails")) and os.path.exists(os.environ["FAILING"]),
        }
        print("a print that must not reach the daemon")
        if seconds := float(os.environ.get("SECONDS_A_RECORD", 0)):
            time.sleep(seconds)
        os.write(_journal, msgspec.json.encode(line) + b"\n")
        if line["fails"]:
            raise RuntimeError("told to fail")


handler = lambda_handler(Journalled)
