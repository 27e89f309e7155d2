"""What following events costs: a batch beside the same one without the context variable, and where somebody asks what it says."""

from __future__ import annotations

import inspect
import io
import json
import logging
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any
from unittest.mock import patch

from streamkit import Record, correlation, execution, lambda_handler
from streamkit.correlation.log import CorrelationFilter
from streamkit.correlation.payload import attached
from streamkit.event import decode

from .batches import ReadOrders
from .harness import Difference, Row, Side, check_equal, compare, progress, take_turns
from .orders import NOTHING_FAILED, Context, event_of, key_of, orders, payload_of

__all__ = ["run"]

_RECORDS = 4_900
_FIELDS = {"x-correlation-id": "c0ffee00-1234", "call-chain-length": "2", "debug-log-enabled": "false"}


class LogsOrders(ReadOrders):
    """Parses each order, and writes a line about it."""

    def __init__(self, log: logging.Logger) -> None:
        self.log = log

    def process(self, record: Record) -> None:
        record.json()
        self.log.info("an order")


def run(seconds: float) -> tuple[list[Row], list[list[str]]]:
    """The row with the target, and a table of what a record costs more, in nanoseconds."""
    placed = orders(_RECORDS)
    plain = [payload_of(order) for order in placed]
    keys = [key_of(order) for order in placed]
    followed = [attached(payload, _FIELDS, room=1024) or payload for payload in plain]
    event, carrying = event_of(plain, keys), event_of(followed, keys)
    _check(carrying)
    context, reads = Context(), ReadOrders()
    without, line = _log("%(message)s"), _log("%(message)s %(correlation_id)s")
    for handler in line.handlers:
        handler.addFilter(CorrelationFilter())
    progress(f"{_RECORDS:,} records with and without what they are followed by, for {seconds:.0f} s")
    took = take_turns(
        {
            "off": Side(partial(_without, lambda_handler(reads), event, context), NOTHING_FAILED),
            "on": Side(partial(lambda_handler(reads), event, context), NOTHING_FAILED),
            "carrying": Side(partial(lambda_handler(reads), carrying, context), NOTHING_FAILED),
            "line": Side(partial(lambda_handler(LogsOrders(without)), carrying, context), NOTHING_FAILED),
            "followed line": Side(partial(lambda_handler(LogsOrders(line)), carrying, context), NOTHING_FAILED),
            "capture of none": Side(partial(_capture, event)),
            "capture": Side(partial(_capture, carrying)),
            "decode": Side(partial(_decode, carrying)),
        },
        seconds,
    )

    def more(side: str, than: str) -> list[str]:
        best = (min(took[side]) - min(took[than])) / _RECORDS
        pairs = median(a - b for a, b in zip(took[side], took[than], strict=True)) / _RECORDS
        return [f"{best:,.0f} ns", f"{pairs:,.0f} ns"]

    best, pairs = (float(text.removesuffix(" ns").replace(",", "")) for text in more("on", "off"))
    row = Row(
        "a record that can be followed / one that can't, nobody asks",
        f"{min(took['on']) / _RECORDS:,.0f} ns",
        f"{min(took['off']) / _RECORDS:,.0f} ns",
        f"{best:+,.0f} ns",
        f"{pairs:+,.0f}",
        "< +1,000 ns",
        best < 1000,
    )
    again = compare("the same, as a ratio", took["on"], took["off"], per=_RECORDS)
    return [row, again], [
        ["nobody asks", *more("on", "off")],
        ["the same, its payload longer by what it carries", *more("carrying", "off")],
        ["one log line with the filter / without", *more("followed line", "line")],
        ["reading what a payload carries", *more("capture", "decode")],
        ["finding that it carries nothing", *more("capture of none", "decode")],
    ]


def _without(handler: Callable[..., object], event: Any, context: Any) -> object:
    """The same batch by an ``attempt`` that sets no context variable."""
    with patch.object(execution, "attempt", _BARE_ATTEMPT):
        return handler(event, context)


def _bare_attempt() -> Any:
    """``execution.attempt`` as it would be without this: less the two lines that set the variable and set it back."""
    lines = inspect.getsource(execution.attempt).splitlines()
    kept = [line for line in lines if "_working(" not in line]
    if len(lines) - len(kept) != 2:
        raise Difference("execution.attempt sets the context variable in another way than this benchmark knows")
    names = dict(vars(execution))
    exec(compile("from __future__ import annotations\n" + "\n".join(kept), "attempt", "exec"), names)
    return names["attempt"]


_BARE_ATTEMPT = _bare_attempt()


def _capture(event: Any) -> None:
    for record in decode(event).records:
        correlation.of(record)


def _decode(event: Any) -> None:
    for record in decode(event).records:
        record._decode_data()


def _log(form: str) -> logging.Logger:
    log = logging.getLogger(f"bench.correlation.{form}")
    log.propagate = False
    log.setLevel(logging.INFO)
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter(form))
    log.addHandler(handler)
    return log


def _check(event: Any) -> None:
    found = [correlation.of(record).id for record in decode(event).records]
    check_equal("what is carried", {"put in": [_FIELDS["x-correlation-id"]] * _RECORDS, "read": found})
    first = json.loads(decode(event).records[0].data)
    check_equal("the field", {"put in": 2, "read": first["__context__"]["call-chain-length"]})
