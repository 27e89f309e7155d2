"""A function's own lines are known, wherever they are read; and the example of docs/logs.md leaves them out."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from streamkit import Record, RecordProcessor, lambda_handler
from streamkit.event import decode
from streamkit.fanout import FanOut
from streamkit.logs.delivery import deliveries_of, read_deliveries
from streamkit.logs.own import is_own
from streamkit.testing import kinesis_event, logs_data, logs_event

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "logs.md"
_names = (f"/aws/lambda/own{n}" for n in itertools.count())


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """The group of this function."""
    name = next(_names)
    monkeypatch.setenv("AWS_LAMBDA_LOG_GROUP_NAME", name)
    return name


def test_its_group_is_its_own_and_no_other_is(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine,), (another,) = (read_deliveries(logs_data(["a"], log_group=name)) for name in (own, f"{own}-2"))
    assert (is_own(mine), is_own(another)) == (True, False)

    monkeypatch.delenv("AWS_LAMBDA_LOG_GROUP_NAME")
    assert not is_own(mine)


class Context:
    def __init__(self, account: str | None) -> None:
        self.invoked_function_arn = account and f"arn:aws:lambda:eu-west-1:{account}:function:reader:live"


@pytest.mark.parametrize("way", ["one by one", "several at once", "a branch"])
def test_a_group_of_its_name_in_another_account_is_another(own: str, way: str) -> None:
    found: list[bool] = []

    class Reader(RecordProcessor):
        name = "reader"
        ordering = "none"
        concurrency = 2 if way == "several at once" else 1

        def process(self, record: Record) -> None:
            found.extend(map(is_own, deliveries_of(record)))

    function = lambda_handler(FanOut(Reader()) if way == "a branch" else Reader)
    account = "123456789012"
    for owner, caller in ((account, account), (account, "210987654321"), (account, None), ("", account)):
        event = kinesis_event([logs_data([line], log_group=own, owner=owner) for line in "ab"])
        assert function(event, Context(caller)) == {"batchItemFailures": []}

    assert found == [True, True, False, False, True, True, True, True]


def test_how_the_loop_is_ended_is_said_once(own: str, caplog: pytest.LogCaptureFixture) -> None:
    (mine,) = read_deliveries(logs_data(["a"], log_group=own))

    assert all(is_own(mine) for _ in range(3))

    (said,) = caplog.messages
    assert said.endswith(f"aws logs delete-subscription-filter --log-group-name {own} --filter-name streamkit-logs")


def test_the_example_of_the_page_sends_errors_and_none_of_its_own(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.setenv("ERRORS_QUEUE_URL", "https://sqs.example/1/errors")
    made: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, str(PAGE), "exec"), made)

    def sent(group: str) -> list[Any]:
        (record,) = decode(logs_event(["[ERROR] no", "[INFO] yes"], log_group=group)).records
        return [json.loads(write.payload.body) for write in made["Errors"]().process(record)]

    assert sent("/aws/lambda/orders") == [{"function": "orders", "message": "[ERROR] no"}]
    assert sent(own) == []
