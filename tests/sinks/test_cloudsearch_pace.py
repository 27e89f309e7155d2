"""CloudSearchSink slows down and sends less when the domain has too much: what the stand-in saw, and when."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cloudsearch import CloudSearchServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit import Record, RecordProcessor, Refusal, Write, lambda_handler
from streamkit.sinks.cloudsearch import CloudSearchSink
from streamkit.sinks.pacing import RequestSize
from streamkit.testing.events import kinesis_event

from .conftest import Clock

pytestmark = pytest.mark.usefixtures("aws_credentials")

OVERLOADED: list[dict[str, Any]] = [{"status": status} for status in (429, 500, 503, 507, 509)] + [{"drop": True}]


@pytest.fixture(scope="module")
def domain() -> Iterator[CloudSearchServer]:
    with CloudSearchServer({"name": "text", "n": "int"}) as server:
        yield server


@pytest.fixture
def server(domain: CloudSearchServer) -> CloudSearchServer:
    domain.reset()
    return domain


@pytest.fixture
def sink(server: CloudSearchServer) -> Iterator[CloudSearchSink]:
    sink = CloudSearchSink(server.endpoint)
    yield sink
    sink.close()


def write(sink: CloudSearchSink, *writes: Write, within: float = 60.0) -> list[Refusal]:
    """One invocation's request."""
    return sink.write(writes, deadline=time.monotonic() + within)


def kinds(refusals: list[Refusal]) -> set[str]:
    return {refusal.kind for refusal in refusals}


def tenth(sink: CloudSearchSink) -> None:
    """All sizes a tenth of what they are, which the stand-in takes in a tenth of the time."""
    sink._size = RequestSize(500_000, least=10_000, step=50_000)


def gaps(server: CloudSearchServer) -> list[float]:
    """Seconds between the uploads that the server saw."""
    times = [upload.at for upload in server.uploads]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


# The pace


@pytest.mark.parametrize("fault", OVERLOADED)
def test_the_next_invocation_of_the_container_keeps_to_the_pace(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer, fault: dict[str, Any]
) -> None:
    server.fail(**fault, times=6)
    for n in range(6):
        assert kinds(write(sink, sink.document(n, {"n": n}), within=1.0 if n == 0 else 10.0)) <= {"unavailable"}
        if len(server.uploads) >= 6:
            break

    assert write(sink, sink.document("next", {"n": 1})) == []
    assert write(sink, sink.document("next-2", {"n": 2})) == []

    # 0.25, 0.5, 1, 2, 4, 8 s, half of each random; then a little less after each success.
    for gap, most in zip(gaps(server), (0.25, 0.5, 1, 2, 4, 8), strict=False):
        assert most / 2 <= gap <= max(most, 1.0)
    # Where chance made the first gaps short, the last invocation of those had time for a seventh request.
    assert gaps(server)[5] >= 0.99 * 8 / 2
    assert 1.5 <= gaps(server)[6] <= 3.1
    assert set(server.documents()) >= {"next", "next-2"}


