"""python -m demo.fanout [--out FOLDER]

Measure 1, 2, 5, 10 and 20 subscribers, three ways, on a stream behind the limits proxy; write the picture and the table. It ends
with 0 if fan-out had no throttled read, lost nothing, and had a p99 under 2 s with the most subscribers; 1 if not.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A folder of modules, and not a package: localstack/README.md says why.
sys.path.insert(0, str(ROOT / "localstack"))

from local_moto import moto_server  # noqa: E402
from local_process import answers, running  # noqa: E402

from .measure import SHARDS, WAYS, Load, Result, measure  # noqa: E402
from .ways import WORK  # noqa: E402

_COUNTS = (1, 2, 5, 10, 20)
_LONGEST_P99 = 2.0
_BEGIN, _END = "<!-- written by make demo-fanout: begin -->\n", "<!-- end -->\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.fanout", description="Subscribers of one stream, three ways.")
    parser.add_argument("--counts", default=",".join(map(str, _COUNTS)), metavar="N,…", help="%(default)s")
    parser.add_argument("--rate", type=int, default=5, metavar="N", help="records a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="N", help="of load for each run (%(default)g)")
    parser.add_argument(
        "--out", type=Path, help="where fanout.svg and fanout-demo.md are; without it nothing is written"
    )
    options = parser.parse_args(arguments)
    load = Load(options.rate, options.seconds)
    began, (busy, *_) = time.monotonic(), os.getloadavg()
    try:
        results = _measure([int(count) for count in options.counts.split(",")], load)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    lines = [*_table(results), "", f"{_conditions(load)} The load average was {busy:.1f} at the beginning."]
    print("", *lines, "", sep="\n")
    if options.out is not None:
        from .picture import draw

        draw(results, options.out / "fanout.svg")
        _put_into(options.out / "fanout-demo.md", lines)
    wrong = [*_wrong(results)]
    for line in wrong:
        print(f"WRONG: {line}")
    print(
        f"{'fan-out does not do what it is to' if wrong else 'fan-out does what it is to'}; {time.monotonic() - began:.0f} s"
    )
    return 1 if wrong else 0


def _measure(counts: Sequence[int], load: Load) -> list[Result]:
    """Kinesis behind its limits, and SNS and SQS, are processes of their own; so is each reader."""
    results = []
    with (
        moto_server() as kinesis,
        moto_server() as messaging,
        running("limits", lambda port: _proxy(kinesis.endpoint, port), answers("/_limits")) as proxy,
    ):
        for way in WAYS:
            for subscribers in counts:
                result = measure(proxy.endpoint, messaging.endpoint, way, subscribers, load)
                print(
                    f"{way}, {subscribers}: {result.throttled_reads} throttled reads, "
                    f"p50 {result.p50:.2f} s, p99 {result.p99:.2f} s, {result.unseen} unseen",
                    flush=True,
                )
                results.append(result)
    return results


def _proxy(upstream: str, port: int) -> list[str]:
    script = ROOT / "localstack" / "limits_proxy.py"
    return [sys.executable, str(script), "--upstream", upstream, "--port", str(port)]


def _table(results: Sequence[Result]) -> Iterator[str]:
    yield "| way | subscribers | reads | throttled reads | p50 | p99 | longest | not seen |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in results:
        at_least = "≥ " if one.unseen else ""
        yield (
            f"| {one.way} | {one.subscribers} | {one.reads:,} | {one.throttled_reads:,} | {one.p50:.2f} s "
            f"| {at_least}{one.p99:.2f} s | {at_least}{one.longest:.2f} s | {one.unseen:,} |"
        )


def _conditions(load: Load) -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"{load.rate} records a second of about 250 bytes for {load.seconds:g} s on {SHARDS} shards; "
        f"{WORK * 1000:g} ms a record and subscriber. {os.cpu_count()} cores, Python {python}."
    )


def _put_into(page: Path, lines: Sequence[str]) -> None:
    """Between the marks of the page, which has the words around it."""
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text("\n".join([before + _BEGIN.rstrip("\n"), *lines, _END + after]))


def _wrong(results: Sequence[Result]) -> Iterator[str]:
    most = max(result.subscribers for result in results)
    for one in results:
        if one.way == "alone":
            continue
        if one.throttled_reads or one.unseen:
            yield f"{one.way}, {one.subscribers}: {one.throttled_reads} throttled reads, {one.unseen} records not seen"
        if one.subscribers == most and one.p99 >= _LONGEST_P99:
            yield f"{one.way}, {one.subscribers}: p99 is {one.p99:.2f} s"


if __name__ == "__main__":
    sys.exit(main())
