"""BigQuery's write streams: rows appended at offsets. The one place where the Storage Write API's answers are understood.

Needs google-cloud-bigquery-storage: ``pip install kinesis-streamkit[bigquery-storage]``. Limits are those of BigQuery's "Storage
Write API" quotas: 10 MB a request.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from ..errors import SinkError
from .bigquery_errors import NoTable, SendAgain
from .google import credentials

__all__ = [
    "REQUEST_BYTES",
    "Refused",
    "RequestTooLarge",
    "RowsRefused",
    "StreamClosed",
    "StreamGone",
    "WriteStreams",
    "default_stream",
    "full_requests",
    "lacks_columns",
    "may_be_of_the_schema",
    "open_streams",
    "size_of",
]

#: What a request of rows may have. Less than BigQuery's 10 MB: the schema goes with the rows.
REQUEST_BYTES = 9_000_000
# Around a row in a request.
_AROUND_ROW = 8
_INSTALL = (
    "BigQuery's Storage Write API needs google-cloud-bigquery, google-cloud-bigquery-storage and tenacity: "
    "pip install 'kinesis-streamkit[bigquery-storage]'"
)
# The codes of gRPC, and those of BigQuery's StorageError that come in a status' details.
_OK, _INVALID, _NOT_FOUND, _EXISTS, _DENIED, _OUT_OF_RANGE, _UNAUTHENTICATED = 0, 3, 5, 6, 7, 11, 16
# CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE: what time mends.
_PASSING = frozenset({1, 2, 4, 8, 10, 13, 14})
_TABLE_NOT_FOUND, _STREAM_NOT_FOUND, _STREAM_STATE, _FINALIZED = 1, 3, 5, 6
_EXTRA_FIELDS, _OFFSET_EXISTS, _OFFSET_BEYOND = 7, 8, 9
_DEFAULT = "/streams/_default"
# In words alone: of BigQuery's two messages, and of gRPC's for a server that takes less.
_TOO_LARGE = re.compile(r"request too large|messagesize is too large|message larger than max", re.IGNORECASE)


class StreamClosed(SinkError):
    """The stream is finalized, or ends before the offset: nothing will ever be taken there in the order that was planned."""


class StreamGone(SinkError):
    """BigQuery does not know the stream any more: it expired, or its table was deleted."""


class RowsRefused(SinkError):
    """BigQuery took none of the rows, for some of them are wrong: ``reasons`` by their index, which quote nothing of them."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"BigQuery refused {len(reasons)} rows")
        self.reasons = reasons


class RequestTooLarge(SinkError):
    """BigQuery, or who stands before it, took nothing of a request that has too many bytes."""


class Refused(SinkError):
    """Another answer that is no success, and will be none. ``code`` is gRPC's."""

    def __init__(self, message: str, code: int, *, storage_code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.storage_code = storage_code


class WriteStreams:
    """The write streams of committed type of any table. ``client`` is a ``BigQueryWriteClient``.

    Tables are named ``projects/p/datasets/d/tables/t``; all times are seconds. What a method raises beside its own errors is
    SendAgain for an answer that may pass, and Refused.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def create(self, table: str, *, timeout: float) -> str:
        """A new stream's name."""
        from google.cloud.bigquery_storage_v1 import types

        stream = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
        with _understood(table):
            name: str = self._client.create_write_stream(
                parent=table, write_stream=stream, retry=None, timeout=timeout
            ).name
            return name

    def append(
        self, stream: str, offset: int | None, descriptor: Any, rows: Sequence[bytes], *, timeout: float
    ) -> bool:
        """Have ``rows`` at ``offset``, all or none: they are there when this returns, by this request or an earlier one.

        A default stream has no offsets: None. There a column that a row lacks gets the default that the table has for it.
        Returns whether BigQuery says that the table has another schema by now. Raises StreamClosed, StreamGone, RowsRefused,
        RequestTooLarge and NoTable, after which this request has not put them there.
        """
        from google.cloud.bigquery_storage_v1 import types

        data = types.AppendRowsRequest.ProtoData(
            writer_schema=types.ProtoSchema(proto_descriptor=descriptor),
            rows=types.ProtoRows(serialized_rows=rows),
        )
        missing = types.AppendRowsRequest.MissingValueInterpretation
        request = types.AppendRowsRequest(
            write_stream=stream,
            offset=offset,
            proto_rows=data,
            default_missing_value_interpretation=missing.DEFAULT_VALUE if offset is None else 0,
        )
        with _understood(stream):
            try:
                # A call for each request: no connection is kept over the times when Lambda freezes the process.
                answers = self._client.append_rows(
                    iter((request,)),
                    retry=None,
                    timeout=timeout,
                    metadata=(("x-goog-request-params", f"write_stream={stream}"),),
                )
                answer = next(iter(answers), None)
            except Exception as error:
                if offset is not None and _is_there(_status_of(error)):
                    return False
                raise
            if answer is None:
                raise SendAgain(f"BigQuery closed the connection without an answer for {_table_of(stream)}")
            told = types.AppendRowsResponse.pb(answer)
            if told.row_errors:
                raise RowsRefused({error.index: _telling(error.message) for error in told.row_errors})
            if told.error.code == _OK or (offset is not None and _is_there(told.error)):
                return bool(told.updated_schema.fields)
            raise _error_of(told.error, stream)

    def finalize(self, stream: str, *, timeout: float) -> int:
        """Shut the stream for everybody, and return how many rows it has got. StreamGone where nobody knows it any more."""
        with _understood(stream):
            return int(self._client.finalize_write_stream(name=stream, retry=None, timeout=timeout).row_count)

    def close(self) -> None:
        """Close the connection."""
        self._client.transport.close()


def open_streams() -> WriteStreams:
    """The streams of a client made by the environment: ``BIGQUERY_STORAGE_EMULATOR_HOST`` (``host:port``) names an endpoint
    without credentials. ImportError saying what to install."""
    try:
        from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
        from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    transport = None
    if endpoint := os.environ.get("BIGQUERY_STORAGE_EMULATOR_HOST"):
        import grpc

        transport = BigQueryWriteGrpcTransport(channel=grpc.insecure_channel(endpoint))
    # A transport brings credentials of its own.
    made = {"transport": transport} if transport else {"credentials": credentials()}
    return WriteStreams(cast(Any, BigQueryWriteClient)(**made))


def default_stream(table: str) -> str:
    """The stream that every table has, which takes rows from anybody, as often as they are sent."""
    return f"{table}{_DEFAULT}"


class _HasData(Protocol):
    data: bytes


R = TypeVar("R", bound=_HasData)


def size_of(rows: Iterable[_HasData]) -> int:
    """The bytes of encoded rows in a request."""
    return sum(len(row.data) + _AROUND_ROW for row in rows)


def full_requests(rows: Iterable[R]) -> list[list[R]]:
    """Encoded rows in requests that are full, in order."""
    requests: list[list[R]] = []
    room = 0
    for row in rows:
        size = len(row.data) + _AROUND_ROW
        if not requests or size > room:
            requests.append([])
            room = REQUEST_BYTES
        requests[-1].append(row)
        room -= size
    return requests


def lacks_columns(error: BaseException) -> bool:
    """Whether BigQuery knows a table that lacks a column of the rows' format."""
    return isinstance(error, Refused) and error.storage_code == _EXTRA_FIELDS


def may_be_of_the_schema(error: BaseException) -> bool:
    """Whether the table may have another schema than the rows' format."""
    return isinstance(error, Refused) and error.code == _INVALID


class _understood:  # noqa: N801  # Read as a verb: `with _understood(stream):`.
    """What the client raises within, as an error of this module."""

    def __init__(self, entity: str) -> None:
        self._entity = entity

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, SinkError):
            return
        status = _status_of(error)
        if status is None:
            return
        raise _error_of(status, self._entity) from error


