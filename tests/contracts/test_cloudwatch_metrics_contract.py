"""CloudWatchMetricsSink keeps the contract of every sink, but for repeats: CloudWatch dedupes nothing."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from streamkit import Write
from streamkit.sinks.cloudwatch_metrics import CloudWatchMetricsSink
from streamkit.testing.contracts import SinkContract

from ..sinks.aws_proxy import AwsProxy, Request, client_of, drop

namespaces = (f"contract-{n}" for n in itertools.count())


class TestCloudWatchMetricsSink(SinkContract):
    takes_effect_once = False

    @pytest.fixture
    def sink(self, moto_endpoint: str) -> Iterator[CloudWatchMetricsSink]:
        self.namespace = next(namespaces)
        self.proxy = AwsProxy(moto_endpoint)
        sink = CloudWatchMetricsSink(self.namespace, client=client_of(self.proxy.endpoint, "cloudwatch"))
        yield sink
        sink.close()
        self.proxy.close()

    def write(self, sink: Any, n: int) -> Write:
        made: Write = sink.value("item", n)
        return made

    def delivered(self, sink: Any) -> list[int]:
        # moto runs in this process, and gives no values back one by one by its API.
        from moto.cloudwatch.models import cloudwatch_backends

        held: list[Any] = cloudwatch_backends["123456789012"]["us-east-1"].metric_data
        return [int(one.value) for one in held if one.namespace == self.namespace]

    def invalid_write(self, sink: Any) -> Write:
        made: Write = sink.value("item", 2, time=time.time() - 15 * 86400)
        return made

    @contextlib.contextmanager
    def unreachable(self, sink: Any) -> Iterator[None]:
        self.proxy.always = drop
        yield
        assert None in [status for _, status in self.proxy.statuses]
        self.proxy.always = Request.forward
