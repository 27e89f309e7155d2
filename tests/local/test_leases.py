from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from streamkit.checkpoints.base import CheckpointStore, Lease, LeaseLost
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.checkpoints.sqlite import SqliteCheckpoints
from streamkit.errors import ConfigurationError
from streamkit.local.leases import Leases

SHARD = "shardId-000000000000"
SECONDS = 30.0


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Down(Exception):
    """What the store raises while it can't be reached."""


class Store(MemoryCheckpoints):
    """In memory, with a delay before and after each write takes effect, outages, and writes that take effect long after."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.answer_lost = False
        self.is_late = False
        self.late: list[Callable[[], object]] = []
        self.calls = 0
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None

    def leases(self, reader: str, stream: str) -> dict[str, Lease]:
        if self.down:
            raise Down
        return super().leases(reader, stream)

    def _change(self, reader, stream, shard_id, changed):  # type: ignore[no-untyped-def]  # As the base has it.
        self.calls += 1
        self.before()
        if self.down:
            raise Down
        if self.is_late:
            self.late.append(lambda: MemoryCheckpoints._change(self, reader, stream, shard_id, changed))
            raise Down
        entry = super()._change(reader, stream, shard_id, changed)
        self.after()
        if self.answer_lost:
            raise Down
        return entry


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Store:
    return Store()


def runner(
    store: CheckpointStore, owner: str, clock: Callable[[], float], *, started_at: float | None = None
) -> Leases:
    return Leases(
        store,
        reader="reader",
        stream="stream",
        owner=owner,
        seconds=SECONDS,
        clock=clock,
        started_at=started_at,
    )


def taken(leases: Leases, shard_id: str = SHARD) -> Lease:
    leases.observe()
    lease = leases.take(shard_id)
    assert lease is not None
    return lease


class TestShardThatIsFree:
    def test_is_one_that_was_never_taken(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        leases.observe()

        assert leases.is_free(SHARD)
        assert taken(leases).owner == "a"
        assert not leases.is_free(SHARD)
        assert leases.take(SHARD) is None

    def test_is_one_that_was_given_up(self, store: Store, clock: Clock) -> None:
        first, second = runner(store, "a", clock), runner(store, "b", clock)
        taken(first)
        first.give_up(SHARD)

        assert taken(second).term == 2
        assert not first.holds(SHARD)

    def test_is_one_whose_entry_was_still_for_the_time_of_a_lease(self, store: Store, clock: Clock) -> None:
        dead, alive = runner(store, "a", clock), runner(store, "b", clock)
        store.save(taken(dead), 5)

        clock.now = 1000.0
        alive.observe()
        assert not alive.is_free(SHARD)
        clock.now = 1000.0 + SECONDS - 0.1
        alive.observe()
        assert alive.take(SHARD) is None
        clock.now = 1000.0 + SECONDS
        lease = taken(alive)

        assert (lease.owner, lease.term, lease.checkpoint) == ("b", 2, 5)

    def test_is_none_whose_owner_renews_it(self, store: Store, clock: Clock) -> None:
        owner, other = runner(store, "a", clock), runner(store, "b", clock)
        taken(owner)

        for _ in range(200):
            clock.now += 1.0
            assert owner.renew() == []
            other.observe()
            assert not other.is_free(SHARD)

    def test_is_none_that_was_renewed_since_it_was_last_looked_at(self, store: Store, clock: Clock) -> None:
        owner, other = runner(store, "a", clock), runner(store, "b", clock)
        taken(owner)
        other.observe()
        clock.now = SECONDS * 0.5
        other.observe()
        clock.now = SECONDS * 0.6
        owner.renew()

        clock.now = SECONDS
        assert other.is_free(SHARD)
        assert other.take(SHARD) is None
        assert owner.holds(SHARD)

    def test_is_found_by_clocks_that_have_nothing_to_do_with_each_other(self, store: Store) -> None:
        of_the_owner, of_the_other = Clock(1e9), Clock(-5.0)
        owner, other = runner(store, "a", of_the_owner), runner(store, "b", of_the_other)
        taken(owner)
        other.observe()

        of_the_other.now += SECONDS - 1
        other.observe()
        assert not other.is_free(SHARD)
        of_the_other.now += 1
        assert other.is_free(SHARD)

    def test_is_none_by_an_observation_that_is_old(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        assert not leases.is_free(SHARD)
        leases.observe()

        clock.now = SECONDS
        assert not leases.is_free(SHARD)
        leases.observe()
        assert leases.is_free(SHARD)

    def test_is_its_own_that_it_lost(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        taken(leases)
        clock.now += SECONDS
        assert leases.renew() == [SHARD]

        lease = taken(leases)

        assert lease.term == 2
        assert leases.holds(SHARD)

    def test_is_its_own_that_it_took_without_an_answer(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        leases.observe()
        store.answer_lost = True
        with pytest.raises(Down):
            leases.take(SHARD)
        store.answer_lost = False
        assert not leases.holds(SHARD)

        assert taken(leases).term == 2

    def test_is_not_taken_where_the_answer_came_when_the_lease_was_over(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        leases.observe()

        def slow() -> None:
            clock.now += SECONDS

        store.after = slow
        assert leases.take(SHARD) is None
        assert not leases.holds(SHARD)
        with pytest.raises(LeaseLost):
            leases.lease(SHARD)


class TestLeaseThatIsHeld:
    def test_is_renewed_after_a_third_of_its_time(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        taken(leases)

        clock.now = SECONDS / 3 - 0.1
        leases.renew()
        assert leases.lease(SHARD).beat == 0
        clock.now = SECONDS / 3
        leases.renew()
        leases.renew()

        assert leases.lease(SHARD).beat == 1

    def test_is_renewed_from_the_start_of_the_call_and_not_from_its_answer(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        taken(leases)
        clock.now = 10.0

        def slow() -> None:
            clock.now += 8.0

        store.before = slow
        assert leases.renew() == []

        clock.now = 10.0 + SECONDS * 0.9 - 0.1
        assert leases.holds(SHARD)
        clock.now = 10.0 + SECONDS * 0.9
        assert not leases.holds(SHARD)

    def test_holds_from_the_start_of_the_call_and_not_from_its_answer(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        leases.observe()

        def slow() -> None:
            clock.now += 8.0

        store.before = slow
        assert leases.take(SHARD) is not None

        clock.now = SECONDS * 0.9 - 0.1
        assert leases.holds(SHARD)
        clock.now = SECONDS * 0.9
        assert not leases.holds(SHARD)

    def test_holds_from_the_start_of_its_renewal_and_not_from_its_answer(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        taken(leases)
        clock.now = 15.0

        def slow() -> None:
            clock.now += 3.0

        store.before = slow
        assert leases.renew() == []

        clock.now = 15.0 + SECONDS * 0.9 - 0.1
        assert leases.holds(SHARD)
        clock.now = 15.0 + SECONDS * 0.9
        assert not leases.holds(SHARD)

    def test_ends_before_another_can_take_it(self, store: Store, clock: Clock) -> None:
        owner, other = runner(store, "a", clock), runner(store, "b", clock)
        taken(owner)
        other.observe()

        held = []
        while not other.is_free(SHARD):
            other.observe()
            held.append(owner.holds(SHARD))
            clock.now += 0.5

        assert held[0]
        assert not held[-1]

    def test_survives_an_outage_of_the_store_that_is_shorter_and_it_is_logged_once(
        self, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        leases = runner(store, "a", clock)
        taken(leases)
        store.down = True
        with caplog.at_level(logging.INFO, "streamkit"):
            while clock.now < SECONDS * 0.8:
                clock.now += 1.0
                assert leases.renew() == []
                assert leases.holds(SHARD)
            store.down = False
            assert leases.renew() == []

        clock.now += SECONDS * 0.5
        assert leases.holds(SHARD)
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        assert "can't be renewed" in caplog.text
        assert "renewed again" in caplog.text

    def test_is_lost_in_an_outage_of_the_store_that_is_longer(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        taken(leases)
        store.down = True

        lost: list[str] = []
        while not lost:
            assert clock.now < SECONDS
            clock.now += 1.0
            lost = leases.renew()

        assert lost == [SHARD]
        assert leases.renew() == []
        assert not leases.holds(SHARD)
        with pytest.raises(Down):
            leases.observe()
        store.down = False
        assert taken(leases).term == 2

    def test_costs_a_store_that_is_down_one_call_each_time_however_many_there_are(
        self, store: Store, clock: Clock
    ) -> None:
        leases = runner(store, "a", clock)
        shards = [f"shard-{n}" for n in range(5)]
        for shard_id in shards:
            taken(leases, shard_id)
        clock.now = SECONDS / 2
        store.down, store.calls = True, 0

        for _ in range(3):
            leases.renew()

        assert store.calls == 3

    def test_that_can_not_be_renewed_does_not_keep_the_others_from_it(self, store: Store, clock: Clock) -> None:
        class Broken(Store):
            def renew(self, lease: Lease) -> Lease:
                if lease.shard_id == "bad":
                    raise Down
                return super().renew(lease)

        leases = runner(Broken(), "a", clock)
        shards = ["bad", "good-1", "good-2"]
        for shard_id in shards:
            taken(leases, shard_id)

        lost: list[str] = []
        for _ in range(int(SECONDS) * 3):
            clock.now += 1.0
            lost += leases.renew()

        assert lost == ["bad"]
        assert [leases.holds(shard_id) for shard_id in shards] == [False, True, True]

    def test_is_seen_to_be_renewed_again_after_a_renewal_without_an_answer(self, store: Store, clock: Clock) -> None:
        # Or the others would count from the first, and its owner from the second.
        leases = runner(store, "a", clock)
        taken(leases)
        clock.now = SECONDS / 3
        store.answer_lost = True
        leases.renew()
        store.answer_lost = False
        beat = store.leases("reader", "stream")[SHARD].beat

        leases.renew()

        assert store.leases("reader", "stream")[SHARD].beat > beat
        assert leases.holds(SHARD)

    def test_holds_since_it_was_seen_free_where_it_was_taken_by_the_second_try(
        self, store: Store, clock: Clock
    ) -> None:
        # The others count from the first.
        leases, other = runner(store, "a", clock), runner(store, "b", clock)
        leases.observe()
        store.is_late = True
        with pytest.raises(Down):
            leases.take(SHARD)
        store.is_late = False
        leases.observe()
        store.late.pop()()
        other.observe()

        clock.now = SECONDS / 2
        lease = leases.take(SHARD)
        assert lease is not None
        assert lease.term == 1

        other.observe()
        clock.now = SECONDS
        assert other.is_free(SHARD)
        assert not leases.holds(SHARD)

    def test_has_a_term_that_it_never_had_before(self, store: Store, clock: Clock) -> None:
        # Given a shard that was given up, by a write that has no answer and takes effect later.
        leases = runner(store, "a", clock)
        taken(leases)
        store.is_late = True
        leases.give_up(SHARD)
        store.is_late = False

        # When
        assert leases.take(SHARD) is None
        lease = taken(leases)
        with contextlib.suppress(LeaseLost):
            store.late.pop()()

        # Then
        assert lease.term == 2
        assert store.leases("reader", "stream")[SHARD] == lease

    def test_is_lost_where_the_renewal_was_answered_too_late(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        taken(leases)
        clock.now = SECONDS * 0.5

        def slow() -> None:
            clock.now += SECONDS * 0.45
            assert not leases.holds(SHARD)

        store.after = slow
        assert leases.renew() == [SHARD]

        assert not leases.holds(SHARD)

    def test_is_not_reported_where_it_was_dropped_or_given_up_meanwhile(self, store: Store, clock: Clock) -> None:
        leases = runner(store, "a", clock)
        taken(leases)
        clock.now = SECONDS * 0.5

        def given_up() -> None:
            store.before = lambda: None
            leases.give_up(SHARD)

        store.before = given_up
        assert leases.renew() == []

        assert not leases.holds(SHARD)
        taken(leases)
        leases.drop(SHARD)
        assert not leases.holds(SHARD)
        assert leases.renew() == []

    def test_is_given_up_at_the_end_with_all_others(self, store: Store, clock: Clock) -> None:
        leases, other = runner(store, "a", clock), runner(store, "b", clock)
        for shard_id in ("x", "y", "z"):
            taken(leases, shard_id)

        leases.give_up_all()

        assert [taken(other, shard_id).owner for shard_id in ("x", "y", "z")] == ["b"] * 3
        leases.give_up_all()
        leases.give_up("x")
        assert taken(runner(store, "c", clock), "w").owner == "c"
        assert other.holds("x")

    def test_ends_by_itself_where_the_store_is_down_when_it_is_given_up(
        self, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        leases = runner(store, "a", clock)
        for shard_id in ("x", "y", "z"):
            taken(leases, shard_id)
        store.down, store.calls = True, 0

        leases.give_up_all()

        assert store.calls == 1
        assert "could not be given up" in caplog.text
        assert not any(leases.holds(shard_id) for shard_id in ("x", "y", "z"))


class TestOwnerThatWasPaused:
    def test_writes_nothing_after_another_has_taken_over(self, store: Store, clock: Clock) -> None:
        # Given an owner that stands still in the middle of a batch, between asking for its lease and saving.
        paused, other = runner(store, "a", clock), runner(store, "b", clock)
        store.save(taken(paused), 5)
        lease = paused.lease(SHARD)
        other.observe()

        # When another takes over and goes on
        clock.now += SECONDS
        theirs = taken(other)
        store.save(theirs, 6)

        # Then
        assert not paused.holds(SHARD)
        with pytest.raises(LeaseLost):
            paused.lease(SHARD)
        for write in (
            lambda: store.save(lease, 9),
            lambda: store.end(lease, 9),
            lambda: store.renew(lease),
        ):
            with pytest.raises(LeaseLost):
                write()
        assert paused.renew() == [SHARD]
        entry = store.leases("reader", "stream")[SHARD]
        assert (entry.owner, entry.checkpoint, entry.has_ended) == ("b", 6, False)
        paused.give_up_all()
        assert other.holds(SHARD)

    def test_learns_of_it_by_its_renewal_where_its_clock_stood_still_too(self, store: Store) -> None:
        # As on a machine that slept.
        of_the_paused, of_the_other = Clock(), Clock()
        paused, other = runner(store, "a", of_the_paused), runner(store, "b", of_the_other)
        taken(paused)
        other.observe()
        of_the_other.now += SECONDS
        taken(other)

        of_the_paused.now += SECONDS / 3
        assert paused.holds(SHARD)
        assert paused.renew() == [SHARD]

        assert not paused.holds(SHARD)
        paused.observe()
        assert not paused.is_free(SHARD)


class TestStartOfTheReader:
    def test_is_stored_with_the_first_taking(self, store: Store, clock: Clock) -> None:
        assert taken(runner(store, "a", clock, started_at=1000.0)).started_at == 1000.0

    def test_is_the_same_for_a_shard_that_a_later_runner_takes_first(self, store: Store, clock: Clock) -> None:
        # What came to the second shard between the two would be read by nobody else.
        taken(runner(store, "a", clock, started_at=1000.0), "shard-1")

        assert taken(runner(store, "b", clock, started_at=2000.0), "shard-2").started_at == 1000.0

    def test_may_be_none(self, store: Store, clock: Clock) -> None:
        assert taken(runner(store, "a", clock)).started_at is None


class TestSeveralRunners:
    @pytest.mark.parametrize("kind", ["memory", "sqlite"])
    def test_that_race_for_the_same_shards_have_each_of_them_once(self, kind: str, tmp_path: Path) -> None:
        shards = [f"shard-{n}" for n in range(20)]
        shared = MemoryCheckpoints()
        stores: list[CheckpointStore] = [
            shared if kind == "memory" else SqliteCheckpoints(tmp_path / "file") for _ in range(3)
        ]
        runners = [runner(store, f"runner-{n}", Clock()) for n, store in enumerate(stores)]
        barrier = threading.Barrier(len(runners))

        def take_all(leases: Leases) -> None:
            barrier.wait(60)
            leases.observe()
            for shard_id in shards:
                leases.take(shard_id)

        threads = [threading.Thread(target=take_all, args=(leases,)) for leases in runners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [sum(leases.holds(shard_id) for leases in runners) for shard_id in shards] == [1] * len(shards)
        for store in stores:
            store.close()

    @pytest.mark.parametrize("seed", range(40))
    def test_never_hold_one_shard_at_once_whatever_stops_them(self, seed: int) -> None:
        """Runners that stand still, lose the store or its answers, and die; clocks that differ in speed; late writes."""
        chance = random.Random(seed)  # A schedule that can be run again.
        store, now = Store(), 0.0
        clocks = [Clock(chance.uniform(-1e6, 1e6)) for _ in range(3)]
        speeds = [chance.uniform(0.97, 1.03) for _ in clocks]
        runners = [runner(store, f"runner-{n}", clock) for n, clock in enumerate(clocks)]
        paused_until = [0.0] * len(runners)
        shards = ["x", "y"]
        handovers, highest = 0, dict.fromkeys(shards, -1)
        last_owner: dict[str, int] = {}

        for step in range(600):
            tick = chance.uniform(0.2, 4.0)
            now += tick
            for clock, speed in zip(clocks, speeds, strict=True):
                clock.now += tick * speed
            store.down = chance.random() < 0.1
            store.answer_lost = chance.random() < 0.1
            store.is_late = chance.random() < 0.1
            while store.late and chance.random() < 0.3:
                with contextlib.suppress(LeaseLost):
                    store.late.pop(chance.randrange(len(store.late)))()
            n = chance.randrange(len(runners))
            if now >= paused_until[n]:
                _act(runners[n], store, shards, step, chance)
                if chance.random() < 0.05:
                    paused_until[n] = now + chance.uniform(0, 3 * SECONDS)
            if chance.random() < 0.02:
                runners[n] = runner(store, f"runner-{n}-{step}", clocks[n])

            for shard_id in shards:
                holding = [n for n, leases in enumerate(runners) if leases.holds(shard_id)]
                assert len(holding) <= 1, f"{holding} hold {shard_id} at step {step}"
                if holding and last_owner.get(shard_id) != holding[0]:
                    handovers += 1
                    last_owner[shard_id] = holding[0]
                entry = MemoryCheckpoints.leases(store, "reader", "stream").get(shard_id)
                if entry is not None and entry.checkpoint is not None:
                    assert entry.checkpoint >= highest[shard_id]
                    highest[shard_id] = entry.checkpoint

        assert handovers > 2
        assert min(highest.values()) > 300

    def test_need_an_owner_and_a_time(self, store: Store) -> None:
        with pytest.raises(ConfigurationError, match="owner"):
            Leases(store, reader="r", stream="s", owner="", seconds=1)
        for seconds in (0, -1, float("inf"), float("nan")):
            with pytest.raises(ConfigurationError, match="more than 0"):
                Leases(store, reader="r", stream="s", owner="a", seconds=seconds)


def _act(leases: Leases, store: Store, shards: list[str], step: int, chance: random.Random) -> None:
    """What a runner does in one of its rounds; the store's errors are passing."""
    leases.renew()
    for shard_id in shards:
        try:
            if leases.holds(shard_id):
                store.save(leases.lease(shard_id), step)
        except LeaseLost:
            leases.drop(shard_id)
        except Down:
            pass
    try:
        if chance.random() < 0.7:
            leases.observe()
        leases.take(chance.choice(shards))
    except Down:
        pass
    if chance.random() < 0.02:
        leases.give_up_all()
