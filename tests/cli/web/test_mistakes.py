"""What becomes of a mistake in the console itself, and of what two threads do at the same moment."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamkit.cli import console
from streamkit.cli.journal import Journal
from streamkit.cli.letters import FileLetters, open_recovery
from streamkit.cli.redriving import Redrive
from streamkit.cli.targets import QueueTarget
from streamkit.cli.web import redrives
from streamkit.cli.web.answers import Answers, Request
from streamkit.cli.web.clients import Clients
from streamkit.cli.web.looks import Looks, redrive_options
from streamkit.cli.web.overview import Overview
from streamkit.cli.web.redrives import Redrives, _Job
from streamkit.errors import StreamkitError
from streamkit.queues.sqs import SqsQueue

from ..dead_letters import LetterQueue, letter
from ..process import ENVIRONMENT


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    console.add_options(parser)
    return parser.parse_args(["--state", str(tmp_path / "journal.sqlite")])


@pytest.fixture
def answers(options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Those of a console whose overview has a mistake."""
    clients = Clients(options)
    overview = Overview(options, clients)

    def view() -> None:
        raise KeyError("http://user:hidden@host")

    monkeypatch.setattr(overview, "view", view)
    yield Answers(overview, Looks(options), Redrives(options), [], "token")
    clients.close()


def asking(target: str, body: bytes = b"", host: str = "localhost") -> Request:
    headers = {"host": host, "x-streamkit-token": "token", "content-type": "application/json"}
    return Request("POST" if body else "GET", target, headers, body)


def test_a_mistake_is_answered_with_its_type_and_said_once_on_the_terminal(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    replies = [answers.answer(asking("/api/overview?x=1")) for _ in range(3)]

    assert [reply.status for reply in replies] == [500] * 3
    said = json.loads(replies[0].body)["error"]
    assert said.startswith("the console failed, which is a mistake in it: KeyError: ")
    assert "hidden" not in said
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("streamkit: GET /api/overview failed: KeyError: ")
    assert "hidden" not in line


@pytest.mark.parametrize("kind", [ValueError, UnicodeError, RecursionError, msgspec.ValidationError])
def test_one_of_a_type_that_a_request_can_have_at_fault_is_the_consoles_own_all_the_same(
    answers: Answers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[Exception]
) -> None:
    def view() -> None:
        raise kind("no")

    monkeypatch.setattr(answers._overview, "view", view)

    reply = answers.answer(asking("/api/overview"))

    assert (reply.status, "a mistake in it" in json.loads(reply.body)["error"]) == (500, True)
    assert f"failed: {kind.__name__}: no" in capsys.readouterr().err


def test_a_reply_that_can_not_be_sent_is_the_consoles_own_mistake(
    answers: Answers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(answers._overview, "view", lambda: {"name": "\ud800"})

    assert answers.answer(asking("/api/overview")).status == 500
    assert "failed: UnicodeEncodeError: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        ("//[/api/overview", b"", 400),
        ("/api/letter?number=x", b"", 400),
        (f"/api/letter?number={'9' * 5000}", b"", 400),
        ("/api/letter?number=%ff", b"", 400),
        (f"/api/letter?{'a=1&' * 30}", b"", 400),
        ("/api/look", b'{"source": "\xff"}', 400),
        ("/api/redrive/stop", b"[" * 5000, 400),
        ("/api/redrive/stop", '{"job": "é"}'.encode(), 409),
    ],
)
def test_a_request_that_is_at_fault_is_no_mistake_of_the_consoles(
    answers: Answers, capsys: pytest.CaptureFixture[str], target: str, body: bytes, status: int
) -> None:
    assert answers.answer(asking(target, body)).status == status
    assert answers.answer(asking(target, body, host="[")).status == 403
    assert capsys.readouterr().err == ""


def test_a_summary_can_be_had_while_the_redrive_finds_more_that_stays(
    options: argparse.Namespace, tmp_path: Path
) -> None:
    letters = tmp_path / "letters.jsonl"
    letters.write_text("")
    with ExitStack() as stack:
        made = redrive_options(options, str(letters), "--to-queue=retries")
        journal = Journal(made.state, "letters")
        stack.callback(journal.close)
        recovery = open_recovery(made, stack)
        target = QueueTarget(SqsQueue("https://queue.invalid/retries"), "retries")
        run = Redrive(made, FileLetters(str(letters)), recovery, target, journal)

        class Growing(Counter[str]):
            """Each count that is asked for is that moment in which the other thread finds another reason."""

            def __getitem__(self, name: str) -> int:
                run.left.setdefault(f"more than {name}", [])
                return super().__getitem__(name)

        run.left["were refused"] = ["one"]
        run.counts = Growing({"were refused": 1})

        reasons = run.summary()["reasons"]

    assert reasons["were refused"] == {"count": 1, "examples": ["one"]}


