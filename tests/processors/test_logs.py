"""processors.logs: from a log group to documents and metrics, on moto, osmem-server, and behind a proxy on bad days."""

from __future__ import annotations

import gzip
import itertools
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
from local_opensearch import opensearch_server
from opensearchpy import OpenSearch

from processors.logs import LogsProcessor, handler
from streamkit import Block, Divert, lambda_handler
from streamkit.breaker import FAILURES
from streamkit.errors import BatchFailed, ConfigurationError
from streamkit.handler import Handler
from streamkit.logs.reading import Logged
from streamkit.testing import MemoryQueue, kinesis_event, logs_data, logs_event
from tests.config.sources import ssm_client
from tests.sinks.aws_proxy import AwsProxy, Request, client_of, drop

NAMES = (
    *("SEARCH_ENDPOINT", "INDEX_PREFIX", "FLAT_TYPE", "LEAVE_OUT", "METRICS", "METRICS_NAMESPACE", "CUSTOM_NAMESPACE"),
    *("REPORT_METRICS", "METRIC_TAGS", "MOST_BYTES", "PROCESSOR_NAME", "RETRY_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"),
    *("AWS_LAMBDA_LOG_GROUP_NAME", "SEARCH_AUTHORIZATION"),
)
ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
START = f"START RequestId: {ID} Version: 12\n"
REPORT = (
    f"REPORT RequestId: {ID}\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\tMax Memory Used: 64 MB\t"
    "Init Duration: 156.08 ms\tStatus: timeout\n"
)
TIMED_OUT = f"2026-01-01T00:00:03.005Z {ID} Task timed out after 3.00 seconds\n\n"
NOW = int(time.time() // 60 * 60) * 1000
DAY = f"{datetime.fromtimestamp(NOW / 1000, UTC):%Y.%m.%d}"
_names = (f"shipped{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with opensearch_server() as running:
        yield running.endpoint


class World:
    """An index and namespaces of one test's own. The function's requests to both go through proxies."""

    def __init__(self, opensearch: str, moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name = next(_names)
        self.client = OpenSearch(hosts=[opensearch])
        self.cloudwatch = client_of(moto, "cloudwatch")
        self.search, self.aws = AwsProxy(opensearch), AwsProxy(moto)
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "SEARCH_ENDPOINT": self.search.endpoint,
            "INDEX_PREFIX": self.name,
            "METRICS_NAMESPACE": f"{self.name}/lambda",
            "CUSTOM_NAMESPACE": f"{self.name}/custom",
            "AWS_ENDPOINT_URL": self.aws.endpoint,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)

    def documents(self, day: str = DAY) -> list[dict[str, Any]]:
        index = f"{self.name}-{day}"
        if not self.client.indices.exists(index=index):
            return []
        self.client.indices.refresh(index=index)
        found = self.client.search(index=index, body={"query": {"match_all": {}}, "size": 1000})
        return sorted((hit["_source"] for hit in found["hits"]["hits"]), key=lambda source: source["@timestamp"])

    def metric(self, name: str, kind: str = "lambda") -> tuple[float, float]:
        """How many values, and their sum."""
        around = datetime.fromtimestamp(NOW / 1000, UTC)
        found = self.cloudwatch.get_metric_statistics(
            Namespace=f"{self.name}/{kind}",
            MetricName=name,
            StartTime=around - timedelta(days=1),
            EndTime=around + timedelta(hours=1),
            Period=172800,
            Statistics=["SampleCount", "Sum"],
        )["Datapoints"]
        return (found[0]["SampleCount"], found[0]["Sum"]) if found else (0, 0)

    def metrics(self, kind: str = "lambda") -> dict[str, dict[str, str]]:
        """The names of all, with their dimensions."""
        found = self.cloudwatch.list_metrics(Namespace=f"{self.name}/{kind}")["Metrics"]
        return {one["MetricName"]: {of["Name"]: of["Value"] for of in one["Dimensions"]} for one in found}

    def close(self) -> None:
        self.client.close()
        self.search.close()
        self.aws.close()


@pytest.fixture
def world(endpoint: str, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(endpoint, moto_endpoint, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def function(world: World) -> Iterator[Handler]:
    made = lambda_handler(LogsProcessor)
    yield made
    made.close()


def event(*lines: str, **options: Any) -> dict[str, Any]:
    return logs_event(lines, **{"start": NOW, **options})


class TestLines:
    def test_lines_are_documents_of_the_day_and_metrics_of_the_minute(self, world: World, function: Handler) -> None:
        said = json.dumps({"level": "INFO", "message": "paid", "correlation_id": "c1", "order": {"id": 7}})
        custom = f"MONITORING|{NOW // 1000}|2|count|orders.paid|#country:de"

        answer = function(event(START, said, custom, TIMED_OUT, REPORT))

        assert answer == {"batchItemFailures": []}
        documents = world.documents()
        assert [document["kind"] for document in documents] == ["start", "message", "metric", "timeout", "report"]
        assert {document["request_id"] for document in documents} == {ID}
        assert documents[1]["message"] == "paid"
        assert documents[1]["fields"] == {"order.id": "7"}
        assert documents[1]["correlation_id"] == "c1"
        of = {"FunctionName": "orders"}
        assert world.metrics() == dict.fromkeys(
            (
                *(
                    "Duration",
                    "BilledDuration",
                    "MemorySize",
                    "MaxMemoryUsed",
                    "MemoryUse",
                    "InitDuration",
                    "ColdStarts",
                ),
                *("Failures", "TimeOuts"),
            ),
            of,
        )
        assert world.metric("BilledDuration") == (1.0, 3000.0)
        assert world.metric("TimeOuts") == (1.0, 1.0)
        assert world.metrics("custom") == {"orders.paid": {"country": "de"}}
        assert world.metric("orders.paid", "custom") == (1.0, 2.0)

    def test_through_a_stream_in_several_members(self, world: World, function: Handler) -> None:
        packed = logs_data(["a"], start=NOW) + logs_data(["b"], start=NOW + 1000)
        records = [packed, logs_data(["probe"], message_type="CONTROL_MESSAGE"), logs_data([REPORT], start=NOW + 2000)]

        assert function(kinesis_event(records)) == {"batchItemFailures": []}

        assert [document["message"] for document in world.documents()] == ["a", "b", REPORT]
        assert world.metric("ColdStarts") == (1.0, 1.0)

    def test_out_of_the_queue_of_what_lambda_has_given_up(self, world: World, function: Handler) -> None:
        given_up = {"version": "1.0", "requestContext": {}, "requestPayload": event("hi", REPORT)}
        message = {"messageId": "m", "eventSource": "aws:sqs", "body": json.dumps(given_up)}

        assert function({"Records": [message]}) == {"batchItemFailures": []}

        assert [document["message"] for document in world.documents()] == ["hi", REPORT]
        assert world.metric("TimeOuts") == (1.0, 1.0)

    def test_a_batch_of_many_reports_is_one_request_of_metrics(self, world: World, function: Handler) -> None:
        records = [logs_data([REPORT], start=NOW + n * 10) for n in range(100)]

        function(kinesis_event(records))

        assert world.metric("TimeOuts") == (100.0, 100.0)
        assert len(world.aws.requests) == 1

    def test_lines_that_no_mapping_agrees_on_live_in_one_index(self, world: World, function: Handler) -> None:
        said = [{"id": 7}, {"id": "x"}, {"id": {"a": 1}}, {"id": [1, {"b": 2}]}, {"message": {"a": 1}}, {"level": 7.5}]

        assert function(event(*map(json.dumps, said))) == {"batchItemFailures": []}

        assert len(world.documents()) == len(said)
        mapping = world.client.indices.get_mapping(index=f"{world.name}-{DAY}")
        assert mapping[f"{world.name}-{DAY}"]["mappings"]["properties"]["fields"]["type"] == "flat_object"

    def test_a_repeat_changes_no_document(self, world: World, function: Handler) -> None:
        for _ in range(3):
            function(event(START, "hi"))
        assert [document["message"] for document in world.documents()] == [START, "hi"]

    def test_metrics_of_a_delivery_that_was_done_and_comes_again_count_twice_as_documented(
        self, world: World, function: Handler
    ) -> None:
        for _ in range(2):
            function(event(REPORT))
        assert world.metric("TimeOuts") == (2.0, 2.0)

    def test_lines_around_midnight_are_in_the_indexes_of_both_days(self, world: World, function: Handler) -> None:
        midnight = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
        function(logs_event(["before", "after"], start=midnight - 1))
        assert [document["message"] for document in world.documents("2025.12.31")] == ["before"]
        assert [document["message"] for document in world.documents("2026.01.01")] == ["after"]


class TestSettings:
    def test_kinds_of_lines_are_left_out(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LEAVE_OUT", "start, report")
        lambda_handler(LogsProcessor)(event(START, "hi", REPORT))
        assert [document["kind"] for document in world.documents()] == ["message"]
        assert world.metric("ColdStarts") == (1.0, 1.0)

    def test_metrics_and_their_tags_are_chosen(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REPORT_METRICS", "BilledDuration,TimeOuts")
        monkeypatch.setenv("METRIC_TAGS", "country")
        lambda_handler(LogsProcessor)(event(REPORT, "MONITORING|0|1|count|paid|#customer:7,country:de"))
        assert world.metrics().keys() == {"BilledDuration", "TimeOuts"}
        assert world.metrics("custom") == {"paid": {"country": "de"}}

    def test_documents_only(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("METRICS", "off")
        lambda_handler(LogsProcessor)(event(REPORT))
        assert len(world.documents()) == 1
        assert world.aws.requests == []

    def test_metrics_only(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SEARCH_ENDPOINT")
        lambda_handler(LogsProcessor)(event(REPORT))
        assert world.metric("TimeOuts") == (1.0, 1.0)
        assert world.search.requests == []

    def test_a_server_of_ones_own_is_asked_with_what_a_secure_parameter_holds(
        self, world: World, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        # moto takes longer than most for the first, which loads all parameters that AWS itself has.
        with ssm_client(moto_endpoint) as client:
            client.put_parameter(
                Name=f"/{world.name}/search/authorization", Value="ApiKey c2VjcmV0", Type="SecureString"
            )
        caplog.clear()
        caplog.set_level("DEBUG")
        monkeypatch.setenv("SEARCH_AUTHORIZATION", f"/{world.name}/search/authorization")
        monkeypatch.setenv("METRICS", "off")

        lambda_handler(LogsProcessor)(event("hi"))

        assert {request.headers["Authorization"] for request in world.search.requests} == {"ApiKey c2VjcmV0"}
        assert [document["message"] for document in world.documents()] == ["hi"]
        assert "c2VjcmV0" not in caplog.text

    @pytest.mark.parametrize(
        ("name", "value", "why"),
        [
            ("SEARCH_AUTHORIZATION", "ApiKey c2VjcmV0", "^SEARCH_AUTHORIZATION is the path of a parameter"),
            ("LEAVE_OUT", "start,boring", "LEAVE_OUT has 'boring': there are start, end"),
            ("REPORT_METRICS", "Costs", "REPORT_METRICS has 'Costs': there are Duration"),
            ("FLAT_TYPE", "object", "FLAT_TYPE is one of flat_object, flattened"),
            ("METRICS", "yes", "METRICS is on or off"),
            ("METRICS_NAMESPACE", "AWS/Lambda", "METRICS_NAMESPACE='AWS/Lambda': .* begins neither with AWS/"),
            ("CUSTOM_NAMESPACE", "AWS/Lambda", "CUSTOM_NAMESPACE='AWS/Lambda': .* begins neither with AWS/"),
            ("MOST_BYTES", "many", "MOST_BYTES is a whole number, 1 or more; got 'many'"),
            ("INDEX_PREFIX", "Lambda Logs", "^INDEX_PREFIX='Lambda Logs': .* takes an index's name"),
        ],
    )
    def test_one_that_is_wrong_is_named(
        self, world: World, monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match=why):
            lambda_handler(LogsProcessor)(event("hi"))

    def test_without_anywhere_to_write_to_it_says_so(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SEARCH_ENDPOINT")
        monkeypatch.setenv("METRICS", "off")
        with pytest.raises(ConfigurationError, match=r"SEARCH_ENDPOINT or METRICS: .* nowhere to write to"):
            lambda_handler(LogsProcessor)(event("hi"))

    def test_a_subclass_makes_documents_of_its_own(self, world: World) -> None:
        class Short(LogsProcessor):
            def document(self, logged: Logged) -> dict[str, Any] | None:
                return None if logged.line.message == "no" else {"@timestamp": logged.event.timestamp, "message": "yes"}

        lambda_handler(Short)(event("no", "hi"))
        assert world.documents() == [{"@timestamp": NOW + 1, "message": "yes"}]

    def test_the_handler_is_there_to_deploy(self) -> None:
        assert handler({}) == {"batchItemFailures": []}


class TestLoops:
    def test_its_own_lines_are_dropped_and_the_log_says_once_how_to_end_it(
        self, world: World, function: Handler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        own = f"/aws/lambda/{world.name}"
        monkeypatch.setenv("AWS_LAMBDA_LOG_GROUP_NAME", own)

        for _ in range(2):
            assert function(event(REPORT, log_group=own)) == {"batchItemFailures": []}
        function(event("another's"))

        assert [document["message"] for document in world.documents()] == ["another's"]
        assert world.metric("ColdStarts") == (0, 0)
        fix = f"delete-subscription-filter --log-group-name {own} --filter-name streamkit-logs"
        assert caplog.text.count(fix) == 1


class TestTemplate:
    def test_its_indexes_and_its_template_have_names_that_no_other_product_has(
        self, world: World, monkeypatch: pytest.MonkeyPatch, function: Handler
    ) -> None:
        """Elasticsearch manages a template ``logs`` for ``logs-*-*``, and Fleet one for each of its data streams."""
        monkeypatch.delenv("INDEX_PREFIX")

        assert function(event("hi")) == {"batchItemFailures": []}

        (put,) = [request for request in world.search.requests if request.method == "PUT"]
        assert put.path.partition("?")[0] == "/_index_template/streamkit-lambda-logs"
        patterns = put.json["index_patterns"]
        assert any(fnmatchcase(f"lambda-logs-{DAY}", pattern) for pattern in patterns)
        for other in (
            "logs-generic-default",
            "logs-nginx.access-default",
            f"logs-{DAY}",
            "lambda-logs-generic-default",
        ):
            assert not any(fnmatchcase(other, pattern) for pattern in patterns)
        assert world.client.count(index=f"lambda-logs-{DAY}")["count"] == 1

    def test_a_prefix_that_others_have_takes_no_template_of_theirs(
        self, world: World, monkeypatch: pytest.MonkeyPatch, function: Handler
    ) -> None:
        monkeypatch.setenv("INDEX_PREFIX", "logs")

        assert function(event("hi")) == {"batchItemFailures": []}

        (put,) = [request for request in world.search.requests if request.method == "PUT"]
        assert put.path.partition("?")[0] == "/_index_template/streamkit-logs"
        assert put.json["index_patterns"] == ["logs-2*.*.*"]


class TestBadDays:
    def test_while_opensearch_is_away_no_metric_is_put_and_later_each_once(
        self, world: World, function: Handler
    ) -> None:
        world.search.always = drop
        for _ in range(2):
            with pytest.raises(BatchFailed):
                function(event("hi", REPORT), Context(3.0))
        assert world.metric("TimeOuts") == (0, 0)

        world.search.always = Request.forward
        patient(function, event("hi", REPORT))

        assert len(world.documents()) == 2
        assert world.metric("TimeOuts") == (1.0, 1.0)

    def test_through_a_stream_the_metrics_of_what_was_written_are_put_and_the_others_wait(
        self, world: World, function: Handler
    ) -> None:
        function(kinesis_event([logs_data([REPORT], start=NOW)]))
        world.search.always = refuse_items(b"SLOW", 429, "rejected_execution_exception")
        records = [logs_data([REPORT], start=NOW + 10), logs_data(["SLOW", REPORT], start=NOW + 20)]
        answer = function(kinesis_event(records, start=500), Context(3.0))

        assert answer == {"batchItemFailures": [{"itemIdentifier": "501"}]}
        assert world.metric("TimeOuts") == (2.0, 2.0)
        world.search.always = Request.forward
        patient(function, kinesis_event(records[1:], start=501))
        assert world.metric("TimeOuts") == (3.0, 3.0)

    def test_documents_that_are_taken_are_an_answer_however_many_metrics_wait_for_the_others(
        self, world: World, function: Handler
    ) -> None:
        world.search.always = refuse_items(b"SLOW", 429, "rejected_execution_exception")
        for _ in range(FAILURES + 1):
            world.search.requests.clear()
            with pytest.raises(BatchFailed):
                function(event("a", "SLOW", REPORT), Context(3.0))

        assert world.search.requests
        assert len(world.documents()) == 2

    def test_while_cloudwatch_throttles_documents_are_written_and_the_delivery_comes_again(
        self, world: World, function: Handler
    ) -> None:
        world.aws.always = drop
        with pytest.raises(BatchFailed):
            function(event("hi", REPORT), Context(3.0))
        assert len(world.documents()) == 2
        world.aws.always = Request.forward

        patient(function, event("hi", REPORT))

        assert world.metric("TimeOuts") == (1.0, 1.0)

    def test_a_document_that_can_never_be_taken_loses_none_of_its_neighbours_nor_their_metrics(
        self, world: World
    ) -> None:
        letters = MemoryQueue()

        class Strict(LogsProcessor):
            on_failure = Block(letters)

            def document(self, logged: Logged) -> dict[str, Any] | None:
                if "BAD" in logged.line.message:
                    return {"@timestamp": "no time at all"}
                return super().document(logged)

        function = lambda_handler(Strict)
        records = [logs_data(["a", "BAD", REPORT], start=NOW), logs_data(["b"], start=NOW + 10)]

        assert function(kinesis_event(records)) == {"batchItemFailures": []}

        assert [document["message"] for document in world.documents()] == ["a", REPORT, "b"]
        assert world.metric("TimeOuts") == (1.0, 1.0)
        (letter,) = letters
        assert "@timestamp" in letter.failures[-1].message

    def test_a_document_that_a_retry_may_mend_diverts_its_record_alone_and_its_metrics_wait_with_it(
        self, world: World
    ) -> None:
        queue = MemoryQueue()

        class Diverting(LogsProcessor):
            on_failure = Divert(queue)

        world.search.always = refuse_items(b"WIDE", 400, "illegal_argument_exception", "Limit of total fields")
        function = lambda_handler(Diverting)
        records = [logs_data(["WIDE", REPORT], start=NOW), logs_data(["b", REPORT], start=NOW + 10)]

        assert function(kinesis_event(records), Context(10.0)) == {"batchItemFailures": []}

        assert len(queue) == 1
        assert world.metric("TimeOuts") == (1.0, 1.0)
        world.search.always = Request.forward
        queue.advance(900)
        queue.deliver(function)
        assert world.metric("TimeOuts") == (2.0, 2.0)
        assert len(world.documents()) == 4

    def test_a_bomb_goes_to_dead_letters(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MOST_BYTES", "1000")
        letters = MemoryQueue()

        class Bounded(LogsProcessor):
            on_failure = Block(letters)

        bomb = gzip.compress(b" " * 1_000_000)
        assert lambda_handler(Bounded)(kinesis_event([bomb, logs_data(["a"], start=NOW)])) == {"batchItemFailures": []}
        (letter,) = letters
        assert "more than 1,000 bytes" in letter.failures[-1].message
        assert [document["message"] for document in world.documents()] == ["a"]

    def test_a_custom_metric_that_no_name_can_be_made_of_harms_nothing(self, world: World, function: Handler) -> None:
        lines = ["MONITORING|0|nan|count|a", "MONITORING|0|1|count|\u2028", "MONITORING|0|1|count|ok|#\x00:\x00,a b:c"]
        assert function(event(*lines)) == {"batchItemFailures": []}
        assert len(world.documents()) == 3
        assert world.metrics("custom").keys() <= {"ok", "_"}
        assert world.metrics("custom")["ok"] == {"_": "_", "a b": "c"}

    def test_metrics_that_are_too_old_are_left_out_and_their_lines_are_documents(
        self, world: World, function: Handler
    ) -> None:
        old = NOW - 20 * 86_400_000
        assert function(event(REPORT, "MONITORING|0|1|count|paid", start=old)) == {"batchItemFailures": []}
        assert world.aws.requests == []
        assert len(world.documents(f"{datetime.fromtimestamp(old / 1000, UTC):%Y.%m.%d}")) == 2


class Context:
    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> float:
        return (self._ends - time.monotonic()) * 1000


def refuse_items(of: bytes, status: int, kind: str, reason: str = "") -> Any:
    """Answer the items of a bulk request that have this text in them with an error; the service takes the others only."""

    def act(request: Request) -> Any:
        if not request.path.partition("?")[0].endswith("_bulk") or of not in request.body:
            return request.forward()
        lines = request.body.splitlines()
        pairs = [(lines[n], lines[n + 1]) for n in range(0, len(lines), 2)]
        others = [line for pair in pairs if of not in pair[1] for line in pair]
        items: list[Any] = []
        if others:
            code, _, body = request.forward(b"\n".join(others) + b"\n")
            assert code == 200, body
            items = json.loads(body)["items"]
        for n, (_, document) in enumerate(pairs):
            if of in document:
                items.insert(n, {"index": {"status": status, "error": {"type": kind, "reason": reason}}})
        return 200, {"Content-Type": "application/json"}, json.dumps({"errors": True, "items": items}).encode()

    return act


def patient(function: Handler, again: dict[str, Any]) -> None:
    """As Lambda delivers it again, until the breaker lets it through."""
    ends = time.monotonic() + 60
    while True:
        try:
            answer = function(again, Context(10.0))
        except BatchFailed:
            answer = None
        if answer == {"batchItemFailures": []}:
            return
        assert time.monotonic() < ends
        time.sleep(0.5)


def test_from_a_log_group_through_its_subscription_and_a_stream(
    world: World, function: Handler, moto_endpoint: str
) -> None:
    logs, kinesis = client_of(moto_endpoint, "logs"), client_of(moto_endpoint, "kinesis")
    group, stream = f"/aws/lambda/{world.name}", "2026/11/30/[12]0a1b"
    kinesis.create_stream(StreamName=world.name, ShardCount=1)
    arn = kinesis.describe_stream_summary(StreamName=world.name)["StreamDescriptionSummary"]["StreamARN"]
    logs.create_log_group(logGroupName=group)
    logs.put_subscription_filter(
        logGroupName=group,
        filterName="f",
        filterPattern="",
        destinationArn=arn,
        roleArn="arn:aws:iam::123456789012:role/r",
    )
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    logs.put_log_events(
        logGroupName=group,
        logStreamName=stream,
        logEvents=[{"timestamp": NOW + n, "message": line} for n, line in enumerate((START, "hi", REPORT))],
    )

    iterator = kinesis.get_shard_iterator(
        StreamName=world.name, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = [record["Data"] for record in kinesis.get_records(ShardIterator=iterator)["Records"]]
    assert function(kinesis_event(records)) == {"batchItemFailures": []}

    documents = world.documents()
    assert [(document["function"], document["version"]) for document in documents] == [(world.name, "12")] * 3
    assert world.metric("TimeOuts") == (1.0, 1.0)
