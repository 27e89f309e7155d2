"""What deploy/sqs-loop.yaml promises beyond what every template does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy.validate import HERE, transformed
from streamkit.cells.memory import MemoryCells
from streamkit.loops import function as settings
from streamkit.loops.plan import Depth, Limits
from streamkit.loops.supervisor import Supervisor

from .alarms import fires

Template = dict[str, Any]


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found = transformed(HERE / "sqs-loop.yaml")["Resources"]
    return {name: one["Properties"] for name, one in found.items()}


@pytest.mark.parametrize(
    ("wanted", "alive", "is_alarm"),
    [
        ([1] * 12, [1] * 12, False),
        ([0] * 12, [0] * 12, False),
        ([2] * 12, [0] * 12, True),
        # One that died comes again after some minutes.
        ([1] * 12, [1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1], False),
        # The supervisor does not run.
        ([None] * 12, [None] * 12, True),
        ([1, 1, None, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, None, 1, 1, 1, 1, 1, 1, 1, 1, 1], False),
    ],
)
def test_loops_that_are_wanted_and_not_alive_are_an_alarm_and_so_is_silence(
    resources: Template, wanted: list[float | None], alive: list[float | None], is_alarm: bool
) -> None:
    figures = {"loops.wanted": wanted, "loops.alive": alive}

    assert fires(resources["NoLoopAlarm"], figures) is is_alarm


def test_loops_that_die_again_and_again_are_an_alarm_and_one_crash_is_not(resources: Template) -> None:
    assert fires(resources["RestartsAlarm"], {"loops.restarted": [5, 5, 5]})
    assert not fires(resources["RestartsAlarm"], {"loops.restarted": [0, 5, 0, 1]})


def test_the_alarms_look_at_what_the_supervisor_writes(
    resources: Template, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMKIT_METRICS", "emf")

    class Empty:
        def depth(self) -> Depth:
            return Depth(0, 0)

    name = resources["Supervisor"]["Environment"]["Variables"]["LOOP_NAME"]
    Supervisor(name=name, function="loops", gauge=Empty(), cells=MemoryCells(), limits=Limits())()

    line = json.loads(capsys.readouterr().out)
    looked_at = [resources["RestartsAlarm"]] + [
        one["MetricStat"]["Metric"] for one in resources["NoLoopAlarm"]["Metrics"] if "MetricStat" in one
    ]
    (described,) = line["_aws"]["CloudWatchMetrics"]
    written = {one["Name"] for one in described["Metrics"]}
    for metric in looked_at:
        assert metric["Namespace"] == described["Namespace"]
        assert metric["MetricName"] in written
        assert sorted(one["Name"] for one in metric["Dimensions"]) == sorted(described["Dimensions"][0])
        (processor,) = [one["Value"] for one in metric["Dimensions"] if one["Name"] == "Processor"]
        assert processor == line["Processor"]


def test_a_loop_may_invoke_itself_alone_and_goes_on_under_a_fuse(resources: Template) -> None:
    loop = resources["Loop"]
    assert loop["RecursiveLoop"] == "Allow"
    assert loop["ReservedConcurrentExecutions"] == {"Ref": "Concurrency"}
    assert loop["Timeout"] == 900
    (statement,) = [
        one
        for one in resources["LoopRole"]["Policies"][0]["PolicyDocument"]["Statement"]
        if one["Action"] == "lambda:InvokeFunction"
    ]
    itself = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:"
    assert statement["Resource"]["Fn::Sub"] == itself + loop["FunctionName"]["Fn::Sub"]
    assert "RecursiveLoop" not in resources["Supervisor"]


def test_no_event_of_a_loop_is_tried_again_by_lambda(resources: Template) -> None:
    configured = [one for one in resources.values() if "MaximumEventAgeInSeconds" in one and "FunctionName" in one]

    assert len(configured) == 2
    assert all(one["MaximumRetryAttempts"] == 0 for one in configured)


def test_each_variable_of_the_template_is_one_that_is_read(resources: Template) -> None:
    module = Path(settings.__file__).read_text()
    for function in ("Loop", "Supervisor"):
        for name in resources[function]["Environment"]["Variables"]:
            if name.startswith("LOOP"):
                assert re.search(rf'"{name}"', module), name


def test_an_outage_of_a_day_ends_no_message_of_the_loops_and_one_of_an_hour_none_at_any_setting() -> None:
    template = transformed(HERE / "sqs-loop.yaml")
    queue = template["Resources"]["Queue"]["Properties"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] == {"Ref": "MostReceives"}
    lease = template["Resources"]["Loop"]["Properties"]["Environment"]["Variables"]["LOOP_LEASE"]
    assert lease == {"Ref": "LeaseSeconds"}, "for which a loop hides what it receives"

    receives, leases = (template["Parameters"][name] for name in ("MostReceives", "LeaseSeconds"))

    assert receives["Default"] * leases["Default"] >= 86_400
    assert receives["MinValue"] * leases["MinValue"] >= 3_600
    # And what is given up in the end is given up while the queue still has it.
    assert receives["MaxValue"] * leases["MaxValue"] < queue["MessageRetentionPeriod"]
