"""One seeded schedule of a ``FanOut``: the shipped handler, policies and engine, with two to four branches on one read.

Each branch draws a policy, an ordering, its queues (its own, or one for all) and its progress (the fan-out's, or none). Only the
clock and the edges of I/O are simulated: sinks and queues that refuse, are down or lose answers, a progress store that fails, a
branch that can't be made, and a process that is killed between any two steps. While it runs and at its end, of each branch:

  - no answer and no checkpoint passes a record that some branch has not settled; and where no branch had any trouble in an
    invocation, its answer names nothing;
  - a branch without trouble of its own has settled all of its batch, whatever the others went through;
  - what a branch with progress had settled when a batch was answered does not run in it again, whatever the others failed at; nor
    does what it had settled when a later branch killed the container, where that had not come through a batch of the shard yet;
  - a record starts in a ``Block`` or ``Park`` branch after ``process`` has come through with every earlier one of its key, or it
    is given up; nothing starts that its policy says is held;
  - what comes back from a retry queue runs in the branch that sent it there, and in no other;
  - a branch sees each value as it was put, whatever the others did to theirs;
  - when the faults are over, each record is written by each branch, or in that branch's dead letters for a reason of its own; and
    the last write of a key that such a branch's sink gets is that of the key's last record.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from streamkit import (
    Block,
    Divert,
    Park,
    Record,
    RecordProcessor,
    Refusal,
    Reject,
    Sink,
    Unavailable,
    Write,
    lambda_handler,
)
from streamkit.envelope import Envelope, open_envelope
from streamkit.errors import QueueError, SinkError
from streamkit.event import QueuedRecord
from streamkit.fanout import FanOut
from streamkit.handler import Handler
from streamkit.kpl import UserRecord, aggregate
from streamkit.ledgers.memory import MemoryLedger
from streamkit.policy import Policy
from streamkit.progress.memory import MemoryProgress
from streamkit.queues.base import Message, MessageRefusal
from streamkit.testing import Crash, EventSourceMapping, MemoryQueue

from .world import NO_FAULT_OF_THE_RECORD, Violation

_FUNCTION_SECONDS = 60


class Fact:
    """What the schedule knows of one user record. ``bad_for``: the branches that reject it."""

    def __init__(self, text: str, shard: int, key: str, order: int, bad_for: frozenset[str]) -> None:
        self.text = text
        self.shard = shard
        self.key = key
        self.order = order
        self.bad_for = bad_for
        self.position = 0


class Part:
    """What the schedule knows of one branch, beyond any container."""

    def __init__(self, fan: Fan, name: str, queues: tuple[FanQueue, FanQueue]) -> None:
        choice = fan.random.choice
        self.fan = fan
        self.name = name
        kind = choice(["block", "block", "divert", "divert", "park"])
        self.is_divert, self.is_park = kind == "divert", kind == "park"
        self.ledger = MemoryLedger(clock=lambda: fan.mapping.now)
        if self.is_park:
            queues = FanQueue(fan, f"retries of {name}", fifo=True), queues[1]
            fan.queues.append(queues[0])
        self.retries = queues[0]
        self.dead_letters = queues[1] if choice([True, True, False]) else None
        self.ordering: Any = "key" if self.is_park else choice(["key", "key", "shard", "none"])
        self.has_progress = choice([True, True, True, False])
        self.margin = choice([0.0, 1.0, 5.0])
        self.sink = FanSink(self, choice([1, 3, 500]))
        #: The texts that ``process`` has come through with, or rejected.
        self.processed: set[str] = set()
        #: The texts that a queue holds, or held, for this branch.
        self.aside: set[str] = set()
        #: The texts that were settled when a batch of theirs was answered, or saved before a death.
        self.kept: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """An invocation begins."""
        #: Why nothing more should start; what has failed, and holds its group; whether anything went wrong at all.
        self.known_failure = ""
        self.failed: list[Fact] = []
        self.is_troubled = False
        self.started: list[Fact] = []
        self.confirmed: set[str] = set()

    def fail(self, why: str, text: str = "") -> None:
        self.is_troubled = True
        if text and (self.is_park or (self.has_progress and not self.is_divert)):
            self.failed.append(self.fan.facts[text])
        else:
            self.known_failure = self.known_failure or why

    def policy(self) -> Policy:
        if self.is_park:
            return Park(self.retries, self.ledger, self.dead_letters)
        if not self.is_divert:
            return Block(self.dead_letters)
        return Divert(self.retries, self.dead_letters, backoff=0.0)

    def group(self, fact: Fact) -> tuple[int, str]:
        return fact.shard, fact.key if self.ordering == "key" else ""

    def has_settled(self, fact: Fact) -> bool:
        return fact.text in self.sink.texts or fact.text in self.aside

    def take_stock(self, facts: Sequence[Fact]) -> None:
        """Note what is settled of a batch: not what stands behind a failure of its group, for that runs again."""
        waiting: set[tuple[int, str]] = set()
        for fact in facts:
            is_done = fact.text in self.confirmed and self.group(fact) not in waiting
            is_sent = fact.text in self.aside and fact.text in self.fan.sent_in_invocation[self.name]
            if is_done or is_sent:
                self.kept.add(fact.text)
                if is_sent and self.is_park and fact.text in self.retries.letters[self.name]:
                    # What its sink has confirmed behind it was to follow it into the queue.
                    waiting.add(self.group(fact))
            elif fact.text not in self.kept and not self.is_divert and self.ordering != "none":
                waiting.add(self.group(fact))


class Fan:
    """Everything of one schedule. ``trace`` says what happened, a line each, for reading a failing seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        choice = self.random.choice
        self.trace: list[str] = []
        self.faults = {
            "crash": choice([0.0, 0.0, 0.002, 0.02]),
            "can't be made": choice([0.0, 0.0, 0.1]),
            "process fails": choice([0.0, 0.05, 0.3]),
            "process finds nothing": choice([0.0, 0.0, 0.05]),
            "slow record": choice([0.0, 0.0, 0.05, 0.2]),
            "sink refuses": choice([0.0, 0.02, 0.2]),
            "sink is down": choice([0.0, 0.0, 0.05]),
            "sink answer is lost": choice([0.0, 0.0, 0.05]),
            "queue refuses": choice([0.0, 0.0, 0.3]),
            "queue answer is lost": choice([0.0, 0.0, 0.05]),
            "look-up fails": choice([0.0, 0.0, 0.1]),
            "save fails": choice([0.0, 0.0, 0.1]),
            "save's answer is lost": choice([0.0, 0.0, 0.1]),
        }
        self.facts: dict[str, Fact] = {}
        self.sent_in_invocation: dict[str, set[str]] = defaultdict(set)
        self.progress = FanProgress(self)
        shared = FanQueue(self, "retries"), FanQueue(self, "dead letters")
        self.queues = [*shared]
        self.parts: list[Part] = []
        for name in "abcd"[: choice([2, 2, 3, 4])]:
            queues = shared
            if choice([True, False]):
                queues = FanQueue(self, f"retries of {name}"), FanQueue(self, f"dead letters of {name}")
                self.queues += queues
            self.parts.append(Part(self, name, queues))
        self.all_have_progress = all(part.has_progress for part in self.parts)
        self.shards = choice([1, 1, 2])
        self.mapping = EventSourceMapping(
            self.invoke,
            batch_size=choice([1, 3, 10, 100]),
            maximum_batching_window_in_seconds=choice([0, 0, 2]),
            bisect_batch_on_function_error=choice([True, False, False]),
            function_response_types=["ReportBatchItemFailures"],
            function_timeout_in_seconds=_FUNCTION_SECONDS,
            shards=self.shards,
        )
        self.passed: dict[str, int] = {}
        #: The shards that this container has come through a batch of.
        self.proven: set[str] = set()
        self.running = ""
        self.new_container()

    # The schedule.

    def run(self) -> None:
        """Play it, end the faults, and see that everything has arrived everywhere."""
        for _ in range(self.random.randint(3, 10)):
            action = self.random.choice(["put", "put", "put", "advance", "advance", "retries"])
            if action == "put":
                for _ in range(self.random.randint(1, 6)):
                    self.put()
                self.mapping.advance(0)
            elif action == "advance":
                self.mapping.advance(self.random.choice([1, 30, 300]))
            else:
                self.deliver_retries()
            self.check_checkpoints()
        self.note("the faults are over")
        self.faults = dict.fromkeys(self.faults, 0.0)
        for _ in range(20):
            self.mapping.run_until_idle()
            self.check_checkpoints()
            self.mapping.advance(900)
            if not self.deliver_retries():
                break
        self.check_that_all_arrived()

    def put(self) -> None:
        shard = self.random.randrange(self.shards)
        facts = [self.new_fact(shard) for _ in range(self.random.choice([1, 1, 1, 3]))]
        users = [UserRecord(json.dumps({"text": fact.text, "seen": []}).encode(), fact.key) for fact in facts]
        data = users[0].data if len(users) == 1 else aggregate(users)
        number = int(self.mapping.put(data, facts[0].key, shard=shard))
        for fact in facts:
            fact.position = number
        self.note(f"put {number % 10_000} of shard {shard}: {[fact.text for fact in facts]}")

    def new_fact(self, shard: int) -> Fact:
        order = len(self.facts)
        # Where a branch has no dead letters, what it rejects would never end.
        bad_for = frozenset(
            part.name for part in self.parts if part.dead_letters is not None and self.random.random() < 0.08
        )
        fact = Fact(f"{order}", shard, self.random.choice("abc"), order, bad_for)
        self.facts[fact.text] = fact
        return fact

    # The function.

    def new_container(self) -> None:
        def factory(part: Part) -> Any:
            def make() -> Simulated:
                if self.happens("can't be made"):
                    part.fail("it can't be made")
                    raise ConnectionError("the registry is down")
                return Simulated(part)

            return make

        store = self.progress if self.all_have_progress else None
        self.handler: Handler = lambda_handler(FanOut(*map(factory, self.parts), progress=store))
        self.proven.clear()

    def invoke(self, event: Any, context: Any) -> Any:
        shard_id = event["Records"][0]["eventID"].partition(":")[0]
        numbers = [int(record["kinesis"]["sequenceNumber"]) for record in event["Records"]]
        facts = [
            fact
            for fact in self.facts.values()
            if fact.position in numbers and self.mapping.shard_ids[fact.shard] == shard_id
        ]
        self.note(f"invoke {shard_id[-1]}: {[number % 10_000 for number in numbers]}")
        self.check_checkpoints()
        was_proven = shard_id in self.proven
        self.proven.discard(shard_id)
        try:
            answer = self.call(event, context)
        except Crash:
            if not was_proven:
                self.keep_before_the_death(facts)
            raise
        self.proven.add(shard_id)
        named = [int(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]]
        self.note(f"  answered {[number % 10_000 for number in named]}")
        is_late = context.get_remaining_time_in_millis() < 1000 * max(part.margin for part in self.parts)
        if len(named) > 1:
            raise Violation(f"the answer names {len(named)} records of a stream, where one says all")
        if named and not is_late and not any(part.is_troubled for part in self.parts) and not self.was_slow:
            raise Violation("the answer names a record, though no branch had any trouble")
        for part in self.parts:
            if not (part.is_troubled or is_late or self.was_slow):
                left = [fact.text for fact in facts if not part.has_settled(fact)]
                if left:
                    raise Violation(f"{part.name} had no trouble of its own and has not settled {left}")
        for number in numbers:
            if not named or number < named[0]:
                self.check_settled(shard_id, number)
                self.passed[shard_id] = number
        if not is_late:
            for part in self.parts:
                part.take_stock(facts)
        else:
            # Perhaps there was no time to save.
            self.progress.has_failed |= {part.name for part in self.parts}
            self.progress.was_blind |= self.progress.is_blind
        return answer

    def keep_before_the_death(self, facts: Sequence[Fact]) -> None:
        """What earlier branches had settled was saved when the one that died began."""
        names = [part.name for part in self.parts]
        if self.running in names and not self.was_slow:
            for part in self.parts[: names.index(self.running)]:
                part.take_stock(facts)

    def call(self, event: Any, context: Any) -> Any:
        self.was_slow = False
        self.running = ""
        self.sent_in_invocation.clear()
        self.progress.is_blind.clear()
        for part in self.parts:
            part.begin()
        try:
            self.step("before the handler", "")
            answer = self.handler(event, context)
            self.step("before the answer", "")
        except Violation:
            raise
        except BaseException:
            self.new_container()
            self.progress.was_blind |= self.progress.is_blind
            raise
        return answer

    def deliver_retries(self) -> bool:
        delivered = False
        for queue in self.queues:
            if queue.name.startswith("dead"):
                continue
            for _ in range(len(queue)):
                self.note(f"deliver {queue.name}")
                try:
                    if queue.deliver(self.call) is None:
                        break
                except Crash:
                    pass
                delivered = True
        return delivered

    # Faults.

    def note(self, line: str) -> None:
        self.trace.append(line)

    def happens(self, fault: str) -> bool:
        likely = self.faults[fault]
        happens = likely > 0 and self.random.random() < likely
        if happens:
            self.note(f"    {fault}")
        return happens

    def step(self, where: str, branch: str) -> None:
        """A place between two steps of a branch, where the process can be killed."""
        self.running = branch
        if self.happens("crash"):
            self.note(f"    … {where} of {branch or 'all'}")
            raise Crash(where)

    # Checks.

    def check_settled(self, shard_id: str, number: int) -> None:
        for fact in self.facts.values():
            if fact.position == number and shard_id == self.mapping.shard_ids[fact.shard]:
                for part in self.parts:
                    if not part.has_settled(fact):
                        raise Violation(f"the answer passes {fact.text}, which {part.name} has not settled")

    def check_checkpoints(self) -> None:
        checkpoints = self.mapping.checkpoints
        for fact in self.facts.values():
            checkpoint = checkpoints.get(self.mapping.shard_ids[fact.shard])
            if checkpoint is not None and 0 < fact.position <= int(checkpoint):
                for part in self.parts:
                    if not part.has_settled(fact):
                        raise Violation(f"the checkpoint passed {fact.text}, which {part.name} has not settled")

    def check_that_all_arrived(self) -> None:
        for fact in self.facts.values():
            if fact.position > int(self.mapping.checkpoints[self.mapping.shard_ids[fact.shard]]):
                raise Violation(f"the checkpoint has stopped before {fact.text}")
            for part in self.parts:
                letters = set() if part.dead_letters is None else part.dead_letters.letters[part.name]
                is_written = fact.text in part.sink.texts
                if part.name in fact.bad_for and (is_written or fact.text not in letters):
                    raise Violation(f"{fact.text} is not in the dead letters of {part.name}, and nowhere else")
                if not is_written and fact.text not in letters:
                    raise Violation(f"{fact.text} is lost for {part.name}")
        for part in self.parts:
            part.sink.check_the_last()
        left = [queue.name for queue in self.queues if len(queue) and not queue.name.startswith("dead")]
        if left:
            raise Violation(f"records are left in {left}")
        if self.mapping.discarded:
            raise Violation("the engine discarded records, though all ended in time")


