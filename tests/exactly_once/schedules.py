"""Many schedules, and what they came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from streamkit.sinks.bigquery_streams import WriteStreams

from .server import client_of, new_table, write_client_of, written
from .world import Schedule

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer

__all__ = ["Tally", "in_memory", "on_a_server"]


class Tally(msgspec.Struct):
    """What some schedules came to."""

    #: By the boundary at which they crashed.
    crashes: Counter[str] = msgspec.field(default_factory=Counter)
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    schedules: int = 0
    rows: int = 0
    #: By seed.
    wrong: dict[int, list[str]] = msgspec.field(default_factory=dict)

    def add(self, seed: int, schedule: Schedule, found: Counter[str]) -> None:
        self.schedules += 1
        self.crashes += schedule.crashes
        self.faults += schedule.faults
        own = Counter({row: n for row, n in found.items() if row.startswith(schedule.prefix)})
        self.rows += own.total()
        if wrong := schedule.wrong(own):
            self.wrong[seed] = [*wrong, *schedule.story]


def in_memory(seeds: Iterable[int], *, crashes: int | None = None) -> Tally:
    """Against write streams in memory, until there were so many crashes."""
    tally = Tally()
    for seed in seeds:
        schedule = Schedule(seed)
        schedule.run()
        tally.add(seed, schedule, schedule.streams.written())
        if crashes is not None and tally.crashes.total() >= crashes:
            break
    return tally


def on_a_server(seeds: Iterable[int], server: BigQueryServer, *, crashes: int | None = None) -> Tally:
    """Against a real server's, likewise; all rows in one table."""
    tally, schedules = Tally(), []
    seen = 0
    with client_of(server) as client, write_client_of(server.grpc_endpoint) as write_client:
        table = new_table(client)
        for seed in seeds:
            schedule = Schedule(seed, streams=WriteStreams(write_client), client=client, table=table)
            schedule.run()
            schedules.append((seed, schedule))
            seen += schedule.crashes.total()
            if crashes is not None and seen >= crashes:
                break
        found = written(client, table)
    for seed, schedule in schedules:
        tally.add(seed, schedule, found)
    return tally
