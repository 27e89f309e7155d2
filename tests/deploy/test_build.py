"""build.sh tells how it is called, and the workflow calls nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from deploy.stack import LONGEST_SECONDS

from ..outside_server import OutsideServer

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
# As the script has it.
USAGE = (ROOT / "build.sh").read_text().partition("<<'END'\n")[2].partition("END\n")[0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("nothing", "there is no command nothing"),
        ("package extra", "package takes no arguments; got extra"),
        ("test extra more", "test takes no arguments; got extra more"),
        ("deploy", "deploy: STAGE is missing"),
        ("acceptance-test", "acceptance-test: STAGE is missing"),
        ("deploy Dev eu-west-1 me", "deploy: STAGE is up to 12 small letters and digits, a letter first; got Dev"),
        ("deploy ../x eu-west-1 me", "deploy: STAGE is up to 12 small letters and digits, a letter first; got ../x"),
        (
            "int-test nowhere eu-west-1 me",
            "int-test: there is no stage nowhere: write deploy/stages/nowhere.toml; there are dev, prod, staging",
        ),
        *(
            (call, "deploy: STAGE can't be local, which int-test and acceptance-test make for themselves")
            for call in ("deploy local", "deploy local eu-west-1 me", "deploy local flights")
        ),
        ("int-test local extra", "int-test local takes nothing more; got extra"),
        ("deploy dev", "deploy: REGION is missing"),
        ("int-test dev", "int-test: REGION is missing"),
        ("deploy dev europe me", "deploy: REGION is written as eu-west-1; got europe"),
        ("deploy dev eu-west-1", "deploy: PROFILE is missing"),
        (
            "deploy dev eu-west-1 me Extra",
            "deploy: FUNCTION is up to 20 small letters, digits and -, a letter first; got Extra",
        ),
        ("deploy dev eu-west-1 me flights more", "deploy: too many arguments: more"),
        ("int-test dev eu-west-1 me flights", "int-test: too many arguments: flights"),
        ("profile", "profile: NAME is missing"),
        ("profile two names", "profile: too many arguments: names"),
        ("profile [x]", "profile: NAME is small letters, digits and -, a letter first; got [x]"),
        ("gate", "gate: ENVIRONMENT is missing"),
        ("gate a b", "gate: too many arguments: b"),
        ("gate ../x", "gate: ENVIRONMENT is letters, digits, '.', '_' and '-'; got ../x"),
    ],
)
def test_a_wrong_call_tells_what_is_wrong_and_the_right_ones_and_does_nothing(call: str, said: str) -> None:
    done = subprocess.run(["./build.sh", *call.split()], cwd=ROOT, capture_output=True, text=True, timeout=20)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{USAGE}./build.sh: {said}\n"


def test_no_call_at_all_tells_the_right_ones() -> None:
    done = subprocess.run(["./build.sh"], cwd=ROOT, capture_output=True, text=True, timeout=20)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", USAGE)
    assert USAGE.startswith("usage:\n")
    for command in ("deploy", "int-test", "acceptance-test"):
        assert f"./build.sh {command} STAGE REGION PROFILE" in USAGE


def test_a_profile_of_no_name_is_missing() -> None:
    done = subprocess.run(
        ["./build.sh", "deploy", "dev", "eu-west-1", ""], cwd=ROOT, capture_output=True, text=True, timeout=20
    )

    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "./build.sh: deploy: PROFILE is missing")


def test_a_functions_name_comes_through_to_what_deploys(tmp_path: Path) -> None:
    # This environment is set up already.
    (tmp_path / "make").write_text("#!/bin/sh\n")
    (tmp_path / "make").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"

    done = subprocess.run(
        ["./build.sh", "deploy", "dev", "eu-west-1", "me", "trains"],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("dev has no function trains")


def test_a_stage_that_nobody_has_described_is_told(tmp_path: Path) -> None:
    from deploy.stack import DeploymentError, settings_of

    with pytest.raises(DeploymentError, match=r"write deploy/stages/nowhere\.toml; there are dev, prod, staging"):
        settings_of("nowhere")
    for stage in ("dev", "staging", "prod"):
        assert settings_of(stage).functions.keys() == {"flights", "airports"}


def test_only_what_changes_or_was_rolled_back_is_another_revision() -> None:
    from deploy.stack import revision_of

    def deployed(revision: str, status: str = "UPDATE_COMPLETE", at: str = "noon") -> dict[str, Any]:
        parameters = [{"ParameterKey": "Revision", "ParameterValue": revision}]
        return {"StackStatus": status, "LastUpdatedTime": at, "Parameters": parameters}

    def version(revision: str) -> str:
        return revision[:10]  # Of which SAM makes a version's name.

    first = revision_of("one", None)
    assert revision_of("one", deployed(first)) == first
    second = revision_of("two", deployed(first))
    assert version(second) != version(first)
    # The second failed: CloudFormation has gone back to the first, and the version of the second is still there.
    again = revision_of("two", deployed(first, "UPDATE_ROLLBACK_COMPLETE"))
    assert version(again) not in (version(first), version(second))
    assert version(revision_of("two", deployed(first, "UPDATE_ROLLBACK_COMPLETE", "one"))) != version(again)
    assert revision_of("two", deployed(again)) == again, "it was deployed, and has not changed since"
    assert revision_of("one", deployed(first, "UPDATE_ROLLBACK_COMPLETE")) == first, "it is what is there"


def jobs(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((WORKFLOWS / name).read_text())["jobs"]
    return found


def test_the_workflow_calls_the_script_and_the_long_targets_only() -> None:
    called = [
        step["run"]
        for name in ("deploy.yml", "stage.yml")
        for job in jobs(name).values()
        for step in job.get("steps", [])
        if "run" in step
    ]

    for command in called:
        words = [word for word in command.split() if not word.startswith(("AWS_", "PACKAGES="))]
        assert words[0] == "./build.sh" or command == "make ci-long", command
    assert [command.split()[1] for command in called if command.startswith("./build.sh")][:5] == [
        *("check", "test", "int-test", "acceptance-test", "package"),
    ]


def test_what_others_wrote_is_taken_by_its_commit_with_its_version_beside_it() -> None:
    used = [
        found
        for path in sorted(WORKFLOWS.glob("*.yml"))
        for found in re.findall(r"^ *(?:- )?uses: (\S+)(.*)$", path.read_text(), re.MULTILINE)
    ]
    others = [(name, comment) for name, comment in used if not name.startswith(("actions/", "./"))]

    assert {name.partition("@")[0] for name, _ in others} == {
        *("aws-actions/configure-aws-credentials", "google-github-actions/auth"),
    }
    for name, comment in others:
        assert re.fullmatch(r"[^@]+@[0-9a-f]{40}", name), f"a tag can be moved to other code: {name}"
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), name


def test_stages_follow_each_other_with_the_same_packages_and_production_waits() -> None:
    deploy = jobs("deploy.yml")
    assert deploy["dev"]["needs"] == "test"
    assert deploy["staging"]["needs"] == "dev"
    assert set(deploy["production"]["needs"]) == {"staging", "long", "gate"}
    assert set(deploy["gate"]["needs"]) == {"staging", "long"}
    assert deploy["gate"]["steps"][-1]["run"] == "./build.sh gate production"
    assert deploy["gate"]["permissions"]["actions"] == "read"
    assert deploy["production"]["with"]["environment"] == "production", "whose reviewers are the gate"
    steps = jobs("stage.yml")["deploy"]["steps"]
    (download,) = [step for step in steps if step.get("uses", "").startswith("actions/download-artifact")]
    assert download["with"]["name"] == "packages"
    (upload,) = [step for step in deploy["test"]["steps"] if step.get("uses", "").startswith("actions/upload-artifact")]
    assert upload["with"] == {"name": "packages", "path": "dist", "if-no-files-found": "error"}
    called = [(step["run"], step.get("if")) for step in steps if step.get("run", "").find('"$REGION" ci') >= 0]
    assert called == [
        ('PACKAGES=$PWD/packages ./build.sh deploy "$STAGE_NAME" "$REGION" ci', None),
        ('./build.sh int-test "$STAGE_NAME" "$REGION" ci', "inputs.stage == 'dev'"),
        ('./build.sh acceptance-test "$STAGE_NAME" "$REGION" ci', "inputs.stage != 'prod'"),
    ]


def test_packages_that_are_not_what_was_built_are_not_deployed(tmp_path: Path) -> None:
    from deploy.package import digests
    from streamkit.packaging import PackagingError

    (tmp_path / "a.zip").write_bytes(b"built")
    with pytest.raises(PackagingError, match="no SHA256SUMS"):
        digests(tmp_path)
    digest = "0c32b6e2a2b8a5ab4ccb0a5c6a2f3e1f"
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  a.zip\n")
    with pytest.raises(PackagingError, match=r"a\.zip is not what was built"):
        digests(tmp_path)
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'built').hexdigest()}  a.zip\n")
    assert digests(tmp_path).keys() == {"a.zip"}
    (tmp_path / "b.zip").write_bytes(b"brought")
    with pytest.raises(PackagingError, match=r"b\.zip is not in SHA256SUMS"):
        digests(tmp_path)


def test_google_takes_the_ids_of_the_pool_and_its_provider() -> None:
    text = (ROOT / "docs" / "deploying.md").read_text()
    pools = re.findall(
        r"workloadIdentityPools/(\S+)|workload-identity-pools create (\S+)|--workload-identity-pool (\S+)", text
    )
    providers = re.findall(r"providers create-aws (\S+)|\$POOL/providers/(\S+)", text)

    for ids in (pools, providers):
        (one,) = {"".join(found) for found in ids}
        # Google's rule for both.
        assert re.fullmatch(r"[a-z0-9-]{4,32}", one)
        assert not one.startswith("gcp-")
    assert len(pools) == 3


def test_credentials_outlast_the_job_and_the_job_the_slowest_rollout() -> None:
    job = jobs("stage.yml")["deploy"]
    (signed_in,) = [step["with"] for step in job["steps"] if "configure-aws-credentials" in step.get("uses", "")]
    rollouts = re.findall(r"Linear10PercentEvery(\d+)Minute", (ROOT / "deploy" / "function.yaml").read_text())
    slowest = 10 * max(map(int, rollouts)) * 60

    assert slowest < LONGEST_SECONDS < job["timeout-minutes"] * 60 < signed_in["role-duration-seconds"]
    assert (
        f"--max-session-duration {signed_in['role-duration-seconds']}" in (ROOT / "docs" / "deploying.md").read_text()
    )


def test_a_profile_for_ci_has_the_credentials_of_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "aws" / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    for name in names:
        monkeypatch.setenv(name, f"of {name}")

    done = subprocess.run(["./build.sh", "profile", "ci"], cwd=ROOT, capture_output=True, text=True, timeout=20)

    assert (done.returncode, done.stderr) == (0, "")
    found = boto3.session.Session(profile_name="ci").get_credentials()
    assert found is not None
    assert found.method == "custom-process"
    assert tuple(found.get_frozen_credentials())[:3] == tuple(f"of {name}" for name in names)
    assert "of AWS" not in config.read_text()
    again = subprocess.run(["./build.sh", "profile", "ci"], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert (again.returncode, again.stderr) == (1, f"there is a profile ci already: {config}\n")


REVIEWED: dict[str, Any] = {
    "protection_rules": [
        {"id": 1, "type": "wait_timer", "wait_timer": 5},
        {"id": 2, "type": "required_reviewers", "reviewers": [{"type": "User", "reviewer": {"login": "octocat"}}]},
        {"id": 3, "type": "branch_policy"},
    ],
    "deployment_branch_policy": {"protected_branches": False, "custom_branch_policies": True},
}
NO_GATES = {
    "nobody has set it up": (200, {"protection_rules": [], "deployment_branch_policy": None}, "no required reviewers"),
    "no reviewer is left": (
        200,
        REVIEWED | {"protection_rules": [{"type": "required_reviewers", "reviewers": []}]},
        "no required reviewers",
    ),
    "it takes every branch": (200, REVIEWED | {"deployment_branch_policy": None}, "it takes every branch"),
    "there is none": (404, {"message": "Not Found"}, "GitHub answers 404: there is no such environment"),
    "the token may not look": (403, {"message": "Resource not accessible by integration"}, "GitHub answers 403"),
}


@contextlib.contextmanager
def github(status: int, answer: Any) -> Iterator[OutsideServer]:
    """A server that answers so."""

    def say(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.end_headers()
        handler.wfile.write(json.dumps(answer).encode())

    server = OutsideServer()
    server.answer = say
    with server.running():
        yield server


def gate(url: str) -> subprocess.CompletedProcess[str]:
    ours = {"GITHUB_API_URL": url, "GITHUB_REPOSITORY": "octo/events", "GITHUB_TOKEN": "token", "no_proxy": "*"}
    return subprocess.run(
        ["./build.sh", "gate", "production"],
        cwd=ROOT,
        env={**os.environ, **ours},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_environment_with_reviewers_is_a_gate() -> None:
    with github(200, REVIEWED) as server:
        done = gate(server.url)

    assert (done.returncode, done.stderr) == (0, "")
    (asked,) = server.requests
    assert asked.path == "/repos/octo/events/environments/production"
    assert asked.headers["authorization"] == "Bearer token"


@pytest.mark.parametrize("why", NO_GATES)
def test_an_environment_that_asks_nobody_ends_the_workflow(why: str) -> None:
    status, answer, said = NO_GATES[why]
    with github(status, answer) as server:
        done = gate(server.url)

    assert done.returncode == 1
    assert done.stderr.startswith("production is no gate: ")
    assert said in done.stderr


def test_a_gate_that_can_not_be_asked_for_is_none() -> None:
    with github(200, REVIEWED) as server:
        pass

    done = gate(server.url)

    assert done.returncode == 1
    assert "GitHub can't be asked" in done.stderr
