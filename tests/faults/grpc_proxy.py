"""Stands between a client and any gRPC service, and harms calls as a test says; it looks into none of the messages itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from .proxy import Exchanged, Proxy, hold, pass_on

__all__ = ["Act", "Call", "Ended", "GrpcProxy", "end_with", "hold", "lose_the_answer", "pass_on"]

Act = Callable[["Call"], "list[bytes]"]


class Ended(Exception):
    """A call ends with a status."""

    def __init__(self, code: Any, details: str = "told to", trailing: Any = ()) -> None:
        super().__init__(details)
        self.code, self.details, self.trailing = code, details, trailing


class Call(Exchanged):
    """One call, and what became of it. ``messages`` are all of the caller's, as bytes."""

    def __init__(
        self, method: str, messages: list[bytes], metadata: Any, channel: Any, lifted: threading.Event
    ) -> None:
        super().__init__(lifted)
        #: As ``AppendRows``.
        self.method = method.rpartition("/")[2]
        self.messages = messages
        self._path, self._metadata, self._channel = method, metadata, channel

    def forward(self) -> list[bytes]:
        """The service's answers; Ended where it ends with another status than OK."""
        try:
            # No serializers: bytes in, bytes out. A unary call is a stream of one message on the wire.
            answers = list(
                self._channel.stream_stream(self._path)(iter(self.messages), timeout=30, metadata=self._metadata)
            )
        except grpc.RpcError as error:
            raise Ended(error.code(), error.details(), error.trailing_metadata()) from None
        finally:
            self.reached += self.messages
        return answers


def lose_the_answer(call: Call) -> list[bytes]:
    """Let the service do it, and end the call as a broken connection does."""
    call.harmed = True
    call.forward()
    raise Ended(grpc.StatusCode.UNAVAILABLE, "Socket closed")


def end_with(code: Any) -> Act:
    """End each call with a status, before the service has seen it."""

    def act(call: Call) -> list[bytes]:
        call.harmed = True
        raise Ended(code)

    return act


class GrpcProxy(Proxy[Call], grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types.
    """In front of ``upstream``, a ``host:port``, on a port of its own that stays its own while nobody listens on it."""

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self._channel = grpc.insecure_channel(upstream)
        self._listen()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        super().close()
        self._channel.close()

    def service(self, handler_call_details: Any) -> Any:
        """grpc's own hook: whose call it is."""
        details = handler_call_details

        def handle(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
            metadata = [(key, value) for key, value in details.invocation_metadata if _is_the_callers(key)]
            call = Call(details.method, list(messages), metadata, self._channel, self.lifted)
            ended: Ended | None = None
            answers: list[bytes] = []
            try:
                with self.in_hand(call) as act:
                    answers = act(call)
            except Ended as error:
                ended = error
            except Exception as error:
                self.errors.append(error)
                raise
            if ended is not None:
                context.set_trailing_metadata(tuple(ended.trailing))
                context.abort(ended.code, ended.details)
            yield from answers

        return grpc.stream_stream_rpc_method_handler(handle)

    def _listen(self) -> None:
        self._pool = ThreadPoolExecutor(16)
        self._server = grpc.server(self._pool)
        self._server.add_generic_rpc_handlers((self,))
        assert self._server.add_insecure_port(self.endpoint) == self.port
        self._server.start()

    def _stop(self) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()


def _is_the_callers(key: str) -> bool:
    return key.startswith("x-goog-")
