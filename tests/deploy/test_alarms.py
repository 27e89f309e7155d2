"""When the alarms of function.yaml fire, and when they do not."""

from __future__ import annotations

from typing import Any

import pytest

from .alarms import fires

Template = dict[str, Any]
NONE = [None] * 12
#: Five minutes each: in the queue and not received, received or returned, delayed, deleted.
RETRIES_THAT_STAY = {
    "an outage that has begun: all is returned, and nothing leaves": ([0] * 12, [500] * 12, [0] * 12, [0] * 12),
    "the same, where SQS has no figure of what leaves": ([0] * 12, [500] * 12, [0] * 12, NONE),
    "one that ends its process each time": ([0] * 12, [1] * 12, [0] * 12, [0] * 12),
    "more comes than leaves": ([400 * n for n in range(12)], [10] * 12, [50] * 12, [600] * 12),
    "a backlog that neither grows nor shrinks": ([9000] * 12, [100] * 12, [0] * 12, [3000] * 12),
}
RETRIES_THAT_FLOW = {
    "none": (NONE, NONE, NONE, NONE),
    "none since a while": ([0] * 12, [0] * 12, [0] * 12, [0] * 12),
    "much fails, and is tried in time": ([30] * 12, [100] * 12, [400] * 12, [12_000] * 12),
    "one now and then": ([0.2] * 12, [0] * 12, [0.2] * 12, [3] * 12),
    "a burst, gone after twenty minutes": ([9000, 6000, 3000, *[0] * 9], [100] * 12, [0] * 12, [3000] * 3 + [200] * 9),
    "many that Retry(delay) has told to wait": ([0] * 12, [0] * 12, [5000 + n for n in range(12)], [0] * 12),
}


def of_the_queue(figures: tuple[list[float | None], ...]) -> dict[str, list[float | None]]:
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
