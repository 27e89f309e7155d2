"""LocalStack, and the environment by which clients and the processes of tests find it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import pytest
from local_process import Running

__all__ = ["local_cloud"]


@contextlib.contextmanager
def local_cloud(env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Until the block ends; ``env`` is added to LocalStack's settings."""
    from local_localstack import localstack_server

    with localstack_server(env=env) as server, pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "ENDPOINT_URL": server.endpoint,
            "ACCESS_KEY_ID": "nobody",
            "SECRET_ACCESS_KEY": "nothing",
            "DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(f"AWS_{name}", value)
        yield server
