from __future__ import annotations

import copy
import json
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from streamkit import (
    Block,
    DecodeError,
    Divert,
    Park,
    Record,
    RecordProcessor,
    Reject,
    StreamkitError,
    Unavailable,
    Write,
    correlation,
    kpl,
    lambda_handler,
)
from streamkit.errors import BatchFailed, ConfigurationError
from streamkit.event import Batch
from streamkit.fanout import FanOut
from streamkit.handler import Handler
from streamkit.ledgers.memory import MemoryLedger
from streamkit.parking import sweep
from streamkit.plans.memory import MemoryPlans
from streamkit.policy import Policy
from streamkit.progress.memory import MemoryProgress
from streamkit.sinks.base import ShardSink
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink
from streamkit.testing import Crash, EventSourceMapping, MemoryQueue, MemorySink, kinesis_event
from streamkit.window import WindowProcessor

from .exactly_once.world import MemoryStreams, table_of

SUCCESS: dict[str, list[Any]] = {"batchItemFailures": []}
START = 100


def payloads(count: int) -> list[str]:
    return [f"record-{n}" for n in range(count)]


def event(count: int = 4, start: int = START) -> dict[str, Any]:
    return kinesis_event(payloads(count), start=start)


def named(answer: dict[str, Any]) -> list[int]:
    """The places of the records that the answer names, in an event that begins with START."""
    return [int(failure["itemIdentifier"]) - START for failure in answer["batchItemFailures"]]


class Branch(RecordProcessor):
    """Notes what it runs, and fails where it is told to."""

    def __init__(
        self,
        name: str,
        fails: Callable[[str], Exception | None] = lambda text: None,
        on_failure: Policy | None = None,
        ordering: Any = "key",
    ) -> None:
        self.name = name
        self.fails = fails
        self.on_failure = on_failure or Block()
        self.ordering = ordering
        self.sink = MemorySink()
        self.ran: list[str] = []

    def process(self, record: Record) -> Iterator[Write]:
        text = record.data.decode()
        self.ran.append(text)
        error = self.fails(text)
        if error is not None:
            raise error
        yield self.sink.item(text)


def at(*places: int, error: type[Exception] = ValueError) -> Callable[[str], Exception | None]:
    texts = {f"record-{place}" for place in places}
    return lambda text: error("bad") if text in texts else None


def shown(records: Sequence[str], start: int = 0) -> list[str]:
    return list(records[start:])


