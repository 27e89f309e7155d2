"""Amazon CloudSearch: documents into a search domain, and out of it.

Needs boto3, which Lambda carries, and tenacity: ``pip install kinesis-streamkit[cloudsearch]``. Neither is imported
before the first delivery. The function's role needs ``cloudsearch:document`` on the domain.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar, Self

import msgspec

from ..aws import whole_answers
from ..errors import ConfigurationError, Reject, SinkError
from .base import Refusal, Sink, Write

__all__ = ["CloudSearchSink"]

# CloudSearch's developer guide, "Understanding Amazon CloudSearch Limits" and "Creating Document Batches". It says 5 MB and
# 1 MB without saying which: batches keep to the smaller reading; a document between the two is left to the service.
_BATCH_BYTES = 5_000_000
_DOCUMENT_BYTES = 1024 * 1024
_DOCUMENT_FIELDS = 200
_FIELD_VALUES = 1000
_ID = re.compile(r"[A-Za-z0-9_\-=#;:/?@&]{1,128}")
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
# The service refuses, in JSON too, what XML 1.0 does not allow: most control characters, surrogates, U+FFFE and U+FFFF.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# The region, in the host that a domain's document endpoint has.
_REGION = re.compile(r"\.([a-z0-9-]+)\.cloudsearch\.amazonaws\.com")

# Seconds. A request's time-out is what is left, in steps, so that a client can be kept from one request to the next.
_SHORTEST = 1.0
_LONGEST = 64.0

_encode = msgspec.json.Encoder(decimal_format="number").encode


class CloudSearchSink(Sink):
    """The domain whose document endpoint is ``endpoint``: a URL, or a host name as the console shows it.

        class Airports(RecordProcessor):
            search = CloudSearchSink.from_env("SEARCH_ENDPOINT")

            def process(self, record):
                airport = record.json()
                yield self.search.document(airport["iata"], {"name": airport["name"]})

    ``client`` is a boto3 ``cloudsearchdomain`` client to use instead of one made on first use. Its own time-outs and
    retries apply then, so give it short ones and ``retries={"total_max_attempts": 1}``. Requests are signed with the
    credentials and the region that boto3 finds, but for a region that the endpoint's name tells.

    A batch goes out at 5 MB, or at 5,000 writes: documents of 1 kB make one 5 MB batch. The service takes about one
    batch every 10 s from a sender for long, and is billed by the batch, so large invocations suit it.

    Of several writes for one id in a request only the last is sent. It stands for those before it; if the service
    refuses it, the one before takes its place. Sending a write again has no further effect. The service does not keep
    the order of two batches that reach it within the same second.
    """

    request_writes: ClassVar[int] = 5000
    # A write's size has its comma; the batch has one bracket more.
    request_bytes: ClassVar[int | None] = _BATCH_BYTES - 1

    def __init__(self, endpoint: str, *, client: Any = None) -> None:
        self._endpoint: Callable[[], str] = lambda: endpoint
        self._given = whole_answers(client)
        self._client: Any = None
        self._timeout = 0.0
        self._session: Any = None

    @classmethod
    def from_env(cls, name: str, *, client: Any = None) -> Self:
        """The domain whose document endpoint the environment variable ``name`` holds; it is read on first use."""
        sink = cls("", client=client)
        sink._endpoint = lambda: sink._from_environment(name)
        return sink

    def document(self, id: str | int, fields: Mapping[str, Any]) -> Write:  # noqa: A002 (the service's word)
        """Add a document, in place of all of the one that has this id.

        ``id``: 1 to 128 of the characters A-Z a-z 0-9 _ - = # ; : / ? @ &; a number stands for its digits.
        ``fields``: name → value, or a list of up to 1,000 values, 200 fields at most. A name has 1 to 64 characters a-z
        0-9 _, begins with a letter and is not ``score``. Values are text, without the characters that XML 1.0 forbids
        (they are left out), numbers (whole ones of 64 bits), ``date``, aware ``datetime`` (sent in UTC, to the
        millisecond) and bool, which CloudSearch does not have: 1 or 0. A value of None is left out, and so is a list
        without values: a document without the field is how CloudSearch says null. A place is text, ``"39.86,-104.67"``.

        Raises Reject for what the service would always refuse, a document over 1 MB or without any value among it, so
        that the record goes to dead letters. Its message names the field and never holds what is in it.
        """
        document: dict[str, Any] = {}
        if not isinstance(fields, Mapping):
            raise Reject(f"a document's fields are a mapping, not {type(fields).__name__}")
        for name, value in fields.items():
            if not isinstance(name, str):
                raise Reject(f"a field's name is text, not {type(name).__name__}")
            if not _FIELD.fullmatch(name) or name == "score":
                raise Reject(
                    f"CloudSearch can't have a field named {name[:65]!r}: 1 to 64 of a-z 0-9 _, a letter first, not score"
                )
            sent = _field(name, value)
            if sent is not None:
                document[name] = sent
        if not document:
            raise Reject("CloudSearch takes no document without a value in any field")
        if len(document) > _DOCUMENT_FIELDS:
            raise Reject(f"CloudSearch takes {_DOCUMENT_FIELDS} fields in a document; this one has {len(document)}")
        return self._operation({"type": "add", "id": _id(id), "fields": document})

    def removal(self, id: str | int) -> Write:  # noqa: A002 (the service's word)
        """Remove the document with this id; one that is not there is no error. Raises Reject for an id as ``document``."""
        return self._operation({"type": "delete", "id": _id(id)})

    def _operation(self, operation: dict[str, Any]) -> Write:
        encoded = _encode(operation)
        if len(encoded) > _DOCUMENT_BYTES:
            raise Reject(f"CloudSearch takes documents of 1 MB; this one has {len(encoded):,} bytes")
        return Write(self, (operation["id"], encoded), size=len(encoded) + 1)

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """See ``Sink.write``.

        The service refuses a batch whole for one bad document and does not say which in a form to rely on, so a refused
        batch is sent again in halves until the bad one is alone, and ``invalid``. Throttling (429, 503, 507, 509), other
        5xx and broken connections are retried, for a minute at most. When something else stands in the way (403, 404, no
        credentials), or time is up, all that has no answer yet is ``unavailable``.
        """
        of_id: dict[str, list[Write]] = {}
        for write in writes:
            of_id.setdefault(write.payload[0], []).append(write)
        # An id is in one batch at a time, and on to its next write only after an answer: its order is kept.
        batches = _packed([same.pop() for same in of_id.values()])
        refusals: list[Refusal] = []
        tried = False
        while batches:
            batch = batches.pop()
            try:
                if tried and time.monotonic() + _SHORTEST > deadline:
                    raise SinkError("there was no time left to ask CloudSearch")
                tried = True
                self._upload(batch, deadline)
            except _BatchRefused as refused:
                if len(batch) > 1:
                    middle = len(batch) // 2
                    batches += batch[middle:], batch[:middle]
                    continue
                doc_id, operation = batch[0].payload
                refusals.append(Refusal(batch[0], refused.of(operation), "invalid"))
                if of_id[doc_id]:
                    batches.append([of_id[doc_id].pop()])
            except SinkError as error:
                for write in (write for unanswered in (batch, *batches) for write in unanswered):
                    refusals += (Refusal(w, error, "unavailable") for w in (*of_id[write.payload[0]], write))
                break
        return refusals

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _upload(self, batch: list[Write], deadline: float) -> None:
        """Send one batch until there is an answer that stands, or no time: _BatchRefused, or SinkError for any other."""
        boto3, tenacity = _imported()
        from botocore.exceptions import BotoCoreError, ClientError

        body = b"[" + b",".join(write.payload[1] for write in batch) + b"]"
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_passes),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
            stop=tenacity.stop_before_delay(min(deadline - _SHORTEST - time.monotonic(), 60.0)),
            reraise=True,
        )
        try:
            answer = retrying(self._post, boto3, body, deadline)
        except ClientError as error:
            # Without the cause: its message may quote a document, and a traceback would show it.
            raise (_BatchRefused(error) if _refuses_the_batch(error) else SinkError(_what_to_do(error))) from None
        except BotoCoreError as error:
            raise SinkError(f"CloudSearch can't be asked: {error}") from error
        if answer.get("status") != "success" or answer.get("adds", 0) + answer.get("deletes", 0) != len(batch):
            raise SinkError("CloudSearch took a batch and did not count all of it")

    def _post(self, boto3: Any, body: bytes, deadline: float) -> dict[str, Any]:
        client = self._given or self._connected(boto3, deadline - time.monotonic())
        answer: dict[str, Any] = client.upload_documents(documents=body, contentType="application/json")
        return answer

    def _connected(self, boto3: Any, remaining: float) -> Any:
        """A client whose requests end within ``remaining`` seconds. boto3 has a time-out for each client only."""
        timeout = 2.0 ** math.floor(math.log2(min(max(remaining, _SHORTEST), _LONGEST)))
        if self._client is None or self._timeout != timeout:
            from botocore.config import Config

            self.close()
            url = self._url()
            region = _REGION.search(url)
            self._session = self._session or boto3.session.Session()
            config = Config(
                connect_timeout=timeout / 4,
                read_timeout=timeout * 3 / 4,
                retries={"total_max_attempts": 1},
                max_pool_connections=1,
            )
            region_name = region[1] if region else None
            made = self._session.client("cloudsearchdomain", endpoint_url=url, region_name=region_name, config=config)
            self._client = whole_answers(made)
            self._timeout = timeout
        return self._client

    def _url(self) -> str:
        endpoint = self._endpoint()
        url = endpoint if "://" in endpoint else f"https://{endpoint}"
        if not re.fullmatch(r"https?://[^/\s?#@]+/?", url):
            raise ConfigurationError(
                f"{self._name} needs a CloudSearch domain's document endpoint, such as "
                "https://doc-shop-abc123.us-east-1.cloudsearch.amazonaws.com, without a path"
            )
        return url

    def _from_environment(self, name: str) -> str:
        endpoint = os.environ.get(name)
        if not endpoint:
            raise ConfigurationError(
                f"{self._name} needs the environment variable {name}: the CloudSearch domain's document endpoint"
            )
        return endpoint

    @property
    def _name(self) -> str:
        return self.owner or type(self).__name__


class _BatchRefused(SinkError):
    """The service does not take a batch because of what is in it."""

    def __init__(self, error: Any) -> None:
        super().__init__(f"HTTP {_status(error)}, {_code(error)}")
        self.message = str(error.response.get("Error", {}).get("Message", ""))

    def of(self, operation: bytes) -> SinkError:
        """Why the one document of a batch was refused: of the service's message only the fields that it names."""
        message = self.message.partition("(near operation")[0]
        fields = msgspec.json.decode(operation).get("fields", {})
        named = [name for name in fields if re.search(rf"['\"]{name}['\"]", message)]
        named = named or [name for name in fields if re.search(rf"\b{name}\b", message)]
        if not named:
            return SinkError(f"CloudSearch refused the document ({self})")
        return SinkError(
            f"CloudSearch refused the document over its field {', '.join(map(repr, named))} ({self}): is it configured, "
            "with a type that takes this value?"
        )


