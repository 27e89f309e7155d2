"""A stream of a real Kinesis endpoint, read by GetRecords or, where a consumer is named, by enhanced fan-out.

Most of what a read costs is boto3's parsing of each record. So ``Records`` are taken out of the answer before boto3 parses
it, by botocore's event ``before-parse`` on the client that was given. The hook acts within a feed's own calls only: other
uses of the client get what they always got. Where it does not fire (botocore before 1.35.16), or the answer is not of
Kinesis's own form, boto3's records are put into that form: the same records, slower.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NotRequired, TypedDict

import msgspec
from botocore.exceptions import ClientError, CredentialRetrievalError, HTTPClientError
from botocore.exceptions import ConnectionError as EndpointError
from botocore.parsers import ResponseParserError

from ..aws import code_of
from ..errors import ConfigurationError
from .documents import raw_record
from .feed import Feed, Page, Position, Shard, Stream
from .subscription import SubscriptionFeed, iterator_arguments, resumed

__all__ = ["KinesisStream", "PollingFeed"]

# The most that GetRecords brings, beside 10 MiB.
_READ_RECORDS = 10_000
_THROTTLE_CODES = ("ProvisionedThroughputExceededException", "LimitExceededException")
# Errors that time mends, beside throttles and those of status 5xx.
_PASSING_CODES = (
    # Expired as soon as it was made.
    "ExpiredIteratorException",
    # The stream is being made, or the shard's last subscription is less than five seconds old.
    "ResourceInUseException",
    # In an event stream there is no status.
    "InternalFailureException",
)
_PASSING_ERRORS = (HTTPClientError, EndpointError, ResponseParserError, CredentialRetrievalError, OSError)


class KinesisStream(Stream):
    """The stream ``name``, by ``client``, boto3's for Kinesis.

    With the ARN of a registered consumer its shards are read by enhanced fan-out, at 2 MiB/s each for this consumer alone.
    ConfigurationError where it is another stream's: its positions would be saved as this one's. Registering one costs
    money and outlives the reader, so that is left to its owner: ``aws kinesis register-stream-consumer``.
    """

    def __init__(self, client: Any, name: str, *, consumer_arn: str | None = None) -> None:
        if consumer_arn is not None and f":stream/{name}/consumer/" not in consumer_arn:
            raise ConfigurationError(
                f"{consumer_arn!r} is not the ARN of a consumer of the stream {name}, which is "
                f"arn:aws:kinesis:<region>:<account>:stream/{name}/consumer/<consumer>:<time>; "
                "`aws kinesis list-stream-consumers` names those there are"
            )
        self.name = name
        self._client = client
        self._consumer_arn = consumer_arn

    def check_consumer(self) -> None:
        """ConfigurationError where the consumer is of a stream of the same name, in another region or account."""
        if self._consumer_arn is not None and not self._consumer_arn.startswith(f"{self.arn}/consumer/"):
            raise ConfigurationError(
                f"{self._consumer_arn} is not a consumer of {self.arn}, the stream {self.name} here: "
                "check its region and account; `aws kinesis list-stream-consumers` names those there are"
            )

    @cached_property
    def _summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = self._client.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]
        return summary

    @property
    def arn(self) -> str:
        """The stream's ARN, asked for once."""
        arn: str = self._summary["StreamARN"]
        return arn

    @property
    def event_source_arn(self) -> str:
        """The consumer's ARN, or the stream's where there is no consumer."""
        return self._consumer_arn or self.arn

    @property
    def retention(self) -> float:
        """Seconds for which the stream keeps a record, asked for once."""
        return float(self._summary["RetentionPeriodHours"] * 3600)

    def shards(self) -> list[Shard]:
        """The shards that hold records or may get some, closed ones included."""
        listed: list[dict[str, Any]] = []
        arguments: dict[str, Any] = {"StreamName": self.name}
        while arguments:
            answer = self._client.list_shards(**arguments)
            listed += answer["Shards"]
            arguments = {"NextToken": answer["NextToken"]} if answer.get("NextToken") else {}
        ids = {shard["ShardId"] for shard in listed}
        return [
            Shard(shard["ShardId"], tuple(parent for parent in _parents(shard) if parent in ids)) for shard in listed
        ]

    def feed(self, shard_id: str) -> Feed:
        """A new feed of that shard."""
        if self._consumer_arn is not None:
            return SubscriptionFeed(self._client, self._consumer_arn, shard_id)
        return PollingFeed(self._client, self.name, shard_id)

    def may_pass(self, error: Exception) -> bool:
        """Whether reading again later can help: not where the stream is gone, access denied, or the call itself wrong."""
        if not isinstance(error, ClientError):
            return isinstance(error, _PASSING_ERRORS)
        return _status(error) >= 500 or self.is_throttle(error) or code_of(error) in _PASSING_CODES

    def is_throttle(self, error: Exception) -> bool:
        """Whether the service says that this is too much, as it does above five reads a second or 2 MiB/s of a shard."""
        if not isinstance(error, ClientError):
            return False
        code = code_of(error)
        return _status(error) == 429 or code in _THROTTLE_CODES or "Throttl" in code


