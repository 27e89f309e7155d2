"""What the console's server answers, and to whom: the real command, over a socket."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from streamkit.checkpoints.sqlite import SqliteCheckpoints

from ..process import error_of
from .conftest import Start
from .shop import HOSTILE, Console, Shop


def until(
    console: Console,
    wanted: Any,
    path: str = "/api/overview",
    seconds: float = 30.0,
    between: Callable[[], object] = lambda: None,
) -> Any:
    """The first answer of ``path`` for which ``wanted`` holds."""
    give_up_at = time.monotonic() + seconds
    while True:
        said = console.get(path)
        if wanted(said):
            return said
        assert time.monotonic() < give_up_at, said
        between()
        time.sleep(0.3)


class TestWhoIsAnswered:
    def test_it_listens_on_the_loopback_address_only(self, console: Console) -> None:
        hexes = {
            line.split()[1]
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if line.split()[3] == "0A" and line.split()[1].endswith(f":{console.port:04X}")
        }

        assert hexes == {f"0100007F:{console.port:04X}"}
        assert console.url.startswith("http://127.0.0.1:")

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:{port}",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "169.254.169.254",
            "",
        ],
    )
    def test_another_host_name_is_refused_for_every_path(self, console: Console, host: str) -> None:
        headers: dict[str, str | None] = {"Host": host.format(port=console.port)}

        for path in ("/", "/console.js", "/api/overview"):
            status, said, _ = console.request("GET", path, headers=headers)
            assert status == 403, path
            assert said == {"error": "this console answers to 127.0.0.1 and localhost only"}

    def test_both_names_of_this_machine_are_answered(self, console: Console) -> None:

        for host in (f"127.0.0.1:{console.port}", f"localhost:{console.port}", "localhost:1234", "localhost"):
            assert console.request("GET", "/api/overview", headers={"Host": host})[0] == 200

    def test_two_host_headers_are_refused(self, console: Console) -> None:
        with socket.create_connection(("127.0.0.1", console.port), timeout=10) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")

            assert raw.recv(100).startswith(b"HTTP/1.1 400 ")

    @pytest.mark.parametrize("token", [None, "", "guessed", "é"])
    def test_without_the_token_nothing_is_told_and_nothing_done(self, console: Console, token: str | None) -> None:
        headers = {"X-Streamkit-Token": token if token is None else token.encode().decode("latin-1")}

        for method, path in (
            ("GET", "/api/overview"),
            ("GET", f"/api/letters?source={console.dead}"),
            ("GET", "/api/redrive"),
            ("POST", "/api/look"),
            ("POST", "/api/redrive"),
        ):
            status, said, _ = console.request(method, path, {"source": console.dead}, headers=headers)
            assert status == 403, path
            assert "open the URL that `streamkit console` has printed" in said["error"]

    def test_a_token_lasts_for_one_start(self, console: Console, start: Start, shop: Shop) -> None:
        one, other = console, start(*shop.arguments())

        assert len(one.token) >= 32
        assert other.request("GET", "/api/overview", headers={"X-Streamkit-Token": one.token})[0] == 403

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:1"},
            {"Sec-Fetch-Site": "cross-site"},
        ],
    )
    def test_another_sites_request_is_refused_even_with_the_token(
        self, console: Console, headers: dict[str, str | None]
    ) -> None:

        assert console.request("POST", "/api/look", {"source": console.dead}, headers=headers)[0] == 403

    def test_a_form_of_another_page_can_send_no_body_that_is_taken(self, console: Console) -> None:

        for kind in ("text/plain", "application/x-www-form-urlencoded", None):
            assert (
                console.request("POST", "/api/look", {"source": console.dead}, headers={"Content-Type": kind})[0] == 415
            )

    def test_the_page_may_load_and_run_nothing_but_its_own_files(self, console: Console) -> None:

        for path in ("/", "/console.js", "/parts.js", "/console.css", "/icon.svg", "/api/overview", "/nothing"):
            _, body, headers = console.request("GET", path)
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Access-Control-Allow-Origin"] is None
            if isinstance(body, bytes):
                text = body.decode().replace("http://www.w3.org/2000/svg", "")
                assert "http://" not in text
                assert "https://" not in text

    @pytest.mark.parametrize("path", ["/page/page.html", "/../answers.py", "/..%2fanswers.py", "/api/", "/api/look"])
    def test_no_other_file_and_no_other_path_is_there(self, console: Console, path: str) -> None:
        assert console.request("GET", path)[0] == 404

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"{", 400),
            (b"[]", 400),
            (b'{"source": 7}', 400),
            (b'{"source": "x", "more": 1}', 400),
            (b"\xff", 400),
            (b"[" * 100_000, 400),
        ],
    )
    def test_a_body_that_is_none_is_an_error_and_the_next_request_is_answered(
        self, console: Console, body: bytes, status: int
    ) -> None:

        assert console.request("POST", "/api/look", body)[0] == status
        assert console.request("GET", "/api/overview")[0] == 200

    def test_a_body_that_is_too_large_is_not_read(self, console: Console) -> None:

        status, _, _ = console.request("POST", "/api/look", headers={"Content-Length": str(10**12)})

        assert status == 413

    @pytest.mark.parametrize("query", ["page=x", "page=1&error=%ff", "since=yesterday", "nothing=1"])
    def test_a_query_that_is_none_is_an_error_that_says_why(self, console: Console, query: str) -> None:
        console.post("/api/look", {"source": console.dead})

        status, said, _ = console.request("GET", f"/api/letters?source={console.dead}&{query}")

        assert status in (400, 409)
        assert said["error"]


class TestTheOverview:
    def test_it_has_shards_with_throughput_queues_with_counts_and_parked_keys(self, start: Start, shop: Shop) -> None:
        shop.fail("a", "b")
        shop.park("customer-7", "customer-8")
        console = start(*shop.arguments(), "--name", "orders", "--ledger", shop.ledger, "--sample", "1")
        shop.put(20)

        def is_complete(view: Any) -> bool:
            shards = view["streams"][0]["shards"]
            return (
                len(shards) == 2
                and all(shard["rate"] for shard in shards)
                and all(queue["waiting"] is not None for queue in view["queues"])
                and view["ledgers"][0]["count"] is not None
            )

        view = until(console, is_complete, between=lambda: shop.put(4))

        (stream,) = view["streams"]
        assert (stream["name"], stream["status"]) == (shop.stream, "ACTIVE")
        assert all(shard["is_open"] and shard["history"] for shard in stream["shards"])
        assert sum(shard["rate"]["records"] for shard in stream["shards"]) > 0
        assert any(shard["newest"] is not None for shard in stream["shards"])
        assert {(one["name"], one["kind"], one["waiting"]) for one in view["queues"]} == {
            (shop.retries, "retries", 0),
            (shop.dead, "dead letters", 2),
        }
        (ledger,) = view["ledgers"]
        assert (ledger["count"], ledger["records"]) == (2, 2)
        assert all(key["oldest_age"] >= 0 and "customer" not in json.dumps(key) for key in ledger["keys"])

    def test_what_it_asks_of_a_stream_stays_far_below_the_readers_limit(self, start: Start, shop: Shop) -> None:
        console = start(*shop.arguments(), "--sample", "0.1")
        until(console, lambda view: view["streams"][0]["shards"])

        rates = []
        for _ in range(20):
            rates.append(console.get("/api/overview")["calls_a_second"])
            time.sleep(0.5)

        assert max(rates) <= 8.5

    def test_a_readers_age_is_that_of_the_first_record_after_its_checkpoint(
        self, start: Start, shop: Shop, tmp_path: Path
    ) -> None:
        shop.put(20)
        store = SqliteCheckpoints(tmp_path / "streamkit.sqlite")
        shard = shop.kinesis.list_shards(StreamName=shop.stream)["Shards"][0]["ShardId"]
        iterator = shop.kinesis.get_shard_iterator(
            StreamName=shop.stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )
        records = shop.kinesis.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
        lease = store.take("orders", shop.stream, shard, "owner", None)
        assert lease is not None
        store.save(lease, int(records[0]["SequenceNumber"]))
        console = start(*shop.arguments(), "--name", "orders", "--sample", "0")

        def mine(view: Any) -> Any:
            return next(
                (one for reader in view["readers"] for one in reader["shards"] if one["shard_id"] == shard), None
            )

        behind = mine(until(console, lambda view: (mine(view) or {}).get("age") is not None))
        arrived = records[1]["ApproximateArrivalTimestamp"].timestamp()
        assert behind["age"] == pytest.approx(time.time() - arrived, abs=2.5)
        assert behind["checkpoint"] == records[0]["SequenceNumber"]
        # Nobody was seen to renew it, which for the first thirty seconds tells nothing.
        assert behind["is_held"] is None

        store.save(lease, int(records[-1]["SequenceNumber"]))
        store.renew(lease)
        done = mine(until(console, lambda view: mine(view)["age"] == 0, seconds=40))
        assert done["is_held"]
        store.close()

    def test_a_stream_or_a_queue_that_is_not_there_is_said_beside_what_is(self, start: Start, shop: Shop) -> None:
        console = start(
            shop.stream, "nowhere", "--dead-letters", shop.dead, "--dead-letters", "gone", "--run", "no.json"
        )

        view = until(
            console,
            lambda one: one["streams"][1]["error"] and one["queues"][1]["error"] and one["streams"][0]["shards"],
        )

        assert "there is no such stream here" in view["streams"][1]["error"]
        assert "there is no such queue here" in view["queues"][1]["error"]
        assert "start one with `streamkit run … --status no.json`" in view["runs"][0]["error"]

    def test_a_table_that_is_no_ledger_is_said_and_so_is_one_that_is_not_there(
        self, start: Start, shop: Shop, dynamodb: Any
    ) -> None:
        other = f"{shop.ledger}-of-others"
        dynamodb.create_table(
            TableName=other,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
        )
        console = start(*shop.arguments(), "--name", "orders", "--ledger", other, "--ledger", "nowhere")

        view = until(console, lambda one: all(ledger["error"] for ledger in one["ledgers"]))

        first, second = (ledger["error"] for ledger in view["ledgers"])
        assert first.startswith(f"table {other}: it is no ledger of Park's, whose keys are `processor` and `group`")
        assert second.startswith("table nowhere: there is no such table here")

    def test_without_names_it_shows_all_streams_and_queues_there_are(self, start: Start, shop: Shop) -> None:
        console = start("--sample", "0")

        view = until(console, lambda one: one["streams"] and one["queues"])

        assert len(view["streams"]) <= 20
        assert len(view["queues"]) <= 50

    def test_an_endpoint_that_is_away_is_said_with_what_to_do_and_credentials_in_its_url_are_not(
        self, start: Start
    ) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            console = start("orders", "--dead-letters", "dead", endpoint=f"http://user:hidden@127.0.0.1:{port}")

            view = until(console, lambda one: one["streams"][0]["error"] and one["queues"][0]["error"])

        assert "is it running and reachable? --endpoint-url names another" in view["streams"][0]["error"]
        assert "hidden" not in json.dumps(view)
        status, said, _ = console.request("POST", "/api/look", {"source": "dead"})
        assert status == 409
        assert "--endpoint-url names another" in said["error"]
        assert "hidden" not in said["error"]


class TestDeadLetters:
    def test_a_page_has_fifty_and_no_payload(self, start: Start, shop: Shop) -> None:
        shop.fail(*(json.dumps({"secret": n}) for n in range(120)))
        console = start(*shop.arguments())

        first = console.post("/api/look", {"source": shop.dead})
        last = console.get(f"/api/letters?source={shop.dead}&page=2")

        assert (first["count"], first["pages"], first["page"], len(first["letters"])) == (120, 3, 0, 50)
        assert (last["page"], len(last["letters"])) == (2, 20)
        assert all("payload" not in one and "fields" not in one for one in first["letters"])
        assert console.get(f"/api/letters?source={shop.dead}&page=99")["page"] == 2
        # Others can have them at once.
        assert shop.sqs.receive_message(QueueUrl=shop.dead_url, VisibilityTimeout=0)["Messages"]

    def test_filters_are_those_of_the_command_line(self, start: Start, shop: Shop) -> None:
        shop.fail("one")
        shop.fail("two", key="customer-2")
        console = start(*shop.arguments())
        console.post("/api/look", {"source": shop.dead})

        def count(query: str) -> Any:
            return console.get(f"/api/letters?source={shop.dead}&{query}")["count"]

        assert [
            count(one) for one in ("key=customer-2", "error=Reject", "error=two", "error=three", "processor=orders")
        ] == [1, 2, 1, 0, 2]
        assert (count("since=2020-01-01"), count("until=2020-01-01")) == (2, 0)

    def test_an_opened_letter_has_its_payload_in_every_form_and_its_history(self, start: Start, shop: Shop) -> None:
        shop.fail('{"id":12345678901234567890}', b"\xff\x00binary", HOSTILE)
        console = start(*shop.arguments())
        look = console.post("/api/look", {"source": shop.dead})["look"]
        letters = [console.get(f"/api/letter?look={look}&number={n}") for n in range(3)]
        payloads = {one["payload"]["size"]: one["payload"] for one in letters}

        exact, binary, hostile = payloads[27], payloads[8], payloads[len(HOSTILE)]
        assert exact["json"] == '{\n  "id": 12345678901234567890\n}'
        assert (binary["json"], binary["text"]) == (None, None)
        assert binary["hex"].startswith("00000000  ff 00 62 69")
        assert (hostile["json"], hostile["text"]) == (None, HOSTILE)
        assert letters[0]["failures"][0]["type"] == "Reject"
        assert dict(letters[0]["fields"])["partition key"] == "customer-1"

    def test_a_message_that_is_no_letter_is_shown_as_it_lies_there(self, start: Start, shop: Shop) -> None:
        shop.sqs.send_message(QueueUrl=shop.dead_url, MessageBody='{"streamkit_envelope": 99}')
        console = start(*shop.arguments())

        page = console.post("/api/look", {"source": shop.dead})

        (one,) = page["letters"]
        assert (one["kind"], one["event_id"]) == ("unreadable", None)
        assert one["error"]
        whole = console.get(f"/api/letter?look={page['look']}&number=0")
        assert "99" in whole["payload"]["text"]

    def test_a_letter_of_an_earlier_look_is_not_there_any_more(self, start: Start, shop: Shop) -> None:
        shop.fail("a")
        console = start(*shop.arguments())
        old = console.post("/api/look", {"source": shop.dead})["look"]
        new = console.post("/api/look", {"source": shop.dead})["look"]

        assert console.request("GET", f"/api/letter?look={old}&number=0")[:2] == (
            409,
            {"error": "this look at the letters is over: look again"},
        )
        assert console.request("GET", f"/api/letter?look={new}&number=1")[0] == 409
        assert console.request("GET", f"/api/letter?look={new}&number=-1")[0] == 409

    def test_a_console_that_is_told_to_end_gives_back_what_a_look_holds(self, start: Start, shop: Shop) -> None:
        for _ in range(30):
            entries = [{"Id": str(n), "MessageBody": "no letter"} for n in range(10)]
            shop.sqs.send_message_batch(QueueUrl=shop.dead_url, Entries=entries)
        console = start(*shop.arguments(), "--sample", "0")

        def ask() -> None:
            # The console may end before it has answered.
            with suppress(OSError, HTTPException):
                console.request("POST", "/api/look", {"source": shop.dead})

        look = threading.Thread(target=ask)
        look.start()
        give_up_at = time.monotonic() + 30.0
        while not (held := shop.held(shop.dead_url)):
            assert time.monotonic() < give_up_at
            time.sleep(0.05)

        console.process.send_signal(signal.SIGINT)

        assert console.process.wait(timeout=30) == 0
        look.join()
        # It was seen in the middle of the look.
        assert 0 < held < 300
        assert shop.held(shop.dead_url) == 0

    @pytest.mark.parametrize("source", ["/etc/passwd", "s3://somebody/else", "other-queue", "", "-"])
    def test_the_page_can_ask_for_no_other_source_than_the_command_has_named(
        self, console: Console, source: str
    ) -> None:
        status, said, _ = console.request("POST", "/api/look", {"source": source})

        assert status == 409
        assert "is no source of this console: name it with --dead-letters" in said["error"]

    def test_a_file_that_the_command_has_named_can_be_read(self, start: Start, shop: Shop, tmp_path: Path) -> None:
        (tmp_path / "letters.jsonl").write_text('{"streamkit_envelope": 99}\n')
        console = start(*shop.arguments(), "--dead-letters", "letters.jsonl")

        assert console.post("/api/look", {"source": "letters.jsonl"})["count"] == 1


class TestTheWayBack:
    def begin(self, console: Console, shop: Shop, **more: Any) -> Any:
        job = console.post("/api/redrive", {"source": shop.dead, "kind": "queue", "target": shop.retries, **more})
        return until(console, lambda one: one["state"] != "looking", "/api/redrive") | {"job": job["job"]}

    def test_nothing_moves_before_the_answer_and_each_letter_has_its_outcome_after_it(
        self, start: Start, shop: Shop
    ) -> None:
        shop.fail("a", "b", "c")
        console = start(*shop.arguments())

        asked = self.begin(console, shop)

        assert asked["state"] == "asking"
        assert asked["question"].startswith("3 letters of 1 key:")
        assert (shop.depth(shop.dead_url), shop.depth(shop.retries_url)) == (3, 0)
        console.post("/api/redrive/answer", {"job": asked["job"], "yes": True})
        done = until(console, lambda one: one["state"] == "done", "/api/redrive")
        assert [what for _, what in done["outcomes"]] == ["put back"] * 3
        assert (done["summary"]["put_back"], done["summary"]["left"]) == (3, 0)
        assert (shop.depth(shop.dead_url), shop.depth(shop.retries_url)) == (0, 3)

    def test_no_means_no_and_the_letters_can_be_had_again(self, start: Start, shop: Shop) -> None:
        shop.fail("a", "b")
        console = start(*shop.arguments())
        asked = self.begin(console, shop)

        console.post("/api/redrive/answer", {"job": asked["job"], "yes": False})

        done = until(console, lambda one: one["state"] == "done", "/api/redrive")
        assert done["summary"]["put_back"] == 0
        assert (shop.depth(shop.dead_url), shop.depth(shop.retries_url)) == (2, 0)
        assert shop.sqs.receive_message(QueueUrl=shop.dead_url, VisibilityTimeout=0)["Messages"]

    def test_only_the_chosen_letters_go(self, start: Start, shop: Shop) -> None:
        shop.fail("a", "b", "c")
        console = start(*shop.arguments())
        page = console.post("/api/look", {"source": shop.dead})
        chosen = page["letters"][1]

        asked = self.begin(console, shop, look=page["look"], letters=[chosen["number"]])
        console.post("/api/redrive/answer", {"job": asked["job"], "yes": True})

        done = until(console, lambda one: one["state"] == "done", "/api/redrive")
        assert done["outcomes"] == [[chosen["event_id"], "put back"]]
        assert done["summary"]["not_asked_for"] == 2
        assert shop.depth(shop.dead_url) == 2

    def test_of_a_record_that_two_processors_have_failed_on_only_the_chosen_ones_letter_goes(
        self, start: Start, shop: Shop
    ) -> None:
        shop.fail("a", processor="orders")
        shop.fail("a", processor="stock", again=True)
        console = start(*shop.arguments())
        page = console.post("/api/look", {"source": shop.dead})
        one, other = sorted(page["letters"], key=lambda letter: str(letter["processor"]))
        assert (one["processor"], other["processor"]) == ("orders", "stock")
        assert one["event_id"] == other["event_id"]
        body = {"source": shop.dead, "kind": "queue", "target": shop.retries, "look": page["look"]}

        console.post("/api/redrive", body | {"letters": [0, 1]})
        both = until(console, lambda one: one["state"] in ("done", "failed"), "/api/redrive")
        asked = self.begin(console, shop, look=page["look"], letters=[other["number"]])
        console.post("/api/redrive/answer", {"job": asked["job"], "yes": True})

        done = until(console, lambda one: one["state"] in ("done", "failed"), "/api/redrive")
        assert both["state"] == "failed"
        assert "(orders, stock), and a retry queue is one processor's: choose those of one" in both["error"]
        assert (done["error"], done["summary"]["put_back"], done["summary"]["not_asked_for"]) == ("", 1, 1)
        (left,) = console.post("/api/look", {"source": shop.dead})["letters"]
        assert left["processor"] == "orders"

    def test_into_a_stream_goes_of_two_processors_what_was_chosen_of_each_and_no_more(
        self, start: Start, shop: Shop
    ) -> None:
        shop.fail("a", "b", processor="orders")
        shop.fail("a", "b", processor="stock", again=True)
        console = start(*shop.arguments())
        page = console.post("/api/look", {"source": shop.dead})
        by_whom: dict[tuple[str, str], Any] = {(one["processor"], one["event_id"]): one for one in page["letters"]}
        first, second = sorted({one["event_id"] for one in page["letters"]})
        chosen = [by_whom["orders", first]["number"], by_whom["stock", second]["number"]]

        asked = self.begin(console, shop, look=page["look"], letters=chosen, kind="stream", target=shop.stream)
        console.post("/api/redrive/answer", {"job": asked["job"], "yes": True})

        done = until(console, lambda one: one["state"] in ("done", "failed"), "/api/redrive")
        assert (done["error"], done["summary"]["put_back"], done["summary"]["not_asked_for"]) == ("", 2, 2)
        left = console.post("/api/look", {"source": shop.dead})["letters"]
        assert {(one["processor"], one["event_id"]) for one in left} == {("orders", second), ("stock", first)}

    def test_only_those_that_the_filters_want_go(self, start: Start, shop: Shop) -> None:
        shop.fail("a")
        shop.fail("b", key="customer-2")
        console = start(*shop.arguments())

        asked = self.begin(console, shop, filters={"key": "customer-2"})
        console.post("/api/redrive/answer", {"job": asked["job"], "yes": True})

        until(console, lambda one: one["state"] == "done", "/api/redrive")
        assert (shop.depth(shop.dead_url), shop.depth(shop.retries_url)) == (1, 1)

    def test_a_letter_that_is_refused_stays_and_says_why(self, start: Start, shop: Shop) -> None:
        shop.fail("a")
        shop.fail("x" * 30_000, key="customer-2")
        small = f"{shop.retries}-small"
        shop.sqs.create_queue(QueueName=small, Attributes={"MaximumMessageSize": "20000"})
        console = start(*shop.arguments(), "--retry-queue", small)

        asked = self.begin(console, shop, target=small, rate=1)
        console.post("/api/redrive/answer", {"job": asked["job"], "yes": True})

        done = until(console, lambda one: one["state"] in ("done", "failed"), "/api/redrive", seconds=90)
        outcomes = sorted(what for _, what in done["outcomes"])
        assert outcomes[0] == "put back"
        assert outcomes[1].startswith("were refused: ")
        assert done["summary"]["left"] == 1
        assert shop.depth(shop.dead_url) == 1

    def test_one_at_a_time(self, start: Start, shop: Shop) -> None:
        shop.fail("a")
        console = start(*shop.arguments())
        asked = self.begin(console, shop)
        body = {"source": shop.dead, "kind": "queue", "target": shop.retries}

        status, said, _ = console.request("POST", "/api/redrive", body)

        assert status == 409
        assert said["error"] == "a redrive is under way: answer it, wait for it or stop it first"
        assert console.request("POST", "/api/redrive/answer", {"job": "another", "yes": True})[0] == 409
        console.post("/api/redrive/stop", {"job": asked["job"]})
        until(console, lambda one: one["state"] == "done", "/api/redrive")
        assert shop.depth(shop.dead_url) == 1

    @pytest.mark.parametrize(
        ("kind", "target"),
        [("queue", "elsewhere"), ("stream", "elsewhere"), ("topic", "elsewhere"), ("file", "x"), ("queue", "--yes")],
    )
    def test_the_page_can_name_no_other_target_than_the_command_has(
        self, console: Console, kind: str, target: str
    ) -> None:
        status, _, _ = console.request("POST", "/api/redrive", {"source": console.dead, "kind": kind, "target": target})

        assert status == 409

    def test_a_console_that_is_told_to_end_gives_back_what_a_redrive_holds(self, start: Start, shop: Shop) -> None:
        shop.fail("a", "b")
        console = start(*shop.arguments())
        self.begin(console, shop)

        console.process.send_signal(signal.SIGTERM)

        assert console.process.wait(timeout=30) == 0
        answer = shop.sqs.receive_message(QueueUrl=shop.dead_url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        assert len(answer["Messages"]) == 2


class TestTheCommand:
    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (
                ["--port", "70000"],
                "streamkit console: error: argument --port: '70000' is no port: a number from 0 to 65535",
            ),
            (["--host", "0.0.0.0"], "streamkit console: error: unrecognized arguments: --host"),
            (
                ["--dead-letters", "-"],
                "streamkit: --dead-letters -: stdin can be read once, and a page looks again: name a file",
            ),
            (
                ["--ledger", "parked-keys"],
                "streamkit: --ledger needs --name, the processor whose parked keys are shown",
            ),
            (["--profile", "nobody-at-all"], "streamkit: endpoint of the console: "),
        ],
    )
    def test_says_what_was_typed_wrong(self, tmp_path: Path, arguments: list[str], error: str) -> None:
        code, said = error_of(tmp_path, "console", *arguments)

        assert code in (1, 2)
        assert said.startswith(error)

    def test_a_port_that_another_program_has_is_said(self, tmp_path: Path, moto_endpoint: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])

            code, said = error_of(tmp_path, "console", "--port", port, "--endpoint-url", moto_endpoint)

        assert code == 1
        assert said.startswith(f"streamkit: port {port} can't be had (")
        assert said.endswith("choose another with --port, 0 for any")
