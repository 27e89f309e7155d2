"""``streamkit new``: what it writes is whole. It sets itself up here as it does for its reader: a .venv of its own, with packages
from the index by pip and uv, and with streamkit from a wheel of this tree, as if that were published.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .process import ENVIRONMENT, ended

ROOT = Path(__file__).parents[2]
WORKFLOW = ".github/workflows/ci.yml"


def new(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return ended(folder, "new", *arguments)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel of this tree, for the index that has none."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=120)
    return folder


class NewProject:
    """A new project, and its targets."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder = folder
        self._wheels = str(wheels)

    @property
    def environment(self) -> dict[str, str]:
        """Without what this one has beside the reader's: the modules of this tree, and pytest's settings."""
        theirs = ("PYTEST", "MAKE", "PYTHONPATH", "VIRTUAL_ENV")
        mine = {name: value for name, value in {**os.environ, **ENVIRONMENT}.items() if not name.startswith(theirs)}
        for name, between in (("PIP_FIND_LINKS", " "), ("UV_FIND_LINKS", ",")):
            mine[name] = between.join(filter(None, (mine.get(name), self._wheels)))
        return mine

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "--no-print-directory", f"PYTHON={sys.executable}", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> NewProject:
    """A new project that has set itself up: the first `make setup` locks, and installs what it has locked."""
    folder = tmp_path_factory.mktemp("new")
    done = new(folder, "paid-orders")
    assert done.returncode == 0, done.stderr
    project = NewProject(folder / "paid-orders", wheels)
    done = project.make("setup")
    assert done.returncode == 0, done.stdout + done.stderr
    return project


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


def test_it_sets_itself_up_with_what_it_has_locked(project: NewProject) -> None:
    locks = [(project.folder / name).read_text() for name in ("requirements.txt", "requirements-dev.txt")]
    wanted = [{"msgspec", "pybase64", "tenacity"}, {"kinesis-streamkit", "boto3", "rich", "pyyaml", "pytest"}]
    for lock, names in zip(locks, wanted, strict=True):
        assert names <= set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
        assert "--hash=sha256:" in lock
    # What the package holds is what was tested.
    versions = [set(re.findall(r"^(?:msgspec|pybase64|tenacity)==\S+", lock, re.MULTILINE)) for lock in locks]
    assert versions[0] == versions[1]

    python = project.folder / ".venv" / "bin" / "python"
    asked = [str(python), "-c", "import streamkit; print(streamkit.__file__)"]
    place = subprocess.run(asked, cwd=project.folder, env=project.environment, capture_output=True, text=True).stdout
    assert Path(place).is_relative_to(project.folder / ".venv")


def test_its_own_tests_pass(project: NewProject) -> None:
    done = project.make("test")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_its_tests_fail_where_its_program_is_wrong(project: NewProject) -> None:
    program = project.folder / "paid_orders.py"
    right = program.read_text()
    try:
        for line in ('raise Reject("negative total")', "self.accept(event)"):
            program.write_text(right.replace(line, "pass"))
            assert "failed" in project.make("test").stdout
    finally:
        program.write_text(right)


def test_its_template_fits_its_program_and_that_is_seen(project: NewProject) -> None:
    done = project.make("check")

    assert done.returncode == 0, done.stderr
    assert done.stderr == "0 errors, 0 warnings, 2 notes\n"
    assert "not checked" not in done.stdout

    template = project.folder / "template.yaml"
    right = template.read_text()
    try:
        template.write_text(right.replace("VisibilityTimeout: 720", "VisibilityTimeout: 60"))
        assert project.make("check").returncode != 0
    finally:
        template.write_text(right)


def test_its_package_is_where_the_template_looks_for_it(project: NewProject) -> None:
    done = project.make("package")

    assert done.returncode == 0, done.stderr
    place = done.stdout.strip()
    assert f"CodeUri: {place}\n" in (project.folder / "template.yaml").read_text()
    with zipfile.ZipFile(project.folder / place) as archive:
        names = set(archive.namelist())
    assert {"paid_orders.py", "streamkit/handler.py", "streamkit/queues/sqs.py", "streamkit/claims/s3.py"} <= names
    assert {name.partition("/")[0] for name in names} >= {"msgspec", "pybase64", "tenacity"}
    assert not any(name.startswith(("tests", "boto3", "streamkit/cli")) for name in names)


