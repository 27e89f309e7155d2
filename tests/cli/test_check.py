"""``streamkit check``: what it says of a function as it is written, and as it is deployed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..checks.given import RIGHT, changed
from ..checks.world import World
from .process import ended

HEAD = """
from streamkit import Block, Divert, RecordProcessor, lambda_handler
from streamkit.fanout import FanOut
from streamkit.progress.memory import MemoryProgress
from streamkit.testing import MemoryQueue

class Search(RecordProcessor):
    name = "search"
    on_failure = Divert(MemoryQueue())
    def process(self, record): pass

class Audit(RecordProcessor):
    name = "audit"
    def process(self, record): pass
"""
BLOCK = "warning: audit: has Block: a record that fails in it holds the next records for all branches. Divert and Park don't\n"


def checked(folder: Path, program: str) -> tuple[int, str, str]:
    (folder / "orders.py").write_text(HEAD + program)
    one = ended(folder, "check", "orders:handler")
    return one.returncode, one.stdout, one.stderr


def test_a_branch_that_holds_the_records_of_all_is_told(tmp_path: Path) -> None:
    program = "handler = lambda_handler(FanOut(Search, Audit, progress=MemoryProgress()))"

    assert checked(tmp_path, program) == (0, BLOCK, "0 errors, 1 warning\n")


def test_where_nothing_is_to_be_said_nothing_is(tmp_path: Path) -> None:
    assert checked(tmp_path, "handler = lambda_handler(Search)") == (0, "", "0 errors, 0 warnings\n")
    assert checked(tmp_path, "handler = lambda_handler(lambda: Audit())") == (0, "", "0 errors, 0 warnings\n")
    named = """
class Nameless(RecordProcessor):
    on_failure = Divert(MemoryQueue())
    def __init__(self): self.name = "orders"
    def process(self, record): pass
handler = lambda_handler(Nameless)
"""
    assert checked(tmp_path, named) == (0, "", "0 errors, 0 warnings\n")


def test_a_name_that_was_not_given_is_told_where_something_is_stored_under_it(tmp_path: Path) -> None:
    program = """
class Nameless(RecordProcessor):
    on_failure = Divert(MemoryQueue())
    def process(self, record): pass
handler = lambda_handler(Nameless)
"""
    code, out, err = checked(tmp_path, program)

    assert (code, err) == (0, "0 errors, 1 warning\n")
    assert out.startswith("warning: orders.Nameless: has the name of its class")
    assert out.endswith('Write name = "nameless"\n')


def test_what_writes_exactly_once_keeps_its_account_by_its_name_too(tmp_path: Path) -> None:
    program = """
from streamkit.plans.memory import MemoryPlans
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink
class Nameless(RecordProcessor):
    ordering = "shard"
    warehouse = BigQueryExactlyOnceSink("shop.orders", MemoryPlans())
    def process(self, record): pass
handler = lambda_handler(Nameless)
"""
    code, out, _ = checked(tmp_path, program)

    assert (code, out.partition(":")[0]) == (0, "warning")
    assert out.endswith('Write name = "nameless"\n')


def test_claims_of_the_retry_queue_alone(tmp_path: Path) -> None:
    program = """
from streamkit.claims.s3 import S3Claims
from streamkit.queues.sqs import SqsQueue
retries = SqsQueue("https://sqs/1/retries", claims=S3Claims("large"))
letters = SqsQueue("https://sqs/1/letters"{claims})
class Orders(RecordProcessor):
    name = "orders"
    on_failure = Divert(retries, dead_letters=letters)
    def process(self, record): pass
handler = lambda_handler(Orders)
"""
    _, out, _ = checked(tmp_path, program.format(claims=""))
    assert out.startswith("warning: orders: its retry queue has claims and its dead letters have none")
    assert checked(tmp_path, program.format(claims=', claims=S3Claims("large")'))[1] == ""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("handler = lambda_handler(lambda: FanOut(Search, Search))", "is the name of two branches"),
        (
            "def handler(event, context): pass",
            "orders:handler was not made by lambda_handler, so nothing is known of it",
        ),
        ("handler = lambda_handler(lambda: 1 / 0)", "orders:handler can't be made: ZeroDivisionError"),
        ("raise ValueError('no')", "orders can't be loaded"),
    ],
)
def test_what_can_not_be_ends_with_1_and_the_reason(tmp_path: Path, program: str, reason: str) -> None:
    code, out, err = checked(tmp_path, program)

    assert (code, out) == (1, "")
    assert reason in err


def test_of_a_loop_over_a_queue_the_code_is_looked_at_and_nothing_of_its_deployment(tmp_path: Path) -> None:
    program = "from streamkit.loops.function import LoopFunction\nhandler = LoopFunction(lambda_handler({}))"
    both = "FanOut(Search, Audit, progress=MemoryProgress())"

    assert checked(tmp_path, program.format("Search")) == (0, "", "0 errors, 0 warnings\n")
    assert checked(tmp_path, program.format(both)) == (0, BLOCK, "0 errors, 1 warning\n")

    code, out, err = compared(tmp_path, RIGHT, program=HEAD + program.format("Search"))
    assert (code, out) == (1, "")
    assert "orders:handler is a loop over a queue, and nothing is known of how one has to be deployed" in err


def test_a_function_that_is_not_there_is_an_error_of_usage(tmp_path: Path) -> None:
    assert ended(tmp_path, "check", "nowhere:handler").returncode == 2
    assert ended(tmp_path, "check", "nowhere").returncode == 2


ORDERS = """
from streamkit import Divert, RecordProcessor, lambda_handler
from streamkit.progress.dynamodb import DynamoDbProgress
from streamkit.queues.sqs import SqsQueue

