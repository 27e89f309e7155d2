"""OpenSearch: osmem-server, which keeps all in memory, in a process of its own.

    with opensearch_server() as server:
        OpenSearch(hosts=[server.endpoint])

What it does not do as OpenSearch does is listed in the README beside this file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from local_process import LOOPBACK, Running, answers, running
from osmem_server import resolve_binary

__all__ = ["opensearch_server"]


@contextlib.contextmanager
def opensearch_server(port: int = 0) -> Iterator[Running]:
    """An empty server until the block ends. Its state ends with it. 0 is any free port."""
    with running("opensearch", _command, answers("/"), ports=[port]) as server:
        yield server


def _command(port: int) -> Sequence[str]:
    return [
        resolve_binary(),
        "--addr",
        f"{LOOPBACK}:{port}",
        "--no-ja",
        "--parent-pid",
        str(os.getpid()),
        "--no-stdin-watch",
    ]
