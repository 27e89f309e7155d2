"""Tumbling windows in the engine: what is called when, with which state, and where a reader would begin anew."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.local.mapping import Discard, Idle, Invoke, Item, ShardMapping, Wait
from streamkit.local.settings import Settings
from streamkit.testing import EventSourceMapping

REPORTS = ["ReportBatchItemFailures"]
START = 1_767_225_600.0  # A multiple of every window here.


class Totals:
    """Counts the records of a window; ``results`` has each final call."""

    def __init__(self, **settings: Any) -> None:
        self.fail = 0
        self.events: list[dict[str, Any]] = []
        self.results: list[tuple[str, dict[str, int]]] = []
        settings = {"tumbling_window_in_seconds": 60, "function_response_types": REPORTS, **settings}
        self.mapping = EventSourceMapping(self, **settings)

    def __call__(self, event: dict[str, Any], context: Any) -> Any:
        self.events.append(event)
        if self.fail:
            self.fail -= 1
            raise ValueError("no")
        state = dict(event["state"])
        for record in event["Records"]:
            key = record["kinesis"]["partitionKey"]
            state[key] = state.get(key, 0) + 1
        if event["isFinalInvokeForWindow"]:
            self.results.append((event["window"]["start"][11:19], state))
        return {"state": state}


class TestWindow:
    def test_state_goes_from_call_to_call_and_ends_with_the_final_one(self) -> None:
        totals = Totals()
        for _ in range(3):
            totals.mapping.put(b"1", "a")
            totals.mapping.advance(10)
        totals.mapping.advance(30)
        totals.mapping.put(b"1", "b")
        totals.mapping.run_until_idle()

        assert [event["state"] for event in totals.events] == [{}, {"a": 1}, {"a": 2}, {"a": 3}, {}, {"b": 1}]
        assert totals.results == [("00:00:00", {"a": 3}), ("00:01:00", {"b": 1})]

    def test_the_event_is_that_of_lambda(self) -> None:
        totals = Totals()
        totals.mapping.put(b"1", "a")
        totals.mapping.run_until_idle()

        first, last = totals.events
        assert {name: value for name, value in first.items() if name != "Records"} == {
            "window": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:01:00Z"},
            "state": {},
            "shardId": "shardId-000000000000",
            "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/stream",
            "isFinalInvokeForWindow": False,
            "isWindowTerminatedEarly": False,
        }
        assert last["Records"] == []
        assert last["isFinalInvokeForWindow"] is True
        assert totals.mapping.invocations[0][0] == first

    def test_what_is_left_of_a_window_goes_with_the_final_call(self) -> None:
        totals = Totals(enabled=False)
        totals.mapping.put(b"1", "a")
        totals.mapping.advance(60)
        totals.mapping.put(b"1", "b")
        totals.mapping.enable()
        totals.mapping.advance(0)

        assert [(len(e["Records"]), e["isFinalInvokeForWindow"]) for e in totals.events] == [(1, True), (1, False)]

    def test_a_window_without_records_is_not_called_for(self) -> None:
        totals = Totals()
        totals.mapping.advance(600)
        totals.mapping.put(b"1", "a")
        totals.mapping.advance(600)

        assert [start for start, _ in totals.results] == ["00:10:00"]

    def test_an_answer_without_state_is_a_failure(self) -> None:
        answers: list[Any] = [None, {"batchItemFailures": []}, {"state": None}, "", {"state": {}}, {"state": {}}]
        mapping = EventSourceMapping(
            lambda event, context: answers.pop(0), tumbling_window_in_seconds=60, function_response_types=REPORTS
        )
        mapping.put(b"1", "a")
        mapping.run_until_idle()

        assert answers == []
        assert [len(event["Records"]) for event, _ in mapping.invocations] == [1, 1, 1, 1, 1, 0]

    def test_a_failed_call_comes_again_with_the_same_state(self) -> None:
        totals = Totals()
        totals.mapping.put(b"1", "a")
        totals.mapping.advance(1)
        totals.fail = 2
        totals.mapping.put(b"1", "a")
        totals.mapping.run_until_idle()

        assert [event["state"] for event in totals.events] == [{}, {"a": 1}, {"a": 1}, {"a": 1}, {"a": 2}]
        assert totals.results == [("00:00:00", {"a": 2})]

    def test_a_final_call_that_fails_comes_again_until_it_succeeds_whatever_the_retry_limit(self) -> None:
        totals = Totals(maximum_retry_attempts=1)
        totals.mapping.put(b"1", "a")
        totals.mapping.advance(59)
        totals.fail = 5
        totals.mapping.run_until_idle()

        assert totals.results == [("00:00:00", {"a": 1})]
        assert totals.mapping.discarded == []

    def test_a_final_call_that_always_fails_ends_by_expiry_and_says_so(self) -> None:
        totals = Totals()
        totals.mapping.put(b"1", "a")
        totals.mapping.advance(59)
        totals.fail = 10**9
        totals.mapping.run_until_idle()

        assert totals.results == []
        (document,) = totals.mapping.discarded
        assert document["requestContext"]["condition"] == "RecordAgeExceeded"
        assert document["KinesisBatchInfo"]["batchSize"] == 0

    def test_an_answer_that_names_a_failure_keeps_the_state_of_what_went_before(self) -> None:
        seen = []

        def function(event: dict[str, Any], context: Any) -> Any:
            numbers = [record["kinesis"]["sequenceNumber"] for record in event["Records"]]
            seen.append((event["state"], len(numbers)))
            if len(seen) == 1:
                return {"state": {"count": 1}, "batchItemFailures": [{"itemIdentifier": numbers[1]}]}
            if len(seen) == 2:
                return {"state": {"count": 99}, "batchItemFailures": [{"itemIdentifier": numbers[0]}]}
            return {"state": {"count": event["state"]["count"] + len(numbers)}}

        mapping = EventSourceMapping(function, tumbling_window_in_seconds=60, function_response_types=REPORTS)
        for _ in range(3):
            mapping.put(b"1", "a")
        mapping.run_until_idle()

        assert seen == [({}, 3), ({"count": 1}, 2), ({"count": 1}, 2), ({"count": 3}, 0)]

    def test_records_that_are_given_up_leave_the_state_as_it_was(self) -> None:
        totals = Totals(maximum_retry_attempts=0)
        totals.mapping.put(b"1", "a")
        totals.mapping.advance(1)
        totals.fail = 1
        totals.mapping.put(b"1", "bad")
        totals.mapping.run_until_idle()

        assert totals.results == [("00:00:00", {"a": 1})]
        assert len(totals.mapping.discarded) == 1

    def test_state_over_1_mb_ends_the_window_early_and_the_rest_goes_on_in_the_same_window(self) -> None:
        calls: list[tuple[bool, bool, int, int]] = []

        def function(event: dict[str, Any], context: Any) -> Any:
            state = event["state"].get("text", "")
            calls.append(
                (
                    event["isFinalInvokeForWindow"],
                    event["isWindowTerminatedEarly"],
                    len(event["Records"]),
                    len(state),
                )
            )
            return {"state": {"text": state + "x" * 600_000 * len(event["Records"])}}

        mapping = EventSourceMapping(
            function, tumbling_window_in_seconds=60, function_response_types=REPORTS, batch_size=1
        )
        for _ in range(3):
            mapping.put(b"1", "a")
        mapping.run_until_idle()

        assert calls == [
            (False, False, 1, 0),
            (False, False, 1, 600_000),
            (True, True, 0, 1_200_000),
            (False, False, 1, 0),
            (True, False, 0, 600_000),
        ]
        assert {event["window"]["start"] for event, _ in mapping.invocations} == {"2026-01-01T00:00:00Z"}

    def test_a_window_ends_with_its_shard_and_the_children_begin_with_fresh_state(self) -> None:
        totals = Totals()
        totals.mapping.put(b"1", "a")
        totals.mapping.advance(1)
        left, _ = totals.mapping.split_shard(0)
        totals.mapping.put(b"1", "a", shard=left)
        totals.mapping.run_until_idle()

        assert totals.results == [("00:00:00", {"a": 1}), ("00:00:00", {"a": 1})]

    def test_a_wait_can_be_added_before_a_window_counts_as_over(self) -> None:
        totals = Totals(window_wait_in_seconds=120)
        totals.mapping.put(b"1", "a")
        totals.mapping.advance(179)
        assert totals.results == []

        totals.mapping.advance(1)

        assert totals.results == [("00:00:00", {"a": 1})]

    def test_a_wait_holds_though_the_reader_is_caught_up_and_looks_again(self) -> None:
        mapping = ShardMapping(Settings(tumbling_window_in_seconds=60, window_wait_in_seconds=30))
        mapping.add([Item(1, START, 100)], START)
        assert isinstance(mapping.next(START), Invoke)
        mapping.answered({"state": {}}, START)

        mapping.caught_up(START + 89)
        assert isinstance(mapping.next(START + 89), Wait)
        mapping.caught_up(START + 90)
        assert isinstance(mapping.next(START + 90), Invoke)

    @pytest.mark.parametrize("bisect", [True, False])
    def test_the_final_call_waits_for_every_part_of_a_split_batch(self, bisect: bool) -> None:
        totals = Totals(bisect_batch_on_function_error=bisect, enabled=False)
        for _ in range(4):
            totals.mapping.put(b"1", "a")
        totals.mapping.advance(60)
        totals.fail = 2
        totals.mapping.enable()
        totals.mapping.run_until_idle()

        assert totals.results == [("00:00:00", {"a": 4})]


def mapping(**settings: Any) -> ShardMapping:
    return ShardMapping(Settings(**{"tumbling_window_in_seconds": 60, **settings}))


def item(number: int, second: float, *, lane: int = 0, wanted: bool = True) -> Item:
    return Item(number, START + second, 100, None, lane, wanted)


class TestReaderThatBeginsAnew:
    def test_begins_with_the_window_that_was_open(self) -> None:
        shard = mapping()
        shard.add([item(1, 0), item(2, 61), item(3, 62)], START + 63)
        for _ in range(2):
            assert isinstance(shard.next(START + 63), Invoke)
            shard.answered({"state": {}}, START + 63)

        assert shard.checkpoint == 3
        assert shard.resume_after == 1

    def test_begins_with_a_window_that_a_faster_lane_has_ended_where_the_open_one_lies_in_it(self) -> None:
        shard = mapping(parallelization_factor=2)
        shard.add([item(1, 0, wanted=False), item(2, 10, lane=1), item(3, 20), item(4, 30, lane=1)], START + 61)
        shard.add([item(5, 61, lane=1)], START + 61)
        open_one, final = shard.next(START + 61), shard.next(START + 61)
        assert isinstance(open_one, Invoke)
        assert isinstance(final, Invoke)
        assert final.window is not None
        assert final.window.is_final

        shard.answered({"state": {}}, START + 61, open_one.lane)
        shard.answered({"state": {}}, START + 61, final.lane)

        assert shard.checkpoint == 4
        assert shard.resume_after == 1

    def test_waits_for_the_stream_to_be_read_up_to_the_windows_end(self) -> None:
        shard = mapping()
        shard.add([item(1, 0)], START)
        shard.next(START)
        shard.answered({"state": {}}, START)
        assert shard.next(START) == Wait(START + 60)

        late = START + 1000
        assert isinstance(shard.next(late), Idle)
        shard.caught_up(START + 59)
        assert isinstance(shard.next(late), Idle)
        shard.caught_up(START + 60)

        assert isinstance(shard.next(late), Invoke)

    def test_a_record_that_arrived_a_little_before_the_window_is_in_it(self) -> None:
        shard = mapping()
        shard.add([item(1, 61), item(2, 59), item(3, 62)], START + 62)

        action = shard.next(START + 62)

        assert isinstance(action, Invoke)
        assert [item.sequence_number for item in action.items] == [1, 2, 3]

    def test_a_window_whose_records_were_all_too_old_is_forgotten(self) -> None:
        shard = mapping()
        shard.add([item(1, 0)], START)

        assert isinstance(shard.next(START + 90_000), Discard)
        shard.caught_up(START + 90_000)

        assert isinstance(shard.next(START + 90_000), Idle)
        assert shard.resume_after == 1


@given(
    steps=st.lists(st.tuples(st.floats(0, 40), st.sampled_from("abc")), max_size=30),
    batch_size=st.integers(1, 4),
    bisect=st.booleans(),
    failures=st.lists(st.sampled_from(["", "", "raise", "first", "last"]), max_size=20),
)
def test_every_window_ends_with_the_count_of_its_records_whatever_fails(
    steps: list[tuple[float, str]], batch_size: int, bisect: bool, failures: list[str]
) -> None:
    results: dict[str, dict[str, int]] = {}
    how = iter(failures)

    def function(event: dict[str, Any], context: Any) -> Any:
        failure = next(how, "")
        if failure == "raise":
            raise ValueError("no")
        records, state = event["Records"], event["state"]
        answer: dict[str, Any] = {}
        if failure and records:
            cut = 0 if failure == "first" else len(records) - 1
            answer["batchItemFailures"] = [{"itemIdentifier": records[cut]["kinesis"]["sequenceNumber"]}]
            records = records[:cut]
        for record in records:
            key = record["kinesis"]["partitionKey"]
            state[key] = state.get(key, 0) + 1
        if event["isFinalInvokeForWindow"] and "batchItemFailures" not in answer:
            assert event["window"]["start"] not in results, "a window ended twice"
            results[event["window"]["start"]] = state
        return answer | {"state": state}

    mapping = EventSourceMapping(
        function,
        batch_size=batch_size,
        bisect_batch_on_function_error=bisect,
        function_response_types=REPORTS,
        tumbling_window_in_seconds=60,
    )
    expected: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for seconds, key in steps:
        mapping.advance(seconds)
        window = expected[int(mapping.now // 60)]
        window[key] = window.get(key, 0) + 1
        mapping.put(b"1", key)
    mapping.run_until_idle()

    assert list(results.values()) == [expected[number] for number in sorted(expected)]
    assert list(results) == sorted(results)
