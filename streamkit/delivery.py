"""Writes on their way to their sinks: held until they fill a request, and refusals mapped back to their records."""

from __future__ import annotations

import time
from collections.abc import Iterable

from .correlation.context import check, use
from .deadline import Deadline
from .errors import EndlessChain, Reject, SinkError
from .event import Batch
from .outcome import Failed, Outcome, Unavailable
from .reason import reason
from .record import Record
from .sinks.base import NotAsked, Refusal, ShardSink, Sink, Write

__all__ = ["Delivery", "Failure", "gravity"]

#: A record, by its index in the batch, and what became of it.
Failure = tuple[int, Outcome]


class Delivery:
    """The writes of one invocation. Requests are made on the thread that calls, one at a time.

    ``first`` is the first record of the batch, None where it has none: what a ``ShardSink`` is told.
    """

    def __init__(self, processor: str, deadline: Deadline, first: Record | None = None) -> None:
        self._processor = processor
        self._deadline = deadline
        self._first = first
        self._requests: dict[int, _Request] = {}
        self._probes = 0

    def add(self, index: int, record: Record, writes: list[Write]) -> list[Failure] | None:
        """Give a record's writes their ids and hold them; what fills a request is delivered at once.

        None where nothing was delivered yet, else the records that have failed by it.
        """
        failures: list[Failure] | None = None
        processor, requests = self._processor, self._requests
        for n, write in enumerate(writes):
            write._record = record
            write._processor = processor
            write._n = n
            request = requests.get(id(write.sink)) or self._request_to(write.sink)
            size = write.size
            if size:
                if request.bytes + size > request.most_bytes and request.writes:
                    failures = [*(failures or ()), *self._deliver(request)]
                request.bytes += size
            held = request.writes
            held.append(write)
            request.indexes.append(index)
            if len(held) >= request.most_writes or request.bytes >= request.most_bytes:
                failures = [*(failures or ()), *self._deliver(request)]
        return failures

    def flush(self) -> list[Failure]:
        """Deliver all that is held, and return the records that have failed by it."""
        return [failure for request in self._requests.values() for failure in self._deliver(request)]

    def note_circuits(self, batch: Batch) -> None:
        """Note in the batch how its sinks' circuits are, where a sink has ever failed to answer."""
        breakers = [breaker for request in self._requests.values() if (breaker := request.sink._breaker) is not None]
        if breakers:
            batch.open_circuits, batch.probes = sum(breaker.is_open for breaker in breakers), self._probes

    def _request_to(self, sink: Sink) -> _Request:
        request = self._requests[id(sink)] = _Request(sink)
        return request

    def _deliver(self, request: _Request) -> list[Failure]:
        indexes, writes = request.take()
        if not writes:
            return []
        sink, breaker = request.sink, request.sink._breaker
        if breaker is not None and (unasked := breaker.refusal(self._deadline.now())) is not None:
            return _unavailable(indexes, unasked)
        is_probe = breaker is not None and breaker.is_open
        self._probes += is_probe
        ask = self._probe if is_probe else self._write
        try:
            # A sink may be a generator, so its answer is read to the end here. None is the same as nothing refused.
            refusals = self._deadline.request(sink, lambda deadline: list(ask(sink, writes, deadline) or ()))
            if not refusals:
                self._heard(request)
                return []
            failures = _failures(sink, dict(zip(map(id, writes), indexes, strict=True)), refusals)
            self._judge(request, writes, refusals)
            return failures
        except Exception as error:  # noqa: BLE001  # A sink that can't answer has not refused: its records are not at fault.
            self._missed(request, error, writes)
            return _unavailable(indexes, error)

    def _judge(self, request: _Request, writes: list[Write], refusals: list[Refusal]) -> None:
        """Whether the refusals show that the service is there. Those that were made without asking it tell nothing."""
        answers = [refusal for refusal in refusals if not isinstance(refusal.error, EndlessChain | NotAsked)]
        unavailable = [refusal for refusal in answers if refusal.kind == "unavailable"]
        asked = len(writes) - (len(refusals) - len(answers))
        if len({id(refusal.write) for refusal in unavailable}) < asked:
            self._heard(request)
        elif unavailable:
            error = unavailable[-1].error
            self._missed(request, error if isinstance(error, Exception) else SinkError(str(error)), writes)

    def _heard(self, request: _Request) -> None:
        """There was an answer."""
        if request.sink._breaker is not None:
            request.sink._breaker.answered()
            request.hold()

    def _missed(self, request: _Request, error: Exception, writes: list[Write]) -> None:
        """There was none."""
        sink = request.sink
        if not sink.has_breaker:
            return
        if sink._breaker is None:
            from .breaker import Breaker

            sink._breaker = Breaker(f"{self._processor}: {_name(sink)}")
        sink._breaker.failed(reason(error, writes[0]._record), self._deadline.now())
        request.hold()

    def _probe(self, sink: Sink, writes: list[Write], deadline: float) -> Iterable[Refusal]:
        breaker = sink._breaker
        assert breaker is not None
        return self._write(sink, writes, min(deadline, time.monotonic() + breaker.probe_time))

    def _write(self, sink: Sink, writes: list[Write], deadline: float) -> Iterable[Refusal]:
        endless = _endless(writes) if sink.is_onward else []
        if endless:
            refused = {id(refusal.write) for refusal in endless}
            rest = [write for write in writes if id(write) not in refused]
            return [*endless, *(self._write_followed(sink, rest, deadline) or () if rest else ())]
        return self._write_followed(sink, writes, deadline)

    def _write_followed(self, sink: Sink, writes: list[Write], deadline: float) -> Iterable[Refusal]:
        first = writes[0]._record
        if first is not None and first is writes[-1]._record:
            # They stand in the order of their records, so all of them are of this one: the request is its own.
            with use(first):
                # A sink may be a generator, which has to end in this context.
                return list(self._call(sink, writes, deadline) or ())
        return self._call(sink, writes, deadline)

    def _call(self, sink: Sink, writes: list[Write], deadline: float) -> Iterable[Refusal]:
        if isinstance(sink, ShardSink) and self._first is not None:
            return sink.write_from(self._first, writes, deadline=deadline)
        return sink.write(writes, deadline=deadline)


