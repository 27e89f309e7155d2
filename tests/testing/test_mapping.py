"""``EventSourceMapping``: a stream and its mapping on a virtual clock."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from streamkit.testing import Crash, EventSourceMapping
from streamkit.testing.mapping import InvocationTimedOut, Throttled

SHARD = "shardId-000000000000"
REPORTS: dict[str, Any] = {"function_response_types": ["ReportBatchItemFailures"]}


class Function:
    """Notes the data and the time of each invocation, then does what it is told."""

    def __init__(self, does: Callable[[list[str], Any], Any] | None = None) -> None:
        self.does = does or (lambda texts, context: None)
        self.batches: list[list[str]] = []
        self.times: list[float] = []
        self.mapping: EventSourceMapping | None = None

    def __call__(self, event: Any, context: Any) -> Any:
        texts = [base64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]
        self.batches.append(texts)
        if self.mapping is not None:
            self.times.append(round(self.mapping.now - self.started_at, 6))
        return self.does(texts, context)

    def mapped(self, **settings: Any) -> EventSourceMapping:
        self.mapping = EventSourceMapping(self, **settings)
        self.started_at = self.mapping.now
        return self.mapping


def raising(error: BaseException) -> Callable[[list[str], Any], Any]:
    def does(texts: list[str], context: Any) -> Any:
        raise error

    return does


def put(mapping: EventSourceMapping, *texts: str, shard: int = 0) -> list[str]:
    return [mapping.put(text.encode(), "key", shard) for text in texts]


class TestDelivery:
    def test_the_function_gets_the_event_that_lambda_sends(self) -> None:
        events: list[Any] = []
        mapping = EventSourceMapping(lambda event, context: events.append(event), stream="orders")
        number = mapping.put(b"\xff", "customer-7")
        mapping.run_until_idle()

        ((record,),) = [event["Records"] for event in events]
        assert record == {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": "customer-7",
                "sequenceNumber": number,
                "data": "/w==",
                "approximateArrivalTimestamp": 1_767_225_600.0,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{SHARD}:{number}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": record["invokeIdentityArn"],
            "awsRegion": "us-east-1",
            "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/orders",
        }
        assert len(number) == 56

    def test_what_a_function_does_to_its_event_changes_no_later_delivery(self) -> None:
        def spoils(event: Any, context: Any) -> None:
            seen.append(json.dumps(event))
            event["Records"][0]["kinesis"]["data"] = "spoiled"
            event["Records"].clear()
            if len(seen) == 1:
                raise ValueError

        seen: list[str] = []
        mapping = EventSourceMapping(spoils)
        put(mapping, "a")
        mapping.run_until_idle()

        assert seen[0] == seen[1]
        assert [json.dumps(event) for event, _ in mapping.invocations] == seen

    def test_it_is_as_if_nothing_happened_until_time_passes(self) -> None:
        function = Function()
        mapping = function.mapped()
        put(mapping, "a")
        assert function.batches == []

        mapping.advance(0)
        assert function.batches == [["a"]]
        assert mapping.checkpoints == {SHARD: mapping.invocations[0][0]["Records"][0]["kinesis"]["sequenceNumber"]}

    def test_a_record_without_a_partition_key_has_none_in_the_event(self) -> None:
        mapping = EventSourceMapping(lambda event, context: None)
        mapping.put(b"a", None)
        mapping.put(b"b", "", explicit_hash_key="17")
        mapping.run_until_idle()

        first, second = mapping.invocations[0][0]["Records"]
        assert "partitionKey" not in first["kinesis"]
        assert "explicitHashKey" not in second["kinesis"]

    def test_no_batch_is_over_six_megabytes_of_json(self) -> None:
        mapping = EventSourceMapping(lambda event, context: None, batch_size=10_000)
        for _ in range(9):
            mapping.put(bytes(1_000_000), "key")
        mapping.run_until_idle()

        sizes = [len(json.dumps(event)) for event, _ in mapping.invocations]
        assert [len(event["Records"]) for event, _ in mapping.invocations] == [4, 4, 1]
        assert max(sizes) <= 6_000_000

    def test_a_batch_is_filled_up_to_the_last_record_that_fits(self) -> None:
        mapping = EventSourceMapping(lambda event, context: None, batch_size=10_000, maximum_payload_in_bytes=100_000)
        for number in range(500):
            mapping.put(b"x" * number, "größe")
        mapping.run_until_idle()

        def size(records: list[Any]) -> int:
            return len(json.dumps({"Records": records}, separators=(",", ":"), ensure_ascii=False).encode())

        batches = [event["Records"] for event, _ in mapping.invocations]
        assert len(batches) > 3
        for batch, following in pairwise(batches):
            assert size(batch) <= 100_000 < size([*batch, following[0]])

    def test_a_record_of_ten_mebibytes_is_delivered_alone(self) -> None:
        function = Function(lambda texts, context: None)
        mapping = function.mapped()
        put(mapping, "a")
        mapping.put(b"x" * 10 * 1024 * 1024, "key")
        put(mapping, "b")
        mapping.run_until_idle()

        assert [len(batch[0]) for batch in function.batches] == [1, 10 * 1024 * 1024, 1]

    def test_a_function_can_put_records_itself(self) -> None:
        def does(texts: list[str], context: Any) -> None:
            if texts == ["a"]:
                put(mapping, "b")

        function = Function(does)
        mapping = function.mapped()
        put(mapping, "a")
        mapping.advance(0)

        assert function.batches == [["a"], ["b"]]

    def test_a_function_can_put_records_into_a_shard_that_had_its_turn(self) -> None:
        function = Function(lambda texts, context: put(mapping, "to the first") if texts == ["a"] else None)
        mapping = function.mapped(shards=2)
        put(mapping, "a", shard=1)
        mapping.run_until_idle()

        assert function.batches == [["a"], ["to the first"]]

    def test_an_unknown_shard_is_refused(self) -> None:
        mapping = EventSourceMapping(lambda event, context: None, shards=2)

        for shard in (2, -1):
            with pytest.raises(ValueError, match="shard"):
                put(mapping, "a", shard=shard)

    def test_settings_are_checked_when_the_mapping_is_made(self) -> None:
        with pytest.raises(ValueError, match="batch_size"):
            EventSourceMapping(lambda event, context: None, batch_size=0)
        with pytest.raises(ValueError, match="parallelization_factor"):
            EventSourceMapping(lambda event, context: None, parallelization_factor=11)
        with pytest.raises(TypeError, match="batchsize"):
            EventSourceMapping(lambda event, context: None, batchsize=10)


class TestClock:
    def test_a_window_fires_when_it_is_over_and_not_before(self) -> None:
        function = Function()
        mapping = function.mapped(maximum_batching_window_in_seconds=10)
        put(mapping, "a")
        mapping.advance(4)
        put(mapping, "b")
        mapping.advance(5.9)
        assert function.batches == []

        mapping.advance(0.1)
        assert (function.batches, function.times) == ([["a", "b"]], [10])

    def test_many_small_steps_come_out_where_one_large_one_does(self) -> None:
        function = Function()
        mapping = function.mapped(maximum_batching_window_in_seconds=10)
        put(mapping, "a")
        for _ in range(100):
            mapping.advance(0.1)

        assert function.times == [10]

    def test_retries_fall_due_by_an_exponential_backoff_with_a_limit(self) -> None:
        function = Function(raising(ValueError()))
        mapping = function.mapped()
        put(mapping, "a")
        mapping.advance(300)

        assert [later - earlier for earlier, later in pairwise(function.times)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    def test_an_always_failing_record_ends_by_expiry(self) -> None:
        function = Function(raising(ValueError()))
        mapping = function.mapped()
        put(mapping, "a")
        mapping.run_until_idle()

        (document,) = mapping.discarded
        assert document["requestContext"]["condition"] == "RecordAgeExceeded"
        assert document["requestContext"]["approximateInvokeCount"] == len(function.batches) == len(mapping.invocations)
        assert 86_400 - 60 <= function.times[-1] <= 86_400
        assert 1_400 < len(function.batches) < 1_500

    def test_run_until_idle_waits_for_windows_and_leaves_nothing(self) -> None:
        function = Function()
        mapping = function.mapped(maximum_batching_window_in_seconds=300, shards=2)
        put(mapping, "a")
        put(mapping, "b", shard=1)
        mapping.run_until_idle()

        assert function.batches == [["a"], ["b"]]
        assert function.times == [300, 300]

    def test_what_a_sleeping_function_made_late_is_left_for_the_next_advance(self) -> None:
        function = Function(lambda texts, context: mapping.sleep(10))
        mapping = function.mapped(batch_size=1)
        put(mapping, "a", "b", "c")
        mapping.advance(15)

        assert function.batches == [["a"], ["b"]]
        mapping.advance(5)
        assert function.times == [0, 10, 20]

    def test_what_a_sleeping_function_made_late_is_left_in_other_shards_too(self) -> None:
        function = Function(lambda texts, context: mapping.sleep(10))
        mapping = function.mapped(shards=2)
        put(mapping, "a")
        put(mapping, "b", shard=1)
        mapping.advance(5)

        assert function.batches == [["a"]]

    def test_the_clock_runs_once(self) -> None:
        function = Function(lambda texts, context: mapping.run_until_idle())
        mapping = function.mapped(maximum_retry_attempts=0)
        put(mapping, "a")
        mapping.run_until_idle()

        assert isinstance(mapping.invocations[0][1], RuntimeError)

    def test_time_goes_forward(self) -> None:
        mapping = EventSourceMapping(lambda event, context: None)

        for seconds in (-1, float("nan")):
            with pytest.raises(ValueError, match="forward"):
                mapping.advance(seconds)
            with pytest.raises(ValueError, match="forward"):
                mapping.sleep(seconds)


class TestTimeOut:
    def test_sleep_moves_the_clock_that_the_context_reads(self) -> None:
        def does(texts: list[str], context: Any) -> None:
            for seconds in (0, 0.1, 50):
                mapping.sleep(seconds)
                remaining.append(context.get_remaining_time_in_millis())

        remaining: list[int] = []
        mapping = Function(does).mapped()
        put(mapping, "a")
        mapping.advance(0)

        assert remaining == [60_000, 59_900, 9_900]

    def test_past_the_time_out_the_invocation_fails_there_and_the_clock_stands_at_it(self) -> None:
        def does(texts: list[str], context: Any) -> None:
            try:
                mapping.sleep(1000)
            except Exception:
                reached.append("swallowed")
            reached.append("went on")

        reached: list[str] = []
        function = Function(does)
        mapping = function.mapped(maximum_retry_attempts=0, function_timeout_in_seconds=30)
        put(mapping, "a")
        mapping.run_until_idle()

        assert reached == []
        assert isinstance(mapping.invocations[0][1], InvocationTimedOut)
        assert mapping.now - function.started_at == 30
        assert mapping.discarded[0]["responseContext"]["functionError"] == "Unhandled"

    def test_an_answer_later_than_the_time_out_counts_as_none(self) -> None:
        def does(texts: list[str], context: Any) -> Any:
            try:
                mapping.sleep(61)
            except BaseException:
                return {"batchItemFailures": []}

        mapping = Function(does).mapped(maximum_retry_attempts=0, **REPORTS)
        put(mapping, "a")
        mapping.run_until_idle()

        assert isinstance(mapping.invocations[0][1], InvocationTimedOut)
        assert len(mapping.discarded) == 1

    def test_it_is_a_time_out_too_when_a_thread_of_the_function_slept(self) -> None:
        def does(texts: list[str], context: Any) -> None:
            with ThreadPoolExecutor(4) as pool:
                for _ in range(4):
                    pool.submit(mapping.sleep, 20)

        mapping = Function(does).mapped(maximum_retry_attempts=0)
        put(mapping, "a")
        mapping.advance(0)

        assert isinstance(mapping.invocations[0][1], InvocationTimedOut)

    def test_sleeps_of_several_threads_add_up(self) -> None:
        def does(texts: list[str], context: Any) -> None:
            with ThreadPoolExecutor(4) as pool:
                for future in [pool.submit(mapping.sleep, 10) for _ in range(4)]:
                    future.result()
            remaining.append(context.get_remaining_time_in_millis())

        remaining: list[int] = []
        mapping = Function(does).mapped()
        put(mapping, "a")
        mapping.advance(0)

        assert remaining == [20_000]

    def test_outside_a_function_there_is_nobody_to_sleep(self) -> None:
        with pytest.raises(RuntimeError, match="advance"):
            EventSourceMapping(lambda event, context: None).sleep(1)

    def test_the_context_has_what_lambdas_has(self) -> None:
        def function(event: Any, context: Any) -> None:
            contexts.append(context)

        contexts: list[Any] = []
        mapping = EventSourceMapping(function, batch_size=1)
        put(mapping, "a", "b")
        mapping.run_until_idle()

        first, second = contexts
        assert first.aws_request_id != second.aws_request_id
        assert first.invoked_function_arn.endswith(f":function:{first.function_name}")
        assert (first.function_version, first.memory_limit_in_mb) == ("$LATEST", "128")
        assert first.log_group_name == f"/aws/lambda/{first.function_name}"
        assert "[$LATEST]" in first.log_stream_name


class TestFailure:
    @pytest.mark.parametrize("error", [ValueError("bad"), Crash(), SystemExit(1)])
    def test_an_invocation_fails_by_an_exception_a_crash_or_an_exit(self, error: BaseException) -> None:
        mapping = Function(raising(error)).mapped(maximum_retry_attempts=1)
        put(mapping, "a")
        mapping.run_until_idle()

        assert [response for _, response in mapping.invocations] == [error, error]
        assert len(mapping.discarded) == 1

    def test_an_interrupt_comes_out_and_the_record_stays_in_the_stream(self) -> None:
        function = Function(raising(KeyboardInterrupt()))
        mapping = function.mapped()
        put(mapping, "a")
        with pytest.raises(KeyboardInterrupt):
            mapping.advance(0)

        function.does = lambda texts, context: None
        mapping.run_until_idle()
        assert function.batches == [["a"], ["a"]]

    def test_an_answer_that_is_no_json_is_an_error_of_the_function(self) -> None:
        mapping = Function(lambda texts, context: {"batchItemFailures": object()}).mapped(maximum_retry_attempts=0)
        put(mapping, "a")
        mapping.run_until_idle()

        assert isinstance(mapping.invocations[0][1], TypeError)
        assert len(mapping.discarded) == 1

    def test_an_answer_counts_as_it_is_after_json(self) -> None:
        def function(event: Any, context: Any) -> Any:
            numbers = [record["kinesis"]["sequenceNumber"] for record in event["Records"]]
            return {"batchItemFailures": tuple({"itemIdentifier": number} for number in numbers[1:])}

        mapping = EventSourceMapping(function, **REPORTS)
        first, *_ = put(mapping, "a", "b", "c")
        mapping.advance(0)

        assert mapping.checkpoints == {SHARD: first}

    def test_a_throttled_invocation_never_was_one(self) -> None:
        def does(texts: list[str], context: Any) -> None:
            if len(flaky.batches) < 4:
                raise Throttled

        flaky = Function(does)
        mapping = flaky.mapped(maximum_retry_attempts=0)
        put(mapping, "a")
        mapping.run_until_idle()

        assert mapping.discarded == []
        assert flaky.times == [0, 1, 3, 7]
        assert [response for _, response in mapping.invocations] == [None]

    def test_the_failure_document_is_that_of_lambda(self) -> None:
        def does(texts: list[str], context: Any) -> None:
            requests.append(context.aws_request_id)
            raise ValueError

        requests: list[str] = []
        documents: list[Any] = []
        mapping = Function(does).mapped(maximum_retry_attempts=1, on_failure=documents.append)
        first = mapping.put(b"a", "key")
        mapping.disable()
        mapping.advance(0.25)
        last = mapping.put(b"b", "key")
        mapping.enable()
        mapping.run_until_idle()

        assert documents == mapping.discarded
        assert documents == [
            {
                "requestContext": {
                    "requestId": requests[-1],
                    "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:function",
                    "condition": "RetryAttemptsExhausted",
                    "approximateInvokeCount": 2,
                },
                "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
                "version": "1.0",
                "timestamp": "2026-01-01T00:00:01.250Z",
                "KinesisBatchInfo": {
                    "shardId": SHARD,
                    "startSequenceNumber": first,
                    "endSequenceNumber": last,
                    "approximateArrivalOfFirstRecord": "2026-01-01T00:00:00.000Z",
                    "approximateArrivalOfLastRecord": "2026-01-01T00:00:00.250Z",
                    "batchSize": 2,
                    "streamArn": "arn:aws:kinesis:us-east-1:000000000000:stream/stream",
                },
            }
        ]
        assert mapping.checkpoints == {SHARD: last}

    def test_a_document_about_records_that_an_answer_named_says_that_the_function_had_no_error(self) -> None:
        def function(event: Any, context: Any) -> Any:
            number = event["Records"][0]["kinesis"]["sequenceNumber"]
            return {"batchItemFailures": [{"itemIdentifier": number}]}

        mapping = EventSourceMapping(function, maximum_retry_attempts=0, **REPORTS)
        put(mapping, "a")
        mapping.run_until_idle()

        assert mapping.discarded[0]["responseContext"]["functionError"] is None

    def test_a_document_about_records_too_old_has_no_response(self) -> None:
        mapping = EventSourceMapping(lambda event, context: None, maximum_record_age_in_seconds=60, enabled=False)
        put(mapping, "a")
        mapping.advance(61)
        put(mapping, "b")
        mapping.enable()
        mapping.run_until_idle()

        (document,) = mapping.discarded
        assert document["requestContext"]["condition"] == "RecordAgeExceeded"
        assert document["requestContext"]["approximateInvokeCount"] == 0
        assert "responseContext" not in document
        assert len(mapping.invocations) == 1

    def test_a_destination_that_raises_is_heard_of_and_the_records_are_passed(self) -> None:
        def unreachable(document: Any) -> None:
            raise ConnectionError

        mapping = Function(raising(ValueError())).mapped(maximum_retry_attempts=0, on_failure=unreachable)
        (number,) = put(mapping, "a")
        with pytest.raises(ConnectionError):
            mapping.run_until_idle()

        assert len(mapping.discarded) == 1
        assert mapping.checkpoints == {SHARD: number}


class TestShards:
    def test_a_batch_never_mixes_shards_and_each_has_its_checkpoint(self) -> None:
        function = Function()
        mapping = function.mapped(shards=3)
        (first,) = put(mapping, "a", shard=0)
        (second,) = put(mapping, "b", shard=2)
        mapping.run_until_idle()

        assert function.batches == [["a"], ["b"]]
        assert mapping.checkpoints == {"shardId-000000000000": first, "shardId-000000000002": second}

    def test_a_failing_shard_does_not_hold_up_another(self) -> None:
        def does(texts: list[str], context: Any) -> None:
            if texts[0] == "bad":
                raise ValueError

        function = Function(does)
        mapping = function.mapped(shards=2)
        put(mapping, "bad")
        put(mapping, "good", shard=1)
        mapping.advance(0)

        assert list(mapping.checkpoints) == ["shardId-000000000001"]

    def test_shards_take_turns(self) -> None:
        function = Function()
        mapping = function.mapped(shards=2, batch_size=1)
        put(mapping, "a", "b")
        put(mapping, "c", "d", shard=1)
        mapping.advance(0)

        assert function.batches == [["a"], ["c"], ["b"], ["d"]]

    def test_what_falls_due_in_different_shards_runs_in_the_order_of_time(self) -> None:
        def does(texts: list[str], context: Any) -> None:
            if texts == ["fails twice"] and flaky.batches.count(texts) < 3:
                raise ValueError

        flaky = Function(does)
        mapping = flaky.mapped(shards=2, maximum_batching_window_in_seconds=1)
        put(mapping, "fails twice")
        mapping.advance(0.5)
        put(mapping, "b", shard=1)
        mapping.run_until_idle()

        assert list(zip(flaky.times, flaky.batches, strict=True)) == [
            (1, ["fails twice"]),
            (1.5, ["b"]),
            (2, ["fails twice"]),
            (4, ["fails twice"]),
        ]


class TestPositions:
    def test_from_the_trim_horizon_it_reads_all_that_was_there_before(self) -> None:
        function = Function()
        mapping = function.mapped(enabled=False)
        put(mapping, "a")
        mapping.run_until_idle()
        assert function.batches == []

        mapping.enable()
        mapping.run_until_idle()
        assert function.batches == [["a"]]

    def test_from_the_trim_horizon_it_does_not_read_what_the_stream_no_longer_keeps(self) -> None:
        function = Function()
        mapping = function.mapped(enabled=False, retention_in_seconds=3600)
        put(mapping, "gone")
        mapping.advance(1800)
        put(mapping, "kept")
        mapping.advance(2000)
        mapping.enable()
        mapping.run_until_idle()

        assert function.batches == [["kept"]]
        assert mapping.discarded == []

    def test_at_a_timestamp_that_is_still_to_come_it_reads_what_arrives_then_or_later(self) -> None:
        function = Function()
        mapping = function.mapped(starting_position="AT_TIMESTAMP", starting_position_timestamp=1_767_225_610)
        for text in "abc":
            put(mapping, text)
            mapping.advance(10)

        assert function.batches == [["b"], ["c"]]

    def test_from_the_latest_it_reads_what_comes_after_it_was_enabled_first(self) -> None:
        function = Function()
        mapping = function.mapped(enabled=False, starting_position="LATEST")
        put(mapping, "before")
        mapping.enable()
        put(mapping, "after")
        mapping.disable()
        put(mapping, "in between")
        mapping.enable()
        mapping.run_until_idle()

        assert function.batches == [["after", "in between"]]

    def test_at_a_timestamp_it_reads_what_arrived_then_or_later(self) -> None:
        function = Function()
        mapping = function.mapped(
            enabled=False, starting_position="AT_TIMESTAMP", starting_position_timestamp=1_767_225_610
        )
        for text in "abc":
            put(mapping, text)
            mapping.advance(10)
        mapping.enable()
        mapping.run_until_idle()

        assert function.batches == [["b", "c"]]

    def test_disabled_it_delivers_nothing_and_enabled_it_goes_on_where_it_was(self) -> None:
        function = Function()
        mapping = function.mapped()
        put(mapping, "a")
        mapping.run_until_idle()
        mapping.disable()
        put(mapping, "b")
        mapping.advance(1000)
        assert function.batches == [["a"]]

        mapping.enable()
        mapping.run_until_idle()
        assert function.batches == [["a"], ["b"]]

    def test_a_function_can_disable_its_own_mapping(self) -> None:
        function = Function(lambda texts, context: mapping.disable())
        mapping = function.mapped(batch_size=1)
        first, _ = put(mapping, "a", "b")
        mapping.run_until_idle()

        assert function.batches == [["a"]]
        assert mapping.checkpoints == {SHARD: first}


def test_a_schedule_that_is_played_again_is_the_same_in_every_character() -> None:
    def played() -> str:
        mapping = Function(raising(ValueError("bad"))).mapped(
            maximum_retry_attempts=2, bisect_batch_on_function_error=True, shards=2
        )
        put(mapping, "a", "b", "c")
        put(mapping, "d", shard=1)
        mapping.run_until_idle()
        return repr((mapping.invocations, mapping.discarded, mapping.checkpoints))

    assert played() == played()


def test_close_closes_the_function_and_nothing_else_does() -> None:
    class Closing(Function):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    function = Closing()
    mapping = function.mapped()
    put(mapping, "a")
    mapping.run_until_idle()
    mapping.disable()
    assert function.closed == 0

    mapping.close()
    assert function.closed == 1
    EventSourceMapping(lambda event, context: None).close()
