"""The Storage Write API over gRPC, in memory, that can be told to answer otherwise: what local-bigquery never answers.

with WriteApi() as api:
    api.script("AppendRows", Abort(StatusCode.ALREADY_EXISTS, storage_code=8))
    client of api.endpoint …
    api.calls == ["CreateWriteStream", "AppendRows"]
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import msgspec
from google.cloud.bigquery_storage_v1 import types
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc_status import rpc_status

__all__ = ["Abort", "Answer", "Hang", "Silence", "WriteApi"]

_SERVICE = "google.cloud.bigquery.storage.v1.BigQueryWrite"


class Abort(msgspec.Struct):
    """The call ends with a status. ``takes_effect``: only its answer is lost."""

    code: grpc.StatusCode
    message: str = "told to"
    storage_code: int = 0
    takes_effect: bool = False


class Answer(msgspec.Struct):
    """An answer of an append, as it is. ``takes_effect``: the rows are taken."""

    response: Any
    takes_effect: bool = False


class Silence(msgspec.Struct):
    """The call ends well, and without an answer."""


class Hang(msgspec.Struct):
    """The call has no answer and no end until who asks gives up."""


class WriteApi:
    """A server of one table, ``projects/local/datasets/shop/tables/orders``. Use it as a context.

    A request of over ``most_bytes`` is refused by gRPC itself, as RESOURCE_EXHAUSTED.
    """

    def __init__(self, *, most_bytes: int = 4 * 1024 * 1024) -> None:
        self._most_bytes = most_bytes
        #: Columns that it does not know: rows in a format that has one are refused.
        self.unknown_columns: set[str] = set()
        self.ends: dict[str, int] = {}
        self.finalized: set[str] = set()
        #: What was taken: the serialized rows.
        self.rows: list[bytes] = []
        self.calls: list[str] = []
        self.requests: list[Any] = []
        self._scripts: dict[str, deque[Any]] = defaultdict(deque)

    def script(self, method: str, *behaviours: Any) -> None:
        """Have the next calls of ``method`` behave so, one after another; None: as usual."""
        self._scripts[method].extend(behaviours)

    def __enter__(self) -> WriteApi:
        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool, options=[("grpc.max_receive_message_length", self._most_bytes)])
        handlers = {
            "CreateWriteStream": self._unary(
                "CreateWriteStream", self._create, types.CreateWriteStreamRequest, types.WriteStream
            ),
            "FinalizeWriteStream": self._unary(
                "FinalizeWriteStream",
                self._finalize,
                types.FinalizeWriteStreamRequest,
                types.FinalizeWriteStreamResponse,
            ),
            "AppendRows": grpc.stream_stream_rpc_method_handler(
                self._appends, types.AppendRowsRequest.deserialize, types.AppendRowsResponse.serialize
            ),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()

    def _unary(self, method: str, effect: Any, request: Any, response: Any) -> Any:
        def handle(request: Any, context: Any) -> Any:
            behaviour = self._next(method)
            if not isinstance(behaviour, Abort) or behaviour.takes_effect:
                answer = effect(request, context)
            if isinstance(behaviour, Abort):
                _abort(context, behaviour)
            return answer

        return grpc.unary_unary_rpc_method_handler(handle, request.deserialize, response.serialize)

    def _next(self, method: str) -> Any:
        self.calls.append(method)
        scripts = self._scripts[method]
        return scripts.popleft() if scripts else None

    def _create(self, request: Any, context: Any) -> Any:
        name = f"{request.parent}/streams/{len(self.ends)}"
        self.ends[name] = 0
        return types.WriteStream(name=name, type_=request.write_stream.type_)

    def _finalize(self, request: Any, context: Any) -> Any:
        if request.name not in self.ends:
            _abort(context, Abort(grpc.StatusCode.NOT_FOUND, "Requested entity was not found", 3))
        self.finalized.add(request.name)
        return types.FinalizeWriteStreamResponse(row_count=self.ends[request.name])

    def _appends(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in requests:
            behaviour = self._next("AppendRows")
            self.requests.append(request)
            if isinstance(behaviour, Silence):
                return
            if isinstance(behaviour, Hang):
                while context.is_active():
                    time.sleep(0.02)
                return
            if isinstance(behaviour, Answer):
                if behaviour.takes_effect:
                    self._append(request, context)
                yield behaviour.response
                continue
            if not isinstance(behaviour, Abort) or behaviour.takes_effect:
                self._append(request, context)
            if isinstance(behaviour, Abort):
                _abort(context, behaviour)
            result = {} if _is_default(request) else {"offset": request.offset}
            yield types.AppendRowsResponse(append_result=result, write_stream=request.write_stream)

    def _append(self, request: Any, context: Any) -> None:
        """As the service documents it: an error of the offset ends the connection, with its own code in the details."""
        name = request.write_stream
        rows = list(request.proto_rows.rows.serialized_rows)
        columns = {field.name for field in request.proto_rows.writer_schema.proto_descriptor.field}
        if columns & self.unknown_columns:
            _abort(context, Abort(grpc.StatusCode.INVALID_ARGUMENT, "Input schema has more fields than BigQuery", 7))
        if _is_default(request):
            if "offset" in request:
                _abort(
                    context, Abort(grpc.StatusCode.INVALID_ARGUMENT, "offset is not supported on the default stream")
                )
            self.rows += rows
            return
        if name not in self.ends:
            _abort(context, Abort(grpc.StatusCode.NOT_FOUND, "Requested entity was not found", 3))
        if name in self.finalized:
            _abort(context, Abort(grpc.StatusCode.INVALID_ARGUMENT, "no word of it", 6))
        if request.offset < self.ends[name]:
            _abort(context, Abort(grpc.StatusCode.ALREADY_EXISTS, "The offset is within stream", 8))
        if request.offset > self.ends[name]:
            _abort(context, Abort(grpc.StatusCode.OUT_OF_RANGE, "The offset is beyond stream", 9))
        self.rows += rows
        self.ends[name] += len(rows)


def _is_default(request: Any) -> bool:
    return str(request.write_stream).endswith("/streams/_default")


def _abort(context: Any, abort: Abort) -> None:
    status = status_pb2.Status(code=abort.code.value[0], message=abort.message)
    if abort.storage_code:
        error = types.StorageError(code=abort.storage_code, error_message=abort.message)
        detail = any_pb2.Any(
            type_url="type.googleapis.com/google.cloud.bigquery.storage.v1.StorageError",
            value=types.StorageError.serialize(error),
        )
        status.details.add().CopyFrom(detail)
    context.abort_with_status(rpc_status.to_status(status))
