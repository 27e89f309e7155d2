"""Each rule about a stream's mapping: what it says of a template and on which line, and nothing where all is right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from streamkit import Block, Record, RecordProcessor, Write
from streamkit.errors import ConfigurationError
from streamkit.finding import Finding
from streamkit.plans.memory import MemoryPlans
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink
from streamkit.window import Window, WindowProcessor

from .given import RIGHT, Check, changed, line_of, one, orders

START = "            StartingPosition: TRIM_HORIZON\n"
REPORTS = "            FunctionResponseTypes: [ReportBatchItemFailures]\n"


def with_setting(line: str) -> str:
    return changed(START, f"{START}            {line}\n")


class Windowed(WindowProcessor):
    name = "totals"

    def aggregate(self, record: Record, state: Any) -> None: ...

    def finish(self, window: Window, state: Any) -> Iterable[Write] | None: ...


class Exact(RecordProcessor):
    name = "exact"
    ordering = "shard"
    warehouse = BigQueryExactlyOnceSink("shop.orders", MemoryPlans())


class InShardOrder(RecordProcessor):
    name = "in-order"
    ordering = "shard"


class Blocking(RecordProcessor):
    name = "blocking"
    on_failure = Block()


def test_of_a_deployment_in_which_nothing_is_wrong_nothing_is_said(check: Check) -> None:
    assert check() == []


def test_partial_answers_that_are_off(check: Check) -> None:
    text = changed(REPORTS, "")

    finding = one(check(text), "partial answers are off, so Lambda does not read")

    assert (finding.severity, finding.where) == ("error", line_of("Stream:\n", text))
    assert "Write FunctionResponseTypes: [ReportBatchItemFailures]" in finding.message


@pytest.mark.parametrize(
    ("setting", "when"),
    [("MaximumRetryAttempts: 5", "after 5 retries"), ("MaximumRecordAgeInSeconds: 3600", "when they are 3600 s old")],
)
def test_a_discard_limit_without_a_destination_is_an_error_and_with_one_it_contradicts_the_policy(
    check: Check, setting: str, when: str
) -> None:
    text = with_setting(setting)
    lost = one(check(text), "lost without a word")
    assert (lost.severity, lost.where) == ("error", line_of(setting, text))
    assert lost.message.startswith(when)

    kept = with_setting(
        f"{setting}\n            DestinationConfig: {{OnFailure: {{Destination: !GetAtt DeadLetters.Arn}}}}"
    )
    found = check(kept)
    assert [finding for finding in found if finding.severity == "error"] == []
    assert one(found, "Divert and Park put aside by themselves").severity == "warning"
    assert "Block is to hold them" in one(check(kept, Blocking), when).message

    assert check(with_setting(f"{setting.partition(':')[0]}: -1")) == []


def test_an_age_just_under_a_streams_retention_is_what_a_destination_is_for(check: Check) -> None:
    def aged(seconds: int) -> str:
        destination = "DestinationConfig: {OnFailure: {Destination: !GetAtt DeadLetters.Arn}}"
        return with_setting(f"MaximumRecordAgeInSeconds: {seconds}\n            {destination}")

    found = check(aged(82_800))

    assert one(found, "a little under the stream's retention").severity == "note"
    assert [finding for finding in found if finding.severity != "note"] == []
    assert one(check(aged(82_799)), "Write MaximumRecordAgeInSeconds: -1").severity == "warning"


@pytest.mark.parametrize(
    ("hours", "age", "severity", "said"),
    [
        (24, 86_400, "warning", "Write MaximumRecordAgeInSeconds: 82800, or keep them for longer"),
        (24, 604_800, "warning", "the stream keeps them for 24 hours: they are gone before, and nobody is told"),
        (48, 86_400, "warning", "Write MaximumRecordAgeInSeconds: -1"),
        (48, 169_200, "note", "a little under the stream's retention"),
        (168, 82_800, "warning", "Write MaximumRecordAgeInSeconds: -1"),
        # Lambda knows no longer age.
        (8760, 604_800, "note", "a little under the stream's retention"),
        ("!Ref Nobody", 604_800, "note", "a little under the stream's retention"),
    ],
)
def test_an_age_and_what_the_stream_keeps(check: Check, hours: object, age: int, severity: str, said: str) -> None:
    destination = "DestinationConfig: {OnFailure: {Destination: !GetAtt DeadLetters.Arn}}"
    aged = with_setting(f"MaximumRecordAgeInSeconds: {age}\n            {destination}")
    text = changed("{ShardCount: 1}", f"{{ShardCount: 1, RetentionPeriodHours: {hours}}}", aged)

    finding = one(check(text), said)

    assert (finding.severity, finding.where) == (severity, line_of("MaximumRecordAgeInSeconds", text))


def test_a_minute_of_outage_without_a_destination_is_a_loss(check: Check) -> None:
    finding = one(check(with_setting("MaximumRecordAgeInSeconds: 60")), "lost without a word")
    assert finding.severity == "error"


def test_a_destination_without_a_limit_never_gets_anything(check: Check) -> None:
    text = with_setting("DestinationConfig: {OnFailure: {Destination: !GetAtt DeadLetters.Arn}}")

    finding = one(check(text), "OnFailure never gets anything")

    assert (finding.severity, finding.where) == ("warning", line_of("DestinationConfig", text))


def test_failure_documents_that_would_go_into_the_retry_queue(check: Check) -> None:
    text = with_setting("DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Retries.Arn}}")

    assert one(check(text), "OnFailure is the retry queue").severity == "error"


def test_a_limit_without_bisect_takes_the_whole_batch_and_bisect_is_explained(check: Check) -> None:
    limit = "MaximumRetryAttempts: 5"
    assert one(check(with_setting(limit)), "takes all of its batch").severity == "warning"

    found = check(with_setting(f"{limit}\n            BisectBatchOnFunctionError: true"))

    assert not any("takes all of its batch" in finding.message for finding in found)
    assert one(found, "splits a batch at the record").severity == "note"


def test_a_window_and_a_processor_that_do_not_go_together(check: Check) -> None:
    windowed = with_setting("TumblingWindowInSeconds: 60")
    assert one(check(windowed), "folds no windows").where == line_of("TumblingWindow", windowed)
    assert one(check(RIGHT, Windowed), "it refuses every event").severity == "error"
    assert not any("window" in finding.message for finding in check(windowed, Windowed))


def test_lanes_and_orders_that_do_not_go_together(check: Check) -> None:
    text = with_setting("ParallelizationFactor: 4")
    place = line_of("ParallelizationFactor", text)

    assert one(check(text, InShardOrder), 'ordering = "shard"').severity == "error"
    exact = one(check(text, Exact), "taken for repeats, and lost")
    assert (exact.severity, exact.where) == ("error", place)
    assert one(check(text), "of KPL aggregates that is the aggregate's").severity == "note"
    for make in (InShardOrder, Exact, orders):
        assert not any("lanes" in finding.message for finding in check(with_setting("ParallelizationFactor: 1"), make))


def test_a_batch_that_six_megabytes_cut_is_told(check: Check) -> None:
    found = one(check(with_setting("BatchSize: 10000")), "a batch ends at 6 MB")
    assert found.severity == "note"
    assert "under 75 bytes" in found.message
    assert check(with_setting("BatchSize: 1000")) == []


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ("BatchSize: 20000", "BatchSize is 20000, which AWS does not take"),
        ("ParallelizationFactor: 11", "ParallelizationFactor is 11, which AWS does not take"),
        ("MaximumRecordAgeInSeconds: 30", "MaximumRecordAgeInSeconds is 30, which AWS does not take"),
        ("MaximumBatchingWindowInSeconds: soon", "MaximumBatchingWindowInSeconds is 'soon'"),
        ("FilterCriteria: {Filters: [{Pattern: 'no json'}]}", "FilterCriteria is none that AWS takes"),
    ],
)
def test_what_aws_refuses_is_an_error(check: Check, setting: str, rule: str) -> None:
    text = with_setting(setting)

    finding = one(check(text), rule)

    assert (finding.severity, finding.where) == ("error", line_of(setting, text))


def test_the_start_of_a_stream(check: Check) -> None:
    latest = changed("StartingPosition: TRIM_HORIZON", "StartingPosition: LATEST")
    assert one(check(latest), "never read").severity == "warning"
    assert one(check(changed(START, "")), "without a start").severity == "error"


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("AT_TIMESTAMP", "AWS makes no mapping AT_TIMESTAMP without a time"),
        ("BEGINNING", "StartingPosition is 'BEGINNING', which AWS does not take"),
        (
            "AT_TIMESTAMP\n            StartingPositionTimestamp: '2026-05-01T12:00Z'",
            "StartingPositionTimestamp is '2026",
        ),
    ],
)
def test_a_start_that_aws_does_not_take(check: Check, start: str, said: str) -> None:
    text = changed("StartingPosition: TRIM_HORIZON", f"StartingPosition: {start}")

    finding = one(check(text), said)

    line = start.partition("\n")[2].strip() or "StartingPosition:"
    assert (finding.severity, finding.where) == ("error", line_of(line, text))


def test_a_start_at_a_time_and_one_that_nobody_knows(check: Check) -> None:
    timed = "StartingPosition: AT_TIMESTAMP\n            StartingPositionTimestamp: 1764432000.5"
    assert check(changed("StartingPosition: TRIM_HORIZON", timed)) == []
    unknown = changed("StartingPosition: TRIM_HORIZON", "StartingPosition: !Ref Nobody")
    assert one(check(unknown), "StartingPosition is ${Nobody}").severity == "note"


def test_a_filter_by_data_and_aggregates(check: Check) -> None:
    by_data = with_setting('FilterCriteria: {Filters: [{Pattern: \'{"data": {"type": ["order"]}}\'}]}')
    assert one(check(by_data), "a KPL aggregate is none").severity == "note"
    as_mapping = with_setting("FilterCriteria: {Filters: [{Pattern: {data: {type: [order]}}}]}")
    assert [finding.severity for finding in check(as_mapping)] == ["note"]


BY_TYPE = 'FilterCriteria: {Filters: [{Pattern: \'{"data": {"type": ["order"]}}\'}]}'
AND_BEATS = BY_TYPE.replace("}]}", '}, {Pattern: \'{"data": {"streamkit_heartbeat": [1]}}\'}]}')


def beating(text: str, url: str = "https://example.org/{shard}") -> str:
    return changed('TARGET: ""', f"HEARTBEAT_URL: {url}", text)


def heartbeats(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if "HEARTBEAT_URL" in finding.message]


@pytest.mark.parametrize("url", ["https://example.org/{shard}", "!Ref Nobody"])
def test_a_filter_that_drops_heartbeats(check: Check, url: str) -> None:
    text = beating(with_setting(BY_TYPE), url)

    finding = one(check(text), "the filter drops heartbeats")

    assert (finding.severity, finding.where) == ("warning", line_of("FilterCriteria", text))
    assert "streamkit_heartbeat" in finding.message


def test_a_filter_that_lets_heartbeats_through_and_one_without_a_url(check: Check) -> None:
    assert heartbeats(check(beating(with_setting(AND_BEATS)))) == []
    anything = 'FilterCriteria: {Filters: [{Pattern: \'{"data": {"sent_at": [{"exists": true}]}}\'}]}'
    assert heartbeats(check(beating(with_setting(anything)))) == []
    assert heartbeats(check(with_setting(BY_TYPE))) == []
    assert heartbeats(check(beating(with_setting(BY_TYPE), '""'))) == []
    none = beating(with_setting("FilterCriteria: {Filters: [{Pattern: 'no json'}]}"))
    assert heartbeats(check(none)) == []


@pytest.mark.parametrize(
    ("stream", "shards"), [("{ShardCount: 2}", 2), ("{StreamModeDetails: {StreamMode: ON_DEMAND}}", 4)]
)
def test_one_switch_for_several_shards(check: Check, stream: str, shards: int) -> None:
    text = beating(changed("{ShardCount: 1}", stream), "https://example.org/orders")

    finding = one(check(text), f"HEARTBEAT_URL has no {{shard}}, and the stream has {shards} shards")

    assert (finding.severity, finding.where) == ("warning", line_of("        Variables:", text))
    assert check(text.replace("/orders", "/{shard}")) == []
    assert check(text.replace("https://example.org/orders", "!Ref Nobody")) == []


def test_one_switch_for_one_shard_or_for_a_stream_that_is_not_here(check: Check) -> None:
    assert check(beating(RIGHT, "https://example.org/orders")) == []
    several = changed("{ShardCount: 1}", "{ShardCount: !Ref Nobody}")
    assert check(beating(several, "https://example.org/orders")) == []


def test_a_mapping_that_is_switched_off(check: Check) -> None:
    assert one(check(with_setting("Enabled: false")), "the mapping is switched off").severity == "warning"
    assert check(with_setting("Enabled: true")) == []


def test_two_mappings_of_one_stream(check: Check) -> None:
    second = """\
        Again:
          Type: Kinesis
          Properties:
            Stream: !GetAtt Events.Arn
            StartingPosition: TRIM_HORIZON
            FunctionResponseTypes: [ReportBatchItemFailures]  # again
