"""One seeded schedule: the shipped handler, policies and engine, against sinks and queues that fail as the seed says.

Only the clock and the edges of I/O are simulated. While it runs and at its end, the guarantees are checked:

  - no answer and no checkpoint passes a record that nobody has settled;
  - no record starts again once an answer has passed it, so that what repeats lies between the answered position and the
    furthest record started;
  - records of a batch start in sequence order; with ``Block``, nothing starts once a failure is known (with a progress store:
    nothing of the failed record's key), and a record starts only after ``process`` has come through with every earlier one of
    its key, redelivered or not;
  - with a progress store that never failed, what was done or settled when a batch was answered does not run again;
  - with ``Block``, the last write of a key that a sink gets is that of the key's last record, whatever was repeated;
  - what failed because something was unavailable is nowhere but in the stream, and no attempt was counted for it;
  - when the faults are over, no record is lost: each is written in full, or in the dead letters, for a reason of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from streamkit import (
    Block,
    DecodeError,
    Divert,
    Record,
    RecordProcessor,
    Refusal,
    Reject,
    Retry,
    Sink,
    Unavailable,
    Write,
    lambda_handler,
)
from streamkit.breaker import Breaker
from streamkit.envelope import Envelope, open_envelope
from streamkit.errors import QueueError, SinkError
from streamkit.handler import Handler
from streamkit.kpl import UserRecord, aggregate
from streamkit.policy import Policy
from streamkit.positions import decode_entry
from streamkit.progress.memory import MemoryProgress
from streamkit.queues.base import Message, MessageRefusal
from streamkit.testing import Crash, EventSourceMapping, MemoryQueue
from streamkit.testing.mapping import VirtualContext

GOOD, POISON, DAMAGED = "good", "poison", "damaged"
#: Without dead letters a poisoned record never ends, so there every record is good.
KINDS_WITH_DEAD_LETTERS = [GOOD] * 12 + [POISON, DAMAGED]

#: How an envelope must not say that a record failed: these are no fault of a record.
NO_FAULT_OF_THE_RECORD = {"Unavailable", "ConnectionError"}


class Violation(BaseException):
    """A guarantee did not hold. The framework takes any Exception for the failure of a record, so this is none."""


class Fact:
    """What the schedule knows of one user record."""

    def __init__(self, text: str, kind: str, shard: int, key: str, order: int) -> None:
        self.text = text
        self.kind = kind
        self.shard = shard
        self.key = key
        self.order = order
        self.position = 0


class World:
    """Everything of one schedule. ``trace`` says what happened, a line each, for reading a failing seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        choice = self.random.choice
        self.trace: list[str] = []
        #: How likely each fault is, where it can happen.
        self.faults = {
            "crash": choice([0.0, 0.002, 0.02]),
            "process fails": choice([0.0, 0.05, 0.3]),
            "process finds nothing": choice([0.0, 0.0, 0.05]),
            "slow record": choice([0.0, 0.05, 0.3]),
            "sink refuses": choice([0.0, 0.02, 0.2]),
            "sink is down": choice([0.0, 0.05]),
            "sink answer is lost": choice([0.0, 0.05]),
            "queue refuses": choice([0.0, 0.1, 0.4]),
            "queue is down": choice([0.0, 0.05]),
            "queue answer is lost": choice([0.0, 0.05]),
            "look-up fails": choice([0.0, 0.0, 0.2]),
            "save fails": choice([0.0, 0.0, 0.2]),
            "save's answer is lost": choice([0.0, 0.0, 0.2]),
            "entry is lost": choice([0.0, 0.0, 0.1]),
        }
        #: The sink that is down for an hour, or "process".
        self.outage = ""
        self.is_divert = choice([True, False])
        orderings: list[Literal["key", "shard", "none"]] = ["key", "key", "shard", "none"]
        self.ordering = choice(orderings)
        #: Of the retry queue, where nothing else decides when a message may be received.
        self.backoff = choice([0.0, 15.0, 600.0])
        self.dead_letters = SimulatedQueue(self, "dead letters") if choice([True, True, False]) else None
        self.retries = SimulatedQueue(self, "retry queue", fifo=choice([False] * 7 + [True]))
        self.sinks = [SimulatedSink(self, "left", choice([1, 3, 500])), SimulatedSink(self, "right", choice([2, 500]))]
        self.progress = SimulatedProgress(self) if choice([True, True, False]) else None
        self.shards = choice([1, 1, 2])
        self.mapping = EventSourceMapping(
            self.invoke,
            batch_size=choice([1, 3, 10, 100]),
            maximum_batching_window_in_seconds=choice([0, 0, 2]),
            bisect_batch_on_function_error=choice([True, False, False]),
            function_response_types=["ReportBatchItemFailures"],
            function_timeout_in_seconds=60,
            shards=self.shards,
        )
        self.deadline_margin = choice([0.0, 1.0, 5.0])
        self.facts: dict[str, Fact] = {}
        #: Those that no look has found settled yet. What is settled stays so.
        self.unsettled: list[Fact] = []
        #: Shard id → the highest number that an answer has passed.
        self.passed: dict[str, int] = {}
        self.known_failure = ""
        self.failed_in_batch: list[Fact] = []
        self.started_in_batch: list[str] = []
        #: The texts that the sinks or a queue have confirmed in this invocation, with who did.
        self.confirmed_in_batch: dict[str, set[str]] = {}
        #: The texts that were done or settled when a batch of theirs was answered.
        self.settled_when_answered: set[str] = set()
        #: The texts that process has come through with, or rejected.
        self.processed: set[str] = set()
        self.new_container()

    # The schedule.

    def run(self) -> None:
        """Play it, end the faults, and see that everything has arrived."""
        for _ in range(self.random.randint(3, 12)):
            self.play(self.random.choice(["put", "put", "put", "advance", "advance", "retries", "outage"]))
        self.note("the faults are over")
        self.faults = dict.fromkeys(self.faults, 0.0)
        for _ in range(20):
            self.mapping.run_until_idle()
            self.check_checkpoints()
            self.mapping.advance(900)
            if not self.deliver_retries():
                break
        self.check_that_all_arrived()

    def play(self, action: str) -> None:
        if action == "put":
            for _ in range(self.random.randint(1, 8)):
                self.put()
            self.mapping.advance(0)
        elif action == "advance":
            self.mapping.advance(self.random.choice([1, 30, 300]))
        elif action == "retries":
            self.deliver_retries()
        else:
            self.outage = self.random.choice(["left", "right", "process"])
            self.note(f"an hour without {self.outage}")
            self.mapping.advance(3600)
            self.outage = ""
        self.check_checkpoints()

    def put(self) -> None:
        shard = self.random.randrange(self.shards)
        count = self.random.choice([1, 1, 1, 2, 6])
        facts = [self.new_fact(shard, alone=count == 1) for _ in range(count)]
        users = [UserRecord(fact.text.encode(), fact.key) for fact in facts]
        if count > 1:
            data, key = aggregate(users), "aggregate"
        elif facts[0].kind == DAMAGED:
            data, key = aggregate(users)[:-3], "damaged"
        else:
            data, key = users[0].data, users[0].partition_key or ""
        number = int(self.mapping.put(data, key, shard=shard))
        for fact in facts:
            fact.position = number
        self.note(f"put {number % 10_000} of shard {shard}: {[fact.text for fact in facts]}")

    def new_fact(self, shard: int, *, alone: bool) -> Fact:
        order = len(self.facts)
        kind = self.random.choice(KINDS_WITH_DEAD_LETTERS) if self.dead_letters is not None else GOOD
        if kind == DAMAGED and not alone:
            kind = POISON
        fact = Fact(f"{order}-{kind}", kind, shard, self.random.choice("abc"), order)
        self.facts[fact.text] = fact
        self.unsettled.append(fact)
        return fact

    # The function.

    def invoke(self, event: Any, context: Any) -> Any:
        shard_id = event["Records"][0]["eventID"].partition(":")[0]
        numbers = [int(record["kinesis"]["sequenceNumber"]) for record in event["Records"]]
        self.note(f"invoke {shard_id[-1]}: {[number % 10_000 for number in numbers]}")
        self.check_checkpoints()
        answer = self.call(event, context)
        named = [int(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]]
        if len(named) > 1:
            raise Violation(f"the answer names {len(named)} records of a stream, where one says all")
        self.note(f"  answered {[number % 10_000 for number in named]}")
        for number in numbers:
            if not named or number < named[0]:
                self.check_settled(shard_id, number)
                self.passed[shard_id] = number
        self.take_stock(shard_id, numbers)
        return answer

    def call(self, event: Any, context: Any) -> Any:
        """Call the handler, in a container that dies with a crash."""
        self.known_failure = ""
        self.failed_in_batch = []
        self.started_in_batch = []
        self.confirmed_in_batch = {}
        try:
            self.step("before the handler")
            answer = self.handler(event, context)
            self.step("before the answer")
        except Crash:
            self.new_container()
            raise
        finally:
            if self.progress is not None:
                self.progress.end_invocation()
        return answer

    def take_stock(self, shard_id: str, numbers: list[int]) -> None:
        """Note what is done or settled of a batch that has been answered: not what stands behind a failure of its key."""
        waiting: set[str] = set()
        shard_ids = self.mapping.shard_ids
        for fact in self.facts.values():
            if fact.position not in numbers or shard_ids[fact.shard] != shard_id:
                continue
            confirmed = self.confirmed_in_batch.get(fact.text, set())
            is_done = confirmed >= {"left", "right"} and self.group(fact) not in waiting
            if is_done or confirmed & {"dead letters", "retry queue"}:
                self.settled_when_answered.add(fact.text)
            elif fact.text not in self.settled_when_answered and not self.is_divert and self.ordering != "none":
                waiting.add(self.group(fact))

    def group(self, fact: Fact) -> str:
        """What the record keeps order within, of its shard."""
        return fact.key if self.ordering == "key" else ""

    def deliver_retries(self) -> bool:
        """Deliver what the retry queue holds, each message once. Whether there was anything."""
        delivered = False
        for _ in range(len(self.retries)):
            self.note("deliver retries")
            try:
                context = VirtualContext("retries", lambda: self.mapping.now, self.mapping.now + 60)
                if self.retries.deliver(self.call, context) is None:
                    break
            except Crash:
                pass
            delivered = True
        return delivered

    def new_container(self) -> None:
        for sink in self.sinks:
            sink.forget()
        self.handler: Handler = lambda_handler(lambda: Simulated(self))

    def policy(self) -> Policy:
        if not self.is_divert:
            return Block(self.dead_letters)
        return Divert(self.retries, self.dead_letters, backoff=self.backoff)

    # Faults.

    def note(self, line: str) -> None:
        self.trace.append(line)

    def happens(self, fault: str) -> bool:
        likely = self.faults[fault]
        happens = likely > 0 and self.random.random() < likely
        if happens:
            self.note(f"    {fault}")
        return happens

    def step(self, where: str) -> None:
        """A place between two steps, where the process can be killed."""
        if self.happens("crash"):
            self.note(f"    … {where}")
            raise Crash(where)

    def failed(self, why: str, *, text: str = "") -> None:
        """The framework has been told of a failure: of ``text``, or of something that ends the batch."""
        if text and self.progress is not None and not self.is_divert:
            self.failed_in_batch.append(self.facts[text])
        else:
            self.known_failure = self.known_failure or why

    # Checks.

    def check_start(self, record: Record) -> None:
        text = record.data.decode()
        if record.source != "kinesis":
            return
        if int(record.sequence_number or 0) <= self.passed.get(record.shard_id or "", -1):
            raise Violation(f"{text} started again though an answer had passed it")
        if self.known_failure and not self.is_divert:
            raise Violation(f"{text} started though a failure was known: {self.known_failure}")
        fact = self.facts[text]
        if self.ordering != "none" and any(self.group(failed) == self.group(fact) for failed in self.failed_in_batch):
            raise Violation(f"{text} started though a record of its key had failed")
        if text in self.settled_when_answered and self.progress is not None and not self.progress.has_failed:
            raise Violation(f"{text} started again though it was settled when its batch was answered")
        if self.started_in_batch and fact.order < self.facts[self.started_in_batch[-1]].order:
            raise Violation(f"{text} started after {self.started_in_batch[-1]}")
        self.started_in_batch.append(text)
        self.confirmed_in_batch[text] = set()
        if not self.is_divert and (self.progress is None or self.ordering != "none"):
            for earlier in self.facts.values():
                is_before = earlier.order < fact.order and earlier.shard == fact.shard
                if is_before and self.ordering != "shard":
                    is_before = earlier.key == fact.key
                if is_before and earlier.kind != DAMAGED and earlier.text not in self.processed:
                    raise Violation(
                        f"{text} started before {earlier.text}, an earlier record of its key, was processed"
                    )

    def check_settled(self, shard_id: str, number: int) -> None:
        for fact in self.facts.values():
            if fact.position == number and shard_id == self.mapping.shard_ids[fact.shard] and not self.is_settled(fact):
                raise Violation(f"the answer passes {fact.text}, which nobody has settled")

    def check_checkpoints(self) -> None:
        checkpoints, shard_ids = self.mapping.checkpoints, self.mapping.shard_ids
        self.unsettled = [fact for fact in self.unsettled if not self.is_settled(fact)]
        for fact in self.unsettled:
            checkpoint = checkpoints.get(shard_ids[fact.shard])
            if checkpoint is not None and 0 < fact.position <= int(checkpoint):
                raise Violation(f"the checkpoint passed {fact.text}, which nobody has settled")

    def is_settled(self, fact: Fact) -> bool:
        if self.is_written(fact) or fact.text in self.retries.confirmed:
            return True
        return self.dead_letters is not None and fact.text in self.dead_letters.confirmed

    def is_written(self, fact: Fact) -> bool:
        left, right = self.sinks
        return fact.text in left.texts and fact.text in right.texts

    def check_that_all_arrived(self) -> None:
        given_up = self.dead_letters.confirmed if self.dead_letters is not None else set()
        for fact in self.facts.values():
            if fact.kind == GOOD and not self.is_written(fact) and fact.text not in given_up:
                raise Violation(f"{fact.text} is lost")
            if fact.kind != GOOD and (fact.text not in given_up or any(fact.text in sink.texts for sink in self.sinks)):
                raise Violation(f"{fact.text} is not in the dead letters, and nowhere else")
            if fact.position > int(self.mapping.checkpoints[self.mapping.shard_ids[fact.shard]]):
                raise Violation(f"the checkpoint has stopped before {fact.text}")
        self.check_the_last_of_each_key()
        if len(self.retries):
            raise Violation(f"{len(self.retries)} records are left in the retry queue")
        if self.mapping.discarded:
            raise Violation("the engine discarded records, though all ended in time")

    def check_the_last_of_each_key(self) -> None:
        if self.is_divert or self.ordering == "none" or (self.progress is not None and self.progress.was_blind):
            return
        last = {(fact.shard, fact.key): fact.text for fact in self.facts.values() if fact.kind == GOOD}
        for sink in self.sinks:
            for place, text in last.items():
                if sink.last[place] != text:
                    raise Violation(f"{sink.name} got {sink.last[place]} after {text}, the last record of its key")


