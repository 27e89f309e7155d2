"""What came with the event of a function that is no processor: behind an HTTP API, EventBridge, Step Functions, or called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from ..errors import EndlessChain
from .capture import from_fields
from .context import use
from .payload import FIELD
from .value import Correlation, settings

__all__ = ["captured", "of_event"]

Function = TypeVar("Function", bound=Callable[..., Any])


def of_event(event: Any, context: Any = None) -> Correlation:
    """What came with an event: in HTTP headers, in ``__context__`` of the event or its detail, or in the client context.

    Where there is no id, it is that of the HTTP request, of the EventBridge event, or of the invocation. Never raises.
    """
    fields: dict[str, Any] = {}
    own_id: Any = getattr(context, "aws_request_id", "")
    if isinstance(event, Mapping):
        fields = _headers(event) or _context(event.get("detail")) or _context(event)
        request = event.get("requestContext")
        own_id = (_text(request, "requestId") if isinstance(request, Mapping) else "") or own_id
        if "detail-type" in event:
            own_id = _text(event, "id") or own_id
    if not fields:
        custom = getattr(getattr(context, "client_context", None), "custom", None)
        fields = dict(custom) if isinstance(custom, Mapping) else {}
    return from_fields(fields, own_id=own_id if isinstance(own_id, str) else "")


def captured(function: Function) -> Function:
    """See ``correlation.captured``."""

    @wraps(function)
    def run(event: Any, context: Any = None, *arguments: Any, **options: Any) -> Any:
        found = of_event(event, context)
        if found.call_chain_length > settings.longest_chain:
            raise EndlessChain(
                f"it has gone through {found.call_chain_length - 1} functions one after another before this one: a loop? Where "
                "it is meant to be that long, say so: correlation.configure(longest_chain=…)"
            )
        with use(found):
            return function(event, context, *arguments, **options)

    return run  # type: ignore[return-value]  # It is called as the function is.


def _headers(event: Mapping[str, Any]) -> dict[str, Any]:
    """The headers of an HTTP request, of which a name may come with several values: the first counts."""
    found: dict[str, Any] = {}
    for name, values in _items(event.get("multiValueHeaders")):
        if isinstance(name, str) and isinstance(values, list) and values:
            found.setdefault(name.lower(), values[0])
    for name, value in _items(event.get("headers")):
        if isinstance(name, str):
            found[name.lower()] = value
    return found


def _context(value: Any) -> dict[str, Any]:
    return dict(_items(value.get(FIELD))) if isinstance(value, Mapping) else {}


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    return text if isinstance(text, str) else ""
