"""``streamkit check`` of a new project: nothing is wrong in it, and a line that somebody takes out of its template is missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamkit.checks.environment import function_environment
from streamkit.checks.rules import findings_of_deployment, parts_of_all
from streamkit.checks.template import read_template
from streamkit.finding import Finding
from streamkit.new.project import Project

FILES = Project("orders").files
STREAM = "arn:aws:kinesis:us-east-1:123456789012:stream/orders"


def found(folder: Path, template: str, **parameters: str) -> list[Finding]:
    path = folder / "template.yaml"
    path.write_text(template)
    deployment, unknowns = read_template(
        str(path), "orders.handler", parameters={"StreamArn": STREAM, "Stage": "dev", **parameters}
    )
    program: dict[str, Any] = {"__name__": "orders"}
    exec(FILES["orders.py"], program)
    with function_environment(deployment.function.environment, deployment.home):
        processor = program["handler"].processor
        parts = parts_of_all(processor, deployment)
    return findings_of_deployment(processor, parts, deployment, unknowns)


@pytest.mark.parametrize("parameters", [{}, {"Heartbeats": "yes", "HeartbeatUrlSecret": "orders/heartbeat-url"}])
def test_nothing_is_wrong_in_it(tmp_path: Path, parameters: dict[str, str]) -> None:
    findings = found(tmp_path, FILES["template.yaml"], **parameters)

    assert {finding.severity for finding in findings} == {"note"}
    assert not any("not checked" in finding.message for finding in findings)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("              - !GetAtt DeadLetters.Arn\n", ["sqs:SendMessage for orders's dead letters"]),
        ("              - !GetAtt GivenUp.Arn\n", ["sqs:SendMessage for FromStream's OnFailure"]),
        ("              - !GetAtt Retries.Arn\n", ["sqs:SendMessage for orders's retry queue"]),
    ],
)
def test_a_permission_that_is_taken_out_is_an_error(tmp_path: Path, line: str, said: list[str]) -> None:
    assert FILES["template.yaml"].count(line) == 1
    findings = found(tmp_path, FILES["template.yaml"].replace(line, ""))

    errors = [finding.message.partition(": ")[0] for finding in findings if finding.severity == "error"]
    assert errors == [f"nothing in the role allows {one}" for one in said]


USE_THE_KEY = """\
          - Sid: UseTheKey
            Effect: Allow
            Action: ["kms:Decrypt", "kms:GenerateDataKey"]
            Resource: !GetAtt Key.Arn
"""


def test_without_the_key_nothing_that_is_encrypted_can_be_used(tmp_path: Path) -> None:
    assert USE_THE_KEY in FILES["template.yaml"]
    findings = found(tmp_path, FILES["template.yaml"].replace(USE_THE_KEY, ""))

    errors = [finding.message.partition(": ")[0] for finding in findings if finding.severity == "error"]
    both = "kms:GenerateDataKey and kms:Decrypt"
    assert {error.removeprefix("nothing in the role allows ") for error in errors} == {
        f"{both} for orders's retry queue",
        f"{both} for orders's dead letters",
        f"{both} for orders's claims of its retry queue",
        "kms:GenerateDataKey for orders's claims of its dead letters",
        f"{both} for FromStream's OnFailure",
        "kms:Decrypt for FromRetries",
    }