def test_without_time_to_wait_nothing_is_sent_and_nothing_slept(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.fail(507, times=1000)
    made = sink.document("a", {"n": 1})
    assert kinds(write(sink, made, within=30)) == {"unavailable"}
    seen, slept, before = len(server.uploads), len(clock.sleeps), clock.now

    for _ in range(100):
        (refusal,) = write(sink, made, within=1.5)
        assert refusal.kind == "unavailable"

    assert (len(server.uploads), len(clock.sleeps), clock.now) == (seen, slept, before)
    assert "s first" in str(refusal.error)


def test_time_between_invocations_counts_so_that_short_ones_get_on(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.fail(507, times=20)
    made = sink.document("a", {"n": 1})
    invocations = 0
    while write(sink, made, within=2):
        invocations += 1
        clock.now += 5

    assert set(server.documents()) == {"a"}
    assert 20 <= invocations + 1 <= 45
    assert all(gap <= 15 for gap in gaps(server))


def test_success_brings_the_full_pace_back(clock: Clock, sink: CloudSearchSink, server: CloudSearchServer) -> None:
    server.fail(509, times=7)
    for n in range(40):
        assert write(sink, sink.document(n, {"n": n})) == []

    seen = gaps(server)
    assert max(seen) >= 4
    assert all(gap > 0 for gap in seen[:20]), "little by little"
    assert seen[-10:] == [0] * 10
    assert sum(seen[7:]) < 40, "and what is left of the slow-down costs less than another invocation"


def test_batches_of_one_request_keep_to_the_pace_too(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    tenth(sink)
    server.fail(503, times=4)

    assert write(sink, *(sink.document(n, {"name": "x" * 90_000}) for n in range(12))) == []

    assert [upload.status for upload in server.uploads] == [503] * 4 + [200] * 3
    assert all(gap > 0 for gap in gaps(server))
    assert len(server.documents()) == 12


@pytest.mark.parametrize("status", [400, 403, 404])
def test_what_is_no_overload_slows_nothing_down(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer, status: int
) -> None:
    server.fail(status)
    write(sink, sink.document("a", {"n": 1}))
    assert write(sink, sink.document("b", {"n": 1})) == []

    assert clock.sleeps == []


@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)
@given(
    faults=st.lists(st.sampled_from([200, 429, 500, 503, 507, 509]), max_size=25),
    invocations=st.lists(st.tuples(st.floats(-2, 40), st.floats(0, 5)), min_size=1, max_size=6),
)
def test_it_never_waits_past_the_deadline_and_answers_for_every_write(
    clock: Clock, client: Any, server: CloudSearchServer, faults: list[int], invocations: list[tuple[float, float]]
) -> None:
    server.reset()
    for status in faults:
        server.fail(0 if status == 200 else status)
    sink = CloudSearchSink("unused", client=client)
    for n, (within, pause) in enumerate(invocations):
        begun, seen = clock.now, len(server.uploads)
        made = sink.document(n, {"n": n})

        refusals = write(sink, made, within=within)

        assert (str(n) in server.documents()) != bool(refusals)
        assert kinds(refusals) <= {"unavailable"}
        sent = [upload.at for upload in server.uploads[seen:]]
        assert sent == sorted(sent)
        # All but a first one without a wait leave a second for the answer.
        assert all(at <= begun + within - 1 + 1e-6 for at in sent if at > begun)
        assert clock.now <= max(begun, begun + within)
        clock.now += pause


class Context:
    """Lambda's, of an invocation that has so many seconds."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.ends = clock, clock.now + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self.ends - self.clock.now) * 1000)


def test_a_function_answers_at_once_while_its_domain_is_to_be_left_alone(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    class Documents(RecordProcessor):
        search = sink

        def process(self, record: Record) -> Write:
            return self.search.document(record.json()["id"], {"n": 1})

    handler = lambda_handler(Documents)
    event = kinesis_event([{"id": n} for n in range(3)])
    first = event["Records"][0]["kinesis"]["sequenceNumber"]
    server.fail(507, times=1000)
    assert handler(event, Context(clock, 30)) == {"batchItemFailures": [{"itemIdentifier": first}]}
    seen, now = len(server.uploads), clock.now
    assert seen >= 5

    assert handler(event, Context(clock, 5)) == {"batchItemFailures": [{"itemIdentifier": first}]}
    assert (len(server.uploads), clock.now) == (seen, now), "nothing asked, nothing slept"

    server.recover()
    assert handler(event, Context(clock, 30)) == {"batchItemFailures": []}
    assert 4 <= server.uploads[-1].at - server.uploads[-2].at <= 10
    assert set(server.documents()) == {"0", "1", "2"}


# The size


def test_a_batch_of_full_size_is_halved_until_it_is_taken(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.fail(507, over=2_000_000, times=1000)

    assert write(sink, *(sink.document(n, {"name": "x" * 999_000}) for n in range(4))) == []

    assert [round(upload.size / 1_000_000) for upload in server.uploads] == [4, 1, 2, 1]
    assert len(server.documents()) == 4


@pytest.mark.parametrize(
    "fault",
    [{"status": status} for status in (408, 413, 504, 507, 509)] + [{"delay": 1.7}],
    ids=["408", "413", "504", "507", "509", "no answer in time"],
)
def test_batches_get_smaller_until_they_are_taken_and_larger_again(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer, fault: dict[str, Any]
) -> None:
    tenth(sink)
    server.fail(**fault, over=100_000, times=1000)
    # Of 3.9 s, a request has 1.5 s to be answered.
    within = 3.9 if "delay" in fault else 60.0
    writes = [sink.document(n, {"name": "x" * 9_900}) for n in range(40)]
    left = set(map(id, writes))
    for _ in range(30):
        refusals = write(sink, *(one for one in writes if id(one) in left), within=within)
        left = {id(refusal.write) for refusal in refusals}
        assert kinds(refusals) <= {"unavailable"}
        if not left:
            break
        clock.now += 10

    assert not left
    assert len(server.documents()) == 40
    refused = [upload.size for upload in server.uploads if upload.size > 100_000]
    taken = [upload.size for upload in server.uploads if upload.size <= 100_000]
    assert 1 <= len(refused) <= 12
    assert refused[0] > 390_000
    assert max(taken) >= 45_000, "no smaller than there is reason for"

    server.recover()
    for _ in range(12):
        clock.now += 60
        assert write(sink, *(sink.document(n, {"name": "x" * 9_900}) for n in range(49))) == []
    assert server.uploads[-1].size > 480_000, "as large as ever"


def test_a_failure_that_is_not_of_size_leaves_the_size(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    server.fail(503, times=3)

    assert write(sink, *(sink.document(n, {"name": "x" * 9_900}) for n in range(40))) == []

    assert len({upload.size for upload in server.uploads}) == 1


def test_batches_stay_in_order_when_they_are_cut(
    clock: Clock, sink: CloudSearchSink, server: CloudSearchServer
) -> None:
    tenth(sink)
    server.fail(507, over=30_000, times=1000)

    assert write(sink, *(sink.document(n, {"name": "x" * 4_900}) for n in range(60)), within=120) == []

    taken = [doc_id for upload in server.uploads if upload.status == 200 for _, doc_id in upload.operations]
    assert taken == [str(n) for n in range(60)]
