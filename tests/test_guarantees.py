"""The eight guarantees of docs/guarantees.md, one class each, seen from outside: through the handler and the mapping only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streamkit import Block, Divert, Park, Record, RecordProcessor, Reject, Unavailable, Write, lambda_handler
from streamkit.kpl import UserRecord, aggregate
from streamkit.ledgers.memory import MemoryLedger
from streamkit.policy import Policy
from streamkit.progress.memory import MemoryProgress
from streamkit.testing import Crash, EventSourceMapping, MemoryQueue, MemorySink, kinesis_event

PARTIAL = {"function_response_types": ["ReportBatchItemFailures"]}
SHARD = "shardId-000000000000"


class Letters(RecordProcessor):
    """Writes each record's text; does with the bad ones what it is told, as long as it is told."""

    name = "letters"

    def __init__(self, policy: Policy | None = None, *, bad: dict[str, Any] | None = None, takes: float = 0.0) -> None:
        self.on_failure = policy or Block()
        self.sink = MemorySink()
        self.bad = bad or {}
        self.takes = takes
        self.started: list[str] = []
        self.mapping: EventSourceMapping | None = None

    def process(self, record: Record) -> Iterator[Write]:
        text = record.data.decode()
        self.started.append(text)
        if self.takes and self.mapping is not None:
            self.mapping.sleep(self.takes)
        if text in self.bad:
            raise self.bad[text]
        yield self.sink.item(text)


def mapping_of(processor: Letters, **settings: Any) -> EventSourceMapping:
    processor.mapping = EventSourceMapping(lambda_handler(processor), **(PARTIAL | settings))
    return processor.mapping


def put(mapping: EventSourceMapping, *texts: str, key: str = "key") -> None:
    for text in texts:
        mapping.put(text.encode(), key)


def answered(response: Any) -> list[str]:
    return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]


def numbers(event: dict[str, Any]) -> list[str]:
    return [record["kinesis"]["sequenceNumber"] for record in event["Records"]]


class TestGuarantee1Chronological:
    def test_records_of_a_key_start_one_after_another_in_sequence_order(self) -> None:
        letters = Letters()
        mapping = mapping_of(letters, batch_size=3)

        put(mapping, *"abcdefgh")
        mapping.run_until_idle()

        assert letters.started == list("abcdefgh")

    def test_the_order_holds_across_redeliveries(self) -> None:
        letters = Letters(bad={"c": ValueError("not yet")})
        mapping = mapping_of(letters, batch_size=10)

        put(mapping, *"abcde")
        mapping.advance(30)
        assert set(letters.started) == set("abc"), "nothing of the key may start before the failed record succeeds"
        letters.bad.clear()
        mapping.run_until_idle()

        assert letters.sink.items == list("abcde")
        first_started = list(dict.fromkeys(letters.started))
        assert first_started == list("abcde")

    @pytest.mark.parametrize("concurrency", [2, 8])
    def test_with_concurrency_one_key_is_never_started_before_its_last_record_ended(self, concurrency: int) -> None:
        import threading

        running: list[str] = []
        overlaps: list[str] = []
        order: dict[str, list[str]] = {}
        lock = threading.Lock()

        class Slow(RecordProcessor):
            name = "slow"

            def process(self, record: Record) -> None:
                key = record.partition_key or ""
                with lock:
                    if key in running:
                        overlaps.append(key)
                    running.append(key)
                    order.setdefault(key, []).append(record.data.decode())
                threading.Event().wait(0.001)
                with lock:
                    running.remove(key)

        slow = Slow()
        slow.concurrency = concurrency
        payloads = [f"{n:03}" for n in range(60)]
        event = kinesis_event(payloads, partition_keys=[f"key-{n % 5}" for n in range(60)])

        assert answered(lambda_handler(slow)(event, None)) == []

        assert overlaps == []
        assert all(texts == sorted(texts) for texts in order.values())


