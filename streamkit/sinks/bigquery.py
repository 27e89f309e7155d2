"""Rows into a BigQuery table by streaming inserts (``tabledata.insertAll``), or by the Storage Write API's default stream.
``docs/bigquery.md`` has the outcomes and types, ``docs/bigquery-storage-write.md`` which of the two ways is for whom.

Needs google-cloud-bigquery: ``pip install kinesis-streamkit[bigquery]``. It is imported on the first write. Limits are
those of BigQuery's "Streaming inserts" quotas: 10 MB and 50,000 rows a request, of which 500 rows are advised.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Literal, ParamSpec, TypeVar

import msgspec

from ..errors import ConfigurationError, SinkError
from .base import NotAsked, Refusal, RefusalKind, Sink, Write, write_ids
from .bigquery_columns import without_unknown
from .bigquery_errors import PASSING, SendAgain, TooLarge, code_of, is_too_large
from .bigquery_retries import ask
from .bigquery_rows import TOO_DEEP, copy_row, encode_row, exact, too_deep
from .bigquery_schema import Misfit
from .bigquery_table import BigQueryTable, TableOptions, Unknown

if TYPE_CHECKING:
    from .bigquery_default_stream import DefaultStream

__all__ = ["BigQuerySink", "Method", "TableOptions"]

P = ParamSpec("P")
S = TypeVar("S", bound="BigQuerySink")

#: How rows go: by ``tabledata.insertAll``, or by the default stream of the Storage Write API.
Method = Literal["insert-all", "storage-write"]

# Rows by the default stream are cut into requests by their bytes, and so many are worth one call.
_STORAGE_WRITE_ROWS = 10_000

_MOST_BYTES = 10_000_000
# Less what is around the rows in a request: {"rows": [], "skipInvalidRows": true, "ignoreUnknownValues": true}.
_REQUEST_BYTES = _MOST_BYTES - 100
# What is around one row: {"json": , "insertId": ""}, with an id as long as it may be.
_ROW_BYTES = 160
_INSERT_ID_LENGTH = 128
_BETWEEN_IDS = '"},{"json":\n,"insertId":"'

# The beginnings of BigQuery's messages that hold nothing of the row. Of the others any word may come from it.
_TELLING = re.compile(
    r"no such field|missing required field|(?:can|could ?)not convert value to \w+|this field is not a record|"
    r"array specified for non-repeated field|repeated field must be imported as a json array|row size is too large",
    re.IGNORECASE,
)
_NO_SUCH_FIELD = re.compile(r"no such field", re.IGNORECASE)


class BigQuerySink(Sink):
    """Rows into ``table``, named ``dataset.table`` or ``project.dataset.table``.

    ``client`` is a ``google.cloud.bigquery.Client``. By default one is made on the first write: with the application's
    default credentials and their project; or with those of the function's own role, where ``GOOGLE_CREDENTIALS`` describes them
    (``streamkit.sinks.google``); or, where ``BIGQUERY_EMULATOR_HOST`` names an endpoint, with none.

    ``schema`` is the table's: a list of fields in BigQuery's JSON form, ``[{"name": "id", "type": "INTEGER"}, ...]``, or of
    ``SchemaField`` objects, or the path of a JSON file that holds such a list. With it, objects and arrays for a JSON column
    are sent as the text that it takes, and a row with no array for a REPEATED one is invalid. With ``create=TableOptions()``
    the table is made by it where there is none.

    ``unknown`` says what becomes of a field that the table lacks. ``"strict"``: the row is invalid. ``"ignore"``: it goes without
    the field. ``"add"``: the table gets the column, as ``schema`` has it or else by the value (``docs/bigquery.md``).

    Each row's ``insertId`` is its write id (a digest of it where that is over BigQuery's 128 characters), by which
    BigQuery drops repeats: as a best effort, for about a minute. A row that BigQuery finds invalid is refused alone.
    Throttles, 5xx and lost connections are tried again until the deadline, for 60 seconds at most. A table that does not
    exist or can't be written to is no fault of the records: they stay in the stream until that is put right.

    With ``method="storage-write"`` rows go by the default stream of the Storage Write API: for half the price, in protocol
    buffers by the table's schema, and with the same outcomes, but without ids: BigQuery drops no repeats. It takes the permission
    ``bigquery.tables.get`` too, and ``pip install kinesis-streamkit[bigquery-storage]``. ``write_client`` is a
    ``google.cloud.bigquery_storage_v1.BigQueryWriteClient``, made as ``client`` is by default, where
    ``BIGQUERY_STORAGE_EMULATOR_HOST`` (``host:port``) names an endpoint without credentials.
    """

    request_writes: ClassVar[int] = 500
    request_bytes: ClassVar[int | None] = _REQUEST_BYTES

    def __init__(
        self,
        table: str,
        *,
        schema: Any = None,
        create: TableOptions | None = None,
        unknown: Unknown = "strict",
        method: Method = "insert-all",
        client: Any = None,
        write_client: Any = None,
    ) -> None:
        self._destination = BigQueryTable(table, schema=schema, create=create, unknown=unknown, client=client)
        self._is_sent_as_given = not self._destination.rules and unknown != "add"
        self._default_stream = self._stream_for(method, write_client)

    @classmethod
    def from_env(cls: Callable[Concatenate[str, P], S], name: str, *given: P.args, **options: P.kwargs) -> S:
        """The table that the environment variable ``name`` names, read on the first write. The rest is as the class takes it."""
        sink = cls("from.environment", *given, **options)
        sink._destination.read_name_from(name)
        return sink

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)
        self._destination.owner = self.owner

    @property
    def table(self) -> str:
        """The table's name; ConfigurationError where the environment variable that should hold it does not."""
        return self._destination.name

    def row(self, row: Mapping[str, Any]) -> Write:
        """A write that inserts ``row``, a mapping of column names to values (or a msgspec struct, or a dataclass).

        The row is copied at once. A Decimal, a UUID, a date, a time and a datetime (an aware one with its offset, for
        TIMESTAMP; a naive one without, for DATETIME) go as text, bytes as base64, integers that a double can't hold as
        decimal text: the forms from which BigQuery makes its own types exactly. A JSON column takes JSON as text, which
        the sink makes where it was given the table's schema. Give no ``msgspec.Raw`` of bytes that nobody has decoded: where rows
        go as they are given it is sent unread, and could end its row and begin another.

        Raises TypeError for what has no such form, ValueError for NaN and Infinity (give None, or the text "NaN"), for
        text that is not Unicode, and for nesting without end. A row more than a hundred deep is invalid when it is written.
        """
        if not self._is_sent_as_given:
            return self._row_by_schema(row)
        text = encode_row(row)
        return Write(self, text, len(text) + _ROW_BYTES)

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """See ``Sink.write``. The refusals' errors name a reason and a field, and quote nothing of a row."""
        refusals: list[Refusal] = []
        writes = self._without_too_deep(writes, refusals)
        if self._default_stream is not None:
            return [*refusals, *self._default_stream.write(writes, deadline=deadline)]
        requests = deque(_requests(writes, refusals))
        if not requests:
            return refusals
        destination = self._destination
        destination.connect()
        insertion = _Insertion(destination, refusals, deadline)
        while requests:
            left = requests.popleft()
            try:
                ask(partial(insertion.insert, left), deadline=deadline)
            except Exception as error:  # noqa: BLE001  # Whatever the client raises, these rows have no answer.
                if not is_too_large(error) or (len(left) > 1 and time.monotonic() >= deadline):
                    # What comes after would meet the same, or the time is up.
                    unanswered = SinkError(destination.explain(error))
                    rest = (write for request in (left, *requests) for write in request)
                    return [*refusals, *(Refusal(write, unanswered, "unavailable") for write in rest)]
                if len(left) == 1:
                    refusals.append(
                        Refusal(left[0], SinkError("BigQuery answered that the row is too large"), "invalid")
                    )
                else:
                    half = len(left) // 2
                    requests.extendleft((left[half:], left[:half]))
        return refusals

    def close(self) -> None:
        """Close the clients, where the sink made them."""
        if self._default_stream is not None:
            self._default_stream.close()
        self._destination.close()

    def _stream_for(self, method: Method, write_client: Any) -> DefaultStream | None:
        if method == "insert-all" and write_client is None:
            return None
        if method != "storage-write":
            raise ConfigurationError(
                f'BigQuerySink(method) is "insert-all", or "storage-write", which takes a write_client; got {method!r}'
            )
        from .bigquery_default_stream import DefaultStream

        # Of this object alone: the class says what a request of the other way takes.
        self.request_writes = _STORAGE_WRITE_ROWS  # type: ignore[misc]
        return DefaultStream(self._destination, write_client)

    def _without_too_deep(self, writes: Sequence[Write], refusals: list[Refusal]) -> Sequence[Write]:
        """All but those that are nested too deeply, which are refused."""
        payloads = [write.payload for write in writes]
        deep = too_deep(payloads if self._is_sent_as_given else list(map(_text, payloads)))
        if not deep:
            return writes
        refusals += [Refusal(writes[place], NotAsked(TOO_DEEP), "invalid") for place in sorted(deep)]
        return [write for place, write in enumerate(writes) if place not in deep]

    def _row_by_schema(self, row: Mapping[str, Any]) -> Write:
        destination = self._destination
        copy = copy_row(row)
        if destination.rules:
            try:
                copy = destination.rules.apply(copy)
            except Misfit as misfit:
                # No fault of the program that made it, so it is for ``write`` to refuse.
                return Write(self, misfit, 0)
        text = encode_row(copy)
        payload = _Telling(text, copy) if destination.unknown == "add" else text
        return Write(self, payload, len(text) + _ROW_BYTES)