"""
    finding = one(check(changed("        Retry:\n", f"{second}        Retry:\n")), "a second mapping")

    assert finding.severity == "error"


def test_a_function_that_nothing_triggers_and_events_that_nobody_knows(check: Check) -> None:
    begin, end = RIGHT.index("      Events:\n"), RIGHT.index("  Events:\n    Type")
    bare = RIGHT[:begin] + RIGHT[end:]
    assert one(check(bare), "nothing triggers Orders here").severity == "warning"
    other = changed("          Type: Kinesis\n", "          Type: DynamoDB\n").replace(
        "!GetAtt Events.Arn", "arn:aws:dynamodb:::x"
    )
    assert one(check(other), "does not know the events of dynamodb").severity == "error"


def test_what_triggers_a_function_with_a_longer_name_does_not_trigger_this_one(check: Check) -> None:
    begin, end = RIGHT.index("      Events:\n"), RIGHT.index("  Events:\n    Type")
    named = "      FunctionName: orders\n"
    bare = changed(
        "      Handler: orders.handler\n", f"      Handler: orders.handler\n{named}", RIGHT[:begin] + RIGHT[end:]
    )

    def told(function: str) -> str:
        subscription = f"""\
  Mails:
    Type: AWS::SNS::Subscription
    Properties:
      TopicArn: !Ref Nobody
      Protocol: lambda
      Endpoint: !Sub 'arn:aws:lambda:${{AWS::Region}}:${{AWS::AccountId}}:function:{function}'
