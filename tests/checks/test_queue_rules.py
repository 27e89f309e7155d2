"""Each rule about queues, topics and tables: what it says of a template, and on which line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamkit import Block, Divert, Park, RecordProcessor
from streamkit.finding import Finding
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.policy import Policy
from streamkit.queues.sns import SnsTopic
from streamkit.queues.sqs import SqsQueue

from .given import RIGHT, Check, changed, line_of, one, orders

REDRIVE = """\
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt DeadLetters.Arn
        maxReceiveCount: 15
"""
RETRY_MAPPING = RIGHT[RIGHT.index("        Retry:\n") : RIGHT.index("  Events:\n    Type")]


def with_policy(policy: Policy) -> Callable[[], RecordProcessor]:
    return lambda: orders(on_failure=policy)


def errors(findings: list[Finding]) -> list[str]:
    return [finding.message for finding in findings if finding.severity == "error"]


def test_a_retry_queue_without_partial_answers(check: Check) -> None:
    text = changed("            FunctionResponseTypes: [ReportBatchItemFailures]  # of the queue\n", "")

    finding = one(check(text), "Lambda deletes every message of the batch")

    assert (finding.severity, finding.where) == ("error", line_of("        Retry:", text))


def test_a_filter_of_a_retry_queue_deletes_what_it_does_not_want(check: Check) -> None:
    queue = "            Queue: !GetAtt Retries.Arn\n"
    text = changed(
        queue, queue + '            FilterCriteria: {Filters: [{Pattern: \'{"body": {"type": ["order"]}}\'}]}\n'
    )

    finding = one(check(text), "Lambda deletes the messages of a queue that its filter does not want")

    assert (finding.severity, finding.where) == ("warning", line_of("FilterCriteria", text))


def test_a_retry_queue_that_triggers_nothing(check: Check) -> None:
    text = changed(RETRY_MAPPING, "")

    finding = one(check(text), "nothing reads orders's retry queue")

    assert (finding.severity, finding.where) == ("error", line_of("  Retries:", text))


OTHER = """\
  Other:
    Type: AWS::Serverless::Function
    Properties:
      Handler: {handler}
      Events:
        Retry:
          Type: SQS
          Properties:
            Queue: !GetAtt Retries.Arn
{reports}
"""
REPORTS = "            FunctionResponseTypes: [ReportBatchItemFailures]"


def test_a_retry_queue_that_another_function_reads(check: Check) -> None:
    bare = changed(RETRY_MAPPING, "")

    def other(handler: str, reports: str = REPORTS) -> str:
        return changed("  Retries:\n", OTHER.format(handler=handler, reports=reports) + "  Retries:\n", bare)

    assert one(check(other("mails.handler")), "which does not run orders").severity == "error"
    # Two functions of the same code: SAM's other way to deploy the retry path. Its name in the role is another one's.
    assert check(other("orders.handler")) == []
    assert one(check(other("orders.handler", "")), "partial answers are off for this queue").severity == "error"


def test_a_retry_queue_that_is_not_in_the_template_can_not_be_looked_at(check: Check) -> None:
    text = changed("          RETRIES: !Ref Retries\n", "          RETRIES: !Ref Nobody\n")

    found = check(text)

    assert errors(found) == []
    assert one(found, "not checked: what is at ${Nobody}").severity == "note"
    elsewhere = "https://sqs.eu-west-1.amazonaws.com/123456789012/elsewhere"
    assert one(check(text, Nobody=elsewhere), f"not checked: the queue {elsewhere}").severity == "note"


@pytest.mark.parametrize(
    ("seconds", "severity", "said"),
    [
        (30, "error", "AWS refuses the mapping"),
        (59, "error", "AWS refuses the mapping"),
        (60, "warning", "under six times the function's 60 s"),
        (359, "warning", "Write VisibilityTimeout: 360"),
    ],
)
def test_a_visibility_time_out_that_is_too_short(check: Check, seconds: int, severity: str, said: str) -> None:
    text = changed("VisibilityTimeout: 360", f"VisibilityTimeout: {seconds}")

    finding = one(check(text), said)

    assert (finding.severity, finding.where) == (severity, line_of("VisibilityTimeout", text))


def test_a_visibility_time_out_is_six_times_and_the_batching_window(check: Check) -> None:
    window = "            Queue: !GetAtt Retries.Arn\n"
    text = changed(window, f"{window}            MaximumBatchingWindowInSeconds: 20\n")

    assert "Write VisibilityTimeout: 380" in one(check(text), "and its batching window").message
    assert check(text.replace("VisibilityTimeout: 360", "VisibilityTimeout: 380")) == []
    assert one(check(changed("      VisibilityTimeout: 360\n", "")), "30 s, SQS's default").severity == "error"


@pytest.mark.parametrize(
    ("count", "attempts", "is_told"), [(14, 3, True), (15, 3, False), (15, 4, True), (20, 4, False)]
)
def test_a_receive_count_under_five_times_the_attempts(check: Check, count: int, attempts: int, is_told: bool) -> None:
    text = changed("maxReceiveCount: 15", f"maxReceiveCount: {count}")
    make = with_policy(Divert(SqsQueue.from_env("RETRIES"), SqsQueue.from_env("DEAD_LETTERS"), attempts))

    found = check(text, make)

    if is_told:
        finding = one(found, f"Write maxReceiveCount: {5 * attempts} or more")
        assert (finding.severity, finding.where) == ("warning", line_of("maxReceiveCount", text))
    else:
        assert found == []


def test_no_redrive_policy_is_a_cost_and_without_dead_letters_an_error(check: Check) -> None:
    text = changed(REDRIVE, "")

    assert one(check(text), "a record that kills its process").severity == "warning"
    assert (
        one(check(text, with_policy(Divert(SqsQueue.from_env("RETRIES")))), "has no dead letters").severity == "error"
    )


def test_dead_letters_that_are_kept_for_less_time_than_the_queue_before_them(check: Check) -> None:
    letters = "MessageRetentionPeriod: 1209600  # of the letters"
    text = changed(letters, "MessageRetentionPeriod: 345600")

    finding = one(check(text), "SQS counts from when they were first sent")

    assert (finding.severity, finding.where) == ("error", line_of("MessageRetentionPeriod: 345600", text))


def test_a_retention_under_fourteen_days(check: Check) -> None:
    text = RIGHT.replace("      MessageRetentionPeriod: 1209600\n", "").replace("1209600  # of the letters", "1209600")

    found = check(text)

    assert [finding.message.partition(" is deleted")[0] for finding in found] == [
        "what waits in Retries for more than 4 days, SQS's default,"
    ]


def test_dead_letters_that_come_back_to_the_function(check: Check) -> None:
    mapping = (
        RETRY_MAPPING.replace("Retry:", "Letters:").replace("Retries", "DeadLetters").replace("  # of the queue", "")
    )
    text = changed(RETRY_MAPPING, RETRY_MAPPING + mapping)

    assert one(check(text), "would come back and fail for ever").where == line_of("        Letters:", text)


def test_dead_letters_with_a_redrive_policy_of_their_own(check: Check) -> None:
    text = changed("1209600  # of the letters\n", f"1209600\n{REDRIVE.replace('DeadLetters', 'Retries')}")

    assert one(check(text), "a few looks at a letter").severity == "warning"


FIFO = RIGHT.replace("      VisibilityTimeout: 360\n", "      VisibilityTimeout: 360\n      FifoQueue: true\n").replace(
    "      MessageRetentionPeriod: 1209600  # of the letters\n",
    "      MessageRetentionPeriod: 1209600\n      FifoQueue: true\n",
)
LEDGER = """\
  Parked:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: parked
      KeySchema: [{AttributeName: processor, KeyType: HASH}, {AttributeName: group, KeyType: RANGE}]