def _endless(writes: list[Write]) -> list[Refusal]:
    """The writes of records that have gone through too many functions to be sent on."""
    refusals: list[Refusal] = []
    for write in writes:
        try:
            check(write)
        except EndlessChain as error:
            refusals.append(Refusal(write, error, "invalid"))
    return refusals


class _Request:
    """What is held for one sink."""

    __slots__ = ("bytes", "indexes", "most_bytes", "most_writes", "sink", "writes")

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.most_writes = 0
        self.hold()
        self.most_bytes = sink.request_bytes or float("inf")
        self.indexes: list[int] = []
        self.writes: list[Write] = []
        self.bytes = 0

    def hold(self) -> None:
        """Hold as many writes as fill a request; none while the circuit is open, so that the first shows it at once.

        But what a ``ShardSink`` is given, it plans as a whole.
        """
        breaker = self.sink._breaker
        is_open = breaker is not None and breaker.is_open and not isinstance(self.sink, ShardSink)
        self.most_writes = 0 if is_open else self.sink.request_writes

    def take(self) -> tuple[list[int], list[Write]]:
        taken = self.indexes, self.writes
        self.indexes, self.writes, self.bytes = [], [], 0
        return taken


def _unavailable(indexes: list[int], error: Exception) -> list[Failure]:
    return [(index, Unavailable(error)) for index in dict.fromkeys(indexes)]


def _failures(sink: Sink, index_of: dict[int, int], refusals: list[Refusal]) -> list[Failure]:
    """The records that have failed, in order, by the gravest refusal of their writes."""
    failures: dict[int, Outcome] = {}
    for refusal in refusals:
        if not isinstance(refusal, Refusal) or id(refusal.write) not in index_of:
            raise SinkError(
                f"{_name(sink)} answered {type(refusal).__name__} about something that it was not given to write"
            )
        index, outcome = index_of[id(refusal.write)], _outcome(sink, refusal)
        failures[index] = max(failures.get(index, outcome), outcome, key=gravity)
    return sorted(failures.items(), key=lambda failure: failure[0])


def _outcome(sink: Sink, refusal: Refusal) -> Outcome:
    error = refusal.error if isinstance(refusal.error, Exception) else SinkError(str(refusal.error))
    if refusal.kind == "unavailable":
        return Unavailable(error)
    if refusal.kind == "invalid":
        reject = Reject(f"{_name(sink)} can't take it: {error}")
        reject.__cause__ = error
        return Failed(reject)
    if refusal.kind == "failed":
        return Failed(error)
    raise SinkError(f"{_name(sink)} refused a write in a way that is not known: {refusal.kind!r}")


def gravity(outcome: Outcome) -> int:
    """Of several refusals of one record: what has no answer yet, then what a retry may mend, then what it can't."""
    if isinstance(outcome, Unavailable):
        return 2
    return 0 if isinstance(outcome, Failed) and isinstance(outcome.error, Reject) else 1


def _name(sink: Sink) -> str:
    return sink.owner or type(sink).__name__