class Simulated(RecordProcessor):
    """Writes each text to both sinks, now and then twice to one."""

    name = "simulated"

    def __init__(self, world: World) -> None:
        self.world = world
        self.on_failure = world.policy()
        self.ordering = world.ordering
        self.progress = world.progress
        self.deadline_margin = world.deadline_margin

    def process(self, record: Record) -> Iterator[Write]:
        world = self.world
        world.check_start(record)
        world.step("before process")
        text = record.data.decode()
        fact = world.facts[text]
        yield world.sinks[0].text(text)
        if record.source == "kinesis" and world.happens("slow record"):
            world.mapping.sleep(world.random.choice([1.0, 20.0, 50.0]))
        if fact.kind == POISON:
            world.processed.add(text)
            raise Reject("poison")
        if world.outage == "process" or world.happens("process finds nothing"):
            world.failed("unavailable")
            raise Unavailable("a service")
        if world.happens("process fails"):
            world.failed("process", text=text)
            # On a FIFO queue the delay is in the envelope, and passes by a clock that is not simulated.
            delay = 0 if world.retries.fifo else 20
            raise world.random.choice([ValueError("bad"), KeyError("total"), Retry(delay)])
        yield world.sinks[1].text(text)
        world.processed.add(text)
        world.step("after process")


