"""BigQuery's own errors, and its slowness to learn of a change, in a proxy before a server that has neither."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from .aws_proxy import Act, Answer, AwsProxy, Request

__all__ = ["delay", "inserts", "no_such_field", "one_at_a_time", "refuse", "statuses"]

_JSON = {"Content-Type": "application/json"}


def refuse(status: int, reason: str, message: str = "because", **headers: str) -> Act:
    """Answer the request with an error, as BigQuery writes them; the server does not see it. ``retry_after="1"`` is a header."""

    def act(request: Request) -> Answer:
        error = {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return status, {**_JSON, **told}, json.dumps({"error": error}).encode()

    return act


def no_such_field(name: str) -> Act:
    """What BigQuery answers for a while about rows with a column that was added just now; the server takes the other rows."""

    def act(request: Request) -> Answer:
        content = request.json
        lacking = [n for n, row in enumerate(content["rows"]) if name in row["json"]]
        others = [row for n, row in enumerate(content["rows"]) if n not in lacking]
        if others:
            status, _, body = request.forward(json.dumps({**content, "rows": others}).encode())
            assert (status, json.loads(body).get("insertErrors")) == (200, None)
        error = {"reason": "invalid", "location": name, "debugInfo": "", "message": f"no such field: {name}."}
        return 200, _JSON, json.dumps({"insertErrors": [{"index": n, "errors": [error]} for n in lacking]}).encode()

    return act


def delay(seconds: float) -> Act:
    """Hold the request up before the server sees it."""

    def act(request: Request) -> Answer:
        time.sleep(seconds)
        return request.forward()

    return act


def one_at_a_time() -> Act:
    """What the service does by itself: this server refuses one of two changes at once as no service would."""
    lock = threading.Lock()

    def act(request: Request) -> Answer:
        with lock:
            return request.forward()

    return act


def inserts(proxy: AwsProxy) -> list[list[Any]]:
    """The ids of the rows of each insertAll that came, in order."""
    return [
        [row["json"].get("id") for row in request.json["rows"]]
        for request in proxy.requests
        if "/insertAll" in request.path
    ]


def statuses(proxy: AwsProxy, method: str = "POST") -> list[int | None]:
    """What the requests of this method were answered with."""
    return [status for request, status in proxy.statuses if request.method == method]
