"""What an event is followed by, as a value; and the settings of the process."""

from __future__ import annotations

import msgspec

from ..errors import ConfigurationError

__all__ = [
    *("CHAIN", "DEBUG", "ID", "LONGEST_CHAIN", "NOTHING", "PREFIX", "XRAY"),
    *("Correlation", "configure", "read_length", "settings"),
]

# Names on the wire: those of the x-correlation- convention, of the W3C, and of X-Ray's header.
PREFIX = "x-correlation-"
ID = "x-correlation-id"
CHAIN = "call-chain-length"
DEBUG = "debug-log-enabled"
XRAY = "x-amzn-trace-id"
# A count beyond it says no more than that the chain has no end.
LONGEST_CHAIN = 1_000_000
_MOST_DIGITS = 256


class Correlation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an event is followed by. All of its texts are printable ASCII, of at most 256 characters (``tracestate``: 512).

    ``ids`` has names in lower case that begin with ``x-correlation-``, twelve at most. ``traceparent`` and ``tracestate`` are the
    W3C's, ``xray`` is X-Ray's trace header. ``is_debug`` was sampled once, by the first function of the chain.
    ``call_chain_length`` is 1 in the first function, 2 in the one that it sent to; 0 outside of any.
    """

    ids: dict[str, str] = {}
    traceparent: str | None = None
    tracestate: str | None = None
    xray: str | None = None
    is_debug: bool = False
    call_chain_length: int = 0
    # Whether it came with the event, or was added to it. What was made of the event's own id can be made again.
    is_carried: bool = True

    @property
    def id(self) -> str:
        """``x-correlation-id``; empty outside of any event."""
        return self.ids.get(ID, "")

    @property
    def is_something(self) -> bool:
        """Whether there is anything to follow: an event that is worked on, or what a program has made up to begin with."""
        return bool(self.call_chain_length or self.ids or self.traceparent or self.xray)

    def fields(self) -> dict[str, str]:
        """All of it by its names on the wire, the most important first."""
        fields: dict[str, str] = {}
        if ID in self.ids:
            fields[ID] = self.ids[ID]
        if self.call_chain_length:
            fields[CHAIN] = str(self.call_chain_length)
        if self.traceparent:
            fields["traceparent"] = self.traceparent
        if self.call_chain_length:
            fields[DEBUG] = "true" if self.is_debug else "false"
        fields |= self.ids
        if self.tracestate:
            fields["tracestate"] = self.tracestate
        if self.xray:
            fields[XRAY] = self.xray
        return fields

    def log_fields(self) -> dict[str, str]:
        """What goes into a log line: ``correlation_id``, always, and what else there is, by its name on the wire."""
        fields = {"correlation_id": self.id, **self.ids}
        fields.pop(ID, None)
        if self.call_chain_length:
            fields[CHAIN] = str(self.call_chain_length)
        if self.traceparent:
            fields["traceparent"] = self.traceparent
        if self.is_debug:
            fields[DEBUG] = "true"
        if self.xray:
            fields[XRAY] = self.xray
        return fields


#: Outside of any event.
NOTHING = Correlation(is_carried=False)


class _Settings(msgspec.Struct):
    longest_chain: int = 10
    debug_rate: float = 0.0


#: Of the process, as ``configure`` has set them.
settings = _Settings()


def configure(*, longest_chain: int | None = None, debug_rate: float | None = None) -> None:
    """Set what is given, for the whole process.

    ``longest_chain`` (10): how many functions an event may go through one after another; the last of them can't send it on.
    ``debug_rate`` (0): the share of the chains, from 0 to 1, that have the debug flag, where nobody has decided it yet.
    """
    if longest_chain is not None:
        if isinstance(longest_chain, bool) or not isinstance(longest_chain, int) or longest_chain < 1:
            raise ConfigurationError(f"longest_chain is a number of functions, 1 or more; got {longest_chain!r}")
        settings.longest_chain = longest_chain
    if debug_rate is not None:
        if isinstance(debug_rate, bool) or not isinstance(debug_rate, int | float) or not 0 <= debug_rate <= 1:
            raise ConfigurationError(f"debug_rate is a share, from 0 to 1; got {debug_rate!r}")
        settings.debug_rate = debug_rate


def read_length(value: object) -> int:
    """The length of a chain as it is on the wire, a number or its digits; 0 for what is none."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, int):
        return max(0, min(value, LONGEST_CHAIN))
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return min(int(value[:7]), LONGEST_CHAIN) if len(value) <= _MOST_DIGITS else LONGEST_CHAIN
    return 0
