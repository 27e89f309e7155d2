"""Whose a log stream is: the function, its version and the environment that it ran in, by the names that Lambda gives."""

from __future__ import annotations

import re

import msgspec

__all__ = ["Origin", "origin_of"]

_GROUP = "/aws/lambda/"
# 2026/11/30/[$LATEST]0123…, and in a log group of several functions 2026/11/30/orders[12]0123… or orders[12][0123…].
_stream = re.compile(r"\d{4}/\d{2}/\d{2}/([A-Za-z0-9_-]{0,140})\[(\$LATEST|\d{1,20})\]\[?([0-9a-f]{0,64})\]?").fullmatch
# A function at the edge logs under its home region's name: us-east-1.orders.
_at_edge = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d\.").match


class Origin(msgspec.Struct, frozen=True):
    """Empty where the names don't tell."""

    function: str = ""
    version: str = ""
    #: The execution environment.
    instance: str = ""


def origin_of(log_group: str, log_stream: str) -> Origin:
    """Whose stream it is. A log group that is none of Lambda's, and a stream that Lambda has not named, tell nothing."""
    function = ""
    if log_group.startswith(_GROUP):
        function = log_group.removeprefix(_GROUP)
        if (region := _at_edge(function)) is not None:
            function = function[region.end() :]
    found = _stream(log_stream)
    if found is None:
        return Origin(function)
    return Origin(found[1] or function, found[2], found[3])
