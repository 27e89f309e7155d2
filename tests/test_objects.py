"""What S3's events tell of, and reading it: on moto's S3, and behind a proxy on its bad days."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamkit import Block, Divert, Park, RecordProcessor, Reject, Unavailable, Write, lambda_handler
from streamkit.deadline import Deadline, ruling
from streamkit.errors import BatchFailed, ConfigurationError, StreamkitError
from streamkit.event import decode
from streamkit.ledgers.memory import MemoryLedger
from streamkit.local.context import RealContext
from streamkit.objects import Gone, Objects, StoredObject, objects_of
from streamkit.sinks.bigquery import BigQuerySink
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event, logs_event, s3_event, sns_event
from tests.faults.http_proxy import HttpProxy, cut, lose_the_answer
from tests.sinks.aws_proxy import client_of, refuse

ODD_KEY = "orders/2026 (11)/naïve+plus%20&日本.json"
_buckets = (f"objects-{n}" for n in itertools.count())


def event_of(bucket: str = "b", **object_: str) -> str:
    """The JSON of an event of S3's."""
    return json.dumps(
        {"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": "k", **object_}}, "eventName": "x"}]}
    ).replace('"etag"', '"eTag"')


@pytest.fixture
def s3(moto_endpoint: str) -> Any:
    return client_of(moto_endpoint, "s3")


@pytest.fixture
def bucket(s3: Any) -> str:
    name = next(_buckets)
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def proxy(moto_endpoint: str) -> Iterator[HttpProxy]:
    made = HttpProxy(moto_endpoint)
    yield made
    made.close()


def told(event: Any) -> list[StoredObject]:
    return [found for record in decode(event).records for found in objects_of(record)]


def put(s3: Any, bucket: str, key: str, content: bytes) -> StoredObject:
    answer = s3.put_object(Bucket=bucket, Key=key, Body=content)
    (found,) = told(s3_event([key], bucket=bucket, size=len(content), etag=answer["ETag"]))
    return found


class TestEvents:
    def test_an_event_of_s3_has_its_records_by_ids_of_their_own(self) -> None:
        event = s3_event(["a", ODD_KEY], bucket="orders")

        batch = decode(event)

        assert [record.source for record in batch.records] == ["s3", "s3"]
        assert [record.attempt for record in batch.records] == [None, None]
        assert batch.records[0].event_id == "orders/a:0000000000000000"
        assert batch.records[1].event_id.isascii()
        assert batch.records[1].json() == event["Records"][1]
        assert [record.event_id for record in decode(event).records] == [record.event_id for record in batch.records]

    def test_what_has_no_sequencer_is_told_apart_by_the_event_and_its_request(self) -> None:
        event = s3_event(["a", "a"], event_name="ObjectRestore:Completed")
        for raw in event["Records"]:
            del raw["s3"]["object"]["sequencer"]

        first, second = decode(event).records

        assert first.event_id == "bucket/a:ObjectRestore:Completed:request-0"
        assert second.event_id == "bucket/a:ObjectRestore:Completed:request-1"

    @pytest.mark.parametrize("key", ["é" * 500, "a" * 1024])
    def test_one_of_a_long_key_is_retried_as_any(self, key: str) -> None:
        queue, seen = MemoryQueue(), []

        class Once(RecordProcessor):
            name = "once"
            on_failure = Divert(queue)

            def process(self, record: Any) -> None:
                seen.append((record.event_id, objects_of(record)[0].key))
                if record.attempt is None:
                    raise RuntimeError("not yet")

        function = lambda_handler(Once)
        function(s3_event([key]))
        queue.advance(60)
        queue.deliver(function)

        assert seen[0] == seen[1]
        assert seen[0][0].isascii()

    def test_a_key_that_was_not_escaped_forges_no_line_of_the_log(self) -> None:
        event = s3_event(["a"])
        event["Records"][0]["s3"]["object"]["key"] = "a\nERROR all is lost"
        assert decode(event).records[0].event_id.isprintable()

    @pytest.mark.parametrize("raw", [{}, {"s3": {}}, {"s3": {"bucket": {"name": "b"}, "object": {}}}, {"s3": "text"}])
    def test_one_that_names_no_object_is_no_event_of_s3(self, raw: Any) -> None:
        with pytest.raises(StreamkitError, match="record 0 of the event has no bucket or no key"):
            decode({"Records": [{"eventSource": "aws:s3", **raw}]})


