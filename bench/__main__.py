"""Runs every benchmark and prints a table of ratios. Ends well where a target is missed, not where results differ."""

from __future__ import annotations

import sys
from importlib.metadata import version

from . import (
    aggregates,
    batches,
    bigquery,
    cold_start,
    correlation,
    fanning,
    graph,
    main_path,
    metrics,
    parameters,
    parking,
    producing,
    reading,
    storage_write,
)
from .harness import Difference, print_rows, print_table, progress

_PEERS = (
    "msgspec",
    "pybase64",
    "aws-lambda-powertools",
    "aws-kinesis-agg",
    "protobuf",
    "async-kinesis",
    "boto3",
    "google-cloud-bigquery",
    "google-cloud-bigquery-storage",
    "neo4j",
)


def main() -> int:
    """Run the benchmarks; the exit code."""
    try:
        rows = batches.run(40)
        rows += aggregates.run(20)
        size_rows, sizes = batches.run_sizes(25)
        rows += size_rows
        rows += parking.run(10)
        asked = parking.requests()
        fan_rows, fans = fanning.run(30)
        rows += fan_rows
        followed, following = correlation.run(15)
        rows += followed
        measured, measuring = metrics.run(40)
        rows += measured
        rows += parameters.run(10)
        rows += bigquery.run(20)
        rows += storage_write.run(20)
        rows += graph.run(20)
        profile = main_path.profile(12) + aggregates.profile(6)
        # Last in this process: from its threads on, base64 is decoded in another way.
        rows += reading.run(40)
        produced, put = producing.run(40)
        rows += produced
        rows += cold_start.run(40)
    except Difference as error:
        progress(f"the sides differ, so there is nothing to compare: {error}")
        return 1
    print(f"\nPython {sys.version.split()[0]}, {', '.join(f'{name} {version(name)}' for name in _PEERS)}\n")
    print_rows(rows)
    print("\nBy the size of the batch, per record:\n")
    print_table(["records in a batch", "ours", "floor", "ratio"], sizes)
    print("\nBy the number of branches of a FanOut, for a record and a branch:\n")
    print_table(["branches", "FanOut", "functions", "ratio"], fans)
    print("\nWhat Park asks of DynamoDB:\n")
    print_table(["batch", "requests"], asked)
    print("\nWhat following an event adds to a record, by the fastest rounds and in pairs:\n")
    print_table(["what is done", "more", "in pairs"], following)
    print("\nWhat metrics add to a batch, by the fastest rounds and in pairs:\n")
    print_table(["records in a batch", "without", "more", "in pairs", "1 % of"], measuring)
    print("\nWhat the endpoint got from each producer:\n")
    print_table(["producer", "requests", "Kinesis records", "records", "bytes"], put)
    print("\nWhere the time of a record goes:\n")
    print_table(["part", "ns"], profile)
    missed = [row.benchmark for row in rows if row.is_met is False]
    print(
        f"\n{len(missed)} of {sum(row.is_met is not None for row in rows)} targets missed"
        + "".join(f"\n  {name}" for name in missed)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
