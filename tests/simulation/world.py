"""One seeded schedule: the shipped handler, policies and engine, against sinks and queues that fail as the seed says.

Only the clock and the edges of I/O are simulated. While it runs and at its end, the guarantees are checked:

  - no answer and no checkpoint passes a record that nobody has settled;
  - no record starts again once an answer has passed it, so that what repeats lies between the answered position and the
    furthest record started;
  - records of a batch start in sequence order; with ``Block``, nothing starts once a failure is known, and a record starts
    only after ``process`` has come through with every earlier one of its key, redelivered or not;
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
from streamkit.envelope import Envelope, open_envelope
from streamkit.errors import QueueError, SinkError
from streamkit.handler import Handler
from streamkit.kpl import UserRecord, aggregate
from streamkit.policy import Policy
from streamkit.queues.base import Message, MessageRefusal
from streamkit.testing import Crash, EventSourceMapping, MemoryQueue

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
        }
        #: The sink that is down for an hour, or "process".
        self.outage = ""
        self.is_divert = choice([True, False])
        orderings: list[Literal["key", "shard", "none"]] = ["key", "key", "shard", "none"]
        self.ordering = choice(orderings)
        self.dead_letters = SimulatedQueue(self, "dead letters") if choice([True, True, False]) else None
        self.retries = SimulatedQueue(self, "retry queue", fifo=choice([False] * 7 + [True]))
        self.sinks = [SimulatedSink(self, "left", choice([1, 3, 500])), SimulatedSink(self, "right", choice([2, 500]))]
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
        #: Shard id → the highest number that an answer has passed.
        self.passed: dict[str, int] = {}
        self.known_failure = ""
        self.started_in_batch: list[str] = []
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
        return answer

    def call(self, event: Any, context: Any) -> Any:
        """Call the handler, in a container that dies with a crash."""
        self.known_failure = ""
        self.started_in_batch = []
        try:
            self.step("before the handler")
            answer = self.handler(event, context)
            self.step("before the answer")
        except Crash:
            self.new_container()
            raise
        return answer

    def deliver_retries(self) -> bool:
        """Deliver what the retry queue holds, each message once. Whether there was anything."""
        delivered = False
        for _ in range(len(self.retries)):
            self.note("deliver retries")
            try:
                if self.retries.deliver(self.call) is None:
                    break
            except Crash:
                pass
            delivered = True
        return delivered

    def new_container(self) -> None:
        self.handler: Handler = lambda_handler(lambda: Simulated(self))

    def policy(self) -> Policy:
        return Divert(self.retries, self.dead_letters) if self.is_divert else Block(self.dead_letters)

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

    def failed(self, why: str) -> None:
        """The framework has been told of a failure."""
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
        if self.started_in_batch and self.facts[text].order < self.facts[self.started_in_batch[-1]].order:
            raise Violation(f"{text} started after {self.started_in_batch[-1]}")
        self.started_in_batch.append(text)
        if not self.is_divert:
            fact = self.facts[text]
            for earlier in self.facts.values():
                is_before = earlier.order < fact.order and (earlier.shard, earlier.key) == (fact.shard, fact.key)
                if is_before and earlier.kind != DAMAGED and earlier.text not in self.processed:
                    raise Violation(
                        f"{text} started before {earlier.text}, an earlier record of its key, was processed"
                    )

    def check_settled(self, shard_id: str, number: int) -> None:
        for fact in self.facts.values():
            if fact.position == number and shard_id == self.mapping.shard_ids[fact.shard] and not self.is_settled(fact):
                raise Violation(f"the answer passes {fact.text}, which nobody has settled")

    def check_checkpoints(self) -> None:
        checkpoints = self.mapping.checkpoints
        for fact in self.facts.values():
            checkpoint = checkpoints.get(self.mapping.shard_ids[fact.shard])
            if checkpoint is not None and 0 < fact.position <= int(checkpoint) and not self.is_settled(fact):
                raise Violation(f"the checkpoint passed {fact.text}, which nobody has settled")

    def is_settled(self, fact: Fact) -> bool:
        queues = [queue for queue in (self.retries, self.dead_letters) if queue is not None]
        return self.is_written(fact) or any(fact.text in queue.confirmed for queue in queues)

    def is_written(self, fact: Fact) -> bool:
        return all(fact.text in sink.texts for sink in self.sinks)

    def check_that_all_arrived(self) -> None:
        given_up = self.dead_letters.confirmed if self.dead_letters is not None else set()
        for fact in self.facts.values():
            if fact.kind == GOOD and not self.is_written(fact) and fact.text not in given_up:
                raise Violation(f"{fact.text} is lost")
            if fact.kind != GOOD and (fact.text not in given_up or any(fact.text in sink.texts for sink in self.sinks)):
                raise Violation(f"{fact.text} is not in the dead letters, and nowhere else")
            if fact.position > int(self.mapping.checkpoints[self.mapping.shard_ids[fact.shard]]):
                raise Violation(f"the checkpoint has stopped before {fact.text}")
        if len(self.retries):
            raise Violation(f"{len(self.retries)} records are left in the retry queue")
        if self.mapping.discarded:
            raise Violation("the engine discarded records, though all ended in time")


class Simulated(RecordProcessor):
    """Writes each text to both sinks, now and then twice to one."""

    name = "simulated"

    def __init__(self, world: World) -> None:
        self.world = world
        self.on_failure = world.policy()
        self.ordering = world.ordering
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
            world.failed("process")
            raise world.random.choice([ValueError("bad"), KeyError("total"), Retry(0)])
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

    def take(self, write: Write) -> None:
        text, write_id = write.payload, write.write_id
        if self.texts.setdefault(text, write_id) != write_id or self.ids.setdefault(write_id, text) != text:
            raise Violation(f"{text} came with the write id {write_id}, and one of the two had another partner before")

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
            world.failed(f"{self.name} refused")
            error = ConnectionError("throttled") if kind == "unavailable" else SinkError("refused")
            yield Refusal(write, error, kind)  # type: ignore[arg-type]  # mypy sees a str


class SimulatedQueue(MemoryQueue):
    """Refuses, fails, and loses answers after it took a message."""

    def __init__(self, world: World, name: str, *, fifo: bool = False) -> None:
        super().__init__(fifo=fifo)
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
