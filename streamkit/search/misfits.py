"""Tells who has to look of what was left out of hits: its sum as a metric, and why in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..plural import counted
from .found import Misfits

if TYPE_CHECKING:
    from ..metrics.counting import Counting

__all__ = ["PROCESSOR", "MisfitLog"]

log = logging.getLogger("streamkit")

#: Whose metric ``search.left_out`` is.
PROCESSOR = "search-api"
# Seconds between two lines of one field: where the declaration is wrong, each hit of each search is one to tell of.
_BETWEEN_LINES = 60.0


class MisfitLog:
    """What outlives a request. ``clock`` is that of ``time.monotonic()``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counting: Counting | None = None
        # By field: when the next line is due, and the hits since the last.
        self._due: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def tell(self, misfits: Mapping[str, Misfits], context: Any) -> None:
        """Count what was left out of the answer to one request, and log it, a line for each field and minute at most.

        Whose text it is, an id too, is in no log: its digest finds it.
        """
        for field, one in misfits.items():
            self._log(field, one)
        if self._counting is None:
            # Rare: no cold start pays for it.
            from ..metrics.counting import Counting

            self._counting = Counting(PROCESSOR)
        with self._counting.invocation(context):
            metrics.count("search.left_out", sum(one.count for one in misfits.values()))

    def _log(self, field: str, one: Misfits) -> None:
        count = self._untold.get(field, 0) + one.count
        now = self._clock()
        if now < self._due.get(field, now):
            self._untold[field] = count
            return
        self._untold[field], self._due[field] = 0, now + _BETWEEN_LINES
        import hashlib

        digest = hashlib.sha256(one.first.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        log.error(
            "%s. It is left out of %s: the first has an id of which the SHA-256 begins with %s",
            one.why,
            counted(count, "hit"),
            digest,
        )
