"""Amazon S3: objects into a bucket.

The function's role needs ``s3:PutObject`` on the objects. Needs boto3 and tenacity: ``pip install kinesis-streamkit[aws]``.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, ClassVar

from ..errors import ConfigurationError, Reject
from ..record import Record
from .aws import CallSink, Trouble, data_of
from .base import Write

__all__ = ["S3Sink"]

_LONGEST_KEY = 1024
# S3's characters that need no care, and the two that write ids are made of; others are written as their bytes.
_UNSAFE = re.compile(rb"[^A-Za-z0-9!_.*'()/:-]")
_ARN = "arn:aws:s3:::"


class S3Sink(CallSink):
    """The bucket of this name, or of an ARN as ``arn:aws:s3:::bucket/prefix/``: one object a write, ``concurrency`` at once.

        class Archive(RecordProcessor):
            archive = S3Sink.from_env("ARCHIVE", prefix="orders/")

            def process(self, record):
                yield self.archive.object(record.data)

    An object's key is its write id behind the prefix, or the one that is given: so a repeat replaces the object, and each record
    is there once. That is why a batch is not one object: a batch that comes again is cut elsewhere. It costs a request for each
    record; where that is too dear, let Amazon Data Firehose read the stream, and its readers dedupe.

    Of several writes for one key the last stands.
    """

    request_writes: ClassVar[int] = 100
    request_bytes: ClassVar[int | None] = 64 * 1_048_576
    _service: ClassVar[str] = "s3"
    _wanted: ClassVar[str] = "the name of an S3 bucket"
    _content_codes: ClassVar[frozenset[str]] = frozenset(
        {"EntityTooLarge", "KeyTooLongError", "InvalidArgument", "ParamValidationError"}
    )
    _target: ClassVar[str] = "bucket"

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        content_type: str = "application/octet-stream",
        concurrency: int = 8,
        client: Any = None,
    ) -> None:
        super().__init__(bucket, concurrency=concurrency, client=client)
        if len(prefix.encode()) > _LONGEST_KEY // 2:
            raise ConfigurationError(f"S3Sink(prefix) has {_LONGEST_KEY // 2} bytes at most")
        self._prefix = prefix
        self._content_type = content_type

    def object(self, data: Any, *, key: str | None = None, content_type: str | None = None) -> Write:
        """An object. ``data``: bytes as they are, text in UTF-8, anything else as JSON. ``key`` stands behind the prefix.

        Reject for what S3 would always refuse.
        """
        content = data_of(data)
        if key is not None:
            try:
                size = len((self._prefix + key).encode())
            except UnicodeEncodeError:
                raise Reject("an object's key is a text in UTF-8") from None
            if not key or size > _LONGEST_KEY:
                raise Reject(f"an object's key has 1 to {_LONGEST_KEY:,} bytes, its prefix included")
        return Write(self, (content, key, content_type or self._content_type), size=len(content))

    def onward(self, record: Record) -> Write:
        """The record's data under its write id."""
        return self.object(record.data)

    def _lane(self, write: Write) -> Any:
        return self._key(write)

    def _key(self, write: Write) -> str:
        given: str | None = write.payload[1]
        if given is not None:
            return self._prefix + given
        written = write.write_id.encode("utf-8", "surrogatepass")
        safe = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], written).decode()
        if len(self._prefix.encode()) + len(safe) > _LONGEST_KEY:
            safe = hashlib.sha256(written).hexdigest()
        return self._prefix + safe

    def _make(self, client: Any, write: Write) -> Trouble | None:
        bucket, _, folder = self.place.removeprefix(_ARN).partition("/")
        content, _, content_type = write.payload
        client.put_object(Bucket=bucket, Key=folder + self._key(write), Body=content, ContentType=content_type)
        return None
