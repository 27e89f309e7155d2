"""What goes onward: what was captured, with the span that is open now in the place of the one that it came from."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from .value import Correlation

__all__ = ["TraceContext", "onward", "trace_by"]

#: The traceparent and the tracestate of the span that is open; None where none is.
TraceContext = Callable[[], tuple[str, str | None] | None]

_sources: list[TraceContext] = []


def trace_by(source: TraceContext) -> None:
    """Ask ``source`` for the open span from now on, in this process."""
    if source not in _sources:
        _sources.append(source)


def onward(correlation: Correlation) -> Correlation:
    """``correlation`` as the next one is to get it."""
    for source in _sources:
        found = source()
        if found is not None:
            return msgspec.structs.replace(correlation, traceparent=found[0], tracestate=found[1])
    return correlation