def _id(doc_id: Any) -> str:
    if isinstance(doc_id, int) and not isinstance(doc_id, bool) and 0 <= doc_id < 2**63:
        return str(doc_id)
    if not isinstance(doc_id, str):
        raise Reject(f"a document's id is text or a whole number from 0, not {type(doc_id).__name__}")
    if not _ID.fullmatch(doc_id):
        raise Reject("a document's id in CloudSearch is 1 to 128 of the characters A-Z a-z 0-9 _ - = # ; : / ? @ &")
    return doc_id


def _field(name: str, value: Any) -> Any:
    """What is sent for a field's value; None for no field at all."""
    if not isinstance(value, list | tuple):
        return _value(name, value)
    if len(value) > _FIELD_VALUES:
        raise Reject(f"CloudSearch takes {_FIELD_VALUES:,} values in a field; {name!r} has {len(value):,}")
    return [sent for one in value if (sent := _value(name, one)) is not None] or None


def _value(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return _FORBIDDEN.sub("", value)
    if value is None:
        return None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        value = int(value)  # An enum's, too.
        if not -(2**63) <= value < 2**63:
            raise Reject(f"the field {name!r} has a whole number of more than 64 bits; send an identifier as text")
        return value
    if isinstance(value, float | Decimal):
        if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
            raise Reject(f"the field {name!r} is not a finite number")
        return value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise Reject(f"the field {name!r} is a time without a time zone")
        try:
            value = value.astimezone(UTC)
        except OverflowError:
            raise Reject(f"the field {name!r} is a time that UTC has no date for") from None
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    raise Reject(f"the field {name!r} is of the type {type(value).__name__}, which CloudSearch has no value for")


def _packed(writes: Iterable[Write]) -> list[list[Write]]:
    """Batches of at most one request, to be taken from the end."""
    batches: list[list[Write]] = []
    size = 0
    for write in writes:
        size += write.size
        if not batches or size >= _BATCH_BYTES:
            batches.append([])
            size = write.size
        batches[-1].append(write)
    return batches[::-1]


def _passes(error: BaseException) -> bool:
    """Whether it may be gone at the next try: throttling, a server's error, a connection that could not be used."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        status = _status(error)
        return status in (408, 429) or status >= 500 or "Throttl" in _code(error)
    return isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError)


def _refuses_the_batch(error: Any) -> bool:
    status = _status(error)
    return status == 413 or (status == 400 and _code(error) == "DocumentServiceException")


def _what_to_do(error: Any) -> str:
    status = _status(error)
    said = f"HTTP {status}, {_code(error)}"
    if status in (401, 403):
        return f"CloudSearch does not let this function in ({said}): allow its role cloudsearch:document on the domain"
    if status == 404:
        return f"no document service answers there ({said}): is the endpoint the domain's document endpoint?"
    return f"CloudSearch did not take the batch ({said})"


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _imported() -> tuple[Any, Any]:
    """boto3 and tenacity, which cold starts must not pay for before there is something to deliver."""
    try:
        import boto3
        import tenacity
    except ImportError as error:
        raise ImportError(
            "CloudSearchSink needs boto3 and tenacity: pip install kinesis-streamkit[cloudsearch]"
        ) from error
    return boto3, tenacity
