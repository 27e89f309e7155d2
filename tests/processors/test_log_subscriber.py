"""processors.log_subscriber on moto: what is subscribed, and what is done on bad days."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from processors.log_subscriber import LogSubscriber
from processors.log_subscriber import handler as deployed
from streamkit.errors import ConfigurationError, StreamkitError
from tests.sinks.aws_proxy import Answer, AwsProxy, Request, client_of, drop, refuse

NAMES = (
    *("DESTINATION_ARN", "OWN_GROUPS", "ROLE_ARN", "FILTER_NAME", "FILTER_PATTERN", "INCLUDE", "EXCLUDE"),
    *("RETENTION_DAYS", "DRY_RUN", "AWS_LAMBDA_LOG_GROUP_NAME"),
)
ROLE = "arn:aws:iam::123456789012:role/logs"
SCHEDULE = {"source": "aws.scheduler"}
_names = (f"subscribed{n}" for n in itertools.count())


class Context:
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:subscriber"

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> float:
        return max((self._ends - time.monotonic()) * 1000, 0.0)


class World:
    """Log groups under a prefix of one test's own, and a stream that they are to be delivered to."""

    def __init__(self, moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prefix = f"/aws/lambda/{next(_names)}"
        self.proxy = AwsProxy(moto)
        self.logs = client_of(moto, "logs")
        self.through = client_of(self.proxy.endpoint, "logs")
        self.subscriber = LogSubscriber(self.through, client_of(self.proxy.endpoint, "lambda"))
        self._kinesis = client_of(moto, "kinesis")
        self.stream = self.made_stream("stream")
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "DESTINATION_ARN": self.stream,
            "ROLE_ARN": ROLE,
            "OWN_GROUPS": f"{self.prefix}-reader",
            "INCLUDE": f"{self.prefix}-*",
            "RETENTION_DAYS": "30",
        }.items():
            monkeypatch.setenv(name, value)

    def made_stream(self, name: str) -> str:
        """Its ARN."""
        made = f"{self.prefix.rpartition('/')[2]}-{name}"
        self._kinesis.create_stream(StreamName=made, ShardCount=1)
        arn: str = self._kinesis.describe_stream_summary(StreamName=made)["StreamDescriptionSummary"]["StreamARN"]
        return arn

    def group(self, name: str, days: int | None = None) -> str:
        made = f"{self.prefix}-{name}"
        self.logs.create_log_group(logGroupName=made)
        if days is not None:
            self.logs.put_retention_policy(logGroupName=made, retentionInDays=days)
        return made

    def filters(self, name: str) -> list[tuple[str, str]]:
        found = self.logs.describe_subscription_filters(logGroupName=f"{self.prefix}-{name}")["subscriptionFilters"]
        return [(one["filterName"], one["destinationArn"]) for one in found]

    def days(self, name: str) -> int | None:
        found = self.logs.describe_log_groups(logGroupNamePrefix=f"{self.prefix}-{name}")["logGroups"]
        days: int | None = found[0].get("retentionInDays")
        return days

    def asked(self, operation: str) -> list[Any]:
        return [
            json.loads(request.body)
            for request in self.proxy.requests
            if request.headers.get("X-Amz-Target") == f"Logs_20140328.{operation}"
        ]


@pytest.fixture
def world(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(moto_endpoint, monkeypatch)
    yield made
    for group in made.logs.describe_log_groups(logGroupNamePrefix=made.prefix)["logGroups"]:
        made.logs.delete_log_group(logGroupName=group["logGroupName"])
    made.proxy.close()


def created(name: str) -> dict[str, Any]:
    return {
        "source": "aws.logs",
        "detail-type": "AWS API Call via CloudTrail",
        "detail": {"eventName": "CreateLogGroup", "requestParameters": {"logGroupName": name}},
    }


def on(operation: str, bad: Any, times: int = 1_000_000) -> Any:
    """``bad`` for the first ``times`` requests of an operation; all others go through."""
    left = [times]

    def act(request: Request) -> Answer | None:
        if request.headers.get("X-Amz-Target") == f"Logs_20140328.{operation}" and left[0]:
            left[0] -= 1
            return bad(request)  # type: ignore[no-any-return]  # What the proxy's acts are.
        return request.forward()

    return act


def made_function(moto: str, name: str) -> str:
    """Its ARN. It is never run."""
    iam, functions = client_of(moto, "iam"), client_of(moto, "lambda")
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName="reader", AssumeRolePolicyDocument="{}")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("reader.py", "handler = None")
    answer = functions.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role="arn:aws:iam::123456789012:role/reader",
        Handler="reader.handler",
        Code={"ZipFile": packed.getvalue()},
    )
    arn: str = answer["FunctionArn"]
    return arn


