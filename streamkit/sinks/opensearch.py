"""OpenSearch and Elasticsearch: documents into an index, and out of it, by bulk requests.

For Amazon OpenSearch Service, OpenSearch Serverless's search collections, and servers of one's own; Elasticsearch 7 and 8 take
the same requests. Needs urllib3 and tenacity, and botocore for Amazon's signatures: ``pip install
kinesis-streamkit[opensearch]``. None of them is imported before the first delivery. See docs/opensearch.md.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import msgspec

from ..aws import from_environment, repeat_until
from ..errors import ConfigurationError, Reject, SinkError
from .aws import Trouble
from .base import Refusal, Sink, Write
from .endpoint import url_of
from .halves import in_halves
from .opensearch_answers import Operation, of_item, of_request
from .opensearch_http import Answer, Asking, GivenClient, Http, NoAnswer, TimedOut
from .pacing import RequestSize

__all__ = ["OpenSearchSink"]

# Amazon takes 10 MiB in a request to a domain of small instances, 100 MiB to others, and advises to start from 5 MiB.
_REQUEST_BYTES = 5_000_000
# http.max_content_length, as servers have it that nobody has changed.
_DOCUMENT_BYTES = 100 * 1024 * 1024
_ID_BYTES = 512
_MOST_VERSION = 2**63 - 1
_INDEX = re.compile(r'[^A-Z\s\\/*?"<>|,#:_+-][^A-Z\s\\/*?"<>|,#:]*')
# Seconds. What a request has at least, even past the deadline, or an answer could never come; and what it has at most.
_SHORTEST = 1.0
_LONGEST = 60.0
# A request that was too large tells how much fits; less than this is no reason to send less. What was too slow may be so by
# its size, or for a while: then it is half as much, and by these steps more again.
_FEWEST_BYTES = 100_000
_STEP_BYTES = 500_000
# A gateway's and the server's own "it took too long".
_SLOW = (408, 504)
# An item has its status in any case, so that each keeps its place; and why it failed.
_ASKED = "items.*.status,items.*.error.type,items.*.error.reason"

_encode = msgspec.json.Encoder(decimal_format="number").encode
_TOO_LARGE = Trouble(SinkError("the request is larger than OpenSearch takes"), "invalid")


class OpenSearchSink(Sink):
    """The index ``index`` behind ``endpoint``, a URL or a host name.

        class Orders(RecordProcessor):
            search = OpenSearchSink.from_env("SEARCH_ENDPOINT", index="orders")

            def process(self, record):
                order = record.json()
                yield self.search.document(order["id"], {"total": order["total"]}, version=order["updated_at"])

    ``authorization`` is the value of the header of that name (``"ApiKey …"``, ``"Basic …"``), or a function that returns it:
    asked when it is needed first, and again after a 401. Without it requests to Amazon's hosts are signed with the credentials
    of the function's role; for another name of such a host give ``service`` ("es", or "aoss" for Serverless) and ``region``.

    ``template`` is an index template, or the path of a JSON file with one, put as ``_index_template/<template_name>`` before a
    container's first write; its ``index_patterns`` are ``index`` alone where it has none, and its name is ``index`` by default.
    It rules indexes that are made afterwards.

    ``client``, an ``opensearchpy.OpenSearch`` with ``max_retries=0``, is used in place of connections of the sink's own.

    A request goes out at 5 MB, or at 5,000 writes. Of several writes for one document, only what they come to is sent: the
    last; or, of those with versions, the highest. If it is refused, the one before takes its place.
    """

    request_writes: ClassVar[int] = 5000
    request_bytes: ClassVar[int | None] = _REQUEST_BYTES

    def __init__(
        self,
        endpoint: str,
        index: str,
        *,
        template: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        template_name: str | None = None,
        authorization: str | Callable[[], str] | None = None,
        service: Literal["es", "aoss"] | None = None,
        region: str | None = None,
        client: Any = None,
    ) -> None:
        if not _is_index(index):
            raise ConfigurationError(f"OpenSearchSink(index) takes an index's name, in lower case; got {index!r}")
        if service not in (None, "es", "aoss"):
            raise ConfigurationError(f'OpenSearchSink(service) is "es" or "aoss"; got {service!r}')
        self.index = index
        self._endpoint: Callable[[], str] = lambda: endpoint
        self._template = template
        self._template_name = template_name or index
        if not _is_index(self._template_name):
            raise ConfigurationError(
                f"OpenSearchSink(template_name) takes a name as an index has; got {template_name!r}"
            )
        self._template_is_put = template is None
        self._authorization, self._service, self._region = authorization, service, region
        self._client = client
        self._asking: Asking | None = None
        self._most_bytes = _REQUEST_BYTES
        self._size = RequestSize(_REQUEST_BYTES, least=_FEWEST_BYTES, step=_STEP_BYTES)

    @classmethod
    def from_env(cls, name: str, index: str, **options: Any) -> Self:
        """The endpoint that the environment variable ``name`` holds, read on first use; ``options`` are those of the class."""
        sink = cls("", index, **options)
        sink._endpoint = lambda: from_environment(name, sink._name, "OpenSearch's endpoint")
        return sink

    def document(
        self,
        id: str | int,  # noqa: A002 (the service's word)
        fields: Mapping[str, Any],
        *,
        version: int | None = None,
        routing: str | int | None = None,
        index: str | None = None,
    ) -> Write:
        """Index a document, in place of all of the one that has this id.

        ``id``: text of 1 to 512 bytes in UTF-8; a number stands for its digits. ``fields``: name → any value that JSON has, or
        that msgspec makes one of: ``datetime`` as RFC 3339 (one without a zone is UTC to OpenSearch), ``Decimal`` as a number,
        bytes as Base64.

        ``version``: a whole number from 0 to 2**63 - 1 that grows with every change of the document, such as the time of the
        change in microseconds. Then a repeat changes nothing, and what arrives after a later version is left out, which is
        success. Give one with all writes of an index or with none. ``routing`` chooses the shard; ``index`` is another index.

        Raises Reject for what can't be sent: no JSON, NaN among it, over 100 MiB, a wrong id, version or index. Its message
        never holds a value.
        """
        if not isinstance(fields, Mapping):
            raise Reject(f"a document's fields are a mapping, not {type(fields).__name__}")
        encoded = _encoded(fields)
        if len(encoded) > _DOCUMENT_BYTES:
            raise Reject(f"OpenSearch takes no document over 100 MiB; this one has {len(encoded):,} bytes")
        return self._operation(id, encoded, version, routing, index)

    def removal(
        self,
        id: str | int,  # noqa: A002 (the service's word)
        *,
        version: int | None = None,
        routing: str | int | None = None,
        index: str | None = None,
    ) -> Write:
        """Remove the document with this id; one that is not there is no error. The arguments are as those of ``document``.

        A removed document's version is remembered for ``index.gc_deletes``, a minute unless the index has it otherwise: what
        arrives later than that makes the document again.
        """
        return self._operation(id, None, version, routing, index)

    def _operation(self, doc_id: Any, document: bytes | None, version: Any, routing: Any, index: str | None) -> Write:
        name = _id(doc_id)
        action: dict[str, Any] = {"_id": name}
        if index is not None and index != self.index:
            if not _is_index(index):
                raise Reject("an index's name is text in lower case, without the signs that OpenSearch forbids")
            action["_index"] = index
        if routing is not None:
            if isinstance(routing, bool) or not isinstance(routing, str | int) or routing == "":
                raise Reject(f"a document's routing is text or a whole number, not {type(routing).__name__}")
            action["routing"] = str(routing)
        if version is not None:
            # Not "external", which would leave out the second of two changes with the same version, and call it a success.
            action |= {"version": _version(version), "version_type": "external_gte"}
        try:
            lines = _encode({"index" if document is not None else "delete": action}) + b"\n"
        except ValueError:
            raise Reject("a document's routing has half of a surrogate pair, which UTF-8 can't say") from None
        if document is not None:
            lines += document + b"\n"
        operation = Operation(index or self.index, name, action.get("routing"), version, document is None, lines)
        return Write(self, operation, size=len(lines))

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """See ``Sink.write``. docs/opensearch.md has the table of what an answer means.

        429, 5xx and broken connections are tried again, for a minute at most: of a request that was taken in part, only what
        was not. A request that is too large is sent in halves. What has no answer by the deadline is ``unavailable``.
        """
        if not writes:
            return []
        asking = self._connected()
        deadline = min(deadline, time.monotonic() + _LONGEST)
        trouble = self._put_template(asking, deadline)
        if trouble is not None:
            return [Refusal(write, trouble.error, "unavailable") for write in writes]
        lanes: dict[tuple[str, str, str | None], list[list[Write]]] = {}
        for write in writes:
            _add(lanes.setdefault(write.payload.document, []), write)
        # A document is in one request at a time, and on to its next write only after an answer: its order is kept.
        waiting = [_most(runs[0]) for runs in lanes.values()]
        refusals: list[Refusal] = []
        is_first = True
        while waiting:
            request = self._first_request(waiting)
            del waiting[: len(request)]
            troubles = self._send(asking, request, deadline, is_first)
            is_first = False
            for write in request:
                runs = lanes[write.payload.document]
                refusals += _settled(write, troubles.get(id(write)), runs)
                if runs:
                    waiting.append(_most(runs[0]))
        return refusals

    def close(self) -> None:
        if self._asking is not None:
            self._asking.close()
            self._asking = None

    @property
    def _allowed(self) -> int:
        """Bytes of a request of several writes: what fits, and what the service takes in time."""
        return min(self._most_bytes, self._size.bytes)

    def _first_request(self, waiting: list[Write]) -> list[Write]:
        size = 0
        for n, write in enumerate(waiting[: self.request_writes]):
            size += write.size
            if n and size > self._allowed:
                return waiting[:n]
        return waiting[: self.request_writes]

    def _send(self, asking: Asking, writes: list[Write], deadline: float, is_first: bool) -> dict[int, Trouble]:
        """Send a request until each of its writes is taken or refused for good, or there is no time: the others, by ``id``."""
        if not is_first and time.monotonic() >= deadline - _SHORTEST:
            return dict.fromkeys(map(id, writes), _no_time())
        left = list(writes)
        troubles: dict[int, Trouble] = {}

        def send_the_rest() -> bool:
            nonlocal left
            found = self._bulk(asking, left, deadline)
            for write in left:
                troubles.pop(id(write), None)
            troubles.update(found)
            left = [write for write in left if id(write) in found and found[id(write)].passes]
            return not left

        repeat_until(deadline - _SHORTEST, send_the_rest)
        return troubles

    def _bulk(self, asking: Asking, writes: list[Write], deadline: float) -> dict[int, Trouble]:
        """One request; in halves, where it is refused whole for what is in it. Troubles by ``id`` of the write."""
        found = in_halves(
            writes,
            lambda part: self._ask(asking, part, deadline),
            lambda: None if time.monotonic() < deadline - _SHORTEST else _no_time(),
        )
        return {id(writes[place]): trouble for place, trouble in found.items()}

    def _ask(self, asking: Asking, writes: Sequence[Write], deadline: float) -> dict[int, Trouble] | Trouble:
        """One request: the troubles of its writes, by place; or that of all together, which one of them may be at fault for."""
        body = b"".join(write.payload.lines for write in writes)
        if len(writes) > 1 and len(body) > self._allowed:
            # More was allowed when these were put together.
            return _TOO_LARGE
        timeout = max(deadline - time.monotonic(), _SHORTEST)
        # Of the server's wait for a shard that is away: a little less, so that its answer comes before this end hangs up.
        query = {"filter_path": _ASKED, "timeout": f"{max(int(timeout * 900), 500)}ms"}
        answer = _asked(asking, "POST", f"/{self.index}/_bulk", query, body, timeout)
        if isinstance(answer, Trouble):
            if isinstance(answer.error, TimedOut):
                self._size.too_large(len(body))
            return dict.fromkeys(range(len(writes)), answer)
        if answer.status in _SLOW:
            self._size.too_large(len(body))
        if 200 <= answer.status < 300:
            self._size.went_well(len(body))
            return _of_items(answer.content, writes)
        trouble = of_request(answer.status, answer.content)
        if trouble.kind == "unavailable":
            return dict.fromkeys(range(len(writes)), trouble)
        if answer.status == 413 and len(writes) > 1:
            self._most_bytes = min(self._most_bytes, max(len(body) // 2, _FEWEST_BYTES))
        return trouble

    def _put_template(self, asking: Asking, deadline: float) -> Trouble | None:
        """Put the template, unless it was; why it could not be."""
        if self._template_is_put:
            return None
        body = _encode({"index_patterns": [self.index], **self._read_template()})
        last: list[Trouble | None] = [None]

        def put() -> bool:
            timeout = max(deadline - time.monotonic(), _SHORTEST)
            answer = _asked(asking, "PUT", f"/_index_template/{self._template_name}", {}, body, timeout)
            if isinstance(answer, Trouble):
                last[0] = answer
            else:
                last[0] = None if 200 <= answer.status < 300 else of_request(answer.status, answer.content)
            return last[0] is None or not last[0].passes

        repeat_until(deadline - _SHORTEST, put)
        if last[0] is None:
            self._template_is_put = True
            return None
        error = SinkError(
            f"the index template {self._template_name!r} was not put, so nothing is written: {last[0].error}"
        )
        return Trouble(error, "unavailable")

    def _read_template(self) -> dict[str, Any]:
        template: Any = self._template
        if not isinstance(template, Mapping):
            try:
                with open(template, "rb") as file:
                    template = msgspec.json.decode(file.read())
            except (OSError, msgspec.MsgspecError) as error:
                raise ConfigurationError(f"{self._name} can't read its index template: {error}") from error
        if not isinstance(template, Mapping):
            raise ConfigurationError(f"{self._name} needs an index template that is a JSON object")
        return dict(template)

    def _connected(self) -> Asking:
        if self._asking is None:
            try:
                import tenacity  # noqa: F401
                import urllib3  # noqa: F401
            except ImportError as error:
                raise ImportError(
                    "OpenSearchSink needs urllib3 and tenacity: pip install kinesis-streamkit[opensearch]"
                ) from error
            if self._client is not None:
                self._asking = GivenClient(self._client)
            else:
                self._asking = Http(
                    self._url(), authorization=self._authorization, service=self._service, region=self._region
                )
        return self._asking

    def _url(self) -> str:
        wanted = "OpenSearch's endpoint, such as https://search-shop-abc123.us-east-1.es.amazonaws.com"
        return url_of(self._endpoint(), self._name, wanted)

    @property
    def _name(self) -> str:
        return self.owner or type(self).__name__


def _no_time() -> Trouble:
    return Trouble(SinkError("there was no time left to ask OpenSearch"), "unavailable")


def _asked(
    asking: Asking, method: str, path: str, query: dict[str, str], body: bytes, timeout: float
) -> Answer | Trouble:
    try:
        return asking.ask(method, path, query, body, timeout)
    except SinkError as error:
        return Trouble(error, "unavailable", passes=isinstance(error, NoAnswer))


def _of_items(content: Any, writes: Sequence[Write]) -> dict[int, Trouble]:
    items = content.get("items") if isinstance(content, dict) else None
    if not isinstance(items, list) or len(items) != len(writes):
        error = SinkError("OpenSearch took a request, and its answer does not tell of each write")
        return dict.fromkeys(range(len(writes)), Trouble(error, "unavailable", passes=True))
    found: dict[int, Trouble] = {}
    for place, (write, item) in enumerate(zip(writes, items, strict=True)):
        answer = next(iter(item.values()), None) if isinstance(item, dict) else None
        trouble = of_item(answer, write.payload)
        if trouble is not None:
            found[place] = trouble
    return found


def _add(runs: list[list[Write]], write: Write) -> None:
    """Add a document's next write to the last of its runs: with versions or without, for they can't be weighed against others."""
    if not runs or (runs[-1][-1].payload.version is None) != (write.payload.version is None):
        runs.append([])
    runs[-1].append(write)


def _most(run: list[Write]) -> Write:
    """Take from the run the write that all of it comes to: the last; of versions the highest, and the last of those."""
    place = max(range(len(run)), key=lambda n: (run[n].payload.version or 0, n))
    return run.pop(place)


def _settled(write: Write, trouble: Trouble | None, runs: list[list[Write]]) -> Iterator[Refusal]:
    """What of a document's writes is refused now that one has its answer; ``runs`` keeps what is to be sent next."""
    if trouble is None:
        runs.pop(0)
        return
    yield Refusal(write, trouble.error, trouble.kind)
    if trouble.kind == "unavailable":
        for other in (other for run in runs for other in run):
            yield Refusal(other, trouble.error, "unavailable")
        runs.clear()
        return
    if trouble.kind == "failed":
        for other in (other for run in runs[1:] for other in run):
            yield Refusal(other, SinkError("an earlier write for its document was not taken"), "unavailable")
        del runs[1:]
    if not runs[0]:
        runs.pop(0)


