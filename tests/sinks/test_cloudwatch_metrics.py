"""CloudWatchMetricsSink: what is put together, in which requests, and what an answer means, on moto and behind a proxy."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import Refusal, Reject, Write
from streamkit.errors import ConfigurationError
from streamkit.sinks.cloudwatch_metrics import CloudWatchMetricsSink, Value, aggregated, in_requests
from streamkit.testing.contracts import stamp

from .aws_proxy import Answer, AwsProxy, Request, client_of, drop, lose_the_answer

NOW = float(int(time.time()))
_namespaces = (f"shop-{n}" for n in itertools.count())


def value(number: float, *, name: str = "t", at: float = 0.0, namespace: str = "shop", **dimensions: str) -> Value:
    return Value(namespace, name, number, "Count", tuple(sorted(dimensions.items())), at)


class TestAggregation:
    def test_values_of_one_metric_and_minute_are_one_datum(self) -> None:
        data = aggregated([value(1, at=60), value(2, at=119.9), value(1, at=60.5), value(1, at=120)])

        assert [(datum.minute, datum.counts, datum.of) for datum in data] == [
            (60, {1: 2, 2: 1}, [0, 1, 2]),
            (120, {1: 1}, [3]),
        ]

    def test_what_differs_in_anything_is_another(self) -> None:
        values = [value(1), value(1, name="u"), value(1, a="b"), value(1, a="c"), value(1, namespace="other")]
        assert len(aggregated(values)) == 5

    def test_a_datum_has_150_different_values(self) -> None:
        data = aggregated([value(n % 200) for n in range(1000)])
        assert next(len(datum.counts) for datum in data) == 150
        assert sum(sum(datum.counts.values()) for datum in data) == 1000

    @given(
        st.lists(
            st.builds(
                value,
                st.integers(0, 400).map(float),
                name=st.sampled_from("ab"),
                at=st.floats(0, 300),
                namespace=st.sampled_from(["x", "y"]),
                d=st.sampled_from("12"),
            ),
            max_size=400,
        )
    )
    def test_nothing_is_lost_or_counted_twice_and_all_limits_are_kept(self, values: list[Value]) -> None:
        requests = in_requests(aggregated(values))

        placed = [place for request in requests for datum in request for place in datum.of]
        assert sorted(placed) == list(range(len(values)))
        for request in requests:
            assert len({datum.namespace for datum in request}) == 1
            for datum in request:
                assert len(datum.counts) <= 150
                assert sum(datum.counts.values()) == len(datum.of)
                for place in datum.of:
                    assert values[place].value in datum.counts
                    assert datum.minute <= values[place].time < datum.minute + 60

    def test_a_request_has_1000_metrics(self) -> None:
        requests = in_requests(aggregated([value(1, d=str(n)) for n in range(2500)]))
        assert [len(request) for request in requests] == [1000, 1000, 500]

    def test_a_request_is_smaller_than_a_megabyte_in_every_protocol(self) -> None:
        import botocore.session
        from botocore.serialize import create_serializer

        from streamkit.sinks.cloudwatch_metrics import _entry

        wide = tuple((f"dimension{k}", "v" * 200) for k in range(5))
        values = [Value("shop", "t", n / 7 + 1e-9, "Count", (("d", f"{n % 60}"), *wide), 0.0) for n in range(9000)]
        model = botocore.session.get_session().get_service_model("cloudwatch").operation_model("PutMetricData")
        requests = in_requests(aggregated(values))
        assert len(requests) > 1
        for request in requests:
            content = {"Namespace": "shop", "MetricData": [_entry(datum) for datum in request]}
            for protocol in ("query", "json", "smithy-rpc-v2-cbor"):
                body = create_serializer(protocol, include_validation=False).serialize_to_request(content, model)[
                    "body"
                ]
                if isinstance(body, dict):
                    from urllib.parse import urlencode

                    body = urlencode(body)
                assert len(body) < 1_000_000, protocol


class TestValues:
    sink = CloudWatchMetricsSink("shop")

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ({"value": float("nan")}, "2\\*\\*360"),
            ({"value": float("inf")}, "2\\*\\*360"),
            ({"value": -(2.0**361)}, "2\\*\\*360"),
            ({"value": True}, "is a number, not bool"),
            ({"value": "1"}, "is a number, not str"),
            ({"unit": "Furlongs"}, "one of CloudWatch's"),
            ({"name": ""}, "metric's name is printable ASCII of 1 to 255"),
            ({"name": "x" * 256}, "metric's name"),
            ({"name": "é"}, "metric's name"),
            ({"name": "a\nb"}, "metric's name"),
            ({"dimensions": {f"d{n}": "v" for n in range(31)}}, "30 dimensions at most; this one has 31"),
            ({"dimensions": {"": "v"}}, "dimension's name"),
            ({"dimensions": {":a": "v"}}, "no colon"),
            ({"dimensions": {"a": " "}}, "dimension's value"),
            ({"dimensions": {"a": "v" * 1025}}, "dimension's value"),
            ({"time": float("nan")}, "number of seconds"),
            ({"namespace": "AWS/Lambda"}, "begins neither with AWS/"),
        ],
    )
    def test_what_cloudwatch_never_takes_is_rejected(self, arguments: dict[str, Any], why: str) -> None:
        given_ = {"name": "t", "value": 1, **arguments}
        with pytest.raises(Reject, match=why):
            self.sink.value(given_.pop("name"), given_.pop("value"), **given_)

    @pytest.mark.parametrize("namespace", ["", " ", "AWS/EC2", ":x", "x" * 256, "é", 7])
    def test_a_namespace_that_is_none_is_refused(self, namespace: Any) -> None:
        with pytest.raises(ConfigurationError, match="namespace"):
            CloudWatchMetricsSink(namespace)


class World:
    def __init__(self, endpoint: str) -> None:
        self.namespace = next(_namespaces)
        self.proxy = AwsProxy(endpoint)
        self.client = client_of(endpoint, "cloudwatch")
        self.now = NOW
        through = client_of(self.proxy.endpoint, "cloudwatch")
        self.sink = CloudWatchMetricsSink(self.namespace, client=through, clock=lambda: self.now)

    def put(self, *writes: Write, seconds: float = 20.0) -> list[tuple[int, str, str]]:
        stamped = stamp(writes)
        refusals: list[Refusal] = self.sink.write(stamped, deadline=time.monotonic() + seconds)
        places = {id(write): n for n, write in enumerate(stamped)}
        return sorted((places[id(one.write)], one.kind, str(one.error)) for one in refusals)

    def statistics(self, name: str) -> dict[str, Any]:
        around = datetime.fromtimestamp(self.now, UTC)
        answer = self.client.get_metric_statistics(
            Namespace=self.namespace,
            MetricName=name,
            StartTime=around - timedelta(days=1),
            EndTime=around + timedelta(hours=1),
            Period=172800,
            Statistics=["SampleCount", "Sum", "Minimum", "Maximum"],
        )
        (found,) = answer["Datapoints"] or [{}]
        return {key: found.get(key) for key in ("SampleCount", "Sum", "Minimum", "Maximum", "Unit")}


@pytest.fixture
def world(moto_endpoint: str) -> Iterator[World]:
    made = World(moto_endpoint)
    yield made
    made.proxy.close()


def answer(status: int, code: str) -> Any:
    """In the protocol that boto3 has for CloudWatch."""

    def act(request: Request) -> Answer:
        body = json.dumps({"__type": code, "message": "The parameter MetricData.member.1 is 'no secret'"}).encode()
        kind = request.headers["Content-Type"]
        if "cbor" in kind:
            import cbor2

            body = cbor2.dumps({"__type": code, "message": "The parameter MetricData.member.1 is 'no secret'"})
        headers = {"Content-Type": kind, "smithy-protocol": "rpc-v2-cbor", "x-amzn-query-error": f"{code};Sender"}
        return status, headers, body

    return act


class TestPutting:
    def test_values_are_there_in_their_minute_with_their_unit_and_dimensions(self, world: World) -> None:
        values = [
            world.sink.value("Total", n, unit="Bytes", dimensions={"Country": "de"}, time=NOW - 3600)
            for n in (1, 2, 2, 7)
        ]

        assert world.put(*values) == []

        (metric,) = world.client.list_metrics(Namespace=world.namespace)["Metrics"]
        assert metric["Dimensions"] == [{"Name": "Country", "Value": "de"}]
        assert len(world.proxy.requests) == 1

    def test_a_thousand_values_are_one_request(self, world: World) -> None:
        assert world.put(*(world.sink.value("t", n % 100) for n in range(1000))) == []

        assert len(world.proxy.requests) == 1
        assert world.statistics("t") == {
            "SampleCount": 1000.0,
            "Sum": 49500.0,
            "Minimum": 0.0,
            "Maximum": 99.0,
            "Unit": "Count",
        }

    def test_each_namespace_has_a_request(self, world: World) -> None:
        other = next(_namespaces)
        assert world.put(world.sink.value("t", 1), world.sink.value("t", 1, namespace=other)) == []
        assert len(world.proxy.requests) == 2
        assert len(world.client.list_metrics(Namespace=other)["Metrics"]) == 1

    @pytest.mark.parametrize("age", [14 * 86400, 15 * 86400, -2 * 3600, -86400])
    def test_a_time_that_cloudwatch_refuses_is_invalid_alone(self, world: World, age: float) -> None:
        refused = world.put(world.sink.value("t", 1), world.sink.value("t", 2, time=NOW - age))

        assert [(place, kind) for place, kind, _ in refused] == [(1, "invalid")]
        assert "two weeks ago and two hours ahead" in refused[0][2]
        assert world.statistics("t")["Sum"] == 1.0


class TestBadDays:
    @pytest.mark.parametrize(
        "bad",
        [answer(400, "Throttling"), answer(400, "ThrottlingException"), answer(503, "InternalServiceError"), drop],
    )
    def test_what_can_pass_is_tried_again(self, world: World, bad: Any) -> None:
        world.proxy.script = [bad, bad]
        assert world.put(world.sink.value("t", 1)) == []
        assert len(world.proxy.requests) == 3
        assert world.statistics("t")["Sum"] == 1.0

    def test_a_throttle_that_goes_on_is_unavailable_by_the_deadline(self, world: World) -> None:
        world.proxy.always = answer(400, "Throttling")
        begun = time.monotonic()

        refused = world.put(world.sink.value("t", 1), world.sink.value("u", 1), seconds=1.0)

        assert [(place, kind) for place, kind, _ in refused] == [(0, "unavailable"), (1, "unavailable")]
        assert time.monotonic() - begun < 3

    def test_without_permission_all_are_unavailable_at_once(self, world: World) -> None:
        world.proxy.always = answer(403, "AccessDenied")
        refused = world.put(world.sink.value("t", 1))
        assert [(place, kind) for place, kind, _ in refused] == [(0, "unavailable")]
        assert len(world.proxy.requests) == 1

    def test_one_that_the_service_finds_invalid_is_refused_alone_and_its_message_not_shown(self, world: World) -> None:
        bad = answer(400, "InvalidParameterValue")

        def refuse_some(request: Request) -> Answer:
            return bad(request) if b"Bad" in request.body else request.forward()

        world.proxy.always = refuse_some
        names = ["a", "b", "Bad", "c", "d", "Bad"]

        refused = world.put(*(world.sink.value(name, n) for n, name in enumerate(names)))

        assert [(place, kind) for place, kind, _ in refused] == [(2, "invalid"), (5, "invalid")]
        assert "no secret" not in refused[0][2]
        assert "InvalidParameterValue" in refused[0][2]
        assert [world.statistics(name)["Sum"] for name in "abcd"] == [0.0, 1.0, 3.0, 4.0]

    def test_halves_are_not_begun_after_the_deadline(self, world: World) -> None:
        bad = answer(400, "InvalidParameterValue")

        def slowly(request: Request) -> Answer:
            time.sleep(0.3)
            refused: Answer = bad(request)
            return refused

        world.proxy.always = slowly
        begun = time.monotonic()

        refused = world.put(*(world.sink.value(f"m{n}", 1) for n in range(64)), seconds=1.0)

        # All of them are bad, and to find that takes 127 requests.
        assert len(world.proxy.requests) <= 4
        assert time.monotonic() - begun < 6
        assert [place for place, _, _ in refused] == list(range(64))
        assert {(kind, why) for _, kind, why in refused} == {
            ("unavailable", "there was no time left to ask CloudWatch")
        }

    def test_a_lost_answer_counts_twice_as_documented(self, world: World) -> None:
        world.proxy.script = [lose_the_answer]
        assert world.put(world.sink.value("t", 1)) == []
        assert world.statistics("t")["Sum"] == 2.0

    def test_of_two_requests_what_was_taken_is_not_refused_with_the_other(self, world: World) -> None:
        other = next(_namespaces)
        world.proxy.script = [Request.forward]
        world.proxy.always = answer(403, "AccessDenied")

        refused = world.put(world.sink.value("t", 1), world.sink.value("t", 1, namespace=other))

        assert [(place, kind) for place, kind, _ in refused] == [(1, "unavailable")]
        assert world.statistics("t")["Sum"] == 1.0
