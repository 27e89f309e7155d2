"""One seeded schedule of ``Park``: the shipped handler, policy and ``SqsQueue``, its ledger in memory, on a clock of its own.

Simulated are the clock, Lambda and the edges of I/O: the ledger's far side, sinks, dead letters, and SQS behind boto3's client
(groups that wait while a message of them is in flight, a deduplication window of five minutes, a visibility time-out, redrive).
Invocations of the stream and of the queue run at once, interleaved at every step of theirs: each is a greenlet.
They are killed between any two steps, or given up at their time-out and go on as zombies; every call fails, or takes effect and
loses its answer. While it runs and at its end:

  - a record starts only after ``process`` has come through with every earlier one of its key, or it is given up: in the dead
    letters, or moved there by the queue's own redrive policy;
  - no answer of the stream passes a record that is not written, in the queue or in the dead letters;
  - nobody gives a record up before it has had its tries, nor for something that was unavailable;
  - when the faults are over, nothing is lost; no key is parked, or at the latest after its next record or a sweep;
  - the last write of a key that a sink gets is that of the key's last record: without zombies, what the queue's redrive policy
    moved, and a progress store that could not be asked (docs/semantics.md says what that costs).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import tenacity.nap
from greenlet import getcurrent, greenlet

import streamkit.deadline
import streamkit.envelope
import streamkit.failure
import streamkit.parking
import streamkit.queues.aws
from streamkit import Park, Record, RecordProcessor, Refusal, Reject, Retry, Sink, Unavailable, Write, lambda_handler
from streamkit.envelope import Envelope, open_envelope
from streamkit.errors import QueueError, SinkError
from streamkit.kpl import UserRecord, aggregate
from streamkit.ledgers.base import ParkedKey
from streamkit.ledgers.memory import MemoryLedger
from streamkit.local.documents import kinesis_record
from streamkit.metrics import current
from streamkit.progress.memory import MemoryProgress
from streamkit.queues.base import Message, MessageRefusal
from streamkit.queues.sqs import SqsQueue
from streamkit.testing import Crash, MemoryQueue

from .world import Violation

_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/lot"
_SHARD = "shardId-000000000000"
_DEDUPE_SECONDS = 300.0
_FUNCTION_SECONDS = 60.0
_MOST_REDRIVES = 2
#: The modules that look at a clock.
_CLOCKED = (streamkit.deadline, streamkit.envelope, streamkit.parking, streamkit.queues.aws, tenacity.nap)


class _Abandoned(BaseException):
    """The schedule is over."""


class Fact:
    """What the schedule knows of one record. ``before`` are the earlier ones of its key."""

    def __init__(self, text: str, key: str, number: int, *, is_poison: bool, before: list[Fact]) -> None:
        self.text = text
        self.key = key
        self.number = number
        self.is_poison = is_poison
        self.before = before


class Invocation:
    """One call of the function, in a greenlet: it runs while ``resume`` waits for it, and costs less than a thread."""

    def __init__(self, lot: Lot, name: str, event: dict[str, Any]) -> None:
        self.lot = lot
        self.name = name
        self.event = event
        self.ends_at = lot.now + _FUNCTION_SECONDS
        self.is_over = False
        self.is_zombie = False
        #: None: killed, or raised.
        self.answer: Any = None
        self.error: BaseException | None = None
        self._caller, self._greenlet = getcurrent(), greenlet(self._run)

    def get_remaining_time_in_millis(self) -> float:
        return (self.ends_at - self.lot.now) * 1000

    def resume(self) -> None:
        """Let it go on to its next pause, or its end."""
        self.lot.running = self
        self._greenlet.switch()
        if isinstance(self.error, Violation):
            raise self.error

    def pause(self) -> None:
        """Called in it: wait for the next ``resume``."""
        # What streamkit keeps for each thread is each invocation's own. Of context variables a greenlet has its own.
        mine = current.set(None)
        self._caller.switch()
        current.set(mine)
        if self.lot.is_over:
            raise _Abandoned

    def abandon(self) -> None:
        self._greenlet.switch()

    def _run(self) -> None:
        try:
            if not self.lot.is_over:
                self.lot.step(f"{self.name} begins")
                self.answer = self.lot.new_handler()(self.event, self)
                self.lot.step(f"{self.name} answers")
        except Crash:
            self.answer = None
        except BaseException as error:
            self.error, self.answer = error, None
        self.is_over = True


class Lot:
    """Everything of one schedule. ``trace`` says what happened, a line each."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        choice = self.random.choice
        self.trace: list[str] = []
        self.now = 1_767_225_600.0
        self.faults = {
            "crash": choice([0.0, 0.003, 0.02]),
            "process fails": choice([0.05, 0.2, 0.5]),
            "process finds nothing": choice([0.0, 0.0, 0.05]),
            "slow record": choice([0.0, 0.05, 0.3]),
            "slow step": choice([0.0, 0.01, 0.05]),
            "sink refuses": choice([0.0, 0.1]),
            "sink is down": choice([0.0, 0.05]),
            "sink answer is lost": choice([0.0, 0.05]),
            "queue refuses": choice([0.0, 0.1, 0.4]),
            "queue is down": choice([0.0, 0.1]),
            "queue answer is lost": choice([0.0, 0.1]),
            "dead letters are down": choice([0.0, 0.2]),
            "dead letters' answer is lost": choice([0.0, 0.1]),
            "ledger is down": choice([0.0, 0.05]),
            "ledger answer is lost": choice([0.0, 0.05]),
            "progress is down": choice([0.0, 0.1]),
            "answer is lost": choice([0.0, 0.1, 0.3]),
            "deletion fails": choice([0.0, 0.1]),
            "others go on meanwhile": choice([0.0, 0.1, 0.5]),
        }
        self.gives_up_some = choice([0.0, 0.0, 0.02, 0.1])
        self.ledger = SimulatedLedger(self, most_pending=choice([200, 200, 4]))
        self.dead_letters = SimulatedDeadLetters(self) if choice([True, True, False]) else None
        self.attempts = choice([1, 3])
        self.progress = SimulatedProgress(self) if choice([True, False]) else None
        self.batch_size = choice([1, 3, 10])
        self.deadline_margin = choice([0.0, 1.0, 5.0])
        self.backstop = MemoryQueue(fifo=True, clock=self.clock)
        self.service = MemoryQueue(
            fifo=True,
            clock=self.clock,
            visibility_timeout=choice([30.0, 360.0]),
            most_receives=choice([None, None, 4]),
            redrive_to=self.backstop,
        )
        self.dedupe_ids: dict[str, float] = {}
        self.queue = SqsQueue("https://sqs.simulated/lot.fifo", client=SimpleNamespace(send_message_batch=self.send))
        self.sinks = [SimulatedSink(self, "left", choice([1, 3])), SimulatedSink(self, "right", choice([2, 500]))]
        self.facts: dict[str, Fact] = {}
        #: What was put into the stream, in order: its number, data, key.
        self.stream: list[tuple[int, bytes, str]] = []
        self.checkpoint = 0
        self.reading: Invocation | None = None
        self.live: list[Invocation] = []
        self.received: dict[Invocation, list[dict[str, Any]]] = {}
        self.running: Invocation | None = None
        self.processed: set[str] = set()
        #: What SQS has taken, answered or not; and what its redrive policy has moved.
        self.taken: set[str] = set()
        self.moved: set[str] = set()
        self.tries: Counter[str] = Counter()
        self.had_zombies = False
        self.is_over = False
        self.started = 0

    def clock(self) -> float:
        return self.now

    # The schedule.

    def run(self) -> None:
        """Play it, end the faults, and see that everything has arrived and no key is parked."""
        with self.clocks(), ExitStack() as ends:
            ends.callback(self.end)
            for _ in range(self.random.randint(20, 120)):
                self.play()
            for _ in range(self.random.choice([0, 0, 30])):
                self.read()
                self.receive()
                self.go_on(2)
            self.note("the faults are over")
            self.faults = dict.fromkeys(self.faults, 0.0)
            self.gives_up_some = 0.0
            self.run_until_idle()
            self.check_that_no_key_is_parked_for_nothing()
            for _ in range(20):
                if not self.ledger.parked("lot", deadline=0.0) and not len(self.backstop):
                    break
                self.look_after_parked_keys()
                self.run_until_idle()
            self.check_that_all_arrived()

    @contextmanager
    def clocks(self) -> Iterator[None]:
        """The shipped code's clocks are this schedule's."""
        stand_in = SimpleNamespace(time=self.clock, monotonic=self.clock, sleep=self.sleep)
        originals = [vars(module)["time"] for module in _CLOCKED]
        state = random.getstate()
        random.seed(self.seed)  # Retries wait for random times.
        for module in _CLOCKED:
            module.time = stand_in  # type: ignore[attr-defined]
        try:
            yield
        finally:
            for module, original in zip(_CLOCKED, originals, strict=True):
                module.time = original  # type: ignore[attr-defined]
            random.setstate(state)

    def end(self) -> None:
        self.is_over = True
        for invocation in self.live:
            invocation.abandon()

    def play(self) -> None:
        choice = self.random.random()
        if choice < 0.15:
            for _ in range(self.random.randint(1, 4)):
                self.put()
        elif choice < 0.25:
            self.now += self.random.choice([0.5, 5.0, 40.0, 70.0, 130.0, 400.0])
        elif choice < 0.25 + self.gives_up_some:
            self.give_up()
        elif choice < 0.5:
            self.read()
        elif choice < 0.7:
            self.receive()
        elif choice < 0.72:
            self.sweep()
        elif choice < 0.75:
            self.redrive()
        self.go_on(self.random.randint(0, 3))

    def run_until_idle(self) -> None:
        checkpoint = -1
        for _ in range(5000):
            if self.live:
                self.go_on(1)
                continue
            is_stuck, checkpoint = self.checkpoint == checkpoint, self.checkpoint
            is_reading, is_receiving = self.read(), self.receive()
            if not is_reading and not len(self.service):
                return
            if is_stuck:
                # Lambda waits longer with each delivery that gets nowhere.
                self.now += 1.0 if is_receiving else 40.0
        raise Violation("it does not come to an end")

    def go_on(self, times: int) -> None:
        for _ in range(times):
            if self.live:
                invocation = self.random.choice(self.live)
                invocation.resume()
                if invocation.is_over:
                    self.live.remove(invocation)
                    self.ended(invocation)

    def put(self, key: str = "") -> None:
        count = self.random.choice([1, 1, 1, 1, 3]) if not key else 1
        number = len(self.stream)
        users = []
        for _ in range(count):
            fact = self.new_fact(key or self.random.choice("aab"), number)
            users.append(UserRecord(fact.text.encode(), fact.key))
        if count > 1:
            self.stream.append((number, aggregate(users), "aggregate"))
        else:
            self.stream.append((number, users[0].data, users[0].partition_key or ""))
        self.note(f"put {number}: {[user.data.decode() for user in users]}")

    def new_fact(self, key: str, number: int) -> Fact:
        is_poison = self.dead_letters is not None and self.faults["process fails"] > 0 and self.random.random() < 0.1
        text = f"{key}{len(self.facts)}{'-poison' if is_poison else ''}"
        before = [fact for fact in self.facts.values() if fact.key == key]
        self.facts[text] = fact = Fact(text, key, number, is_poison=is_poison, before=before)
        return fact

    # Lambda.

    def read(self) -> bool:
        """Invoke the function with the stream's next batch. Whether there is one."""
        batch = self.stream[self.checkpoint : self.checkpoint + self.batch_size]
        if self.reading is not None or not batch:
            return False
        event = {
            "Records": [
                kinesis_record(
                    stream_arn=_ARN,
                    shard_id=_SHARD,
                    sequence_number=str(number + 1),
                    data=data,
                    partition_key=key,
                    arrived_at=self.now,
                )
                for number, data, key in batch
            ]
        }
        self.reading = self.invoke(event, f"stream {[number for number, _, _ in batch]}")
        return True

    def receive(self) -> bool:
        """Invoke the function with what the queue has. Whether it has anything."""
        before = {message.body for message in self.backstop.messages}
        records = self.service.receive(self.random.choice([1, 10]))
        for message in self.backstop.messages:
            if message.body not in before:
                self.note(f"the redrive policy moves {text_of(message.body)}")
                self.moved.add(text_of(message.body))
        if not records:
            return False
        held = {record["messageId"] for invocation in self.live for record in self.received.get(invocation, ())}
        if held & {record["messageId"] for record in records}:
            self.note("  a message is visible again while it is run")
            self.had_zombies = True
        texts = [text_of(record["body"]) for record in records]
        invocation = self.invoke({"Records": records}, f"queue {texts}")
        self.received[invocation] = records
        return True

    def invoke(self, event: dict[str, Any], name: str) -> Invocation:
        self.started += 1
        invocation = Invocation(self, f"{self.started}: {name}", event)
        self.live.append(invocation)
        return invocation

    def give_up(self) -> None:
        """The stream's invocation has had its time, and goes on."""
        if self.reading is not None:
            self.note(f"{self.reading.name} is given up, and goes on")
            self.reading.is_zombie = True
            self.reading = None
            self.had_zombies = True

    def ended(self, invocation: Invocation) -> None:
        records = self.received.pop(invocation, None)
        if invocation.error is not None:
            raise Violation(f"{invocation.name} raised {invocation.error!r}") from invocation.error
        failed = None
        if invocation.answer is not None:
            failed = [failure["itemIdentifier"] for failure in invocation.answer["batchItemFailures"]]
        self.note(f"{invocation.name} has answered {failed}")
        if records is not None:
            if failed is not None and not self.happens("deletion fails"):
                handles = [record["receiptHandle"] for record in records if record["messageId"] not in failed]
                self.service.delete(handles)
        elif not invocation.is_zombie:
            self.reading = None
            if failed is not None and not self.happens("answer is lost"):
                self.advance(invocation, failed)

    def advance(self, invocation: Invocation, failed: list[str]) -> None:
        if len(failed) > 1:
            raise Violation("the answer names more than one record of a stream")
        last = int(invocation.event["Records"][-1]["kinesis"]["sequenceNumber"])
        checkpoint = int(failed[0]) - 1 if failed else last
        for fact in self.facts.values():
            if fact.number < checkpoint and not self.is_settled(fact):
                raise Violation(f"the answer passes {fact.text}, which nobody has settled")
        self.checkpoint = checkpoint

    def new_handler(self) -> Any:
        return lambda_handler(Simulated(self))

    # SQS, as boto3's client has it.

    def send(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803  # As boto3 has it.
        texts = [text_of(entry["MessageBody"]) for entry in Entries]
        self.note(f"    SQS gets {texts}")
        self.step("before SQS takes them")
        if len({entry["MessageGroupId"] for entry in Entries}) < len(Entries):
            raise Violation("two messages of one group are in one request")
        if self.happens("queue is down"):
            raise ConnectionError("down")
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        for entry, text in zip(Entries, texts, strict=True):
            if self.happens("queue refuses"):
                fault = self.random.choice([True, False])
                answer["Failed"].append({"Id": entry["Id"], "Code": "Refused", "SenderFault": fault})
                continue
            answer["Successful"].append({"Id": entry["Id"]})
            envelope = open_envelope(entry["MessageBody"])
            if envelope is not None and streamkit.parking.is_stale(envelope.parked_at or 0.0, self.now):
                self.note("  a message that hung is taken late")
                self.had_zombies = True
            seen = self.dedupe_ids.get(entry["MessageDeduplicationId"])
            if seen is None or self.now - seen >= _DEDUPE_SECONDS:
                self.dedupe_ids[entry["MessageDeduplicationId"]] = self.now
                self.service.send([Message(entry["MessageBody"], text, entry["MessageGroupId"])], deadline=0.0)
            self.taken.add(text)
        self.step("after SQS took them")
        if self.happens("queue answer is lost"):
            raise ConnectionError("no answer")
        return answer

    def look_after_parked_keys(self) -> None:
        """What goes on in time: the key's next record, or an operator's sweep; and what was moved is put back."""
        self.now += 130.0
        self.note("look after what is parked still, and what was moved")
        if self.random.choice([True, False]):
            for key in sorted({fact.key for fact in self.facts.values()}):
                self.put(key)
        else:
            self.sweep()
        for message in self.backstop.messages:
            self.service.send([message], deadline=0.0)
        self.backstop.clear()

    def redrive(self) -> None:
        """An operator puts letters back, while nothing runs that could still send the one or the other."""
        if self.dead_letters is None or self.live:
            return
        letters = list(self.dead_letters)
        self.dead_letters.clear()
        for letter in letters:
            text = (letter.data or b"").decode()
            if letter.redrives == _MOST_REDRIVES:
                self.dead_letters.hold(letter)
                continue
            self.note(f"{text} is put back")
            back = letter.put_back()
            group = streamkit.failure.group_of(back.processor, back.partition_key, back.event_id)
            self.service.send([Message(back.encode(), text, group)], deadline=0.0)

    def sweep(self) -> None:
        for group in self.ledger._keys:
            self.service.send([streamkit.parking.sweep(*group)], deadline=0.0)

    # Faults.

    def note(self, line: str) -> None:
        self.trace.append(f"{self.now % 100_000:9.1f} {line}")

    def happens(self, fault: str) -> bool:
        likely = self.faults[fault]
        happens = likely > 0 and self.random.random() < likely
        if happens:
            self.note(f"    {fault}")
        return happens

    def step(self, where: str) -> None:
        """A place between two steps of an invocation: it can be killed there, or stand still while others go on."""
        self.now += 0.001
        if self.happens("crash"):
            self.note(f"    … {where}")
            raise Crash(where)
        if self.happens("slow step"):
            self.now += self.random.choice([5.0, 65.0, 130.0])
        if self.running is not None and self.happens("others go on meanwhile"):
            invocation = self.running
            invocation.pause()
            self.note(f"  {invocation.name} goes on: {where}")

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    # Checks.

    def is_given_up(self, fact: Fact) -> bool:
        return fact.text in self.moved or (self.dead_letters is not None and fact.text in self.dead_letters.taken)

    def is_written(self, fact: Fact) -> bool:
        return all(fact.text in sink.texts for sink in self.sinks)

    def is_settled(self, fact: Fact) -> bool:
        return self.is_written(fact) or fact.text in self.taken or self.is_given_up(fact)

    def check_start(self, fact: Fact) -> None:
        for earlier in fact.before:
            if earlier.text not in self.processed and not self.is_given_up(earlier):
                raise Violation(f"{fact.text} starts before {earlier.text}, an earlier record of its key, is settled")

    def check_letter(self, envelope: Envelope) -> None:
        fact = self.facts[(envelope.data or b"").decode()]
        last = envelope.failures[-1]
        if last.type in ("Unavailable", "ConnectionError"):
            raise Violation(f"{fact.text} goes to the dead letters because of {last.message}")
        if fact.is_poison:
            return
        if self.tries[fact.text] < self.attempts * (1 + envelope.redrives) or envelope.attempts != self.attempts:
            raise Violation(
                f"{fact.text} is given up after {self.tries[fact.text]} tries, {envelope.attempts} in its letter"
            )

    def check_that_no_key_is_parked_for_nothing(self) -> None:
        """Zombies and the queue's redrive policy leave ids behind that no message takes away. So does a crash after an add,
        of what the progress store knows to be sent already: it is not sent again.
        """
        parked = self.ledger.parked("lot", deadline=0.0)
        if parked and not self.had_zombies and not self.moved and self.progress is None:
            raise Violation(f"keys stay parked though nothing of them is in the queue: {parked}")

    def check_that_all_arrived(self) -> None:
        if self.checkpoint < len(self.stream):
            raise Violation(f"the checkpoint has stopped at {self.checkpoint} of {len(self.stream)}")
        if parked := self.ledger.parked("lot", deadline=0.0):
            raise Violation(f"keys stay parked for ever: {parked}")
        if len(self.service) or len(self.backstop):
            raise Violation("the queue is not empty")
        given_up = set() if self.dead_letters is None else {(one.data or b"").decode() for one in self.dead_letters}
        for fact in self.facts.values():
            if fact.is_poison and (fact.text not in given_up or any(fact.text in sink.texts for sink in self.sinks)):
                raise Violation(f"{fact.text} is not in the dead letters, and nowhere else")
            if not fact.is_poison and not self.is_written(fact) and fact.text not in given_up:
                raise Violation(f"{fact.text} is lost")
        if self.had_zombies or self.moved or (self.progress is not None and self.progress.has_failed):
            return
        given_up = set() if self.dead_letters is None else self.dead_letters.taken
        last = {fact.key: fact.text for fact in self.facts.values() if not fact.is_poison and fact.text not in given_up}
        for sink in self.sinks:
            for key, text in last.items():
                if sink.last[key] not in (text, *given_up):
                    raise Violation(f"{sink.name} got {sink.last[key]} after {text}, the last record of its key")


def text_of(body: str) -> str:
    envelope = open_envelope(body)
    return "sweep" if envelope is None else (envelope.data or b"").decode()


class Simulated(RecordProcessor):
    """Writes each text to both sinks."""

    name = "lot"

    def __init__(self, lot: Lot) -> None:
        self.lot = lot
        self.on_failure = Park(lot.queue, lot.ledger, lot.dead_letters, lot.attempts)
        self.progress = lot.progress
        self.deadline_margin = lot.deadline_margin

    def process(self, record: Record) -> Iterator[Write]:
        lot = self.lot
        fact = lot.facts[record.data.decode()]
        lot.note(f"  {fact.text} starts, {record.source} {record.attempt}")
        lot.check_start(fact)
        lot.step("before process")
        yield lot.sinks[0].text(fact.text)
        if lot.happens("slow record"):
            lot.now += lot.random.choice([1.0, 20.0, 50.0])
        if fact.is_poison:
            lot.processed.add(fact.text)
            raise Reject("poison")
        if lot.happens("process finds nothing"):
            raise Unavailable("a service")
        if lot.happens("process fails"):
            if record.source == "sqs":
                lot.tries[fact.text] += 1
            raise lot.random.choice([ValueError("bad"), KeyError("total"), Retry(0), Retry(40)])
        yield lot.sinks[1].text(fact.text)
        lot.processed.add(fact.text)
        lot.step("after process")


class SimulatedSink(Sink):
    # The schedules of a function and its mapping have circuits (``World``).
    has_breaker = False

    def __init__(self, lot: Lot, name: str, request_writes: int) -> None:
        self.lot = lot
        self.name = name
        self.request_writes = request_writes  # type: ignore[misc]  # A class variable, which each schedule chooses.
        self.texts: set[str] = set()
        #: The text of each key that came last.
        self.last: dict[str, str] = {}

    def text(self, text: str) -> Write:
        return Write(self, text)

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        lot = self.lot
        lot.note(f"    {self.name} gets {[write.payload for write in writes]}")
        lot.step(f"before {self.name} writes")
        if lot.happens("sink is down"):
            raise ConnectionError("down")
        refusals = []
        for write in writes:
            if lot.happens("sink refuses"):
                if write._record is not None and write._record.source == "sqs":
                    lot.tries[write.payload] += 1
                refusals.append(Refusal(write, SinkError("refused"), "failed"))
            else:
                self.texts.add(write.payload)
                self.last[lot.facts[write.payload].key] = write.payload
        lot.step(f"after {self.name} wrote")
        if lot.happens("sink answer is lost"):
            raise ConnectionError("no answer")
        return refusals


class SimulatedDeadLetters(MemoryQueue):
    def __init__(self, lot: Lot) -> None:
        super().__init__()
        self.lot = lot
        #: The texts that it has taken, answered or not.
        self.taken: set[str] = set()

    def hold(self, letter: Envelope) -> None:
        """Have it, though nobody sends it."""
        super().send([Message(letter.encode(), letter.event_id, "")], deadline=0.0)

    def send(self, messages: Sequence[Message], *, deadline: float) -> list[MessageRefusal]:
        lot = self.lot
        lot.note(f"    dead letters get {[text_of(message.body) for message in messages]}")
        for message in messages:
            envelope = open_envelope(message.body)
            assert envelope is not None
            lot.check_letter(envelope)
        lot.step("before the dead letters take them")
        if lot.happens("dead letters are down"):
            raise QueueError("down")
        refusals = super().send(messages, deadline=deadline)
        self.taken |= {text_of(message.body) for message in messages}
        lot.step("after the dead letters took them")
        if lot.happens("dead letters' answer is lost"):
            raise QueueError("no answer")
        return refusals


class SimulatedLedger(MemoryLedger):
    """Fails before or after each call takes effect."""

    def __init__(self, lot: Lot, *, most_pending: int) -> None:
        super().__init__(clock=lot.clock)
        self.lot = lot
        self.most_pending = most_pending  # type: ignore[misc]  # A class variable, which each schedule chooses.

    @contextmanager
    def call(self, what: str) -> Iterator[None]:
        if self.lot.running is None or self.lot.running.is_over:
            yield  # The schedule itself asks.
            return
        self.lot.step(f"before {what}")
        if self.lot.happens("ledger is down"):
            raise ConnectionError("the ledger is down")
        self.lot.note(f"    {what}")
        yield
        self.lot.step(f"after {what}")
        if self.lot.happens("ledger answer is lost"):
            raise ConnectionError("the ledger did not answer")

    def parked(self, processor: str, *, deadline: float) -> dict[str, ParkedKey]:
        with self.call("the look-up of parked keys"):
            return super().parked(processor, deadline=deadline)

    def key(self, processor: str, group: str, *, deadline: float) -> ParkedKey | None:
        with self.call("the look-up of a key"):
            return super().key(processor, group, deadline=deadline)

    def add(self, processor: str, group: str, ids: Collection[str], added: float, *, deadline: float) -> float:
        with self.call(f"{len(ids)} added in {group[:4]}"):
            return super().add(processor, group, ids, added, deadline=deadline)

    def count(
        self, processor: str, group: str, record_id: str, attempts: int, not_before: float | None, *, deadline: float
    ) -> None:
        with self.call(f"try {attempts} counted in {group[:4]}"):
            super().count(processor, group, record_id, attempts, not_before, deadline=deadline)

    def remove(self, processor: str, group: str, ids: Mapping[str, float], before: float, *, deadline: float) -> None:
        with self.call(f"{len(ids)} removed in {group[:4]}"):
            super().remove(processor, group, ids, before, deadline=deadline)


class SimulatedProgress(MemoryProgress):
    def __init__(self, lot: Lot) -> None:
        super().__init__()
        self.lot = lot
        #: What it knows was not known to an invocation, which may have run records again behind which others count as done.
        self.has_failed = False

    def entries(self, processor: str, shard: str, up_to: int, *, deadline: float) -> list[bytes]:
        self.lot.step("before the look-up of progress")
        if self.lot.happens("progress is down"):
            self.has_failed = True
            raise ConnectionError("progress is down")
        return super().entries(processor, shard, up_to, deadline=deadline)

    def save(self, processor: str, shard: str, number: int, entry: bytes, *, deadline: float) -> None:
        self.lot.step("before the save")
        if self.lot.happens("progress is down"):
            raise ConnectionError("progress is down")
        super().save(processor, shard, number, entry, deadline=deadline)
        self.lot.step("after the save")
