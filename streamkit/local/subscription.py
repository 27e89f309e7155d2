"""A shard by enhanced fan-out: SubscribeToShard pushes its records, at 2 MiB/s for this consumer alone.

A thread takes the events in as they come and holds them until they are read, up to some 4 MiB; then it leaves the rest in the
connection, where the server waits. A subscription lasts for five minutes at most: the thread renews it from where it has come
to. boto3 parses these records, which costs several times what a read by polling does.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from botocore.eventstream import ParserError
from botocore.exceptions import ResponseStreamingError
from urllib3.exceptions import HTTPError

from .documents import raw_record
from .feed import Feed, Page, Position

__all__ = ["SubscriptionFeed", "iterator_arguments", "resumed"]

# What is held until it is read, and an event more.
_ENOUGH_BYTES = 4 * 1024 * 1024
# What a record takes beside its data.
_RECORD_BYTES = 500
_BEFORE_PARSE = "before-parse.kinesis.SubscribeToShard"


class SubscriptionFeed(Feed):
    """A shard, for the registered consumer ``consumer_arn``.

    A consumer may not subscribe to a shard again within five seconds: ``between_calls``.
    """

    # It waits for nothing: what has come is taken out of memory.
    between_reads = between_idle_reads = 0.05

    def __init__(self, client: Any, consumer_arn: str, shard_id: str, *, between_calls: float = 5.0) -> None:
        self._client = client
        self._target = {"ConsumerARN": consumer_arn, "ShardId": shard_id}
        self._between_calls = between_calls
        self._began_at: float | None = None
        self._thread: threading.Thread | None = None
        # What the thread and the reader share, and the lock on it.
        self._changed = threading.Condition()
        self._records: list[dict[str, Any]] = []
        self._held_bytes = 0
        # None when no event has come since the last read.
        self._behind: float | None = None
        self._as_of: float | None = None
        self._has_ended = False
        self._error: Exception | None = None
        self._is_closed = False
        self._connection: Any = None
        client.meta.events.register(_BEFORE_PARSE, _note_connection, unique_id="streamkit.local.subscription")

    def read(self, position: Position) -> Page:
        """What has come since the last read. What ended the subscription is raised when all before it was read."""
        with self._changed:
            if self._behind is not None or self._has_ended:
                page = Page(self._records, self._behind, self._has_ended, self._as_of)
                self._records, self._held_bytes, self._behind = [], 0, None
                self._changed.notify_all()
                return page
            if self._error is not None:
                error, self._error, self._thread = self._error, None, None
                raise error
            if self._thread is None and not self._is_closed:
                position = resumed(position, self._began_at)
                name = f"streamkit {self._target['ShardId']} subscription"
                self._thread = threading.Thread(target=self._run, args=(position,), name=name, daemon=True)
                self._thread.start()
            return Page([], None)

    def close(self) -> None:
        """End the subscription. Its thread ends at once with botocore 1.35.16 and urllib3 2.3 or newer, else at the next event,
        of which Kinesis sends one every five seconds at least.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if self._connection is not None:
                _shut_down(self._connection)

    def _run(self, position: Position) -> None:
        try:
            next_position: Position | None = position
            while next_position is not None:
                called_at = time.monotonic()
                next_position = self._subscribe(next_position)
                with self._changed:
                    until_call = called_at + self._between_calls - time.monotonic()
                    if next_position is not None and self._changed.wait_for(
                        lambda: self._is_closed, max(0, until_call)
                    ):
                        return
        except Exception as error:  # noqa: BLE001  # Raised again by read(), in the reader's thread.
            with self._changed:
                self._error = _error_of(error)

    def _subscribe(self, position: Position) -> Position | None:
        """Take in the events of one subscription. Where the next one begins; None where there is none to be."""
        began_at, asked_for = time.time(), position
        events = self._client.subscribe_to_shard(**self._target, StartingPosition=_starting(position))["EventStream"]
        self._began_at = self._began_at or began_at
        try:
            with self._changed:
                self._connection = _noted.connection
            for event in events:
                taken = self._take(event["SubscribeToShardEvent"], position)
                if taken is None:
                    return None
                position = taken
        except Exception as error:
            has_broken = isinstance(_error_of(error), ResponseStreamingError)
            if not (has_broken and position == asked_for and self._has_nothing_left(position)):
                raise
            with self._changed:
                self._has_ended = True
            return None
        finally:
            with self._changed:
                self._connection = None
            events.close()
        # Started at LATEST, and ended before its first event.
        return resumed(position, self._began_at)

    def _has_nothing_left(self, position: Position) -> bool:
        """Whether the shard is closed and read to its end, by one read of GetRecords; False where that can't be told.

        AWS ends such a subscription with an event that says so. LocalStack's breaks, each time anew.
        """
        shard = {
            "StreamARN": self._target["ConsumerARN"].partition("/consumer/")[0],
            "ShardId": self._target["ShardId"],
        }
        try:
            iterator = self._client.get_shard_iterator(**shard, **iterator_arguments(position))["ShardIterator"]
            answer = self._client.get_records(ShardIterator=iterator, Limit=1)
        except Exception:  # noqa: BLE001  # What broke the subscription is raised then.
            return False
        return not answer["Records"] and not answer.get("NextShardIterator")

    def _take(self, event: dict[str, Any], position: Position) -> Position | None:
        """Hold the event's records as soon as there is room. Where the next is to begin; None at the end."""
        came_at = time.time()
        records = [raw_record(record) for record in event["Records"]]
        number = event.get("ContinuationSequenceNumber")
        with self._changed:
            self._changed.wait_for(lambda: self._held_bytes < _ENOUGH_BYTES or self._is_closed)
            if self._is_closed:
                return None
            self._records += records
            self._held_bytes += sum(len(record["Data"]) + _RECORD_BYTES for record in records)
            self._behind, self._as_of = event.get("MillisBehindLatest", 0) / 1000, came_at
            if not number or event.get("ChildShards"):
                self._has_ended = True
                return None
            # LocalStack's number of a shard without records is 0, and it can't go on after that.
            return Position("AFTER_SEQUENCE_NUMBER", int(number)) if int(number) else position