class TestWays:
    """However an event of S3 comes, it tells of the same object."""

    raw = s3_event([ODD_KEY], bucket="orders", size=7, etag='"abc"', version_id="v1")
    expected = StoredObject("orders", ODD_KEY, "ObjectCreated:Put", 7, "abc", "v1", "0000000000000000")

    def test_from_the_bucket(self) -> None:
        assert told(self.raw) == [self.expected]

    def test_through_a_topic(self) -> None:
        assert told(sns_event([self.raw])) == [self.expected]

    def test_through_a_queue(self) -> None:
        assert told(sqs_event(json.dumps(self.raw))) == [self.expected]

    def test_through_a_topic_and_a_queue(self) -> None:
        notification = sns_event([self.raw])["Records"][0]["Sns"]
        assert told(sqs_event(json.dumps(notification))) == [self.expected]

    def test_through_a_stream(self) -> None:
        assert told(kinesis_event([self.raw])) == [self.expected]

    def test_by_eventbridge(self) -> None:
        event = {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {
                "bucket": {"name": "orders"},
                "object": {"key": ODD_KEY, "size": 7, "etag": "abc", "version-id": "v1", "sequencer": "00"},
            },
        }
        (found,) = told(sqs_event(json.dumps(event)))
        assert (found.bucket, found.key, found.version_id, found.is_removed) == ("orders", ODD_KEY, "v1", False)

    def test_out_of_a_retry_queue(self) -> None:
        queue = MemoryQueue()

        class Failing(RecordProcessor):
            name = "failing"
            on_failure = Divert(queue)

            def process(self, record: Any) -> None:
                raise RuntimeError("not today")

        assert lambda_handler(Failing)(self.raw) == {"batchItemFailures": []}
        seen: list[list[StoredObject]] = []

        class Reading(Failing):
            def process(self, record: Any) -> None:
                seen.append(objects_of(record))

        queue.advance(60)
        queue.deliver(lambda_handler(Reading))
        assert seen == [[self.expected]]

    def test_s3s_test_event_tells_of_none(self) -> None:
        event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "orders"}
        assert told(sqs_event(json.dumps(event))) == []

    @pytest.mark.parametrize(
        "name", ["ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:Delete"]
    )
    def test_a_removal_is_told_apart(self, name: str) -> None:
        (found,) = told(s3_event(["a"], event_name=name))
        assert found.is_removed

    @pytest.mark.parametrize(
        "body",
        [
            '{"id": 1}',
            "[]",
            "7",
            '{"Type": "Notification", "Message": "no json"}',
            '{"Records": [{}]}',
            '{"Records": [{"s3": {"bucket": {"name": 1}, "object": {"key": "k"}}, "eventName": "x"}]}',
            '{"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": "%ff"}}, "eventName": "x"}]}',
            '{"source": "aws.s3", "detail": {}}',
            event_of(bucket="no bucket!"),
            event_of(bucket=""),
            event_of(bucket="arn:aws:s3:us-east-1:123456789012:accesspoint/orders"),
            event_of(bucket="orders--use1-az4--x-s3"),
            event_of(key=""),
            event_of(key="k" * 1025),
            event_of(key="%C3%A9" * 513),
            event_of(etag="abc\r\nx-amz-acl: public-read"),
            event_of(etag=""),
            event_of(versionId="v 1"),
        ],
    )
    def test_what_is_no_event_of_s3_is_rejected(self, body: str) -> None:
        with pytest.raises(Reject, match="no event of S3's"):
            told(sqs_event(body))