class _Telling(msgspec.Struct, gc=False):
    """A row in JSON, and the values that it is made of, for what they tell of columns."""

    json: bytes
    row: dict[str, Any]


def _text(payload: bytes | _Telling | Misfit) -> bytes:
    return payload if type(payload) is bytes else payload.json if isinstance(payload, _Telling) else b""


class _Insertion:
    """The requests of one call of ``write``, and what has to be remembered between them."""

    def __init__(self, table: BigQueryTable, refusals: list[Refusal], deadline: float) -> None:
        self._table = table
        self._refusals = refusals
        self._deadline = deadline
        self._has_created = False

    def insert(self, left: list[Write]) -> None:
        """One request: leave in ``left`` the rows that have to go again, and raise if there are any."""
        problems: dict[int, list[Mapping[str, Any]]] = {}
        for answer in self._send(left).get("insertErrors") or ():
            problems.setdefault(int(answer.get("index", 0)), []).extend(answer.get("errors") or ())
        again: list[Write] = []
        lacking: list[Write] = []
        for index, errors in sorted(problems.items()):
            kind = _kind(errors)
            if kind is None:
                again.append(left[index])
            elif self._table.unknown == "add" and all(map(_is_of_no_such_field, errors)):
                lacking.append(left[index])
            else:
                self._refusals.append(Refusal(left[index], SinkError(_describe(errors)), kind))
        left[:] = again + lacking
        if lacking:
            left[:] = again + self._widen(lacking)
        if left:
            reasons = sorted({str(error.get("reason")) for index in problems for error in problems[index]} & PASSING)
            raise SendAgain(
                f"BigQuery did not take some rows: {', '.join(reasons)}"
                if not lacking
                else f"BigQuery does not know new columns of table {self._table.name} yet, for which rows wait"
            )

    def _send(self, writes: list[Write]) -> dict[str, Any]:
        body = _body(writes, self._table.unknown)
        if len(body) > _MOST_BYTES and len(writes) > 1:
            # Long integers, which have become text, are two bytes longer each.
            raise TooLarge(f"a request of {len(body):,} bytes")
        try:
            return self._table.insert(body, deadline=self._deadline)
        except Exception as error:
            if self._table.create_options is None or code_of(error) != 404:
                raise
            if not self._has_created:
                self._table.create(deadline=self._deadline)
                self._has_created = True
            # For a while BigQuery remembers that there was none.
            raise SendAgain(
                f"BigQuery does not know the new table {self._table.name} yet, for which rows wait"
            ) from error

    def _widen(self, writes: list[Write]) -> list[Write]:
        """Have the table get the columns that these rows need, and return those rows that go again."""
        fields, misfits = self._table.widen([write.payload.row for write in writes], deadline=self._deadline)
        again = []
        for n, write in enumerate(writes):
            if n in misfits:
                self._refusals.append(Refusal(write, SinkError(str(misfits[n])), "invalid"))
                continue
            again.append(write)
            kept = without_unknown(write.payload.row, fields)
            if kept != write.payload.row:
                # What is left out tells nothing, not even what column it would need.
                write.payload = _Telling(encode_row(kept), kept)
        return again


