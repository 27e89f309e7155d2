"""The records that a failure document of AWS's is about, while the stream or a bucket still has them.

A document has no data: it names a shard, a first and a last sequence number, and how many records the batch had. So

  1. read the shard from the first number to the last, and nothing after it; from S3, take the records that are in the document;
  2. leave out what the mapping's filter would have, where one is given;
  3. open aggregates, and make an envelope of each record, under the event id that the function saw;
  4. compare with the batch: what is not there any more is *gone*, and is said; what is there beyond the batch's count is too
     much, and is said in each envelope.

A range holds other records too where the mapping has a filter or several lanes, and nothing in the document tells them
apart. They are taken as well: one record twice is better than one not at all. So is what an earlier answer had settled within
the first record's aggregate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import msgspec

from .claims.base import Claim
from .envelope import Envelope, Failure
from .errors import DecodeError, StreamkitError, Unavailable
from .letters import Discarded, Given, Message, Stored, Unreadable, function_name, iso, open_event, read
from .local.documents import kinesis_record
from .local.filters import Filters
from .plural import counted
from .reason import reason

__all__ = ["GONE", "Recovered", "Recovery", "Refused"]

T = TypeVar("T")

#: The error type of the letter that stands for records that nobody can fetch any more.
GONE = "Gone"

# More than a batch with the most lanes should span; and what a function of 256 MB can hold twice.
_MOST_RECORDS = 100_000
_MOST_BYTES = 64 * 1_048_576
_READ_RECORDS = 1000
# GetRecords: 5 a second a shard, over all its readers.
_BETWEEN_READS = 0.2
_LONGEST_BACKOFF = 5.0
# Of one object with a document: a batch is at most 6 MB of JSON, but for single records of up to 10 MiB.
_LARGEST_OBJECT = 64 * 1_048_576
_PASSING_CODES = (
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
    "SlowDown",
)
_MISSING_OBJECT = ("NoSuchKey", "NoSuchVersion", "404")


class Refused(StreamkitError):
    """AWS does not do what was asked, and would not if it were asked again. ``code`` is its code for why."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Recovered(msgspec.Struct):
    """What became of a document: ``gone`` records of ``batch_size`` can't be had any more, and ``surplus`` are not of the batch.

    ``envelopes`` are in the order of the stream. Where something is gone, the last one stands for that: it has no data, and its
    failure is of the type ``GONE``.
    """

    envelopes: list[Envelope]
    gone: int = 0
    surplus: int = 0