def slow(request: Request) -> Answer:
    """After two of them the time of a function without any is over."""
    time.sleep(0.6)
    return request.forward()


class Chain:
    """What the subscriber hands on to itself, and its invocations one after another, of two seconds' work each. Each subscription
    takes ``slowly`` seconds; that of the group ``refused`` is refused. ``handing_on`` is what Lambda answers.
    """

    def __init__(
        self, world: World, *, slowly: float, refused: str = "", handing_on: Any = lambda request: (202, {}, b"")
    ) -> None:
        self.handed_on: list[Any] = []
        self.last: Any = None
        self._subscriber = world.subscriber
        no = refuse(400, "InvalidParameterException")

        def act(request: Request) -> Answer | None:
            if "/invocations" in request.path:
                assert request.headers["X-Amz-Invocation-Type"] == "Event"
                self.handed_on.append(json.loads(request.body))
                return handing_on(request)  # type: ignore[no-any-return]  # What the proxy's acts are.
            if request.headers.get("X-Amz-Target", "").endswith("PutSubscriptionFilter"):
                time.sleep(slowly)
                if json.loads(request.body)["logGroupName"] == refused:
                    return no(request)
            return request.forward()

        world.proxy.always = act

    def run(self, event: Any) -> list[dict[str, int]]:
        """What each has counted."""
        counts: list[dict[str, int]] = []
        while event is not None:
            made, self.last = len(self.handed_on), event
            counts.append(self._subscriber(event, Context(12)))
            assert len(self.handed_on) <= made + 1
            event = self.handed_on[-1] if len(self.handed_on) > made else None
        return counts


