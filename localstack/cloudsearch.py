"""A stand-in for an Amazon CloudSearch domain: what boto3's ``cloudsearchdomain`` client speaks, and the service's rules.

    with CloudSearchServer({"name": "text", "iata": "literal"}) as server:
        boto3.client("cloudsearchdomain", endpoint_url=server.endpoint)

    python localstack/cloudsearch.py --port 0 --fields name=text,iata=literal     # prints its endpoint

Searching is done by osmem, a server with OpenSearch's interface; this module translates, and refuses what the service
refuses: a batch over 5 MB or with one bad document in it is refused whole, with a message that names the document.
Where the service leaves open what happens (two operations for one id in a batch), it refuses. Documents are visible as
soon as they are uploaded; the service takes seconds, and so does this one with ``latency``. With ``same_second`` the
earlier of two operations on one id that came within a second wins: the service promises no order for them. Requests are
not authenticated.

Of the configuration service it answers DescribeIndexFields, on the same port. Dynamic fields are matched as the service
does. Not there: XML batches, expressions, the dismax parser, analysis options, fuzzy suggesters. Each is refused by name.

Besides the service's own paths, for tests and tools of another process:
``GET /_admin/uploads``, ``POST /_admin/fail`` with ``fail``'s arguments in JSON, ``POST /_admin/recover``, ``…/reset``.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cloudsearch_configuration import index_fields, no_such_domain, problem
from cloudsearch_query import Search, number, required, texts
from cloudsearch_rules import BATCH_BYTES, Refused, check, is_field, kind_of, operations
from loopback import Server
from opensearchpy import OpenSearch, RequestError
from osmem_server import resolve_binary

__all__ = ["CloudSearchServer", "Upload"]

LOOPBACK = "127.0.0.1"
INDEX = "domain"
MOST_DOCUMENTS = 1_000_000

# The engine does not tell an array from a single value.
_ENGINE_TYPES = {
    "text": "text",
    "literal": "keyword",
    "int": "long",
    "double": "double",
    "date": "date",
    "latlon": "geo_point",
}


@dataclasses.dataclass(frozen=True)
class Upload:
    """A batch as it arrived: ``operations`` are ("add" or "delete", id), as far as they could be read.

    ``status`` is that of the answer, 0 where the connection was dropped instead. ``at`` is when it came, in seconds on
    ``time.monotonic()``'s clock.
    """

    status: int
    message: str
    size: int
    operations: tuple[tuple[str, str], ...]
    at: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Fault:
    status: int = 0
    error: str = "DocumentServiceException"
    delay: float = 0.0
    drop: bool = False
    after: bool = False
    over: int = -1

    @property
    def fails(self) -> bool:
        return self.drop or self.status != 0


class CloudSearchServer:
    """A domain with the fields given: name → text, literal, int, double, date, latlon, or text-array and so on.

    A name with ``*`` at its begin or its end is a dynamic field. ``suggesters``: name → the text field that it completes.
    ``port`` 0 takes a free one. ``domain`` is the name that the configuration service knows. The server runs from the
    start of a ``with`` block to its end; ``uploads`` lists every batch since then, or since ``reset``, ``searches`` every
    search's query and ``described`` when the configuration was asked for.

    ``latency``: seconds until searches see what was uploaded. ``same_second``: whether the earlier of two operations on
    one id wins where the later one comes within a second of it. Both may be changed at any time.
    """

    def __init__(
        self,
        fields: Mapping[str, str],
        *,
        suggesters: Mapping[str, str] | None = None,
        port: int = 0,
        domain: str = "stand-in",
        latency: float = 0.0,
        same_second: bool = False,
    ) -> None:
        self.fields = dict(fields)
        self.domain = domain
        self.latency = latency
        self.same_second = same_second
        #: The state of a field's last change where that is not Active, and the fields that hits don't show.
        self.states: dict[str, str] = {}
        self.unreturned: set[str] = set()
        self.suggesters = dict(suggesters or {})
        for name, kind in self.fields.items():
            if not is_field(name, kind):
                raise ValueError(f"no such field can be configured: {name!r} of type {kind!r}")
        for name, field in self.suggesters.items():
            if self.fields.get(field) not in ("text", "text-array"):
                raise ValueError(f"suggester {name!r} needs a text field, and {field!r} is none")
        self.port = port
        self.uploads: list[Upload] = []
        self.searches: list[str] = []
        self.described: list[float] = []
        self._faults: dict[str, deque[_Fault]] = {of: deque() for of in ("upload", "search", "configuration")}
        self._waiting: deque[tuple[float, list[dict[str, Any]]]] = deque()
        self._changed: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._running = contextlib.ExitStack()

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as starting:
            self._engine = starting.enter_context(_engine())
            self._create_index()
            self._stopping.clear()
            server = Server((LOOPBACK, self.port), _handler(self))
            self.port = server.server_address[1]
            starting.callback(server.server_close)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            starting.callback(thread.join)
            starting.callback(server.shutdown)
            starting.callback(self._stopping.set)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def fail(
        self,
        status: int = 0,
        *,
        error: str = "DocumentServiceException",
        times: int = 1,
        delay: float = 0.0,
        drop: bool = False,
        after: bool = False,
        over: int = -1,
        of: str = "upload",
    ) -> None:
        """Make the next ``times`` uploads fail: with ``status`` and the type ``error``, or by dropping the connection.

        ``delay`` seconds pass first; with neither status nor drop the batch is then taken as ever. ``after``: the batch
        is taken, and only its answer fails. ``over``: only those of more bytes than that. ``of``: "upload", "search" or
        "configuration".
        """
        if of not in self._faults:
            raise ValueError(f"no such request: {of!r}")
        self._faults[of].extend([_Fault(0 if drop else status, error, delay, drop, after, over)] * times)

    def recover(self) -> None:
        """No more failures."""
        for faults in self._faults.values():
            faults.clear()

    def configure(self, name: str, kind: str, *, state: str = "Active") -> None:
        """Add a field, or change one, as the owner of the domain does. ``state``: that of the change (OptionState)."""
        if not is_field(name, kind):
            raise ValueError(f"no such field can be configured: {name!r} of type {kind!r}")
        with self._lock:
            self.fields[name] = kind
            self.states[name] = state
            self._map({name})

    def reset(self) -> None:
        """Forget documents, uploads and failures to come, ``latency`` and ``same_second``."""
        with self._lock:
            self.recover()
            self.uploads.clear()
            self.searches.clear()
            self.described.clear()
            self._waiting.clear()
            self._changed.clear()
            self.latency, self.same_second = 0.0, False
            self._engine.indices.delete(index=INDEX)
            self._create_index()

    def documents(self) -> dict[str, dict[str, Any]]:
        """Every document, by id, with its fields as they were uploaded, whether searches see it yet or not."""
        self._show(float("inf"))
        found = self._engine.search(index=INDEX, body={"query": {"match_all": {}}, "size": MOST_DOCUMENTS})
        return {hit["_id"]: hit["_source"] for hit in found["hits"]["hits"]}

    def _create_index(self) -> None:
        settings = {"index.max_result_window": MOST_DOCUMENTS}
        self._engine.indices.create(index=INDEX, body={"mappings": {"dynamic": "strict"}, "settings": settings})
        self._mapped: set[str] = set()
        self._map({name for name in self.fields if "*" not in name})

    def _map(self, names: set[str]) -> None:
        """Tell the engine of fields that it does not know yet."""
        new = {name: kind for name in names - self._mapped if (kind := kind_of(name, self.fields))}
        properties = {name: {"type": _ENGINE_TYPES[kind.removesuffix("-array")]} for name, kind in new.items()}
        # Text is sorted by the whole of it; the engine needs a second index for that.
        for mapping in properties.values():
            if mapping["type"] == "text":
                mapping["fields"] = {"whole": {"type": "keyword", "ignore_above": 8191}}  # type: ignore[assignment]
        if properties:
            self._engine.indices.put_mapping(index=INDEX, body={"properties": properties})
            self._mapped |= new.keys()

    def _show(self, now: float) -> None:
        """Let searches see what has waited long enough."""
        with self._lock:
            while self._waiting and self._waiting[0][0] <= now:
                self._index(self._waiting.popleft()[1])

    # Requests

    def upload(self, body: bytes) -> dict[str, Any] | None:
        """A batch's answer; None for a connection to be dropped."""
        came = time.monotonic()
        fault = self._fault("upload", len(body))
        with self._lock:
            batch: list[Any] = []
            status, message = 200, "success"
            try:
                batch = operations(body)
                if fault.after or not fault.fails:
                    check(batch, self.fields)
                    answer = self._apply(batch)
                if fault.fails:
                    raise Refused("told to fail", fault.status, fault.error)
                return answer
            except Refused as refused:
                status, message = refused.status, str(refused)
                if status:
                    raise
                return None
            finally:
                log = tuple((str(one.get("type")), str(one.get("id"))) for one in batch if isinstance(one, dict))
                self.uploads.append(Upload(status, message, len(body), log, came))

    def _fault(self, of: str, size: int = 0) -> _Fault:
        """The next failure that is meant for such a request; its delay has passed."""
        faults = self._faults[of]
        with self._lock:
            fault = next((fault for fault in faults if size > fault.over), _Fault())
            if fault in faults:
                faults.remove(fault)
        self._stopping.wait(fault.delay)
        return fault

    def _apply(self, batch: list[Any]) -> dict[str, Any]:
        lines: list[dict[str, Any]] = []
        now = time.monotonic()
        for operation in batch:
            came_before, self._changed[operation["id"]] = self._changed.get(operation["id"], float("-inf")), now
            if self.same_second and now - came_before < 1:
                continue
            self._map(operation.get("fields", {}).keys() - self.fields.keys())
            if operation["type"] == "add":
                lines += {"index": {"_index": INDEX, "_id": operation["id"]}}, operation["fields"]
            else:
                lines.append({"delete": {"_index": INDEX, "_id": operation["id"]}})
        if self.latency:
            self._waiting.append((now + self.latency, lines))
        else:
            self._index(lines)
        kinds = Counter(operation["type"] for operation in batch)
        return {"status": "success", "adds": kinds["add"], "deletes": kinds["delete"]}

    def _index(self, lines: list[dict[str, Any]]) -> None:
        items = self._engine.bulk(body=lines, refresh=True)["items"] if lines else []
        results = [result for item in items for result in item.values()]
        if errors := [result["error"] for result in results if "error" in result]:
            raise Refused(f"the engine refused what the service would take: {errors[0]}", 500)

    def search(self, parameters: Mapping[str, str]) -> dict[str, Any] | None:
        """A search's answer; None for a connection to be dropped."""
        fault = self._fault("search")
        self.searches.append(parameters.get("q", ""))
        if fault.drop:
            return None
        if fault.status:
            raise Refused("told to fail", fault.status, "SearchException")
        self._show(time.monotonic())
        with self._lock:
            known = {name: kind for name in sorted(self._mapped) if (kind := kind_of(name, self.fields))}
        request = Search(parameters, known, self.unreturned)
        try:
            found = self._engine.search(index=INDEX, body=request.body)
        except RequestError as error:
            raise Refused(f"the engine can't run this search: {error.error}") from None
        return request.answer(found)

    def configuration(self, parameters: Mapping[str, str]) -> str | None:
        """The configuration service's answer, in XML; None for a connection to be dropped."""
        fault = self._fault("configuration")
        self.described.append(time.monotonic())
        if fault.drop:
            return None
        if fault.status:
            raise Refused("told to fail", fault.status, fault.error)
        if parameters.get("Action") != "DescribeIndexFields":
            raise Refused(f"the action {parameters.get('Action')!r} is not in this stand-in", 400, "InvalidAction")
        if parameters.get("DomainName") != self.domain:
            raise no_such_domain(parameters.get("DomainName", ""))
        return index_fields(self.fields, self.states)

    def suggest(self, parameters: Mapping[str, str]) -> dict[str, Any] | None:
        """A suggester's answer; None for a connection to be dropped. It fails as searches do."""
        fault = self._fault("search")
        if fault.drop:
            return None
        if fault.status:
            raise Refused("told to fail", fault.status, "SearchException")
        query, suggester = required(parameters, "q"), required(parameters, "suggester")
        field = self.suggesters.get(suggester)
        if field is None:
            raise Refused(f"there is no suggester {suggester!r}")
        size = number(parameters, "size", 10, 1, 100)
        self._show(time.monotonic())
        # "The beginning of the field must match the query string": of all of it, and not of a word in it.
        begins = {"prefix": {f"{field}.whole": {"value": query, "case_insensitive": True}}}
        body = {"query": begins, "size": size, "sort": [{f"{field}.whole": "asc"}]}
        hits = self._engine.search(index=INDEX, body=body)["hits"]
        suggestions = [
            {"suggestion": texts(hit["_source"][field])[0], "score": 0, "id": hit["_id"]} for hit in hits["hits"]
        ]
        suggest = {"query": query, "found": hits["total"]["value"], "suggestions": suggestions}
        return {"status": {"rid": "stand-in", "timems": 0}, "suggest": suggest}

    def admin(self, path: str, body: bytes) -> dict[str, Any]:
        match path:
            case "uploads":
                with self._lock:
                    return {"uploads": [dataclasses.asdict(upload) for upload in self.uploads]}
            case "fail":
                try:
                    self.fail(**json.loads(body))
                except (TypeError, ValueError) as error:
                    raise Refused(str(error)) from None
                return {}
            case "recover":
                self.recover()
                return {}
            case "reset":
                self.reset()
                return {}
        raise Refused(f"no such path: /_admin/{path}", 404)


