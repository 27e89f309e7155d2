"""Why a record failed, in one line that can go into a log: no payload, no traceback, no line breaks."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import DecodeError
from .record import Record

__all__ = ["place", "reason"]

# Long enough for a sentence, short enough that a payload quoted in part by somebody's exception stays a part.
_LONGEST = 200
# Shorter texts (a number, a word) appear in any message by chance, and blanking them would hide the reason.
_SHORTEST_PAYLOAD = 16


def reason(error: BaseException, record: Record | None = None, *, without: Iterable[str] = ()) -> str:
    """``TypeError: total is missing (orders.py:12)``: the first line of the message, 200 characters at most.

    Where the message quotes the record's whole payload, that is cut out. It can't know what else a message quotes: an
    exception of yours should name fields, not values. ``without``: texts that are cut out wherever the message has them.
    """
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  # An error that can't print itself is no reason to fail the whole batch.
        message = ""
    if record is not None and message:
        message = _without_payload(message, record)
    for text in without:
        message = message.replace(text, "<value>")
    # A lone surrogate (of a file name, for instance) can't be written to a log or read back from an envelope.
    message = message.encode("utf-8", "backslashreplace").decode()
    message = " ".join(message.strip().partition("\n")[0].split())
    if len(message) > _LONGEST:
        message = message[: _LONGEST - 1] + "…"
    line = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return line + place(error)


def _without_payload(message: str, record: Record) -> str:
    try:
        data = record.data
    except DecodeError:
        return message
    text = data.decode("utf-8", "replace")
    for payload in (repr(data)[2:-1], repr(text)[1:-1], text):
        if len(payload) >= _SHORTEST_PAYLOAD:
            message = message.replace(payload, "<payload>")
    return message


def place(error: BaseException) -> str:
    """Where it was raised, outside streamkit: what replaces a traceback for each of 5,000 records."""
    found = ""
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        module = traceback.tb_frame.f_globals.get("__name__", "")
        if not module.startswith("streamkit."):
            found = f" ({code.co_filename.replace(chr(92), '/').rpartition('/')[2]}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
    return found
