"""Follow an event through streams, topics, queues, functions and retries: docs/correlation.md.

    from streamkit import correlation

    correlation.instrument(boto3_client)     what the client sends on carries the event's ids
    correlation.current().id                 the id of the record that `process` works on
    correlation.add("user-id", "u-7")        one id more, from here on
    correlation.log_to(logging.getLogger())  every line has them

What a cold start imports is the context variable. The rest is imported by who asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from .context import add, check, current, each, is_debug, of, use
from .value import Correlation, configure

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Correlation",
    "add",
    "attach",
    "captured",
    "check",
    "configure",
    "current",
    "each",
    "headers",
    "instrument",
    "is_debug",
    "log_to",
    "of",
    "of_event",
    "structlog_processor",
    "use",
]

Client = TypeVar("Client")
Function = TypeVar("Function", bound="Callable[..., Any]")


def instrument(client: Client, *, field: bool = True, envelope: bool = False) -> Client:
    """Let what ``client`` sends carry what is followed, and return it. Doing it again sets the options anew.

    It is a boto3 client, resource or session (clients made of it later), a ``requests.Session``, or an httpx client.
    ``field`` and ``envelope`` are for AWS: whether ``__context__`` is put into payloads that are JSON objects, and whether
    other data of Kinesis goes into the binary envelope, which streamkit opens. TypeError for anything else.
    """
    from .http import instrument_http

    if not instrument_http(client):
        from .aws import instrument_aws

        instrument_aws(client, field=field, envelope=envelope)
    return client


def attach(data: bytes, *, envelope: bool = False) -> bytes:
    """``data`` with what is followed in its ``__context__``, for a producer that is not instrumented. EndlessChain as there.

    What is no JSON object stays as it is, or is put into the binary envelope.
    """
    from .aws import attach

    return attach(data, envelope=envelope)


def headers() -> dict[str, str]:
    """What is followed, as HTTP headers, for a client that ``instrument`` does not know."""
    from .http import headers

    return headers()


def of_event(event: Any, context: Any = None) -> Correlation:
    """What came with an event of API Gateway, a function URL, a load balancer, EventBridge, Step Functions or a direct call."""
    from .function import of_event

    return of_event(event, context)


def captured(function: Function) -> Function:
    """A decorator for a Lambda function that is no processor: what came with its event is followed while it runs.

    EndlessChain where the event has gone through too many functions. Of a stream or a queue, whose events have many records,
    nothing but the request's id is known here.
    """
    from .function import captured

    return captured(function)


def log_to(target: Any, level: int | str = 0) -> None:
    """Put a ``log.CorrelationFilter`` on a ``logging.Logger`` and its handlers, on powertools' ``Logger``, or on a handler."""
    from .log import log_to

    log_to(target, level)


def structlog_processor(logger: Any, method_name: str, event_dict: Any) -> Any:
    """What is followed, for structlog's ``processors``: keys that the line has already stay as they are."""
    from .log import structlog_processor

    return structlog_processor(logger, method_name, event_dict)
