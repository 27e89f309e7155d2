"""How each service of HTTP says "no permission", "too much" and "not that one", and which items a request to it has.

An item is a body ``{"n": 7}``, wherever the service has its bodies.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.sinks import aws_proxy

from .http_proxy import Act, Answer, Cut, Request, cut

__all__ = [
    "AWS_SINKS",
    "BIGQUERY",
    "CLOUDSEARCH",
    "CLOUDSEARCH_VERSIONS",
    "DYNAMODB",
    "OPENSEARCH",
    "S3_CLAIMS",
    "Dialect",
    "first_only",
    "is_refused",
]


def is_refused(n: int) -> bool:
    """Whether an item is one that is not taken where a part is: the second of each twenty."""
    return n % 20 == 1


class Dialect(NamedTuple):
    refusing: Act
    throttling: Act
    in_part: Act
    #: The numbers of a request's items.
    numbers: Callable[[Request], list[int]]


def first_only(act: Any) -> Any:
    """The act, for the first request that it harms; what comes later passes. For either proxy's requests."""
    done: list[Any] = []

    def once(request: Any) -> Any:
        if done:
            return request.forward()
        answer_or_error = _caught(act, request)
        if request.harmed:
            done.append(request)
        if isinstance(answer_or_error, BaseException):
            raise answer_or_error
        return answer_or_error

    return once


def _caught(act: Any, request: Any) -> Any:
    try:
        return act(request)
    except Exception as error:
        return error


def _refuse(status: int, code: str) -> Act:
    """The whole request, as AWS does it in each of its protocols."""
    answer = aws_proxy.refuse(status, code)

    def act(request: Request) -> Answer | None:
        request.harmed = True
        return answer(request)

    return act


def _n(text: str | bytes) -> int:
    number: int = json.loads(text)["n"]
    return number


# Requests with entries


def _entries_of(name: str, body_of: Callable[[Any], str | bytes]) -> tuple[Callable[[Request], list[int]], Act]:
    """The numbers of a JSON request's entries, and an act that keeps one of them from the service."""

    def numbers(request: Request) -> list[int]:
        return [_n(body_of(entry)) for entry in request.json[name]]

    def in_part(request: Request) -> Answer:
        content = request.json
        entries = content[name]
        refused = {place for place, n in enumerate(numbers(request)) if is_refused(n)}
        if not refused:
            return request.forward()
        request.harmed = True
        others = [entry for place, entry in enumerate(entries) if place not in refused]
        status, headers, body = 200, {"Content-Type": "application/x-amz-json-1.1"}, b"{}"
        if others:
            status, headers, body = request.forward(json.dumps({**content, name: others}).encode())
        answer = json.loads(body)
        if "Id" in entries[0]:
            answer["Failed"] = [
                {"Id": entries[place]["Id"], "Code": "InternalError", "SenderFault": False, "Message": "told to"}
                for place in refused
            ]
        else:
            taken = iter(answer.get(name, []))
            failure = {"ErrorCode": "InternalFailure", "ErrorMessage": "told to"}
            answer[name] = [failure if place in refused else next(taken) for place in range(len(entries))]
            answer["FailedRecordCount" if name == "Records" else "FailedEntryCount"] = len(refused)
        return status, {**headers}, json.dumps(answer).encode()

    return numbers, in_part


# SNS: a form, and an answer in XML


def _members(request: Request) -> list[dict[str, str]]:
    """The entries of a PublishBatch, each by the names behind its number."""
    found: dict[int, dict[str, str]] = {}
    for name, (value, *_) in request.form.items():
        if member := re.fullmatch(r"PublishBatchRequestEntries\.member\.(\d+)\.(.+)", name):
            found.setdefault(int(member[1]), {})[member[2]] = value
    return [found[place] for place in sorted(found)]


def _published(request: Request) -> list[int]:
    return [_n(member["Message"]) for member in _members(request)]