class TestMalformed:
    """An event of no object that S3 can have is at fault itself: no outage of S3's, for which it would hold its shard."""

    @pytest.mark.parametrize(
        "wrong",
        [
            {"key": ""},
            {"bucket": "no bucket!"},
            {"bucket": "orders--x-s3"},
            {"bucket": "a" * 60 + "--op-s3"},
            {"bucket": "arn:!"},
            {"etag": "abc\r\nx: y"},
            {"key": "k" * 1025},
            {"version_id": "v\n"},
        ],
    )
    def test_of_a_stream_it_goes_to_dead_letters_and_the_others_are_read(
        self, s3: Any, bucket: str, wrong: dict[str, str]
    ) -> None:
        found = put(s3, bucket, "a", b"content")
        letters, seen, objects = MemoryQueue(), [], Objects(client=s3)

        class Reading(RecordProcessor):
            name = "reading"
            on_failure = Block(dead_letters=letters)

            def process(self, record: Any) -> None:
                (told,) = [StoredObject(**one) for one in record.json()]
                seen.append(objects.read(told))

        fields = {"bucket": bucket, "key": "a", "event": "ObjectCreated:Put", "etag": found.etag}
        answer = lambda_handler(Reading)(kinesis_event([[{**fields, **wrong}], [fields]]))

        assert answer == {"batchItemFailures": []}
        assert seen == [b"content"]
        assert len(letters) == 1

    @pytest.mark.parametrize("code", ["KeyTooLongError", "InvalidArgument", "InvalidBucketName", "InvalidURI"])
    def test_what_s3_calls_a_wrong_request_is_rejected(self, s3: Any, bucket: str, proxy: HttpProxy, code: str) -> None:
        found = put(s3, bucket, "a", b"content")
        with proxy.failing(refuse(400, code)), pytest.raises(Reject, match=rf"s3://{bucket}/a for no object's name"):
            Objects(client=client_of(proxy.endpoint, "s3")).read(found)

    @pytest.mark.parametrize(
        "bucket", ["arn:!", "arn:aws:s3:eu:123456789012:accesspoint:a.b", "arn:aws:s3::123456789012:accesspoint:-a"]
    )
    def test_what_boto3_makes_no_request_of_is_rejected_at_once(self, bucket: str) -> None:
        objects = Objects(client=client_of("http://127.0.0.1:1", "s3"))
        began = time.monotonic()
        with pytest.raises(Reject, match=r"S3 can't be asked for s3://arn:"):
            objects.read(StoredObject(bucket, "a", "ObjectCreated:Put"))
        assert time.monotonic() - began < 5

    def test_a_client_that_makes_a_request_of_nothing_is_no_fault_of_the_event(self) -> None:
        client = client_of("http://127.0.0.1:1/a b?c", "s3")
        for bucket in ("orders", "arn:!"):
            with pytest.raises(Unavailable, match=r"EndpointResolutionError|ParamValidationError"):
                Objects(client=client).read(StoredObject(bucket, "a", "ObjectCreated:Put"))

    def test_an_object_with_a_key_of_its_customers_own_is_rejected(
        self, s3: Any, bucket: str, proxy: HttpProxy
    ) -> None:
        found = put(s3, bucket, "a", b"content")
        says = (
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to "
            "retrieve the object."
        )
        with proxy.failing(refuse(400, "InvalidRequest", says)), pytest.raises(Reject, match="SSE-C"):
            Objects(client=client_of(proxy.endpoint, "s3")).read(found)

    @pytest.mark.parametrize("code", ["ExpiredToken", "AuthorizationHeaderMalformed", "InvalidRequest"])
    def test_what_it_says_of_credentials_is_no_fault_of_the_event(
        self, s3: Any, bucket: str, proxy: HttpProxy, code: str
    ) -> None:
        found = put(s3, bucket, "a", b"content")
        with proxy.failing(refuse(400, code)), pytest.raises(Unavailable):
            Objects(client=client_of(proxy.endpoint, "s3"), patience=0.3).read(found)

    @pytest.mark.parametrize("key", ["k" * 1024, "é" * 512, " ", "a/../b", "\x00"])
    def test_a_key_that_is_odd_and_no_more_is_one(self, key: str) -> None:
        (found,) = told(s3_event([key]))
        assert found.key == key


