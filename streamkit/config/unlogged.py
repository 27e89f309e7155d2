"""boto3 logs every answer's body at the level DEBUG: not that of a request for parameters."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["unlogged"]

#: What writes bodies of answers; and, of requests, the URLs, in which AppConfig has its tokens.
_LOGGERS = ("botocore.parsers", "botocore.endpoint", "botocore.auth", "urllib3.connectionpool")


class _Filter(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self.here, "is_quiet", False)


_filter = _Filter()


@contextmanager
def unlogged() -> Iterator[None]:
    """Until the context ends, and on this thread only, none of it is logged."""
    for name in _LOGGERS:
        # One that is there already is not added twice; one that somebody's logging.config took away is there again.
        logging.getLogger(name).addFilter(_filter)
    _filter.here.is_quiet = True
    try:
        yield
    finally:
        _filter.here.is_quiet = False
