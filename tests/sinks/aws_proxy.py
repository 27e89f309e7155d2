"""Stands between a client and a server, and does to requests and answers what a test says: refuse, fail in part, lose, delay.

It knows the errors of AWS; ``bigquery_proxy`` has those of BigQuery.
"""

from __future__ import annotations

import http.client
import http.server
import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config

__all__ = ["AwsProxy", "Request", "client_of", "drop", "fail_entries", "lose_the_answer", "refuse", "trickle"]


class Request:
    """One request on its way. ``forward`` gives the server's answer: status, headers, body."""

    def __init__(self, method: str, path: str, headers: Mapping[str, str], body: bytes, upstream: str) -> None:
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self._upstream = upstream

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode())

    def forward(self, body: bytes | None = None) -> Answer:
        content = self.body if body is None else body
        connection = http.client.HTTPConnection(self._upstream, timeout=30)
        headers = dict(self.headers) | {"Content-Length": str(len(content))}
        connection.request(self.method, self.path, content, headers)
        answer = connection.getresponse()
        read = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return read


#: Status, headers and body; None closes the connection without an answer.
Answer = tuple[int, dict[str, str], bytes]
Act = Callable[[Request], Answer | None]


class Trickling(bytes):
    """A body of which one byte comes every tenth of a second."""


class AwsProxy:
    """Each request is dealt with by the next of ``script``, and handed on when that is over."""

    def __init__(self, upstream: str) -> None:
        self.script: list[Act] = []
        self.requests: list[Request] = []
        #: The status that each was answered with, in the order of the answers; None where there was no answer.
        self.statuses: list[tuple[Request, int | None]] = []
        #: Called for every request of which the script has nothing.
        self.always: Act = Request.forward
        host = urlsplit(upstream).netloc
        proxy, lock = self, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(self.command, self.path, dict(self.headers.items()), body, host)
                with lock:
                    proxy.requests.append(request)
                    act = proxy.script.pop(0) if proxy.script else proxy.always
                answer = act(request)
                with lock:
                    proxy.statuses.append((request, None if answer is None else answer[0]))
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                # Who asked may have gone, its time being up.
                with suppress(ConnectionError):
                    self.end_headers()
                    if not isinstance(content, Trickling):
                        self.wfile.write(content)
                        return
                    for n in range(len(content)):
                        self.wfile.write(content[n : n + 1])
                        time.sleep(0.1)

            do_POST = do_PUT = do_GET = do_PATCH = _handle  # noqa: N815  # http.server's names.

            def log_message(self, *args: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def client_of(endpoint: str, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(
            retries={"total_max_attempts": 1},
            read_timeout=5,
            s3={"addressing_style": "path"},
            parameter_validation=True,
        ),
    )


def refuse(status: int, code: str, message: str = "because") -> Act:
    """Answer the whole request with an error, in the form of the request's protocol."""

    def act(request: Request) -> Answer:
        kind = request.headers.get("Content-Type") or ""
        if "json" in kind or "/invocations" in request.path:
            body = json.dumps({"__type": f"com.amazonaws#{code}", "message": message, "Message": message}).encode()
            return status, {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": code}, body
        error = f"<Code>{code}</Code><Message>{message}</Message>"
        if "form" in kind:
            return (
                status,
                {"Content-Type": "text/xml"},
                f"<ErrorResponse><Error>{error}</Error></ErrorResponse>".encode(),
            )
        return status, {"Content-Type": "application/xml"}, f"<Error>{error}</Error>".encode()

    return act


def lose_the_answer(request: Request) -> None:
    """Let the service take it, and close the connection."""
    request.forward()


def trickle(request: Request) -> Answer:
    """Let the service take it, and answer so slowly that the time is up, though no wait for a packet is long."""
    status, headers, body = request.forward()
    return status, headers, Trickling(body + b" " * 100)


def drop(request: Request) -> None:
    """Close the connection before the service has seen anything."""


def fail_entries(failures: dict[int, tuple[str, bool]]) -> Act:
    """Fail the entries of these places, each with a code and whether the sender is at fault; moto takes the others."""

    def act(request: Request) -> Answer:
        if "form" in (request.headers.get("Content-Type") or ""):
            return _fail_form(request, failures)
        content = request.json
        name = "Records" if "Records" in content else "Entries"
        entries = content[name]
        others = [entry for n, entry in enumerate(entries) if n not in failures]
        status, headers, body = 200, {"Content-Type": "application/x-amz-json-1.1"}, b"{}"
        if others:
            status, headers, body = request.forward(json.dumps({**content, name: others}).encode())
        answer = json.loads(body)
        if "Id" in entries[0]:
            answer["Failed"] = [
                {"Id": entries[n]["Id"], "Code": code, "SenderFault": sender, "Message": f"because of {code}"}
                for n, (code, sender) in failures.items()
            ]
        else:
            taken = iter(answer.get(name, []))
            answer[name] = [
                {"ErrorCode": failures[n][0], "ErrorMessage": f"because of {failures[n][0]}"}
                if n in failures
                else next(taken)
                for n in range(len(entries))
            ]
            answer["FailedRecordCount" if name == "Records" else "FailedEntryCount"] = len(failures)
        return status, headers, json.dumps(answer).encode()

    return act


def _fail_form(request: Request, failures: dict[int, tuple[str, bool]]) -> Answer:
    """SNS, whose protocol is a form and XML: nothing of this request is taken, whatever the answer says of the others."""
    form = request.form
    names = [form[f"PublishBatchRequestEntries.member.{n}.Id"][0] for n in range(1, 11) if _has(form, n)]
    failed = "".join(
        f"<member><Id>{names[n]}</Id><Code>{code}</Code><SenderFault>{str(sender).lower()}</SenderFault>"
        f"<Message>because of {code}</Message></member>"
        for n, (code, sender) in failures.items()
    )
    taken = "".join(
        f"<member><Id>{name}</Id><MessageId>m</MessageId></member>" for n, name in enumerate(names) if n not in failures
    )
    body = (
        f"<PublishBatchResponse><PublishBatchResult><Successful>{taken}</Successful><Failed>{failed}</Failed>"
        "</PublishBatchResult></PublishBatchResponse>"
    )
    return 200, {"Content-Type": "text/xml"}, body.encode()


def _has(form: dict[str, list[str]], n: int) -> bool:
    return f"PublishBatchRequestEntries.member.{n}.Id" in form
