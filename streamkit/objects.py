"""Objects in S3 that events tell of: what they say, and what the objects hold.

    class Imports(RecordProcessor):
        bucket = Objects()

        def process(self, record):
            for found in objects_of(record):
                if not found.is_removed:
                    for line in self.bucket.lines(found):
                        ...

S3 tells of each object at least once, now and then twice, and in no order: a bucket is no stream (docs/triggers.md). Needs boto3
and tenacity: ``pip install kinesis-streamkit[aws]``. The function's role needs ``s3:GetObject`` on the objects,
``s3:GetObjectVersion`` where the bucket has versions, and ``s3:ListBucket`` on the bucket, without which S3 says "forbidden" of
an object that is gone.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from .aws import Clients, code_of, may_pass, retried
from .deadline import ruling
from .errors import ConfigurationError, Reject, Unavailable
from .gunzip import GZIP, DamagedGzip, TooMuchInGzip, gunzip
from .reason import reason
from .record import Record

__all__ = ["Gone", "Objects", "StoredObject", "objects_of"]

_MOST_BYTES = 64 * 1024 * 1024
# Bytes that are taken at once, of those that have come: between two pieces is a look at the clock.
_LARGEST_PIECE = 256 * 1024
# Bytes a second, of what has no other end: any line has more, and the largest object comes in a quarter of an hour.
_LEAST_RATE = 64 * 1024
# With its write a line takes some 300 bytes, however short it is.
_MOST_LINES = 1_000_000
_GONE = ("NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed")
_CHANGED = ("PreconditionFailed", "412")
# The request itself is wrong, which is made of nothing but the event: no later one is any better.
_WRONG = ("KeyTooLongError", "InvalidArgument", "InvalidBucketName", "InvalidURI")
# Of all that S3 calls an InvalidRequest, what it says of an object stored with a key of its customer's own (SSE-C), which nobody
# has here. The others are of the client, as a signature of the wrong version.
_OTHERS_KEY = "stored using a form of Server Side Encryption"
# As boto3 has it, and what it lets through besides: an access point, which no event names.
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_ARN = re.compile(r"arn:[!-~]{1,2000}")
# Directory buckets, and access points of Outposts: none of them tells of its objects.
_SILENT = ("--x-s3", "--op-s3")
# In bytes, as S3 has it.
_LONGEST_KEY = 1024
# What a header can hold, and a query; real ones have 70 characters at most.
_TAG = re.compile(r"[!-~]{1,1024}")


class Gone(Reject):
    """The object is not there any more as the event tells of it: it was deleted, or written again, which has an event of its
    own. For who does not mind, ``except Gone: return``.
    """


class StoredObject(msgspec.Struct, frozen=True):
    """One object, as an event tells of it. ``key`` is the object's own, without the escapes of the event.

    ``event`` is S3's name for what happened (``ObjectCreated:Put``), or EventBridge's (``Object Created``).
    """

    bucket: str
    key: str
    event: str
    size: int | None = None
    etag: str | None = None
    version_id: str | None = None
    sequencer: str | None = None

    @property
    def is_removed(self) -> bool:
        """Whether it tells that the object, or a version of it, is there no more."""
        return self.event.startswith(("ObjectRemoved:", "LifecycleExpiration:", "Object Deleted"))

    @property
    def place(self) -> str:
        """``s3://bucket/key``, for errors."""
        return f"s3://{self.bucket}/{self.key}"


def objects_of(record: Record) -> list[StoredObject]:
    """The objects that a record tells of, whichever way it came: from the bucket; from a queue or a topic between, or both; from
    EventBridge; or out of a retry queue or dead letters.

    S3's test event, which it sends when a notification is set up, tells of none. Reject for what is no event of S3's.
    """
    return [_told(one) for one in _events(record.json())]


def _events(event: Any, depth: int = 0) -> list[Any]:
    if isinstance(event, Mapping) and depth < 3:
        if isinstance(event.get("Records"), list):
            return list(event["Records"])
        if "s3" in event or event.get("source") == "aws.s3":
            return [event]
        if event.get("Event") == "s3:TestEvent":
            return []
        if event.get("Type") == "Notification" and isinstance(event.get("Message"), str):
            # What a topic has put around it.
            try:
                return _events(msgspec.json.decode(event["Message"]), depth + 1)
            except (msgspec.MsgspecError, RecursionError):
                pass
    raise Reject("the record is no event of S3's: it tells of no object")