class Clock:
    """Lambda's context, whose time the branches use up."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def get_remaining_time_in_millis(self) -> float:
        return self.left * 1000


class Slow(Branch):
    def __init__(self, name: str, clock: Clock, seconds: float, margin: float = 1.0) -> None:
        super().__init__(name)
        self.clock = clock
        self.seconds = seconds
        self.deadline_margin = margin

    def process(self, record: Record) -> Iterator[Write]:
        self.clock.left -= self.seconds
        yield from super().process(record)


class TestTheBranches:
    def test_may_be_classes_instances_and_factories_as_lambda_handler_takes_them(self) -> None:
        class Search(RecordProcessor):
            name = "search"
            sink = MemorySink()

            def process(self, record: Record) -> Write:
                return self.sink.item(record.data)

        audit, ledger = Branch("audit"), Branch("ledger")

        assert lambda_handler(FanOut(Search, audit, lambda: ledger))(event(2)) == SUCCESS

        assert Search.sink.items == [b"record-0", b"record-1"]
        assert audit.ran == ledger.ran == payloads(2)

    def test_are_made_at_the_first_invocation_and_once(self) -> None:
        made: list[Branch] = []

        def make() -> Branch:
            made.append(Branch("audit"))
            return made[-1]

        handler = lambda_handler(FanOut(make, Branch("search")))
        assert made == []

        handler(event(1))
        handler(event(1))

        assert len(made) == 1

    def test_are_made_by_a_ping_that_says_so_and_run_nothing(self) -> None:
        made: list[Branch] = []

        def make() -> Branch:
            made.append(Branch("audit"))
            return made[-1]

        handler = lambda_handler(FanOut(make))
        assert handler({"warmer": True}) == SUCCESS
        assert made == []

        assert handler({"streamkit": "warm", "build": True})["batchItemFailures"] == []

        assert [branch.ran for branch in made] == [[]]

    @pytest.mark.parametrize("branch", [None, 7, "search", MemorySink()])
    def test_may_be_nothing_else(self, branch: Any) -> None:
        with pytest.raises(TypeError, match="a branch is a RecordProcessor's class, an instance or a factory"):
            FanOut(Branch("search"), branch)

    def test_are_not_none_at_all(self) -> None:
        with pytest.raises(ConfigurationError, match="needs branches"):
            FanOut()

    @pytest.mark.parametrize("fan_out", [lambda: FanOut(Branch("a")), FanOut(Branch("a"))])
    def test_are_a_handlers_source_like_a_processor_or_its_factory(self, fan_out: Any) -> None:
        assert lambda_handler(fan_out)(event(1)) == SUCCESS

    def test_together_have_a_name_of_their_own_or_the_names_of_all(self) -> None:
        class Search(RecordProcessor):
            name = "search"

        assert FanOut(Search, Branch("audit")).name == "search+audit"
        assert FanOut(Search, Branch("audit"), name="orders").name == "orders"

    def test_that_can_not_be_made_fails_alone_and_is_made_again(self, caplog: pytest.LogCaptureFixture) -> None:
        down = [ConnectionError("the registry is down")]
        search = Branch("search")

        def make() -> Branch:
            if down:
                raise down[0]
            return Branch("audit")

        handler = lambda_handler(FanOut(make, search, progress=MemoryProgress()))

        assert named(handler(event(2))) == [0]
        assert search.sink.items == payloads(2)
        assert "the registry is down" in caplog.text
        down.clear()
        assert handler(event(2)) == SUCCESS
        assert search.ran == payloads(2), "it had settled them all"

    def test_whose_factory_makes_no_processor_fails_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        search = Branch("search")

        assert named(lambda_handler(FanOut(lambda: 7, search))(event(2))) == [0]  # type: ignore[arg-type, return-value]

        assert search.ran == payloads(2)
        assert "made a int, not a RecordProcessor" in caplog.text

    def test_are_closed_with_what_they_hold_each_thing_once(self) -> None:
        closed: list[str] = []

        class Closing(MemorySink):
            def close(self) -> None:
                closed.append("sink")

        class Ends(Branch):
            def close(self) -> None:
                closed.append(self.name)

        one, other = Ends("one"), Ends("other")
        one.sink = other.sink = Closing()
        handler = lambda_handler(FanOut(one, other))
        handler(event(1))

        handler.close()

        assert closed == ["one", "other", "sink"]


class TestWhatFollowsAnEvent:
    def test_is_seen_by_each_branch_for_binary_data_too(self) -> None:
        seen: list[tuple[str, bytes, str]] = []

        class Looks(RecordProcessor):
            def __init__(self, name: str) -> None:
                self.name = name

            def process(self, record: Record) -> None:
                seen.append((self.name, record.data[:1], correlation.current().id))

        with correlation.use(correlation.of_event({"headers": {"x-correlation-id": "r-1"}})):
            sent = [correlation.attach(b"\xff", envelope=True), correlation.attach(b'{"n": 1}')]

        answer = lambda_handler(FanOut(Looks("one"), Looks("two")))(kinesis_event(sent))

        assert answer == SUCCESS
        assert seen == [(name, first, "r-1") for name in ("one", "two") for first in (b"\xff", b"{")]


class TestWhatCanNotStandBesideEachOther:
    def test_are_two_branches_of_one_name(self) -> None:
        with pytest.raises(ConfigurationError, match="audit: is the name of two branches"):
            FanOut(Branch("audit"), Branch("audit"))

    def test_are_two_whose_names_only_their_factories_know(self) -> None:
        first = Branch("audit")
        handler = lambda_handler(FanOut(lambda: first, lambda: Branch("audit")))

        with pytest.raises(ConfigurationError, match="audit: is the name of two branches"):
            handler(event(1))
        assert first.ran == []

    def test_is_a_window(self) -> None:
        class Totals(WindowProcessor):
            name = "totals"

        with pytest.raises(ConfigurationError, match=r"totals: folds windows.*deploy it by itself"):
            FanOut(Branch("audit"), Totals)

    def test_is_a_fan_out_within_another(self) -> None:
        with pytest.raises(ConfigurationError, match="is a FanOut itself: give its branches to this one"):
            FanOut(Branch("audit"), FanOut(Branch("search")))

    def test_are_dead_letters_that_bring_back_what_was_given_up(self) -> None:
        shared = MemoryQueue()

        with pytest.raises(ConfigurationError, match="audit: has the retry queue of search as its dead letters"):
            FanOut(Branch("search", on_failure=Divert(shared)), Branch("audit", on_failure=Block(shared)))

    def test_is_a_progress_that_is_no_store(self) -> None:
        with pytest.raises(ConfigurationError, match="takes a progress store"):
            FanOut(Branch("audit"), progress=MemorySink())  # type: ignore[arg-type]


class TestFindings:
    def findings(self, *branches: Branch, progress: MemoryProgress | None = None) -> list[tuple[str, str, str]]:
        found = FanOut(*branches, progress=progress).findings()
        return [(finding.severity, finding.where, finding.message) for finding in found]

    def test_warn_that_block_holds_the_next_records_for_all(self) -> None:
        search = Branch("search", on_failure=Divert(MemoryQueue()))

        found = self.findings(search, Branch("audit"), progress=MemoryProgress())

        assert [(severity, where) for severity, where, _ in found] == [("warning", "audit")]
        assert "holds the next records for all branches" in found[0][2]

    def test_warn_of_each_branch_without_progress(self) -> None:
        queue = MemoryQueue()

        found = self.findings(*(Branch(name, on_failure=Divert(queue)) for name in ("a", "b")))

        assert [where for _, where, message in found if "has no progress" in message] == ["a", "b"]

    def test_are_none_of_a_single_branch_for_there_is_nobody_to_hold_or_repeat(self) -> None:
        assert self.findings(Branch("a")) == []

    def test_of_missing_progress_are_in_the_log_too_once_a_container(self, caplog: pytest.LogCaptureFixture) -> None:
        handler = lambda_handler(FanOut(Branch("a"), Branch("b")))

        handler(event(1))
        handler(event(1))

        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
        assert "a: the branch has no progress" in caplog.text

    def test_are_none_where_all_is_well(self) -> None:
        assert self.findings(Branch("a", on_failure=Divert(MemoryQueue())), progress=MemoryProgress()) == []


class TestProgress:
    def test_is_given_to_every_branch_that_has_none(self) -> None:
        given, own = MemoryProgress(), MemoryProgress()
        search, audit = Branch("search"), Branch("audit")
        audit.progress = own

        lambda_handler(FanOut(search, audit, progress=given))(event(1))

        assert (search.progress, audit.progress) == (given, own)

    def test_is_not_given_to_a_branch_whose_sink_keeps_account_itself(self) -> None:
        class Account(ShardSink):
            def check(self, processor: Any) -> None:
                return

            def write_from(self, first: Record, writes: Sequence[Write], *, deadline: float) -> list[Any]:
                return []

        exact = Branch("exact")
        exact.sink = Account()  # type: ignore[assignment]

        lambda_handler(FanOut(exact, Branch("audit"), progress=MemoryProgress()))({"Records": []})

        assert exact.progress is None

    @pytest.mark.parametrize("seed", range(20))
    def test_is_not_needed_for_rows_that_are_written_exactly_once(self, seed: int) -> None:
        """Whatever another branch brings again, and however the batches are cut, each row is in once and in order."""
        chance, streams, plans = random.Random(seed), MemoryStreams(), MemoryPlans()

        class Rows(RecordProcessor):
            name = "rows"
            ordering = "shard"
            warehouse = BigQueryExactlyOnceSink("shop.orders", plans, client=table_of(), streams=streams)

            def process(self, record: Record) -> Write:
                return self.warehouse.row({"id": record.data.decode(), "run": 1})

        other = Branch("other", lambda text: ValueError("bad") if chance.random() < 0.3 else None)
        handler = lambda_handler(FanOut(Rows, other, progress=chance.choice([None, MemoryProgress()])))
        mapping = EventSourceMapping(handler, batch_size=4, function_response_types=["ReportBatchItemFailures"])
        for text in payloads(15):
            mapping.put(text.encode(), "key")
            mapping.advance(chance.choice([0, 1, 5]))
        mapping.run_until_idle()

        assert streams.written() == dict.fromkeys(payloads(15), 1)
        assert set(other.sink.items) == set(payloads(15))

    def test_of_a_branch_is_kept_under_its_own_name(self) -> None:
        store = MemoryProgress()

        lambda_handler(FanOut(Branch("search"), Branch("audit", at(1)), progress=store))(event(2))

        shard = "stream/shardId-000000000000"
        assert store.entries("search", shard, START, deadline=0.0)
        assert store.entries("audit", shard, START, deadline=0.0)

    def test_keeps_a_failing_branch_from_repeating_another(self) -> None:
        search, audit = Branch("search"), Branch("audit", at(2))
        handler = lambda_handler(FanOut(search, audit, progress=MemoryProgress()))

        first = handler(event(4))
        second = handler(kinesis_event(payloads(4)[2:], start=START + 2))

        assert named(first) == named(second) == [2]
        assert search.ran == payloads(4)
        assert audit.ran == [*payloads(4), "record-2"]

    def test_missing_lets_a_failing_branch_repeat_the_others_from_its_failure_on(self) -> None:
        search, audit = Branch("search"), Branch("audit", at(2))
        handler = lambda_handler(FanOut(search, audit))

        handler(event(4))
        handler(kinesis_event(payloads(4)[2:], start=START + 2))

        assert search.ran == [*payloads(4), *payloads(4)[2:]]
        assert search.sink.items == payloads(4), "under the same write ids"

    def test_of_a_batch_that_all_have_settled_is_not_written(self) -> None:
        class Counting(MemoryProgress):
            saves = 0

            def save(self, *args: Any, **arguments: Any) -> None:
                self.saves += 1
                super().save(*args, **arguments)

        store = Counting()
        handler = lambda_handler(FanOut(Branch("search"), Branch("audit"), Branch("ledger"), progress=store))
        handler(event(1))
        at_first = store.saves

        handler(event(2, start=START + 1))

        assert at_first == 2, "a container saves at each step, the first time that it has a shard"
        assert store.saves == at_first

    def test_that_fails_costs_duplicates_and_nothing_else(self) -> None:
        class Down(MemoryProgress):
            def save(self, *args: Any, **arguments: Any) -> None:
                raise ConnectionError("progress is down")

        search, audit = Branch("search"), Branch("audit", at(1))
        handler = lambda_handler(FanOut(search, audit, progress=Down()))

        assert named(handler(event(3))) == [1]
        assert named(handler(event(3))) == [1]
        assert search.ran == payloads(3) * 2

    def test_of_what_is_done_is_kept_when_the_next_branch_kills_the_container(self) -> None:
        store, search = MemoryProgress(), Branch("search")

        def container(fails: Callable[[str], Exception | None]) -> Handler:
            return lambda_handler(FanOut(search, Branch("audit", fails), progress=store))

        def die(text: str) -> None:
            raise Crash

        with pytest.raises(Crash):
            container(die)(event(3))
        assert container(at())(event(3)) == SUCCESS

        assert search.ran == payloads(3)

    def test_is_kept_at_each_step_again_by_a_container_that_an_invocation_was_stopped_in(self) -> None:
        store, search = MemoryProgress(), Branch("search")
        deaths = [False, True, True, False]

        def die(text: str) -> None:
            if deaths[0]:
                raise Crash

        handler = lambda_handler(FanOut(search, Branch("audit", die), progress=store))
        second = event(1, start=START + 1)
        handler(event(1))
        for _ in range(2):
            deaths.pop(0)
            with pytest.raises(Crash):
                handler(second)
        deaths.pop(0)

        assert handler(second) == SUCCESS
        assert len(search.ran) == 3, "its own, and one repeat: the first death was in a container that had come through"


class TestTheAnswer:
    def test_names_the_lowest_position_that_some_branch_has_not_settled(self) -> None:
        one, other = Branch("one", at(3)), Branch("other", at(1))

        assert named(lambda_handler(FanOut(one, other, progress=MemoryProgress()))(event(5))) == [1]

    def test_is_of_the_lowest_number_as_an_integer(self) -> None:
        one, other = Branch("one", at(0)), Branch("other", at(1))
        numbers = kinesis_event(payloads(2), start=99)  # 99 and 100

        answer = lambda_handler(FanOut(one, other, progress=MemoryProgress()))(numbers)

        assert answer == {"batchItemFailures": [{"itemIdentifier": "99"}]}

    def test_hands_a_windows_state_through(self) -> None:
        called = event(1) | {"window": {}, "state": {"a": 1}}

        assert lambda_handler(FanOut(Branch("one")))(called)["state"] == {"a": 1}

    def test_is_shown_to_the_observer_branch_by_branch(self) -> None:
        seen: list[Batch] = []
        handler = lambda_handler(FanOut(Branch("one"), Branch("other", at(0))))
        handler.observer = seen.append

        handler(event(1))

        assert [batch.is_done() for batch in seen] == [True, False]


class TestABranchThatFails:
    def test_does_not_fail_another(self) -> None:
        one, other = Branch("one", at(0)), Branch("other")

        lambda_handler(FanOut(one, other))(event(3))

        assert one.ran == ["record-0"], "Block without progress: nothing starts once a failure is known"
        assert other.sink.items == payloads(3)

    def test_under_divert_never_delays_another(self) -> None:
        retries, search = MemoryQueue(), Branch("search")
        handler = lambda_handler(FanOut(Branch("audit", at(0, 1), Divert(retries)), search))
        mapping = EventSourceMapping(handler, function_response_types=["ReportBatchItemFailures"])
        for text in payloads(3):
            mapping.put(text.encode(), "key")

        mapping.run_until_idle()

        assert len(mapping.invocations) == 1
        assert search.ran == payloads(3)
        assert [envelope.processor for envelope in retries] == ["audit", "audit"]

    def test_under_block_holds_the_next_records_for_all(self) -> None:
        blocks = [True]
        search = Branch("search")
        audit = Branch("audit", lambda text: ValueError("bad") if blocks else None)
        handler = lambda_handler(FanOut(search, audit, progress=MemoryProgress()))
        mapping = EventSourceMapping(handler, batch_size=2, function_response_types=["ReportBatchItemFailures"])
        for text in payloads(4):
            mapping.put(text.encode(), "key")
        mapping.advance(60)
        assert search.ran == payloads(2)

        blocks.clear()
        mapping.run_until_idle()

        assert search.ran == payloads(4)
        assert audit.sink.items == payloads(4)

    def test_in_prepare_touches_itself_only(self) -> None:
        class Prepared(Branch):
            def prepare(self, records: Sequence[Record]) -> None:
                raise ConnectionError("down")

        one, other = Prepared("one"), Branch("other")

        assert named(lambda_handler(FanOut(one, other))(event(2))) == [0]
        assert (one.ran, other.ran) == ([], payloads(2))

    def test_in_its_own_set_up_touches_itself_only(self, caplog: pytest.LogCaptureFixture) -> None:
        parked = Branch("parked", on_failure=Park(MemoryQueue(), MemoryLedger()))  # No FIFO queue.
        other = Branch("other")

        assert named(lambda_handler(FanOut(parked, other))(event(2))) == [0]

        assert other.ran == payloads(2)
        assert "parked: the branch failed" in caplog.text

    def test_after_it_has_run_records_leaves_unsettled_what_was_perhaps_not_delivered(self) -> None:
        class Broken(MemoryQueue):
            @property
            def fifo(self) -> bool:
                raise RuntimeError("a bug of its queue's")

        store, other = MemoryProgress(), Branch("other")
        one = Branch("one", at(2), Divert(Broken()))
        handler = lambda_handler(FanOut(one, other, progress=store))

        assert named(handler(event(4))) == [0]

        assert one.ran == payloads(3)
        assert one.sink.items == [], "its writes were held, for a request that was never made"
        assert other.ran == payloads(4)
        one.fails = at()
        assert handler(event(4)) == SUCCESS
        assert one.sink.items == payloads(4)

    def test_leaves_nothing_behind_in_a_warm_container(self) -> None:
        fails = [True]
        one, other = Branch("one", lambda text: ValueError("bad") if fails else None), Branch("other")
        handler = lambda_handler(FanOut(one, other))
        assert named(handler(event(2))) == [0]

        fails.clear()

        assert handler(event(2)) == SUCCESS
        assert one.sink.items == payloads(2)

    def test_and_whose_dependency_is_down_leaves_its_records_in_the_stream(self) -> None:
        retries, other = MemoryQueue(), Branch("other")
        one = Branch("one", at(0, error=Unavailable), Divert(retries))

        assert named(lambda_handler(FanOut(one, other))(event(2))) == [0]
        assert len(retries) == 0
        assert other.ran == payloads(2)

    def test_each_has_its_own_order(self) -> None:
        """``shard`` holds all that follows, ``none`` nothing, in the same batch."""
        shard = Branch("shard", at(0), ordering="shard")
        none = Branch("none", at(0), ordering="none")

        lambda_handler(FanOut(shard, none, progress=MemoryProgress()))(event(3))

        assert (shard.ran, none.ran) == (["record-0"], payloads(3))

    def test_each_has_its_own_dead_letters_under_its_name(self) -> None:
        one_letters, other_letters = MemoryQueue(), MemoryQueue()
        one = Branch("one", at(0, error=Reject), Block(one_letters))
        other = Branch("other", at(1, error=Reject), Block(other_letters))

        assert lambda_handler(FanOut(one, other))(event(2)) == SUCCESS

        assert [(letter.processor, letter.data) for letter in one_letters] == [("one", b"record-0")]
        assert [(letter.processor, letter.data) for letter in other_letters] == [("other", b"record-1")]


class TestTheViewOfARecord:
    def test_is_a_branchs_own(self) -> None:
        seen: list[Any] = []

        class Reads(Branch):
            def process(self, record: Record) -> None:  # type: ignore[override]
                value = record.json()
                seen.append(copy.deepcopy(value))
                value["items"].append("changed")

        lambda_handler(FanOut(Reads("one"), Reads("other")))(kinesis_event([{"items": []}]))

        assert seen == [{"items": []}, {"items": []}]

    def test_is_a_branchs_own_in_prepare_too(self) -> None:
        kept: list[Any] = []

        class Prepares(Branch):
            def prepare(self, records: Sequence[Record]) -> None:
                kept.append(records[0].json())
                kept[-1]["by"] = self.name

            def process(self, record: Record) -> None:  # type: ignore[override]
                assert record.json() == {"a": 1, "by": "one"}

        assert lambda_handler(FanOut(Prepares("one"), Reads("other")))(kinesis_event([{"a": 1}])) == SUCCESS
        assert kept == [{"a": 1, "by": "one"}]

    def test_is_not_what_another_has_made_of_it_in_prepare(self) -> None:
        class Spoils(Branch):
            def prepare(self, records: Sequence[Record]) -> None:
                records[0].json()["a"] = "spoilt"
                raise ConnectionError("down")

        other = Reads("other")

        lambda_handler(FanOut(Spoils("one"), other, progress=MemoryProgress()))(kinesis_event([{"a": 1}]))

        assert other.ran == ['{"a":1}']

    def test_shares_the_bytes_which_are_decoded_once(self) -> None:
        seen: list[bytes] = []

        class Keeps(Branch):
            def process(self, record: Record) -> None:  # type: ignore[override]
                seen.append(record.data)

        lambda_handler(FanOut(Keeps("one"), Keeps("other")))(event(1))

        assert seen[0] is seen[1]

    def test_of_an_aggregate_is_opened_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[bytes] = []
        deaggregate = kpl.deaggregate

        def count(data: bytes, **options: Any) -> Any:
            opened.append(data)
            return deaggregate(data, **options)

        monkeypatch.setattr(kpl, "deaggregate", count)
        data = kpl.aggregate([kpl.UserRecord(text.encode(), "key") for text in payloads(3)])
        one, other = Branch("one"), Branch("other")

        assert lambda_handler(FanOut(one, other))(kinesis_event([data])) == SUCCESS

        assert one.ran == other.ran == payloads(3)
        assert opened == [data]

    def test_may_differ_by_how_a_damaged_aggregate_is_taken(self) -> None:
        damaged = kpl.aggregate([kpl.UserRecord(b"a", "key")])[:-3]
        letters = MemoryQueue()
        seen: list[bytes] = []

        class Lenient(RecordProcessor):
            name = "lenient"
            aggregates = "lenient"

            def process(self, record: Record) -> None:
                seen.append(record.data)

        handler = lambda_handler(FanOut(Branch("strict", on_failure=Block(letters)), Lenient))

        assert handler(kinesis_event([damaged])) == SUCCESS
        assert seen == [damaged]
        assert [letter.failures[0].type for letter in letters] == ["DecodeError"]

    def test_of_data_that_is_not_base64_fails_in_each_branch_that_asks_for_it(self) -> None:
        class Ignores(RecordProcessor):
            name = "ignores"

            def process(self, record: Record) -> None:
                return

        bad = event(1)
        bad["Records"][0]["kinesis"]["data"] = "?"
        letters = MemoryQueue()

        assert lambda_handler(FanOut(Ignores, Branch("reads", on_failure=Block(letters))))(bad) == SUCCESS
        assert [letter.processor for letter in letters] == ["reads"]


class Reads(Branch):
    def process(self, record: Record) -> None:  # type: ignore[override]
        assert record.json() == {"a": 1}
        self.ran.append(record.data.decode())


class TestTheShareOfTheTime:
    def test_is_what_remains_divided_by_the_branches_that_are_still_to_run(self) -> None:
        clock = Clock(61)
        slow = [Slow(name, clock, 2.0) for name in ("a", "b", "c")]

        lambda_handler(FanOut(*slow, progress=MemoryProgress()))(event(100), clock)

        # 20 s each but for the margin of a second; a record starts while there is time for one as long as the longest.
        assert [len(branch.ran) for branch in slow] == [10, 10, 10]
        assert clock.left == 1

    def test_passes_on_what_was_not_used(self) -> None:
        clock = Clock(61)
        quick, slow = Slow("quick", clock, 0.0), Slow("slow", clock, 2.0)

        lambda_handler(FanOut(quick, slow, progress=MemoryProgress()))(event(100), clock)

        assert (len(quick.ran), len(slow.ran)) == (100, 30)

    def test_lets_at_least_the_first_record_of_each_run(self) -> None:
        clock = Clock(10)
        hungry, other = Slow("hungry", clock, 9.5), Slow("other", clock, 0.1)

        lambda_handler(FanOut(hungry, other))(event(3), clock)

        assert (len(hungry.ran), len(other.ran)) == (1, 1)

    def test_is_none_where_another_has_used_it_up_and_will_not_run_that_again(self) -> None:
        clock = Clock(10)
        hungry, other = Slow("hungry", clock, 9.5), Slow("other", clock, 0.1)
        handler = lambda_handler(FanOut(hungry, other, progress=MemoryProgress()))

        assert named(handler(event(2), clock)) == [0]
        assert (len(hungry.ran), len(other.ran)) == (1, 0)

        for _ in range(2):
            clock.left = 10
            answer = handler(event(2), clock)
        assert answer == SUCCESS
        assert (len(hungry.ran), other.ran) == (2, payloads(2))

    def test_ends_a_sinks_request_too(self) -> None:
        ends: list[float] = []
        clock = Clock(61)

        class Asks(MemorySink):
            def write(self, writes: Sequence[Write], *, deadline: float) -> Any:
                import time

                ends.append(round(deadline - time.monotonic()))
                return super().write(writes, deadline=deadline)

        branches = [Branch(name) for name in ("a", "b", "c")]
        for branch in branches:
            branch.sink = Asks()

        lambda_handler(FanOut(*branches))(event(1), clock)

        # Half the margin stays to answer.
        assert ends == [20, 30, 60]

    def test_has_no_end_without_a_context(self) -> None:
        one, other = Branch("one"), Branch("other")

        assert lambda_handler(FanOut(one, other))(event(3)) == SUCCESS

    def test_does_not_go_to_saving_when_there_is_none_left_to_answer_in(self, caplog: pytest.LogCaptureFixture) -> None:
        clock = Clock(10)
        saved: list[str] = []

        class Slowly(MemoryProgress):
            def save(self, processor: str, *args: Any, **arguments: Any) -> None:
                clock.left -= 3
                saved.append(processor)
                super().save(processor, *args, **arguments)

        branches = [Branch(name, at(0)) for name in "abcd"]
        store = Slowly()
        handler = lambda_handler(FanOut(*branches, progress=store))
        handler(event(1, start=START - 1))
        saved.clear()
        clock.left = 4

        handler(event(2), clock)

        assert saved == ["a", "b"]
        assert "no time is left to save" in caplog.text


class TestTheRetryPath:
    def test_runs_the_branch_that_the_envelope_names(self) -> None:
        retries, fails = MemoryQueue(), [True]
        one = Branch("one", lambda text: ValueError("bad") if fails else None, Divert(retries, MemoryQueue()))
        other = Branch("other", on_failure=Divert(retries, MemoryQueue()))
        handler = lambda_handler(FanOut(one, other, progress=MemoryProgress()))
        assert handler(event(2)) == SUCCESS
        fails.clear()
        retries.advance(900)

        retries.deliver(handler)

        assert len(retries) == 0
        assert other.ran == payloads(2)
        assert sorted(one.ran) == sorted(payloads(2) * 2)

    def test_counts_a_branchs_tries_and_ends_in_its_dead_letters(self) -> None:
        retries, letters = MemoryQueue(), MemoryQueue()
        one = Branch("one", at(0), Divert(retries, letters))
        handler = lambda_handler(FanOut(one, Branch("other")))
        handler(event(1))
        for _ in range(3):
            retries.advance(900)
            retries.deliver(handler)

        assert [(letter.processor, letter.attempts) for letter in letters] == [("one", 3)]
        assert len(retries) == 0

    def test_leaves_what_is_of_no_branch_where_it_is(self, caplog: pytest.LogCaptureFixture) -> None:
        queue = MemoryQueue()
        lambda_handler(Branch("gone", at(0), Divert(queue)))(event(1))
        queue.advance(900)
        one, other = Branch("one"), Branch("other")

        queue.deliver(lambda_handler(FanOut(one, other)))

        assert len(queue) == 1
        assert (one.ran, other.ran) == ([], [])
        assert "the processor gone, which is none of the branches" in caplog.text

    def test_runs_a_message_without_an_envelope_in_all_branches_until_each_has_settled_it(self) -> None:
        queue, fails = MemoryQueue(), [True]
        queue.put("hello")
        one, other = Branch("one", lambda text: ValueError("bad") if fails else None), Branch("other")
        handler = lambda_handler(FanOut(one, other, progress=MemoryProgress()))

        queue.deliver(handler)
        assert len(queue) == 1
        fails.clear()
        queue.deliver(handler)

        assert len(queue) == 0
        assert other.ran == ["hello", "hello"], "the stream alone has progress"
        assert other.sink.items == ["hello"]

    def test_names_a_message_once_that_several_branches_left(self) -> None:
        queue = MemoryQueue()
        queue.put("hello")

        def fail(text: str) -> Exception:
            return ValueError("bad")

        answer = queue.deliver(lambda_handler(FanOut(Branch("one", fail), Branch("other", fail))))

        assert len(answer["batchItemFailures"]) == 1

    def test_of_a_topic_raises_where_a_branch_has_not_settled_its_record(self) -> None:
        notification = {"EventSource": "aws:sns", "Sns": {"Message": "record-0", "MessageId": "m-1"}}
        handler = lambda_handler(FanOut(Branch("one"), Branch("other", at(0))))

        with pytest.raises(BatchFailed):
            handler({"Records": [notification]})

    def test_of_a_parked_key_is_its_branchs_own(self) -> None:
        queue, ledger, fails = MemoryQueue(fifo=True), MemoryLedger(), [True]
        one = Branch("one", lambda text: ValueError("bad") if fails else None, Park(queue, ledger, MemoryQueue()))
        other = Branch("other", on_failure=Park(queue, ledger, MemoryQueue()))
        handler = lambda_handler(FanOut(one, other))
        records = kinesis_event(payloads(2), partition_keys=["k", "k"])
        assert handler(records) == SUCCESS
        assert [envelope.processor for envelope in queue] == ["one", "one"]
        assert other.ran == payloads(2)
        fails.clear()

        queue.deliver(handler)

        assert len(queue) == 0
        assert one.sink.items == payloads(2)
        assert other.ran == payloads(2)
        assert not ledger.parked("one", deadline=0.0)

    def test_gives_a_sweep_to_the_branch_whose_key_it_is_of(self) -> None:
        queue, ledger = MemoryQueue(fifo=True), MemoryLedger()
        parks, other = Branch("parks", on_failure=Park(queue, ledger)), Branch("other")
        queue.send([sweep("parks", "group")], deadline=0.0)

        queue.deliver(lambda_handler(FanOut(parks, other)))

        assert len(queue) == 0
        assert (parks.ran, other.ran) == ([], [])


class TestOneBranch:
    """A FanOut of one branch is that branch alone: the same answers, runs, writes, letters and stored progress."""

    @pytest.mark.parametrize("seed", range(60))
    def test_is_that_branch_alone(self, seed: int, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL, "streamkit")

        assert self.play(seed, lambda branch: FanOut(branch)) == self.play(seed, lambda branch: branch)

    def play(self, seed: int, source: Callable[[RecordProcessor], RecordProcessor]) -> Any:
        chance = random.Random(seed)
        retries, letters = MemoryQueue(clock=lambda: 0.0), MemoryQueue(clock=lambda: 0.0)
        policy = chance.choice([Block(), Block(letters), Divert(retries, letters), Divert(retries)])
        errors = [ValueError("bad"), Reject("bad"), Unavailable("down"), DecodeError("bad")]
        plan = {text: chance.choice([None, None, None, *errors]) for text in payloads(20)}
        clock = Clock(0)

        def fails(text: str) -> Exception | None:
            clock.left -= chance.choice([0.0, 0.1, 1.5])
            error = plan[text]
            if error is not None and chance.random() < 0.5:
                plan[text] = None
            return error

        branch = Branch("one", fails, policy, chance.choice(["key", "shard", "none"]))
        branch.progress = chance.choice([None, MemoryProgress()])
        branch.concurrency = 1
        handler = lambda_handler(source(branch))
        answers: list[Any] = []
        for _ in range(8):
            clock.left = chance.choice([3.0, 10.0])
            first = chance.randrange(15)
            keys = [f"key-{n % 3}" for n in range(first, 20)]
            answers.append(
                handler(kinesis_event(payloads(20)[first:], partition_keys=keys, start=START + first), clock)
            )
            if chance.random() < 0.5:
                retries.advance(900)
                answers.append(retries.deliver(handler, clock))
        stored = branch.progress._shards if isinstance(branch.progress, MemoryProgress) else None
        bodies = [
            [json.loads(message.body) | {"failures": []} for message in queue.messages] for queue in (retries, letters)
        ]
        return answers, branch.ran, branch.sink.items, branch.sink.repeats, bodies, stored


def test_an_event_of_another_kind_is_an_error_as_of_any_handler() -> None:
    with pytest.raises(StreamkitError, match="trigger the function by"):
        lambda_handler(FanOut(Branch("one"), Branch("other")))({"detail": {}})


def test_an_empty_batch_is_a_success() -> None:
    assert lambda_handler(FanOut(Branch("one"), Branch("other")))({"Records": []}) == SUCCESS
