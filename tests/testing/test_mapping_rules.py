"""What holds in every delivery, whatever hypothesis makes up: the rules of Lambda's event source mapping, one by one."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

import msgspec
import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.local.mapping import lane_of
from streamkit.testing import EventSourceMapping

REPORTS = ["ReportBatchItemFailures"]
SHARD = "shardId-000000000000"


def texts_of(event: Any) -> list[str]:
    return [pybase64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@given(
    shards=st.integers(1, 3),
    lanes=st.integers(1, 3),
    window=st.sampled_from([0, 20]),
    batch_size=st.integers(1, 6),
    steps=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 2), st.sampled_from("abc")), max_size=25),
    failing=st.sets(st.integers(0, 40), max_size=10),
)
def test_a_batch_mixes_neither_shards_nor_lanes_nor_windows(
    shards: int, lanes: int, window: int, batch_size: int, steps: list[Any], failing: set[int]
) -> None:
    calls = 0

    def function(event: Any, context: Any) -> Any:
        nonlocal calls
        calls += 1
        assert len(event["Records"]) <= batch_size
        assert len({record["eventID"].partition(":")[0] for record in event["Records"]}) <= 1
        assert len({lane_of(record["kinesis"]["partitionKey"], 0, lanes) for record in event["Records"]}) <= 1
        if window:
            start, end = seconds(event["window"]["start"]), seconds(event["window"]["end"])
            assert end - start == window
            assert start % window == 0
            for record in event["Records"]:
                assert event["shardId"] == record["eventID"].partition(":")[0]
                assert start <= record["kinesis"]["approximateArrivalTimestamp"] < end
        else:
            assert set(event) == {"Records"}
        if calls in failing:
            raise ValueError
        return {"state": event.get("state", {})}

    mapping = EventSourceMapping(
        function,
        shards=shards,
        parallelization_factor=lanes,
        batch_size=batch_size,
        tumbling_window_in_seconds=window,
        function_response_types=REPORTS,
    )
    for wait, shard, key in steps:
        mapping.advance(wait)
        mapping.put(b"1", key, shard % shards)
    mapping.run_until_idle()

    assert sum(len(event["Records"]) for event, response in mapping.invocations if isinstance(response, dict)) == len(
        steps
    )


@given(count=st.integers(1, 200), data=st.data(), retries=st.integers(0, 2))
def test_bisecting_isolates_one_bad_record_in_a_bounded_number_of_invocations(
    count: int, data: st.DataObject, retries: int
) -> None:
    bad = str(data.draw(st.integers(0, count - 1)))

    def function(event: Any, context: Any) -> None:
        if bad in texts_of(event):
            raise ValueError

    mapping = EventSourceMapping(
        function,
        batch_size=count,
        bisect_batch_on_function_error=True,
        maximum_retry_attempts=retries,
        enabled=False,
    )
    numbers = [mapping.put(str(n).encode(), "key") for n in range(count)]
    mapping.enable()
    mapping.run_until_idle()

    delivered = [text for event, response in mapping.invocations if response is None for text in texts_of(event)]
    assert delivered == [str(n) for n in range(count) if str(n) != bad]
    (document,) = mapping.discarded
    info, context = document["KinesisBatchInfo"], document["requestContext"]
    assert info["startSequenceNumber"] == info["endSequenceNumber"] == numbers[int(bad)]
    assert (info["batchSize"], context["approximateInvokeCount"]) == (1, retries + 1)
    splits = math.ceil(math.log2(count))
    assert len(mapping.invocations) <= 2 * splits + retries + 1
    assert mapping.checkpoints == {SHARD: numbers[-1]}


@given(retries=st.integers(0, 4), count=st.integers(1, 6), fails_first=st.integers(0, 4))
def test_each_record_that_an_answer_names_has_its_n_plus_one_invocations_from_when_the_checkpoint_reached_it(
    retries: int, count: int, fails_first: int
) -> None:
    # The first batch fails as a whole a few times, then each record is named until it is given up.
    calls = 0
    named: Counter[str] = Counter()

    def function(event: Any, context: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls <= min(fails_first, retries):
            raise ValueError
        records = event["Records"]
        if len(records) == 1:
            named[records[0]["kinesis"]["sequenceNumber"]] += 1
            return {"batchItemFailures": [{"itemIdentifier": records[0]["kinesis"]["sequenceNumber"]}]}
        return {"batchItemFailures": [{"itemIdentifier": records[-1]["kinesis"]["sequenceNumber"]}]}

    mapping = EventSourceMapping(
        function, maximum_retry_attempts=retries, function_response_types=REPORTS, batch_size=count, enabled=False
    )
    numbers = [mapping.put(b"1", "key") for _ in range(count)]
    mapping.enable()
    mapping.run_until_idle()

    used_up = min(fails_first, retries) if count == 1 else 0
    assert named == {numbers[-1]: retries + 1 - used_up}
    assert [document["requestContext"]["approximateInvokeCount"] for document in mapping.discarded] == [retries + 1]


def test_the_documents_of_lanes_tell_their_own_records_and_requests() -> None:
    requests: dict[str, list[str]] = defaultdict(list)

    def function(event: Any, context: Any) -> None:
        requests[event["Records"][0]["kinesis"]["partitionKey"]].append(context.aws_request_id)
        raise ValueError

    mapping = EventSourceMapping(function, parallelization_factor=10, maximum_retry_attempts=1, enabled=False)
    numbers = {key: mapping.put(b"1", key) for key in ("a", "b")}
    more = mapping.put(b"2", "a")
    mapping.enable()
    mapping.run_until_idle()

    told = {
        document["requestContext"]["requestId"]: (
            document["KinesisBatchInfo"]["startSequenceNumber"],
            document["KinesisBatchInfo"]["endSequenceNumber"],
            document["KinesisBatchInfo"]["batchSize"],
            document["requestContext"]["approximateInvokeCount"],
        )
        for document in mapping.discarded
    }
    assert told == {
        requests["a"][-1]: (numbers["a"], more, 2, 2),
        requests["b"][-1]: (numbers["b"], numbers["b"], 1, 2),
    }
    assert mapping.checkpoints == {SHARD: more}


def test_the_state_of_a_window_counts_for_the_payload() -> None:
    sizes: list[int] = []

    def function(event: Any, context: Any) -> Any:
        sizes.append(len(msgspec.json.encode(event)))
        return {"state": {"text": "x" * 900_000}}

    mapping = EventSourceMapping(function, tumbling_window_in_seconds=60)
    mapping.put(b"first", "key")
    mapping.advance(1)
    for _ in range(50):
        mapping.put(b"x" * 100_000, "key")
    mapping.run_until_idle()

    assert max(sizes) <= 6_000_000
    assert max(sizes) > 5_800_000


@pytest.mark.parametrize("wait", [0, 59])
def test_the_age_is_that_at_each_delivery_and_only_the_head_is_cut(wait: float) -> None:
    delivered: list[list[str]] = []

    def function(event: Any, context: Any) -> None:
        delivered.append(texts_of(event))
        mapping.sleep(50)
        raise ValueError

    mapping = EventSourceMapping(function, maximum_record_age_in_seconds=60, enabled=False)
    mapping.put(b"old", "key")
    mapping.advance(wait)
    mapping.put(b"young", "key")
    mapping.enable()
    mapping.run_until_idle()

    firsts = [document["KinesisBatchInfo"]["batchSize"] for document in mapping.discarded]
    if wait:
        assert delivered == [["old", "young"], ["young"]]
        assert firsts == [1, 1]
    else:
        assert delivered == [["old", "young"], ["old", "young"]]
        assert firsts == [2]
