"""The limits proxy in front of LocalStack: what moto can't show, CBOR and SubscribeToShard."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import cbor2
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from limits_proxy import LimitsProxy
from limits_wire import CBOR, decode
from local_process import Running

from .reader import create_stream

FIRST = "shardId-000000000000"
KIB = 1024


@pytest.fixture
def proxy(localstack: Running) -> Iterator[LimitsProxy]:
    with LimitsProxy(localstack.endpoint) as proxy:
        yield proxy


@pytest.fixture
def stream(kinesis: Any) -> str:
    return create_stream(kinesis, shards=1)


def ask_in_cbor(proxy: LimitsProxy, operation: str, **arguments: Any) -> tuple[int, Any]:
    """As the KCL and AWS's SDK for Java ask, signed as theirs."""
    body = cbor2.dumps(arguments)
    request = AWSRequest("POST", f"{proxy.endpoint}/", data=body)
    request.headers["X-Amz-Target"] = f"Kinesis_20131202.{operation}"
    request.headers["Content-Type"] = CBOR
    SigV4Auth(Credentials("nobody", "nothing"), "kinesis", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
    connection.request("POST", "/", body, dict(request.headers))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, decode(answer.headers["Content-Type"], content)


def test_what_speaks_cbor_has_the_limits_and_its_records(proxy: LimitsProxy, stream: str) -> None:
    records = [{"Data": bytes([n]) * (600 * KIB), "PartitionKey": str(n)} for n in range(3)]
    status, told = ask_in_cbor(proxy, "PutRecords", StreamName=stream, Records=records)
    assert status == 200
    # Twice that is more than a MiB.
    assert [one.get("ErrorCode") for one in told["Records"]] == [None, *["ProvisionedThroughputExceededException"] * 2]

    first, last = (
        ask_in_cbor(proxy, "GetShardIterator", StreamName=stream, ShardId=FIRST, ShardIteratorType=kind)[1]
        for kind in ("TRIM_HORIZON", "LATEST")
    )
    status, found = ask_in_cbor(proxy, "GetRecords", **first)
    assert (status, [record["Data"] for record in found["Records"]]) == (200, [records[0]["Data"]])
    with ThreadPoolExecutor(10) as pool:
        reads = list(pool.map(lambda _: ask_in_cbor(proxy, "GetRecords", **last), range(30)))

    refused = [answer["__type"] for status, answer in reads if status == 400]
    assert refused == ["ProvisionedThroughputExceededException"] * len(refused) != []
    counts = proxy.counts(stream)[FIRST]
    assert (counts.written_records, counts.throttled_records) == (1, 2)
    assert (counts.reads, counts.throttled_reads) == (31 - len(refused), len(refused))


def test_a_subscription_passes_and_takes_no_reads(proxy: LimitsProxy, stream: str) -> None:
    client = boto3.client("kinesis", endpoint_url=proxy.endpoint, region_name=os.environ["AWS_DEFAULT_REGION"])
    arn = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
    consumer = client.register_stream_consumer(StreamARN=arn, ConsumerName="reader")["Consumer"]["ConsumerARN"]
    client.put_record(StreamName=stream, Data=b"1", PartitionKey="a")

    events = client.subscribe_to_shard(ConsumerARN=consumer, ShardId=FIRST, StartingPosition={"Type": "TRIM_HORIZON"})[
        "EventStream"
    ]
    first = next(event["SubscribeToShardEvent"] for event in events if event["SubscribeToShardEvent"]["Records"])
    events.close()
    client.close()

    assert [record["Data"] for record in first["Records"]] == [b"1"]
    assert proxy.total(stream).reads == 0
