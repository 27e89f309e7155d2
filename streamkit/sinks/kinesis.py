"""Amazon Kinesis: records into another stream, the order of a key kept.

The function's role needs ``kinesis:PutRecords`` on the stream. Needs boto3 and tenacity: ``pip install kinesis-streamkit[aws]``.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, ClassVar

from ..errors import ConfigurationError, Reject, Unavailable
from ..record import Record
from .aws import BatchSink, Trouble, data_of
from .base import Write

__all__ = ["KinesisSink"]

_RECORD_BYTES = 1_048_576
_LARGEST_RECORD = 10 * 1_048_576
_LONGEST_KEY = 256
_HASH_KEY = re.compile(r"0|[1-9][0-9]{0,38}")


class KinesisSink(BatchSink):
    """The stream of this name or ARN.

        class Forward(RecordProcessor):
            copies = KinesisSink.from_env("COPIES")

            def process(self, record):
                yield self.copies.record(record.data, record.partition_key)

    A request has up to 500 records and 10 MiB, and **of each partition key one**: PutRecords may refuse the first of two and take
    the second. So a batch in which one key has n records takes n requests; a record that was refused is sent again before the
    next of its key, and where it stays refused, they do too.

    A stream takes records of 1 MiB, the key included; set ``record_bytes`` for one that takes more, up to 10 MiB. A repeat is
    a second record, for Kinesis dedupes nothing: readers that mind have to know events by an id of their own.

    ``client`` is boto3's Kinesis client; by default one is made on first use, in the region that an ARN names.
    """

    request_writes: ClassVar[int] = 500
    request_bytes: ClassVar[int | None] = 10 * 1_048_576
    _service: ClassVar[str] = "kinesis"
    _wanted: ClassVar[str] = "the name or ARN of a Kinesis stream"
    _content_codes: ClassVar[frozenset[str]] = frozenset(
        {"InvalidArgumentException", "ValidationException", "ParamValidationError"}
    )
    _target: ClassVar[str] = "'stream"
    _call_entries: ClassVar[int] = 500
    _call_bytes = 10 * 1_048_576

    def __init__(self, stream: str, *, record_bytes: int = _RECORD_BYTES, client: Any = None) -> None:
        super().__init__(stream, client=client)
        if not 1 <= record_bytes <= _LARGEST_RECORD:
            raise ConfigurationError(
                f"KinesisSink(record_bytes) is from 1 to {_LARGEST_RECORD:,}; got {record_bytes!r}"
            )
        self._record_bytes = record_bytes

    def record(self, data: Any, partition_key: str, *, explicit_hash_key: str | None = None) -> Write:
        """A record of the stream. ``data``: bytes as they are, text in UTF-8, anything else as JSON.

        ``partition_key`` has 1 to 256 characters, ``explicit_hash_key`` is a decimal text of up to 128 bits. Reject for what
        Kinesis would always refuse.
        """
        content = data_of(data)
        if not isinstance(partition_key, str) or not 1 <= len(partition_key) <= _LONGEST_KEY:
            raise Reject(f"a partition key is a text of 1 to {_LONGEST_KEY} characters")
        try:
            size = len(content) + len(partition_key.encode())
        except UnicodeEncodeError:
            raise Reject("a partition key is a text in UTF-8") from None
        if size > self._record_bytes:
            raise Reject(
                f"the stream takes records of {self._record_bytes:,} bytes; this one has {size:,} with its key"
            )
        if explicit_hash_key is not None and (
            not _HASH_KEY.fullmatch(explicit_hash_key) or int(explicit_hash_key) >= 2**128
        ):
            raise Reject("an explicit hash key is a decimal text from 0 to 2**128 - 1")
        return Write(self, (content, partition_key, explicit_hash_key), size=size)

    def onward(self, record: Record) -> Write:
        """The record's data under its keys; one without a partition key has its event id for one.

        Unavailable where this is the stream that the record is from: it would come back for ever.
        """
        if record.stream_arn is not None and record.stream_arn == self.place:
            raise Unavailable(f"{self.place} is the record's own stream, and it would come back for ever: name another")
        key = record.partition_key or record.event_id
        if len(key) > _LONGEST_KEY:
            key = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self.record(record.data, key, explicit_hash_key=record.explicit_hash_key)

    def _lane(self, write: Write) -> str | None:
        key: str = write.payload[1]
        return key

    def _entry(self, name: str, write: Write) -> dict[str, Any]:
        data, key, hash_key = write.payload
        entry: dict[str, Any] = {"Data": data, "PartitionKey": key}
        if hash_key is not None:
            entry["ExplicitHashKey"] = hash_key
        return entry

    def _call(self, client: Any, entries: list[dict[str, Any]]) -> dict[int, Trouble]:
        stream = self.place
        target = {"StreamARN": stream} if stream.startswith("arn:") else {"StreamName": stream}
        return self._troubles_of(entries, client.put_records(**target, Records=entries).get("Records", ()))
