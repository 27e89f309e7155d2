"""One shard's reader, stepped by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.local import shard_reader
from streamkit.local.container import Container
from streamkit.local.feed import Page, Position, Shard
from streamkit.local.mapping import lane_of
from streamkit.local.settings import Settings
from streamkit.local.shard_reader import ShardReader

from .scripted_stream import Hand, Read, ScriptedStream, page

SHARD = "shardId-000000000000"


class World:
    """A reader of one shard and what is around it."""

    def __init__(self, reads: Sequence[Read], **settings: Any) -> None:
        self.hand = Hand()
        self.stream = ScriptedStream({SHARD: list(reads)})
        self.store = MemoryCheckpoints()
        self.is_held = True
        self.invoked: list[list[int]] = []
        self.behaves: Callable[[list[int]], Any] = lambda numbers: None
        self.destination: Callable[[Any, Any], Any] | None = None
        self.waiting: list[Callable[[], None]] = []
        self.settings = Settings(function_response_types=["ReportBatchItemFailures"], **settings)

    def function(self, event: Any, context: Any) -> Any:
        self.invoked.append([int(record["kinesis"]["sequenceNumber"]) for record in event["Records"]])
        return self.behaves(self.invoked[-1])

    def reader(self, **options: Any) -> ShardReader:
        lease = self.store.take("reader", "s", SHARD, "me", None)
        assert lease is not None
        return ShardReader(
            self.stream,
            lease,
            start=Position("TRIM_HORIZON"),
            settings=self.settings,
            store=self.store,
            holds=lambda: self.is_held,
            **{
                "functions": [self.function] * self.settings.parallelization_factor,
                "on_failure": self.destination,
                "clock": self.hand.clock,
                **options,
            },
        )

    def run(self, reader: ShardReader, seconds: float) -> int:
        """Step it for so long; how often. It is not to spin."""
        steps, until = 0, self.hand.now + seconds
        while self.hand.now < until and (wait := reader.step()) is not None:
            steps += 1
            self.hand.now += wait
        return steps

    @property
    def checkpoint(self) -> int | None:
        return self.store.leases("reader", "s")[SHARD].checkpoint


class TestLease:
    def test_one_that_is_lost_while_it_reads_begins_no_invocation(self) -> None:
        def read() -> Page:
            world.is_held = False
            return page(1)

        world = World([read])
        reader = world.reader()

        world.run(reader, 1)

        assert world.invoked == []
        assert reader.status.state == "lost"

    def test_one_that_is_lost_while_a_destination_takes_records_begins_no_invocation(self) -> None:
        def takes(document: Any, records: Any) -> None:
            world.is_held = False

        world = World([Page([*page(1, at=0.0).records, *page(2).records])])
        world.destination = takes
        reader = world.reader()

        world.run(reader, 1)

        assert world.invoked == []
        assert world.checkpoint in (None, 1)


class TestStop:
    def test_an_invocation_that_waits_for_its_turn_is_called_off_and_was_none(self) -> None:
        world = World([page(1, 2)], maximum_retry_attempts=0)
        waiting: list[Callable[[], None]] = []
        container = Container(lambda event, context: world.invoked.append([0]), timeout=60)
        reader = world.reader(functions=[container], run=waiting.append)
        world.run(reader, 1)
        reader.stop()
        (invocation,) = waiting

        invocation()
        world.run(reader, 100)

        assert world.invoked == []
        assert world.checkpoint is None
        assert reader.status.state == "stopped"
        assert (reader.status.batches, reader.status.records, reader.status.failures) == (0, 0, 0)

    def test_while_it_reads_it_begins_no_invocation(self) -> None:
        def read() -> Page:
            reader.stop()
            return page(1)

        world = World([read])
        reader = world.reader()

        world.run(reader, 1)

        assert world.invoked == []
        assert reader.status.state == "stopped"

    def test_a_shard_that_waits_for_a_destination_asks_it_once_more_and_ends(self) -> None:
        asked: list[Any] = []

        def refuses(document: Any, records: Any) -> None:
            asked.append(document)
            raise ConnectionError("nobody there")

        world = World([page(1, at=0.0)])
        world.destination = refuses
        reader = world.reader()
        world.run(reader, 0.3)
        before = len(asked)
        reader.stop()

        world.run(reader, 100)

        assert len(asked) == before + 1
        assert reader.status.state == "stopped"
        assert world.checkpoint is None


class TestWaits:
    def test_a_destination_that_refuses_is_asked_ever_more_seldom(self) -> None:
        asked: list[float] = []

        def refuses(document: Any, records: Any) -> None:
            asked.append(world.hand.now)
            raise ConnectionError("nobody there")

        world = World([page(1, at=0.0)])
        world.destination = refuses

        steps = world.run(world.reader(), 60)

        assert [round(later - earlier, 1) for earlier, later in itertools.pairwise(asked)][:6] == [
            0.4,
            0.8,
            1.6,
            3.2,
            6.4,
            10.0,
        ]
        assert steps < 3 * len(asked) + 3

    def test_its_wait_starts_anew_after_a_success_though_no_checkpoint_moves(self) -> None:
        answers = iter([True, True, True, False, True, False])
        asked: list[float] = []

        def refuses(document: Any, records: Any) -> None:
            asked.append(world.hand.now)
            if next(answers):
                raise ConnectionError("nobody there")

        # The first record, in the other lane, is never done: what is discarded moves no checkpoint.
        one, other = "a", next(key for key in "bcdefgh" if lane_of(key, 0, 2) != lane_of("a", 0, 2))
        world = World(
            [page(1, key=one), page(2, at=0.0, key=other), *[page()] * 30, page(3, at=0.0, key=other)],
            parallelization_factor=2,
        )
        world.behaves = lambda numbers: 1 / 0
        world.destination = refuses

        world.run(world.reader(), 60)

        assert round(asked[-1] - asked[-2], 1) == 0.4

    def test_a_shard_that_is_throttled_for_ever_never_spins(self) -> None:
        throttles: list[Read] = [ConnectionError("throttled") for _ in range(10_000)]
        world = World(throttles)

        steps = world.run(world.reader(), 600)

        assert steps < 140

    def test_a_shard_is_polled_once_a_second_and_five_times_only_while_it_is_behind(self) -> None:
        # A reader that keeps up has the same five reads as all others of its shard, though each brings it something.
        idle, keeps_up = World([]), World([page(n) for n in range(1, 500)])
        behind = World([page(n, behind=60.0) for n in range(1, 500)])

        for world in idle, keeps_up, behind:
            world.run(world.reader(), 10)

        assert len(idle.stream.positions[SHARD]) in (10, 11)
        assert len(keeps_up.stream.positions[SHARD]) in (10, 11)
        assert len(behind.stream.positions[SHARD]) in (50, 51)


class TestMemory:
    def test_it_does_not_read_on_for_ever_past_a_record_that_fails_though_the_filters_want_nothing_more(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shard_reader, "_ENOUGH_UNPASSED", 50)
        world = World(
            [
                page(1, data=b'{"is": "wanted"}'),
                *(page(*range(first, first + 10), behind=60.0) for first in range(2, 1000, 10)),
            ],
            filter_criteria=[{"data": {"is": ["wanted"]}}],
        )
        world.behaves = lambda numbers: 1 / 0

        world.run(world.reader(), 60)

        assert len(world.stream.positions[SHARD]) == 6


class TestStatus:
    def test_the_checkpoint_of_a_shard_that_has_ended_is_its_last_record_though_no_filter_wants_it(self) -> None:
        world = World([page(1, 2, has_ended=True)], filter_criteria=[{"data": {"is": ["wanted"]}}])
        reader = world.reader()

        world.run(reader, 1)

        assert reader.status.state == "ended"
        assert reader.status.checkpoint == world.checkpoint == 2

    def test_a_shard_that_waits_for_a_destination_is_blocked_and_grows_older(self) -> None:
        def refuses(document: Any, records: Any) -> None:
            raise ConnectionError("nobody there")

        def fails(numbers: list[int]) -> None:
            raise ValueError("never")

        world = World([page(1)], maximum_retry_attempts=0)
        world.behaves, world.destination = fails, refuses
        reader = world.reader()

        world.run(reader, 60)

        assert reader.status.state == "blocked"
        assert reader.status.age(world.hand.clock.time()) >= 50

    def test_a_shard_that_can_not_be_read_is_blocked_and_can_be_as_old_as_its_last_read(self) -> None:
        world = World([page(1), *[ConnectionError("throttled")] * 100])
        reader = world.reader()

        world.run(reader, 60)

        assert reader.status.state == "blocked"
        assert reader.status.age(world.hand.clock.time()) >= 40


class TestExpiredShard:
    def test_one_that_is_listed_no_more_has_ended_once_what_was_read_of_it_is_done(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = World([page(1), ValueError("no such shard")])
        monkeypatch.setattr(world.stream, "shards", lambda: [Shard("shardId-000000000001")])
        reader = world.reader()

        world.run(reader, 10)

        assert world.invoked == [[1]]
        assert reader.status.state == "ended"
        assert world.store.leases("reader", "s")[SHARD].has_ended

    def test_one_that_is_listed_raises(self) -> None:
        world = World([ValueError("no such shard")])

        with pytest.raises(ValueError, match="no such shard"):
            world.run(world.reader(), 10)

    def test_one_of_a_stream_that_is_gone_raises_what_the_read_did(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone() -> Any:
            raise KeyError("no such stream")

        for listing in (gone, list):
            world = World([ValueError("no such shard")])
            monkeypatch.setattr(world.stream, "shards", listing)

            with pytest.raises(ValueError, match="no such shard"):
                world.run(world.reader(), 10)


class TestDiscard:
    def test_its_document_names_the_last_request_of_its_lane(self) -> None:
        requests: dict[int, list[str]] = {}
        told: dict[int, str] = {}

        def function(event: Any, context: Any) -> None:
            number = int(event["Records"][0]["kinesis"]["sequenceNumber"])
            requests.setdefault(number, []).append(context.aws_request_id)
            raise ValueError("not today")

        def takes(document: Any, records: Any) -> None:
            (record,) = records
            told[int(record["kinesis"]["sequenceNumber"])] = document["requestContext"]["requestId"]

        other = next(key for key in "bcdefgh" if lane_of(key, 0, 2) != lane_of("a", 0, 2))
        world = World([page(1, key="a"), page(2, key=other)], parallelization_factor=2, maximum_retry_attempts=1)
        world.destination = takes

        world.run(world.reader(functions=[function] * 2), 30)

        assert told == {number: ids[-1] for number, ids in requests.items()}
        assert {len(ids) for ids in requests.values()} == {2}
