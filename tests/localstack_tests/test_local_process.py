"""Servers start on loopback, stop, and are never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import local_process
import pytest
from local_process import LOOPBACK, ServerError, answers, running


def http_server(port: int) -> Sequence[str]:
    return [sys.executable, "-m", "http.server", str(port), "--bind", LOOPBACK]


def listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=5).close()
    except OSError:
        return False
    return True


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def has_ended(pid: int) -> bool:
    """Whether a child of this process has ended, without asking for its exit code."""
    return subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.startswith("Z")


def test_a_server_runs_until_its_block_ends() -> None:
    with running("web", http_server, answers()) as server:
        assert listens(server.port)
        assert server.folder.is_dir()

    assert not listens(server.port)
    assert not server.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(server.pid, 0)


def test_an_error_in_the_block_stops_the_server_too() -> None:
    with pytest.raises(KeyError), running("web", http_server, answers()) as server:
        raise KeyError

    assert not listens(server.port)


def test_several_servers_have_ports_of_their_own() -> None:
    def two_ports(first: int, second: int) -> Sequence[str]:
        assert first != second
        return http_server(second)

    with running("one", http_server, answers()) as one, running("two", two_ports, lambda _: True, ports=(0, 0)) as two:
        assert one.port not in two.ports


def test_no_two_servers_are_given_one_port_before_they_listen_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_process, "_PORTS", range(20_000, 20_004))

    def sleeper(*ports: int) -> Sequence[str]:
        return [sys.executable, "-c", "import time; time.sleep(600)"]

    with running("one", sleeper, lambda _: True, ports=(0, 0)) as one:
        with running("two", sleeper, lambda _: True, ports=(0, 0)) as two:
            assert sorted(one.ports + two.ports) == [20_000, 20_001, 20_002, 20_003]
            with (
                pytest.raises(ServerError, match=r"no port from 20000 to 20003 is free"),
                running("three", sleeper, lambda _: True),
            ):
                raise AssertionError("it is not running")
        with running("three", sleeper, lambda _: True) as three:
            assert three.port in two.ports


def test_what_fails_after_a_server_died_says_so() -> None:
    program = [sys.executable, "-c", "import time; time.sleep(1); print('out of luck'); exit(7)"]

    def fail_after_its_end() -> None:
        with running("brief", lambda port: program, lambda _: True) as server:
            wait_until(lambda: has_ended(server.pid))
            raise KeyError

    with pytest.raises(KeyError) as caught:
        fail_after_its_end()

    assert caught.value.__notes__ == ["brief had ended with code 7:\nout of luck"]


def test_a_server_that_ends_early_is_tried_on_other_ports() -> None:
    ports = []

    def late(port: int) -> Sequence[str]:
        ports.append(port)
        return http_server(port) if len(ports) == 3 else [sys.executable, "-c", "exit(1)"]

    with running("late", late, answers()) as server:
        assert server.port == ports[2]


def test_a_server_that_does_not_start_shows_the_end_of_its_log() -> None:
    def broken(port: int) -> Sequence[str]:
        return [sys.executable, "-c", "print('no such flag'); exit(3)"]

    with (
        pytest.raises(ServerError, match=r"broken ended with code 3 .*\n.*no such flag"),
        running("broken", broken, answers()),
    ):
        raise AssertionError("it is not running")


def test_a_server_that_is_never_ready_is_stopped() -> None:
    asked: list[int] = []

    def not_ready(server: object) -> bool:
        asked.append(1)
        return False

    with (
        pytest.raises(ServerError, match="was not ready in time"),
        running("slow", http_server, not_ready, start_within=0.2),
    ):
        raise AssertionError("it is not running")
    assert asked


def test_a_taken_port_that_was_asked_for_is_an_error() -> None:
    with running("web", http_server, answers()) as server:
        with pytest.raises(ServerError), running("other", http_server, lambda _: False, ports=[server.port]):
            raise AssertionError("it is not running")
        assert listens(server.port)


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "stubborn.py"
    program.write_text(
        "import http.server, signal, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    )

    with running(
        "stubborn", lambda port: [sys.executable, str(program), str(port)], answers(), stop_within=0.5
    ) as server:
        assert listens(server.port)

    assert not listens(server.port)


def test_a_paused_server_is_stopped() -> None:
    with running("web", http_server, answers()) as server:
        os.killpg(server.pid, signal.SIGSTOP)

    assert not listens(server.port)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path, end: signal.Signals) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(Path(sys.modules['local_process'].__file__ or '').parent)!r})\n"
        "from local_process import answers, running\n"
        "command = lambda port: [sys.executable, '-m', 'http.server', str(port), '--bind', '127.0.0.1']\n"
        "with running('web', command, answers()) as server:\n"
        "    print(server.port, server.folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout
        port, folder = parent.stdout.readline().split()
        assert listens(int(port))

        parent.send_signal(end)

    wait_until(lambda: not listens(int(port)))
    wait_until(lambda: not Path(folder).exists())
