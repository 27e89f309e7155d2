"""moto, the light stand-in for Kinesis, SQS, SNS, S3 and DynamoDB: in this process, or in one of its own.

    with moto_server() as moto:
        boto3.client("kinesis", endpoint_url=moto.endpoint, region_name="us-east-1", …)

What it does not do as the services do is listed in the README beside this file.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from local_process import LOOPBACK, Running, answers, running

__all__ = ["InTurn", "moto_in_process", "moto_server"]


class InTurn:
    """A WSGI application that gets one request at a time, but for those that wait for messages.

    moto's stores are not safe for threads: of two conditional writes at once both may find the condition true.
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self._turn = threading.Lock()

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        if environ.get("HTTP_X_AMZ_TARGET") == "AmazonSQS.ReceiveMessage":
            return self._answer(environ, start_response)
        with self._turn:
            return self._answer(environ, start_response)

    def _answer(self, environ: Any, start_response: Any) -> list[bytes]:
        answer = self._application(environ, start_response)
        try:
            return list(answer)
        finally:
            if hasattr(answer, "close"):
                answer.close()


@contextlib.contextmanager
def moto_in_process() -> Iterator[str]:
    """moto in a thread of this process; gives its endpoint. All such servers of one process share their state."""
    server = _server(0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def moto_server(port: int = 0) -> Iterator[Running]:
    """moto in a process of its own, for programs of several processes. Its state ends with it. 0 is any free port."""
    with running("moto", _command, answers("/moto-api/"), ports=[port]) as server:
        yield server


def _command(port: int) -> Sequence[str]:
    return [sys.executable, str(Path(__file__).resolve()), str(port)]


def _server(port: int) -> Any:
    from moto.core import responses
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    # What depends on names alone it would find out for each request, a fifth of its time: its folder's services, a service's
    # actions, and how they are written.
    application = DomainDispatcherApplication(create_backend_app)
    known = functools.cache(application.get_backend_for_host)
    application.get_backend_for_host = known  # type: ignore[method-assign]  # Of this one alone.
    for name in ("method_names_from_class", "camelcase_to_underscores"):
        setattr(responses, name, functools.cache(getattr(responses, name)))

    class Quiet(MotoRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            """Nobody reads them, and to write a line takes as long as to parse the request."""

    return make_server(LOOPBACK, port, InTurn(application), threaded=True, request_handler=Quiet)


if __name__ == "__main__":
    _server(int(sys.argv[1])).serve_forever()
