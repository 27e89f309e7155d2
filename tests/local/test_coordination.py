"""What a runner does with its shards beside reading them, by hand: leases, listings, starts and ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from streamkit.checkpoints.base import CheckpointStore, Lease
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.local.feed import Shard
from streamkit.local.runner import Runner
from streamkit.local.settings import Settings
from streamkit.local.shard_reader import ShardReader

from .scripted_stream import Hand, ScriptedStream, page

FIRST, SECOND = "shardId-000000000000", "shardId-000000000001"


class SteppedRunner(Runner):
    """A runner whose readers a test steps."""

    def _launch(self, reader: ShardReader, functions: Any, pool: Any) -> None:
        return

    def reader(self, shard_id: str = FIRST) -> ShardReader:
        return self._readers[shard_id]

    @property
    def shard_ids(self) -> list[str]:
        return sorted(self._readers)


def make_runner(
    stream: ScriptedStream,
    hand: Hand,
    *,
    kind: type[Runner] = SteppedRunner,
    function: Callable[[Any, Any], Any] = lambda event, context: None,
    make_function: Callable[[], Callable[[Any, Any], Any]] | None = None,
    checkpoints: CheckpointStore | None = None,
    lease_seconds: float = 10.0,
    **settings: Any,
) -> Any:
    return kind(
        make_function or (lambda: function),
        stream=stream,
        name="reader",
        checkpoints=checkpoints or MemoryCheckpoints(),
        settings=Settings(function_response_types=["ReportBatchItemFailures"], **settings),
        lease_seconds=lease_seconds,
        clock=hand.clock,
    )


def fails(event: Any, context: Any) -> None:
    raise ValueError("not today")


class TestLatest:
    def test_what_a_runner_that_died_had_read_since_the_start_is_read_by_one_that_started_with_it(self) -> None:
        hand, checkpoints = Hand(), MemoryCheckpoints()
        stream = ScriptedStream({FIRST: [page(1)]})
        one = make_runner(stream, hand, checkpoints=checkpoints, function=fails, starting_position="LATEST")
        two = make_runner(stream, hand, checkpoints=checkpoints, starting_position="LATEST")
        one.begin()
        two.begin()
        one.coordinate()
        one.reader().step()
        two.coordinate()

        hand.now += 11
        two.coordinate()
        two.reader().step()

        assert [position.type for position in stream.positions[FIRST]] == ["LATEST", "AT_TIMESTAMP"]
        assert stream.positions[FIRST][1].timestamp == hand.now - 11


class Threaded(Runner):
    """A runner with threads, which ends by itself or is a failed test."""

    def run_to_its_end(self) -> BaseException | None:
        ended: list[BaseException | None] = []

        def run() -> None:
            try:
                self.run()
            except BaseException as error:
                ended.append(error)
            else:
                ended.append(None)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(30)
        assert ended, "it hangs"
        return ended[0]


class TestStart:
    def test_a_function_whose_making_fails_as_a_network_does_ends_the_run_and_leaves_the_shard_to_others(self) -> None:
        def makes_none() -> Any:
            raise ConnectionError("no database")

        checkpoints = MemoryCheckpoints()
        runner = make_runner(ScriptedStream({FIRST: []}), Hand(), checkpoints=checkpoints, make_function=makes_none)
        runner.begin()

        with pytest.raises(ConnectionError, match="no database"):
            runner.coordinate()

        assert checkpoints.leases("reader", "s")[FIRST].owner == ""

    def test_a_thread_that_the_system_does_not_give_ends_the_run_and_leaves_all_shards_to_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = threading.Thread.start

        def start_but(thread: threading.Thread) -> None:
            if thread.name.endswith(SECOND):
                raise RuntimeError("can't start new thread")
            start(thread)

        closed: list[str] = []

        class Closing:
            def __call__(self, event: Any, context: Any) -> None:
                return

            def close(self) -> None:
                closed.append("")

        checkpoints = MemoryCheckpoints()
        runner = make_runner(
            ScriptedStream({FIRST: [], SECOND: []}),
            Hand(),
            kind=Threaded,
            checkpoints=checkpoints,
            make_function=Closing,
        )
        monkeypatch.setattr(threading.Thread, "start", start_but)

        error = runner.run_to_its_end()

        assert isinstance(error, RuntimeError)
        assert [lease.owner for lease in checkpoints.leases("reader", "s").values()] == ["", ""]
        assert len(closed) == 2


class TestEnd:
    def test_a_shard_whose_reader_has_raised_is_left_to_others_at_once(self) -> None:
        checkpoints = MemoryCheckpoints()
        stream = ScriptedStream({FIRST: [ValueError("no such stream")], SECOND: []})
        runner = make_runner(stream, Hand(), kind=Threaded, checkpoints=checkpoints)

        error = runner.run_to_its_end()

        assert isinstance(error, ValueError)
        assert [lease.owner for lease in checkpoints.leases("reader", "s").values()] == ["", ""]
        assert [status.state for status in runner.statuses] == ["stopped", "stopped"]

    def test_a_function_that_exits_as_it_is_closed_hangs_nobody_and_keeps_no_other_from_it(self) -> None:
        closed: list[int] = []

        class Exits:
            def __call__(self, event: Any, context: Any) -> None:
                return

            def close(self) -> None:
                closed.append(1)
                raise SystemExit(3)

        stream = ScriptedStream({FIRST: [page(1, has_ended=True)]})
        runner = make_runner(stream, Hand(), kind=Threaded, make_function=Exits, parallelization_factor=2)

        error = runner.run_to_its_end()

        assert isinstance(error, SystemExit)
        assert closed == [1, 1]

    def test_a_stream_that_lists_no_shard_yet_has_not_ended(self) -> None:
        hand = Hand()
        stream = ScriptedStream({})
        runner = make_runner(stream, hand)
        runner.begin()

        hand.now += runner.coordinate()

        assert not runner._have_all_ended

    def test_a_shard_that_ends_while_the_shards_are_looked_up_ends_nothing_before_its_children(self) -> None:
        class SplitMeanwhile(MemoryCheckpoints):
            def leases(self, reader: str, stream_name: str) -> Any:
                if split_now:
                    stream.parents[SECOND] = (FIRST,)
                    stream.reads_of[SECOND] = [page(2, has_ended=True)]
                    while runner.reader().step() is not None:
                        pass
                return super().leases(reader, stream_name)

        hand = Hand()
        split_now: list[bool] = []
        stream = ScriptedStream({FIRST: [page(1, has_ended=True)]})
        runner = make_runner(stream, hand, checkpoints=SplitMeanwhile())
        runner.begin()
        runner.coordinate()

        split_now.append(True)
        hand.now += 5
        runner.coordinate()

        assert not runner._have_all_ended


class Slow(MemoryCheckpoints):
    """A store whose writes take their time; ``failures`` of its next renewals fail."""

    def __init__(self, hand: Hand, *, taking: float = 0.0, renewal: float = 0.0) -> None:
        super().__init__()
        self.hand = hand
        self.taking = taking
        self.renewal = renewal
        self.failures = 0

    def may_pass(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)

    def take(self, *arguments: Any, **options: Any) -> Lease | None:
        self.hand.now += self.taking
        return super().take(*arguments, **options)

    def renew(self, lease: Lease) -> Lease:
        self.hand.now += self.renewal
        if self.failures:
            self.failures -= 1
            raise ConnectionError("nobody there")
        return super().renew(lease)


class TestLeases:
    def test_two_renewals_that_fail_cost_no_lease(self) -> None:
        hand = Hand()
        store = Slow(hand)
        runner = make_runner(ScriptedStream({FIRST: []}), hand, checkpoints=store)
        runner.begin()
        runner.coordinate()
        store.failures = 2

        for _ in range(20):
            hand.now += runner.coordinate()
            assert runner.reader().step() is not None

        assert store.failures == 0

    def test_a_store_that_does_not_answer_for_three_seconds_costs_no_lease_whenever_that_begins(self) -> None:
        class Silent(MemoryCheckpoints):
            silences = 0

            def renew(self, lease: Lease) -> Lease:
                if begun <= hand.now < begun + 3:
                    # A try ends after a tenth of a lease, and a call has two.
                    hand.now += 2
                    self.silences += 1
                    raise ConnectionError("no answer in time")
                return super().renew(lease)

        silences = 0
        for quarters in range(28):
            hand, store = Hand(), Silent()
            begun = hand.now + quarters / 4
            runner = make_runner(ScriptedStream({FIRST: [], SECOND: []}), hand, checkpoints=store)
            runner.begin()
            runner.coordinate()

            while hand.now < begun + 20:
                hand.now += runner.coordinate()
                assert [runner.reader(shard_id).step() is not None for shard_id in (FIRST, SECOND)] == [True, True]
            silences += store.silences > 0

        assert silences > 14

    def test_a_stream_that_does_not_answer_when_its_shards_are_listed_costs_no_lease(self) -> None:
        class Silent(ScriptedStream):
            def shards(self) -> list[Shard]:
                if checkpoints.leases("reader", "s"):
                    is_asked.set()
                    assert may_answer.wait(30)
                return super().shards()

        checkpoints = MemoryCheckpoints()
        is_asked, may_answer = threading.Event(), threading.Event()
        runner = Runner(
            lambda: lambda event, context: None,
            stream=Silent({FIRST: []}),
            name="reader",
            checkpoints=checkpoints,
            settings=Settings(),
            lease_seconds=0.6,
        )
        thread = threading.Thread(target=runner.run, daemon=True)
        thread.start()
        try:
            assert is_asked.wait(30)
            beat = checkpoints.leases("reader", "s")[FIRST].beat
            # More than a lease, by what the others see.
            give_up_at = time.monotonic() + 30
            while checkpoints.leases("reader", "s")[FIRST].beat < beat + 5:
                assert time.monotonic() < give_up_at, "nothing is renewed"
                time.sleep(0.02)
        finally:
            may_answer.set()
            runner.stop()
            thread.join(30)

        assert not thread.is_alive()
        assert checkpoints.leases("reader", "s")[FIRST].term == 1
        assert [status.state for status in runner.statuses] == ["stopped"]

    def test_of_many_shards_none_is_lost_before_the_last_is_taken(self) -> None:
        hand = Hand()
        stream = ScriptedStream({f"shardId-{n:012}": [] for n in range(1_000)})
        store = Slow(hand, taking=0.02, renewal=0.001)
        runner = make_runner(stream, hand, checkpoints=store)
        runner.begin()

        for _ in range(30):
            hand.now += runner.coordinate()

        assert len(runner.shard_ids) == 1_000
        assert {lease.term for lease in store.leases("reader", "s").values()} == {1}

    def test_ten_thousand_shards_are_looked_through_in_one_go(self) -> None:
        hand, store = Hand(), MemoryCheckpoints()
        shard_ids = [f"shardId-{n:012}" for n in range(10_000)]
        for shard_id in shard_ids[:-1]:
            lease = store.take("reader", "s", shard_id, "before", None)
            assert lease is not None
            store.end(lease, None)
        stream = ScriptedStream({shard_id: [] for shard_id in shard_ids}, {shard_ids[-1]: (shard_ids[0],)})
        runner = make_runner(stream, hand, checkpoints=store)
        runner.begin()

        runner.coordinate()

        assert runner.shard_ids == shard_ids[-1:]
