"""One seeded schedule of two runners on one stream: the shipped runner, leases, engine and handler, on a clock of its own.

Simulated are the clock and the edges of I/O: the stream, what is under the stores, the sink, the on-failure destination.
Runners are killed between any two steps, paused in the middle of an invocation, a read or a write until their leases are over,
stopped and started; the stream is split and merged under them; reads, stores, sinks and the destination fail, or do their work
and lose the answer; an invocation is delivered twice. While it runs and at its end:

  - no checkpoint in the store passes a record that is not settled; with windows, one whose window has not ended;
  - a checkpoint never moves back, no two runners hold one shard, and nobody writes by a lease that another has taken;
  - no invocation begins under a lease that is lost, or before the checkpoint of the one before it is in the store;
  - a reader ends when its invocations have, and no shard is read again by a process that still runs one of it;
  - a record starts only after ``process`` has come through with every earlier one of its key, in its shard and those that it
    came from, or the destination has taken it;
  - when the faults are over, every record that the filter wants is written, and each of them in one window, or taken by the
    destination; from LATEST, every one since the shard was first read or, after that, since the first start;
  - no filtered record was ever delivered.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import pybase64

from streamkit import Block, Record, RecordProcessor, Refusal, Sink, Write, lambda_handler
from streamkit.checkpoints.base import Lease
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.local.context import Clock
from streamkit.local.feed import Feed, Page, Position, Shard, Stream
from streamkit.local.runner import Runner
from streamkit.local.settings import Settings
from streamkit.local.shard_reader import ShardReader
from streamkit.progress.memory import MemoryProgress
from streamkit.testing import Crash
from streamkit.window import Window, WindowProcessor

from .world import Violation

_START = 1_767_225_600.0
_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/fleet"
_LEASE_SECONDS = 10.0


class Fact:
    """What the schedule knows of one record. ``before`` are the records of its key that have to be processed before it."""

    def __init__(self, text: str, number: int, shard: SimulatedShard, key: str, is_wanted: bool, now: float) -> None:
        self.text = text
        self.number = number
        self.shard = shard
        self.key = key
        self.is_wanted = is_wanted
        self.arrived_at = now
        #: It was there when its shard was first read, from LATEST.
        self.is_skipped = False
        self.before = shard.last_of(key)


class SimulatedShard:
    """A shard, its records and where it came from."""

    def __init__(self, index: int, parents: tuple[SimulatedShard, ...] = ()) -> None:
        self.id = f"shardId-{index:012}"
        self.parents = parents
        self.is_closed = False
        self.facts: list[Fact] = []
        self.is_begun = False

    def last_of(self, key: str) -> list[Fact]:
        """The last wanted record of a key here, or else those in its parents."""
        for fact in reversed(self.facts):
            if fact.key == key and fact.is_wanted:
                return [fact]
        return [fact for parent in self.parents for fact in parent.last_of(key)]


class Member:
    """One process of the fleet: a runner, the invocations that its lanes have in hand, and its readers' waits."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.runner = SimulatedRunner(self)
        self.invocations: list[Callable[[], None]] = []
        self.due: dict[str, float] = {}
        self.launched: dict[str, ShardReader] = {}
        self.coordinate_at = 0.0
        self.paused_until = 0.0
        self.has_begun = False
        self.is_stopping = False

    def readers(self) -> list[ShardReader]:
        return list(self.runner.readers.values())


