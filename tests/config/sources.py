"""A clock that is moved by hand, a source that can be held, and the end of what runs in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import boto3

from streamkit.aws import make_client
from streamkit.config import Found
from streamkit.testing import MemoryParameters

__all__ = ["Clock", "HeldParameters", "client_for", "settle", "ssm_client"]


class Clock:
    """The wall clock of a test, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.calls = 0

    def __call__(self) -> float:
        self.calls += 1
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class HeldParameters(MemoryParameters):
    """Gives no answer while it is held, as a service that hangs, or a thread that is frozen in a request."""

    def __init__(self, parameters: Mapping[str, str] | None = None) -> None:
        super().__init__(parameters)
        self.let_go = threading.Event()
        self.let_go.set()

    def fetch(self, names: Sequence[str], *, deadline: float) -> Mapping[str, Found]:
        answer = super().fetch(names, deadline=deadline)
        assert self.let_go.wait(60)
        return answer


def settle() -> None:
    """Until nothing asks any more."""
    for thread in threading.enumerate():
        if thread.name == "streamkit-config":
            thread.join(30)
            assert not thread.is_alive()


def client_for(service: str, endpoint: str, timeout: float) -> Any:
    """boto3's, as streamkit makes it, for a server of this machine."""
    session = boto3.session.Session(aws_access_key_id="any", aws_secret_access_key="any")
    return make_client(service, "a test", timeout, region="us-east-1", endpoint_url=endpoint, session=session)


@contextmanager
def ssm_client(endpoint: str) -> Iterator[Any]:
    """A client of moto's SSM, whose first request has loaded it: on a busy machine that takes seconds."""
    client = client_for("ssm", endpoint, 60.0)
    client.describe_parameters()
    yield client
    client.close()