def test_what_its_readme_says_of_a_local_endpoint_is_so(project: NewProject, moto_endpoint: str) -> None:
    """All but the last try of event 3, for which the README has two minutes."""
    blocks = re.findall(r"```sh\n(.*?)```", (project.folder / "README.md").read_text(), re.DOTALL)
    (prepare,) = (block for block in blocks if "make run" in block)
    (look,) = (block for block in blocks if "streamkit dead-letters" in block)
    (accepted,) = re.findall("`(INFO .*?)` is the first event", (project.folder / "README.md").read_text())
    environment = {**project.environment, "AWS_ENDPOINT_URL": moto_endpoint}
    prepare = prepare.replace("AWS_ENDPOINT_URL=http://localhost:4566", "").replace("make run", "exec make run")
    running = subprocess.Popen(
        ["bash", "-e", "-c", prepare],
        cwd=project.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        lines = []
        tries = 0
        assert running.stdout is not None
        for line in running.stdout:
            lines.append(line)
            tries += "ERROR paid-orders: record paid-orders/shardId-000000000000:3:0" in line
            # The queue's message is announced before it is tried.
            if tries == 2:
                break
        os.killpg(running.pid, signal.SIGINT)
        rest, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    said = "".join(lines) + rest

    assert "put 3 records to paid-orders" in said
    assert f"\n{accepted}\n" in said
    assert said.count("ERROR paid-orders: record paid-orders/shardId-000000000000:2:0") == 1
    assert "retries: 1 message" in said
    assert tries == 2, said
    assert "paid-orders/shardId-000000000000: stopped after 3 records in 1 batch" in said, said
    # make has waited for it, and ends as it was told to.
    assert running.returncode == -signal.SIGINT, said
    shown = subprocess.run(
        ["bash", "-e", "-c", look], cwd=project.folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert " paid-orders " in shown.stdout
    assert "Reject: negative total (paid_orders.py:" in shown.stdout


def test_what_is_deployed_has_a_revision_of_all_that_makes_a_version(project: NewProject, tmp_path: Path) -> None:
    """With a sam that only tells how it was called."""
    sam = tmp_path / "sam"
    sam.write_text('#!/bin/sh\necho "sam $*"\n')
    sam.chmod(0o755)
    arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"

    # What the later ones do not change has been made.
    made = ("--old-file=test", "--old-file=check")

    def deployed(*arguments: str) -> str:
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        done = project.make("deploy", f"PATH={path}", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()[-1]

    first = deployed(f"STREAM_ARN={arn}")
    assert first.startswith("sam deploy --template-file template.yaml --stack-name paid-orders-dev ")
    assert f"--parameter-overrides Stage=dev StreamArn={arn} Revision=" in first
    assert deployed(f"STREAM_ARN={arn}", *made) == first
    other = deployed(
        f"STREAM_ARN={arn}", "PARAMETERS=AlarmEmail=you@example.com", "STAGE=prod", *made, "--old-file=package"
    )
    assert "--stack-name paid-orders-prod" in other
    assert "Stage=prod" in other
    assert " AlarmEmail=you@example.com Revision=" in other
    assert other.rpartition("=")[2] != first.rpartition("=")[2]
    assert len(first.rpartition("=")[2]) == 32

    nowhere = project.make("deploy")
    assert nowhere.returncode != 0
    assert "name the stream" in nowhere.stdout + nowhere.stderr


def test_its_workflow_does_nothing_but_make_what_help_lists(project: NewProject) -> None:
    import yaml

    listed = {line.split()[1] for line in project.make().stdout.splitlines()}
    steps = yaml.safe_load((project.folder / WORKFLOW).read_text())["jobs"]["ci"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]

    assert commands == ["make test", "make check", "make package"]
    assert {command.removeprefix("make ") for command in commands} <= listed
    assert listed == {"help", "setup", "test", "check", "package", "deploy", "run", "lock"}