class Simulated(RecordProcessor):
    """A branch: writes each text once, after it has spoilt its own view of the record."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.name = part.name
        self.on_failure = part.policy()
        self.ordering = part.ordering
        self.deadline_margin = part.margin
        # Where all have it, it is the fan-out that gives it to them.
        if part.has_progress and not part.fan.all_have_progress:
            self.progress = part.fan.progress

    def process(self, record: Record) -> Iterator[Write]:
        part, fan = self.part, self.part.fan
        value = record.json()
        if value["seen"]:
            raise Violation(f"{part.name} sees what {value['seen']} did to its own value")
        value["seen"].append(part.name)
        fact = fan.facts[value["text"]]
        self.check_start(record, fact)
        fan.step("before process", part.name)
        if record.source == "kinesis" and fan.happens("slow record"):
            fan.was_slow = True
            fan.mapping.sleep(fan.random.choice([1.0, 10.0, 40.0]))
        if part.name in fact.bad_for:
            part.processed.add(fact.text)
            if part.dead_letters is None:
                part.fail("rejected", fact.text)
            raise Reject("bad for this branch")
        if fan.happens("process finds nothing"):
            part.fail("unavailable")
            raise Unavailable("a service")
        if fan.happens("process fails"):
            if part.is_divert or part.is_park:
                # Settled by its queue: no trouble, unless that refuses. Under Park it holds its key.
                part.failed += [fact] if part.is_park else []
            else:
                part.fail("process", fact.text)
            raise ValueError("bad")
        yield part.sink.text(fact.text)
        part.processed.add(fact.text)
        fan.step("after process", part.name)

    def check_start(self, record: Record, fact: Fact) -> None:
        part, fan = self.part, self.part.fan
        if isinstance(record, QueuedRecord):
            if record.envelope is None or record.envelope.processor != part.name:
                raise Violation(f"{part.name} runs {fact.text}, which came back for another branch")
            if part.is_park:
                self.check_order(fact)
            return
        if int(record.sequence_number or 0) <= fan.passed.get(record.shard_id or "", -1):
            raise Violation(f"{fact.text} started again in {part.name} though an answer had passed it")
        if part.known_failure and not part.is_divert:
            raise Violation(f"{fact.text} started in {part.name} though a failure was known: {part.known_failure}")
        if part.ordering != "none" and any(part.group(failed) == part.group(fact) for failed in part.failed):
            raise Violation(f"{fact.text} started in {part.name} though a record of its key had failed")
        if fact.text in part.kept and part.has_progress and part.name not in fan.progress.has_failed:
            raise Violation(f"{fact.text} started again in {part.name}, which had settled it")
        if part.started and fact.order < part.started[-1].order:
            raise Violation(f"{fact.text} started in {part.name} after {part.started[-1].text}")
        part.started.append(fact)
        part.confirmed.discard(fact.text)
        if not part.is_divert and (part.is_park or not part.has_progress or part.ordering != "none"):
            self.check_order(fact)

    def check_order(self, fact: Fact) -> None:
        part, fan = self.part, self.part.fan
        given_up = set() if part.dead_letters is None else part.dead_letters.letters[part.name]
        for earlier in fan.facts.values():
            is_before = earlier.order < fact.order and earlier.shard == fact.shard
            if is_before and part.ordering != "shard":
                is_before = earlier.key == fact.key
            if is_before and earlier.text not in part.processed | given_up:
                raise Violation(f"{fact.text} started in {part.name} before {earlier.text}, an earlier one of its key")


class FanSink(Sink):
    # The schedules of a function and its mapping have circuits (``World``).
    has_breaker = False

    def __init__(self, part: Part, request_writes: int) -> None:
        self.part = part
        self.request_writes = request_writes  # type: ignore[misc]  # A class variable, which each schedule chooses.
        self.texts: dict[str, str] = {}
        #: The text of each shard and key that came last.
        self.last: dict[tuple[int, str], str] = {}

    def text(self, text: str) -> Write:
        return Write(self, text)

    def write(self, writes: Sequence[Write], *, deadline: float) -> Iterator[Refusal]:
        part, fan = self.part, self.part.fan
        fan.note(f"    {part.name} writes {[write.payload for write in writes]}")
        fan.step("before its sink writes", part.name)
        if fan.happens("sink is down"):
            part.fail("sink is down")
            raise ConnectionError("down")
        refused: list[tuple[Write, str]] = []
        for write in writes:
            if fan.happens("sink refuses"):
                refused.append((write, fan.random.choice(["failed", "failed", "unavailable"])))
            else:
                self._take(write)
        fan.step("after its sink wrote", part.name)
        if fan.happens("sink answer is lost"):
            part.fail("sink answer is lost")
            raise ConnectionError("no answer")
        for write, kind in refused:
            part.fail("sink refused", write.payload if kind == "failed" else "")
            yield Refusal(write, SinkError("refused"), kind)  # type: ignore[arg-type]  # mypy sees a str
        part.confirmed |= {write.payload for write in writes} - {write.payload for write, _ in refused}

    def _take(self, write: Write) -> None:
        text, fact = write.payload, self.part.fan.facts[write.payload]
        if self.texts.setdefault(text, write.write_id) != write.write_id:
            raise Violation(f"{text} came to {self.part.name} under another write id than before")
        self.last[fact.shard, fact.key] = text

    def check_the_last(self) -> None:
        part = self.part
        if part.is_divert or part.ordering == "none" or part.name in part.fan.progress.was_blind:
            return
        facts = [fact for fact in part.fan.facts.values() if part.name not in fact.bad_for]
        given_up = set() if part.dead_letters is None else part.dead_letters.letters[part.name]
        if any(fact.text in given_up for fact in facts):
            # After its tries; perhaps one of them had written it, and nobody knew.
            return
        for place, text in {(fact.shard, fact.key): fact.text for fact in facts}.items():
            if self.last[place] != text:
                raise Violation(f"{part.name} wrote {self.last[place]} after {text}, the last record of its key")


class FanQueue(MemoryQueue):
    def __init__(self, fan: Fan, name: str, *, fifo: bool = False) -> None:
        super().__init__(fifo=fifo, clock=lambda: fan.mapping.now)
        self.fan = fan
        self.name = name
        #: By branch: the texts that this queue has ever taken.
        self.letters: dict[str, set[str]] = defaultdict(set)

    def send(self, messages: Sequence[Message], *, deadline: float) -> list[MessageRefusal]:
        fan = self.fan
        envelopes = [envelope for message in messages if (envelope := open_envelope(message.body)) is not None]
        name = envelopes[0].processor
        part = next(part for part in fan.parts if part.name == name)
        fan.note(f"    {self.name} gets {[self._text(envelope) for envelope in envelopes]} of {name}")
        for envelope in envelopes:
            if envelope.processor != name:
                raise Violation(f"one request of {name} has a record of {envelope.processor}")
            # Under Park what is held has not failed.
            if envelope.failures and envelope.failures[-1].type in NO_FAULT_OF_THE_RECORD:
                raise Violation(f"{self._text(envelope)} of {name} goes to {self.name} for something unavailable")
        fan.step(f"before {self.name} takes them", name)
        refused = {envelope.event_id for envelope in envelopes if fan.happens("queue refuses")}
        self.refuse(lambda envelope: envelope.event_id in refused)
        refusals = super().send(messages, deadline=deadline)
        for envelope in envelopes:
            if envelope.event_id not in refused:
                self.letters[name].add(self._text(envelope))
                part.aside.add(self._text(envelope))
        fan.step(f"after {self.name} took them", name)
        if fan.happens("queue answer is lost"):
            part.fail("queue answer is lost")
            raise QueueError("no answer")
        fan.sent_in_invocation[name] |= {
            self._text(envelope) for envelope in envelopes if envelope.event_id not in refused
        }
        if refusals:
            part.fail(f"{self.name} refused")
        return refusals

    def _text(self, envelope: Envelope) -> str:
        text: str = json.loads(envelope.data or b"")["text"]
        return text


class FanProgress(MemoryProgress):
    """Fails on look-ups and saves, and loses answers. By branch: whether it ever failed, or was blind in an invocation."""

    def __init__(self, fan: Fan) -> None:
        super().__init__()
        self.fan = fan
        self.has_failed: set[str] = set()
        self.was_blind: set[str] = set()
        self.is_blind: set[str] = set()

    def entries(self, processor: str, shard: str, up_to: int, *, deadline: float) -> list[bytes]:
        self.fan.step("before the look-up", processor)
        if self.fan.happens("look-up fails"):
            self.has_failed.add(processor)
            self.is_blind.add(processor)
            raise ConnectionError("progress is down")
        return super().entries(processor, shard, up_to, deadline=deadline)

    def save(self, processor: str, shard: str, number: int, entry: bytes, *, deadline: float) -> None:
        self.fan.note(f"    saves {processor} under {number % 10_000}")
        self.fan.step("before the save", processor)
        if self.fan.happens("save fails"):
            self.has_failed.add(processor)
            self.was_blind |= self.is_blind & {processor}
            raise ConnectionError("progress is down")
        super().save(processor, shard, number, entry, deadline=deadline)
        self.is_blind.discard(processor)
        self.fan.step("after the save", processor)
        if self.fan.happens("save's answer is lost"):
            self.has_failed.add(processor)
            raise ConnectionError("progress did not answer")