class TestAQuestionThatNobodyAnswersInTime:
    @pytest.fixture
    def job(self, options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> _Job:
        monkeypatch.setattr(redrives, "_ANSWER_WITHIN", 0.05)
        return _Job(redrive_options(options, "dead", "--to-queue=retries"))

    def test_is_a_no_and_a_later_yes_is_refused(self, job: _Job) -> None:
        assert not job._asked("put them back? [y/N] ")

        assert "nobody has answered" in job.note
        with pytest.raises(StreamkitError, match="nothing is asked at this moment"):
            job.answer(is_agreed=True)

    def test_and_a_yes_just_behind_the_time_out_is_not_both_taken_and_denied(self, job: _Job) -> None:
        class JustBehind(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                was_set = super().wait(timeout)
                job.answer(is_agreed=True)
                return was_set

        job._answer = JustBehind()

        is_sent = job._asked("put them back? [y/N] ")

        assert is_sent is (job.note == "")

    def test_the_first_answer_counts(self, job: _Job) -> None:
        job.state = "asking"
        job.answer(is_agreed=False)
        job.answer(is_agreed=True)

        assert not job._asked("put them back? [y/N] ")
        assert job.note == ""


class TestTheEnd:
    @pytest.fixture
    def over(self) -> Iterator[threading.Event]:
        """A look that hangs ends with it."""
        over = threading.Event()
        yield over
        over.set()

    @pytest.fixture
    def looks(
        self, options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, over: threading.Event
    ) -> Iterator[Looks]:
        """One of them hangs."""
        looks, is_under_way = Looks(options), threading.Event()

        def taken(source: str) -> None:
            is_under_way.set()
            over.wait(120)

        def look() -> None:
            with suppress(StreamkitError):
                looks.look("dead")

        monkeypatch.setattr(looks, "_taken", taken)
        thread = threading.Thread(target=look)
        thread.start()
        assert is_under_way.wait(30)
        yield looks
        over.set()
        thread.join(30)

    def test_a_look_that_hangs_keeps_no_redrive_at_work(
        self,
        options: argparse.Namespace,
        looks: Looks,
        sqs: Any,
        moto_endpoint: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, ENVIRONMENT[name])
        options.endpoint_url = moto_endpoint
        letters = tmp_path / "letters.jsonl"
        letters.write_text("".join(f"{letter(n, key=f'c-{n}').encode()}\n" for n in range(300)))
        redrives = Redrives(options)

        def until(is_wanted: Any) -> dict[str, Any]:
            give_up_at = time.monotonic() + 60.0
            while not is_wanted(view := redrives.view()):
                assert time.monotonic() < give_up_at, view
                time.sleep(0.05)
            return view

        redrives.begin(str(letters), "queue", LetterQueue(sqs).url, {}, [], rate=2.0)
        redrives.answer(until(lambda view: view["state"] == "asking")["job"], is_agreed=True)
        until(lambda view: view["summary"]["put_back"] > 0)

        with pytest.raises(StreamkitError, match=r"^a look at dead letters did not end in 5 s: they are seen again"):
            console._end(looks, redrives, 5.0)

        view = redrives.view()
        redrives.stop_all()
        assert view["state"] == "done"
        assert 0 < view["summary"]["put_back"] < 300

    def test_nothing_begins_after_it(self, options: argparse.Namespace, tmp_path: Path) -> None:
        letters = tmp_path / "letters.jsonl"
        letters.write_text("")
        looks, redrives = Looks(options), Redrives(options)

        console._end(looks, redrives, 5.0)

        # Nothing is touched: of a file that is not there it would be told.
        with pytest.raises(StreamkitError, match="the console ends, and its look at the letters with it"):
            looks.look(str(tmp_path / "gone.jsonl"))
        with pytest.raises(StreamkitError, match="the console ends: start it again to put letters back"):
            redrives.begin(str(letters), "queue", "retries", {}, [], None)
        assert redrives.view() == {"job": None}
