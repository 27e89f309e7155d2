"""Amazon CloudSearch: documents into a search domain, and out of it.

Needs boto3, which Lambda carries: ``pip install kinesis-streamkit[cloudsearch]``. It is not imported before the first
delivery. The function's role needs ``cloudsearch:document`` on the domain, ``cloudsearch:DescribeIndexFields`` for
``check_fields``, and ``cloudsearch:search`` for ``version_field``. See docs/cloudsearch.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import msgspec

from ..aws import from_environment
from ..errors import ConfigurationError, Reject, SinkError
from .base import NotAsked, Refusal, Sink, Write
from .cloudsearch_document import document_id, field_name, fields_of
from .cloudsearch_domain import SHORTEST, BatchRefused, Endpoint, Passing
from .cloudsearch_fields import DomainFields
from .cloudsearch_order import OneSecond, in_turn
from .cloudsearch_versions import HeldVersions, queries, versions_shown
from .endpoint import url_of
from .pacing import Pace, RequestSize

__all__ = ["CloudSearchSink"]

log = logging.getLogger("streamkit")

# CloudSearch's developer guide, "Understanding Amazon CloudSearch Limits" and "Creating Document Batches". It says 5 MB and
# 1 MB without saying which: batches keep to the smaller reading; a document between the two is left to the service.
_BATCH_BYTES = 5_000_000
_DOCUMENT_BYTES = 1024 * 1024
# A batch that was too much is halved down to this, and grows again by a tenth of the most.
_LEAST_BYTES = 100_000
_STEP_BYTES = 500_000
# Hits of one search, the most that the service returns.
_HITS = 10_000
# Seconds of tries while the service takes nothing. Who waits longer pays for a function that does nothing.
_RETRY_TIME = 60.0

_encode = msgspec.json.Encoder(decimal_format="number").encode


class _Operation(NamedTuple):
    """What a write is of: ``operation`` as it is sent; ``fields`` only where they are checked."""

    id: str
    operation: bytes
    version: int | None
    fields: dict[str, Any] | None


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
    batch every 10 s from a sender for long, and is billed by the batch, so large invocations suit it. When it has too
    much, batches go out up to 10 s apart and in sizes down to 100 kB, in later invocations of the container too, until it
    takes them again.

    Of several writes for one id in a request only the last is sent. It stands for those before it; if the service
    refuses it, the one before takes its place. Sending a write again has no further effect. The service does not keep
    the order of two batches that reach it within the same second, so another write for an id waits until a second has
    passed since the last one's batch.

    ``check_fields``: documents are held against the domain's index fields, which are asked for once, and what does not fit
    is refused before it costs a batch. ``domain`` is the domain's name where the endpoint's name does not tell it.

    ``version_field``: the domain's ``int`` field, enabled for return, in which ``document(…, version=n)`` puts the version;
    then a write that is older than what the domain holds is dropped. That is for events that arrive out of order, and what
    holds of it, and what can't, stands at ``document``. ``search_endpoint`` is the domain's search endpoint, by default that
    of the same name as ``endpoint`` with ``search-`` for ``doc-``.
    """

    request_writes: ClassVar[int] = 5000
    # A write's size has its comma; the batch has one bracket more.
    request_bytes: ClassVar[int | None] = _BATCH_BYTES - 1

    def __init__(
        self,
        endpoint: str,
        *,
        client: Any = None,
        check_fields: bool = False,
        domain: str | None = None,
        version_field: str | None = None,
        search_endpoint: str | None = None,
    ) -> None:
        self._endpoint: Callable[[], str] = lambda: endpoint
        self._documents = Endpoint(self._url, client)
        self._searches = Endpoint(lambda: self._search_url(search_endpoint))
        self._fields = DomainFields(self._url, domain) if check_fields else None
        if version_field is not None:
            try:
                field_name(version_field)
            except Reject as error:
                raise ConfigurationError(f"version_field: {error}") from None
        self._version_field = version_field
        self._versions = HeldVersions()
        self._order = OneSecond()
        # Documents and searches are two services: the one may have too much while the other is idle.
        self._pace, self._search_pace = Pace(), Pace()
        self._size = RequestSize(_BATCH_BYTES, least=_LEAST_BYTES, step=_STEP_BYTES)
        self._has_warned = False

    @classmethod
    def from_env(cls, name: str, **options: Any) -> Self:
        """The domain whose document endpoint the environment variable ``name`` holds, read on first use; ``options`` are
        those of the class.
        """
        sink = cls("", **options)
        sink._endpoint = lambda: from_environment(name, sink._name, "the CloudSearch domain's document endpoint")
        return sink

    def document(
        self,
        id: str | int,  # noqa: A002 (the service's word)
        fields: Mapping[str, Any],
        *,
        version: int | None = None,
    ) -> Write:
        """Add a document, in place of all of the one that has this id.

        ``id``: 1 to 128 of the characters A-Z a-z 0-9 _ - = # ; : / ? @ &; a number stands for its digits.
        ``fields``: name → value, or a list of up to 1,000 values, 200 fields at most. A name has 1 to 64 characters a-z
        0-9 _, begins with a letter and is not ``score``. Values are text, without the characters that XML 1.0 forbids
        (they are left out), numbers (whole ones of 64 bits), ``date``, aware ``datetime`` (sent in UTC, to the
        millisecond) and bool, which CloudSearch does not have: 1 or 0. A value of None is left out, and so is a list
        without values: a document without the field is how CloudSearch says null. A place is text, ``"39.86,-104.67"``.

        ``version``: a number from 0 to 2⁶³ − 1 that grows with every change of the document; needed with
        ``version_field``, and not possible without. A document older than what is known of the domain counts as written
        and is not sent. What is known: what a search shows at that moment, and the 10,000 ids that this container wrote
        last. CloudSearch has no conditional writes, so this does **not** make an older write impossible: two containers
        that write one id within the seconds that it takes until a search shows a document may leave the older one, until
        the next write of that id.

        Raises Reject for what the service would always refuse, a document over 1 MB or without any value among it, so
        that the record goes to dead letters. Its message names the field and never holds what is in it.
        """
        document = fields_of(fields)
        if self._version_field is not None:
            if version is None:
                raise ConfigurationError(f"{self._name} has a version_field, so document(…) needs version=")
            if self._version_field in document:
                raise ConfigurationError(f"the field {self._version_field!r} is the version's: leave it to version=")
            document[self._version_field] = self._version(version)
        elif version is not None:
            raise ConfigurationError(f"{self._name} has no version_field to keep a version in")
        return self._operation({"type": "add", "id": document_id(id), "fields": document}, version, document)

    def removal(self, id: str | int, *, version: int | None = None) -> Write:  # noqa: A002 (the service's word)
        """Remove the document with this id; one that is not there is no error. Raises Reject for an id as ``document``.

        With ``version``, which needs ``version_field``, a document that has nothing but the version takes its place, so that
        an older one that comes later is known to be older. Searches that want any field find it no more, but ``matchall``,
        a negation alone and a range of the version do. Without ``version`` the document is gone, and so is all that is known
        of its version: a document that comes later is taken, however old, as soon as searches show the removed one no more.
        """
        if version is None:
            return self._operation({"type": "delete", "id": document_id(id)}, None, None)
        if self._version_field is None:
            raise ConfigurationError(f"{self._name} has no version_field to keep a version in")
        document = {self._version_field: self._version(version)}
        return self._operation({"type": "add", "id": document_id(id), "fields": document}, version, document)

    def _version(self, version: Any) -> int:
        if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version < 2**63:
            raise Reject("a document's version is a whole number from 0 that fits into 64 bits with a sign")
        return version

    def _operation(self, operation: dict[str, Any], version: int | None, fields: dict[str, Any] | None) -> Write:
        encoded = _encode(operation)
        if len(encoded) > _DOCUMENT_BYTES:
            raise Reject(f"CloudSearch takes documents of 1 MB; this one has {len(encoded):,} bytes")
        checked = fields if self._fields is not None else None
        return Write(self, _Operation(operation["id"], encoded, version, checked), size=len(encoded) + 1)

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """See ``Sink.write``.

        The service refuses a batch whole for one bad document and does not say which in a form to rely on, so a refused
        batch is sent again in halves until the bad one is alone, and ``invalid``. Throttling (429, 503, 507, 509), other
        5xx and broken connections are retried at the pace that they teach, for a minute at most. When something else stands
        in the way (403, 404, no credentials), or the time does not allow the wait, all that has no answer yet is
        ``unavailable``: at once, where an earlier call was told to slow down.
        """
        of_id = in_turn(writes)
        refusals: list[Refusal] = []
        try:
            held = self._held(writes, deadline) if self._version_field is not None else {}
        except SinkError as error:
            return [Refusal(write, error, "unavailable") for write in writes]

        def next_of(doc_id: str) -> list[Write]:
            """The write that should stand for the id, of those that are left; none where none is left, or wanted."""
            same = of_id[doc_id]
            while same:
                write = same.pop()
                version = write.payload.version
                if version is not None and version < held.get(doc_id, -1):
                    continue
                problem = self._problem(write, deadline)
                if problem is None:
                    return [write]
                refusals.append(Refusal(write, NotAsked(problem), "invalid"))
            return []

        # An id is in one batch at a time, and on to its next write only after an answer: its order is kept.
        batches = [[write for doc_id in of_id for write in next_of(doc_id)]]
        tries = _Tries(deadline)
        while batches:
            batch = self._cut(batches)
            if not batch:
                continue
            try:
                tries.wait(max(self._pace.wait(), self._order.wait(batch)))
                self._upload(batch, deadline)
                tries.went_well()
            except Passing as error:
                batches.append(batch)
                tries.failed(error)
            except BatchRefused as refused:
                if len(batch) > 1:
                    middle = len(batch) // 2
                    batches += batch[middle:], batch[:middle]
                    continue
                if self._fields is not None:
                    self._fields.doubt()
                doc_id, operation, *_ = batch[0].payload
                refusals.append(Refusal(batch[0], refused.of(operation), "invalid"))
                batches.append(next_of(doc_id))
            except SinkError as error:
                for write in (write for unanswered in (batch, *batches) for write in unanswered):
                    refusals += (Refusal(w, error, "unavailable") for w in (*of_id[write.payload.id], write))
                break
        return refusals

    def close(self) -> None:
        self._documents.close()
        self._searches.close()
        if self._fields is not None:
            self._fields.close()

    @property
    def also_needs(self) -> tuple[str, ...]:
        """What the function's role needs on the domain besides ``cloudsearch:document``."""
        checks = ("cloudsearch:DescribeIndexFields",) if self._fields is not None else ()
        return (*checks, "cloudsearch:search") if self._version_field is not None else checks

    def _problem(self, write: Write, deadline: float) -> str | None:
        if self._fields is None or write.payload.fields is None:
            return None
        return self._fields.problem(write.payload.fields, deadline)

    def _cut(self, batches: list[list[Write]]) -> list[Write]:
        """Take the next batch, of no more bytes than are sent now; the rest stays."""
        batch = batches.pop()
        # The brackets; a comma is in each write's size.
        size = 1
        for n, write in enumerate(batch):
            size += write.size
            if n and size > self._size.bytes:
                batches.append(batch[n:])
                return batch[:n]
        return batch

    def _upload(self, batch: list[Write], deadline: float) -> None:
        """Send one batch once, and learn from the answer: BatchRefused, Passing, or SinkError for what is in the way."""
        body = b"[" + b",".join(write.payload.operation for write in batch) + b"]"
        try:
            answer = self._documents.upload(body, deadline)
        except BatchRefused as refused:
            if refused.too_large:
                self._size.too_large(len(body))
            raise
        except Passing as error:
            self._pace.slow_down()
            if error.of_size:
                self._size.too_large(len(body))
            # It may have been taken, and only its answer lost.
            self._order.sent(batch)
            raise
        self._pace.went_well()
        self._order.sent(batch)
        if answer.get("status") != "success" or answer.get("adds", 0) + answer.get("deletes", 0) != len(batch):
            raise SinkError("CloudSearch took a batch and did not count all of it")
        self._size.went_well(len(body))
        if self._version_field is not None:
            self._versions.sent(batch)

    def _held(self, writes: Sequence[Write], deadline: float) -> dict[str, int]:
        """The highest version known of each id that is written with one; SinkError where the domain can't be asked."""
        ids = list(dict.fromkeys(write.payload.id for write in writes if write.payload.version is not None))
        shown: dict[str, int] = {}
        tries = _Tries(deadline)
        for asked, query in queries(ids):
            shown |= self._shown(asked, query, tries, deadline)
        return self._versions.known(shown, ids)

    def _shown(self, ids: list[str], query: str, tries: _Tries, deadline: float) -> dict[str, int]:
        assert self._version_field is not None
        parameters = {"query": query, "queryParser": "structured", "size": _HITS, "return": self._version_field}
        while True:
            try:
                tries.wait(self._search_pace.wait())
                hits = self._searches.search(deadline, **parameters)["hits"]
            except Passing as error:
                self._search_pace.slow_down()
                tries.failed(error)
                continue
            self._search_pace.went_well()
            tries.went_well()
            # The id is searched "like any text field": only what is exactly it is it.
            found = [hit for hit in hits.get("hit", ()) if hit["id"] in set(ids)]
            if hits.get("found", 0) > _HITS and len(found) < len(ids):
                raise SinkError("CloudSearch finds more documents than it shows, so their versions can't be told")
            shown = versions_shown(found, self._version_field)
            if len(shown) < len(found) and not self._has_warned:
                self._has_warned = True
                log.warning(
                    "documents of the CloudSearch domain show no %r and are taken for the oldest: is the field enabled for "
                    "return, and are these from before it was there?",
                    self._version_field,
                )
            return shown

    def _url(self) -> str:
        example = "https://doc-shop-abc123.us-east-1.cloudsearch.amazonaws.com"
        return url_of(self._endpoint(), self._name, f"a CloudSearch domain's document endpoint, such as {example}")

    def _search_url(self, endpoint: str | None) -> str:
        if endpoint is not None:
            return endpoint if "://" in endpoint else f"https://{endpoint}"
        scheme, _, host = self._url().partition("://")
        if not host.startswith("doc-"):
            raise ConfigurationError(f"{self._name} needs search_endpoint= to ask for versions")
        return f"{scheme}://search-{host.removeprefix('doc-')}"

    @property
    def _name(self) -> str:
        return self.owner or type(self).__name__


class _Tries:
    """The requests of one call of ``write``: whether there is time for the next one."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._is_first = True
        self._failing_since: float | None = None
        self._trouble: SinkError | None = None

    def wait(self, seconds: float) -> None:
        """Sleep until a request may go out. SinkError, at once, where there is no time for that and a request.

        The first one goes out past the deadline too, if it need not wait.
        """
        then = time.monotonic() + seconds
        if (seconds or not self._is_first) and then + SHORTEST > self._deadline:
            wait = f", which has to be given {seconds:.1f} s first" if seconds else ""
            raise self._trouble or SinkError(f"there was no time left to ask CloudSearch{wait}")
        if self._trouble and self._failing_since is not None and then > self._failing_since + _RETRY_TIME:
            raise self._trouble
        if seconds:
            time.sleep(seconds)
        self._is_first = False

    def failed(self, error: Passing) -> None:
        # Not a Passing any more: it does not pass in this call.
        self._trouble = SinkError(str(error))
        self._trouble.__cause__ = error.__cause__
        self._failing_since = self._failing_since or time.monotonic()

    def went_well(self) -> None:
        self._trouble = self._failing_since = None