"""
PARKED = FIFO.replace("  Retries:\n", f"{LEDGER}  Retries:\n", 1).replace(
    "        - DynamoDBCrudPolicy: {TableName: !Ref Progress}\n",
    "        - DynamoDBCrudPolicy: {TableName: !Ref Progress}\n        - DynamoDBCrudPolicy: {TableName: !Ref "
    "Parked}\n",
)


def parking() -> RecordProcessor:
    queue, letters = SqsQueue.from_env("RETRIES"), SqsQueue.from_env("DEAD_LETTERS")
    return with_policy(Park(queue, DynamoDbLedger("parked"), letters))()


def test_park_needs_a_fifo_queue_and_divert_none(check: Check) -> None:
    assert check(PARKED, parking) == []
    standard = PARKED.replace("      FifoQueue: true\n", "")
    assert one(check(standard, parking), "is no FIFO queue").severity == "error"
    assert one(check(FIFO), "Divert counts no attempts there").severity == "warning"


def test_a_fifo_queue_moves_its_messages_to_a_fifo_queue_only(check: Check) -> None:
    text = FIFO[: FIFO.rindex("      FifoQueue: true\n")] + FIFO[FIFO.rindex("      FifoQueue: true\n") + 22 :]

    assert one(check(text), "SQS moves nothing between them").severity == "error"


def test_batches_that_aws_refuses_of_a_queue(check: Check) -> None:
    queue = "            Queue: !GetAtt Retries.Arn\n"
    large = f"{queue}            BatchSize: 100\n"
    assert one(check(changed(queue, large)), "Write MaximumBatchingWindowInSeconds: 1").severity == "error"
    assert (
        one(check(changed(queue, large, PARKED), parking), "AWS takes 10 at most of a FIFO queue").severity == "error"
    )
    window = f"{queue}            MaximumBatchingWindowInSeconds: 1\n"
    assert one(check(changed(queue, window, PARKED), parking), "no batching window of a FIFO queue").severity == "error"


@pytest.mark.parametrize(
    ("old", "new", "range_"),
    [
        ("VisibilityTimeout: 360", "VisibilityTimeout: 50000", "from 0 to 43,200"),
        (
            "MessageRetentionPeriod: 1209600  # of the letters",
            "MessageRetentionPeriod: 2000000",
            "from 60 to 1,209,600",
        ),
        ("MessageRetentionPeriod: 1209600  # of the letters", "MessageRetentionPeriod: 30", "from 60 to 1,209,600"),
        ("maxReceiveCount: 15", "maxReceiveCount: 1001", "from 1 to 1,000"),
        ("maxReceiveCount: 15", "maxReceiveCount: 0", "from 1 to 1,000"),
        ("Queue: !GetAtt Retries.Arn", "Queue: !GetAtt Retries.Arn\n            BatchSize: 0", "from 1 to 10,000"),
        (
            "Queue: !GetAtt Retries.Arn",
            "Queue: !GetAtt Retries.Arn\n            MaximumBatchingWindowInSeconds: 301",
            "from 0 to 300",
        ),
    ],
)
def test_what_sqs_and_lambda_do_not_take_of_a_queue(check: Check, old: str, new: str, range_: str) -> None:
    text = changed(old, new)
    line = new.rpartition("\n")[2].strip()

    finding = one(check(text), "which AWS does not take: write a whole number")

    assert finding.message.startswith(line.replace(": ", " is "))
    assert finding.message.endswith(range_)
    assert (finding.severity, finding.where) == ("error", line_of(line, text))


def test_what_is_advised_is_taken(check: Check) -> None:
    text = changed(REDRIVE, "").replace("      Handler:", "      RecursiveLoop: Allow\n      Handler:")
    make = with_policy(Divert(SqsQueue.from_env("RETRIES"), SqsQueue.from_env("DEAD_LETTERS"), 500))
    assert "maxReceiveCount: 1000}" in one(check(text, make), "has no redrive policy").message


def test_a_ledger_whose_items_end_or_whose_key_is_another(check: Check) -> None:
    keys = "      TableName: parked\n"
    ending = changed(keys, f"{keys}      TimeToLiveSpecification: {{AttributeName: until, Enabled: true}}\n", PARKED)
    assert one(check(ending, parking), "orders's ledger has a TTL").severity == "error"
    off = ending.replace("AttributeName: until, Enabled: true", "AttributeName: until, Enabled: false")
    assert check(off, parking) == []
    other = changed("AttributeName: group", "AttributeName: key", PARKED)
    assert "processor (HASH), group (RANGE)" in one(check(other, parking), "every request to it fails").message


def test_a_progress_table_whose_entries_stay_for_ever(check: Check) -> None:
    ttl = "      TimeToLiveSpecification: {AttributeName: expires_at, Enabled: true}\n"
    assert one(check(changed(ttl, "")), "orders's progress has no TTL").severity == "warning"
    assert one(check(changed("expires_at", "until")), "its entries have expires_at").severity == "error"


TOPIC = (
    changed(
        RETRY_MAPPING, RETRY_MAPPING.replace("SQS", "SNS").replace("Queue: !GetAtt Retries.Arn", "Topic: !Ref Topic")
    )
    .replace("  Retries:\n", "  Topic: {Type: AWS::SNS::Topic}\n  Retries:\n", 1)
    .replace("RETRIES: !Ref Retries", "RETRIES: !Ref Topic")
    .replace(
        "SQSSendMessagePolicy: {QueueName: !GetAtt Retries.QueueName}",
        "SNSPublishMessagePolicy: {TopicName: !GetAtt Topic.TopicName}",
    )
)


def by_topic() -> RecordProcessor:
    return with_policy(Divert(SnsTopic.from_env("RETRIES"), SqsQueue.from_env("DEAD_LETTERS")))()


def test_a_topics_function_needs_a_dead_letter_queue_of_its_own(check: Check) -> None:
    finding = one(check(TOPIC, by_topic), "after three invocations Lambda drops the record")
    assert (finding.severity, finding.where) == ("error", line_of("  Orders:", TOPIC))

    with_queue = changed(
        "      Handler: orders.handler\n",
        "      Handler: orders.handler\n      DeadLetterQueue: {Type: SQS, TargetArn: !GetAtt DeadLetters.Arn}\n",
        TOPIC,
    )
    assert check(with_queue, by_topic) == []


BY_QUEUE = (
    RIGHT.replace("RETRIES: !Ref Retries", "RETRIES: !Ref Topic")
    .replace(
        "SQSSendMessagePolicy: {QueueName: !GetAtt Retries.QueueName}",
        "SNSPublishMessagePolicy: {TopicName: !GetAtt Topic.TopicName}",
    )
    .replace(
        "  Retries:\n",
        """\
  Topic:
    Type: AWS::SNS::Topic
    Properties: {Subscription: [{Protocol: sqs, Endpoint: !GetAtt Retries.Arn}]}
  Retries:
