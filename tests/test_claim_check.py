"""A message whose body is in a store: what the handler does with it, whatever became of the body."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamkit import Block, Divert, Record, RecordProcessor, lambda_handler
from streamkit.claims.base import VERSION, Claim, open_claim
from streamkit.envelope import Envelope, open_envelope
from streamkit.errors import DecodeError, QueueError, Unavailable, UnknownVersion
from streamkit.policy import Policy
from streamkit.queues.base import Queue
from streamkit.testing import MemoryClaims, MemoryQueue

EVENT_ID = "orders/shardId-000000000001:4959:0"
CLAIM = Claim(bucket="memory", key="k", event_id=EVENT_ID, bytes=4, sha256="00" * 32)


class Noting(RecordProcessor):
    """Writes down what it is given."""

    name = "noting"

    def __init__(self, policy: Policy, error: Exception | None = None) -> None:
        self.on_failure = policy
        self.error = error
        self.seen: list[tuple[str, bytes, int | None]] = []

    def process(self, record: Record) -> None:
        self.seen.append((record.event_id, record.data, record.attempt))
        if self.error is not None:
            raise self.error


def with_claims(store: MemoryClaims, dead_letters: Queue | None = None) -> Policy:
    queue = MemoryQueue()
    queue.claims = store
    return Divert(queue, dead_letters)


def envelope(data: bytes = b"data", attempts: int = 1) -> str:
    return Envelope(
        event_id=EVENT_ID, source="kinesis", processor="noting", data=data, attempts=attempts, partition_key="k"
    ).encode()


def claim_of(store: MemoryClaims, body: str) -> str:
    return store.put(body, EVENT_ID, deadline=float("inf"))


def sqs(*bodies: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"m-{n}",
                "body": body,
                "attributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:retries",
            }
            for n, body in enumerate(bodies)
        ]
    }


def sns(body: str) -> dict[str, Any]:
    return {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "n-1", "Message": body}}]}


def answered(*places: int) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": f"m-{n}"} for n in places]}


class TestAClaim:
    @pytest.mark.parametrize("event", [sqs, sns])
    def test_is_the_record_whose_envelope_it_stands_for(self, event: Callable[[str], Any]) -> None:
        store = MemoryClaims()
        noting = Noting(with_claims(store))

        assert lambda_handler(noting)(event(claim_of(store, envelope())), None) == answered()

        assert noting.seen == [(EVENT_ID, b"data", 3 if event is sqs else None)]

    def test_of_a_body_that_is_no_envelope_is_a_record_of_that_data(self) -> None:
        store = MemoryClaims()
        noting = Noting(with_claims(store))

        lambda_handler(noting)(sqs(claim_of(store, "plain")), None)

        assert noting.seen == [(EVENT_ID, b"plain", 2)]

    def test_is_opened_by_the_dead_letters_store_where_the_retry_queue_has_none(self) -> None:
        store, dead_letters = MemoryClaims(), MemoryQueue()
        dead_letters.claims = store
        noting = Noting(Block(dead_letters))

        assert lambda_handler(noting)(sqs(claim_of(store, envelope())), None) == answered()

    def test_is_opened_by_the_store_of_its_bucket(self) -> None:
        ours, theirs = MemoryClaims("ours"), MemoryClaims("theirs")
        dead_letters = MemoryQueue()
        dead_letters.claims = theirs
        noting = Noting(with_claims(ours, dead_letters))

        event = sqs(claim_of(theirs, envelope(b"theirs")), claim_of(ours, envelope(b"ours")))
        assert lambda_handler(noting)(event, None) == answered()

        assert [data for _, data, _ in noting.seen] == [b"theirs", b"ours"]

    def test_that_fails_again_is_sent_with_what_was_in_the_envelope(self) -> None:
        store, dead_letters = MemoryClaims(), MemoryQueue()
        noting = Noting(with_claims(store, dead_letters), ValueError("bad"))

        assert lambda_handler(noting)(sqs(claim_of(store, envelope(attempts=2))), None) == answered()

        (letter,) = dead_letters
        assert (letter.event_id, letter.data, letter.attempts) == (EVENT_ID, b"data", 3)


class TestABodyThatCanNotBeFetchedNow:
    @pytest.fixture
    def store(self) -> MemoryClaims:
        return MemoryClaims()

    def test_leaves_its_message_where_it_is_and_counts_no_attempt(self, store: MemoryClaims) -> None:
        dead_letters = MemoryQueue()
        policy = with_claims(store, dead_letters)
        noting = Noting(policy)
        event = sqs("plain", claim_of(store, envelope()), "other")
        store.fail(ConnectionError("away"))
        handler = lambda_handler(noting)

        for _ in range(5):
            assert handler(event, None) == answered(1)

        assert isinstance(policy.queue, MemoryQueue)
        assert (len(policy.queue), len(dead_letters)) == (0, 0)
        store.fail(None)
        assert handler(event, None) == answered()
        assert (EVENT_ID, b"data", 3) in noting.seen

    def test_says_which_object_of_which_bucket(self, store: MemoryClaims, caplog: pytest.LogCaptureFixture) -> None:
        body = claim_of(store, envelope())
        store.fail(ConnectionError("away"))

        lambda_handler(Noting(with_claims(store)))(sqs(body), None)

        (key,) = store.objects
        assert f"s3://memory/{key}" in caplog.text
        assert f"record {EVENT_ID} stays where it is" in caplog.text

    def test_is_asked_for_once_while_the_store_is_away(self, store: MemoryClaims) -> None:
        asked: list[str] = []

        class Counting(MemoryClaims):
            def _get(self, key: str, length: int, deadline: float) -> bytes | None:
                asked.append(key)
                raise ConnectionError("away")

        event = sqs(*(claim_of(store, envelope(bytes([n]))) for n in range(10)))

        assert lambda_handler(Noting(with_claims(Counting())))(event, None) == answered(*range(10))

        assert len(asked) == 1

    def test_is_one_of_a_policy_without_a_store_which_says_what_to_write(
        self, store: MemoryClaims, caplog: pytest.LogCaptureFixture
    ) -> None:
        noting = Noting(Divert(MemoryQueue(), MemoryQueue()))

        assert lambda_handler(noting)(sqs(claim_of(store, envelope())), None) == answered(0)

        assert 'claims=S3Claims("memory")' in caplog.text

    def test_is_one_of_another_bucket_whatever_the_function_may_read(self, store: MemoryClaims) -> None:
        noting = Noting(with_claims(store, MemoryQueue()))

        assert lambda_handler(noting)(sqs(claim_of(MemoryClaims("another"), envelope())), None) == answered(0)

        assert noting.seen == []

    def test_of_another_bucket_takes_no_neighbour_down(self, store: MemoryClaims) -> None:
        noting = Noting(with_claims(store, MemoryQueue()))
        event = sqs(claim_of(MemoryClaims("another"), envelope()), claim_of(store, envelope(b"here")))

        assert lambda_handler(noting)(event, None) == answered(0)

        assert [data for _, data, _ in noting.seen] == [b"here"]

    def test_because_the_store_says_no_takes_no_neighbour_down(self) -> None:
        class Guarded(MemoryClaims):
            forbidden = ""

            def _get(self, key: str, length: int, deadline: float) -> bytes | None:
                if key == self.forbidden:
                    raise Unavailable("AccessDenied")
                return super()._get(key, length, deadline)

        store = Guarded()
        noting = Noting(with_claims(store, MemoryQueue()))
        event = sqs(claim_of(store, envelope(b"not this")), claim_of(store, envelope(b"here")))
        store.forbidden = next(iter(store.objects))

        assert lambda_handler(noting)(event, None) == answered(0)

        assert [data for _, data, _ in noting.seen] == [b"here"]

    def test_of_a_store_that_is_away_takes_none_of_another_store_down(self, store: MemoryClaims) -> None:
        other, dead_letters = MemoryClaims("other"), MemoryQueue()
        dead_letters.claims = other
        noting = Noting(with_claims(store, dead_letters))
        event = sqs(claim_of(store, envelope()), claim_of(other, envelope(b"here")))
        store.fail(ConnectionError("away"))

        assert lambda_handler(noting)(event, None) == answered(0)

        assert [data for _, data, _ in noting.seen] == [b"here"]

    def test_is_one_of_an_unknown_version(self, store: MemoryClaims) -> None:
        body = json.dumps(json.loads(claim_of(store, envelope())) | {"streamkit_claim": VERSION + 1})

        assert lambda_handler(Noting(with_claims(store, MemoryQueue())))(sqs(body), None) == answered(0)

    def test_is_one_beyond_the_memory_that_a_batch_may_take(
        self, store: MemoryClaims, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("streamkit.claim_check._MOST_BYTES", 3000)
        event = sqs(*(claim_of(store, envelope(bytes([n]) * 1000)) for n in range(4)))

        # The envelopes have some 1,700 bytes each, and the first is fetched whatever its size.
        assert lambda_handler(Noting(with_claims(store)))(event, None) == answered(1, 2, 3)

    def test_is_one_for_which_there_is_no_time(self) -> None:
        asked: list[str] = []

        class Watched(MemoryClaims):
            def _get(self, key: str, length: int, deadline: float) -> bytes | None:
                asked.append(key)
                return super()._get(key, length, deadline)

        class Context:
            def get_remaining_time_in_millis(self) -> int:
                return 500  # Less than the margin.

        store = Watched()
        event = sqs(*(claim_of(store, envelope(bytes([n]))) for n in range(3)))

        assert lambda_handler(Noting(with_claims(store)))(event, Context()) == answered(1, 2)

        assert len(asked) == 1


class TestABodyThatIsGone:
    def test_goes_to_dead_letters_as_a_claim_that_could_not_be_opened(self, caplog: pytest.LogCaptureFixture) -> None:
        store, dead_letters = MemoryClaims(), MemoryQueue()
        body = claim_of(store, envelope())
        store.objects.clear()

        assert lambda_handler(Noting(with_claims(store, dead_letters)))(sqs(body), None) == answered()

        (letter,) = dead_letters
        assert (letter.event_id, letter.data, letter.undecoded) == (EVENT_ID, None, body)
        claim = open_claim(body)
        assert claim is not None
        assert letter.failures[0].message == (
            f"DecodeError: its body is gone: there is no object s3://memory/{claim.key}"
        )
        assert "there is no object s3://memory/" in caplog.text

    def test_that_was_replaced_does_too(self) -> None:
        store, dead_letters = MemoryClaims(), MemoryQueue()
        body = claim_of(store, envelope())
        store.objects = {key: b"x" * len(content) for key, content in store.objects.items()}

        assert lambda_handler(Noting(with_claims(store, dead_letters)))(sqs(body), None) == answered()

        (letter,) = dead_letters
        assert "is not what was put there" in letter.failures[0].message

    def test_takes_no_neighbour_down(self) -> None:
        store, dead_letters = MemoryClaims(), MemoryQueue()
        gone = claim_of(store, envelope(b"gone"))
        store.objects.clear()
        noting = Noting(with_claims(store, dead_letters))

        lambda_handler(noting)(sqs("a", gone, claim_of(store, envelope(b"here"))), None)

        assert [data for _, data, _ in noting.seen] == [b"a", b"here"]

    def test_without_dead_letters_is_a_failure_of_its_message(self) -> None:
        store = MemoryClaims()
        body = claim_of(store, envelope())
        store.objects.clear()

        assert lambda_handler(Noting(with_claims(store)))(sqs(body), None) == answered(0)


def test_more_than_a_claim_can_stand_for_is_not_put() -> None:
    store = MemoryClaims()

    with pytest.raises(QueueError, match="67,108,864 at most"):
        claim_of(store, "x" * (64 * 1_048_576 + 1))

    assert store.objects == {}


class TestOpenClaim:
    def test_reads_what_was_written(self) -> None:
        assert open_claim(CLAIM.encode()) == CLAIM

    def test_a_claim_is_ascii_whatever_its_id(self) -> None:
        claim = msgspec.structs.replace(CLAIM, event_id="é\ufffe")

        assert claim.encode().isascii()
        assert open_claim(claim.encode()) == claim

    @pytest.mark.parametrize(
        "body", ["", "plain", "streamkit_claim", '{"x": "streamkit_claim"}', "[" * 5000 + "streamkit_claim"]
    )
    def test_takes_nothing_else_for_one(self, body: str) -> None:
        assert open_claim(body) is None

    def test_an_envelope_that_holds_the_word_is_none(self) -> None:
        body = Envelope(event_id="streamkit_claim", source="sqs", processor="p", data=b"x").encode()

        assert open_claim(body) is None
        assert open_envelope(body) is not None

    @pytest.mark.parametrize("version", [0, 2, True, None, "1", 10**400])
    def test_of_an_unknown_version_says_so(self, version: Any) -> None:
        with pytest.raises(UnknownVersion, match="reads version 1"):
            open_claim(json.dumps({"streamkit_claim": version}))

    @pytest.mark.parametrize("change", [{"bucket": None}, {"bytes": -1}, {"bytes": 10**12}, {"sha256": 7}, {"key": []}])
    def test_with_a_fault_is_undecodable(self, change: dict[str, Any]) -> None:
        with pytest.raises(DecodeError, match="with a fault"):
            open_claim(json.dumps(json.loads(CLAIM.encode()) | change))


def test_a_secret_in_the_body_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = MemoryClaims()
    body = claim_of(store, envelope(b"4111-1111-1111-1111"))
    store.objects = {key: content[:-1] for key, content in store.objects.items()}

    lambda_handler(Noting(with_claims(store, MemoryQueue())))(sqs(body), None)

    assert caplog.records
    assert "4111" not in caplog.text
