"""``streamkit kcl`` under real MultiLangDaemons of the Kinesis Client Library, on LocalStack."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from local_process import Running

from streamkit.kpl import MAGIC

from .daemon import Daemon
from .leases import Lease, Try, Watcher, leader, leases, passed_over, tries
from .publisher import Published, Publisher, put

Start = Callable[..., Daemon]

SECRET = b"attack-at-dawn-by-the-river"
_MESSAGE = b"\x0a\x01k" + b"\x1a" + bytes([len(SECRET) + 4]) + b"\x08\x07\x1a" + bytes([len(SECRET)]) + SECRET
#: An aggregate with the right digest, whose only record has a key that is not in its table.
UNKNOWN_KEY = MAGIC + _MESSAGE + hashlib.md5(_MESSAGE).digest()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def failing(tmp_path: Path) -> Path:
    """While it is there, records that say so fail."""
    return tmp_path / "failing"


@pytest.fixture
def start(
    localstack: Running, kinesis: Any, tmp_path: Path, name: str, journal: Path, failing: Path
) -> Iterator[Start]:
    """Starts a daemon by its worker's name; it is ended for certain."""
    daemons: list[Daemon] = []

    def start(worker: str, **environment: str) -> Daemon:
        summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        daemon = Daemon(
            tmp_path,
            endpoint=localstack.endpoint,
            application=name,
            stream_arn=summary["StreamARN"],
            handler="handler",
            worker=worker,
            environment={"JOURNAL": str(journal), "FAILING": str(failing), **environment},
        )
        daemons.append(daemon)
        return daemon

    yield start
    for daemon in daemons:
        daemon.close()


@pytest.fixture
def watcher(dynamodb: Any, name: str, journal: Path) -> Iterator[Watcher]:
    watcher = Watcher(dynamodb, name, journal)
    watcher.start()
    yield watcher
    watcher.stop()


def create_stream(kinesis: Any, name: str, shards: int) -> None:
    kinesis.create_stream(StreamName=name, ShardCount=shards)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})


def wait(what: str, until: Callable[[], bool], within: float, *daemons: Daemon) -> None:
    ends = time.monotonic() + within
    while not until():
        for daemon in daemons:
            assert daemon.is_running, f"{daemon.worker} ended before {what}; its log ends:\n{daemon.tail()}"
        if time.monotonic() > ends:
            logs = "\n".join(f"{daemon.worker}'s log ends:\n{daemon.tail()}" for daemon in daemons)
            raise AssertionError(f"{what}: not in {within:g} s\n{logs}")
        time.sleep(0.2)


def done(journal: Path) -> set[tuple[str, int]]:
    return {(one.key, one.n) for one in tries(journal) if not one.fails}


def first_tries_in_order(made: Sequence[Try]) -> bool:
    """Whether each key's events were first tried in the order in which they were published."""
    firsts: dict[str, list[int]] = defaultdict(list)
    known: set[tuple[str, int]] = set()
    for one in made:
        if (one.key, one.n) not in known:
            known.add((one.key, one.n))
            firsts[one.key].append(one.n)
    return all(numbers == sorted(numbers) for numbers in firsts.values())


def identities(published: Sequence[Published]) -> set[tuple[str, int]]:
    return {(one.key, one.n) for one in published}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["the follower", "the leader"])
def test_two_daemons_share_four_shards_and_when_one_is_killed_the_other_takes_over_and_nothing_is_lost(
    kinesis: Any, dynamodb: Any, name: str, start: Start, watcher: Watcher, journal: Path, victim: str
) -> None:
    create_stream(kinesis, name, shards=4)
    publisher = Publisher(kinesis, name)
    publisher.start()
    try:
        daemons = [start("a"), start("b")]
        wait("both have shards", lambda: len(watcher.owners()) == 2, 180, *daemons)
        wait("both work", lambda: len({one.worker for one in tries(journal)}) == 2, 60, *daemons)
        leads = leader(dynamodb, name)
        (killed,) = [one for one in daemons if (one.worker == leads) == (victim == "the leader")]
        (left,) = [one for one in daemons if one is not killed]

        killed.kill()
        before = len(tries(journal))

        # KCL 3 waits for its leader's lock to end, two minutes, or for a dead worker's figures to be stale.
        wait("the other has all shards", lambda: watcher.owners() == {left.worker: 4}, 240, left)
    finally:
        published = publisher.stop()
    wait("everything is processed", lambda: done(journal) >= identities(published), 120, left)
    left.terminate()
    seen, made = watcher.stop(), tries(journal)

    assert {(one.key, one.n) for one in made} == identities(published)
    assert first_tries_in_order(made)
    assert passed_over(seen, published, made) == []
    assert {one.event_id for one in made} == {
        f"{name}/{one.shard}:{one.sequence_number}:{one.sub}" for one in published
    }
    # What the killed one had done and not checkpointed runs again, and nothing else.
    counts = Counter(one.event_id for one in made)
    again = {event_id for event_id, count in counts.items() if count > 1}
    print(f"{len(published)} records, {len(again)} of them twice after {victim} was killed")
    by_killed = {one.event_id for one in made[:before] if one.worker == killed.worker}
    assert again <= by_killed
    assert max(counts.values()) <= 2


