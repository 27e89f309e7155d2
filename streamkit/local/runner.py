"""The event source mapping against a real Kinesis endpoint: what ``streamkit run`` runs.

A thread for each shard polls it and drives that shard's state machine; the real handler gets the JSON that Lambda would send.
A checkpoint is saved after each answer and before the next invocation, so a reader that is killed repeats one batch a shard.

A running Python function can't be stopped from outside, so the time-out is what the context tells the function, and an answer
that comes later than that counts as none. Shards are listed once, at the start: following splits and merges is not built yet.

Started at LATEST, a reader that ends before its first checkpoint starts at LATEST again: only TRIM_HORIZON and AT_TIMESTAMP
lose nothing then.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from botocore.exceptions import ClientError, CredentialRetrievalError, HTTPClientError
from botocore.exceptions import ConnectionError as EndpointError
from botocore.parsers import ResponseParserError

from ..checkpoints.base import CheckpointStore
from ..reason import reason
from .documents import event_of, failure_document, item_of, kinesis_record, read_back
from .mapping import Discard, Invoke, Item, ShardMapping, Wait
from .settings import Settings

__all__ = ["Progress", "RealContext", "Runner"]

log = logging.getLogger("streamkit")

Function = Callable[[Any, Any], Any]

# GetRecords: 5 a second a shard, over all consumers together. Lambda polls an idle shard about once a second.
_BETWEEN_READS = 0.2
_BETWEEN_IDLE_READS = 1.0
_LONGEST_BACKOFF = 10.0
_READ_RECORDS = 10_000
# What is held of a shard: so many records or bytes of event, and what one GetRecords brings (10 MiB) on top.
_ENOUGH_RECORDS = 1000
_ENOUGH_BYTES = 16 * 1024 * 1024
_FUNCTION_ARN = "arn:aws:lambda:us-east-1:000000000000:function:function"
# Errors that time mends, beside those of status 5xx and 429.
_PASSING_CODES = (
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
)
_PASSING_ERRORS = (HTTPClientError, EndpointError, ResponseParserError, CredentialRetrievalError, OSError)


class RealContext:
    """Lambda's context, on the real clock."""

    function_name = "function"
    function_version = "$LATEST"
    invoked_function_arn = _FUNCTION_ARN
    memory_limit_in_mb = "128"
    log_group_name = "/aws/lambda/function"
    log_stream_name = "local"

    def __init__(self, timeout: float) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self._ends_at = time.monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the answer would come too late."""
        return max(0, int((self._ends_at - time.monotonic()) * 1000))


class Progress(msgspec.Struct):
    """What a shard's reader has done since it started. ``redelivered`` counts deliveries of a record after its first."""

    shard_id: str
    records: int = 0
    redelivered: int = 0
    batches: int = 0
    failures: int = 0
    discarded: int = 0
    checkpoint: int | None = None
    # Seconds between now and the arrival of what was read last; 0 when caught up.
    behind: float = 0.0
    backlog: int = 0


