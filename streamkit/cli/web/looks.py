"""Looks at dead letters. SQS has no look that leaves no trace, so it is a person who asks for one, and it is kept for a while.

A look takes up to 1,000 letters or 64 MiB, gives them back at once, and stays in memory until the next one at the same source.
"""

from __future__ import annotations

import argparse
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import msgspec

from ...errors import StreamkitError
from ..letter_list import rows_of
from ..letters import Filter, QueueLetters, open_letters, open_recovery
from ..redrive import add_options as add_redrive_options
from ..usage import UsageError, moment
from .letters import Seen, line_of, whole_of

__all__ = ["PAGE", "Look", "Looks", "filtered", "redrive_options"]

#: Letters of a page.
PAGE = 50
_MOST_LETTERS = 1000
_MOST_BYTES = 64 * 1024 * 1024
_MOST_LOOKS = 4
# Seconds that others do not see what is looked at, if this process dies; a look that takes longer renews it.
_HOLD = 60.0
_FILTERS = ("error", "key", "processor", "since", "until", "correlation")


class Look(msgspec.Struct, frozen=True):
    """What was seen at ``at``, in seconds since the epoch.

    ``is_cut``: there may be more; ``hidden``: about so many stand behind others of their FIFO group.
    """

    token: str
    source: str
    at: float
    letters: tuple[Seen, ...]
    is_cut: bool = False
    hidden: int = 0
    warning: str = ""


class Looks:
    """The last look at each of up to four sources."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._ending = threading.Event()
        self._looks: dict[str, Look] = {}

    def stop(self) -> None:
        """Stop the look under way, so that it gives back what it holds. There is none after it."""
        self._ending.set()

    def wait(self, patience: float) -> bool:
        """Whether the look under way came to an end in ``patience`` seconds."""
        has_ended = self._looking.acquire(timeout=patience)
        if has_ended:
            self._looking.release()
        return has_ended

    def look(self, source: str) -> Look:
        """Take a new look. StreamkitError where another is under way, or it can't be had."""
        if not self._looking.acquire(blocking=False):
            raise StreamkitError("another look is under way: wait for it")
        try:
            # A connection that is kept alive can still ask.
            self._check_ending()
            look = self._taken(source)
            self._check_ending()
        finally:
            self._looking.release()
        with self._lock:
            self._looks.pop(source, None)
            self._looks[source] = look
            while len(self._looks) > _MOST_LOOKS:
                del self._looks[next(iter(self._looks))]
        return look

    def page(self, source: str, number: int, filters: Mapping[str, str]) -> dict[str, Any]:
        """A page of the last look, from 0 on; ``looked_at`` is None where there was none."""
        with self._lock:
            look = self._looks.get(source)
        if look is None:
            return {"source": source, "looked_at": None, "letters": [], "count": 0, "pages": 0, "page": 0}
        wanted = Filter(filtered(redrive_options(self._options, source), filters))
        letters = [one for one in look.letters if one.row.envelope is None or wanted.wants(one.row.envelope)]
        pages = max(1, -(-len(letters) // PAGE))
        number = max(0, min(number, pages - 1))
        return {
            "source": source,
            "look": look.token,
            "looked_at": look.at,
            "letters": [line_of(one) for one in letters[number * PAGE : (number + 1) * PAGE]],
            "count": len(letters),
            "all": len(look.letters),
            "pages": pages,
            "page": number,
            "is_cut": look.is_cut,
            "hidden": look.hidden,
            "warning": look.warning,
            "oldest": min((one.sent_at for one in look.letters if one.sent_at is not None), default=None),
        }

    def letter(self, token: str, number: int) -> dict[str, Any]:
        """One letter whole, with its payload. StreamkitError where its look is over."""
        return whole_of(self._seen(token, number))

    def chosen(self, token: str, numbers: list[int]) -> list[tuple[str, str]]:
        """Letters of a look, as ``Filter`` has them. StreamkitError where it is over, or one has no event id."""
        rows = [self._seen(token, number).row for number in numbers]
        chosen = [(row.processor, row.event_id) for row in rows if row.event_id is not None]
        if len(chosen) < len(rows):
            raise StreamkitError("one of these can't be read, and so can't be put back: choose others")
        return chosen

    def _check_ending(self) -> None:
        if self._ending.is_set():
            raise StreamkitError("the console ends, and its look at the letters with it")

    def _seen(self, token: str, number: int) -> Seen:
        with self._lock:
            look = next((one for one in self._looks.values() if one.token == token), None)
        if look is None or not 0 <= number < len(look.letters):
            raise StreamkitError("this look at the letters is over: look again")
        return look.letters[number]

    def _taken(self, source: str) -> Look:
        found: list[Seen] = []
        size, is_cut, warning = 0, False, ""
        options = redrive_options(self._options, source)
        options.hold = _HOLD
        with ExitStack() as stack:
            recovery = open_recovery(options, stack)
            letters = open_letters(options, stack, recovery)
            if isinstance(letters, QueueLetters):
                warning = letters.warning
            wanted = Filter(options)
            for held in letters.take(_MOST_LETTERS):
                for row in rows_of(iter((held,)), recovery, wanted, fetch=False):
                    found.append(Seen(len(found), row, held.message.body, held.message.sent_at))
                size += len(held.message.body)
                if len(found) >= _MOST_LETTERS or size >= _MOST_BYTES or self._ending.is_set():
                    is_cut = True
                    break
            hidden = letters.hidden()
        return Look(secrets.token_urlsafe(12), source, time.time(), tuple(found), is_cut, hidden, warning)


def redrive_options(options: argparse.Namespace, source: str, *target: str) -> argparse.Namespace:
    """The options of ``streamkit redrive`` with their defaults, for ``source``; the connection and the journal of ``options``."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_redrive_options(parser)
    made = parser.parse_args(["--yes", *(target or ("--to-queue=-",)), "--", source])
    for name in ("endpoint_url", "region", "profile", "state", "claims_bucket"):
        setattr(made, name, getattr(options, name))
    return made


def filtered(made: argparse.Namespace, filters: Mapping[str, str]) -> argparse.Namespace:
    """``made`` with the filters that a page has sent. UsageError where one is none."""
    for name, text in filters.items():
        if name not in _FILTERS:
            raise UsageError(f"{name} is no filter: these are {', '.join(_FILTERS)}")
        if not text:
            continue
        try:
            setattr(made, name, moment(text) if name in ("since", "until") else text)
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"{name}: {error}") from error
    return made
