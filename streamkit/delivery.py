"""Writes on their way to their sinks: held until they fill a request, and refusals mapped back to their records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .deadline import Deadline
from .errors import Reject, SinkError
from .outcome import Failed, Outcome, Unavailable
from .record import Record
from .sinks.base import Refusal, Sink, Write

__all__ = ["Delivery", "Failure"]

#: A record, by its index in the batch, and what became of it.
Failure = tuple[int, Outcome]


class Delivery:
    """The writes of one invocation. Requests are made on the thread that calls, one at a time."""

    def __init__(self, processor: str, deadline: Deadline) -> None:
        self._processor = processor
        self._deadline = deadline
        self._requests: dict[int, _Request] = {}

    def add(self, index: int, record: Record, writes: list[Write]) -> list[Failure] | None:
        """Give a record's writes their ids and hold them; what fills a request is delivered at once.

        None where nothing was delivered yet, else the records that have failed by it.
        """
        failures: list[Failure] | None = None
        for n, write in enumerate(writes):
            write._record = record
            write._processor = self._processor
            write._n = n
            sink = write.sink
            request = self._requests.get(id(sink))
            if request is None:
                request = self._requests[id(sink)] = _Request(sink)
            if request.would_exceed(write):
                failures = [*(failures or ()), *self._deliver(request)]
            request.hold(index, write)
            if request.is_full():
                failures = [*(failures or ()), *self._deliver(request)]
        return failures

    def flush(self) -> list[Failure]:
        """Deliver all that is held, and return the records that have failed by it."""
        return [failure for request in self._requests.values() for failure in self._deliver(request)]

    def _deliver(self, request: _Request) -> list[Failure]:
        indexes, writes = request.take()
        if not writes:
            return []
        sink = request.sink
        try:
            refusals = self._deadline.request(sink, lambda deadline: _refusals(sink, writes, deadline))
        except Exception as error:  # noqa: BLE001  # A sink that can't answer has not refused: its records are not at fault.
            refusals = [Refusal(write, error, "unavailable") for write in writes]
        of_write = {id(write): index for index, write in zip(indexes, writes, strict=True)}
        failures: dict[int, Outcome] = {}
        for refusal in refusals:
            index = of_write[id(refusal.write)]
            outcome = _outcome(sink, refusal)
            failures[index] = max(failures.get(index, outcome), outcome, key=_gravity)
        return sorted(failures.items())


class _Request:
    """What is held for one sink."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._most_writes = sink.request_writes
        self._most_bytes = sink.request_bytes or float("inf")
        self._indexes: list[int] = []
        self._writes: list[Write] = []
        self._bytes = 0

    def would_exceed(self, write: Write) -> bool:
        return self._bytes + write.size > self._most_bytes and bool(self._writes)

    def hold(self, index: int, write: Write) -> None:
        self._indexes.append(index)
        self._writes.append(write)
        self._bytes += write.size

    def is_full(self) -> bool:
        return len(self._writes) >= self._most_writes or self._bytes >= self._most_bytes

    def take(self) -> tuple[list[int], list[Write]]:
        taken = self._indexes, self._writes
        self._indexes, self._writes, self._bytes = [], [], 0
        return taken


def _refusals(sink: Sink, writes: list[Write], deadline: float) -> list[Refusal]:
    """What the sink refused, read to its end: a sink may be a generator. None is the same as nothing refused."""
    answer: Iterable[Refusal] | None = sink.write(writes, deadline=deadline)
    refusals = list(answer or ())
    given = {id(write) for write in writes}
    for refusal in _not_about(refusals, given):
        raise SinkError(
            f"{_name(sink)} answered {type(refusal).__name__} about something that it was not given to write"
        )
    return refusals


def _not_about(refusals: list[Refusal], given: set[int]) -> Iterator[object]:
    for refusal in refusals:
        if not isinstance(refusal, Refusal) or id(refusal.write) not in given:
            yield refusal


def _outcome(sink: Sink, refusal: Refusal) -> Outcome:
    error = refusal.error if isinstance(refusal.error, Exception) else SinkError(str(refusal.error))
    if refusal.kind == "unavailable":
        return Unavailable(error)
    if refusal.kind == "invalid":
        reject = Reject(f"{_name(sink)} can't take it: {error}")
        reject.__cause__ = error
        return Failed(reject)
    return Failed(error)


def _gravity(outcome: Outcome) -> int:
    """Of several refusals of one record: what has no answer yet, then what a retry may mend, then what it can't."""
    if isinstance(outcome, Unavailable):
        return 2
    return 0 if isinstance(outcome, Failed) and isinstance(outcome.error, Reject) else 1


def _name(sink: Sink) -> str:
    return sink.owner or type(sink).__name__
