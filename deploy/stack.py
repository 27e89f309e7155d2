"""python -m deploy.stack STAGE REGION PROFILE [FUNCTION]: a stage's stream and functions, by ``deploy/stages/STAGE.toml``.

Packages are built first, and uploaded by their digests; PACKAGES=folder takes those of an earlier build as they are, so that
what is promoted is what was tested. Each function is a stack of its own: they are deployed side by side, and one that fails stops
no other. FUNCTION, a processor's name or one such as ``heartbeat``, is deployed alone, on a stage that is there: no other stack
is looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamkit.packaging import PackagingError
from streamkit.plural import counted

from .package import DIST, digests, package_all

__all__ = [
    "AWS",
    "BESIDE",
    "Deployer",
    "DeploymentError",
    "Settings",
    "packages_for",
    "packages_of",
    "parameters_of",
    "revision_of",
    "session_of",
    "settings_of",
    "without_comments",
]

HERE = Path(__file__).parent
_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
#: For the slowest Rollout, ten steps of ten minutes, and the rest of the stack.
LONGEST_SECONDS = 7200
_CODE = "streamkit-code"
#: What can be beside a stage's stream: each has a package and a template of this name.
BESIDE = ("heartbeat", "objects", "backfill", "logs", "log-subscriber", "janitor", "warmer", "sqs-loop", "search-api")
# The name of one of a template's parameters, at the beginning of its line.
_PARAMETER = re.compile(r"^  (\w+):", re.MULTILINE)


class DeploymentError(RuntimeError):
    """A stack was not deployed; the message has what CloudFormation says of its resources."""


@dataclass(frozen=True)
class Settings:
    """Parameters of a stage's templates: of the stream, of each function by its processor's name, and of what is beside the
    stream, by the name of its template and package: ``heartbeat`` is ``deploy/heartbeat.yaml``.
    """

    stream: Mapping[str, str]
    functions: Mapping[str, Mapping[str, str]]
    beside: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class AWS:
    """Where stacks are made. ``template`` makes of a template's file what CloudFormation is given; ``poll`` is in seconds."""

    session: Any
    template: Callable[[Path, Mapping[str, str]], str] = lambda file, _: without_comments(file.read_text())
    architecture: str = "arm64"
    poll: float = 5.0


def without_comments(template: str) -> str:
    """A template's text without the lines that are comments: CloudFormation takes 51,200 bytes in a request."""
    return "".join(line for line in template.splitlines(keepends=True) if not line.lstrip().startswith("#"))


def settings_of(stage: str) -> Settings:
    """What ``deploy/stages/STAGE.toml`` says. Values that are no text are passed as JSON. DeploymentError where there is none."""
    if stage == "code":
        raise DeploymentError("code is the stack of the packages' bucket: choose another name for the stage")
    file = HERE / "stages" / f"{stage}.toml"
    if not file.exists():
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.toml")))
        raise DeploymentError(f"there is no stage {stage}: write deploy/stages/{stage}.toml; there are {known}")
    read = tomllib.loads(file.read_text())
    functions = {name: _texts(function) for name, function in read.get("functions", {}).items()}
    beside = {name: _texts(table) for name, table in read.items() if name not in ("stream", "functions")}
    unknown = [name for name in beside if name not in BESIDE]
    if unknown:
        raise DeploymentError(
            f"{file.name} has a table [{unknown[0]}]: there are stream, functions, {', '.join(BESIDE)}"
        )
    return Settings(_texts(read.get("stream", {})), functions, beside)


def parameters_of(settings: Settings, name: str) -> dict[str, str]:
    """The parameters of a function's stack that its stage's settings say."""
    return {"Heartbeats": "yes" if "heartbeat" in settings.beside else "no", **settings.functions[name]}


