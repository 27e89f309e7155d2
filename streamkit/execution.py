"""Records run in order, one after another or a few at once, until a failure or the clock says stop."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from . import errors, metrics
from .correlation.context import reset_working, set_working, use
from .deadline import Deadline, ruling
from .delivery import Delivery, Failure, gravity
from .envelope import Early
from .errors import DecodeError, StreamkitError
from .event import Batch
from .failure import Settlement, holds_only_what_is_ordered, is_poison
from .outcome import DONE, NOT_STARTED, Done, Failed, Held, NotStarted, Outcome, Settled, Unavailable, is_settled
from .processor import RecordProcessor
from .reason import reason
from .record import _UNPARSED, Record
from .sinks.base import Write, noting_writes

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Execution", "Process", "attempt"]

log = logging.getLogger("streamkit")

Process = Callable[[Record], Any]
#: What ``process`` came to: its writes, or how it failed.
Result = list[Write] | Failed | Unavailable

_NO_WRITES: list[Write] = []


class Execution:
    """One batch on its way through ``process``. It lives for one invocation; the outcomes are the batch's."""

    def __init__(
        self,
        processor: RecordProcessor,
        batch: Batch,
        delivery: Delivery,
        settlement: Settlement,
        deadline: Deadline,
        process: Process | None = None,
    ) -> None:
        self._processor = processor
        self._process = process or processor.process
        self._batch = batch
        self._delivery = delivery
        self._settlement = settlement
        self._deadline = deadline
        # Nothing more starts. Where a failure holds less than that, the key or group is here, with the failed record's id.
        self._is_stopped = False
        self._stopped_groups: dict[str, str] = {}
        self._holds_keys_only = holds_only_what_is_ordered(processor)
        # Under Park, by key or group: the first record that stops it; and whose dead letter is to be confirmed before it goes on.
        self._stopped_at: dict[str, int] = {}
        self._awaited: dict[str, int] = {}
        self._running: dict[Future[tuple[Result, float]], int] = {}
        self._has_advised = False

    def run(self) -> None:
        """Run the records, and hand on their writes and failures as soon as a full request of either is held."""
        if not self._batch.records:
            return
        token = ruling.set(self._deadline)
        try:
            self._prepare()
            if self._processor.concurrency == 1:
                with noting_writes() as made:
                    self._one_at_a_time(made)
            else:
                self._several_at_once(self._processor.concurrency)
        finally:
            ruling.reset(token)

    def finish_delivery(self) -> None:
        """Deliver the rest of the writes; what is refused is a failure of its record."""
        self._take(self._delivery.flush())

    def _prepare(self) -> None:
        """Call ``prepare`` with what is to run; its failure becomes the outcome of the records that it concerns."""
        if type(self._processor).prepare is RecordProcessor.prepare:
            return
        outcomes = self._batch.outcomes
        ready = [index for index, outcome in enumerate(outcomes) if outcome is NOT_STARTED]
        records = [self._batch.records[index] for index in ready]
        # Of all that are ready, made once: every record of a large batch can be the one that fails.
        by_event_id: dict[str | None, list[int]] = {}
        while ready:
            failure: Exception
            try:
                self._processor.prepare(records.copy())
                return
            except DecodeError as error:
                failure = error
                if not by_event_id:
                    for index, record in zip(ready, records, strict=True):
                        by_event_id.setdefault(record.event_id, []).append(index)
                concerned = by_event_id.pop(error.event_id, [])
            except Exception as error:  # noqa: BLE001  # It belongs to no record, so no record may pay for it.
                failure = error
                concerned = []
            if not concerned:
                for index in ready:
                    outcomes[index] = Unavailable(failure)
                return
            for index in concerned:
                outcomes[index] = Failed(failure)
                place = bisect_left(ready, index)
                del ready[place], records[place]

    def _one_at_a_time(self, made: list[Write]) -> None:
        outcomes, process = self._batch.outcomes, self._process
        deadline, delivery = self._deadline, self._delivery
        remaining = deadline.remaining
        has_started = False
        left = remaining()
        for index, record in enumerate(self._batch.records):
            if self._stopped_groups and self._is_held(index):
                continue
            if outcomes[index] is not NOT_STARTED:
                self._take_decided(index)
            elif has_started and left < deadline.reserve + deadline.longest_record:
                break
            else:
                has_started = True
                result = attempt(process, record, made)
                before, left = left, remaining()
                if before - left > deadline.longest_record:
                    deadline.longest_record = before - left
                if isinstance(result, list):
                    outcomes[index] = DONE
                    if not result:
                        continue
                    failures = delivery.add(index, record, result)
                    if failures is None:
                        continue
                    self._take(failures)
                else:
                    self._take([(index, result)])
            if self._is_stopped:
                break
            left = remaining()

    def _several_at_once(self, most: int) -> None:
        """Records start in sequence order, at most ``most`` at once, and one at a time of each key."""
        from concurrent.futures import ThreadPoolExecutor

        batch, running = self._batch, self._running
        has_started = False
        # What the records of a thread count belongs to this invocation, and so does the time that they have.
        belongs = (metrics.current.values, self._deadline)
        with ThreadPoolExecutor(most, "streamkit", initializer=_begin_thread, initargs=belongs) as pool:
            for index, record in enumerate(batch.records):
                self._collect(wait_for_one=False)
                while running and not self._is_stopped and (len(running) >= most or self._is_busy(index)):
                    self._collect(wait_for_one=True)
                if self._is_stopped:
                    break
                if self._is_held(index):
                    continue
                if batch.outcomes[index] is not NOT_STARTED:
                    self._take_decided(index)
                    continue
                if has_started and not self._deadline.allows_another():
                    break
                has_started = True
                running[pool.submit(_timed_attempt, self._process, record, self._deadline)] = index
            while running:
                self._collect(wait_for_one=True)

    def _collect(self, *, wait_for_one: bool) -> None:
        """Take the results of what has finished, in sequence order."""
        if not self._running:
            return
        from concurrent.futures import FIRST_COMPLETED, wait

        finished, _ = wait(self._running, None if wait_for_one else 0, FIRST_COMPLETED)
        for future in sorted(finished, key=self._running.__getitem__):
            index = self._running.pop(future)
            result, took = future.result()
            self._deadline.longest_record = max(self._deadline.longest_record, took)
            if isinstance(result, list):
                self._batch.outcomes[index] = DONE
                self._take(self._delivery.add(index, self._batch.records[index], result) or ())
            else:
                self._take([(index, result)])

    def _is_busy(self, index: int) -> bool:
        key = self._batch.key(index, self._processor.ordering)
        return key is not None and any(
            self._batch.key(other, self._processor.ordering) == key for other in self._running.values()
        )

    def _is_held(self, index: int) -> bool:
        """Whether an earlier record of its key, or message of its FIFO group, has failed; it is then left unrun."""
        group = self._batch.key(index, self._processor.ordering)
        if group is None or group not in self._stopped_groups or isinstance(self._batch.outcomes[index], Settled):
            return False
        self._batch.outcomes[index] = Held(self._stopped_groups[group])
        # From now on its key waits for this one.
        self._awaited.pop(group, None)
        return True

    def _take_decided(self, index: int) -> None:
        """Take a record that was decided before it could run: it failed, or an earlier delivery has done it."""
        outcome = self._batch.outcomes[index]
        if not isinstance(outcome, Settled | Held):
            self._take([(index, outcome)])

    def _take(self, failures: Iterable[Failure]) -> None:
        """Decide about failures, and send aside what is due.

        All earlier writes are delivered first: if their sink is down, the whole batch comes again from there, and what had
        been sent aside would be sent again each time.
        """
        waiting = deque(failures)
        while True:
            while waiting:
                self._decide(*waiting.popleft())
            if self._is_stopped or not self._settlement.is_due():
                return
            if min(self._running.values(), default=len(self._batch.records)) < self._settlement.last_pending():
                return
            waiting.extend(self._delivery.flush())
            if not waiting:
                if not self._settlement.send() and self._batch.source != "sqs":
                    self._is_stopped = True
                self._release()

    def _decide(self, index: int, outcome: Outcome) -> None:
        current = self._batch.outcomes[index]
        is_decided = current is not outcome and not isinstance(current, Done | NotStarted)
        # By an earlier refusal of one of its writes; but a graver one counts while the record was not sent aside.
        if is_decided and gravity(outcome) <= gravity(current):
            return
        if is_decided and not self._settlement.withdraw(index) and (is_settled(current) or not self._holds_keys_only):
            return
        self._batch.outcomes[index] = outcome
        if isinstance(outcome, Failed) and self._follows_what_stops_it(index):
            return
        where = None
        if isinstance(outcome, Failed):
            if not isinstance(outcome.error, Early):
                self._batch.failed.add(index)
            where = self._settlement.add(index, outcome.error)
        with use(self._batch.records[index]):
            self._log(index, outcome, where)
        if where is not None:
            if self._processor.on_failure.ledger is not None:
                self._await(index)
                self._withdraw_followers(index)
            return
        if self._batch.source == "sqs" or (self._holds_keys_only and isinstance(outcome, Failed)):
            self._hold(index)
            self._withdraw_followers(index)
        else:
            self._is_stopped = True

    def _hold(self, index: int) -> None:
        """Nothing more of its key or group starts."""
        group = self._batch.key(index, self._processor.ordering)
        if group is not None:
            self._stopped_groups.setdefault(group, self._batch.records[index].event_id)
            self._stopped_at[group] = min(index, self._stopped_at.get(group, index))
            self._awaited.pop(group, None)

    def _withdraw_followers(self, index: int) -> None:
        """Nothing that follows it in order is sent aside before it."""
        for follower in self._settlement.withdraw_followers(index):
            self._batch.outcomes[follower] = Held(self._batch.records[index].event_id)

    def _await(self, index: int) -> None:
        """Nothing more of its key or group starts until its dead letter is confirmed."""
        group = self._batch.key(index, self._processor.ordering)
        if group is not None:
            is_first = group not in self._stopped_groups
            self._hold(index)
            if is_first:
                self._awaited[group] = index

    def _follows_what_stops_it(self, index: int) -> bool:
        """Whether, under Park, an earlier record of its key or group waits for its dead letter, or stays where it is; this one
        was done, and shows late to have failed. It is then held, as if it had not run.
        """
        if self._processor.on_failure.ledger is None:
            return False
        group = self._batch.key(index, self._processor.ordering)
        if group is None or self._stopped_at.get(group, index) >= index:
            return False
        self._batch.outcomes[index] = Held(self._stopped_groups[group])
        self._awaited.pop(group, None)
        return True

    def _release(self) -> None:
        """Let those keys go on whose dead letter is confirmed."""
        for group, index in list(self._awaited.items()):
            if is_settled(self._batch.outcomes[index]):
                del self._stopped_groups[group], self._stopped_at[group], self._awaited[group]

    def _log(self, index: int, outcome: Outcome, where: str | None) -> None:
        """One line for a record that failed, and one for all that found the same thing unavailable."""
        record = self._batch.records[index]
        name = self._processor.name
        if isinstance(outcome, Unavailable):
            if not self._is_stopped:
                text = "%s: record %s stays where it is, for something that it needs is unavailable: %s"
                log.error(text, name, record.event_id, reason(outcome.error, record))
        elif isinstance(outcome, Failed) and not isinstance(outcome.error, Early):
            text = "%s: record %s failed and %s: %s"
            if where is None and self._batch.source == "kinesis" and self._processor.on_failure.ledger is not None:
                where = "the retry queue, with what follows it of its key"
            log.error(
                text,
                name,
                record.event_id,
                f"is to go to {where}" if where else "stays where it is",
                reason(outcome.error, record),
            )
            if is_poison(outcome.error) and self._processor.on_failure.dead_letters is None and not self._has_advised:
                self._has_advised = True
                log.warning(
                    "%s: a record that can never succeed has nowhere to go; add dead letters: on_failure = %s",
                    name,
                    self._processor.on_failure.advice,
                )


