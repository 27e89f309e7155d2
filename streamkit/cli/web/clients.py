"""The clients of a console: one a service, kept for as long as it runs."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ..connection import explained, masked, opened

__all__ = ["Clients"]


class Clients:
    """Safe for several threads. A person waits, so a call is given up after ten seconds and tried twice at most (``tries``)."""

    def __init__(self, options: argparse.Namespace, *, tries: int = 2) -> None:
        self._tries = tries
        self._options = options
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}
        self._sent = 0

    @contextmanager
    def using(self, service: str, what: str, noun: str = "stream") -> Iterator[Any]:
        """The client of ``service``. What goes wrong in the block is a StreamkitError that says what to do about ``what``."""
        with explained(what, noun):
            with self._lock:
                client = self._made.get(service)
                if client is None:
                    client = opened(self._options, service, connect_timeout=3.0, read_timeout=10.0, tries=self._tries)
                    client.meta.events.register("before-send", self._count)
                    self._made[service] = client
            yield client

    def sent(self) -> int:
        """How many requests were sent so far, each try and each page of an answer."""
        with self._lock:
            return self._sent

    def _count(self, **_: Any) -> None:
        """botocore's handler, before it sends a request."""
        with self._lock:
            self._sent += 1

    def endpoint(self) -> str:
        """Where this is, for people: the endpoint's URL without credentials, or AWS and its region."""
        with self.using("kinesis", "of the console", "endpoint") as client:
            url: str = client.meta.endpoint_url
            region: str = client.meta.region_name
        host = urlsplit(url).hostname or ""
        return (
            f"AWS {region}"
            if host.endswith((".amazonaws.com", ".api.aws", ".amazonaws.com.cn"))
            else f"{masked(url)} {region}"
        )

    def close(self) -> None:
        with self._lock:
            for client in self._made.values():
                client.close()
            self._made.clear()