def resumed(position: Position, began_at: float | None) -> Position:
    """Where a feed begins anew. LATEST, when it has begun once: nothing was read since then, and is still to be."""
    if position.type == "LATEST" and began_at is not None:
        return Position("AT_TIMESTAMP", timestamp=began_at)
    return position


def iterator_arguments(position: Position) -> dict[str, Any]:
    """What GetShardIterator calls a position."""
    arguments: dict[str, Any] = {"ShardIteratorType": position.type}
    if position.sequence_number is not None:
        arguments["StartingSequenceNumber"] = str(position.sequence_number)
    if position.timestamp is not None:
        arguments["Timestamp"] = position.timestamp
    return arguments


def _starting(position: Position) -> dict[str, Any]:
    starting: dict[str, Any] = {"Type": position.type}
    if position.sequence_number is not None:
        starting["SequenceNumber"] = str(position.sequence_number)
    if position.timestamp is not None:
        starting["Timestamp"] = position.timestamp
    return starting


def _error_of(error: Exception) -> Exception:
    """The error as botocore names it: what breaks in the middle of a stream comes from the libraries below."""
    if not isinstance(error, HTTPError | ParserError):
        return error
    named: Exception = ResponseStreamingError(error=error)
    named.__cause__ = error
    return named


class _Noted(threading.local):
    """The connection of the subscription that this thread has made last; None where botocore does not tell."""

    connection: Any = None


_noted = _Noted()


def _note_connection(response_dict: dict[str, Any], **_: Any) -> None:
    _noted.connection = response_dict["body"] if response_dict["status_code"] < 300 else None


def _shut_down(connection: Any) -> None:
    """Wake the thread that waits for this connection. Closing it would wait for that thread."""
    shutdown = getattr(connection, "shutdown", None)
    if shutdown is not None:
        shutdown()