class TestGuarantee2NothingIsSkippedSilently:
    @pytest.mark.parametrize("policy", ["block", "divert"])
    @pytest.mark.parametrize("how", ["process", "failed", "unavailable", "raised"])
    def test_the_checkpoint_never_passes_an_unsettled_record(self, policy: str, how: str) -> None:
        queue = MemoryQueue()
        queue.refuse()
        letters = Letters(Block() if policy == "block" else Divert(queue))
        if how == "process":
            letters.bad["c"] = ValueError("bad")
        elif how == "raised":
            letters.sink.fail(OSError("gone"))
        else:
            letters.sink.refuse(lambda item: how if item == "c" else None)  # type: ignore[arg-type, return-value]  # how is a kind
        mapping = mapping_of(letters)

        put(mapping, *"abcde")
        mapping.advance(10)

        event, response = mapping.invocations[0]
        bad = 0 if how == "raised" else 2
        assert answered(response) == [numbers(event)[bad]]
        if bad:
            assert int(mapping.checkpoints[SHARD]) < int(numbers(event)[bad])
        assert len(queue) == 0

    def test_a_failed_record_is_settled_once_the_retry_queue_confirms_it(self) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue), bad={"c": ValueError("bad")})
        mapping = mapping_of(letters)

        put(mapping, *"abcde")
        mapping.run_until_idle()

        event, response = mapping.invocations[0]
        assert answered(response) == []
        assert mapping.checkpoints[SHARD] == numbers(event)[-1]
        assert [envelope.data for envelope in queue] == [b"c"]

    def test_the_answer_names_the_lowest_unsettled_number_as_an_integer(self) -> None:
        # 9 is lower than 10, though "10" is before "9" as a text.
        sink = MemorySink()
        sink.refuse("failed")

        class Writes(RecordProcessor):
            name = "writes"

            def process(self, record: Record) -> Write:
                return sink.item(record.data)

        event = kinesis_event([b"a", b"b"], start=9)

        assert answered(lambda_handler(Writes)(event, None)) == ["9"]


class TestGuarantee3AtLeastOnceDuplicatesBounded:
    def test_a_redelivery_repeats_at_most_from_the_answered_position_to_the_furthest_started(self) -> None:
        letters = Letters(bad={"c": ValueError("not yet")})
        mapping = mapping_of(letters, batch_size=10)

        put(mapping, *"abcde")
        mapping.advance(0)
        letters.bad.clear()
        mapping.run_until_idle()

        assert letters.started == ["a", "b", "c", "c", "d", "e"]

    def test_every_repeat_of_a_write_has_the_same_id_and_every_write_its_own(self) -> None:
        class Twice(Letters):
            def process(self, record: Record) -> Iterator[Write]:
                for write in super().process(record):
                    yield write
                    yield self.sink.item(record.data.decode())

        letters = Twice()
        letters.name = "letters"
        mapping = mapping_of(letters, batch_size=10)
        letters.sink.refuse(lambda item: "failed" if item == "b" else None)

        put(mapping, *"ab")
        mapping.advance(5)
        letters.sink.refuse(None)
        mapping.run_until_idle()

        sequence = mapping.checkpoints[SHARD]
        assert letters.sink.items == ["a", "a", "b", "b"]
        assert letters.sink.write_ids[-1].endswith(f"/{SHARD}:{sequence}:0/letters/1")

    def test_a_repeat_after_a_timeout_is_deduped_by_its_ids(self) -> None:
        letters = Letters(takes=25.0)
        letters.deadline_margin = 0.0
        mapping = mapping_of(letters, function_timeout_in_seconds=60, batch_size=4)

        put(mapping, *"abcd")
        mapping.run_until_idle()

        assert letters.sink.items == list("abcd")


class FailingProgress(MemoryProgress):
    """Is down for look-ups, for saves or for both, as long as it is told."""

    def __init__(self, *down: str) -> None:
        super().__init__()
        self.down = set(down)
        self.calls: list[str] = []

    def entries(self, processor: str, shard: str, up_to: int, *, deadline: float) -> list[bytes]:
        self.calls.append("look-up")
        if "look-up" in self.down:
            raise ConnectionError("progress is down")
        return super().entries(processor, shard, up_to, deadline=deadline)

    def save(self, processor: str, shard: str, number: int, entry: bytes, *, deadline: float) -> None:
        self.calls.append("save")
        if "save" in self.down:
            raise ConnectionError("progress is down")
        super().save(processor, shard, number, entry, deadline=deadline)


