"""What deploy/backfill.yaml promises beyond what every template does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.validate import HERE, transformed
from processors.backfill import Backfill
from streamkit.cells.memory import MemoryCells
from streamkit.recursion import Done, LongTask, long_task_handler

from .alarms import fires


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found = transformed(HERE / "backfill.yaml")["Resources"]
    return {name: one["Properties"] for name, one in found.items()}


def test_it_may_invoke_itself_alone_and_goes_on_under_a_fuse(resources: dict[str, Any]) -> None:
    function = resources["Backfill"]
    (policy,) = resources["Role"]["Policies"]
    (goes_on,) = [one for one in policy["PolicyDocument"]["Statement"] if one.get("Action") == "lambda:InvokeFunction"]

    assert function["RecursiveLoop"] == "Allow"
    assert function["ReservedConcurrentExecutions"] == {"Ref": "Concurrency"}
    assert goes_on["Resource"]["Fn::Sub"].endswith(f":function:{function['FunctionName']['Fn::Sub']}")
    assert function["Timeout"] >= 2 * Backfill.deadline_margin, "most of an invocation is for objects"


def test_a_chain_that_fails_for_good_leaves_its_event_and_is_told(resources: dict[str, Any]) -> None:
    (tries,) = [one for one in resources.values() if "MaximumRetryAttempts" in one and "DestinationConfig" in one]
    failed = {"Fn::GetAtt": ["Failed", "Arn"]}
    (policy,) = resources["Role"]["Policies"]
    (sends,) = [one for one in policy["PolicyDocument"]["Statement"] if one.get("Action") == "sqs:SendMessage"]

    assert (tries["MaximumRetryAttempts"], tries["DestinationConfig"]["OnFailure"]["Destination"]) == (2, failed)
    assert failed in sends["Resource"]
    assert fires(resources["FailedAlarm"], {"ApproximateNumberOfMessagesVisible": [0, 1]})
    assert resources["FailedAlarm"]["Dimensions"][0]["Value"] == {"Fn::GetAtt": ["Failed", "QueueName"]}


def test_one_that_is_started_in_vain_is_told_by_what_a_long_task_writes(
    resources: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMKIT_METRICS", "emf")

    cells = MemoryCells()

    class Failed(LongTask):
        name = Backfill.name
        guard = cells

        def chain(self, event: Any) -> str:
            return "2025"

        def step(self, cursor: Any, context: Any) -> Any:
            return Done()

    place = {"hop": 3, "owner": "a", "request": "r", "until": 1.0}
    cells.put('["chain","backfill","2025"]', place, "1", seen=None)

    assert long_task_handler(Failed)({})["state"] == "left"

    alarm, line = resources["StuckAlarm"], json.loads(capsys.readouterr().out)
    (described,) = line["_aws"]["CloudWatchMetrics"]
    assert alarm["Namespace"] == described["Namespace"]
    assert line[alarm["MetricName"]] == 1
    assert sorted(one["Name"] for one in alarm["Dimensions"]) == sorted(described["Dimensions"][0])
    assert [one["Value"] for one in alarm["Dimensions"] if one["Name"] == "Processor"] == [line["Processor"]]


def test_it_reads_no_object_that_it_was_not_given(resources: dict[str, Any]) -> None:
    (policy,) = resources["Role"]["Policies"]
    of_s3 = [one for one in policy["PolicyDocument"]["Statement"] if str(one.get("Action")).startswith("s3:")]
    variables = resources["Backfill"]["Environment"]["Variables"]

    assert [one["Resource"]["Fn::Sub"].partition(":s3:::")[2] for one in of_s3] == ["${Bucket}", "${Bucket}/${Prefix}*"]
    assert (variables["BUCKET"], variables["PREFIX"]) == ({"Ref": "Bucket"}, {"Ref": "Prefix"})