class TestAnswers:
    def test_a_failure_raises_so_that_lambda_delivers_again(self) -> None:
        class Failing(RecordProcessor):
            name = "failing"

            def process(self, record: Any) -> None:
                raise RuntimeError("not today")

        with pytest.raises(BatchFailed, match="bucket/a:"):
            lambda_handler(Failing)(s3_event(["a"]))

    def test_under_divert_the_queue_takes_it_and_its_neighbours_run(self) -> None:
        queue, sink = MemoryQueue(), MemorySink()

        class Half(RecordProcessor):
            name = "half"
            on_failure = Divert(queue)

            def process(self, record: Any) -> Any:
                (found,) = objects_of(record)
                if found.key == "bad":
                    raise RuntimeError("not today")
                return sink.item(found.key)

        assert lambda_handler(Half)(s3_event(["bad", "good"])) == {"batchItemFailures": []}
        assert len(queue) == 1
        assert sink.items == ["good"]

    def test_what_is_unavailable_raises_and_goes_to_no_queue(self) -> None:
        queue = MemoryQueue()

        class Waiting(RecordProcessor):
            name = "waiting"
            on_failure = Divert(queue)

            def process(self, record: Any) -> None:
                raise Unavailable("the payments API")

        with pytest.raises(BatchFailed):
            lambda_handler(Waiting)(s3_event(["a"]))
        assert len(queue) == 0

    def test_a_queue_that_refuses_makes_it_raise(self) -> None:
        queue = MemoryQueue()
        queue.refuse()

        class Failing(RecordProcessor):
            name = "failing"
            on_failure = Divert(queue)

            def process(self, record: Any) -> None:
                raise RuntimeError("not today")

        with pytest.raises(BatchFailed):
            lambda_handler(Failing)(s3_event(["a"]))


