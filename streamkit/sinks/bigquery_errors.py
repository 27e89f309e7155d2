"""What BigQuery's REST API answers when it does not take a request, and what passes of it."""

from __future__ import annotations

import re
import time

from ..errors import SinkError

__all__ = [
    "PASSING",
    "NoTable",
    "SendAgain",
    "TooLarge",
    "code_of",
    "is_too_large",
    "may_pass",
    "reasons_of",
    "told_wait",
]

#: Reasons, of a row or of a request, that pass. "stopped": the row was not looked at, because of another.
PASSING = frozenset(
    {"backendError", "badGateway", "internalError", "quotaExceeded", "rateLimitExceeded", "stopped", "timeout"}
)
# In words of a 400, from whoever stands before BigQuery's own limit.
_TOO_LARGE = re.compile(r"request payload size exceeds|request entity too large", re.IGNORECASE)


class SendAgain(SinkError):
    """BigQuery answered, and what it did not take it may take later."""


class NoTable(SinkError):
    """BigQuery knows no table of that name."""


class TooLarge(SinkError):
    """A request that was not sent, since it is known to be too large."""

    code = 413


def code_of(error: BaseException) -> int | None:
    """The HTTP status, where that is what the client raised the error for."""
    code = getattr(error, "code", None)
    return int(code) if isinstance(code, int) else None


def reasons_of(error: BaseException) -> set[str]:
    """BigQuery's own words for what was wrong, as ``rateLimitExceeded``."""
    problems = getattr(error, "errors", None) or ()
    return {str(problem.get("reason")) for problem in problems if isinstance(problem, dict)}


def may_pass(error: BaseException) -> bool:
    """Whether the same request may be answered later. What google-auth and requests raise for a lost connection may."""
    code = code_of(error)
    if code is not None:
        return code in (408, 429) or code >= 500 or bool(reasons_of(error) & PASSING)
    return isinstance(error, SendAgain | OSError) or type(error).__name__ == "TransportError"


def is_too_large(error: BaseException) -> bool:
    """Whether a smaller request would have been taken."""
    code = code_of(error)
    return code == 413 or (code == 400 and bool(_TOO_LARGE.search(str(getattr(error, "message", "")))))


def told_wait(error: BaseException | None) -> float:
    """The seconds that an answer's ``Retry-After`` asks for, a number or a date; 0 without one that can be read."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    told = str(headers.get("Retry-After") or "").strip()
    if told.isdigit():
        return float(told)
    if not told:
        return 0.0
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