class TestGuarantee3WithAProgressStoreOnlyWhatWasNotDone:
    def letters(self, policy: Policy | None = None, **options: Any) -> Letters:
        letters = Letters(policy, **options)
        letters.progress = FailingProgress()
        return letters

    def calls(self, letters: Letters) -> list[str]:
        assert isinstance(letters.progress, FailingProgress)
        return letters.progress.calls

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_a_redelivered_batch_runs_only_what_was_not_done(self, concurrency: int) -> None:
        letters = self.letters(bad={"b1": ValueError("not yet")})
        letters.concurrency = concurrency
        mapping = mapping_of(letters, batch_size=10)

        for text in ("a1", "b1", "c1", "b2", "a2"):
            put(mapping, text, key=text[0])
        mapping.advance(30)
        assert letters.started.count("b1") > 2
        assert sorted(set(letters.started)) == ["a1", "a2", "b1", "c1"], "b2 is held by b1, and the others are not"
        letters.bad.clear()
        letters.started.clear()
        mapping.run_until_idle()

        assert letters.started == ["b1", "b2"]
        assert sorted(letters.sink.items) == ["a1", "a2", "b1", "b2", "c1"]

    @pytest.mark.parametrize("bisect", [True, False])
    @pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 40])
    def test_however_the_batch_is_cut_each_record_is_done_once(self, batch_size: int, bisect: bool) -> None:
        bad: dict[str, Any] = {f"{key}{n}": ValueError("not yet") for n in (1, 3) for key in "bd"}
        letters = self.letters(bad=bad)
        mapping = mapping_of(letters, batch_size=batch_size, bisect_batch_on_function_error=bisect)

        texts = [f"{key}{n}" for n in range(5) for key in "abcd"]
        for text in texts:
            put(mapping, text, key=text[0])
        while letters.bad:
            mapping.advance(90)
            letters.bad.pop(next(iter(letters.bad)))
        mapping.run_until_idle()

        for text in texts:
            assert letters.started.count(text) == 1 or text in ("b1", "b3", "d1", "d3")
        for key in "abcd":
            assert [text for text in letters.sink.items if text[0] == key] == [f"{key}{n}" for n in range(5)]

    def test_an_aggregate_goes_on_after_the_user_records_that_were_done(self) -> None:
        letters = self.letters(bad={"b": ValueError("not yet")})
        mapping = mapping_of(letters)

        mapping.put(aggregate([UserRecord(text.encode(), f"key of {text}") for text in "abcd"]), "aggregate")
        mapping.advance(0)
        letters.bad.clear()
        mapping.run_until_idle()

        assert letters.started == ["a", "b", "c", "d", "b"]
        assert len(mapping.invocations) == 2

    def test_an_aggregate_that_is_too_slow_for_one_invocation_goes_on_by_sub_sequence(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        letters = self.letters(takes=20.0)
        mapping = mapping_of(letters, function_timeout_in_seconds=60)

        mapping.put(aggregate([UserRecord(text.encode(), "key") for text in "abcdefgh"]), "aggregate")
        mapping.run_until_idle()

        assert letters.started == list("abcdefgh")
        assert letters.sink.items == list("abcdefgh")
        assert "from its start" not in caplog.text

    def test_a_write_refused_late_repeats_what_is_done_of_its_key_and_nothing_else(self) -> None:
        letters = self.letters()
        mapping = mapping_of(letters)
        letters.sink.refuse(lambda item: "failed" if item == "a1" else None)

        for text in ("a1", "b1", "a2"):
            put(mapping, text, key=text[0])
        mapping.advance(0)
        letters.sink.refuse(None)
        letters.started.clear()
        mapping.run_until_idle()

        assert letters.started == ["a1", "a2"]

    def test_what_was_dead_lettered_behind_a_failure_is_not_dead_lettered_again(self) -> None:
        dead_letters = MemoryQueue()
        bad: dict[str, Any] = {"a": ValueError("not yet"), "b": Reject("poison"), "c": Reject("poison")}
        letters = self.letters(Block(dead_letters), bad=bad)
        mapping = mapping_of(letters)

        for text in "abcd":
            put(mapping, text, key=text)
        mapping.advance(30)
        letters.bad.pop("a")
        mapping.run_until_idle()

        assert [letter.data for letter in dead_letters] == [b"b", b"c"]
        assert letters.sink.items == ["d", "a"]

    def test_with_divert_what_was_sent_aside_is_not_sent_again(self) -> None:
        queue = MemoryQueue()
        letters = self.letters(Divert(queue), bad={"a": ValueError("bad"), "c": Unavailable("payments API")})
        mapping = mapping_of(letters)

        put(mapping, *"abcd")
        mapping.advance(30)
        del letters.bad["c"]
        mapping.run_until_idle()

        assert [envelope.data for envelope in queue] == [b"a"]
        assert letters.started.count("a") == letters.started.count("b") == 1
        assert letters.sink.items == ["b", "c", "d"]

    def test_a_batch_in_which_all_went_well_costs_one_query_and_no_write(self) -> None:
        letters = self.letters()
        mapping = mapping_of(letters)

        put(mapping, *"abc")
        mapping.run_until_idle()

        assert self.calls(letters) == ["look-up"]

    def test_nothing_is_written_again_while_nothing_new_is_done(self) -> None:
        letters = self.letters(bad={"a": ValueError("bad")})
        mapping = mapping_of(letters)

        for text in "ab":
            put(mapping, text, key=text)
        mapping.advance(600)

        assert self.calls(letters).count("look-up") > 5
        assert self.calls(letters).count("save") == 1

    @pytest.mark.parametrize("down", [("look-up",), ("save",), ("look-up", "save")])
    def test_a_store_that_is_down_costs_duplicates_and_loses_nothing(
        self, down: tuple[str, ...], caplog: pytest.LogCaptureFixture
    ) -> None:
        letters = Letters(bad={"b": ValueError("not yet")})
        letters.progress = FailingProgress(*down)
        mapping = mapping_of(letters)

        for text in "abc":
            put(mapping, text, key=text)
        mapping.advance(0)
        assert letters.started == ["a", "b", "c"]
        letters.bad.clear()
        mapping.run_until_idle()

        assert sorted(letters.started) == ["a", "b", "b", "c", "c"], "a was passed; c is a duplicate"
        assert sorted(letters.sink.items) == ["a", "b", "c"], "which the sink dedupes by its id"
        assert mapping.discarded == []
        lines = [line for line in caplog.messages if "progress is down" in line]
        assert len(lines) == sum(call in down for call in self.calls(letters))

    def test_a_record_that_nobody_has_seen_is_never_skipped_though_it_stands_between_done_ones(self) -> None:
        letters = self.letters(bad={"b": ValueError("not yet")})
        handler = lambda_handler(letters)
        event = kinesis_event(list("abcdefgh"))

        # Delivered through a filter that lets only some through, then without the filter, in batches of all sizes.
        handler({"Records": [event["Records"][n] for n in (1, 3, 6)]}, None)
        letters.bad.clear()
        letters.started.clear()
        for start, end in ((1, 3), (3, 6), (6, 8)):
            assert answered(handler({"Records": event["Records"][start:end]}, None)) == []

        assert letters.started == ["b", "c", "e", "f", "h"]

    def test_parallel_lanes_of_a_shard_neither_claim_nor_forget_what_the_others_do(self) -> None:
        letters = self.letters(bad={"a": ValueError("not yet"), "b": ValueError("not yet")})
        event = kinesis_event(list("abcdefgh"))
        lanes = [{"Records": event["Records"][lane::2]} for lane in (0, 1)]
        handlers = [lambda_handler(letters) for _ in lanes]

        for _ in range(3):
            for handler, lane in zip(handlers, lanes, strict=True):
                assert len(answered(handler(lane, None))) == 1
        letters.bad.clear()
        letters.started.clear()
        # The lanes become one: what either did is known.
        assert answered(handlers[0](event, None)) == []

        assert letters.started == ["a", "b"]

    def test_two_batches_that_begin_with_the_same_record_lose_no_more_than_knowledge(self) -> None:
        letters = self.letters(bad={"a": ValueError("not yet")})
        event = kinesis_event(list("abcde"))
        one, other = ({"Records": [event["Records"][n] for n in picked]} for picked in ((0, 1, 3), (0, 2, 4)))

        # Each takes the other's entry for no more than it lists.
        for part in (one, other):
            lambda_handler(letters)(part, None)
        letters.bad.clear()
        letters.started.clear()
        assert answered(lambda_handler(letters)(event, None)) == []

        assert letters.started == ["a"]

    @pytest.mark.parametrize("bisect", [True, False])
    def test_a_crash_after_the_saving_and_before_the_answer_repeats_nothing(self, bisect: bool) -> None:
        letters = self.letters(bad={"c": ValueError("not yet")})
        handler = lambda_handler(letters)
        crashes = iter([True])

        def function(event: Any, context: Any) -> Any:
            answer = handler(event, context)
            if next(crashes, False):
                raise Crash("before the answer")
            return answer

        letters.mapping = mapping = EventSourceMapping(
            function,
            function_response_types=["ReportBatchItemFailures"],
            bisect_batch_on_function_error=bisect,
        )
        for text in "abcd":
            put(mapping, text, key=text)
        mapping.advance(5)
        letters.bad.clear()
        mapping.run_until_idle()

        assert [letters.started.count(text) for text in "abd"] == [1, 1, 1]

    def test_the_retry_path_never_asks_it(self) -> None:
        queue = MemoryQueue()
        letters = self.letters(Divert(queue), bad={"a": ValueError("not yet")})
        mapping = mapping_of(letters)
        put(mapping, "a")
        mapping.run_until_idle()
        self.calls(letters).clear()

        queue.advance(900)
        assert queue.deliver(lambda_handler(letters)) is not None

        assert self.calls(letters) == []

    def test_another_generation_runs_all_of_it_again(self) -> None:
        letters = self.letters(bad={"a": ValueError("not yet")})
        event = kinesis_event(list("abc"))
        lambda_handler(letters)(event, None)
        letters.bad.clear()
        letters.started.clear()

        assert isinstance(letters.progress, FailingProgress)
        letters.progress.generation = "2026-02"
        lambda_handler(letters)(event, None)

        assert letters.started == list("abc")

    def test_what_ran_again_unknown_to_the_store_does_not_leave_an_older_state_behind(self) -> None:
        letters = self.letters(bad={"x": ValueError("not yet")})
        assert isinstance(letters.progress, FailingProgress)
        handler = lambda_handler(letters)
        event = kinesis_event(["w", "x", "a1", "a2"], partition_keys=["w", "x", "a", "a"])
        handler(event, None)
        assert letters.started == ["w", "x", "a1", "a2"]
        letters.bad.clear()
        letters.started.clear()

        # a1 runs again, for the store can't be asked; so a2 has to follow it, though it was done before.
        letters.progress.down = {"look-up"}
        handler({"Records": event["Records"][1:3]}, None)
        letters.progress.down = set()
        handler({"Records": event["Records"][3:]}, None)

        assert letters.started == ["x", "a1", "a2"]


class TestGuarantee4ABadRecordCostsWhatTheUserChose:
    def test_block_costs_the_shard(self) -> None:
        letters = Letters(Block(), bad={"b": ValueError("bad")})
        mapping = mapping_of(letters, batch_size=10)

        put(mapping, "a", "b", key="one")
        put(mapping, "x", key="two")
        mapping.advance(600)

        assert letters.sink.items == ["a"]

    def test_divert_costs_the_record_its_place_in_the_order(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters), bad={"b": ValueError("not yet")})
        mapping = mapping_of(letters)

        put(mapping, *"abc")
        mapping.run_until_idle()
        letters.bad.clear()
        queue.advance(900)
        queue.deliver(lambda_handler(letters))

        assert letters.sink.items == ["a", "c", "b"]
        assert len(queue) == len(dead_letters) == 0

    def test_divert_gives_up_after_three_tries_on_the_retry_path(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters), bad={"b": ValueError("always")})
        mapping, retry = mapping_of(letters), lambda_handler(letters)

        put(mapping, "b")
        mapping.run_until_idle()
        while len(queue):
            queue.advance(900)
            queue.deliver(retry)

        assert letters.started == ["b"] * 4, "the stream's own try, and three on the retry path"
        (letter,) = dead_letters
        assert letter.data == b"b"
        assert letter.attempts == 3
        assert [failure.attempt for failure in letter.failures] == [1, 2, 3, 4]

    def test_park_costs_the_key_and_keeps_its_order(self) -> None:
        queue, dead_letters = MemoryQueue(fifo=True), MemoryQueue()
        letters = Letters(Park(queue, MemoryLedger(), dead_letters), bad={"a2": ValueError("not yet")})
        mapping = mapping_of(letters, batch_size=3)

        for text in ("a1", "b1", "a2", "a3", "b2", "a4", "b3"):
            put(mapping, text, key=text[0])
        mapping.run_until_idle()
        assert letters.sink.items == ["a1", "b1", "b2", "b3"]
        queue.deliver(lambda_handler(letters))
        letters.bad.clear()
        queue.deliver(lambda_handler(letters))
        put(mapping, "a5", key="a")
        mapping.run_until_idle()

        assert letters.sink.items == ["a1", "b1", "b2", "b3", "a2", "a3", "a4", "a5"]
        assert len(queue) == len(dead_letters) == 0

    def test_park_gives_up_after_three_tries_and_the_key_goes_on(self) -> None:
        queue, dead_letters = MemoryQueue(fifo=True), MemoryQueue()
        letters = Letters(Park(queue, MemoryLedger(), dead_letters), bad={"b": ValueError("always")})
        mapping, retry = mapping_of(letters), lambda_handler(letters)

        put(mapping, *"abc")
        mapping.run_until_idle()
        while queue.deliver(retry) is not None:
            pass

        assert letters.started == ["a", "b", "b", "b", "b", "c"]
        assert letters.sink.items == ["a", "c"]
        assert [(letter.data, letter.attempts) for letter in dead_letters] == [(b"b", 3)]


