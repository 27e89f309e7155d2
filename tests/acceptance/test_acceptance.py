"""The system from outside: events into the stream, and then a look into the table, the indexes and the queues."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from .world import World, eventually

# The first of them waits for the stage: servers start, packages are built, stacks are made.
pytestmark = pytest.mark.timeout(900)


def flight(id: str, kind: str = "flight", **fields: Any) -> dict[str, Any]:  # noqa: A002  # The column's name.
    return {"type": kind, "id": id, "origin": "DEN", "delay": 5} | fields


def airport(iata: str, name: str) -> dict[str, Any]:
    return {"type": "airport", "iata": iata, "name": name, "city": "Denver", "state": "CO"}


def place(iata: str, name: str, updated_at: int = 1) -> dict[str, Any]:
    return {"type": "place", "iata": iata, "name": name, "updated_at": updated_at}


def ids(run: str, count: int) -> list[str]:
    return [f"{run}-{n:03}" for n in range(count)]


def data_of(letter: dict[str, Any]) -> dict[str, Any]:
    """The event in a dead letter."""
    event: dict[str, Any] = json.loads(base64.b64decode(letter["data"]))
    return event


def letters_of(world: World, function: str, run: str, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def look() -> list[dict[str, Any]]:
        found.extend(world.dead_letters(function, run))
        return found

    return eventually(look, lambda letters: len(letters) >= count, within=120)


def needs(world: World, function: str) -> None:
    if function not in world.functions:
        pytest.skip(f"the stage {world.stage} has no function {function}")


def test_each_event_is_a_row(world: World, run: str) -> None:
    wanted = ids(run, 300)

    world.publish(*map(flight, wanted))

    assert eventually(lambda: world.rows("flights", run), lambda rows: len(rows) >= 300) == wanted


def test_each_event_is_a_row_exactly_once(world: World, run: str) -> None:
    needs(world, "exact")
    wanted = ids(run, 100)

    world.publish(*(flight(one, "exact") for one in wanted))

    assert eventually(lambda: world.rows("exact", run), lambda rows: len(rows) >= 100) == wanted


def test_each_event_is_a_document(world: World, run: str) -> None:
    wanted = [one.replace("-", "") for one in ids(run, 20)]

    world.publish(*(airport(one, f"{run} field") for one in wanted))

    assert eventually(lambda: world.found(run), lambda found: len(found) >= 20) == wanted


def asked(world: World, path: str, query: str) -> dict[str, Any]:
    """What the search API's function answers, by an HTTP API's event."""
    event = {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {},
        "requestContext": {"http": {"method": "GET", "path": path}, "stage": "$default"},
        "isBase64Encoded": False,
    }
    functions = world.session.client("lambda")
    try:
        answer = functions.invoke(
            FunctionName=f"streamkit-{world.stage}-search-api", Payload=json.dumps(event).encode()
        )
    except functions.exceptions.ResourceNotFoundException:
        pytest.skip(f"the stage {world.stage} has no search API")
    answered = json.load(answer["Payload"])
    assert answered["statusCode"] == 200, answered
    found: dict[str, Any] = json.loads(answered["body"])
    return found


def test_an_airport_that_is_published_is_found_by_the_search_api(world: World, run: str) -> None:
    (iata,) = (one.replace("-", "") for one in ids(run, 1))

    world.publish(airport(iata, f"{run} field"))

    found = eventually(
        lambda: asked(world, "/search", f"q={run}&filter.state=CO&facet=state"), lambda one: one["found"] > 0
    )
    assert [hit["id"] for hit in found["hits"]] == [iata]
    assert found["hits"][0]["fields"] == {"iata": iata, "name": f"{run} field", "city": "Denver", "state": "CO"}
    assert found["facets"] == {"state": [{"value": "CO", "count": 1}]}


def needs_index(world: World) -> None:
    needs(world, "places")
    if world.index is None:
        pytest.skip("only an index of this machine can be looked into")


def test_each_event_is_a_document_of_an_opensearch_index(world: World, run: str) -> None:
    needs_index(world)
    wanted = ids(run, 20)

    world.publish(*(place(one, f"{run} field") for one in wanted))

    found = eventually(lambda: world.indexed("places", run), lambda found: len(found) >= 20)
    assert found == {one: {"iata": one, "name": f"{run} field"} for one in wanted}


def test_what_comes_late_does_not_take_the_place_of_a_later_version(world: World, run: str) -> None:
    needs_index(world)
    one, last = ids(run, 2)

    world.publish(place(one, f"{run} new", 2), place(one, f"{run} old", 1), place(last, f"{run} last"), key=run)

    # The order of a key holds: where the last is there, what came before it was written, or left out.
    found = eventually(lambda: world.indexed("places", run), lambda found: last in found)
    assert {doc_id: document["name"] for doc_id, document in found.items()} == {one: f"{run} new", last: f"{run} last"}
    assert world.dead_letters("places", run) == []


def test_an_event_that_the_index_refuses_is_a_dead_letter_and_its_neighbours_are_documents(
    world: World, run: str
) -> None:
    needs_index(world)
    wanted = ids(run, 5)
    events = [place(one, f"{run} field") for one in wanted]
    events[2]["name"] = {"en": f"{run} field"}

    world.publish(*events, key=run)

    (letter,) = letters_of(world, "places", run, 1)
    assert data_of(letter) == events[2]
    assert "refused the document over its field 'name'" in letter["failures"][-1]["message"]
    found = eventually(lambda: world.indexed("places", run), lambda found: len(found) >= 4)
    assert sorted(found) == wanted[:2] + wanted[3:]


def test_an_event_that_can_never_be_a_row_is_a_dead_letter_and_its_neighbours_are_rows(world: World, run: str) -> None:
    wanted = ids(run, 9)
    events = [flight(one) for one in wanted]
    events[4]["delay"] = "late"

    world.publish(*events, key=run)

    (letter,) = letters_of(world, "flights", run, 1)
    assert data_of(letter) == events[4], "with all of its data"
    assert letter["partition_key"] == run
    assert "delay" in letter["failures"][-1]["message"] or "late" in letter["failures"][-1]["message"]
    assert eventually(lambda: world.rows("flights", run), lambda rows: len(rows) >= 8) == wanted[:4] + wanted[5:]


def test_an_event_that_fails_is_tried_three_times_more_and_then_a_dead_letter(world: World, run: str) -> None:
    events = [flight(one) for one in ids(run, 5)]
    del events[2]["origin"]

    world.publish(*events, key=run)

    (letter,) = letters_of(world, "flights", run, 1)
    assert data_of(letter) == events[2]
    assert [failure["type"] for failure in letter["failures"]] == ["MissingField"] * 4
    assert len(eventually(lambda: world.rows("flights", run), lambda rows: len(rows) >= 4)) == 4


def test_a_key_that_is_parked_waits_in_order_and_holds_no_other(world: World, run: str) -> None:
    needs(world, "parked")
    events = [flight(one, "parked") for one in ids(run, 4)]
    del events[1]["origin"]

    world.publish(*events, key=run)
    eventually(lambda: world.rows("parked", run), bool)
    world.publish(flight(f"{run}-later", "parked"), key=run)
    world.publish(flight(f"{run}-other", "parked"))

    wanted = [events[0]["id"], f"{run}-other"]
    assert eventually(lambda: world.rows("parked", run), lambda rows: len(rows) >= 2) == wanted
    # What waits does so behind the one that fails, which the queue brings again when its visibility time-out is over.

    def pending() -> int:
        return sum(name.startswith("+") for item in world.items("parked", "Parked") for name in item)

    assert eventually(pending, lambda ids: ids >= 4) == 4
    assert world.rows("parked", run) == wanted
    assert world.dead_letters("parked", run) == []


def test_what_fails_behind_a_topic_ends_among_the_dead_letters_too(world: World, run: str) -> None:
    needs(world, "by-topic")
    events = [flight(one, "by-topic") for one in ids(run, 3)]
    del events[1]["origin"]

    world.publish(*events)

    assert len(eventually(lambda: world.rows("by-topic", run), lambda rows: len(rows) >= 2)) == 2
    # It is Lambda that gives up, and puts there what the topic has brought.
    found: list[dict[str, Any]] = []

    def look() -> list[dict[str, Any]]:
        found.extend(world.dead_letters("by-topic", run))
        return found

    (letter,) = eventually(look, bool)
    assert data_of(json.loads(letter["Records"][0]["Sns"]["Message"])) == events[1]


def test_what_lambda_gives_up_is_a_dead_letter_with_its_data(world: World, run: str) -> None:
    needs(world, "strict")
    events = [flight(one, "strict") for one in ids(run, 3)]
    del events[2]["origin"]

    world.publish(*events, key=run)

    letters = letters_of(world, "strict", run, 1)
    assert events[2] in [data_of(letter) for letter in letters]
    assert {letter["failures"][-1]["type"] for letter in letters} == {"RetryAttemptsExhausted"}
    rows = eventually(lambda: world.rows("strict", run), lambda rows: len(set(rows)) >= 2)
    assert set(rows) == {events[0]["id"], events[1]["id"]}


def test_an_outage_of_the_index_delays_and_loses_nothing(world: World, run: str) -> None:
    if world.breakable is None:
        pytest.skip("only an index of this machine can be told to fail")
    wanted = [one.replace("-", "") for one in ids(run, 10)]
    world.breakable.fail(507, times=4)

    world.publish(*(airport(one, f"{run} field") for one in wanted))

    assert eventually(lambda: world.found(run), lambda found: len(found) >= 10, within=120) == wanted
    assert world.dead_letters("airports", run) == []
    assert world.messages(world.output("airports", "Retries"), run) == []


def test_an_event_is_handed_on(world: World, run: str) -> None:
    needs(world, "fan")
    events = [{"type": "order", "id": one} for one in ids(run, 12)]
    orders = world.session.client("sqs").get_queue_url(QueueName="orders")["QueueUrl"]
    found: list[dict[str, Any]] = []

    world.publish(*events)

    def look() -> list[dict[str, Any]]:
        found.extend(world.messages(orders, run))
        return found

    eventually(look, lambda messages: len(messages) >= 12)
    assert sorted(message["id"] for message in found) == [event["id"] for event in events]


def test_a_heartbeat_goes_the_whole_way_and_is_told_of_outside(world: World) -> None:
    if world.pings is None:
        pytest.skip("what is outside is asked on this machine only")
    name = f"streamkit-{world.stage}-heartbeat"

    answer = world.session.client("lambda").invoke(FunctionName=name, Payload=b"{}")

    assert "FunctionError" not in answer, answer["Payload"].read()
    # One from each shard of the stream.
    assert len(eventually(lambda: set(world.pings or ()), lambda pings: len(pings) >= 2)) == 2
    assert {ping.partition("?")[0] for ping in world.pings} == {"/flights"}


def test_functions_write_what_they_did_and_no_payload_into_their_logs(world: World, run: str) -> None:
    world.publish(flight(f"{run}-secret", origin="confidential"))
    eventually(lambda: world.rows("flights", run), bool)
    logs = world.session.client("logs")
    group = f"/aws/lambda/streamkit-{world.stage}-flights"

    def look() -> str:
        return "\n".join(
            event["message"]
            for stream in logs.describe_log_streams(logGroupName=group)["logStreams"]
            for event in logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
        )

    def is_measured(log: str) -> bool:
        return '"Namespace":"streamkit"' in log and '"Records":1,' in log

    log = eventually(look, is_measured)
    assert is_measured(log), "a line of metrics for each batch"
    assert "confidential" not in log
