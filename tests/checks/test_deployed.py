"""The same rules over a function that is deployed, read by boto3 from moto."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from streamkit import Divert, Park, RecordProcessor
from streamkit.checks.deployed import Account
from streamkit.errors import StreamkitError
from streamkit.finding import Finding
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.progress.dynamodb import DynamoDbProgress
from streamkit.queues.sns import SnsTopic
from streamkit.queues.sqs import SqsQueue
from streamkit.sinks.s3 import S3Sink
from streamkit.sinks.sns import SnsSink

from .given import one, orders
from .world import REPORTS, World, code


@pytest.fixture
def world(moto_endpoint: str) -> Iterator[World]:
    world = World(moto_endpoint)
    # moto does not have this operation; a function that was never asked about has this answer.
    world.refuse("GetFunctionRecursionConfig", "ResourceNotFoundException")
    try:
        world.build()
        yield world
    finally:
        world.close()


def but_for_the_loop(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if "RecursiveLoop of" not in finding.message]


def test_of_a_deployment_in_which_nothing_is_wrong_nothing_is_said_but_what_moto_does_not_know(world: World) -> None:
    found = world.check()

    assert but_for_the_loop(found) == []
    assert [finding.severity for finding in found] == ["note"]


def test_partial_answers_that_are_off_and_the_call_that_turns_them_on(world: World) -> None:
    world.change("stream", FunctionResponseTypes=[])
    world.change("retry", FunctionResponseTypes=[])

    found = world.check()

    call = "aws lambda update-event-source-mapping --uuid {} --function-response-types"
    stream = one(found, "Lambda does not read what the function answers")
    assert (stream.severity, stream.where) == ("error", call.format(world.mappings["stream"]))
    assert one(found, "Lambda deletes every message").where == call.format(world.mappings["retry"])


def test_a_discard_limit_without_a_destination(world: World) -> None:
    world.change("stream", MaximumRetryAttempts=5)
    lost = one(world.check(), "lost without a word")
    assert (lost.severity, lost.where.rpartition(" ")[2]) == ("error", "--maximum-retry-attempts")

    world.change("stream", DestinationConfig={"OnFailure": {"Destination": world.arn(world.letters)}})
    found = world.check()
    assert not any(finding.severity == "error" for finding in found)
    assert one(found, "Divert and Park put aside by themselves").severity == "warning"


def test_the_functions_time_out_and_variables(world: World) -> None:
    world.clients["lambda"].update_function_configuration(
        FunctionName=world.name,
        Timeout=1,
        Environment={"Variables": {"RETRIES": world.retries, "PROGRESS": world.name}},
    )

    found = world.check()

    timeout = one(found, "only the first record")
    assert (timeout.severity, timeout.where) == (
        "error",
        f"aws lambda update-function-configuration --function-name {world.name} --timeout",
    )
    assert one(found, "the environment variable DEAD_LETTERS is not set").severity == "error"


def test_an_alias_that_a_mapping_passes_by(world: World) -> None:
    client = world.clients["lambda"]
    version = client.publish_version(FunctionName=world.name)["Version"]
    client.create_alias(FunctionName=world.name, Name="live", FunctionVersion=version)

    found = [finding for finding in world.check() if "and not its alias live" in finding.message]

    call = "aws lambda update-event-source-mapping --uuid {} --function-name"
    assert {(finding.severity, finding.where) for finding in found} == {
        ("error", call.format(uuid)) for uuid in world.mappings.values()
    }
    assert found[0].message.endswith(f"Write FunctionName: {world.name}:live")

    # Who asks about the alias is told as well of what does not come by it.
    client.delete_event_source_mapping(UUID=world.mappings["retry"])
    world.mapping("retry", world.arn(world.retries), function=f"{world.name}:live", FunctionResponseTypes=REPORTS)
    by_alias = one(world.check(of=f"{world.name}:live"), "and not its alias live")
    assert by_alias.where == call.format(world.mappings["stream"])

    world.refuse("ListAliases")
    assert one(world.check(), f"the aliases of {world.name}: this user may not look at it").severity == "note"


def test_a_function_that_never_runs(world: World) -> None:
    client = world.clients["lambda"]
    client.put_function_concurrency(FunctionName=world.name, ReservedConcurrentExecutions=0)

    finding = one(world.check(), "the function never runs")

    call = f"aws lambda put-function-concurrency --function-name {world.name} --reserved-concurrent-executions"
    assert (finding.severity, finding.where) == ("error", call)
    client.put_function_concurrency(FunctionName=world.name, ReservedConcurrentExecutions=1)
    assert but_for_the_loop(world.check()) == []


def test_a_log_that_drops_what_is_printed(world: World) -> None:
    world.add("GetFunctionConfiguration", LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "WARN"})

    finding = one(world.check(), "the lines of metrics")

    call = f"aws lambda update-function-configuration --function-name {world.name} --logging-config"
    assert (finding.severity, finding.where) == ("error", call)


def test_a_role_that_may_not_write_the_functions_log(world: World) -> None:
    world.add("GetFunctionConfiguration", LoggingConfig={"LogFormat": "Text", "LogGroup": "elsewhere"})
    assert "log-group:elsewhere:log-stream:*" in one(world.check(), f"for {world.name}'s log").message

    world.clients["iam"].delete_role_policy(RoleName=world.name, PolicyName="log")
    world.add("GetFunctionConfiguration")
    missing = one(
        world.check(), f"nothing in the role allows logs:CreateLogStream and logs:PutLogEvents for {world.name}'s log"
    )
    assert (missing.severity, missing.where) == ("error", f"aws iam put-role-policy --role-name {world.name}")


def test_the_queues_attributes(world: World) -> None:
    redrive = json.dumps({"deadLetterTargetArn": world.arn(world.letters), "maxReceiveCount": 3})
    world.clients["sqs"].set_queue_attributes(
        QueueUrl=world.retries, Attributes={"VisibilityTimeout": "60", "RedrivePolicy": redrive}
    )
    world.clients["sqs"].set_queue_attributes(QueueUrl=world.letters, Attributes={"MessageRetentionPeriod": "345600"})

    found = world.check()

    visibility = one(found, "Write VisibilityTimeout: 360")
    assert (visibility.severity, visibility.where.rpartition(" ")[2]) == ("warning", "VisibilityTimeout")
    assert one(found, "Write maxReceiveCount: 15").severity == "warning"
    assert one(found, "SQS counts from when they were first sent").severity == "error"


def test_a_retry_queue_that_nothing_reads_is_known_to_be_so(world: World) -> None:
    world.clients["lambda"].delete_event_source_mapping(UUID=world.mappings["retry"])

    assert one(world.check(), "nothing reads orders's retry queue").severity == "error"


def test_a_retry_queue_that_another_function_reads(world: World) -> None:
    world.clients["lambda"].delete_event_source_mapping(UUID=world.mappings["retry"])
    role = world.clients["iam"].get_role(RoleName=world.name)["Role"]["Arn"]
    for name, handler in (("mails", "mails.handler"), ("again", "orders.handler")):
        world.clients["lambda"].create_function(
            FunctionName=f"{world.name}-{name}",
            Runtime="python3.12",
            Role=role,
            Handler=handler,
            Code={"ZipFile": code()},
            Timeout=60,
        )
    made = world.clients["lambda"].create_event_source_mapping(
        FunctionName=f"{world.name}-mails", EventSourceArn=world.arn(world.retries), FunctionResponseTypes=REPORTS
    )
    assert one(world.check(), f"triggers {world.name}-mails, which does not run orders").severity == "error"

    world.clients["lambda"].delete_event_source_mapping(UUID=made["UUID"])
    world.clients["lambda"].create_event_source_mapping(
        FunctionName=f"{world.name}-again", EventSourceArn=world.arn(world.retries), FunctionResponseTypes=REPORTS
    )
    assert not any(finding.severity == "error" for finding in world.check())


def test_queues_and_tables_that_are_not_there(world: World) -> None:
    def elsewhere() -> RecordProcessor:
        queue = SqsQueue("https://sqs.us-east-1.amazonaws.com/123456789012/nowhere")
        return orders(on_failure=Divert(queue, SqsQueue.from_env("DEAD_LETTERS")), progress=DynamoDbProgress("nowhere"))

    found = world.check(elsewhere)

    assert one(found, "no such thing as the queue arn:aws:sqs:us-east-1:123456789012:nowhere").severity == "error"
    assert one(found, "no such thing as the table nowhere").severity == "error"


def test_a_table_that_is_of_another_store(world: World) -> None:
    fifo = [world.queue(f"{name}.fifo", FifoQueue="true", VisibilityTimeout="360") for name in ("retries", "letters")]

    def parking() -> RecordProcessor:
        return orders(on_failure=Park(SqsQueue(fifo[0]), DynamoDbLedger(world.name), SqsQueue(fifo[1])))

    found = world.check(parking)

    assert "processor (HASH), group (RANGE)" in one(found, "every request to it fails").message
    assert one(found, "orders's ledger has a TTL").severity == "error"


def test_permissions_of_inline_and_managed_policies(world: World) -> None:
    iam = world.clients["iam"]
    iam.delete_role_policy(RoleName=world.name, PolicyName="all")
    assert len([finding for finding in world.check() if "nothing in the role allows" in finding.message]) == 5

    document = {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": ["sqs:*", "kinesis:*"], "Resource": "*"},
    }
    policy = iam.create_policy(PolicyName=world.name, PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=world.name, PolicyArn=policy)
    world.allow("tables", ["dynamodb:Query"], f"arn:aws:dynamodb:us-east-1:123456789012:table/{world.name}")
    missing = one(world.check(), "nothing in the role allows")
    assert missing.message.startswith("nothing in the role allows dynamodb:PutItem for orders's progress")
    assert missing.where == f"aws iam put-role-policy --role-name {world.name}"

    world.allow("tables", ["dynamodb:*"], "*")
    assert but_for_the_loop(world.check()) == []
    world.allow("never", ["sqs:SendMessage"], world.arn(world.retries), effect="Deny")
    assert one(world.check(), "this statement denies it").where == f"the policy never of {world.name}"


def test_a_policy_of_the_queue_counts_where_it_may_allow_what_the_role_does_not(world: World) -> None:
    world.allow(
        "all", ["kinesis:*", "dynamodb:*", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "*"
    )
    tls = {"Bool": {"aws:SecureTransport": "false"}}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*", "Condition": tls}
    allow = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": world.arn(world.letters)}
    for queue, statements in ((world.retries, [deny]), (world.letters, [deny, allow])):
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        world.clients["sqs"].set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})

    found = world.check()

    assert one(found, "nothing in the role allows sqs:SendMessage for orders's retry queue").severity == "error"
    assert one(found, "the resource's own policy may").message.startswith("not checked: orders's dead letters needs")


DENY = {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}


def test_a_policy_of_a_queue_that_denies_what_the_role_may(world: World) -> None:
    arn = f"arn:aws:iam::123456789012:role/{world.name}"
    for principal in ("*", {"AWS": arn}, {"AWS": "123456789012"}):
        policy = json.dumps({"Version": "2012-10-17", "Statement": [DENY | {"Principal": principal}]})
        world.clients["sqs"].set_queue_attributes(QueueUrl=world.letters, Attributes={"Policy": policy})
        finding = one(world.check(), "orders's dead letters needs sqs:SendMessage")
        assert (finding.severity, "whose own policy denies it" in finding.message) == ("error", True)
        assert finding.where.startswith("aws sqs set-queue-attributes --queue-url")
    other = json.dumps({"Version": "2012-10-17", "Statement": [DENY | {"Principal": {"AWS": f"{arn}-other"}}]})
    world.clients["sqs"].set_queue_attributes(QueueUrl=world.letters, Attributes={"Policy": other})
    assert but_for_the_loop(world.check()) == []


def test_policies_of_a_stream_a_topic_and_a_bucket_that_deny_it(world: World) -> None:
    stream = f"arn:aws:kinesis:us-east-1:123456789012:stream/{world.name}"
    topic = world.clients["sns"].create_topic(Name=world.name)["TopicArn"]
    world.clients["s3"].create_bucket(Bucket=world.name)
    world.allow("more", ["sns:Publish", "s3:PutObject"], "*")

    def writing() -> RecordProcessor:
        return orders(news=SnsSink(topic), archive=S3Sink(world.name))

    assert but_for_the_loop(world.check(writing)) == []
    world.allow("more", ["s3:PutObject"], "*")
    # That of a new topic leaves it to the account.
    assert one(world.check(writing), "nothing in the role allows sns:Publish").severity == "error"
    world.allow("more", ["sns:Publish", "s3:PutObject"], "*")

    policy = json.dumps({"Version": "2012-10-17", "Statement": [DENY]})
    world.clients["kinesis"].put_resource_policy(ResourceARN=stream, Policy=policy)
    world.clients["sns"].set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    world.clients["s3"].put_bucket_policy(Bucket=world.name, Policy=policy)
    found = world.check(writing)
    denials = {finding.where for finding in found if "whose own policy denies it" in finding.message}
    assert denials == {f"the policy of the {noun} {world.name}" for noun in ("stream", "topic", "bucket")}

    world.refuse("GetBucketPolicy")
    note = one(world.check(writing), f"the policy of the bucket {world.name}: this user may not look at it")
    assert note.severity == "note"


def test_an_age_beyond_what_the_stream_keeps(world: World) -> None:
    destination = {"OnFailure": {"Destination": world.arn(world.letters)}}
    world.change("stream", MaximumRecordAgeInSeconds=86_400, DestinationConfig=destination)
    assert one(world.check(), "the stream keeps them for 24 hours").severity == "warning"

    world.clients["kinesis"].increase_stream_retention_period(StreamName=world.name, RetentionPeriodHours=25)
    assert one(world.check(), "a little under the stream's retention").severity == "note"


def test_one_heartbeat_switch_for_the_shards_that_are_open(world: World) -> None:
    config = world.clients["lambda"].get_function_configuration(FunctionName=world.name)
    variables = {**config["Environment"]["Variables"], "HEARTBEAT_URL": "https://example.org/orders"}
    world.clients["lambda"].update_function_configuration(FunctionName=world.name, Environment={"Variables": variables})
    assert but_for_the_loop(world.check()) == []

    world.clients["kinesis"].update_shard_count(
        StreamName=world.name, TargetShardCount=2, ScalingType="UNIFORM_SCALING"
    )
    assert one(world.check(), "the stream has 2 shards").severity == "warning"


def encrypted(world: World, key: str) -> None:
    world.clients["kinesis"].start_stream_encryption(StreamName=world.name, EncryptionType="KMS", KeyId=key)


def test_the_key_of_a_stream_and_of_a_destination(world: World) -> None:
    kms = world.clients["kms"]
    made = kms.create_key()["KeyMetadata"]
    encrypted(world, made["KeyId"])
    gone = world.queue("gone", KmsMasterKeyId=made["KeyId"])
    destination = {"OnFailure": {"Destination": world.arn(gone)}}
    world.change("stream", MaximumRecordAgeInSeconds=82_800, DestinationConfig=destination)

    found = world.check()

    assert one(found, "allows kms:Decrypt for the mapping").severity == "error"
    given_up = one(found, "allows kms:GenerateDataKey and kms:Decrypt for the mapping")
    assert (given_up.severity, made["Arn"] in given_up.message) == ("error", True)

    world.refuse("GetKeyPolicy")
    found = world.check()
    assert {finding.severity for finding in found} == {"note"}
    assert one(found, f"the policy of the key {made['KeyId']}: this user may not look at it")

    world.allow("key", ["kms:Decrypt", "kms:GenerateDataKey"], made["Arn"])
    assert not any("kms:" in finding.message for finding in world.check())


def test_a_key_of_awss_needs_no_permission_and_one_that_is_not_there_is_told(world: World) -> None:
    encrypted(world, "alias/aws/kinesis")
    assert but_for_the_loop(world.check()) == []
    encrypted(world, "11111111-2222-3333-4444-555555555555")
    assert one(world.check(), "no such thing as the key 11111111-2222").severity == "error"


def test_the_bucket_that_a_destination_names(world: World) -> None:
    key = world.clients["kms"].create_key()["KeyMetadata"]
    s3 = world.clients["s3"]
    s3.create_bucket(Bucket=world.name)
    destination = {"OnFailure": {"Destination": f"arn:aws:s3:::{world.name}"}}
    world.change("stream", MaximumRecordAgeInSeconds=82_800, DestinationConfig=destination)
    world.allow("bucket", ["s3:PutObject"], f"arn:aws:s3:::{world.name}/*")
    assert not any("kms:" in finding.message for finding in world.check())

    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key["Arn"]}}
    s3.put_bucket_encryption(Bucket=world.name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert one(world.check(), "kms:GenerateDataKey for the mapping").severity == "error"

    s3.delete_bucket(Bucket=world.name)
    assert one(world.check(), f"no such thing as the bucket arn:aws:s3:::{world.name}").severity == "error"


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("ListRolePolicies", "its inline policies (AccessDenied)"),
        ("GetRolePolicy", "the policy all (AccessDenied)"),
        ("GetRole", "the role"),
        ("GetQueueAttributes", "the queue arn:aws:sqs:us-east-1:123456789012:"),
        ("DescribeTable", "the table"),
        ("DescribeStreamSummary", "the stream arn:aws:kinesis:us-east-1:123456789012:stream/"),
    ],
)
def test_what_this_user_may_not_look_at_is_a_note_and_never_an_error(world: World, operation: str, what: str) -> None:
    world.refuse(operation)

    found = world.check()

    assert {finding.severity for finding in found} == {"note"}
    assert any(what in finding.message for finding in found)


def test_whom_a_topic_tells_and_what_lambda_does_with_what_fails_there(world: World) -> None:
    topic = world.clients["sns"].create_topic(Name=world.name)["TopicArn"]
    world.allow("topic", ["sns:Publish"], topic)

    def by_topic() -> RecordProcessor:
        return orders(on_failure=Divert(SnsTopic(topic), SqsQueue.from_env("DEAD_LETTERS")))

    assert one(world.check(by_topic), "nobody subscribes").severity == "error"

    function = f"arn:aws:lambda:us-east-1:123456789012:function:{world.name}"
    world.clients["sns"].subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function)
    assert one(world.check(by_topic), "Lambda drops the record").severity == "error"

    world.clients["lambda"].put_function_event_invoke_config(
        FunctionName=world.name, DestinationConfig={"OnFailure": {"Destination": world.arn(world.letters)}}
    )
    assert not any(finding.severity == "error" for finding in world.check(by_topic))


def test_a_function_that_is_not_there(world: World) -> None:
    with pytest.raises(StreamkitError, match="there is no function nowhere here"):
        Account(world.clients.__getitem__, "nowhere").deployment()


def test_any_other_error_of_awss_is_raised(world: World) -> None:
    world.refuse("ListEventSourceMappings", "ServiceException")

    with pytest.raises(ClientError, match="ServiceException"):
        world.check()
