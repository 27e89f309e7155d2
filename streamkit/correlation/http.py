"""HTTP requests that carry what is followed, by requests or httpx. Neither is imported before you have done it."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote

from .context import current

__all__ = ["headers", "instrument_http"]

# X-Ray's header is written as botocore writes it.
_SAFE = "-=;:+&[]{}\"',"


def headers() -> dict[str, str]:
    """What is followed, as HTTP headers; none outside of any event. W3C trace context, X-Ray's, and ``x-correlation-…``."""
    from .onward import onward

    correlation = current()
    fields = onward(correlation).fields() if correlation.is_something else {}
    return {name: quote(value, safe=_SAFE) if name.startswith("x-amzn") else value for name, value in fields.items()}


def instrument_http(client: Any) -> bool:
    """Let a ``requests.Session`` or an httpx client send what is followed. False where ``client`` is neither."""
    requests, httpx = sys.modules.get("requests"), sys.modules.get("httpx")
    if requests is not None and isinstance(client, requests.Session):
        from .requests_adapter import Adapter

        for prefix, adapter in client.adapters.items():
            if not isinstance(adapter, Adapter):
                client.adapters[prefix] = Adapter(adapter, add_to)
        return True
    if httpx is not None and isinstance(client, httpx.Client | httpx.AsyncClient):
        hook = _add_awaited if isinstance(client, httpx.AsyncClient) else _add
        hooks = client.event_hooks
        if hook not in hooks["request"]:
            client.event_hooks = {**hooks, "request": [*hooks["request"], hook]}
        return True
    return False


def add_to(given: MutableMapping[str, str]) -> None:
    """Add what is followed to headers, whose names have no case: what is there already stays."""
    for name, value in headers().items():
        if name not in given:
            given[name] = value


def _add(request: Any) -> None:
    add_to(request.headers)


async def _add_awaited(request: Any) -> None:
    add_to(request.headers)
