"""``streamkit new``: what it writes is whole. Its own targets run here, with this Python in place of a .venv of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .process import ENVIRONMENT, ended

LOCK = Path(__file__).parents[2] / "deploy" / "requirements-core.txt"
WORKFLOW = ".github/workflows/ci.yml"


def new(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return ended(folder, "new", *arguments)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project, with this Python as its .venv, and with the lock of deploy/."""
    folder = tmp_path_factory.mktemp("new")
    done = new(folder, "paid-orders")
    assert done.returncode == 0, done.stderr
    made = folder / "paid-orders"
    (made / ".venv" / "bin").mkdir(parents=True)
    for program, module in (("python", ""), ("streamkit", "-m streamkit.cli ")):
        place = made / ".venv" / "bin" / program
        place.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module}"$@"\n')
        place.chmod(0o755)
    shutil.copyfile(LOCK, made / "requirements.txt")
    (made / "requirements-dev.txt").touch()
    (made / ".venv" / ".installed").touch()
    return made


def environment_of_make() -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MAKE"))}
    # What this environment has beside what the project's own would have.
    return {**mine, **ENVIRONMENT, "PYTEST_ADDOPTS": "-p no:kinesis"}


def make(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=project,
        env=environment_of_make(),
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_it_writes_what_it_says(tmp_path: Path) -> None:
    done = new(tmp_path, "orders", "--folder", "services/first")

    assert (done.returncode, done.stderr) == (0, "next: cd services/first && make test; README.md has the rest\n")
    files = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(done.stdout.splitlines()) == sorted(files)
    assert {"services/first/orders.py", f"services/first/{WORKFLOW}"} <= set(files)


def test_what_is_typed_wrong_ends_with_2_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, reason in (
        (["Orders"], "'Orders' is no name"),
        (["queue"], "queue is a module of Python's standard library"),
        (["orders", "--folder", "full"], "full is not empty: name another folder with --folder"),
        (["orders", "--folder", ""], "it is empty"),
        ([], "NAME"),
    ):
        done = new(tmp_path, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert reason in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full"]


def test_a_folder_that_can_not_be_made_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = new(tmp_path, "orders", "--folder", "file/orders")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "streamkit: it can't be written: file/orders: Not a directory\n"


def test_its_own_tests_pass(project: Path) -> None:
    done = make(project, "test")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_its_tests_fail_where_its_program_is_wrong(project: Path) -> None:
    program = project / "paid_orders.py"
    right = program.read_text()
    try:
        for line in ('raise Reject("negative total")', "self.accept(event)"):
            program.write_text(right.replace(line, "pass"))
            assert "failed" in make(project, "test").stdout
    finally:
        program.write_text(right)


def test_its_template_fits_its_program_and_that_is_seen(project: Path) -> None:
    done = make(project, "check")

    assert done.returncode == 0, done.stderr
    assert done.stderr == "0 errors, 0 warnings, 2 notes\n"
    assert "not checked" not in done.stdout

    template = project / "template.yaml"
    right = template.read_text()
    try:
        template.write_text(right.replace("VisibilityTimeout: 720", "VisibilityTimeout: 60"))
        assert make(project, "check").returncode != 0
    finally:
        template.write_text(right)


def test_its_package_is_where_the_template_looks_for_it(project: Path) -> None:
    done = make(project, "package")

    assert done.returncode == 0, done.stderr
    place = done.stdout.strip()
    assert f"CodeUri: {place}\n" in (project / "template.yaml").read_text()
    with zipfile.ZipFile(project / place) as archive:
        names = set(archive.namelist())
    assert {"paid_orders.py", "streamkit/handler.py", "streamkit/queues/sqs.py", "streamkit/claims/s3.py"} <= names
    assert {name.partition("/")[0] for name in names} >= {"msgspec", "pybase64", "tenacity"}
    assert not any(name.startswith(("tests", "boto3", "streamkit/cli")) for name in names)


def test_what_its_readme_says_of_a_local_endpoint_is_so(project: Path, moto_endpoint: str) -> None:
    """All but the last try of event 3, for which the README has two minutes."""
    blocks = re.findall(r"```sh\n(.*?)```", (project / "README.md").read_text(), re.DOTALL)
    (prepare,) = (block for block in blocks if "make run" in block)
    (look,) = (block for block in blocks if "streamkit dead-letters" in block)
    environment = {**environment_of_make(), "AWS_ENDPOINT_URL": moto_endpoint}
    prepare = prepare.replace("AWS_ENDPOINT_URL=http://localhost:4566", "").replace("make run", "exec make run")
    running = subprocess.Popen(
        ["bash", "-e", "-c", prepare],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        lines = []
        assert running.stdout is not None
        for line in running.stdout:
            lines.append(line)
            if "retries: 1 message" in line:
                break
        os.killpg(running.pid, signal.SIGINT)
        rest, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    said = "".join(lines) + rest

    assert "put 3 records to paid-orders" in said
    assert "paid-orders/shardId-000000000000: stopped after 3 records in 1 batch" in said, said
    # make has waited for it, and ends as it was told to.
    assert running.returncode == -signal.SIGINT, said
    shown = subprocess.run(
        ["bash", "-e", "-c", look], cwd=project, env=environment, capture_output=True, text=True, timeout=60
    )
    assert " paid-orders " in shown.stdout
    assert "Reject: negative total (paid_orders.py:" in shown.stdout


def test_what_is_deployed_has_a_revision_of_all_that_makes_a_version(project: Path, tmp_path: Path) -> None:
    """With a sam that only tells how it was called."""
    sam = tmp_path / "sam"
    sam.write_text('#!/bin/sh\necho "sam $*"\n')
    sam.chmod(0o755)
    arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"

    def deployed(*arguments: str) -> str:
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        done = make(project, "deploy", f"PATH={path}", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()[-1]

    first = deployed(f"STREAM_ARN={arn}")
    assert first.startswith("sam deploy --template-file template.yaml --stack-name paid-orders-dev ")
    assert f"--parameter-overrides Stage=dev StreamArn={arn} Revision=" in first
    assert deployed(f"STREAM_ARN={arn}") == first
    other = deployed(f"STREAM_ARN={arn}", "PARAMETERS=AlarmEmail=you@example.com", "STAGE=prod")
    assert "--stack-name paid-orders-prod" in other
    assert "Stage=prod" in other
    assert " AlarmEmail=you@example.com Revision=" in other
    assert other.rpartition("=")[2] != first.rpartition("=")[2]
    assert len(first.rpartition("=")[2]) == 32

    nowhere = make(project, "deploy")
    assert nowhere.returncode != 0
    assert "name the stream" in nowhere.stdout + nowhere.stderr


def test_its_workflow_does_nothing_but_make_what_help_lists(project: Path) -> None:
    import yaml

    listed = {line.split()[1] for line in make(project).stdout.splitlines()}
    steps = yaml.safe_load((project / WORKFLOW).read_text())["jobs"]["ci"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]

    assert commands == ["make test", "make check", "make package"]
    assert {command.removeprefix("make ") for command in commands} <= listed
    assert listed == {"help", "setup", "test", "check", "package", "deploy", "run", "lock"}
