"""Rows into a BigQuery table exactly once, by the Storage Write API: one stream, one plan and one offset after another.

``docs/exactly-once.md`` draws the protocol. Needs google-cloud-bigquery-storage, imported on the first write:
``pip install kinesis-streamkit[bigquery-storage]``.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from ..errors import ConfigurationError, SinkError
from ..plans.base import Entry, PlanStore
from ..record import Record
from .base import Refusal, ShardSink, Write
from .bigquery import BigQuerySink
from .bigquery_format import read_format
from .bigquery_plan import Place, Plan, RowId, decode_plan, encode_plan
from .bigquery_proto import NoSuchColumn, RowFormat
from .bigquery_retries import ask
from .bigquery_rows import TOO_DEEP, encode_row, too_deep
from .bigquery_streams import (
    REQUEST_BYTES,
    RowsRefused,
    StreamClosed,
    StreamGone,
    WriteStreams,
    full_requests,
    lacks_columns,
    open_streams,
    size_of,
)
from .bigquery_table import time_out

__all__ = ["BigQueryExactlyOnceSink"]

T = TypeVar("T")

log = logging.getLogger("streamkit")

# A row with an unknown column has the schema read anew, but not for each such row.
_SCHEMA_AGE = 30.0
# A new stream that is closed before its first rows are in is somebody's doing, who may go on with it.
_MOST_STREAMS = 5


class BigQueryExactlyOnceSink(ShardSink, BigQuerySink):
    """Rows into ``table``, each once, whatever crashes: for a processor with ``ordering = "shard"`` and ``Block``.

        class Orders(RecordProcessor):
            name = "orders"
            ordering = "shard"
            warehouse = BigQueryExactlyOnceSink("shop.orders", DynamoDbPlans("plans"))

    Before rows are sent, ``plans`` takes down which rows go to which offset of a write stream of this shard. BigQuery takes each
    offset once, so whoever finds the plan after a crash makes the rows again and sends them to that offset, whether or not they
    were there before; and where they can't be made again, closes the stream and counts what is in.

    ``id_column`` names a STRING column that the sink fills with each row's write id. Where BigQuery does not know a plan's
    stream any more, the table is then asked for those ids; that takes ``bigquery.jobs.create`` too.

    ``client`` is a ``google.cloud.bigquery.Client``, which reads the table's schema, and ``write_client`` a
    ``google.cloud.bigquery_storage_v1.BigQueryWriteClient``. By default both are made on the first write, with the
    application's default credentials; ``BIGQUERY_EMULATOR_HOST`` (a URL) and ``BIGQUERY_STORAGE_EMULATOR_HOST`` (``host:port``)
    name endpoints without any. A function needs ``bigquery.tables.get`` and ``bigquery.tables.updateData``.

    It does not know how many lanes its shard has: the mapping's ``ParallelizationFactor`` has to be 1. A row that a queue or a
    topic brought is refused: it has no place in its shard's order.
    """

    request_writes: ClassVar[int] = 10_000
    request_bytes: ClassVar[int | None] = REQUEST_BYTES

    def __init__(
        self,
        table: str,
        plans: PlanStore,
        *,
        id_column: str | None = None,
        client: Any = None,
        write_client: Any = None,
        streams: Any = None,
    ) -> None:
        if not isinstance(plans, PlanStore):
            raise ConfigurationError(
                f'BigQueryExactlyOnceSink(plans) takes a plan store, as DynamoDbPlans("table"); got {plans!r}'
            )
        if id_column is not None and not re.fullmatch(r"[A-Za-z_]\w*", id_column, re.ASCII):
            raise ConfigurationError(f"BigQueryExactlyOnceSink(id_column) takes a column's name; got {id_column!r}")
        BigQuerySink.__init__(self, table, client=client)
        self._plans = plans
        self._id_column = id_column
        self._streams: WriteStreams | None = streams or (write_client and WriteStreams(write_client))
        self._own_streams = self._streams is None
        self._format: RowFormat | None = None
        self._path = ""
        self._format_read_at = 0.0
        self._checked: set[str] = set()
        # Facts, not a state: the tokens of plans whose rows are in. One that is forgotten costs a question to BigQuery.
        self._known: dict[tuple[str, str], str] = {}

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)
        if not self._plans.owner:
            self._plans.owner = f"{self.owner}'s plans"

    def row(self, row: Mapping[str, Any]) -> Write:
        """See ``BigQuerySink.row``. It becomes a protocol buffer when the table's schema is known."""
        text = encode_row(row)
        if too_deep([text]):
            raise ValueError(TOO_DEEP)
        return Write(self, msgspec.json.decode(text), len(text))

    def check(self, processor: Any) -> None:
        """See ``ShardSink.check``."""

        def refuse(option: str, why: str) -> ConfigurationError:
            owner = processor if isinstance(processor, type) else type(processor)
            return ConfigurationError(f"{owner.__name__}.{option}: {self.owner or type(self).__name__} {why}")

        if processor._window_run is not None:
            raise refuse("finish", "writes rows of records, and what a window comes to is of no record")
        if processor.ordering != "shard":
            raise refuse(
                "ordering",
                'knows what is in by its place in the shard, so records run in that order: ordering = "shard"',
            )
        if processor.on_failure.queue is not None:
            raise refuse(
                "on_failure",
                "can't tell whether a record that was sent aside and comes back has its row already: use Block()",
            )
        self._checked.add(processor.name)

    def write_from(self, first: Record, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """Have each row in once, and return what can't be.

        1. Read the shard's plan.
        2. Leave out the rows that are in, and refuse those that don't fit the table.
        3. Bring the plan to an end, where it is not known to be in: append its rows again, or close its stream and count.
        4. For each request: record its plan, then append it. A plan that was recorded by somebody else meanwhile ends this.

        A crash between any two of them is found by the next step 3.
        """
        refusals = [_from_a_queue(write) for write in writes if not _is_of_a_stream(write)]
        writes = [write for write in writes if _is_of_a_stream(write)]
        if not writes:
            return refusals
        processor = writes[0]._processor
        if processor not in self._checked:
            raise ConfigurationError(
                f"{type(self).__name__} has to be an attribute of its processor, so that the options can be checked"
            )
        account = _Account(self, processor, writes[0].event_id.partition(":")[0], _place(first), deadline)
        rows = self._encoded([write for write in writes if not account.has(_row_id(write))], refusals, deadline)
        account.end_plan(rows)
        account.take([row for row in rows if not account.has(row.id)], refusals)
        return refusals

    def resolve(self, processor: str, shard: str, *, rows_are_in: bool, timeout: float = 30.0) -> None:
        """Say whether the rows of the shard's plan are in the table, where BigQuery can't tell: its stream has expired.

        It is for an operator who has looked, with the processor stopped. ``shard`` is ``<stream>/<shardId>``.
        """
        account = _Account(self, processor, shard, None, time.monotonic() + timeout)
        account.decide(rows_are_in)

    def close(self) -> None:
        """Close the plan store, and the clients that the sink made."""
        self._plans.close()
        if self._own_streams and self._streams is not None:
            self._streams.close()
            self._streams = None
        super().close()

    def _encoded(self, writes: list[Write], refusals: list[Refusal], deadline: float) -> list[_Row]:
        """The rows in the table's format, all of them in one; what does not fit is refused."""
        form = self._form(deadline)
        rows, refused, lacks_columns = self._encode(writes, form)
        if lacks_columns:
            newer = self._form(deadline, younger_than=_SCHEMA_AGE)
            if newer is not form:
                rows, refused, _ = self._encode(writes, newer)
        refusals += refused
        return rows

    def _encode(self, writes: list[Write], form: RowFormat) -> tuple[list[_Row], list[Refusal], bool]:
        """The rows, what is refused, and whether that is so for columns that the format lacks."""
        rows: list[_Row] = []
        refused: list[Refusal] = []
        lacks_columns = False
        for write in writes:
            row = write.payload if self._id_column is None else write.payload | {self._id_column: write.write_id}
            try:
                data = form.encode(row)
            except ValueError as error:
                lacks_columns |= isinstance(error, NoSuchColumn)
                refused.append(Refusal(write, SinkError(str(error)), "invalid"))
                continue
            rows.append(_Row(_row_id(write), data, write, form))
        return rows, refused, lacks_columns

    def _form(self, deadline: float, younger_than: float = float("inf")) -> RowFormat:
        if self._format is None or time.monotonic() - self._format_read_at > younger_than:
            self._path, self._format = read_format(self._destination, deadline=deadline)
            self._format_read_at = time.monotonic()
        return self._format

    def _count_in_table(self, write_ids: Sequence[str], deadline: float) -> int:
        """How many of the ids the table has."""
        from google.cloud import bigquery

        column, table = self._id_column, ".".join(self._path.split("/")[1::2])
        # Both names were checked, and the ids are parameters.
        query = f"SELECT COUNT(DISTINCT {column}) AS n FROM `{table}` WHERE {column} IN UNNEST(@ids)"  # noqa: S608
        options = bigquery.QueryJobConfig(
            query_parameters=[bigquery.ArrayQueryParameter("ids", "STRING", list(write_ids))], use_query_cache=False
        )
        timeout = time_out(deadline)
        (row,) = self._destination.client.query_and_wait(
            query, job_config=options, api_timeout=timeout, wait_timeout=timeout
        )
        return int(row.n)

    def _write_streams(self) -> WriteStreams:
        if self._streams is None:
            self._streams = open_streams()
        return self._streams


class _Row:
    """One row in its table's format, on its way."""

    __slots__ = ("data", "form", "id", "write")

    def __init__(self, row_id: RowId, data: bytes, write: Write, form: RowFormat) -> None:
        self.id = row_id
        self.data = data
        self.write = write
        self.form = form


class _Account:
    """What is known of one shard's rows, in one call. Whatever it raises, the rows that have no answer stay in the stream."""

    def __init__(
        self, sink: BigQueryExactlyOnceSink, processor: str, shard: str, first: Place | None, deadline: float
    ) -> None:
        self._sink = sink
        self._key = processor, shard
        self._deadline = deadline
        sink._form(deadline)  # It tells the table's whole name, too.
        entry = sink._plans.read(processor, sink._path, shard, deadline=deadline)
        self._version = entry.version if entry else 0
        plan = decode_plan(entry.data) if entry else Plan()
        self._stream, self._base, self._token = plan.stream, plan.base, plan.token
        self._first = plan.floor if first is None else first
        # What stands below comes again only from who has not heard that it was settled.
        self._floor = max(plan.floor, self._first)
        self._below_plan = plan.floor
        self._settled = {row for row in plan.settled if row[:2] >= self._floor}
        self._pending = plan.rows
        if self._first < plan.floor:
            log.warning(
                "%s: a batch of %s begins before what was settled, so those of its rows are left out: an old delivery, or more "
                "than one lane, which %s can't have",
                processor,
                shard,
                type(sink).__name__,
            )

    def has(self, row: RowId) -> bool:
        """Whether it is in already."""
        return row[:2] < self._below_plan or row in self._settled

    def end_plan(self, rows: Sequence[_Row]) -> None:
        """Bring the plan that was found to an end: its rows are in, or never will be. ``rows`` are what is to be written."""
        pending = self._pending
        if not pending or not rows:
            return
        again = rows[: len(pending)]
        if self._sink._known.get(self._key) == self._token or self._first > pending[-1][:2]:
            # Who answered for the last of its rows had them in. If they were discarded unanswered, the next append says so.
            self._is_in(pending)
        elif tuple(row.id for row in again) == pending and size_of(again) <= REQUEST_BYTES:
            self._append_again(again)
        elif self._closed_with(pending):
            self._is_in(pending)
        self._pending = ()

    def take(self, rows: list[_Row], refusals: list[Refusal]) -> None:
        """Have rows in that are not, each request by a plan of its own."""
        for request in full_requests(rows):
            self._take_request(request, refusals)

    def decide(self, are_in: bool) -> None:
        """End the plan by what somebody says, and leave its stream."""
        if are_in:
            self._settled.update(self._pending)
        self._stream = ""
        self._save(())

    def _take_request(self, rows: list[_Row], refusals: list[Refusal]) -> None:
        for _ in range(_MOST_STREAMS):
            if not rows:
                return
            if not self._stream:
                self._stream, self._base = self._new_stream(), 0
            self._save(tuple(row.id for row in rows))
            try:
                self._append(rows)
                break
            except StreamGone:
                # The plan is new, and nobody has sent its rows before. Should no other stream be had, nothing is in doubt.
                self._stream = ""
                self._save(())
            except StreamClosed:
                if self._closed_with([row.id for row in rows]):
                    break
            except RowsRefused as error:
                # They may fit one day, for somebody who has this plan still: the offset can't have another one.
                if self._closed_with([row.id for row in rows]):
                    break
                for index, reason in error.reasons.items():
                    told = SinkError(f"BigQuery refused the row: {reason}")
                    refusals.append(Refusal(rows[index].write, told, "invalid"))
                rows = [row for index, row in enumerate(rows) if index not in error.reasons]
        else:
            raise SinkError(
                f"{_MOST_STREAMS} write streams in turn took no rows: somebody else finalizes them, or the table changes"
            )
        self._is_in([row.id for row in rows])

    def _append_again(self, rows: Sequence[_Row]) -> None:
        ids = [row.id for row in rows]
        try:
            self._append(rows)
        except (StreamClosed, RowsRefused):
            if not self._closed_with(ids):
                return
        except StreamGone as error:
            if not self._are_in_table(ids, error):
                return
        self._is_in(ids)

    def _is_in(self, rows: Iterable[RowId]) -> None:
        rows = list(rows)
        self._settled.update(row for row in rows if row[:2] >= self._floor)
        self._base += len(rows)
        self._sink._known[self._key] = self._token

    def _closed_with(self, rows: Sequence[RowId]) -> bool:
        """Close the stream, so that whoever has its plan is shut out too, and say whether the plan's ``rows`` are in."""
        streams = self._sink._write_streams()
        try:
            ends_at = self._ask(lambda timeout: streams.finalize(self._stream, timeout=timeout))
        except (StreamGone, StreamClosed) as error:
            return self._are_in_table(rows, error)
        if self._base < ends_at < self._base + len(rows):
            raise SinkError(
                f"the write stream {self._stream} has {ends_at} rows, which is no end of a plan: somebody else writes to it"
            )
        self._stream = ""
        return ends_at > self._base

    def _are_in_table(self, rows: Sequence[RowId], error: SinkError) -> bool:
        """Whether the rows of a stream that takes no more, and can't be counted, are in: by their ids, where they have them."""
        processor, shard = self._key
        if self._sink._id_column is None:
            raise SinkError(
                f"a plan's write stream can't be counted: are its {len(rows)} rows in? Look, then call "
                f"{type(self._sink).__name__}.resolve({processor!r}, {shard!r}, rows_are_in=…)"
            ) from error
        ids = [f"{shard}:{number}:{sub}/{processor}/{n}" for number, sub, n in rows]
        found = self._sink._count_in_table(ids, self._deadline)
        if 0 < found < len(rows):
            raise SinkError(
                f"the table has {found} of {len(rows)} rows of a plan: somebody else has changed it"
            ) from error
        self._stream = ""
        return found > 0

    def _new_stream(self) -> str:
        streams, path = self._sink._write_streams(), self._sink._path
        return self._ask(lambda timeout: streams.create(path, timeout=timeout))

    def _append(self, rows: Sequence[_Row]) -> None:
        # Not the table's format as it is by now: rows are read by what they were written by.
        streams, form = self._sink._write_streams(), rows[0].form
        data = [row.data for row in rows]
        try:
            self._ask(lambda timeout: streams.append(self._stream, self._base, form.descriptor, data, timeout=timeout))
        except SinkError as error:
            if lacks_columns(error):
                self._sink._format = None
            raise

    def _ask(self, request: Callable[[float], T]) -> T:
        return ask(lambda: request(time_out(self._deadline)), deadline=self._deadline)

    def _save(self, rows: tuple[RowId, ...]) -> None:
        """Record the next plan. SinkError where another invocation has recorded one since ours was read: it has the shard."""
        self._token = uuid.uuid4().hex
        self._version += 1
        settled = frozenset(row for row in self._settled if row[:2] >= self._floor)
        data = encode_plan(Plan(self._stream, self._base, self._floor, settled, rows, self._token))
        plans, (processor, shard) = self._sink._plans, self._key
        if len(data) > plans.most_bytes:
            raise SinkError(
                f"the plan of {shard} has {len(data):,} bytes, and its store takes {plans.most_bytes:,}: make batches smaller"
            )
        if not plans.save(processor, self._sink._path, shard, Entry(self._version, data), deadline=self._deadline):
            raise SinkError(f"another invocation of {processor} writes the rows of {shard}, so this one stops")


def _is_of_a_stream(write: Write) -> bool:
    return write._record is not None and write._record.source == "kinesis"


def _from_a_queue(write: Write) -> Refusal:
    error = SinkError(
        "a row of a record that a queue or a topic brought has no place in its shard, so it can't be told whether it is in: "
        "put the record back into its stream"
    )
    return Refusal(write, error, "failed")


def _place(record: Record) -> Place:
    return int(record.sequence_number or 0), record.sub_sequence_number or 0


def _row_id(write: Write) -> RowId:
    assert write._record is not None  # Delivery has stamped it.
    return (*_place(write._record), write._n)