def _requests(writes: Sequence[Write], refusals: list[Refusal]) -> list[list[Write]]:
    """Full requests, in order; a row that no request can hold, or the table never, is refused."""
    sizes = [write.size for write in writes]
    if len(sizes) <= BigQuerySink.request_writes and sum(sizes) <= _REQUEST_BYTES and all(sizes):
        return [list(writes)] if sizes else []
    requests: list[list[Write]] = []
    room = 0
    for write, size in zip(writes, sizes, strict=True):
        if not size or size > _REQUEST_BYTES:
            error = NotAsked(
                f"the row has {size:,} bytes; BigQuery takes 10,000,000 in a request" if size else str(write.payload)
            )
            refusals.append(Refusal(write, error, "invalid"))
            continue
        if not requests or size > room or len(requests[-1]) == BigQuerySink.request_writes:
            requests.append([])
            room = _REQUEST_BYTES
        requests[-1].append(write)
        room -= size
    return requests


def _body(writes: Sequence[Write], unknown: Unknown) -> bytes:
    """A request of ``tabledata.insertAll``, put together of bytes: to have it encoded again costs half a microsecond a row.

    Unless invalid rows are skipped, one has all the others sent twice.
    """
    ids = write_ids(writes)
    joined = "".join(ids)
    if max(map(len, ids)) > _INSERT_ID_LENGTH or not joined.isascii():
        ids = [_insert_id(write_id) for write_id in ids]
        joined = "".join(ids)
    if len(msgspec.json.encode(joined)) != len(joined) + 2:  # Some have what JSON escapes.
        ids = [msgspec.json.encode(insert_id)[1:-1].decode() for insert_id in ids]
    payloads = [write.payload for write in writes]
    parts = [b""] * (2 * len(ids))
    parts[::2] = exact([payload.json for payload in payloads] if unknown == "add" else payloads)
    # What stands between a row and the next; no id has a line's end in it.
    parts[1::2] = f',"insertId":"{_BETWEEN_IDS.join(ids)}"}}'.encode().split(b"\n")
    ignored = b',"ignoreUnknownValues":true' if unknown == "ignore" else b""
    return b"".join((b'{"rows":[{"json":', *parts, b'],"skipInvalidRows":true', ignored, b"}"))


def _insert_id(write_id: str) -> str:
    if len(write_id) <= _INSERT_ID_LENGTH and write_id.isascii():
        return write_id
    import hashlib

    return hashlib.sha256(write_id.encode()).hexdigest()


def _kind(errors: Iterable[Mapping[str, Any]]) -> RefusalKind | None:
    """How a row is refused, or None where it has to be sent again."""
    reasons = {error.get("reason") for error in errors}
    if "invalid" in reasons:
        return "invalid"
    return None if reasons <= PASSING else "failed"


def _is_of_no_such_field(error: Mapping[str, Any]) -> bool:
    return bool(_NO_SUCH_FIELD.match(str(error.get("message") or "")))


def _describe(errors: Sequence[Mapping[str, Any]]) -> str:
    """``BigQuery refused the row: invalid total (cannot convert value to integer)``."""
    parts = []
    for error in errors[:3]:
        part = f"{error.get('reason')} {str(error.get('location') or '')[:100]}".rstrip()
        telling = _TELLING.match(str(error.get("message") or ""))
        parts.append(f"{part} ({telling.group().lower()})" if telling else part)
    return f"BigQuery refused the row: {', '.join(parts)}"
