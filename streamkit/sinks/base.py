"""The seam to whatever is written to: a sink makes writes, and delivers them in requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from ..errors import SinkError, StreamkitError
from ..record import Record

if TYPE_CHECKING:
    from ..breaker import Breaker

__all__ = [
    "NotAsked",
    "OnwardSink",
    "Refusal",
    "ShardSink",
    "Sink",
    "Write",
    "made_writes",
    "noting_writes",
    "write_ids",
]

RefusalKind = Literal["invalid", "failed", "unavailable"]


#: The writes that ``process`` has made where it runs, so that one made and not yielded can be told; None outside of it.
made_writes: ContextVar[list[Write] | None] = ContextVar("made_writes", default=None)


@contextmanager
def noting_writes() -> Iterator[list[Write]]:
    """The list that fills with every write made here, until the context ends."""
    made: list[Write] = []
    # A function may call another one's handler.
    token = made_writes.set(made)
    try:
        yield made
    finally:
        made_writes.reset(token)


class Write(msgspec.Struct, eq=False, gc=False, weakref=False):
    """One thing to write, made by a sink and yielded by ``process``: ``yield search.document(id, fields)``.

    A write is a value: a sink takes a copy of what it is given (encoded, as a rule) when it makes one, so that a later
    change of the caller's object can't reach it.
    """

    sink: Sink
    payload: Any
    # Bytes in the request, 0 where the sink counts writes only.
    size: int = 0
    _record: Record | None = None
    _processor: str = ""
    _n: int = 0

    def __post_init__(self) -> None:
        made = made_writes.get()
        if made is not None:
            made.append(self)

    @property
    def write_id(self) -> str:
        """``<event_id>/<processor name>/<n>``, the same at every repeat: what sinks dedupe by. n counts from 0."""
        record = self._record
        if record is None:
            raise StreamkitError("a write has no id before it is yielded")
        return f"{record.event_id}/{self._processor}/{self._n}"

    @property
    def event_id(self) -> str:
        """The id of the record that this write is of."""
        if self._record is None:
            raise StreamkitError("a write has no record before it is yielded")
        return self._record.event_id

    def __repr__(self) -> str:
        # Never the payload: a write may be printed into a log.
        return f"<Write {self.write_id if self._record else 'not yielded'} to {type(self.sink).__name__}>"


def write_ids(writes: Sequence[Write]) -> list[str]:
    """The ``write_id`` of each, for a sink that asks for hundreds: without a call for each of them."""
    first = writes[0]._record if writes else None
    return (type(first) if first is not None else Record)._write_ids(writes)


class NotAsked(SinkError):
    """The sink has found by itself that a write can't be taken: that tells nothing of how the service is."""


class Refusal(msgspec.Struct, frozen=True, eq=False):
    """A write that the sink did not take, and why.

    ``kind``: ``"invalid"``, it can never succeed, as ``Reject``; ``"failed"``, the processor's policy applies;
    ``"unavailable"``, no answer for this write (throttled, 5xx, timed out, the deadline came), so it stays in the stream.
    """

    write: Write
    error: Exception
    kind: RefusalKind = "failed"


class Sink(ABC):
    """Subclass it for a service of your own: ``write``, the limits of one request, and nouns that make writes.

        class Ledger(Sink):
            request_writes = 100

            def entry(self, account: str, amount: int) -> Write:
                return Write(self, (account, amount))

            def write(self, writes, *, deadline):
                self.client.post([w.payload for w in writes], timeout=deadline - time.monotonic())
                return ()

    ``streamkit.testing.contracts.SinkContract`` is the suite that every sink has to pass.
    """

    #: How many writes fill one request: as soon as so many are held, they are delivered.
    request_writes: ClassVar[int] = 500
    #: How many bytes of ``Write.size`` fill one request; None where the service has no such limit.
    request_bytes: ClassVar[int | None] = None
    #: Whether what it writes sets other functions off, as an event in a stream or a message in a queue does. Then a record
    #: whose chain of functions is too long is refused before ``write``: one written into its own stream would go round for ever.
    is_onward: ClassVar[bool] = False
    #: Whether a service that has not answered for several requests in a row is left alone for a while (``streamkit.breaker``).
    has_breaker: ClassVar[bool] = True
    #: ``Orders.search``: the class and attribute that hold this sink, for errors to say who wants something.
    owner: str = ""
    # Made when a request has had no answer; what the container knows of the service.
    _breaker: Breaker | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = f"{owner.__name__}.{name}"

    @abstractmethod
    def write(self, writes: Sequence[Write], *, deadline: float) -> Iterable[Refusal]:
        """Deliver ``writes``, in order, and return what was refused: empty (or None) when all were taken.

        ``deadline`` is a time on ``time.monotonic()``'s clock; what has no answer by then is ``unavailable``. It may be
        past already: try once, without retries, with a short time-out. ``writes`` never exceed one full request, unless
        a single write is larger than that. An exception makes all of ``writes`` unavailable. One thread calls at a time;
        nothing may be held after it returns.
        """

    def close(self) -> None:
        """Release connections. The sink is not used afterwards."""
        return


class OnwardSink(Sink):
    """A sink that can take a record as it came, and pass it on."""

    is_onward = True

    @abstractmethod
    def onward(self, record: Record) -> Write:
        """The write that hands the record on. Reject where its data is nothing that this destination takes."""


class ShardSink(Sink):
    """A sink that keeps account of a shard's writes by their positions, and so has to know where their batch begins.

    What such a sink needs of its processor's options it says in ``check``, which streamkit calls when the processor's class
    is made and when the processor is; for that it has to be an attribute of the processor.
    """

    @abstractmethod
    def check(self, processor: Any) -> None:
        """Raise ConfigurationError, with the reason, where the options of ``processor`` (or its class) don't go with this."""

    @abstractmethod
    def write_from(self, first: Record, writes: Sequence[Write], *, deadline: float) -> Iterable[Refusal]:
        """``write``, where ``first`` is the first record of the batch, be it one that makes writes or not.

        All that stands before it in its shard is settled, or was discarded by who delivers.
        """

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """It can't, without the batch: StreamkitError."""
        raise StreamkitError(f"{type(self).__name__} writes for a batch of a shard: call write_from")
