"""Each rule about the function itself: its time-out, its variables, what goes round."""

from __future__ import annotations

import os

import pytest

from streamkit import Divert, RecordProcessor
from streamkit.fanout import FanOut
from streamkit.forward import Forward, Rule
from streamkit.idempotency import Idempotency
from streamkit.marks.memory import MemoryMarks
from streamkit.queues.sqs import SqsQueue
from streamkit.sinks.functions import LambdaSink
from streamkit.sinks.kinesis import KinesisSink
from streamkit.sinks.sqs import SqsSink

from .given import Check, changed, line_of, one, orders


class Slow(RecordProcessor):
    name = "slow"
    deadline_margin = 20.0


@pytest.mark.parametrize(
    ("timeout", "severity", "said"),
    [(20, "error", "only the first record"), (24, "warning", "less than one request"), (25, "", "")],
)
def test_a_time_out_shorter_than_the_margin(check: Check, timeout: int, severity: str, said: str) -> None:
    text = changed("Timeout: 60", f"Timeout: {timeout}").replace("VisibilityTimeout: 360", "VisibilityTimeout: 900")
    found = [finding for finding in check(text, Slow) if "deadline_margin" in finding.message]

    if severity:
        finding = one(found, said)
        assert (finding.severity, finding.where) == (severity, line_of("Timeout: ", text))
    else:
        assert found == []


def test_no_time_out_is_lambdas_default_of_three_seconds(check: Check) -> None:
    text = changed("    Timeout: 60\n", "    MemorySize: 128\n")
    assert one(check(text), "Timeout is 3 s, Lambda's default").severity == "warning"


@pytest.mark.parametrize(("timeout", "is_taken"), [(900, True), (901, False), (0, False), (1000, False)])
def test_a_time_out_that_lambda_does_not_take(check: Check, timeout: int, is_taken: bool) -> None:
    text = changed("Timeout: 60", f"Timeout: {timeout}").replace("VisibilityTimeout: 360", "VisibilityTimeout: 6000")

    found = check(text)

    if is_taken:
        assert found == []
    else:
        finding = one(found, f"Timeout is {timeout}, which AWS does not take: write a whole number from 1 to 900")
        assert (finding.severity, finding.where) == ("error", line_of("Timeout: ", text))


@pytest.mark.parametrize("place", ["      Handler: orders.handler\n", "    Timeout: 60\n"])
def test_a_function_that_never_runs(check: Check, place: str) -> None:
    indent = place[: len(place) - len(place.lstrip())]
    text = changed(place, f"{place}{indent}ReservedConcurrentExecutions: 0\n")

    finding = one(check(text), "the function never runs")

    assert (finding.severity, finding.where) == ("error", line_of("ReservedConcurrentExecutions", text))
    assert check(text.replace("Executions: 0", "Executions: 1")) == []
    assert one(check(text.replace("Executions: 0", "Executions: !Ref Nobody")), "not checked").severity == "note"


def test_the_longest_margin_of_a_fan_out_counts(check: Check) -> None:
    text = changed("Timeout: 60", "Timeout: 10")
    assert "slow keeps 20 s" in one(check(text, lambda: FanOut(Slow, orders)), "only the first record").message


def test_a_lease_shorter_than_the_time_out(check: Check) -> None:
    def paying(lease: float) -> RecordProcessor:
        return orders(charged=Idempotency(MemoryMarks(), "charged", lease=lease))

    assert one(check(make=lambda: paying(59)), "Write lease=60").severity == "warning"
    assert check(make=lambda: paying(60)) == []


def test_a_variable_that_the_function_has_not_though_this_shell_has_it(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS", "here-only")
    text = changed("          PROGRESS: !Ref Progress\n", "")

    finding = one(check(text), "the environment variable PROGRESS is not set")

    assert (finding.severity, finding.where) == ("error", line_of("        Variables:", text))
    assert os.environ["PROGRESS"] == "here-only"


def test_a_queues_arn_where_its_url_is_wanted(check: Check) -> None:
    text = changed("DEAD_LETTERS: !Ref DeadLetters", "DEAD_LETTERS: !GetAtt DeadLetters.Arn")

    finding = one(check(text), "needs the URL of an SQS queue, and DEAD_LETTERS holds an ARN: arn:")

    assert (finding.severity, finding.where) == ("error", line_of("        Variables:", text))


def test_more_variables_than_lambda_takes(check: Check) -> None:
    assert check(changed('TARGET: ""', f"TARGET: {'x' * 3000}")) == []
    assert one(check(changed('TARGET: ""', f"TARGET: {'x' * 5000}")), "Lambda takes 4,096").severity == "error"


def writing(sink: type) -> RecordProcessor:
    return orders(target=sink.from_env("TARGET"))  # type: ignore[attr-defined]  # All sinks here have it.


@pytest.mark.parametrize(
    ("target", "sink", "said"),
    [
        ("!Ref Events", KinesisSink, "Lambda does not see such a loop"),
        ("!GetAtt Events.Arn", KinesisSink, "Lambda does not see such a loop"),
        ("!Ref Retries", SqsSink, "after about 16 times"),
        ("!GetAtt Orders.Arn", LambdaSink, "after about 16 times"),
    ],
)
def test_what_is_written_to_what_triggers_the_function(check: Check, target: str, sink: type, said: str) -> None:
    text = changed('TARGET: ""', f"TARGET: {target}")

    assert one(check(text, lambda: writing(sink)), said).severity == "warning"
    forward = one(check(text, lambda: Forward(Rule(sink.from_env("TARGET")), name="on")), said)  # type: ignore[attr-defined]  # As above.
    assert forward.severity == "error"


def test_what_is_written_elsewhere_is_no_loop(check: Check) -> None:
    text = changed('TARGET: ""', "TARGET: elsewhere")
    assert not any("triggers this function" in finding.message for finding in check(text, lambda: writing(KinesisSink)))


def test_a_loop_that_is_allowed_does_not_end(check: Check) -> None:
    text = changed('TARGET: ""', "TARGET: !Ref Retries").replace(
        "      Handler: orders.handler\n", "      Handler: orders.handler\n      RecursiveLoop: Allow\n"
    )
    assert "go round for ever" in one(check(text, lambda: writing(SqsSink)), "RecursiveLoop is Allow").message


def test_more_attempts_than_lambda_lets_a_message_go_round(check: Check) -> None:
    def trying(attempts: int) -> RecordProcessor:
        policy = Divert(SqsQueue.from_env("RETRIES"), SqsQueue.from_env("DEAD_LETTERS"), attempts)
        return orders(on_failure=policy)

    text = changed("maxReceiveCount: 15", "maxReceiveCount: 1000")
    assert one(check(text, lambda: trying(15)), "tries 15 times").severity == "error"
    assert check(text, lambda: trying(14)) == []
    allowed = text.replace(
        "      Handler: orders.handler\n", "      Handler: orders.handler\n      RecursiveLoop: Allow\n"
    )
    assert check(allowed, lambda: trying(15)) == []
