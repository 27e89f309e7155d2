"""Parameters of SSM, on moto, on good days and on bad ones."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamkit import Divert, Record, RecordProcessor, lambda_handler
from streamkit.config import Config, Environment
from streamkit.config.ssm import SsmParameters
from streamkit.errors import ConfigurationError, ConfigurationMissing
from streamkit.handler import Handler
from streamkit.testing import MemoryQueue, kinesis_event

from ..faults.http_proxy import HttpProxy, Request, cut, hold, lose_the_answer
from ..sinks.aws_proxy import client_of
from .sources import Clock, client_for, settle, ssm_client

HIDDEN = "hunter2-and-more"
JSON = {"Content-Type": "application/x-amz-json-1.1"}


def refused(status: int, code: str, message: str = "no") -> Callable[[Request], Any]:
    return lambda request: (status, JSON, json.dumps({"__type": code, "message": message}).encode())


@pytest.fixture
def ssm(moto_endpoint: str) -> Iterator[Any]:
    with ssm_client(moto_endpoint) as client:
        yield client


@pytest.fixture
def proxy(moto_endpoint: str) -> Iterator[HttpProxy]:
    made = HttpProxy(moto_endpoint)
    yield made
    made.close()
    assert made.errors == []


@pytest.fixture
def path() -> str:
    return f"/shop/orders-{uuid.uuid4().hex}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(ssm: Any, proxy: HttpProxy, path: str) -> Iterator[SsmParameters]:
    """Through the proxy, and with the time-outs that its own clients have."""
    client = client_for("ssm", proxy.endpoint, 2.0)
    made = SsmParameters(path, client=client)
    yield made
    client.close()


def put(ssm: Any, name: str, value: str, kind: str = "String", **more: Any) -> None:
    ssm.put_parameter(Name=name, Value=value, Type=kind, Overwrite=True, **more)


def calls(proxy: HttpProxy) -> list[tuple[str, Any]]:
    return [(one.headers["X-Amz-Target"].partition(".")[2], one.json) for one in proxy.seen]


class TestOnGoodDays:
    def test_names_are_asked_for_by_ten_a_call(
        self, ssm: Any, source: SsmParameters, proxy: HttpProxy, path: str
    ) -> None:
        config = Config(source, patience=30)
        settings = [config.integer(f"numbers/n{number}", default=-1) for number in range(24)]
        for number in range(0, 24, 2):
            put(ssm, f"{path}/numbers/n{number}", str(number))

        assert [setting.value for setting in settings] == [n if n % 2 == 0 else -1 for n in range(24)]

        assert [(name, len(asked["Names"])) for name, asked in calls(proxy)] == [
            *(("GetParameters", 10), ("GetParameters", 10), ("GetParameters", 4))
        ]

    def test_a_secure_string_is_decrypted_with_its_key_and_is_a_secret(
        self, moto_endpoint: str, ssm: Any, source: SsmParameters, path: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        kms = client_of(moto_endpoint, "kms")
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.close()
        put(ssm, f"{path}/db/password", HIDDEN, "SecureString", KeyId=key)
        config = Config(source, patience=30)
        password, text = config.secret("db/password"), config.text("db/password")

        assert password.value.reveal() == HIDDEN
        with pytest.raises(ConfigurationMissing, match="it is a secret"):
            _ = text.value
        assert HIDDEN not in caplog.text

    def test_nothing_of_it_is_in_a_log_even_at_the_level_debug(
        self, ssm: Any, source: SsmParameters, path: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        put(ssm, f"{path}/password", HIDDEN, "SecureString")
        caplog.clear()
        caplog.set_level(logging.DEBUG)

        assert Config(source, patience=30).secret("password").value.reveal() == HIDDEN

        assert "botocore" in caplog.text, "its other lines are there"
        assert HIDDEN not in caplog.text
        # And of other requests bodies are logged as before.
        ssm.get_parameters(Names=[f"{path}/password"], WithDecryption=True)
        assert HIDDEN in caplog.text

    def test_a_string_list_is_texts(self, ssm: Any, source: SsmParameters, path: str) -> None:
        put(ssm, f"{path}/hosts", "a,b", "StringList")

        assert Config(source, patience=30).texts("hosts").value == ("a", "b")

    def test_a_hierarchy_is_read_page_by_page(
        self, ssm: Any, source: SsmParameters, proxy: HttpProxy, path: str
    ) -> None:
        for number in range(25):
            put(ssm, f"{path}/routes/r{number}/to", str(number))
        put(ssm, f"{path}/routesx", "9")

        routes = Config(source, patience=30).hierarchy("routes", type=int).value

        assert routes == {f"r{number}/to": number for number in range(25)}
        assert [(name, asked["MaxResults"]) for name, asked in calls(proxy)] == [("GetParametersByPath", 10)] * 3

    def test_the_specific_path_wins_over_the_shared_one(self, ssm: Any, path: str) -> None:
        put(ssm, f"{path}/shared/limit", "1")
        put(ssm, f"{path}/shared/region", "here")
        put(ssm, f"{path}/orders/limit", "2")
        config = Config(
            SsmParameters(f"{path}/orders", client=ssm), SsmParameters(f"{path}/shared/", client=ssm), patience=30
        )

        assert (config.integer("limit").value, config.text("region").value) == (2, "here")

    def test_it_makes_clients_of_its_own_at_the_path_that_the_environment_names(
        self, moto_endpoint: str, ssm: Any, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {
            "ENDPOINT_URL": moto_endpoint,
            "ACCESS_KEY_ID": "any",
            "SECRET_ACCESS_KEY": "any",
            "DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("PARAMETERS", path)
        put(ssm, f"{path}/limit", "7")
        config = Config(SsmParameters.from_env("PARAMETERS"), patience=30)

        assert config.integer("limit").value == 7

        config.close()
        assert config.label == f"SSM {path}"

    def test_the_program_that_its_page_shows_runs(
        self, moto_endpoint: str, ssm: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page = (Path(__file__).resolve().parents[2] / "docs" / "config.md").read_text()
        (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        for name, value in {"ENDPOINT_URL": moto_endpoint, "DEFAULT_REGION": "us-east-1"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            monkeypatch.setenv(f"AWS_{name}", "any")
        monkeypatch.setenv("ORDERS_LEAST", "1")
        put(ssm, "/shop/orders/limits", '{"most": 1000}')
        put(ssm, "/shop/orders/db/password", HIDDEN, "SecureString")
        names: dict[str, Any] = {"__name__": "orders"}
        exec(program, names)

        event = kinesis_event([{"total": 1}, {"total": 1000}, {"total": 1001}])
        third = event["Records"][2]["kinesis"]["sequenceNumber"]
        assert names["handler"](event) == {"batchItemFailures": [{"itemIdentifier": third}]}
        assert names["Orders"].password.value.reveal() == HIDDEN
        names["config"].close()

    def test_a_path_that_the_environment_does_not_name_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PARAMETERS", raising=False)

        with pytest.raises(
            ConfigurationMissing, match="PARAMETERS is not set; SsmParameters needs a path, as /shop/orders"
        ):
            _ = Config(SsmParameters.from_env("PARAMETERS")).text("limit").value

    @pytest.mark.parametrize("wrong", ["shop", "", "/shop/*", "/shop//x", "//"])
    def test_a_path_that_is_none_is_told(self, wrong: str) -> None:
        with pytest.raises(ConfigurationError, match=r"a path of SSM begins with a slash|a parameter is named by"):
            SsmParameters(wrong)


class TestOnBadDays:
    def test_a_throttle_is_tried_again(self, ssm: Any, source: SsmParameters, proxy: HttpProxy, path: str) -> None:
        put(ssm, f"{path}/limit", "7")
        throttled = 0

        def throttle_twice(request: Request) -> Any:
            nonlocal throttled
            throttled += 1
            return refused(400, "ThrottlingException")(request) if throttled < 3 else request.forward()

        with proxy.failing(throttle_twice):
            assert Config(source, patience=30).integer("limit").value == 7
        assert throttled == 3

    def test_a_first_read_that_is_throttled_all_the_time_is_an_error_or_the_default_in_time(
        self, source: SsmParameters, proxy: HttpProxy, path: str
    ) -> None:
        config = Config(source, patience=0.5)
        limit, other = config.integer("limit"), config.integer("other", default=3)
        with proxy.failing(refused(400, "ThrottlingException")):
            began = time.monotonic()
            with pytest.raises(ConfigurationMissing, match=f"no answer from SSM {path} within 0.5 s"):
                _ = limit.value
            assert other.value == 3
            assert time.monotonic() - began < 2
            settle()
            with pytest.raises(ConfigurationMissing, match=f"SSM {path} could not be asked: ThrottlingException"):
                _ = limit.value

    @pytest.mark.parametrize(
        "act",
        [
            refused(500, "InternalServerError"),
            refused(400, "ThrottlingException"),
            refused(400, "AccessDeniedException", "not authorized to perform: ssm:GetParameters"),
            lambda request: (200, JSON, b"<html>"),
            lambda request: (200, JSON, b"{}"),
            *(cut, lose_the_answer, hold),
        ],
        ids=["5xx", "throttled", "forbidden", "html", "empty", "cut", "lost", "held"],
    )
    def test_stale_values_stay_and_new_ones_come_when_it_is_over(
        self,
        act: Any,
        ssm: Any,
        source: SsmParameters,
        proxy: HttpProxy,
        path: str,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        put(ssm, f"{path}/limit", "10")
        put(ssm, f"{path}/routes/a", "1")
        config = Config(source, clock=clock, life=60, patience=30, wait=0.1, chance=lambda: 0.5)
        limit, routes = config.integer("limit"), config.hierarchy("routes", type=int)
        assert (limit.value, routes.value) == (10, {"a": 1})
        put(ssm, f"{path}/limit", "20")
        put(ssm, f"{path}/routes/a", "2")

        with proxy.failing(act), monkeypatch.context() as patch:
            # Which each attempt uses up.
            patch.setattr("streamkit.config.config.ATTEMPT_TIME", 1.5)
            for _ in range(2):
                clock.advance(120)
                assert (limit.value, routes.value) == (10, {"a": 1})
                settle()
                assert (limit.value, routes.value) == (10, {"a": 1})
        settle()
        # Twice, and more often where the machine is too busy to answer.
        for _ in range(10):
            clock.advance(120)
            _ = limit.value
            settle()
            if (limit.value, routes.value) == (20, {"a": 2}):
                break

        assert (limit.value, routes.value) == (20, {"a": 2})

    def test_one_that_nobody_listens_for_keeps_stale_values(
        self, ssm: Any, source: SsmParameters, proxy: HttpProxy, path: str, clock: Clock
    ) -> None:
        put(ssm, f"{path}/limit", "10")
        limit = Config(source, clock=clock, patience=30, wait=0).integer("limit")
        _ = limit.value
        with proxy.gone():
            clock.advance(3600)
            assert limit.value == 10
            settle()
            assert limit.value == 10

    def test_a_refusal_is_told_at_once_and_not_tried_again(
        self, source: SsmParameters, proxy: HttpProxy, path: str
    ) -> None:
        with proxy.failing(refused(400, "AccessDeniedException", "not authorized to perform: ssm:GetParameters")):
            with pytest.raises(ConfigurationMissing, match="not authorized to perform: ssm:GetParameters"):
                _ = Config(source, patience=30).integer("limit").value

        assert len(proxy.seen) == 1

    def test_a_second_call_that_fails_takes_nothing_of_the_first(
        self, ssm: Any, source: SsmParameters, proxy: HttpProxy, path: str, clock: Clock
    ) -> None:
        config = Config(source, clock=clock, patience=30, wait=30)
        settings = [config.integer(f"n{number:02}") for number in range(12)]
        for number in range(12):
            put(ssm, f"{path}/n{number:02}", "1")
        assert {setting.value for setting in settings} == {1}
        for number in range(12):
            put(ssm, f"{path}/n{number:02}", "2")
        clock.advance(60)

        def fail_the_second(request: Request) -> Any:
            is_second = len(request.json["Names"]) == 2
            return refused(400, "AccessDeniedException")(request) if is_second else request.forward()

        with proxy.failing(fail_the_second):
            assert {setting.value for setting in settings} == {1}

        clock.advance(60)
        assert {setting.value for setting in settings} == {2}

    def test_an_answer_of_fewer_than_were_asked_for_is_none(
        self, ssm: Any, source: SsmParameters, proxy: HttpProxy, path: str
    ) -> None:
        def leave_one_out(request: Request) -> Any:
            status, headers, body = request.forward()
            answer = json.loads(body)
            del answer["Parameters"][0]
            return status, headers, json.dumps(answer).encode()

        put(ssm, f"{path}/limit", "10")
        limit = Config(source, patience=30).integer("limit", default=3)
        with proxy.failing(leave_one_out):
            assert limit.value == 3
            with pytest.raises(ConfigurationMissing, match="SSM has answered for 0 of the 1 parameters"):
                _ = Config(source, patience=30).integer("limit").value

    def test_pages_without_an_end_have_one(self, source: SsmParameters, proxy: HttpProxy, path: str) -> None:
        def more(request: Request) -> Any:
            return 200, JSON, json.dumps({"Parameters": [], "NextToken": "again"}).encode()

        with proxy.failing(more):
            with pytest.raises(ConfigurationMissing, match=r"name a longer path|time was up"):
                _ = Config(source, patience=30).hierarchy("routes").value

        assert len(proxy.seen) <= 200


class TestInFunctions:
    def test_two_functions_follow_one_parameter_within_its_life(
        self, moto_endpoint: str, ssm: Any, path: str, clock: Clock
    ) -> None:
        """Each in a container of its own: a Config, a client and a handler each."""

        def function(name: str) -> tuple[Handler, list[int], Any]:
            seen: list[int] = []
            client = client_of(moto_endpoint, "ssm")
            config = Config(
                Environment("NOBODYS_"), SsmParameters(path, client=client), clock=clock, life=60, patience=30, wait=30
            )

            class Orders(RecordProcessor):
                limit = config.integer("limit", default=0)

                def process(self, record: Record) -> None:
                    seen.append(self.limit.value)

            Orders.name = name
            return lambda_handler(Orders), seen, client

        functions = [function("orders"), function("audit")]
        event = kinesis_event(["a", "b"])
        put(ssm, f"{path}/limit", "10")
        for handler, _, _ in functions:
            assert handler(event, None) == {"batchItemFailures": []}

        put(ssm, f"{path}/limit", "20")
        clock.advance(60)
        for handler, seen, client in functions:
            assert handler(event, None) == {"batchItemFailures": []}
            assert seen == [10, 10, 20, 20]
            client.close()

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_an_outage_from_the_start_leaves_the_records_in_the_stream_and_answers_in_time(
        self, concurrency: int, source: SsmParameters, proxy: HttpProxy
    ) -> None:
        queue, letters = MemoryQueue(), MemoryQueue()
        config = Config(source, patience=60)

        class Orders(RecordProcessor):
            name = "orders"
            on_failure = Divert(queue, dead_letters=letters)
            ordering = "none"
            limit = config.integer("limit")

            def process(self, record: Record) -> None:
                _ = self.limit.value

        Orders.concurrency = concurrency

        class Context:
            ends_at = time.monotonic() + 2.5

            def get_remaining_time_in_millis(self) -> float:
                return (self.ends_at - time.monotonic()) * 1000

        event = kinesis_event(["a"] * 100)
        with proxy.failing(hold):
            answer = lambda_handler(Orders)(event, context := Context())
            assert context.get_remaining_time_in_millis() > 100
        settle()

        first = event["Records"][0]["kinesis"]["sequenceNumber"]
        assert answer == {"batchItemFailures": [{"itemIdentifier": first}]}
        assert (len(queue), len(letters)) == (0, 0)