""",
        1,
    )
)


def test_a_queue_that_a_topic_fills_is_looked_at_as_a_retry_queue_is(check: Check) -> None:
    assert check(BY_QUEUE, by_topic) == []

    for old, new, said, severity in (
        ("maxReceiveCount: 15", "maxReceiveCount: 2", "maxReceiveCount is 2, under five times the 3", "warning"),
        (REDRIVE, "", "Retries, which subscribes to orders's retry queue, has no redrive policy", "warning"),
        ("VisibilityTimeout: 360", "VisibilityTimeout: 60", "Write VisibilityTimeout: 360", "warning"),
        ("1209600  # of the letters", "345600", "SQS counts from when they were first sent", "error"),
        (RETRY_MAPPING, "", "nothing reads orders's retry queue", "error"),
    ):
        assert one(check(changed(old, new, BY_QUEUE), by_topic), said).severity == severity

    alone = with_policy(Divert(SnsTopic.from_env("RETRIES")))
    assert one(check(changed(REDRIVE, "", BY_QUEUE), alone), "orders has no dead letters").severity == "error"


def test_a_queue_that_a_topic_fills_and_that_is_elsewhere_is_a_note(check: Check) -> None:
    text = changed("Endpoint: !GetAtt Retries.Arn", "Endpoint: 'arn:aws:sqs:eu-west-1:123456789012:gone'", BY_QUEUE)
    assert one(check(text, by_topic), "the queue arn:aws:sqs:eu-west-1:123456789012:gone: nothing").severity == "note"


def test_a_policy_without_queues_needs_none(check: Check) -> None:
    assert errors(check(changed(RETRY_MAPPING, ""), with_policy(Block()))) == []
