"""Rows into BigQuery by the Storage Write API's default stream, beside ``BigQuerySink``'s other way and ``insert_rows_json``.

All three have the same rows, in rounds of ten requests. The servers are processes of their own that read each request and
answer that all is in. Run as ``python -m bench.storage_write`` it prints its rows of the table alone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

from streamkit.event import decode
from streamkit.sinks.bigquery import BigQuerySink

from . import bigquery as inserts
from .harness import Row, Side, compare, print_rows, progress, take_turns
from .orders import event_of, key_of, orders, payload_of

__all__ = ["run"]

_IN_A_REQUEST = 500
_TABLE = "bench.shop.orders"
_ROOT = Path(__file__).resolve().parent.parent
_SERVE = "serve"
_APPEND = "google.cloud.bigquery.storage.v1.BigQueryWrite"

field = bigquery.SchemaField
SCHEMA = [
    field("id", "STRING", mode="REQUIRED"),
    field("placed_at", "TIMESTAMP"),
    field("customer", "RECORD", fields=[field("id", "STRING"), field("is_member", "BOOLEAN")]),
    field("ship_to", "RECORD", fields=[field(name, "STRING") for name in ("street", "postcode", "city")]),
    field(
        "items",
        "RECORD",
        mode="REPEATED",
        fields=[field("sku", "STRING"), field("name", "STRING"), field("quantity", "INTEGER"), field("price", "FLOAT")],
    ),
    field("total", "FLOAT"),
    *(field(name, "STRING") for name in ("currency", "note", "gift")),
]


def run(seconds: float) -> list[Row]:
    """The benchmark of rows by the default stream."""
    rows = orders(_IN_A_REQUEST)
    records = decode(event_of([payload_of(row) for row in rows], [key_of(row) for row in rows])).records
    with (
        inserts._endpoint() as url,
        closing(inserts._client(url)) as client,
        _endpoint() as endpoint,
        grpc.insecure_channel(endpoint) as channel,
    ):
        write_client = cast(Any, BigQueryWriteClient)(transport=BigQueryWriteGrpcTransport(channel=channel))
        ways = {
            "default stream": BigQuerySink(
                _TABLE, method="storage-write", client=_Described(), write_client=write_client
            ),
            "insertAll": BigQuerySink(_TABLE, client=client),
        }
        sides: dict[str, Callable[[], int]] = {
            name: partial(inserts._sink, rows, records, sink) for name, sink in ways.items()
        }
        sides["client"] = partial(inserts._insert_rows_json, rows, records, client)
        progress(f"{_IN_A_REQUEST} rows a request by the default stream, for {seconds:.0f} s and five rounds at least")
        took = take_turns({name: Side(partial(inserts._in_turn, side), 0) for name, side in sides.items()}, seconds)
    return [
        compare(
            f"the default stream / {name}, {_IN_A_REQUEST} rows",
            took["default stream"],
            took[peer],
            times_faster=0,
            per=inserts._IN_A_ROUND * _IN_A_REQUEST,
        )
        for peer, name in (("client", "insert_rows_json"), ("insertAll", "insertAll"))
    ]


class _Described:
    """As much of a client as the default stream needs: it tells the table's schema."""

    def get_table(self, name: str, **_: Any) -> Any:
        return bigquery.Table(name, schema=SCHEMA)


@contextmanager
def _endpoint() -> Iterator[str]:
    command = [sys.executable, "-m", "bench.storage_write", _SERVE]
    process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _appends(requests: Iterator[bytes], context: object) -> Iterator[bytes]:
    answer = types.AppendRowsResponse.serialize(types.AppendRowsResponse(append_result={}))
    for _ in requests:
        yield answer


def _serve() -> None:
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    handlers = {"AppendRows": grpc.stream_stream_rpc_method_handler(_appends)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_APPEND, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    if sys.argv[1:] == [_SERVE]:
        _serve()
    else:
        print_rows(run(10))
