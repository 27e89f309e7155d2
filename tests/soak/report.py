"""The account of a soak, for people."""

from __future__ import annotations

from collections.abc import Iterator

from .soak import Report

__all__ = ["lines"]


def lines(report: Report) -> Iterator[str]:
    """A line each."""
    balance = report.balance
    yield ""
    yield f"went in     {balance.numbers:,} records, as {balance.events:,} events in {balance.kinesis_records:,} Kinesis records"
    yield f"            of {balance.keys:,} keys; by fate: " + ", ".join(
        f"{n:,} {fate}" for fate, n in balance.fates.items()
    )
    yield f"came out    {balance.written:,} written, {balance.letters:,} dead letters that stay"
    yield f"on the way  {balance.invocations:,} invocations from the streams, {balance.lost_answers:,} without an answer"
    yield f"            {balance.starts:,} starts of `process`, {balance.started_from_queue:,} of them from queues"
    yield f"            {balance.were_letters:,} letters taken, {balance.discarded:,} of failure documents"
    yield f"            {report.put_back:,} letters put back, {report.kills} processes killed"
    yield f"repeats     {balance.repeats:,} writes of {balance.repeated:,} rows, {balance.most_writes} of one at most"
    yield f"            {balance.copies:,} copies of letters, {balance.overruns} overruns"
    for name, (early, late, most) in report.memory.items():
        yield f"memory      {name}: {early:.0f} MB after a fifth, {late:.0f} MB at the end, {most:.0f} MB at most"
    yield f"took        {report.seconds:,.0f} s, {balance.numbers / report.seconds:,.0f} records a second"
    yield "faults of calls (happened, of how many that could have)"
    for fault, (happened, could) in report.faults.items():
        yield f"  {happened:9,}  {could:11,}  {fault}"
    yield ""
    if not report.wrong:
        yield "the ledger balances"
        return
    yield "THE LEDGER DOES NOT BALANCE"
    for line in report.wrong:
        yield f"  {line}"