@pytest.mark.timeout(400)
def test_a_record_that_fails_is_not_passed_over_and_a_later_daemon_goes_on_with_it_within_its_aggregate(
    kinesis: Any, dynamodb: Any, name: str, start: Start, watcher: Watcher, journal: Path, failing: Path
) -> None:
    create_stream(kinesis, name, shards=1)
    failing.touch()
    published = put(kinesis, name, "k", [{"n": 0}])
    published += put(kinesis, name, "k", [{"n": 1}, {"n": 2}, {"n": 3, "fails": True}, {"n": 4}])
    published += put(kinesis, name, "k", [{"n": 5}])
    first = start("first")
    wait("it was tried several times", lambda: sum(one.n == 3 for one in tries(journal)) >= 4, 120, first)

    # More comes, and the daemon is asked to end, while it fails.
    published += put(kinesis, name, "k", [{"n": 6}])
    wait("it was tried again", lambda: sum(one.n == 3 for one in tries(journal)) >= 6, 60, first)
    began = time.monotonic()
    first.terminate()
    took = time.monotonic() - began

    assert leases(dynamodb, name)[published[0].shard].checkpoint == published[2].position
    assert {one.n for one in tries(journal)} == {0, 1, 2, 3}
    assert took < 30

    failing.unlink()
    second = start("second")
    wait("everything is processed", lambda: len(done(journal)) == len(published), 120, second)
    second.terminate()
    seen, made = watcher.stop(), tries(journal)

    assert [one.n for one in made if one.worker == "second"] == [3, 4, 5, 6]
    assert passed_over(seen, published, made) == []
    assert leases(dynamodb, name)[published[0].shard].checkpoint == published[-1].position


@pytest.mark.timeout(400)
def test_a_shard_that_is_split_ends_when_all_of_it_is_settled_and_a_shutdown_leaves_the_checkpoint_at_the_last_record(
    kinesis: Any, dynamodb: Any, name: str, start: Start, watcher: Watcher, journal: Path, failing: Path
) -> None:
    create_stream(kinesis, name, shards=1)
    publisher = Publisher(kinesis, name)
    publisher.start()
    try:
        daemon = start("a")
        wait("it works", lambda: bool(tries(journal)), 120, daemon)
        failing.touch()
        last = put(kinesis, name, "k", [{"n": 0, "fails": True}])
        wait("it is tried", lambda: any(one.fails for one in tries(journal)), 60, daemon)
        parent = last[0].shard
        kinesis.split_shard(StreamName=name, ShardToSplit=parent, NewStartingHashKey=str(2**127))
        time.sleep(8)
        # It has not ended while its record fails, and so the children wait.
        assert leases(dynamodb, name)[parent].checkpoint < last[0].position
        failing.unlink()
        wait(
            "the children are read",
            lambda: len({one.event_id.split(":")[0] for one in tries(journal)}) == 3,
            150,
            daemon,
        )
    finally:
        published = publisher.stop() + last
    wait("everything is processed", lambda: done(journal) >= identities(published), 120, daemon)

    daemon.terminate()
    seen, made = watcher.stop(), tries(journal)

    assert {(one.key, one.n) for one in made} == identities(published)
    assert first_tries_in_order(made)
    assert passed_over(seen, published, made) == []
    table: dict[str, Lease] = leases(dynamodb, name)
    for shard in {one.shard for one in published} - {parent}:
        assert table[shard].checkpoint == max(one.position for one in published if one.shard == shard)
    counts = Counter(one.event_id for one in made if not one.fails)
    assert max(counts.values()) == 1


@pytest.mark.timeout(300)
def test_a_shutdown_finishes_the_run_that_is_on_and_checkpoints_it(
    kinesis: Any, dynamodb: Any, name: str, start: Start, journal: Path
) -> None:
    create_stream(kinesis, name, shards=1)
    published = [one for n in range(40) for one in put(kinesis, name, "k", [{"n": n}])]
    daemon = start("a", SECONDS_A_RECORD="0.2")
    wait("it works", lambda: bool(tries(journal)), 120, daemon)

    daemon.terminate()

    made = tries(journal)
    assert len(made) == len({one.n for one in made})
    assert leases(dynamodb, name)[published[0].shard].checkpoint == made[-1].position


@pytest.mark.timeout(600)
def test_a_process_that_dies_ends_its_daemon_and_the_next_one_begins_at_the_checkpoint(
    kinesis: Any, dynamodb: Any, name: str, start: Start, watcher: Watcher, journal: Path
) -> None:
    create_stream(kinesis, name, shards=1)
    published = [one for n in range(40) for one in put(kinesis, name, "k", [{"n": n}])]
    first = start("first", SECONDS_A_RECORD="0.2")
    wait("it works", lambda: len(tries(journal)) > 3, 120, first)

    os.kill(tries(journal)[0].pid, signal.SIGKILL)

    wait("the daemon ends", lambda: not first.is_running, 120)
    assert first.exit_code == 1
    assert len(tries(journal)) < 40
    second = start("second")
    # The first one led, and KCL 3 waits for its lock to end.
    wait("everything is processed", lambda: done(journal) >= identities(published), 240, second)
    second.terminate()
    seen, made = watcher.stop(), tries(journal)
    assert first_tries_in_order(made)
    assert passed_over(seen, published, made) == []
    assert [one.n for one in made if one.worker == "second"] == list(range(40))


@pytest.mark.timeout(200)
def test_an_aggregate_that_the_daemon_can_not_open_leaves_nothing_of_itself_in_its_log(
    kinesis: Any, name: str, start: Start
) -> None:
    # On Java 8, or with jaxb, it leaves it out. Without, as here, it fails for a class that is missing.
    create_stream(kinesis, name, shards=1)
    kinesis.put_record(StreamName=name, PartitionKey="k", Data=UNKNOWN_KEY)

    daemon = start("a")
    wait("it says so", lambda: re.search("DatatypeConverter|deaggregation", daemon.log.read_text()) is not None, 120)

    log = daemon.log.read_text()
    assert SECRET.decode() not in log
    # Within the aggregate it begins at a multiple of three bytes.
    assert base64.b64encode(SECRET)[4:-4].decode() not in log