def _parents(shard: dict[str, Any]) -> list[str]:
    return [shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if shard.get(name)]


class PollingFeed(Feed):
    """A shard by GetRecords: up to 10,000 records or 10 MiB a read. All readers of the shard share five reads a second."""

    def __init__(self, client: Any, stream: str, shard_id: str) -> None:
        self._client = client
        self._shard = {"StreamName": stream, "ShardId": shard_id}
        self._iterator: str | None = None
        self._began_at: float | None = None
        # Under one id it is one registration, however many feeds there are.
        client.meta.events.register(_BEFORE_PARSE, _take_records, unique_id="streamkit.local.kinesis")

    def read(self, position: Position) -> Page:
        """The records from ``position`` on. An iterator that has expired, as it does in five minutes, is replaced."""
        try:
            answer = self._get_records(position)
        except ClientError as error:
            if code_of(error) != "ExpiredIteratorException":
                raise
            self._iterator = None
            answer = self._get_records(position)
        records = answer.get("Records")
        if records is None:
            # boto3 takes a body that is no JSON for an empty answer.
            raise ResponseParserError("the answer to GetRecords was cut off, or was not that of Kinesis")
        if records and isinstance(records[0]["Data"], bytes):
            records = [raw_record(record) for record in records]
        self._iterator = answer.get("NextShardIterator")
        return Page(records, (answer.get("MillisBehindLatest") or 0) / 1000, has_ended=self._iterator is None)

    def _get_records(self, position: Position) -> dict[str, Any]:
        if self._iterator is None:
            asked_at = time.time()
            starting = iterator_arguments(resumed(position, self._began_at))
            self._iterator = self._client.get_shard_iterator(**self._shard, **starting)["ShardIterator"]
            self._began_at = self._began_at or asked_at
        with _raw_records():
            answer: dict[str, Any] = self._client.get_records(ShardIterator=self._iterator, Limit=_READ_RECORDS)
        return answer


class _Record(TypedDict):
    SequenceNumber: str
    Data: str
    ApproximateArrivalTimestamp: float
    PartitionKey: NotRequired[str | None]


class _Answer(msgspec.Struct):
    records: list[_Record] = msgspec.field(name="Records")
    next_iterator: str | None = msgspec.field(name="NextShardIterator", default=None)
    milliseconds_behind: int | None = msgspec.field(name="MillisBehindLatest", default=None)


_BEFORE_PARSE = "before-parse.kinesis.GetRecords"
_answers = msgspec.json.Decoder(_Answer)


class _Reading(threading.local):
    """Whether this thread is in a feed's call. botocore parses an answer on the thread that has asked."""

    is_on = False


_reading = _Reading()


@contextmanager
def _raw_records() -> Iterator[None]:
    _reading.is_on = True
    try:
        yield
    finally:
        _reading.is_on = False


def _take_records(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """botocore's handler: what is put into ``customized_response_dict`` is in the answer as it is."""
    if not _reading.is_on or response_dict["status_code"] >= 300:
        return
    try:
        answer = _answers.decode(response_dict["body"])
    except msgspec.DecodeError:
        # Not as Kinesis sends it, as where times are text: boto3 understands more forms, or raises what tells the reader.
        return
    customized_response_dict["Records"] = answer.records
    customized_response_dict["NextShardIterator"] = answer.next_iterator
    customized_response_dict["MillisBehindLatest"] = answer.milliseconds_behind
    response_dict["body"] = b"{}"


def _status(error: ClientError) -> int:
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    return status
