"""What a person reads: lines in one piece, texts that can't harm a terminal, and numbers short enough to take in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from ..errors import StreamkitError

__all__ = ["duration", "flush", "not_written", "printable", "say", "shortened", "to_nowhere", "write"]

_FIRST_DIGITS, _LAST_DIGITS = 4, 7


def say(line: str) -> None:
    """One line on stderr, in one piece: shards and queues have threads of their own."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def write(text: str, out: TextIO | None = None) -> None:
    """``text`` to ``out``, by default stdout, as it is; see ``flush`` for what can go wrong."""
    _written(out or sys.stdout, lambda output: output.write(text))


def flush(out: TextIO | None = None) -> None:
    """StreamkitError where it can't be written, as on a full disk; BrokenPipeError where nobody reads it any more."""
    _written(out or sys.stdout, lambda output: output.flush())


def not_written(error: OSError) -> StreamkitError:
    """What to raise in place of an error of an output."""
    return StreamkitError(f"the output can't be written: {error.strerror}")


def to_nowhere(*outputs: TextIO) -> None:
    """Drop all that is written from now on, and what is in a buffer: the interpreter will try to write it once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in outputs:
        os.dup2(nowhere, output.fileno())


def _written(output: TextIO | None, call: Callable[[TextIO], Any]) -> None:
    if output is None:
        # As the shell's `>&-` leaves stdout.
        raise StreamkitError("the output can't be written: it is closed")
    try:
        call(output)
    except BrokenPipeError:
        raise
    except OSError as error:
        to_nowhere(output)
        raise not_written(error) from error


def printable(text: str) -> str:
    r"""``text`` with everything that moves a cursor, changes a colour or the reading direction, or breaks the line as ``\x1b``.

    For the eye only: a backslash of the text's own is left as it is.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode("ascii") for one in text
    )


def shortened(position: int | str | None) -> str:
    """A sequence number of 56 digits by its first and its last ones, which are those that change; ``–`` for none."""
    if position is None:
        return "–"
    text = str(position)
    if len(text) <= _FIRST_DIGITS + 1 + _LAST_DIGITS:
        return text
    return f"{text[:_FIRST_DIGITS]}…{text[-_LAST_DIGITS:]}"


def duration(seconds: float) -> str:
    """``1.2 s``, ``3 min 4 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 60:
        tenths = int(seconds * 10)
        return f"{tenths / 10:g} s"
    whole = int(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    raise AssertionError("unreachable: a minute or more has a unit above")  # pragma: no cover