class TestGuarantee5ADependencyThatIsDownIsNotABadRecord:
    @pytest.mark.parametrize("policy", ["Divert", "Park"])
    @pytest.mark.parametrize("how", ["process", "sink refuses", "sink raises"])
    def test_an_hours_outage_delays_and_loses_nothing_and_fills_no_queue(self, how: str, policy: str) -> None:
        queue, dead_letters = MemoryQueue(fifo=policy == "Park"), MemoryQueue()
        aside = Divert(queue, dead_letters) if policy == "Divert" else Park(queue, MemoryLedger(), dead_letters)
        letters = Letters(aside, bad={"x": Reject("poison")})
        mapping = mapping_of(letters, maximum_batching_window_in_seconds=1)

        if how == "process":
            letters.bad["a"] = Unavailable("payments API")
        elif how == "sink refuses":
            letters.sink.refuse("unavailable")
        else:
            letters.sink.fail(OSError("connection refused"))
        put(mapping, "a", "b", "x", "c")
        mapping.advance(3600)
        assert len(queue) == len(dead_letters) == 0
        assert letters.sink.items == []

        letters.bad.pop("a", None)
        letters.sink.refuse(None)
        letters.sink.fail(None)
        mapping.run_until_idle()

        assert letters.sink.items == ["a", "b", "c"]
        assert [letter.data for letter in dead_letters] == [b"x"]
        assert len(queue) == 0

    def test_on_the_retry_path_it_counts_no_attempt(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters), bad={"a": ValueError("once")})
        put(mapping := mapping_of(letters), "a")
        mapping.run_until_idle()

        letters.bad["a"] = Unavailable("payments API")
        queue.advance(900)
        for _ in range(10):
            assert queue.deliver(lambda_handler(letters)) is not None

        assert [envelope.attempts for envelope in queue] == [0]
        assert len(dead_letters) == 0


