"""Rows into BigQuery on the client's side: ``BigQuerySink``, beside ``insert_rows_json`` of the same rows.

It is the rows per second that are compared, so a round is ten requests, one after another, as a batch of 5,000 records makes
them. A request alone, which comes after a collection of all garbage and finds the processor's caches empty, has a line of
its own. The server is a process of its own that reads each request and answers that all is in. Run as ``python -m
bench.bigquery`` it prints its rows of the table alone.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import msgspec
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from streamkit import Record
from streamkit.event import decode
from streamkit.sinks.bigquery import BigQuerySink

from .harness import Row, Side, check_equal, compare, print_rows, progress, take_turns
from .orders import event_of, key_of, orders, payload_of
from .serving import Prepared, serve

__all__ = ["run"]

_IN_A_REQUEST = 500
_IN_A_ROUND = 10
_TABLE = "bench.shop.orders"
_ROOT = Path(__file__).resolve().parent.parent
_SERVE = "serve"

Rows = list[dict[str, Any]]


def run(seconds: float) -> list[Row]:
    """The benchmark of rows into BigQuery."""
    rows = orders(_IN_A_REQUEST)
    records = decode(event_of([payload_of(row) for row in rows], [key_of(row) for row in rows])).records
    with _endpoint() as url, closing(_client(url)) as client:
        sink = BigQuerySink(_TABLE, client=client)
        sides: dict[str, Callable[[], int]] = {
            "ours": partial(_sink, rows, records, sink),
            "client": partial(_insert_rows_json, rows, records, client),
        }
        check_equal("what BigQuery was given", {name: _got(url, side) for name, side in sides.items()})
        # As it is called by default it makes an id for each row, as the sink does.
        sides["its own ids"] = partial(_insert_rows_json, rows, None, client)
        progress(f"{_IN_A_REQUEST} rows a request into BigQuery, for {seconds:.0f} s and five rounds at least")
        took = take_turns({name: Side(partial(_in_turn, side), 0) for name, side in sides.items()}, 0.7 * seconds)
        alone = take_turns({name: Side(sides[name], 0) for name in ("ours", "its own ids")}, 0.3 * seconds)
    per_row = partial(compare, per=_IN_A_ROUND * _IN_A_REQUEST)
    ours, theirs = alone["ours"], alone["its own ids"]
    return [
        per_row("BigQuerySink / insert_rows_json, 500 rows", took["ours"], took["its own ids"], times_faster=2.5),
        per_row("  the same, given the sink's ids", took["ours"], took["client"], times_faster=0),
        compare("  one request alone, after a collection", ours, theirs, times_faster=0, per=_IN_A_REQUEST),
    ]


def _in_turn(request: Callable[[], int]) -> int:
    return sum(request() for _ in range(_IN_A_ROUND))


def _sink(rows: Rows, records: Sequence[Record], sink: BigQuerySink) -> int:
    """As a processor and delivery do it."""
    writes = [sink.row(row) for row in rows]
    for write, record in zip(writes, records, strict=True):
        write._record = record
        write._processor = "bench"
    return len(sink.write(writes, deadline=time.monotonic() + 30))


def _insert_rows_json(rows: Rows, records: Sequence[Record] | None, client: Any) -> int:
    """As its documentation has it, which makes ids of its own; or with the sink's ids, so that both send the same."""
    if records is None:
        return len(client.insert_rows_json(_TABLE, rows, skip_invalid_rows=True))
    ids = [f"{record.event_id}/bench/0" for record in records]
    return len(client.insert_rows_json(_TABLE, rows, row_ids=ids, skip_invalid_rows=True))


def _client(url: str) -> Any:
    # google-auth has no types.
    return bigquery.Client(
        project="bench", credentials=cast(Any, AnonymousCredentials)(), client_options={"api_endpoint": url}
    )


def _got(url: str, side: Any) -> str:
    side()
    with urlopen(url) as answer:
        return str(answer.read().decode())


@contextmanager
def _endpoint() -> Iterator[str]:
    command = [sys.executable, "-m", "bench.bigquery", _SERVE]
    process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


class _Handler(Prepared):
    """Takes every request as it comes; asked by GET, it tells a digest of what was in the last one."""

    last = b"{}"

    def do_POST(self) -> None:  # noqa: N802  # http.server calls it so.
        type(self).last = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b'{"kind": "bigquery#tableDataInsertAllResponse"}')

    def do_GET(self) -> None:  # noqa: N802  # http.server calls it so.
        said = msgspec.json.decode(self.last)
        self.answer(md5(msgspec.json.encode(said, order="deterministic")).hexdigest().encode())


if __name__ == "__main__":
    if sys.argv[1:] == [_SERVE]:
        serve(_Handler)
    else:
        print_rows(run(10))
