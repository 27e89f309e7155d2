"""The dead letters that stay: taken out of their queues and kept, as somebody's decision in daylight."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from streamkit.envelope import open_envelope

__all__ = ["Archive"]

#: What can never succeed; all else is to be put back.
_FOR_GOOD = ("Reject", "DecodeError")
# Longer than taking all of a round takes; what is left is given back at the end.
_HOLD = 3600


class Archive:
    """The file at ``path``: the event id, the last error and its message of each letter, copies too."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("CREATE TABLE letters (event_id TEXT, queue TEXT, error TEXT, message TEXT)")

    def take(self, sqs: Any, url: str) -> int:
        """Move what stays from a queue into the archive. How many are left there to put back."""
        left: list[str] = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=_HOLD).get(
            "Messages", []
        ):
            staying = [message for message in messages if self._keeps(message, url)]
            left += [message["ReceiptHandle"] for message in messages if message not in staying]
            if staying:
                entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(staying)]
                sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        for start in range(0, len(left), 10):
            entries = [
                {"Id": str(n), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                for n, receipt in enumerate(left[start : start + 10])
            ]
            sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)
        return len(left)

    def _keeps(self, message: Any, url: str) -> bool:
        envelope = open_envelope(message["Body"])
        if envelope is None:
            row = (message["MessageId"], url, "no envelope", "")
        else:
            last = envelope.failures[-1]
            if last.type not in _FOR_GOOD and envelope.data is not None:
                return False
            row = (envelope.event_id, url, last.type, last.message)
        self._connection.execute("INSERT INTO letters VALUES (?, ?, ?, ?)", row)
        return True

    def rows(self) -> sqlite3.Cursor:
        return self._connection.execute("SELECT event_id, queue, error, message FROM letters")

    def close(self) -> None:
        self._connection.close()
