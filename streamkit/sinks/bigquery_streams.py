"""BigQuery's write streams: rows appended at offsets. The one place where the Storage Write API's answers are understood.

Needs google-cloud-bigquery-storage: ``pip install kinesis-streamkit[bigquery-storage]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SinkError

__all__ = ["INSTALL", "RowsRefused", "StreamClosed", "StreamGone", "WriteStreams", "may_pass", "schema_has_changed"]

INSTALL = (
    "BigQueryExactlyOnceSink needs google-cloud-bigquery, google-cloud-bigquery-storage and tenacity: "
    "pip install 'kinesis-streamkit[bigquery-storage]'"
)
# The codes of gRPC, and those of BigQuery's StorageError that come in a status' details.
_OK, _INVALID, _NOT_FOUND, _EXISTS, _DENIED, _OUT_OF_RANGE, _UNAUTHENTICATED = 0, 3, 5, 6, 7, 11, 16
# CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE: what time mends.
_PASSING = frozenset({1, 2, 4, 8, 10, 13, 14})
_TABLE_NOT_FOUND, _STREAM_NOT_FOUND, _STREAM_STATE, _FINALIZED = 1, 3, 5, 6
_EXTRA_FIELDS, _OFFSET_EXISTS, _OFFSET_BEYOND = 7, 8, 9


class StreamClosed(SinkError):
    """The stream is finalized, or ends before the offset: nothing will ever be taken there in the order that was planned."""


class StreamGone(SinkError):
    """BigQuery does not know the stream any more: it expired, or its table was deleted."""


class RowsRefused(SinkError):
    """BigQuery took none of the rows, for some of them are wrong: ``reasons`` by their index."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"BigQuery refused {len(reasons)} rows")
        self.reasons = reasons


class Refused(SinkError):
    """Another answer that is no success. ``code`` is gRPC's."""

    def __init__(self, message: str, code: int, *, storage_code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.storage_code = storage_code


class WriteStreams:
    """The write streams of committed type of any table. ``client`` is a ``BigQueryWriteClient``.

    Tables are named ``projects/p/datasets/d/tables/t``; all times are seconds. What a method raises beside its own errors is
    an answer that ``may_pass`` or not.
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

    def append(self, stream: str, offset: int, descriptor: Any, rows: Sequence[bytes], *, timeout: float) -> None:
        """Have ``rows`` at ``offset``, all or none: they are there when this returns, by this request or an earlier one.

        Raises StreamClosed, StreamGone and RowsRefused, after which this request has not put them there.
        """
        from google.cloud.bigquery_storage_v1 import types

        data = types.AppendRowsRequest.ProtoData(
            writer_schema=types.ProtoSchema(proto_descriptor=descriptor),
            rows=types.ProtoRows(serialized_rows=rows),
        )
        request = types.AppendRowsRequest(write_stream=stream, offset=offset, proto_rows=data)
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
                if _is_there(_status_of(error)):
                    return
                raise
            if answer is None:
                raise Refused(f"BigQuery closed the connection without an answer for {_table_of(stream)}", 14)
            status = types.AppendRowsResponse.pb(answer).error
            if status.code == _OK or _is_there(status):
                return
            if answer.row_errors:
                raise RowsRefused({error.index: str(error.message) for error in answer.row_errors})
            raise _error_of(status, stream)

    def finalize(self, stream: str, *, timeout: float) -> int:
        """Shut the stream for everybody, and return how many rows it has got. StreamGone where nobody knows it any more."""
        with _understood(stream):
            return int(self._client.finalize_write_stream(name=stream, retry=None, timeout=timeout).row_count)

    def close(self) -> None:
        """Close the connection."""
        self._client.transport.close()


def may_pass(error: BaseException) -> bool:
    """Whether the same request may be answered later."""
    return isinstance(error, Refused) and error.code in _PASSING


def schema_has_changed(error: BaseException) -> bool:
    """Whether BigQuery's table lacks a column that the rows have."""
    return isinstance(error, Refused) and error.storage_code == _EXTRA_FIELDS


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
    if status.code == _OUT_OF_RANGE or storage_code == _OFFSET_BEYOND:
        return StreamClosed(f"the write stream ends before the offset, for {where}")
    if storage_code in (_FINALIZED, _STREAM_STATE) or (status.code == _INVALID and "finalized" in text):
        return StreamClosed(f"the write stream is finalized, for {where}")
    is_stream = "/streams/" in entity
    # The message is local-bigquery's.
    if is_stream and (
        storage_code == _STREAM_NOT_FOUND
        or (status.code == _NOT_FOUND and storage_code != _TABLE_NOT_FOUND)
        or (status.code == _INVALID and "invalid stream name" in text)
    ):
        return StreamGone(f"BigQuery does not know the write stream any more, for {where}")
    hint = ""
    if status.code == _NOT_FOUND:
        hint = ": create it, or correct its name"
    elif status.code in (_DENIED, _UNAUTHENTICATED):
        hint = ": its writer needs valid credentials with the permission bigquery.tables.updateData"
    elif storage_code == _EXTRA_FIELDS:
        hint = ": the table lacks a column of the rows"
    name = _name(status.code)
    return Refused(f"BigQuery answered {name} for {where}{hint}", status.code, storage_code=storage_code)


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
