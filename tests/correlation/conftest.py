"""Clients of moto, and what they sent: the requests as they went out, which moto then answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import boto3
import pytest

from streamkit import correlation

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


class Sent(NamedTuple):
    """A request on the wire."""

    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode(), keep_blank_values=True).items()}


class Account:
    """Clients that are instrumented, one a service, and all that they sent."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._clients: list[Any] = []
        self.sent: list[Sent] = []

    def plain(self, service: str) -> Any:
        client = boto3.client(
            service,
            endpoint_url=self._endpoint,
            region_name="us-east-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
        )
        self._clients.append(client)
        client.meta.events.register("before-send", self._keep)
        return client

    def client(self, service: str, **options: bool) -> Any:
        return correlation.instrument(self.plain(service), **options)

    def _keep(self, request: Any, **_: Any) -> None:
        body = request.body if isinstance(request.body, bytes) else (request.body or "").encode()
        headers = {
            str(name).lower(): value.decode() if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
        }
        self.sent.append(Sent(headers, body))

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def account(moto_endpoint: str) -> Iterator[Account]:
    account = Account(moto_endpoint)
    yield account
    account.close()


@pytest.fixture
def follow() -> Callable[..., Any]:
    """``with follow("r-1", …):`` what came with an HTTP request."""

    def use(identity: str = "r-1", **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return correlation.use(correlation.of_event({"headers": {"x-correlation-id": identity, **named}}))

    return use
