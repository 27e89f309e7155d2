"""moto's Kinesis in a process of its own, one request at a time: its stores are not safe for threads.

python -m tests.soak.cloud HOST PORT
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

__all__ = ["serve"]


class _OneAtATime:
    def __init__(self, application: Any) -> None:
        self._application = application
        self._turn = threading.Lock()

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        with self._turn:
            answer = self._application(environ, start_response)
            try:
                return list(answer)
            finally:
                if hasattr(answer, "close"):
                    answer.close()


class _Handler(MotoRequestHandler):
    # Connections stay open: making one costs as much as a request.
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1


def serve(host: str, port: int) -> None:
    """Serve until the process ends."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = _OneAtATime(DomainDispatcherApplication(create_backend_app))
    run_simple(host, port, application, threaded=True, request_handler=_Handler)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
