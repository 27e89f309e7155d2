"""python -m deploy.validate [TEMPLATE ...]: templates looked at as AWS would, offline.

By default all of this folder's, and the one that ``streamkit new`` writes.

``sam validate`` reads SAM's text. cfn-lint reads that too, and what SAM makes of it, since what SAM only passes on is not checked
in the text. Ends with 1 where one of them finds something. They live in an environment of their own, ``.local/sam``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from streamkit.new.project import Project

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack"))

from local_environment import Environment, SetupError  # isort: skip

__all__ = ["SAM", "new_template", "problems_of", "transformed"]

HERE = Path(__file__).resolve().parent

SAM = Environment(
    "sam",
    "the SAM CLI and cfn-lint",
    "3.13",
    "Debian 13, Ubuntu 24.04 from deadsnakes",
    HERE / "requirements-sam.txt",
    others=[HERE / "transform.py"],
)
#: Neither asks AWS, nor tells it that it is used.
_OFFLINE = {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
_SAM_TEMPLATE = "AWS::Serverless-2016-10-31"


def transformed(template: Path, **parameters: str) -> str:
    """The CloudFormation template, in JSON, that AWS makes of a SAM template. Sets up what does that, where it is not there."""
    SAM.set_up(lambda _: None)
    given = [f"{name}={value}" for name, value in parameters.items()]
    command = [str(SAM.program("python")), str(HERE / "transform.py"), str(template), *given]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise SetupError(f"{template.name} can't be transformed:\n{done.stderr[-2000:]}")
    return done.stdout


def problems_of(template: Path) -> str:
    """What is wrong with a template, as the tools say it; empty for one that is right."""
    said = _said("cfn-lint", str(template))
    if said or _SAM_TEMPLATE not in template.read_text():
        return said
    said = _said("sam", "validate", "--template", str(template))
    if said:
        return said
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / template.with_suffix(".json").name
        result.write_text(transformed(template))
        # W2001: a parameter that nobody uses. Those that SAM has read are used no more.
        return _said("cfn-lint", str(result), "--ignore-checks", "W2001")


@contextmanager
def new_template() -> Iterator[Path]:
    """The template of a new project, as ``sam package`` hands it to AWS: with its package in S3."""
    with tempfile.TemporaryDirectory() as folder:
        Project("orders", python="3.13").write(Path(folder))
        template = Path(folder) / "template.yaml"
        text, packages = re.subn("CodeUri: .*", "CodeUri: s3://packages/orders.zip", template.read_text())
        assert packages == 1
        template.write_text(text)
        yield template


def _said(program: str, *arguments: str) -> str:
    """What a program has against it; empty where it ends with 0."""
    done = subprocess.run([str(SAM.program(program)), *arguments], capture_output=True, text=True, env=_environment())
    return "" if done.returncode == 0 else f"{program} {arguments[0]}:\n{done.stdout}{done.stderr}"


def _environment() -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**mine, **_OFFLINE, "HOME": str(SAM.home)}


def main(names: list[str]) -> int:
    SAM.set_up(lambda _: None)
    templates = {name: Path(name) for name in names} or {path.name: path for path in sorted(HERE.glob("*.yaml"))}
    found = 0
    with new_template() as new:
        if not names:
            templates["streamkit new"] = new
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for name, problems in zip(templates, pool.map(problems_of, templates.values()), strict=True):
                found += bool(problems)
                print(f"{name}: {problems or 'valid'}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as error:
        sys.exit(str(error))