def _is_index(name: Any) -> bool:
    return (
        isinstance(name, str) and bool(_INDEX.fullmatch(name)) and name not in (".", "..") and len(name.encode()) <= 255
    )


def _id(doc_id: Any) -> str:
    if isinstance(doc_id, int) and not isinstance(doc_id, bool) and -(2**63) <= doc_id < 2**63:
        return str(int(doc_id))
    if not isinstance(doc_id, str):
        raise Reject(f"a document's id is text or a whole number of 64 bits, not {type(doc_id).__name__}")
    try:
        size = len(doc_id.encode())
    except UnicodeEncodeError:
        raise Reject("a document's id has half of a surrogate pair, which UTF-8 can't say") from None
    if not 1 <= size <= _ID_BYTES:
        raise Reject(f"a document's id in OpenSearch is 1 to {_ID_BYTES} bytes; this one has {size:,}")
    return str(doc_id)


def _version(version: Any) -> int:
    if isinstance(version, bool) or not isinstance(version, int):
        raise Reject(f"a document's version is a whole number, not {type(version).__name__}")
    if not 0 <= version <= _MOST_VERSION:
        raise Reject(
            "a document's version is 0 to 2**63 - 1; a Kinesis sequence number is more: take the time of the change, or a "
            "counter of the source's (docs/opensearch.md)"
        )
    return int(version)


def _encoded(fields: Mapping[str, Any]) -> bytes:
    try:
        encoded = _encode(fields if isinstance(fields, dict) else dict(fields))
    except TypeError as error:
        raise Reject(f"a document's fields have a value that JSON has not: {error}") from None
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise Reject("a document's fields have a value that JSON has not") from None
    # msgspec makes null of NaN and infinity, silently.
    if b"null" in encoded:
        for path in _not_finite(fields):
            raise Reject(f"the field {path!r} is not a finite number")
    # A line ends an action of the request. Only what was given as JSON already can have one, and there it is a space.
    return encoded.replace(b"\n", b" ") if b"\n" in encoded else encoded


def _not_finite(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, float):
        if not math.isfinite(value):
            yield path
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _not_finite(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _not_finite(inner, path)