def _told(event: Any) -> StoredObject:
    try:
        if event.get("source") == "aws.s3":
            # EventBridge's has the key as it is.
            detail = event["detail"]
            what, bucket, name, key = detail["object"], detail["bucket"]["name"], event["detail-type"], None
            key = what["key"]
        else:
            what, bucket, name = event["s3"]["object"], event["s3"]["bucket"]["name"], event["eventName"]
            key = unquote_plus(what["key"], errors="strict")
        found = {
            "bucket": bucket,
            "key": key,
            "event": name.removeprefix("s3:"),
            "size": what.get("size"),
            "etag": what.get("eTag", what.get("etag")),
            "version_id": what.get("versionId", what.get("version-id")),
            "sequencer": what.get("sequencer"),
        }
        told = msgspec.convert(found, StoredObject)
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, msgspec.ValidationError):
        raise Reject("the record is no event of S3's: it names no bucket, or no key of an object") from None
    if fault := _fault(told) or ("it names an access point, and no bucket" if told.bucket.startswith("arn:") else ""):
        raise Reject(f"the record is no event of S3's: {fault}")
    return told


def _fault(found: StoredObject) -> str:
    """Why S3 can be asked for no such object, without a word of what it is instead; empty where it can be."""
    if not (_BUCKET.fullmatch(found.bucket) or _ARN.fullmatch(found.bucket)):
        return "its bucket has a name that no bucket can have"
    if found.bucket.endswith(_SILENT):
        return "its bucket is of a kind that has no events"
    if not 1 <= len(found.key.encode(errors="replace")) <= _LONGEST_KEY:
        return f"its key is empty, or has more than {_LONGEST_KEY:,} bytes"
    if found.etag is not None and not _TAG.fullmatch(found.etag):
        return "its ETag is none that S3 gives"
    if found.version_id is not None and not _TAG.fullmatch(found.version_id):
        return "its version is none that S3 gives"
    return ""


class Objects:
    """Reads objects of up to ``most_bytes``, which is also the most that a compressed one may have inside; and of these lines up
    to ``most_lines``, empty ones among them.

    Memory is bounded by both: some four times the bytes, and for each line 300 bytes with a write of it.

    An attempt that fails for a passing reason is repeated for ``patience`` seconds, and one that gets its object may take all the
    time that the invocation has. Without an invocation it may take any, as long as more than 64 KiB a second come.
    ``client`` is boto3's S3 client; by default one is made on first use. It can be shared by the threads of one processor.
    """

    def __init__(
        self,
        *,
        most_bytes: int = _MOST_BYTES,
        most_lines: int = _MOST_LINES,
        patience: float = 20.0,
        client: Any = None,
    ) -> None:
        for option, most in (("most_bytes", most_bytes), ("most_lines", most_lines)):
            if isinstance(most, bool) or not isinstance(most, int) or most < 1:
                raise ConfigurationError(f"Objects({option}) is a whole number, 1 or more; got {most!r}")
        if isinstance(patience, bool) or not isinstance(patience, int | float) or not patience >= 0:
            raise ConfigurationError(f"Objects(patience) is seconds, 0 or more; got {patience!r}")
        self._most_bytes = most_bytes
        self._most_lines = most_lines
        self._patience = patience
        self._clients = Clients("s3", "Objects", client)

    def read(self, found: StoredObject) -> bytes:
        """All of the object: of the version that the event tells of, and never of a later one.

        Raises Gone where that is there no more; Reject for one that is too large, archived, or stored with its customer's own
        key, and for a name, ETag or version that S3 can't have; Unavailable where S3 does not answer or refuses the credentials.
        """
        if fault := _fault(found):
            raise Reject(f"there can be no such object in S3: {fault}")
        if found.is_removed:
            raise Gone(f"{found.place} was removed: there is nothing to read")
        if found.size is not None:
            self._check_size(found, found.size)
        # Tries may begin until the one time, and a read that gets on goes on to the other: a large object takes longer than an
        # outage may.
        invocation = ruling.get()
        end = math.inf if invocation is None else invocation.of_request()
        deadline = min(time.monotonic() + self._patience, end)
        client = self._clients.until(deadline)
        try:
            size, content = retried(deadline, lambda: self._got(client, found, end), _may_pass)
        except Exception as error:
            if _is_unsent(error) and _can_ask(client):
                raise Reject(f"S3 can't be asked for {found.place}: {reason(error)}") from error
            code = code_of(error)
            if code in _GONE:
                raise Gone(f"{found.place} is not there any more") from error
            if code in _CHANGED:
                raise Gone(f"{found.place} was written again since: that has an event of its own") from error
            if code == "InvalidObjectState":
                raise Reject(f"{found.place} is archived: restore it, then bring its event again") from error
            if code == "InvalidRequest" and _OTHERS_KEY in str(error):
                raise Reject(f"{found.place} was stored with a key that S3 does not keep (SSE-C)") from error
            if code == "NoSuchBucket":
                # No Gone, which who reads may pass over: a client at a wrong endpoint knows no bucket at all.
                raise Reject(f"there is no bucket {found.bucket} where the client asks for it") from error
            if code in _WRONG:
                raise Reject(f"S3 takes {found.place} for no object's name: {reason(error)}") from error
            raise Unavailable(f"{found.place} can't be read: {reason(error)}") from error
        self._check_size(found, size)
        return content

    def lines(self, found: StoredObject) -> list[bytes]:
        """The object's lines without their ends (LF or CRLF), empty ones left out. One that is gzip is unpacked.

        Raises what ``read`` does, and Reject for gzip that is damaged or has too much in it, and for too many lines.
        """
        content = self.read(found)
        if content.startswith(GZIP):
            content = self._unpacked(found, content)
        # Before there is an object of Python's for each: a kilobyte of gzip can hold a million.
        if (count := content.count(b"\n") + (not content.endswith(b"\n"))) > self._most_lines:
            raise Reject(f"{found.place} has {count:,} lines: Objects(most_lines) is {self._most_lines:,}")
        return [line for part in content.split(b"\n") if (line := part.removesuffix(b"\r"))]

    def close(self) -> None:
        """Close the clients that were made here."""
        self._clients.close()

    def _got(self, client: Any, found: StoredObject, end: float) -> tuple[int, bytes]:
        """The object's size and its content; none of one that is too large."""
        asked = {"Bucket": found.bucket, "Key": found.key}
        if found.version_id is not None:
            asked["VersionId"] = found.version_id
        # With a version too: "null" is of whatever was written last while the bucket's versions were suspended.
        if found.etag is not None:
            asked["IfMatch"] = found.etag
        answer = client.get_object(**asked)
        length: int = answer["ContentLength"]
        with answer["Body"] as body:
            content = _whole(body, end, max(self._patience, 1.0)) if length <= self._most_bytes else b""
        if len(content) < length <= self._most_bytes:
            raise ConnectionError("S3's answer ended early")
        return length, content

    def _check_size(self, found: StoredObject, size: int) -> None:
        if size > self._most_bytes:
            raise Reject(
                f"{found.place} has {size:,} bytes: Objects(most_bytes) is {self._most_bytes:,}. What is larger is no work for "
                "one invocation"
            )

    def _unpacked(self, found: StoredObject, content: bytes) -> bytes:
        try:
            return gunzip(content, self._most_bytes)
        except TooMuchInGzip:
            raise Reject(
                f"{found.place} has more than {self._most_bytes:,} bytes in its gzip: Objects(most_bytes)"
            ) from None
        except DamagedGzip as error:
            raise Reject(f"{found.place} can't be unpacked: {error}") from None