class Orders(RecordProcessor):
    name = "orders"
    on_failure = Divert(SqsQueue.from_env("RETRIES"), dead_letters=SqsQueue.from_env("DEAD_LETTERS"))
    progress = DynamoDbProgress.from_env("PROGRESS")
    def process(self, record): pass

handler = lambda_handler(Orders)
"""


def compared(folder: Path, template: str, *options: str, program: str = ORDERS, **shell: str) -> tuple[int, str, str]:
    (folder / "orders.py").write_text(program)
    (folder / "template.yaml").write_text(template)
    done = ended(folder, "check", "orders:handler", "--template", "template.yaml", *options, **shell)
    return done.returncode, done.stdout, done.stderr


def test_a_template_in_which_nothing_is_wrong(tmp_path: Path) -> None:
    assert compared(tmp_path, RIGHT) == (0, "", "0 errors, 0 warnings\n")


def test_a_template_in_which_something_is_wrong_has_its_line_and_what_to_write(tmp_path: Path) -> None:
    text = changed("maxReceiveCount: 15", "maxReceiveCount: 2").replace(
        "VisibilityTimeout: 360", "VisibilityTimeout: 30"
    )

    code, out, err = compared(tmp_path, text)

    assert (code, err) == (1, "1 error, 1 warning\n")
    first, second = out.splitlines()
    assert first.startswith("error: template.yaml:46: Retries has a visibility time-out of 30 s, less than the 60 s")
    assert first.endswith("Write VisibilityTimeout: 360")
    assert second.startswith("warning: template.yaml:50: maxReceiveCount is 2")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('TARGET: ""', "TARGET: !Ref Retires", "template.yaml:20: !Ref Retires names no resource nor parameter"),
        (
            "Timeout: 60",
            "ReservedConcurrentExecutions: 0\n    Timeout: 60",
            "template.yaml:9: ReservedConcurrentExecutions is 0",
        ),
        (
            "Timeout: 60",
            "LoggingConfig: {LogFormat: JSON, ApplicationLogLevel: FATAL}\n    Timeout: 60",
            "template.yaml:9: ApplicationLogLevel is FATAL",
        ),
    ],
)
def test_what_would_be_seen_only_when_it_is_deployed_ends_with_1(tmp_path: Path, old: str, new: str, said: str) -> None:
    code, out, err = compared(tmp_path, changed(old, new))

    assert (code, err) == (1, "1 error, 0 warnings\n")
    assert out.startswith(f"error: {said}")


def test_a_template_whose_only_function_is_another_one(tmp_path: Path) -> None:
    _, out, _ = compared(tmp_path, changed("orders.handler", "mails.handler"))

    assert "the Handler of Orders is mails.handler, and what was looked at is orders.handler" in out


def test_as_json(tmp_path: Path) -> None:
    code, out, _ = compared(tmp_path, changed("Timeout: 60", "Timeout: !Ref Nobody"), "--json")

    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert {tuple(line) for line in lines} == {("severity", "where", "message")}
    assert lines[0]["severity"] == "note"
    assert "give --parameter Nobody=" in lines[0]["message"]


def test_parameters_and_the_region_decide(tmp_path: Path) -> None:
    text = changed("Timeout: 60", "Timeout: !Ref Nobody").replace(
        "      Policies:\n", "      Tags: {}\n      Policies: []\n      Ignored:\n"
    )
    code, out, _ = compared(tmp_path, text, "--parameter", "Nobody=1", "--region", "eu-west-1")

    assert code == 1
    assert "Timeout is 1 s" in out
    assert "sqs:eu-west-1:" in out


def test_the_processor_is_made_with_the_functions_variables_and_without_this_shells(tmp_path: Path) -> None:
    program = """
import os
from streamkit import RecordProcessor, lambda_handler

class Orders(RecordProcessor):
    def __init__(self):
        self.name = f"{os.environ['STAGE']}-{os.environ.get('ONLY_HERE')}-{os.environ.get('AWS_REGION')}"
        self.deadline_margin = 60
    def process(self, record): pass

