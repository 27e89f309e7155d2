"""What a function answers to a ping, and what it does not do for one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

import streamkit
from deploy.package import FUNCTIONS
from streamkit import Divert, Record, RecordProcessor, StreamkitError, Write, lambda_handler
from streamkit.fanout import FanOut
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event
from streamkit.version import VERSION
from streamkit.warm import LONGEST_HOLD, Container, ping_of

ROOT = Path(streamkit.__file__).parent.parent
SUCCESS: dict[str, Any] = {"batchItemFailures": []}


class Orders(RecordProcessor):
    name = "orders"
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.sink = MemorySink()

    def process(self, record: Record) -> Write:
        return self.sink.item(record.data)


@pytest.fixture(autouse=True)
def none_made() -> None:
    Orders.made = 0


class TestAPing:
    def test_says_which_container_has_answered_and_whether_it_is_new(self) -> None:
        one, other = lambda_handler(Orders), lambda_handler(Orders)
        ping = {"streamkit": "warm"}

        first, second, elsewhere = one(ping), one(ping), other(ping)

        assert first["container"] == second["container"] != elsewhere["container"]
        assert [first["cold"], second["cold"], elsewhere["cold"]] == [True, False, True]
        assert first["batchItemFailures"] == []

    def test_holds_the_container_for_as_long_as_it_says(self) -> None:
        handler = lambda_handler(Orders)
        began = time.monotonic()

        handler({"streamkit": "warm", "hold": 150})

        assert time.monotonic() - began >= 0.15

    def test_makes_nothing_unless_it_says_so(self) -> None:
        handler = lambda_handler(Orders)

        handler({"streamkit": "warm"})
        assert Orders.made == 0
        handler({"streamkit": "warm", "build": True})
        handler(kinesis_event([b"a"]))

        assert Orders.made == 1

    def test_that_makes_what_can_not_be_made_raises_as_a_batch_would(self) -> None:
        def make() -> Orders:
            raise ConnectionError("the registry is down")

        with pytest.raises(ConnectionError):
            lambda_handler(make)({"streamkit": "warm", "build": True})

    @pytest.mark.parametrize(
        ("event", "said"),
        [
            ({"streamkit": "hot"}, "a ping is"),
            ({"streamkit": True}, "a ping is"),
            ({"streamkit": None}, "a ping is"),
            ({"streamkit": ["warm"]}, "a ping is"),
            ({"streamkit": "warm", "holds": 75}, "a ping is"),
            ({"streamkit": "warm", "hold": -1}, "from 0 to 1000"),
            ({"streamkit": "warm", "hold": LONGEST_HOLD + 1}, "from 0 to 1000"),
            ({"streamkit": "warm", "hold": True}, "from 0 to 1000"),
            ({"streamkit": "warm", "hold": 0.5}, "from 0 to 1000"),
            ({"streamkit": "warm", "build": "yes"}, "true or false"),
        ],
    )
    def test_of_another_form_is_an_error_and_makes_nothing(self, event: Any, said: str) -> None:
        with pytest.raises(StreamkitError, match=said):
            lambda_handler(Orders)(event)

        assert Orders.made == 0

    @pytest.mark.parametrize("event", [None, {}, [], "text", 7, {"warmer": True}, {"Records": [], "streamkit": "warm"}])
    def test_is_no_other_event(self, event: Any) -> None:
        assert ping_of(event) is None

    def test_can_not_come_in_a_record(self) -> None:
        queue = MemoryQueue()

        class Failing(RecordProcessor):
            on_failure = Divert(queue)

            def process(self, record: Record) -> None:
                raise ValueError(record.json()["streamkit"])

        answer = lambda_handler(Failing)({**kinesis_event([b'{"streamkit": "warm"}']), "streamkit": "warm"})

        assert answer == SUCCESS
        assert len(queue) == 1

    def test_is_answered_by_a_fan_out_too(self) -> None:
        handler = lambda_handler(FanOut(Orders, lambda: Orders()))

        assert handler({"streamkit": "warm"})["cold"]
        assert Orders.made == 0
        handler({"streamkit": "warm", "build": True})
        assert Orders.made == 2

    def test_takes_the_cold_start_of_provisioned_concurrency_for_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "provisioned-concurrency")

        assert not lambda_handler(Orders)({"streamkit": "warm"})["cold"]


HEAVY = ("boto3", "botocore", "google", "tenacity", "urllib3", "ssl", "asyncio", "concurrent", "http", "json")
PINGED = """
import sys
import {module}
before = set(sys.modules)
for ping in ({{"streamkit": "warm", "hold": 1}}, {{"warmer": True}}, None, {{"source": "aws.events"}}):
    answer = {module}.handler(ping, None)
    assert answer["batchItemFailures"] == [], answer
print("\\n".join(sys.modules.keys()))
print("----")
print("\\n".join(sys.modules.keys() - before))
"""


@pytest.mark.parametrize("name", ["bigquery", "bigquery_exactly_once", "cloudsearch", "fanout", "opensearch"])
def test_a_ping_is_answered_before_anything_heavy_is_imported(name: str) -> None:
    # Without a single variable that its processor would need.
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    program = PINGED.format(module=f"processors.{name}")
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    loaded, _, by_pings = ran.stdout.partition("----")

    assert {module for module in loaded.split() if module.partition(".")[0] in HEAVY[:6]} == set()
    assert by_pings.split() == [], "a ping imports nothing at all"


PINGED_EACH = """
import importlib
import sys
for module in {modules}:
    importlib.import_module(module)
    for name in ("handler", "supervisor"):
        if function := getattr(sys.modules[module], name, None):
            before = set(sys.modules)
            warm = function({{"streamkit": "warm"}}, None)
            assert set(sys.modules) == before, (module, set(sys.modules) - before)
            health = function({{"streamkit": "health"}}, None)
            assert (warm["cold"], health["invocations"]) == (True, 2), (module, name)
            assert warm["container"] == health["container"], (module, name)
print("\\n".join({{module.partition(".")[0] for module in sys.modules}}))
"""


def test_every_function_that_is_deployed_answers_pings_by_itself_and_needs_no_setting_for_it() -> None:
    # Behind a schedule, an API or itself, too: a warmer, or a person who asks for its health, is to start nothing.
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    program = PINGED_EACH.format(modules=[function.module for function in FUNCTIONS.values()])
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment, timeout=120
    )

    assert ran.returncode == 0, ran.stderr
    assert set(ran.stdout.split()) & set(HEAVY[:6]) == set()


def test_a_containers_id_and_age_are_its_own() -> None:
    one, other = Container(), Container()

    assert one.id == one.id != other.id
    assert len(one.id) == 16
    age = one.age
    time.sleep(0.01)
    assert one.age > age >= 0


def test_the_version_is_that_of_the_distribution() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    assert json.dumps(VERSION)
