"""A small soak balances, and everything that can be wrong with one is told. `make soak` is the large one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from streamkit.kpl import UserRecord, aggregate
from streamkit.testing.contracts import LedgerContract

from .balance import Balance, Events, compared
from .faults import FAULTS
from .journal import Entry, Journal, Kind, entries
from .ledger import SqliteLedger
from .memory import growth
from .plan import STREAMS, Fate, Plan, _data
from .soak import Options, Report, new_folder, soak
from .sqs import Queue
from .store import opened

PLANTED = (
    "drop a confirmed message",
    "answer without writing",
    "write under another id",
    "reorder a key",
    "leave an id in the ledger",
    "leak",
)
BLOCK, DIVERT, PARK = (STREAMS.index(stream) for stream in ("block", "divert", "park"))


# Sixteen processes start for it, which a busy machine takes its time over.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def soaked() -> Iterator[tuple[Report, Report]]:
    """One as it is, and one with all that is planted."""
    small = Options(records=1200, seed=3, rate=0.02, kills=1, visibility=2, slack=20.0, ledger_patience=8.0)
    broken = Options(records=1200, seed=3, kills=0, visibility=2, slack=20.0, ledger_patience=8.0, planted=PLANTED)
    folders = [new_folder(), new_folder()]
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(soak, options, folder) for options, folder in zip((small, broken), folders, strict=True)]
        yield runs[0].result(), runs[1].result()
    for folder in folders:
        shutil.rmtree(folder)


def test_what_went_in_is_what_came_out(soaked: tuple[Report, Report]) -> None:
    report, _ = soaked

    assert report.wrong == []
    balance = report.balance
    assert balance.numbers == 1200
    assert balance.written + balance.letters == balance.events
    assert balance.letters >= balance.fates["poison"] + balance.fates["invalid"]
    # It went the whole way: by the queues, by failure documents and back from the dead letters, and processes died.
    assert min(balance.started_from_queue, balance.discarded, balance.repeats, report.put_back) > 0
    assert report.kills >= 2
    assert set(report.faults) == set(FAULTS)
    assert sum(happened for happened, _ in report.faults.values()) > 20


@pytest.mark.parametrize(
    "told",
    [
        # One that the queue did not have, and one that the sink did not write.
        "2 are missing: neither written nor dead letters",
        "1 rows have the id of no write",
        "started before an earlier one of their key",
        "are left in the ledger",
        "the memory of the retrier is not flat",
    ],
)
def test_what_is_planted_is_told(soaked: tuple[Report, Report], told: str) -> None:
    _, report = soaked

    assert [line for line in report.wrong if told in line], report.wrong


# The comparison, of accounts that are made by hand.


class Account:
    """What a soak of three records of one key leaves, to be spoilt."""

    def __init__(
        self, path: Path, stream: int = BLOCK, fates: tuple[Fate, ...] = (Fate.GOOD, Fate.GOOD, Fate.GOOD)
    ) -> None:
        self.stream, name = stream, STREAMS[stream]
        self.events = Events()
        records = [UserRecord(_data(n, 0, "key", fate), "key") for n, fate in enumerate(fates)]
        self.events.add(stream, 0, 1, aggregate(records[:2]))
        self.events.add(stream, 0, 2, aggregate(records[2:]))
        self.ids = [f"soak-{name}/shardId-000000000000:{place}" for place in ("1:0", "1:1", "2:0")]
        self.store = opened(path / "store.sqlite")
        for n in range(3):
            if fates[n] is Fate.GOOD:
                self.store.execute("INSERT INTO rows VALUES (?, ?, 1)", (f"{self.ids[n]}/soaked-{name}/0", n))
        self.document = (name, "key", 2, f"{self.ids[2]}/soaked-{name}/0")
        self.letters: list[tuple[str, str, str, str]] = []
        self.journal = [
            Entry(Kind.INVOKED, stream, 0, 1, 2),
            *(
                Entry(kind, stream, 0, *place)
                for place in ((1, 0), (1, 1), (2, 0))
                for kind in (Kind.STARTED, Kind.THROUGH)
            ),
            Entry(Kind.ANSWERED, stream, 0, 3, 0),
        ]

    def told(self) -> list[str]:
        return self.balance().wrong

    def balance(self) -> Balance:
        self.store.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", self.document)
        return compared(self.events, self.store, iter(self.letters), iter(self.journal), 3)


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    account = Account(tmp_path)
    yield account
    account.store.close()


def test_an_account_that_balances_has_nothing_wrong(account: Account) -> None:
    balance = account.balance()

    assert balance.wrong == []
    assert (balance.written, balance.repeats, balance.starts, balance.lost_answers) == (3, 0, 3, 0)


def test_a_row_that_is_gone_is_missing(account: Account) -> None:
    account.store.execute("DELETE FROM rows WHERE number = 1")

    assert account.told() == ["1 are missing: neither written nor dead letters: 1"]


def test_a_row_that_holds_another_record_is_told(account: Account) -> None:
    account.store.execute("UPDATE rows SET number = 0 WHERE number = 1")

    assert account.told() == [f"1 rows hold another record than their id says: {account.ids[1]}/soaked-block/0"]


@pytest.mark.parametrize("end", ["1:0/soaked-block/1", "1:0/soaked-park/0", "9:0/soaked-block/0", "x"])
def test_a_row_under_an_id_that_nothing_has_is_told(account: Account, end: str) -> None:
    write_id = f"soak-block/shardId-000000000000:{end}"
    account.store.execute("INSERT INTO rows VALUES (?, 0, 1)", (write_id,))

    assert account.told() == [f"1 rows have the id of no write: {write_id}"]


def test_repeats_under_one_id_are_counted_and_no_mistake(account: Account) -> None:
    account.store.execute("UPDATE rows SET times = 4 WHERE number = 1")

    balance = account.balance()

    assert balance.wrong == []
    assert (balance.repeats, balance.repeated, balance.most_writes) == (3, 1, 4)


def test_a_letter_of_what_was_to_be_written_is_told(account: Account) -> None:
    account.letters.append((account.ids[1], "dead", "Reject", ""))

    assert account.told() == [
        "1 are written and dead letters, both: 1",
        "1 are dead letters for good, and were to be written: 1",
    ]


def test_a_letter_of_nothing_is_told(account: Account) -> None:
    account.letters.append(("soak-block/shardId-000000000000:7:0", "dead", "Reject", "why"))

    assert account.told() == ["1 dead letters are of no event: soak-block/shardId-000000000000:7:0 (dead: Reject: why)"]


def test_poison_has_to_be_a_letter(tmp_path: Path) -> None:
    account = Account(tmp_path, fates=(Fate.POISON, Fate.GOOD, Fate.GOOD))

    assert account.told() == ["1 can never succeed, and are no dead letters: 0"]
    account.store.close()


def test_a_number_that_is_in_no_stream_is_told(account: Account) -> None:
    account.store.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", account.document)

    balance = compared(account.events, account.store, iter(()), iter(account.journal), 4)

    assert balance.wrong == ["1 numbers were put and are in no stream: 3"]


@pytest.mark.parametrize("stream", [BLOCK, PARK])
def test_a_record_that_starts_before_an_earlier_one_has_been_through_is_told(tmp_path: Path, stream: int) -> None:
    account = Account(tmp_path, stream)
    del account.journal[2]  # The first one comes through nowhere.

    assert account.told() == [
        f"2 started before an earlier one of their key: 1 before 0 ({STREAMS[stream]}), 2 before 0 ({STREAMS[stream]})"
    ]
    account.store.close()


def test_under_divert_an_earlier_one_needs_only_to_have_started(tmp_path: Path) -> None:
    account = Account(tmp_path, DIVERT)
    del account.journal[2]

    assert account.told() == []
    account.store.close()


def test_one_that_was_given_up_holds_nothing(tmp_path: Path) -> None:
    account = Account(tmp_path, PARK)
    account.journal[2] = Entry(Kind.LETTER, PARK, 0, 1, 0)

    assert account.told() == []
    account.store.close()


def test_a_batch_that_begins_before_what_was_answered_for_is_told(account: Account) -> None:
    account.journal.append(Entry(Kind.INVOKED, BLOCK, 0, 2, 2))

    assert account.told() == ["1 batches began before what was answered for: block 0: 2 after 3"]


def test_after_a_killed_process_a_batch_may_begin_where_the_last_one_did_and_not_before(account: Account) -> None:
    account.journal += [Entry(Kind.TAKEN, 0, 0, 0, 0), Entry(Kind.INVOKED, BLOCK, 0, 1, 2)]
    account.journal += [Entry(Kind.INVOKED, BLOCK, 0, 0, 2)]

    assert account.told() == ["1 batches began before what was answered for: block 0: 0 after 1"]


def test_a_key_that_is_left_with_an_older_record_is_told(account: Account) -> None:
    account.document = ("block", "key", 0, f"{account.ids[0]}/soaked-block/0")

    assert account.told() == ["1 keys have an older record than their last: key of soaked-block: 0, not 2"]


def test_one_that_came_back_from_the_dead_letters_may_be_the_last_write_of_its_key(account: Account) -> None:
    account.document = ("block", "key", 0, f"{account.ids[0]}/soaked-block/0")
    account.journal.append(Entry(Kind.DISCARDED, BLOCK, 0, 1, 0))

    assert account.told() == []


# What stands in for a service.


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Iterator[SqliteLedger]:
        ledger = SqliteLedger(tmp_path / "ledger.sqlite")
        yield ledger
        ledger.close()

    def unreachable(self, ledger: SqliteLedger) -> AbstractContextManager[object]:
        return self._down(ledger)

    @contextmanager
    def _down(self, ledger: SqliteLedger) -> Iterator[None]:
        connection = ledger._connection
        ledger._connection = sqlite3.connect(":memory:")  # A database without the table.
        yield
        ledger._connection.close()
        ledger._connection = connection


def test_two_ledgers_on_one_file_see_each_other(tmp_path: Path) -> None:
    one, other = SqliteLedger(tmp_path / "ledger.sqlite"), SqliteLedger(tmp_path / "ledger.sqlite")

    one.add("orders", "group", ["a"], 10.0, deadline=0.0)

    assert other.add("orders", "group", ["b"], 9.0, deadline=0.0) == 10.001
    assert {name: pending.added for name, pending in one.parked("orders", deadline=0.0)["group"].pending.items()} == {
        "a": 10.0,
        "b": 10.001,
    }
    one.close()
    other.close()


def received(queue: Queue, now: float, most: int = 10) -> list[str]:
    return [message.body for message in queue.receive(most, 5.0, now)]


def test_a_fifo_queue_of_the_soak_keeps_the_order_of_a_group_that_comes_again() -> None:
    queue = Queue("q.fifo", {})
    for body in ("a1", "a2", "b1", "a3"):
        queue.send(body, 0.0, group=body[0], deduplication_id=body)

    first = queue.receive(2, 5.0, 0.0)
    assert [message.body for message in first] == ["a1", "a2"]
    assert received(queue, 1.0) == ["b1"]
    queue.delete(first[1].receipt)
    # a1 comes again, and a3 does not pass it.
    assert received(queue, 4.9) == []
    assert received(queue, 5.5) == ["a1", "a3"]


def test_a_fifo_queue_of_the_soak_drops_what_it_has_seen_for_five_minutes() -> None:
    queue = Queue("q.fifo", {})
    queue.send("a", 0.0, group="g", deduplication_id="1")
    (message,) = queue.receive(1, 5.0, 0.0)
    queue.delete(message.receipt)

    queue.send("a", 299.0, group="g", deduplication_id="1")
    assert received(queue, 299.0) == []
    queue.send("a", 300.0, group="g", deduplication_id="1")
    assert received(queue, 300.0) == ["a"]


def test_a_queue_of_the_soak_hides_what_is_delayed_or_in_flight_and_counts_it() -> None:
    queue = Queue("q", {})
    for body, delay in (("a", 0.0), ("b", 3.0), ("c", 0.0)):
        queue.send(body, 0.0, delay=delay)

    (message,) = queue.receive(1, 5.0, 0.0)
    old = message.receipt
    counts = queue.counts(1.0)

    assert [int(counts[name]) for name in sorted(counts)] == [1, 1, 1]
    assert received(queue, 1.0) == ["c"]
    assert received(queue, 4.0) == ["b"]
    assert queue.hide(old, 0.0, 4.0)
    (again,) = queue.receive(1, 5.0, 4.0)
    last = again.receipt
    # By an old receipt nothing is deleted.
    queue.delete(old)
    assert received(queue, 9.5) == ["a", "b", "c"]
    assert not queue.hide(last, 0.0, 9.5)


# Memory, the journal, the plan.


def test_memory_that_grows_after_its_first_fifth_is_told() -> None:
    assert growth([50.0] * 20 + [100.0] * 80) is None
    assert growth([100.0] * 40 + [109.0] * 60) is None
    assert growth([100.0 + n / 2 for n in range(100)]) == "144.8 MB at the end, 114.8 MB in the second fifth"
    assert growth([400.0] * 40 + [430.0] * 60) is None
    assert growth([400.0] * 40 + [450.0] * 60) is not None
    assert growth([100.0] * 10) == "10 samples are too few to tell"


def test_entries_of_several_journals_of_one_file_are_in_their_order(tmp_path: Path) -> None:
    one, other = Journal(tmp_path / "journal"), Journal(tmp_path / "journal")

    one.add(Kind.STARTED, 2, 1, 70_000, 3)
    other.add(Kind.TAKEN, 0, 0)
    one.add(Kind.THROUGH, 2, 1, 70_000, 3)
    one.close()
    other.close()

    kinds = [Kind.STARTED, Kind.TAKEN, Kind.THROUGH]
    assert [entry.kind for entry in entries(tmp_path / "journal")] == kinds
    assert next(iter(entries(tmp_path / "journal"))) == Entry(Kind.STARTED, 2, 1, 70_000, 3)


def test_a_seed_says_what_goes_in() -> None:
    one, same, other = (Plan(500, 2, seed, 0.01) for seed in (1, 1, 2))

    assert list(one.round(0)) == list(same.round(0))
    assert list(one.round(0)) != list(other.round(0))
    assert sum(put.records for number in range(2) for put in one.round(number)) == 500