handler = lambda_handler(Orders)
"""
    text = changed('TARGET: ""', "STAGE: prod")
    shell = {"STAGE": "here", "ONLY_HERE": "here"}

    _, out, _ = compared(tmp_path, text, "--region", "eu-west-1", program=program, **shell)

    assert "prod-None-eu-west-1 keeps 60 s of it back" in out


def test_the_ready_made_processors_are_seen_with_the_policy_of_their_variables(tmp_path: Path) -> None:
    text = changed("orders.handler", "processors.cloudsearch.handler").replace("RETRIES:", "RETRY_QUEUE_URL:")
    text = text.replace("DEAD_LETTERS:", "DEAD_LETTER_QUEUE_URL:").replace("PROGRESS:", "PROCESSOR_NAME:")
    text = text.replace('TARGET: ""', "SEARCH_ENDPOINT: doc-shop-abc.eu-west-1.cloudsearch.amazonaws.com")
    (tmp_path / "template.yaml").write_text(text.replace("maxReceiveCount: 15", "maxReceiveCount: 14"))

    done = ended(tmp_path, "check", "processors.cloudsearch:handler", "--template", "template.yaml")

    assert "maxReceiveCount is 14, under five times the 3 attempts of progress" in done.stdout
    assert "domain/shop" in done.stdout
    assert done.returncode == 0


def test_a_processor_that_stumbles_over_what_the_template_does_not_tell(tmp_path: Path) -> None:
    program = """
import os
from streamkit import RecordProcessor, lambda_handler

class Orders(RecordProcessor):
    def __init__(self): self.size = int(os.environ["SIZE"])

handler = lambda_handler(Orders)
"""
    code, out, err = compared(tmp_path, changed('TARGET: ""', "SIZE: !Ref Nobody"), program=program)

    assert (code, out) == (1, "")
    assert "orders:handler can't be made: ValueError" in err
    assert "SIZE is ${Nobody}" in err
    assert "--parameter gives a value" in err


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--template", "nowhere.yaml"], 1, "nowhere.yaml can't be read: No such file"),
        (["--template", "template.yaml", "--parameter", "Nowhere=1"], 2, "no parameter Nowhere"),
        (["--template", "template.yaml", "--parameter", "Nowhere"], 2, "write it as NAME=VALUE"),
        (["--template", "template.yaml", "--function", "Nowhere"], 2, "has no function Nowhere: there are Orders"),
        (["--template", "template.yaml", "--deployed", "orders"], 2, "not allowed with argument"),
        (["--function", "Orders"], 2, "add --template FILE"),
        (["--template", ""], 2, "it is empty"),
    ],
)
def test_what_is_typed_wrong_and_what_is_not_there(tmp_path: Path, options: list[str], code: int, reason: str) -> None:
    (tmp_path / "orders.py").write_text(ORDERS)
    (tmp_path / "template.yaml").write_text(RIGHT)

    done = ended(tmp_path, "check", "orders:handler", *options)

    assert (done.returncode, done.stdout) == (code, "")
    assert reason in done.stderr


def test_the_names_of_a_hostile_template_can_not_move_the_cursor(tmp_path: Path) -> None:
    text = changed("  Retries:\n", '  "R\\e[2J": {Type: AWS::SQS::Queue}\n  Retries:\n').replace(
        "deadLetterTargetArn: !GetAtt DeadLetters.Arn", 'deadLetterTargetArn: "arn:aws:sqs:x:1:\\e[2J"'
    )
    _, out, _ = compared(tmp_path, text)

    assert "\x1b" not in out
    assert "\\x1b[2J" in out


def test_a_function_that_is_deployed(tmp_path: Path, moto_endpoint: str) -> None:
    world = World(moto_endpoint)
    world.build()
    world.change("stream", FunctionResponseTypes=[])
    world.close()
    (tmp_path / "orders.py").write_text(ORDERS)

    done = ended(tmp_path, "check", "orders:handler", "--deployed", world.name, AWS_ENDPOINT_URL=moto_endpoint)

    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    call = f"aws lambda update-event-source-mapping --uuid {world.mappings['stream']} --function-response-types"
    assert errors[0].startswith(f"error: {call}: partial answers are off")


def test_a_function_that_is_not_deployed_and_an_aws_that_is_not_there(tmp_path: Path, moto_endpoint: str) -> None:
    (tmp_path / "orders.py").write_text(ORDERS)

    nowhere = ended(tmp_path, "check", "orders:handler", "--deployed", "nowhere", AWS_ENDPOINT_URL=moto_endpoint)
    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert "there is no function nowhere here" in nowhere.stderr

    down = ended(tmp_path, "check", "orders:handler", "--deployed", "orders", "--endpoint-url", "http://127.0.0.1:9")
    assert down.returncode == 1
    assert "is it running and reachable?" in down.stderr
