"""What becomes of a mistake in the console itself, and of what two threads do at the same moment."""

from __future__ import annotations

import argparse
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

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


def test_a_mistake_is_answered_with_its_type_and_said_once_on_the_terminal(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Request("GET", "/api/overview?x=1", {"host": "localhost", "x-streamkit-token": "token"})

    replies = [answers.answer(request) for _ in range(3)]

    assert [reply.status for reply in replies] == [500] * 3
    said = json.loads(replies[0].body)["error"]
    assert said.startswith("the console failed, which is a mistake in it: KeyError: ")
    assert "hidden" not in said
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("streamkit: GET /api/overview failed: KeyError: ")
    assert "hidden" not in line


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
