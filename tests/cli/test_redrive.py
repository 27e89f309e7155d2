"""``streamkit redrive`` on queues, streams and files of moto."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import stat
import subprocess
import time
import uuid
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamkit import cli
from streamkit.cli.journal import Journal, entry_of
from streamkit.cli.letters import QueueLetters, _held
from streamkit.cli.spool import Spool
from streamkit.envelope import Envelope, open_envelope
from streamkit.errors import StreamkitError
from streamkit.failure import group_of
from streamkit.letters import read

from ..test_letters import document
from .dead_letters import LetterQueue, letter
from .process import ENVIRONMENT, command, connect
from .test_dead_letters import Said, at_moto, everything

__all__ = ["at_moto"]


@pytest.fixture
def dead(sqs: Any) -> LetterQueue:
    return LetterQueue(sqs)


@pytest.fixture
def retries(sqs: Any) -> LetterQueue:
    return LetterQueue(sqs)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def command(source: LetterQueue | str, *arguments: str, yes: bool = True) -> Said:
        name = source if isinstance(source, str) else source.name
        code = cli.main(["redrive", name, *arguments, *(["--yes"] if yes else [])])
        return Said(code, *capsys.readouterr())

    return command


def numbers(letters: list[Envelope]) -> list[int]:
    return [int(one.sequence_number or 0) for one in letters]


class TestToARetryQueue:
    def test_a_letter_goes_back_as_the_same_event_with_its_attempts_before_it(
        self, dead: LetterQueue, retries: LetterQueue, run: Any
    ) -> None:
        one = letter(7)
        dead.put(one)

        said = run(dead, "--to-queue", retries.name)

        assert said.code == 0
        assert f"put back 1 letter to {retries.name}; 0 letters left" in said.err
        assert dead.counts() == (0, 0)
        (back,) = retries.envelopes()
        assert (back.event_id, back.data, back.failures) == (one.event_id, one.data, one.failures)
        assert (back.attempts, back.redrives) == (0, 1)

    def test_letters_of_a_key_go_in_the_order_of_the_stream_whatever_order_they_lay_in(
        self, dead: LetterQueue, sqs: Any, run: Any
    ) -> None:
        retries = LetterQueue(sqs, fifo=True)
        # Numbers of unequal length: as texts they would stand otherwise.
        for number in (100, 9, 20, 3, 1000):
            dead.put(letter(number, key="a"), letter(number + 1, key="b"))

        assert run(dead, "--to-queue", retries.url).code == 0

        back = retries.envelopes()
        assert numbers([one for one in back if one.partition_key == "a"]) == [3, 9, 20, 100, 1000]
        assert numbers([one for one in back if one.partition_key == "b"]) == [4, 10, 21, 101, 1001]

    def test_its_group_is_the_one_that_a_function_would_have_sent_it_in(
        self, dead: LetterQueue, sqs: Any, run: Any
    ) -> None:
        retries = LetterQueue(sqs, fifo=True)
        dead.put(letter(1, key="a"))

        run(dead, "--to-queue", retries.name)

        (message,) = sqs.receive_message(QueueUrl=retries.url, AttributeNames=["All"])["Messages"]
        assert message["Attributes"]["MessageGroupId"] == group_of("orders", "a", "x")

    def test_records_of_an_aggregate_keep_their_order_within_it(self, dead: LetterQueue, sqs: Any, run: Any) -> None:
        retries = LetterQueue(sqs, fifo=True)
        dead.put(*(letter(7, event_id=f"orders/s:7:{n}", sub_sequence_number=n) for n in (10, 2, 0)))

        run(dead, "--to-queue", retries.name)

        assert [one.sub_sequence_number for one in retries.envelopes()] == [0, 2, 10]

    def test_only_those_that_were_asked_for_go_and_the_others_can_be_had_at_once(
        self, dead: LetterQueue, retries: LetterQueue, run: Any
    ) -> None:
        dead.put(letter(1), letter(2, error="ValueError: no"), letter(3, key="c-3"))

        said = run(dead, "--to-queue", retries.name, "--error", "KeyError", "--key", "c-1")

        assert said.code == 0
        assert numbers(retries.envelopes()) == [1]
        assert dead.counts() == (2, 0)

    def test_one_that_goes_before_an_earlier_one_of_its_key_is_told_of(
        self, dead: LetterQueue, retries: LetterQueue, run: Any
    ) -> None:
        dead.put(letter(1, error="ValueError: no"), letter(2))

        said = run(dead, "--to-queue", retries.name, "--error", "KeyError", "--dry-run")

        assert "of them, 1 letter before an earlier one of the same key, which stays" in said.err

    def test_letters_of_several_processors_are_not_mixed_into_one_queue(
        self, dead: LetterQueue, retries: LetterQueue, run: Any
    ) -> None:
        dead.put(letter(1), letter(2, processor="audit"))

        refused = run(dead, "--to-queue", retries.name)
        chosen = run(dead, "--to-queue", retries.name, "--processor", "audit")

        assert refused.code == 2
        assert "several processors (audit, orders)" in refused.err
        assert chosen.code == 0
        assert numbers(retries.envelopes()) == [2]

    def test_a_dry_run_says_what_would_go_and_changes_nothing(
        self, dead: LetterQueue, retries: LetterQueue, run: Any, tmp_path: Path
    ) -> None:
        dead.put(letter(1), letter(2, key="c-2"), "no letter")

        said = run(dead, "--to-queue", retries.name, "--dry-run", "--json", yes=False)

        assert "would put back 2 letters of 2 keys" in said.err
        assert "2  orders: KeyError" in said.err
        assert json.loads(said.out)["to_put_back"] == 2
        assert (dead.counts(), retries.counts()) == ((3, 0), (0, 0))
        assert list(tmp_path.iterdir()) == []

    def test_nobody_is_asked_where_nobody_can_answer(self, dead: LetterQueue, retries: LetterQueue, run: Any) -> None:
        dead.put(letter(1))

        said = run(dead, "--to-queue", retries.name, yes=False)

        assert said.code == 2
        assert "--dry-run says what would be put back, --yes puts it back" in said.err
        assert dead.counts() == (1, 0)

    def test_a_queue_is_not_put_back_into_itself_whatever_it_is_called(self, dead: LetterQueue, run: Any) -> None:
        dead.put(letter(1))

        said = run(dead.url, "--to-queue", dead.name)

        assert said.code == 2
        assert "the same queue" in said.err
        assert dead.counts() == (1, 0)

    def test_the_rate_is_kept_by_waiting_between_requests(
        self, dead: LetterQueue, retries: LetterQueue, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dead.put(*(letter(n, key=f"c-{n}") for n in range(6)))
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)

        clock = SimpleNamespace(time=time.time, sleep=sleep, monotonic=lambda: sum(slept))
        monkeypatch.setattr("streamkit.cli.redriving.time", clock)

        said = run(dead, "--to-queue", retries.name, "--rate", "2")

        assert said.code == 0
        assert sum(slept) == pytest.approx(2.0)  # Two at once, two after a second, two after another.
        assert retries.counts() == (6, 0)


class TestWhatStays:
    def test_what_cannot_be_read_or_has_no_data_stays_and_is_named(
        self, dead: LetterQueue, retries: LetterQueue, run: Any
    ) -> None:
        gone = letter(3, data=None, error="Gone: 5 records of the batch's 5")
        dead.put(letter(1), "no letter", letter(2, data=None, undecoded="!"), gone, '{"streamkit_envelope": 2}')

        said = run(dead, "--to-queue", retries.name, "--json")

        assert said.code == 1
        assert numbers(retries.envelopes()) == [1]
        assert dead.counts() == (4, 0)
        reasons = json.loads(said.out)["reasons"]
        assert {kind: one["count"] for kind, one in reasons.items()} == {
            "can't be read": 2,
            "have no data that could be decoded": 1,
            "are gone for good": 1,
        }
        assert "orders/shardId-000000000000:2:0" in said.err
        assert "message " in said.err

    def test_one_made_to_do_harm_stays_alone(self, retries: LetterQueue, run: Any) -> None:
        hostile = [
            letter(1).encode().replace('"redrives":0', f'"redrives":{2**63}'),
            letter(2, time="9999-12-31T23:59:59-23:00").encode(),
            letter(3, sub_sequence_number=-(2**80), sequence_number="9" * 5000).encode(),
        ]
        (Path.cwd() / "letters.jsonl").write_text("\n".join([*hostile, letter(4).encode()]))

        said = run("letters.jsonl", "--to-queue", retries.name)

        assert said.code == 1
        assert "1 can't be read: letters.jsonl:1: an envelope of version 1 with a fault" in said.err
        assert sorted(one.event_id.split(":")[1] for one in retries.envelopes()) == ["2", "3", "4"]

    def test_one_that_is_refused_stays_with_all_of_its_key_behind_it_and_other_keys_go_on(
        self, dead: LetterQueue, sqs: Any, run: Any
    ) -> None:
        retries = LetterQueue(sqs)
        # SQS takes 1 MiB, and the data is a third longer in an envelope.
        (Path.cwd() / "letters.jsonl").write_text(
            "\n".join(
                one.encode() for one in (letter(1, data=b"x" * 900_000), letter(2), letter(3), letter(4, key="c-4"))
            )
        )

        said = run("letters.jsonl", "--to-queue", retries.name)

        assert said.code == 1
        assert numbers(retries.envelopes()) == [4]
        assert "1 were refused: orders/shardId-000000000000:1:0" in said.err
        assert "2 wait behind one of their key that was refused" in said.err

    def test_too_large_for_the_queue_goes_by_a_claim(
        self, retries: LetterQueue, run: Any, moto_endpoint: str, kinesis: Any
    ) -> None:
        s3 = connect("s3", moto_endpoint)
        s3.create_bucket(Bucket="redrive-claims")
        (Path.cwd() / "letters.jsonl").write_text(letter(1, data=b"x" * 900_000).encode())

        refused = run("letters.jsonl", "--to-queue", retries.name)
        said = run("letters.jsonl", "--to-queue", retries.name, "--claims-bucket", "redrive-claims")
        (back,) = run_rows(retries)
        s3.close()

        assert refused.code == 1
        assert "more than the target takes: --claims-bucket names a bucket for it" in refused.err
        assert said.code == 0
        assert json.loads(back)["bucket"] == "redrive-claims"

    def test_when_the_target_takes_nothing_it_gives_up_and_everything_is_still_there(
        self, dead: LetterQueue, retries: LetterQueue, run: Any, sqs: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dead.put(*(letter(n, key=f"c-{n}") for n in range(40)))
        from streamkit.queues.sqs import SqsQueue

        send = SqsQueue.send

        def after_the_queue_is_gone(self: SqsQueue, messages: Any, *, deadline: float) -> Any:
            sqs.delete_queue(QueueUrl=retries.url) if retries.url not in deleted else None
            deleted.add(retries.url)
            return send(self, messages, deadline=deadline)

        deleted: set[str] = set()
        monkeypatch.setattr(SqsQueue, "send", after_the_queue_is_gone)

        said = run(dead, "--to-queue", retries.url)

        assert said.code == 1
        assert "gave up, since nothing is taken any more" in said.err
        assert dead.counts() == (40, 0)

    def test_what_fails_again_at_once_is_left_for_the_next_run(self, sqs: Any, run: Any) -> None:
        dead, retries = LetterQueue(sqs, fifo=True), LetterQueue(sqs)
        dead.put(letter(1))
        from streamkit.cli.targets import QueueTarget

        send = QueueTarget.send

        def and_it_dies_again(self: Any, letters: Any, patience: float) -> Any:
            answer = send(self, letters, patience)
            for one in letters:
                dead.put(died_again(one.put_back()))
            return answer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(QueueTarget, "send", and_it_dies_again)
            first = run(dead, "--to-queue", retries.name)
        second = run(dead, "--to-queue", retries.name)

        assert first.code == 1
        assert "1 have failed again since they were put back" in first.err
        assert second.code == 0
        assert [one.redrives for one in retries.envelopes()] == [1, 2]


def run_rows(queue: LetterQueue) -> list[str]:
    return queue.bodies()


def died_again(envelope: Envelope) -> Envelope:
    """The letter of an event that was put back and failed once more, a minute later."""
    later = letter(0, time="2026-05-01T12:01:00.000Z").failures
    fields = {name: getattr(envelope, name) for name in envelope.__struct_fields__}
    return Envelope(**fields | {"failures": (*envelope.failures, *later)})


class TestOnce:
    def test_copies_of_one_letter_are_put_back_once_and_all_deleted(
        self, dead: LetterQueue, retries: LetterQueue, run: Any
    ) -> None:
        older, newer = letter(1), letter(1, time="2026-05-01T12:00:05.000Z")
        dead.put(older, newer, older)

        said = run(dead, "--to-queue", retries.name)

        assert "2 copies of events that are put back once" in said.err
        assert [one.failures for one in retries.envelopes()] == [newer.failures]
        assert dead.counts() == (0, 0)

    @pytest.mark.parametrize("fifo", [False, True])
    def test_letters_with_one_event_id_and_other_data_are_no_copies(
        self, dead: LetterQueue, sqs: Any, run: Any, fifo: bool
    ) -> None:
        retries = LetterQueue(sqs, fifo=fifo)
        dead.put(letter(1, data=b"a"), letter(1, data=b"b"))

        run(dead, "--to-queue", retries.name)

        assert sorted(one.data or b"" for one in retries.envelopes()) == [b"a", b"b"]

    def test_what_was_put_back_and_not_deleted_is_deleted_and_not_sent_again(
        self, dead: LetterQueue, retries: LetterQueue, run: Any
    ) -> None:
        one = letter(1)
        record(dead.url, one, sent=True)
        dead.put(one, letter(2))

        said = run(dead, "--to-queue", retries.name)

        assert "1 were put back before, and are deleted only" in said.err
        assert numbers(retries.envelopes()) == [2]
        assert dead.counts() == (0, 0)

    def test_what_was_perhaps_sent_is_sent_again_and_told_of(
        self, dead: LetterQueue, retries: LetterQueue, run: Any
    ) -> None:
        one = letter(1)
        record(dead.url, one, sent=False)
        dead.put(one)

        said = run(dead, "--to-queue", retries.name)

        assert said.code == 0
        assert f"1 were perhaps put back before, and go again: {one.event_id}" in said.err
        assert numbers(retries.envelopes()) == [1]

    def test_a_fifo_queue_gets_it_once_even_so(self, dead: LetterQueue, sqs: Any, run: Any) -> None:
        retries = LetterQueue(sqs, fifo=True)
        one = letter(1)
        dead.put(one)
        run(dead, "--to-queue", retries.name)
        record(dead.url, one, sent=False)
        dead.put(one)

        assert run(dead, "--to-queue", retries.name).code == 0

        assert numbers(retries.envelopes()) == [1]
        assert dead.counts() == (0, 0)

    def test_an_event_that_died_again_within_the_queues_five_minutes_is_really_put_back(
        self, dead: LetterQueue, sqs: Any, run: Any
    ) -> None:
        """A FIFO queue answers OK to what it drops; a letter deleted for such an answer would be lost."""
        retries = LetterQueue(sqs, fifo=True)
        dead.put(letter(1))
        run(dead, "--to-queue", retries.name)
        # In the function's hands: moto drops by what it still has, SQS by what it had.
        (message,) = sqs.receive_message(QueueUrl=retries.url, VisibilityTimeout=60)["Messages"]
        back = open_envelope(message["Body"])
        assert back is not None
        # Moved by the queue's own redrive policy, which tells of no failure: only the count differs.
        dead.put(back)

        assert run(dead, "--to-queue", retries.name).code == 0

        assert retries.counts() == (1, 1)
        assert dead.counts() == (0, 0)

    def test_a_dry_run_knows_what_was_put_back_before_and_writes_nothing_down(
        self, retries: LetterQueue, run: Any
    ) -> None:
        (Path.cwd() / "letters.jsonl").write_text(f"{letter(1).encode()}\n{letter(2).encode()}\n")
        options = ("letters.jsonl", "--to-queue", retries.name)

        untouched = run(*options, "--dry-run", yes=False)
        assert not (Path.cwd() / "streamkit-redrive.sqlite").exists()
        run(*options, "--id", letter(1).event_id)
        before = (Path.cwd() / "streamkit-redrive.sqlite").read_bytes()
        planned = run(*options, "--dry-run", yes=False)

        assert "would put back 2 letters" in untouched.err
        assert "1 were put back before, and would not be again" in planned.err
        assert "would put back 1 letter of 1 key" in planned.err
        assert (Path.cwd() / "streamkit-redrive.sqlite").read_bytes() == before

    def test_a_file_is_not_put_back_a_second_time(self, retries: LetterQueue, run: Any) -> None:
        (Path.cwd() / "letters.jsonl").write_text("\n".join(letter(n).encode() for n in (1, 2)))

        run("letters.jsonl", "--to-queue", retries.name)
        said = run("letters.jsonl", "--to-queue", retries.name)

        assert "2 were put back before, and are passed over" in said.err
        assert retries.counts() == (2, 0)

    def test_two_runs_do_not_share_a_journal(self, dead: LetterQueue, retries: LetterQueue, run: Any) -> None:
        dead.put(letter(1))
        held = Journal("streamkit-redrive.sqlite", "other")

        said = run(dead, "--to-queue", retries.name)
        planned = run(dead, "--to-queue", retries.name, "--dry-run", yes=False)
        held.close()

        for one in (said, planned):
            assert one.code == 1
            assert "another redrive uses streamkit-redrive.sqlite" in one.err
        assert dead.counts() == (1, 0)

    def test_letters_that_somebody_else_holds_are_waited_for(
        self, dead: LetterQueue, sqs: Any, retries: LetterQueue, run: Any
    ) -> None:
        dead.put(letter(1), letter(2))
        answer = sqs.receive_message(QueueUrl=dead.url, MaxNumberOfMessages=1, VisibilityTimeout=600)

        given_up = run(dead, "--to-queue", retries.name, "--wait", "0")
        receipt = answer["Messages"][0]["ReceiptHandle"]
        sqs.change_message_visibility(QueueUrl=dead.url, ReceiptHandle=receipt, VisibilityTimeout=3)
        waited = run(dead, "--to-queue", retries.name)

        assert given_up.code == 1
        assert "1 letter of" in given_up.err
        assert waited.code == 0
        assert numbers(retries.envelopes()) == [1, 2]


def record(source: str, one: Envelope, *, sent: bool) -> None:
    """What a run has recorded that ended there."""
    journal = Journal("streamkit-redrive.sqlite", source)
    (journal.confirm if sent else journal.begin)([entry_of(one)], time.time())
    journal.close()


def test_a_topic_can_be_the_way_back(dead: LetterQueue, retries: LetterQueue, run: Any, moto_endpoint: str) -> None:
    sns = connect("sns", moto_endpoint)
    topic = sns.create_topic(Name=f"retries-{uuid.uuid4().hex}")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=retries.arn, Attributes={"RawMessageDelivery": "true"})
    dead.put(letter(1))

    said = run(dead, "--to-topic", topic)
    sns.close()

    assert said.code == 0
    assert [one.redrives for one in retries.envelopes()] == [1]
    assert dead.counts() == (0, 0)


class TestToAStream:
    def test_the_payload_goes_back_under_its_keys(self, dead: LetterQueue, kinesis: Any, stream: str, run: Any) -> None:
        dead.put(letter(2, data=b"two"), letter(1, data=b"one"), letter(3, key="other", data=b"\xff"))

        said = run(dead, "--to-stream", stream)

        assert said.code == 0
        assert dead.counts() == (0, 0)
        by_key: dict[str, list[bytes]] = defaultdict(list)
        for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
            where = {"StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator = kinesis.get_shard_iterator(**where)["ShardIterator"]
            for one in kinesis.get_records(ShardIterator=iterator)["Records"]:
                by_key[one["PartitionKey"]].append(one["Data"])
        assert by_key == {"c-1": [b"one", b"two"], "other": [b"\xff"]}

    def test_an_explicit_hash_key_chooses_the_shard(
        self, dead: LetterQueue, kinesis: Any, stream: str, run: Any
    ) -> None:
        dead.put(*(letter(n, key=f"k-{n}", explicit_hash_key=str(2**127 + 7)) for n in range(5)))

        run(dead, "--to-stream", stream)

        last = kinesis.list_shards(StreamName=stream)["Shards"][-1]
        found, shard, _ = everything(kinesis, stream)
        assert (len(found), shard) == (5, last["ShardId"])

    def test_a_record_without_a_key_gets_one(self, dead: LetterQueue, kinesis: Any, stream: str, run: Any) -> None:
        dead.put(letter(1, key=None))

        assert run(dead, "--to-stream", stream).code == 0
        assert len(everything(kinesis, stream)[0]) == 1

    def test_one_that_kinesis_can_never_take_is_left_and_the_others_go(
        self, dead: LetterQueue, kinesis: Any, stream: str, run: Any
    ) -> None:
        dead.put(letter(1, key="k" * 300), letter(2, key="b"), letter(3, key="c"))

        said = run(dead, "--to-stream", stream)

        assert said.code == 1
        assert dead.counts() == (1, 0)

    def test_a_stream_that_is_not_there_is_found_out_before_anything_is_held(self, dead: LetterQueue, run: Any) -> None:
        dead.put(letter(1))

        said = run(dead, "--to-stream", "no-such-stream")

        assert said.code == 1
        assert "there is no such stream" in said.err


class TestDocuments:
    def test_are_fetched_put_back_and_deleted_when_all_of_their_records_are(
        self, dead: LetterQueue, retries: LetterQueue, kinesis: Any, stream: str, run: Any
    ) -> None:
        for text in (b"a", b"b", b"c"):
            kinesis.put_record(StreamName=stream, Data=text, PartitionKey="k")
        found, shard, arn = everything(kinesis, stream)
        where = {"shardId": shard, "streamArn": arn, "batchSize": 3}
        dead.put(json.dumps(document(startSequenceNumber=found[0], endSequenceNumber=found[-1], **where)))

        said = run(dead, "--to-queue", retries.name)

        assert said.code == 0
        assert [one.data for one in retries.envelopes()] == [b"a", b"b", b"c"]
        assert dead.counts() == (0, 0)

    def test_are_chosen_by_the_range_that_they_are_listed_under(
        self, dead: LetterQueue, retries: LetterQueue, kinesis: Any, stream: str, run: Any, capsys: Any
    ) -> None:
        for text in (b"a", b"b", b"c"):
            kinesis.put_record(StreamName=stream, Data=text, PartitionKey="k")
        found, shard, arn = everything(kinesis, stream)
        for first, last, size in ((0, 1, 2), (2, 2, 1)):
            where = {"shardId": shard, "streamArn": arn, "batchSize": size}
            dead.put(json.dumps(document(startSequenceNumber=found[first], endSequenceNumber=found[last], **where)))
        cli.main(["dead-letters", dead.name, "--json"])
        listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        (name,) = (one["event_id"] for one in listed if one["sequence_number"] == found[0])

        said = run(dead, "--to-queue", retries.name, "--id", name)

        assert said.code == 0, said.err
        assert [one.data for one in retries.envelopes()] == [b"a", b"b"]
        assert dead.counts() == (1, 0)

    def test_of_which_a_part_is_gone_stay_and_what_was_put_back_is_not_again(
        self, dead: LetterQueue, retries: LetterQueue, kinesis: Any, stream: str, run: Any
    ) -> None:
        kinesis.put_record(StreamName=stream, Data=b"a", PartitionKey="k")
        found, shard, arn = everything(kinesis, stream)
        where = {"shardId": shard, "streamArn": arn, "batchSize": 3}
        dead.put(json.dumps(document(startSequenceNumber=found[0], endSequenceNumber=found[0], **where)))

        first = run(dead, "--to-queue", retries.name)
        run(dead, "--to-queue", retries.name)

        assert first.code == 1
        assert "1 are gone for good" in first.err
        assert "2 records of the batch's 3" in first.err
        assert [one.data for one in retries.envelopes()] == [b"a"]
        assert dead.counts() == (1, 0)


class TestAFifoDeadLetterQueue:
    def test_whose_groups_show_only_their_first_messages_is_emptied_in_rounds(
        self, sqs: Any, retries: LetterQueue, run: Any
    ) -> None:
        dead = LetterQueue(sqs, fifo=True)
        dead.put(*(letter(n) for n in range(25)))

        said = run(dead, "--to-queue", retries.name)

        assert said.code == 0
        assert numbers(retries.envelopes()) == list(range(25))
        assert dead.counts() == (0, 0)

    def test_what_stands_behind_letters_that_stay_is_told_of_and_nothing_else_can_be_said(
        self, sqs: Any, retries: LetterQueue, run: Any
    ) -> None:
        dead = LetterQueue(sqs, fifo=True)
        dead.put(*(letter(n, error="Reject: early" if n < 12 else "Reject: late") for n in range(15)))

        planned = run(dead, "--to-queue", retries.name, "--error", "late", "--dry-run", yes=False)
        nothing = run(dead, "--to-queue", retries.name, "--error", "late", "--json")
        first = run(dead, "--to-queue", retries.name, "--error", "early")
        second = run(dead, "--to-queue", retries.name, "--error", "late")

        assert "about 5 more were not seen" in planned.err
        assert (nothing.code, json.loads(nothing.out)["hidden"], json.loads(nothing.out)["put_back"]) == (1, 5, 0)
        assert "about 5 more were not seen" in nothing.err
        assert "put back 12 letters" in first.err
        assert (second.code, "more were not seen" in second.err) == (0, False)
        assert numbers(retries.envelopes()) == list(range(15))


def test_more_letters_than_are_held_at_once_go_in_rounds(dead: LetterQueue, retries: LetterQueue, run: Any) -> None:
    dead.put(*(letter(n, key=f"c-{n}") for n in range(25)))

    said = run(dead, "--to-queue", retries.name, "--at-once", "10")

    assert said.code == 0
    assert sorted(numbers(retries.envelopes())) == list(range(25))


def test_a_hold_is_renewed_while_it_waits_for_its_turn(
    dead: LetterQueue, retries: LetterQueue, run: Any, sqs: Any
) -> None:
    """Held for two seconds, put back in four: without renewal somebody else would be given them."""
    dead.put(*(letter(n) for n in range(8)))

    said = run(dead, "--to-queue", retries.name, "--hold", "2", "--rate", "2")

    assert said.code == 0
    assert numbers(retries.envelopes()) == list(range(8))
    assert dead.counts() == (0, 0)


def test_letters_that_are_lost_while_they_are_held_are_not_put_back(
    dead: LetterQueue, retries: LetterQueue, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has them may put back an earlier one of the key; so all is taken anew, a few times."""
    dead.put(letter(1), letter(2))
    monkeypatch.setattr(QueueLetters, "renew", lambda letters: False)

    said = run(dead, "--to-queue", retries.name)

    assert said.code == 1
    assert "letters are lost while they are held: is somebody else reading this queue?" in said.err
    assert (dead.counts(), retries.counts()) == ((2, 0), (0, 0))