class Runner:
    """Reads all shards of ``stream`` with a function for each, made by ``make_function``: a handler is not shared by threads.

    ``client`` is boto3's Kinesis client. ``name`` keys the checkpoints. ``on_failure`` is called with each failure document;
    by default it is logged, since the records in it are lost to this reader. While it raises, it is called again, the shard
    waits, and no checkpoint passes the records.
    """

    def __init__(
        self,
        make_function: Callable[[], Function],
        *,
        client: Any,
        stream: str,
        name: str,
        checkpoints: CheckpointStore,
        settings: Settings,
        on_failure: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self._make_function = make_function
        self._client = client
        self._stream = stream
        self._name = name
        self._checkpoints = checkpoints
        self._settings = settings
        self._on_failure = on_failure
        self._stopping = threading.Event()
        self._errors: list[BaseException] = []
        #: One for each shard, updated while it runs.
        self.progress: list[Progress] = []

    def run(self) -> None:
        """Read until ``stop`` is called or every shard has ended. An error that no retry can mend stops all and is raised."""
        summary = self._client.describe_stream_summary(StreamName=self._stream)["StreamDescriptionSummary"]
        # What the stream keeps is what can be delivered, for longer than a day too. It is asked once: start again after a change.
        self._settings = msgspec.structs.replace(
            self._settings, retention_in_seconds=summary["RetentionPeriodHours"] * 3600
        )
        threads = []
        for shard_id in self._shard_ids():
            progress = Progress(shard_id)
            self.progress.append(progress)
            reader = _ShardReader(self, summary["StreamARN"], progress)
            threads.append(threading.Thread(target=self._guarded, args=(reader.run,), name=f"streamkit {shard_id}"))
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            # Interrupted, as by Ctrl-C: the shards end as they do after stop().
            self._stopping.set()
            for thread in threads:
                thread.join()
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        """End after the invocations in hand; ``run`` then returns. Safe to call from a signal handler or another thread."""
        self._stopping.set()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001  # Raised again by run(), in the caller's thread.
            self._errors.append(error)
            self._stopping.set()

    def _shard_ids(self) -> list[str]:
        parent_of: dict[str, str | None] = {}
        arguments: dict[str, Any] = {"StreamName": self._stream}
        while arguments:
            answer = self._client.list_shards(**arguments)
            parent_of |= {shard["ShardId"]: shard.get("ParentShardId") for shard in answer["Shards"]}
            arguments = {"NextToken": answer["NextToken"]} if answer.get("NextToken") else {}
        if any(parent in parent_of for parent in parent_of.values()):
            log.warning(
                "%s: %s was resharded; records of a key may come before older ones of a parent shard",
                self._name,
                self._stream,
            )
        return list(parent_of)


class _ShardReader:
    """One shard: reads it as far as the mapping can take records, and does what the mapping says."""

    def __init__(self, runner: Runner, stream_arn: str, progress: Progress) -> None:
        self._runner = runner
        self._client = runner._client
        self._settings = runner._settings
        self._stream_arn = stream_arn
        self._progress = progress
        self._shard_id = progress.shard_id
        checkpoint = runner._checkpoints.get(runner._name, runner._stream, self._shard_id)
        self._mapping = ShardMapping(runner._settings, checkpoint)
        self._saved = checkpoint
        progress.checkpoint = checkpoint
        self._last_read = checkpoint
        self._highest_delivered = -1
        self._request_id: str | None = None
        self._iterator: str | None = None
        self._started_at: float | None = None
        self._has_ended = False
        self._next_read = 0.0
        self._read_failures = 0

    def run(self) -> None:
        function = self._runner._make_function()
        try:
            while not self._runner._stopping.is_set():
                if not self._has_ended and time.monotonic() >= self._next_read:
                    self._read()
                action = self._mapping.next(time.time())
                self._progress.backlog = self._mapping.backlog
                if isinstance(action, Invoke):
                    self._invoke(function, action)
                elif isinstance(action, Discard):
                    self._discard(action)
                elif self._has_ended and not isinstance(action, Wait):
                    log.info("%s: shard %s has ended", self._runner._name, self._shard_id)
                    return
                else:
                    until = action.until - time.time() if isinstance(action, Wait) else _BETWEEN_IDLE_READS
                    self._pause(until)
        finally:
            close = getattr(function, "close", None)
            if close is not None:
                close()

    def _pause(self, seconds: float) -> None:
        until_read = _BETWEEN_IDLE_READS if self._has_ended else self._next_read - time.monotonic()
        self._runner._stopping.wait(max(0.0, min(seconds, until_read)))

    def _read(self) -> None:
        """One GetRecords, unless enough for the next batches is held already."""
        self._next_read = time.monotonic() + _BETWEEN_READS
        enough = max(2 * self._settings.batch_size, _ENOUGH_RECORDS)
        if self._mapping.backlog >= enough or self._mapping.backlog_bytes >= _ENOUGH_BYTES:
            return
        try:
            if self._iterator is None:
                asked_at = time.time()
                self._iterator = self._client.get_shard_iterator(**self._position())["ShardIterator"]
                self._started_at = self._started_at or asked_at
            answer = self._client.get_records(ShardIterator=self._iterator, Limit=_READ_RECORDS)
        except Exception as error:  # noqa: BLE001  # Sorted by what it is; what can't pass is raised again.
            self._read_failed(error)
            return
        self._read_failures = 0
        records = answer["Records"]
        self._iterator = answer.get("NextShardIterator")
        self._has_ended = self._iterator is None
        if records:
            self._last_read = int(records[-1]["SequenceNumber"])
            self._mapping.add([self._item(record) for record in records], time.time())
        elif not answer.get("MillisBehindLatest"):
            self._next_read = time.monotonic() + _BETWEEN_IDLE_READS
        self._progress.behind = answer.get("MillisBehindLatest", 0) / 1000

    def _read_failed(self, error: Exception) -> None:
        """Go on from the same place later; raise what waiting can't mend."""
        code = _code(error)
        if code == "ExpiredIteratorException":
            # It lives for five minutes: the backlog was full, or nothing could be read, for that long.
            self._iterator = None
            return
        if not _may_pass(error):
            raise error
        self._read_failures += 1
        backoff = min(_LONGEST_BACKOFF, _BETWEEN_READS * 2.0 ** min(self._read_failures, 20))
        self._next_read = time.monotonic() + backoff
        log.warning(
            "%s: shard %s could not be read (%s); again in %.1f s",
            self._runner._name,
            self._shard_id,
            code or type(error).__name__,
            backoff,
        )

    def _position(self) -> dict[str, Any]:
        position: dict[str, Any] = {"StreamName": self._runner._stream, "ShardId": self._shard_id}
        if self._last_read is not None:
            return position | {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": str(self._last_read),
            }
        if self._settings.starting_position == "LATEST" and self._started_at is not None:
            # An iterator has expired before anything was read: what has come since the start is still to be delivered.
            return position | {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": self._started_at}
        position["ShardIteratorType"] = self._settings.starting_position
        if self._settings.starting_time is not None:
            position["Timestamp"] = self._settings.starting_time
        return position

    def _item(self, record: Any) -> Item:
        number, data, key = record["SequenceNumber"], record["Data"], record.get("PartitionKey")
        arrived_at = record["ApproximateArrivalTimestamp"]
        arrived_at = arrived_at if isinstance(arrived_at, int | float) else arrived_at.timestamp()
        event_record = kinesis_record(
            stream_arn=self._stream_arn,
            shard_id=self._shard_id,
            sequence_number=number,
            data=data,
            partition_key=key or None,
            arrived_at=arrived_at,
        )
        return item_of(event_record, arrived_at)

    def _invoke(self, function: Function, action: Invoke) -> None:
        numbers = [item.sequence_number for item in action.items]
        self._progress.batches += 1
        self._progress.records += len(numbers)
        self._progress.redelivered += sum(number <= self._highest_delivered for number in numbers)
        self._highest_delivered = max(self._highest_delivered, numbers[-1])
        timeout = self._settings.function_timeout_in_seconds
        context = RealContext(timeout)
        self._request_id = context.aws_request_id
        try:
            answer = read_back(function(event_of(action.items), context))
            if context.get_remaining_time_in_millis() == 0:
                raise TimeoutError(f"the function answered after its time-out of {timeout:g} s")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # Lambda survives any function.
            self._progress.failures += 1
            # No traceback: its message can quote a payload at any length.
            log.error(
                "%s: %d records of shard %s from %d on have failed: %s",
                self._runner._name,
                len(numbers),
                self._shard_id,
                numbers[0],
                reason(error),
            )
            self._mapping.failed(time.time())
            return
        self._mapping.answered(answer, time.time())
        self._progress.failures += self._mapping.checkpoint != numbers[-1]
        self._save()

    def _discard(self, action: Discard) -> None:
        """Tell the destination first, then pass the records: a crash between the two tells it twice, and loses nothing."""
        document = failure_document(
            action,
            stream_arn=self._stream_arn,
            shard_id=self._shard_id,
            function_arn=_FUNCTION_ARN,
            now=time.time(),
            request_id=self._request_id if action.invocations else None,
        )
        failures = 0
        while not self._tell(document):
            failures += 1
            if self._runner._stopping.wait(min(_LONGEST_BACKOFF, _BETWEEN_READS * 2.0 ** min(failures, 20))):
                # Not saved: they are delivered again after the next start.
                return
        self._progress.discarded += len(action.items)
        self._save()

    def _tell(self, document: dict[str, Any]) -> bool:
        if self._runner._on_failure is None:
            log.error("%s: records were given up: %s", self._runner._name, json.dumps(document))
            return True
        try:
            self._runner._on_failure(document)
        except Exception as error:  # noqa: BLE001  # Whatever it is, nobody has taken the records.
            log.error(
                "%s: the on-failure destination did not take records of shard %s, which waits: %s",
                self._runner._name,
                self._shard_id,
                reason(error),
            )
            return False
        return True

    def _save(self) -> None:
        checkpoint = self._mapping.checkpoint
        if checkpoint is not None and checkpoint != self._saved:
            self._runner._checkpoints.save(self._runner._name, self._runner._stream, self._shard_id, checkpoint)
            self._saved = self._progress.checkpoint = checkpoint


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _may_pass(error: Exception) -> bool:
    """Whether reading again later can help: not where the stream is gone, access denied, or the call itself wrong."""
    if not isinstance(error, ClientError):
        return isinstance(error, _PASSING_ERRORS)
    code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    return status >= 500 or status == 429 or code in _PASSING_CODES or "Throttl" in code
