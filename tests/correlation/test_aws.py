"""What the users' own clients send on: the requests as they go out, and what arrives at the services of moto."""

from __future__ import annotations

import base64
import copy
import json
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import boto3
import pytest

from streamkit import correlation
from streamkit.correlation import Correlation
from streamkit.errors import EndlessChain
from streamkit.event import decode
from streamkit.wrapper import unwrap

from .conftest import TRACE, XRAY, Account

Follow = Callable[..., Any]
CONTEXT = {"x-correlation-id": "r-1", "call-chain-length": 1, "debug-log-enabled": "false"}
ATTRIBUTES = {name: str(value) for name, value in CONTEXT.items()}


@pytest.fixture
def queue(account: Account) -> str:
    return str(account.plain("sqs").create_queue(QueueName=f"q-{uuid.uuid4().hex}")["QueueUrl"])


@pytest.fixture
def stream(account: Account) -> str:
    name = f"s-{uuid.uuid4().hex}"
    kinesis = account.plain("kinesis")
    kinesis.create_stream(StreamName=name, ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    return name


def records_in(account: Account, stream: str) -> list[bytes]:
    kinesis = account.plain("kinesis")
    (shard,) = kinesis.list_shards(StreamName=stream)["Shards"]
    where = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    return [record["Data"] for record in kinesis.get_records(ShardIterator=where["ShardIterator"])["Records"]]


def messages_in(account: Account, queue: str) -> list[dict[str, Any]]:
    answer = account.plain("sqs").receive_message(
        QueueUrl=queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"]
    )
    return list(answer.get("Messages", []))


def texts_of(message: dict[str, Any]) -> dict[str, str]:
    return {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}


def build(client: Any, event: str, params: dict[str, Any]) -> None:
    """Let botocore do what it does before it checks the parameters of a call."""
    model = client.meta.service_model.operation_model(event.partition(".")[2])
    client.meta.events.emit(f"before-parameter-build.{event}", params=params, model=model, context={})


class TestKinesis:
    def test_a_record_has_it_in_its_object(self, account: Account, stream: str, follow: Follow) -> None:
        with follow(traceparent=TRACE):
            account.client("kinesis").put_record(StreamName=stream, Data=b'{"n": 1}', PartitionKey="k")

        (data,) = records_in(account, stream)
        assert json.loads(data) == {"__context__": {**CONTEXT, "traceparent": TRACE}, "n": 1}

    def test_each_record_of_a_batch_does_and_what_is_no_object_stays(
        self, account: Account, stream: str, follow: Follow
    ) -> None:
        given = [{"Data": data, "PartitionKey": "k"} for data in (b'{"n":1}', b"\xff", '{"n":3}')]
        before = copy.deepcopy(given)

        with follow():
            account.client("kinesis").put_records(StreamName=stream, Records=given)

        first, second, third = records_in(account, stream)
        assert json.loads(first) == {"__context__": CONTEXT, "n": 1}
        assert second == b"\xff"
        assert json.loads(third) == {"__context__": CONTEXT, "n": 3}
        assert given == before

    def test_what_is_no_object_can_be_put_into_the_envelope(
        self, account: Account, stream: str, follow: Follow
    ) -> None:
        with follow():
            account.client("kinesis", envelope=True).put_record(StreamName=stream, Data=b"\xff", PartitionKey="k")

        found = unwrap(records_in(account, stream)[0])
        assert found is not None
        assert (json.loads(found[0]), found[1]) == (CONTEXT, b"\xff")

    def test_payloads_can_be_left_alone(self, account: Account, stream: str, follow: Follow) -> None:
        with follow():
            account.client("kinesis", field=False).put_record(StreamName=stream, Data=b'{"n":1}', PartitionKey="k")

        assert records_in(account, stream) == [b'{"n":1}']

    def test_outside_of_any_event_nothing_is_added(self, account: Account, stream: str) -> None:
        account.client("kinesis").put_record(StreamName=stream, Data=b'{"n":1}', PartitionKey="k")

        assert records_in(account, stream) == [b'{"n":1}']

    def test_a_program_that_is_no_function_begins_a_chain(self, account: Account, stream: str) -> None:
        begun = Correlation(ids={"x-correlation-id": "c-17"})
        with correlation.use(begun):
            account.client("kinesis").put_record(StreamName=stream, Data=b'{"n":1}', PartitionKey="k")
            attached = correlation.attach(b'{"n":2}')
            headers = correlation.headers()

        (data,) = records_in(account, stream)
        assert json.loads(data) == {"__context__": {"x-correlation-id": "c-17"}, "n": 1}
        assert json.loads(attached) == {"__context__": {"x-correlation-id": "c-17"}, "n": 2}
        assert headers == {"x-correlation-id": "c-17"}

    def test_a_record_of_nearly_a_mebibyte_stays_as_it_is(self, account: Account, stream: str, follow: Follow) -> None:
        def sized(size: int) -> bytes:
            return b'{"n":"' + b"x" * (size - 9) + b'"}'

        with follow():
            client = account.client("kinesis")
            for size in (1_048_576 - 1, 1_048_576 - 50, 1_048_576 - 500):
                client.put_record(StreamName=stream, Data=sized(size - 1), PartitionKey="k")

        sizes = [len(base64.b64decode(sent.json["Data"])) + 1 for sent in account.sent if b"PartitionKey" in sent.body]
        assert sizes[:2] == [1_048_576 - 2, 1_048_576 - 51]
        assert 1_048_576 - 500 < sizes[2] <= 1_048_576

    def test_a_request_of_nearly_five_mebibytes_gets_what_there_is_room_for(
        self, account: Account, follow: Follow
    ) -> None:
        data = b'{"n":"' + b"x" * 524_272 + b'"}'
        entries = [{"Data": data, "PartitionKey": "k"} for _ in range(10)]
        spare = 5 * 1_048_576 - 10 * (len(data) + 1)
        client = account.client("kinesis")

        with follow():
            entries[9] = {"Data": data[:-202] + b'"}', "PartitionKey": "k"}
            sent = self._records(client, entries)

        assert spare == 70
        # What is spared at the end is enough for the first two.
        assert [b"__context__" in one["Data"] for one in sent] == [True, True] + [False] * 8
        assert sum(len(one["Data"]) + 1 for one in sent) <= 5 * 1_048_576

    @staticmethod
    def _records(client: Any, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What botocore would send, without sending it."""
        params: dict[str, Any] = {"StreamName": "s", "Records": entries}
        build(client, "kinesis.PutRecords", params)
        records: list[dict[str, Any]] = params["Records"]
        return records


class TestMessages:
    def test_of_sqs_have_attributes_and_x_rays_header(
        self, account: Account, queue: str, follow: Follow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with follow(x_correlation_user_id="u-7", traceparent=TRACE, tracestate="a=1", x_amzn_trace_id=XRAY):
            account.client("sqs").send_message(QueueUrl=queue, MessageBody="body")

        (message,) = messages_in(account, queue)
        assert message["Body"] == "body"
        assert texts_of(message) == {
            **ATTRIBUTES,
            "x-correlation-user-id": "u-7",
            "traceparent": TRACE,
            "tracestate": "a=1",
        }
        assert message["Attributes"]["AWSTraceHeader"] == XRAY

    def test_of_a_batch_have_each_their_own(self, account: Account, queue: str) -> None:
        sources = [correlation.of_event({"headers": {"x-correlation-id": f"r-{n}"}}) for n in range(3)]
        entries = [{"Id": str(n), "MessageBody": f"body {n}"} for n in range(3)]

        with correlation.each(sources):
            account.client("sqs").send_message_batch(QueueUrl=queue, Entries=entries)

        found = {message["Body"]: texts_of(message)["x-correlation-id"] for message in messages_in(account, queue)}
        assert found == {f"body {n}": f"r-{n}" for n in range(3)}
        assert all("MessageAttributes" not in entry for entry in entries)

    def test_of_a_batch_with_another_number_of_entries_have_none(
        self, account: Account, queue: str, follow: Follow
    ) -> None:
        with follow(), correlation.each([correlation.current()]):
            entries = [{"Id": str(n), "MessageBody": "body"} for n in range(2)]
            account.client("sqs").send_message_batch(QueueUrl=queue, Entries=entries)

        assert [texts_of(message) for message in messages_in(account, queue)] == [{}, {}]

    @pytest.mark.parametrize(
        ("own", "names"), [(10, []), (9, ["x-correlation-id"]), (8, ["x-correlation-id", "call-chain-length"])]
    )
    def test_have_ten_attributes_at_most_the_users_own_first(
        self, account: Account, queue: str, follow: Follow, own: int, names: list[str]
    ) -> None:
        given = {f"own-{n}": {"DataType": "String", "StringValue": "x"} for n in range(own)}

        with follow(x_correlation_a="1", traceparent=TRACE):
            account.client("sqs").send_message(QueueUrl=queue, MessageBody="body", MessageAttributes=given)

        (message,) = messages_in(account, queue)
        assert sorted(texts_of(message)) == sorted([*given, *names])

    def test_keep_an_attribute_of_the_users_but_a_longer_chain_counts(
        self, account: Account, queue: str, follow: Follow
    ) -> None:
        given = {
            name: {"DataType": "String", "StringValue": value}
            for name, value in {"X-Correlation-Id": "mine", "call-chain-length": "1"}.items()
        }

        with follow(call_chain_length="3"):
            account.client("sqs").send_message(QueueUrl=queue, MessageBody="body", MessageAttributes=given)

        (message,) = messages_in(account, queue)
        assert texts_of(message) == {
            "X-Correlation-Id": "mine",
            "call-chain-length": "4",
            "debug-log-enabled": "false",
        }

    def test_never_grow_over_a_limit_that_they_kept(self, account: Account, queue: str, follow: Follow) -> None:
        limit = 1_048_576

        with follow():
            client = account.client("sqs")
            client.send_message(QueueUrl=queue, MessageBody="x" * limit)
            client.send_message(QueueUrl=queue, MessageBody="x" * (limit - 30))

        whole, nearly = messages_in(account, queue)
        assert texts_of(whole) == {}
        assert texts_of(nearly) == {"x-correlation-id": "r-1"}

    def test_of_a_topic_arrive_in_a_queue_either_way(self, account: Account, queue: str, follow: Follow) -> None:
        sns = account.client("sns")
        topic = sns.create_topic(Name=f"t-{uuid.uuid4().hex}")["TopicArn"]
        arn = account.plain("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        for raw in ("true", "false"):
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": raw})
            with follow(f"raw-{raw}", x_amzn_trace_id=XRAY):
                sns.publish(TopicArn=topic, Message="one")
                sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": "1", "Message": "two"}])
            header = [sent.headers.get("x-amzn-trace-id") for sent in account.sent if b"Action=Publish" in sent.body]
            assert header == [XRAY] * len(header)
            assert header
        raws = []
        while messages := messages_in(account, queue):
            for message in messages:
                attributes = {
                    name: {"stringValue": one["StringValue"], "dataType": "String"}
                    for name, one in message.get("MessageAttributes", {}).items()
                }
                raws.append(
                    {
                        "messageId": message["MessageId"],
                        "body": message["Body"],
                        "messageAttributes": attributes,
                        "attributes": {},
                        "eventSource": "aws:sqs",
                        "eventSourceARN": arn,
                    }
                )
                account.plain("sqs").delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

        found = {correlation.of(record).id for record in decode({"Records": raws}).records}
        lengths = {correlation.of(record).call_chain_length for record in decode({"Records": raws}).records}
        assert found == {"raw-true", "raw-false"}
        assert lengths == {2}

    def test_to_a_telephone_stay_as_they_are(self, account: Account, follow: Follow) -> None:
        with follow():
            account.client("sns").publish(PhoneNumber="+15555550100", Message="text")

        assert not any("Attributes" in name for name in account.sent[-1].form)


class TestEventBridge:
    def test_events_have_it_in_their_detail_and_x_rays_header(self, account: Account, follow: Follow) -> None:
        entries = [{"Source": "s", "DetailType": "t", "Detail": f'{{"n":{n}}}'} for n in range(2)]

        with follow(x_amzn_trace_id=XRAY):
            account.client("events").put_events(Entries=entries)

        sent = account.sent[-1].json["Entries"]
        assert [json.loads(entry["Detail"]) for entry in sent] == [{"__context__": CONTEXT, "n": n} for n in range(2)]
        assert [entry["TraceHeader"] for entry in sent] == [XRAY] * 2
        assert entries[0]["Detail"] == '{"n":0}'

    def test_events_never_grow_over_the_requests_limit(self, account: Account, follow: Follow) -> None:
        detail = json.dumps({"n": "x" * (256 * 1024 - 60)})

        with follow(x_amzn_trace_id=XRAY):
            account.client("events").put_events(Entries=[{"Source": "s", "DetailType": "t", "Detail": detail}])

        assert account.sent[-1].json["Entries"] == [{"Source": "s", "DetailType": "t", "Detail": detail}]


class TestStepFunctions:
    @pytest.fixture
    def machine(self, account: Account) -> str:
        definition = {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}
        made = account.plain("stepfunctions").create_state_machine(
            name=f"m-{uuid.uuid4().hex}",
            definition=json.dumps(definition),
            roleArn="arn:aws:iam::123456789012:role/r",
        )
        return str(made["stateMachineArn"])

    def test_an_execution_has_it_in_its_input_and_x_rays_header(
        self, account: Account, machine: str, follow: Follow
    ) -> None:
        with follow(traceparent=TRACE, x_amzn_trace_id=XRAY):
            account.client("stepfunctions").start_execution(stateMachineArn=machine, input='{"n":1}')

        sent = account.sent[-1].json
        assert json.loads(sent["input"]) == {"__context__": {**CONTEXT, "traceparent": TRACE}, "n": 1}
        assert sent["traceHeader"] == XRAY

    def test_one_with_a_name_has_no_span_so_that_its_input_is_the_same_when_it_is_started_again(
        self, account: Account, machine: str, follow: Follow
    ) -> None:
        client = account.client("stepfunctions")

        for n in (1, 2):
            with follow(traceparent=TRACE[:-4] + f"{n}-01"):
                client.start_execution(stateMachineArn=machine, name="one", input='{"n":1}')

        first, second = (sent.json["input"] for sent in account.sent[-2:])
        assert first == second
        assert json.loads(first)["__context__"] == CONTEXT


class TestLambda:
    """What moto answers does not matter here, and depends on its settings: the request has been seen."""

    def invoke(self, account: Account, **arguments: Any) -> Any:
        client = account.client("lambda")
        with suppress(client.exceptions.ResourceNotFoundException):
            client.invoke(FunctionName="f", **arguments)
        return account.sent[-1]

    def test_an_object_has_it_and_the_request_x_rays_header(self, account: Account, follow: Follow) -> None:
        with follow(x_amzn_trace_id=XRAY):
            sent = self.invoke(account, InvocationType="Event", Payload=b'{"n":1}')

        assert sent.json == {"__context__": CONTEXT, "n": 1}
        assert sent.headers["x-amzn-trace-id"] == XRAY
        assert "x-amz-client-context" not in sent.headers

    def test_another_payload_has_it_in_the_client_context_of_a_synchronous_call(
        self, account: Account, follow: Follow
    ) -> None:
        with follow():
            sent = self.invoke(account, Payload="[1]")
            event = self.invoke(account, Payload="[1]", InvocationType="Event")

        context = json.loads(base64.b64decode(sent.headers["x-amz-client-context"]))
        assert context == {"custom": {name: str(value) for name, value in CONTEXT.items()}}
        assert sent.body == b"[1]"
        assert "x-amz-client-context" not in event.headers

    def test_a_client_context_of_the_users_stays(self, account: Account, follow: Follow) -> None:
        with follow():
            sent = self.invoke(account, ClientContext="e30=")

        assert sent.headers["x-amz-client-context"] == "e30="


class TestAnEndlessChain:
    def test_is_not_sent_on(self, account: Account, queue: str, follow: Follow) -> None:
        client = account.client("sqs")

        with follow(call_chain_length="8"):
            client.send_message(QueueUrl=queue, MessageBody="the ninth function's")
        with follow(call_chain_length="9"), pytest.raises(EndlessChain, match="gone through 10 functions"):
            client.send_message(QueueUrl=queue, MessageBody="the tenth's")

        assert [message["Body"] for message in messages_in(account, queue)] == ["the ninth function's"]

    def test_in_one_entry_of_a_batch_stops_the_call(self, account: Account, queue: str) -> None:
        sources = [correlation.of_event({"headers": {"call-chain-length": length}}) for length in ("1", "9")]
        entries = [{"Id": str(n), "MessageBody": "body"} for n in range(2)]

        with correlation.each(sources), pytest.raises(EndlessChain):
            account.client("sqs").send_message_batch(QueueUrl=queue, Entries=entries)

        assert messages_in(account, queue) == []


class TestInstrument:
    def test_a_session_is_for_the_clients_made_of_it(
        self, moto_endpoint: str, queue: str, follow: Follow, account: Account
    ) -> None:
        session = boto3.Session(region_name="us-east-1", aws_access_key_id="nobody", aws_secret_access_key="nothing")

        client = correlation.instrument(session).client("sqs", endpoint_url=moto_endpoint)
        with follow():
            client.send_message(QueueUrl=queue, MessageBody="body")
        client.close()

        assert [texts_of(message) for message in messages_in(account, queue)] == [ATTRIBUTES]

    def test_a_resource_is_too(self, moto_endpoint: str, queue: str, follow: Follow, account: Account) -> None:
        session = boto3.Session(region_name="us-east-1", aws_access_key_id="nobody", aws_secret_access_key="nothing")
        resource = correlation.instrument(session.resource("sqs", endpoint_url=moto_endpoint))

        with follow():
            resource.Queue(queue).send_message(MessageBody="body")
        resource.meta.client.close()

        assert [texts_of(message) for message in messages_in(account, queue)] == [ATTRIBUTES]

    def test_a_second_time_sets_the_options_anew(self, account: Account, stream: str, follow: Follow) -> None:
        client = account.client("kinesis", field=False)

        with follow():
            client.put_record(StreamName=stream, Data=b"{}", PartitionKey="k")
            correlation.instrument(client).put_record(StreamName=stream, Data=b"{}", PartitionKey="k")

        assert [b"__context__" in data for data in records_in(account, stream)] == [False, True]

    def test_something_else_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="takes a boto3 client"):
            correlation.instrument(object())


class TestHostileParameters:
    @pytest.fixture(params=["kinesis.PutRecords", "sqs.SendMessageBatch", "sns.PublishBatch", "eventbridge.PutEvents"])
    def batch(self, request: pytest.FixtureRequest) -> tuple[str, str]:
        event = str(request.param)
        names = {"kinesis": "Records", "sqs": "Entries", "sns": "PublishBatchRequestEntries", "eventbridge": "Entries"}
        return event, names[event.partition(".")[0]]

    @pytest.mark.parametrize(
        "entries", [None, 7, "text", [None], [7], [[]], {}, [{}], [{"Data": 7, "MessageBody": []}]]
    )
    def test_go_to_botocore_as_they_are_which_says_what_is_wrong(
        self, account: Account, follow: Follow, batch: tuple[str, str], entries: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        event, name = batch
        service = event.partition(".")[0].replace("eventbridge", "events")
        params: dict[str, Any] = {name: entries}

        with follow(), caplog.at_level(logging.ERROR):
            build(account.client(service), event, params)

        assert isinstance(params[name], type(entries))
        assert caplog.records == []

    @pytest.mark.parametrize(
        "message",
        [
            {"MessageBody": "x", "MessageAttributes": 7},
            {"MessageBody": "x", "MessageAttributes": {"a": None, "call-chain-length": 7}},
            {"MessageBody": "x", "MessageAttributes": {7: {}}, "MessageSystemAttributes": 7},
            {"MessageBody": None},
            {},
        ],
    )
    def test_of_one_message_do_too(
        self, account: Account, follow: Follow, message: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = account.client("sqs")

        with follow(x_amzn_trace_id=XRAY), caplog.at_level(logging.ERROR):
            build(client, "sqs.SendMessage", message)

        assert caplog.records == []

    def test_that_nobody_thought_of_are_a_line_in_the_log_and_the_call_goes_its_way(
        self, account: Account, follow: Follow, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Odd(dict[str, Any]):
            def get(self, *arguments: Any) -> Any:
                raise RuntimeError("odd")

        params = Odd(MessageBody="secret")

        with follow(), caplog.at_level(logging.ERROR):
            build(account.client("sqs"), "sqs.SendMessage", params)

        assert [record.getMessage() for record in caplog.records] == [
            "sqs.SendMessage: nothing of what is followed could be added: RuntimeError"
        ]


class TestAttach:
    def test_is_for_producers_that_are_not_instrumented(self, follow: Follow) -> None:
        assert correlation.attach(b'{"n":1}') == b'{"n":1}'
        with follow():
            assert json.loads(correlation.attach(b'{"n":1}')) == {"__context__": CONTEXT, "n": 1}
            assert correlation.attach(b"\xff") == b"\xff"
            assert unwrap(correlation.attach(b"\xff", envelope=True)) is not None
        with follow(call_chain_length="9"), pytest.raises(EndlessChain):
            correlation.attach(b"{}")


@pytest.fixture(autouse=True)
def no_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