def attempt(process: Process, record: Record, made: list[Write], name: str = "process") -> Result:
    """Run ``process`` to its end, before any of its writes is delivered. ``made`` fills with the writes it makes.

    ``name`` is what errors call it.
    """
    if made:
        made.clear()
    token = set_working(record)
    try:
        result = process(record)
        if result is None and not made:
            return _NO_WRITES
        return _writes(result, made, name)
    except errors.Unavailable as error:
        return Unavailable(error)
    except Exception as error:  # noqa: BLE001  # Whatever a record's work raises is that record's failure, and no more.
        return Failed(error)
    finally:
        reset_working(token)
        # Thousands of parsed payloads alive at once would cost the collector more than the parsing did.
        record._json = _UNPARSED


def _begin_thread(counting: Any, deadline: Deadline) -> None:
    metrics.current.set(counting)
    ruling.set(deadline)


def _timed_attempt(process: Process, record: Record, deadline: Deadline) -> tuple[Result, float]:
    """One attempt on a thread of its own, and the seconds it took."""
    before = deadline.remaining()
    with noting_writes() as made:
        result = attempt(process, record, made)
    after = deadline.remaining()
    return result, before - after if before > after else 0.0


def _writes(result: Any, made: list[Write], name: str) -> list[Write]:
    """The writes that ``process`` returned or yielded, which must be those that it made."""
    if type(result) is GeneratorType:
        writes = list(result)
    elif isinstance(result, Write):
        writes = [result]
    elif result is None:
        writes = []
    elif isinstance(result, str | bytes | Mapping) or not isinstance(result, Iterable):
        raise TypeError(f"{name} returned {type(result).__name__}; it returns or yields writes, or nothing")
    else:
        writes = list(result)
    if len(writes) == 1 == len(made) and writes[0] is made[0]:
        return writes
    yielded: set[int] = set()
    for write in writes:
        if not isinstance(write, Write):
            raise TypeError(f"{name} yielded {type(write).__name__}; it yields writes, which sinks make")
        if write._record is not None or id(write) in yielded:
            raise StreamkitError(f"{name} yielded a write that was yielded before; make a new one for each record")
        yielded.add(id(write))
    for write in made:
        if id(write) not in yielded:
            sink = write.sink.owner.rpartition(".")[2] or type(write.sink).__name__
            raise StreamkitError(f"{name} made a write and did not yield it, so it is lost: `yield self.{sink}.…`")
    return writes
