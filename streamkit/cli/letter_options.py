"""The options of the commands that work on dead letters: which letters, and how AWS's documents become some."""

from __future__ import annotations

import argparse

from .usage import moment

__all__ = ["SOURCE_HELP", "add_filters", "add_recovery"]

SOURCE_HELP = """\
SOURCE is the URL or the name of an SQS queue, s3://BUCKET/PREFIX, or a file of JSON lines as `streamkit dead-letters --export`
writes them (a name with a dot or a slash, or -)."""


def add_recovery(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("AWS's failure documents", "they have no data: it is fetched from the stream")
    group.add_argument(
        "--filter",
        metavar="PATTERN",
        action="append",
        help="""the mapping's own filter, such as '{"data": {"type": ["order"]}}': a document's range holds other records too""",
    )
    group.add_argument(
        "--processor-name",
        metavar="NAME",
        help="the processor of records whose document tells only its function's name",
    )


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Which letters. All of those that are given have to hold."""
    group = parser.add_argument_group("which letters", "all by default; of several options all have to hold")
    group.add_argument("--error", metavar="TEXT", help="the type of its last error is that, or its message holds it")
    group.add_argument("--key", metavar="KEY", help="its partition key")
    group.add_argument("--processor", metavar="NAME", help="the processor that it failed in")
    group.add_argument(
        "--since", type=moment, metavar="TIME", help="it failed last at that time or later: 2026-05-01T12:00Z"
    )
    group.add_argument("--until", type=moment, metavar="TIME", help="it failed last before that time")
    group.add_argument(
        "--correlation", metavar="ID", help="one of the ids that it is followed by, such as its x-correlation-id"
    )
    group.add_argument(
        "--id",
        action="append",
        metavar="ID",
        help="its event id, of a document the range that it is listed under; can be given several times",
    )
