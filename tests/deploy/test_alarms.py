"""When the alarms of function.yaml fire, and when they do not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pytest

from deploy.stack import Settings, parameters_of, settings_of
from streamkit import Record, RecordProcessor, lambda_handler
from streamkit.testing import kinesis_event

from .alarms import fires

Template = dict[str, Any]
Figure = Sequence[float | None]
#: The longest wait, in seconds, before each further try of a record: in a queue by its backoff, and in a topic.
BY_QUEUE = (15, 30, 60)
BY_TOPIC = (0, 60, 120)
Queue = tuple[Figure, Figure, Figure, Figure]
NONE: Figure = [None] * 12
#: Five minutes each: in the queue and not received, received or returned, delayed, deleted.
RETRIES_THAT_STAY: dict[str, Queue] = {
    "an outage that has begun: all is returned, and nothing leaves": ([0] * 12, [500] * 12, [0] * 12, [0] * 12),
    "the same, where SQS has no figure of what leaves": ([0] * 12, [500] * 12, [0] * 12, NONE),
    "one that ends its process each time": ([0] * 12, [1] * 12, [0] * 12, [0] * 12),
    "more comes than leaves": ([400 * n for n in range(12)], [10] * 12, [50] * 12, [600] * 12),
    "a backlog that neither grows nor shrinks": ([9000] * 12, [100] * 12, [0] * 12, [3000] * 12),
}
RETRIES_THAT_FLOW: dict[str, Queue] = {
    "none": (NONE, NONE, NONE, NONE),
    "none since a while": ([0] * 12, [0] * 12, [0] * 12, [0] * 12),
    "much fails, and is tried in time": ([30] * 12, [100] * 12, [400] * 12, [12_000] * 12),
    "one now and then": ([0.2] * 12, [0] * 12, [0.2] * 12, [3] * 12),
    "a burst, gone after twenty minutes": ([9000, 6000, 3000, *[0] * 9], [100] * 12, [0] * 12, [3000] * 3 + [200] * 9),
    "many that Retry(delay) has told to wait": ([0] * 12, [0] * 12, [5000 + n for n in range(12)], [0] * 12),
}


def of_the_queue(figures: Queue) -> Mapping[str, Figure]:
    waiting, returned, delayed, left = figures
    return {
        "ApproximateNumberOfMessagesVisible": waiting,
        "ApproximateNumberOfMessagesNotVisible": returned,
        "ApproximateNumberOfMessagesDelayed": delayed,
        "NumberOfMessagesDeleted": left,
    }


@pytest.mark.parametrize("what", RETRIES_THAT_STAY)
def test_retries_that_stay_in_their_queue_are_an_alarm(function: Template, what: str) -> None:
    alarm = function["Resources"]["RetriesWaitingAlarm"]["Properties"]

    assert fires(alarm, of_the_queue(RETRIES_THAT_STAY[what]))


@pytest.mark.parametrize("what", RETRIES_THAT_FLOW)
def test_retries_that_are_tried_in_time_are_none(function: Template, what: str) -> None:
    alarm = function["Resources"]["RetriesWaitingAlarm"]["Properties"]

    assert not fires(alarm, of_the_queue(RETRIES_THAT_FLOW[what]))


def test_retries_by_a_topic_that_wait_or_are_lost_are_an_alarm(function: Template) -> None:
    waiting, lost = (function["Resources"][name] for name in ("TopicWaitingAlarm", "TopicLossAlarm"))
    assert waiting["Condition"] == lost["Condition"] == "HasTopic"

    # In milliseconds, of five minutes each: a third try is three minutes old.
    assert not fires(waiting["Properties"], {"AsyncEventAge": [None, 190_000, 185_000, 195_000, None]})
    assert fires(waiting["Properties"], {"AsyncEventAge": [None, 300_000, 650_000, 950_000]})
    assert not fires(lost["Properties"], {"DeadLetterErrors": [None, 0, 0]})
    assert fires(lost["Properties"], {"DeadLetterErrors": [None, 1, None]})
    assert function["Resources"]["Processor"]["Properties"]["DeadLetterConfig"], "that of the loss"


def test_a_mapping_that_stops_is_an_alarm_where_there_are_heartbeats(function: Template) -> None:
    resource = function["Resources"]["HeartbeatAlarm"]
    alarm = resource["Properties"]
    assert resource["Condition"] == "HasHeartbeats"
    assert alarm["Namespace"] == "streamkit"
    assert alarm["Dimensions"] == function["Resources"]["FailuresAlarm"]["Properties"]["Dimensions"]
    # How many came through: nothing is invoked where the mapping is disabled, or may not read, so there is no figure at all.
    assert (alarm["MetricName"], alarm["Statistic"]) == ("HeartbeatAge", "SampleCount")

    assert fires(alarm, {"HeartbeatAge": [5, 5, 2, None, None, None]})
    assert not fires(alarm, {"HeartbeatAge": [5, 5, 2, None, 5, 5]}), "one that had to wait for its batch to be full"
    # What it is for: the age is silent then.
    silent: Mapping[str, Figure] = {"IteratorAge": [20, None, None, None, None, None]}
    assert not fires(function["Resources"]["AgeAlarm"]["Properties"], silent, {"MostAgeSeconds": 300})


def test_a_batch_that_waits_to_be_full_holds_its_heartbeats_no_longer_than_the_alarm_waits(function: Template) -> None:
    alarm = function["Resources"]["HeartbeatAlarm"]["Properties"]
    window = function["Parameters"]["BatchWindowSeconds"]["MaxValue"]

    assert alarm["Period"] * (alarm["EvaluationPeriods"] - 1) >= window


@pytest.mark.parametrize("stage", ["dev", "staging", "prod"])
def test_each_stage_has_heartbeats_and_its_functions_miss_them(stage: str) -> None:
    settings = settings_of(stage)

    assert "heartbeat" in settings.beside
    assert all(parameters_of(settings, name)["Heartbeats"] == "yes" for name in settings.functions)
    without = Settings(settings.stream, settings.functions)
    assert all(parameters_of(without, name)["Heartbeats"] == "no" for name in settings.functions)


def minutes_of(begun: int, waits: Sequence[int], records: int = 1) -> list[float | None]:
    """In each minute, how many of the tries of so many records were there, which all began at one time (in seconds)."""
    tries = Counter(begun // 60 for _ in range(records))
    for n in range(len(waits)):
        tries[(begun + sum(waits[: n + 1])) // 60] += records
    return [float(tries[minute]) for minute in range(8)]


def every_way_to_fail() -> list[list[float | None]]:
    """The failures by the minute of two bad records of one batch, for whatever the waits come to."""
    by_queue = product(range(0, 60, 5), *(range(0, most + 1, 5) for most in BY_QUEUE))
    return [
        *(minutes_of(begun, waits, 2) for begun, *waits in by_queue),
        *(minutes_of(begun, BY_TOPIC, 2) for begun in range(0, 60, 5)),
    ]


@pytest.mark.parametrize("name", ["FailuresAlarm", "NewVersionFailuresAlarm"])
def test_two_bad_records_are_left_to_the_dead_letters_and_a_version_that_fails_them_all_is_not(
    function: Template, name: str
) -> None:
    alarm = function["Resources"][name]["Properties"]
    default = {"MostFailures": function["Parameters"]["MostFailures"]["Default"]}

    assert not any(fires(alarm, {alarm["MetricName"]: minutes}, default) for minutes in every_way_to_fail())
    assert any(fires(alarm, {alarm["MetricName"]: minutes}, {"MostFailures": 0}) for minutes in every_way_to_fail())
    assert fires(alarm, {alarm["MetricName"]: [0, 3, 40, 60]}, default)


def test_behind_a_topic_a_record_that_fails_raises_and_counts_as_a_failure_does(function: Template) -> None:
    for name in ("ErrorsAlarm", "NewVersionErrorsAlarm"):
        alarm = function["Resources"][name]["Properties"]
        assert alarm["Threshold"] == {"Fn::If": ["HasTopic", {"Ref": "MostFailures"}, 0]}


@pytest.mark.parametrize("name", ["ErrorsAlarm", "NewVersionErrorsAlarm"])
def test_what_times_out_each_time_is_an_alarm_though_no_two_minutes_in_a_row_have_an_error(
    function: Template, name: str
) -> None:
    # But behind a topic.
    alarm = function["Resources"][name]["Properties"] | {"Threshold": 0}

    assert fires(alarm, {"Errors": [1, None, None, 1, None, 1]})
    assert not fires(alarm, {"Errors": [None, 1, None, None, None, None, None]}), "one that Lambda has done again"


class Orders(RecordProcessor):
    name = "orders"

    def process(self, record: Record) -> None:
        if record.data == b"bad":
            raise ValueError("no")


class Context:
    function_name = "streamkit-dev-orders"
    function_version = "7"
    aws_request_id = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"

    def get_remaining_time_in_millis(self) -> int:
        return 10_000


def test_a_line_says_the_version_that_failed(
    function: Template, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_lines = function["Resources"]["FailedByVersion"]["Properties"]
    (made,) = of_lines["MetricTransformations"]
    alarm = function["Resources"]["NewVersionFailuresAlarm"]["Properties"]
    assert (made["MetricNamespace"], made["MetricName"]) == (alarm["Namespace"], alarm["MetricName"])
    assert [one["Key"] for one in made["Dimensions"]] == [one["Name"] for one in alarm["Dimensions"]]
    monkeypatch.setenv("STREAMKIT_METRICS", "emf")

    lambda_handler(Orders())(kinesis_event(["good", "bad"]), Context())

    line = json.loads(capsys.readouterr().out)
    assert of_lines["FilterPattern"] == "{ $.Failed > 0 }"
    assert line[made["MetricValue"].removeprefix("$.")] == 1
    values = [line[one["Value"].removeprefix("$.")] for one in made["Dimensions"]]
    assert values == ["streamkit-dev-orders", "7"]