def _may_pass(error: Exception) -> bool:
    return may_pass(error) and not _is_unsent(error)


def _is_unsent(error: Exception) -> bool:
    """Whether boto3 has refused to make a request of it: of a name that it can't make an address of, or as it is set up."""
    from botocore.exceptions import EndpointProviderError, InvalidHostLabelError, ParamValidationError

    return isinstance(error, EndpointProviderError | InvalidHostLabelError | ParamValidationError)


def _can_ask(client: Any) -> bool:
    """Whether the client makes an address of a plain name: where it does not, it is set up wrong, and no name is at fault."""
    from botocore.exceptions import BotoCoreError

    try:
        # Sends nothing.
        client.generate_presigned_url("get_object", Params={"Bucket": "any-bucket", "Key": "any"})
    except BotoCoreError as error:
        return not _is_unsent(error)
    return True


def _reader(body: Any) -> Callable[[int], bytes]:
    """Reads what has come, where ``body.read`` waits for all that it is asked for."""
    if hasattr(body, "read1"):
        return body.read1  # type: ignore[no-any-return]  # It is urllib3's.
    # Before its version 2 urllib3 has none, but what it reads from. Its own sees the end then, and gives the connection back.
    return lambda size: body._fp.read1(size) or body.read(size)


def _whole(body: Any, end: float, window: float) -> bytes:
    """What is left of the answer. TimeoutError where it trickles past ``end``; where that is never, at less than the least rate
    for ``window`` seconds. A client's time-out is of each packet.
    """
    read = _reader(body)
    content = bytearray()
    since, due = time.monotonic(), 0
    while piece := read(_LARGEST_PIECE):
        content += piece
        now = time.monotonic()
        if now >= end:
            raise TimeoutError(f"the time was up after {len(content):,} bytes of it")
        if end == math.inf and now - since >= window:
            came = len(content) - due
            if came < _LEAST_RATE * (now - since):
                raise TimeoutError(f"it trickles: {came:,} bytes of it came in {now - since:.0f} s")
            since, due = now, len(content)
    return bytes(content)