class SimulatedSink(Sink):
    """Keeps texts by write id, and fails in every way that a sink can."""

    def __init__(self, world: World, name: str, request_writes: int) -> None:
        self.world = world
        self.name = name
        self.request_writes = request_writes  # type: ignore[misc]  # A class variable, which each schedule chooses.
        self.texts: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        #: The text of each shard and key that came last.
        self.last: dict[tuple[int, str], str] = {}

    def forget(self) -> None:
        """What a container knows of the service ends with it."""
        self._breaker = Breaker(self.name, self.world.random.random)

    def take(self, write: Write) -> None:
        text, write_id = write.payload, write.write_id
        if self.texts.setdefault(text, write_id) != write_id or self.ids.setdefault(write_id, text) != text:
            raise Violation(f"{text} came with the write id {write_id}, and one of the two had another partner before")
        fact = self.world.facts[text]
        self.last[fact.shard, fact.key] = text

    def text(self, text: str) -> Write:
        return Write(self, text)

    def write(self, writes: Sequence[Write], *, deadline: float) -> Iterator[Refusal]:
        world = self.world
        world.note(f"    {self.name} gets {[write.payload for write in writes]}")
        world.step(f"before {self.name} writes")
        if world.outage == self.name or world.happens("sink is down"):
            world.failed("sink is down")
            raise ConnectionError(f"{self.name} is down")
        refused = []
        for write in writes:
            if world.happens("sink refuses"):
                kinds = ["failed", "failed", "unavailable"]
                refused.append((write, world.random.choice(kinds)))
            else:
                self.take(write)
        world.step(f"after {self.name} wrote")
        if world.happens("sink answer is lost"):
            world.failed("sink answer is lost")
            raise ConnectionError(f"{self.name} did not answer")
        for write, kind in refused:
            world.failed(f"{self.name} refused", text=write.payload if kind == "failed" else "")
            error = ConnectionError("throttled") if kind == "unavailable" else SinkError("refused")
            yield Refusal(write, error, kind)  # type: ignore[arg-type]  # mypy sees a str
        for write in writes:
            if write not in [refused_write for refused_write, _ in refused]:
                world.confirmed_in_batch.setdefault(write.payload, set()).add(self.name)


