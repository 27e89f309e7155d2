"""Which event is worked on here and now: a context variable, set to each record while ``process`` runs.

It holds the record itself, which costs next to nothing; what the record carries is read when somebody first asks, and kept with
it: one that nobody asks about is never parsed for this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import EndlessChain, StreamkitError
from .value import NOTHING, PREFIX, Correlation, settings

if TYPE_CHECKING:
    from ..record import Record
    from ..sinks.base import Write

__all__ = [
    "add",
    "check",
    "current",
    "each",
    "entries",
    "is_debug",
    "of",
    "reset_working",
    "set_working",
    "use",
    "working",
]

#: The record, or the ``Correlation``, that is worked on; None: nothing is.
working: ContextVar[Record | Correlation | None] = ContextVar("streamkit.correlation.working", default=None)
_entries: ContextVar[tuple[Any, ...] | None] = ContextVar("streamkit.correlation.entries", default=None)

# Bound once: a batch calls them for each of its records.
set_working = working.set
reset_working = working.reset


def current() -> Correlation:
    """What is followed here and now: of the record that ``process`` was called with, or what ``use`` has set. Never raises.

    ``NOTHING``, whose fields are empty, where there is no event. A thread of your own begins with nothing; run its work in a
    copy of the context: ``pool.submit(contextvars.copy_context().run, work)``.
    """
    held = working.get()
    return NOTHING if held is None else of(held)


def of(source: Record | Write | Correlation) -> Correlation:
    """What a record, or the record of a write that was yielded, is followed by. A ``Correlation`` is itself."""
    if isinstance(source, Correlation):
        return source
    record: Any = source
    if not hasattr(source, "_correlation"):
        # A write knows its record once it is yielded.
        record = source._record
        if record is None:
            return NOTHING
    found = record._correlation
    if not isinstance(found, Correlation):
        from .capture import of_record

        found = record._correlation = of_record(record)
    return found


def is_debug() -> bool:
    """Whether the chain that is worked on has the debug flag."""
    return current().is_debug


@contextmanager
def use(source: Record | Write | Correlation) -> Iterator[None]:
    """Make it what is followed, until the context ends."""
    record: Any = getattr(source, "_record", source)
    token = working.set(record)
    try:
        yield
    finally:
        working.reset(token)


@contextmanager
def each(sources: Iterable[Record | Write | Correlation]) -> Iterator[None]:
    """For one batch call of an instrumented client, with an entry for each of ``sources``, in order: ``with each(writes):``.

    Each entry gets what its own record is followed by. A call with another number of entries gets nothing. One whose chain is too
    long makes the call raise, so ``check`` each before.
    """
    token = _entries.set(tuple(sources))
    try:
        yield
    finally:
        _entries.reset(token)


def entries(count: int) -> list[Correlation]:
    """What each of ``count`` entries of a call is to carry: what ``each`` has said, else ``current()`` for all of them."""
    sources = _entries.get()
    if sources is None:
        return [current()] * count
    if len(sources) != count:
        return [NOTHING] * count
    return [of(source) for source in sources]


def check(source: Record | Write | Correlation) -> None:
    """Raise EndlessChain where the event has gone through so many functions that it is not to be sent on."""
    length = of(source).call_chain_length
    if length >= settings.longest_chain:
        raise EndlessChain(
            f"it has gone through {length} functions one after another, and would be sent on: a loop? Where it is meant to be "
            "that long, say so: correlation.configure(longest_chain=…)"
        )


def add(name: str, value: str) -> None:
    """Follow the event by one id more: ``add("user-id", "u-7")`` is ``x-correlation-user-id`` from now on.

    It is in the log lines of this record, in what is sent on, and, if the record fails, in its envelope. ValueError for a
    name that is not made of up to 50 letters, digits, ``-`` and ``_``, for a value without a printable character, and beyond
    twelve ids. StreamkitError outside of any event.
    """
    from .capture import MOST_IDS, clean, is_name

    held: Any = working.get()
    if held is None:
        raise StreamkitError("there is no event to add an id to: call it in `process`, or within `correlation.use(…)`")
    name = name.lower() if name.lower().startswith(PREFIX) else PREFIX + name.lower()
    text = clean(value)
    before = of(held)
    if not is_name(name):
        raise ValueError(f"{name[:80]!r} can't be the name of an id: up to 50 letters, digits, - and _")
    if text is None:
        raise ValueError(f"the id {name} takes a text that is not empty; got {type(value).__name__}")
    if name not in before.ids and len(before.ids) >= MOST_IDS:
        raise ValueError(f"an event has at most {MOST_IDS} ids; {name} would be one more")
    after = msgspec.structs.replace(before, ids={**before.ids, name: text}, is_carried=True)
    if isinstance(held, Correlation):
        working.set(after)
    else:
        held._correlation = after