class TestGuarantee6NoWorkThatWillBeThrownAway:
    def test_with_block_nothing_starts_once_a_failure_is_known(self) -> None:
        letters = Letters(Block(), bad={"b": ValueError("bad")})

        lambda_handler(letters)(kinesis_event(list("abcde")), None)

        assert letters.started == ["a", "b"]
        assert letters.sink.items == ["a"], "what ran before is flushed"

    def test_a_write_refused_while_the_batch_runs_stops_it(self) -> None:
        letters = Letters(Block())
        type(letters.sink).request_writes = 500
        letters.sink.refuse(lambda item: "failed" if item == "7" else None)

        answer = lambda_handler(letters)(event := kinesis_event([str(n) for n in range(2000)]), None)

        assert answered(answer) == [numbers(event)[7]]
        assert len(letters.started) == 500, "one full request was held when the failure became known"

    def test_with_concurrency_what_runs_is_finished_and_flushed(self) -> None:
        letters = Letters(Block(), bad={"b": ValueError("bad")})
        letters.concurrency = 4
        payloads = [*"ab", *(str(n) for n in range(2000))]

        answer = lambda_handler(letters)(event := kinesis_event(payloads), None)

        assert answered(answer) == [numbers(event)[1]]
        # How soon a failure is known is up to the threads; that it stops the batch is not.
        assert len(letters.started) < len(payloads)
        assert set(letters.sink.items) == set(letters.started) - {"b"}


