"""The reader of one shard, stepped by hand on a clock of its own: the order of its steps, and what each failure holds up."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pybase64
import pytest

from streamkit.checkpoints.base import Lease
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.local.context import Clock
from streamkit.local.feed import Feed, Page, Position, Shard, Stream
from streamkit.local.settings import Settings
from streamkit.local.shard_reader import ShardReader

SHARD = "shardId-000000000000"
START = 1_767_225_600.0  # A multiple of every window here.
TRIM_HORIZON = Position("TRIM_HORIZON")


def record(number: int, text: str = "{}", *, second: float = 0.0) -> dict[str, Any]:
    return {
        "SequenceNumber": str(number),
        "Data": pybase64.b64encode(text.encode()).decode(),
        "PartitionKey": "key",
        "ApproximateArrivalTimestamp": START + second,
    }


class Shards(Stream, Feed):
    """A stream of one shard, whose reads bring what a test says, and then nothing more."""

    name = "s"
    arn = event_source_arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
    retention = 86_400.0

    def __init__(self, reads: list[Callable[[], Page]]) -> None:
        self.reads = reads
        self.positions: list[Position] = []

    def shards(self) -> list[Shard]:
        return [Shard(SHARD)]

    def feed(self, shard_id: str) -> Feed:
        return self

    def read(self, position: Position) -> Page:
        self.positions.append(position)
        return self.reads.pop(0)() if self.reads else Page([])

    def may_pass(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)


class Checkpoints(MemoryCheckpoints):
    """In memory, and away where a test says so."""

    is_away = False

    def save(self, lease: Lease, sequence_number: int) -> None:
        if self.is_away:
            raise ConnectionError("nobody there")
        super().save(lease, sequence_number)

    def may_pass(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)

    @property
    def entry(self) -> Lease:
        return self.leases("reader", "s")[SHARD]


class Reading:
    """A reader, and what its function was called with. ``behaves(event)`` answers, or raises."""

    def __init__(
        self,
        *reads: Page | Callable[[], Page],
        start: Position = TRIM_HORIZON,
        behaves: Callable[[Any], Any] = lambda event: None,
        **settings: Any,
    ) -> None:
        self.now = START
        self.holds = True
        self.events: list[Any] = []
        self.in_hand: list[Callable[[], None]] = []
        self.behaves = behaves
        self.checkpoints = Checkpoints()
        self.stream = Shards([read if callable(read) else lambda page=read: page for read in reads])  # type: ignore[misc]
        lease = self.checkpoints.take("reader", "s", SHARD, "owner", None)
        assert lease is not None
        self.reader = ShardReader(
            self.stream,
            lease,
            start=start,
            settings=Settings(**{"function_response_types": ["ReportBatchItemFailures"], **settings}),
            store=self.checkpoints,
            holds=lambda: self.holds,
            functions=[self.function],
            run=self.in_hand.append,
            clock=Clock(lambda: self.now, lambda: self.now),
        )

    def function(self, event: Any, context: Any) -> Any:
        self.events.append(event)
        return self.behaves(event)

    @property
    def texts(self) -> list[list[str]]:
        return [[pybase64.b64decode(r["kinesis"]["data"]).decode() for r in event["Records"]] for event in self.events]

    def step(self) -> float | None:
        """One step, and the invocation that it began, to its end."""
        seconds = self.reader.step()
        while self.in_hand:
            self.in_hand.pop()()
        return seconds

    def run_for(self, seconds: float) -> None:
        """All the steps that are due in that time."""
        until = self.now + seconds
        while (pause := self.step()) is not None and self.now + pause <= until:
            self.now += pause
        self.now = max(self.now, until)


class TestOrderOfTheSteps:
    def test_nothing_begins_until_the_position_is_saved(self) -> None:
        reading = Reading(Page([record(1, "a"), record(2, "b")]), batch_size=1)
        reading.checkpoints.is_away = True
        reading.run_for(60)
        assert reading.texts == [["a"]]
        assert reading.checkpoints.entry.checkpoint is None

        reading.checkpoints.is_away = False
        reading.run_for(60)

        assert reading.texts == [["a"], ["b"]]
        assert reading.checkpoints.entry.checkpoint == 2

    def test_a_shard_ends_with_its_last_number_though_no_filter_wanted_that(self) -> None:
        reading = Reading(Page([record(1), record(2)], has_ended=True), filter_criteria=[{"data": {"type": ["a"]}}])

        reading.run_for(60)

        assert reading.reader.status.state == "ended"
        assert reading.events == []
        assert reading.checkpoints.entry.has_ended
        assert reading.checkpoints.entry.checkpoint == 2

    def test_a_stop_waits_for_what_is_in_hand_and_saves_its_position(self) -> None:
        reading = Reading(Page([record(1, "a"), record(2, "b")]), batch_size=1)
        assert reading.reader.step() == 0
        reading.reader.stop()
        assert reading.reader.step() is not None

        assert reading.step() is not None
        assert reading.step() is None

        assert reading.texts == [["a"]]
        assert reading.checkpoints.entry.checkpoint == 1
        assert reading.reader.status.state == "stopped"

    def test_an_answer_after_the_time_out_is_none(self) -> None:
        def slow(event: Any) -> None:
            reading.now += 60 if len(reading.events) == 1 else 59.9

        reading = Reading(Page([record(1, "a")]), behaves=slow, function_timeout_in_seconds=60)

        reading.run_for(200)

        assert reading.texts == [["a"], ["a"]]
        assert reading.reader.status.failures == 1


class TestLeaseThatIsLost:
    def test_ends_the_reader_which_begins_and_writes_nothing_more(self) -> None:
        reading = Reading(Page([record(1, "a"), record(2, "b")]), batch_size=1)
        reading.step()
        reading.holds = False

        assert reading.step() is None

        assert reading.texts == [["a"]]
        assert reading.checkpoints.entry.checkpoint is None
        assert reading.reader.status.state == "lost"

    def test_lets_the_invocation_in_hand_come_to_its_end_first(self) -> None:
        reading = Reading(Page([record(1, "a")]))
        reading.reader.step()
        reading.reader.lose()

        assert reading.reader.step() is not None
        reading.in_hand.pop()()

        assert reading.reader.step() is None
        assert reading.reader.status.state == "lost"
        assert reading.checkpoints.entry.checkpoint is None


class TestReading:
    def test_begins_at_latest_with_what_came_since_its_first_try_to_read(self) -> None:
        def throttled() -> Page:
            raise ConnectionError("not now")

        reading = Reading(throttled, throttled, Page([record(1, "a")]), start=Position("LATEST"))

        reading.run_for(60)

        since = Position("AT_TIMESTAMP", timestamp=START)
        assert reading.stream.positions[:3] == [Position("LATEST"), since, since]
        assert reading.texts == [["a"]]

    def test_passes_over_what_a_read_brings_again(self) -> None:
        again = Page([record(1, "a")])
        reading = Reading(Page([record(1, "a"), record(2, "b")]), again, Page([record(2, "b"), record(3, "c")]), again)

        reading.run_for(60)

        assert reading.texts == [["a", "b"], ["c"]]
        assert reading.checkpoints.entry.checkpoint == 3

    def test_passes_over_the_record_that_it_was_to_begin_after(self) -> None:
        reading = Reading(Page([record(1, "a"), record(2, "b")]), start=Position("AFTER_SEQUENCE_NUMBER", 1))

        reading.run_for(60)

        assert reading.texts == [["b"]]

    def test_goes_on_after_an_error_behind_what_was_read(self) -> None:
        def throttled() -> Page:
            raise ConnectionError("slow down")

        reading = Reading(throttled, Page([record(1, "a"), record(2, "b")]), throttled, Page([record(3, "c")]))

        reading.run_for(60)

        assert reading.texts == [["a", "b"], ["c"]]
        behind = Position("AFTER_SEQUENCE_NUMBER", 2)
        assert reading.stream.positions[:5] == [TRIM_HORIZON, TRIM_HORIZON, behind, behind, Position(behind.type, 3)]

    def test_waits_longer_and_longer_while_it_fails(self) -> None:
        moments: list[float] = []

        def throttled() -> Page:
            moments.append(reading.now)
            raise ConnectionError("slow down")

        reading = Reading(*[throttled] * 8)

        reading.run_for(60)

        waits = [after - before for before, after in itertools.pairwise(moments)]
        longest = [0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
        assert len(waits) >= len(longest)
        # Each reader a part of it less, so that those who were throttled together don't ask together again.
        assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=False))
        assert len({wait / most for wait, most in zip(waits, longest, strict=False)}) > 1


class TestWindow:
    @pytest.fixture
    def counted(self) -> list[tuple[int, bool]]:
        """The number of records of each call, and whether it was the window's end."""
        return []

    def windowed(self, counted: list[tuple[int, bool]], *reads: Page | Callable[[], Page]) -> Reading:
        def counts(event: Any) -> Any:
            counted.append((len(event["Records"]), event["isFinalInvokeForWindow"]))
            return {"state": {}}

        return Reading(Page([record(1)]), *reads, behaves=counts, tumbling_window_in_seconds=60)

    def test_is_not_over_for_what_may_have_arrived_while_it_read(self, counted: list[tuple[int, bool]]) -> None:
        def slow() -> Page:
            reading.now += 10
            return Page([])

        reading = self.windowed(counted, slow, Page([record(2, second=59)]))
        reading.run_for(0)
        reading.now = START + 55

        reading.run_for(60)

        assert counted == [(1, False), (1, True)]

    def test_is_not_over_while_the_reader_is_behind(self, counted: list[tuple[int, bool]]) -> None:
        reading = self.windowed(counted, Page([], behind=30.0), Page([record(2, second=59)]))
        reading.run_for(0)
        reading.now = START + 70

        reading.run_for(60)

        assert counted == [(1, False), (1, True)]
