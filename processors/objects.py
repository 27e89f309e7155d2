"""Each line of a new object in S3 becomes a record of a stream: how a file is loaded into what else is fed by events.

Deploy it with the handler ``processors.objects.handler`` behind a bucket's notifications, directly or through a topic or a queue;
or subclass ``ObjectsProcessor`` and override ``key`` or ``process``. Set up by

    STREAM                   required: the stream's name or ARN
    LINE_KEY                 path of the field of a line's JSON that is the partition key. Without it keys are made so that lines
                             spread over all shards
    MOST_BYTES               the largest object, and the most that is unpacked of a gzip one; default 67108864
    MOST_LINES               the most lines of an object; default 1000000. With the record that is made of it each takes 300 bytes
    PROCESSOR_NAME           default "objects"; persistent
    RETRY_QUEUE_URL          SQS, and a trigger of this function: an object that failed is tried again by it. Without it Lambda
                             tries twice more
    DEAD_LETTER_QUEUE_URL    SQS; an object that can never be loaded goes there

They are read at the first invocation. Of an object with a line that is no JSON, or lacks the field of LINE_KEY, nothing is
put. One that is gone or written again meanwhile is passed over: that has an event of its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import msgspec

from streamkit import Record, Reject, Write, lambda_handler
from streamkit.objects import Gone, Objects, StoredObject, objects_of
from streamkit.sinks.kinesis import KinesisSink

from .base import EventProcessor
from .mapping import MissingField, field
from .settings import whole_number

__all__ = ["ObjectsProcessor", "handler"]

log = logging.getLogger("streamkit")


class ObjectsProcessor(EventProcessor):
    """Override ``key`` for partition keys that no field has."""

    name = "objects"
    ordering = "none"

    def __init__(self) -> None:
        super().__init__()
        self.key_path = os.environ.get("LINE_KEY")
        self.objects = Objects(
            most_bytes=whole_number("MOST_BYTES", 67_108_864, least=1),
            most_lines=whole_number("MOST_LINES", 1_000_000, least=1),
        )
        self.stream = KinesisSink.from_env("STREAM")
        self.stream.owner = f"{type(self).__name__}.stream"

    def key(self, line: bytes, place: str, number: int) -> str:
        """The partition key of a line, the ``number``th of the object at ``place``. Raise ``Reject`` for one that has none."""
        if not self.key_path:
            return f"{number}"
        try:
            found = field(msgspec.json.decode(line), self.key_path)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Reject(f"line {number} of {place} is no JSON") from None
        except MissingField as error:
            raise MissingField(f"line {number} of {place}: {error}") from None
        if not isinstance(found, str | int | float) or isinstance(found, bool):
            raise Reject(f"line {number} of {place} has no text and no number in its field {self.key_path}")
        return str(found)

    def process(self, record: Record) -> Iterator[Write]:
        for found in objects_of(record):
            if not found.is_removed:
                yield from self._lines(found)

    def _lines(self, found: StoredObject) -> Iterator[Write]:
        try:
            lines = self.objects.lines(found)
        except Gone as error:
            log.warning("%s: %s", self.name, error)
            return
        for number, line in enumerate(lines, 1):
            yield self.stream.record(line, self.key(line, found.place, number))

    def close(self) -> None:
        self.objects.close()


handler = lambda_handler(ObjectsProcessor)