# HTTP


def _handler(domain: CloudSearchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # One packet for an answer's head and body: apart, the second waits 40 ms for an acknowledgement.
        server: Server

        def setup(self) -> None:
            super().setup()
            self.server.sockets.add(self.connection)

        def finish(self) -> None:
            self.server.sockets.discard(self.connection)
            super().finish()

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            url = urlsplit(self.path)
            status, error = 200, ""
            answer: dict[str, Any] | str | None
            try:
                answer = self._route(url.path, url.query, self._body())
            except Refused as refused:
                status, answer = refused.status, {"status": "error", "message": str(refused)}
                error = refused.error or ("DocumentService" if "documents" in url.path else "Search") + "Exception"
                if url.path == "/":
                    answer = problem(refused)
            if answer is None:
                self.close_connection = True
                return
            body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            if error:
                self.send_header("x-amzn-ErrorType", error)
            self.send_header("Content-Type", "text/xml" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _body(self) -> bytes:
            if self.command == "GET":
                return b""
            length = self.headers.get("Content-Length")
            if length is None or not re.fullmatch(r"\d{1,12}", length, re.ASCII):
                self.close_connection = True
                raise Refused("the header Content-Length is missing or no number", 411)
            if int(length) > 20 * BATCH_BYTES:
                self.close_connection = True
                raise Refused("the request is too large", 413)
            # All of it, even if it is too large to be taken: a client reads no answer while it is still sending.
            return self.rfile.read(int(length))

        def _route(self, path: str, query: str, body: bytes) -> dict[str, Any] | str | None:
            if path == "/" and self.command == "POST":
                return domain.configuration({name: values[-1] for name, values in parse_qs(body.decode()).items()})
            version, _, resource = path.removeprefix("/").partition("/")
            if version == "_admin":
                return domain.admin(resource, body)
            match version, resource:
                case "2013-01-01", "documents/batch":
                    if self.command != "POST":
                        raise Refused("documents are uploaded by POST", 405)
                    if self.headers.get_content_type() != "application/json":
                        raise Refused("this stand-in takes batches of application/json only", 415)
                    return domain.upload(body)
                case "2013-01-01", "search" | "suggest":
                    given = query if self.command == "GET" else f"{query}&{body.decode('utf-8', 'replace')}"
                    parameters = {name: values[-1] for name, values in parse_qs(given).items()}
                    return domain.search(parameters) if resource == "search" else domain.suggest(parameters)
            raise Refused("no such path", 404)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (the base's name)
            """Nothing: what tests need is in ``uploads``."""

    return Handler


@contextlib.contextmanager
def _engine() -> Iterator[OpenSearch]:
    """osmem in a process of its own, which ends with this one."""
    command = [resolve_binary(), "--addr", f"{LOOPBACK}:0", "--no-ja", "--parent-pid", str(os.getpid())]
    with subprocess.Popen(
        [*command, "--no-stdin-watch"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the search engine (osmem-server) did not start")
            client = OpenSearch(hosts=[json.loads(line)["url"]], timeout=60)
            try:
                yield client
            finally:
                client.close()
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A stand-in for an Amazon CloudSearch domain, on the loopback interface."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (the default)")
    parser.add_argument(
        "--fields", required=True, help="name=type,…: text, literal, int, double, date, latlon, text-array …"
    )
    parser.add_argument("--suggesters", default="", help="name=field,…")
    parser.add_argument("--domain", default="stand-in", help="the name that the configuration service knows it by")
    options = parser.parse_args()

    def pairs(text: str) -> dict[str, str]:
        return {
            name.strip(): kind.strip() for name, _, kind in (pair.partition("=") for pair in text.split(",") if pair)
        }

    stopped = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stopped.set())
    suggesters = pairs(options.suggesters)
    with CloudSearchServer(
        pairs(options.fields), suggesters=suggesters, port=options.port, domain=options.domain
    ) as server:
        print(server.endpoint, flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
