"""Run by ``local_graph`` in ArcadeDB's own environment: a server with one empty database, until SIGTERM.

    python graph_server.py BOLT_PORT HTTP_PORT DATABASE

The password of ``root`` comes by the environment variable ``GRAPH_SERVER_PASSWORD``. Everything it keeps is in the working
directory; a file ``ready`` there says that it answers.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import arcadedb_embedded

__all__: list[str] = []

_LOOPBACK = "127.0.0.1"


def main(bolt_port: int, http_port: int, database: str) -> None:
    # Before Java is there, which has a handler of its own.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = arcadedb_embedded.ArcadeDBServer(
        os.path.abspath("databases"),
        os.environ["GRAPH_SERVER_PASSWORD"],
        {
            "host": _LOOPBACK,
            "http_port": http_port,
            "server_plugins": "Bolt:com.arcadedb.bolt.BoltProtocolPlugin",
            "bolt_port": bolt_port,
        },
        jvm_kwargs={"heap_size": "512m"},
    )
    server.start()
    server.create_database(database)
    Path("ready").touch()
    signal.sigwait({signal.SIGTERM})
    server.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