class Deployer:
    """Deploys one stage with the packages in a folder."""

    def __init__(self, aws: AWS, stage: str, packages: Path, say: Callable[[str], None] = print) -> None:
        self._aws = aws
        self._stage = stage
        self._packages = packages
        self._say = say
        self._cloudformation = aws.session.client("cloudformation")
        self._s3 = aws.session.client("s3")

    def deploy(self, settings: Settings) -> None:
        """The bucket of packages, the stream, then all functions. DeploymentError once each has been tried, if one failed."""
        bucket = self.stack(_CODE, HERE / "code.yaml", {})["Code"]
        self.stack(f"streamkit-{self._stage}", HERE / "stream.yaml", {"Stage": self._stage, **settings.stream})
        failed = []
        with ThreadPoolExecutor(8) as pool:
            made = {
                name: pool.submit(self.function, name, parameters_of(settings, name), bucket)
                for name in settings.functions
            }
            for name, values in settings.beside.items():
                made[name] = pool.submit(self.beside, name, values, bucket)
        for name, future in made.items():
            error = future.exception()
            if isinstance(error, DeploymentError):
                failed.append(f"{name}: {error}")
            elif error is not None:
                raise error
        if failed:
            raise DeploymentError("\n".join(failed))

    def deploy_one(self, settings: Settings, name: str) -> None:
        """One function, of the stream or beside it, by name. DeploymentError where it fails, or the stage was never deployed."""
        found = self._found(_CODE)
        if found is None or self._found(f"streamkit-{self._stage}") is None:
            raise DeploymentError(
                f"there is no stage {self._stage} yet to deploy {name} on: deploy it without a function's name"
            )
        bucket = _outputs(found)["Code"]
        if name in settings.beside:
            self.beside(name, settings.beside[name], bucket)
        else:
            self.function(name, parameters_of(settings, name), bucket)

    def beside(self, name: str, settings: Mapping[str, str], bucket: str) -> dict[str, str]:
        """The stack of a function beside the stream: its outputs."""
        template = HERE / f"{name}.yaml"
        given = {
            "Stage": self._stage,
            **self._of_stage(),
            "CodeBucket": bucket,
            "CodeKey": self._uploaded(name, bucket),
        }
        taken = _PARAMETER.findall(template.read_text().partition("\nParameters:")[2].partition("\nResources:")[0])
        parameters = {key: value for key, value in given.items() if key in taken}
        return self.stack(f"streamkit-{self._stage}-{name}", template, {**parameters, **settings})

    def function(self, name: str, settings: Mapping[str, str], bucket: str) -> dict[str, str]:
        """The stack of one function: its outputs."""
        if "Function" not in settings:
            raise DeploymentError("it names no Function, such as bigquery")
        if name in BESIDE or name.endswith("-dead-letters"):
            raise DeploymentError(f"{name} is the name of a function of streamkit's own: choose another")
        template = HERE / "function.yaml"
        parameters = {"Stage": self._stage, "Name": name, "CodeBucket": bucket, **self._of_stage(), **settings}
        stack = f"streamkit-{self._stage}-{name}"
        found = self._found(stack)
        if found is not None:
            self._strands_nothing(found, parameters)
        parameters["CodeKey"] = self._uploaded(settings["Function"], bucket)
        parameters["DeadLettersCodeKey"] = self._uploaded("dead-letters", bucket)
        content = json.dumps([template.read_text(), parameters], sort_keys=True)
        parameters["Revision"] = revision_of(content, found)
        return self.stack(stack, template, parameters)

    def stack(self, name: str, template: Path, parameters: Mapping[str, str]) -> dict[str, str]:
        """Make the stack, or change what is different: its outputs, once it is done. DeploymentError where it fails."""
        cloudformation = self._cloudformation
        kind = "UPDATE" if self._exists(name) else "CREATE"
        change = f"streamkit-{os.urandom(4).hex()}"
        cloudformation.create_change_set(
            StackName=name,
            ChangeSetName=change,
            ChangeSetType=kind,
            TemplateBody=self._aws.template(template, parameters),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=_CAPABILITIES,
        )
        if self._has_changes(name, change):
            began = datetime.now(UTC)
            # What a first try has made goes with it, what is else kept too: it is empty.
            cloudformation.execute_change_set(StackName=name, ChangeSetName=change, **_RETAIN[kind])
            self._wait(name, kind, began)
            self._say(f"{name}: {'made' if kind == 'CREATE' else 'changed'}")
        else:
            self._say(f"{name}: as it was")
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        return _outputs(stack)

    def _strands_nothing(self, stack: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        """DeploymentError for another RetriesBy while something is on the way that ends with it, or may still be sent there.

        That way's queue and table would stay, and nobody would read them.
        """
        deployed = {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", [])}
        before, after = deployed.get("RetriesBy", ""), parameters.get("RetriesBy", _RETRIES_BY)
        if before == after or before not in ("queue", "park") or stack["StackStatus"] in _NEVER_MADE:
            return
        change = f"RetriesBy can't go from {before} to {after} yet"
        first = f"deploy it with RetriesBy = {before!r} and Paused = 'yes', and wait until nothing is held"
        if deployed.get("Paused") != "yes":
            raise DeploymentError(f"{change}: the function reads its stream, and may send more there. First {first}")
        held = self._held({one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])})
        if held:
            raise DeploymentError(
                f"{change}: {' and '.join(held)}, which nobody would read any more. Leave it paused until nothing is held "
                "(docs/deploying.md)"
            )

    def _held(self, outputs: Mapping[str, str]) -> list[str]:
        """What the queues and the table of a way of retries hold, in words; dead letters that only parking has, too."""
        sqs, dynamodb = (self._aws.session.client(one) for one in ("sqs", "dynamodb"))
        held = []
        for queue in ("Retries", "ParkedDeadLetters"):
            if queue not in outputs:
                continue
            numbers = sqs.get_queue_attributes(QueueUrl=outputs[queue], AttributeNames=list(_NUMBERS))["Attributes"]
            if messages := sum(int(numbers[one]) for one in _NUMBERS):
                held.append(f"{outputs[queue]} holds {counted(messages, 'message')}")
        if "Parked" in outputs and dynamodb.scan(TableName=outputs["Parked"], ConsistentRead=True, Limit=1)["Items"]:
            held.append(f"keys are parked in the table {outputs['Parked']}")
        return held

    def _of_stage(self) -> dict[str, str]:
        return {part: f"/streamkit/{self._stage}/{key}" for part, key in _OF_STAGE.items()}

    def _found(self, name: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            (stack,) = self._cloudformation.describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return dict(stack)

    def _exists(self, name: str) -> bool:
        stack = self._found(name)
        if stack is not None and stack["StackStatus"] == "ROLLBACK_COMPLETE":
            # Its first try failed: there is nothing in it, and it can't be changed.
            self._cloudformation.delete_stack(StackName=name)
            waiter = self._cloudformation.get_waiter("stack_delete_complete")
            waiter.wait(StackName=name, WaiterConfig={"Delay": self._aws.poll, "MaxAttempts": 120})
            return False
        # One that a change set has begun and nobody has carried out is not there yet.
        return stack is not None and stack["StackStatus"] != "REVIEW_IN_PROGRESS"

    def _has_changes(self, name: str, change: str) -> bool:
        from botocore.exceptions import WaiterError

        waiter = self._cloudformation.get_waiter("change_set_create_complete")
        try:
            waiter.wait(
                StackName=name, ChangeSetName=change, WaiterConfig={"Delay": self._aws.poll, "MaxAttempts": 120}
            )
        except WaiterError:
            found = self._cloudformation.describe_change_set(StackName=name, ChangeSetName=change)
            why = found.get("StatusReason", "no reason given")
            if "didn't contain changes" in why or "No updates are to be performed" in why:
                self._cloudformation.delete_change_set(StackName=name, ChangeSetName=change)
                return False
            raise DeploymentError(f"{name} can't be changed: {why}") from None
        return True

    def _wait(self, name: str, kind: str, since: datetime) -> None:
        from botocore.exceptions import WaiterError

        waiter = self._cloudformation.get_waiter(f"stack_{kind.lower()}_complete")
        attempts = int(LONGEST_SECONDS / self._aws.poll)
        try:
            waiter.wait(StackName=name, WaiterConfig={"Delay": self._aws.poll, "MaxAttempts": attempts})
        except WaiterError:
            events = self._cloudformation.describe_stack_events(StackName=name)["StackEvents"]
            why = [
                f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', event['ResourceStatus'])}"
                for event in reversed(events)
                if event.get("ResourceStatus", "").endswith("FAILED") and event["Timestamp"] >= since
            ]
            stack = self._found(name)
            state = "it is gone" if stack is None else stack["StackStatus"]
            raise DeploymentError(f"{name} was not deployed ({state}):\n  " + "\n  ".join(why[:10])) from None

    def _uploaded(self, function: str, bucket: str) -> str:
        """The key of a function's package, which is its digest: one that is there already is not sent again."""
        from botocore.exceptions import ClientError

        file = self._packages / f"{function}-{self._aws.architecture}.zip"
        if not file.exists():
            raise DeploymentError(f"there is no package {file.name}: make package")
        key = f"{function}/{hashlib.sha256(file.read_bytes()).hexdigest()}.zip"
        try:
            self._s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                raise
            self._s3.upload_file(str(file), bucket, key)
        return key


def revision_of(content: str, stack: Mapping[str, Any] | None) -> str:
    """The revision of what is to be deployed over ``stack``, as describe_stacks has it: the same for as long as ``content`` is.

    SAM names a version by the first ten characters. What was rolled back needs others than it had, since the version that it had
    made is still there: so a revision begins with what tells the try and ends with what tells the content.
    """
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    deployed = {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", [])} if stack else {}
    current = str(deployed.get("Revision", ""))
    if current.endswith(f"-{digest}"):
        return current
    rolled_back_at = ""
    if stack is not None and stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE":
        rolled_back_at = str(stack["LastUpdatedTime"])
    return f"{hashlib.sha256((content + rolled_back_at).encode()).hexdigest()[:16]}-{digest}"


#: Of a stack whose first try has failed, or was not carried out.
_NEVER_MADE = ("ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS")
#: function.yaml's default.
_RETRIES_BY = "queue"
_NUMBERS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
_RETAIN: dict[str, dict[str, bool]] = {"CREATE": {"RetainExceptOnCreate": True}, "UPDATE": {}}
_OF_STAGE = {"Stream": "stream", "Key": "key", "AlarmTopic": "alarms"}


def _outputs(stack: Mapping[str, Any]) -> dict[str, str]:
    return {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def packages_of(functions: Sequence[str] = (), dist: Path = DIST) -> Path:
    """The folder of packages: PACKAGES where that is set, as it is; else ``dist``, into which they are built.

    ``functions`` names those that are needed: all by default.

    PackagingError where PACKAGES is not what a build has left; DeploymentError where one is too large.
    """
    given = os.environ.get("PACKAGES")
    if given is not None:
        digests(Path(given))
        return Path(given)
    if not package_all(functions, dist):
        raise DeploymentError("a package is too large")
    return dist


def session_of(region: str, profile: str) -> Any:
    """boto3's session, of which AWS has said that it knows it. DeploymentError where it does not: before anything is built."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = boto3.session.Session(profile_name=profile, region_name=region)
        session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise DeploymentError(
            f"AWS can't be asked as the profile {profile} in {region}: {error}\n"
            f"Try `aws sts get-caller-identity --profile {profile} --region {region}`; `aws configure list-profiles` lists them"
        ) from None
    return session


def main(stage: str, region: str, profile: str, function: str | None = None) -> int:
    settings = settings_of(stage)
    needed = [] if function is None else packages_for(settings, function, stage)
    session = session_of(region, profile)
    packages = packages_of(needed)
    deployer = Deployer(AWS(session), stage, packages)
    if function is None:
        deployer.deploy(settings)
    else:
        deployer.deploy_one(settings, function)
    return 0


def packages_for(settings: Settings, name: str, stage: str) -> list[str]:
    """The packages of one function's stack. DeploymentError where the stage does not have it."""
    if name in settings.beside:
        return [name]
    if name not in settings.functions:
        has = [*settings.functions, *settings.beside]
        raise DeploymentError(f"{stage} has no function {name}: deploy/stages/{stage}.toml has {', '.join(has)}")
    return [one for one in (settings.functions[name].get("Function"), "dead-letters") if one]


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (DeploymentError, PackagingError) as error:
        sys.exit(str(error))