class TestSchedule:
    def test_all_groups_are_subscribed_but_its_own_and_retention_is_set_where_nobody_has(self, world: World) -> None:
        world.group("orders")
        world.group("payments", 7)
        world.group("reader")

        counts = world.subscriber(SCHEDULE)

        assert (counts["subscribed"], counts["own"], counts["retention set"]) == (2, 1, 1)
        assert world.filters("orders") == world.filters("payments") == [("streamkit-logs", world.stream)]
        assert world.filters("reader") == []
        assert [world.days(name) for name in ("orders", "payments", "reader")] == [30, 7, None]

    def test_doing_it_again_changes_nothing(self, world: World) -> None:
        world.group("orders")
        world.subscriber(SCHEDULE)
        world.proxy.requests.clear()

        assert world.subscriber(SCHEDULE)["as wanted"] == 1

        assert world.asked("PutSubscriptionFilter") == world.asked("PutRetentionPolicy") == []

    def test_more_groups_than_a_page_has(self, world: World) -> None:
        for n in range(120):
            world.group(f"g{n:03}")

        assert world.subscriber(SCHEDULE)["subscribed"] == 120

        assert len(world.asked("DescribeLogGroups")) >= 3
        assert all(world.filters(f"g{n:03}") for n in (0, 49, 50, 119))

    def test_patterns_leave_groups_out(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXCLUDE", "*-secret, *-noisy-*")
        for name in ("orders", "secret", "noisy-1"):
            world.group(name)

        assert world.subscriber(SCHEDULE)["subscribed"] == 1

        assert [len(world.filters(name)) for name in ("orders", "secret", "noisy-1")] == [1, 0, 0]

    def test_a_dry_run_says_what_it_would_do(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("DRY_RUN", "true")
        caplog.set_level("INFO", "streamkit")
        world.group("orders")

        assert world.subscriber(SCHEDULE)["subscribed"] == 1

        assert world.filters("orders") == []
        assert world.days("orders") is None
        assert f"{world.prefix}-orders: would be subscribed and kept for 30 days" in caplog.text

    def test_the_log_says_of_each_group_what_was_done_and_no_more(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "streamkit")
        world.group("new")
        world.group("kept", 7)

        world.subscriber(SCHEDULE)

        said = [line.partition(world.prefix)[2] for line in caplog.messages if world.prefix in line]
        assert said == ["-kept: subscribed", "-new: subscribed and kept for 30 days"]

    @pytest.mark.parametrize("word", ["yes", "1", "ture"])
    def test_a_word_for_a_dry_run_that_is_none_is_an_error_and_nothing_is_done(
        self, world: World, monkeypatch: pytest.MonkeyPatch, word: str
    ) -> None:
        monkeypatch.setenv("DRY_RUN", word)
        world.group("orders")

        with pytest.raises(ConfigurationError, match=f"^DRY_RUN is .*; got '{word}'"):
            world.subscriber(SCHEDULE)

        assert (world.filters("orders"), world.days("orders")) == ([], None)

    @pytest.mark.parametrize(("word", "subscribed"), [("True", 0), ("false", 1), ("", 1)])
    def test_true_and_false_in_any_letters_say_whether_it_is_one(
        self, world: World, monkeypatch: pytest.MonkeyPatch, word: str, subscribed: int
    ) -> None:
        monkeypatch.setenv("DRY_RUN", word)
        world.group("orders")

        world.subscriber(SCHEDULE)

        assert len(world.filters("orders")) == subscribed

    def test_a_group_with_two_filters_is_told_and_the_others_are_subscribed(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        full = world.group("full")
        other = world.made_stream("other")
        for name in "ab":
            world.logs.put_subscription_filter(
                logGroupName=full, filterName=name, filterPattern="", destinationArn=other, roleArn=ROLE
            )
        world.group("orders")

        with pytest.raises(StreamkitError, match=rf"1 log groups could not be dealt with, among them {full}"):
            world.subscriber(SCHEDULE)

        assert f"{full} has 2 subscription filters already" in caplog.text
        assert len(world.filters("orders")) == 1

    def test_a_loop_that_somebody_has_made_is_told(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        own = world.group("reader")
        world.logs.put_subscription_filter(
            logGroupName=own, filterName="oops", filterPattern="", destinationArn=world.stream, roleArn=ROLE
        )

        with pytest.raises(StreamkitError, match="could not be dealt with"):
            world.subscriber(SCHEDULE)

        assert f"delete-subscription-filter --log-group-name {own} --filter-name oops" in caplog.text

    def test_a_function_as_destination_takes_no_role_and_its_own_group_is_left_out(
        self, world: World, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"{world.prefix.rpartition('/')[2]}-logs"
        arn = made_function(moto_endpoint, name)
        monkeypatch.setenv("DESTINATION_ARN", arn)
        monkeypatch.delenv("ROLE_ARN")
        monkeypatch.delenv("OWN_GROUPS")
        world.group("orders")
        world.group("logs")

        counts = world.subscriber(SCHEDULE)

        assert (counts["subscribed"], counts["own"]) == (1, 1)
        assert world.filters("orders") == [("streamkit-logs", arn)]
        assert world.filters("logs") == []

    def test_one_that_is_not_there_is_told_for_each_group(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("DESTINATION_ARN", "arn:aws:lambda:us-east-1:123456789012:function:nobody")
        monkeypatch.delenv("ROLE_ARN")
        world.group("orders")

        with pytest.raises(StreamkitError, match="1 log groups could not be dealt with"):
            world.subscriber(SCHEDULE)

        assert "Make sure you have given CloudWatch Logs permission" in caplog.text


class TestNewGroups:
    def test_one_is_subscribed_when_it_is_made_and_no_other_is_looked_at(self, world: World) -> None:
        world.group("orders")
        world.group("orders-2")

        assert world.subscriber(created(f"{world.prefix}-orders")) == {"subscribed": 1, "retention set": 1}

        assert len(world.filters("orders")) == 1
        assert world.filters("orders-2") == []

    def test_one_that_is_gone_again_is_none(self, world: World) -> None:
        assert world.subscriber(created(f"{world.prefix}-gone")) == {}

    @pytest.mark.parametrize("name", ["reader", "subscriber"])
    def test_its_own_are_not_subscribed_when_they_are_made(
        self, world: World, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv("AWS_LAMBDA_LOG_GROUP_NAME", f"{world.prefix}-subscriber")
        made = world.group(name)

        assert world.subscriber(created(made)) == {"own": 1}

        assert world.filters(name) == []


class TestBadDays:
    @pytest.mark.parametrize(
        "bad",
        [
            refuse(400, "ThrottlingException"),
            refuse(400, "OperationAbortedException"),
            refuse(400, "LimitExceededException"),
            refuse(503, "ServiceUnavailableException"),
            lambda request: None,
        ],
    )
    @pytest.mark.parametrize("operation", ["DescribeLogGroups", "DescribeSubscriptionFilters", "PutSubscriptionFilter"])
    def test_what_passes_is_asked_again(self, world: World, bad: Any, operation: str) -> None:
        world.group("orders")
        world.proxy.always = on(operation, bad, times=2)

        assert world.subscriber(created(f"{world.prefix}-orders"))["subscribed"] == 1

        assert len(world.filters("orders")) == 1

    def test_one_group_that_can_not_be_subscribed_keeps_no_other_from_it(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in ("a", "b", "c"):
            world.group(name)

        def refuse_b(request: Request) -> Answer | None:
            target = request.headers.get("X-Amz-Target", "")
            if target.endswith("PutSubscriptionFilter") and f"{world.prefix}-b" in request.body.decode():
                return refuse(400, "InvalidParameterException", "Could not execute the lambda function.")(request)
            return request.forward()

        world.proxy.always = refuse_b

        with pytest.raises(StreamkitError, match=f"among them {world.prefix}-b: the log has why"):
            world.subscriber(SCHEDULE)

        assert [len(world.filters(name)) for name in "abc"] == [1, 0, 1]
        assert "Could not execute the lambda function" in caplog.text

    def test_one_that_is_deleted_meanwhile_is_no_failure(self, world: World) -> None:
        world.group("a")
        world.group("b")
        world.proxy.always = on(
            "PutSubscriptionFilter", refuse(400, "ResourceNotFoundException", "no log group"), times=1
        )

        counts = world.subscriber(SCHEDULE)

        assert (counts["gone"], counts["subscribed"]) == (1, 1)

    def test_without_permission_it_raises_in_time(self, world: World) -> None:
        world.group("a")
        world.proxy.always = on("DescribeLogGroups", refuse(400, "AccessDeniedException"))
        with pytest.raises(Exception, match="AccessDeniedException"):
            world.subscriber(SCHEDULE, Context(20))

    def test_what_there_is_no_time_for_goes_on_in_the_next_invocation_until_all_are_done(self, world: World) -> None:
        chain = Chain(world, slowly=0.4)
        for n in range(8):
            world.group(f"g{n}")

        counts = chain.run(SCHEDULE)

        # In two seconds no more than five, and one in any case.
        assert 2 <= len(counts) <= 8
        assert sum(one.get("subscribed", 0) for one in counts) == 8
        assert all(world.filters(f"g{n}") for n in range(8))

    def test_one_that_goes_on_does_not_raise_and_the_last_does_for_all(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Lambda repeats an invocation that has raised, and each repeat would have made another chain."""
        chain = Chain(world, slowly=0.4, refused=f"{world.prefix}-g0")
        for n in range(8):
            world.group(f"g{n}")

        with pytest.raises(
            StreamkitError, match=f"^1 log groups could not be dealt with, among them {world.prefix}-g0:"
        ):
            chain.run(SCHEDULE)

        assert 1 <= len(chain.handed_on) <= 8
        assert chain.handed_on[-1]["resume"]["failed_first"] == [f"{world.prefix}-g0"]
        assert [len(world.filters(f"g{n}")) for n in range(8)] == [0, *[1] * 7]
        # Nor does it go on again where Lambda repeats the last.
        made = len(chain.handed_on)
        with pytest.raises(StreamkitError, match=f"{world.prefix}-g0"):
            world.subscriber(chain.last, Context(60))
        assert len(chain.handed_on) == made

    @pytest.mark.parametrize("lost", [drop, refuse(500, "ServiceException")], ids=["no answer", "500"])
    def test_an_answer_that_is_lost_counts_as_the_next_one_made(
        self, world: World, caplog: pytest.LogCaptureFixture, lost: Any
    ) -> None:
        chain = Chain(world, slowly=0.4, handing_on=lost)
        for n in range(8):
            world.group(f"g{n}")

        counts = chain.run(SCHEDULE)

        assert len(counts) == len(chain.handed_on) + 1 > 1
        assert all(world.filters(f"g{n}") for n in range(8))
        assert "there was no answer to the invocation that goes on" in caplog.text

    @pytest.mark.parametrize(
        "refusal", [refuse(403, "AccessDeniedException"), refuse(429, "TooManyRequestsException")], ids=["403", "429"]
    )
    def test_one_that_may_not_make_the_next_raises(self, world: World, refusal: Any) -> None:
        chain = Chain(world, slowly=0.4, handing_on=refusal)
        for n in range(8):
            world.group(f"g{n}")

        with pytest.raises(ClientError, match=r"AccessDenied|TooManyRequests"):
            chain.run(SCHEDULE)

    def test_the_last_that_is_allowed_names_what_failed_before_it(self, world: World) -> None:
        for name in "abc":
            world.group(name)
        world.proxy.always = slow
        left = {"after": "", "failed": 2, "failed_first": ["/aws/lambda/one", "/aws/lambda/two"]}

        with pytest.raises(StreamkitError) as raised:
            world.subscriber({"resume": left, "hop": 12}, Context(0))

        assert "give the function more time; 2 log groups could not be dealt with" in str(raised.value)
        assert "among them /aws/lambda/one, /aws/lambda/two: the log has why" in str(raised.value)

    def test_what_never_comes_to_an_end_raises_and_calls_itself_no_more(self, world: World) -> None:
        for name in "abc":
            world.group(name)
        world.proxy.always = slow

        with pytest.raises(StreamkitError, match="give the function more time"):
            world.subscriber({"resume": {"after": ""}, "hop": 12}, Context(0))
        assert not [request for request in world.proxy.requests if "/invocations" in request.path]


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value", "why"),
        [
            ("DESTINATION_ARN", "", "DESTINATION_ARN is not set"),
            ("DESTINATION_ARN", "logs", "OWN_GROUPS is not set|the ARN of a function"),
            ("OWN_GROUPS", "", "OWN_GROUPS is not set"),
            ("ROLE_ARN", "", "ROLE_ARN or RETENTION_DAYS: .* takes the ARN of a role"),
            ("RETENTION_DAYS", "a month", "RETENTION_DAYS is a whole number, 0 or more; got 'a month'"),
            ("RETENTION_DAYS", "31", "RETENTION_DAYS: a retention is one of .*; got 31"),
        ],
    )
    def test_one_that_is_wrong_is_named(
        self, world: World, monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match=why):
            deployed(SCHEDULE)

    def test_the_group_of_a_function_as_destination_is_its_own(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"{world.prefix.rpartition('/')[2]}-function"
        monkeypatch.setenv("DESTINATION_ARN", f"arn:aws:lambda:us-east-1:123456789012:function:{name}:live")
        monkeypatch.delenv("ROLE_ARN")
        monkeypatch.delenv("OWN_GROUPS")
        made = world.group("function")

        assert world.subscriber(created(made)) == {"own": 1}
