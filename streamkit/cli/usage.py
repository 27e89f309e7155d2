"""What was typed wrong, and the forms of options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from ..errors import ConfigurationError

__all__ = ["UsageError", "moment", "named", "positive_seconds", "seconds", "typed"]


class UsageError(ConfigurationError):
    """What was typed is wrong: the command ends with 2."""


@contextmanager
def typed() -> Iterator[None]:
    """A ConfigurationError in the block is about what was typed. One of the user's own program is not."""
    try:
        yield
    except ConfigurationError as error:
        raise UsageError(str(error)) from error


def named(text: str) -> str:
    """What has to have a name: a variable of a script that was not set leaves an empty one."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def seconds(text: str) -> float:
    """A time span, 0 or more."""
    span = _number(text)
    if span is None or span < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds, such as 60 or 0.5")
    return span


def positive_seconds(text: str) -> float:
    """A time span of more than 0."""
    span = seconds(text)
    if span == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is too short: give more than 0 seconds, such as 10")
    return span


def moment(text: str) -> datetime:
    """A point in time: ISO 8601, by this machine's clock where it has no zone, or seconds since the epoch."""
    try:
        # First, since it has 20260501 for a day.
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        since = _number(text)
    try:
        if since is not None and since >= 0:
            return datetime.fromtimestamp(since, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise argparse.ArgumentTypeError(
        f"{text!r} is no time: write it as 2026-05-01T12:00Z, or in seconds since the epoch, as 1777636800"
    )


def _number(text: str) -> float | None:
    """None for what is no finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