def _publish_in_part(request: Request) -> Answer:
    members = _members(request)
    refused = [member for member in members if is_refused(_n(member["Message"]))]
    if not refused:
        return request.forward()
    request.harmed = True
    others = [member for member in members if member not in refused]
    form = {name: value for name, (value, *_) in request.form.items() if not name.startswith("PublishBatchRequest")}
    for place, member in enumerate(others, 1):
        form |= {f"PublishBatchRequestEntries.member.{place}.{name}": value for name, value in member.items()}
    taken = ""
    if others:
        status, _, body = request.forward(urlencode(form).encode())
        assert status == 200, body
        taken = "".join(re.findall(r"<Successful>(.*?)</Successful>", body.decode(), re.DOTALL))
    failed = "".join(
        f"<member><Id>{member['Id']}</Id><Code>InternalError</Code><SenderFault>false</SenderFault></member>"
        for member in refused
    )
    answer = (
        f"<PublishBatchResponse><PublishBatchResult><Successful>{taken}</Successful><Failed>{failed}</Failed>"
        "</PublishBatchResult></PublishBatchResponse>"
    )
    return 200, {"Content-Type": "text/xml"}, answer.encode()


# CloudWatch: a metric for each item, and a request that is taken whole or not at all


def _metrics(request: Request) -> list[int]:
    """The numbers of a request's metrics, ``item-7-``, which are so in each of the protocols that clients have."""
    return [int(n) for n in re.findall(rb"item-(\d+)-", request.body)]


_refuse_metrics = _refuse(400, "InvalidParameterValue")


def _no_such_metric(request: Request) -> Answer | Cut | None:
    """A request is refused for one of its metrics, and the answer does not say for which."""
    return _refuse_metrics(request) if any(map(is_refused, _metrics(request))) else request.forward()


# One item a request


def _body_of(request: Request) -> list[int]:
    # S3's body may come in chunks, with a checksum behind it.
    found = re.search(rb'\{"n":\s?(\d+)\}', request.body)
    return [int(found[1])] if found else []


def _not_that_one(status: int, code: str) -> Act:
    """Of several requests at once, that with one item fails."""
    answer = aws_proxy.refuse(status, code)

    def act(request: Request) -> Answer | None:
        if not any(map(is_refused, _body_of(request))):
            return request.forward()
        request.harmed = True
        return answer(request)

    return act


def _raise_at_that_one(request: Request) -> Answer:
    """Lambda has invoked the function, and the function has raised. The status is that of an invocation that went well."""
    status, headers, body = request.forward()
    if not any(map(is_refused, _body_of(request))):
        return status, headers, body
    request.harmed = True
    return status, {**headers, "X-Amz-Function-Error": "Unhandled"}, b'{"errorMessage": "told to"}'


# BigQuery


def _bigquery_error(status: int, reason: str) -> Act:
    def act(request: Request) -> Answer:
        request.harmed = True
        error = {"code": status, "message": "told to", "errors": [{"reason": reason, "message": "told to"}]}
        return status, {"Content-Type": "application/json"}, json.dumps({"error": error}).encode()

    return act


def _rows(request: Request) -> list[int]:
    if not request.path.partition("?")[0].endswith("/insertAll"):
        return []
    return [row["json"]["n"] for row in request.json["rows"]]


def _insert_in_part(request: Request) -> Answer:
    numbers = _rows(request)
    if not any(map(is_refused, numbers)):
        return request.forward()
    request.harmed = True
    content = request.json
    place = next(place for place, n in enumerate(numbers) if is_refused(n))
    others = [row for n, row in zip(numbers, content["rows"], strict=True) if not is_refused(n)]
    if others:
        status, _, body = request.forward(json.dumps({**content, "rows": others}).encode())
        assert status == 200, body
        assert not json.loads(body).get("insertErrors"), body
    error = {"index": place, "errors": [{"reason": "backendError", "message": "told to"}]}
    return 200, {"Content-Type": "application/json"}, json.dumps({"insertErrors": [error]}).encode()


# CloudSearch


def _documents(request: Request) -> list[int]:
    return [operation["fields"]["n"] for operation in request.json]


def _count_less(request: Request) -> Answer:
    """CloudSearch takes a batch whole or not at all; what it could do is count wrong."""
    request.harmed = True
    status, headers, body = request.forward()
    answer = json.loads(body)
    answer["adds"] -= 1
    return status, headers, json.dumps(answer).encode()


def _is_search(request: Request) -> bool:
    return request.path.partition("?")[0].endswith("/search")


def _documents_or_ids(request: Request) -> list[int]:
    """Of a batch of documents; or those whose versions a search asks for."""
    if not _is_search(request):
        return _documents(request)
    (query,) = request.form["q"]
    return [int(n) for n in re.findall(r"_id:'\w+-(\d+)'", query)]


def _count_less_documents(request: Request) -> Answer:
    return request.forward() if _is_search(request) else _count_less(request)