class SimulatedRunner(Runner):
    """The runner, its readers stepped by the schedule and not by threads."""

    def __init__(self, member: Member) -> None:
        fleet = member.fleet
        self.member = member
        super().__init__(
            lambda: fleet.function(member),
            stream=fleet.stream,
            name="reader",
            checkpoints=fleet.store,
            settings=fleet.settings,
            on_failure=fleet.destination if fleet.settings.maximum_retry_attempts >= 0 else None,
            lease_seconds=_LEASE_SECONDS,
            clock=Clock(lambda: fleet.now, lambda: fleet.now),
        )

    @property
    def readers(self) -> dict[str, ShardReader]:
        return self._readers

    def holds(self, shard_id: str) -> bool:
        return self._leases is not None and self._leases.holds(shard_id)

    def _launch(self, reader: ShardReader, functions: Any, pool: Any) -> None:
        if pool is not None:
            pool.shutdown()
        before = self.member.launched.get(reader.shard_id)
        if before is not None and before._in_hand:
            raise Violation(f"{self.member.name} reads {reader.shard_id} again while it runs an invocation of it")
        self.member.launched[reader.shard_id] = reader

        # Lanes or not, an invocation begins now and ends when the schedule says.
        def run(invocation: Callable[[], None]) -> None:
            if not self.holds(reader.shard_id):
                raise Violation(f"{self.member.name} invokes for {reader.shard_id}, which it does not hold")
            self.member.fleet.check_holders(reader.shard_id)
            self.member.invocations.append(invocation)

        reader._run = run

    def ended(self, reader: ShardReader) -> None:
        if reader._in_hand:
            raise Violation(f"{self.member.name} is done with {reader.shard_id} while an invocation is under way")
        reader.close()
        self._over.put(reader.shard_id)