class TestReading:
    def test_an_object_with_an_odd_key(self, s3: Any, bucket: str) -> None:
        found = put(s3, bucket, ODD_KEY, b"content")
        assert Objects(client=s3).read(found) == b"content"

    def test_lines_of_every_end_and_packed(self, s3: Any, bucket: str) -> None:
        content = b"one\ntwo\r\n\nthree"
        plain, packed = (
            put(s3, bucket, "plain", content),
            put(s3, bucket, "packed", gzip.compress(b"one\n") + gzip.compress(b"two")),
        )
        assert Objects(client=s3).lines(plain) == [b"one", b"two", b"three"]
        assert Objects(client=s3).lines(packed) == [b"one", b"two"]

    def test_an_empty_object_has_no_lines(self, s3: Any, bucket: str) -> None:
        assert Objects(client=s3).lines(put(s3, bucket, "empty", b"")) == []

    def test_one_that_is_gone(self, s3: Any, bucket: str) -> None:
        found = put(s3, bucket, "a", b"content")
        s3.delete_object(Bucket=bucket, Key="a")
        with pytest.raises(Gone, match=rf"s3://{bucket}/a is not there any more"):
            Objects(client=s3).read(found)

    def test_one_that_was_written_again_is_not_read_in_its_place(self, s3: Any, bucket: str) -> None:
        found = put(s3, bucket, "a", b"first")
        later = put(s3, bucket, "a", b"second")
        with pytest.raises(Gone, match="was written again since"):
            Objects(client=s3).read(found)
        assert Objects(client=s3).read(later) == b"second"

    def test_a_version_is_read_whatever_came_after_it(self, s3: Any, bucket: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        version = s3.put_object(Bucket=bucket, Key="a", Body=b"first")["VersionId"]
        s3.put_object(Bucket=bucket, Key="a", Body=b"second")
        (found,) = told(s3_event(["a"], bucket=bucket, version_id=version))
        assert Objects(client=s3).read(found) == b"first"

    def test_the_version_of_a_bucket_without_is_read_only_as_it_was_told_of(self, s3: Any, bucket: str) -> None:
        old = put(s3, bucket, "a", b"first")
        new = put(s3, bucket, "a", b"second")
        first, second = (msgspec.structs.replace(one, version_id="null") for one in (old, new))
        assert s3.get_object(Bucket=bucket, Key="a", VersionId="null")["Body"].read() == b"second"
        assert Objects(client=s3).read(second) == b"second"
        with pytest.raises(Gone, match="was written again since"):
            Objects(client=s3).read(first)

    def test_a_bucket_that_is_not_there_is_rejected_and_not_passed_over(self, s3: Any) -> None:
        (found,) = told(s3_event(["a"], bucket="objects-nowhere"))
        with pytest.raises(Reject, match="there is no bucket objects-nowhere where") as raised:
            Objects(client=s3).read(found)
        assert not isinstance(raised.value, Gone)

    def test_a_removal_has_nothing_to_read(self) -> None:
        (found,) = told(s3_event(["a"], event_name="ObjectRemoved:Delete"))
        with pytest.raises(Gone, match="was removed"):
            Objects().read(found)

    def test_one_that_is_too_large_is_rejected_whatever_its_event_says(self, s3: Any, bucket: str) -> None:
        found = put(s3, bucket, "a", b"12345")
        (small,) = told(s3_event(["a"], bucket=bucket, size=1))
        for one in (found, small):
            with pytest.raises(Reject, match=r"has 5 bytes: Objects\(most_bytes\) is 4"):
                Objects(client=s3, most_bytes=4).read(one)

    def test_what_is_packed_too_tightly_is_rejected_before_it_is_unpacked(self, s3: Any, bucket: str) -> None:
        bomb = put(s3, bucket, "bomb", gzip.compress(b"0" * 10_000_000))
        with pytest.raises(Reject, match="has more than 100,000 bytes in its gzip"):
            Objects(client=s3, most_bytes=100_000).lines(bomb)

    @pytest.mark.parametrize(
        ("harm", "why"),
        [(lambda content: content[:-9], "ends early"), (lambda content: content[:12] + b"\xff" * 20, "is damaged")],
    )
    def test_damaged_gzip_is_rejected(self, s3: Any, bucket: str, harm: Callable[[bytes], bytes], why: str) -> None:
        content = gzip.compress(b"".join(b"%d\n" % n for n in range(1000)))
        with pytest.raises(Reject, match=f"gzip that {why}"):
            Objects(client=s3).lines(put(s3, bucket, "a", harm(content)))

    def test_too_many_lines_are_rejected_before_there_is_one(self, s3: Any, bucket: str) -> None:
        packed = gzip.compress(b"1\n" * 2_000_000)
        found = put(s3, bucket, "short-lines", packed)
        tracemalloc.start()
        try:
            with pytest.raises(Reject, match=r"has 2,000,000 lines: Objects\(most_lines\) is 1,000,000"):
                Objects(client=s3).lines(found)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 20_000_000, "four times as much memory as there is in it, and not ninety"

    def test_as_many_lines_as_may_be_are_read(self, s3: Any, bucket: str) -> None:
        for content in (b"1\n2\n3", b"1\n2\n3\n"):
            found = put(s3, bucket, "a", content)
            assert Objects(client=s3, most_lines=3).lines(found) == [b"1", b"2", b"3"]
            with pytest.raises(Reject, match="has 3 lines"):
                Objects(client=s3, most_lines=2).lines(found)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("most_bytes", value) for value in (0, "1", 1.5, True)),
            ("most_lines", 0),
            *(("patience", value) for value in (-1, "1", math.nan)),
        ],
    )
    def test_a_limit_that_is_none_is_refused(self, option: str, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=rf"Objects\({option}\) is .*; got {value!r}"):
            Objects(**{option: value})


class TestThePage:
    """``docs/triggers.md``."""

    page = (Path(__file__).resolve().parent.parent / "docs" / "triggers.md").read_text()

    def test_its_program_makes_rows_of_new_objects_and_passes_removals_over(self, s3: Any, bucket: str) -> None:
        program: dict[str, Any] = {}
        exec(re.findall(r"```python\n(.*?)```", self.page, re.DOTALL)[0], program)
        imports = program["Imports"]
        assert isinstance(imports.warehouse, BigQuerySink)
        letters = MemoryQueue()
        imports.warehouse, imports.bucket = Rows(), Objects(client=s3)
        imports.on_failure = Block(dead_letters=letters)
        found = put(s3, bucket, "a", b"one\ntwo\n")
        new = s3_event(["a"], bucket=bucket, size=8, etag=found.etag)
        removed = s3_event(["a"], bucket=bucket, event_name="ObjectRemoved:Delete")

        assert program["handler"](kinesis_event([removed, new])) == {"batchItemFailures": []}

        assert imports.warehouse.items == [{"line": "one"}, {"line": "two"}]
        assert len(letters) == 0


