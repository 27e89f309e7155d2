"""``streamkit redrive`` killed anywhere, and started again: nothing lost, nothing twice, the order of each key kept."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamkit import cli
from streamkit.cli import letters as letters_module
from streamkit.cli.journal import Journal
from streamkit.cli.letters import QueueLetters
from streamkit.cli.targets import QueueTarget
from streamkit.envelope import Envelope

from .dead_letters import LetterQueue, letter
from .test_dead_letters import at_moto
from .test_redrive import started, wait_until

__all__ = ["at_moto"]

KILLS = 20
SEEDS = 12


class Crash(BaseException):
    """The process ends here."""


class Crashes:
    """Ends the process after so many steps: before or after each record in the journal, each send and each deletion."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = -1
        #: Where it has ended, and the letters that were being sent there.
        self.places: list[str] = []
        self.sending: set[str] = set()
        for owner, name in (
            (Journal, "begin"),
            (QueueTarget, "send"),
            (Journal, "confirm"),
            (QueueLetters, "delete"),
        ):
            patch.setattr(owner, name, self._around(getattr(owner, name), name))

    def _around(self, call: Any, name: str) -> Any:
        def crashing(*arguments: Any, **options: Any) -> Any:
            if name == "send":
                self.sending = {one.event_id for one in arguments[1]}
            self._step(f"before {name}")
            answer = call(*arguments, **options)
            self._step(f"after {name}")
            return answer

        return crashing

    def _step(self, place: str) -> None:
        if self.left == 0:
            self.left = -1
            self.places.append(place)
            raise Crash
        self.left -= 1


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> Crashes:
    monkeypatch.setattr(letters_module, "_LONG_POLL", 0)
    return Crashes(monkeypatch)


def letters_of(keys: int, each: int) -> list[Envelope]:
    return [letter(10 * n + 1, key=f"c-{n % keys}") for n in range(keys * each)]


def by_key(letters: list[Envelope]) -> dict[str | None, list[int]]:
    found: dict[str | None, list[int]] = defaultdict(list)
    for one in letters:
        found[one.partition_key].append(int(one.sequence_number or 0))
    return dict(found)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_it_ends_at_any_step_and_goes_on_and_a_fifo_queue_has_each_letter_once_in_order(
    sqs: Any, crashes: Crashes, seed: int
) -> None:
    chance = random.Random(seed)
    dead, retries = LetterQueue(sqs), LetterQueue(sqs, fifo=True)
    letters = letters_of(keys=3, each=4)
    dead.put(*chance.sample(letters, len(letters)))

    for _ in ended_runs(dead, retries, crashes, chance):
        pass

    assert by_key(retries.envelopes()) == by_key(letters)
    assert dead.counts() == (0, 0)
    assert crashes.places


@pytest.mark.parametrize("seed", range(SEEDS // 2))
def test_a_standard_queue_has_twice_only_what_was_being_sent_when_it_ended(
    sqs: Any, crashes: Crashes, seed: int
) -> None:
    chance = random.Random(1000 + seed)
    dead, retries = LetterQueue(sqs), LetterQueue(sqs)
    letters = letters_of(keys=5, each=2)
    dead.put(*chance.sample(letters, len(letters)))
    perhaps: Counter[str] = Counter()

    for place in ended_runs(dead, retries, crashes, chance):
        # The one window: the queue has confirmed, and that is not recorded.
        if place in ("after send", "before confirm"):
            perhaps.update(crashes.sending)

    found = Counter(one.event_id for one in retries.envelopes())
    assert found.keys() == {one.event_id for one in letters}
    assert all(count <= 1 + perhaps[name] for name, count in found.items())
    assert dead.counts() == (0, 0)


def ended_runs(dead: LetterQueue, retries: LetterQueue, crashes: Crashes, chance: random.Random) -> Iterator[str]:
    """Runs that end somewhere, and a last one that does not; yields where."""
    while True:
        crashes.left = chance.randrange(20) if len(crashes.places) < 8 else -1
        try:
            assert cli.main(["redrive", dead.url, "--to-queue", retries.url, "--yes"]) == 0
        except Crash:
            yield crashes.places[-1]
        else:
            return


@pytest.mark.timeout(900)
def test_killed_with_sigkill_twenty_times_it_loses_nothing_repeats_nothing_and_keeps_the_order(
    sqs: Any, tmp_path: Path, moto_endpoint: str
) -> None:
    chance = random.Random(20)
    dead, retries = LetterQueue(sqs), LetterQueue(sqs, fifo=True)
    letters = letters_of(keys=2, each=45)
    dead.put(*chance.sample(letters, len(letters)))
    kills = 0

    while kills < KILLS:
        before = retries.counts()[0]
        with started(tmp_path, moto_endpoint, dead, retries, "--hold", "3", "--rate", "10") as process:
            some = before + chance.randrange(1, 4)
            wait_until(lambda some=some, process=process: retries.counts()[0] >= some or process.poll() is not None)
            if process.poll() is None:
                process.kill()
                kills += 1
            process.communicate()
        assert process.returncode == -9, "it was done before it was killed often enough"
    finish(tmp_path, moto_endpoint, dead, retries)

    assert by_key(retries.envelopes()) == by_key(letters)
    assert dead.counts() == (0, 0)


def finish(folder: Path, endpoint: str, dead: LetterQueue, retries: LetterQueue) -> None:
    with started(folder, endpoint, dead, retries, "--hold", "30") as process:
        _, err = process.communicate()
    assert process.returncode == 0, err
