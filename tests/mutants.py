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
LANES = "tests/local/test_lanes.py"
WINDOWS = "tests/local/test_windows.py"
READER = "tests/local/test_shard_reader.py"
RUNNER = "tests/local/test_runner.py"
LEASES = "tests/local/test_leases.py"
STORES = "tests/contracts/test_checkpoints.py"
PATTERN = "tests/test_pattern.py"
DESTINATIONS = "tests/local/test_destinations.py"
PARKING = "tests/test_parking.py"
LEDGERS = "tests/contracts/test_ledgers.py tests/ledgers"


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
        "        else:\n            self._is_stopped = True\n",
        "        else:\n            self._is_stopped = False\n",
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
        "self.reserve = self._margin + self._kept + sum(self._longest_request.values())",
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
        "                if key in waiting:\n",
        "                if False:\n",
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
        "b64.py",
        "_b64decode(text, None, True)",
        "_b64decode(text, None, False)",
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
        "let older entries stand again once the one that ended them is replaced",
        "redelivery.py",
        "self._stands_alone = True",
        "self._stands_alone = False",
        "tests/test_redelivery.py",
        "keeps_older_entries_out",
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
        "refused_later or refuse_later",
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
    Mutant(
        "give a lane by the number of a record and not by its key",
        "local/mapping.py",
        "text = str(sequence_number) if partition_key is None else partition_key",
        "text = str(sequence_number)",
        LANES,
        "that_of_its_key_alone",
    ),
    Mutant(
        "take the highest of the lanes for the checkpoint",
        "local/mapping.py",
        "lowest = min(\n",
        "lowest = max(\n",
        LANES,
        "checkpoint_is_the_lowest",
    ),
    Mutant(
        "leave the position before what no filter wants",
        "local/mapping.py",
        "if len(wanted) < len(items):",
        "if False:",
        LANES,
        "no_filter_wants",
    ),
    Mutant(
        "deliver what no filter wants",
        "local/mapping.py",
        "wanted = [item for item in items if item.is_wanted]",
        "wanted = list(items)",
        LANES,
        "no_filter_wants",
    ),
    Mutant(
        "let data that is no JSON through a filter",
        "local/filters.py",
        "            return False\n        return any(",
        "            return True\n        return any(",
        "tests/local/test_filters.py",
        "no_json_is_dropped",
    ),
    Mutant(
        "take a value of another type for none but this",
        "pattern.py",
        "_KINDS.get(type(value)) != kind or value not in excluded",
        "_KINDS.get(type(value)) == kind and value not in excluded",
        PATTERN,
        "test_example",
    ),
    Mutant(
        "let one bound of a numeric range be enough",
        "pattern.py",
        "return all(holds(value, number) for",
        "return any(holds(value, number) for",
        PATTERN,
        "test_example",
    ),
    Mutant(
        "take in the lower bound that a range leaves out",
        "pattern.py",
        '">": lambda value, number: value > number',
        '">": lambda value, number: value >= number',
        PATTERN,
        "test_example",
    ),
    Mutant(
        "keep the state of an answer that moved nothing",
        "local/lane.py",
        "            if failed_at > 0:\n",
        "            if failed_at >= 0:\n",
        WINDOWS,
        "names_a_failure_keeps_the_state",
    ),
    Mutant(
        "lose the state of what went before a failure",
        "local/lane.py",
        "                self._keep_state(answer, None)\n",
        "                pass\n",
        WINDOWS,
        "names_a_failure_keeps_the_state",
    ),
    Mutant(
        "call a window's end before the last part of a split batch",
        "local/lane.py",
        "is_final = len(self._batches) == 1 and self._window_is_over()",
        "is_final = self._window_is_over()",
        WINDOWS,
        "every_part_of_a_split_batch",
    ),
    Mutant(
        "call a window's end before the stream was read up to it",
        "local/lane.py",
        "self._caught_up_at >= window.end +",
        "self._caught_up_at >= window.start +",
        WINDOWS,
        "waits_for_the_stream_to_be_read",
    ),
    Mutant(
        "take what came while a read was under way for read",
        "local/shard_reader.py",
        "caught_up(asked_at if page.as_of is None else page.as_of)",
        "caught_up(self._clock.time())",
        READER,
        "may_have_arrived_while_it_read",
    ),
    Mutant(
        "take a window for over though the reader is behind",
        "local/shard_reader.py",
        "if page.behind == 0:",
        "if True:",
        READER,
        "while_the_reader_is_behind",
    ),
    Mutant(
        "begin anew in the middle of an open window",
        "local/lane.py",
        "            return window.first\n",
        "            pass\n",
        WINDOWS,
        "begins_with_the_window_that_was_open",
    ),
    Mutant(
        "begin anew in the middle of a window that a faster lane has ended",
        "local/mapping.py",
        "if first < begin_at <= last:",
        "if False:",
        WINDOWS,
        "a_faster_lane_has_ended",
    ),
    Mutant(
        "go on with a window whose state is over the limit",
        "local/lane.py",
        "len(self._window.state) > self._settings.maximum_state_in_bytes",
        "False",
        WINDOWS,
        "state_over_1_mb",
    ),
    Mutant(
        "read a child before its parents are done",
        "local/runner.py",
        "if shard.id in holding and holding.isdisjoint(shard.parents)]",
        "if shard.id in holding]",
        RUNNER,
        "children_are_read_when",
    ),
    Mutant(
        "read a child before its parents are done, in a schedule",
        "local/runner.py",
        "if shard.id in holding and holding.isdisjoint(shard.parents)]",
        "if shard.id in holding]",
        SIMULATION,
    ),
    Mutant(
        "deliver a merged shard's records when one of its parents is done",
        "testing/mapping.py",
        "if not all(parent.mapping.is_over for parent in shard.parents):",
        "if not any(parent.mapping.is_over for parent in shard.parents or [shard]):",
        "tests/testing/test_resharding.py",
        "waits_for_both",
    ),
    Mutant(
        "say that a shard has ended while a batch of it fails",
        "local/shard_reader.py",
        "if self._mapping.is_over and not self._in_hand:",
        "if self._feed_has_ended and not self._in_hand:",
        RUNNER,
        "still_retries_what_failed",
    ),
    Mutant(
        "say that a shard has ended without its last number",
        "local/shard_reader.py",
        "self._store.end(self._lease, self._mapping.resume_after)",
        "self._store.end(self._lease, None)",
        READER,
        "ends_with_its_last_number",
    ),
    Mutant(
        "take a shard whatever its entry has become",
        "checkpoints/base.py",
        "if (entry and entry.version) != (seen and seen.version):",
        "if False:",
        STORES,
        "TestMemory and not_taken_by_who_has_seen_an_older_entry",
    ),
    Mutant(
        "let another come between reading an entry of a SQLite file and writing it",
        "checkpoints/sqlite.py",
        'transaction.execute("BEGIN IMMEDIATE")\n            row =',
        "row =",
        STORES,
        "nobody_come_between",
    ),
    Mutant(
        "take a shard in DynamoDB from an owner that has renewed it",
        "checkpoints/dynamodb.py",
        "AND #term = :seen_term AND #beat = :seen_beat",
        "AND #term = :seen_term AND #beat >= :seen_beat",
        STORES,
        "TestDynamoDb and not_taken_by_who_has_seen_an_older_entry",
    ),
    Mutant(
        "save by a lease of an older term",
        "checkpoints/base.py",
        "(entry.owner, entry.term) != (self.owner, self.term)",
        "entry.owner != self.owner",
        STORES,
        "TestSqlite and older_term",
    ),
    Mutant(
        "save by a lease of an older term in DynamoDB",
        "checkpoints/dynamodb.py",
        '"#owner = :owner AND #term = :term"',
        '"#owner = :owner AND #term >= :term"',
        STORES,
        "TestDynamoDb and older_term",
    ),
    Mutant(
        "move a checkpoint back",
        "checkpoints/base.py",
        "entry.checkpoint >= sequence_number",
        "entry.checkpoint == sequence_number",
        STORES,
        "TestSqlite and never_down",
    ),
    Mutant(
        "move a checkpoint back in DynamoDB",
        "checkpoints/dynamodb.py",
        "#checkpoint < :number",
        "#checkpoint <> :number",
        STORES,
        "TestDynamoDb and never_down",
    ),
    Mutant(
        "compare positions in DynamoDB as texts of any length",
        "checkpoints/dynamodb.py",
        "str(sequence_number).zfill(_DIGITS)",
        "str(sequence_number)",
        STORES,
        "TestDynamoDb and compare_as_numbers",
    ),
    Mutant(
        "do not see that an owner renews",
        "checkpoints/base.py",
        "return self.owner, self.term, self.beat",
        "return self.owner, self.term, 0",
        LEASES,
        "none_whose_owner_renews_it",
    ),
    Mutant(
        "hold a lease up to the moment in which another may take it",
        "local/leases.py",
        "seconds * (1 - _MARGIN)",
        "seconds",
        LEASES,
        "ends_before_another",
    ),
    Mutant(
        "count a lease from the answer to its renewal",
        "local/leases.py",
        "_Held(lease, started, started)",
        "_Held(lease, self._clock(), started)",
        LEASES,
        "start_of_its_renewal",
    ),
    Mutant(
        "count a lease from a second try to take it",
        "local/leases.py",
        "_Held(lease, seen_at, seen_at)",
        "_Held(lease, self._clock(), seen_at)",
        LEASES,
        "taken_by_the_second_try",
    ),
    Mutant(
        "repeat the beat of a renewal that had no answer",
        "local/leases.py",
        "beat=held.lease.beat + 1)",
        "beat=held.lease.beat)",
        LEASES,
        "renewed_again_after_a_renewal_without_an_answer",
    ),
    Mutant(
        "hold a lease that was not renewed in time, in a schedule",
        "local/leases.py",
        "return held is not None and not self._is_over(held)",
        "return held is not None",
        SIMULATION,
    ),
    Mutant(
        "save the position before the destination has confirmed",
        "local/shard_reader.py",
        "                self._settle_later()\n                return False\n",
        "                self._settle_later()\n                break\n",
        RUNNER,
        "told_again_until_it_takes_them",
    ),
    Mutant(
        "begin the next batch before the position is saved",
        "local/shard_reader.py",
        "        if not self._write(lambda: self._store.save(self._lease, number)):\n            return False\n",
        "        if not self._write(lambda: self._store.save(self._lease, number)):\n            return True\n",
        READER,
        "nothing_begins_until_the_position_is_saved",
    ),
    Mutant(
        "go on after the lease is lost",
        "local/shard_reader.py",
        "if self._is_lost or not self._holds():",
        "if self._is_lost:",
        READER,
        "begins_and_writes_nothing_more",
    ),
    Mutant(
        "leave a shard to others while a batch of it is in hand",
        "local/shard_reader.py",
        '        """Nothing more begins; over when nothing is in hand."""\n        if self._in_hand:\n',
        '        """Nothing more begins; over when nothing is in hand."""\n        if False:\n',
        READER,
        "in_hand",
    ),
    Mutant(
        "read again at once after a throttle",
        "local/shard_reader.py",
        "backoff = _backoff(self._read_failures)",
        "backoff = 0.0",
        READER,
        "waits_longer_and_longer",
    ),
    Mutant(
        "go on after an error from where nothing was read yet",
        "local/shard_reader.py",
        "            self._last_read = items[-1].sequence_number\n",
        "            pass\n",
        READER,
        "behind_what_was_read",
    ),
    Mutant(
        "take an answer that came after the time-out",
        "local/shard_reader.py",
        "if context.get_remaining_time_in_millis() == 0:",
        "if False:",
        READER,
        "after_the_time_out_is_none",
    ),
    Mutant(
        "say that a function had an error that only named a record",
        "local/documents.py",
        '"Unhandled" if discard.has_raised else None',
        '"Unhandled"',
        "tests/testing/test_mapping.py",
        "function_had_no_error",
    ),
    Mutant(
        "end a failure document's records with their first",
        "local/documents.py",
        '"endSequenceNumber": str(items[-1].sequence_number)',
        '"endSequenceNumber": str(items[0].sequence_number)',
        "tests/testing/test_mapping.py",
        "failure_document_is_that_of_lambda",
    ),
    Mutant(
        "answer for a function that was never called",
        "local/documents.py",
        'if discard.condition == "RetryAttemptsExhausted":',
        "if True:",
        "tests/testing/test_mapping.py",
        "too_old_has_no_response",
    ),
    Mutant(
        "leave the records out of what a bucket gets",
        "local/destinations.py",
        'document | {"payload": payload}',
        "document",
        DESTINATIONS,
        "event_as_a_text",
    ),
    Mutant(
        "put a document into a bucket anew at each try",
        "local/destinations.py",
        "name = uuid.uuid5(uuid.NAMESPACE_OID, body)",
        "name = uuid.uuid4()",
        DESTINATIONS,
        "holds_a_document_once",
    ),
    Mutant(
        "run the records of a parked key",
        "parking.py",
        '            batch.outcomes[index] = Held("the records of its key that are parked")\n',
        "            pass\n",
        SIMULATION,
    ),
    Mutant(
        "add only the id of a key's first record",
        "parking.py",
        "ids = [id_of(records[index].event_id) for index in indexes]",
        "ids = [id_of(records[index].event_id) for index in indexes[:1]]",
        SIMULATION,
    ),
    Mutant(
        "go on sending after a refusal",
        "parking.py",
        "if not self._has_time() or not self._send(request, now, started):\n",
        "if not self._has_time() or self._send(request, now, started) is None:\n",
        SIMULATION,
    ),
    Mutant(
        "take two records of a key into one request",
        "parking.py",
        "first.setdefault(self._group(self._batch.records[index]), index)",
        "first.setdefault(str(index), index)",
        PARKING,
        "nothing_is_sent_after_a_refusal or share_requests",
    ),
    Mutant(
        "send a record with the same deduplication id each time",
        "queues/sqs.py",
        "uuid.uuid4().hex",
        "message.event_id",
        SIMULATION,
    ),
    Mutant(
        "take a late confirmation",
        "parking.py",
        "max(self._ledger.clock() - began, time.monotonic() - started) > _SENT_WITHIN",
        "False",
        PARKING,
        "a_minute_after",
    ),
    Mutant(
        "run what is not pending",
        "parking.py",
        'outcomes[index] = Settled("an earlier delivery")',
        "pass",
        SIMULATION,
    ),
    Mutant(
        "drop what was put back",
        "parking.py",
        "if record.sent_at is not None and not is_stale(envelope.parked_at, record.sent_at):",
        "if True:",
        SIMULATION,
    ),
    Mutant(
        "never clear away stale ids",
        "parking.py",
        "before = max(before, record.sent_at - _SENT_WITHIN - _CLOCK_MARGIN)",
        "pass",
        SIMULATION,
    ),
    Mutant(
        "clear away ids whose messages may be under way",
        "parking.py",
        "before = max(before, record.sent_at - _SENT_WITHIN - _CLOCK_MARGIN)",
        "before = max(before, record.sent_at)",
        SIMULATION,
    ),
    Mutant(
        "forget a sweep behind what fails",
        "parking.py",
        "outcomes[index] = Held(records[blocked_at].event_id)",
        "pass",
        PARKING,
        "waits_behind_what_fails",
    ),
    Mutant(
        "remove what is not settled",
        "parking.py",
        "            if index >= blocked_at:\n",
        "            if False:\n",
        SIMULATION,
    ),
    Mutant(
        "acknowledge what could not be taken out of the ledger",
        "parking.py",
        "            for index in settled:\n",
        "            for index in ():\n",
        PARKING,
        "forgets_nothing",
    ),
    Mutant(
        "go on without a ledger",
        "parking.py",
        "            _make_unavailable(batch, error)\n            return\n",
        "            return\n",
        SIMULATION,
    ),
    Mutant(
        "count no try on a FIFO queue",
        "parking.py",
        "attempts = envelope.attempts + 1",
        "attempts = envelope.attempts",
        PARKING,
        "three_failed_tries",
    ),
    Mutant(
        "let a group go on before its dead letter is confirmed",
        "execution.py",
        "                self._await(index)\n",
        "                pass\n",
        SIMULATION,
    ),
    Mutant(
        "park what stands behind an unsettled record",
        "parking.py",
        "                # It, and all that follows, will be delivered again, and would be sent again.\n                break\n",
        "                continue\n",
        PARKING,
        "behind_what_will_be_delivered_again",
    ),
    Mutant(
        "let an add that was overtaken set the time back, in memory",
        "ledgers/memory.py",
        "            added = max([added, *(round(one.added + 0.001, 3) for one in pending.values())])\n",
        "",
        LEDGERS,
        "overtaken",
    ),
    Mutant(
        "let an add that was overtaken set the time back, in DynamoDB",
        "ledgers/dynamodb.py",
        'ConditionExpression="attribute_not_exists(#newest) OR #newest < :added OR #adder = :adder"',
        'ConditionExpression="attribute_not_exists(#newest) OR #newest < :added OR #adder <> :adder"',
        LEDGERS,
        "overtaken",
    ),
    Mutant(
        "remove an id that was renewed",
        "ledgers/memory.py",
        "one.added != ids.get(record_id)",
        "record_id not in ids",
        SIMULATION,
    ),
    Mutant(
        "remove without looking whether somebody has written",
        "ledgers/dynamodb.py",
        '"ConditionExpression": "#version = :version",',
        '"ConditionExpression": "#version = :version OR #version <> :version",',
        LEDGERS,
        "renewed or drained",
    ),
    Mutant(
        "look parked keys up eventually",
        "ledgers/dynamodb.py",
        "                ConsistentRead=True,\n",
        "                ConsistentRead=False,\n",
        LEDGERS,
        "every_page",
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
