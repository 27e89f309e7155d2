"""Rows into a BigQuery table by the default stream of the Storage Write API: each at least once, and no account to keep.

It is what ``BigQuerySink(method="storage-write")`` writes by; ``docs/bigquery-storage-write.md`` compares it. Needs
google-cloud-bigquery-storage, imported on the first write: ``pip install kinesis-streamkit[bigquery-storage]``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from ..errors import SinkError
from .base import Refusal, Write
from .bigquery_columns import without_unknown
from .bigquery_errors import NoTable, SendAgain
from .bigquery_format import read_format
from .bigquery_proto import NoSuchColumn, RowFormat
from .bigquery_retries import ask
from .bigquery_rows import encode_row
from .bigquery_schema import Misfit
from .bigquery_streams import (
    Refused,
    RequestTooLarge,
    RowsRefused,
    WriteStreams,
    default_stream,
    full_requests,
    lacks_columns,
    may_be_of_the_schema,
    open_streams,
)
from .bigquery_table import BigQueryTable, time_out

__all__ = ["DefaultStream"]

# How long the format is not read again where unknown fields are ignored, in seconds.
_LONGEST_UNREAD = 60.0


class DefaultStream:
    """The default stream of ``table``. ``write_client`` is a ``BigQueryWriteClient``, made on the first write by default.

    Between calls it keeps the connection and the format of the table's rows, which is read again where it turns out old.
    """

    def __init__(self, table: BigQueryTable, write_client: Any = None) -> None:
        self.table = table
        self._streams = write_client and WriteStreams(write_client)
        self._is_own = write_client is None
        #: The stream's name, and its rows' format; None before it is read.
        self.name = ""
        self.format: RowFormat | None = None
        #: When, by ``time.monotonic()``, the format has to be read again though nothing shows that it is old.
        self.read_again_at = 0.0

    @property
    def streams(self) -> WriteStreams:
        if self._streams is None:
            self._streams = open_streams()
        return self._streams

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """Append the rows of ``writes``, which ``BigQuerySink.row`` made, and return those that were not taken.

        1. Encode the rows by the table's format, and refuse those that don't fit it.
        2. Append one full request after another. One that has a bad row is taken without any: what is bad of it is refused, and
           the others are sent again. A row that waits for a column has those behind it wait too, and none before it.

        ImportError saying what to install; ConfigurationError without credentials.
        """
        refusals: list[Refusal] = []
        if not writes:
            return refusals
        self.table.connect()
        appending = _Appending(self, self.streams, refusals, deadline)
        rows = [_Row(write) for write in writes]
        requests = deque([rows])
        try:
            try:
                ask(partial(appending.fit, rows), deadline=deadline)
                requests = deque(full_requests(rows))
            except _WaitsFrom as error:
                requests = deque([*full_requests(rows[: error.place]), rows[error.place :]])
            while requests:
                try:
                    ask(partial(appending.append, requests[0]), deadline=deadline)
                except (RequestTooLarge, _WaitsFrom) as error:
                    if len(requests[0]) > 1 and time.monotonic() >= deadline:
                        raise
                    if isinstance(error, _WaitsFrom):
                        _cut_first(requests, error.place)
                    else:
                        _halve_first(requests, refusals)
                else:
                    requests.popleft()
        except Exception as error:  # noqa: BLE001  # Whatever the clients raise, these rows have no answer.
            # What comes after would meet the same, or the time is up.
            unanswered = SinkError(self.table.explain(error))
            refusals += [Refusal(row.write, unanswered, "unavailable") for request in requests for row in request]
        if appending.is_old:
            self.format = None
        return refusals

    def close(self) -> None:
        """Close the client, where it was made here."""
        if self._is_own and self._streams is not None:
            self._streams.close()
            self._streams = None


class _Row:
    """One row on its way: its bytes, in ``form``."""

    __slots__ = ("data", "form", "write")

    def __init__(self, write: Write) -> None:
        self.write = write
        self.data = b""
        self.form: RowFormat | None = None

    def values(self) -> dict[str, Any]:
        payload = self.write.payload
        values: dict[str, Any] = msgspec.json.decode(payload if type(payload) is bytes else payload.json)
        return values

    def columns(self) -> set[str]:
        """The columns that it has values for, in lower case."""
        return {name.lower() for name, value in self.values().items() if value is not None}


class _WaitsFrom(SinkError):
    """BigQuery knows not all columns of the rows: those before ``place`` may need none of the unknown ones."""

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place


class _Appending:
    """One call of ``write``: what it has found out of the table, and the refusals. Rows that are refused leave their list."""

    def __init__(self, stream: DefaultStream, streams: WriteStreams, refusals: list[Refusal], deadline: float) -> None:
        self._stream = stream
        self._streams = streams
        self._table = stream.table
        self._refusals = refusals
        self._deadline = deadline
        #: Whether the format has to be read again: after this call, for more than once in a call is of no use.
        self.is_old = False
        self._is_fresh = False
        self._is_narrow = False
        #: Columns of rows that BigQuery took while it did not know others.
        self._taken: set[str] = set()
        self._has_created = False

    def fit(self, rows: list[_Row]) -> None:
        """Encode the rows, all in one format. It is read anew, once, for columns that it lacks; or the table gets them."""
        unfit = self._encode(rows, self._format())
        if any(isinstance(error, NoSuchColumn) for error in unfit.values()):
            if self._table.unknown == "add":
                unfit = self._widen(rows, unfit)
            elif not self._is_fresh:
                unfit = self._encode(rows, self._format(anew=True))
        self._refuse(rows, unfit)

    def append(self, rows: list[_Row]) -> None:
        """Have the rows in; SendAgain where they may be later."""
        while rows:
            if any(row.form is not self._stream.format for row in rows):
                self.fit(rows)
                continue
            try:
                self.is_old |= self._streams.append(
                    self._stream.name,
                    None,
                    self._descriptor(rows),
                    [row.data for row in rows],
                    timeout=time_out(self._deadline),
                )
            except RowsRefused as error:
                told = {n: f"BigQuery refused the row: {reason}" for n, reason in error.reasons.items()}
                if not self._refuse(rows, told):
                    raise
            except NoTable as error:
                self._create(error)
            except Refused as error:
                self._renew(error, rows)
            else:
                if self._is_narrow:
                    self._taken.update(*(row.columns() for row in rows))
                return
            if rows and time.monotonic() >= self._deadline:
                raise SendAgain("BigQuery took none of a request's rows, and no time was left to send them again")

    def _format(self, *, anew: bool = False) -> RowFormat:
        stream = self._stream
        # Where what is unknown is left out, nothing else would ever show that the table has got a column.
        is_old = self._table.unknown == "ignore" and not self._is_fresh and time.monotonic() >= stream.read_again_at
        if stream.format is None or anew or is_old:
            try:
                name, stream.format = read_format(self._table, deadline=self._deadline, has_defaults=True)
            except NoTable as error:
                self._create(error)
            stream.name = default_stream(name)
            stream.read_again_at = time.monotonic() + _LONGEST_UNREAD
            self._is_fresh = True
        assert stream.format is not None
        return stream.format

    def _descriptor(self, rows: Sequence[_Row]) -> Any:
        assert self._stream.format is not None
        if self._is_narrow:
            return self._stream.format.descriptor_of(row.values() for row in rows)
        return self._stream.format.descriptor

    def _encode(self, rows: Sequence[_Row], form: RowFormat) -> dict[int, Exception]:
        """Encode the rows that fit ``form``, and say of the others why not, by their places."""
        unfit: dict[int, Exception] = {}
        ignores = self._table.unknown == "ignore"
        for n, row in enumerate(rows):
            if isinstance(row.write.payload, Misfit):
                unfit[n] = row.write.payload
                continue
            try:
                row.data = form.encode(row.values(), ignore_unknown=ignores)
                row.form = form
            except ValueError as error:
                unfit[n] = error
        return unfit

    def _widen(self, rows: Sequence[_Row], unfit: Mapping[int, Exception]) -> dict[int, Exception]:
        """Have the table get the columns that rows lack, and encode all rows anew. A row with another fault adds nothing."""
        places = [n for n, error in unfit.items() if isinstance(error, NoSuchColumn)]
        faults = self._other_faults(rows, places)
        places = [n for n in places if n not in faults]
        lacking = [rows[n].write.payload.row for n in places]
        fields, misfits = self._table.widen(lacking, deadline=self._deadline)
        faults |= {places[i]: misfit for i, misfit in misfits.items()}
        for n in places:
            if n not in faults:
                # What is left out tells nothing, not even what column it would need. Of the rest all has to be known now.
                telling = rows[n].write.payload
                kept = without_unknown(telling.row, fields)
                rows[n].write.payload = telling if kept == telling.row else type(telling)(encode_row(kept), kept)
        unfit = self._encode(rows, self._format(anew=True))
        for n in unfit:
            if isinstance(unfit[n], NoSuchColumn) and n not in faults:
                raise self._waits("show", n)
        return unfit | faults

    def _other_faults(self, rows: Sequence[_Row], places: Sequence[int]) -> dict[int, Exception]:
        """What is wrong with rows that lack columns beside that, by their places. It leaves nothing in the rows."""
        faults: dict[int, Exception] = {}
        form = self._format()
        for n in places:
            try:
                form.encode(rows[n].values(), ignore_unknown=True)
            except ValueError as error:
                faults[n] = error
        return faults

    def _renew(self, error: Refused, rows: Sequence[_Row]) -> None:
        """Find another format for the rows after ``error``; raise where there is none, or where it is of something else."""
        if not self._is_fresh and may_be_of_the_schema(error):
            self._format(anew=True)
        elif not lacks_columns(error):
            raise error
        elif not self._is_narrow:
            # For some minutes BigQuery knows no new column here. Rows without it need not wait.
            self._is_narrow = True
        else:
            raise self._waits("know", self._place_of_more(rows)) from error

    def _waits(self, does: str, place: int) -> SinkError:
        """What to raise for rows that wait from ``place`` on."""
        message = f"BigQuery does not {does} new columns of table {self._table.name} yet, for which rows wait"
        return _WaitsFrom(message, place) if place else SendAgain(message)

    def _place_of_more(self, rows: Sequence[_Row]) -> int:
        """The middle one of the places at which rows have columns that none before them has, nor any that BigQuery took.

        Which column it lacks it says in words at best, so that is looked for by halves. 0 where all are in the first row.
        """
        known, places = set(self._taken), []
        for n, row in enumerate(rows):
            columns = row.columns()
            if not columns <= known:
                known |= columns
                places.append(n)
        # The first of them may be the one that waits. Rows before it need not.
        places = places[places[:1] == [0] :]
        return places[len(places) // 2] if places else 0

    def _create(self, error: NoTable) -> None:
        """Make the table, where it may be made; raise in any case."""
        if self._table.create_options is None:
            raise error
        if not self._has_created:
            self._table.create(deadline=self._deadline)
            self._has_created = True
        # For a while BigQuery remembers that there was none.
        raise SendAgain(f"BigQuery does not know the new table {self._table.name} yet, for which rows wait") from error

    def _refuse(self, rows: list[_Row], errors: Mapping[int, Exception | str]) -> bool:
        """Refuse the rows at these places for good, and say whether there were any."""
        kept = []
        for n, row in enumerate(rows):
            if n in errors:
                self._refusals.append(Refusal(row.write, SinkError(str(errors[n])), "invalid"))
            else:
                kept.append(row)
        had = len(kept) < len(rows)
        rows[:] = kept
        return had


def _halve_first(requests: deque[list[_Row]], refusals: list[Refusal]) -> None:
    """Halve the first request, or refuse its one row."""
    if len(requests[0]) == 1:
        (row,) = requests.popleft()
        refusals.append(Refusal(row.write, SinkError("BigQuery answered that the row is too large"), "invalid"))
    else:
        _cut_first(requests, len(requests[0]) // 2)


def _cut_first(requests: deque[list[_Row]], place: int) -> None:
    rows = requests.popleft()
    requests.extendleft((rows[place:], rows[:place]))
