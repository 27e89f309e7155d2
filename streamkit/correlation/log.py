"""What is followed, in every log line: for ``logging``, powertools' Logger and structlog."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from .context import current

__all__ = ["CorrelationFilter", "log_to", "structlog_processor"]


class CorrelationFilter(logging.Filter):
    """Gives a line ``correlation_id`` (empty outside of any event) and, by their names on the wire, what else there is.

    For a format they are ``%(correlation_id)s`` or ``%(x-correlation-user-id)s``; formatters that write JSON take them as
    they take ``extra``. What the line has under such a name already stays.

    Lines below ``level`` pass only where the chain has the debug flag: set the logger itself to DEBUG. A handler that works in
    another thread (``QueueHandler``) needs the filter itself: where the line is written, the record is another.
    """

    def __init__(self, level: int | str = logging.NOTSET) -> None:
        super().__init__()
        # As Logger.setLevel reads it.
        self.level: int = logging.Handler(level).level

    def filter(self, record: logging.LogRecord) -> bool:
        found = current()
        if record.levelno < self.level and not found.is_debug:
            return False
        line = record.__dict__
        for name, value in found.log_fields().items():
            line.setdefault(name, value)
        return True


def log_to(target: Any, level: int | str = logging.NOTSET) -> None:
    """Put a ``CorrelationFilter`` on a ``logging.Logger`` and its handlers, on powertools' ``Logger``, or on a handler.

    Doing it again sets ``level`` anew. The handlers are those that are there now: what loggers below hand up passes only these.
    """
    for part in (target, *getattr(target, "handlers", ())):
        for one in list(part.filters) if hasattr(part, "filters") else []:
            if isinstance(one, CorrelationFilter):
                part.removeFilter(one)
        part.addFilter(CorrelationFilter(level))


def structlog_processor(
    logger: Any, method_name: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """What is followed, for structlog's ``processors``: keys that the line has already stay as they are."""
    for name, value in current().log_fields().items():
        event_dict.setdefault(name, value)
    return event_dict
