"""moto's Kinesis in a process of its own, one request at a time: its stores are not safe for threads.

python -m tests.soak.cloud HOST PORT
"""

from __future__ import annotations

import logging
import sys

from local_moto import InTurn
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

__all__ = ["serve"]


class _Handler(MotoRequestHandler):
    # Connections stay open: making one costs as much as a request.
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1


def serve(host: str, port: int) -> None:
    """Serve until the process ends."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = InTurn(DomainDispatcherApplication(create_backend_app))
    run_simple(host, port, application, threaded=True, request_handler=_Handler)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