class Fleet:
    """Everything of one schedule. ``trace`` says what happened, a line each."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        choice = self.random.choice
        self.trace: list[str] = []
        self.now = _START
        self.faults = {
            "crash": choice([0.0, 0.002, 0.01]),
            "process fails": choice([0.0, 0.05, 0.3]),
            "sink refuses": choice([0.0, 0.05]),
            "sink is down": choice([0.0, 0.05]),
            "sink answer is lost": choice([0.0, 0.05]),
            "read fails": choice([0.0, 0.1]),
            "listing fails": choice([0.0, 0.1]),
            "store is down": choice([0.0, 0.05]),
            "store answer is lost": choice([0.0, 0.05]),
            "progress is down": choice([0.0, 0.1]),
            "destination is down": choice([0.0, 0.2]),
            "destination answer is lost": choice([0.0, 0.1]),
            "progress answer is lost": choice([0.0, 0.1]),
            "answer is lost": choice([0.0, 0.1]),
            "delivered twice": choice([0.0, 0.05]),
            "others go on meanwhile": choice([0.0, 0.05, 0.2]),
        }
        self.is_windowed = choice([False, False, True])
        self.is_filtered = choice([False, False, True])
        orderings: list[Literal["key", "shard", "none"]] = ["key", "key", "shard", "none"]
        self.ordering = choice(orderings)
        self.progress = SimulatedProgress(self) if not self.is_windowed and choice([True, False]) else None
        self.settings = Settings(
            batch_size=choice([1, 3, 10]),
            maximum_batching_window_in_seconds=choice([0, 0, 2]),
            parallelization_factor=choice([1, 1, 2, 3]),
            bisect_batch_on_function_error=choice([True, False, False]),
            # Where a window is made anew, what was discarded of it the first time can come through.
            maximum_retry_attempts=-1 if self.is_windowed else choice([-1, -1, 0, 2]),
            starting_position="TRIM_HORIZON"
            if self.is_windowed
            else choice(["TRIM_HORIZON", "TRIM_HORIZON", "LATEST"]),
            tumbling_window_in_seconds=20 if self.is_windowed else 0,
            maximum_state_in_bytes=choice([1_000_000, 250]),
            function_response_types=["ReportBatchItemFailures"],
            filter_criteria={"Filters": [{"Pattern": '{"data": {"wanted": [true]}}'}]} if self.is_filtered else None,
        )
        self.shards = [SimulatedShard(n) for n in range(choice([1, 1, 2]))]
        self.facts: dict[str, Fact] = {}
        self.stream = SimulatedStream(self)
        self.store = SimulatedCheckpoints(self)
        self.sink = SimulatedSink(self)
        self.processed: set[str] = set()
        self.discarded: set[str] = set()
        self.busy: list[Member | ShardReader] = []
        self.crashed = False
        self.depth = 0
        self.started = 0
        self.acting: Member | None = None
        self.members = [self.new_member() for _ in range(choice([1, 2, 2]))]

    # The schedule.

    def run(self) -> None:
        """Play it, end the faults, and see that everything has arrived."""
        for _ in range(self.random.randint(10, 60)):
            self.play()
        self.note("the faults are over")
        self.faults = dict.fromkeys(self.faults, 0.0)
        for member in self.members:
            member.paused_until = 0.0
        for _ in range(2000):
            if self.is_all_settled():
                break
            self.go_on()
        self.check_that_all_arrived()

    def play(self) -> None:
        choice = self.random.random()
        if choice < 0.2:
            for _ in range(self.random.randint(1, 5)):
                self.put()
        elif choice < 0.25:
            self.reshard()
        elif choice < 0.35:
            self.now += self.random.choice([0.2, 1.0, 1.0, 3.0, 12.0])
        elif choice < 0.37:
            self.kill(self.random.choice(self.members), "killed")
        elif choice < 0.40:
            member = self.random.choice(self.members)
            member.paused_until = self.now + self.random.choice([2.0, 8.0, 15.0])
            self.note(f"{member.name} is paused")
        elif choice < 0.42:
            self.stop(self.random.choice(self.members))
        else:
            for _ in range(self.random.randint(1, 20)):
                self.act(self.random.choice(self.members))
                self.now += 0.05

    def go_on(self) -> None:
        """Without faults: let everybody do what is due, then let time pass."""
        for member in list(self.members):
            if not member.has_begun or self.now >= member.coordinate_at or self.over_or_stopping(member):
                self.guarded(member, lambda member=member: self.coordinate(member), member)  # type: ignore[misc]
            while member.invocations:
                self.guarded(member, member.invocations.pop(0))
            for reader in member.readers():
                for _ in range(50):
                    if self.now < member.due.get(reader.shard_id, 0.0) and not member.is_stopping:
                        break
                    self.guarded(
                        member,
                        lambda member=member, reader=reader: self.step_reader(member, reader),  # type: ignore[misc]
                        reader,
                    )
                    while member.invocations:
                        self.guarded(member, member.invocations.pop(0))
                    if reader.shard_id not in member.runner.readers:
                        break
        self.now += 0.5

    def over_or_stopping(self, member: Member) -> bool:
        return member.is_stopping or not member.runner._over.empty()

    def act(self, member: Member) -> None:
        """One step of a member: whichever, but that leases are renewed in time as a rule."""
        if member not in self.members or member.paused_until > self.now:
            return
        readers = [reader for reader in member.readers() if reader not in self.busy]
        invocations, choice = member.invocations, self.random.random()
        is_due = not member.has_begun or choice < 0.05 or (self.now >= member.coordinate_at and choice < 0.8)
        if is_due and member not in self.busy:
            self.guarded(member, lambda: self.coordinate(member), member)
        elif invocations and choice < 0.9:
            self.guarded(member, invocations.pop(self.random.randrange(len(invocations))))
        elif readers:
            reader = self.random.choice(readers)
            self.guarded(member, lambda: self.step_reader(member, reader), reader)

    def guarded(self, member: Member, action: Callable[[], Any], busy: Member | ShardReader | None = None) -> None:
        """Let a member act, with its coordinator or a reader ``busy`` meanwhile; a crash ends its process."""
        outer, self.acting = self.acting, member
        if busy is not None:
            self.busy.append(busy)
        try:
            action()
        except Crash:
            self.crashed = True
        finally:
            self.acting = outer
            if busy is not None:
                self.busy.remove(busy)
        if self.crashed:
            self.crashed = False
            self.kill(member, "crashed")

    def coordinate(self, member: Member) -> None:
        try:
            if not member.has_begun:
                member.runner.begin()
                member.has_begun = True
            member.coordinate_at = self.now + member.runner.coordinate()
        except ConnectionError:
            # At its start: the process ends, and is started again.
            self.kill(member, "could not begin")
            return
        if member.is_stopping and not member.runner.readers:
            self.note(f"{member.name} has stopped")
            self.replace(member)

    def step_reader(self, member: Member, reader: ShardReader) -> None:
        if member.runner.readers.get(reader.shard_id) is not reader or reader.status.state in (
            "ended",
            "lost",
            "stopped",
        ):
            return
        seconds = reader.step()
        if seconds is None:
            self.note(f"{member.name} is done with {reader.shard_id[-2:]}: {reader.status.state}")
            member.runner.ended(reader)
            member.due.pop(reader.shard_id, None)
        else:
            member.due[reader.shard_id] = self.now + seconds

    def new_member(self) -> Member:
        self.started += 1
        return Member(self, f"runner {self.started}")

    def kill(self, member: Member, why: str) -> None:
        if member in self.members:
            self.note(f"{member.name} {why}")
            self.replace(member)

    def replace(self, member: Member) -> None:
        self.members[self.members.index(member)] = self.new_member()

    def stop(self, member: Member) -> None:
        if member.has_begun and not member.is_stopping:
            self.note(f"{member.name} is told to stop")
            member.is_stopping = True
            member.runner.stop()

    def meanwhile(self, part: float = 1.0) -> None:
        """Inside an invocation, a read or a write: time passes, and the others go on, other threads of this member too."""
        if self.depth or (part < 1 and self.random.random() > part) or not self.happens("others go on meanwhile"):
            return
        self.depth += 1
        acting, crashed = self.acting, self.crashed
        if self.random.random() < 0.3:
            self.put()
        self.now += self.random.choice([0.0, 1.0, 4.0, 11.0, 30.0])
        for _ in range(self.random.randint(1, 12)):
            self.act(self.random.choice(self.members))
            self.now += self.random.choice([0.0, 0.2, 4.0])
        self.acting, self.crashed = acting, crashed
        self.depth -= 1
        if acting not in self.members:
            self.crashed = True
            raise Crash("its process has ended meanwhile")

    def put(self) -> None:
        shard = self.random.choice([shard for shard in self.shards if not shard.is_closed])
        key = self.random.choice("abc")
        is_wanted = not self.is_filtered or self.random.random() < 0.7
        order = len(self.facts) + 1
        text = json.dumps({"n": order, "wanted": is_wanted})
        fact = Fact(text, order, shard, key, is_wanted, self.now)
        shard.facts.append(fact)
        self.facts[text] = fact
        self.note(f"put {order} into {shard.id[-2:]}, key {key}{'' if is_wanted else ', not wanted'}")

    def reshard(self) -> None:
        opened = [shard for shard in self.shards if not shard.is_closed]
        if len(opened) > 1 and self.random.random() < 0.5:
            parents = tuple(self.random.sample(opened, 2))
            count = 1
        elif len(self.shards) < 8:
            parents = (self.random.choice(opened),)
            count = 2
        else:
            return
        for parent in parents:
            parent.is_closed = True
        for _ in range(count):
            self.shards.append(SimulatedShard(len(self.shards), parents))
        self.note(f"{[parent.id[-2:] for parent in parents]} closed, {count} opened")

    # The function.

    def function(self, member: Member) -> Callable[[Any, Any], Any]:
        handler = lambda_handler(lambda: Windowed(self) if self.is_windowed else Simulated(self))

        def invoke(event: Any, context: Any) -> Any:
            shard_id = event["Records"][0]["eventID"].partition(":")[0] if event["Records"] else event["shardId"]
            numbers = [int(record["kinesis"]["sequenceNumber"]) for record in event["Records"]]
            self.note(f"{member.name} invokes {shard_id[-2:]}: {numbers}")
            self.check_invocation(shard_id, numbers)
            self.step("before the handler")
            answer = handler(event, context)
            if self.happens("delivered twice"):
                answer = handler(event, context)
            self.step("before the answer")
            self.note(f"  answered {answer}")
            if self.happens("answer is lost"):
                raise ConnectionError("the answer is lost")
            return answer

        return invoke

    def destination(self, document: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
        """The on-failure destination."""
        self.step("before the destination")
        if self.happens("destination is down"):
            raise ConnectionError("the destination is down")
        texts = [pybase64.b64decode(record["kinesis"]["data"]).decode() for record in records]
        self.note(f"    given up: {texts}")
        self.discarded.update(texts)
        self.step("after the destination")
        if self.happens("destination answer is lost"):
            raise ConnectionError("the destination did not answer")

    # Faults.

    def note(self, line: str) -> None:
        self.trace.append(f"{self.now - _START:7.1f} {line}")

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
            self.crashed = True
            raise Crash(where)

    # Checks.

    def is_wanted(self, fact: Fact) -> bool:
        """Whether it has to come through: not what came before a start from LATEST."""
        if not fact.is_wanted or self.settings.starting_position != "LATEST":
            return fact.is_wanted
        starts = [lease.started_at or 0.0 for lease in self.store.leases("reader", "fleet").values()]
        return not fact.is_skipped and fact.arrived_at >= min(starts, default=0.0)

    def is_settled(self, fact: Fact) -> bool:
        return fact.text in self.sink.texts or fact.text in self.discarded

    def check_invocation(self, shard_id: str, numbers: list[int]) -> None:
        """With one lane: what came before this batch is in the store."""
        if self.is_windowed or self.settings.parallelization_factor > 1:
            return
        (shard,) = (shard for shard in self.shards if shard.id == shard_id)
        checkpoint = self.store.leases("reader", "fleet")[shard_id].checkpoint or 0
        for fact in shard.facts:
            if checkpoint < fact.number < numbers[0] and self.is_wanted(fact):
                raise Violation(f"{numbers} of {shard_id} are invoked before the checkpoint of {fact.number} is saved")

    def check_start(self, text: str) -> None:
        fact = self.facts[text]
        if not fact.is_wanted:
            raise Violation(f"{text} was delivered though the filter does not want it")
        if self.ordering != "none":
            for earlier in fact.before:
                if earlier.text not in self.processed | self.discarded and self.is_wanted(earlier):
                    raise Violation(
                        f"{text} started before {earlier.text}, an earlier record of its key, was processed"
                    )

    def check_holders(self, shard_id: str) -> None:
        holders = [member.name for member in self.members if member.runner.holds(shard_id)]
        if len(holders) > 1:
            raise Violation(f"{shard_id} is held by {holders}")

    def check_checkpoint(self, shard_id: str, number: int | None) -> None:
        (shard,) = (shard for shard in self.shards if shard.id == shard_id)
        for fact in shard.facts:
            is_passed = number is not None and fact.number <= number
            if is_passed and not self.is_settled(fact) and self.is_wanted(fact):
                raise Violation(f"the checkpoint of {shard_id} passed {fact.text}, which nobody has settled")

    def check_end(self, shard_id: str) -> None:
        (shard,) = (shard for shard in self.shards if shard.id == shard_id)
        if not shard.is_closed:
            raise Violation(f"{shard_id} is said to have ended, and is open")
        if shard.facts:
            self.check_checkpoint(shard_id, shard.facts[-1].number)

    def is_all_settled(self) -> bool:
        leases = self.store.leases("reader", "fleet")
        for shard in self.shards:
            lease = leases.get(shard.id)
            if shard.is_closed and not (lease and lease.has_ended):
                return False
            last = max((fact.number for fact in shard.facts if self.is_wanted(fact)), default=0)
            if last > ((lease and lease.checkpoint) or 0):
                return False
        return True

    def check_that_all_arrived(self) -> None:
        for fact in self.facts.values():
            if not self.is_settled(fact) and self.is_wanted(fact):
                raise Violation(f"{fact.text} is lost")
        if not self.is_all_settled():
            raise Violation("the checkpoints have stopped before the end of their shards")


class Simulated(RecordProcessor):
    """Writes each text."""

    name = "simulated"

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.ordering = fleet.ordering
        self.on_failure = Block()
        self.progress = fleet.progress

    def process(self, record: Record) -> Iterator[Write]:
        yield self.fleet.sink.text(worked(self.fleet, record))


class Windowed(WindowProcessor):
    """Collects the texts of a window."""

    name = "windowed"

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def aggregate(self, record: Record, state: Any) -> None:
        texts = state.setdefault("texts", [])
        texts.append(record.data.decode())
        worked(self.fleet, record)

    def finish(self, window: Window, state: Any) -> Iterator[Write]:
        self.fleet.step("before finish")
        yield self.fleet.sink.window(state["texts"])


def worked(fleet: Fleet, record: Record) -> str:
    text = record.data.decode()
    fleet.check_holders(record.shard_id or "")
    fleet.check_start(text)
    fleet.step("before process")
    fleet.meanwhile()
    if fleet.happens("process fails"):
        raise ValueError("bad")
    fleet.processed.add(text)
    fleet.step("after process")
    return text


class SimulatedSink(Sink):
    """Keeps texts by write id."""

    # The schedules of a function and its mapping have circuits (``World``).
    has_breaker = False

    request_writes = 3

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.texts: set[str] = set()
        self.windows: dict[str, tuple[str, ...]] = {}

    def text(self, text: str) -> Write:
        return Write(self, (text,))

    def window(self, texts: Sequence[str]) -> Write:
        return Write(self, tuple(texts))

    def write(self, writes: Sequence[Write], *, deadline: float) -> Iterator[Refusal]:
        fleet = self.fleet
        fleet.step("before the sink writes")
        if fleet.happens("sink is down"):
            raise ConnectionError("the sink is down")
        for write in writes:
            if fleet.happens("sink refuses"):
                yield Refusal(write, ValueError("refused"))
            else:
                self.take(write)
        fleet.step("after the sink wrote")
        if fleet.happens("sink answer is lost"):
            raise ConnectionError("the sink did not answer")

    def take(self, write: Write) -> None:
        texts: tuple[str, ...] = write.payload
        self.fleet.note(f"    written: {texts}")
        if self.fleet.is_windowed:
            if self.windows.setdefault(write.write_id, texts) != texts:
                raise Violation(f"{write.write_id} came with {texts}, and with {self.windows[write.write_id]} before")
            others = [ids for ids, other in self.windows.items() if ids != write.write_id and set(other) & set(texts)]
            # Where a window ends early, a reader that begins anew may cut its parts elsewhere.
            is_counted_twice = bool(others) and self.fleet.settings.maximum_state_in_bytes > 1000
            if is_counted_twice or len(set(texts)) != len(texts):
                raise Violation(f"{texts} of {write.write_id} are counted twice: {others}")
        self.texts.update(texts)


class SimulatedStream(Stream):
    """The stream, as its shards are at the moment."""

    name = "fleet"
    arn = event_source_arn = _ARN
    retention = 86_400.0

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def shards(self) -> list[Shard]:
        if self.fleet.happens("listing fails"):
            raise ConnectionError("throttled")
        return [Shard(shard.id, tuple(parent.id for parent in shard.parents)) for shard in self.fleet.shards]

    def feed(self, shard_id: str) -> Feed:
        (shard,) = (shard for shard in self.fleet.shards if shard.id == shard_id)
        return SimulatedFeed(self.fleet, shard)

    def may_pass(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)


class SimulatedFeed(Feed):
    """A few records at a time."""

    def __init__(self, fleet: Fleet, shard: SimulatedShard) -> None:
        self.fleet = fleet
        self.shard = shard
        self.next: int | None = None

    def read(self, position: Position) -> Page:
        fleet, facts = self.fleet, self.shard.facts
        if self.next is None:
            self.next = self.begin(position)
        if fleet.happens("read fails"):
            self.next = None
            raise ConnectionError("throttled")
        found = facts[self.next : self.next + fleet.random.choice([1, 3, 100])]
        self.next += len(found)
        is_read = self.next == len(facts)
        records = [
            {
                "SequenceNumber": str(fact.number),
                "Data": pybase64.b64encode(fact.text.encode()).decode(),
                "PartitionKey": fact.key,
                "ApproximateArrivalTimestamp": fact.arrived_at,
            }
            for fact in found
        ]
        has_ended = is_read and self.shard.is_closed
        fleet.meanwhile(0.2)
        return Page(records, 0.0 if is_read else 1.0, has_ended)

    def begin(self, position: Position) -> int:
        """How many records are before it."""
        facts = self.shard.facts
        if position.type == "LATEST" and not self.shard.is_begun:
            for fact in facts:
                fact.is_skipped = True
        self.shard.is_begun = True
        if position.type == "LATEST":
            return len(facts)
        after, since = position.sequence_number or 0, position.timestamp or 0.0
        return sum(fact.number <= after or fact.arrived_at < since for fact in facts)


class SimulatedCheckpoints(MemoryCheckpoints):
    """The shipped store with a network before it."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.fleet = fleet

    def may_pass(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)

    def call(self, name: str, call: Callable[[], Any]) -> Any:
        fleet = self.fleet
        fleet.step(f"before {name}")
        fleet.meanwhile(0.2)
        if fleet.happens("store is down"):
            raise ConnectionError("the store is down")
        answer = call()
        fleet.meanwhile(0.2)
        fleet.step(f"after {name}")
        if fleet.happens("store answer is lost"):
            raise ConnectionError("the store did not answer")
        return answer

    def take(self, *arguments: Any, **options: Any) -> Lease | None:
        taken: Lease | None = self.call("take", lambda: super(SimulatedCheckpoints, self).take(*arguments, **options))
        return taken

    def renew(self, lease: Lease) -> Lease:
        def renew() -> Lease:
            before = self.entry_of(lease)
            renewed = super(SimulatedCheckpoints, self).renew(lease)
            self.check_owner(lease, before)
            return renewed

        renewed: Lease = self.call("renew", renew)
        return renewed

    def save(self, lease: Lease, sequence_number: int) -> None:
        def save() -> None:
            before = self.entry_of(lease)
            super(SimulatedCheckpoints, self).save(lease, sequence_number)
            self.fleet.note(f"    checkpoint of {lease.shard_id[-2:]}: {sequence_number}")
            self.check(lease, before)

        self.call("save", save)

    def end(self, lease: Lease, sequence_number: int | None) -> None:
        def end() -> None:
            before = self.entry_of(lease)
            super(SimulatedCheckpoints, self).end(lease, sequence_number)
            self.fleet.note(f"    {lease.shard_id[-2:]} has ended at {sequence_number}")
            self.check(lease, before)
            self.fleet.check_end(lease.shard_id)

        self.call("end", end)

    def give_up(self, lease: Lease) -> None:
        def give_up() -> None:
            before = self.entry_of(lease)
            super(SimulatedCheckpoints, self).give_up(lease)
            if self.entry_of(lease) != before:
                self.check_owner(lease, before)

        self.call("give up", give_up)

    def entry_of(self, lease: Lease) -> Lease:
        return self.leases(lease.reader, lease.stream)[lease.shard_id]

    def check(self, lease: Lease, before: Lease) -> None:
        self.check_owner(lease, before)
        after = self.entry_of(lease).checkpoint
        if before.checkpoint is not None and (after is None or after < before.checkpoint):
            raise Violation(f"the checkpoint of {lease.shard_id} moved back from {before.checkpoint} to {after}")
        self.fleet.check_checkpoint(lease.shard_id, after)

    def check_owner(self, lease: Lease, before: Lease) -> None:
        if (lease.owner, lease.term) != (before.owner, before.term):
            raise Violation(f"{lease.shard_id} was written to by a lease that {before.owner} had taken over")


class SimulatedProgress(MemoryProgress):
    """The shipped store with a network before it."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.fleet = fleet

    def entries(self, processor: str, shard: str, up_to: int, *, deadline: float) -> list[bytes]:
        self.fleet.step("before the progress is looked up")
        if self.fleet.happens("progress is down"):
            raise ConnectionError("the progress store is down")
        return super().entries(processor, shard, up_to, deadline=deadline)

    def save(self, processor: str, shard: str, number: int, entry: bytes, *, deadline: float) -> None:
        self.fleet.step("before the progress is saved")
        if self.fleet.happens("progress is down"):
            raise ConnectionError("the progress store is down")
        super().save(processor, shard, number, entry, deadline=deadline)
        self.fleet.step("after the progress was saved")
        if self.fleet.happens("progress answer is lost"):
            raise ConnectionError("the progress store did not answer")