def test_a_run_that_is_told_to_stop_gives_back_what_it_has_not_put_back(
    dead: LetterQueue, retries: LetterQueue, tmp_path: Path, moto_endpoint: str
) -> None:
    dead.put(*(letter(n) for n in range(30)))
    with started(tmp_path, moto_endpoint, dead, retries, "--rate", "5") as process:
        wait_until(lambda: retries.counts()[0] >= 2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "stopping after the request in hand" in err
    put_back = numbers(retries.envelopes())
    assert dead.counts() == (30 - len(put_back), 0)
    assert put_back == list(range(len(put_back)))


def started(
    folder: Path, endpoint: str, dead: LetterQueue, retries: LetterQueue, *arguments: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("redrive", dead.url, "--to-queue", retries.url, "--yes", *arguments),
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come about"
        # What it asks is a server in this process, which has to get on.
        time.sleep(0.1)


@pytest.mark.parametrize(("answer", "is_put_back"), [("n", False), ("y", True)])
def test_in_a_terminal_it_asks_first(
    dead: LetterQueue, retries: LetterQueue, tmp_path: Path, moto_endpoint: str, answer: str, is_put_back: bool
) -> None:
    dead.put(letter(1), letter(2, key="c-2"))
    terminal, other = pty.openpty()
    with subprocess.Popen(
        command("redrive", dead.url, "--to-queue", retries.url),
        cwd=tmp_path,
        env={**os.environ, **ENVIRONMENT, "AWS_ENDPOINT_URL": moto_endpoint},
        stdin=other,
        stdout=subprocess.DEVNULL,
        stderr=other,
    ) as process:
        os.close(other)
        shown = ""
        while "[y/N]" not in shown:
            shown += os.read(terminal, 10_000).decode()
        assert "2 letters of 2 keys" in shown
        assert "2  orders: KeyError" in shown
        os.write(terminal, f"{answer}\n".encode())
        while process.poll() is None:
            with contextlib.suppress(OSError):  # The terminal of a process that has ended.
                shown += os.read(terminal, 10_000).decode()
    os.close(terminal)

    assert process.returncode == (0 if is_put_back else 1)
    assert retries.counts() == (2 if is_put_back else 0, 0)
    assert dead.counts() == (0 if is_put_back else 2, 0)


@pytest.mark.parametrize(("facts", "key"), [({"SequenceNumber": "18850"}, "c-7"), ({}, None)])
def test_what_a_queues_redrive_policy_has_moved_keeps_the_order_of_its_group_where_the_queue_has_one(
    facts: dict[str, str], key: str | None
) -> None:
    # moto does not tell where a message was moved from.
    moved = {"DeadLetterQueueSourceArn": "arn:aws:sqs:us-east-1:123456789012:retries", "MessageGroupId": "c-7"}

    held = _held({"MessageId": "m-1", "Body": "plain", "Attributes": moved | facts})

    (found,) = read(held.message)
    assert isinstance(found, Envelope)
    assert found.partition_key == key


class TestJournal:
    def test_knows_a_later_life_of_an_event_by_either_its_redrives_or_its_time(self) -> None:
        journal = Journal(":memory:", "source")
        first = letter(1, redrives=1, time="2026-05-01T12:00:01.000Z")
        journal.confirm([entry_of(first)], 0.0)

        def was_sent(**fields: Any) -> bool:
            same: dict[str, Any] = {"redrives": 1, "time": "2026-05-01T12:00:01.000Z"}
            return journal.sent(entry_of(letter(1, **same | fields)))

        assert was_sent()
        assert was_sent(redrives=0)
        assert was_sent(time="2026-05-01T12:00:00.000Z")
        assert not was_sent(redrives=2)
        assert not was_sent(time="2026-05-01T12:00:02.000Z")
        assert not was_sent(processor="invoices")
        assert not was_sent(data=b"{}")
        assert not was_sent(event_id="orders/shardId-000000000000:1:1")
        journal.close()

    def test_knows_what_lay_elsewhere_by_itself_and_is_its_owners_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "state.sqlite"
        for source, was_sent in (("here", False), ("here", True), ("there", False)):
            journal = Journal(str(path), source)
            assert journal.sent(entry_of(letter(1))) is was_sent
            journal.confirm([entry_of(letter(1))], 0.0)
            journal.close()

        assert stat.S_IMODE(path.stat().st_mode) == 0o600


class TestSpool:
    def test_no_two_letters_of_a_key_are_in_one_request(self) -> None:
        spool = Spool()
        for number in range(6):
            one = letter(number, key="a" if number % 2 else "b")
            spool.add(f"m-{number}", one, entry_of(one), None, was_sent=False)
        spool.arrange()

        turns = []
        while batch := spool.next(10):
            turns.append([int(one.envelope.sequence_number or 0) for one in batch])
            spool.done([one.number for one in batch])
        spool.close()

        assert turns == [[0, 1], [2, 3], [4, 5]]

    def test_one_that_died_after_what_was_put_back_more_often_is_no_copy_of_it(self) -> None:
        spool = Spool()
        for name, one in (
            ("m-1", letter(1, redrives=1)),
            ("copy", letter(1, redrives=0)),
            ("m-2", letter(1, redrives=0, time="2026-05-01T12:05:00.000Z")),
        ):
            spool.add(name, one, entry_of(one), None, was_sent=False)
        spool.arrange()

        assert (spool.count("ready"), spool.count("copy")) == (2, 1)
        spool.close()

    def test_a_message_is_settled_when_nothing_of_it_stays(self) -> None:
        spool = Spool()
        first, second = letter(1), letter(2)
        spool.add("document", first, entry_of(first), None, was_sent=False)
        spool.add("document", second, entry_of(second), None, was_sent=False)
        spool.arrange()

        (one,) = spool.next(10)
        spool.done([one.number])
        assert spool.settled() == []
        (two,) = spool.next(10)
        spool.done([two.number])
        assert spool.settled() == ["document"]
        spool.leave("document")
        assert spool.settled() == []
        spool.close()


def test_a_journal_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x" * 5000)

    for is_read_only in (False, True):
        with pytest.raises(StreamkitError, match="--state names another"):
            Journal(str(tmp_path / "notes.txt"), "source", is_read_only=is_read_only)


def test_what_redrive_sends_opens_as_an_envelope() -> None:
    assert open_envelope(letter(1).put_back().encode()) is not None