# OpenSearch


def _indexed(request: Request) -> list[int]:
    """Of a bulk request; every other of its lines is a document."""
    return [json.loads(line)["n"] for line in request.body.splitlines()[1::2]]


def _index_in_part(request: Request) -> Answer:
    """OpenSearch says of each item of a bulk request what became of it."""
    lines, numbers = request.body.splitlines(), _indexed(request)
    places = [place for place, n in enumerate(numbers) if is_refused(n)]
    if not places:
        return request.forward()
    request.harmed = True
    items: list[Any] = []
    others = [line for place in range(len(numbers)) if place not in places for line in lines[2 * place : 2 * place + 2]]
    if others:
        status, _, body = request.forward(b"\n".join(others) + b"\n")
        assert status == 200, body
        items = json.loads(body)["items"]
    for place in places:
        error = {"type": "rejected_execution_exception", "reason": "told to"}
        items.insert(place, {"index": {"status": 429, "error": error}})
    return 200, {"Content-Type": "application/json"}, json.dumps({"errors": True, "items": items}).encode()


def _opensearch_error(status: int, kind: str) -> Act:
    def act(request: Request) -> Answer:
        request.harmed = True
        error = {"type": kind, "reason": "told to"}
        body = {"error": {**error, "root_cause": [error]}, "status": status}
        return status, {"Content-Type": "application/json"}, json.dumps(body).encode()

    return act


_KINESIS = _entries_of("Records", lambda entry: base64.b64decode(entry["Data"]))
_SQS = _entries_of("Entries", lambda entry: str(entry["MessageBody"]))
_EVENTS = _entries_of("Entries", lambda entry: str(entry["Detail"]))


def _of(entries: tuple[Callable[[Request], list[int]], Act], refusing: Act, throttling: Act) -> Dialect:
    return Dialect(refusing, throttling, entries[1], entries[0])


AWS_SINKS: Mapping[str, Dialect] = {
    "kinesis": _of(
        _KINESIS, _refuse(400, "AccessDeniedException"), _refuse(400, "ProvisionedThroughputExceededException")
    ),
    "sqs": _of(_SQS, _refuse(403, "AccessDenied"), _refuse(400, "RequestThrottled")),
    "events": _of(_EVENTS, _refuse(400, "AccessDeniedException"), _refuse(400, "ThrottlingException")),
    "sns": Dialect(_refuse(403, "AuthorizationError"), _refuse(429, "Throttled"), _publish_in_part, _published),
    "lambda": Dialect(
        _refuse(403, "AccessDeniedException"),
        _refuse(429, "TooManyRequestsException"),
        _not_that_one(502, "ServiceException"),
        _body_of,
    ),
    # As one who waits for the function sees it.
    "lambda-wait": Dialect(
        _refuse(403, "AccessDeniedException"),
        _refuse(429, "TooManyRequestsException"),
        _raise_at_that_one,
        _body_of,
    ),
    "cloudwatch": Dialect(_refuse(403, "AccessDenied"), _refuse(400, "Throttling"), _no_such_metric, _metrics),
    "s3": Dialect(
        _refuse(403, "AccessDenied"), _refuse(503, "SlowDown"), _not_that_one(500, "InternalError"), _body_of
    ),
}
BIGQUERY = Dialect(
    _bigquery_error(403, "accessDenied"), _bigquery_error(403, "rateLimitExceeded"), _insert_in_part, _rows
)
CLOUDSEARCH = Dialect(_refuse(403, "AccessDenied"), _refuse(507, "BandwidthExceeded"), _count_less, _documents)
CLOUDSEARCH_VERSIONS = CLOUDSEARCH._replace(in_part=_count_less_documents, numbers=_documents_or_ids)
OPENSEARCH = Dialect(
    _opensearch_error(403, "security_exception"),
    _opensearch_error(429, "rejected_execution_exception"),
    _index_in_part,
    _indexed,
)


def _cut(request: Request) -> Cut:
    return cut(request)


# Stores: one item a request, and so an answer that breaks off is the only part that there is.
DYNAMODB = Dialect(
    _refuse(400, "AccessDeniedException"), _refuse(400, "ProvisionedThroughputExceededException"), _cut, lambda _: []
)
S3_CLAIMS = Dialect(_refuse(403, "AccessDenied"), _refuse(503, "SlowDown"), _cut, lambda _: [])
