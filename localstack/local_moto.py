"""moto, the light stand-in for Kinesis, SQS, SNS, S3 and DynamoDB: in this process, or in one of its own.

    with moto_server() as moto:
        boto3.client("kinesis", endpoint_url=moto.endpoint, region_name="us-east-1", …)

What it does not do as the services do is listed in the README beside this file.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence

from local_process import LOOPBACK, Running, answers, running

__all__ = ["moto_in_process", "moto_server"]


@contextlib.contextmanager
def moto_in_process() -> Iterator[str]:
    """moto in a thread of this process; gives its endpoint. All such servers of one process share their state."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(LOOPBACK, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextlib.contextmanager
def moto_server(port: int = 0) -> Iterator[Running]:
    """moto in a process of its own, for programs of several processes. Its state ends with it. 0 is any free port."""
    with running("moto", _command, answers("/moto-api/"), ports=[port]) as server:
        yield server


def _command(port: int) -> Sequence[str]:
    return [sys.executable, "-m", "moto.server", "--host", LOOPBACK, "--port", str(port)]
