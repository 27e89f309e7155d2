"""What starting LocalStack needs, and what is said where it is missing; no LocalStack runs here."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import local_environment
import pytest
import setup_localstack
from local_environment import SetupError
from local_localstack import localstack_server
from local_process import LOOPBACK, ServerError

FOLDER = Path(setup_localstack.__file__).parent

# Answers as an engine that runs would, and writes down what it is asked; a container that answers for LocalStack's health.
DOCKER = """\
#!{python}
import http.server, json, os, sys
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + chr(10))
if "run" in sys.argv:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            services = ("kinesis", "sqs", "sns", "dynamodb", "s3", "ssm", "kms", "logs", "cloudwatch", "iam", "sts")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(dict(services=dict.fromkeys(services, "running"))).encode())
    http.server.HTTPServer(("{loopback}", int(os.environ["LOCALSTACK_PORT"])), Handler).serve_forever()
sys.exit({code})
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with all programs that there are, beside those every system has."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "env").symlink_to("/usr/bin/env")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install_docker(path: Path, code: int = 0) -> Path:
    """A `docker` of which every command ends with ``code``; what it is asked is in the file returned."""
    log = path / "asked"
    program = path / "docker"
    program.write_text(DOCKER.format(python=sys.executable, log=str(log), loopback=LOOPBACK, code=code))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return log


def test_where_it_is_not_installed_it_says_what_to_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_environment, "LOCAL", tmp_path / "none")

    with pytest.raises(ServerError, match="setup_localstack"), localstack_server():
        raise AssertionError("it is not running")


@pytest.mark.parametrize("there", [[], ["node"]])
def test_without_npm_it_says_what_to_install_before_it_installs_anything(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: list[str]
) -> None:
    monkeypatch.setattr(local_environment, "LOCAL", tmp_path / "local")
    for name in there:
        (path / name).symlink_to(sys.executable)

    with pytest.raises(SetupError, match=r"no `(node|npm)` on the PATH\.\nInstall Node.js"):
        setup_localstack.set_up()

    assert not (tmp_path / "local").exists()


def test_a_docker_program_without_an_engine_is_no_docker(path: Path) -> None:
    assert not setup_localstack.docker_answers()
    log = install_docker(path, code=1)

    assert not setup_localstack.docker_answers()
    assert log.read_text() == "info\n"


def test_where_docker_answers_set_up_pulls_the_image_and_installs_nothing(path: Path) -> None:
    log = install_docker(path)

    setup_localstack.set_up()

    assert log.read_text().splitlines() == ["info", f"compose --file {FOLDER / 'compose.yaml'} pull --quiet"]


def test_where_docker_answers_it_runs_in_a_container_which_is_removed(path: Path) -> None:
    log = install_docker(path)

    with localstack_server() as server:
        run = log.read_text().splitlines()[-1]

    compose = f"compose --file {FOLDER / 'compose.yaml'} --project-name streamkit-localstack-{server.port}"
    assert run == f"{compose} run --rm --no-TTY --service-ports localstack"
    assert log.read_text().splitlines()[-1] == f"{compose} down"
    with pytest.raises(ProcessLookupError):
        os.killpg(server.pid, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_by_hand_it_tells_its_endpoint_and_runs_until_it_is_told_to_stop(path: Path, number: signal.Signals) -> None:
    log = install_docker(path)
    command = [sys.executable, str(FOLDER / "local_localstack.py"), "--port", "0"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        endpoint = process.stdout.readline()
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == 0

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", endpoint)
    assert log.read_text().splitlines()[-1].endswith(" down")


def test_the_container_is_of_the_same_version_and_its_port_is_on_the_loopback_address() -> None:
    compose = (FOLDER / "compose.yaml").read_text()
    (pinned,) = re.findall(
        r"^localstack-core==(.+)$", (FOLDER / "requirements-localstack.txt").read_text(), re.MULTILINE
    )

    assert f"image: localstack/localstack:{pinned}\n" in compose
    assert re.findall(r"^ +- \"(.*):4566\"$", compose, re.MULTILINE) == ["127.0.0.1:${LOCALSTACK_PORT:-4566}"]
