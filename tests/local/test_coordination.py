"""What a runner does with its shards beside reading them, by hand: leases, listings, starts and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamkit.checkpoints.base import CheckpointStore
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.local.runner import Runner
from streamkit.local.settings import Settings
from streamkit.local.shard_reader import ShardReader

from .scripted_stream import Hand, ScriptedStream, page

FIRST, SECOND = "shardId-000000000000", "shardId-000000000001"


class SteppedRunner(Runner):
    """A runner whose readers a test steps."""

    def _launch(self, reader: ShardReader, functions: Any, pool: Any) -> None:
        return

    def reader(self, shard_id: str = FIRST) -> ShardReader:
        return self._readers[shard_id]

    @property
    def shard_ids(self) -> list[str]:
        return sorted(self._readers)


def make_runner(
    stream: ScriptedStream,
    hand: Hand,
    *,
    kind: type[Runner] = SteppedRunner,
    function: Callable[[Any, Any], Any] = lambda event, context: None,
    make_function: Callable[[], Callable[[Any, Any], Any]] | None = None,
    checkpoints: CheckpointStore | None = None,
    lease_seconds: float = 10.0,
    **settings: Any,
) -> Any:
    return kind(
        make_function or (lambda: function),
        stream=stream,
        name="reader",
        checkpoints=checkpoints or MemoryCheckpoints(),
        settings=Settings(function_response_types=["ReportBatchItemFailures"], **settings),
        lease_seconds=lease_seconds,
        clock=hand.clock,
    )


def fails(event: Any, context: Any) -> None:
    raise ValueError("not today")


class TestLatest:
    def test_what_a_runner_that_died_had_read_since_the_start_is_read_by_one_that_started_with_it(self) -> None:
        hand, checkpoints = Hand(), MemoryCheckpoints()
        stream = ScriptedStream({FIRST: [page(1)]})
        one = make_runner(stream, hand, checkpoints=checkpoints, function=fails, starting_position="LATEST")
        two = make_runner(stream, hand, checkpoints=checkpoints, starting_position="LATEST")
        one.begin()
        two.begin()
        one.coordinate()
        one.reader().step()
        two.coordinate()

        hand.now += 11
        two.coordinate()
        two.reader().step()

        assert [position.type for position in stream.positions[FIRST]] == ["LATEST", "AT_TIMESTAMP"]
        assert stream.positions[FIRST][1].timestamp == hand.now - 11
