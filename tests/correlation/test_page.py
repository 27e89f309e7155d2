"""What docs/correlation.md shows first, run as a reader would."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from streamkit.correlation.log import CorrelationFilter
from streamkit.testing import kinesis_event

from .conftest import Account

PAGE = Path(__file__).resolve().parents[2] / "docs" / "correlation.md"


def test_the_program_of_the_page_logs_and_sends_on(
    account: Account, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    topic = account.plain("sns").create_topic(Name="orders-of-the-page")["TopicArn"]
    for name, value in {
        "AWS_ENDPOINT_URL": moto_endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
    }.items():
        monkeypatch.setenv(name, value)
    program = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0].replace("arn:aws:sns:…:orders", topic)
    names: dict[str, Any] = {"__name__": "orders"}
    root = logging.getLogger()
    try:
        exec(program, names)
        sent: list[str] = []
        names["sns"].meta.events.register("before-send.sns", lambda request, **_: sent.append(str(request.body)))
        with caplog.at_level(logging.INFO, "orders"):
            answer = names["lambda_handler"](names["Orders"])(
                kinesis_event([json.dumps({"id": "o-1", "customer": "c-1"})])
            )
        names["sns"].close()
    finally:
        for part in (root, *root.handlers):
            for one in [one for one in part.filters if isinstance(one, CorrelationFilter)]:
                part.removeFilter(one)

    assert answer == {"batchItemFailures": []}
    (line,) = [record for record in caplog.records if record.name == "orders"]
    assert line.__dict__["x-correlation-customer-id"] == "c-1"
    assert line.__dict__["correlation_id"].startswith("stream/shardId-")
    assert "x-correlation-customer-id" in sent[0]