class SimulatedQueue(MemoryQueue):
    """Refuses, fails, and loses answers after it took a message."""

    def __init__(self, world: World, name: str, *, fifo: bool = False) -> None:
        super().__init__(fifo=fifo, clock=lambda: world.mapping.now)
        self.world = world
        self.name = name
        #: The texts of all that it ever confirmed or, its answer lost, took.
        self.confirmed: set[str] = set()

    def send(self, messages: Sequence[Message], *, deadline: float) -> list[MessageRefusal]:
        world = self.world
        envelopes = [envelope for message in messages if (envelope := open_envelope(message.body)) is not None]
        world.note(f"    {self.name} gets {[envelope.data for envelope in envelopes]}")
        for envelope in envelopes:
            self.check(envelope)
        world.step(f"before {self.name} takes them")
        if world.happens("queue is down"):
            world.failed("queue is down")
            raise QueueError("down")
        refused = set()
        for envelope in envelopes:
            if world.happens("queue refuses"):
                refused.add(envelope.event_id)
        self.refuse(lambda envelope: envelope.event_id in refused)
        refusals = super().send(messages, deadline=deadline)
        confirmed = {message.event_id for message in messages} - {refusal.message.event_id for refusal in refusals}
        for envelope in envelopes:
            if envelope.event_id in confirmed:
                self.confirmed |= {fact.text for fact in self.facts_of(envelope)}
        world.step(f"after {self.name} took them")
        if world.happens("queue answer is lost"):
            world.failed("queue answer is lost")
            raise QueueError("no answer")
        for envelope in envelopes:
            if envelope.event_id in confirmed:
                for fact in self.facts_of(envelope):
                    world.confirmed_in_batch.setdefault(fact.text, set()).add(self.name)
        if refusals:
            world.failed(f"{self.name} refused")
        return refusals

    def facts_of(self, envelope: Envelope) -> list[Fact]:
        """The record in an envelope; of a damaged aggregate, which has no data, that of its position."""
        facts = self.world.facts
        if envelope.data is not None:
            return [facts[envelope.data.decode()]]
        return [fact for fact in facts.values() if str(fact.position) == envelope.sequence_number]

    def check(self, envelope: Envelope) -> None:
        policy = self.world.policy()
        last = envelope.failures[-1]
        if last.type in NO_FAULT_OF_THE_RECORD:
            raise Violation(f"{envelope.data!r} goes to {self.name} because of {last.message}")
        if envelope.attempts > policy.attempts:
            raise Violation(f"{envelope.data!r} has had {envelope.attempts} attempts")
        is_poison = last.type in (Reject.__name__, DecodeError.__name__)
        if self is self.world.dead_letters and not is_poison and envelope.attempts < policy.attempts:
            raise Violation(f"{envelope.data!r} is given up after {envelope.attempts} attempts: {last.message}")
        if self is self.world.retries and is_poison:
            raise Violation(f"{envelope.data!r} is poison and is to be tried again")


