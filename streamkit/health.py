"""How a container is, in one value: what answers the ping ``{"streamkit": "health"}``.

It only looks. Nothing is sent anywhere, no client is made, and what it says holds no value of the environment: of what is wrong
it names the variable.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from typing import Any

from .breaker import Breaker
from .claims.base import ClaimStore
from .errors import ConfigurationError
from .ledgers.base import Ledger
from .marks.base import MarkStore
from .plans.base import PlanStore
from .processor import RecordProcessor, named_attributes_of
from .progress.base import ProgressStore
from .queues.base import Queue
from .sinks.base import Sink
from .version import VERSION
from .warm import Container, ping_of

__all__ = ["Subject", "answer_to", "health", "why"]

#: A processor's name, and the processor; or its class where it is not made yet; or None where only its factory knows.
Subject = tuple[str, RecordProcessor | type[RecordProcessor] | None]

_ROLES: dict[type, str] = {
    Sink: "sink",
    Queue: "queue",
    ProgressStore: "progress",
    Ledger: "ledger",
    ClaimStore: "claims",
    PlanStore: "plans",
    MarkStore: "marks",
}
# By what a part of streamkit's tells its place: it reads the environment then, and raises where that is wrong.
_PLACES = ("place", "table", "bucket")
# A value of the environment that is shorter may be any word.
_SHORTEST_VALUE = 4


def health(container: Container, subjects: Iterable[Subject], fault: BaseException | None = None) -> dict[str, Any]:
    """``fault`` is why the processors could not be made. All of it can be JSON."""
    processors = [_processor(name, subject) for name, subject in subjects]
    found: dict[str, Any] = {
        "healthy": fault is None and all(one["healthy"] for one in processors),
        "streamkit": VERSION,
        "python": platform.python_version(),
        "function": os.environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
        "function_version": os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
        "container": container.id,
        "cold": container.is_cold,
        "initialization": container.initialization,
        "age_seconds": round(container.age, 3),
        "invocations": container.invocations,
        "processors": processors,
    }
    if fault is not None:
        found["fault"] = why(fault)
    return found


def answer_to(event: Any, container: Container) -> dict[str, Any] | None:
    """What a function without a processor answers to a ping of streamkit's own, before it does anything; None for another event.

    Counts the invocation. There is nothing to build, so ``"build"`` changes nothing. StreamkitError for a wrong ping.
    """
    container.invocations += 1
    if (ping := ping_of(event)) is None:
        return None
    ping.wait()
    return ping.answer(container) if ping.kind == "warm" else health(container, [])


def why(error: BaseException) -> str:
    """What may be said of an error: the message of a ConfigurationError, without a value of the environment; of any other its
    kind alone. A SinkError may be the user's, and quote what a server said.
    """
    if not isinstance(error, ConfigurationError):
        return type(error).__name__
    message = str(error)
    for value in sorted(os.environ.values(), key=len, reverse=True):
        if len(value) >= _SHORTEST_VALUE:
            message = message.replace(value, "…")
    return f"{type(error).__name__}: {message}"


def _processor(name: str, subject: RecordProcessor | type[RecordProcessor] | None) -> dict[str, Any]:
    parts = [] if subject is None else list(_parts(subject))
    return {
        "name": name,
        "healthy": all(part["configured"] and part.get("circuit") != "open" for part in parts),
        "made": isinstance(subject, RecordProcessor),
        "policy": None if subject is None else type(subject.on_failure).__name__,
        "parts": parts,
    }


def _parts(subject: RecordProcessor | type[RecordProcessor]) -> Iterator[dict[str, Any]]:
    policy = subject.on_failure
    places: dict[str, Any] = {
        **named_attributes_of(subject),
        "on_failure.queue": policy.queue,
        "on_failure.ledger": policy.ledger,
        "on_failure.dead_letters": policy.dead_letters,
    }
    seen: set[int] = set()
    for at, value in places.items():
        # A queue's claims, a sink's plans, the store of an Idempotency.
        inner = {f"{at}.{name}": _inner(value, name) for name in ("claims", "plans", "store")}
        for where, part in {at: value, **inner}.items():
            role = next((role for base, role in _ROLES.items() if isinstance(part, base)), None)
            if role is not None and id(part) not in seen:
                seen.add(id(part))
                yield _part(where, role, part)


def _part(at: str, role: str, part: Any) -> dict[str, Any]:
    fault = _fault(part)
    told: dict[str, Any] = {"at": at, "role": role, "kind": type(part).__name__, "configured": fault is None}
    if fault is not None:
        told["reason"] = why(fault)
    if role == "sink":
        breaker: Breaker | None = part._breaker
        told["circuit"] = "open" if breaker is not None and breaker.is_open else "closed"
    return told


def _inner(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001  # A property of the user's own: what it does not give is no part.
        return None


def _fault(part: Any) -> Exception | None:
    """Why a part has no place; None where it has one, or none is asked for."""
    try:
        for name in _PLACES:
            if isinstance(getattr(type(part), name, None), property):
                getattr(part, name)
        if callable(url := getattr(part, "_url", None)):
            url()
    except Exception as error:  # noqa: BLE001  # The part may be the user's, and ``why`` tells of its error no more than the kind.
        return error
    return None
