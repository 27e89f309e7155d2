"""python -m deploy.validate [TEMPLATE ...]: templates looked at as AWS would, offline.

By default all of this folder's, and the one that ``streamkit new`` writes.

``sam validate`` reads SAM's text. cfn-lint reads that too, and what SAM makes of it, since what SAM only passes on is not checked
in the text. Ends with 1 where one of them finds something. They live in an environment of their own, ``.local/sam``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamkit.new.project import Project

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack"))

from local_environment import Environment, SetupError  # isort: skip

__all__ = ["SAM", "all_transformed", "new_template", "problems_of", "transformed"]

HERE = Path(__file__).resolve().parent

SAM = Environment(
    "sam",
    "the SAM CLI and cfn-lint",
    "3.13",
    "Debian 13, Ubuntu 24.04 from deadsnakes",
    HERE / "requirements-sam.txt",
)
#: Neither asks AWS, nor tells it that it is used.
_OFFLINE = {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
_SAM_TEMPLATE = "AWS::Serverless-2016-10-31"


def transformed(template: Path, **parameters: str) -> dict[str, Any]:
    """The CloudFormation template that AWS makes of a SAM template. Sets up what does that, where it is not there."""
    return all_transformed([(template, parameters)])[0]


def all_transformed(templates: Sequence[tuple[Path, Mapping[str, str]]]) -> list[dict[str, Any]]:
    """The same of several, each with its parameters, in a tenth of the time for each."""
    SAM.set_up(lambda _: None)
    done = subprocess.run(
        [str(SAM.program("python")), str(HERE / "transform.py")],
        input=json.dumps([(str(template), parameters) for template, parameters in templates]),
        capture_output=True,
        text=True,
        env=_environment(),
    )
    if done.returncode:
        names = ", ".join(template.name for template, _ in templates)
        raise SetupError(f"{names} can't be transformed:\n{done.stderr[-2000:]}")
    made: list[dict[str, Any]] = json.loads(done.stdout)
    return made


def problems_of(templates: Sequence[Path]) -> str:
    """What is wrong with templates, as the tools say it; empty where nothing is."""
    of_sam = [template for template in templates if _SAM_TEMPLATE in template.read_text()]
    with ThreadPoolExecutor(2) as pool:
        parts = [pool.submit(_said, "cfn-lint", *map(str, templates)), pool.submit(_problems_by_sam, of_sam)]
        return "".join(part.result() for part in parts)


def _problems_by_sam(templates: Sequence[Path]) -> str:
    if not templates:
        return ""
    if said := _said("python", str(HERE / "sam_validate.py"), *map(str, templates)):
        return said
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for n, made in enumerate(all_transformed([(template, {}) for template in templates])):
            results.append(Path(folder) / f"{n}-{templates[n].stem}.json")
            results[-1].write_text(json.dumps(made, indent=2))
        # W2001: a parameter that nobody uses. Those that SAM has read are used no more.
        return _said("cfn-lint", "--ignore-checks", "W2001", "--", *map(str, results))


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
    # Never empty: one that was killed says nothing, and has found nothing right.
    return "" if done.returncode == 0 else f"{program} ended with {done.returncode}:\n{done.stdout}{done.stderr}"


def _environment() -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**mine, **_OFFLINE, "HOME": str(SAM.home)}


def main(names: list[str]) -> int:
    SAM.set_up(lambda _: None)
    templates = {name: Path(name) for name in names} or {path.name: path for path in sorted(HERE.glob("*.yaml"))}
    with new_template() as new:
        if not names:
            templates["streamkit new"] = new
        problems = problems_of(list(templates.values()))
    print(problems or f"valid: {', '.join(templates)}")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as error:
        sys.exit(str(error))