"""
        return changed("  Retries:\n", f"{subscription}  Retries:\n", bare)

    assert one(check(told("orders-mails")), "nothing triggers Orders here").severity == "warning"
    for right in ("orders", "orders:live"):
        assert not any("nothing triggers" in finding.message for finding in check(told(right)))


def test_what_the_template_does_not_tell_is_no_finding_but_a_note(check: Check) -> None:
    text = with_setting("MaximumRetryAttempts: !Ref Nobody")

    finding = one(check(text), "not checked: MaximumRetryAttempts is ${Nobody}")

    assert (finding.severity, finding.where) == ("note", line_of("MaximumRetryAttempts", text))
    assert "give --parameter Nobody=" in finding.message
    assert one(check(text, Nobody="3"), "lost without a word").severity == "error"
    assert check(text, Nobody="-1") == []


def test_a_parameter_that_the_template_has_not_is_an_error(check: Check) -> None:
    with pytest.raises(ConfigurationError, match="no parameter Nowhere: there are Given, Nobody"):
        check(Nowhere="1")


@pytest.mark.parametrize(
    "answer",
    ["!If [IsGiven, !Ref Given, '-1']", "!If [IsGiven, !Ref Given, !Ref 'AWS::NoValue']"],
)
def test_conditions_are_decided_by_the_parameters(check: Check, answer: str) -> None:
    text = with_setting(f"MaximumRetryAttempts: {answer}")

    assert check(text) == []
    assert one(check(text, Given="3"), "lost without a word").message.startswith("after 3 retries")


def test_a_mapping_of_its_own_is_read_as_an_event_of_sams(check: Check) -> None:
    event = RIGHT[RIGHT.index("        Stream:\n") : RIGHT.index("        Retry:\n")]
    own = """\
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Orders
      EventSourceArn: !Sub "${Events.Arn}"
      StartingPosition: TRIM_HORIZON
      MaximumRetryAttempts: 2
"""
    policy = "        - Statement:\n"
    text = changed(event, "").replace("  Retries:\n", f"{own}  Retries:\n", 1)
    text = text.replace(policy, "        - AWSLambdaKinesisExecutionRole\n" + policy)
    found = check(text)

    assert {finding.where for finding in found if finding.severity == "error"} == {
        line_of("  Mapping:", text),
        line_of("MaximumRetryAttempts", text),
    }
