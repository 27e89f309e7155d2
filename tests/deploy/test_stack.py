"""deploy/stack.py on moto's CloudFormation: which stacks it makes, and which it leaves alone.

With small templates in place of ours, of which moto does not know all. The stack of the packages' bucket is there: moto gives the
outputs of no stack that a change set made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import boto3
import pytest

from deploy.package import FUNCTIONS
from deploy.stack import (
    AWS,
    BESIDE,
    HERE,
    Deployer,
    DeploymentError,
    Settings,
    packages_for,
    packages_of,
    parameters_of,
    session_of,
    settings_of,
)
from streamkit.packaging import PackagingError

BIGQUERY = {"Function": "bigquery"}
SETTINGS = Settings({}, {"flights": BIGQUERY, "airports": {"Function": "cloudsearch"}}, {"heartbeat": {}})


CODE = json.dumps({"Resources": {"Code": {"Type": "AWS::S3::Bucket"}}, "Outputs": {"Code": {"Value": {"Ref": "Code"}}}})


class Templates:
    """Makes a small template of each file of ours; ``asked`` has the names of the files and, of a function, its own."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, file: Path, parameters: Mapping[str, str]) -> str:
        self.asked.append(parameters.get("Name", file.name))
        if file.name == "code.yaml":
            return CODE
        # Its name tells one revision from the next, as the version does in ours.
        name = "-".join(["queue", *filter(None, [parameters.get("Name"), parameters.get("Revision")])])[:80]
        return json.dumps(
            {
                "Parameters": {one: {"Type": "String"} for one in parameters},
                "Resources": {"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": name}}},
            }
        )


@pytest.fixture
def templates() -> Templates:
    return Templates()


@pytest.fixture
def deployer(
    moto_endpoint: str,
    templates: Templates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Deployer:
    """A stage of the test's own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    for function in ("bigquery", "cloudsearch", "dead-letters", "heartbeat"):
        (tmp_path / f"{function}-arm64.zip").write_bytes(function.encode())
    session = boto3.session.Session("nobody", "nothing", region_name="eu-west-1")
    cloudformation = session.client("cloudformation")
    with contextlib.suppress(cloudformation.exceptions.AlreadyExistsException):
        cloudformation.create_stack(StackName="streamkit-code", TemplateBody=CODE)
    stage = f"s{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"
    return Deployer(AWS(session, templates, poll=0.01), stage, tmp_path, say=lambda _: None)


def test_one_function_is_deployed_alone_on_a_stage_that_is_there(deployer: Deployer, templates: Templates) -> None:
    deployer.deploy(SETTINGS)
    assert templates.asked[:2] == ["code.yaml", "stream.yaml"]
    assert sorted(templates.asked[2:]) == ["airports", "flights", "heartbeat.yaml"]
    templates.asked.clear()
    changed = {"flights": BIGQUERY | {"BatchSize": "10"}, "airports": {"Function": "cloudsearch", "BatchSize": "10"}}

    # A stream's stack that can't be deployed stops nobody: it is not looked at.
    deployer.deploy_one(Settings({"Shards": "not a number"}, changed, {}), "flights")

    assert templates.asked == ["flights"]


def test_the_heartbeats_are_deployed_alone_by_their_name(deployer: Deployer, templates: Templates) -> None:
    deployer.deploy(SETTINGS)
    templates.asked.clear()

    deployer.deploy_one(Settings({}, SETTINGS.functions, {"heartbeat": {"LogDays": "14"}}), "heartbeat")

    assert templates.asked == ["heartbeat.yaml"]


def test_a_table_of_a_stage_that_names_no_template_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "odd.toml").write_text("[stream]\n[heartbeet]\n")
    monkeypatch.setattr("deploy.stack.HERE", tmp_path)

    with pytest.raises(
        DeploymentError, match=r"odd\.toml has a table \[heartbeet\]: there are stream, functions, heartbeat"
    ):
        settings_of("odd")


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_beside_the_stream_has_a_package_and_a_template_that_takes_it(name: str) -> None:
    template = (HERE / f"{name}.yaml").read_text()
    assert name in FUNCTIONS
    assert f"Handler: {FUNCTIONS[name].handler}\n" in template
    for parameter in ("Stage", "CodeBucket", "CodeKey"):
        assert f"\n  {parameter}:" in template


def test_one_function_of_a_stage_that_was_never_deployed_is_refused(deployer: Deployer, templates: Templates) -> None:
    with pytest.raises(DeploymentError, match=r"there is no stage s\w+ yet to deploy flights on"):
        deployer.deploy_one(SETTINGS, "flights")

    assert templates.asked == []


def test_a_function_that_the_stage_does_not_have_is_told_before_anything_is_built() -> None:
    settings = settings_of("dev")
    assert packages_for(settings, "flights", "dev") == ["bigquery", "dead-letters"]
    assert packages_for(settings, "heartbeat", "dev") == ["heartbeat"]

    with pytest.raises(
        DeploymentError, match=r"dev has no function trains: .*dev\.toml has flights, airports, heartbeat"
    ):
        packages_for(settings, "trains", "dev")


def test_a_function_knows_whether_its_stage_has_heartbeats() -> None:
    assert parameters_of(SETTINGS, "flights")["Heartbeats"] == "yes"


def test_packages_that_are_given_are_taken_as_they_are_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped = tmp_path / "bigquery-arm64.zip"
    zipped.write_bytes(b"tested")
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'tested').hexdigest()}  {zipped.name}\n")
    monkeypatch.setenv("PACKAGES", str(tmp_path))

    # Into the folder of builds itself, as with PACKAGES=$PWD/dist: what is there was tested.
    assert packages_of(dist=tmp_path) == tmp_path

    assert sorted(one.name for one in tmp_path.iterdir()) == ["SHA256SUMS", zipped.name]
    assert zipped.read_bytes() == b"tested"


def test_packages_that_are_given_by_a_variable_that_is_empty_are_not_built_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACKAGES", "")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(PackagingError, match="no SHA256SUMS"):
        packages_of(dist=tmp_path)


def test_a_profile_that_is_not_there_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))

    done = subprocess.run(
        [sys.executable, "-m", "deploy.stack", "dev", "eu-west-1", "nobody"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert (
        "AWS can't be asked as the profile nobody in eu-west-1: The config profile (nobody) could not be" in done.stderr
    )
    assert "aws sts get-caller-identity --profile nobody" in done.stderr


def test_a_profile_is_asked_whether_aws_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_endpoint: str
) -> None:
    (tmp_path / "config").write_text("[profile me]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)

    assert session_of("eu-west-1", "me").profile_name == "me"
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(DeploymentError, match="profile me in eu-west-1: Could not connect"):
        session_of("eu-west-1", "me")