class Rows(MemorySink):
    """In the place of BigQuery, which has its own tests."""

    def row(self, row: dict[str, Any]) -> Write:
        return self.item(row)


class TestBadDays:
    @pytest.mark.parametrize("act", [refuse(503, "SlowDown"), refuse(500, "InternalError"), lose_the_answer, cut])
    def test_what_passes_is_tried_again(self, s3: Any, bucket: str, proxy: HttpProxy, act: Any) -> None:
        content = bytes(range(256)) * 100
        found = put(s3, bucket, "a", content)
        met = iter([act, act])
        with proxy.failing(lambda request: next(met, type(request).forward)(request)):
            assert Objects(client=client_of(proxy.endpoint, "s3")).read(found) == content
        assert next(met, None) is None

    @pytest.mark.parametrize("act", [refuse(503, "SlowDown"), cut, refuse(403, "AccessDenied")])
    def test_what_does_not_pass_is_unavailable(self, s3: Any, bucket: str, proxy: HttpProxy, act: Any) -> None:
        found = put(s3, bucket, "a", b"content")
        with proxy.failing(act), pytest.raises(Unavailable, match=rf"s3://{bucket}/a can't be read"):
            Objects(client=client_of(proxy.endpoint, "s3"), patience=0.3).read(found)

    def test_nobody_there_is_unavailable(self, s3: Any, bucket: str, proxy: HttpProxy) -> None:
        found = put(s3, bucket, "a", b"content")
        with proxy.gone(), pytest.raises(Unavailable):
            Objects(client=client_of(proxy.endpoint, "s3"), patience=0.3).read(found)

    def test_nobody_is_waited_for_longer_than_the_invocation_has_time(
        self, s3: Any, bucket: str, proxy: HttpProxy
    ) -> None:
        event = s3_event(["a"], bucket=bucket)
        objects = Objects(client=client_of(proxy.endpoint, "s3"), patience=600)

        class Reading(RecordProcessor):
            name = "reading"

            def process(self, record: Any) -> None:
                objects.read(objects_of(record)[0])

        with proxy.gone(), pytest.raises(BatchFailed):
            lambda_handler(Reading)(event, RealContext(2.0))

    @pytest.mark.parametrize("at_once", [0, 262_200], ids=["from-the-start", "in-the-middle"])
    def test_an_answer_that_trickles_is_not_read_past_the_end_of_the_invocation(self, at_once: int) -> None:
        (found,) = told(s3_event(["a"]))
        with trickling(at_once, pause=0.1, piece=1000) as endpoint, invocation_of(1.0):
            began = time.monotonic()
            with pytest.raises(Unavailable, match=r"the time was up after [\d,]+ bytes"):
                Objects(client=client_of(endpoint, "s3"), patience=0.5).read(found)
            assert time.monotonic() - began < 3

    @pytest.mark.parametrize("at_once", [0, 262_200], ids=["from-the-start", "in-the-middle"])
    def test_an_answer_that_trickles_is_given_up_without_an_invocation_too(self, at_once: int) -> None:
        (found,) = told(s3_event(["a"]))
        with trickling(at_once, pause=0.1, piece=1000) as endpoint:
            began = time.monotonic()
            with pytest.raises(Unavailable, match=r"it trickles: [\d,]+ bytes of it came in 1 s"):
                Objects(client=client_of(endpoint, "s3"), patience=0.5).read(found)
            assert time.monotonic() - began < 5

    @pytest.mark.parametrize("seconds", [30.0, None], ids=["an-invocation", "none"])
    def test_an_object_that_takes_longer_than_the_patience_is_read(self, seconds: float | None) -> None:
        (found,) = told(s3_event(["a"]))
        with trickling(0, pause=0.05, piece=20_000) as endpoint, invocation_of(seconds):
            began = time.monotonic()
            content = Objects(client=client_of(endpoint, "s3"), patience=0.3).read(found)
            assert time.monotonic() - began > 1.0, "else it shows nothing"
        assert content == bytes(1_000_000)

    def test_as_much_as_has_come_is_taken_with_urllib3_before_2_too(self) -> None:
        (found,) = told(s3_event(["a"]))
        with trickling(0, pause=0.01, piece=20_000) as endpoint:
            client = client_of(endpoint, "s3")
            client.meta.events.register("after-call.s3.GetObject", lambda parsed, **_: OldBody.put_into(parsed))
            assert Objects(client=client).read(found) == bytes(1_000_000)

    def test_many_objects_are_read_by_one_connection(self, s3: Any, bucket: str, proxy: HttpProxy) -> None:
        contents = [b"", b"content", bytes(1_000_000)]
        found = [put(s3, bucket, str(n), content) for n, content in enumerate(contents)]
        objects, before = Objects(client=client_of(proxy.endpoint, "s3")), proxy.accepted
        assert [objects.read(one) for one in found] == contents
        assert proxy.accepted == before + 1

    def test_an_answer_that_is_slow_and_in_time_is_whole(self) -> None:
        (found,) = told(s3_event(["a"]))
        with trickling(990_000, pause=0.06, piece=1000) as endpoint:
            assert Objects(client=client_of(endpoint, "s3"), patience=60).read(found) == bytes(1_000_000)

    @pytest.mark.parametrize("event", [s3_event(["a"]), logs_event(["a line"])], ids=["s3", "logs"])
    def test_park_keeps_the_order_of_a_stream_and_asks_no_ledger_for_others(self, event: Any) -> None:
        queue = MemoryQueue(fifo=True)

        class Parking(RecordProcessor):
            name = "parking"
            on_failure = Park(queue, MemoryLedger())

            def process(self, record: Any) -> None:
                raise RuntimeError("not today")

        with pytest.raises(BatchFailed):
            lambda_handler(Parking)(event)
        assert len(queue) == 0

    def test_an_archived_object_is_rejected(self, s3: Any, bucket: str, proxy: HttpProxy) -> None:
        found = put(s3, bucket, "a", b"content")
        with proxy.failing(refuse(403, "InvalidObjectState")), pytest.raises(Reject, match="is archived: restore it"):
            Objects(client=client_of(proxy.endpoint, "s3")).read(found)