class TestGuarantee7TheDeadlineIsRespected:
    def test_a_slow_batch_makes_progress_instead_of_being_repeated_whole(self) -> None:
        letters = Letters(takes=7.0)
        mapping = mapping_of(letters, batch_size=100, function_timeout_in_seconds=60)

        put(mapping, *(str(n) for n in range(40)))
        mapping.run_until_idle()

        assert letters.started == [str(n) for n in range(40)], "not one record ran twice"
        assert len(mapping.invocations) > 4
        assert not any(isinstance(response, BaseException) for _, response in mapping.invocations)

    def test_the_flush_is_in_the_reckoning(self) -> None:
        class SlowSink(MemorySink):
            request_writes = 2

            def write(self, writes: Any, *, deadline: float) -> Any:
                assert letters.mapping is not None
                letters.mapping.sleep(11.0)
                return super().write(writes, deadline=deadline)

        letters = Letters(takes=5.0)
        letters.sink = SlowSink()
        mapping = mapping_of(letters, batch_size=100, function_timeout_in_seconds=60)

        put(mapping, *(str(n) for n in range(20)))
        mapping.run_until_idle()

        assert letters.started == [str(n) for n in range(20)]
        assert not any(isinstance(response, BaseException) for _, response in mapping.invocations)

    def test_at_least_the_first_record_always_runs(self) -> None:
        letters = Letters(takes=58.5)
        letters.deadline_margin = 100.0
        mapping = mapping_of(letters, function_timeout_in_seconds=60)

        put(mapping, *"abc")
        mapping.run_until_idle()

        assert letters.started == ["a", "b", "c"]
        assert letters.sink.items == ["a", "b", "c"]