def _status_of(error: BaseException) -> Any:
    """The ``google.rpc.Status`` of what a client raised; None where it is no answer of BigQuery's."""
    code = getattr(error, "grpc_status_code", None)
    if code is None:
        return None
    from google.rpc import status_pb2

    call: Any = getattr(error, "response", None)
    for key, value in (call.trailing_metadata() or ()) if hasattr(call, "trailing_metadata") else ():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    return status_pb2.Status(code=code.value[0], message=str(getattr(error, "message", "")))


def _storage_code(status: Any) -> int:
    """BigQuery's own code, where it has told one."""
    from google.cloud.bigquery_storage_v1 import types

    for detail in status.details:
        if detail.type_url.endswith("google.cloud.bigquery.storage.v1.StorageError"):
            return int(types.StorageError.deserialize(detail.value).code)
    return 0


def _is_there(status: Any) -> bool:
    return status is not None and (status.code == _EXISTS or _storage_code(status) == _OFFSET_EXISTS)


def _error_of(status: Any, entity: str) -> SinkError:
    """The error of an answer. BigQuery's own message may quote a row, and is left out."""
    storage_code, text = _storage_code(status), status.message.lower()
    where = _table_of(entity)
    if _TOO_LARGE.search(text):
        return RequestTooLarge(f"BigQuery found a request too large, for {where}")
    if status.code == _OUT_OF_RANGE or storage_code == _OFFSET_BEYOND:
        return StreamClosed(f"the write stream ends before the offset, for {where}")
    if storage_code in (_FINALIZED, _STREAM_STATE) or (status.code == _INVALID and "finalized" in text):
        return StreamClosed(f"the write stream is finalized, for {where}")
    is_stream = "/streams/" in entity and not entity.endswith(_DEFAULT)
    # The message is local-bigquery's.
    if is_stream and (
        storage_code == _STREAM_NOT_FOUND
        or (status.code == _NOT_FOUND and storage_code != _TABLE_NOT_FOUND)
        or (status.code == _INVALID and "invalid stream name" in text)
    ):
        return StreamGone(f"BigQuery does not know the write stream any more, for {where}")
    hint = ""
    if status.code == _NOT_FOUND:
        return NoTable(f"BigQuery answered {_name(status.code)} for {where}: create it, or correct its name")
    if status.code in (_DENIED, _UNAUTHENTICATED):
        hint = ": its writer needs valid credentials with the permission bigquery.tables.updateData"
    elif storage_code == _EXTRA_FIELDS:
        hint = ": the table lacks a column of the rows"
    answer = f"BigQuery answered {_name(status.code)} for {where}{hint}"
    if status.code in _PASSING:
        return SendAgain(answer)
    return Refused(answer, status.code, storage_code=storage_code)


def _name(code: int) -> str:
    from google.rpc import code_pb2

    try:
        return str(code_pb2.Code.Name(code))
    except ValueError:
        return f"code {code}"


def _table_of(entity: str) -> str:
    """``table p.d.t`` of the name of a table or of one of its streams."""
    parts = entity.split("/")
    return "table " + ".".join(parts[1:6:2]) if len(parts) >= 6 else entity


def _telling(message: str) -> str:
    """The beginning of a message up to what may quote the row."""
    return message.partition(":")[0].partition("'")[0].partition('"')[0].strip()[:100] or "it gave no reason"