class Recovery:
    """Makes envelopes of what ``letters.read`` could not: documents, and objects in S3.

    ``clients`` gives boto3's client of a service in a region ("" is the default one). A throttle or an outage is waited out for
    ``patience`` seconds, then it is Unavailable. ``filters`` are the mapping's own, ``processor`` the name for records whose
    document does not tell it. Bodies of claims are read from ``claims_bucket`` alone, where one is given. A notification can name
    any bucket: which ones are read is for the role's permissions to say.
    """

    def __init__(
        self,
        clients: Callable[[str, str], Any],
        *,
        processor: str = "",
        filters: Filters | None = None,
        claims_bucket: str | None = None,
        patience: float = 60.0,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = clients
        self.processor = processor
        self._filters = filters
        self._claims_bucket = claims_bucket
        self.patience = patience
        self._sleep = sleep
        self._clock = clock

    def letters(self, message: Message) -> Recovered:
        """Everything that ``message`` stands for.

        Raises Unreadable, UnknownVersion, Unavailable, and Refused.
        """
        whole = Recovered([])
        for given in self._read(message):
            one = self.of(given)
            whole.envelopes += one.envelopes
            whole.gone += one.gone
            whole.surplus += one.surplus
        return whole

    def of(self, given: Given) -> Recovered:
        """The envelopes of one thing that was read."""
        if isinstance(given, Envelope):
            return Recovered([given])
        if isinstance(given, Discarded):
            return self.discarded(given)
        return self.stored(given)

    def stored(self, stored: Stored) -> Recovered:
        """What an object in S3 holds. Unreadable where it is not there, or is none of streamkit's or AWS's."""
        whole = Recovered([])
        for given in self._read(Message(id=f"s3://{stored.bucket}/{stored.key}", body=self.text(stored))):
            if isinstance(given, Stored):
                raise Unreadable(f"s3://{stored.bucket}/{stored.key} is a notification about another object")
            one = self.of(given)
            whole.envelopes += one.envelopes
            whole.gone += one.gone
            whole.surplus += one.surplus
        return whole

    def text(self, stored: Stored) -> str:
        """The object's text."""
        place = f"s3://{stored.bucket}/{stored.key}"
        arguments = {"Bucket": stored.bucket, "Key": stored.key}
        if stored.version is not None:
            arguments["VersionId"] = stored.version

        def get() -> bytes:
            answer = self._clients("s3", "").get_object(**arguments)
            with answer["Body"] as body:
                content: bytes = body.read(_LARGEST_OBJECT + 1)
            if len(content) < min(answer["ContentLength"], _LARGEST_OBJECT + 1):
                raise ConnectionError("S3's answer ended early")
            return content

        try:
            content = self._patiently("S3", get)
        except Refused as error:
            if error.code in _MISSING_OBJECT:
                raise Unreadable(f"there is no object {place} any more") from error
            raise
        if len(content) > _LARGEST_OBJECT:
            raise Unreadable(f"{place} has more than {_LARGEST_OBJECT:,} bytes, as no document has")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise Unreadable(f"{place} is not text") from None

    def discarded(self, document: Discarded) -> Recovered:
        """The records of a failure document. Where some are gone, one more letter says how many and which range."""
        if document.first is None or document.last is None:
            return Recovered([])
        is_cut = False
        if document.records is not None:
            raws = document.records
        else:
            raws = self._fetched(document)
            is_cut = not raws or int(raws[0]["kinesis"]["sequenceNumber"]) != int(document.first)
        if self._filters:
            before, raws = len(raws), [raw for raw in raws if _wanted(self._filters, raw)]
            if len(raws) < document.batch_size <= before:
                raise StreamkitError(
                    f"the filter that was given wants {len(raws):,} of the records in the range of {document.stream}/"
                    f"{document.shard_id}, and the batch had {document.batch_size:,}: give the mapping's own, or none"
                )
        missing = max(0, document.batch_size - len(raws))
        if is_cut:
            # The first record was of the batch, so that one at least is gone.
            missing = max(missing, 1)
        surplus = max(0, len(raws) - document.batch_size)
        note = ""
        if surplus:
            note = f"; its range holds {counted(surplus, 'record')} more than its batch had, so this one may have been processed"
        processor = self.processor or function_name(document.function_arn)
        failure = document.failure(note)
        envelopes = [
            msgspec.structs.replace(
                envelope,
                failures=(failure,),
                correlation={**envelope.correlation, "lambda_request_id": document.request_id},
            )
            for envelope in (open_event({"Records": raws}, processor, None) if raws else ())
        ]
        if missing:
            until = str(int(raws[0]["kinesis"]["sequenceNumber"]) - 1) if is_cut and raws else document.last
            envelopes.append(_gone(document, processor, failure, missing, until))
        return Recovered(envelopes, missing, surplus)

    def fetch(self, claim: Claim) -> str:
        """The text that a claim stands for, checked as its queue's own store would. DecodeError where it is gone."""
        import hashlib

        if self._claims_bucket not in (None, claim.bucket):
            raise Unavailable(f"its body is in another bucket than {self._claims_bucket}: {claim.place}")
        try:
            body = self.text(Stored(claim.bucket, claim.key))
        except Unreadable as error:
            raise DecodeError(str(error), claim.event_id) from None
        content = body.encode()
        if len(content) != claim.bytes or hashlib.sha256(content).hexdigest() != claim.sha256:
            raise DecodeError(f"its body is not what was put there: {claim.place}", claim.event_id)
        return body

    def _read(self, message: Message) -> list[Given]:
        return read(message, processor=self.processor, fetch=self.fetch)

    def _fetched(self, document: Discarded) -> list[dict[str, Any]]:
        """What the shard still has of the document's range, as Lambda's event has it."""
        first, last = int(document.first or 0), int(document.last or 0)
        raws: list[dict[str, Any]] = []
        size = 0
        for record in self._shard(document):
            number = int(record["SequenceNumber"])
            if number > last:
                break
            if number < first:
                continue
            size += len(record["Data"])
            if len(raws) >= _MOST_RECORDS or size > _MOST_BYTES:
                raise StreamkitError(
                    f"the range of {document.stream}/{document.shard_id} that it names holds more than {len(raws):,} records or "
                    f"{_MOST_BYTES:,} bytes, and its batch had {document.batch_size:,}: too much to be taken at once. While the "
                    f"stream has them, read them by a program of your own, from {document.first} to {document.last}"
                )
            raws.append(
                kinesis_record(
                    stream_arn=document.stream_arn,
                    shard_id=document.shard_id,
                    sequence_number=record["SequenceNumber"],
                    data=record["Data"],
                    partition_key=record.get("PartitionKey"),
                    arrived_at=record["ApproximateArrivalTimestamp"].timestamp(),
                )
            )
            if number == last:
                break
        return raws

    def _shard(self, document: Discarded) -> Iterator[Any]:
        """The shard's records from the document's first on, up to now."""
        client = self._clients("kinesis", document.region)
        # The ARN for a stream of another account, the name for stand-ins that know no ARN there.
        where = {"StreamName": document.stream, "StreamARN": document.stream_arn, "ShardId": document.shard_id}
        start: dict[str, Any] = {
            "ShardIteratorType": "AT_SEQUENCE_NUMBER",
            "StartingSequenceNumber": document.first,
        }
        iterator: str | None = None
        while True:
            if iterator is None:
                iterator = self._iterator(client, document, where, start)
                if iterator is None:
                    return
            try:
                answer = self._patiently(
                    f"Kinesis, for {document.stream}/{document.shard_id}",
                    partial(
                        client.get_records, ShardIterator=iterator, StreamARN=document.stream_arn, Limit=_READ_RECORDS
                    ),
                )
            except Refused as error:
                # Five minutes old, as after a long wait for a throttle: a new one goes on after what was read.
                if error.code != "ExpiredIteratorException":
                    raise
                iterator = None
                continue
            yield from answer["Records"]
            if answer["Records"]:
                start = {
                    "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                    "StartingSequenceNumber": answer["Records"][-1]["SequenceNumber"],
                }
            iterator = answer.get("NextShardIterator")
            if iterator is None or (not answer["Records"] and not answer.get("MillisBehindLatest")):
                return
            self._sleep(_BETWEEN_READS)

    def _iterator(self, client: Any, document: Discarded, where: dict[str, Any], start: dict[str, Any]) -> str | None:
        """Where to read from; None where the shard is gone, with all that was in it."""
        stream = f"Kinesis, for {document.stream}/{document.shard_id}"
        try:
            answer = self._patiently(stream, lambda: client.get_shard_iterator(**where, **start))
        except Refused as error:
            if error.code == "ResourceNotFoundException":
                # A shard ends to be there with its last record. But of a stream that is not there nothing is known: it may be the
                # wrong account, and nothing may be called gone for that.
                self._patiently(stream, lambda: client.describe_stream_summary(StreamARN=document.stream_arn))
                return None
            if error.code != "InvalidArgumentException":
                raise
            # The number is older than everything that the shard has, or is none of its own.
            start = {"ShardIteratorType": "TRIM_HORIZON"}
            answer = self._patiently(stream, lambda: client.get_shard_iterator(**where, **start))
        iterator: str | None = answer["ShardIterator"]
        return iterator

    def _patiently(self, what: str, call: Callable[[], T]) -> T:
        """What ``call`` returns, tried again while its error can pass. Unavailable when the patience is over."""
        give_up_at = self._clock() + self.patience
        backoff = _BETWEEN_READS
        while True:
            try:
                return call()
            except Exception as error:
                if not _may_pass(error):
                    if _code(error):
                        raise Refused(f"{what}: {reason(error)}", _code(error)) from error
                    raise
                if self._clock() + backoff >= give_up_at:
                    raise Unavailable(f"{what}: {reason(error)}") from error
                self._sleep(backoff)
                backoff = min(_LONGEST_BACKOFF, backoff * 2)


def _gone(document: Discarded, processor: str, failure: Failure, missing: int, until: str) -> Envelope:
    """The letter that stands for what is lost: nobody has its data, and nobody should have to look for it again."""
    where = f"{document.stream}/{document.shard_id}"
    text = (
        f"{counted(missing, 'record')} of the batch's {document.batch_size:,} can't be fetched any more: the stream's retention "
        f"had passed (from {document.first} to {until})"
    )
    return Envelope(
        event_id=f"{where}:{document.first}-{document.last}:gone",
        source="kinesis",
        processor=processor,
        data=None,
        sequence_number=document.first,
        shard_id=document.shard_id,
        stream_arn=document.stream_arn,
        failures=(failure, Failure(attempt=None, type=GONE, message=f"{GONE}: {text}", time=iso(time.time()))),
        correlation={"lambda_request_id": document.request_id},
    )


def _wanted(filters: Filters, raw: Any) -> bool:
    from .b64 import decode

    try:
        return filters.wants(decode(raw["kinesis"]["data"]))
    except (KeyError, TypeError, ValueError):
        return True  # It fails for itself, where records are made of it.


def _code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _may_pass(error: Exception) -> bool:
    """Whether waiting can mend it: a throttle, an outage, no connection; not what AWS refuses, nor an error of this process."""
    from botocore.exceptions import ConnectionError as EndpointError
    from botocore.exceptions import HTTPClientError
    from botocore.parsers import ResponseParserError

    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        return status >= 500 or status == 429 or _code(error) in _PASSING_CODES or "Throttl" in _code(error)
    return isinstance(error, HTTPClientError | EndpointError | ResponseParserError | OSError)