class OldBody:
    """An answer as urllib3 1.26 has it: it can't give what has come, and what it reads from can."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self._fp = body._raw_stream._fp

    @classmethod
    def put_into(cls, parsed: dict[str, Any]) -> None:
        parsed["Body"] = cls(parsed["Body"])

    def __enter__(self) -> OldBody:
        return self

    def __exit__(self, *raised: object) -> None:
        self._body.close()

    def read(self, size: int) -> bytes:
        assert self._fp.length == 0, "it is for the end"
        return b""


@contextmanager
def invocation_of(seconds: float | None) -> Iterator[None]:
    """Within, an invocation has so much time left, of which a tenth of a second is for its answer; None: there is none."""
    token = ruling.set(None if seconds is None else Deadline(RealContext(seconds), 0.2))
    try:
        yield
    finally:
        ruling.reset(token)


@contextmanager
def trickling(at_once: int, *, pause: float, piece: int) -> Iterator[str]:
    """A server whose answer is a million zeros: so many at once, and then a piece after each pause."""
    is_over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(ConnectionError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(at_once))
            for _ in range(at_once, 1_000_000, piece):
                if is_over.wait(pause):
                    return
                connection.sendall(bytes(piece))

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        is_over.set()
        server.join()
        listener.close()


def sqs_event(body: str) -> dict[str, Any]:
    message = {
        "messageId": "message-0",
        "body": body,
        "attributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:q",
    }
    return {"Records": [message]}
