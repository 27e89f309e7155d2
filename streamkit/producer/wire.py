"""PutRecords and ListShards by boto3, and what their errors mean.

The client is made once, by ``open``. It checks no parameters and tries nothing again: both is done here. Its own JSON encoder
takes some twenty times as long as the encoder below, so the body of PutRecords is put into the request by a handler of botocore's
event ``before-call``. A client that was given keeps what it is: it is called as usual.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec
import pybase64

from ..aws import code_of, make_client, whole_answers
from ..errors import ConfigurationError
from .outbox import Request
from .shards import ShardMap

__all__ = ["Meaning", "Wire", "meaning_of", "message_of"]

_CONNECT_SECONDS, _READ_SECONDS = 5.0, 15.0
_LONGEST_MESSAGE = 300
_INVALID = ("ValidationException", "InvalidArgumentException")
_PASSING = (
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
    "ResourceInUseException",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
)


class Meaning(Enum):
    """Of an error in place of PutRecords' answer."""

    NOT_NOW = "nothing of it was taken, and it may be later"
    PERHAPS = "nobody knows what of it was taken"
    INVALID = "a record of it, or all of it, is wrong"
    NEVER = "it will not be taken"


def meaning_of(error: Exception) -> Meaning:
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):
        code = code_of(error)
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        if code in _INVALID:
            return Meaning.INVALID
        if status == 429 or code in _PASSING or "Throttl" in code:
            return Meaning.NOT_NOW
        return Meaning.PERHAPS if status >= 500 else Meaning.NEVER
    from botocore import exceptions

    if isinstance(error, exceptions.EndpointConnectionError | exceptions.ConnectTimeoutError):
        return Meaning.NOT_NOW
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        return Meaning.PERHAPS
    is_of_boto3 = isinstance(error, exceptions.BotoCoreError)
    return Meaning.NEVER if is_of_boto3 or isinstance(error, ConfigurationError) else Meaning.PERHAPS


def message_of(error: Exception) -> str:
    """One line, without what a service might quote at length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


class Wire:
    """``stream`` is a name or an ARN. Safe in threads; ``connections`` is how many call at once."""

    def __init__(self, stream: str, client: Any, connections: int) -> None:
        self._stream = {"StreamARN" if stream.startswith("arn:") else "StreamName": stream}
        self._client = whole_answers(client)
        self._is_given = client is not None
        self._connections = connections
        self._making = threading.Lock()
        self._head = msgspec.json.encode(self._stream)[:-1] + b',"Records":['
        # What the thread's call has for a body.
        self._bodies = threading.local()

    def open(self) -> Any:
        """The client, made where there is none."""
        if self._client is None:
            with self._making:
                if self._client is None:
                    self._client = self._make()
        return self._client

    def put(self, request: Request) -> list[dict[str, Any]]:
        """The ``Records`` of the answer, one for each parcel."""
        contents = [parcel.content() for parcel in request.parcels]
        client = self.open()
        if self._is_given:
            answer = client.put_records(**self._stream, Records=[_record(*content) for content in contents])
        else:
            pieces = [piece for content in contents for piece in _json(*content)]
            # The first one's comma is one too many.
            self._bodies.body = b"".join((self._head, pieces[0][1:], *pieces[1:], b"]}"))
            try:
                answer = client.put_records(**self._stream, Records=[])
            finally:
                del self._bodies.body
        records: list[dict[str, Any]] = answer["Records"]
        return records

    def shards(self) -> ShardMap:
        """All the stream's shards, closed ones too."""
        client = self.open()
        answer = client.list_shards(**self._stream)
        shards = list(answer["Shards"])
        while token := answer.get("NextToken"):
            answer = client.list_shards(NextToken=token)
            shards += answer["Shards"]
        return ShardMap.of_answer(shards)

    def close(self) -> None:
        """Close the client that was made here, and not one that was given."""
        if self._client is not None and not self._is_given:
            self._client.close()

    def _make(self) -> Any:
        client = make_client(
            "kinesis",
            "Producer",
            (_CONNECT_SECONDS, _READ_SECONDS),
            session=True,
            parameter_validation=False,
            max_pool_connections=self._connections,
            tcp_keepalive=True,
        )
        client.meta.events.register("before-call.kinesis.PutRecords", self._put_body)
        return client

    def _put_body(self, params: dict[str, Any], **_: Any) -> None:
        params["body"] = self._bodies.body


def _record(data: bytes | bytearray, partition_key: str, explicit_hash_key: str | None) -> dict[str, Any]:
    record: dict[str, Any] = {"Data": data, "PartitionKey": partition_key}
    if explicit_hash_key is not None:
        record["ExplicitHashKey"] = explicit_hash_key
    return record


_encode: Callable[[Any], bytes] = msgspec.json.encode


def _json(data: bytes | bytearray, partition_key: str, explicit_hash_key: str | None) -> tuple[bytes, ...]:
    """A comma and the record, in pieces: what is large is copied once."""
    # An explicit hash key has digits only.
    hash_key = b"" if explicit_hash_key is None else b'","ExplicitHashKey":"' + explicit_hash_key.encode()
    key = _encode(partition_key)[:-1]
    return b',{"Data":"', pybase64.b64encode(data), b'","PartitionKey":', key, hash_key, b'"}'