class SimulatedProgress(MemoryProgress):
    """Fails on look-ups and saves, loses answers and entries."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.has_failed = False
        #: An invocation could neither look up nor save, so that nothing tells what it has repeated.
        self.was_blind = False
        self._is_blind = False

    def entries(self, processor: str, shard: str, up_to: int, *, deadline: float) -> list[bytes]:
        self.world.step("before the look-up")
        if self.world.happens("look-up fails"):
            self.has_failed = self._is_blind = True
            raise ConnectionError("progress is down")
        numbers = self._shards.get((self.generation, processor, shard), {})
        if numbers and self.world.happens("entry is lost"):
            self.has_failed = True
            lost = numbers.pop(self.world.random.choice(sorted(numbers)))
            self.was_blind |= decode_entry(lost).alone
        return super().entries(processor, shard, up_to, deadline=deadline)

    def save(self, processor: str, shard: str, number: int, entry: bytes, *, deadline: float) -> None:
        positions = sorted(decode_entry(entry).positions)
        self.world.note(f"    progress under {number % 10_000}: {[(n % 10_000, sub) for n, sub in positions]}")
        self.world.step("before the save")
        if self.world.happens("save fails"):
            self.has_failed = True
            raise ConnectionError("progress is down")
        super().save(processor, shard, number, entry, deadline=deadline)
        self._is_blind = False
        self.world.step("after the save")
        if self.world.happens("save's answer is lost"):
            self.has_failed = True
            raise ConnectionError("progress did not answer")

    def end_invocation(self) -> None:
        self.was_blind |= self._is_blind
        self._is_blind = False