class TestGuarantee8PoisonGoesAsideAtOnce:
    @pytest.mark.parametrize("policy", ["block", "divert"])
    def test_a_rejected_record_goes_to_dead_letters_without_retries(self, policy: str) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(
            Block(dead_letters) if policy == "block" else Divert(queue, dead_letters),
            bad={"b": Reject("negative total")},
        )

        answer = lambda_handler(letters)(kinesis_event(list("abc")), None)

        assert answered(answer) == []
        assert letters.started == list("abc")
        assert letters.sink.items == ["a", "c"]
        (letter,) = dead_letters
        assert letter.data == b"b"
        assert letter.failures[0].type == "Reject"
        assert "negative total" in letter.failures[0].message
        assert len(queue) == 0

    def test_data_that_can_not_be_decoded_goes_aside_alone(self) -> None:
        dead_letters = MemoryQueue()
        letters = Letters(Block(dead_letters))
        whole = aggregate([UserRecord(b"one", "key"), UserRecord(b"two", "key")])
        event = kinesis_event([b"a", b"spoilt", whole[:-1], whole, b"b"])
        event["Records"][1]["kinesis"]["data"] = "####aGVsbG8="

        answer = lambda_handler(letters)(event, None)

        assert answered(answer) == []
        assert letters.sink.items == ["a", "one", "two", "b"]
        assert [letter.undecoded is not None for letter in dead_letters] == [True, True]

    def test_without_dead_letters_it_is_an_ordinary_failure_and_the_first_says_what_to_add(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue), bad={"b": Reject("negative total"), "c": Reject("negative total")})

        answer = lambda_handler(letters)(kinesis_event(list("abcd")), None)

        assert answered(answer) == []
        assert [envelope.data for envelope in queue] == [b"b", b"c"]
        advice = [line for line in caplog.messages if "dead_letters=SqsQueue.from_env" in line]
        assert len(advice) == 1
