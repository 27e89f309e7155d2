"""Break streamkit in one line at a time, and see each breakage caught by the test that is named for it: ``make mutants``.

Each mutant runs on a copy of the package, so an interrupted run leaves nothing broken. A mutant that no longer matches the code,
or that its test lets pass, fails the run; so does a test that fails without any mutant.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
GUARANTEES = "tests/test_guarantees.py"
POLICIES = "tests/test_policy_table.py"
SIMULATION = "tests/simulation/test_schedules.py"


class Mutant(NamedTuple):
    """``old`` stands once in ``file``; with ``new`` in its place, ``test`` (a file, and a -k expression) has to fail."""

    breakage: str
    file: str
    old: str
    new: str
    test: str
    expression: str = ""


MUTANTS = [
    Mutant(
        "acknowledge before anything is sent again",
        "failure.py",
        "        self._pending[index] = route\n",
        "        self._batch.outcomes[index] = Settled(route.where)\n",
        POLICIES,
        "sent_before_the_old_one_is_acknowledged",
    ),
    Mutant(
        "answer before the retry queue has confirmed",
        "failure.py",
        "if id(message) not in refusals:",
        "if True:",
        GUARANTEES,
        "checkpoint_never_passes_an_unsettled_record",
    ),
    Mutant(
        "take a queue's exception for a confirmation",
        "failure.py",
        "refusals = {id(message): error for message in messages}",
        "refusals = {}",
        POLICIES,
        "dead_letters_that_refuse",
    ),
    Mutant(
        "drop the sub-sequence from event ids",
        "event.py",
        "{0 if user is None else user.sub_sequence_number}",
        "{0}",
        SIMULATION,
    ),
    Mutant(
        "compare sequence numbers as text",
        "event.py",
        'lowest = min((record.sequence_number or "" for record in unsettled), key=_position)',
        'lowest = min((record.sequence_number or "" for record in unsettled))',
        GUARANTEES,
        "lowest_unsettled_number_as_an_integer",
    ),
    Mutant(
        "divert what was unavailable",
        "execution.py",
        "        return Unavailable(error)\n    except Exception",
        "        return Failed(error)\n    except Exception",
        GUARANTEES,
        "hours_outage",
    ),
    Mutant(
        "take a sink's exception for success",
        "delivery.py",
        "return [(index, Unavailable(error)) for index in dict.fromkeys(indexes)]",
        "return []",
        GUARANTEES,
        "checkpoint_never_passes_an_unsettled_record",
    ),
    Mutant(
        "forget what a sink refused",
        "delivery.py",
        "            if not refusals:\n",
        "            if True:\n",
        GUARANTEES,
        "checkpoint_never_passes_an_unsettled_record",
    ),
    Mutant(
        "let a failed record count as settled",
        "outcome.py",
        "return isinstance(outcome, Done | Settled)",
        "return isinstance(outcome, Done | Settled | Failed)",
        SIMULATION,
    ),
    Mutant(
        "go on after a failure under Block",
        "execution.py",
        '        if self._batch.source != "sqs":\n            self._is_stopped = True\n        elif',
        '        if self._batch.source != "sqs":\n            self._is_stopped = False\n        elif',
        GUARANTEES,
        "Guarantee6",
    ),
    Mutant(
        "ignore the deadline",
        "execution.py",
        "elif has_started and left < deadline.reserve + deadline.longest_record:",
        "elif has_started and left < 0:",
        GUARANTEES,
        "slow_batch_makes_progress",
    ),
    Mutant(
        "leave the flush out of the reckoning",
        "deadline.py",
        "self.reserve = self._margin + sum(self._longest_request.values())",
        "self.reserve = self._margin",
        GUARANTEES,
        "flush_is_in_the_reckoning",
    ),
    Mutant(
        "start not even the first record when time is short",
        "execution.py",
        "        has_started = False\n        left = remaining()",
        "        has_started = True\n        left = remaining()",
        GUARANTEES,
        "at_least_the_first_record",
    ),
    Mutant(
        "try once more than was asked",
        "failure.py",
        "if attempts >= policy.attempts:",
        "if attempts > policy.attempts:",
        GUARANTEES,
        "gives_up_after_three_tries",
    ),
    Mutant(
        "retry what can never succeed",
        "failure.py",
        "if is_poison(error) and dead_letters is not None:",
        "if False and dead_letters is not None:",
        GUARANTEES,
        "Guarantee8",
    ),
    Mutant(
        "send aside before earlier writes are delivered",
        "execution.py",
        "            waiting.extend(self._delivery.flush())\n",
        "            waiting.extend(())\n",
        GUARANTEES,
        "hours_outage",
    ),
    Mutant(
        "send aside what stands behind an unsettled record",
        "failure.py",
        "{i: route for i, route in self._pending.items() if i < index}",
        "dict(self._pending)",
        POLICIES,
        "nothing_behind_an_unsettled_record",
    ),
    Mutant(
        "run the later messages of a failed FIFO group",
        "execution.py",
        "if group is None or group not in self._stopped_groups or isinstance(self._batch.outcomes[index], Settled):",
        "if True:",
        POLICIES,
        "later_messages_of_its_group_are_returned_unrun",
    ),
    Mutant(
        "let what was done behind a refused write of its group go",
        "failure.py",
        "batch.outcomes[index] = Held(waiting[key])",
        "pass",
        POLICIES,
        "refused_write_holds_what_is_done_of_its_group",
    ),
    Mutant(
        "take an envelope of an unknown version for a record",
        "envelope.py",
        "if version != VERSION or isinstance(version, bool):",
        "if False:",
        POLICIES,
        "unknown_version",
    ),
    Mutant(
        "accept damaged base64",
        "record.py",
        "_b64decode(data, None, True)",
        "_b64decode(data, None, False)",
        GUARANTEES,
        "can_not_be_decoded_goes_aside_alone",
    ),
    Mutant(
        "give all writes of a record one id",
        "sinks/base.py",
        "{self._processor}/{self._n}",
        "{self._processor}/0",
        GUARANTEES,
        "every_repeat_of_a_write",
    ),
    Mutant(
        "count an early receive as an attempt",
        "failure.py",
        "if not isinstance(outcome.error, Early):",
        "if True:",
        POLICIES,
        "early_receive_is_no_attempt",
    ),
    Mutant(
        "count what is only started as done before",
        "redelivery.py",
        "for record, outcome in outcomes if is_settled(outcome))",
        "for record, outcome in outcomes if is_settled(outcome) or outcome)",
        SIMULATION,
    ),
    Mutant(
        "take all between two done records for done",
        "positions.py",
        "            positions.add((number, 0))\n",
        "            positions |= {(n, 0) for n in range(max(positions, default=(number, 0))[0], number + 1)}\n",
        GUARANTEES,
        "nobody_has_seen_is_never_skipped",
    ),
    Mutant(
        "forget the sub-sequence of what is done",
        "redelivery.py",
        "record.sub_sequence_number or 0",
        "0",
        SIMULATION,
    ),
    Mutant(
        "keep progress under the number that is answered",
        "redelivery.py",
        "deadline: store.save(self._processor, self._shard(), self._first(), entry",
        "deadline: store.save(self._processor, self._shard(), min({*map(_position, self._batch.records)} - settled)[0], entry",
        GUARANTEES,
        "crash_after_the_saving",
    ),
    Mutant(
        "let older entries stand where the batch could not look them up",
        "redelivery.py",
        "            if entry.alone:\n",
        "            if False:\n",
        GUARANTEES,
        "does_not_leave_an_older_state_behind",
    ),
    Mutant(
        "start later records of a failed key where there is a progress store",
        "execution.py",
        "if group is None or group not in self._stopped_groups or isinstance(",
        "if group is None or self._batch.source == 'kinesis' or group not in self._stopped_groups or isinstance(",
        SIMULATION,
    ),
    Mutant(
        "save what stands done behind an unsettled record of its key",
        "handler.py",
        "        hold_followers(batch, processor.ordering, policy)\n",
        "        if processor.progress is None:\n            hold_followers(batch, processor.ordering, policy)\n",
        SIMULATION,
    ),
    Mutant(
        "let a progress store that fails end the batch",
        "redelivery.py",
        "        except Exception as error:  # noqa: BLE001  # Whatever the store raises, the batch goes on.\n",
        "        except ImportError as error:\n",
        GUARANTEES,
        "store_that_is_down_costs_duplicates",
    ),
    Mutant(
        "leave half of a failed record in a window's state",
        "window.py",
        "            self._state = _restored(self._latest)\n",
        "            pass\n",
        "tests/test_window.py",
        "leaves_no_trace",
    ),
    Mutant(
        "answer with a window's state from after what dead letters refused",
        "window.py",
        "                    before = self._kept[index]\n",
        "                    break\n",
        "tests/test_window.py",
        "is_a_fold_over_its_records",
    ),
    Mutant(
        "give the two parts of a window that ended early the same write ids",
        "window.py",
        "{_text(window.start)}:{part}",
        "{_text(window.start)}:0",
        "tests/test_window.py",
        "is_a_fold_over_its_records",
    ),
    Mutant(
        "take a window's end for done when its writes were refused",
        "window.py",
        "        if outcome is not None:\n",
        "        if False:\n",
        "tests/test_window.py",
        "is_a_fold_over_its_records",
    ),
    Mutant(
        "finish a window while a record of it waits",
        "window.py",
        "not all(map(is_settled, self._batch.outcomes))",
        "False",
        "tests/test_window.py",
        "is_a_fold_over_its_records",
    ),
    Mutant(
        "move the checkpoint to the highest number that an answer names",
        "local/answer.py",
        "return min(named)",
        "return max(named)",
        "tests/local/test_mapping.py",
    ),
    Mutant(
        "pass the record that an answer names",
        "local/lane.py",
        "for _ in range(failed_at)",
        "for _ in range(failed_at + 1)",
        SIMULATION,
    ),
]


def main() -> int:
    """Run every mutant, two at a time; the number that nothing caught."""
    tests = sorted({(mutant.test, mutant.expression) for mutant in MUTANTS})
    print(f"{len(MUTANTS)} mutants; first their tests without any", flush=True)
    with ThreadPoolExecutor(2) as pool:
        sound = dict(zip(tests, pool.map(lambda test: _run(ROOT, *test), tests), strict=True))
        for (test, expression), code in sound.items():
            if code != 0:
                print(f"FAILS WITHOUT A MUTANT (exit {code})  {test} {expression}")
        if any(sound.values()):
            return 1
        survivors = 0
        for mutant, result in zip(MUTANTS, pool.map(_try, MUTANTS), strict=True):
            survivors += result != "caught"
            print(f"{result:10}  {mutant.breakage}  ({mutant.test} {mutant.expression})".rstrip(), flush=True)
    print(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} caught")
    return min(survivors, 1)


def _try(mutant: Mutant) -> str:
    source = (ROOT / "streamkit" / mutant.file).read_text()
    if source.count(mutant.old) != 1:
        return f"NO MATCH ({source.count(mutant.old)})"
    with tempfile.TemporaryDirectory(prefix="streamkit-mutant-") as folder:
        for part in ("streamkit", "tests", "localstack", "processors"):
            shutil.copytree(ROOT / part, Path(folder) / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        (Path(folder) / "streamkit" / mutant.file).write_text(source.replace(mutant.old, mutant.new))
        # Only pytest's 1 says that tests ran and failed; any other exit is no catch.
        code = _run(Path(folder), mutant.test, mutant.expression)
    return {0: "SURVIVED", 1: "caught"}.get(code, f"ERROR {code}")


def _run(folder: Path, test: str, expression: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *test.split()]
    if expression:
        command += ["-k", expression]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
